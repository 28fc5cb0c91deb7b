import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from landslip.config.run import SplitChoice
from landslip.dataset import spatial_split as module
from landslip.dataset.spatial_split import _squares, independent_regions, keep_apart, split_apart, within
from landslip.dataset.split import PARTS, TEST, TRAIN, VALIDATION, split_paper
from landslip.errors import SplitError
from landslip.geo.grid import Window, lattice


def ground(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = (rng.random((shape[0] // 8, shape[1] // 8)) < 0.3).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    valid = rng.random(shape) < 0.97
    return label, valid


def nearest(a: np.ndarray, b: np.ndarray) -> float:
    return float(cKDTree(np.argwhere(a)).query(np.argwhere(b))[0].min())


@settings(max_examples=15)
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


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    reach=st.floats(0.5, 60) | st.integers(1, 60).map(float),
)
def test_within_is_scipys_distance_transform(seed: int, shape: tuple[int, int], reach: float) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.02
    mask.flat[seed % mask.size] = True
    assert np.array_equal(within(mask, reach), ndimage.distance_transform_edt(~mask) < reach)
    assert not within(np.zeros(shape, bool), reach).any()
    corner = np.zeros((5, 6), bool)
    corner[0, 0] = True
    assert not within(corner, 5)[3, 4] and within(corner, 5.001)[3, 4]  # 3, 4, 5


@pytest.mark.parametrize("guard", [0, 1, 3, 9])
def test_parts_kept_apart_window_by_window_are_those_of_the_whole(guard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(guard)
    parts = rng.integers(0, 4, (8, 10)).astype(np.uint8).repeat(12, 0).repeat(12, 1)
    at_once = parts.copy()
    for keeper in (TEST, VALIDATION):
        near = ndimage.distance_transform_edt(at_once != keeper) < guard
        at_once[near & (at_once != keeper) & (at_once != TEST)] = 0
    monkeypatch.setattr(module, "APART_WINDOW", 16)
    assert np.array_equal(keep_apart(parts.copy(), guard), at_once)


def test_large_sites_are_arranged_fewer_times() -> None:
    assert [module._tries(cells) for cells in (1, 2**20, 2**22, 2**30)] == [1000, 1000, 250, 50]


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


def folds_of(choice: SplitChoice, label: np.ndarray, valid: np.ndarray, seed: int) -> list[np.ndarray]:
    """The parts of every fold, each drawn anew from the seed as separate trainings draw them."""
    every = [SplitChoice(**{**choice.model_dump(), "fold": i}) for i in range(choice.folds)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRIES", 100)
        return [split_apart(one, 16, label, valid, np.random.default_rng(seed)).parts for one in every]


@settings(max_examples=8)
@given(
    seed=st.integers(0, 1000),
    guard=st.sampled_from([0, 4, 12]),
    side=st.sampled_from([20, 32]),
    folds=st.integers(2, 5),
)
def test_every_region_is_tested_once_over_all_folds(seed: int, guard: int, side: int, folds: int) -> None:
    label, valid = ground((120, 160), seed)
    choice = SplitChoice(region=side, guard=guard, folds=folds)
    found = folds_of(choice, label, valid, seed)
    tested = sum((parts == TEST).astype(int) for parts in found)
    assert (tested == 1).all()  # squares fill the raster
    squares = _squares(label.shape, side).at(slice(None), slice(None))
    for parts in found:
        assert all(len(np.unique(parts[squares == n] == TEST)) == 1 for n in np.unique(squares))
        for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
            assert nearest(parts == PARTS[a], parts == PARTS[b]) >= max(guard, 1)


def test_folds_are_even_in_landslide_and_ground() -> None:
    label, valid = ground((240, 320), 5)
    label[:, 160:] &= ground((240, 320), 6)[0][:, 160:]  # three times as many in the west
    found = folds_of(SplitChoice(region=32, guard=4, folds=4), label, valid, 0)
    for parts in found:
        slides = (label == 1) & valid
        assert abs((slides & (parts == TEST)).sum() / slides.sum() - 1 / 4) < 0.05
        assert abs((valid & (parts == TEST)).sum() / valid.sum() - 1 / 4) < 0.08
        rest = slides & (parts != TEST) & (parts != 0)
        assert abs((slides & (parts == VALIDATION)).sum() / rest.sum() - 0.2) < 0.08  # 0.15 of 0.75


def test_pieces_in_folds_are_whole_and_specks_are_tested_too() -> None:
    label = np.full((60, 270), 255, np.uint8)
    for i in range(6):
        label[10:50, 10 + 40 * i : 40 + 40 * i] = np.eye(40, 30, dtype=np.uint8)
    label[20:40, 18:32] = 255
    label[28:32, 22:28] = 1  # an island about the centre of the piece around it
    label[58, 265] = 0  # a pixel that the coarse grid of windows of 16 pixels misses
    found = folds_of(SplitChoice(regions="pieces", guard=0, folds=3), label, label != 255, 1)
    assert (sum((parts == TEST).astype(int) for parts in found) == (label != 255)).all()
    for parts in found:
        for i in range(1, 6):
            piece = parts[10:50, 10 + 40 * i : 40 + 40 * i]
            assert len(np.unique(piece)) == 1


def test_folds_that_cannot_be_are_refused_with_both_numbers() -> None:
    label = np.zeros((120, 120), np.uint8)
    for i in range(3):
        label[40 * i + 10 : 40 * i + 20, 50:60] = 1
    valid = np.ones_like(label, bool)
    with pytest.raises(SplitError, match=r"landslides lie in 3 regions and \[split\] folds = 4 need one each.*fewer"):
        split_apart(SplitChoice(region=40, guard=0, folds=4), 16, label, valid, np.random.default_rng(0))
    with pytest.raises(SplitError, match=r"in fold 2 of 3 \(.* pixels of it are left beside a guard of 90\).*guard"):
        split_apart(SplitChoice(region=40, guard=90, folds=3, fold=1), 16, label, valid, np.random.default_rng(0))


def test_a_fold_beyond_the_last_and_folds_of_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="fold 3 is none of 3 folds"):
        SplitChoice(folds=3, fold=3)
    with pytest.raises(ValueError, match='folds need kind "apart"'):
        SplitChoice(kind="paper", folds=3)


def test_a_split_without_folds_is_the_one_it_was() -> None:
    # SHA-256 of the parts as drawn before there were folds (commit 45086e6)
    label, valid = ground((160, 200), 3)
    split = split_apart(SplitChoice(region=40, guard=8), 16, label, valid, np.random.default_rng(0))
    assert hashlib.sha256(split.parts.tobytes()).hexdigest()[:16] == "774516818c39282a"
