from pathlib import Path

import numpy as np
import pytest
from conftest import GRID, TinySite, frame, polygon
from shapely import LineString, Point, Polygon
from shapely.affinity import translate

from landslip.check import check_site, repeated_pixels
from landslip.raster import read_info, write_raster
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


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_repeated_pixels_are_counted(k: int) -> None:
    z = np.random.default_rng(0).integers(0, 9000, (40, 60)).astype(np.float32)
    assert repeated_pixels(z.repeat(k, 1).repeat(k, 0)[:, 1:]) == k


def test_emilias_dem_is_a_30_m_model_repeated_at_10_m() -> None:
    data = Path(__file__).resolve().parents[2] / "shared" / "data" / "emilia_romagna"
    if not data.exists():
        pytest.skip("needs the real data of ../shared/data, which is not in the repository")
    from landslip.raster import read

    assert repeated_pixels(read(data / "dem.tif")[0]) == 3


def test_a_mask_says_nothing_beyond_its_own_extent(tiny: TinySite) -> None:
    from landslip.grid import Window
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
