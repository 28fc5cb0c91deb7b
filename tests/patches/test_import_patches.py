"""Patches laid out as a mosaic: pixels, parts and windows where they belong, and a model trained on them."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from command import command
from conftest import TINY
from made_up import picture, write_png
from patch_set import CHOICES, SCORED, SIDE, TRAINING, places
from rasterio.errors import NotGeoreferencedWarning
from real_data import ROOT, need

from landslip.config.run import Run, read_run
from landslip.dataset.training_data import build_training_data
from landslip.evaluation.evaluate import evaluate
from landslip.geo.grid import require_metric, tiles
from landslip.geo.raster import read, read_info, read_stored
from landslip.geo.tiling import HALO
from landslip.inference.mapping import map_site
from landslip.inventory.inventory import make_inventory
from landslip.patches.folders import natural
from landslip.patches.import_patches import import_patches
from landslip.patches.mosaic import Mosaic
from landslip.training.checkpoint import load_model
from landslip.training.train import train

pytest_plugins = ["patch_set"]


def test_names_sort_as_people_count() -> None:
    names = ["image_10", "image_2", "a", "image_1", "3", "image_2b"]
    assert sorted(names, key=natural) == ["3", "a", "image_1", "image_2", "image_2b", "image_10"]


@pytest.mark.parametrize("side, pitch", [(32, 128), (64, 192), (100, 200), (128, 256), (256, 512)])
def test_cells_are_whole_patches_with_a_gap_of_the_halo(side: int, pitch: int) -> None:
    mosaic = Mosaic(5, side)
    assert mosaic.pitch == pitch and pitch - side >= HALO and pitch % side == 0
    assert mosaic.shape == (2 * pitch, 3 * pitch)
    assert [(w.row, w.column) for w in map(mosaic.window, range(5))] == [
        (0, 0), (0, pitch), (0, 2 * pitch), (pitch, 0), (pitch, pitch),
    ]  # fmt: skip


def test_patches_meet_the_strips_they_lie_in() -> None:
    mosaic = Mosaic(23, 100)  # cells of 200: strips of 256 rows cut through them
    shape = mosaic.shape
    met = {(i, strip.row) for strip in tiles((shape[0], 256), 256) for i in mosaic.within(strip)}
    for i in range(23):
        rows = {pixel // 256 * 256 for pixel in range(mosaic.window(i).row, mosaic.window(i).row + 100)}
        assert {(i, row) for row in rows} <= met


def test_every_pixel_is_where_the_table_says(data: Path, tmp_path: Path) -> None:
    image, _ = picture(102, True)
    image[3, :5, :7] = 0  # transparent, hence undefined
    write_png(data / "train" / "images" / "image_2.png", image)
    done = import_patches(data, tmp_path / "p", resolution=2.5)
    stack, valid = read(tmp_path / "p" / "stack.tif"), read_stored(tmp_path / "p" / "valid.tif")
    label, split = read_stored(tmp_path / "p" / "label.tif"), read_stored(tmp_path / "p" / "split.tif")
    found = places(tmp_path / "p")
    assert list(found) == [f"train/images/image_{n}.png" for n in TRAINING] + [
        f"validation/images/image_{n}.png" for n in SCORED
    ]
    gap = np.ones(label.shape, bool)
    for name, (part, window) in found.items():
        number = int(name.split("_")[1].removesuffix(".png"))
        expected, mask = picture(number + 100 * name.startswith("train"), mask_of(name))
        expected = expected[:3].astype(float)
        if name == "train/images/image_2.png":
            expected[:, :5, :7] = np.nan
        np.testing.assert_array_equal(stack[:, *window.slices], expected)
        np.testing.assert_array_equal(valid[window.slices], ~np.isnan(expected[0]))
        np.testing.assert_array_equal(label[window.slices], mask[0] == 255)
        assert (split[window.slices] == {"train": 1, "validation": 2, "test": 3}[part]).all()
        assert (part == "test") == name.startswith("validation")
        gap[window.slices] = False
    assert np.isnan(stack[:, gap]).all() and not valid[gap].any()
    assert (label[gap] == 255).all() and (split[gap] == 0).all()
    info = read_info(tmp_path / "p" / "stack.tif")
    assert info.names == ("red", "green", "blue") and info.grid.x_size == info.grid.y_size == 2.5
    assert "no place" in info.tags["georeferenced"] and info.grid == done.prepared.grid
    require_metric(info.grid, "stack.tif")
    assert done.prepared.valid_pixels == valid.sum() == len(found) * SIDE**2 - 35
    assert done.prepared.landslide_pixels == ((label == 1) & (valid == 1)).sum()


def mask_of(name: str) -> bool:
    number = int(name.split("_")[1].removesuffix(".png"))
    return TRAINING[number] if name.startswith("train") else SCORED[number]


def test_figures_are_those_of_the_patches(data: Path, tmp_path: Path) -> None:
    done = import_patches(data, tmp_path / "p")
    # 6 of 8 training patches and all 3 scored ones hold 48 landslide pixels; one training patch validates
    train_part, validation, scored = done.parts.values()
    assert (train_part.patches, validation.patches, scored.patches) == (7, 1, 3)
    assert train_part.landslide + validation.landslide == 6 * 48 and scored.landslide == 3 * 48
    assert scored.known == 3 * SIDE**2
    pixels = np.concatenate(
        [picture(n + 100, held)[0][:3].reshape(3, -1) for n, held in TRAINING.items()]
        + [picture(n, held)[0][:3].reshape(3, -1) for n, held in SCORED.items()],
        axis=1,
    )
    rows = json.loads((tmp_path / "p" / "channels.json").read_text())["channels"]
    for row, values in zip(rows, pixels, strict=True):
        assert row["range"] == [values.min(), values.max()] and row["mean"] == pytest.approx(values.mean())
        assert (row["undefined_share"], row["unit"], row["group"]) == (0, "display", "band")


def test_the_same_data_gives_the_same_bytes_and_another_seed_another_draw(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        import_patches(data, tmp_path / name, validation_share=0.4, seed=seed)
    for file in sorted(p.name for p in (tmp_path / "a").iterdir()):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    assert (tmp_path / "a" / "split.tif").read_bytes() != (tmp_path / "c" / "split.tif").read_bytes()
    assert (tmp_path / "a" / "stack.tif").read_bytes() == (tmp_path / "c" / "stack.tif").read_bytes()


def test_folders_are_found_by_name_either_way_round_and_may_be_named(data: Path, tmp_path: Path) -> None:
    for kind, ours in (("images", "images"), ("masks", "annotations")):
        (data / ours).mkdir(exist_ok=True)
        for part, called in (("train", "train"), ("validation", "val")):
            (data / part / kind).rename(data / ours / called)
    done = import_patches(data, tmp_path / "p")
    assert {name.split("/")[1] for name in places(tmp_path / "p")} == {"train", "val"}
    assert done.parts["test"].patches == 3
    (data / "images" / "mine").symlink_to(data / "images" / "val")
    (data / "annotations" / "mine").symlink_to(data / "annotations" / "val")
    three = import_patches(data, tmp_path / "r", test="mine", validation="val")
    assert [part.patches for part in three.parts.values()] == [8, 3, 3]


def test_there_is_one_window_for_each_training_patch_with_a_landslide(data: Path, tmp_path: Path) -> None:
    import_patches(data, tmp_path / "p", validation_share=0.25, seed=1)
    found = places(tmp_path / "p")
    expected = {w for name, (part, w) in found.items() if part == "train" and mask_of(name)}
    ground = build_training_data(Run.model_validate(CHOICES), tmp_path / "p")
    assert len(ground.windows) == len(expected) and set(ground.windows) == expected
    assert set(ground.validation) == {w for part, w in found.values() if part == "validation"}
    assert ground.split.leaky is None and ground.split.tags()["leaky"] == "unknown"  # are patches neighbours?
    # background is drawn from patches without landslides, never from gaps
    wide = Run.model_validate({**CHOICES, "blocks": {**CHOICES["blocks"], "background": 1.0}})
    assert set(build_training_data(wide, tmp_path / "p").windows) == {
        w for part, w in found.values() if part == "train"
    }


def test_the_example_run_file_is_made_for_patches_of_128() -> None:
    run = read_run(ROOT / "runs" / "landslide4sense_rgb.toml")
    assert run.split.kind == "given" and run.blocks.window == run.blocks.step == 128


def test_from_patches_to_scores_and_polygons(data: Path, tmp_path: Path) -> None:
    prepared, p = tmp_path / "p", tmp_path / "p.tif"
    import_patches(data, prepared)
    run = tmp_path / "run.toml"
    run.write_text(
        f'[blocks]\nwindow = {SIDE}\nstep = {SIDE}\n[split]\nkind = "given"\n[network]\n{TINY}\n'
        '[training]\nepochs = 20\nbatch = 2\nlearning_rate = 0.01\nprecision = "fp32"\n'
    )
    assert command("train", run, prepared, tmp_path / "m").code == 0
    assert command("map", tmp_path / "m", prepared / "stack.tif", p).code == 0
    np.testing.assert_array_equal(np.isfinite(read(p)[0]), read_stored(prepared / "valid.tif") == 1)
    scored = evaluate(p, prepared / "label.tif", tmp_path / "m" / "split.tif")
    assert (scored.split, scored.part, scored.leaky) == ("given", "test", None)
    assert scored.pixels == 3 * SIDE**2 and scored.area_m2 == 3 * SIDE**2 * 100
    assert scored.confusion.tp + scored.confusion.fn == 3 * 48
    assert scored.scores["f1"] > 0.8  # bright rectangles on dark ground
    made = make_inventory(p, tmp_path / "i.gpkg")
    assert 6 <= made.count <= 14 and made.valid_area_m2 == 11 * SIDE**2 * 100
    assert command("info", prepared).code == 0


def test_a_patch_does_not_see_its_neighbours(data: Path, tmp_path: Path) -> None:
    import_patches(data, tmp_path / "a")
    train(Run.model_validate(CHOICES), tmp_path / "a", tmp_path / "m")
    image, _ = picture(7, True)
    write_png(data / "train" / "images" / "image_2.png", 255 - image // 2)
    import_patches(data, tmp_path / "b")
    maps = {}
    for name in ("a", "b"):
        map_site(load_model(tmp_path / "m"), tmp_path / name / "stack.tif", tmp_path / f"{name}.tif")
        maps[name] = read(tmp_path / f"{name}.tif")[0]
    for name, (_, window) in places(tmp_path / "a").items():
        same = np.array_equal(maps["a"][window.slices], maps["b"][window.slices])
        assert same == (name != "train/images/image_2.png"), name


def test_real_patches_of_landslide4sense(tmp_path: Path) -> None:
    source = need("landslide4sense_rgb")
    counts = {}
    for part, most in (("train", 20), ("validation", 5)):
        for path in sorted((source / part / "images").iterdir(), key=lambda p: natural(p.name))[:most]:
            mask = source / part / "masks" / path.name.replace("image", "mask")
            for file in (path, mask):
                link = tmp_path / "set" / part / file.parent.name / file.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(mask) as dataset:  # independent of landslip
                    counts[f"{part}/images/{path.name}"] = int((dataset.read(1) == 255).sum())
    done = import_patches(tmp_path / "set", tmp_path / "p")
    assert done.mosaic.pitch == 256 and [p.patches for p in done.parts.values()] == [17, 3, 5]
    label = read_stored(tmp_path / "p" / "label.tif")
    found = places(tmp_path / "p")
    for name, (_, window) in found.items():
        assert (label[window.row : window.row + 128, window.column : window.column + 128] == 1).sum() == counts[name]
    run = read_run(ROOT / "runs" / "landslide4sense_rgb.toml")
    training = [name for name, (part, _) in found.items() if part == "train"]
    assert len(build_training_data(run, tmp_path / "p").windows) == sum(counts[name] > 0 for name in training)
    # the shares of landslide that the data's own README gives are 4.5 % over all patches
    assert 0.01 < done.parts["train"].landslide / done.parts["train"].known < 0.2
