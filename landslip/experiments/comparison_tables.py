"""What a comparison shows: scores (Tables VII, VIII), complexity (Table IX), maps (Figs. 7, 8), learning curves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from landslip.dataset.split import worst_leak
from landslip.evaluation.result import HEADS
from landslip.experiments.steps import PROBABILITY
from landslip.experiments.trial_result import TrialResult
from landslip.experiments.trials import COMPARISON, SCORED_PART, Trial, mean_and_deviation, refuse_finished
from landslip.metrics.confusion import SCORES
from landslip.models import NETWORKS
from landslip.plots.curves import draw_curves
from landslip.plots.maps import Panel, draw_panels
from landslip.runtime.atomic import atomic_files
from landslip.runtime.text import csv_table, markdown_table, write_json, write_text

METHOD_TITLES = {name: network.title for name, network in NETWORKS.items()} | {
    "random_forest": "random forest",
    "svm": "SVM",
    "ann": "ANN",
}
COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("Parameters", "parameters", lambda v: f"{v:,.0f}"),
    ("Model file (MiB)", "model_mib", lambda v: f"{v:.1f}"),
    ("MACs, 64 x 64 block (G)", "macs", lambda v: f"{v / 1e9:.3f}"),
    ("Training (s)", "training_seconds", lambda v: f"{v:,.0f}"),
    ("Training, peak memory (MiB)", "training_peak_mib", lambda v: f"{v:,.0f}"),
    ("Training, peak GPU memory (MiB)", "training_peak_gpu_mib", lambda v: f"{v:,.0f}"),
    ("Mapping the site (s)", "mapping_seconds", lambda v: f"{v:,.1f}"),
    ("Mapping, peak memory (MiB)", "mapping_peak_mib", lambda v: f"{v:,.0f}"),
)
COLUMNS = (
    "split", "part", "leaky", "method", "channels", "seed", *SCORES, "threshold", "pixels", "chosen_epoch",
    "training_windows", "parameters", "macs", "model_mib", "training_seconds", "training_peak_mib",
    "training_peak_gpu_mib", "mapping_seconds",
    "mapping_peak_mib", "f1_low", "f1_high", "kappa_low", "kappa_high", "on_training_ground", "near_training_ground",
    "median_distance_m", "failed",
)  # fmt: skip
PICTURES = ("maps", "maps_factors", "maps_baselines", "curves")
INTERVALS = ("f1", "kappa")  # the scores whose intervals are shown
AUDITED = {"share_inside": "on_training_ground", "share_near": "near_training_ground", "median_m": "median_distance_m"}
Results = Sequence[TrialResult]


@dataclass(frozen=True, kw_only=True)
class MethodScores:
    """One method on one choice of channels and one split, over its seeds.

    `runs` of `seeds` runs did not fail. `mean` and `deviation` of each score are over the runs that define it, NaN
    where none does; there are `defined` of them.
    """

    split: str
    method: str
    channels: str
    runs: int
    part: str | None
    leaky: bool | None
    mean: dict[str, float]
    deviation: dict[str, float]
    defined: dict[str, int]
    seeds: int

    def json(self) -> dict[str, object]:
        """The row as comparison.json holds it."""
        row: dict[str, object] = {name: getattr(self, name) for name in ("split", "method", "channels", "runs", "part")}
        row["leaky"] = self.leaky
        for name in SCORES:
            row |= {name: self.mean[name], f"{name}_sd": self.deviation[name], f"{name}_n": self.defined[name]}
        return row | {"seeds": self.seeds}


@dataclass(frozen=True)
class Sheet:
    """A table of a comparison: heads, rows of cells (the best of a column between `**`), and what to know of it."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str

    def text(self) -> str:
        """The table in Markdown with its note."""
        return f"{markdown_table(self.heads, self.rows)}\n\n{self.note}"


def write_comparison(results: Results, prepared: Path, out: Path, overwrite: bool = False) -> str:
    """Write comparison.csv, .json and .md, maps and curves of every split into `out`; returns the tables as text.

    Those of an earlier comparison stay until all are made.
    """
    planned = [_trial_of(result).name for result in results]
    refuse_finished(out / COMPARISON, overwrite, planned)
    text = tables(results)
    plain = [{key: value for key, value in r.json_fields().items() if key != "identity"} for r in results]
    rows = [row.json() for row in summary(results)]
    # Pictures of an earlier, larger comparison would stand beside tables that do not speak of them.
    pictures = [f"{name}_{split}.png" for name in PICTURES for split in SCORED_PART]
    with atomic_files(out, ["comparison.csv", "comparison.md", *pictures, COMPARISON]) as aside:
        write_text(aside / "comparison.csv", _csv(results))
        write_text(aside / "comparison.md", text)
        write_json(aside / COMPARISON, {"runs": plain, "summary": rows, "planned": planned})
        for split in dict.fromkeys(r.split for r in results):
            finished = [r for r in results if r.split == split and r.failed is None]
            _figures(finished, split, prepared, out, aside)
    return text


def tables(results: Results) -> str:
    """The scores of each split in the layout of Tables VII and VIII, then Table IX, as Markdown."""
    parts = []
    for split in dict.fromkeys(r.split for r in results):
        rows = [row for row in summary(results) if row.split == split]
        parts.append(f"## {ground(rows[0])}\n\n{score_sheet(rows).text()}")
        finished = [r for r in results if r.split == split and r.failed is None]
        if finished:
            parts.append(f"### What the scores stand on\n\n{trust_sheet(finished).text()}")
    parts.append(f"## Complexity\n\n{cost_sheet(results).text()}")
    failed = [f"- {_trial_of(r).name}: {r.failed}" for r in results if r.failed is not None]
    if failed:
        parts.append("## Failed\n\nThe same command tries these again.\n\n" + "\n".join(failed))
    return "\n\n".join(parts) + "\n"


def summary(results: Results) -> list[MethodScores]:
    """Mean and standard deviation over seeds of each method on each choice of channels, split by split."""
    rows = []
    for split, channels, method in dict.fromkeys((r.split, r.channels, r.method) for r in results):
        alike = [r for r in results if (r.split, r.channels, r.method) == (split, channels, method)]
        finished = [r for r in alike if r.failed is None]
        both = {name: mean_and_deviation(finished, name) for name in SCORES}
        rows.append(
            MethodScores(
                split=split,
                method=method,
                channels=channels,
                runs=len(finished),
                part=finished[0].part if finished else None,
                leaky=worst_leak(r.leaky for r in finished),
                mean={name: mean for name, (mean, _) in both.items()},
                deviation={name: deviation for name, (_, deviation) in both.items()},
                defined={name: sum(not math.isnan(r.number(name)) for r in finished) for name in SCORES},
                seeds=len(alike),
            )
        )
    return rows


def ground(row: MethodScores) -> str:
    """What the rows of one split of a summary were scored on, and whether that leaks."""
    if row.split == "paper":
        return "Split paper: LEAKY, the whole study area scored, training windows included"
    part = f"the {row.part or 'test'} part"
    if row.leaky:
        return f"Split {row.split}: LEAKY, {part}, which training windows reach into"
    return f"Split {row.split}: {'leaky or not: unknown, ' * (row.leaky is None)}{part}, ground never trained on"


def score_sheet(rows: Sequence[MethodScores]) -> Sheet:
    """The six scores of one split of a summary.

    A mean over fewer seeds than the others says so and is never the best.
    """
    best = {
        name: max((_shown(row.mean[name]) for row in rows if row.defined[name] == row.seeds), default=None)
        for name in SCORES
    }
    lines = []
    for row in rows:
        cells = []
        for name in SCORES:
            mean = row.mean[name]
            text = "undefined" if math.isnan(mean) else f"{_shown(mean):.2f}"
            if not math.isnan(row.deviation[name]):
                text += f" ± {100 * row.deviation[name]:.2f}"
            of_all_seeds = row.defined[name] == row.seeds
            if not of_all_seeds and not math.isnan(mean):
                text += f" ({row.defined[name]} of {row.seeds})"
            cells.append(f"**{text}**" if of_all_seeds and _shown(mean) == best[name] else text)
        lines.append([_title(row.method, row.channels), *cells])
    seeds = max(row.runs for row in rows)
    note = f"Mean ± standard deviation over {seeds} seeds. " if seeds > 1 else "One seed. "
    return Sheet(["Method", *HEADS], lines, f"{note}Bold: the best of its column.")


def trust_sheet(results: Results) -> Sheet:
    """Intervals of each run of a split and how near the scored ground lies to training ground."""
    heads = ["Method", "Seed", "F1-score (%)", "Kappa (%)", "On training ground (%)", "Near it (%)", "Leaky"]
    lines = []
    for result in results:
        spans = [_span(*result.intervals.get(name, (None, None))) for name in INTERVALS]
        near = [(result.audit or {}).get(name) for name in ("share_inside", "share_near")]
        shares = ["-" if share is None or math.isnan(share) else f"{100 * share:.1f}" for share in near]
        leaky = {True: "yes", False: "no", None: "unknown"}[result.leaky]
        lines.append([_title(result.method, result.channels), str(result.seed), *spans, *shares, leaky])
    return Sheet(
        heads,
        lines,
        "95 % intervals of the scored ground, drawn by blocks; they hold no chance in a training. Shares are of "
        "the pixels scored; near: less than a training window away, or on it.",
    )


def cost_sheet(results: Results) -> Sheet:
    """What each method costs (Table IX), of runs that did not fail."""
    finished = [r for r in results if r.failed is None]
    costs = [cost for cost in COSTS if "gpu" not in cost[1] or any(r.number(cost[1]) > 0 for r in finished)]
    lines = []
    for channels, method in dict.fromkeys((r.channels, r.method) for r in finished):
        alike = [r for r in finished if (r.channels, r.method) == (channels, method)]
        means = [(mean_and_deviation(alike, key)[0], text_of) for _, key, text_of in costs]
        lines.append(
            [_title(method, channels), *("-" if math.isnan(value) else text_of(value) for value, text_of in means)]
        )
    heads = ["Method", *(head for head, _, _ in costs)]
    note = (
        "Means over splits and seeds. Memory is that of the whole process at its peak; a network's training seconds "
        "are those of its batches, without validation."
    )
    if any("mapping_seconds" in r.model_fields_set and r.mapping_seconds is None for r in finished):
        note += " A map that was stopped and gone on with has no time."
    machines = {json.dumps(r.machine, sort_keys=True) for r in finished}
    if len(machines) > 1 or len({r.arithmetic for r in finished if r.arithmetic}) > 1:
        note += " NOT COMPARABLE: runs were made on different machines or in different precisions (comparison.json)."
    return Sheet(heads, lines, note)


def _title(method: str, channels: str) -> str:
    """What a table calls a method, and whether it sees factors."""
    name = METHOD_TITLES.get(method, method)
    return name if channels == "bands" else f"{name} + factors"


def _shown(score: float) -> float:
    """A score in per cent with the digits that are shown, by which the best is told."""
    return round(100 * score, 2)


def _span(low: float | None, high: float | None) -> str:
    """An interval of a score as a cell of a table."""
    return "-" if low is None or high is None or math.isnan(low) else f"{_shown(low):.2f} to {_shown(high):.2f}"


def _flat(result: TrialResult) -> dict[str, object]:
    """A result with its intervals and audit as columns."""
    flat: dict[str, object] = result.json_fields()
    for name in INTERVALS:
        flat[f"{name}_low"], flat[f"{name}_high"] = result.intervals.get(name, (None, None))
    return flat | {column: (result.audit or {}).get(name) for name, column in AUDITED.items()}


def _csv(results: Results) -> str:
    """The results as CSV, a row each; a cell is empty where undefined."""
    return csv_table(COLUMNS, map(_flat, results))


def _trial_of(result: TrialResult) -> Trial:
    """The trial that a result is of."""
    return Trial(
        split=result.split,
        method=result.method,
        channels=result.channels,
        seed=result.seed,
        network=result.network,
    )


def _figures(results: Results, split: str, prepared: Path, out: Path, aside: Path) -> None:
    """Draw the maps and learning curves of the first seed of a split into `aside`, from the runs in `out`.

    One picture holds the maps on bands, and the last network's on factors beside them; a second all maps on factors,
    and a third those of the baselines.
    """
    first = [r for r in results if r.seed == min(s.seed for s in results)]
    networks = [r for r in first if r.network]
    bands = [r for r in networks if r.channels == "bands"]
    both = [r for r in networks if r.channels != "bands"]
    leaky = {True: "LEAKY; ", None: "leaky or not: unknown; ", False: ""}[worst_leak(r.leaky for r in results)]
    where = "LEAKY: training windows included" if split == "paper" else f"{leaky}kappa of the test part, framed"
    sets = {
        "maps": bands + both[-1:] if bands else [],
        "maps_factors": both if len(both) > 1 or not bands else [],  # A single one is among the maps on bands.
        "maps_baselines": [r for r in first if not r.network],
    }
    for name, chosen in sets.items():
        if chosen:
            panels = [_panel(r, out) for r in chosen]
            label, stack = prepared / "label.tif", prepared / "stack.tif"
            draw_panels(panels, label, stack, aside / f"{name}_{split}.png", f"Split {split} ({where})")
    if networks:
        names = [f"{METHOD_TITLES.get(r.method, r.method)}, {r.channels}" for r in networks]
        histories = [_trial_of(r).folder(out) / "model" / "history.csv" for r in networks]
        title = f"Split {split}{f' ({leaky[:-2]})' if leaky else ''}, seed {networks[0].seed}"
        draw_curves(dict(zip(names, histories, strict=True)), aside / f"curves_{split}.png", title)


def _panel(result: TrialResult, out: Path) -> Panel:
    """A run's map as a panel of a picture, under its method and kappa."""
    folder = _trial_of(result).folder(out)
    kappa = result.number("kappa")
    text = "undefined" if math.isnan(kappa) else f"{kappa:.3f}"
    title = f"{_title(result.method, result.channels)}: kappa {text}"
    return Panel(title, folder / PROBABILITY, result.number("threshold"), folder / "model" / "split.tif")
