"""The commands that make a model: train, calibrate, quantize, and transfer to another site."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from landslip.cli.options import (
    AcceptRange,
    Change,
    ModelFolder,
    OutFolder,
    Overwrite,
    PreparedFolder,
    overrides,
    refuse_outputs,
    require_inputs,
)
from landslip.errors import RunError
from landslip.runtime.progress import plural

if TYPE_CHECKING:
    from landslip.training.model_facts import TrainingFacts


def train_command(
    run: Annotated[Path, typer.Argument(metavar="RUN.toml", help="Or the model.json of a model, to train it again.")],
    prepared: PreparedFolder,
    model: ModelFolder,
    *,
    change: Change = None,
    folds: Annotated[
        Path | None,
        typer.Option(metavar="LADDER/", help="train on all ground, with epochs and threshold of these folds"),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Keep the weights in half precision: half the file.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a network on a prepared site.

    The same command goes on after an interruption.
    """
    from landslip.config.run import read_run
    from landslip.runtime.text import read_json

    choices = read_run(run, overrides(change))
    # Read before training: MODEL/ may be the folder that the file lies in, and is replaced then.
    facts_before = read_json(run) if run.suffix == ".json" else None
    require_inputs(prepared=prepared)
    from landslip.training.checkpoint import refuse_trained
    from landslip.training.model_files import FACTS

    refuse_trained(model, overwrite)
    from landslip.plots.curves import draw_history
    from landslip.runtime.provenance import repeated
    from landslip.training.train import train

    draw = partial(draw_history, overwrite=True)
    facts = train(choices, prepared, model, overwrite=overwrite, half=half, draw=draw, folds=folds)
    typer.echo(f"{model}: {_reached(facts)}")
    if facts_before is not None:
        typer.echo(repeated(facts_before, read_json(model / FACTS)))


def ensemble_command(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL/ MODEL/ ...", help="two or more of one site")],
    out: Annotated[Path, typer.Argument(metavar="OUT_MODEL/")],
    *,
    half: Annotated[bool, typer.Option("--half", help="Keep the weights in half precision: half the file.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Put several trained models together as one.

    Its map is the mean of theirs, taken of the logits. Choose its threshold by `landslip calibrate`.
    """
    from landslip.training.ensemble import make_ensemble

    ensemble = make_ensemble(models, out, overwrite, half=half)
    typer.echo(
        f"{out}: {len(models)} members, threshold {ensemble.threshold:.3f}, the mean of theirs. To choose it on "
        f"validation ground: landslip calibrate {out} PREPARED/ OUT_MODEL/"
    )


def calibrate_command(
    model: ModelFolder,
    prepared: PreparedFolder,
    out: Annotated[Path, typer.Argument(metavar="OUT_MODEL/")],
    *,
    threshold: Annotated[
        Literal["f1", "kappa", "miss"] | None,
        typer.Option(help="what it is chosen by, default as in training; miss: see --miss"),
    ] = None,
    miss: Annotated[
        float | None,
        typer.Option(help="share of a region's landslide pixels that may be missed in expectation, default 0.1"),
    ] = None,
    folds: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="LADDER/", help="of a model on all ground: the folds it was trained after; may be repeated"
        ),
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="OUT.png", help="reliability before and after")] = None,
    accept_range: AcceptRange = False,
    overwrite: Overwrite = False,
) -> None:
    """Fit a model's probabilities to the shares that were observed.

    They are those of its validation ground, and its threshold is chosen there too.
    """
    if miss is not None and threshold != "miss":
        raise RunError(f"--miss {miss:g} is for --threshold miss: give that too, or leave --miss out.")
    refuse_outputs(picture, overwrite=overwrite)
    require_inputs(model, prepared)
    from landslip.training.calibrate import calibrate, calibration_table

    calibrated = calibrate(
        model,
        prepared,
        out,
        by=threshold,
        most=0.1 if miss is None else miss,
        folds=folds or [],
        overwrite=overwrite,
        accept_range=accept_range,
    )
    typer.echo(f"{out}\n{calibration_table(calibrated)}")
    if picture is not None:
        from landslip.evaluation.plots import draw_reliability

        tables = {"before": calibrated.before, f"temperature {calibrated.scaling.temperature:.3g}": calibrated.after}
        draw_reliability(tables, picture, f"Reliability on {calibrated.facts['part']}", overwrite)


def quantize_command(
    model: ModelFolder,
    prepared: PreparedFolder,
    tolerance: Annotated[float, typer.Option(help="of F1 and kappa on validation ground, that int8 may lose")] = 0.01,
    overwrite: Overwrite = False,
) -> None:
    """Make an int8 model, which maps with less computing.

    It is calibrated on the model's training ground; `landslip map --precision int8` then takes it.
    """
    require_inputs(model, prepared)
    from landslip.inference.quantize import quantization_table, quantize

    typer.echo(quantization_table(quantize(model, prepared, tolerance, overwrite)))


def transfer_command(
    model: ModelFolder,
    prepared: Annotated[Path, typer.Argument(metavar="PREPARED_B/")],
    out: OutFolder,
    *,
    blocks: Annotated[int, typer.Option(metavar="N", help="fine-tune on so many blocks, which the tool chooses")] = 0,
    epochs: Annotated[int, typer.Option(help="of fine-tuning", min=1)] = 20,
    accept_range: AcceptRange = False,
    overwrite: Overwrite = False,
) -> None:
    """Map and score a site that a model was not trained on.

    The model is taken as it is and, with --blocks, fine-tuned on a few blocks there.
    """
    require_inputs(model, prepared)
    from landslip.experiments.transfer import transfer, transfer_table

    result = transfer(
        model, prepared, out, blocks=blocks, epochs=epochs, overwrite=overwrite, accept_range=accept_range
    )
    typer.echo(transfer_table(result))


def _reached(facts: TrainingFacts) -> str:
    """What a training reached: on its validation ground, or on the folds that stand for it."""
    if "folds" in facts:
        scores, count = facts["folds"]["scores"], len(facts["folds"]["thresholds"])
        kappa, f1 = (_figure(math.nan if (value := scores[name]) is None else value) for name in ("kappa", "f1"))
        epochs = plural(facts["chosen_epoch"], "epoch")
        return f"trained on all ground for {epochs}; on ground apart its {count} folds have kappa {kappa}, F1 {f1}"
    if facts["split"]["kind"] == "all":
        return f"trained on all ground for {plural(facts['chosen_epoch'], 'epoch')}; its scores are not known"
    validation = facts["validation"]
    kappa, f1 = (_figure(validation[f"validation_{name}"]) for name in ("kappa", "f1"))
    return f"kappa {kappa}, F1 {f1} on validation ground, epoch {facts['chosen_epoch']}"


def _figure(value: float) -> str:
    """A score with four digits; "undefined" for NaN."""
    return "undefined" if value != value else f"{value:.4f}"
