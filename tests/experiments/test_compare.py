"""The comparison: one grid of runs on the same ground, resumed, reported, and told apart from a leaky one."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import contents
from conftest import TinySite
from safetensors.torch import save

from landslip.config.run import Run, read_run
from landslip.dataset.blocks import Blocks
from landslip.dataset.training_data import input_hashes
from landslip.errors import ChannelError, OutputError, ResumeError, RunError, SplitError
from landslip.evaluation.evaluate import evaluate
from landslip.experiments import comparison_tables
from landslip.experiments.compare import compare, plan, plan_in_words
from landslip.experiments.comparison_tables import summary, tables, write_comparison
from landslip.experiments.steps import _macs
from landslip.experiments.trial_result import TrialResult
from landslip.experiments.trials import Trial, _kept, _make, _seconds, _time_left, mean_and_deviation
from landslip.geo.grid import Window
from landslip.geo.raster import read_stored
from landslip.inference import mapping
from landslip.metrics.confusion import SCORES
from landslip.models import build_model
from landslip.models.layers import macs
from landslip.training import train as training
from landslip.training.train import identity_of

TINY = {"layers": [1, 1, 1], "first_width": 8, "growth_rate": 4}


def chosen(made: TinySite, **choices: object) -> Run:
    values = read_run(made.run).model_dump(mode="json")
    values["training"]["epochs"] = 1
    values["blocks"]["background"] = 0.5
    values["compare"] = {"networks": ["fc_densenet"], "baselines": [], "splits": ["apart"], **choices}
    return Run.model_validate(values)


def test_the_plan_is_the_whole_grid_split_by_split() -> None:
    run = Run.model_validate({"compare": {"seeds": 2}, "training": {"seed": 5}})
    cells = plan(run)
    assert len(cells) == len(set(cells)) == 2 * 2 * 2 * (5 + 3)
    assert [c.split for c in cells] == ["apart"] * 32 + ["paper"] * 32
    assert {c.seed for c in cells} == {5, 6}
    assert len({c.folder(Path("out")) for c in cells}) == len(cells)


def test_a_cell_changes_network_channels_split_and_seed_and_nothing_else() -> None:
    run = Run.model_validate({"network": {"name": "fc_densenet", "options": TINY}, "split": {"seed": 3}})
    bands = Trial(split="paper", method="unet", channels="bands", seed=7, network=True).run(run)
    both = Trial(split="paper", method="fc_densenet", channels="bands + factors", seed=7, network=True).run(run)
    assert (bands.network.name, bands.network.options, bands.channels.factors) == ("unet", {}, "none")
    assert (both.network.options, both.channels.factors) == (TINY, "all")
    for cell in (bands, both):
        assert (cell.split.kind, cell.split.seed, cell.training.seed) == ("paper", 3, 7)
        assert cell.blocks == run.blocks
        assert cell.training.model_copy(update={"seed": 0, "learning_rate": None}) == run.training
    assert (bands.training.rate, both.training.rate) == (2e-4, 2e-3)  # no rate was given: each its own
    given = run.model_copy(update={"training": run.training.model_copy(update={"learning_rate": 0.5})})
    assert Trial(split="paper", method="unet", channels="bands", seed=7, network=True).run(given).training.rate == 0.5


@pytest.fixture(scope="module")
def compared(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path, list[TrialResult]]:
    """Two networks and a baseline on both channels, both splits."""
    out = tmp_path_factory.mktemp("compare") / "out"
    run = chosen(
        made, networks=["fcn8s", "fc_densenet"], baselines=["random_forest"], splits=["apart", "paper"],
        options={"fc_densenet": TINY},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("landslip.experiments.trials.run_in_process", here)
        results = compare(run, made.folder / "prepared", out)
    write_comparison(results, made.folder / "prepared", out)
    return run, out, results


def here(step: Callable[..., dict], *given: object) -> dict:
    """A step without a process of its own, which takes seconds to start."""
    return step(*given)


def test_every_run_has_its_scores_and_what_it_cost(
    compared: tuple[Run, Path, list[TrialResult]], made: TinySite
) -> None:
    run, out, results = compared
    assert len(results) == len(plan(run)) == 12 and not any(r.failed for r in results)
    for cell, result in zip(plan(run), results, strict=True):
        folder = cell.folder(out)
        part = "test" if cell.split == "apart" else "all"
        alone = evaluate(
            folder / "probability.tif", made.folder / "prepared" / "label.tif", folder / "model" / "split.tif", part
        )
        assert {k: result.number(k) for k in alone.scores} == pytest.approx(alone.scores, nan_ok=True)
        assert result.leaky is (cell.split == "paper")
        kappa = alone.intervals["kappa"]
        assert result.intervals["kappa"] == pytest.approx([kappa.low, kappa.high], nan_ok=True)
        assert alone.audit is not None and result.audit["share_near"] == alone.audit.share_near
        assert result.training_peak_mib > 50 and result.training_seconds > 0 and result.mapping_seconds > 0
    networks = [r for r in results if r.method == "fcn8s"]
    assert {r.parameters for r in networks if r.channels == "bands"} == {6_300_549}  # Table IX, seven channels
    assert {r.macs for r in networks if r.channels == "bands"} == {391_938_048}


def test_all_methods_stand_on_the_same_ground(compared: tuple[Run, Path, list[TrialResult]]) -> None:
    run, out, results = compared
    for split in ("apart", "paper"):
        cells = [c for c in plan(run) if c.split == split]
        parts = [read_stored(c.folder(out) / "model" / "split.tif") for c in cells]
        assert all((p == parts[0]).all() for p in parts)
        assert len({r.training_windows for r in results if r.split == split}) == 1
        assert len({r.pixels for r in results if r.split == split}) == 1
    models = [
        json.loads((c.folder(out) / "model" / "model.json").read_text())
        for c in plan(run)
        if c.network and c.split == "apart" and c.channels == "bands"
    ]
    assert models[0]["mean"] == models[1]["mean"] and models[0]["std"] == models[1]["std"]


def test_every_network_sees_the_windows_in_one_order(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[Window]] = {"fcn8s": [], "unet": []}
    cut = Blocks.cut
    for name, windows in seen.items():
        monkeypatch.setattr(Blocks, "cut", lambda self, w, windows=windows: windows.append(w) or cut(self, w))
        run = read_run(made.run, {"network.name": name, "network.options": {}, "training.epochs": 2})
        training.train(run, made.folder / "prepared", tmp_path / name)
    assert len(seen["unet"]) > 2 * 30 and seen["unet"] == seen["fcn8s"]


def test_tables_name_the_split_and_mark_the_best(compared: tuple[Run, Path, list[TrialResult]]) -> None:
    _, out, results = compared
    text = tables(results)
    assert text == (out / "comparison.md").read_text()
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads == [
        "## Split apart: the test part, ground never trained on",
        "## Split paper: LEAKY, the whole study area scored, training windows included",
        "## Complexity",
    ]
    apart = text.split("## ")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in apart.splitlines() if line[:2] == "| "]
    assert [row[0] for row in rows[1:]] == [
        "FCN-8s", "FC-DenseNet", "random forest",
        "FCN-8s + factors", "FC-DenseNet + factors", "random forest + factors",
    ]  # fmt: skip
    kappas = [row[5] for row in rows[1:]]
    numbers = [float(k.strip("*")) for k in kappas if k != "undefined"]
    assert [float(k.strip("*")) for k in kappas if k.startswith("**")] == [max(numbers)] * numbers.count(max(numbers))


def test_tables_say_what_the_scores_stand_on(compared: tuple[Run, Path, list[TrialResult]]) -> None:
    _, out, results = compared
    tables_of = [text.split("\n## ")[0] for text in (out / "comparison.md").read_text().split("### What ")[1:]]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for text in tables_of
        for line in text.splitlines()
        if line[:2] == "| " and "Leaky" not in line
    ]
    assert len(rows) == len(results) == 12
    for row, result in zip(rows, results, strict=True):
        low, high = result.intervals["f1"]
        assert row[2] == ("-" if low is None or math.isnan(low) else f"{100 * low:.2f} to {100 * high:.2f}")
        assert row[4:6] == [f"{100 * result.audit[name]:.1f}" for name in ("share_inside", "share_near")]
        assert row[6] == {"apart": "no", "paper": "yes"}[result.split]
    # paper scores its training windows, apart none of them
    assert all((float(row[4]) > 5) is (row[6] == "yes") for row in rows)
    columns = next(csv.DictReader((out / "comparison.csv").open()))
    assert float(columns["near_training_ground"]) == results[0].audit["share_near"]
    assert float(columns["kappa_high"]) == pytest.approx(results[0].intervals["kappa"][1])


def test_the_csv_holds_every_run(compared: tuple[Run, Path, list[TrialResult]]) -> None:
    _, out, results = compared
    with (out / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["method"], row["channels"]) for row in rows] == [
        (r.split, r.method, r.channels) for r in results
    ]
    for row, result in zip(rows, results, strict=True):
        kappa = result.kappa
        assert row["kappa"] == "" if kappa is None or math.isnan(kappa) else float(row["kappa"]) == pytest.approx(kappa)
    for name in (
        "maps_apart",
        "maps_paper",
        "maps_factors_apart",
        "maps_baselines_paper",
        "curves_apart",
        "curves_paper",
    ):
        assert (out / f"{name}.png").stat().st_size > 10_000


def test_no_map_is_shown_twice_nor_under_a_title_of_what_was_not_run(
    compared: tuple[Run, Path, list[TrialResult]], made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, results = compared
    drawn: dict[str, list[str]] = {}

    def draw(panels: Any, label: Path, stack: Path, out: Path, title: str) -> None:
        drawn[out.stem] = [panel.title.partition(":")[0] for panel in panels]

    monkeypatch.setattr(comparison_tables, "draw_panels", draw)
    monkeypatch.setattr(comparison_tables, "draw_curves", lambda *_: None)
    networks = [r for r in results if r.network and r.split == "apart"]
    names = list(dict.fromkeys(r.method for r in networks))
    titles = [comparison_tables.METHOD_TITLES[name] for name in names]
    for chosen_, expected in (
        (networks, {"maps_apart": [*titles, f"{titles[-1]} + factors"], "maps_factors_apart": titles}),
        ([r for r in networks if r.channels != "bands"], {"maps_factors_apart": titles}),
        ([r for r in networks if r.method == names[0]], {"maps_apart": [titles[0], f"{titles[0]} + factors"]}),
    ):
        drawn.clear()
        write_comparison(chosen_, made.folder / "prepared", tmp_path / str(len(chosen_)), overwrite=True)
        assert list(drawn) == list(expected)
        for name, held in expected.items():
            factors = [f"{title} + factors" for title in held] if name == "maps_factors_apart" else held
            assert drawn[name] == factors


def test_finished_runs_are_not_made_again(
    compared: tuple[Run, Path, list[TrialResult]], made: TinySite, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out, results = compared
    monkeypatch.setattr("landslip.experiments.trials._make", lambda *_, **__: pytest.fail("made again"))
    with pytest.raises(OutputError, match="exists already"):
        compare(run, made.folder / "prepared", out)
    again = compare(run, made.folder / "prepared", out, overwrite=True)
    assert [r.pixels for r in again] == [r.pixels for r in results]
    changed = run.model_copy(update={"training": run.training.model_copy(update={"batch": 2})})
    (out / "comparison.json").rename(out / "aside.json")
    try:
        with pytest.raises(ResumeError, match=r"\[training\] batch was 4 and is 2"):
            compare(changed, made.folder / "prepared", out)
    finally:
        (out / "aside.json").rename(out / "comparison.json")


def test_a_finished_comparison_can_be_planned_and_is_left_as_it_is(
    compared: tuple[Run, Path, list[TrialResult]], made: TinySite, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out, _ = compared
    monkeypatch.setattr("landslip.experiments.trials._forecast", lambda *_: {})
    prepared, before = made.folder / "prepared", contents(out)
    done, told = plan_in_words(run, prepared, out).splitlines()
    assert done == "12 runs, 12 of them finished"
    assert told.startswith(f"Without --plan this would be refused: {out / 'comparison.json'} exists already.")
    assert plan_in_words(run, prepared, out, overwrite=True) == done
    changed = run.model_copy(update={"training": run.training.model_copy(update={"batch": 2})})
    todo, _, told = plan_in_words(changed, prepared, out).splitlines()
    assert todo == "12 runs, 0 of them finished" and told.startswith("Without --plan this would be refused: ")
    aside = out.with_name("aside.json")
    (out / "comparison.json").rename(aside)
    try:  # the runs of a comparison that was stopped
        *_, told = plan_in_words(changed, prepared, out).splitlines()
    finally:
        aside.rename(out / "comparison.json")
    assert told.startswith("Without --plan this would be refused: ") and "[training] batch was 4 and is 2" in told
    assert contents(out) == before


def test_a_stopped_comparison_goes_on(made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = chosen(made, channels=["bands"], seeds=2, baselines=["ann"])
    real, calls = _make, []

    def stops(cell: Trial, *given: object, **named: object) -> dict:
        calls.append(cell)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(cell, *given, **named)

    monkeypatch.setattr("landslip.experiments.trials._make", stops)
    monkeypatch.setattr("landslip.experiments.trials.run_in_process", here)
    with pytest.raises(KeyboardInterrupt):
        compare(run, made.folder / "prepared", tmp_path / "out")
    first = tmp_path / "out" / "runs" / "apart" / "fc_densenet" / "bands" / "0" / "model" / "model.safetensors"
    before = first.stat().st_mtime_ns
    results = compare(run, made.folder / "prepared", tmp_path / "out")
    assert [c.name for c in calls[3:]] == [c.name for c in plan(run)[2:]]
    assert first.stat().st_mtime_ns == before and len(results) == 4
    rows = {row.method: row for row in summary(results)}
    pair = [r.kappa for r in results if r.method == "fc_densenet"]
    assert rows["fc_densenet"].runs == 2
    assert rows["fc_densenet"].mean["kappa"] == pytest.approx(np.mean(pair))
    assert rows["fc_densenet"].deviation["kappa"] == pytest.approx(np.std(pair, ddof=1))


def test_a_half_done_run_of_other_choices_is_refused_before_any_run(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = chosen(made, channels=["bands"], baselines=[], networks=["fc_densenet", "unet"])
    cells, out = plan(run), tmp_path / "out"
    hashes = input_hashes(cells[1].run(run), made.folder / "prepared")
    other = json.loads(identity_of(cells[1].run(run), hashes))
    other["run"]["training"]["batch"] = 3
    model = cells[1].folder(out) / "model"
    model.mkdir(parents=True)
    kept = {"landslip": json.dumps({"identity": json.dumps(other)})}
    (model / "state.safetensors").write_bytes(save({"x": torch.zeros(1)}, kept))
    monkeypatch.setattr("landslip.experiments.trials._make", lambda *_, **__: pytest.fail("a run was made"))
    with pytest.raises(ResumeError, match=r"unet.*\[training\] batch was 3 and is 4"):
        compare(run, made.folder / "prepared", out)


def test_a_stopped_comparison_of_other_choices_is_refused_and_the_original_goes_on(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landslip.experiments.trials.run_in_process", here)
    run = chosen(made, channels=["bands"], options={"fc_densenet": TINY})
    prepared, out, (cell,) = made.folder / "prepared", tmp_path / "out", plan(run)
    keep = training.keep

    def pull(*given: object) -> None:
        keep(*given)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "keep", pull)
        with pytest.raises(KeyboardInterrupt):
            compare(run, prepared, out)
    other = run.model_copy(update={"training": run.training.model_copy(update={"batch": run.training.batch + 1})})
    with monkeypatch.context() as patch:
        patch.setattr("landslip.experiments.trials._make", lambda *_, **__: pytest.fail("a run was made"))
        with pytest.raises(ResumeError, match=r"\[training\] batch was"):
            compare(other, prepared, out)
    # what only says that a run of other choices failed does not stand in the way
    failed = {"split": "apart", "method": "fc_densenet", "channels": "bands", "seed": 0, "network": True}
    failed |= {"identity": {"run": {"other": 1}, "inputs": {}}, "failed": "made to fail"}
    (cell.folder(out) / "result.json").write_text(json.dumps(failed))
    (result,) = compare(run, prepared, out)
    assert result.failed is None and result.chosen_epoch == 1
    (cell.folder(out) / "result.json").write_text(json.dumps(failed))
    with pytest.raises(ResumeError, match="holds a model of other inputs or choices"):
        compare(other, prepared, out)


@pytest.mark.parametrize("baseline", [False, True])
def test_scores_do_not_outlive_the_map_they_are_of(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, baseline: bool
) -> None:
    """A comparison of other choices that replaces one, is stopped between a map and its scores, and given up."""
    monkeypatch.setattr("landslip.experiments.trials.run_in_process", here)
    choices = {"networks": [], "baselines": ["random_forest"]} if baseline else {"options": {"fc_densenet": TINY}}
    run, prepared, out = chosen(made, channels=["bands"], **choices), made.folder / "prepared", tmp_path / "out"
    (first,) = compare(run, prepared, out)
    (cell,) = plan(run)
    made_of = [cell.folder(out) / name for name in ("model/split.tif", "probability.tif")]
    before = [path.read_bytes() for path in made_of]

    def pull(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    other = run.model_copy(update={"split": run.split.model_copy(update={"seed": run.split.seed + 1})})
    with monkeypatch.context() as patch:
        patch.setattr("landslip.experiments.trials.evaluate", pull)
        with pytest.raises(KeyboardInterrupt):
            compare(other, prepared, out, overwrite=True)
    assert made_of[0].read_bytes() != before[0]
    (again,) = compare(run, prepared, out, overwrite=True)
    assert again.kappa == first.kappa and [path.read_bytes() for path in made_of] == before


def test_a_baseline_whose_fit_is_given_up_keeps_its_scores(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landslip.experiments.trials.run_in_process", here)
    run = chosen(made, channels=["bands"], networks=[], baselines=["random_forest"])
    prepared, out = made.folder / "prepared", tmp_path / "out"
    first = compare(run, prepared, out)

    def pull(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    other = run.model_copy(update={"split": run.split.model_copy(update={"seed": run.split.seed + 1})})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("landslip.experiments.steps.fit_baseline", pull)
        compare(other, prepared, out, overwrite=True)
    monkeypatch.setattr("landslip.experiments.steps.fit_baseline", lambda *_: pytest.fail("fitted again"))
    assert compare(run, prepared, out)[0].kappa == first[0].kappa


def test_a_failed_run_lets_only_the_same_comparison_be_written_again(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landslip.experiments.trials.run_in_process", here)
    both = chosen(made, channels=["bands"], baselines=["random_forest"])
    both = both.model_copy(update={"training": both.training.model_copy(update={"learning_rate": 1e30, "epochs": 2})})
    prepared, out = made.folder / "prepared", tmp_path / "out"
    results = compare(both, prepared, out)
    assert [result.failed is not None for result in results] == [True, False]
    write_comparison(results, prepared, out)
    fewer = both.model_copy(update={"compare": both.compare.model_copy(update={"baselines": ()})})
    with pytest.raises(OutputError, match="exists already"):
        compare(fewer, prepared, out)
    with pytest.raises(OutputError, match="exists already"):
        write_comparison(results[:1], prepared, out)
    assert len(compare(both, prepared, out)) == 2


@pytest.mark.parametrize("error", [ResumeError, OutputError])
def test_what_lies_in_a_folder_is_no_failure_of_a_run(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuses(*_: object) -> dict:
        raise error("made to refuse")

    monkeypatch.setattr("landslip.experiments.trials.run_in_process", refuses)
    run = chosen(made, channels=["bands"])
    with pytest.raises(error, match="made to refuse"):
        compare(run, made.folder / "prepared", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("result.json"))


def test_times_of_two_machines_or_precisions_are_not_put_side_by_side(
    compared: tuple[Run, Path, list[TrialResult]],
) -> None:
    _, _, results = compared
    networks = [r for r in results if r.network]
    assert "NOT COMPARABLE" not in tables(networks) and "GPU" not in tables(networks)
    networks[0] = networks[0].model_copy(update={"machine": {**networks[0].machine, "threads": 99}})
    assert "NOT COMPARABLE" in tables(networks)
    networks[0] = networks[1].model_copy(update={"arithmetic": "bf16", "training_peak_gpu_mib": 512.0})
    assert "NOT COMPARABLE" in tables(networks) and "GPU memory" in tables(networks)


def test_a_map_that_was_lost_is_made_again_without_training(made: TinySite, tmp_path: Path) -> None:
    run = chosen(made, channels=["bands"])
    out = tmp_path / "out"
    compare(run, made.folder / "prepared", out)
    folder = plan(run)[0].folder(out)
    weights = folder / "model" / "model.safetensors"
    before, mapped = weights.stat().st_mtime_ns, (folder / "probability.tif").read_bytes()
    (folder / "result.json").unlink()
    (folder / "probability.tif").unlink()
    compare(run, made.folder / "prepared", out)
    assert weights.stat().st_mtime_ns == before and (folder / "probability.tif").read_bytes() == mapped


def test_a_map_that_was_stopped_and_gone_on_with_has_no_time(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("landslip.experiments.trials.run_in_process", here)
    run, out = chosen(made, channels=["bands"], options={"fc_densenet": TINY}), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(mapping, "_assemble", pull)  # all windows are finished and the map is not
        with pytest.raises(KeyboardInterrupt):
            compare(run, made.folder / "prepared", out)
    (result,) = compare(run, made.folder / "prepared", out)
    # what was left took a moment, which is not the time that mapping the site takes
    assert result.mapping_seconds is None and result.mapping_peak_mib > 50
    text = write_comparison([result], made.folder / "prepared", out)
    cells = [cell.strip() for cell in text.split("## Complexity")[1].splitlines()[4].strip("|").split("|")]
    assert cells[0] == "FC-DenseNet" and cells[-2] == "-" and cells[-1] != "-"
    assert "A map that was stopped and gone on with has no time." in text
    assert next(csv.DictReader((out / "comparison.csv").open()))["mapping_seconds"] == ""


def test_a_network_too_deep_for_a_block_of_64_has_no_macs() -> None:
    small = {"first_width": 8, "growth_rate": 4}
    assert _macs(build_model("fc_densenet", 3, layers=[1] * 15, **small), 3) is None  # seven poolings: 128
    shallow = build_model("fc_densenet", 3, layers=[1] * 13, **small)
    assert _macs(shallow, 3) == macs(shallow, 3)


def test_the_time_left_counts_whole_runs(compared: tuple[Run, Path, list[TrialResult]]) -> None:
    run, _, results = compared
    cells = plan(run)[:4]
    assert all(r.seconds > r.training_seconds + r.mapping_seconds for r in results)
    steps = results[0].model_copy(update={"training_seconds": 20.0, "mapping_seconds": 10.0})
    # 100 s with validation and scores; gone on with, so that its 5 s are the least of it; no time in all
    changes = ({"seconds": 100.0}, {"seconds": 5.0, "mapping_seconds": None}, {"seconds": None})
    made = [*(steps.model_copy(update=change) for change in changes), None]
    known = _seconds(cells, made)
    assert [seconds for _, seconds in known] == [100.0, 20.0, 30.0]
    assert _time_left([cells[0]], known[:1]) == "about 1 min 40 s left for all"


@pytest.mark.parametrize(
    ("split", "leaky", "said"),
    [
        ("apart", False, "Split apart (kappa of the test part, framed)"),
        ("given", True, "Split given (LEAKY; kappa of the test part, framed)"),
        ("given", None, "Split given (leaky or not: unknown; kappa of the test part, framed)"),
        ("paper", True, "Split paper (LEAKY: training windows included)"),
    ],
)
def test_pictures_say_what_was_scored_and_whether_it_leaks(
    compared: tuple[Run, Path, list[TrialResult]],
    monkeypatch: pytest.MonkeyPatch,
    split: str,
    leaky: bool | None,
    said: str,
) -> None:
    _, out, results = compared
    titles: list[str] = []
    monkeypatch.setattr(comparison_tables, "draw_panels", lambda *given: titles.append(given[4]))
    monkeypatch.setattr(comparison_tables, "draw_curves", lambda *given: titles.append(given[2]))
    rows = [r.model_copy(update={"split": split, "leaky": leaky}) for r in results if r.split == "apart"]
    comparison_tables._figures(rows, split, Path("prepared"), out, out)
    assert titles[:3] == [said] * 3
    words = {True: " (LEAKY)", None: " (leaky or not: unknown)", False: ""}[leaky]
    assert titles[3:] == [f"Split {split}{words}, seed 0"]


def test_one_failed_run_does_not_stop_the_others(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landslip.experiments.trials.run_in_process", here)
    run = chosen(made, channels=["bands"], baselines=["random_forest"])
    run = run.model_copy(update={"training": run.training.model_copy(update={"learning_rate": 1e30, "epochs": 2})})
    results = compare(run, made.folder / "prepared", tmp_path / "out")
    assert "the loss is" in results[0].failed and results[1].failed is None
    stale = tmp_path / "out" / "curves_paper.png"
    stale.touch()
    text = write_comparison(results, made.folder / "prepared", tmp_path / "out")
    assert not stale.exists()  # of an earlier, larger grid
    assert "## Failed" in text and "fc_densenet on bands, split apart, seed 0: the loss is" in text
    assert "| FC-DenseNet   |    undefined |" in text
    again = compare(run, made.folder / "prepared", tmp_path / "out")  # the same command tries it again, as Failed says
    assert "the loss is" in again[0].failed
    write_comparison(again, made.folder / "prepared", tmp_path / "out")


def test_an_earlier_comparison_stays_until_all_of_the_new_one_is_made(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("landslip.experiments.trials.run_in_process", here)
    prepared, out = made.folder / "prepared", tmp_path / "out"
    results = compare(chosen(made, channels=["bands"]), prepared, out)
    write_comparison(results, prepared, out)
    stale = out / "curves_paper.png"
    stale.touch()

    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}

    before = contents()
    tables_and_maps = {"comparison.csv", "comparison.json", "comparison.md", "maps_apart.png"}
    assert set(before) == {*tables_and_maps, "curves_apart.png", "curves_paper.png"}
    other = [results[0].model_copy(update={"kappa": 0.1234})]

    def full(*_: object) -> None:
        raise OutputError("No space left")

    with monkeypatch.context() as changed:
        changed.setattr(comparison_tables, "draw_curves", full)
        with pytest.raises(OutputError):
            write_comparison(other, prepared, out, overwrite=True)
    assert contents() == before

    def failing(path: Path, missing_ok: bool = False) -> None:
        if path == stale:
            raise OSError(errno.EIO, "Input/output error", str(path))
        unlink(path, missing_ok)

    unlink = Path.unlink
    with monkeypatch.context() as changed:
        changed.setattr(Path, "unlink", failing)
        write_comparison(other, prepared, out, overwrite=True)
    assert (
        "curves_paper.png is of earlier results and cannot be removed (Input/output error)" in capsys.readouterr().err
    )
    assert contents().keys() == before.keys() and contents()["comparison.json"] != before["comparison.json"]
    (out / "maps_apart.png").unlink()
    (out / "maps_apart.png").mkdir()
    (out / "maps_apart.png" / "mine").touch()
    between = contents()
    with pytest.raises(OutputError, match=r"maps_apart\.png is a folder"):
        write_comparison(results, prepared, out, overwrite=True)
    assert contents() == between
    shutil.rmtree(out / "maps_apart.png")
    write_comparison(other, prepared, out, overwrite=True)
    after = contents()
    assert after.keys() == before.keys() - {"curves_paper.png"} and not (out / ".part").exists()
    assert {name for name in after if after[name] != before[name]} == tables_and_maps


def test_a_mean_over_fewer_seeds_says_so_and_is_not_the_best() -> None:
    common = {"split": "apart", "channels": "bands", "network": True, "part": "test", "leaky": False}
    rows = [
        TrialResult.model_validate(common | dict.fromkeys(SCORES, value) | {"method": method, "seed": seed})
        for method, seed, value in (("unet", 0, 0.5), ("unet", 1, 0.6), ("segnet", 0, 0.9))
    ]
    rows.append(TrialResult.model_validate(common | {"method": "segnet", "seed": 1, "failed": "killed"}))
    lines = tables(rows).splitlines()
    unet, segnet = (next(line for line in lines if line.startswith(f"| {name}")) for name in ("U-Net", "SegNet"))
    assert unet.count("**55.00 ± 7.07**") == 6
    assert segnet.count("90.00 (1 of 2)") == 6 and "*" not in segnet
    rows[0] = rows[0].model_copy(update={"precision": None})  # nothing was mapped with this seed
    assert "60.00 (1 of 2)" in tables(rows)


def test_a_finished_model_of_another_run_is_not_replaced_unasked(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landslip.experiments.trials.run_in_process", here)
    run, out = chosen(made, channels=["bands"]), tmp_path / "out"
    (first,) = compare(run, made.folder / "prepared", out)
    folder = plan(run)[0].folder(out)
    (folder / "result.json").unlink()  # killed while mapping
    before = (folder / "model" / "model.safetensors").read_bytes()
    changed = run.model_copy(update={"training": run.training.model_copy(update={"batch": 2})})
    with pytest.raises(ResumeError, match="holds a model of other inputs or choices"):
        compare(changed, made.folder / "prepared", out)
    assert (folder / "model" / "model.safetensors").read_bytes() == before
    # --overwrite makes it again, also where it was stopped between the two files of the new model
    (folder / "model" / "model.safetensors").write_bytes(b"new")
    (made_again,) = compare(run, made.folder / "prepared", out, overwrite=True)
    assert made_again.failed is None and made_again.kappa == first.kappa


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals of POSIX")
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])  # what ends the largest process may send either
def test_a_process_that_is_killed_is_one_clear_failure(made: TinySite, tmp_path: Path, stop: int) -> None:
    run = chosen(made, channels=["bands"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("landslip.experiments.trials.train_step", partial(_killed, stop))
        results = compare(run, made.folder / "prepared", tmp_path / "out")
    assert "was killed" in results[0].failed
    assert compare(run, made.folder / "prepared", tmp_path / "out")[0].failed is None


def _killed(stop: int, *_: object) -> dict:
    os.kill(os.getpid(), stop)
    return {}


def test_want_of_memory_is_one_failed_run(made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = chosen(made, channels=["bands"])
    for step in (_too_big, _too_big_for_numpy):
        monkeypatch.setattr("landslip.experiments.trials.train_step", step)
        results = compare(run, made.folder / "prepared", tmp_path / "out")
        assert "not enough memory" in results[0].failed


def _too_big(*_: object) -> dict:
    torch.empty(2**60)
    return {}


def _too_big_for_numpy(*_: object) -> dict:
    np.empty(2**58)
    return {}


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals of POSIX")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_step_ends_with_the_comparison_that_was_stopped(tmp_path: Path, name: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, pathlib, signal, time\n"
        "from landslip.experiments.isolated import run_in_process\n"
        "def step():\n"
        "    pathlib.Path('pid').write_text(str(os.getpid()))\n"
        "    time.sleep(120)\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    run_in_process(step)\n"
    )
    stopped = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        assert _within(60, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        step = int((tmp_path / "pid").read_text())
        stopped.send_signal(getattr(signal, name))  # to it alone, not to the step
        assert _within(20, lambda: stopped.poll() is not None)
        assert _within(20, lambda: not _lives(step))
    finally:
        stopped.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals of POSIX")
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_comparison_and_its_step_that_are_stopped_together_leave_nothing(
    tmp_path: Path, stop: signal.Signals
) -> None:
    """As a queue or systemd ends a whole group of processes, and a terminal does with Ctrl-C."""
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, signal, time\n"
        "from landslip.cli import main as cli\n"
        "from landslip.experiments.isolated import run_in_process\n"
        "from landslip.runtime.atomic import atomic_folder\n"
        "def step():\n"
        "    with atomic_folder(pathlib.Path('new')):\n"
        "        pathlib.Path('begun').touch()\n"
        "        time.sleep(120)\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    cli.app = lambda: run_in_process(step)\n"
        "    cli.main()\n"
    )
    words = [sys.executable, str(script)]
    stopped = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert _within(60, (tmp_path / "begun").exists)
        os.killpg(stopped.pid, stop)
        said = stopped.communicate(timeout=30)[1]
    finally:
        stopped.kill()
    assert stopped.returncode == 128 + stop and "landslip: stopped." in said
    assert {path.name for path in tmp_path.iterdir()} == {"script.py", "begun"}


def _within(seconds: float, done: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.1)
    return done()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")  # dead, but nobody has asked for its exit code yet
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_what_cannot_run_is_refused_before_any_training(made: TinySite, tmp_path: Path) -> None:
    prepared, out = made.folder / "prepared", tmp_path / "out"
    with pytest.raises(RunError, match="'unett' is no network: did you mean unet"):
        compare(chosen(made, networks=["unett"]), prepared, out)
    with pytest.raises(RunError, match="'forest' is no baseline"):
        compare(chosen(made, baselines=["forest"]), prepared, out)
    with pytest.raises(SplitError, match=r"window = 48 must be a multiple of 32 for fcn8s"):
        run = chosen(made, networks=["fc_densenet", "fcn8s"], options={"fc_densenet": TINY})
        compare(run.model_copy(update={"blocks": run.blocks.model_copy(update={"window": 48})}), prepared, out)
    with pytest.raises(RunError, match="names segnet, which is not among the networks"):
        compare(chosen(made, options={"segnet": {}}), prepared, out)
    with pytest.raises(ChannelError, match="holds no factor"):
        run = chosen(made)
        compare(run.model_copy(update={"channels": run.channels.model_copy(update={"factors": "none"})}), prepared, out)
    with pytest.raises(RunError, match="names a run twice: fc_densenet on bands, split apart, seed 0"):
        compare(chosen(made, networks=["fc_densenet", "fc_densenet"]), prepared, out)
    with pytest.raises(RunError, match=r'kind is "given" and \[compare\] splits are apart'):
        run = chosen(made)
        compare(run.model_copy(update={"split": run.split.model_copy(update={"kind": "given"})}), prepared, out)
    with pytest.raises(RunError, match="names no run"):
        compare(chosen(made, networks=[]), prepared, out)
    assert not out.exists()


def test_spread_by_hand() -> None:
    one = TrialResult(split="apart", method="unet", channels="bands", seed=0, network=True)
    rows = [one.model_copy(update={"kappa": kappa}) for kappa in (0.5, 0.7, None, math.nan)]
    assert mean_and_deviation(rows, "kappa") == pytest.approx((0.6, math.sqrt(0.02)))
    assert mean_and_deviation(rows[:1], "kappa") == (0.5, pytest.approx(math.nan, nan_ok=True))
    assert all(math.isnan(v) for v in mean_and_deviation([], "kappa"))


def test_splits_of_one_kind_have_inputs_of_their_own(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a corrected folder carries the parts of a model, which the undivided split takes and folds do not
    run = read_run(made.run, {"split.folds": 2})
    fold = Trial(split="apart", method="fc_densenet", channels="chosen", seed=0, network=True, fold=0)
    cells = [fold, replace(fold, fold=None, undivided=True)]
    monkeypatch.setattr(
        "landslip.experiments.trials.input_hashes", lambda chosen, _: {"folds": str(chosen.split.folds)}
    )
    identities, _ = _kept(cells, run, made.folder / "prepared", tmp_path, False)
    assert [one["inputs"] for one in identities] == [
        {"folds": str(cell.run(run).split.folds)} for cell in cells
    ] and identities[0]["inputs"] != identities[1]["inputs"]  # fmt: skip
