"""Relative elevation and terrain at several scales as channels of a site."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import GRID, TinySite

from landslip.config.site import read_site
from landslip.config.site_tables import DemTable
from landslip.errors import SiteError
from landslip.factors.relief import position
from landslip.geo import geotiff
from landslip.geo.grid import Window
from landslip.preparation.prepare import prepare
from landslip.preparation.terrain_sources import relief_source

KEYS = "relative_elevation = true\nscales = [5, 31]\n"
AT_SCALE = ("position", "relief", "roughness", "aspect_sin_range", "aspect_cos_range")
NAMES = ("relative_elevation", *(f"{name}_{side}" for side in (5, 31) for name in AT_SCALE))


def dem_of_grid(folder: Path) -> np.ndarray:
    """A DEM on the site's own pixels, with a gap, written to dem15.tif."""
    row, column = np.mgrid[: GRID.height, : GRID.width]
    z = (900 + 3 * column + 40 * np.sin(row / 7) * np.cos(column / 11)).astype(np.float32)
    z[40:44, 90:97] = np.nan
    stored = np.where(np.isnan(z), -9999, z)[None].astype(np.float32)
    geotiff.write_raster(folder / "dem15.tif", stored, GRID, ["elevation"], nodata=-9999.0)
    return z


def test_no_pixel_of_a_site_is_lost(tiny: TinySite, tmp_path: Path) -> None:
    dem_of_grid(tiny.folder)
    text = tiny.site.read_text().replace('path = "dem.tif"', 'path = "dem15.tif"')
    tiny.site.write_text(text)
    before = prepare(read_site(tiny.site), tmp_path / "before", figures=False)
    tiny.site.write_text(text.replace('path = "dem15.tif"\n', f'path = "dem15.tif"\n{KEYS}'))
    prepare(read_site(tiny.site), tmp_path / "after", figures=False)
    with (
        rasterio.open(tmp_path / "before" / "valid.tif") as one,
        rasterio.open(tmp_path / "after" / "valid.tif") as two,
    ):
        assert np.array_equal(one.read(1), two.read(1)) and one.read(1).any()
    with rasterio.open(tmp_path / "after" / "stack.tif") as stack:
        assert set(NAMES) <= set(stack.descriptions)
        assert len(stack.descriptions) == len(before.summaries) + len(NAMES)
        assert stack.tags(stack.descriptions.index("roughness_5") + 1)["landslip_unit"] == "degree"


def test_values_are_those_of_the_dem(tmp_path: Path) -> None:
    z = dem_of_grid(tmp_path)
    source = relief_source(DemTable(path=tmp_path / "dem15.tif", relative_elevation=True), GRID)
    values = source.begin(tmp_path)(Window(0, 0, *GRID.shape))
    np.testing.assert_array_equal(values[0], position(z, 129))


@pytest.mark.parametrize("window", [Window(0, 0, 50, 60), Window(37, 81, 64, 64), Window(100, 150, 28, 42)])
def test_a_window_has_the_bits_of_the_whole(window: Window, tmp_path: Path, made: TinySite) -> None:
    dem = DemTable(path=made.folder / "dem.tif", relative_elevation=True, scales=(5, 15, 31))
    at = relief_source(dem, GRID).begin(tmp_path)
    whole = at(Window(0, 0, *GRID.shape))
    assert len(whole) == 16 and np.isfinite(whole).all((1, 2)).all()
    assert np.array_equal(at(window), whole[:, *window.slices])


def test_a_scale_is_named_once(tiny: TinySite) -> None:
    tiny.site.write_text(tiny.site.read_text().replace('path = "dem.tif"', 'path = "dem.tif"\nscales = [5, 5]'))
    with pytest.raises(SiteError, match=r"scales \[5, 5\] name a window twice"):
        read_site(tiny.site)
