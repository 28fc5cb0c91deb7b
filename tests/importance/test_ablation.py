"""Training anew without a factor: differences by closed form, what a training leaves out, budgets and resuming."""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import command
from conftest import RUN, SHAPE
from made_up import factor, write_prepared

import landslip.importance.ablation
import landslip.importance.impurity
from landslip.config.run import read_run
from landslip.dataset.channels import Channel
from landslip.errors import ModelError, OutputError, ResumeError, RunError
from landslip.evaluation.evaluate import evaluate
from landslip.geo.geotiff import write_raster
from landslip.geo.raster import read_info, read_stored
from landslip.importance.ablation import ALL_FACTORS, ANOTHER_SEED, Ablation, Budget, drops, plan_ablation
from landslip.importance.importance import importance
from landslip.training.checkpoint import load_model
from landslip.training.train import train

# ---- differences ----


def test_drops_by_closed_form() -> None:
    # Without an error kappa and F1 are 1. Half of each class mapped rightly: kappa 0, F1 0.5. So it is in every block,
    # and in whatever blocks are drawn.
    right, half = np.array([[50, 0, 0, 50]] * 4), np.array([[25, 25, 25, 25]] * 4)
    scores, blocks = drops({ALL_FACTORS: right, ANOTHER_SEED: right, "without slope": half}, 0)
    found = {(s.measure, s.factor): s for s in scores}
    assert blocks == 4 and len(found) == 4
    kappa, f1 = found["ablation_kappa", "slope"], found["ablation_f1", "slope"]
    assert (kappa.estimate, kappa.low, kappa.high, kappa.effect, kappa.kind) == (1, 1, 1, True, "factor")
    assert (f1.estimate, f1.low, f1.high, f1.effect) == (0.5, 0.5, 0.5, True)
    again = found["ablation_kappa", ANOTHER_SEED]
    assert (again.estimate, again.effect, again.kind) == (0, False, "seed")


def test_the_same_blocks_are_drawn_for_both() -> None:
    # what differs from block to block and not between the two trainings falls out
    rng = np.random.default_rng(0)
    table = rng.integers(1, 100, (12, 4)) * rng.integers(1, 50, (12, 1))
    scores, _ = drops({ALL_FACTORS: table, ANOTHER_SEED: table, "without slope": table}, 0)
    assert all((s.estimate, s.low, s.high) == (0, 0, 0) for s in scores)


def test_blocks_without_a_scored_pixel_are_no_blocks() -> None:
    table = np.array([[5, 1, 1, 9], [0, 0, 0, 0], [4, 0, 2, 8]])
    _, blocks = drops({ALL_FACTORS: table, ANOTHER_SEED: table, "without slope": table}, 0)
    assert blocks == 2


def test_a_drop_no_larger_than_another_seeds_is_no_effect() -> None:
    right, half = np.array([[50, 0, 0, 50]] * 4), np.array([[25, 25, 25, 25]] * 4)
    scores, _ = drops({ALL_FACTORS: right, ANOTHER_SEED: half, "without slope": half}, 0)
    assert [s.effect for s in scores] == [False] * 4


# ---- a site where one factor tells all ----


@dataclass(frozen=True)
class Told:
    prepared: Path
    model: Path
    label: np.ndarray


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """`slope` is steep where landslides are; of two rocks, drawn pixel by pixel, neither says anything."""
    folder = tmp_path_factory.mktemp("told")
    rng = np.random.default_rng(3)
    label = np.zeros(SHAPE, bool)
    for row in range(4, SHAPE[0] - 12, 16):
        for column in range(4, SHAPE[1] - 12, 16):
            label[row : row + int(rng.integers(5, 9)), column : column + int(rng.integers(5, 9))] = True
    soft = rng.random(SHAPE) < 0.5
    planes = {
        Channel("lithology_soft", "lithology", "factor", "", "class"): soft,
        factor("slope", "degree"): 20 + 20 * label + rng.normal(0, 4, SHAPE),
        Channel("lithology_hard", "lithology", "factor", "", "class"): ~soft,
    }
    prepared = write_prepared(folder / "prepared", planes, label)
    (folder / "run.toml").write_text(RUN)
    train(read_run(folder / "run.toml"), prepared, folder / "model")
    return Told(prepared, folder / "model", label)


def planned(told: Told, **budget: Any) -> Ablation:
    return plan_ablation(load_model(told.model), told.prepared, Budget(**budget))


def test_what_tells_all_is_missed_and_a_stopped_run_goes_on(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landslip.importance.impurity, "TREES", 5)
    monkeypatch.setattr(landslip.importance.impurity, "CUTS", 5)
    prepared, model, out = told.prepared, told.model, tmp_path / "out"
    calls: list[str] = []

    def stops(run: Any, prepared: Path, folder: Path, overwrite: bool) -> None:
        calls.append(folder.parent.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        train(run, prepared, folder, overwrite)

    monkeypatch.setattr(landslip.importance.ablation, "train", stops)
    with pytest.raises(KeyboardInterrupt):
        importance(prepared, out, model, repeats=2, block=16, sample=500, budget=Budget(epochs=2))
    assert not (out / "importance.json").exists()
    made_now = importance(prepared, out, model, repeats=2, block=16, sample=500, budget=Budget(epochs=2))
    assert calls == ["all_factors", "another_seed", *["without_lithology"] * 2, "without_slope"]  # in the stack's order

    folders = {name: out / "ablation" / name for name in calls}
    facts = {name: json.loads((folder / "model" / "model.json").read_text()) for name, folder in folders.items()}
    seen = {name: [c["factor"] for c in fact["channels"]] for name, fact in facts.items()}
    assert seen["all_factors"] == seen["another_seed"] == ["lithology", "slope", "lithology"]
    assert seen["without_lithology"] == ["slope"] and seen["without_slope"] == ["lithology", "lithology"]
    given = json.loads((model / "model.json").read_text())["run"]
    for name, fact in facts.items():
        changed = {(t, k) for t, own in fact["run"].items() for k, value in own.items() if value != given[t][k]}
        own = {"all_factors": set(), "another_seed": {("training", "seed")}}.get(name, {("channels", "factors")})
        assert changed == own | {("training", "epochs")}, name
    parts = [read_stored(folder / "split.tif") for folder in (model, *(f / "model" for f in folders.values()))]
    assert all((part == parts[0]).all() for part in parts)
    assert len({fact["training_windows"] for fact in facts.values()}) == 1

    # by another way: each map scored as `landslip evaluate` scores it
    alone = {
        name: evaluate(f / "probability.tif", prepared / "label.tif", model / "split.tif", "test").scores
        for name, f in folders.items()
    }
    found = {(s.measure, s.factor): s for s in made_now.scores}
    for name in ("slope", "lithology"):
        for score in ("kappa", "f1"):
            drop = alone["all_factors"][score] - alone[f"without_{name}"][score]
            assert found[f"ablation_{score}", name].estimate == pytest.approx(drop, nan_ok=True)
    slope = found["ablation_kappa", "slope"]
    assert slope.estimate > 0.3 and slope.low > 0 and slope.effect and slope.rank == 1
    assert found["ablation_kappa", "another seed"].rank is None
    notes = " ".join(made_now.notes)
    assert "4 trainings of 2 epochs" in notes and "on the test part" in notes and "LEAKY" not in notes
    assert (out / "importance.png").stat().st_size > 5000

    # nothing is made again, and other choices are refused
    with pytest.raises(OutputError, match="exists already"):
        importance(prepared, out, model, repeats=2, block=16, sample=500, budget=Budget(epochs=2))
    importance(prepared, out, model, repeats=2, block=16, sample=500, overwrite=True, budget=Budget(epochs=2))
    assert len(calls) == 5
    (out / "importance.csv").unlink(), (out / "importance.json").unlink(), (out / "importance.png").unlink()
    with pytest.raises(OutputError, match=r"model\.json exists already"):
        importance(prepared, out, model, repeats=2, block=16, sample=500, budget=Budget(epochs=1))


# ---- budgets ----


def test_a_budget_is_shared_and_measured_once(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 4 trainings; an epoch takes 10 s and mapping 2 s. One minute: 60 - 12 for measuring leaves 12 s each, 10 of them
    # to train. Two minutes: 27 s each, 25 to train, two epochs. An hour buys more than the model's own three.
    measured: list[int] = []
    monkeypatch.setattr(landslip.importance.ablation, "_measured", lambda *_: measured.append(1) or (10.0, 2.0))
    for minutes, epochs in ((1, 1), (2, 2), (60, 3)):
        got, note = landslip.importance.ablation._epochs(planned(told, minutes=minutes), tmp_path / str(minutes), False)
        assert got == epochs and f"bought by {minutes} minutes" in note
    assert landslip.importance.ablation._epochs(planned(told, minutes=2), tmp_path / "2", False)[0] == 2
    assert len(measured) == 3  # a plan that is there is kept: a share measured anew would make other trainings
    with pytest.raises(ResumeError, match="budget of 2 minutes, not 1"):
        landslip.importance.ablation._epochs(planned(told, minutes=1), tmp_path / "2", False)
    assert landslip.importance.ablation._epochs(planned(told, minutes=1), tmp_path / "2", True)[0] == 1
    with pytest.raises(RunError, match=r"one epoch for each of 4 trainings, which takes about \d+ minutes\."):
        landslip.importance.ablation._epochs(planned(told, minutes=0.9), tmp_path / "little", False)


def test_a_probe_measures_and_leaves_nothing(told: Told, tmp_path: Path) -> None:
    run = planned(told, minutes=1).trainings[ALL_FACTORS]
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "half").touch()  # of a run that was stopped
    training, mapping = landslip.importance.ablation._measured(run, told.prepared, tmp_path / "probe")
    assert training > 0 and mapping > 0 and not (tmp_path / "probe").exists()


# ---- bad input ----


def test_bad_input_is_refused_before_any_work(told: Told, tmp_path: Path) -> None:
    prepared = told.prepared
    for budget in ({}, {"epochs": 1, "minutes": 1.0}):
        with pytest.raises(RunError, match="give --epochs or --budget"):
            planned(told, **budget)
    for budget in ({"epochs": 0}, {"minutes": 0.0}, {"minutes": float("nan")}):
        with pytest.raises(RunError, match="train nothing"):
            planned(told, **budget)
    changed = shutil.copytree(prepared, tmp_path / "changed")
    info = read_info(changed / "valid.tif")
    write_raster(
        changed / "valid.tif", np.eye(*info.grid.shape, dtype=np.uint8)[None], info.grid, ["valid"], overwrite=True
    )
    with pytest.raises(ModelError, match=r"other files than valid\.tif"):
        plan_ablation(load_model(told.model), changed, Budget(epochs=1))
    one = load_model(told.model)
    one = dataclasses.replace(one, channels=one.channels[1:2])
    with pytest.raises(RunError, match="sees slope, so that nothing can be left out"):
        plan_ablation(one, prepared, Budget(epochs=1))
    with pytest.raises(RunError, match="sees no factor"):
        plan_ablation(dataclasses.replace(one, channels=()), prepared, Budget(epochs=1))
    outcome = command("importance", prepared, tmp_path / "o", "--epochs", "1")
    assert outcome.code == 2 and "give --model too" in outcome.err and not (tmp_path / "o").exists()
