import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from conftest import GRID, TinySite, frame, polygon
from shapely import LineString, Point, Polygon, box
from shapely.affinity import translate

from landslip import check, provenance
from landslip.check import check_site, repeated_pixels
from landslip.errors import SiteError
from landslip.geotiff import write_raster
from landslip.grid import Window
from landslip.prepare import prepare
from landslip.raster import read, read_info
from landslip.site import read_site
from landslip.vector import write_vector


def found(tiny: TinySite) -> dict[str, str]:
    """severity -> all texts of that severity."""
    texts: dict[str, str] = {"fault": "", "warning": ""}
    for finding in check_site(read_site(tiny.site)):
        if finding.severity != "note":
            texts[finding.severity] += finding.text + "\n"
    return texts


def edit(tiny: TinySite, old: str, new: str) -> None:
    text = tiny.site.read_text()
    assert old in text
    tiny.site.write_text(text.replace(old, new))


def test_a_good_site_has_no_finding(tiny: TinySite) -> None:
    assert found(tiny) == {"fault": "", "warning": ""}


def test_every_fault_is_found_in_one_go(tiny: TinySite) -> None:
    (tiny.folder / "faults.gpkg").unlink()
    edit(tiny, "swir2 = 7", "swir2 = 9")
    edit(tiny, 'field = "rock"', 'field = "stone"')
    write_vector(tiny.folder / "landslides.gpkg", frame([Point(460_500, 3_429_500)]), overwrite=True)
    faults = found(tiny)["fault"]
    for piece in (
        "faults.gpkg does not exist",
        "swir2 = 9, but the file has 7",
        "no field 'stone'; its fields are rock",
        "Point",
    ):
        assert piece in faults


def test_a_truncated_raster_is_named_with_its_blocks(tiny: TinySite) -> None:
    path = tiny.folder / "image.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert "image.tif" in found(tiny)["fault"]


def test_a_raster_without_crs(tiny: TinySite) -> None:
    import rasterio

    path = tiny.folder / "dem.tif"
    with rasterio.open(path) as dataset:
        values, profile = dataset.read(), {**dataset.profile, "crs": None}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values)
    assert "dem.tif has no CRS" in found(tiny)["fault"]


def test_landslides_in_another_country(tiny: TinySite) -> None:
    write_vector(tiny.folder / "landslides.gpkg", frame([translate(polygon(5, 5, 9, 9), 800_000)]), overwrite=True)
    assert "no landslide on the site" in found(tiny)["fault"]


def test_points_are_refused_with_the_remedy(tiny: TinySite) -> None:
    write_vector(tiny.folder / "landslides.gpkg", frame([Point(460_500, 3_429_500)]), overwrite=True)
    assert "Digitise the outlines" in found(tiny)["fault"]


def test_invalid_geometry_is_a_warning(tiny: TinySite) -> None:
    left, top = GRID.transform.c, GRID.transform.f
    bow = Polygon([(left, top), (left + 600, top - 600), (left + 600, top), (left, top - 600)])
    write_vector(tiny.folder / "landslides.gpkg", frame([bow, polygon(60, 60, 9, 9)]), overwrite=True)
    texts = found(tiny)
    assert "1 of 2 geometries are invalid" in texts["warning"] and texts["fault"] == ""


def test_unmapped_classes_are_listed(tiny: TinySite) -> None:
    edit(tiny, ', limestone = "hard"', "")
    assert "'limestone' (12288 pixels, 50 %)" in found(tiny)["warning"]  # half of 128 x 192


def test_zero_that_stands_for_undefined(tiny: TinySite) -> None:
    grid = read_info(tiny.folder / "dem.tif").grid
    z = np.full((1, *grid.shape), 900, np.float32)
    z[0, 30:50, 40:60] = 0
    write_raster(tiny.folder / "dem.tif", z, grid, ["elevation"], nodata=-9999.0, overwrite=True)
    assert "nodata = 0" in found(tiny)["warning"]


def test_rivers_without_geometry(tiny: TinySite) -> None:
    write_vector(tiny.folder / "rivers.gpkg", frame([LineString([(0, 0), (1, 1)])]).iloc[:0], overwrite=True)
    assert "rivers.gpkg holds no geometry" in found(tiny)["fault"]


def test_a_river_file_whose_features_have_no_geometry(tiny: TinySite) -> None:
    nothing = frame([None, None], name=["Minjiang", "Tuojiang"])
    nothing.to_file(tiny.folder / "rivers.gpkg", layer="rivers", driver="GPKG")
    assert "rivers.gpkg holds no geometry. Leave the layer out, or give its lines." in found(tiny)["fault"]


def test_a_river_file_that_is_a_table(tiny: TinySite) -> None:
    import pandas as pd
    import pyogrio

    (tiny.folder / "rivers.gpkg").unlink()
    pyogrio.write_dataframe(pd.DataFrame({"name": ["Minjiang"]}), tiny.folder / "rivers.gpkg", layer="rivers")
    assert "rivers.gpkg holds a table without geometries" in found(tiny)["fault"]


def test_memory_of_rivers_from_a_dem_is_said_before_any_work(tiny: TinySite, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(tiny, '[rivers]\npath = "rivers.gpkg"', "[rivers]\nfrom_dem_km2 = 0.5")
    assert found(tiny) == {"fault": "", "warning": ""}
    needs = 84 * 116 * 48  # bytes: all of the DEM, which reaches less than half the site beyond it
    monkeypatch.setattr(check, "MUCH", needs - 1)
    assert (
        "84 x 116 pixels as a whole, which takes about 0.0 GiB of memory. Give [rivers] path" in found(tiny)["warning"]
    )
    monkeypatch.setattr(check, "MUCH", needs)
    assert found(tiny)["warning"] == ""
    monkeypatch.setattr(check, "machine_memory", lambda: needs - 1)
    assert "0.0 GiB of memory; there are 0.0. Give [rivers] path" in found(tiny)["fault"]
    with pytest.raises(SiteError, match="as a whole"):
        prepare(read_site(tiny.site), tiny.folder / "p")
    monkeypatch.setattr(check, "machine_memory", lambda: math.nan)  # unknown
    assert found(tiny)["fault"] == ""


def test_a_containers_limit_is_the_machines_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(provenance, "CGROUP_LIMITS", (str(limit), str(tmp_path / "none")))
    whole = provenance.machine_memory()
    limit.write_text("max\n")
    assert provenance.machine_memory() == whole > 2**27
    limit.write_text("134217728\n")
    assert provenance.machine_memory() == 2**27


def test_faults_without_geometry(tiny: TinySite) -> None:
    write_vector(tiny.folder / "faults.gpkg", frame([LineString([(0, 0), (1, 1)])]).iloc[:0], overwrite=True)
    faults = found(tiny)["fault"]
    assert "faults.gpkg holds no geometry. Leave the layer out" in faults and faults.count("\n") == 1


def cut_dem(tiny: TinySite, columns: int) -> None:
    """The DEM without what lies east of its first columns, of 30 m; the site begins at the eleventh."""
    info, z = read_info(tiny.folder / "dem.tif"), read(tiny.folder / "dem.tif")
    part = Window(0, 0, info.height, columns)
    write_raster(
        tiny.folder / "dem.tif", z[:, :, :columns].copy(), info.grid.crop(part), ["z"], nodata=-9999.0, overwrite=True
    )


def test_a_dem_that_covers_a_part_of_the_site(tiny: TinySite) -> None:
    cut_dem(tiny, 10 + 72)  # 144 of the site's 192 columns
    texts = found(tiny)
    assert "dem.tif leaves 25.0 % of the outline without elevation" in texts["warning"] and texts["fault"] == ""


@pytest.mark.parametrize("block", [1000, 50, 23])
def test_shares_of_the_outline_are_counted_in_blocks(
    tiny: TinySite, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """25 % of the columns are beyond the DEM, 50 % hold a class without an entry; three quarters are in the outline."""
    monkeypatch.setattr(check, "BLOCK", block)
    left, bottom, right, top = GRID.bounds
    write_vector(tiny.folder / "outline.gpkg", frame([box(left + 48 * 15, bottom, right, top)]), overwrite=True)
    rocks = [box(left, bottom, left + 96 * 15, top), box(left + 96 * 15, bottom, right, top)]
    write_vector(tiny.folder / "rocks.gpkg", frame(rocks, rock=["shale", "chert"]), overwrite=True)
    cut_dem(tiny, 10 + 72)
    texts = found(tiny)
    assert "dem.tif leaves 33.3 % of the outline without elevation" in texts["warning"]
    assert "'chert' (12288 pixels, 67 %). Give each a class." in texts["warning"] and texts["fault"] == ""


def test_only_the_outlines_own_ground_needs_elevation(tiny: TinySite) -> None:
    left, bottom, _, top = GRID.bounds
    west = frame([box(left, bottom, left + 144 * 15, top), box(left + 191 * 15, top - 15, left + 192 * 15, top)])
    write_vector(tiny.folder / "outline.gpkg", west, overwrite=True)
    cut_dem(tiny, 10 + 72)  # the one pixel that is missed is less than a thousandth
    assert found(tiny) == {"fault": "", "warning": ""}


def test_a_dem_on_the_rectangle_and_not_on_the_outline(tiny: TinySite) -> None:
    left, bottom, right, top = GRID.bounds
    ring = box(left, bottom, right, top) - box(left + 600, bottom + 600, right - 600, top - 600)
    write_vector(tiny.folder / "outline.gpkg", frame([ring]), overwrite=True)
    info, z = read_info(tiny.folder / "dem.tif"), read(tiny.folder / "dem.tif")
    middle = Window(32, 32, info.height - 64, info.width - 64)
    write_raster(
        tiny.folder / "dem.tif", z[(slice(None), *middle.slices)].copy(), info.grid.crop(middle), ["z"], -9999.0,
        overwrite=True,
    )  # fmt: skip
    faults = found(tiny)["fault"]
    assert "dem.tif is undefined all over the outline" in faults and faults.count("\n") == 1


def test_a_dem_elsewhere_is_one_fault(tiny: TinySite) -> None:
    info, z = read_info(tiny.folder / "dem.tif"), read(tiny.folder / "dem.tif")
    there = replace(info.grid, transform=Affine.translation(99_000, 0) @ info.transform)
    write_raster(tiny.folder / "dem.tif", z, there, ["z"], nodata=-9999.0, overwrite=True)
    faults = found(tiny)["fault"]
    assert "does not overlap the site" in faults and faults.count("\n") == 1


def test_every_unmapped_class_is_listed_with_its_share(tiny: TinySite) -> None:
    left, bottom, _, top = GRID.bounds
    edges = [left + 15 * column for column in (0, 96, 144, 192)]
    bodies = [box(west, bottom, east, top) for west, east in pairwise(edges)]
    write_vector(tiny.folder / "rocks.gpkg", frame(bodies, rock=["shale", "chert", "tuff"]), overwrite=True)
    texts = found(tiny)
    assert "'chert' (6144 pixels, 25 %), 'tuff' (6144 pixels, 25 %). Give each a class." in texts["warning"]
    assert texts["fault"] == ""


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_repeated_pixels_are_counted(k: int) -> None:
    z = np.random.default_rng(0).integers(0, 9000, (40, 60)).astype(np.float32)
    assert repeated_pixels(z.repeat(k, 1).repeat(k, 0)[:, 1:]) == k


def test_emilias_dem_is_a_30_m_model_repeated_at_10_m() -> None:
    data = Path(__file__).resolve().parents[2] / "shared" / "data" / "emilia_romagna"
    if not data.exists():
        pytest.skip("needs the real data of ../shared/data, which is not in the repository")
    assert repeated_pixels(read(data / "dem.tif")[0]) == 3


def test_a_mask_says_nothing_beyond_its_own_extent(tiny: TinySite) -> None:
    from landslip.prepare import prepare
    from landslip.raster import read_stored

    half = Window(0, 0, GRID.height, GRID.width // 2)
    mask = tiny.label[None, :, : GRID.width // 2].astype(np.uint8)
    write_raster(tiny.folder / "mask.tif", mask, GRID.crop(half), ["landslides"], nodata=0)
    edit(tiny, 'path = "landslides.gpkg"', 'path = "mask.tif"')
    prepare(read_site(tiny.site), tiny.folder / "p")
    label = read_stored(tiny.folder / "p" / "label.tif")
    assert np.array_equal(label[:, : GRID.width // 2], mask[0]) and (label[:, GRID.width // 2 :] == 255).all()


def test_a_band_that_the_site_does_not_use_may_be_empty(tiny: TinySite) -> None:
    edit(tiny, ", swir2 = 7", "")
    from landslip.raster import read_stored

    stored = np.stack([read_stored(tiny.folder / "image.tif", b) for b in range(1, 8)])
    stored[6] = 0
    names = ["coastal", "blue", "green", "red", "nir", "swir1", "swir2"]
    write_raster(tiny.folder / "image.tif", stored, GRID, names, nodata=0, overwrite=True)
    assert found(tiny) == {"fault": "", "warning": ""}
