"""A raster of landslides whose values are not 1 and 0: what it holds is said, and the site file says what it means."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import GRID, SHAPE, TinySite
from pydantic import ValidationError

from landslip.config.site import Site, read_site
from landslip.config.site_tables import LandslidesTable
from landslip.errors import LabelError, SiteError
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Window
from landslip.geo.raster import read_stored
from landslip.preparation.check import check_site
from landslip.preparation.label_source import open_label
from landslip.preparation.prepare import prepare


def masked(tiny: TinySite, mask: np.ndarray, nodata: float | None = None, keys: str = "") -> Site:
    """The tiny site with a mask (H, W) uint8 for its landslides."""
    write_raster(tiny.folder / "mask.tif", mask[None].astype(np.uint8), GRID, ["mask"], nodata, overwrite=True)
    text = tiny.site.read_text().split("[landslides]")[0]
    tiny.site.write_text(f'{text}[landslides]\npath = "mask.tif"\n{keys}\n')
    return read_site(tiny.site)


def label(site: Site) -> np.ndarray:
    assert site.landslides is not None
    return open_label(site.landslides, GRID).at(Window(0, 0, *SHAPE))


@pytest.mark.parametrize("command", [check_site, None], ids=["check", "prepare"])
def test_a_mask_of_0_and_255_is_told_what_it_holds(tiny: TinySite, command: Callable | None) -> None:
    site = masked(tiny, tiny.label * 255)
    if command is None:
        with pytest.raises(SiteError) as refused:
            prepare(site, tiny.folder / "p")
        text = str(refused.value)
    else:
        text = "".join(finding.text for finding in check_site(site) if finding.severity == "fault")
    slides = int(tiny.label.sum())
    assert f"it holds 0 ({24_576 - slides:,} px) and 255 ({slides:,} px); 1 is landslide, 255 unknown." in text
    assert text.endswith("Where another value marks landslides, say which: [landslides] landslide = 255.")


@pytest.mark.parametrize("nodata", [None, 0], ids=["nothing declared", "0 declared nodata"])
def test_the_site_file_says_what_means_landslide(tiny: TinySite, nodata: float | None) -> None:
    site = masked(tiny, tiny.label * 255, nodata, "landslide = 255")
    assert not [f for f in check_site(site) if f.severity != "note"]
    prepare(site, tiny.folder / "p")
    np.testing.assert_array_equal(read_stored(tiny.folder / "p" / "label.tif"), tiny.label)


def test_several_values_mean_landslide_and_255_stays_unknown_where_it_is_none_of_them(tiny: TinySite) -> None:
    mask = np.tile(np.array([0, 2, 3, 4, 255, 1], np.uint8), (SHAPE[0], SHAPE[1] // 6))
    assert label(masked(tiny, mask, None, "landslide = [2, 4]"))[0, :6].tolist() == [0, 1, 0, 1, 255, 0]
    assert label(masked(tiny, mask, 3, "landslide = [2, 4, 255]"))[0, :6].tolist() == [0, 1, 255, 1, 1, 0]
    with pytest.raises(LabelError, match=r"holds 0 \(4,096 px\), 1 \(4,096 px\), 2 .*say which: \[landslides\] landsl"):
        label(masked(tiny, mask))


def test_a_value_cannot_be_nodata_and_landslide(tiny: TinySite) -> None:
    site = masked(tiny, tiny.label * 255, 255, "landslide = 255")
    (fault,) = (f.text for f in check_site(site) if f.severity == "fault")
    assert "mask.tif declares 255 as nodata, and [landslides] landslide = 255 takes it for a landslide" in fault


def test_a_value_that_lies_nowhere(tiny: TinySite) -> None:
    site = masked(tiny, tiny.label * 2, None, "landslide = 7")
    (fault,) = (f.text for f in check_site(site) if f.severity == "fault")
    assert "7 is landslide, 255 unknown" in fault and "[landslides] landslide = 2." in fault


def test_outlines_have_no_values() -> None:
    with pytest.raises(ValidationError, match=r"landslides\.gpkg is not a raster"):
        LandslidesTable(path=Path("landslides.gpkg"), landslide=(255,))
