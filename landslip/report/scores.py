"""Scores with what they stand on; comparison, importance and landslides by class of a factor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from landslip.evaluation.object_scores import InventoryScores, SizeClass, area_text
from landslip.evaluation.plots import draw_areas, draw_reliability
from landslip.evaluation.result import HEADS, cells, leakage
from landslip.experiments.comparison_tables import PICTURES, ground, score_sheet, summary, trust_sheet
from landslip.importance.plots import Whisker, draw_intervals, draw_ranking
from landslip.importance.ranking import MEASURES
from landslip.metrics.bootstrap import LEVEL
from landslip.metrics.calibration import Reliability
from landslip.metrics.confusion import SCORES
from landslip.metrics.size_distribution import Tail
from landslip.report.base import DAMAGE, Made, figure_text, holding, number, percent, read_json
from landslip.report.html import Block, Cell, Notes, Table, Text, picture

TRANSFERRED = {"as_trained": "as trained", "fine_tuned": "fine-tuned"}
MOST_BYTES = 300_000  # of a picture made elsewhere, beyond which it is stored by a palette


def loud_of(found: Mapping[str, Any]) -> str:
    """What must be said before a score is read; "" where nothing is."""
    if found.get("leaky") is True:
        return (
            "LEAKY. The ground that was scored, or its surroundings, was trained on: these scores say how well the "
            "network remembers, not what it makes of ground it has not seen."
        )
    if found.get("leaky") is not False:
        return (
            "LEAKY OR NOT: UNKNOWN. Nothing says which ground was trained on, so that the scores may be those of the "
            "training ground. Score again with --split RUN/model/split.tif."
        )
    return ""


def scores(made: Made) -> list[Block]:
    elsewhere: list[Block] = []
    for path in holding(made, "scores.json", "as_trained"):
        elsewhere += made.tried(path, lambda p=path: _transfer(made, p))  # type: ignore[misc]
    if not made.run.scores:
        return [
            Text("This run holds no scores. They are made by: landslip evaluate RUN/map/probability.tif "
                 "RUN/prepared/label.tif --split RUN/model/split.tif --json RUN/scores/test.json", "remedy"),
            *elsewhere,
        ]  # fmt: skip
    rows: list[list[Cell]] = []
    audits: list[list[Cell]] = []
    faults: list[Block] = []
    details: list[Block] = []
    loud: dict[str, list[str]] = {}
    for path in made.run.scores:
        found: dict[str, Any] = {}
        faults += made.tried(path, lambda path=path, found=found: _read_scores(path, found, rows, audits))  # type: ignore[misc]
        if found:
            details += made.tried(path, lambda path=path, found=found: _score_details(made, path, found))  # type: ignore[misc]
            if said := loud_of(found):
                loud.setdefault(said, []).append(made.name(path))
    blocks: list[Block] = [Text(f"{', '.join(names)}: {said}", "warning") for said, names in loud.items()] + faults
    if rows:
        blocks.append(
            Table(
                "Scores with their ground, per cent.",
                ["Scores", "Part", "Split", "Leaky", *HEADS],
                rows,
                f"In brackets: {100 * LEVEL:g} % intervals, from blocks of ground drawn anew.",
                left=4,
            )
        )
        blocks.append(
            Table(
                "What the scores stand on: size of the ground, and how near it lies to training ground.",
                ["Scores", "Pixels", "Hits", "False alarms", "Misses", "True negatives", "Threshold",
                 "Nearest training ground, least (m)",
                 "Median (m)", "On it (%)", "Near it (%)", "Not scored (%)"],
                audits,
                "Near: less than one training window away, or on it. Not scored: of the part's landslide area.",
            )
        )  # fmt: skip
    return blocks + details + elsewhere


def _transfer(made: Made, path: Path) -> Iterator[Block]:
    """Scores of a model on a site that it was not trained on, and what makes that site unlike its training ground."""
    found, folder = read_json(path), made.name(path.parent)
    for text in found.get("warnings") or []:
        yield Text(f"{folder}/, on another site: {text}.", "warning")
    scored = {name: found[key] for key, name in TRANSFERRED.items() if key in found}
    rows: list[list[Cell]] = []
    for name, one in scored.items():
        shown = cells({score: number(one[score]) for score in SCORES}, between(one))
        shown = [text.replace(", ", ",\u00a0") for text in shown]
        rows.append(
            [name, f"{int(number(one['pixels'])):,}", leakage(one["leaky"]), figure_text(one["threshold"]), *shown]
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


def _read_scores(path: Path, found: dict[str, Any], rows: list[list[Cell]], audits: list[list[Cell]]) -> list[Block]:
    read = read_json(path)
    row = [path.stem, str(read["part"]), str(read["split"]), leakage(read["leaky"])]
    shown = cells({name: number(read[name]) for name in SCORES}, between(read))
    counts, audit = read["confusion"], read.get("audit") or {}
    near = [
        f"{number(audit.get(key)):,.0f}" if audit.get(key) is not None else "-" for key in ("minimum_m", "median_m")
    ]
    near += [
        f"{100 * number(audit.get(key)):.1f}" if audit.get(key) is not None else "-"
        for key in ("share_inside", "share_near")
    ]
    pixels = [f"{int(number(v)):,}" for v in (read["pixels"], *(counts[key] for key in ("tp", "fp", "fn", "tn")))]
    lost = read.get("landslide_share_not_scored")
    audits.append(
        [
            path.stem,
            *pixels,
            figure_text(read["threshold"]),
            *near,
            "-" if lost is None else f"{100 * number(lost):.2f}",
        ]
    )
    rows.append([*row, *(text.replace(", ", ",\u00a0") for text in shown)])
    found.update(read)
    return []


def between(found: Mapping[str, Any]) -> dict[str, tuple[float | None, float | None]]:
    held = found.get("intervals") or {}
    out: dict[str, tuple[float | None, float | None]] = {}
    for name in SCORES:
        low, high = held.get(name, (None, None))
        out[name] = (None if low is None else number(low), None if high is None else number(high))
    return out


def _score_details(made: Made, path: Path, found: Mapping[str, Any]) -> Iterator[Block]:
    notes = [str(note) for note in found.get("notes") or []]
    if notes:
        yield Notes([f"{path.stem}: {note}." for note in notes])
    if found.get("reliability"):
        table = [Reliability(**{key: number(value) for key, value in row.items()}) for row in found["reliability"]]  # type: ignore[arg-type]
        error = percent(found.get("expected_calibration_error"))
        ground_ = "all mapped ground" if found["part"] == "all" else f"the {found['part']} part"
        yield made.drawn(
            f"reliability_{path.stem}.svg",
            lambda out: draw_reliability({path.stem: table}, out, f"Reliability on {ground_}"),
            f"Share of landslide against probability on {ground_}; expected calibration error {error}.",
            f"{path.stem}: how far probabilities can be taken at their word on {ground_}; on the dotted line they can. "
            f"Expected calibration error {error}.",
        )
    if found.get("inventory"):
        scores = _inventory_scores(found["inventory"])
        yield _matched(path.stem, scores)
        if scores.classes:
            yield made.drawn(
                f"areas_{path.stem}.svg",
                lambda out: draw_areas(scores, out),
                "Frequency of landslide areas, map beside reference, and the share found by size.",
                f"{path.stem}: landslide by landslide. Completeness limit (80 % found from it on): "
                + ("none." if math.isnan(scores.completeness_m2) else f"{area_text(scores.completeness_m2)}."),
            )


def _inventory_scores(found: Mapping[str, Any]) -> InventoryScores:
    """Scores of an inventory as a scores file holds them: null is NaN, and the single areas are not kept."""
    plain: dict[str, Any] = dict(found)
    plain["classes"] = [_size_class(row) for row in found["classes"]]
    for name in ("reference_tail", "mapped_tail"):
        plain[name] = Tail(**{key: number(value) for key, value in found[name].items()})  # type: ignore[arg-type]
    for name in ("number_bias", "area_bias", "completeness_m2", "reference_area_m2", "mapped_area_m2"):
        plain[name] = number(found[name])
    plain |= {"reference_areas": np.empty(0), "mapped_areas": np.empty(0), "boundary": []}
    known = {field.name for field in fields(InventoryScores)}
    return InventoryScores(**{key: value for key, value in plain.items() if key in known})


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


def runs_of(path: Path) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = read_json(path)["runs"]
    return runs


def sheet_table(caption: str, sheet: Any) -> list[Block]:
    return [Table(caption, sheet.heads, sheet.rows, sheet.note)] if sheet.rows else []


def comparison(made: Made) -> list[Block]:
    return made.each("comparison", lambda path: _comparison(made, path))


def _comparison(made: Made, path: Path) -> list[Block]:
    def shown() -> Iterator[Block]:
        results = runs_of(path)
        every = summary(results)
        for split in dict.fromkeys(row["split"] for row in every):
            rows = [row for row in every if row["split"] == split]
            if rows[0]["leaky"] is not False:
                yield Text(f"{ground(rows[0])}.", "warning")
            yield from sheet_table(f"{ground(rows[0])} (Tables VII and VIII of the paper).", score_sheet(rows))
            own = [result for result in results if result["split"] == split and "failed" not in result]
            if own:
                yield from sheet_table(f"Split {split}: what the scores stand on.", trust_sheet(own))
        failed = [f"{r['method']}, {r['channels']}, seed {r['seed']}: {r['failed']}" for r in results if "failed" in r]
        if failed:
            yield Text("Some runs failed; the same command tries them again.", "warning")
            yield Notes(failed)

    blocks = made.tried(path, shown)
    for name in PICTURES:
        for drawn in sorted(path.parent.glob(f"{name}_*.png")):
            split = drawn.stem.removeprefix(f"{name}_")
            title = _picture_title(path, name, split) if split in ("apart", "paper", "given") else ""
            if title:
                large = drawn.stat().st_size > MOST_BYTES
                blocks += made.tried(drawn, lambda d=drawn, t=title, p=large: [picture(d, t, t, p)])  # type: ignore[misc]
    return blocks


def _picture_title(path: Path, name: str, split: str) -> str:
    """What a picture of a comparison shows, by the runs that it was made from; "" where another shows all of it."""
    try:
        results = [r for r in runs_of(path) if r["split"] == split and "failed" not in r and r["network"]]
    except DAMAGE:
        results = []  # said already; the pictures are whole all the same
    bands, both = (any((r["channels"] == "bands") == alone for r in results) for alone in (True, False))
    titles = {
        "maps": "Maps on bands, and the last network's on bands and factors" if both else "Maps on bands",
        "maps_factors": "Maps on bands and factors",
        "maps_baselines": "Maps of the pixel baselines",
        "curves": "Learning curves",
    }
    if name == "maps" and both and not bands:
        return ""
    return f"{titles[name]}, split {split}."


def importance(made: Made) -> list[Block]:
    return made.each("importance", lambda path: _importance(made, path))


def _importance(made: Made, path: Path) -> list[Block]:
    def shown() -> Iterator[Block]:
        found = read_json(path)
        by_measure = {m: [s for s in found["scores"] if s["measure"] == m] for m in MEASURES}
        held = {m: scores for m, scores in by_measure.items() if scores}
        panels = {
            MEASURES[m]: [
                Whisker(
                    str(s["factor"]), number(s["estimate"]), number(s["low"]), number(s["high"]), s["effect"],
                    bool(s["unstable"]),
                )
                for s in scores
            ]
            for m, scores in held.items()
            if not m.endswith("_f1")
        }  # fmt: skip
        yield made.drawn(
            f"{path.parent.name}_importance.svg",
            lambda out: draw_ranking(panels, out),
            "Bars of the importance of each factor with intervals: " + "; ".join(panels) + ".",
            "Which factors tell landslides from other ground, with 95 % intervals (Fig. 9 of the paper).",
        )
        for m, scores in held.items():
            rows = [
                [str(s["factor"]).replace("_", " "), "-" if s["rank"] is None else str(s["rank"]),
                 figure_text(s["estimate"]),
                 f"{figure_text(s['low'])} to {figure_text(s['high'])}", _doubts(s)]
                for s in scores
            ]  # fmt: skip
            title = MEASURES[m][0].upper() + MEASURES[m][1:]
            yield Table(f"{title}.", ["Factor", "Rank", "Estimate", "95 % interval", "Doubt"], rows, ends=True)
        yield Notes([f"{note}." for note in found["notes"]])

    return made.tried(path, shown)


def _doubts(score: Mapping[str, Any]) -> str:
    said = ["no effect shown"] if score["effect"] is False else []
    said += ["place unstable"] if score["unstable"] else []
    return ", ".join([*said, *([str(score["note"])] if score.get("note") else [])]) or "-"


def intervals(made: Made) -> list[Block]:
    return made.each("intervals", lambda path: _intervals(made, path))


def _intervals(made: Made, path: Path) -> list[Block]:
    def shown() -> Iterator[Block]:
        found = read_json(path)
        panels: dict[str, list[tuple[str, float, float]]] = {}
        table: list[list[Cell]] = []
        for row in found["rows"]:
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
        mean = number(found["landslides"]) / number(found["pixels"])
        yield made.drawn(
            f"{path.parent.name}_intervals.svg",
            lambda out: draw_intervals(panels, mean, out),
            "Bars of landslide frequency and area share by class of each factor.",
            f"How often landslides lie in each class of a factor; dashed: the site's {percent(mean)} "
            "(Fig. 10 of the paper).",
        )
        heads = ["Factor", "Class", "Pixels", "Of the ground", "Of the landslides", "Frequency", "Ratio"]
        yield Table("Landslides by class of each factor.", heads, table, left=2)
        yield Notes([f"{note}." for note in found["notes"]])

    return made.tried(path, shown)
