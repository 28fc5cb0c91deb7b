import math
import re
import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from conftest import GRID, TinySite, frame, polygon
from rasterio.crs import CRS
from rasterio.rio.main import main_group
from real_data import DATA
from shapely import LineString, Point, Polygon, box
from shapely.affinity import translate

from landslip.config.site import read_site
from landslip.errors import GridError, SiteError, VectorError
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid, Window
from landslip.geo.raster import read, read_info, read_stored
from landslip.preparation.check import check_site
from landslip.preparation.check_terrain import repeated_pixels
from landslip.preparation.prepare import prepare
from landslip.preparation.site_grid import site_grid
from landslip.preparation.site_inputs import open_site
from landslip.runtime import provenance


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
    monkeypatch.setattr("landslip.preparation.check_terrain.MUCH_MEMORY", needs - 1)
    assert (
        "84 x 116 pixels as a whole, which takes about 0.0 GiB of memory. Give [rivers] path" in found(tiny)["warning"]
    )
    monkeypatch.setattr("landslip.preparation.check_terrain.MUCH_MEMORY", needs)
    assert found(tiny)["warning"] == ""
    monkeypatch.setattr("landslip.preparation.check_terrain.machine_memory", lambda: needs - 1)
    assert "0.0 GiB of memory; there are 0.0. Give [rivers] path" in found(tiny)["fault"]
    with pytest.raises(SiteError, match="as a whole"):
        prepare(read_site(tiny.site), tiny.folder / "p")
    monkeypatch.setattr("landslip.preparation.check_terrain.machine_memory", lambda: math.nan)  # unknown
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
    for name in ("study_area", "check_terrain", "check_vectors"):
        monkeypatch.setattr(f"landslip.preparation.{name}.FILL_WINDOW", block)
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


def test_rivers_from_a_dem_elsewhere_say_no_more(tiny: TinySite) -> None:
    z = read(tiny.folder / "dem.tif")
    there = replace(read_info(tiny.folder / "dem.tif").grid, transform=Affine(30, 0, 900_000, 0, -30, 3_430_300))
    write_raster(tiny.folder / "dem.tif", z, there, ["elevation"], overwrite=True)
    text = tiny.site.read_text().replace('path = "rivers.gpkg"', "from_dem_km2 = 0.1")
    tiny.site.write_text(text)
    (found,) = (f.text for f in check_site(read_site(tiny.site)) if f.severity == "fault")
    assert "dem.tif" in found and "does not overlap the site" in found and found.endswith("Check its CRS.")


def test_what_is_to_be_said_of_several_bands_is_said_once(tiny: TinySite) -> None:
    with rasterio.open(tiny.folder / "image.tif", "r+") as image:
        image.scales = (1e-4,) * 5 + (2e-4, 1.0)
        empty = image.read()
        empty[[2, 6]] = 0
        image.write(empty)
    tiny.site.write_text(tiny.site.read_text().replace("scale = 0.0001\n", ""))
    found = [f"{f.severity}: {f.text.replace(str(tiny.folder), '')}" for f in check_site(read_site(tiny.site))]
    about = [text for text in found if "image.tif" in text and "lie" not in text]
    assert about[0].startswith(
        "warning: /image.tif bands 1 to 5 declare scale 0.0001 and offset 0; the site gives none"
    )
    assert about[1].startswith("warning: /image.tif band 6 declares scale 0.0002 and offset 0; the site gives none")
    assert about[2:] == ["fault: /image.tif bands 3 and 7 are undefined all over the site."]


def test_a_file_without_crs_is_given_one_by_the_site_file(tiny: TinySite, tmp_path: Path) -> None:
    """A shapefile without a .prj whose numbers are degrees: refused with a word on them, taken where crs says."""
    degrees = gpd.read_file(tiny.folder / "outline.gpkg").to_crs("EPSG:4326")
    degrees.to_file(tmp_path / "bare.shp")
    (tmp_path / "bare.prj").unlink()
    original = tiny.site.read_text()
    tiny.site.write_text(original.replace("outline.gpkg", "bare.shp"))
    (fault,) = (f.text for f in check_site(read_site(tiny.site)) if f.severity == "fault")
    assert re.search(r"bare\.shp has no CRS\. Its numbers \(x 110\.58.* look like degrees: EPSG:4326.*crs = ", fault)
    tiny.site.write_text(original.replace('outline.gpkg"', 'bare.shp"\ncrs = "EPSG:4326"'))
    prepare(read_site(tiny.site), tmp_path / "p")
    tiny.site.write_text(original)
    prepare(read_site(tiny.site), tmp_path / "q")
    assert np.array_equal(read_stored(tmp_path / "p" / "valid.tif"), read_stored(tmp_path / "q" / "valid.tif"))


@pytest.mark.parametrize(
    "old, new",
    [
        ("rivers.gpkg", 'bare.shp"\ncrs = "EPSG:32649'),
        ("faults.gpkg", 'bare.shp"\ncrs = "EPSG:32649'),
        ("rocks.gpkg", 'bare.shp"\ncrs = "EPSG:32649'),
        ("landslides.gpkg", 'bare.shp"\ncrs = "EPSG:32649'),
    ],
)
def test_every_vector_file_may_be_given_its_crs(tiny: TinySite, tmp_path: Path, old: str, new: str) -> None:
    gpd.read_file(tiny.folder / old).to_file(tmp_path / "bare.shp")
    (tmp_path / "bare.prj").unlink()
    tiny.site.write_text(tiny.site.read_text().replace(old, new))
    assert not [f for f in check_site(read_site(tiny.site)) if f.severity == "fault"]


def test_a_crs_that_the_file_or_its_kind_contradicts_is_refused(tiny: TinySite) -> None:
    original = tiny.site.read_text()
    tiny.site.write_text(original.replace('outline.gpkg"', 'outline.gpkg"\ncrs = "EPSG:4326"'))
    with pytest.raises(
        VectorError, match=r"outline\.gpkg carries the CRS WGS 84 / UTM zone 49N, and crs = 'EPSG:4326'"
    ):
        site_grid(open_site(read_site(tiny.site)))
    tiny.site.write_text(original.replace('outline.gpkg"', 'outline.gpkg"\ncrs = "EPSG:32649"'))
    assert not [f for f in check_site(read_site(tiny.site)) if f.severity == "fault"]
    tiny.site.write_text(original.replace('outline.gpkg"', 'outline.gpkg"\ncrs = "EPSG:nought"'))
    with pytest.raises(SiteError, match=r"outline\.crs: 'EPSG:nought' is no CRS\. Write its code"):
        read_site(tiny.site)
    tiny.site.write_text(original.replace('landslides.gpkg"', 'mask.tif"\ncrs = "EPSG:4326"'))
    with pytest.raises(SiteError, match=r"crs is for vector files.*`rio edit-info --crs EPSG:4326 mask\.tif`"):
        read_site(tiny.site)


def rewritten(path: Path, transform: Affine | None) -> None:
    """Write a raster again without a CRS, and with another transform where one is given."""
    with rasterio.open(path) as dataset:
        values, profile = dataset.read(), {**dataset.profile, "crs": None}
    with rasterio.open(path, "w", **{**profile, **({"transform": transform} if transform else {})}) as dataset:
        dataset.write(values)


def test_a_raster_without_crs_is_given_one_by_the_command_that_is_named(tiny: TinySite) -> None:
    for transform, looks in ((None, ""), (Affine(1e-4, 0, 110.6, 0, -1e-4, 31), " Its numbers (x 110.6 to 110.61")):
        rewritten(tiny.folder / "dem.tif", transform)
        (fault,) = (f.text for f in check_site(read_site(tiny.site)) if f.severity == "fault")
        assert fault.startswith(f"{tiny.folder / 'dem.tif'} has no CRS.{looks}")
    words = shlex.split(re.findall(r"`rio (edit-info .*?)`", fault)[0].replace("EPSG:...", "EPSG:4326"))
    assert CliRunner().invoke(main_group, words).exit_code == 0
    assert not [f for f in check_site(read_site(tiny.site)) if "has no CRS" in f.text]
    rewritten(tiny.folder / "dem.tif", Affine.identity())
    (fault,) = (f.text for f in check_site(read_site(tiny.site)) if f.severity == "fault")
    assert "is a bare picture" in fault and '--crs EPSG:... --transform "[...]"' in fault


@pytest.mark.parametrize("east, north, zone", [(11.6, 44.3, "EPSG:32632"), (-79, -4, "EPSG:32717")])
def test_the_zone_that_is_proposed_is_the_sites_own(tiny: TinySite, east: float, north: float, zone: str) -> None:
    """Zones by hand: 6 degrees each from 180 west, 326 north and 327 south."""
    there = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, east, 0, -1e-4, north), *GRID.shape)
    write_raster(tiny.folder / "image.tif", read(tiny.folder / "image.tif"), there, ["b"] * 7, overwrite=True)
    with pytest.raises(GridError, match=rf'such as crs = "{zone}" where it lies'):
        site_grid(open_site(read_site(tiny.site)))


def test_a_missing_file_says_where_paths_start(tiny: TinySite) -> None:
    tiny.site.write_text(tiny.site.read_text().replace("dem.tif", "none.tif").replace("faults.gpkg", "none.gpkg"))
    found = [f.text for f in check_site(read_site(tiny.site)) if f.severity == "fault"]
    assert len(found) == 2 and all(
        "at its own folder, or at the one that `data` or --data names" in text for text in found
    )


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
    data = DATA / "emilia_romagna"
    if not data.exists():
        pytest.skip("needs the real data of ../shared/data, which is not in the repository")
    assert repeated_pixels(read(data / "dem.tif")[0]) == 3


def test_a_mask_says_nothing_beyond_its_own_extent(tiny: TinySite) -> None:
    from landslip.geo.raster import read_stored
    from landslip.preparation.prepare import prepare

    half = Window(0, 0, GRID.height, GRID.width // 2)
    mask = tiny.label[None, :, : GRID.width // 2].astype(np.uint8)
    write_raster(tiny.folder / "mask.tif", mask, GRID.crop(half), ["landslides"], nodata=0)
    edit(tiny, 'path = "landslides.gpkg"', 'path = "mask.tif"')
    prepare(read_site(tiny.site), tiny.folder / "p")
    label = read_stored(tiny.folder / "p" / "label.tif")
    assert np.array_equal(label[:, : GRID.width // 2], mask[0]) and (label[:, GRID.width // 2 :] == 255).all()


def test_a_band_that_the_site_does_not_use_may_be_empty(tiny: TinySite) -> None:
    edit(tiny, ", swir2 = 7", "")
    from landslip.geo.raster import read_stored

    stored = np.stack([read_stored(tiny.folder / "image.tif", b) for b in range(1, 8)])
    stored[6] = 0
    names = ["coastal", "blue", "green", "red", "nir", "swir1", "swir2"]
    write_raster(tiny.folder / "image.tif", stored, GRID, names, nodata=0, overwrite=True)
    assert found(tiny) == {"fault": "", "warning": ""}
