"""Ids stay with the landslides they were given to."""

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from landslip.inventory.persistent_ids import keep_ids


def boxes(*edges: tuple[float, float]) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([shapely.box(left, 0, right, 1) for left, right in edges], object)


def test_of_a_split_the_larger_part_keeps_the_id() -> None:
    np.testing.assert_array_equal(keep_ids(boxes((0, 3), (4, 9)), boxes((0, 10)), [7]), [8, 7])


def test_of_a_merger_the_one_that_makes_up_more_gives_the_id() -> None:
    np.testing.assert_array_equal(keep_ids(boxes((0, 10)), boxes((0, 3), (4, 9)), [1, 2]), [2])


def test_touching_is_not_overlapping_and_used_ids_are_not_given_again() -> None:
    np.testing.assert_array_equal(keep_ids(boxes((1, 2)), boxes((0, 1)), [4]), [5])
    np.testing.assert_array_equal(keep_ids(boxes((1, 2)), boxes((0, 1)), [4], taken=11), [12])
    np.testing.assert_array_equal(keep_ids(boxes((1, 2), (3, 4)), boxes(), []), [1, 2])
    assert keep_ids(boxes(), boxes((0, 1)), [1]).shape == (0,)


edges = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=12)


@given(new=edges, old=edges, seed=st.integers(0, 99))
def test_every_landslide_has_an_id_of_its_own(
    new: list[tuple[int, int]], old: list[tuple[int, int]], seed: int
) -> None:
    outlines, earlier = boxes(*((a, a + b) for a, b in new)), boxes(*((a, a + b) for a, b in old))
    known = np.random.default_rng(seed).permutation(100)[: len(old)]
    ids = keep_ids(outlines, earlier, known.tolist())
    assert len(set(ids.tolist())) == len(new) and (ids >= 0).all()
    for outline, number in zip(outlines, ids, strict=True):
        if number in known:
            assert shapely.intersection(outline, earlier[list(known).index(number)]).area > 0
    if len(set(old)) == len(old):  # the same inventory again changes nothing
        apart = boxes(*((20 * i, 20 * i + b) for i, (_, b) in enumerate(old)))
        np.testing.assert_array_equal(keep_ids(apart, apart, known.tolist()), known)
