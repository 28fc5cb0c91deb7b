"""Patches laid out as a mosaic: pixels, parts and windows where they belong, and what is refused."""

import csv
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from command import command
from conftest import TINY, TinySite
from made_up import picture, write_png
from rasterio.errors import NotGeoreferencedWarning
from real_data import ROOT, need

from landslip.config.run import Run, read_run
from landslip.dataset.channels import choose_channels, read_stack_info
from landslip.dataset.split import TRAIN
from landslip.dataset.training_data import build_training_data
from landslip.errors import (
    DependencyError,
    LabelError,
    LandslipError,
    OutputError,
    PatchError,
    RasterError,
    RunError,
    SplitError,
)
from landslip.evaluation.evaluate import evaluate
from landslip.geo.grid import Window, require_metric, tiles
from landslip.geo.raster import read, read_info, read_stored
from landslip.geo.tiling import HALO
from landslip.inference.mapping import map_site
from landslip.inventory.inventory import make_inventory
from landslip.preparation.import_patches import _draw_validation, import_patches
from landslip.preparation.patch_channels import LANDSLIDE4SENSE
from landslip.preparation.patch_folders import Patch, natural
from landslip.preparation.patch_mosaic import Mosaic
from landslip.training.checkpoint import load_model
from landslip.training.train import train

SIDE = 32
# read by eye: which of the made patches hold a landslide
TRAINING = {1: True, 2: True, 3: False, 4: True, 10: True, 11: True, 12: True, 20: False}
SCORED = {1: True, 2: True, 3: True}
CHOICES = {
    "blocks": {"window": SIDE, "step": SIDE},
    "split": {"kind": "given"},
    "network": {"options": {"layers": [1, 1, 1], "first_width": 8, "growth_rate": 4}},
    "training": {"epochs": 2, "batch": 2, "precision": "fp32"},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for part, held in (("train", TRAINING), ("validation", SCORED)):
        for number, landslide in held.items():
            image, mask = picture(number + 100 * (part == "train"), landslide)
            write_png(folder / part / "images" / f"image_{number}.png", image)
            write_png(folder / part / "masks" / f"mask_{number}.png", mask)
    return folder


def places(prepared: Path) -> dict[str, tuple[str, Window]]:
    """{patch: (part, window)} as patches.csv says."""
    with (prepared / "patches.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {r["patch"]: (r["part"], Window(int(r["row"]), int(r["column"]), SIDE, SIDE)) for r in rows}


# ---- the mosaic ----


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


# ---- the training path ----


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


# ---- what is refused ----


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def altered(path: Path) -> None:
    stored = bytearray(path.read_bytes())
    stored[len(stored) // 2] ^= 1
    path.write_bytes(stored)


def resized(path: Path) -> None:
    write_png(path, picture(1, True, SIDE + 16)[0])


def in_gray(path: Path) -> None:
    write_png(path, picture(1, True)[0][:1])


def recoded(value: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        write_png(path, np.where(picture(1, True)[1] > 0, value, 0).astype(np.uint8))

    return change


IMAGE, MASK = "train/images/image_10.png", "train/masks/mask_10.png"
FAULTS: dict[str, tuple[str, Callable[[Path], object], type[LandslipError], str]] = {
    "no mask": (MASK, Path.unlink, PatchError, r"1 of 8 images in \S+ have no mask in \S+masks: image_10\.png\."),
    "no image": (IMAGE, Path.unlink, PatchError, r"1 of 8 masks in \S+ have no image in \S+images: mask_10\.png\."),
    "another size": (IMAGE, resized, PatchError, r"image_10\.png has 3 bands of 48 x 48 .*image_1\.png 3"),
    "other bands": (IMAGE, in_gray, PatchError, r"image_10\.png has 1 band .*image_1\.png 3 band"),
    "a mask of another size": (MASK, resized, PatchError, r"mask_10\.png has 48 x 48 pixels and its image .* 32 x 32"),
    "a strange value": (MASK, recoded(7), LabelError, r"mask_10\.png holds 7; a mask holds 0"),
    "1 here, 255 there": (MASK, recoded(1), LabelError, r"mask_10\.png holds 1 and \S+mask_1\.png holds 255"),
    "no picture": (IMAGE, lambda p: p.write_text("hello"), RasterError, r"image_10\.png cannot be read"),
    "an empty file": (MASK, lambda p: p.write_bytes(b""), RasterError, r"mask_10\.png cannot be read"),
    "a mask cut short": (MASK, lambda p: p.write_bytes(p.read_bytes()[:60]), RasterError, r"mask_10\.png cannot be"),
    "an altered byte": (IMAGE, altered, RasterError, r"image_10\.png cannot be read .*PNG chunks"),
    "no end": (IMAGE, lambda p: p.write_bytes(p.read_bytes()[:-12]), RasterError, r"image_10\.png cannot be read"),
    "an image cut short": (IMAGE, cut_short, RasterError, r"image_10\.png cannot be read .*PNG chunks"),
    "twins": (IMAGE, lambda p: p.with_name("img_10.png").write_bytes(p.read_bytes()), PatchError, r"image_10\.png"),
}  # fmt: skip


@pytest.mark.parametrize("path, harm, kind, text", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named_and_nothing_is_left(
    data: Path, tmp_path: Path, path: str, harm: Callable[[Path], object], kind: type[LandslipError], text: str
) -> None:
    harm(data / path)
    with pytest.raises(kind, match=text):
        import_patches(data, tmp_path / "p")
    assert {p.name for p in tmp_path.iterdir()} == {"set"}


def test_masks_without_any_landslide_are_refused(data: Path, tmp_path: Path) -> None:
    for path in data.rglob("mask_*.png"):
        recoded(0)(path)
    with pytest.raises(LabelError, match="no mask of the 11 patches holds a landslide"):
        import_patches(data, tmp_path / "p")


def test_masks_of_0_and_1_do_as_well(data: Path, tmp_path: Path) -> None:
    import_patches(data, tmp_path / "a")
    for part, held in (("train", TRAINING), ("validation", SCORED)):
        for number, landslide in held.items():
            recoded(1 if landslide else 0)(data / part / "masks" / f"mask_{number}.png")
    import_patches(data, tmp_path / "b")
    assert (tmp_path / "a" / "label.tif").read_bytes() == (tmp_path / "b" / "label.tif").read_bytes()


def test_a_part_without_a_landslide_is_refused(data: Path, tmp_path: Path) -> None:
    for number in TRAINING:
        if number != 1:
            recoded(0)(data / "train" / "masks" / f"mask_{number}.png")
    with pytest.raises(LabelError, match=r"the (train|validation) part \(\d patches\) holds no landslide"):
        import_patches(data, tmp_path / "p", validation_share=0.5)


def test_it_says_what_it_looked_for(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PatchError, match=r"holds no patches for --train: looked for train or TrainData, with images"):
        import_patches(tmp_path, tmp_path / "p")
    with pytest.raises(PatchError, match=r"no patches for --test: looked for other, with images in other/images"):
        import_patches(data, tmp_path / "p", test="other")
    with pytest.raises(PatchError, match="is not a folder"):
        import_patches(tmp_path / "nowhere", tmp_path / "p")
    with pytest.raises(PatchError, match="two parts would be made of"):
        import_patches(data, tmp_path / "p", test="train")
    for path in (data / "train" / "images").iterdir():
        path.rename(path.with_suffix(".gif"))
    with pytest.raises(
        PatchError, match=r"images holds no image: looked for files that end in \.png, \.tif, \.tiff, \.h5, \.hdf5"
    ):
        import_patches(data, tmp_path / "p")


def test_training_needs_masks_and_scoring_can_do_without(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "validation" / "masks" / "mask_2.png").unlink()
    done = import_patches(data, tmp_path / "p")
    assert "1 of 3 test images have no mask" in capsys.readouterr().err
    assert done.parts["test"].known == 2 * SIDE**2
    (part, window) = places(tmp_path / "p")["validation/images/image_2.png"]
    assert part == "test" and (read_stored(tmp_path / "p" / "label.tif")[window.slices] == 255).all()
    assert read_stored(tmp_path / "p" / "valid.tif")[window.slices].all()
    (data / "train" / "masks").rename(data / "train" / "elsewhere")
    with pytest.raises(PatchError, match=r"images has no folder of masks beside it \(masks, mask, .*the train part"):
        import_patches(data, tmp_path / "q")


@pytest.mark.parametrize("options", [{"validation_share": 0.0}, {"validation_share": 1.5}, {"resolution": 0.0}])
def test_impossible_options_are_refused(data: Path, tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(RunError, match="is not possible"):
        import_patches(data, tmp_path / "p", **options)  # type: ignore[arg-type]


def test_a_share_that_leaves_no_training_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PatchError, match=r"^8 training patches cannot be shared .*0\.99"):
        import_patches(data, tmp_path / "p", validation_share=0.99)
    with pytest.raises(PatchError, match=r"^1 training patch cannot be shared"):
        _draw_validation([Patch(TRAIN, tmp_path / "a.png", tmp_path / "b.png")], 0.5, 0)


def test_channels_may_be_named(data: Path, tmp_path: Path) -> None:
    outcome = command("import", data, tmp_path / "p", "--channels", "nir,red,slope")
    assert outcome.code == 0 and "[blocks] window = 32, step = 32" in outcome.out
    channels = read_stack_info(tmp_path / "p" / "stack.tif").channels
    assert [(c.name, c.group) for c in channels] == [("nir", "band"), ("red", "band"), ("slope", "factor")]
    for wrong, text in (("nir,red", "3 band.*2 names"), ("a,a,b", "'a' is not a name of its own"), ("A,b,c", "'A'")):
        with pytest.raises(PatchError, match=text):
            import_patches(data, tmp_path / "q", names=wrong.split(","))


def test_an_output_that_exists_is_kept_and_replaced_on_demand(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    assert command("import", data, out).code == 0
    again = command("import", data, out)
    assert again.code == 2 and "exists already" in again.err
    assert command("import", data, out, "--overwrite", "--seed", 5).code == 0
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"also holds notes\.txt"):
        import_patches(data, out, overwrite=True)
    (data / "manifest.json").write_text("{}")
    with pytest.raises(OutputError, match="is an input and lies in"):
        import_patches(data, data, overwrite=True)


# ---- HDF5, as Landslide4Sense has it ----


def write_landslide4sense(folder: Path) -> Path:
    """Its own layout: TrainData and TestData, img and mask, float64 (row, column, band); TestData without masks."""
    h5py = pytest.importorskip("h5py", reason="needs h5py (landslip's extra hdf5)")
    for part, count in (("TrainData", 12), ("TestData", 2)):
        for kind in ("img", "mask") if part == "TrainData" else ("img",):
            (folder / part / kind).mkdir(parents=True)
        for number in range(1, count + 1):
            rng = np.random.default_rng(number)
            image = rng.normal(1, 0.1, (SIDE, SIDE, 14)) + 10 * np.arange(14)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[3:9, 20:30] = 1
            if (part, number) == ("TrainData", 2):
                image[0, 0, 5], image[31, 31, 13] = np.nan, np.inf
            with h5py.File(folder / part / "img" / f"image_{number}.h5", "w") as file:
                file["img"] = image
            if part == "TrainData":
                with h5py.File(folder / part / "mask" / f"mask_{number}.h5", "w") as file:
                    file["mask"] = mask
    return folder


def test_landslide4sense_has_12_bands_and_two_factors(tmp_path: Path) -> None:
    data = write_landslide4sense(tmp_path / "set")
    done = import_patches(data, tmp_path / "p")
    assert [part.patches for part in done.parts.values()] == [10, 2, 2] and done.parts["test"].known == 0
    stack = read_stack_info(tmp_path / "p" / "stack.tif")
    assert tuple(c.name for c in stack.channels) == LANDSLIDE4SENSE
    run = Run.model_validate({"channels": {"factors": "none"}})
    assert choose_channels(stack.channels, run.channels, stack.path) == list(range(12))
    assert [c.name for c in stack.channels if c.group == "factor"] == ["slope", "elevation"]
    found = places(tmp_path / "p")
    assert [name.split("_")[1] for name in found] == [f"{n}.h5" for n in (*range(1, 13), 1, 2)]
    _, window = found["TrainData/img/image_3.h5"]
    expected = np.random.default_rng(3).normal(1, 0.1, (SIDE, SIDE, 14)) + 10 * np.arange(14)
    values = read(tmp_path / "p" / "stack.tif", window=window)
    np.testing.assert_array_equal(values, expected.astype(np.float32).transpose(2, 0, 1))
    assert read_stored(tmp_path / "p" / "label.tif", 1, window).sum() == 6 * 10
    _, window = found["TrainData/img/image_2.h5"]
    valid = read_stored(tmp_path / "p" / "valid.tif", 1, window)
    assert valid.sum() == SIDE**2 - 2 and valid[0, 0] == valid[31, 31] == 0
    _, window = found["TestData/img/image_1.h5"]
    assert (read_stored(tmp_path / "p" / "label.tif", 1, window) == 255).all()
    assert len(build_training_data(Run.model_validate(CHOICES), tmp_path / "p").windows) == 10


def test_faults_of_hdf5_files_are_named(tmp_path: Path) -> None:
    data = write_landslide4sense(tmp_path / "set")
    import h5py

    path = data / "TrainData" / "img" / "image_2.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PatchError, match=r"image_2\.h5 cannot be read as HDF5"):
        import_patches(data, tmp_path / "p")
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = [1], [2]
    with pytest.raises(PatchError, match=r"image_2\.h5 holds the data sets a, b and none called img"):
        import_patches(data, tmp_path / "p")
    with h5py.File(path, "w") as file:
        file["x"] = np.ones((SIDE, SIDE))
    with pytest.raises(PatchError, match=r"image_2\.h5: /x has 2 dimension"):
        import_patches(data, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_without_h5py_the_extra_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    for path in data.rglob("*.png"):
        path.rename(path.with_suffix(".h5"))
    with pytest.raises(DependencyError, match=r"pip install landslip\[hdf5\]"):
        import_patches(data, tmp_path / "p")


# ---- real patches ----


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


# ---- what the bands are: from patches to a map of the scene they were cut from ----


def parts_of(windows: list[Window]) -> dict[str, list[Window]]:
    """Every fifth window is scored."""
    return {"test": windows[::5], "train": [w for i, w in enumerate(windows) if i % 5]}


def cut_patches(prepared: Path, folder: Path, kind: str) -> None:
    """Patches of a prepared site as a user cuts them with h5py or rasterio: all channels, the label as mask."""
    h5py = pytest.importorskip("h5py", reason="needs h5py (landslip's extra hdf5)")
    with rasterio.open(prepared / "stack.tif") as stack, rasterio.open(prepared / "label.tif") as label:
        windows = [
            Window(row, column, SIDE, SIDE)
            for row in range(0, stack.height, SIDE)
            for column in range(0, stack.width, SIDE)
        ]
        for part, own in parts_of(windows).items():
            for what in ("images", "masks"):
                (folder / part / what).mkdir(parents=True)
            for number, w in enumerate(own):
                box = ((w.row, w.row + SIDE), (w.column, w.column + SIDE))
                image, mask = stack.read(window=box), label.read(1, window=box)
                at = folder / part
                if kind == "h5":
                    with h5py.File(at / "images" / f"image_{number}.h5", "w") as file:
                        file["img"] = image  # (band, row, column), as rasterio gives it
                    with h5py.File(at / "masks" / f"mask_{number}.h5", "w") as file:
                        file["mask"] = mask
                    continue
                place = {"transform": stack.window_transform(rasterio.windows.Window(w.column, w.row, SIDE, SIDE))}
                profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "crs": stack.crs, **place}
                with rasterio.open(
                    at / "images" / f"image_{number}.tif", "w", count=stack.count, dtype="float32", **profile
                ) as target:
                    target.write(image)
                    target.descriptions = stack.descriptions
                    for band in stack.indexes:
                        target.update_tags(band, **stack.tags(band))
                with rasterio.open(
                    at / "masks" / f"mask_{number}.tif", "w", count=1, dtype="uint8", **profile
                ) as target:
                    target.write(mask, 1)


@pytest.mark.parametrize("kind", ["h5", "tif"])
def test_patches_cut_from_a_scene_train_a_model_that_maps_it(made: TinySite, tmp_path: Path, kind: str) -> None:
    prepared, scene = tmp_path / "p", made.folder / "prepared"
    cut_patches(scene, tmp_path / "set", kind)
    told = ["--channels", scene / "stack.tif"] if kind == "h5" else []
    outcome = command("import", tmp_path / "set", prepared, *told, "--seed", 1)
    assert outcome.code == 0, outcome.err
    stack, own = read_stack_info(scene / "stack.tif"), read_stack_info(prepared / "stack.tif")
    assert own.channels == stack.channels  # kinds and factors too, by which aspect turns and planes are not z-scored
    assert {c.kind for c in own.channels} == {"continuous", "sine", "cosine", "class"}
    assert own.grid.x_size == stack.grid.x_size == 15
    name, (_, window) = next((n, p) for n, p in places(prepared).items() if n.endswith(f"image_2.{kind}"))
    with rasterio.open(scene / "stack.tif") as dataset:
        at = parts_of([Window(r, c, SIDE, SIDE) for r in range(0, 128, SIDE) for c in range(0, 192, SIDE)])
        place = at[name.split("/")[0]][2]
        expected = dataset.read(window=((place.row, place.row + SIDE), (place.column, place.column + SIDE)))
    np.testing.assert_array_equal(read(prepared / "stack.tif", window=window), expected)
    run = Run.model_validate({**CHOICES, "training": {**CHOICES["training"], "epochs": 4, "learning_rate": 0.01}})
    train(run, prepared, tmp_path / "m")
    mapped = command("map", tmp_path / "m", scene / "stack.tif", tmp_path / "map.tif")
    assert mapped.code == 0, mapped.err
    scored = evaluate(tmp_path / "map.tif", scene / "label.tif", part="all")
    assert scored.scores["kappa"] > 0.5  # landslides are brighter than the rest


def test_masks_cut_from_a_label_keep_what_is_unknown(made: TinySite, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs h5py (landslip's extra hdf5)")
    cut_patches(made.folder / "prepared", tmp_path / "set", "h5")
    path = tmp_path / "set" / "test" / "masks" / "mask_1.h5"
    with h5py.File(path, "r+") as file:
        assert set(np.unique(file["mask"])) == {0, 1}
        file["mask"][:4] = 255
    outcome = command("import", tmp_path / "set", tmp_path / "p", "--channels", made.folder / "prepared" / "stack.tif")
    assert outcome.code == 0 and "1 is taken for landslide and 255 for unknown" in outcome.err
    _, window = places(tmp_path / "p")["test/images/image_1.h5"]
    label = read_stored(tmp_path / "p" / "label.tif", 1, window)
    assert (label[:4] == 255).all() and set(np.unique(label[4:])) <= {0, 1}


TABLE = """
[[image]]
bands = { red = 1, nir = 3 }
scale = 0.01
offset = -0.1
nodata = 40
unit = "surface reflectance"

[[factor]]
name = "slope"
band = 2
unit = "degree"
"""


def test_a_table_beside_the_patches_says_what_they_hold(data: Path, tmp_path: Path) -> None:
    (data / "patches.toml").write_text(f"resolution = 12.5\n{TABLE}[landslides]\nlandslide = 255\n")
    done = import_patches(data, tmp_path / "p")
    channels = read_stack_info(tmp_path / "p" / "stack.tif").channels
    assert [(c.name, c.group, c.unit) for c in channels] == [
        ("red", "band", "surface reflectance"), ("nir", "band", "surface reflectance"), ("slope", "factor", "degree"),
    ]  # fmt: skip
    assert done.prepared.grid.x_size == 12.5
    _, window = places(tmp_path / "p")["train/images/image_3.png"]
    stored = picture(103, False)[0].astype(float)
    expected = np.stack([stored[0] * 0.01 - 0.1, stored[2] * 0.01 - 0.1, stored[1]])
    expected[:2][stored[[0, 2]] == 40] = np.nan
    np.testing.assert_allclose(read(tmp_path / "p" / "stack.tif", window=window), expected, rtol=1e-6, atol=1e-7)
    assert np.isnan(expected).any()
    manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())
    assert {row["file"] for row in manifest["inputs"]} >= {"patches.toml"}
    assert manifest["patches"]["channels"][1]["channel"] == "nir" and manifest["patches"]["channels"][1]["number"] == 3
    # the same from elsewhere, by name
    (data / "patches.toml").rename(tmp_path / "mine.toml")
    assert command("import", data, tmp_path / "q", "--channels", tmp_path / "mine.toml").code == 0
    assert read_stack_info(tmp_path / "q" / "stack.tif").channels == channels


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("[[image]]\nbands = { red = 4 }", r"patches\.toml: red = 4, but \S+image_1\.png has 3 bands"),
        ("[[image]]\nbands = { red = 1 }\n[[factor]]\nname = 'slope'\nband = 2", "factor slope has no unit: .*degree"),
        ("[[image]]\nbands = { red = 1 }\n[[image]]\nbands = { red = 2 }", "named twice: red"),
        ("[[image]]\nbands = { swir_1 = 1 }", "did you mean 'swir1'"),
        ("[[image]]\nband = { red = 1 }", "unknown key 'band' in \\[\\[image\\]\\] 1 .did you mean 'bands'"),
        ("[landslides]\nlandslide = 7", r"no mask of the 11 patches holds a landslide \(7\)"),
        ("[landslides]\nlandslide = 1\nunknown = 1", "cannot be both landslide and unknown"),
    ],
)
def test_faults_of_a_table_are_named(data: Path, tmp_path: Path, text: str, wanted: str) -> None:
    (data / "patches.toml").write_text(text)
    with pytest.raises(LandslipError, match=wanted):
        import_patches(data, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_stack_of_other_channels_than_the_patches_is_refused(made: TinySite, data: Path, tmp_path: Path) -> None:
    outcome = command("import", data, tmp_path / "p", "--channels", made.folder / "prepared" / "stack.tif")
    assert outcome.code == 2 and "has 3 bands, and" in outcome.err and "channels" in outcome.err


def test_geotiff_patches_of_others_say_names_units_and_pixels(data: Path, tmp_path: Path) -> None:
    for path in sorted(data.rglob("*.png")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as source:
                values = source.read().astype("float32" if "image" in path.name else "uint8")
        profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "crs": "EPSG:32633", "dtype": values.dtype}
        transform = rasterio.transform.from_origin(500_000, 5_000_000, 20, 20)
        with rasterio.open(path.with_suffix(".tif"), "w", count=len(values), transform=transform, **profile) as target:
            target.write(values)
            if "image" in path.name:
                target.descriptions = ("blue", "red", "nir", "aspect_sin")
                target.units = ("reflectance", "reflectance", "", "")
        path.unlink()
    done = import_patches(data, tmp_path / "p")
    assert done.prepared.grid.x_size == 20
    found = read_stack_info(tmp_path / "p" / "stack.tif").channels
    assert [(c.name, c.factor, c.unit, c.kind) for c in found] == [
        ("blue", "blue", "reflectance", "continuous"), ("red", "red", "reflectance", "continuous"),
        ("nir", "nir", "-", "continuous"), ("aspect_sin", "aspect", "-", "sine"),
    ]  # fmt: skip
    path = data / "train" / "images" / "image_2.tif"
    with rasterio.open(path, "r+") as target:
        target.descriptions = ("red", "blue", "nir", "aspect_sin")
    with pytest.raises(PatchError, match=r"image_2\.tif holds red \(reflectance\), blue .*image_1\.tif blue"):
        import_patches(data, tmp_path / "q")


@pytest.mark.parametrize("unit, words", [("display", "8-bit values made to be looked at"), ("-", "nobody stated")])
def test_a_model_of_values_that_nobody_knows_maps_no_scene(
    made: TinySite, data: Path, tmp_path: Path, unit: str, words: str
) -> None:
    if unit == "-":
        for path in data.rglob("image_*.png"):
            values = read(path)[:3].astype(np.uint16)
            write_png(path, values)
    import_patches(data, tmp_path / "p")
    assert {c.unit for c in read_stack_info(tmp_path / "p" / "stack.tif").channels} == {unit}
    train(Run.model_validate(CHOICES), tmp_path / "p", tmp_path / "m")
    outcome = command("map", tmp_path / "m", made.folder / "prepared" / "stack.tif", tmp_path / "map.tif")
    assert outcome.code == 2 and words in outcome.err and "channel red is in reflectance" in outcome.err
    assert command("map", tmp_path / "m", tmp_path / "p" / "stack.tif", tmp_path / "own.tif").code == 0


def test_landslide4sense_has_a_unit_of_its_own_and_a_table_that_undoes_its_scaling(tmp_path: Path) -> None:
    data = write_landslide4sense(tmp_path / "set")
    import_patches(data, tmp_path / "p")
    assert {c.unit for c in read_stack_info(tmp_path / "p" / "stack.tif").channels} == {"mean of Landslide4Sense"}
    import_patches(data, tmp_path / "q", names=ROOT / "sites" / "landslide4sense.toml")
    found = read_stack_info(tmp_path / "q" / "stack.tif").channels
    assert tuple(c.name for c in found) == LANDSLIDE4SENSE
    assert [c.unit for c in found] == ["TOA reflectance"] * 12 + ["degree", "m"]
    # the means as the makers give them (issues 2 and 4 of iarai/Landslide4Sense-2022)
    means = [
        1111.81236406, 824.63171476, 663.41636217, 445.17289745, 645.8582926, 1547.73508126, 1960.44401001,
        1941.32229668, 674.07572865, 9.04787384, 1113.98338755, 519.90397929, 20.29228266, 772.83144788,
    ]  # fmt: skip
    _, window = places(tmp_path / "p")["TrainData/img/image_3.h5"]
    stored, values = (read(tmp_path / name / "stack.tif", window=window) for name in "pq")
    expected = stored * np.array(means)[:, None, None] * np.array([1e-4] * 12 + [1, 1])[:, None, None]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_the_window_of_a_run_that_is_larger_than_the_patches_is_told(data: Path, tmp_path: Path) -> None:
    import_patches(data, tmp_path / "p")
    run = Run.model_validate({**CHOICES, "blocks": {}})
    with pytest.raises(
        SplitError, match=r"no training window of 64 px .* these work here: \[blocks\] window = 32, step = 16"
    ):
        build_training_data(run, tmp_path / "p")


def test_masks_of_unknown_ground_alone_are_no_landslides(made: TinySite, data: Path, tmp_path: Path) -> None:
    (data / "patches.toml").write_text("[landslides]\nunknown = 255\n")  # and the masks hold 0 and 255
    with pytest.raises(LabelError, match=r"255 is unknown, and no other value .* landslide = VALUE"):
        import_patches(data, tmp_path / "p")
    h5py = pytest.importorskip("h5py", reason="needs h5py (landslip's extra hdf5)")
    cut_patches(made.folder / "prepared", tmp_path / "cut", "h5")
    for path in (tmp_path / "cut").glob("*/masks/*.h5"):
        with h5py.File(path, "r+") as file:
            values = file["mask"][:]
            file["mask"][:] = np.where(values == 1, 255, values)
    with pytest.raises(LabelError, match=r"no mask of the .* holds a landslide"):
        import_patches(tmp_path / "cut", tmp_path / "q", names=made.folder / "prepared" / "stack.tif")
