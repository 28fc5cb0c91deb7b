"""Scores with what they stand on; comparison, importance and landslides by class of a factor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from landslip.evaluation.object_scores import InventoryScores, SizeClass, area_text
from landslip.evaluation.plots import draw_areas, draw_reliability
from landslip.evaluation.result import HEADS, cells, leakage
from landslip.experiments.trial_result import TrialResult
from landslip.importance.plots import draw_intervals, draw_ranking
from landslip.importance.ranking import MEASURES, Score
from landslip.metrics.bootstrap import LEVEL
from landslip.metrics.calibration import Reliability
from landslip.metrics.confusion import SCORES
from landslip.metrics.size_distribution import Tail
from landslip.report.base import DAMAGE, Workspace, figure_text, holding, number, percent, read_json_table
from landslip.report.html import Block, Cell, Notes, Table, Text, picture

TRANSFERRED = {"as_trained": "as trained", "fine_tuned": "fine-tuned"}
MOST_BYTES = 300_000  # of a picture made elsewhere, beyond which it is stored by a palette


def loud_of(content: Mapping[str, Any]) -> str:
    """What must be said before a score is read; "" where nothing is."""
    if content.get("leaky") is True:
        return (
            "LEAKY. The ground that was scored, or its surroundings, was trained on: these scores say how well the "
            "network remembers, not what it makes of ground it has not seen."
        )
    if content.get("leaky") is not False:
        return (
            "LEAKY OR NOT: UNKNOWN. Nothing says which ground was trained on, so that the scores may be those of the "
            "training ground. Score again with --split RUN/model/split.tif."
        )
    return ""


@dataclass(frozen=True)
class _ScoreFile:
    """A file of scores, its row in the table of scores and that in the table of what they stand on."""

    path: Path
    content: Mapping[str, Any]
    scores: list[Cell]
    audit: list[Cell]


def scores(workspace: Workspace) -> list[Block]:
    """Scores with their ground, what they stand on, and those on other sites."""
    elsewhere: list[Block] = []
    for path in holding(workspace, "scores.json", "as_trained"):
        elsewhere += workspace.attempt(path, partial(_transfer, workspace, path))
    if not workspace.run.scores:
        return [
            Text("This run holds no scores. They are made by: landslip evaluate RUN/map/probability.tif "
                 "RUN/prepared/label.tif --split RUN/model/split.tif --json RUN/scores/test.json", "remedy"),
            *elsewhere,
        ]  # fmt: skip
    faults: list[Block] = []
    files: list[_ScoreFile] = []
    for path in workspace.run.scores:
        faults += workspace.attempt(path, partial(_read_scores, path, files))
    details: list[Block] = []
    warnings: dict[str, list[str]] = {}
    for file in files:
        details += workspace.attempt(file.path, partial(_score_details, workspace, file.path, file.content))
        if warning := loud_of(file.content):
            warnings.setdefault(warning, []).append(workspace.name(file.path))
    loud = [Text(f"{', '.join(names)}: {warning}", "warning") for warning, names in warnings.items()]
    return [*loud, *faults, *_score_tables(files), *details, *elsewhere]


def _score_tables(files: list[_ScoreFile]) -> list[Block]:
    if not files:
        return []
    return [
        Table(
            "Scores with their ground, per cent.",
            ["Scores", "Part", "Split", "Leaky", *HEADS],
            [file.scores for file in files],
            f"In brackets: {100 * LEVEL:g} % intervals, from blocks of ground drawn anew.",
            left=4,
        ),
        Table(
            "What the scores stand on: size of the ground, and how near it lies to training ground.",
            ["Scores", "Pixels", "Hits", "False alarms", "Misses", "True negatives", "Threshold",
             "Nearest training ground, least (m)",
             "Median (m)", "On it (%)", "Near it (%)", "Not scored (%)"],
            [file.audit for file in files],
            "Median: to about a pixel. Near: less than one training window away, or on it. Not scored: of the part's "
            "landslide area.",
        ),
    ]  # fmt: skip


def _transfer(workspace: Workspace, path: Path) -> Iterator[Block]:
    """Scores of a model on a site that it was not trained on, and what makes that site unlike its training ground."""
    content, folder = read_json_table(path), workspace.name(path.parent)
    for text in content.get("warnings") or []:
        yield Text(f"{folder}/, on another site: {text}.", "warning")
    scored = {name: content[key] for key, name in TRANSFERRED.items() if key in content}
    rows: list[list[Cell]] = []
    for name, one in scored.items():
        texts = map(_unbroken, cells({score: number(one[score]) for score in SCORES}, between(one)))
        rows.append(
            [name, f"{int(number(one['pixels'])):,}", leakage(one["leaky"]), figure_text(one["threshold"]), *texts]
        )
    yield Table(
        f"{folder}/: the model on another site, per cent.",
        ["Model", "Pixels", "Leaky", "Threshold", *HEADS],
        rows,
        f"In brackets: {100 * LEVEL:g} % intervals, from blocks of ground drawn anew.",
    )
    notes = {str(note) for one in scored.values() for note in one.get("notes") or []}
    if notes:
        yield Notes([f"{folder}: {note}." for note in sorted(notes)])


def _read_scores(path: Path, files: list[_ScoreFile]) -> list[Block]:
    """Add a file of scores to those that were read; a damaged one adds nothing."""
    content = read_json_table(path)
    start = [path.stem, str(content["part"]), str(content["split"]), leakage(content["leaky"])]
    texts = cells({name: number(content[name]) for name in SCORES}, between(content))
    counts, audit = content["confusion"], content.get("audit") or {}
    near = [
        f"{number(audit.get(key)):,.0f}" if audit.get(key) is not None else "-" for key in ("minimum_m", "median_m")
    ]
    near += [
        f"{100 * number(audit.get(key)):.1f}" if audit.get(key) is not None else "-"
        for key in ("share_inside", "share_near")
    ]
    pixels = [f"{int(number(v)):,}" for v in (content["pixels"], *(counts[key] for key in ("tp", "fp", "fn", "tn")))]
    not_scored = content.get("landslide_share_not_scored")
    last = "-" if not_scored is None else f"{100 * number(not_scored):.2f}"
    files.append(
        _ScoreFile(
            path,
            content,
            scores=[*start, *map(_unbroken, texts)],
            audit=[path.stem, *pixels, figure_text(content["threshold"]), *near, last],
        )
    )
    return []


def _unbroken(text: str) -> str:
    """A score with its interval, which no line breaks."""
    return text.replace(", ", ",\u00a0")


def between(content: Mapping[str, Any]) -> dict[str, tuple[float | None, float | None]]:
    """The intervals of the scores in a file, (None, None) where none was drawn."""
    stored = content.get("intervals") or {}
    intervals: dict[str, tuple[float | None, float | None]] = {}
    for name in SCORES:
        low, high = stored.get(name, (None, None))
        intervals[name] = (None if low is None else number(low), None if high is None else number(high))
    return intervals


def _score_details(workspace: Workspace, path: Path, content: Mapping[str, Any]) -> Iterator[Block]:
    notes = [str(note) for note in content.get("notes") or []]
    if notes:
        yield Notes([f"{path.stem}: {note}." for note in notes])
    if content.get("reliability"):
        rows = ({key: number(value) for key, value in row.items()} for row in content["reliability"])
        table = [Reliability(**row) for row in rows]  # type: ignore[arg-type]
        error = percent(content.get("expected_calibration_error"))
        where = "all mapped ground" if content["part"] == "all" else f"the {content['part']} part"
        yield workspace.draw(
            f"reliability_{path.stem}.svg",
            lambda out: draw_reliability({path.stem: table}, out, f"Reliability on {where}"),
            f"Share of landslide against probability on {where}; expected calibration error {error}.",
            f"{path.stem}: how far probabilities can be taken at their word on {where}; on the dotted line they can. "
            f"Expected calibration error {error}.",
        )
    if content.get("inventory"):
        scores = _inventory_scores(content["inventory"])
        yield _matched(path.stem, scores)
        if scores.classes:
            yield workspace.draw(
                f"areas_{path.stem}.svg",
                lambda out: draw_areas(scores, out),
                "Frequency of landslide areas, map beside reference, and the share found by size.",
                f"{path.stem}: landslide by landslide. Completeness limit (80 % found from it on): "
                + ("none." if math.isnan(scores.completeness_m2) else f"{area_text(scores.completeness_m2)}."),
            )


def _inventory_scores(stored: Mapping[str, Any]) -> InventoryScores:
    """Scores of an inventory as a scores file holds them: null is NaN, and the single areas are not kept."""
    names = {field.name for field in fields(InventoryScores)}
    values = {key: value for key, value in stored.items() if key in names}
    for name in ("number_bias", "area_bias", "completeness_m2", "reference_area_m2", "mapped_area_m2"):
        values[name] = number(stored[name])
    for name in ("reference_tail", "mapped_tail"):
        values[name] = Tail(**{key: number(value) for key, value in stored[name].items()})  # type: ignore[arg-type]
    values["classes"] = [_size_class(row) for row in stored["classes"]]
    return InventoryScores(**values | {"reference_areas": np.empty(0), "mapped_areas": np.empty(0), "boundary": []})


def _size_class(row: Mapping[str, Any]) -> SizeClass:
    counts = (int(number(row[key])) for key in ("reference", "found", "mapped", "invented"))
    return SizeClass(number(row["low"]), number(row["high"]), *counts)


def _matched(name: str, scores: InventoryScores) -> Block:
    def times(bias: float) -> str:
        return "undefined" if math.isnan(bias) else f"{bias:.2f}"

    rows: list[list[Cell]] = [
        [f"{area_text(c.low)} to {area_text(c.high)}",
         *(f"{v:,}" for v in (c.reference, c.found, c.reference - c.found, c.mapped, c.invented))]
        for c in scores.classes
    ]  # fmt: skip
    rows.append(
        ["all", *(f"{v:,.0f}" for v in (scores.reference, scores.found, scores.missed, scores.mapped, scores.invented))]
    )
    return Table(
        f"{name}: landslides of the inventory against the reference, matched where "
        f"{percent(scores.overlap, 0)} of the area is covered.",
        ["Size", "Reference", "Found", "Missed", "Mapped", "Invented"],
        rows,
        f"Number {times(scores.number_bias)} and area {times(scores.area_bias)} times the reference's. Split "
        f"{scores.split:,} landslides, mapped as {scores.split_pieces:,}; merged {scores.merged:,}, "
        f"{scores.merged_landslides:,} in truth.",
    )  # fmt: skip


def runs_of(path: Path) -> list[TrialResult]:
    """The trainings of a comparison, as comparison.json holds them."""
    return [TrialResult.model_validate(run) for run in read_json_table(path)["runs"]]


def sheet_table(caption: str, sheet: Any) -> list[Block]:
    """A sheet of a comparison as a table; nothing where it has no rows."""
    return [Table(caption, sheet.heads, sheet.rows, sheet.note)] if sheet.rows else []


def comparison(workspace: Workspace) -> list[Block]:
    """Networks and baselines beside each other, with the pictures that `landslip compare` drew."""
    return workspace.each("comparison", lambda path: _comparison(workspace, path))


def _comparison(workspace: Workspace, path: Path) -> list[Block]:
    # Imported here, with torch and scikit-learn: most runs hold no comparison.
    from landslip.experiments.comparison_tables import PICTURES, ground, score_sheet, summary, trust_sheet

    def tables() -> Iterator[Block]:
        results = runs_of(path)
        every = summary(results)
        for split in dict.fromkeys(row.split for row in every):
            rows = [row for row in every if row.split == split]
            if rows[0].leaky is not False:
                yield Text(f"{ground(rows[0])}.", "warning")
            yield from sheet_table(f"{ground(rows[0])} (Tables VII and VIII of the paper).", score_sheet(rows))
            scored = [result for result in results if result.split == split and result.failed is None]
            if scored:
                yield from sheet_table(f"Split {split}: what the scores stand on.", trust_sheet(scored))
        failed = [f"{r.method}, {r.channels}, seed {r.seed}: {r.failed}" for r in results if r.failed is not None]
        if failed:
            yield Text("Some runs failed; the same command tries them again.", "warning")
            yield Notes(failed)

    blocks = workspace.attempt(path, tables)
    for name in PICTURES:
        for file in sorted(path.parent.glob(f"{name}_*.png")):
            split = file.stem.removeprefix(f"{name}_")
            title = _picture_title(path, name, split) if split in ("apart", "paper", "given") else ""
            if title:
                large = file.stat().st_size > MOST_BYTES
                blocks += workspace.attempt(file, partial(_picture, file, title, large))
    return blocks


def _picture(path: Path, title: str, palette: bool) -> Iterator[Block]:
    yield picture(path, title, title, palette)


def _picture_title(path: Path, name: str, split: str) -> str:
    """What a picture of a comparison shows, by the runs that it was made from; "" where another shows all of it."""
    try:
        results = [r for r in runs_of(path) if r.split == split and r.failed is None and r.network]
    except DAMAGE:
        results = []  # The section names the damage already, and the pictures can be shown without the runs.
    bands, both = (any((r.channels == "bands") == alone for r in results) for alone in (True, False))
    titles = {
        "maps": "Maps on bands, and the last network's on bands and factors" if both else "Maps on bands",
        "maps_factors": "Maps on bands and factors",
        "maps_baselines": "Maps of the pixel baselines",
        "curves": "Learning curves",
    }
    if name == "maps" and both and not bands:
        return ""
    return f"{titles[name]}, split {split}."


def importance(workspace: Workspace) -> list[Block]:
    """The factors by how well they tell landslides apart (Fig. 9 of the paper)."""
    return workspace.each("importance", lambda path: _importance(workspace, path))


def _importance(workspace: Workspace, path: Path) -> list[Block]:
    def shown() -> Iterator[Block]:
        content = read_json_table(path)
        figures = ("estimate", "low", "high")
        every = [Score(**(score | {key: number(score[key]) for key in figures})) for score in content["scores"]]
        by_measure = {m: [s for s in every if s.measure == m] for m in MEASURES}
        ranked = {m: scores for m, scores in by_measure.items() if scores}
        shown_measures = "; ".join(MEASURES[m] for m in ranked if not m.endswith("_f1"))
        yield workspace.draw(
            f"{path.parent.name}_importance.svg",
            lambda out: draw_ranking(every, out),
            "Bars of the importance of each factor with intervals: " + shown_measures + ".",
            "Which factors tell landslides from other ground, with 95 % intervals (Fig. 9 of the paper).",
        )
        for m, scores in ranked.items():
            rows = [
                [s.factor.replace("_", " "), "-" if s.rank is None else str(s.rank), figure_text(s.estimate),
                 f"{figure_text(s.low)} to {figure_text(s.high)}", _doubts(s)]
                for s in scores
            ]  # fmt: skip
            title = MEASURES[m][0].upper() + MEASURES[m][1:]
            yield Table(f"{title}.", ["Factor", "Rank", "Estimate", "95 % interval", "Doubt"], rows, ends=True)
        yield Notes([f"{note}." for note in content["notes"]])

    return workspace.attempt(path, shown)


def _doubts(score: Score) -> str:
    doubts = ["no effect shown"] if score.effect is False else []
    doubts += ["place unstable"] if score.unstable else []
    return ", ".join([*doubts, *([score.note] if score.note else [])]) or "-"


def intervals(workspace: Workspace) -> list[Block]:
    """Landslides by class of each factor (Fig. 10 of the paper)."""
    return workspace.each("intervals", lambda path: _intervals(workspace, path))


def _intervals(workspace: Workspace, path: Path) -> list[Block]:
    def shown() -> Iterator[Block]:
        content = read_json_table(path)
        panels: dict[str, list[tuple[str, float, float]]] = {}
        table: list[list[Cell]] = []
        for row in content["rows"]:
            plain = row["unit"] in ("", "class") or row["factor"] == "aspect"
            unit = "" if plain else f" ({'°' if row['unit'] == 'degree' else row['unit']})"
            title = str(row["factor"]).replace("_", " ") + unit
            panels.setdefault(title, []).append((str(row["name"]), number(row["frequency"]), number(row["area_share"])))
            shares = (percent(row[key], 1) for key in ("area_share", "landslide_share"))
            ratio = number(row["frequency_ratio"])
            table.append(
                [title, str(row["name"]), f"{int(number(row['pixels'])):,}", *shares, percent(row["frequency"]),
                 "undefined" if math.isnan(ratio) else f"{ratio:.2f}"]
            )  # fmt: skip
        mean = number(content["landslides"]) / number(content["pixels"])
        yield workspace.draw(
            f"{path.parent.name}_intervals.svg",
            lambda out: draw_intervals(panels, mean, out),
            "Bars of landslide frequency and area share by class of each factor.",
            f"How often landslides lie in each class of a factor; dashed: the site's {percent(mean)} "
            "(Fig. 10 of the paper).",
        )
        heads = ["Factor", "Class", "Pixels", "Of the ground", "Of the landslides", "Frequency", "Ratio"]
        yield Table("Landslides by class of each factor.", heads, table, left=2)
        yield Notes([f"{note}." for note in content["notes"]])

    return workspace.attempt(path, shown)
