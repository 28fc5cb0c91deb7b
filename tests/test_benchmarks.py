"""The benchmarks are programs that run, and what they put in their tables is what they say it is."""

import importlib
import json
import sys
import tomllib
from pathlib import Path

import growth
import mapping
import mapping_growth
import mapping_ways
import numpy as np
import process
import pytest
import recipe
import virtual
from conftest import TinySite

from landslip.dataset.split import TEST
from landslip.geo import tiling
from landslip.geo.grid import Window
from landslip.geo.raster import read, read_info, read_stored
from landslip.inference import mapping as inference
from landslip.inference.engines import HELD_INPUTS, SHARE_HELD
from landslip.metrics.confusion import Confusion
from landslip.models import build_model
from landslip.training.checkpoint import load_model


@pytest.fixture
def site(made: TinySite) -> mapping.Site:
    return mapping.site_of(made.folder / "model", made.folder / "prepared")


@pytest.fixture(autouse=True)
def put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A way of mapping has a process of its own and leaves its changes; here it has not."""
    monkeypatch.setattr(inference, "choose_engine", inference.choose_engine)
    monkeypatch.setattr(tiling, "HALO", tiling.HALO)


@pytest.mark.parametrize("name", ["machines", "growth", "mapping", "prepare", "reading"])
def test_a_benchmark_explains_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as left:
        importlib.import_module(name).main()
    assert left.value.code == 0 and "--json" in capsys.readouterr().out


def test_every_way_of_mapping_fills_the_valid_pixels(
    site: mapping.Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping_ways, "REFERENCE", 160)  # six cores of 64 px, with a halo the tiny network sees within
    monkeypatch.setattr(mapping_ways, "MARGIN", 48)
    valid = read_stored(site.valid) == 1
    maps = {}
    for name, way, given in (
        ("reference", "reference", {}),
        ("tiled", "reference", {"share": 0}),
        ("one by one", "naive", {}),
        ("batches", "naive", {"batch": 7}),
        ("plan", "landslip", {"engine_choice": "torch", "precision_choice": "fp32"}),
    ):
        out = tmp_path / f"{name}.tif"
        found = mapping_ways.WAYS[way](**site.given, out=str(out), **given)
        assert found["seconds"] > 0 and found["peak_mb"] > 0
        maps[name] = read(out)[0]
        assert np.array_equal(~np.isnan(maps[name]), valid)
        assert np.nanmin(maps[name]) >= 0 and np.nanmax(maps[name]) <= 1
    # the site is one window: the plan gives the reference
    np.testing.assert_allclose(maps["plan"], maps["reference"], atol=1e-5)
    np.testing.assert_allclose(maps["tiled"], maps["reference"], atol=1e-5)
    np.testing.assert_allclose(maps["batches"], maps["one by one"], atol=1e-5)
    assert np.nanmax(np.abs(maps["one by one"] - maps["reference"])) > 1e-4  # windows of 64 px see less


def test_a_map_is_scored_on_the_test_part_and_against_the_reference(site: mapping.Site, tmp_path: Path) -> None:
    at, truth = load_model(site.model).threshold, read_stored(site.label)
    given = {"engine_choice": "torch", "precision_choice": "fp32"}
    mapping_ways.landslip(**site.given, out=str(tmp_path / "reference.tif"), **given)
    score = mapping.scorer(site, tmp_path / "reference.tif")
    same = score(tmp_path / "reference.tif")
    assert same["changed"] == same["max_difference"] == same["mean_difference"] == 0

    p, grid = read(tmp_path / "reference.tif")[0], read_info(site.stack).grid
    moved = p.copy()
    moved[0, :10] = np.where(p[0, :10] >= at, p[0, :10] - 1, p[0, :10] + 1)  # ten pixels to the other class
    mapping_ways._write(str(tmp_path / "moved.tif"), moved, grid)
    other = score(tmp_path / "moved.tif")
    assert other["changed"] == pytest.approx(10 / p.size) and other["max_difference"] == pytest.approx(1, abs=1e-6)
    assert other["mean_difference"] == pytest.approx(10 / p.size, rel=1e-3)
    assert site.split is not None
    test = read_stored(site.split) == TEST
    hits = ((p >= at) & (truth == 1) & test).sum()
    f1 = 2 * hits / (((p >= at) & test).sum() + ((truth == 1) & test).sum())
    assert same["f1"] == pytest.approx(f1)


def test_the_table_takes_medians_names_the_default_and_says_what_was_skipped(
    site: mapping.Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    seconds = iter([2.0, 10.0, 5.0, 4.0, 30.0, 7.0, 3.0, 20.0, 6.0])

    def measured(way: str, **given: object) -> dict[str, object]:
        if way == "reference":
            mapping_ways.landslip(**site.given, out=str(given["out"]))
            return {"reference": "whole raster"}
        if given.get("precision_choice") == "int8":
            return {"skipped": "no int8.json"}
        started.append(Path(str(given["out"])).stem)
        mapping_ways.landslip(**site.given, out=str(given["out"]))
        return {"seconds": next(seconds), "peak_mb": 1.0, "engine": "torch", "precision": "fp32"}

    monkeypatch.setattr(mapping, "measured", measured)
    rows = [mapping.NAIVE, mapping.PAPER, mapping.DEFAULT, mapping.engine_row("torch", "fp32"), mapping.INT8]
    found = mapping.table(site, rows, 3, tmp_path, {"fp32": 100.0})
    assert started == ["default", "naive", "paper", "naive", "paper", "default", "naive", "paper", "default"]
    assert [row["name"] for row in found["rows"]] == ["naive", "paper", "default"]
    assert [row["seconds"] for row in found["rows"]] == [4.0, 20.0, 6.0]  # medians of the three
    assert [row["ratio"] for row in found["rows"]] == [1.0, 4 / 20, 4 / 6]
    assert found["rows"][2]["shown"] == "default (torch fp32)"
    assert found["notes"] == ["torch fp32 is the default", "int8 skipped: no int8.json"]
    assert found["rows"][0]["megapixels_per_second"] == pytest.approx(128 * 192 / 1e6 / 4)
    assert found["rows"][0]["share"] == pytest.approx(mapping.operations(site) / 4 / 100e9)
    json.loads(json.dumps(found, allow_nan=False))


def test_a_virtual_raster_repeats_its_source_or_cuts_it(site: mapping.Site, tmp_path: Path) -> None:
    source = read(site.stack)
    many = read(virtual.repeated(site.stack, tmp_path / "many.vrt", 0.09))
    assert many.shape == (len(source), 300, 300)
    np.testing.assert_array_equal(many, np.tile(source, (1, 3, 2))[:, :300, :300])
    part = virtual.crop(site.stack, tmp_path / "part.vrt", Window(16, 32, 64, 48))
    np.testing.assert_array_equal(read(part), source[:, 16:80, 32:80])
    assert read_info(part).grid == read_info(site.stack).grid.crop(Window(16, 32, 64, 48))
    assert read_info(part).names == read_info(site.stack).names


def test_the_memory_of_a_pixel_is_what_more_of_them_take() -> None:
    pixels = 512**2 - mapping_growth.SMALL**2
    few = {"peak_mb": 1.0, "running_mb": 600.0}
    many = {
        "peak_mb": 1.0,
        "running_mb": 600 + 1000 * pixels / 2**20,
        "bytes_reckoned": 2192.0,
        "engine": "openvino",
        "seconds": 1.0,
    }
    found = mapping_growth._of_a_pixel(few, many, 512)
    given_out = (2192 - HELD_INPUTS * 4 * 16) / SHARE_HELD["openvino"]
    assert found["bytes"] == pytest.approx(1000) and found["of_reckoned"] == pytest.approx(1000 / 2192)
    assert found["share_held"] == pytest.approx((1000 - 4 * 16) / given_out)
    assert found["base_mb"] == pytest.approx(600 - 1000 * mapping_growth.SMALL**2 / 2**20)


def test_the_stand_in_is_of_one_layer() -> None:
    run = tomllib.loads(growth.RUN.format(split="apart"))
    network = build_model("fc_densenet", 19, **run["network"]["options"])
    convolutions = [m for m in network.modules() if type(m).__name__ in ("Conv2d", "Pointwise")]
    assert [m.out_channels for m in convolutions] == [1, 4, 1, 1] and network.multiple == 1


def test_growth_goes_on_after_what_is_kept_and_compares_further_megapixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processor seconds of a start of 5 and of 2, 2 and 3 by further megapixel; the largest within a limit, failed."""
    taken, asked = {1.0: 7.0, 10.0: 25.0, 60.0: 175.0}, []

    def measured(command: list[object], limit: int = 0) -> process.Measured:
        asked.append((*command, limit))
        return process.Measured(1.0, 1.0, 1.0, taken[command[0]], "killed", limit > 0)

    def stage(folder: Path, megapixels: float) -> list[object]:
        (folder / "input").touch()
        return [megapixels]

    monkeypatch.setattr(growth, "measured_command", measured)
    monkeypatch.setitem(growth.STAGES, "map", stage)
    rows = growth.measure(["map"], [10, 1], 0, tmp_path)
    assert [row["per_megapixel"] for row in rows] == [7, 2.5] and rows[1]["per_further_megapixel"] == 2
    rows = growth.measure(["map"], [1, 10, 60], 2, tmp_path)
    assert asked == [(1, 0), (10, 0), (60, 2 * 2**30)]
    assert rows[2]["per_further_megapixel"] == 3 and rows[2]["against_before"] == 1.5
    assert [row["limit"] for row in rows] == ["", "", "2 GiB: FAILED"]
    assert list(tmp_path.iterdir()) == [tmp_path / "growth.json"]  # rasters are removed


def test_a_process_is_measured_within_a_limit_of_memory() -> None:
    took = "import time; x = bytearray(300 << 20); time.sleep(0.5)"
    free = process.measured_command([sys.executable, "-c", took])
    assert not free.failed and 300 < free.private_mib <= free.peak_mib + 1
    bound = process.measured_command([sys.executable, "-c", took], 200 << 20)
    assert bound.failed and "MemoryError" in bound.said


def test_a_variant_is_compared_with_the_whole_recipe_in_its_own_fold() -> None:
    # F1 is 2 tp / (2 tp + fp + fn): 0.8, 0.5; 0.6. Only fold 1 of the variant is trained.
    first, second, variant = Confusion(4, 1, 1, 9), Confusion(2, 2, 2, 9), Confusion(3, 2, 2, 9)
    parts = {(0, 0): first, (0, 1): second}
    whole = {key: dict.fromkeys(recipe.SCORED, counts) for key, counts in parts.items()}
    results = {recipe.WHOLE: whole, "batch 4": {(0, 1): dict.fromkeys(recipe.SCORED, variant)}}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in recipe.table(results)]
    # Pooled: 12 / (12 + 3 + 3) = 0.6667.
    assert rows[2][:2] == ["whole recipe", "66.67"] and rows[2][3:5] == ["80.0, 50.0", ""]
    assert rows[3][:2] == ["batch 4", "60.00"] and rows[3][3:5] == ["60.0", "+10.0"]
    alone = recipe.table({"batch 4": results["batch 4"]})
    assert [cell.strip() for cell in alone[2].split("|")][4:6] == ["60.0", "-"]
    assert {len(row) for row in rows} == {9}


def test_every_variant_of_the_recipe_is_a_run_of_its_own() -> None:
    runs = [recipe.run_of(name, 0, 1, 3, 7).model_dump_json() for name in recipe.VARIANTS]
    assert len(set(runs)) == len(recipe.VARIANTS)
    run = recipe.run_of("ResU-Net", 2, 1, 3, 7)
    assert (run.network.name, run.training.epochs, run.training.seed, run.split.fold) == ("resunet", 7, 2, 1)
