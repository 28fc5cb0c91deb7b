import json

import numpy as np
import pytest
from conftest import GRID, TinySite, frame, polygon

from landslip.config.site import read_site
from landslip.dataset.channels import Channel, read_stack_info
from landslip.errors import LandslipError, OutputError, SiteError
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import write_raster
from landslip.geo.raster import read, read_stored
from landslip.preparation.channel_summary import ChannelSummary, channel_table, table_csv
from landslip.preparation.prepare import prepare

PLANES = [
    "coastal", "blue", "green", "red", "nir", "swir1", "swir2",
    "elevation", "slope", "curvature", "aspect_sin", "aspect_cos", "ndvi", "mndwi",
    "distance_to_river", "distance_to_fault", "lithology_soft", "lithology_hard",
]  # fmt: skip


def test_planes_and_paper_encodings(tiny: TinySite) -> None:
    prepare(read_site(tiny.site), tiny.folder / "planes")
    prepare(read_site(tiny.site), tiny.folder / "paper", "paper")
    planes = read_stack_info(tiny.folder / "planes" / "stack.tif").channels
    paper = read_stack_info(tiny.folder / "paper" / "stack.tif").channels
    assert [c.name for c in planes] == PLANES
    # the paper: 7 bands and 9 factors, one channel each
    assert len(paper) == 16 and len({c.factor for c in paper if c.group == "factor"}) == 9
    facts = json.loads((tiny.folder / "planes" / "channels.json").read_text())
    assert facts["factors"]["aspect"] == ["aspect_sin", "aspect_cos"]
    assert {c["name"] for c in facts["channels"] if not c["standardised"]} == {
        n for n in PLANES if "_s" in n[6:] or "_c" in n[6:] or n.startswith("lithology")
    }


def test_values_are_scaled_once_and_lie_on_the_grid(tiny: TinySite) -> None:
    prepare(read_site(tiny.site), tiny.folder / "p")
    stack = tiny.folder / "p" / "stack.tif"
    stored = read_stored(tiny.folder / "image.tif", 4)
    np.testing.assert_allclose(read(stack, [4])[0], stored * 0.0001, rtol=1e-6)
    # distance to the fault line 900 m west of the edge, burnt all-touched: the columns whose pixels hold x = -900 m
    to_fault = read(stack, [PLANES.index("distance_to_fault") + 1])[0]
    assert to_fault[5, 10] - to_fault[5, 0] == pytest.approx(150, abs=1e-3)
    assert to_fault[5, 0] == pytest.approx(900, abs=15)
    soft = read(stack, [PLANES.index("lithology_soft") + 1])[0]
    assert (soft[:, :96] == 1).all() and (soft[:, 96:] == 0).all()


def test_no_edge_is_lost_where_the_dem_reaches_beyond(tiny: TinySite) -> None:
    prepared = prepare(read_site(tiny.site), tiny.folder / "p")
    assert prepared.valid_pixels == GRID.height * GRID.width
    assert np.array_equal(read_stored(tiny.folder / "p" / "label.tif") == 1, tiny.label)


def test_undefined_pixels_are_nan_and_not_valid(tiny: TinySite) -> None:
    image = read_stored(tiny.folder / "image.tif", 1)
    stored = np.stack([read_stored(tiny.folder / "image.tif", b) for b in range(1, 8)])
    stored[2, 10:14, 20:25] = 0  # nodata in green only
    names = ["coastal", "blue", "green", "red", "nir", "swir1", "swir2"]
    write_raster(tiny.folder / "image.tif", stored, GRID, names, nodata=0, overwrite=True)
    prepare(read_site(tiny.site), tiny.folder / "p")
    stack, valid = tiny.folder / "p" / "stack.tif", read_stored(tiny.folder / "p" / "valid.tif")
    hole = np.zeros(image.shape, bool)
    hole[10:14, 20:25] = True
    assert np.array_equal(valid == 0, hole)
    assert (
        np.isnan(read(stack, [3])[0][hole]).all() and np.isnan(read(stack, [PLANES.index("mndwi") + 1])[0][hole]).all()
    )
    assert not np.isnan(read(stack, [1])).any()


def test_flat_ground_is_valid_in_both_encodings(tiny: TinySite) -> None:
    from landslip.geo.raster import read_info

    grid = read_info(tiny.folder / "dem.tif").grid
    flat = np.full((1, *grid.shape), 700, np.float32)
    write_raster(tiny.folder / "dem.tif", flat, grid, ["elevation"], nodata=-9999.0, overwrite=True)
    for encoding in ("planes", "paper"):
        prepared = prepare(read_site(tiny.site), tiny.folder / encoding, encoding)  # type: ignore[arg-type]
        assert prepared.valid_pixels == GRID.height * GRID.width
    assert (read(tiny.folder / "planes" / "stack.tif", [11, 12]) == 0).all()
    assert np.isnan(read(tiny.folder / "paper" / "stack.tif", [11])).all()


def test_landslides_that_burn_to_no_pixel_are_listed(tiny: TinySite) -> None:
    x, y = GRID.transform.c + 7.5, GRID.transform.f - 7.5
    from shapely import box

    small = box(x + 1, y + 1, x + 4, y + 4)
    write_vector(tiny.folder / "landslides.gpkg", frame([polygon(8, 8, 40, 40), small], id=[0, 1]), overwrite=True)
    prepared = prepare(read_site(tiny.site), tiny.folder / "p")
    assert prepared.unburnt == [2]  # feature ids of a GeoPackage begin at 1
    assert json.loads((tiny.folder / "p" / "manifest.json").read_text())["landslides_that_burn_to_no_pixel"] == ["2"]


def test_a_site_without_landslides_is_prepared_with_an_unknown_label(tiny: TinySite) -> None:
    text = tiny.site.read_text()
    tiny.site.write_text(text[: text.index("[landslides]")])
    prepare(read_site(tiny.site), tiny.folder / "p")
    assert (read_stored(tiny.folder / "p" / "label.tif") == 255).all()


def test_the_table_has_range_mean_and_undefined_share(tiny: TinySite) -> None:
    prepared = prepare(read_site(tiny.site), tiny.folder / "p")
    elevation = next(s for s in prepared.summaries if s.channel.name == "elevation")
    values = read(tiny.folder / "p" / "stack.tif", [8])
    assert (elevation.minimum, elevation.maximum) == (values.min(), values.max())
    assert elevation.mean == pytest.approx(values.mean(dtype=float))
    assert "elevation" in channel_table(prepared) and "1/100 m" in channel_table(prepared)


def test_table_csv_is_the_table_in_full(tiny: TinySite) -> None:
    import csv

    prepared = prepare(read_site(tiny.site), tiny.folder / "p")
    with (tiny.folder / "p" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["channel"] for row in rows] == PLANES
    row, summary = rows[7], prepared.summaries[7]
    assert (row["factor"], row["group"], row["unit"]) == ("elevation", "factor", "m")
    found = [float(row[name]) for name in ("minimum", "maximum", "mean", "undefined_share")]
    assert found == pytest.approx([summary.minimum, summary.maximum, summary.mean, 0], rel=1e-6)


def test_an_empty_channel_has_no_figures_in_the_table() -> None:
    nothing = ChannelSummary(Channel("aspect", "aspect", "factor", "degree"), np.nan, np.nan, np.nan, 1.0)
    assert table_csv([nothing]).splitlines()[1] == "aspect,aspect,factor,degree,,,,1"


def test_figures_of_ones_own_are_not_lost(tiny: TinySite) -> None:
    prepare(read_site(tiny.site), tiny.folder / "p")
    figures = tiny.folder / "p" / "figures"
    figures.mkdir()
    (figures / "factor_slope.png").write_bytes(b"landslip's own")
    (figures / "poster.png").write_bytes(b"somebody's")
    with pytest.raises(OutputError, match=r"also holds figures/poster\.png, which would be lost"):
        prepare(read_site(tiny.site), tiny.folder / "p", overwrite=True)
    (figures / "poster.png").unlink()
    prepare(read_site(tiny.site), tiny.folder / "p", overwrite=True)
    assert not figures.exists()


def test_an_output_that_exists_is_refused_and_kept(tiny: TinySite) -> None:
    prepare(read_site(tiny.site), tiny.folder / "p")
    before = (tiny.folder / "p" / "stack.tif").read_bytes()
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        prepare(read_site(tiny.site), tiny.folder / "p")
    (tiny.folder / "dem.tif").write_bytes(b"not a raster")
    with pytest.raises(LandslipError, match=r"dem\.tif"):
        prepare(read_site(tiny.site), tiny.folder / "p", overwrite=True)
    assert (tiny.folder / "p" / "stack.tif").read_bytes() == before


def test_a_folder_of_somebody_elses_is_never_replaced(tiny: TinySite) -> None:
    precious = tiny.folder / "thesis"
    precious.mkdir()
    (precious / "chapter.txt").write_text("all of it")
    with pytest.raises(OutputError, match="did not write"):
        prepare(read_site(tiny.site), precious, overwrite=True)
    assert (precious / "chapter.txt").read_text() == "all of it"


def test_faults_are_listed_at_once_before_any_work(tiny: TinySite) -> None:
    (tiny.folder / "rivers.gpkg").unlink()
    (tiny.folder / "dem.tif").unlink()
    with pytest.raises(SiteError, match=r"(?s)dem\.tif does not exist.*rivers\.gpkg does not exist"):
        prepare(read_site(tiny.site), tiny.folder / "p")
    assert not (tiny.folder / "p").exists()
