import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import GRID, TinySite, rewrite_split

from landslip.dataset.zscore import ZScore
from landslip.errors import LabelError, LandslipError, ModelError
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Window
from landslip.geo.raster import open_raster, read, read_stored
from landslip.training.checkpoint import Model, load_model
from landslip.training.training_pixels import (
    PIXELS_FILE,
    area_of,
    draw_training_pixels,
    pixels_of_prepared,
    read_training_pixels,
    training_ground,
)


@pytest.fixture
def copied(made: TinySite, tmp_path: Path) -> Path:
    shutil.copytree(made.folder / "model", tmp_path / "model")
    return tmp_path / "model"


def older(folder: Path) -> Model:
    """The model as an earlier version left it."""
    facts = json.loads((folder / "model.json").read_text())
    del facts["training_pixels"]
    (folder / "model.json").write_text(json.dumps(facts))
    (folder / PIXELS_FILE).unlink()
    return load_model(folder)


def test_training_keeps_pixels_of_its_windows_as_the_network_sees_them(made: TinySite) -> None:
    model, prepared = load_model(made.folder / "model"), made.folder / "prepared"
    pixels = read_training_pixels(model)
    assert pixels.values.shape == (model.facts["training_pixels"]["count"], len(model.channels))
    trained = (read_stored(made.folder / "model" / "split.tif") == 1) & (read_stored(prepared / "label.tif") != 255)
    seen = {tuple(row) for row in model.zscore.apply(read(prepared / "stack.tif"))[:, trained].T}
    assert {tuple(row) for row in pixels.values} <= seen
    assert len({tuple(row) for row in pixels.values}) > 1000


def test_the_prepared_site_gives_the_pixels_that_training_kept(made: TinySite, copied: Path) -> None:
    kept = read_training_pixels(load_model(made.folder / "model"))
    drawn = pixels_of_prepared(older(copied), made.folder / "prepared")
    assert np.array_equal(kept.values, drawn.values) and np.array_equal(kept.folds, drawn.folds)
    area = area_of(load_model(copied), made.folder / "prepared")
    assert area.threshold == area_of(load_model(made.folder / "model")).threshold > 0


def test_pixels_are_drawn_from_the_ground_alone_each_once(tmp_path: Path) -> None:
    numbers = np.arange(300 * 520, dtype=np.float32).reshape(1, 300, 520)  # over several tiles; a pixel is its number
    grid = GRID.crop(Window(0, 0, 300, 520))
    write_raster(tmp_path / "stack.tif", numbers, grid, ["number"], float("nan"))
    ground = np.random.default_rng(0).random((300, 520)) < 0.3
    same = ZScore(np.zeros(1), np.ones(1))
    with open_raster(tmp_path / "stack.tif") as dataset:
        few = draw_training_pixels(dataset, [0], same, ground, window=32, seed=3, most=700)
        every = draw_training_pixels(dataset, [0], same, ground, window=32, seed=3, most=ground.size)
        again = draw_training_pixels(dataset, [0], same, ground, window=32, seed=3, most=700)
        other = draw_training_pixels(dataset, [0], same, ground, window=32, seed=4, most=700)
        with pytest.raises(LabelError, match="no valid pixel"):
            draw_training_pixels(dataset, [0], same, ground & False, window=32, seed=3)
    assert np.array_equal(np.sort(every.values[:, 0]), np.flatnonzero(ground))
    drawn = few.values[:, 0].astype(int)
    assert len(set(drawn)) == 700 and ground.flat[drawn].all()
    assert np.array_equal(again.values, few.values) and not np.array_equal(other.values, few.values)
    # squares of 4 windows of 32: 3 x 5 of them; two pixels have one number where they lie in one square
    square = drawn // 520 // 128 * 5 + drawn % 520 // 128
    assert len(set(zip(square, few.folds.tolist(), strict=True))) == len(set(square)) == len(set(few.folds)) == 15


def test_blocks_of_ground_are_smaller_where_there_is_little(tmp_path: Path) -> None:
    # 64 x 64 pixels in one square of 4 windows of 32: halved once to four squares, and once more, to windows, to 4
    write_raster(tmp_path / "s.tif", np.ones((1, *GRID.shape), np.float32), GRID, ["one"], float("nan"))
    ground = np.zeros(GRID.shape, bool)
    ground[:64, :64] = True
    with open_raster(tmp_path / "s.tif") as dataset:
        drawn = draw_training_pixels(dataset, [0], ZScore(np.zeros(1), np.ones(1)), ground, window=32, seed=0, most=500)
        fewer = draw_training_pixels(dataset, [0], ZScore(np.zeros(1), np.ones(1)), ground, window=16, seed=0, most=500)
    assert set(drawn.folds) == {0, 1, 2, 3}  # side 32: no smaller than a window
    assert len(set(fewer.folds)) == 16  # sides 64 and 32 hold too few, 16 is a window


def test_training_ground_is_valid_known_and_in_a_window() -> None:
    label = np.full((4, 6), 0, np.uint8)
    label[0, 0], valid = 255, np.ones((4, 6), bool)
    valid[1, 1] = False
    ground = training_ground([Window(0, 0, 2, 2), Window(0, 1, 2, 2)], label, valid)
    assert np.argwhere(ground).tolist() == [[0, 1], [0, 2], [1, 0], [1, 2]]


def test_an_older_model_says_how_to_give_its_pixels(copied: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no training pixels.*--training PREPARED/"):
        area_of(older(copied))


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-8]),
        lambda path: path.write_bytes(path.read_bytes()[:-4] + bytes([0, 0, 128, 63])),  # another number, 1.0
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
    ],
)
def test_altered_pixels_are_refused(copied: Path, harm) -> None:  # type: ignore[no-untyped-def]
    harm(copied / PIXELS_FILE)
    with pytest.raises(ModelError, match=r"training_pixels.safetensors.*[Cc]opy"):
        area_of(load_model(copied))


@pytest.mark.parametrize("what", ["shape", "nan", "facts"])
def test_pixels_that_are_not_the_models_are_refused(copied: Path, what: str) -> None:
    from landslip.training.training_pixels import TrainingPixels, write_training_pixels

    pixels = read_training_pixels(load_model(copied))
    values = pixels.values[:, :-1] if what == "shape" else pixels.values.copy()
    if what == "nan":
        values[3, 2] = np.nan
    facts = json.loads((copied / "model.json").read_text())
    facts["training_pixels"] = write_training_pixels(TrainingPixels(np.ascontiguousarray(values), pixels.folds), copied)
    if what == "facts":
        facts["training_pixels"] = {"count": 3}
    (copied / "model.json").write_text(json.dumps(facts))
    with pytest.raises(ModelError, match="this model's training pixels"):
        area_of(load_model(copied))


def test_a_prepared_site_without_the_split_or_on_other_ground_is_refused(made: TinySite, copied: Path) -> None:
    prepared = made.folder / "prepared"
    parts = read_stored(copied / "split.tif")
    (copied / "split.tif").unlink()
    with pytest.raises(ModelError, match=r"split.tif does not exist"):
        pixels_of_prepared(load_model(copied), prepared)
    rewrite_split(copied, np.where(parts == 1, 0, parts), {})
    with pytest.raises(ModelError, match="no training window"):
        pixels_of_prepared(load_model(copied), prepared)
    facts = json.loads((copied / "model.json").read_text())
    del facts["split_sha256"]
    (copied / "model.json").write_text(json.dumps(facts))
    shifted = GRID.crop(Window(1, 0, *GRID.shape))
    write_raster(copied / "split.tif", parts[None], shifted, ["part"], overwrite=True)
    with pytest.raises(LandslipError, match="do not lie on one grid"):
        pixels_of_prepared(load_model(copied), prepared)
    with pytest.raises(LandslipError, match="does not exist"):
        pixels_of_prepared(load_model(copied), made.folder / "nothing")


def test_a_changed_prepared_site_is_told(
    made: TinySite, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made.folder / "prepared", tmp_path / "prepared")
    label = read_stored(tmp_path / "prepared" / "label.tif")
    label[0, 0] = 255
    write_raster(tmp_path / "prepared" / "label.tif", label[None], GRID, ["label"], 255, overwrite=True)
    pixels_of_prepared(load_model(copied), tmp_path / "prepared")
    assert "label.tif changed since" in capsys.readouterr().err
    pixels_of_prepared(load_model(copied), made.folder / "prepared")
    assert "changed" not in capsys.readouterr().err
