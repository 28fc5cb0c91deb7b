"""A calibrated model maps as it was calibrated, and keeps its promise on the very ground it was made for."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import command
from conftest import SHAPE, TinySite, rewrite_split
from numpy.typing import NDArray
from scipy.special import expit, logit

import landslip.training.calibrate
import landslip.training.checkpoint
from landslip.errors import LabelError, ModelError, OutputError, RunError, SplitError
from landslip.geo.raster import read_info, read_stored
from landslip.importance.permutation import held_out
from landslip.importance.sampling import read_prepared_info
from landslip.inference.mapping import map_site
from landslip.metrics.confusion import Histogram
from landslip.models.forward import logits, probabilities, scaled
from landslip.models.scaling import AS_LEARNT, Scaling
from landslip.runtime.disk import file_hash
from landslip.training.calibrate import calibrate, calibration_table
from landslip.training.checkpoint import load_model, split_of
from landslip.training.training_pixels import pixels_of_prepared

PIECES = 12


def pieces() -> NDArray[np.uint8]:
    """Twelve pieces of validation ground, 24 pixels a side and 8 apart, over training ground."""
    parts = np.ones(SHAPE, np.uint8)
    for i in range(PIECES):
        row, column = 32 * (i // 6) + 4, 32 * (i % 6) + 4
        parts[row : row + 24, column : column + 24] = 2
    return parts


@pytest.fixture
def model(made: TinySite, tmp_path: Path) -> Path:
    """The tiny model with a split of twelve pieces."""
    shutil.copytree(made.folder / "model", tmp_path / "model")
    rewrite(tmp_path / "model", pieces())
    return tmp_path / "model"


def rewrite(folder: Path, parts: NDArray[np.uint8], leaky: str = "no", guard: str = "4") -> None:
    rewrite_split(folder, parts, {"split": "apart", "leaky": leaky, "guard": guard})


def mapped(folder: Path, made: TinySite, out: Path) -> NDArray[np.float32]:
    map_site(load_model(folder), made.folder / "prepared" / "stack.tif", out, overwrite=True)
    return read_stored(out)


def test_the_map_of_a_calibrated_model(made: TinySite, model: Path, tmp_path: Path) -> None:
    prepared, out = made.folder / "prepared", tmp_path / "out"
    done = calibrate(model, prepared, out, "kappa")
    before, after = mapped(model, made, tmp_path / "p.tif"), mapped(out, made, tmp_path / "q.tif")
    clear = (before > 1e-4) & (before < 1 - 1e-4)  # beyond, float32 has lost the logit
    temperature, bias = done.scaling
    np.testing.assert_allclose(after[clear], expit(logit(before[clear].astype(float)) / temperature + bias), atol=1e-4)
    assert temperature != 1 and abs(bias) > 0.05
    assert not {"temperature", "bias"} & set(read_info(tmp_path / "p.tif").tags)
    tags = read_info(tmp_path / "q.tif").tags
    assert Scaling(float(tags["temperature"]), float(tags["bias"])) == done.scaling

    part = (pieces() == 2) & (read_stored(prepared / "valid.tif") == 1)
    found = Histogram.from_arrays(after, read_stored(prepared / "label.tif"), part)
    assert done.threshold == found.best_threshold("kappa") == load_model(out).threshold
    assert done.facts["scores"] == found.confusion(done.threshold).scores()
    assert done.facts["pixels"] == found.landslide.sum() + found.other.sum()
    first, second = done.facts["log_loss"]
    assert second < first


def test_what_is_written(made: TinySite, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = calibrate(model, made.folder / "prepared", out)
    for name in ("model.safetensors", "split.tif", "history.csv"):
        assert (out / name).read_bytes() == (model / name).read_bytes()
    old, new = (json.loads((folder / "model.json").read_text()) for folder in (model, out))
    assert (new["temperature"], new["bias"]) == done.scaling == load_model(out).scaling
    said = new["calibration"]
    assert said["threshold_chosen"] == {"by": "kappa"} and said["part"] == "the validation part"
    assert (said["temperature_before"], said["bias_before"]) == (1, 0)
    assert new["validation"]["validation_f1"] == new["calibration"]["scores"]["f1"]
    changed = {"temperature", "bias", "threshold", "validation", "calibration"}
    assert {k: v for k, v in new.items() if k not in changed} == {k: v for k, v in old.items() if k not in changed}
    # once more: from the logits, whatever temperature the model had
    again = calibrate(out, made.folder / "prepared", tmp_path / "again")
    assert again.scaling == done.scaling
    assert (again.facts["temperature_before"], again.facts["bias_before"]) == done.scaling
    assert again.facts["log_loss"][0] == again.facts["log_loss"][1]
    for target in (model, out):
        with pytest.raises(OutputError):
            calibrate(model, made.folder / "prepared", target)
    calibrate(model, made.folder / "prepared", out, overwrite=True)


def test_a_killed_calibration_is_made_again_by_the_same_command(
    made: TinySite, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, out = made.folder / "prepared", tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(landslip.training.checkpoint, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            calibrate(model, prepared, out)
    assert {path.name for path in out.iterdir()} == {
        "split.tif", "history.csv", "training_pixels.safetensors", "model.safetensors"
    }  # fmt: skip
    (out / "history.csv").write_text("half")
    done = calibrate(model, prepared, out)
    assert load_model(out).scaling == done.scaling
    assert (out / "history.csv").read_bytes() == (model / "history.csv").read_bytes()
    with pytest.raises(OutputError, match="cannot be its output"):
        calibrate(model, prepared, prepared)


def test_training_pixels_of_another_model_are_not_copied(made: TinySite, model: Path, tmp_path: Path) -> None:
    pixels = model / "training_pixels.safetensors"
    for harm in (lambda: pixels.write_bytes(pixels.read_bytes()[:-8]), pixels.unlink):
        harm()
        with pytest.raises(ModelError, match=r"training_pixels\.safetensors.*[Cc]opy"):
            calibrate(model, made.folder / "prepared", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_of_which_nothing_is_known_chooses_by_f1(made: TinySite, model: Path, tmp_path: Path) -> None:
    facts = json.loads((model / "model.json").read_text())
    facts["run"]["training"] = 0.5
    (model / "model.json").write_text(json.dumps(facts))
    done = calibrate(model, made.folder / "prepared", tmp_path / "out")
    assert done.facts["threshold_chosen"] == {"by": "f1"}


@pytest.mark.parametrize(("trained", "by"), [("kappa", "kappa"), ("f1", "f1"), (0.4, "f1"), ("later", "f1")])
def test_a_threshold_is_chosen_as_in_training(
    made: TinySite, model: Path, tmp_path: Path, trained: object, by: str
) -> None:
    facts = json.loads((model / "model.json").read_text())
    facts["run"]["training"]["threshold"] = trained
    (model / "model.json").write_text(json.dumps(facts))
    done = calibrate(model, made.folder / "prepared", tmp_path / "out")
    assert done.facts["threshold_chosen"] == {"by": by}


def test_a_promise_is_kept_in_its_regions(made: TinySite, model: Path, tmp_path: Path) -> None:
    prepared, out, most = made.folder / "prepared", tmp_path / "out", 0.15
    done = calibrate(model, prepared, out, "miss", most)
    p = mapped(out, made, tmp_path / "p.tif")
    landslide = (read_stored(prepared / "label.tif") == 1) & (read_stored(prepared / "valid.tif") == 1)
    held = []
    for i in range(PIECES):
        row, column = 32 * (i // 6) + 4, 32 * (i % 6) + 4
        at = slice(row, row + 24), slice(column, column + 24)
        if landslide[at].any():
            held.append(p[at][landslide[at]])

    # counted pixel by pixel: the promise holds at the threshold, and no longer at the next
    def bound(threshold: float) -> float:
        missed = [(values < np.float32(threshold)).mean() for values in held]
        return (sum(missed) + 1) / (len(held) + 1)

    assert len(held) == done.facts["threshold_chosen"]["regions"] >= 9
    assert bound(done.threshold) <= most < bound(done.threshold + 0.001)
    text = " ".join(calibration_table(done).split())
    assert "taken on the pixels they were fitted on" in text and "landslip evaluate --split" in text
    assert f"exchangeable with these {len(held)}" in text and "15 % of a region's landslide pixels" in text
    assert "The epoch was chosen on them too, so that the promise is approximate" in text
    assert "another site, is not covered" in json.loads((out / "model.json").read_text())["calibration"]["promise"]


def test_a_promise_takes_no_temperature(
    made: TinySite, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> float:
        raise LabelError("no temperature down to 0.05 sharpens these probabilities enough.")

    monkeypatch.setattr(landslip.training.calibrate, "fit_platt", refuse)
    facts = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**facts, "temperature": 1.5, "bias": 0.25}))
    done = calibrate(model, made.folder / "prepared", tmp_path / "out", "miss", 0.3)
    assert done.scaling == load_model(tmp_path / "out").scaling == (1.5, 0.25)
    assert any("the temperature stays 1.5, since none fits: no temperature down" in n for n in done.facts["notes"])
    assert done.before == done.after
    with pytest.raises(LabelError, match="no temperature down"):
        calibrate(model, made.folder / "prepared", tmp_path / "f1", "f1")


def test_pieces_nearer_than_the_guard_are_one_region(made: TinySite, model: Path, tmp_path: Path) -> None:
    rewrite(model, pieces(), guard="16")
    with pytest.raises(LabelError, match=r"model/split\.tif: its validation part holds 1 independent region.* takes 9"):
        calibrate(model, made.folder / "prepared", tmp_path / "out", "miss")


def test_what_cannot_be_calibrated_is_refused_before_any_work(
    made: TinySite, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, out = made.folder / "prepared", tmp_path / "out"
    monkeypatch.setattr(landslip.training.calibrate, "map_pixels", lambda *_, **__: pytest.fail("mapped"))
    with pytest.raises(LabelError, match=r"holds \d+ independent region.*to miss at most 1 % takes 99"):
        calibrate(model, prepared, out, "miss", 0.01)
    with pytest.raises(RunError, match="--miss between 0 and 1"):
        calibrate(model, prepared, out, "miss", 1.5)
    rewrite(model, pieces(), leaky="yes")
    with pytest.raises(SplitError, match=r"split\.tif: its split apart is leaky"):
        calibrate(model, prepared, out, "miss", 0.5)
    for leaky, guard, why in (("unknown", "4", "does not say"), ("no", "0", "no guard apart")):
        rewrite(model, pieces(), leaky, guard)
        with pytest.raises(SplitError, match=f"its split apart .*{why}"):
            calibrate(model, prepared, out, "miss", 0.5)
    label = read_stored(prepared / "label.tif")
    for kept, missing in ((label == 1, "other ground"), (label == 0, "landslide")):
        rewrite(model, np.where(kept, 2, 1).astype(np.uint8))
        with pytest.raises(SplitError, match=f"none of {missing}"):
            calibrate(model, prepared, out)
    (model / "split.tif").unlink()
    with pytest.raises(ModelError, match=r"split\.tif does not exist"):
        calibrate(model, prepared, out)
    assert not out.exists()


def test_a_leaky_split_and_another_site_are_said(made: TinySite, model: Path, tmp_path: Path) -> None:
    rewrite(model, pieces(), leaky="yes")
    facts = json.loads((model / "model.json").read_text())
    facts["site_inputs"]["valid.tif"] = "other"
    (model / "model.json").write_text(json.dumps(facts))
    notes = calibrate(model, made.folder / "prepared", tmp_path / "out").facts["notes"]
    assert any(note.startswith("leaky: ") for note in notes) and any("valid.tif in" in note for note in notes)
    rewrite(model, pieces(), leaky="unknown")
    notes = calibrate(model, made.folder / "prepared", tmp_path / "o").facts["notes"]
    assert any("leaky or not: unknown" in note for note in notes)


def test_the_split_of_another_model_is_refused(made: TinySite, tmp_path: Path) -> None:
    model, prepared = shutil.copytree(made.folder / "model", tmp_path / "model"), made.folder / "prepared"
    own = file_hash(model / "split.tif")
    assert load_model(model).facts["split_sha256"] == own
    shutil.copytree(model, tmp_path / "foreign")
    rewrite(tmp_path / "foreign", pieces())
    shutil.copyfile(tmp_path / "foreign" / "split.tif", model / "split.tif")
    loaded, stack = load_model(model), read_prepared_info(prepared)
    said = rf"split\.tif is not the split.*{file_hash(model / 'split.tif')[:12]}.*{own[:12]}.*[Cc]opy the model folder"
    for use in (
        lambda: calibrate(model, prepared, tmp_path / "out"),
        lambda: held_out(loaded, stack, 16, 0),
        lambda: pixels_of_prepared(loaded, prepared),
    ):
        with pytest.raises(ModelError, match=said):
            use()
    del loaded.facts["split_sha256"]  # as an earlier version left it
    assert split_of(loaded) == model / "split.tif"


@pytest.mark.parametrize(
    "scaling",
    [{"temperature": value} for value in (0, -1, "NaN", "Infinity", "warm", None)]
    + [{"bias": value} for value in ("NaN", "-Infinity", None)],
)
def test_an_impossible_scaling_is_refused(model: Path, scaling: dict[str, object]) -> None:
    facts = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**facts, **scaling}))
    with pytest.raises(ModelError, match="does not hold a model that this version can read"):
        load_model(model)


def test_logits_that_are_not_scaled_keep_every_bit(made: TinySite) -> None:
    network = load_model(made.folder / "model").network
    x = np.random.default_rng(0).normal(size=(2, 18, 32, 48)).astype(np.float32)
    with torch.inference_mode():
        plain = torch.sigmoid(network(torch.from_numpy(x)))[:, 0].numpy()
    z = logits(network, x, "fp32")
    assert np.array_equal(probabilities(network, x, "fp32"), scaled(z, AS_LEARNT))
    np.testing.assert_allclose(plain, probabilities(network, x, "fp32"), atol=1e-6)
    warm = Scaling(1.7, -0.4)
    assert np.array_equal(probabilities(network, x, "fp32", warm), scaled(z, warm))
    np.testing.assert_allclose(scaled(z, warm), expit(z.astype(float) / 1.7 - 0.4), atol=1e-6)


def test_the_command(made: TinySite, model: Path, tmp_path: Path) -> None:
    prepared, out, picture = made.folder / "prepared", tmp_path / "out", tmp_path / "r.png"
    done = command("calibrate", model, prepared, out, "--threshold", "miss", "--miss", "0.3", "--picture", picture)
    assert done.code == 0 and "Promise: at most 30 %" in done.out and picture.exists()
    p = tmp_path / "p.tif"
    assert command("map", out, prepared / "stack.tif", p).code == 0
    r = tmp_path / "s.png"
    done = command("evaluate", p, prepared / "label.tif", "--reliability", r)
    assert done.code == 0 and "expected calibration error" in done.out and r.exists()
    assert "exists already" in command("evaluate", p, prepared / "label.tif", "--reliability", r).err
    assert "temperature" in command("info", out).out and "temperature" not in command("info", model).out
    done = command("calibrate", model, prepared, tmp_path / "x", "--miss", "0.3")
    assert done.code == 2 and "--miss 0.3 is for --threshold miss" in done.err
