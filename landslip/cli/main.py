"""The commands, in the order of the pipeline."""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from landslip import __version__
from landslip.errors import DependencyError, LandslipError, RunError
from landslip.runtime.progress import plural

# the groups that `landslip --help` lists the commands in
SITE, TRAIN, MAP, JUDGE = "Site", "Train", "Map", "Judge"
HAND_OVER, LOOK = "Hand over", "Try and look"
LONGEST = 200  # characters of a command's summary there, which none reaches, so that none is cut


class Pipeline(TyperGroup):
    """The commands as `landslip --help` lists them: in plain text, under the groups that typer keeps for rich."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a list of each group's commands, in the order of the pipeline."""
        groups: dict[str, list[Any]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            groups.setdefault(command.rich_help_panel, []).append(command)
        widest = max(len(name) for name in self.commands)
        for group, commands in groups.items():
            with formatter.section(group):  # one column for all; what is too long for a narrow terminal is wrapped
                formatter.write_dl([(one.name.ljust(widest), one.get_short_help_str(LONGEST)) for one in commands])


app = typer.Typer(
    cls=Pipeline,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Change = Annotated[
    list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a choice of the run file.")
]
AcceptRange = Annotated[
    bool,
    typer.Option("--accept-range", help="Go on where bands or indices lie outside what the model was trained on."),
]
Plan = Annotated[bool, typer.Option("--plan", help="Say how long it will take, and train nothing.")]
Data = Annotated[Path | None, typer.Option(help="Folder that the site file's paths start at.")]


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"landslip {__version__}")
        raise typer.Exit


@app.callback()
def _landslip(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Recognise landslides in satellite images and map them."""


@app.command(rich_help_panel=SITE)
def check(site: Annotated[Path, typer.Argument(metavar="SITE.toml")], data: Data = None) -> None:
    """Read every input of a site and list what is wrong with it.

    All faults, warnings and notes come at once, with how far the DEM and the landslides lie from the image. The exit
    code is 1 if there is a fault.
    """
    from landslip.config.site import read_site

    place = read_site(site, data)
    from landslip.preparation.check import check_site

    findings = check_site(place)
    for finding in findings:
        typer.echo(f"{finding.severity}: {finding.text}")
    faults, warnings = (sum(finding.severity == kind for finding in findings) for kind in ("fault", "warning"))
    typer.echo(f"{plural(faults, 'fault')}, {plural(warnings, 'warning')}")
    if faults:
        raise typer.Exit(1)


@app.command(rich_help_panel=SITE)
def prepare(
    site: Annotated[Path, typer.Argument(metavar="SITE.toml")],
    out: Annotated[Path, typer.Argument(metavar="PREPARED/")],
    encoding: Annotated[
        Literal["planes", "paper"], typer.Option(help="planes: aspect as sine and cosine, a plane per class")
    ] = "planes",
    data: Data = None,
    no_figures: Annotated[
        bool, typer.Option("--no-figures", help="Leave out the pictures of the study area and of every factor.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Bring a site's inputs to one grid.

    Makes stack.tif, valid.tif, label.tif, table.csv and figures. The same command goes on after a kill or Ctrl-C.
    """
    from landslip.config.site import read_site
    from landslip.runtime.atomic import refuse_existing

    place = read_site(site, data)
    refuse_existing(out, overwrite, folder=True)
    from landslip.preparation.prepare import prepare as run

    prepared = run(place, out, encoding, overwrite, not no_figures)
    from landslip.preparation.channel_summary import channel_table

    typer.echo(channel_table(prepared))
    typer.echo(
        f"\n{prepared.grid.describe()}: {plural(prepared.valid_pixels, 'valid pixel')}, "
        f"{prepared.landslide_pixels:,} landslide"
    )


@app.command("import", rich_help_panel=SITE)
def import_(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER/")],
    out: Annotated[Path, typer.Argument(metavar="PREPARED/")],
    train: Annotated[str | None, typer.Option(metavar="NAME", help="default: train or TrainData")] = None,
    test: Annotated[
        str | None, typer.Option(metavar="NAME", help="what is scored; default: the test folder, else validation's")
    ] = None,
    validation: Annotated[
        str | None, typer.Option(metavar="NAME", help="default: a share of the training patches")
    ] = None,
    validation_share: Annotated[float, typer.Option(help="of the training patches, drawn at random")] = 0.15,
    seed: Annotated[int, typer.Option(help="of that draw", min=0)] = 0,
    resolution: Annotated[
        float | None, typer.Option(help="side of a pixel, metres; default: as the patches say, else 10")
    ] = None,
    channels: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="what the bands are: a patches.toml (default: that in FOLDER/), the stack.tif that the patches were "
            "cut from, or NAME,NAME in order; else as the patches say, or gray, RGB or Landslide4Sense's 14",
        ),
    ] = "",
    overwrite: Overwrite = False,
) -> None:
    """Lay a set of patches out as one prepared site.

    Patches are images and masks. Train on them with [split] kind = "given".
    """
    from landslip.runtime.atomic import refuse_existing

    refuse_existing(out, overwrite, folder=True)
    from landslip.preparation.import_patches import import_patches, table_of_parts

    names: list[str] | Path = [name.strip() for name in channels.split(",")] if channels else []
    if Path(channels).suffix.lower() in (".toml", ".tif", ".tiff"):
        names = Path(channels)
    done = import_patches(
        folder, out, train, test, validation, validation_share, seed, resolution, names, overwrite=overwrite
    )
    from landslip.preparation.channel_summary import channel_table

    typer.echo(f"{channel_table(done.prepared)}\n\n{table_of_parts(done)}\n\n{done.prepared.grid.describe()}")


@app.command(rich_help_panel=TRAIN)
def train(
    run: Annotated[Path, typer.Argument(metavar="RUN.toml", help="Or the model.json of a model, to train it again.")],
    prepared: Annotated[Path, typer.Argument(metavar="PREPARED/")],
    model: Annotated[Path, typer.Argument(metavar="MODEL/")],
    change: Change = None,
    half: Annotated[bool, typer.Option("--half", help="Keep the weights in half precision: half the file.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a network on a prepared site.

    The same command goes on after an interruption.
    """
    from landslip.config.run import read_run
    from landslip.runtime.text import read_json

    chosen = read_run(run, dict(map(_override, change or [])))
    before = read_json(run) if run.suffix == ".json" else None  # now: MODEL/ may be the folder that it lies in
    _require(prepared=prepared)
    from landslip.training.checkpoint import refuse_trained
    from landslip.training.model_files import FACTS

    refuse_trained(model, overwrite)
    from landslip.plots.curves import draw_history
    from landslip.runtime.provenance import repeated
    from landslip.training.train import train as fit

    facts = fit(chosen, prepared, model, overwrite, half, partial(draw_history, overwrite=True))
    typer.echo(
        f"{model}: kappa {_figure(facts['validation']['validation_kappa'])}, F1 "
        f"{_figure(facts['validation']['validation_f1'])} on validation ground, epoch {facts['chosen_epoch']}"
    )
    if before is not None:
        typer.echo(repeated(before, read_json(model / FACTS)))


def _require(model: Path | None = None, prepared: Path | None = None) -> None:
    """Refuse a model folder or a prepared site that is none, before what takes seconds is imported."""
    if prepared is not None:
        from landslip.runtime.run_folder import prepared_file

        prepared_file(prepared, "stack.tif")
    if model is not None:
        from landslip.training.checkpoint import read_facts

        read_facts(model)


def _figure(value: float) -> str:
    return "undefined" if value != value else f"{value:.4f}"


def _override(text: str) -> tuple[str, Any]:
    import tomllib

    key, equals, value = text.partition("=")
    if not equals or key.count(".") != 1:
        raise RunError(f"--set {text}: write TABLE.KEY=VALUE, such as --set training.epochs=20.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


@app.command(rich_help_panel=TRAIN)
def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL/")],
    prepared: Annotated[Path, typer.Argument(metavar="PREPARED/")],
    out: Annotated[Path, typer.Argument(metavar="OUT_MODEL/")],
    threshold: Annotated[
        Literal["f1", "kappa", "miss"] | None,
        typer.Option(help="what it is chosen by, default as in training; miss: see --miss"),
    ] = None,
    miss: Annotated[
        float | None,
        typer.Option(help="share of a region's landslide pixels that may be missed in expectation, default 0.1"),
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="OUT.png", help="reliability before and after")] = None,
    accept_range: AcceptRange = False,
    overwrite: Overwrite = False,
) -> None:
    """Fit a model's probabilities to the shares that were observed.

    They are those of its validation ground, and its threshold is chosen there too.
    """
    from landslip.runtime.atomic import refuse_existing

    if miss is not None and threshold != "miss":
        raise RunError(f"--miss {miss:g} is for --threshold miss: give that too, or leave --miss out.")
    if picture is not None:
        refuse_existing(picture, overwrite)
    _require(model, prepared)
    from landslip.training.calibrate import calibrate as fit

    done = fit(model, prepared, out, threshold, 0.1 if miss is None else miss, overwrite, accept_range)
    from landslip.training.calibrate import calibration_table

    typer.echo(f"{out}\n{calibration_table(done)}")
    if picture is not None:
        from landslip.evaluation.plots import draw_reliability

        tables = {"before": done.before, f"temperature {done.temperature:.3g}": done.after}
        draw_reliability(tables, picture, "Reliability on the validation part", overwrite)


@app.command(rich_help_panel=TRAIN)
def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL/")],
    prepared: Annotated[Path, typer.Argument(metavar="PREPARED/")],
    tolerance: Annotated[float, typer.Option(help="of F1 and kappa on validation ground, that int8 may lose")] = 0.01,
    overwrite: Overwrite = False,
) -> None:
    """Make an int8 model, which maps with less computing.

    It is calibrated on the model's training ground; `landslip map --precision int8` then takes it.
    """
    _require(model, prepared)
    from landslip.inference.quantize import quantization_table
    from landslip.inference.quantize import quantize as run

    typer.echo(quantization_table(run(model, prepared, tolerance, overwrite)))


@app.command("map", rich_help_panel=MAP)
def map_(
    model: Annotated[Path, typer.Argument(metavar="MODEL/")],
    stack: Annotated[Path, typer.Argument(metavar="STACK.tif")],
    probability: Annotated[Path, typer.Argument(metavar="PROBABILITY.tif")],
    method: Annotated[
        Literal["halo", "paper"], typer.Option(help="halo: cores with surroundings; paper: overlapping windows, mean")
    ] = "halo",
    engine: Annotated[
        Literal["auto", "torch", "openvino"], typer.Option(help="auto: OpenVINO on a processor where it is installed")
    ] = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "int8"],
        typer.Option(help="auto: bf16 where it is native; int8: after `landslip quantize`"),
    ] = "auto",
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="ceiling, such as 2GB: sets the size of the windows; default: 4 GiB"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop where an input is damaged.")] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="compute on a Dask cluster: tcp://host:port, or a number of processes here"
        ),
    ] = None,
    valid: Annotated[Path | None, typer.Option(help="default: valid.tif beside the stack")] = None,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Add bands that say where not to trust the map.")
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(help="of dropout, each as long as the map, for --uncertainty; default: 8; 0: none", min=0),
    ] = None,
    training: Annotated[
        Path | None, typer.Option(metavar="PREPARED/", help="for --uncertainty; default: pixels kept with the model")
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="OUT.png", help="of the bands of --uncertainty")] = None,
    accept_range: AcceptRange = False,
    overwrite: Overwrite = False,
) -> None:
    """Map a whole site into a probability raster.

    The same command goes on where it was stopped.
    """
    from landslip.inference.tile_store import refuse_existing_map
    from landslip.runtime.atomic import refuse_existing, refuse_input

    if not uncertainty and (samples, training, picture) != (None, None, None):
        raise RunError("--samples, --training and --picture belong to --uncertainty: give it too, or none of them.")
    refuse_existing_map(probability, overwrite)
    if picture is not None:
        refuse_existing(picture, overwrite)
        refuse_input(picture, [stack, probability, *([] if valid is None else [valid])])
    _require(model)
    from landslip.dataset.channels import read_stack_info
    from landslip.training.checkpoint import load_model, require_channels

    require_channels(model, read_stack_info(stack))
    from landslip.inference.engines import size_in_bytes
    from landslip.inference.mapping import map_site
    from landslip.inference.predict import Uncertainty

    loaded, asked = load_model(model), None
    if uncertainty:
        from landslip.training.training_pixels import area_of

        asked = Uncertainty(area_of(loaded, training), 8 if samples is None else samples)
    ceiling = None if memory is None else size_in_bytes(memory)
    done = map_site(
        loaded,
        stack,
        probability,
        method,
        precision,
        valid,
        overwrite,
        asked,
        engine,
        ceiling,
        strict,
        cluster,
        accept_range,
    )
    typer.echo(
        f"{done.path}: {plural(done.valid_pixels, 'pixel')} mapped in {plural(done.windows, 'window')}, "
        f"{100 * done.skipped:.0f} % skipped"
    )
    if asked is not None and done.outside is not None and done.valid_pixels:
        typer.echo(
            f"{100 * done.outside / done.valid_pixels:.1f} % of them lie outside the area of applicability, on ground "
            f"unlike what the model was trained on (dissimilarity index above {asked.area.threshold:.3f})"
        )
    if picture is not None:
        from landslip.plots.maps import draw_uncertainty

        draw_uncertainty(probability, picture, overwrite)


@app.command(rich_help_panel=MAP)
def inventory(
    probability: Annotated[Path, typer.Argument(metavar="PROBABILITY.tif")],
    out: Annotated[Path, typer.Argument(metavar="OUT.gpkg")],
    threshold: Annotated[float | None, typer.Option(help="default: the one the raster carries, else 0.5")] = None,
    min_area: Annotated[float | None, typer.Option(help="square metres; default: 4 pixels")] = None,
    landslide_map: Annotated[Path | None, typer.Option("--map", help="landslide map; default: OUT.tif")] = None,
    stack: Annotated[
        Path | None,
        typer.Option(
            metavar="STACK.tif",
            help="what slope, lithology, ... are taken from; default: ../prepared/stack.tif of the map",
        ),
    ] = None,
    previous: Annotated[
        Path | None, typer.Option(metavar="INV.gpkg", help="whose ids and reviews are kept; default: OUT.gpkg")
    ] = None,
    simplify: Annotated[
        float | None, typer.Option(metavar="METRES", help="take vertices off the polygons; neighbours stay apart")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn probabilities into landslide polygons and a map of them.

    Each polygon has its size, ground and probability.
    """
    from landslip.geo.raster import read_info

    read_info(probability)
    from landslip.inventory.inventory import make_inventory, stack_of

    stack = stack_of(probability) if stack is None else stack
    made = make_inventory(probability, out, threshold, min_area, landslide_map, overwrite, stack, previous, simplify)
    ground = "no ground is mapped" if math.isnan(made.share) else f"{100 * made.share:.2f} % of the mapped ground"
    typer.echo(
        f"{out}: {plural(made.count, 'landslide')}, {made.area_m2 / 1e6:.3f} km², {ground}; "
        f"threshold {made.threshold:g} ({made.threshold_source}), "
        f"{plural(made.removed, 'speck')} under {made.min_area:g} m² removed"
        + (f", {plural(made.kept, 'id')} kept" if made.kept else "")
    )


@app.command(rich_help_panel=JUDGE)
def evaluate(
    probability: Annotated[Path, typer.Argument(metavar="PROBABILITY.tif")],
    label: Annotated[Path, typer.Argument(metavar="LABEL.tif")],
    split: Annotated[Path | None, typer.Option(help="split.tif that training wrote")] = None,
    part: Annotated[
        Literal["train", "validation", "test", "all"] | None, typer.Option(help="default: test with a split, else all")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="default: the one the raster carries, else 0.5")] = None,
    block: Annotated[int, typer.Option(help="side of the blocks that intervals are drawn from, pixels", min=1)] = 64,
    inventory: Annotated[
        Path | None, typer.Option(metavar="INV.gpkg", help="also score these polygons, landslide by landslide")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="LANDSLIDES.gpkg", help="the site's landslides, to score the polygons by")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="of the reference, where it has several")] = None,
    inventory_layer: Annotated[
        str | None, typer.Option(help="of the inventory; review scores what a review left of it")
    ] = None,
    overlap: Annotated[float, typer.Option(help="share of a landslide's area that matches it")] = 0.5,
    picture: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="area-frequency curves of the inventory and the reference")
    ] = None,
    reliability: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="share of landslide by class of probability")
    ] = None,
    out: Annotated[Path | None, typer.Option("--json", help="also write the scores here")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score a map against a label, on one part of the split.

    Prints the confusion matrix and six scores with intervals.
    """
    from landslip.runtime.atomic import refuse_existing, refuse_input

    if (inventory is None) != (reference is None):
        raise RunError("an inventory is scored by a reference: give both --inventory and --reference, or neither.")
    if inventory is None and (layer, inventory_layer) != (None, None):
        raise RunError(
            "--layer and --inventory-layer choose among the layers of a reference and of an inventory: give both "
            "--inventory and --reference too, or leave them out."
        )
    if picture is not None and inventory is None:
        raise RunError("--picture shows the scores of an inventory: give --inventory and --reference too.")
    for path in (out, picture, reliability):
        if path is not None:
            refuse_existing(path, overwrite)
            refuse_input(path, [p for p in (probability, label, split, inventory, reference) if p is not None])
    from landslip.geo.raster import read_info

    for path in (probability, label):
        read_info(path)
    from landslip.evaluation.evaluate import evaluate as score
    from landslip.evaluation.result import write_scores

    polygons = None
    if inventory is not None and reference is not None:  # read first: nothing is computed where they are refused
        from landslip.evaluation import objects
        from landslip.evaluation.object_scores import object_table, objects_json

        polygons = objects.read_polygons(inventory, reference, probability, layer, inventory_layer)
    scored = score(probability, label, split, part, threshold, block)
    typer.echo(scored)
    if reliability is not None:
        from landslip.evaluation.plots import draw_reliability

        if scored.reliability is None:
            raise RunError(
                f"{probability} holds landslide or not, and no probabilities to draw. Leave out --reliability."
            )
        ground = "all mapped ground" if scored.part == "all" else f"the {scored.part} part"
        draw_reliability({probability.name: scored.reliability}, reliability, f"Reliability on {ground}", overwrite)
    found = None
    if polygons is not None:
        judged = objects.score_polygons(polygons, probability, label, split, part, overlap)
        typer.echo(f"\n{object_table(judged)}")
        found = objects_json(judged)
        if picture is not None:
            from landslip.evaluation.plots import draw_areas

            draw_areas(judged, picture, overwrite)
    if out is not None:
        write_scores(out, scored, overwrite, found)


@app.command(rich_help_panel=JUDGE)
def intervals(
    prepared: Annotated[Path, typer.Argument(metavar="PREPARED/")],
    out: Annotated[Path, typer.Argument(metavar="OUT/")],
    factor: Annotated[list[str] | None, typer.Option(metavar="NAME", help="May be repeated; default: all.")] = None,
    classes: Annotated[int, typer.Option(help="natural breaks of a continuous factor")] = 5,
    sample: Annotated[int, typer.Option(metavar="N", help="pixels that natural breaks are exact on")] = 10_000,
    seed: Annotated[int, typer.Option(help="of the sample", min=0)] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Count the landslides in each class of each factor.

    Prints frequency, area share and frequency ratio.
    """
    _require(prepared=prepared)
    from landslip.importance.frequency_ratio import frequency_ratios as count
    from landslip.importance.frequency_ratio import frequency_table

    typer.echo(frequency_table(count(prepared, out, factor or (), classes, sample, seed, overwrite)))


@app.command(rich_help_panel=JUDGE)
def importance(
    prepared: Annotated[Path, typer.Argument(metavar="PREPARED/")],
    out: Annotated[Path, typer.Argument(metavar="OUT/")],
    model: Annotated[Path | None, typer.Option(metavar="MODEL/", help="also what this network makes of them")] = None,
    repeats: Annotated[int, typer.Option(help="forests, and permutations of the network's factors")] = 20,
    block: Annotated[int, typer.Option(help="side of the spatial blocks that are drawn anew, pixels")] = 128,
    sample: Annotated[int, typer.Option(metavar="N", help="pixels of a forest, half of them landslide")] = 10_000,
    epochs: Annotated[
        int | None, typer.Option(metavar="E", help="also train the network anew without each factor, E epochs each")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="the same, for as many epochs as so many minutes buy")
    ] = None,
    seed: Annotated[int, typer.Option(help="of all draws", min=0)] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Rank the factors by how well they tell landslides apart.

    They are ranked by random forest, information gain ratio and, with a model, by permutation; with intervals.
    """
    _require(model, prepared)
    from landslip.importance.ablation import Budget
    from landslip.importance.importance import importance as rank

    spent = None if epochs is None and budget is None else Budget(epochs, budget)
    from landslip.importance.importance import importance_table

    typer.echo(importance_table(rank(prepared, out, model, repeats, block, sample, seed, overwrite, spent)))


@app.command(rich_help_panel=JUDGE)
def compare(
    run: Annotated[Path, typer.Argument(metavar="RUN.toml")],
    prepared: Annotated[Path, typer.Argument(metavar="PREPARED/")],
    out: Annotated[Path, typer.Argument(metavar="OUT/")],
    change: Change = None,
    plan: Plan = False,
    overwrite: Overwrite = False,
) -> None:
    """Compare networks and baselines, with and without factors.

    All are trained on the same ground: tables, maps and curves side by side. The same command goes on where it was
    stopped.
    """
    from landslip.config.run import read_run

    chosen = read_run(run, dict(map(_override, change or [])))
    _require(prepared=prepared)
    from landslip.experiments.compare import compare as compare_all
    from landslip.experiments.compare import plan_in_words
    from landslip.experiments.comparison_tables import write_comparison

    if plan:
        typer.echo(plan_in_words(chosen, prepared, out, overwrite))
        return
    results = compare_all(chosen, prepared, out, overwrite)
    typer.echo(write_comparison(results, prepared, out, overwrite))
    typer.echo(f"{out / 'comparison.md'}, comparison.csv, comparison.json and pictures are in {out}")
    if any("failed" in result for result in results):
        raise typer.Exit(1)


@app.command(rich_help_panel=JUDGE)
def ladder(
    run: Annotated[Path, typer.Argument(metavar="RUN.toml")],
    prepared: Annotated[Path, typer.Argument(metavar="PREPARED/")],
    out: Annotated[Path, typer.Argument(metavar="OUT/")],
    elsewhere: Annotated[
        list[Path] | None, typer.Option(metavar="PREPARED_B/", help="Another site to score on. May be repeated.")
    ] = None,
    change: Change = None,
    accept_range: AcceptRange = False,
    plan: Plan = False,
    overwrite: Overwrite = False,
) -> None:
    """Score a network ever more honestly, to see what scores flatter.

    It is scored as the paper does, on ground kept apart, and elsewhere: what the headline is worth.
    """
    from landslip.config.run import read_run

    chosen = read_run(run, dict(map(_override, change or [])))
    for folder in (prepared, *(elsewhere or ())):
        _require(prepared=folder)
    from landslip.experiments.ladder import ladder as climb
    from landslip.experiments.ladder import plan_in_words

    if plan:
        typer.echo(plan_in_words(chosen, prepared, out, elsewhere or (), overwrite))
        return
    rungs = climb(chosen, prepared, out, elsewhere or (), overwrite, accept_range)
    from landslip.experiments.ladder import ladder_table

    typer.echo(ladder_table(rungs))
    if any("failed" in rung for rung in rungs):
        raise typer.Exit(1)


@app.command(rich_help_panel=JUDGE)
def transfer(
    model: Annotated[Path, typer.Argument(metavar="MODEL/")],
    prepared: Annotated[Path, typer.Argument(metavar="PREPARED_B/")],
    out: Annotated[Path, typer.Argument(metavar="OUT/")],
    blocks: Annotated[int, typer.Option(metavar="N", help="fine-tune on so many blocks, which the tool chooses")] = 0,
    epochs: Annotated[int, typer.Option(help="of fine-tuning", min=1)] = 20,
    accept_range: AcceptRange = False,
    overwrite: Overwrite = False,
) -> None:
    """Map and score a site that a model was not trained on.

    The model is taken as it is and, with --blocks, fine-tuned on a few blocks there.
    """
    _require(model, prepared)
    from landslip.experiments.transfer import transfer as carry
    from landslip.experiments.transfer import transfer_table

    typer.echo(transfer_table(carry(model, prepared, out, blocks, epochs, overwrite, accept_range)))


@app.command(rich_help_panel=HAND_OVER)
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN/")],
    out: Annotated[Path, typer.Argument(metavar="OUT.html")],
    overwrite: Overwrite = False,
) -> None:
    """Put a run folder into one HTML file that prints.

    It holds figures, tables, scores and where they come from.
    """
    from landslip.runtime.atomic import refuse_existing
    from landslip.runtime.run_folder import open_run

    open_run(run)
    refuse_existing(out, overwrite)
    from landslip.report.report import report as make

    faults = make(run, out, overwrite)
    for fault in faults:
        typer.echo(f"not shown: {fault}", err=True)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@app.command(rich_help_panel=HAND_OVER)
def serve(
    run: Annotated[Path, typer.Argument(metavar="RUN/")],
    port: Annotated[int, typer.Option(help="0: any that is free", min=0, max=65535)] = 8008,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 lets other computers in")] = ("127.0.0.1"),
    browser: Annotated[bool, typer.Option("--open", help="open the page in this computer's browser too")] = False,
) -> None:
    """Look at a run in the browser, and review its landslides.

    It prints the address of a page where each landslide can be accepted, rejected or redrawn, and new ones drawn.
    """
    from landslip.runtime.run_folder import open_run

    open_run(run)
    try:
        from landslip.serve.app import serve as listen
    except ModuleNotFoundError as error:
        raise DependencyError(f"the page needs {error.name}: pip install 'landslip[serve]'.") from error
    try:
        listen(run, port, host, browser)
    except KeyboardInterrupt:
        raise _Ended(f"{run} is served no more. Every decision that the page showed as saved is kept.") from None


@app.command(rich_help_panel=HAND_OVER)
def correct(
    prepared: Annotated[Path, typer.Argument(metavar="PREPARED/")],
    inventory: Annotated[Path, typer.Argument(metavar="INVENTORY.gpkg")],
    out: Annotated[Path, typer.Argument(metavar="OUT_PREPARED/")],
    model: Annotated[
        Path | None, typer.Option(metavar="MODEL/", help="whose parts are kept; default: the one that made the map")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make labels of reviewed landslides, to train on again.

    The result is a prepared site.
    """
    from landslip.runtime.atomic import refuse_existing

    _require(prepared=prepared)
    refuse_existing(out, overwrite, folder=True)
    from landslip.inventory.correct import correct as run
    from landslip.inventory.correct import parts_text

    done = run(prepared, inventory, out, overwrite, model)
    states = ", ".join(f"{count} {state}" for state, count in sorted(done.states.items()))
    typer.echo(
        f"{done.folder}: {states}; {plural(done.to_landslide, 'pixel')} became landslide, {done.to_other:,} other "
        "ground" + (f"; off the site: {plural(done.outside, 'outline')}" if done.outside else "")
    )
    typer.echo(parts_text(done))


@app.command(rich_help_panel=HAND_OVER)
def qgis(
    run: Annotated[Path, typer.Argument(metavar="RUN/")],
    out: Annotated[Path | None, typer.Argument(metavar="OUT.qgs")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a QGIS project of a run folder.

    It opens all layers, styled and grouped. Default: RUN/landslip.qgs.
    """
    from landslip.runtime.run_folder import open_run

    open_run(run)
    from landslip.export.qgis import write_project

    typer.echo(f"{write_project(run, out, overwrite)}")


@app.command(rich_help_panel=HAND_OVER)
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL/")],
    out: Annotated[Path, typer.Argument(metavar="OUT/")],
    window: Annotated[int, typer.Option(help="side of the square blocks that Deepness will cut, pixels", min=1)] = 512,
    resolution: Annotated[
        float | None, typer.Option(metavar="METRES", help="side of a pixel; default: that of the model's split.tif")
    ] = None,
    nodata: Annotated[
        float | None, typer.Option(help="a value that stands for undefined, besides NaN and infinity")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="STACK.tif", help="also compare with PyTorch on blocks of this stack")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model as ONNX, for other programs and for QGIS.

    Its statistics are inside; Deepness runs it in QGIS. A STAC item lies beside it.
    """
    from landslip.runtime.atomic import refuse_existing

    _require(model)
    refuse_existing(out, overwrite, folder=True)
    from landslip.export.onnx import export_model

    done = export_model(model, out, window, resolution, nodata, check, overwrite)
    for name, size in done.sizes.items():
        typer.echo(f"{out / name}: {size / 1e6:.1f} MB")
    names = {"random": "random blocks", "deepness": "random blocks through Deepness's arithmetic", "real": f"{check}"}
    found = ", ".join(f"{value:.1e} on {names[what]}" for what, value in done.differences.items())
    typer.echo(f"largest difference from PyTorch in probability: {found}")
    if done.moved:
        typer.echo(f"SegNet puts {100 * done.moved:.2g} % of the pixels otherwise than landslip map: ties of rounding")


@app.command(rich_help_panel=HAND_OVER)
def stac(
    run: Annotated[Path, typer.Argument(metavar="RUN/")],
    out: Annotated[Path, typer.Argument(metavar="OUT/")],
    copy: Annotated[bool, typer.Option("--copy", help="Copy the files too, so that OUT/ can be moved alone.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a run's map and model as a static STAC catalogue.

    Makes catalog.json and an item for each.
    """
    from landslip.runtime.atomic import refuse_existing
    from landslip.runtime.run_folder import open_run

    open_run(run)
    refuse_existing(out, overwrite, folder=True)
    from landslip.export.stac import catalogue

    items = catalogue(run, out, copy, overwrite)
    typer.echo(f"{out / 'catalog.json'}: {', '.join(items)}")


@app.command(rich_help_panel=LOOK)
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT/")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A smaller site, in at most 90 seconds.")] = False,
    seed: Annotated[int, typer.Option(help="Of the made-up site.", min=0)] = 2021,
    without_factors: Annotated[bool, typer.Option("--without-factors", help="Train on the bands alone.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Make up a site with known landslides, and map and score it.

    Runs prepare, train, map, inventory and evaluate, with pictures. The same command goes on where it was stopped.
    """
    from landslip.demo.demo import demo as run

    run(out, quick, seed, not without_factors, overwrite)


@app.command(rich_help_panel=LOOK)
def info(
    path: Annotated[Path | None, typer.Argument(metavar="FILE_OR_FOLDER")] = None,
    network: Annotated[str | None, typer.Option(help="Print this network's layers instead.")] = None,
    channels: Annotated[int, typer.Option(help="Input channels of the network.", min=1)] = 7,
) -> None:
    """Say what a stack, a model or a map is.

    With --network, list a network's layers instead.
    """
    from landslip.cli.info import describe, network_table

    if network is not None:
        typer.echo(network_table(network, channels))
    elif path is not None:
        typer.echo(describe(path))
    else:
        raise RunError("landslip info needs a file, a folder or --network NAME.")


class _Ended(SystemExit):
    """A command that is ended by Ctrl-C as it should be, and what there is to say of it."""


def main() -> None:
    """Run a command: 0 done, 1 faults found by check or a failed run of compare or ladder, 2 refused; stopped by Ctrl-C
    130, by SIGTERM, as a queue or a container ends a process, 143.
    """
    stopped = 130

    def terminated(number: int, _: object) -> None:
        nonlocal stopped
        signal.signal(number, signal.SIG_IGN)  # a second one would end the tidying up
        stopped = 128 + number
        raise KeyboardInterrupt

    # only the main thread may, and who ignores the signal or takes it already goes on doing so
    in_main = threading.current_thread() is threading.main_thread()
    mine = in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    # Threads that wait without spinning leave the processor to others; it must be said before torch starts its own.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _open_standard_streams()
    sys.unraisablehook = _unraisable
    try:
        if mine:
            signal.signal(signal.SIGTERM, terminated)
        app()
    except LandslipError as error:
        _say(f"{error}")
        sys.exit(2)
    except MemoryError as error:
        _say(f"not enough memory ({error}). Use a smaller outline or a coarser grid.")
        sys.exit(2)
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        remedy = "Use a smaller [training] batch or [blocks] window, or a machine with more memory."
        _say(f"not enough memory for the network. {remedy}")
        sys.exit(2)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            _say(f"{str(error.filename)[:300]}: the disk takes no name so long. Give a shorter one.")
            sys.exit(2)
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        _say(f"what it says cannot be written ({error.strerror}). Free some space.")
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:
        ended = isinstance(stop, _Ended)
        # typer turns Ctrl-C into an exit of its own
        if isinstance(stop, SystemExit) and not ended and stop.code != 130:
            raise
        _say(str(stop) if ended else "stopped. What was half written is removed; the same command goes on.")
        sys.exit(stopped)
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _say(text: str) -> None:
    with suppress(OSError):  # what is printed goes to a file on a full disk, say, and the exit code still counts
        print(f"landslip: {text}", file=sys.stderr)


def _open_standard_streams() -> None:
    """Open those of 0, 1 and 2 that are closed, or an output gets the number that libraries write their errors to."""
    while (opened := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(opened)


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Say nothing where rasterio cannot log GDAL's words about a damaged tag: the error itself is raised or mended."""
    if not (isinstance(what.exc_value, UnicodeDecodeError) and "rasterio" in str(what.object)):
        sys.__unraisablehook__(what)


if __name__ == "__main__":
    main()
