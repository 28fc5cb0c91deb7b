"""Every layer of a stack at windows of any size, against the whole: the same bytes. Prepared in blocks; resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import shapely
from bundles import CLEAR, write_landsat
from conftest import GRID, TinySite, frame
from real_data import DATA, ROOT
from scipy import ndimage
from scipy.ndimage import distance_transform_edt

from landslip.config.site import Site, read_site
from landslip.config.site_tables import FileTable
from landslip.factors.indices import mndwi, ndvi
from landslip.geo import geotiff, raster, warp
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import find_tiles, put_tiles, write_raster
from landslip.geo.grid import Window, tiles
from landslip.geo.raster import read
from landslip.geo.rasterize import burn
from landslip.geo.vector import read_vector
from landslip.preparation import class_sources, distance_sources, images, terrain_sources
from landslip.preparation import prepare as prepare_module
from landslip.preparation.channel_sources import channel_sources
from landslip.preparation.images import read_images, read_with_plain
from landslip.preparation.manifest import make_manifest
from landslip.preparation.prepare import prepare
from landslip.preparation.site_grid import site_grid
from landslip.preparation.site_inputs import open_site
from landslip.preparation.source import Encoding
from landslip.runtime.parallel import parallel_map
from landslip.scenes.pansharpen import upsample

PREPARED = ("stack.tif", "valid.tif", "label.tif", "channels.json", "manifest.json", "table.csv")


def require_same_in_windows(site: Site, folder: Path, steps: tuple[int, ...], encoding: Encoding) -> set[str]:
    """Compare each layer's windows with the whole, bit for bit; the names of the layers."""
    grid = site_grid(open_site(site))
    found = channel_sources(open_site(site), grid, encoding)
    for layer in found:
        values = layer.begin(folder)
        whole = values(Window(0, 0, *grid.shape))
        assert whole.shape == (len(layer.channels), *grid.shape) and whole.dtype == np.float32
        for step in steps:
            for window in tiles(grid.shape, step):
                part = values(window)
                expected = np.ascontiguousarray(whole[:, window.slices[0], window.slices[1]])
                assert part.tobytes() == expected.tobytes(), (layer.name, window)
    return {layer.name for layer in found}


@pytest.mark.parametrize("encoding", ["planes", "paper"])
def test_a_layer_does_not_depend_on_the_window(tiny: TinySite, encoding: Encoding) -> None:
    text = tiny.site.read_text().replace('path = "dem.tif"', 'path = "dem.tif"\ncurvatures = ["plan", "profile"]')
    before = '\n[[before]]\npath = "image.tif"\nbands = { red = 4, nir = 5 }\n'
    codes = np.arange(84 * 116, dtype=np.uint8).reshape(1, 84, 116) // 51
    dem = raster.read_info(tiny.folder / "dem.tif").grid
    write_raster(tiny.folder / "soil.tif", codes, dem, ["soil"], nodata=2)
    soil = '\n[[factor]]\nname = "soil"\npath = "soil.tif"\nkind = "classes"\n'
    wet = '\n[[factor]]\nname = "wet"\npath = "dem.tif"\nscale = 0.01\n'
    tiny.site.write_text(text + before + soil + wet)
    found = require_same_in_windows(read_site(tiny.site), tiny.folder, (37, 64, 100), encoding)
    assert found == {
        "bands", "terrain", "indices", "distance_to_river", "distance_to_fault", "lithology", "soil", "wet",
    }  # fmt: skip


def test_a_dem_in_degrees_and_an_image_in_another_crs(tiny: TinySite) -> None:
    grid = site_grid(open_site(read_site(tiny.site)))
    for name, size in (("dem", 0.0003), ("image", 0.00011)):
        info = raster.read_info(tiny.folder / f"{name}.tif")
        degrees = warp.default_grid(info, raster.CRS.from_epsg(4326), size)
        values = warp.warp_array(read(tiny.folder / f"{name}.tif"), info.grid, degrees, "cubic")
        write_raster(tiny.folder / f"{name}.tif", values, degrees, list(info.names), float("nan"), overwrite=True)
    text = tiny.site.read_text().replace(
        "[outline]", f'[grid]\ncrs = "EPSG:32649"\nresolution = {grid.x_size}\n\n[outline]'
    )
    tiny.site.write_text(text)
    require_same_in_windows(read_site(tiny.site), tiny.folder, (41, 128), "planes")


def test_fine_rasters_are_taken_in_quarters(tiny: TinySite, monkeypatch: pytest.MonkeyPatch) -> None:
    site, grid = read_site(tiny.site), site_grid(open_site(read_site(tiny.site)))
    window = Window(0, 0, *grid.shape)
    whole = [layer.begin(tiny.folder)(window) for layer in channel_sources(open_site(site), grid, "planes")[:2]]
    for module in (warp, terrain_sources):
        monkeypatch.setattr(module, "MOST_AT_ONCE", 3000)
    for layer, expected in zip(channel_sources(open_site(site), grid, "planes")[:2], whole, strict=True):
        assert layer.begin(tiny.folder)(window).tobytes() == expected.tobytes()


SITES = {
    # pixels that are not square, 0 as undeclared nodata
    "jiuzhaigou": '[dem]\npath = "{data}/jiuzhaigou/DEM_030.tif"\nnodata = 0\n[faults]\npath = "{faults}"\n',
    # degrees, two resolutions, 40 % nodata
    "iburi": '[grid]\ncrs = "EPSG:32654"\nresolution = 10\n[[image]]\npath = "{image}"\nbands = {{ blue = 1 }}\n'
    '[dem]\npath = "{data}/iburi/dsm.tif"\n',
    "muzaffarabad": None,  # float nodata; rivers from the DEM
    "southern_ecuador": '[[image]]\npath = "{data}/southern_ecuador/ta.tif"\nbands = {{ slope = 1 }}\n',
}


@pytest.mark.parametrize("name", SITES)
def test_real_sites_in_windows(name: str, tmp_path: Path) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"needs the real data of ../shared/data/{name}, which is not in the repository")
    path = tmp_path / "site.toml"
    text = SITES[name]
    if text is None:
        path = ROOT / "sites" / f"{name}.toml"
    else:
        images = sorted((DATA / "iburi").glob("*.tif"), key=lambda p: -p.stat().st_size)
        image = next(p for p in images if p.name not in ("dsm.tif", "slope.tif"))
        faults = next(
            p for p in sorted((DATA / "gem_active_faults").iterdir()) if p.suffix in (".gpkg", ".shp", ".geojson")
        )
        head = f'name = "{name}"\n'
        text = text.replace("slope = 1", "band_1 = 1")
        path.write_text(head + text.format(data=DATA.as_posix(), faults=faults.as_posix(), image=image.as_posix()))
    assert require_same_in_windows(read_site(path), tmp_path, (331,), "planes")


# ---- scenes ----


def two_scenes(folder: Path, shape: tuple[int, int], tables: str = "", pan: bool = True, tar: bool = False) -> Site:
    """Two bundles that fill each other's clouds, saturation in one band, and one from before."""
    random = np.random.default_rng(3)
    text = f'name = "scenes"\n{tables}\n'
    for i, (table, date) in enumerate((("image", "2014-08-13"), ("image", "2014-08-29"), ("before", "2014-07-12"))):
        stored = random.integers(8000, 20_000, (7, *shape))
        quality = np.where(ndimage.uniform_filter(random.random(shape), 5) < 0.44, CLEAR | 1 << 3, CLEAR)
        saturation = (random.random(shape) < 0.004) * (1 << i)
        band_8 = upsample(stored[2:4].mean(axis=0)) * random.uniform(0.9, 1.1, [2 * n - 1 for n in shape])
        bundle = write_landsat(folder, stored, band_8 if pan else None, quality, saturation, date, tar=tar)
        text += f'[[{table}]]\nbundle = "{bundle.path.name}"\n'
    (folder / "site.toml").write_text(text)
    return read_site(folder / "site.toml")


GRIDS = {
    "band 8's own": "",  # green and red are sharpened
    "the bands' own": "[grid]\nresolution = 30",
    "coarser": "[grid]\nresolution = 47",
    "finer": "[grid]\nresolution = 9.7",
    "of another zone": '[grid]\ncrs = "EPSG:32648"\nresolution = 17',
}


@pytest.mark.parametrize("where", GRIDS)
def test_scenes_do_not_depend_on_the_window(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site = two_scenes(tmp_path, (40, 50), GRIDS[where])
    grid = site_grid(open_site(site))
    # both scenes give pixels, and some are left undefined
    bands, plain = read_with_plain(open_site(site).images, grid)
    first = read_with_plain(open_site(site).images[:1], grid)[0]
    lacking, left = (np.isnan(found["red"]).mean() for found in (first, bands))
    assert 0.01 < left < lacking - 0.1 < 0.8
    assert np.array_equal(bands["red"], plain["red"], equal_nan=True) == (where in ("the bands' own", "coarser"))
    assert require_same_in_windows(site, tmp_path, (23, 64), "planes") == {"bands", "indices"}
    indices = channel_sources(open_site(site), grid, "planes")[1].begin(tmp_path)(Window(0, 0, *grid.shape))
    earlier = read_with_plain(open_site(site).before, grid)[1]
    expected = (
        ndvi(plain["red"], plain["nir"]),
        mndwi(plain["green"], plain["swir1"]),
        ndvi(plain["red"], plain["nir"]) - ndvi(earlier["red"], earlier["nir"]),
    )
    np.testing.assert_allclose(indices, expected, atol=1e-6)
    if where == "the bands' own":
        whole = np.stack(list(bands.values()))
        monkeypatch.setattr(images, "MOST_AT_ONCE", 300)
        assert np.stack(list(read_images(open_site(site).images, grid).values())).tobytes() == whole.tobytes()


@pytest.mark.parametrize("tar", [False, True])
def test_scenes_prepared_in_any_blocks_have_the_same_bytes(
    tmp_path: Path, tar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = two_scenes(tmp_path, (140, 280), tar=tar)  # 279 x 559 pixels of 15 m
    kept = None
    for block, final, threads in ((1024, 512, 1), (256, 256, 3)):
        for name in ("source", "class_sources"):
            monkeypatch.setattr(f"landslip.preparation.{name}.FILL_WINDOW", block)
        monkeypatch.setattr(prepare_module, "FINISH_WINDOW", final)
        monkeypatch.setattr(prepare_module, "parallel_map", lambda f, items, n=threads: parallel_map(f, items, n))
        prepared = prepare(site, tmp_path / "p", overwrite=True)
        found = prepared_bytes(tmp_path / "p")
        assert prepared.grid.shape == (279, 559) and 0.1 < prepared.valid_pixels / 279 / 559 < 0.9
        assert kept is None or found == kept
        kept = found
    how = json.loads((kept or {})["manifest.json"])["resampling"]
    product = "LC08_L1TP_130038_20140813_20200911_02_T1"
    assert how["bands"][f"{product}_B4.TIF"] == "bilinear to band 8's pixels, sharpened with band 8"
    assert how["bands"][f"{product}_B8.TIF"] == "none: its pixels are the grid's"
    assert how["indices"][f"{product}_B4.TIF"] == "bilinear to band 8's pixels"
    assert f"{product}_B8.TIF" not in how["indices"] and len(how["indices"]) == 3 * 9


def test_indices_read_the_bands_that_they_need(tiny: TinySite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file with several bands and of a file per band; of a bundle all, since they say what is filled."""
    names = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2")
    for number, name in enumerate(names, start=1):
        write_raster(tiny.folder / f"{name}.tif", read(tiny.folder / "image.tif", [number]), GRID, [name])
    listed = ", ".join(f'{name} = "{name}.tif"' for name in names)
    (tiny.folder / "files.toml").write_text(f'name = "f"\n[[image]]\nfiles = {{ {listed} }}\nscale = 1\noffset = 0\n')
    text = tiny.site.read_text()
    (tiny.folder / "path.toml").write_text(text[: text.index("[dem]")].replace("scale", "# scale"))
    found = {}
    for which in ("path", "files"):
        site = read_site(tiny.folder / f"{which}.toml")
        needed = images.only(open_site(site).images, ("red", "nir", "green", "swir1"))
        assert [list(image.table.bands) for image in needed] == [["green", "red", "nir", "swir1"]]
        indices = channel_sources(open_site(site), GRID, "planes")[1]
        found[which] = indices.begin(tiny.folder)(Window(5, 6, 70, 80))
        assert len(indices.resampling) == (1 if which == "path" else 4)
    assert found["path"].tobytes() == found["files"].tobytes() and np.isfinite(found["path"]).any()
    bundles = two_scenes(tiny.folder, (40, 50))
    assert images.only(open_site(bundles).images, ("red", "nir")) == list(open_site(bundles).images)
    assert images.only(open_site(bundles).images, ("thermal",)) == []


# ---- features outside ----


@pytest.mark.parametrize("far", [(-9000, 3000), (2000, 7000), (500, -4000), (4000, 900)])
def test_features_outside_the_grid_count_however_far(tmp_path: Path, far: tuple[float, float]) -> None:
    """One in a corner of the grid and one outside: the nearer of two pixels, by Pythagoras."""
    left, bottom = GRID.bounds[:2]
    points = [shapely.Point(left + 20, bottom + 20), shapely.Point(left + far[0] + 4, bottom + far[1] + 4)]
    for name, chosen in (("both", points), ("far", points[1:])):
        write_vector(tmp_path / f"{name}.gpkg", frame(chosen))
        layer = distance_sources.distance_source(name, FileTable(path=tmp_path / f"{name}.gpkg"), GRID)
        found = layer.begin(tmp_path)(Window(0, 0, *GRID.shape))[0]
        row, column = np.indices(GRID.shape)
        away = []
        for point in chosen:
            at = (GRID.transform.f - point.y) // 15, (point.x - GRID.transform.c) // 15
            away.append(15 * np.hypot(row - at[0], column - at[1]))
        np.testing.assert_allclose(found, np.min(away, axis=0), rtol=1e-6)


def test_features_on_all_sides_against_scipy_on_a_wide_grid(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    left, bottom, right, top = GRID.bounds
    x, y = random.uniform(left - 3000, right + 3000, 25), random.uniform(bottom - 3000, top + 3000, 25)
    lines = [shapely.LineString([(a, b), (a + 333, b - 222)]) for a, b in zip(x, y, strict=True)]
    write_vector(tmp_path / "f.gpkg", frame(lines))
    layer = distance_sources.distance_source("f", FileTable(path=tmp_path / "f.gpkg"), GRID)
    found = layer.begin(tmp_path)(Window(0, 0, *GRID.shape))[0]
    burnt = burn(lines, GRID.pad(400), "touched")
    expected = distance_transform_edt(~burnt, sampling=15)[400:-400, 400:-400]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# ---- prepared in blocks ----


def prepared_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_any_block_and_any_number_of_threads_prepare_the_same_bytes(
    tiny: TinySite, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a stack of more than one stored tile, of which the last is not whole
    image = [np.tile(raster.read_stored(tiny.folder / "image.tif", band), (5, 4))[:600, :700] for band in range(1, 8)]
    grid = GRID.crop(Window(-200, -200, 600, 700))
    names = ["coastal", "blue", "green", "red", "nir", "swir1", "swir2"]
    write_raster(tiny.folder / "image.tif", np.stack(image), grid, names, nodata=0, overwrite=True)
    tiny.site.write_text(tiny.site.read_text().replace('[outline]\npath = "outline.gpkg"\n', ""))
    kept = None
    for block, columns, final, threads in ((1024, 256, 512, 2), (256, 512, 1024, 1), (512, 256, 256, 3)):
        for name in ("source", "class_sources"):
            monkeypatch.setattr(f"landslip.preparation.{name}.FILL_WINDOW", block)
        monkeypatch.setattr("landslip.preparation.source.FILL_COLUMNS", columns)
        monkeypatch.setattr(prepare_module, "FINISH_WINDOW", final)
        monkeypatch.setattr("landslip.preparation.distance_sources.FILL_COLUMNS", columns)
        for module in (prepare_module, class_sources, distance_sources):
            monkeypatch.setattr(module, "parallel_map", lambda f, items, n=threads: parallel_map(f, items, n))
        prepare(read_site(tiny.site), tiny.folder / "p", overwrite=True)
        found = prepared_bytes(tiny.folder / "p")
        assert sorted(found) == sorted(PREPARED)
        assert kept is None or found == kept
        kept = found


def test_the_manifest_says_how_each_layer_was_resampled(tiny: TinySite) -> None:
    prepare(read_site(tiny.site), tiny.folder / "p")
    manifest = json.loads((tiny.folder / "p" / "manifest.json").read_text())
    how = manifest["resampling"]
    assert how["bands"] == {"image.tif": "none: its pixels are the grid's"}
    assert how["terrain"] == {"dem.tif": "bilinear, after slopes"}
    assert list(how) == [layer.name for layer in channel_sources(open_site(read_site(tiny.site)), GRID, "planes")]
    assert {row["file"] for row in manifest["inputs"]} >= {"image.tif", "dem.tif", "rivers.gpkg"}
    assert manifest["software"]["numba"]


def test_the_manifest_knows_all_of_a_shapefile_and_what_was_before(tiny: TinySite) -> None:
    rocks = read_vector(tiny.folder / "rocks.gpkg")
    rocks.to_file(tiny.folder / "rocks.shp")
    text = tiny.site.read_text().replace("rocks.gpkg", "rocks.shp")
    tiny.site.write_text(text + '\n[[before]]\npath = "image.tif"\nbands = { red = 4, nir = 5 }\nscale = 0.0002\n')

    def manifest() -> dict:  # type: ignore[type-arg]
        return make_manifest(open_site(read_site(tiny.site)), GRID, "planes")

    first = manifest()
    assert {"rocks.shp", "rocks.dbf", "rocks.prj", "rocks.shx"} <= {row["file"] for row in first["inputs"]}
    assert first["before"][0]["bands"]["red"]["scale"] == 0.0002
    table = (tiny.folder / "rocks.dbf").read_bytes()
    (tiny.folder / "rocks.dbf").write_bytes(table.replace(b"shale", b"chalk"))
    assert manifest()["inputs"] != first["inputs"]


KILLED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell turns off for what runs behind it
from landslip.preparation import prepare as module
from landslip.config.site import read_site
from pathlib import Path
put = module.put_tiles
def put_then_die(tiles, values, window, bands):
    put(tiles, values, window, bands)
    if {band} in bands:
        os.kill(os.getpid(), signal.{stop})
module.put_tiles = put_then_die
module.prepare(read_site(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    "stop, band", [("SIGKILL", 1), ("SIGKILL", 12), ("SIGKILL", 15), ("SIGINT", 1), ("SIGINT", 12)]
)
@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_stopped_and_begun_again_gives_the_same_bytes(
    tiny: TinySite, stop: str, band: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(read_site(tiny.site), tiny.folder / "whole")
    out = tiny.folder / "p"
    command = [sys.executable, "-c", KILLED.format(band=band, stop=stop), str(tiny.site), str(out)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert killed.returncode == -signal.Signals[stop] and not out.exists()
    if stop == "SIGINT":  # what is kept is said, and a stack that holds nothing goes
        assert ("7 finished channels" in killed.stderr) == (band > 1)
        assert (tiny.folder / ".p.part").exists() == (band > 1)
    computed = []
    fill = prepare_module.put_tiles
    monkeypatch.setattr(
        prepare_module, "put_tiles", lambda t, v, w, bands: (computed.extend(bands), fill(t, v, w, bands))
    )
    prepare(read_site(tiny.site), out)
    # what was finished is not computed again: 7 bands, then 5 of terrain, then one layer at a time
    first = {1: 1, 12: 8, 15: 15}[band]
    assert sorted(computed) == list(range(first, 19))
    assert ("taken over" in capsys.readouterr().err) == (first > 1)
    assert prepared_bytes(out) == prepared_bytes(tiny.folder / "whole")
    assert not list(tiny.folder.glob(".p.*"))


DRAWING = """
import os, signal, sys
from landslip.preparation import prepare as module
from landslip.config.site import read_site
from pathlib import Path
draw = module.draw_prepared
def draw_then_die(*given, **choices):
    draw(*given, **choices)
    os.kill(os.getpid(), signal.SIGKILL)
module.draw_prepared = draw_then_die
module.prepare(read_site(Path(sys.argv[1])), Path(sys.argv[2]), figures=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_killed_when_all_was_drawn_the_same_command_ends_with_all_of_it(
    tiny: TinySite, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tiny.folder / "p"
    command = [sys.executable, "-c", DRAWING, str(tiny.site), str(out)]
    killed = subprocess.run(command, capture_output=True, check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL and not out.exists()
    computed: list[object] = []
    monkeypatch.setattr(prepare_module, "_fill_stack", lambda _, pending, *__: iter(computed.extend(pending) or ()))
    monkeypatch.setattr(prepare_module, "draw_prepared", lambda aside, overwrite: (aside / "figures").mkdir())
    prepare(read_site(tiny.site), out, figures=True)
    assert computed == []
    assert (out / "label.tif").exists() and (out / "figures").is_dir() and not list(tiny.folder.glob(".p.*"))


def test_another_input_begins_anew(tiny: TinySite, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", KILLED.format(band=12, stop="SIGKILL"), str(tiny.site), str(tiny.folder / "p")]
    subprocess.run(command, capture_output=True, check=False, timeout=300)
    left, bottom, right, top = GRID.bounds
    moved = frame([shapely.LineString([(right, top), (left, bottom)])])
    write_vector(tiny.folder / "rivers.gpkg", moved, overwrite=True)
    computed = []
    fill = prepare_module.put_tiles
    monkeypatch.setattr(
        prepare_module, "put_tiles", lambda t, v, w, bands: (computed.extend(bands), fill(t, v, w, bands))
    )
    prepare(read_site(tiny.site), tiny.folder / "p")
    assert sorted(computed) == list(range(1, 19))


# ---- tiles, cores ----


def test_tiles_are_what_gdal_reads(tmp_path: Path) -> None:
    grid = GRID.crop(Window(0, 0, 300, 520))
    geotiff.create_blank(tmp_path / "a.tif", grid, ["a", "b"], [{"note": "1"}, {"note": "2"}])
    values = np.random.default_rng(0).random((2, 300, 520)).astype(np.float32)
    values[0, 5, 6] = np.nan
    places = find_tiles(tmp_path / "a.tif")
    for window in tiles(grid.shape, 256):
        part = np.ascontiguousarray(values[:, window.slices[0], window.slices[1]])
        put_tiles(places, part[:1], window, [1])
        put_tiles(places, part[1:], window, [2])
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), values)
    info = raster.read_info(tmp_path / "a.tif")
    assert info.names == ("a", "b") and np.isnan(info.nodata).all() and raster.read_band_tags(tmp_path / "a.tif")[1]


def test_results_come_in_order_and_few_wait() -> None:
    begun: list[int] = []

    def slow(i: int) -> int:
        begun.append(i)
        time.sleep(0.002 * (i % 3))
        return i * i

    def numbers() -> Iterator[int]:
        yield from range(40)

    found = []
    for result in parallel_map(slow, numbers(), 3):
        assert max(begun) <= len(found) + 4
        found.append(result)
    assert found == [i * i for i in range(40)]


def test_the_first_error_ends_it() -> None:
    begun: list[int] = []

    def fails(i: int) -> int:
        begun.append(i)
        if i == 5:
            raise ValueError("five")
        return i

    for threads in (1, 2):
        begun.clear()
        with pytest.raises(ValueError, match="five"):
            list(parallel_map(fails, range(1000), threads))
        assert max(begun) < 10
