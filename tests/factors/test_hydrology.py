"""Rivers from elevation: closed forms of a valley, and real mountains."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from real_data import DATA
from scipy.ndimage import uniform_filter

from landslip.errors import GridError
from landslip.factors.distance import distance
from landslip.factors.hydrology import catchment_area, rivers_from_elevation

TRANSFORM = Affine(30, 0, 500000, 0, -20, 4000000)
PIXEL_KM2 = 30 * 20 / 1e6


def valley(rows: int = 60, half: int = 15) -> NDArray[np.float64]:
    """A V falling to the south; the thalweg is the middle column."""
    row, column = np.indices((rows, 2 * half + 1))
    return 1000 + 10.0 * np.abs(column - half) - 8.0 * row


def test_valley_in_closed_form() -> None:
    """The lowest, and the steepest, neighbour of every hillside pixel is the next one down and inward.

    So a pixel k columns off meets the thalweg k rows further south, and the thalweg gathers at row r
    (r + 1) + 2 sum over k = 1..half of max(0, r - k + 1) pixels; the last row also gathers along the edge.
    """
    rows, half = 60, 15
    gathered = [(r + 1) + 2 * sum(max(0, r - k + 1) for k in range(1, half + 1)) for r in range(rows)]
    area = catchment_area(valley(rows, half), TRANSFORM)
    assert area.dtype == np.float32
    np.testing.assert_allclose(area[:-1, half], np.array(gathered[:-1]) * PIXEL_KM2, rtol=1e-6)
    threshold = 100
    rivers = rivers_from_elevation(valley(rows, half), TRANSFORM, threshold * PIXEL_KM2)
    expected = np.zeros(rivers.shape, bool)
    expected[:, half] = np.array(gathered) >= threshold
    assert rivers.dtype == bool and 0 < rivers.sum() < rows
    np.testing.assert_array_equal(rivers[:-1], expected[:-1])


def test_a_pit_is_filled() -> None:
    """A pit in the thalweg takes no water from the river below it."""
    z = valley()
    area = catchment_area(z, TRANSFORM)
    z[30, 15] -= 50
    np.testing.assert_allclose(catchment_area(z, TRANSFORM)[34:, 15], area[34:, 15], rtol=1e-6)


def test_undefined_ground_holds_no_river_and_gives_no_water() -> None:
    z = valley()
    z[:20] = np.nan
    z[40, 3] = np.inf
    area = catchment_area(z, TRANSFORM)
    np.testing.assert_array_equal(np.isnan(area), ~np.isfinite(z))
    np.testing.assert_allclose(area[20:35, 15], catchment_area(valley(40), TRANSFORM)[:15, 15], rtol=1e-6)
    assert not rivers_from_elevation(z, TRANSFORM, PIXEL_KM2)[:20].any()
    assert np.isnan(catchment_area(np.full((4, 5), np.nan), TRANSFORM)).all()


def test_leaves_its_input_alone() -> None:
    z = valley().astype(np.float32)
    z[3, 3] = np.inf
    before = z.copy()
    catchment_area(z, TRANSFORM)
    np.testing.assert_array_equal(z, before)


def test_refuses() -> None:
    with pytest.raises(GridError, match=r"\(1, 60, 31\)"):
        catchment_area(valley()[None], TRANSFORM)
    for area in (0, -1, float("nan")):
        with pytest.raises(GridError, match=f"min_area_km2 is {area}"):
            rivers_from_elevation(valley(), TRANSFORM, area)


def test_muzaffarabad_rivers_run_in_the_valleys() -> None:
    path = DATA / "muzaffarabad" / "AW3D30.tif"
    if not path.exists():
        pytest.skip("real data absent: ../shared/data/muzaffarabad/AW3D30.tif")
    with rasterio.open(path) as source:
        z, transform = source.read(1).astype(np.float64), source.transform
    rivers = rivers_from_elevation(z, transform, 5)
    assert 0.005 < rivers.mean() < 0.01
    # Against the mean of the square kilometre around: -117 m on rivers; half of all ground lies below it.
    around = uniform_filter(z, 35)
    inner = np.zeros(z.shape, bool)
    inner[18:-18, 18:-18] = True
    assert ((z - around)[rivers & inner] < 0).mean() > 0.999
    assert (z - around)[rivers & inner].mean() < -100
    # The ground rises away from them.
    away = distance(rivers, transform.a, -transform.e)
    rings = [z[(away >= low) & (away < high)].mean() for low, high in [(0, 1), (1, 150), (150, 400), (400, 800)]]
    assert np.all(np.diff(rings) > 50), rings


def test_saga_channels_of_southern_ecuador_lie_on_rivers() -> None:
    """SAGA's catchment area (log10 of m2) stops in pits, filled here: its channels are a part of ours."""
    path = DATA / "southern_ecuador" / "ta.tif"
    if not path.exists():
        pytest.skip("real data absent: ../shared/data/southern_ecuador/ta.tif")
    with rasterio.open(path) as source:
        z, log_area, transform = source.read(4), source.read(5), source.transform
    for hectares, least in ((1, 0.95), (3, 0.98), (10, 0.97)):
        theirs = log_area >= np.log10(hectares * 1e4)
        assert theirs.sum() > 800
        ours = rivers_from_elevation(z, transform, hectares / 100)
        assert ours.mean() < 0.06
        assert (distance(ours, 10, 10)[theirs] < 15).mean() > least, hectares
