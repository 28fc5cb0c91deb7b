"""Bundles as they are downloaded, against the constants that USGS and ESA document."""

import datetime
import json
import math
import re
import tarfile
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio.shutil
import shapely
from affine import Affine
from bundles import (
    CENTRE,
    CLEAR,
    ROLES,
    SUN,
    Bundle,
    landsat_grids,
    sentinel_metadata,
    surface,
    toa,
    toa_stored,
    write_landsat,
    write_sentinel,
)
from rasterio.crs import CRS

from landslip.config.site import Site, read_site
from landslip.dataset.channels import read_stack_info
from landslip.errors import ChannelError, RasterError, SiteError
from landslip.factors.indices import mndwi, ndvi
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid, Window, same_grid
from landslip.geo.raster import read, read_info, read_stored
from landslip.inventory.measure import _scene
from landslip.preparation.check import check_site
from landslip.preparation.images import read_images, read_with_plain
from landslip.preparation.prepare import prepare
from landslip.preparation.site_grid import site_grid
from landslip.preparation.site_inputs import open_site
from landslip.runtime.disk import file_hash
from landslip.scenes import landsat
from landslip.scenes.bundle import read_bundle
from landslip.scenes.landsat import read_mtl
from landslip.scenes.pansharpen import upsample
from landslip.scenes.sentinel2 import read_sentinel_metadata
from landslip.training.checkpoint import find_channels

SHAPE = (40, 50)
CLOUD, SHADOW, CIRRUS, DILATED, SNOW = (CLEAR | 1 << bit for bit in (3, 4, 2, 1, 5))


def numbers(seed: int = 0, low: int = 8000, high: int = 20_000, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """(7, H, W) DN."""
    return np.random.default_rng(seed).integers(low, high, (7, *shape))


def pan_of(stored: np.ndarray) -> np.ndarray:
    """A band 8 with the brightness of green and red and detail of its own."""
    smooth = upsample((stored[2] + stored[3]) / 2)
    return smooth * np.random.default_rng(9).uniform(0.9, 1.1, smooth.shape)


def site_of(folder: Path, tables: str, grid: str = "") -> Site:
    path = folder / "site.toml"
    path.write_text(f'name = "scene"\n{grid}\n{tables}\n')
    return read_site(path)


def image(bundle: Bundle | Path, more: str = "") -> str:
    path = bundle.path if isinstance(bundle, Bundle) else bundle
    return f'[[image]]\nbundle = "{path.name}"\n{more}\n'


def faults(site: Site) -> list[str]:
    return [finding.text for finding in check_site(site) if finding.severity == "fault"]


def warnings(site: Site) -> list[str]:
    return [f.text for f in check_site(site) if f.severity == "warning" and "no [landslides]" not in f.text]


# ---- Landsat ----


@pytest.mark.parametrize("kinds, tar", [(("json",), False), (("txt",), False), (("txt",), True), (("json",), True)])
def test_level_2_is_scaled_as_documented(tmp_path: Path, kinds: tuple[str, ...], tar: bool) -> None:
    stored = numbers()
    bundle = write_landsat(tmp_path, stored, kinds=kinds, tar=tar)
    site = site_of(tmp_path, image(bundle))
    assert same_grid(site_grid(open_site(site)), bundle.grid)  # 30 m: no band 8
    bands = read_images(open_site(site).images, bundle.grid)
    assert tuple(bands) == ROLES
    for role, dn in zip(ROLES, stored, strict=True):
        np.testing.assert_allclose(bands[role], surface(dn), atol=1e-7)
    (table,) = open_site(site).site.image
    assert (table.scene, table.date) == (bundle.product, datetime.date(2014, 8, 13))


@pytest.mark.parametrize("kinds, tar", [(("json",), False), (("txt",), True)])
def test_level_1_is_reflectance_under_the_sun(tmp_path: Path, kinds: tuple[str, ...], tar: bool) -> None:
    stored = numbers()
    bundle = write_landsat(tmp_path, stored, pan_of(stored), kinds=kinds, tar=tar)
    site = site_of(tmp_path, image(bundle, "pansharpen = false"))
    assert same_grid(site_grid(open_site(site)), bundle.grid)
    bands = read_images(open_site(site).images, bundle.grid)
    for role, dn in zip(ROLES, stored, strict=True):
        np.testing.assert_allclose(bands[role], toa(dn), atol=1e-6)
    # USGS's worked constants: DN 5000 is no light, and the sun's height divides
    assert toa(np.array([5000]))[0] == 0 and toa(np.array([55_000]))[0] == pytest.approx(
        1 / math.sin(math.radians(SUN))
    )


def test_the_text_and_json_metadata_say_the_same(tmp_path: Path) -> None:
    bundle = write_landsat(tmp_path, numbers())
    paths = [next(bundle.path.glob(f"*_MTL.{kind}")) for kind in ("json", "txt")]
    found = [read_mtl(path, path.read_text()) for path in paths]
    assert found[0] == found[1]
    assert found[0]["LEVEL1_RADIOMETRIC_RESCALING"]["REFLECTANCE_MULT_BAND_1"] == "2.0000E-05"
    assert found[0]["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"]["REFLECTANCE_MULT_BAND_1"] == "2.75e-05"


def test_fill_is_undefined(tmp_path: Path) -> None:
    stored = numbers()
    stored[2, 3, 4] = 0
    bundle = write_landsat(tmp_path, stored)
    bands = read_images(open_site(site_of(tmp_path, image(bundle))).images, bundle.grid)
    assert np.isnan(bands["green"][3, 4]) and not np.isnan(bands["red"]).any()


@pytest.mark.parametrize(
    "setting, masked",
    [
        ("", {"fill", "dilated", "cirrus", "cloud", "shadow"}),
        ('mask = ["cloud", "snow"]', {"fill", "cloud", "snow"}),
        ("mask = []", {"fill"}),
    ],
)
def test_bits_of_quality_to_undefined(tmp_path: Path, setting: str, masked: set[str]) -> None:
    # LSDS-1822, QA_PIXEL: bit 0 fill, 1 dilated cloud, 2 cirrus, 3 cloud, 4 shadow, 5 snow
    quality = np.full(SHAPE, CLEAR)
    at = {"fill": 1, "dilated": DILATED, "cirrus": CIRRUS, "cloud": CLOUD, "shadow": SHADOW, "snow": SNOW}
    for row, value in enumerate(at.values()):
        quality[row, 7] = value
    bundle = write_landsat(tmp_path, numbers(), quality=quality)
    bands = read_images(open_site(site_of(tmp_path, image(bundle, setting))).images, bundle.grid)
    for row, name in enumerate(at):
        assert all(np.isnan(values[row, 7]) == (name in masked) for values in bands.values()), name
    assert np.isnan(bands["nir"]).sum() == len(masked)


def test_saturation_is_of_one_band(tmp_path: Path) -> None:
    # LSDS-1822, QA_RADSAT: bit n - 1 is band n
    saturation = np.zeros(SHAPE)
    saturation[5, 6], saturation[8, 9] = 1 << 3, 1 << 0
    bundle = write_landsat(tmp_path, numbers(), saturation=saturation)
    bands = read_images(open_site(site_of(tmp_path, image(bundle))).images, bundle.grid)
    assert {name: int(np.isnan(values).sum()) for name, values in bands.items()} == {
        **dict.fromkeys(ROLES, 0),
        "coastal": 1,
        "red": 1,
    }
    assert np.isnan(bands["red"][5, 6]) and np.isnan(bands["coastal"][8, 9])
    bands = read_images(open_site(site_of(tmp_path, image(bundle, "saturation = false"))).images, bundle.grid)
    assert not np.isnan(bands["red"]).any()


def test_nothing_is_drawn_from_a_cloud_on_another_grid(tmp_path: Path) -> None:
    stored, quality = numbers(), np.full(SHAPE, CLEAR)
    stored[:, 20, 20], quality[20, 20] = 60_000, CLOUD
    bundle = write_landsat(tmp_path, stored, quality=quality)
    fine = Grid(bundle.grid.crs, bundle.grid.transform @ Affine.translation(15, 15) @ Affine.scale(0.25), 40, 40)
    bands = read_images(open_site(site_of(tmp_path, image(bundle))).images, fine)
    gap = np.isnan(bands["red"])
    assert np.nanmax(bands["red"]) <= surface(np.array(20_000)) + 1e-6
    # bilinear weights of pixel (20, 20) are above 0 within 30 m of its centre, which is 5.5 pixels of 30 m from the
    # corner: fine pixels 18 to 25
    expected = np.zeros((40, 40), bool)
    expected[18:26, 18:26] = True
    assert np.array_equal(gap, expected)


def test_a_tar_is_read_without_unpacking(tmp_path: Path) -> None:
    bundle = write_landsat(tmp_path / "made", numbers(), tar=True)
    home = tmp_path / "alone"
    home.mkdir()
    moved = bundle.path.rename(home / "scene with {braces}.tar")
    site = site_of(home, image(moved))
    read_images(open_site(site).images, site_grid(open_site(site)))
    assert not faults(site)
    assert sorted(path.name for path in home.iterdir()) == [moved.name, "site.toml"]
    assert open_site(site).files() == [("image[0]", moved)]


def test_metadata_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_landsat(tmp_path, numbers())
    texts: list[str] = []
    read_mtl = landsat.read_mtl
    monkeypatch.setattr(landsat, "read_mtl", lambda path, text: (texts.append(text), read_mtl(path, text))[1])
    monkeypatch.setattr("landslip.preparation.source.FILL_WINDOW", 16)
    prepare(site_of(tmp_path, image(bundle)), tmp_path / "prepared")
    assert len(texts) == 1


def test_the_files_that_are_read_are_the_inputs(tmp_path: Path) -> None:
    bundle = write_landsat(tmp_path, numbers())
    site = site_of(tmp_path, image(bundle, 'bands = ["red", "nir"]'))
    names = {path.name.removeprefix(bundle.product + "_") for _, path in open_site(site).files()}
    assert names == {"MTL.json", "SR_B4.TIF", "SR_B5.TIF", "QA_PIXEL.TIF", "QA_RADSAT.TIF"}


def test_a_missing_band_is_named(tmp_path: Path) -> None:
    stored = numbers()
    bundle = write_landsat(tmp_path, stored, pan_of(stored))
    for name in ("B3", "B8"):
        (bundle.path / f"{bundle.product}_{name}.TIF").unlink()
    (found,) = faults(site_of(tmp_path, image(bundle)))
    assert "_B3.TIF (green)" in found and "_B8.TIF (band 8" in found and "pansharpen = false" in found
    site = site_of(tmp_path, image(bundle, 'bands = ["red", "nir"]\npansharpen = false'))
    assert not faults(site)


@pytest.mark.parametrize("kind", ["json", "txt"])
@pytest.mark.parametrize(
    "harm, said",
    [
        (lambda text: text[: len(text) // 2], r"cut short|line \d+ is|delimiter|Unterminated|Expecting"),
        (lambda text: text.replace("2.75e-05", "none"), "REFLECTANCE_MULT_BAND_1 in LEVEL2.*'none', no number"),
        (lambda text: text.replace("2.75e-05", "1e300"), "REFLECTANCE_MULT_BAND_1.*no reflectance"),
        (lambda text: text.replace("2.75e-05", "-2.75e-05"), "REFLECTANCE_MULT_BAND_1.*no reflectance"),
        (lambda text: text.replace("LEVEL2_SURFACE", "LEVEL9_SURFACE"), "no REFLECTANCE_MULT_BAND_1 in a group LEVEL2"),
        (lambda text: text.replace("2014-08-13", "2014-13-08"), "its date is '2014-13-08'"),
        (lambda text: "", "cut short|Expecting value"),
        (lambda text: text.replace("LANDSAT_METADATA_FILE", "L1_METADATA_FILE"), "Collection 1"),
    ],
)
def test_corrupt_metadata_is_one_error(tmp_path: Path, kind: str, harm, said: str) -> None:  # type: ignore[no-untyped-def]
    bundle = write_landsat(tmp_path, numbers(), kinds=(kind,))
    path = next(bundle.path.glob("*_MTL.*"))
    path.write_text(harm(path.read_text()))
    (found,) = faults(site_of(tmp_path, image(bundle)))
    assert path.name in found and re.search("Fetch (it again|that product)", found)
    with pytest.raises(SiteError, match=said):
        read_bundle(bundle.path, ROLES)


def test_metadata_that_is_no_text_is_corrupt(tmp_path: Path) -> None:
    bundle = write_landsat(tmp_path, numbers(), kinds=("txt",))
    next(bundle.path.glob("*_MTL.txt")).write_bytes(b"\xff\x00" * 500)
    (found,) = faults(site_of(tmp_path, image(bundle)))
    assert "_MTL.txt is no metadata" in found


def test_the_sun_must_be_up(tmp_path: Path) -> None:
    stored = numbers()
    bundle = write_landsat(tmp_path, stored, pan_of(stored), kinds=("json",))
    path = next(bundle.path.glob("*_MTL.json"))
    whole = path.read_text()
    for height in ("-3.2", "5e-324"):
        path.write_text(whole.replace(f"{SUN:.8f}", height))
        (found,) = faults(site_of(tmp_path, image(bundle)))
        assert f"SUN_ELEVATION is {float(height):g}" in found


def test_other_satellites_and_folders_are_refused(tmp_path: Path) -> None:
    bundle = write_landsat(tmp_path, numbers(), kinds=("json",))
    path = next(bundle.path.glob("*_MTL.json"))
    path.write_text(path.read_text().replace("LANDSAT_8", "LANDSAT_7"))
    with pytest.raises(SiteError, match=r"LANDSAT_7.*`files` with scale and offset"):
        read_bundle(bundle.path, ROLES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SiteError, match="nobody knows its scaling"):
        read_bundle(tmp_path / "empty", ROLES)
    with pytest.raises(SiteError, match="does not exist"):
        read_bundle(tmp_path / "none", ROLES)
    (tmp_path / "cut.tar").write_bytes(b"LC08" * 300)
    with pytest.raises(SiteError, match="cannot be read as an archive"):
        read_bundle(tmp_path / "cut.tar", ROLES)
    with pytest.raises(SiteError, match="several scenes"):
        write_landsat(tmp_path / "two", numbers(), date="2014-08-13")
        write_landsat(tmp_path / "two", numbers(), date="2014-08-29")
        read_bundle(tmp_path / "two", ROLES)


def test_a_cut_off_tar_is_one_error(tmp_path: Path) -> None:
    bundle = write_landsat(tmp_path, numbers(), tar=True)
    whole = bundle.path.read_bytes()
    bundle.path.write_bytes(whole[: len(whole) // 3])
    assert len(faults(site_of(tmp_path, image(bundle)))) == 1


def test_an_archive_cannot_point_at_other_files(tmp_path: Path) -> None:
    bundle = write_landsat(tmp_path, numbers(), kinds=("json",))
    secret = tmp_path / "other.tif"
    write_raster(secret, numbers()[:1].astype(np.uint16), bundle.grid, ["x"])
    band = bundle.path / f"{bundle.product}_SR_B4.TIF"
    band.write_text(
        f'<VRTDataset rasterXSize="50" rasterYSize="40"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f"<SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    packed = tmp_path / "scene.tar"
    with tarfile.open(packed, "w") as archive:
        for path in sorted(bundle.path.iterdir()):
            archive.add(path, path.name)
    scene = read_bundle(packed, ["red"])
    with pytest.raises(RasterError, match="cannot be read as a raster"):
        read_info(scene.bands["red"].path)


def zipped_sentinel(folder: Path) -> bytes:
    """A .SAFE folder as the bytes of a .zip, its metadata first."""
    safe = write_sentinel(folder, {"B02": np.full((40, 40), 3000)}, np.full((20, 20), 4), sentinel_metadata())
    with zipfile.ZipFile(folder / "scene.zip", "w") as archive:
        for path in sorted(safe.rglob("*.*"), key=lambda path: path.suffix != ".xml"):
            archive.write(path, path.relative_to(folder).as_posix())
    return (folder / "scene.zip").read_bytes()


@pytest.mark.parametrize(
    "local, central, value, said",
    [
        (6, 8, b"\x01\x00", "encrypted"),  # flags (APPNOTE.TXT 4.4.4)
        (8, 10, b"\x63\x00", "compression method"),  # method (4.4.5)
        (8, 10, b"\x08\x00", "invalid|decompressing"),  # deflate, which it is not
        (4, 6, b"\xff\x00", "version"),  # needed to extract (4.4.3)
    ],
)
def test_a_zip_that_cannot_be_read_is_one_error(
    tmp_path: Path, local: int, central: int, value: bytes, said: str
) -> None:
    whole = bytearray(zipped_sentinel(tmp_path))
    for mark, field in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = whole.index(mark) + field
        whole[at : at + 2] = value
    (tmp_path / "scene.zip").write_bytes(whole)
    with pytest.raises(SiteError, match=f"scene.zip.*({said})"):
        read_bundle(tmp_path / "scene.zip", ["blue"])


def test_a_tar_of_headers_without_end_is_one_error(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = b"L", 10  # the name of the file that follows, which is such a header again
    (tmp_path / "scene.tar").write_bytes((header.tobuf() + b"a" * 10 + bytes(502)) * 3000 + bytes(1024))
    with pytest.raises(SiteError, match="cannot be read as an archive"):
        read_bundle(tmp_path / "scene.tar", ["red"])
    (tmp_path / "scene.tar.gz").write_bytes(b"")
    with pytest.raises(SiteError, match="gunzip"):
        read_bundle(tmp_path / "scene.tar.gz", ["red"])


def test_a_tar_under_any_name_is_read(tmp_path: Path) -> None:
    bundle = write_landsat(tmp_path, numbers(), tar=True)
    folder = tmp_path / "a}b {c"
    folder.mkdir()
    (folder / "d}.tar").write_bytes(bundle.path.read_bytes())
    scene = read_bundle(folder / "d}.tar", ["red"])
    assert read_info(scene.bands["red"].path).grid.shape == SHAPE


@pytest.mark.parametrize(
    "harm, said",
    [
        (lambda text: text.replace(">10000<", ">5e-324<"), "no reflectance"),
        (lambda text: text.replace(">-1000<", ">-1e300<"), "no reflectance"),
    ],
)
def test_sentinel_metadata_that_was_tampered_with(tmp_path: Path, harm, said: str) -> None:  # type: ignore[no-untyped-def]
    metadata = harm(sentinel_metadata())
    safe = write_sentinel(tmp_path, {"B02": np.full((40, 40), 3000)}, np.full((20, 20), 4), metadata)
    with pytest.raises(SiteError, match=said):
        read_bundle(safe, ["blue"])


# ---- sharpening ----


def test_level_1_is_sharpened_to_15_m_and_indices_are_not(tmp_path: Path) -> None:
    stored = numbers()
    pan = pan_of(stored)
    bundle = write_landsat(tmp_path, stored, pan)
    site = site_of(tmp_path, image(bundle))
    grid = site_grid(open_site(site))
    assert same_grid(grid, bundle.pan_grid) and grid.shape == (79, 99)
    sharp, plain = read_with_plain(open_site(site).images, grid)
    for role, dn in zip(ROLES, stored, strict=True):
        np.testing.assert_allclose(plain[role], upsample(toa(dn)), atol=1e-6)
        assert np.array_equal(sharp[role], plain[role]) == (role not in ("green", "red"))
    # green follows band 8 where its own pixels cannot
    beyond = toa(pan) - upsample(toa((stored[2] + stored[3]) / 2))
    assert np.corrcoef(beyond.ravel(), (sharp["green"] - plain["green"]).ravel())[0, 1] > 0.5
    prepare(site, tmp_path / "prepared")
    names = [channel.name for channel in read_stack_info(tmp_path / "prepared" / "stack.tif").channels]
    layers = dict(zip(names, read(tmp_path / "prepared" / "stack.tif"), strict=True))
    assert np.array_equal(layers["green"], sharp["green"])
    assert np.array_equal(layers["ndvi"], ndvi(plain["red"], plain["nir"]))
    assert np.array_equal(layers["mndwi"], mndwi(plain["green"], plain["swir1"]))
    assert not np.array_equal(layers["ndvi"], ndvi(sharp["red"], sharp["nir"]))


def test_a_part_of_the_grid_has_the_values_of_the_whole(tmp_path: Path) -> None:
    stored, quality = numbers(), np.full(SHAPE, CLEAR)
    quality[10:14, 20:30] = CLOUD
    saturation = np.zeros(SHAPE)
    saturation[30, 12] = 1 << 2
    bundle = write_landsat(tmp_path, stored, pan_of(stored), quality, saturation)
    images = open_site(site_of(tmp_path, image(bundle))).images
    whole = read_images(images, bundle.pan_grid)
    for window in (Window(0, 0, 17, 23), Window(18, 35, 21, 40), Window(61, 80, 18, 19), Window(25, 1, 1, 2)):
        for name, values in read_images(images, bundle.pan_grid.crop(window)).items():
            assert np.array_equal(values, whole[name][window.slices], equal_nan=True), (name, window)


def test_the_grid_decides_where_the_site_file_does_not(tmp_path: Path) -> None:
    stored = numbers()
    bundle = write_landsat(tmp_path, stored, pan_of(stored))
    site = site_of(tmp_path, image(bundle), "[grid]\nresolution = 30")
    grid = site_grid(open_site(site))
    assert (grid.x_size, grid.shape) == (30, SHAPE)
    np.testing.assert_allclose(read_images(open_site(site).images, grid)["green"], toa(stored[2]), atol=1e-6)
    level2 = write_landsat(tmp_path / "l2", stored)
    site = site_of(tmp_path / "l2", image(level2, "pansharpen = true"))
    (found,) = faults(site)
    assert "Level-2, which has no band 8" in found


def test_band_8_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    stored = numbers()
    bundle = write_landsat(tmp_path, stored, pan_of(stored))
    path = bundle.path / f"{bundle.product}_B8.TIF"
    moved = Grid(bundle.grid.crs, bundle.pan_grid.transform @ Affine.translation(0.5, 0), *bundle.pan_grid.shape)
    write_raster(path, read_stored(path)[None], moved, ["B8"], 0, overwrite=True)
    site = site_of(tmp_path, image(bundle))
    with pytest.raises(SiteError, match=r"centres of band 8 .* pansharpen = false"):
        read_images(open_site(site).images, site_grid(open_site(site)))


# ---- several scenes ----


def test_clouds_are_filled_from_the_next_scene(tmp_path: Path) -> None:
    first, second = numbers(0), numbers(1)
    clouds, other = np.full(SHAPE, CLEAR), np.full(SHAPE, CLEAR)
    clouds[5:15, 5:20], other[10:30, 10:12] = CLOUD, SHADOW
    saturation = np.zeros(SHAPE)
    saturation[35, 40] = 1 << 4
    a = write_landsat(tmp_path, first, quality=clouds, saturation=saturation, date="2014-08-13")
    b = write_landsat(tmp_path, second, quality=other, date="2014-08-29")
    site = site_of(tmp_path, image(a) + image(b))
    bands = read_images(open_site(site).images, a.grid)
    lacking, there = clouds != CLEAR, other == CLEAR
    lacking[35, 40] = True  # in nir only, and yet the pixel is taken whole
    expected = np.where(lacking & there, surface(second), surface(first))
    expected[:, (clouds != CLEAR) & ~there] = np.nan
    for name, values in zip(ROLES, expected, strict=True):
        np.testing.assert_allclose(bands[name], values, atol=1e-6)
    assert not faults(site) and not warnings(site)
    prepare(site, tmp_path / "prepared")
    assert _scene(tmp_path / "prepared" / "manifest.json") == (f"{a.product}, {b.product}", "2014-08-13, 2014-08-29")


@pytest.mark.parametrize("sharp", [False, True])
def test_scenes_beside_one_another_make_a_mosaic(tmp_path: Path, sharp: bool) -> None:
    first, second = numbers(1), numbers(2)
    south = (CENTRE[0] + 20 * 30, CENTRE[1] - 30 * 30)  # 30 rows further down, 20 columns to the right
    a = write_landsat(tmp_path, first, pan_of(first) if sharp else None, tar=True)
    b = write_landsat(tmp_path, second, pan_of(second) if sharp else None, date="2014-08-29", tar=True, centre=south)
    site = site_of(tmp_path, image(a) + image(b))
    grid = site_grid(open_site(site))
    size = 15 if sharp else 30
    assert grid.shape == ((139, 139) if sharp else (70, 70)) and grid.x_size == size
    assert grid.transform == (a.pan_grid if sharp else a.grid).transform
    assert not faults(site)
    nir = read_images(open_site(site).images, grid)["nir"]
    plain = [upsample(toa(dn[4])) if sharp else surface(dn[4]) for dn in (first, second)]
    expected = np.full(grid.shape, np.nan)
    expected[-plain[1].shape[0] :, -plain[1].shape[1] :] = plain[1]
    expected[: plain[0].shape[0], : plain[0].shape[1]] = plain[0]  # the first where both are
    np.testing.assert_allclose(nir, expected, atol=1e-6)
    for window in (Window(0, 100, 20, 30), Window(grid.height - 9, 0, 9, 30), Window(0, 0, 9, 9)):  # none, one, one
        part = read_images(open_site(site).images, grid.crop(window.clip(grid.shape)))["nir"]
        assert np.array_equal(part, nir[window.clip(grid.shape).slices], equal_nan=True)
    prepared = prepare(site, tmp_path / "prepared")
    defined = int(np.isfinite(expected).sum())
    assert prepared.valid_pixels == defined if not sharp else 0 < prepared.valid_pixels <= defined


def test_an_outline_that_no_scene_reaches_is_a_warning(tmp_path: Path) -> None:
    bundle = write_landsat(tmp_path, numbers())
    left, bottom, right, top = bundle.grid.bounds
    for drop, said in ((0, []), (bundle.grid.height * 30, ["50.0 % of the outline lies beyond"])):
        outline = gpd.GeoDataFrame(geometry=[shapely.box(left, bottom - drop, right, top)], crs="EPSG:32649")
        write_vector(tmp_path / "outline.gpkg", outline, overwrite=True)
        found = warnings(site_of(tmp_path, image(bundle) + '[outline]\npath = "outline.gpkg"'))
        assert len(found) == len(said) and all(text in line for text, line in zip(said, found, strict=True))
    extent = f"[grid]\nextent = [{left}, {bottom}, {right}, {top}]"
    assert not warnings(site_of(tmp_path, image(bundle) + '[outline]\npath = "outline.gpkg"', extent))  # meant


def test_a_bundle_from_before_gives_the_change_of_ndvi(tmp_path: Path) -> None:
    stored = numbers(0), numbers(1)
    now, before = (
        write_landsat(tmp_path, dn, pan_of(dn), date=date)
        for dn, date in zip(stored, ("2014-08-29", "2014-08-13"), strict=True)
    )
    site = site_of(tmp_path, image(now) + image(before).replace("[[image]]", "[[before]]"))
    prepare(site, tmp_path / "prepared")
    names = [channel.name for channel in read_stack_info(tmp_path / "prepared" / "stack.tif").channels]
    found = read(tmp_path / "prepared" / "stack.tif", [names.index("dndvi") + 1])[0]
    red, nir = ([upsample(toa(dn[i])) for dn in stored] for i in (3, 4))
    np.testing.assert_allclose(found, ndvi(red[0], nir[0]) - ndvi(red[1], nir[1]), atol=1e-5)


def test_scenes_of_different_zones_or_levels_are_one_error(tmp_path: Path) -> None:
    a = write_landsat(tmp_path, numbers(), date="2014-08-13")
    b = write_landsat(tmp_path, numbers(), date="2014-08-29", zone=32648)
    site = site_of(tmp_path, image(a) + image(b), f"[grid]\nextent = {list(a.grid.bounds)}")
    (text,) = faults(site)
    assert "scenes of different zones cannot fill each other" in text and "EPSG:32649" in text and "EPSG:32648" in text
    stored = numbers()
    c = write_landsat(tmp_path, stored, pan_of(stored), date="2014-09-14")
    (text,) = faults(site_of(tmp_path, image(a) + image(c)))
    assert "surface reflectance" in text and "TOA reflectance" in text


def test_all_clouded_is_one_error_and_one_clouded_scene_a_warning(tmp_path: Path) -> None:
    clouded = write_landsat(tmp_path, numbers(), quality=np.full(SHAPE, CLOUD), date="2014-08-13")
    clear = write_landsat(tmp_path, numbers(), date="2014-08-29")
    (found,) = faults(site_of(tmp_path, image(clouded)))
    assert "no pixel of the site is clear" in found and "cloud 100 %" in found
    with pytest.raises(SiteError, match="no pixel of the site is clear"):
        prepare(site_of(tmp_path, image(clouded)), tmp_path / "prepared")
    both = site_of(tmp_path, image(clouded) + image(clear))
    assert not faults(both)
    (warned,) = warnings(both)
    assert clouded.product in warned and "adds nothing" in warned
    assert not faults(site_of(tmp_path, image(clouded, "mask = []")))


def test_bundles_that_share_only_some_bands_are_refused(tmp_path: Path) -> None:
    a, b = (write_landsat(tmp_path, numbers(), date=date) for date in ("2014-08-13", "2014-08-29"))
    with pytest.raises(SiteError, match=r"named twice: nir, red\. Only bundles that give the same bands"):
        site_of(tmp_path, image(a) + image(b, 'bands = ["red", "nir"]'))


# ---- the site file ----


@pytest.mark.parametrize(
    "table, said",
    [
        ('bundle = "x"\npath = "y.tif"', "one of `path`, `files` and `bundle`, not path and bundle"),
        ("bands = { red = 1 }", "one of `path`, `files` and `bundle`, not none of them"),
        ('bundle = "x"\nscale = 0.1', "`scale` belongs to an image with `path` or `files`, not to one with `bundle`"),
        ('path = "x.tif"\nbands = { red = 1 }\nmask = []', "`mask` belongs to an image with `bundle`"),
        ('path = "x.tif"', "`path` names no band"),
        ('bundle = "x"\nbands = ["red", "pan"]', "a bundle has no band pan"),
        ('bundle = "x"\nbands = ["grene"]', "unknown role 'grene': did you mean 'green'"),
        ('bundle = "x"\nbands = { red = 4 }', "list of roles"),
        ('bundle = "x"\nmask = ["clouds"]', "\\[\\[image\\]\\] 1 mask, item 1: it should be .*'cloud'"),
        ('files = { red = "a.jp2" }', "`files` need their scaling.*never assumed"),
        ('files = { red = "a.jp2" }\nscale = 0.0001', "`files` need their scaling"),
        ('files = { red = "a.jp2" }\nscale = 1\noffset = 0\nmetadata = "m.xml"', "scaling is applied once"),
        ('path = "x.tif"\nbands = { red = 1 }\nmetadata = "m.xml"', "`metadata` belongs to an image with `files`"),
    ],
)
def test_keys_that_do_not_go_together(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(SiteError, match=said):
        site_of(tmp_path, f"[[image]]\n{table}\n")


# ---- Sentinel-2 ----

TILE = (24, 28)  # of 20 m


def sentinel_bands() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    sizes = {"B01": 60, "B02": 10, "B03": 10, "B04": 10, "B08": 10, "B11": 20, "B12": 20}
    shapes = {name: tuple(side * 20 // size for side in TILE) for name, size in sizes.items()}
    return {name: rng.integers(1200, 5000, shape) for name, shape in shapes.items()}


def test_sentinel_2_takes_its_offset_from_the_metadata(tmp_path: Path) -> None:
    stored, scl = sentinel_bands(), np.full(TILE, 5)
    scl[3, 4], scl[8, 9], scl[12, 13], scl[15, 16] = 9, 3, 11, 1
    safe = write_sentinel(tmp_path, stored, scl, sentinel_metadata())
    roles = 'bands = ["blue", "green", "red", "nir", "swir1", "swir2"]'
    site = site_of(tmp_path, image(safe, roles))
    grid = site_grid(open_site(site))
    assert (grid.x_size, grid.shape) == (10, (48, 56))
    bands = read_images(open_site(site).images, grid)
    gap = np.kron(np.isin(scl, (9, 3, 1)), np.ones((2, 2), bool))
    # ESA, processing baseline 04.00: reflectance = (DN - 1000) / 10000
    expected = np.where(gap, np.nan, (stored["B04"] - 1000.0) / 10_000)
    np.testing.assert_allclose(bands["red"], expected, atol=1e-7)
    assert not faults(site)
    inputs = open_site(site)
    (table,) = inputs.site.image
    assert table.date == datetime.date(2023, 5, 23) and table.scene.startswith("S2B_MSIL2A_20230523")
    assert any(path.name == "MTD_MSIL2A.xml" for _, path in inputs.files())


def test_a_zipped_safe_folder_with_jpeg_2000_is_read_where_it_lies(tmp_path: Path) -> None:
    stored = sentinel_bands()
    safe = write_sentinel(tmp_path, stored, np.full(TILE, 5), sentinel_metadata())
    (red,) = safe.rglob("*_B04_10m.tif")
    rasterio.shutil.copy(red, red.with_suffix(".jp2"), driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    red.unlink()
    packed = tmp_path / "scene.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(safe.rglob("*")):
            archive.write(path, path.relative_to(tmp_path))
        archive.writestr("__MACOSX/._MTD_MSIL2A.xml", "of another system")
    site = site_of(tmp_path, image(packed, 'bands = ["red", "swir1"]'))
    bands = read_images(open_site(site).images, site_grid(open_site(site)))
    np.testing.assert_allclose(bands["red"], (stored["B04"] - 1000.0) / 10_000, atol=1e-7)
    assert not faults(site) and open_site(site).files() == [("image[0]", packed)]


@pytest.mark.parametrize(
    "baseline, offset, found", [("03.01", None, 0), ("04.00", -1000, -1000), ("05.09", -1000, -1000), ("05.09", 0, 0)]
)
def test_the_offset_is_what_the_metadata_says(baseline: str, offset: int | None, found: int) -> None:
    scaling = read_sentinel_metadata(Path("MTD_MSIL2A.xml"), sentinel_metadata(baseline, offset))
    assert set(scaling.bands.values()) == {(1e-4, found * 1e-4)}


def test_an_offset_is_never_assumed(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"baseline 04.00 without BOA_ADD_OFFSET of B01"):
        read_sentinel_metadata(Path("MTD_MSIL2A.xml"), sentinel_metadata("04.00", None))
    with pytest.raises(SiteError, match="neither a PROCESSING_BASELINE nor a BOA_ADD_OFFSET"):
        read_sentinel_metadata(Path("MTD_MSIL2A.xml"), sentinel_metadata("", None))
    with pytest.raises(SiteError, match="is no metadata"):
        read_sentinel_metadata(Path("MTD_MSIL2A.xml"), sentinel_metadata()[:700])
    safe = write_sentinel(tmp_path, sentinel_bands(), np.full(TILE, 5), None)
    (found,) = faults(site_of(tmp_path, image(safe)))
    assert "lacks MTD_MSIL2A.xml" in found and "`files` with scale and offset" in found


def test_band_files_with_metadata_or_with_keys(tmp_path: Path) -> None:
    stored = sentinel_bands()
    safe = write_sentinel(tmp_path, stored, np.full(TILE, 5), sentinel_metadata())
    for path in (*safe.rglob("*_B0[48]_10m.tif"), safe / "MTD_MSIL2A.xml"):
        path.rename(tmp_path / path.name)
    files = 'files = { red = "T32TQP_20230523T100601_B04_10m.tif", nir = "T32TQP_20230523T100601_B08_10m.tif" }'
    for more in ('metadata = "MTD_MSIL2A.xml"', "scale = 0.0001\noffset = -0.1"):
        site = site_of(tmp_path, f"[[image]]\n{files}\n{more}\n")
        bands = read_images(open_site(site).images, site_grid(open_site(site)))
        np.testing.assert_allclose(bands["nir"], (stored["B08"] - 1000.0) / 10_000, atol=1e-7)
        assert not faults(site)
    (tmp_path / "T32TQP_20230523T100601_B04_10m.tif").rename(tmp_path / "red.tif")
    site = site_of(tmp_path, '[[image]]\nfiles = { red = "red.tif" }\nmetadata = "MTD_MSIL2A.xml"\n')
    (found,) = faults(site)
    assert "its name says no band" in found


# ---- the whole way ----


def test_a_bundle_and_a_dem_become_a_stack(tmp_path: Path) -> None:
    stored, quality = numbers(), np.full(SHAPE, CLEAR)
    stored[:] = toa_stored(np.random.default_rng(2).uniform(0.05, 0.3, stored.shape))
    quality[10:12, 15:18] = CLOUD
    bundle = write_landsat(tmp_path, stored, pan_of(stored), quality, tar=True)
    dem_grid = Grid(bundle.grid.crs, bundle.grid.transform @ Affine.translation(-10, -10), 60, 70)
    y, x = np.mgrid[0:60, 0:70].astype(np.float32)
    write_raster(tmp_path / "dem.tif", (500 + 8 * x + 30 * np.sin(y / 5))[None], dem_grid, ["elevation"])
    left, bottom = bundle.grid.bounds[:2]
    slides = gpd.GeoDataFrame(
        geometry=[shapely.box(left + 90, bottom + 90, left + 300, bottom + 300)], crs="EPSG:32649"
    )
    write_vector(tmp_path / "slides.gpkg", slides)
    site = site_of(tmp_path, image(bundle) + '[dem]\npath = "dem.tif"\n[landslides]\npath = "slides.gpkg"')
    prepared = prepare(site, tmp_path / "prepared")
    info = read_stack_info(tmp_path / "prepared" / "stack.tif")
    assert same_grid(info.grid, bundle.pan_grid)
    units = {channel.name: channel.unit for channel in info.channels}
    assert [name for name in units if name in ROLES] == list(ROLES)
    assert {units[role] for role in ROLES} == {"TOA reflectance"} and units["slope"] == "degree"
    # cloud: 2 x 3 pixels of 30 m, of which band 8 has 2 n - 1, and one more on each side that would draw on them
    valid = read_stored(tmp_path / "prepared" / "valid.tif")
    assert (valid == 0).sum() == 5 * 7 and prepared.landslide_pixels > 0
    manifest = json.loads((tmp_path / "prepared" / "manifest.json").read_text())
    assert manifest["inputs"][0] == {"what": "image[0]", "file": bundle.path.name, "sha256": file_hash(bundle.path)}
    red = manifest["images"][0]["bands"]["red"]
    assert red["scale"] == pytest.approx(2e-5 / math.sin(math.radians(SUN))) and red["unit"] == "TOA reflectance"
    assert manifest["site"]["image"][0]["date"] == "2014-08-13"


def test_a_model_of_one_level_refuses_a_stack_of_the_other(tmp_path: Path) -> None:
    stored = numbers()
    for level, pan in (("l1", pan_of(stored)), ("l2", None)):
        bundle = write_landsat(tmp_path / level, stored, pan)
        prepare(site_of(tmp_path / level, image(bundle)), tmp_path / level / "prepared")
    first, second = (read_stack_info(tmp_path / level / "prepared" / "stack.tif") for level in ("l1", "l2"))
    with pytest.raises(ChannelError, match=r"coastal is in TOA reflectance, and .* on surface reflectance"):
        find_channels(second.channels, "the model", first)
    assert find_channels(second.channels, "the model", second) == list(range(len(second.channels)))


def test_grids_of_bundles_are_laid_as_usgs_does() -> None:
    # a real scene: CORNER_UL_PROJECTION_X 165300 is a pixel's centre for 7291 x 8291 and 14581 x 16581 pixels alike
    grid, pan = landsat_grids((7291, 8291), centre=(165_300.0, 4_102_200.0))
    assert pan.shape == (14581, 16581)
    assert (grid.transform.c, pan.transform.c) == (165_285.0, 165_292.5) and CRS.from_epsg(32649) == grid.crs
