"""What the bands of patches are: from patches to a map of the scene that they were cut from."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from command import command
from conftest import TinySite
from made_up import picture, write_png
from patch_set import CHOICES, SIDE, places, write_landslide4sense
from rasterio.errors import NotGeoreferencedWarning
from real_data import ROOT

from landslip.config.run import Run
from landslip.dataset.channels import read_stack_info
from landslip.dataset.training_data import build_training_data
from landslip.errors import (
    LabelError,
    LandslipError,
    PatchError,
    SplitError,
)
from landslip.evaluation.evaluate import evaluate
from landslip.geo.grid import Window
from landslip.geo.raster import read, read_stored
from landslip.patches.content import LANDSLIDE4SENSE
from landslip.patches.import_patches import import_patches
from landslip.training.train import train

pytest_plugins = ["patch_set"]


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
