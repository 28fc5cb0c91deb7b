import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from landslip.errors import SplitError
from landslip.grid import Window, lattice
from landslip.run import SplitChoice
from landslip.split import (
    PARTS,
    TEST,
    TRAIN,
    VALIDATION,
    independent_regions,
    keep_apart,
    split_apart,
    split_paper,
)


def ground(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = (rng.random((shape[0] // 8, shape[1] // 8)) < 0.3).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    valid = rng.random(shape) < 0.97
    return label, valid


def nearest(a: np.ndarray, b: np.ndarray) -> float:
    return float(cKDTree(np.argwhere(a)).query(np.argwhere(b))[0].min())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), guard=st.sampled_from([0, 4, 16]), side=st.sampled_from([24, 40]))
def test_parts_lie_a_guard_apart(seed: int, guard: int, side: int) -> None:
    label, valid = ground((120, 160), seed)
    choice = SplitChoice(region=side, guard=guard)
    split = split_apart(choice, 16, label, valid, np.random.default_rng(seed))
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        distance = nearest(split.parts == PARTS[a], split.parts == PARTS[b])
        assert distance >= max(guard, 1)


def test_no_training_window_shares_a_pixel_with_another_part() -> None:
    label, valid = ground((160, 200), 3)
    split = split_apart(SplitChoice(region=40, guard=8), 16, label, valid, np.random.default_rng(0))
    windows = split.inside(list(lattice(label.shape, 16, 8)), TRAIN)
    covered = np.zeros(label.shape, bool)
    for window in windows:
        covered[window.slices] = True
    assert len(windows) > 10
    assert set(np.unique(split.parts[covered])) == {TRAIN}


def test_shares_come_near_those_wanted() -> None:
    label, valid = ground((400, 400), 5)
    choice = SplitChoice(region=40, guard=0, train=0.6, validation=0.15)
    split = split_apart(choice, 16, label, valid, np.random.default_rng(0))
    for part, wanted in ((TRAIN, 0.6), (VALIDATION, 0.15), (TEST, 0.25)):
        assert abs((split.parts == part).mean() - wanted) < 0.06


def test_pieces_are_kept_whole() -> None:
    label = np.full((60, 200), 255, np.uint8)
    for i in range(5):
        label[10:50, 10 + 40 * i : 40 + 40 * i] = np.eye(40, 30, dtype=np.uint8)
    split = split_apart(SplitChoice(regions="pieces", guard=0), 16, label, label != 255, np.random.default_rng(1))
    for i in range(5):
        assert len(np.unique(split.parts[10:50, 10 + 40 * i : 40 + 40 * i])) == 1
    assert set(np.unique(split.parts)) == {0, 1, 2, 3}


def test_a_site_too_small_is_refused_with_the_remedy() -> None:
    label, valid = ground((64, 64), 1)
    with pytest.raises(SplitError, match=r'too small.*kind = "paper"'):
        split_apart(SplitChoice(region=64), 64, label, valid, np.random.default_rng(0))


def test_the_papers_split_trains_on_three_windows_in_ten_and_is_leaky() -> None:
    windows = list(lattice((200, 200), 64, 32))
    split, train = split_paper(windows, (200, 200), np.random.default_rng(0))
    assert (len(train), split.leaky) == (round(0.3 * len(windows)), True)
    assert not (split.parts == TEST).any()
    for window in train:
        assert (split.parts[window.slices] == TRAIN).all()


def test_keep_apart_takes_ground_from_training_not_from_the_test() -> None:
    parts = np.array([[TEST] * 5 + [TRAIN] * 10], np.uint8)
    kept = keep_apart(parts, 4)
    # centres 4 apart are far enough: columns 5 to 7 are nearer than that to column 4
    assert kept.tolist() == [[TEST] * 5 + [0] * 3 + [TRAIN] * 7]


def test_regions_are_pieces_a_guard_apart() -> None:
    part = np.zeros((40, 60), bool)
    part[5:10, 5:10] = part[10:15, 10:15] = True  # touch at a corner
    part[5:10, 30:35] = part[30, 50] = True  # 16 columns from the first two, 24 rows and more from them all
    assert np.array_equal(independent_regions(part, 0) > 0, part)
    assert [len(np.unique(independent_regions(part, guard))) - 1 for guard in (0, 8, 14, 20, 60)] == [3, 3, 3, 2, 1]
    found = independent_regions(part, 0)
    assert found[5, 5] == found[14, 14] != found[5, 30] != found[30, 50]
    assert not independent_regions(np.zeros((4, 4), bool), 8).any()


def test_a_window_beyond_the_edge_belongs_to_no_part() -> None:
    split, _ = split_paper([Window(0, 0, 8, 8), Window(8, 8, 8, 8)], (16, 16), np.random.default_rng(0))
    split.parts[:] = TRAIN
    assert split.inside([Window(12, 12, 8, 8)], TRAIN) == []


def test_a_piece_too_small_to_be_seen_on_the_coarse_grid_trains() -> None:
    label = np.full((60, 230), 255, np.uint8)
    for i in range(5):
        label[10:50, 10 + 40 * i : 40 + 40 * i] = np.eye(40, 30, dtype=np.uint8)
    label[58, 225] = 0  # one pixel, numbered last; cells of the coarse grid are 8 pixels wide
    split = split_apart(SplitChoice(regions="pieces", guard=0), 64, label, label != 255, np.random.default_rng(1))
    assert split.parts[58, 225] == TRAIN
