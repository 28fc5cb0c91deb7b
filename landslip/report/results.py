"""Training, the landslide map, the inventory and what the network costs."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from landslip.dataset.split import PARTS
from landslip.evaluation.object_scores import area_text
from landslip.geo.raster import RasterInfo, read_info
from landslip.metrics.confusion import stated_threshold
from landslip.metrics.size_distribution import SURE_COUNT, fit_tail
from landslip.metrics.training_range import warnings_in
from landslip.models import network_title
from landslip.plots import maps
from landslip.plots.cartography import MOST_DRAWN
from landslip.plots.curves import draw_history
from landslip.preparation import figures
from landslip.report.base import (
    Workspace,
    figure_text,
    holding,
    km2,
    number,
    percent,
    read_json_table,
    read_quietly,
    thinned,
)
from landslip.report.html import Block, Cell, Facts, Notes, Table, Text
from landslip.report.scores import runs_of, sheet_table
from landslip.runtime.progress import plural
from landslip.training.model_files import FACTS, WEIGHTS

LARGEST = 15  # landslides that are listed
WIDE = 4  # times the lower end of a range, beyond which it says little
# as many as a page is wide; the GeoPackage has the rest
COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("area_m2", "Area (m²)", lambda v: f"{v:,.0f}"),
    ("length_m", "Length (m)", lambda v: f"{v:,.0f}"),
    ("width_m", "Width (m)", lambda v: f"{v:,.0f}"),
    ("height_drop_m", "Drop (m)", lambda v: f"{v:,.0f}"),
    ("slope_mean", "Mean slope (°)", lambda v: f"{v:.1f}"),
    ("lithology", "Lithology", str),
    ("distance_to_river_m", "To river (m)", lambda v: f"{v:,.0f}"),
    ("distance_to_fault_m", "To fault (m)", lambda v: f"{v:,.0f}"),
    ("probability_mean", "Mean probability", lambda v: f"{v:.2f}"),
    ("review", "Review", str),
)


def training(workspace: Workspace) -> list[Block]:
    """The network as it was trained, its curves, and calibrated models."""
    blocks: list[Block] = []
    if workspace.run.model is not None:
        model = workspace.run.model
        blocks += workspace.attempt(model, lambda: [_model_facts(read_json_table(model))])
    calibrated: list[Block] = []
    for path in holding(workspace, FACTS, "calibration"):
        calibrated += workspace.attempt(path, partial(_calibration, workspace, path))
    if workspace.run.history is None:
        missing = [] if "members" in read_quietly(workspace.run.model) else workspace.lacks("history")
        return [*blocks, *missing, *calibrated]
    history = workspace.run.history

    def curves() -> Iterator[Block]:
        with history.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            raise ValueError("it holds no epoch")
        best = max((float(row["validation_kappa"] or "nan") for row in rows), default=math.nan)
        yield workspace.draw(
            "history.svg",
            lambda out: draw_history(history, out),
            f"Curves of training and validation loss, validation kappa and F1 over {plural(len(rows), 'epoch')}.",
            f"Training over {plural(len(rows), 'epoch')}; the best kappa on validation ground is {figure_text(best)}. "
            "Validation ground chose the epoch and the threshold and is no test.",
        )

    return [*blocks, *workspace.attempt(history, curves), *calibrated]


def _model_facts(facts: Mapping[str, Any]) -> Block:
    run = facts["run"]
    if "members" in facts:
        return _ensemble_facts(facts)
    choices, (ground, scores) = run["training"], _scores_apart(facts)
    names = [channel["name"] for channel in facts["channels"]]
    rows = [
        ("Network", network_title(run["network"]["name"])),
        ("Channels", f"{len(names)}: {', '.join(map(str, names))}"),
        ("Windows", f"{figure_text(facts['training_windows'], 9)} of {run['blocks']['window']} pixels a side"),
        ("Loss, epochs, batch", f"{choices['loss']}, {plural(choices['epochs'], 'epoch')}, "
         f"batches of {choices['batch']}"),
        ("Epoch kept", f"{facts['chosen_epoch']} (choose: {choices['choose']})"),
        (ground, scores),
        ("Threshold", f"{figure_text(facts['threshold'])}" + _chosen_by(facts)),
    ]  # fmt: skip
    return Facts(rows)


def _ensemble_facts(facts: Mapping[str, Any]) -> Block:
    """What an ensemble is made of, a row for each member."""
    names = [channel["name"] for channel in facts["channels"]]
    rows = [
        ("Network", f"ensemble of {len(facts['members'])}, whose logits are averaged"),
        ("Channels", f"{len(names)}: {', '.join(map(str, names))}"),
    ]
    for count, member in enumerate(facts["members"], 1):
        ground, validation = _scores_apart({"split": facts["split"], **member})
        text = f"{member['network']}, seed {member['seed']}, epoch {member['chosen_epoch']}"
        rows.append((f"Member {count}", f"{text}; {ground.lower()}: {validation}"))
    rows.append(("Threshold", f"{figure_text(facts['threshold'])}"))
    return Facts(rows)


def _scores_apart(facts: Mapping[str, Any]) -> tuple[str, str]:
    """On what ground a model was judged while it was made, and its scores there."""
    if "folds" in facts:
        return f"{len(facts['folds']['thresholds'])} folds, pooled", _validation_text(facts["folds"]["scores"])
    if facts["split"]["kind"] == "all":
        return "Validation ground", "none: all ground was trained on"
    return "Validation ground", _validation_text(facts["validation"])


def _chosen_by(facts: Mapping[str, Any]) -> str:
    """What a model's threshold was chosen by, in words."""
    by = facts["run"]["training"]["threshold"]
    if "folds" in facts:
        return ", the median of the folds'"
    return f", by {by} on validation ground" if isinstance(by, str) else ", as the run file says"


def _validation_text(validation: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.removeprefix('validation_')} {figure_text(value)}" for name, value in validation.items())


def _calibration(workspace: Workspace, path: Path) -> Iterator[Block]:
    """What calibration fitted and chose, and what it noted: of the ground, of its likeness to the training ground."""
    facts = read_json_table(path)
    calibration = facts["calibration"]
    before, after = calibration["expected_calibration_error"]
    yield Text(f"Calibrated model: {workspace.name(path.parent)}/", "head")
    rows = [
        (
            "Fitted on",
            f"{calibration.get('part', 'the validation part')}, {int(number(calibration['pixels'])):,} pixels",
        ),
        (
            "Temperature",
            f"{figure_text(facts['temperature'])} (before: {figure_text(calibration['temperature_before'])})",
        ),
        (
            "Bias",
            f"{figure_text(facts.get('bias', 0))} (before: {figure_text(calibration.get('bias_before', 0))})",
        ),
        (
            "Threshold",
            f"{figure_text(facts['threshold'])} by {calibration['threshold_chosen']['by']} (before: "
            f"{figure_text(calibration['threshold_before'])})",
        ),
        ("Expected calibration error", f"{percent(after)} (before: {percent(before)}), on the ground it was fitted on"),
    ]
    if calibration.get("promise"):
        rows.append(("Promise", str(calibration["promise"])))
    yield Facts(rows)
    yield Notes([f"{note}." for note in calibration["notes"]])


def landslide_map(workspace: Workspace) -> list[Block]:
    """The map against the drawn landslides, its probability and, where it has them, its bands of uncertainty."""
    run = workspace.run
    if run.probability is None:
        return workspace.lacks("probability")
    path = run.probability

    def figures_of_map() -> Iterator[Block]:
        info = read_info(path)
        threshold, source = stated_threshold(None, info.tags.get("threshold"), path.name)
        yield Facts(_map_facts(info, threshold, source))
        if run.label is not None and run.stack is not None:
            label, stack = run.label, run.stack
            panel = maps.Panel(f"Landslide map, threshold {threshold:g}", path, threshold, run.split)
            framed = "Only the framed test part was kept from training: what lies elsewhere flatters the map. "
            yield workspace.draw(
                "judged.png",
                lambda out: maps.draw_judged(panel, label, stack, out),
                "Map of hits, misses and false alarms over the relief.",
                "The map against the drawn landslides: hits, misses and false alarms. "
                + (framed if run.split is not None and "test" in _parts_held(run.split) else "")
                + thinned(info.grid),
            )
        else:
            yield from workspace.lacks("label", "stack")
        yield workspace.draw(
            "probability.png",
            lambda out: maps.draw_probability(path, out),
            "Map of the landslide probability from 0 to 1.",
            f"Landslide probability; grey where it is undefined. {thinned(info.grid)}",
            palette=True,
        )
        if info.count >= 4:
            yield workspace.draw(
                "uncertainty.png",
                lambda out: maps.draw_uncertainty(path, out),
                "Maps of probability, dissimilarity index and disagreement; hatched outside the area of applicability.",
                "Where not to trust the map: probability, how unlike the training ground (dissimilarity index), and "
                f"how far draws of the network disagree. {thinned(info.grid, MOST_DRAWN // 2)}",
                palette=True,
            )
        else:
            yield Text(
                "The map carries no bands of uncertainty. They are added by: landslip map RUN/model "
                "RUN/prepared/stack.tif RUN/map/probability.tif --uncertainty --overwrite",
                "remedy",
            )

    return workspace.attempt(path, figures_of_map)


def _parts_held(split: Path) -> list[str]:
    """The parts that a split.tif may hold: a paper split has no test part."""
    return [name for name in PARTS if name != "test" or read_info(split).tags.get("split") != "paper"]


def _map_facts(info: RasterInfo, threshold: float, source: str) -> list[tuple[str, str]]:
    tags = info.tags
    rows = [
        ("Threshold", f"{threshold:g} ({source})"),
        ("Mapped by", f"{tags.get('method', 'unknown')}, {tags.get('precision', 'unknown precision')}"),
    ]
    if "temperature" in tags:
        rows.append(("Temperature, bias", f"{tags['temperature']}, {tags.get('bias', 0)}"))
    if "applicability_threshold" in tags:
        rows.append(
            (
                "Area of applicability",
                f"dissimilarity index up to {figure_text(float(tags['applicability_threshold']))}",
            )
        )
    return rows + [("Warning", text) for text in warnings_in(tags)]


def _range_words(low: float, high: float) -> str:
    """The sums of area_low_m2 and area_high_m2, square metres, with what they mean."""
    text = f"{km2(low)} to {km2(high)}: every landslide at its surest pixels, every one with all ground that may belong"
    if high <= WIDE * low:
        return text
    return f"{text}. So wide a range says little; calibrated probabilities (landslip calibrate) may narrow it"


def inventory(workspace: Workspace) -> list[Block]:
    """The mapped landslides: their number, their areas, and the largest of them."""
    if workspace.run.inventory is None:
        return workspace.lacks("inventory")
    path = workspace.run.inventory

    def blocks() -> Iterator[Block]:
        frame = workspace.landslides
        areas = frame["area_m2"].to_numpy(float)
        share, mapped = workspace.share
        rows = [("Landslides", f"{len(frame):,}"), ("Area", km2(float(areas.sum())))]
        if mapped:
            rows.append(("Share", f"{100 * share:.2f} % of the {km2(mapped)} mapped"))
        if {"area_low_m2", "area_high_m2"} <= set(frame):
            low, high = (float(frame[name].sum()) for name in ("area_low_m2", "area_high_m2"))
            rows.append(("Area, by the probabilities", _range_words(low, high)))
        if "review" in frame:
            states = frame["review"].fillna("open").astype(str).value_counts(sort=False).sort_index()
            rows.append(("Review", ", ".join(f"{count:,} {state}" for state, count in states.items())))
        if not len(frame):
            yield Facts(rows)
            return
        rows.append(("Smallest, median, mean, largest", ", ".join(
            f"{v:,.0f} m²" for v in (areas.min(), float(np.median(areas)), areas.mean(), areas.max())
        )))  # fmt: skip
        tail = fit_tail(areas)
        if not math.isnan(tail.exponent):
            rough = f"; fewer than {SURE_COUNT}: rough" if tail.count < SURE_COUNT else ""
            rows.append(
                ("Power-law tail", f"exponent {tail.exponent:.2f} ± {tail.standard_error:.2f} from "
                 f"{area_text(tail.x_min)} on ({plural(tail.count, 'landslide')}{rough})")
            )  # fmt: skip
        yield Facts(rows)
        yield workspace.draw(
            "inventory.svg",
            lambda out: figures.draw_inventory_areas(areas, tail, out),
            f"Frequency density of {len(areas):,} landslide areas, and how many are as large or larger.",
            "Areas of the mapped landslides: frequency density with its power-law tail (bars: 1 sigma of counts), and "
            "how many are as large or larger.",
        )
        yield _largest(workspace, frame)

    return workspace.attempt(path, blocks)


def _largest(workspace: Workspace, frame: Any) -> Block:
    columns = [(name, head, text) for name, head, text in COLUMNS if name in frame and frame[name].notna().any()]
    if "review" in frame and set(frame["review"].dropna()) <= {"open"}:
        columns = [column for column in columns if column[0] != "review"]  # nothing was reviewed
    # equal areas in the order of their ids, whatever the order of the file
    by_area = frame.sort_values(
        ["area_m2", "id"] if "id" in frame else ["area_m2"], ascending=[False, True][: 1 + ("id" in frame)]
    )
    largest = by_area.head(LARGEST)
    points = largest.geometry.representative_point()
    rows: list[list[Cell]] = []
    for (_, row), point in zip(largest.iterrows(), points, strict=True):
        texts = ["-" if row[name] is None or row[name] != row[name] else text(row[name]) for name, _, text in columns]
        rows.append([str(row["id"]) if "id" in row else "-", f"{point.x:,.0f}", f"{point.y:,.0f}", *texts])
    return Table(
        f"The {len(rows)} largest of {plural(len(frame), 'landslide')}.",
        ["Id", "Easting (m)", "Northing (m)", *(head for _, head, _ in columns)],
        rows,
        f"A point inside each, in {frame.crs.name}. {workspace.name(workspace.run.inventory)} has all columns."
        if workspace.run.inventory is not None
        else "",
    )


def complexity(workspace: Workspace) -> list[Block]:
    """What the network costs: parameters, multiply-adds, time and memory."""
    if workspace.run.model is None:
        return workspace.lacks("model")
    path = workspace.run.model

    def costs() -> Iterator[Block]:
        from landslip.models import build_model  # torch, which only this section needs
        from landslip.models.layers import macs, parameter_count

        facts = read_json_table(path)
        network, channels = facts["run"]["network"], len(facts["channels"])
        model = build_model(network["name"], channels, **(network.get("options") or {}))
        learnt, statistics, both = parameter_count(model)
        machine = facts["machine"]
        weights = path.with_name(WEIGHTS)
        rows = [
            ("Network", f"{network_title(network['name'], network.get('options'))}, {plural(channels, 'channel')}"),
            ("Parameters", f"{learnt:,} learnt and {statistics:,} running statistics, {both:,} together"),
            (
                "Model file",
                f"{weights.stat().st_size / 2**20:.1f} MiB" if weights.exists() else f"{WEIGHTS} is missing",
            ),
            ("Multiply-adds", f"{macs(model, channels) / 1e9:.3f} G for one block of 64 x 64 pixels"),
            ("Training", f"{number(facts['training_seconds']):,.0f} s in batches"),
            ("Peak memory", f"{number(facts['peak_mib']):,.0f} MiB of the whole process"),
            ("Machine", f"{machine['processor']}, {plural(machine['threads'], 'thread')}, GPU {machine['gpu']}"),
        ]
        if facts.get("peak_gpu_mib") is not None:
            rows.insert(6, ("Peak GPU memory", f"{number(facts['peak_gpu_mib']):,.0f} MiB"))
        yield Facts(rows)

    blocks = workspace.attempt(path, costs)
    for path in workspace.run.comparison:
        of = f"of {path.parent.name}/" if len(workspace.run.comparison) > 1 else ""
        title = f"Complexity of all methods {of}".rstrip() + " (Table IX of the paper)."
        blocks += workspace.attempt(path, partial(_costs, path, title))
    return blocks


def _costs(path: Path, title: str) -> list[Block]:
    from landslip.experiments.comparison_tables import cost_sheet  # torch and scikit-learn come with it

    return sheet_table(title, cost_sheet(runs_of(path)))
