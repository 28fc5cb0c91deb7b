"""Lithology: classes to planes and ranks, worked by hand and at Muzaffarabad."""

import json

import numpy as np
import pytest
import rasterio
from conftest import GRID, SHAPE, TinySite, frame
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from real_data import DATA
from shapely import box

from landslip.config.site import Site, read_site
from landslip.errors import RasterError, SiteError
from landslip.factors.lithology import ordinal, planes, unmapped
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import write_raster
from landslip.geo.raster import read_categories
from landslip.preparation.check import check_site
from landslip.preparation.prepare import prepare

NAMES = ["soft", "soft and hard", "hard"]
TABLE = {3: "hard", 5: "soft", 6: "soft"}
CODES = np.array([[3, 5, 6], [0, 9, 3]], np.int16)
nan = np.nan


def test_planes_by_hand() -> None:
    got = planes(CODES, TABLE, NAMES)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(
        got,
        [
            [[0, 1, 1], [nan, nan, 0]],
            [[0, 0, 0], [nan, nan, 0]],  # a class the site lacks is 0, not undefined
            [[1, 0, 0], [nan, nan, 1]],
        ],
    )


def test_ordinal_by_hand() -> None:
    got = ordinal(CODES, TABLE, NAMES)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [[3, 1, 1], [nan, nan, 3]])
    np.testing.assert_array_equal(ordinal(CODES, TABLE, NAMES[::-1]), [[1, 3, 3], [nan, nan, 1]])


def test_nodata_wins_over_the_table() -> None:
    np.testing.assert_array_equal(ordinal(CODES, TABLE, NAMES, nodata=3), [[nan, 1, 1], [nan, nan, nan]])
    assert np.isnan(planes(CODES, TABLE, NAMES, nodata=3)[:, 0, 0]).all()


def test_unmapped_by_hand() -> None:
    assert unmapped(CODES, TABLE) == {0: 1, 9: 1}
    assert unmapped(CODES, TABLE, nodata=0) == {9: 1}
    assert unmapped(CODES, {}) == {0: 1, 3: 2, 5: 1, 6: 1, 9: 1}


@given(
    codes=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 6)),
    table=st.dictionaries(st.integers(0, 300), st.sampled_from(NAMES)),
    nodata=st.none() | st.integers(0, 6),
)
def test_laws(codes: np.ndarray, table: dict[int, str], nodata: int | None) -> None:
    """Every pixel is in exactly one class or undefined in all; ranks, planes and unmapped tell the same."""
    made = planes(codes, table, NAMES, nodata=nodata)
    rank = ordinal(codes, table, NAMES, nodata=nodata)
    undefined = np.isnan(rank)
    np.testing.assert_array_equal(np.isnan(made), np.broadcast_to(undefined, made.shape))
    np.testing.assert_array_equal(made.sum(axis=0)[~undefined], 1)
    np.testing.assert_array_equal(made.argmax(axis=0)[~undefined] + 1, rank[~undefined])
    absent = 0 if nodata is None else int((codes == nodata).sum())
    assert sum(unmapped(codes, table, nodata=nodata).values()) + absent == undefined.sum()


def test_refuses() -> None:
    with pytest.raises(SiteError, match=r"\['sfot'\].*soft and hard"):
        planes(CODES, {3: "sfot"}, NAMES)
    with pytest.raises(SiteError, match="repeat"):
        ordinal(CODES, TABLE, [*NAMES, "soft"])
    for bad in [CODES.astype(np.float32), CODES[None]]:
        for factor in (planes, ordinal):
            with pytest.raises(RasterError, match=str(bad.dtype)):
                factor(bad, TABLE, NAMES)
        with pytest.raises(RasterError, match=str(bad.dtype)):
            unmapped(bad, TABLE)


def test_muzaffarabad() -> None:
    """Geology.tif has nine classes without a legend; with a table of eight the ninth is listed, not lost."""
    path = DATA / "muzaffarabad" / "Geology.tif"
    if not path.exists():
        pytest.skip("real data absent: ../shared/data/muzaffarabad/Geology.tif")
    with rasterio.open(path) as source:
        codes = source.read(1)
    table = {code: f"unit {code}" for code in (2, 3, 6, 7, 8, 10, 19, 20)}
    assert unmapped(codes, table, nodata=-9999) == {18: 5272}
    made = planes(codes, table, list(table.values()))
    assert np.isnan(made[0]).sum() == 5272
    assert np.nansum(made[6]) == 278_903


NAMED = """<PAMDataset><PAMRasterBand band="1"><CategoryNames>
<Category>NA</Category><Category>Open water</Category><Category>Shale</Category><Category></Category>
</CategoryNames></PAMRasterBand></PAMDataset>"""  # as GDAL writes it beside a GeoTIFF


def rocks(tiny: TinySite, codes: list[int], keys: str = "") -> Site:
    """The tiny site with a class raster in bands of columns, named by its .aux.xml."""
    stored = np.repeat(np.array(codes, np.uint8), SHAPE[1] // len(codes))[None, None].repeat(SHAPE[0], 1)
    write_raster(tiny.folder / "rocks.tif", stored, GRID, ["rocks"], overwrite=True)
    (tiny.folder / "rocks.tif.aux.xml").write_text(NAMED)
    head, tail = tiny.site.read_text().split("[lithology]")
    tail = tail[tail.index("[landslides]") :]
    tiny.site.write_text(f'{head}[lithology]\npath = "rocks.tif"\n{keys}\n{tail}')
    return read_site(tiny.site)


def lithology_of(tiny: TinySite, site: Site) -> list[str]:
    prepare(site, tiny.folder / "p", overwrite=True)
    return json.loads((tiny.folder / "p" / "channels.json").read_text())["factors"]["lithology"]


def test_a_rasters_own_names_are_its_classes(tiny: TinySite) -> None:
    assert read_categories(tiny.folder / "image.tif") == {}
    site = rocks(tiny, [1, 2, 3])
    assert read_categories(tiny.folder / "rocks.tif") == {0: "NA", 1: "Open water", 2: "Shale"}
    assert lithology_of(tiny, site) == ["lithology_open_water", "lithology_shale", "lithology_3"]


def test_the_site_files_classes_go_by_code_or_name_and_win(tiny: TinySite) -> None:
    site = rocks(tiny, [1, 2, 3], 'classes = { 1 = "wet", Shale = "soft", 3 = "soft" }')
    assert lithology_of(tiny, site) == ["lithology_wet", "lithology_soft"]


@pytest.mark.parametrize("named", [True, False], ids=["by the site file", "by the raster"])
def test_a_class_that_lies_nowhere_inside_the_outline_is_warned_of(tiny: TinySite, named: bool) -> None:
    left, bottom, right, top = GRID.bounds
    sides = [box(left, bottom, left + 64 * 15, top), box(right - 64 * 15, bottom, right, top)]
    write_vector(tiny.folder / "outline.gpkg", frame(sides), overwrite=True)
    site = rocks(tiny, [2, 1, 3], 'classes = { 1 = "wet", 2 = "soft", 3 = "hard" }' if named else "")
    (text,) = (f.text for f in check_site(site) if f.severity == "warning")
    assert f"rocks.tif: lithology '{'wet' if named else 'Open water'}' lies nowhere on the site" in text
    prepared = prepare(site, tiny.folder / "p")
    (plane,) = (s for s in prepared.summaries if s.channel.name.endswith(("_wet", "_open_water")))
    assert plane.minimum == plane.maximum == 0  # kept, so that sites have the same channels


def test_zions_land_cover_has_names() -> None:
    path = DATA / "landsat8_zion" / "landcover.tif"
    if not path.exists():
        pytest.skip("real data absent: ../shared/data/landsat8_zion/landcover.tif")
    assert list(read_categories(path).values()) == [
        "NA", "Water", "Developed", "Barren", "Forest", "Shrubland", "Herbaceous", "Cultivated", "Wetlands",
    ]  # fmt: skip
