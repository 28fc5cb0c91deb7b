"""A stack is looked at before it is mapped: what is refused, what is warned of, where the warnings go, old models."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from command import command
from conftest import CRS_UTM, TinySite
from made_up import served

from landslip.config.site import read_site
from landslip.dataset.channels import read_stack_info
from landslip.errors import ChannelError
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid
from landslip.geo.raster import read, read_around, read_info
from landslip.geo.tiling import needed_cells
from landslip.inference import mapping
from landslip.inference.mapping import map_site
from landslip.preparation.prepare import prepare
from landslip.report import results
from landslip.training import domain_check
from landslip.training.checkpoint import load_model, pixel_size
from landslip.training.domain_check import SAMPLED_PIXELS, sample_pixels


@dataclass(frozen=True)
class Sites:
    """Prepared sites of the tiny site's files: at other scales, and on 30 m with a DEM of mountains."""

    larger: Path
    smaller: Path
    elsewhere: Path


@pytest.fixture(scope="module")
def sites(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> Sites:
    folder = tmp_path_factory.mktemp("domain_check")
    text = made.site.read_text().replace('path = "', f'path = "{made.folder}/')
    dem = read_info(made.folder / "dem.tif").grid
    write_raster(folder / "dem.tif", read(made.folder / "dem.tif") * 3 + 4000, dem, ["elevation"], -9999.0)
    texts = {
        "larger": text.replace("scale = 0.0001", "scale = 0.01"),
        "smaller": text.replace("scale = 0.0001", "scale = 0.00001"),
        "elsewhere": text.replace(f"{made.folder}/dem.tif", f"{folder}/dem.tif") + "[grid]\nresolution = 30\n",
    }
    for name, of in texts.items():
        (folder / f"{name}.toml").write_text(of)
        prepare(read_site(folder / f"{name}.toml"), folder / name)
    return Sites(folder / "larger", folder / "smaller", folder / "elsewhere")


@pytest.fixture
def old(made: TinySite, tmp_path: Path) -> Path:
    """The model as an early version left it: no training pixels, no size of pixels, no split."""
    shutil.copytree(made.folder / "model", tmp_path / "old")
    for name in ("training_pixels.safetensors", "split.tif"):
        (tmp_path / "old" / name).unlink()
    facts = json.loads((tmp_path / "old" / "model.json").read_text())
    for key in ("training_pixels", "pixel_size", "split_sha256"):
        del facts[key]
    (tmp_path / "old" / "model.json").write_text(json.dumps(facts))
    return tmp_path / "old"


def tags_of(path: Path) -> dict[str, str]:
    """The warnings of a raster, without the beginning of their names."""
    return {k.removeprefix("warning_"): v for k, v in read_info(path).tags.items() if k.startswith("warning")}


def test_the_own_ground_of_a_model_is_mapped_without_a_word(made: TinySite, old: Path, tmp_path: Path) -> None:
    for i, model in enumerate((made.folder / "model", old)):
        done = command("map", model, made.folder / "prepared" / "stack.tif", tmp_path / f"{i}.tif")
        assert done.code == 0 and "warning" not in done.err and not tags_of(tmp_path / f"{i}.tif")


@pytest.mark.parametrize("scale", ["larger", "smaller"])
def test_another_scale_is_refused_with_both_ranges(
    scale: str, made: TinySite, sites: Sites, old: Path, tmp_path: Path
) -> None:
    stack = getattr(sites, scale) / "stack.tif"
    here, there = (np.percentile(read(path)[0], (1, 99)) for path in (stack, made.folder / "prepared" / "stack.tif"))
    for model in (made.folder / "model", old):
        done = command("map", model, stack, tmp_path / "p.tif")
        assert done.code == 2 and not (tmp_path / "p.tif").exists()
        assert str(stack) in done.err and "coastal 100 % (" in done.err and "and 3 more" in done.err
        assert "--accept-range" in done.err
        numbers = done.err.split("coastal 100 % (")[1].split(" reflectance")[0].replace("trained on ", "")
        found = [float(number) for number in numbers.replace(",", " to").split(" to ")]
        assert found[:2] == pytest.approx(here, rel=0.02)  # of the sample, and here of all pixels
        if model != old:
            assert found[2:] == pytest.approx(there, rel=0.05)
    with pytest.raises(ChannelError, match="coastal 100 %"):  # before any worker is started
        map_site(load_model(made.folder / "model"), stack, tmp_path / "p.tif", cluster="2")


def test_an_accepted_range_goes_on_and_is_told_wherever_the_map_goes(
    made: TinySite, sites: Sites, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for name, source in (("model", made.folder / "model"), ("prepared", sites.larger)):
        shutil.copytree(source, run / name)
    out = run / "map" / "probability.tif"
    done = command("map", run / "model", run / "prepared" / "stack.tif", out, "--accept-range")
    assert done.code == 0
    told = tags_of(out)
    assert told.keys() == {"accepted_range", "applicability"}
    assert told["accepted_range"].startswith("most of a sample of 4,") and "coastal 100 %" in told["accepted_range"]
    assert told["applicability"].startswith("100 % of a sample of 4,")
    assert all(f"warning: {run}/prepared/stack.tif: {text}." in done.err for text in told.values())
    assert command("inventory", out, run / "inventory" / "landslides.gpkg").code == 0
    assert tags_of(run / "inventory" / "landslides.tif") == told
    for path in (out, run / "inventory" / "landslides.tif"):
        described = command("info", path).out
        assert all(f"\nwarning    {text}" in described for text in told.values())
    rows = results._map_facts(read_info(out), 0.5, "the tag")  # of the report, all of which takes long
    assert rows[2:] == [("Warning", told["accepted_range"]), ("Warning", told["applicability"])]


def test_another_pixel_size_and_relief_are_warned_of(made: TinySite, sites: Sites, tmp_path: Path) -> None:
    stack = sites.elsewhere / "stack.tif"
    done = command("map", made.folder / "model", stack, tmp_path / "p.tif")
    assert done.code == 0
    told = tags_of(tmp_path / "p.tif")
    assert told.keys() == {"pixel_size", "range", "applicability"}
    assert told["pixel_size"].startswith("pixels of 30 x 30 m, and the model was trained on 15 x 15 m")
    assert "elevation 100 % (" in told["range"] and "trained on " in told["range"] and " m)" in told["range"]
    assert "coastal" not in told["range"] and done.err.count("warning: ") == 3


def test_the_size_of_pixels_is_in_model_json_and_else_in_the_split(
    made: TinySite, sites: Sites, old: Path, tmp_path: Path
) -> None:
    assert json.loads((made.folder / "model" / "model.json").read_text())["pixel_size"] == [15, 15]
    assert "pixels      15 x 15 m" in command("info", made.folder / "model").out
    assert pixel_size(load_model(old)) is None
    assert "pixel_size" not in _mapped(old, sites.elsewhere, tmp_path / "a.tif")
    shutil.copy(made.folder / "model" / "split.tif", old)
    assert pixel_size(load_model(old)) == (15, 15)
    assert "pixel_size" in _mapped(old, sites.elsewhere, tmp_path / "b.tif")


def _mapped(model: Path, prepared: Path, out: Path) -> dict[str, str]:
    map_site(load_model(model), prepared / "stack.tif", out)
    return tags_of(out)


def test_training_pixels_that_are_lost_leave_the_map_and_a_warning(
    made: TinySite, sites: Sites, tmp_path: Path
) -> None:
    shutil.copytree(made.folder / "model", tmp_path / "model")
    (tmp_path / "model" / "training_pixels.safetensors").write_bytes(b"cut")
    told = _mapped(tmp_path / "model", made.folder / "prepared", tmp_path / "p.tif")
    assert (
        told.keys() == {"training_pixels"} and "does not hold this model's training pixels" in told["training_pixels"]
    )
    with pytest.raises(ChannelError, match="coastal 100 %"):
        map_site(load_model(tmp_path / "model"), sites.larger / "stack.tif", tmp_path / "q.tif")


def test_a_map_that_is_gone_on_with_has_its_warnings(
    made: TinySite, sites: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    model, stack, out = load_model(made.folder / "model"), sites.elsewhere / "stack.tif", tmp_path / "p.tif"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mapping, "_assemble", killed)
        map_site(model, stack, out)
    done = map_site(model, stack, out)
    assert tags_of(out).keys() == {"pixel_size", "range", "applicability"} and len(done.warnings) == 3


def test_transfer_and_calibrate_look_too(made: TinySite, sites: Sites, tmp_path: Path) -> None:
    done = command("transfer", made.folder / "model", sites.larger, tmp_path / "t")
    assert done.code == 2 and "coastal 100 % (" in done.err and not (tmp_path / "t").exists()
    done = command("transfer", made.folder / "model", sites.larger, tmp_path / "t", "--accept-range")
    assert done.code == 0 and "Warning: most of a sample of 4," in done.out
    assert "coastal 100 %" in json.loads((tmp_path / "t" / "scores.json").read_text())["warnings"][0]
    done = command("calibrate", made.folder / "model", sites.larger, tmp_path / "c")
    assert done.code == 2 and "coastal 100 % (" in done.err and not (tmp_path / "c").exists()
    done = command("calibrate", made.folder / "model", sites.larger, tmp_path / "c", "--accept-range")
    assert "coastal 100 % (" not in done.err  # whether a temperature fits such logits is another matter


def test_a_sample_is_of_valid_pixels_and_what_is_read_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 2048
    values = np.arange(side * side, dtype=np.float32).reshape(1, side, side)
    valid = np.zeros((side, side), bool)
    valid[100:1900, 300:1500:3] = True
    values[0, 1000:1100] = np.nan
    grid = Grid(CRS_UTM, Affine(15, 0, 460_000, 0, -15, 3_430_000), side, side)
    write_raster(tmp_path / "stack.tif", values, grid, ["x"], float("nan"))
    write_raster(tmp_path / "valid.tif", valid[None].astype(np.uint8), grid, ["valid"], None)
    needed = needed_cells(tmp_path / "valid.tif", grid.shape, 64)
    pixels, own = 0, read_around

    def counted(dataset: object, window: object, *bands: object) -> object:
        nonlocal pixels
        pixels += window.area  # type: ignore[attr-defined]
        return own(dataset, window, *bands)  # type: ignore[arg-type]

    monkeypatch.setattr(domain_check, "read_around", counted)
    stack = read_stack_info(tmp_path / "stack.tif")
    found = sample_pixels(stack, [0], tmp_path / "valid.tif", needed, 64)[:, 0]
    assert pixels <= 2 * 34 * 64 * 64 < side * side / 8  # 32 cells, and those within the undefined rows
    assert SAMPLED_PIXELS * 0.9 < len(found) <= SAMPLED_PIXELS and len(set(found.tolist())) == len(found)
    at = found.astype(int)
    assert valid.ravel()[at].all() and not np.isnan(found).any()
    assert len(set((at // side // 64 * 32 + at % side // 64).tolist())) == 32
    assert np.array_equal(sample_pixels(stack, [0], tmp_path / "valid.tif", needed, 64)[:, 0], found)


def test_a_sample_comes_over_the_network_as_from_the_disk(made: TinySite) -> None:
    with served(made.folder / "prepared") as address:
        samples = []
        for folder in (made.folder / "prepared", address):
            stack = read_stack_info(folder / "stack.tif")
            needed = needed_cells(folder / "valid.tif", stack.grid.shape, 64)
            samples.append(sample_pixels(stack, [3, 0], folder / "valid.tif", needed, 64))
    assert len(samples[0]) and np.array_equal(*samples)


def test_nothing_valid_is_no_sample(made: TinySite) -> None:
    stack = read_stack_info(made.folder / "prepared" / "stack.tif")
    assert sample_pixels(stack, [0, 1], None, np.zeros((2, 3), bool), 64).shape == (0, 2)


def test_a_models_own_site_is_not_refused_however_unlike_its_windows_are(
    made: TinySite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain_check, "MOST_OUTSIDE", -1.0)  # as on a site of mostly sea: every band lies outside
    shutil.copytree(made.folder / "prepared", tmp_path / "own")
    model = load_model(made.folder / "model")
    map_site(model, tmp_path / "own" / "stack.tif", tmp_path / "own.tif")
    assert "red" in tags_of(tmp_path / "own.tif")["range_of_bands"]
    with (tmp_path / "own" / "stack.tif").open("ab") as file:  # another file, if only by a byte
        file.write(b"\0")
    with pytest.raises(ChannelError, match="--accept-range"):
        map_site(model, tmp_path / "own" / "stack.tif", tmp_path / "other.tif")
