"""A model on all ground takes its epochs and its threshold from folds, and their scores are what is said of it."""

import json
import shutil
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from command import command
from conftest import SHAPE, TinySite
from scipy.special import expit, logit

from landslip.config.run import Run, read_run
from landslip.errors import LandslipError, RunError
from landslip.experiments.ladder import ladder
from landslip.geo.grid import Window
from landslip.geo.raster import read_stored
from landslip.metrics.calibration import fit_platt
from landslip.metrics.confusion import Histogram
from landslip.runtime.text import read_json
from landslip.training.calibrate import calibrate
from landslip.training.checkpoint import load_model
from landslip.training.ensemble import make_ensemble
from landslip.training.folds import ladders_of, read_folds
from landslip.training.train import train

CHOICES = {"split.folds": 2, "training.epochs": 4}
STATED = {"split.kind": "all", "training.choose": "last", "training.threshold": 0.3}


@pytest.fixture(scope="module")
def folds(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ladder of two folds, whose models were changed to have chosen epochs 1 and 3."""
    out = tmp_path_factory.mktemp("folds") / "ladder"
    ladder(read_run(made.run, CHOICES), made.folder / "prepared", out)
    for fold, (epoch, threshold) in enumerate([(1, 0.25), (3, 0.5)]):
        path = next(out.glob(f"runs/apart/*/*/*/fold_{fold}/model/model.json"))
        facts = read_json(path)
        path.write_text(json.dumps({**facts, "chosen_epoch": epoch, "threshold": threshold}))
    return out


def run_of(made: TinySite, **overrides: object) -> Run:
    return read_run(made.run, {**CHOICES, **{key.replace("__", "."): value for key, value in overrides.items()}})


def test_all_ground_is_trained_on_for_what_the_folds_chose(made: TinySite, folds: Path, tmp_path: Path) -> None:
    prepared = made.folder / "prepared"
    facts = train(run_of(made, training__seed=5), prepared, tmp_path / "m", folds=folds)
    model = load_model(tmp_path / "m")
    assert (facts["chosen_epoch"], model.threshold) == (median([1, 3]), median([0.25, 0.5])) == (2, 0.375)
    assert (read_stored(tmp_path / "m" / "split.tif") == 1).all()
    assert facts["run"]["training"]["epochs"] == 4 and facts["run"]["training"]["end"] == 2
    apart = load_model(next(folds.glob("runs/apart/*/*/*/fold_0/model"))).facts
    assert facts["training_windows"] > apart["training_windows"]
    rung = next(rung for rung in read_json(folds / "ladder.json")["runs"] if rung["rung"] == "apart")
    assert facts["folds"]["scores"]["kappa"] == rung["kappa"] and facts["folds"]["thresholds"] == [0.25, 0.5]
    assert set(facts["folds"]["intervals"]) == set(facts["folds"]["scores"])
    told = command("info", tmp_path / "m").out
    assert f"folds       2, pooled: f1 {rung['f1']:.4f}, kappa {rung['kappa']:.4f}" in told
    assert "validation" not in told
    rows = (tmp_path / "m" / "history.csv").read_text().splitlines()
    assert len(rows) == 3
    # A run stated in full is the same training, without folds.
    stated = run_of(made, **{"training__seed": 5, "training__end": 2, "split__folds": 1, **STATED})
    train(stated, prepared, tmp_path / "stated")
    assert (tmp_path / "stated" / "model.safetensors").read_bytes() == (tmp_path / "m/model.safetensors").read_bytes()


def test_training_that_ends_early_is_where_the_longer_one_was(made: TinySite, tmp_path: Path) -> None:
    prepared = made.folder / "prepared"
    two = {"training.choose": "last", "training.average": 0.0}
    train(read_run(made.run, {**two, "training.end": 2}), prepared, tmp_path / "two")
    rows = [(made.folder / "model" / "history.csv").read_text(), (tmp_path / "two" / "history.csv").read_text()]
    rates = [[line.split(",")[2] for line in text.splitlines()] for text in rows]
    assert rates[1] == rates[0][:3] and len(rates[0]) == 4  # the head and the schedule's rates


def test_the_command_and_the_report_say_what_to_expect(made: TinySite, folds: Path, tmp_path: Path) -> None:
    settings = [item for key, value in CHOICES.items() for item in ("--set", f"{key}={value}")]
    model = tmp_path / "model"
    done = command("train", made.run, made.folder / "prepared", model, *settings, "--folds", folds)
    assert done.code == 0 and "trained on all ground for 2 epochs; on ground apart its 2 folds have kappa" in done.out
    assert "validation" not in done.err
    again = command("train", made.run, made.folder / "prepared", model, *settings, "--folds", folds)
    assert again.code == 2 and "--overwrite" in again.err
    assert command("report", tmp_path, tmp_path / "report.html").code == 0
    page = (tmp_path / "report.html").read_text()
    assert "2 folds, pooled" in page and "0.375, the median of the folds" in page


def refused(call: object, error: type[LandslipError] = RunError) -> str:
    with pytest.raises(error) as caught:
        call()  # type: ignore[operator]
    return str(caught.value)


def test_folds_that_do_not_go_with_the_run(made: TinySite, folds: Path, tmp_path: Path) -> None:
    prepared, out = made.folder / "prepared", tmp_path / "m"
    said = refused(lambda: train(run_of(made, training__batch=8), prepared, out, folds=folds))
    assert "[training] batch = 4" in said and "says 8" in said and str(folds) in said
    said = refused(lambda: train(run_of(made, augmentation__drop=0.1), prepared, out, folds=folds))
    assert "[augmentation] drop = 0.0" in said
    shutil.copytree(prepared, tmp_path / "prepared")
    label = tmp_path / "prepared" / "label.tif"
    label.write_bytes(label.read_bytes() + b"\0")
    said = refused(lambda: train(run_of(made), tmp_path / "prepared", out, folds=folds))
    assert "another label.tif" in said
    assert not out.exists() or not list(out.glob("*.json"))


def test_folders_that_hold_no_folds(made: TinySite, folds: Path, tmp_path: Path) -> None:
    assert "holds no ladder.json" in refused(lambda: read_folds(tmp_path))
    shutil.copytree(folds, tmp_path / "part")
    shutil.rmtree(next((tmp_path / "part").glob("runs/apart/*/*/*/fold_1")))
    said = refused(lambda: read_folds(tmp_path / "part"))
    assert "the models of 1 fold, and ladder.json names 2" in said and "it goes on" in said
    content = read_json(folds / "ladder.json")
    for rung in content["runs"]:
        rung.pop("folds", None)
    (tmp_path / "part" / "ladder.json").write_text(json.dumps(content))
    assert "holds no finished folds" in refused(lambda: read_folds(tmp_path / "part"))


def test_all_ground_without_folds_is_refused_with_both_remedies(made: TinySite, tmp_path: Path) -> None:
    done = command("train", made.run, made.folder / "prepared", tmp_path / "m", "--set", "split.kind=all")
    assert done.code == 2
    assert 'choose = "best"' in done.err and "threshold = 'kappa'" in done.err and "--folds LADDER/" in done.err
    said = refused(lambda: ladder(read_run(made.run, STATED), made.folder / "prepared", tmp_path / "l"))
    assert 'kind is "all"' in said and '"apart"' in said


def test_weights_that_are_no_longer_finite_are_seen_without_validation(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from landslip.training import loop

    def spoilt(state: loop.State, decay: float) -> None:
        for tensor in state.averaged.values():
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)

    monkeypatch.setattr(loop, "_average_weights", spoilt)
    with pytest.raises(LandslipError, match="no longer finite"):
        train(read_run(made.run, STATED), made.folder / "prepared", tmp_path / "m")
    assert np.all([not (tmp_path / "m" / name).exists() for name in ("model.json", "model.safetensors")])


@pytest.fixture(scope="module")
def on_all_ground(made: TinySite, folds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model on all ground, after the folds."""
    out = tmp_path_factory.mktemp("all") / "model"
    train(run_of(made, training__seed=5), made.folder / "prepared", out, folds=folds)
    return out


def test_calibration_by_the_maps_of_the_folds(made: TinySite, folds: Path, on_all_ground: Path, tmp_path: Path) -> None:
    prepared = made.folder / "prepared"
    done = calibrate(on_all_ground, prepared, tmp_path / "c", "f1", folds=[folds])
    # By hand: each pixel from the fold whose test part it lies in.
    label, valid = read_stored(prepared / "label.tif"), read_stored(prepared / "valid.tif") == 1
    p = np.full(label.shape, np.nan)
    for folder in folds.glob("runs/apart/*/*/*/fold_*"):
        tested = read_stored(folder / "model" / "split.tif") == 3
        p[tested] = read_stored(folder / "probability.tif").astype(float)[tested]
    scored = ~np.isnan(p) & valid & (label != 255)
    z = logit(np.clip(p[scored], 1e-7, 1 - 1e-7)).astype(np.float32)
    assert done.scaling == pytest.approx(fit_platt(z, label[scored] == 1), rel=1e-6)
    assert done.facts["pixels"] == scored.sum() and done.facts["part"] == "the test parts of the folds"
    model = load_model(tmp_path / "c")
    assert (model.scaling, model.threshold) == (done.scaling, done.threshold)
    assert model.facts["folds"] == load_model(on_all_ground).facts["folds"]
    counted = Histogram.from_arrays(
        expit(z / done.scaling.temperature + done.scaling.bias).astype(np.float32), label[scored], np.ones(len(z), bool)
    )
    assert done.threshold == pytest.approx(counted.best_threshold("f1"), abs=0.002)
    assert "saw all ground" in done.facts["notes"][0]


def test_members_of_an_ensemble_are_calibrated_by_their_own_folds(
    made: TinySite, folds: Path, on_all_ground: Path, tmp_path: Path
) -> None:
    prepared, other = made.folder / "prepared", tmp_path / "ladder"
    narrow = run_of(made, network__options={"layers": [1, 1, 1], "first_width": 4, "growth_rate": 4})
    ladder(narrow, prepared, other)
    train(narrow, prepared, tmp_path / "narrow", folds=other)
    train(run_of(made, training__seed=6), prepared, tmp_path / "again", folds=folds)
    make_ensemble([on_all_ground, tmp_path / "again", tmp_path / "narrow"], tmp_path / "e")
    ensemble = load_model(tmp_path / "e")
    read = [read_folds(folds), read_folds(other)]
    assert ladders_of(ensemble, read) == {read[0]: 2, read[1]: 1}
    done = calibrate(tmp_path / "e", prepared, tmp_path / "c", folds=[folds, other])
    everywhere = Window(0, 0, *SHAPE)
    z = (2 * read[0].logits(everywhere) + read[1].logits(everywhere)) / 3
    label = read_stored(prepared / "label.tif")
    scored = (read_stored(folds / "folds_split.tif") == 3) & (read_stored(prepared / "valid.tif") == 1)
    assert done.scaling == pytest.approx(fit_platt(z[scored], label[scored] == 1), rel=1e-5)
    said = refused(lambda: calibrate(tmp_path / "e", prepared, tmp_path / "x", folds=[folds]))
    assert "member 3 of" in said and "other folds than those of" in said
    said = refused(lambda: calibrate(on_all_ground, prepared, tmp_path / "x", folds=[folds, other]))
    assert "Leave it out" in said and str(other) in said
    assert "in its folds" in command("info", tmp_path / "e").out


def test_calibrations_that_folds_cannot_give(made: TinySite, folds: Path, on_all_ground: Path, tmp_path: Path) -> None:
    prepared = made.folder / "prepared"
    said = refused(lambda: calibrate(made.folder / "model", prepared, tmp_path / "x", folds=[folds]))
    assert "was trained after no folds" in said
    said = refused(lambda: calibrate(on_all_ground, prepared, tmp_path / "x", "miss", folds=[folds]))
    assert "Choose by f1 or kappa" in said
    done = command("calibrate", on_all_ground, prepared, tmp_path / "x")
    assert done.code == 2 and "--folds LADDER/" in done.err
    shutil.copytree(prepared, tmp_path / "prepared")
    label = tmp_path / "prepared" / "label.tif"
    label.write_bytes(label.read_bytes() + b"\0")
    said = refused(lambda: calibrate(on_all_ground, tmp_path / "prepared", tmp_path / "x", folds=[folds]))
    assert "another label.tif" in said
    assert not (tmp_path / "x").exists()
