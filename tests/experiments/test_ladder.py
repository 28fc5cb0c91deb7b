"""The ladder: the paper's score, ground kept apart in folds, another site; resumed, and its gaps by hand."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import contents
from conftest import TinySite
from made_up import other_site

from landslip.config.run import Run, read_run
from landslip.dataset.split import TEST
from landslip.errors import ChannelError, OutputError, ResumeError, RunError, SplitError
from landslip.evaluation.evaluate import evaluate
from landslip.experiments import ladder as module
from landslip.experiments import trials as runs
from landslip.experiments.ladder import Rung, ladder, ladder_table, plan_in_words
from landslip.experiments.steps import train_step
from landslip.experiments.trial_result import TrialResult
from landslip.experiments.trials import _make
from landslip.geo.raster import read, read_stored
from landslip.metrics.confusion import SCORES, Confusion
from landslip.training.checkpoint import load_model
from landslip.training.train import train

FAILED = TrialResult(split="apart", method="unet", channels="bands", seed=0, network=True, failed="made to fail")
FOLDS = 2


def chosen(made: TinySite, **split: object) -> Run:
    values = read_run(made.run).model_dump(mode="json")
    values["training"] |= {"epochs": 1, "threshold": 0.3}  # a threshold at which one epoch maps something
    values["split"] |= split
    return Run.model_validate(values)


def here(step: Callable[..., dict], *given: object) -> dict:
    """A step without a process of its own, which takes seconds to start."""
    return step(*given)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (runs, module):
        monkeypatch.setattr(where, "run_in_process", here)


@pytest.fixture(scope="module")
def climbed(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Rung]]:
    out, other = tmp_path_factory.mktemp("ladder") / "out", other_site(made, tmp_path_factory.mktemp("b") / "prepared")
    with pytest.MonkeyPatch.context() as patch:
        for where in (runs, module):
            patch.setattr(where, "run_in_process", here)
        rungs = ladder(chosen(made, folds=FOLDS), made.folder / "prepared", out, elsewhere=[other])
    return out, other, rungs


def fold(out: Path, number: int) -> Path:
    return out / "runs" / "apart" / "fc_densenet" / "chosen" / "0" / f"fold_{number}"


def test_each_rung_says_what_ground_and_whether_it_leaks(climbed: tuple[Path, Path, list[Rung]]) -> None:
    _, other, rungs = climbed
    assert [(r.name, r.scored.leaky) for r in rungs] == [("paper", True), ("apart", False), ("elsewhere", False)]
    assert [r.ground for r in rungs] == [
        "the whole site, training windows included", "the test parts of 2 folds, pooled", f"all of {other}"
    ]  # fmt: skip


def test_the_training_that_is_carried_elsewhere_is_counted_and_checked_with_the_others(
    made: TinySite, climbed: tuple[Path, Path, list[Rung]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    _, other, _ = climbed
    monkeypatch.setattr("landslip.experiments.trials._make", lambda *_, **__: FAILED)
    run, prepared = chosen(made, folds=FOLDS), made.folder / "prepared"
    ladder(run, prepared, tmp_path / "out", elsewhere=[other])
    said = capsys.readouterr()
    said = said.out + said.err
    assert "4 runs, 0 of them finished; 1 other site" in said and "-- run 4/4: " in said
    assert said.count(" runs, 0 of them finished") == 1
    # half done by other choices: refused before any of the four
    whole = tmp_path / "half" / "runs" / "apart" / "fc_densenet" / "chosen" / "0" / "model"
    whole.mkdir(parents=True)
    (whole / "state.safetensors").write_bytes(b"another's")
    monkeypatch.setattr("landslip.experiments.trials._make", lambda *_, **__: pytest.fail("a run was made"))
    with pytest.raises(ResumeError, match=r"state\.safetensors"):
        ladder(run, prepared, tmp_path / "half", elsewhere=[other])


def test_pooled_folds_score_each_pixel_once_by_the_fold_that_tests_it(
    made: TinySite, climbed: tuple[Path, Path, list[Rung]]
) -> None:
    out, _, rungs = climbed
    label, valid = (read_stored(made.folder / "prepared" / f"{name}.tif") for name in ("label", "valid"))
    total = Confusion(0, 0, 0, 0)
    for number in range(FOLDS):
        threshold = load_model(fold(out, number) / "model").threshold
        tested = read_stored(fold(out, number) / "model" / "split.tif") == TEST
        mapped = read(fold(out, number) / "probability.tif")[0] >= threshold
        own = Confusion.from_arrays(mapped, label, tested & (valid == 1))
        assert rungs[1].folds[number]["kappa"] == pytest.approx(own.kappa)
        total += own
    assert rungs[1].scored.confusion == total
    assert (
        rungs[1].scored.pixels == rungs[0].scored.pixels == int((valid == 1).sum())
    )  # the headline's ground, all of it
    own = [json.loads((fold(out, number) / "result.json").read_text()) for number in range(FOLDS)]
    near = sum(r["pixels"] * r["audit"]["share_near"] for r in own) / rungs[1].scored.pixels
    assert rungs[1].scored.audit.share_near == pytest.approx(near) and near > 0
    assert rungs[1].scored.audit.minimum_m == min(r["audit"]["minimum_m"] for r in own)
    assert any(note.startswith(f"{100 * near:.1f} % of the pixels scored lie nearer") for note in rungs[1].scored.notes)
    written = json.loads((out / "ladder.json").read_text())["runs"]
    assert "reliability" in written[0] and "reliability" not in written[1]  # of 1 and 0 there is none
    assert "expected_calibration_error" not in written[1] and written[1]["threshold"] is None
    assert evaluate(out / "folds.tif", made.folder / "prepared" / "label.tif").reliability is None
    kappas = [row["kappa"] for row in rungs[1].folds]
    assert rungs[1].spread["kappa"] == pytest.approx((np.mean(kappas), np.std(kappas, ddof=1)))


def test_the_network_carried_elsewhere_is_that_of_the_undivided_apart_split(
    made: TinySite, climbed: tuple[Path, Path, list[Rung]], tmp_path: Path
) -> None:
    out, other, rungs = climbed
    train(chosen(made), made.folder / "prepared", tmp_path / "model")
    whole = out / "runs" / "apart" / "fc_densenet" / "chosen" / "0" / "model" / "model.safetensors"
    assert whole.read_bytes() == (tmp_path / "model" / "model.safetensors").read_bytes()
    (site,) = (out / "elsewhere").iterdir()
    again = evaluate(site / "probability.tif", other / "label.tif")
    assert rungs[2].scored.confusion == again.confusion


def test_gaps_are_the_rung_less_the_headline(climbed: tuple[Path, Path, list[Rung]]) -> None:
    out, _, rungs = climbed
    with (out / "ladder.csv").open() as file:
        rows = list(csv.DictReader(file))
    for rung, row in zip(rungs, rows, strict=True):
        for name in SCORES:
            score, interval = rung.scored.scores[name], rung.scored.intervals[name]
            assert interval.low <= score <= interval.high
            assert float(row[name]) == pytest.approx(score)
            assert float(row[f"{name}_low"]) == pytest.approx(interval.low)
            if rung is rungs[0]:
                assert row[f"{name}_gap"] == ""
            else:
                assert float(row[f"{name}_gap"]) == pytest.approx(score - rungs[0].scored.scores[name])
    text = (out / "ladder.md").read_text()
    assert text == ladder_table(rungs) + "\n"
    kappa, headline = rungs[1].scored.scores["kappa"], rungs[0].scored.scores["kappa"]
    assert f"{100 * kappa:.2f} [" in text and f"{100 * (kappa - headline):+.2f} |" in text
    assert text.count("LEAKY") == 1
    assert json.loads((out / "ladder.json").read_text())["runs"][1]["gap"]["kappa"] == pytest.approx(kappa - headline)


def test_a_score_that_is_undefined_has_no_gap(climbed: tuple[Path, Path, list[Rung]]) -> None:
    scored = replace(climbed[2][0].scored, notes=[])
    undefined = replace(scored, scores=dict.fromkeys(SCORES, math.nan))
    pair = (("paper", scored), ("apart", undefined))
    rungs = module._with_gaps([Rung(name=name, ground="all", scored=one) for name, one in pair])
    assert set(rungs[1].gap.values()) == {None} and ladder_table(rungs).count("undefined") == 12


def test_a_finished_ladder_is_not_climbed_again_and_another_site_can_be_added(
    made: TinySite, climbed: tuple[Path, Path, list[Rung]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, other, rungs = climbed
    run = chosen(made, folds=FOLDS)
    with pytest.raises(OutputError, match=r"ladder\.json exists already"):
        ladder(run, made.folder / "prepared", out, elsewhere=[other])
    assert json.loads((out / "ladder.json").read_text())["planned"][-1] == os.path.relpath(other, out)
    monkeypatch.chdir(other.parent)
    assert module._seen_from(out, Path(other.name)) == module._seen_from(out, other / "..") + "/" + other.name
    monkeypatch.setattr("landslip.experiments.trials._make", lambda *_, **__: pytest.fail("trained again"))
    mapped: list[Path] = []
    real = module._transfer
    monkeypatch.setattr(module, "_transfer", lambda model, site, *to: (mapped.append(site), real(model, site, *to))[1])
    near = other_site(made, tmp_path / "near", east=0)
    again = ladder(run, made.folder / "prepared", out, elsewhere=[near, other], overwrite=True)
    assert mapped == [near]
    assert str(again[3]) == str(rungs[2]) and again[2].scored.leaky is None
    assert "% of the site lies on ground that the model was trained on" in ladder_table(again)
    assert "does not say whether its split is leaky" not in ladder_table(again)


def test_a_finished_ladder_can_be_planned_and_is_left_as_it_is(
    made: TinySite, climbed: tuple[Path, Path, list[Rung]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, other, _ = climbed
    run, prepared = chosen(made, folds=FOLDS), made.folder / "prepared"
    monkeypatch.setattr("landslip.experiments.trials._forecast", lambda *_: {})
    before = contents(out)
    done, told = plan_in_words(run, prepared, out, [other]).splitlines()
    assert done == "4 runs, 4 of them finished"
    assert told.startswith(f"Without --plan this would be refused: {out / 'ladder.json'} exists already.")
    assert plan_in_words(run, prepared, out, [other], overwrite=True) == done and contents(out) == before
    (tmp_path / "ladder.csv").write_text("somebody's own")
    *_, told = plan_in_words(run, prepared, tmp_path).splitlines()
    assert told.startswith(f"Without --plan this would be refused: {tmp_path / 'ladder.csv'} exists already.")


def test_a_stopped_ladder_goes_on_at_the_rung_it_was_at(
    made: TinySite, climbed: tuple[Path, Path, list[Rung]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = _make, []

    def stops(cell: runs.Trial, *given: object, **named: object) -> dict:
        calls.append(cell.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(cell, *given, **named)

    monkeypatch.setattr("landslip.experiments.trials._make", stops)
    run, prepared, out = chosen(made, folds=FOLDS), made.folder / "prepared", tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        ladder(run, prepared, out)
    rungs = ladder(run, prepared, out)
    assert len(calls) == 4 and calls[1] == calls[2] == "fc_densenet on chosen, split apart, fold 0, seed 0"
    for before, now in zip(climbed[2], rungs, strict=False):
        assert now.scored.confusion == before.scored.confusion


def test_without_folds_the_test_part_is_scored_and_a_failed_rung_does_not_stop_the_others(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = train_step

    def fails(run: Run, *given: object) -> dict:
        if run.split.kind == "paper":
            raise SplitError("made to fail")
        return real(run, *given)  # type: ignore[arg-type]

    monkeypatch.setattr("landslip.experiments.trials.train_step", fails)
    prepared, out = made.folder / "prepared", tmp_path / "out"
    rungs = ladder(chosen(made), prepared, out)
    assert rungs[0].failed == "made to fail" and not rungs[1].gap
    assert "Failed: paper" in (out / "ladder.md").read_text()
    folder = fold(out, 0).parent
    alone = evaluate(folder / "probability.tif", prepared / "label.tif", folder / "model" / "split.tif", "test")
    assert rungs[1].scored.confusion == alone.confusion and rungs[1].ground == "the test part"
    monkeypatch.setattr("landslip.experiments.trials.train_step", real)
    again = ladder(chosen(made), prepared, out)  # no --overwrite: what failed is tried again
    kappas = [rung.scored.scores["kappa"] for rung in again]
    assert again[1].gap["kappa"] == pytest.approx(kappas[1] - kappas[0])


def test_what_cannot_run_is_refused_before_any_training(made: TinySite, tmp_path: Path) -> None:
    prepared, out = made.folder / "prepared", tmp_path / "out"
    with pytest.raises(RunError, match='kind is "given", and a ladder divides the site by itself'):
        ladder(chosen(made, kind="given"), prepared, out)
    with pytest.raises(SplitError, match=r"\[split\] folds = 99 need one each"):
        ladder(chosen(made, folds=99), prepared, out)
    with pytest.raises(ChannelError, match=r"lacks slope: the network of .* was trained on"):
        ladder(chosen(made), prepared, out, elsewhere=[other_site(made, tmp_path / "flat", without="slope")])
    with pytest.raises(RunError, match="is the site that is trained on, not another"):
        ladder(chosen(made), prepared, out, elsewhere=[prepared])
    assert not out.exists()
