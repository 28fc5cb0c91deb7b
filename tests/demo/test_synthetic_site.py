"""The made-up site keeps its stated rule, and its files give back what was made."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from scipy import ndimage, stats

from landslip.config.site import read_site
from landslip.config.site_tables import FileTable
from landslip.demo.bodies import Bodies
from landslip.demo.land_cover import BANDS
from landslip.demo.synthetic_site import EFFECTS, LOOK_ALIKES, SyntheticSite, generate, write_site
from landslip.demo.terrain import LITHOLOGY, ROCKS
from landslip.errors import GridError, OutputError
from landslip.factors.terrain import aspect_sin_cos
from landslip.geo.grid import Window, same_grid
from landslip.geo.raster import read, read_info, read_stored
from landslip.geo.rasterize import burn
from landslip.geo.vector import read_vector
from landslip.geo.warp import warp_array
from landslip.preparation.distance_sources import distance_source

SMALL = (320, 400)


@pytest.fixture(scope="module")
def site() -> SyntheticSite:
    """The paper's Site 1 in size."""
    return generate(2021)


@pytest.fixture(scope="module")
def small() -> SyntheticSite:
    return generate(7, SMALL)


@pytest.fixture(scope="module")
def folder(small: SyntheticSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_site(small, tmp_path_factory.mktemp("site")).parent


def fine(site: SyntheticSite, band: str) -> np.ndarray:
    values = site.bands[band]
    return values if values.shape == site.grid.shape else np.kron(values, np.ones((2, 2)))


def test_same_seed_same_site() -> None:
    a, b, c = generate(3, (160, 192)), generate(3, (160, 192)), generate(4, (160, 192))
    for name in BANDS:
        np.testing.assert_array_equal(a.bands[name], b.bands[name])
    for name in ("dem", "label", "look_alikes", "lithology", "distance_to_river", "distance_to_fault", "inside"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in ("rivers", "faults", "rocks", "landslides", "outline"):
        assert getattr(a, name).equals(getattr(b, name))
    assert not np.array_equal(a.dem, c.dem) and not np.array_equal(a.bands["red"], c.bands["red"])


@pytest.mark.parametrize("shape", [(320, 401), (321, 400), (126, 400)])
def test_odd_or_small_shapes_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(GridError, match=f"{shape[0]} x {shape[1]}.*even numbers from 128"):
        generate(1, shape)


def test_size_of_the_papers_site(site: SyntheticSite) -> None:
    # Table I of Gao et al. 2021: 616 x 976 pixels, 74 landslides, 6.82 of 116.29 km2, 80-1220 m, slope to 62.7
    assert site.label.shape == (616, 976)
    inside = site.inside
    assert 0.84 <= inside.mean() <= 0.86
    assert 68 <= len(site.landslides) <= 76
    assert 0.045 <= site.label[inside].mean() <= 0.075
    assert not site.label[~inside].any()
    area = site.landslides.area.to_numpy()
    assert area.min() >= 0.8 * 2_000 and area.max() <= 1.3 * 600_000
    assert area.max() > 3 * np.median(area) and np.mean(area) > 1.1 * np.median(area)  # heavy tail
    assert 0.8 <= (site.look_alikes > 0).sum() / site.label.sum() <= 1.5
    assert not site.label[site.look_alikes > 0].any()
    assert 60 <= site.elevation.min() <= 100 and 800 <= site.elevation.max() <= 1_400
    assert 15 <= np.median(site.slope) <= 25 and 50 <= site.slope.max() <= 75
    for code in LITHOLOGY.values():
        assert 0.15 <= (site.lithology[inside] == code).mean() <= 0.5


def test_a_smaller_site_has_fewer_landslides(small: SyntheticSite) -> None:
    expected = 74 * small.inside.sum() * 225 / 116.29e6
    assert 0.8 * expected <= len(small.landslides) <= 1.1 * expected + 1
    assert 0.04 <= small.label[small.inside].mean() <= 0.08


def test_rivers_lie_in_the_valleys(site: SyntheticSite) -> None:
    points = shapely.get_coordinates(site.rivers.geometry.values)
    grid = site.dem_grid
    columns = ((points[:, 0] - grid.transform.c) // grid.x_size).astype(int)
    rows = ((grid.transform.f - points[:, 1]) // grid.y_size).astype(int)
    around = ndimage.uniform_filter(site.dem, 15, mode="nearest")  # 450 m square
    deeper = around[rows, columns] - site.dem[rows, columns]
    assert (deeper > 0).mean() > 0.97 and np.median(deeper) > 10
    quarter = ndimage.percentile_filter(site.dem, 25, 15)[rows, columns]
    assert (site.dem[rows, columns] < quarter).mean() > 0.8


def test_landslides_keep_the_rule_and_look_alikes_break_it(site: SyntheticSite) -> None:
    # the rule as the docstring words it, with its numbers, on the finished ground
    fails = (site.slope >= 16) & (site.lithology != 3) & (site.distance_to_river <= 900)
    fails &= site.distance_to_fault <= 2_000
    assert fails[site.label].mean() > 0.97
    bodies = (site.look_alikes > 0) & (site.look_alikes <= LOOK_ALIKES["clearing"])
    assert fails[bodies].mean() < 0.03
    assert fails[site.look_alikes > 0].mean() < 0.10  # with roads, which run anywhere
    kind = {name: site.look_alikes == code for name, code in LOOK_ALIKES.items()}
    assert np.quantile(site.slope[kind["field"]], 0.97) < 16
    assert (site.lithology[kind["outcrop"]] == LITHOLOGY["hard"]).all()
    far = (site.distance_to_river > 900) | (site.distance_to_fault > 2_000)
    assert far[kind["clearing"]].all() and (site.lithology[kind["clearing"]] != LITHOLOGY["hard"]).all()
    assert min(mask.sum() for mask in kind.values()) > 1_500


def test_bare_ground_looks_alike_and_apart_from_plants(site: SyntheticSite) -> None:
    red, nir = fine(site, "red"), fine(site, "nir")
    ndvi = (nir - red) / (nir + red)
    bodies = (site.look_alikes > 0) & (site.look_alikes <= LOOK_ALIKES["clearing"])
    plants = site.inside & ~site.label & (site.look_alikes == 0) & (nir > 0.1)
    assert abs(np.median(ndvi[site.label]) - np.median(ndvi[bodies])) < 0.06
    spread = np.std(ndvi[site.label])
    assert np.median(ndvi[plants]) - np.median(ndvi[site.label]) > 3 * spread
    # shape: look-alikes reach the sizes of landslides
    sizes = np.bincount(ndimage.label(bodies)[0].ravel())[1:] * 225
    assert sizes.max() > 0.5 * site.landslides.area.max()


def test_a_body_on_a_plane_runs_down_it() -> None:
    # a plane that falls to the south: the body is longer down the slope than across, hollow above, raised below
    plane = np.repeat(np.linspace(300, 0, 120)[:, None], 100, axis=1)
    everywhere = np.ones(plane.shape, bool)
    bodies = Bodies(np.random.default_rng(1), plane, 15.0, ~everywhere)
    found = bodies.place(everywhere, np.ones(plane.shape), np.full(8, 60_000.0))
    assert len(found) == 8
    for body in found:
        assert 0.8 <= len(body.rows) * 225 / 60_000 <= 1.3
        assert np.ptp(body.rows) > 1.2 * np.ptp(body.columns)
        place = (body.rows - body.rows.min()) / np.ptp(body.rows)
        assert body.relief[place < 0.45].mean() < -0.3 and body.relief[place > 0.55].mean() > 0.3
    seen = np.zeros(plane.shape, int)
    for body in found:
        seen[body.rows, body.columns] += 1
    assert seen.max() == 1


def test_aspect_has_no_effect(site: SyntheticSite) -> None:
    sine, cosine = warp_array(aspect_sin_cos(site.dem, 30, 30, edges="one-sided"), site.dem_grid, site.grid)
    quarter = (np.degrees(np.arctan2(sine, cosine)) % 360 // 90).astype(int)
    can = (site.slope >= 16) & (site.lithology != 3) & (site.distance_to_river <= 900)
    can &= (site.distance_to_fault <= 2_000) & site.inside
    expected = np.bincount(quarter[can], minlength=4) / can.sum()
    ids = ndimage.label(site.label)[0]
    facing = [np.bincount(quarter[ids == i], minlength=4).argmax() for i in range(1, ids.max() + 1)]
    counts = np.bincount(facing, minlength=4)
    # landslides that know nothing of aspect fall below this once in a thousand seeds
    assert stats.chisquare(counts, expected * counts.sum()).pvalue > 0.001
    assert EFFECTS["aspect"] == 0 and max(EFFECTS, key=EFFECTS.__getitem__) == "slope"


def test_bands_are_reflectance(site: SyntheticSite) -> None:
    assert tuple(site.bands) == BANDS
    for name, values in site.bands.items():
        assert values.dtype == np.float32
        assert values.shape == ((308, 488) if name.startswith("swir") else (616, 976))
        assert values.min() > 0 and values.max() <= 1
        assert np.abs(values / 1e-4 - np.rint(values / 1e-4)).max() < 0.01  # whole steps of what is stored


def test_files_give_back_the_site(small: SyntheticSite, folder: Path) -> None:
    facts = read_site(folder / "site.toml")
    for image, names, size in zip(facts.image, (BANDS[:5], BANDS[5:]), (15, 30), strict=True):
        info = read_info(image.path)
        assert tuple(image.bands) == names == info.names and set(info.dtypes) == {"uint16"}
        assert info.transform.a == size and set(info.nodata) == {0}
        for name, number in image.bands.items():
            assert read_stored(image.path, number).min() > 0
            np.testing.assert_allclose(read(image.path, [number])[0] * image.scale, small.bands[name], atol=1e-6)
    assert facts.dem is not None and facts.lithology is not None
    np.testing.assert_array_equal(read(facts.dem.path)[0], small.dem)
    assert same_grid(read_info(facts.dem.path).grid, small.dem_grid)
    left, _, _, top = small.dem_grid.bounds
    assert small.grid.bounds[0] - left >= 600 and top - small.grid.bounds[3] >= 600  # 20 pixels for halos
    assert facts.lithology.classes == {rock: klass for rock, (klass, _) in ROCKS.items()}
    rocks = read_vector(facts.lithology.path)
    for klass, code in LITHOLOGY.items():
        mine = rocks[rocks["rock"].map(facts.lithology.classes) == klass]
        np.testing.assert_array_equal(burn(mine.geometry, small.grid), small.lithology == code)
    landslides = read_vector(folder / "landslides.gpkg")
    assert landslides["id"].is_unique and landslides.geometry.is_valid.all()
    burnt = burn(landslides.geometry, small.grid)
    assert (burnt & small.label).sum() / (burnt | small.label).sum() > 0.99
    np.testing.assert_array_equal(burn(read_vector(folder / "outline.gpkg").geometry, small.grid), small.inside)


def test_distances_are_those_of_the_stack(small: SyntheticSite, folder: Path, tmp_path: Path) -> None:
    for name, expected in (("rivers", small.distance_to_river), ("faults", small.distance_to_fault)):
        layer = distance_source(name, FileTable(path=folder / f"{name}.gpkg"), small.grid)
        found = layer.begin(tmp_path)(Window(0, 0, *small.grid.shape))[0]
        np.testing.assert_allclose(found, expected, atol=0.01)


def test_an_existing_site_is_not_replaced(small: SyntheticSite, folder: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        write_site(small, folder)
    assert write_site(small, folder, overwrite=True) == folder / "site.toml"
