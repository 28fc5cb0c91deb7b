"""Lithology: classes to planes and ranks, worked by hand and at Muzaffarabad."""

import pathlib

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from landslip.errors import RasterError, SiteError
from landslip.factors.lithology import ordinal, planes, unmapped

DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
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
