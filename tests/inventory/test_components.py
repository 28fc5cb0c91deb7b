"""Pieces found tile by tile are those of a flood fill over the whole raster."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

import landslip.inventory.components
from landslip.errors import RasterError
from landslip.geo.grid import Window
from landslip.inventory.components import label_components


def pieces_of(mask: NDArray[np.bool_], side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(H, W) pieces and (n,) pixels of them, from tiles of `side`."""
    ids = np.zeros(mask.shape, np.int32)

    def keep(window: Window, found: NDArray[np.int32]) -> None:
        ids[window.slices] = found

    found = label_components(lambda window: mask[window.slices], keep, (mask.shape[0], mask.shape[1]), side)
    return found.piece[ids], found.pixels


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0.05, 0.95),
    shape=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    side=st.integers(1, 9),
)
def test_tiles_find_the_pieces_of_the_whole(seed: int, share: float, shape: tuple[int, int], side: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < share
    pieces, pixels = pieces_of(mask, side)
    expected, count = ndimage.label(mask, structure=np.ones((3, 3)))
    assert len(pixels) == count
    np.testing.assert_array_equal(pieces > 0, mask)
    pairs = set(zip(expected[mask].tolist(), pieces[mask].tolist(), strict=True))
    assert len(pairs) == count  # one to one
    np.testing.assert_array_equal(np.bincount(pieces[mask], minlength=count + 1)[1:], pixels)


def test_one_tile_numbers_as_the_raster_is_read() -> None:
    mask = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1]], bool)
    np.testing.assert_array_equal(pieces_of(mask, 8)[0], [[0, 1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 4]])


def test_a_spiral_through_many_tiles_is_one_piece() -> None:
    mask = np.zeros((41, 41), bool)
    for ring in range(0, 20, 2):  # square rings, each joined to the next by one pixel
        mask[ring, ring : 41 - ring] = mask[40 - ring, ring : 41 - ring] = True
        mask[ring : 41 - ring, ring] = mask[ring : 41 - ring, 40 - ring] = True
        mask[ring + 1, ring] = mask[ring + 1, ring + 1] = True
    pieces, pixels = pieces_of(mask, 5)
    assert len(pixels) == 1 and pixels[0] == mask.sum() and (pieces == mask).all()


def test_more_pieces_than_can_be_counted_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landslip.inventory.components, "MOST_IDS", 3)
    mask = np.zeros((9, 9), bool)
    mask[::4, ::4] = True
    with pytest.raises(RasterError, match="raise the threshold"):
        pieces_of(mask, 4)
