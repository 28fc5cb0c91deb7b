"""Faults of patches, masks, HDF5 files and options are named, and nothing is written."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import command
from made_up import picture, write_png
from patch_set import CHOICES, SCORED, SIDE, TRAINING, places, write_landslide4sense

from landslip.config.run import Run
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
)
from landslip.geo.raster import read, read_stored
from landslip.patches.content import LANDSLIDE4SENSE
from landslip.patches.folders import Patch
from landslip.patches.import_patches import _draw_validation, import_patches

pytest_plugins = ["patch_set"]


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
