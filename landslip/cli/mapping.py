"""The commands that map landslides and score the map: map, inventory, evaluate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from landslip.cli.options import (
    AcceptRange,
    ModelFolder,
    Overwrite,
    ProbabilityFile,
    Threshold,
    refuse_outputs,
    require_inputs,
)
from landslip.errors import RunError
from landslip.runtime.progress import plural

if TYPE_CHECKING:
    from landslip.evaluation.result import Evaluation
    from landslip.inference.mapping import MapResult
    from landslip.inference.predict import Uncertainty
    from landslip.training.checkpoint import Model

# The options of `map` that take more than a line.
Method = Annotated[
    Literal["halo", "paper"], typer.Option(help="halo: cores with surroundings; paper: overlapping windows, mean")
]
Engine = Annotated[
    Literal["auto", "torch", "openvino"], typer.Option(help="auto: OpenVINO on a processor where it is installed")
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "int8"],
    typer.Option(help="auto: bf16 where it is native; int8: after `landslip quantize`"),
]
Memory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="ceiling, such as 2GB: sets the size of the windows; default: 4 GiB")
]
Cluster = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="compute on a Dask cluster: tcp://host:port, or a number of processes here"),
]
Samples = Annotated[
    int | None,
    typer.Option(help="passes with dropout for --uncertainty, each as long as the map; default: 8; 0: none", min=0),
]
TrainingPixels = Annotated[
    Path | None, typer.Option(metavar="PREPARED/", help="for --uncertainty; default: pixels kept with the model")
]
# The options of `evaluate` that take more than a line.
ScoredPart = Annotated[
    Literal["train", "validation", "test", "all"] | None, typer.Option(help="default: test with a split, else all")
]
ScoredInventory = Annotated[
    Path | None, typer.Option(metavar="INV.gpkg", help="also score these polygons, landslide by landslide")
]
Reference = Annotated[
    Path | None, typer.Option(metavar="LANDSLIDES.gpkg", help="the site's landslides, to score the polygons by")
]
InventoryLayer = Annotated[str | None, typer.Option(help="of the inventory; review scores what a review left of it")]
AreasPicture = Annotated[
    Path | None, typer.Option(metavar="OUT.png", help="area-frequency curves of the inventory and the reference")
]
ReliabilityPicture = Annotated[
    Path | None, typer.Option(metavar="OUT.png", help="share of landslide by class of probability")
]


def map_command(
    model: ModelFolder,
    stack: Annotated[Path, typer.Argument(metavar="STACK.tif")],
    probability: ProbabilityFile,
    *,
    method: Method = "halo",
    engine: Engine = "auto",
    precision: Precision = "auto",
    memory: Memory = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop where an input is damaged.")] = False,
    cluster: Cluster = None,
    valid: Annotated[Path | None, typer.Option(help="default: valid.tif beside the stack")] = None,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Add bands that say where not to trust the map.")
    ] = False,
    samples: Samples = None,
    training: TrainingPixels = None,
    picture: Annotated[Path | None, typer.Option(metavar="OUT.png", help="of the bands of --uncertainty")] = None,
    accept_range: AcceptRange = False,
    overwrite: Overwrite = False,
) -> None:
    """Map a whole site into a probability raster.

    The same command goes on where it was stopped.
    """
    if not uncertainty and (samples, training, picture) != (None, None, None):
        raise RunError("--samples, --training and --picture belong to --uncertainty: give it too, or none of them.")
    loaded = _model_for_map(model, stack, probability, picture, valid, overwrite=overwrite)
    from landslip.inference.engines import size_in_bytes
    from landslip.inference.mapping import map_site

    bands = _uncertainty(loaded, training, samples) if uncertainty else None
    mapping = map_site(
        loaded,
        stack,
        probability,
        method=method,
        precision_choice=precision,
        valid_path=valid,
        overwrite=overwrite,
        uncertainty=bands,
        engine_choice=engine,
        memory=None if memory is None else size_in_bytes(memory),
        strict=strict,
        cluster=cluster,
        accept_range=accept_range,
    )
    typer.echo(_map_text(mapping, bands))
    if picture is not None:
        from landslip.plots.maps import draw_uncertainty

        draw_uncertainty(probability, picture, overwrite)


def inventory_command(
    probability: ProbabilityFile,
    out: Annotated[Path, typer.Argument(metavar="OUT.gpkg")],
    *,
    threshold: Threshold = None,
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
    summary = make_inventory(
        probability,
        out,
        threshold=threshold,
        min_area=min_area,
        map_path=landslide_map,
        overwrite=overwrite,
        stack_path=stack,
        previous=previous,
        simplify=simplify,
    )
    no_ground = math.isnan(summary.share)
    ground = "no ground is mapped" if no_ground else f"{100 * summary.share:.2f} % of the mapped ground"
    typer.echo(
        f"{out}: {plural(summary.count, 'landslide')}, {summary.area_m2 / 1e6:.3f} km², {ground}; "
        f"threshold {summary.threshold:g} ({summary.threshold_source}), "
        f"{plural(summary.removed, 'speck')} under {summary.min_area:g} m² removed"
        + (f", {plural(summary.kept, 'id')} kept" if summary.kept else "")
    )


def evaluate_command(
    probability: ProbabilityFile,
    label: Annotated[Path, typer.Argument(metavar="LABEL.tif")],
    *,
    split: Annotated[Path | None, typer.Option(help="split.tif that training wrote")] = None,
    part: ScoredPart = None,
    threshold: Threshold = None,
    block: Annotated[int, typer.Option(help="side of the blocks that intervals are drawn from, pixels", min=1)] = 64,
    inventory: ScoredInventory = None,
    reference: Reference = None,
    layer: Annotated[str | None, typer.Option(help="of the reference, where it has several")] = None,
    inventory_layer: InventoryLayer = None,
    overlap: Annotated[float, typer.Option(help="share of a landslide's area that matches it")] = 0.5,
    picture: AreasPicture = None,
    reliability: ReliabilityPicture = None,
    out: Annotated[Path | None, typer.Option("--json", help="also write the scores here")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score a map against a label, on one part of the split.

    Prints the confusion matrix and six scores with intervals.
    """
    _refuse_unpaired(inventory, reference, picture, (layer, inventory_layer))
    inputs = [path for path in (probability, label, split, inventory, reference) if path is not None]
    refuse_outputs(out, picture, reliability, overwrite=overwrite, inputs=inputs)
    from landslip.geo.raster import read_info

    for path in (probability, label):
        read_info(path)
    from landslip.evaluation.evaluate import evaluate
    from landslip.evaluation.result import write_scores

    polygons = None
    if inventory is not None and reference is not None:
        # Read before anything is computed: a refusal must not come after minutes of counting.
        from landslip.evaluation.objects import read_polygons

        polygons = read_polygons(inventory, reference, probability, layer, inventory_layer)
    evaluation = evaluate(probability, label, split=split, part=part, threshold=threshold, block=block)
    typer.echo(evaluation)
    if reliability is not None:
        _draw_reliability(evaluation, probability, reliability, overwrite)
    inventory_facts = None
    if polygons is not None:
        from landslip.evaluation.object_scores import object_table, objects_json
        from landslip.evaluation.objects import score_polygons

        by_landslide = score_polygons(polygons, probability, label, split=split, part=part, overlap=overlap)
        typer.echo(f"\n{object_table(by_landslide)}")
        inventory_facts = objects_json(by_landslide)
        if picture is not None:
            from landslip.evaluation.plots import draw_areas

            draw_areas(by_landslide, picture, overwrite)
    if out is not None:
        write_scores(out, evaluation, overwrite, inventory_facts)


def _model_for_map(
    model: Path, stack: Path, probability: Path, picture: Path | None, valid: Path | None, *, overwrite: bool
) -> Model:
    """The model, loaded, once all that `map` can refuse early was looked at: outputs, then channels of the stack."""
    from landslip.inference.tile_store import refuse_existing_map

    refuse_existing_map(probability, overwrite)
    inputs = [path for path in (stack, probability, valid) if path is not None]
    refuse_outputs(picture, overwrite=overwrite, inputs=inputs)
    require_inputs(model)
    from landslip.dataset.channels import read_stack_info
    from landslip.training.checkpoint import load_model, require_channels

    require_channels(model, read_stack_info(stack))
    return load_model(model)


def _uncertainty(model: Model, training: Path | None, samples: int | None) -> Uncertainty:
    from landslip.inference.predict import Uncertainty
    from landslip.training.training_pixels import area_of

    return Uncertainty(area_of(model, training), 8 if samples is None else samples)


def _map_text(mapping: MapResult, uncertainty: Uncertainty | None) -> str:
    """How much was mapped and, with --uncertainty, how much of it lies outside the area of applicability."""
    text = (
        f"{mapping.path}: {plural(mapping.valid_pixels, 'pixel')} mapped in {plural(mapping.windows, 'window')}, "
        f"{100 * mapping.skipped:.0f} % skipped"
    )
    if uncertainty is None or mapping.outside is None or not mapping.valid_pixels:
        return text
    return (
        f"{text}\n{100 * mapping.outside / mapping.valid_pixels:.1f} % of them lie outside the area of applicability, "
        "on ground unlike what the model was trained on (dissimilarity index above "
        f"{uncertainty.area.threshold:.3f})"
    )


def _refuse_unpaired(
    inventory: Path | None, reference: Path | None, picture: Path | None, layers: tuple[str | None, str | None]
) -> None:
    """Refuse options of `evaluate` that say nothing without an inventory and its reference."""
    if (inventory is None) != (reference is None):
        raise RunError("an inventory is scored by a reference: give both --inventory and --reference, or neither.")
    if inventory is None and layers != (None, None):
        raise RunError(
            "--layer and --inventory-layer choose among the layers of a reference and of an inventory: give both "
            "--inventory and --reference too, or leave them out."
        )
    if picture is not None and inventory is None:
        raise RunError("--picture shows the scores of an inventory: give --inventory and --reference too.")


def _draw_reliability(evaluation: Evaluation, probability: Path, picture: Path, overwrite: bool) -> None:
    from landslip.evaluation.object_scores import part_text
    from landslip.evaluation.plots import draw_reliability

    if evaluation.reliability is None:
        raise RunError(f"{probability} holds landslide or not, and no probabilities to draw. Leave out --reliability.")
    title = f"Reliability on {part_text(evaluation.part)}"
    draw_reliability({probability.name: evaluation.reliability}, picture, title, overwrite)
