"""A model on another site: scored as it is, and fine-tuned on blocks that the tool chooses, on the same ground."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import GRID, TinySite
from made_up import other_site
from rasterio.crs import CRS
from scipy.spatial import cKDTree

from landslip.dataset.channels import read_stack_info
from landslip.dataset.split import NONE, TEST, TRAIN, VALIDATION
from landslip.errors import ChannelError, LabelError, ModelError, OutputError, RunError, SplitError
from landslip.evaluation.evaluate import evaluate
from landslip.experiments.block_choice import choose_blocks, more_uncertain_half
from landslip.experiments.transfer import _overlap, transfer
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid, Window
from landslip.geo.raster import read, read_info, read_stored
from landslip.geo.warp import default_grid
from landslip.inference.mapping import map_site
from landslip.metrics.confusion import Confusion
from landslip.runtime.disk import file_hash
from landslip.training import train as training
from landslip.training.checkpoint import load_model

WINDOW = 32


@pytest.fixture(scope="module")
def other(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return other_site(made, tmp_path_factory.mktemp("other") / "prepared")


def test_a_model_as_it_is_is_scored_on_all_the_site(made: TinySite, other: Path, tmp_path: Path) -> None:
    done = transfer(made.folder / "model", other, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "probability.tif", "probability.qml", "split.tif", "scores.json", "transfer.md"
    }  # fmt: skip
    alone = tmp_path / "alone.tif"
    model = load_model(made.folder / "model")
    map_site(model, other / "stack.tif", alone)
    label, valid = read_stored(other / "label.tif"), read_stored(other / "valid.tif") == 1
    wanted = Confusion.from_arrays(read(alone)[0] >= model.threshold, label, valid)
    assert done.as_trained.confusion == wanted and done.fine_tuned is None
    assert (done.as_trained.split, done.as_trained.leaky, done.overlap) == ("elsewhere", False, 0)
    text = (tmp_path / "out" / "transfer.md").read_text()
    assert "| as trained |    no |" in text and "fine-tuned" not in text
    with pytest.raises(OutputError, match="exists already"):
        transfer(made.folder / "model", other, tmp_path / "out")


@pytest.fixture(scope="module")
def tuned(made: TinySite, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "out"
    transfer(made.folder / "model", other, out, blocks=4, epochs=2)
    return out


def test_both_models_are_scored_on_ground_a_window_from_the_blocks(made: TinySite, other: Path, tuned: Path) -> None:
    scores = json.loads((tuned / "scores.json").read_text())
    parts = read_stored(tuned / "split.tif")
    blocks = [Window(**block) for block in scores["blocks"]]
    used = np.isin(parts, (TRAIN, VALIDATION))
    assert len(set(blocks)) == 4 and used.sum() == 4 * WINDOW**2  # side by side at most
    assert [int(parts[w.row, w.column]) for w in blocks] == [TRAIN] * 3 + [VALIDATION]
    columns = {w.column >= GRID.shape[1] // 2 for w in blocks}
    assert len(columns) == 1  # one half of the site
    distance, _ = cKDTree(np.argwhere(used)).query(np.argwhere(np.ones_like(used)))
    far = (distance >= WINDOW).reshape(used.shape)
    assert (far == (parts == TEST)).all() and (parts[~far & ~used] == NONE).all()
    label, valid = read_stored(other / "label.tif"), read_stored(other / "valid.tif") == 1
    for name, path, folder in (("as_trained", "probability.tif", made.folder), ("fine_tuned", "fine_tuned.tif", tuned)):
        threshold = load_model(folder / "model").threshold
        wanted = Confusion.from_arrays(read(tuned / path)[0] >= threshold, label, valid & far)
        assert scores[name]["confusion"] == vars(wanted) and scores[name]["leaky"] is False
    assert scores["as_trained"]["pixels"] == scores["fine_tuned"]["pixels"]
    assert len([line for line in (tuned / "transfer.md").read_text().splitlines() if line.startswith("| ")]) == 3


def test_fine_tuning_keeps_the_models_statistics_and_changes_its_weights(made: TinySite, tuned: Path) -> None:
    before = json.loads((made.folder / "model" / "model.json").read_text())
    after = json.loads((tuned / "model" / "model.json").read_text())
    assert after["mean"] == before["mean"] and after["std"] == before["std"]
    assert after["channels"] == before["channels"]
    assert after["fine_tuned_from"] == before["weights_sha256"] != after["weights_sha256"]
    assert after["run"]["training"]["learning_rate"] == pytest.approx(before["run"]["training"]["learning_rate"] / 10)
    assert (after["run"]["training"]["epochs"], after["training_windows"]) == (2, 3)
    old, new = (load_model(folder / "model").network.state_dict() for folder in (made.folder, tuned))
    moved = [float((new[name] - old[name]).abs().max()) for name in old if old[name].is_floating_point()]
    assert 0 < max(moved) < 0.5  # from those weights, not from new ones
    normalised = [name for name in old if "running_" in name]
    assert normalised and all(bool((new[name] == old[name]).all()) for name in normalised)


def test_a_stopped_fine_tuning_goes_on_to_the_same_weights(
    made: TinySite, other: Path, tuned: Path, tmp_path: Path
) -> None:
    keep = training.keep

    def pull(*given: object) -> None:
        keep(*given)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "keep", pull)
        with pytest.raises(KeyboardInterrupt):
            transfer(made.folder / "model", other, out, blocks=4, epochs=2)
    assert not (out / "scores.json").exists()
    transfer(made.folder / "model", other, out, blocks=4, epochs=2)
    for name in ("model/model.safetensors", "scores.json", "transfer.md"):
        assert (out / name).read_bytes() == (tuned / name).read_bytes(), name


def test_what_was_lost_after_fine_tuning_is_made_again_without_it(
    made: TinySite, other: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from landslip.experiments import transfer as module

    out = Path(shutil.copytree(tuned, tmp_path / "out"))
    for name in ("scores.json", "transfer.md", "fine_tuned.tif"):
        (out / name).unlink()
    with pytest.raises(OutputError, match="exists already"):  # another number of blocks is another model
        transfer(made.folder / "model", other, out, blocks=3, epochs=2)
    monkeypatch.setattr(module, "fine_tune", lambda *_: pytest.fail("tuned again"))
    transfer(made.folder / "model", other, out, blocks=4, epochs=2)
    assert (out / "scores.json").read_bytes() == (tuned / "scores.json").read_bytes()


def test_blocks_are_the_most_uncertain_then_the_least_alike(made: TinySite, other: Path) -> None:
    model, stack = load_model(made.folder / "model"), read_stack_info(other / "stack.tif")
    valid = np.ones(GRID.shape, bool)
    probability = np.full(GRID.shape, 0.01, np.float32)
    first, second, odd = Window(32, 128, 32, 32), Window(96, 96, 32, 32), Window(0, 160, 32, 32)
    probability[first.slices], probability[second.slices] = 0.5, 0.4
    chosen = choose_blocks(model, stack, valid, probability=probability, count=4, window=WINDOW)
    assert chosen[:2] == [first, second] and len(set(chosen)) == 4
    assert all(w.column >= 96 for w in chosen)  # the half that holds them
    # by hand: farthest first over the same features, written apart from the module
    values = model.zscore.apply(read(other / "stack.tif"))
    held = [Window(row, column, 32, 32) for row in range(0, 128, 32) for column in (96, 128, 160)]
    means = np.array([[*values[:, w.row : w.row + 32, w.column : w.column + 32].mean((1, 2), dtype=float),
                       probability[w.row, w.column]] for w in held])  # fmt: skip
    means /= np.where(means.std(0) > 0, means.std(0), 1)
    taken = [held.index(first), held.index(second)]
    for _ in range(2):
        away = [min(np.linalg.norm(m - means[i]) for i in taken) for m in means]
        taken.append(int(np.argmax(away)))
    assert chosen == [held[i] for i in taken]
    for window in (odd, Window(0, 0, 32, 32)):  # in both halves, so that they stay where they are
        valid[window.row + 15 : window.row + 32, window.column : window.column + 32] = False  # 15 of 32 rows are left
    assert odd not in choose_blocks(model, stack, valid, probability=probability, count=11, window=WINDOW)
    with pytest.raises(SplitError, match=r"12 blocks are to be chosen and 11 windows of 32 px.*fewer --blocks"):
        choose_blocks(model, stack, valid, probability=probability, count=12, window=WINDOW)


def test_the_half_holds_half_of_the_valid_pixels_across_the_longer_side() -> None:
    valid = np.zeros((40, 10), bool)
    valid[20:] = True
    doubt = np.zeros((40, 10))
    assert more_uncertain_half(valid, doubt) == Window(0, 0, 30, 10)
    doubt[35] = 1
    assert more_uncertain_half(valid, doubt) == Window(30, 0, 10, 10)
    assert more_uncertain_half(valid.T, doubt.T) == Window(0, 30, 10, 10)


def test_ground_that_may_be_the_models_own_is_not_called_clean(made: TinySite, tmp_path: Path) -> None:
    done = transfer(made.folder / "model", other_site(made, tmp_path / "near", east=0), tmp_path / "out")
    assert done.as_trained.leaky is None and done.overlap > 0.5
    text = (tmp_path / "out" / "transfer.md").read_text()
    assert f"by its coordinates {100 * done.overlap:.1f} % of the site" in text and "| unknown |" in text
    assert "not trained on" not in text and "of ground partly trained on by its coordinates" in text
    assert "does not say" not in text and text.count("by its coordinates") == 2
    with pytest.raises(SplitError, match=r"the very stack that the model .* was trained on"):
        transfer(made.folder / "model", made.folder / "prepared", tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_a_fine_tuned_model_knows_the_sites_it_was_trained_on_before(
    made: TinySite, other: Path, tuned: Path, tmp_path: Path
) -> None:
    back = r"the very stack that the model .* was trained on before it was fine-tuned"
    with pytest.raises(SplitError, match=back):
        transfer(tuned / "model", made.folder / "prepared", tmp_path / "out")
    third = other_site(made, tmp_path / "third", east=2e5)
    transfer(tuned / "model", third, tmp_path / "twice", blocks=4, epochs=1)
    with pytest.raises(SplitError, match=back):  # two models back
        transfer(tmp_path / "twice" / "model", made.folder / "prepared", tmp_path / "out")
    facts = json.loads((tmp_path / "twice" / "model" / "model.json").read_text())
    assert [site["stack.tif"] for site in facts["earlier_site_inputs"]] == [
        file_hash(folder / "stack.tif") for folder in (other, made.folder / "prepared")
    ]
    (tmp_path / "old").mkdir()
    for path in (tuned / "model").iterdir():
        shutil.copy(path, tmp_path / "old")
    facts = json.loads((tmp_path / "old" / "model.json").read_text())
    del facts["earlier_site_inputs"]
    (tmp_path / "old" / "model.json").write_text(json.dumps(facts))
    done = transfer(tmp_path / "old", third, tmp_path / "unknown")
    assert done.as_trained.leaky is None and any("does not say on what sites" in n for n in done.as_trained.notes)


def test_without_the_models_split_leakage_is_unknown(made: TinySite, other: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(made.folder / "model", tmp_path / "model"))
    (model / "split.tif").unlink()
    done = transfer(model, other, tmp_path / "out")
    assert done.as_trained.leaky is None and np.isnan(done.overlap)
    assert any("the model's folder has no split.tif" in note for note in done.as_trained.notes)
    text = (tmp_path / "out" / "transfer.md").read_text()
    assert "may have been trained on" in text and "was not trained on" not in text
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["overlap"] is None


def test_ground_of_another_crs_is_found_to_be_the_models_own(made: TinySite) -> None:
    model = load_model(made.folder / "model")
    split = made.folder / "model" / "split.tif"
    same = np.isin(read_stored(split), (TRAIN, VALIDATION)).mean()
    other_zone = default_grid(read_info(split), CRS.from_epsg(32650), None)
    stack = read_stack_info(made.folder / "prepared" / "stack.tif")
    valid = np.ones(other_zone.shape, bool)
    found = _overlap(model, replace(stack, grid=other_zone), valid)
    assert found * valid.size == pytest.approx(same * GRID.shape[0] * GRID.shape[1], rel=0.05)  # one area, turned
    far = Grid(CRS.from_epsg(32610), GRID.transform, *GRID.shape)
    assert _overlap(model, replace(stack, grid=far), np.ones(GRID.shape, bool)) == 0
    mars = Grid(CRS.from_proj4("+proj=eqc +R=3396190 +units=m +no_defs"), GRID.transform, *GRID.shape)
    assert np.isnan(_overlap(model, replace(stack, grid=mars), np.ones(GRID.shape, bool)))


def test_a_split_of_something_else_is_not_overwritten(made: TinySite, other: Path, tuned: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(made.folder / "model" / "split.tif", out)
    before = (out / "split.tif").read_bytes()
    with pytest.raises(OutputError, match=r"split\.tif is not of a transfer.*--overwrite"):
        transfer(made.folder / "model", other, out)
    assert (out / "split.tif").read_bytes() == before and len(list(out.iterdir())) == 1
    copied = Path(shutil.copytree(tuned / "model", tmp_path / "copied"))  # its split is of a transfer, and the model's
    with pytest.raises(OutputError, match="is a model's folder"):
        transfer(made.folder / "model", other, copied)
    transfer(made.folder / "model", other, out, overwrite=True)
    assert read_info(out / "split.tif").tags["split"] == "elsewhere"


def test_what_cannot_be_transferred_is_refused(made: TinySite, other: Path, tmp_path: Path) -> None:
    model, out = made.folder / "model", tmp_path / "out"
    with pytest.raises(ChannelError, match=r"lacks slope: the model .* was trained on"):
        transfer(model, other_site(made, tmp_path / "flat", without="slope"), out)
    with pytest.raises(ChannelError, match=r"coastal is in stored, and the model .* was trained on reflectance"):
        transfer(model, other_site(made, tmp_path / "raw", unit="stored"), out)
    for count in (1, -2):
        with pytest.raises(RunError, match=rf"{count} blocks? cannot be trained on"):
            transfer(model, other, out, blocks=count)
    with pytest.raises(SplitError, match="13 blocks are to be chosen and 12 windows"):
        transfer(model, other, out, blocks=13)
    bereft = Path(shutil.copytree(model, tmp_path / "bereft"))
    (bereft / "training_pixels.safetensors").unlink()
    with pytest.raises(ModelError, match=r"training_pixels\.safetensors does not exist"):
        transfer(bereft, other, out, blocks=4)
    assert not out.exists()  # all before the site is mapped
    bare = other_site(made, tmp_path / "bare")
    label = read_stored(bare / "label.tif")
    label[label == 1] = 0
    write_raster(bare / "label.tif", label[None], read_info(bare / "label.tif").grid, ["label"], 255, overwrite=True)
    with pytest.raises(LabelError, match="holds no landslide on valid ground"):
        transfer(model, bare, tmp_path / "none")
    label[0, 0] = label[127, 191] = 1
    write_raster(bare / "label.tif", label[None], read_info(bare / "label.tif").grid, ["label"], 255, overwrite=True)
    with pytest.raises(LabelError, match=r"of the 2 blocks chosen [01] hold a landslide.*more --blocks"):
        transfer(model, bare, tmp_path / "few", blocks=2)


def test_evaluate_alone_gives_the_same_scores(other: Path, tuned: Path) -> None:
    again = evaluate(tuned / "fine_tuned.tif", other / "label.tif", tuned / "split.tif")
    assert (again.split, again.part, again.leaky) == ("elsewhere", "test", False)
    scores = json.loads((tuned / "scores.json").read_text())["fine_tuned"]
    assert again.scores["kappa"] == pytest.approx(scores["kappa"], nan_ok=True)
    assert again.audit is not None and again.audit.minimum_m >= WINDOW * 15
