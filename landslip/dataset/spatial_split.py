"""The split `apart`: parts are unions of whole regions and lie at least `guard` pixels apart.

In folds, the regions make groups, each the test part of one fold, so that over all folds every region is tested once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from landslip.config.run import SplitChoice
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.dataset.split import NONE, PARTS, TEST, TRAIN, VALIDATION, Split
from landslip.errors import SplitError
from landslip.geo.grid import Window, tiles
from landslip.geo.mapped_array import bounding_window, from_windows, mapped_zeros, strips
from landslip.metrics.bootstrap import add_block_sums, block_shape
from landslip.runtime.progress import plural

TRIES = 1000  # arrangements of regions that are looked at, where each has at most MOST_CELLS cells
MOST_CELLS = 2**20  # of more cells fewer arrangements are looked at, since any two of them are much alike
FEWEST_TRIES = 50  # arrangements that are looked at in any case
APART_WINDOW = 2048  # pixels a side of the windows that parts are kept apart in


def split_apart(
    choice: SplitChoice, window: int, label: NDArray[np.uint8], valid: NDArray[np.bool_], rng: np.random.Generator
) -> Split:
    """Parts that are unions of regions, `guard` pixels apart (default: the window).

    Of many arrangements drawn from the seed, the one is chosen whose parts hold shares of the landslide area and of
    the ground nearest to those of `choice`, after the guard is taken off. Ground within the guard of the test part is
    taken from the others, and within the guard of the validation part from training. In folds the test part is one
    group of regions, the same groups for every fold of one seed, and the validation part is drawn from the others.
    Raises SplitError where a part would hold no landslide, or there are fewer regions with landslides than folds.
    """
    guard = window if choice.guard is None else choice.guard

    def landslide_at(at: Window) -> NDArray[np.bool_]:
        return np.asarray((label[at.slices] == LANDSLIDE) & valid[at.slices])

    regions = _pieces(label, valid) if choice.regions == "pieces" else _squares(label.shape, choice.region)
    site = _coarse_site(regions, valid, landslide_at, guard, cell=max(1, window // 8))
    if len(site.numbers) < 3:
        raise SplitError(_too_small(f"it has {plural(len(site.numbers), 'region')} and three parts need three", choice))
    tested, fold = None, ""
    if choice.folds > 1:
        fold = f"{choice.fold + 1} of {choice.folds}"
        numbers = from_windows(label.shape, np.int32, lambda at: regions.at(*at.slices))
        landslides = from_windows(label.shape, bool, landslide_at)
        tested = _groups(site, numbers, landslides, choice, rng) == choice.fold
    part_of = _arrange(site, regions.last, choice, rng, tested)
    parts = keep_apart(from_windows(label.shape, np.uint8, lambda at: part_of[regions.at(*at.slices)]), guard)
    with_landslides = {part for at in strips(label.shape) for part in np.unique(parts[at.slices][landslide_at(at)])}
    for name, part in PARTS.items():
        if part not in with_landslides:
            left = f" ({int((valid & (parts == part)).sum()):,} pixels of it are left beside a guard of {guard})"
            where = f" in fold {fold}{left}" if fold else ""
            raise SplitError(_too_small(f"its {name} part holds no landslide{where}", choice))
    return Split(kind="apart", leaky=False, guard=guard, parts=parts, fold=fold)


def independent_regions(part: NDArray[np.bool_], guard: int) -> NDArray[np.int32]:
    """Region numbers from 1, (H, W): the pieces of a part that lie about `guard` pixels apart; 0 outside.

    Pieces that touch, if only at a corner, or are nearer to each other than the guard that keeps parts apart are one.
    """
    numbers = np.zeros(part.shape, np.int32)
    if part.any():
        at = bounding_window(part).slices
        mask = part[at]
        joined = mask if guard <= 1 else within(mask, guard / 2)
        numbered, _ = ndimage.label(joined, np.ones((3, 3)))
        numbers[at] = np.where(mask, numbered, 0)
    return numbers


def keep_apart(parts: NDArray[np.uint8], guard: float) -> NDArray[np.uint8]:
    """Take ground off in place so that parts of (H, W) lie at least `guard` pixels apart, centre to centre."""
    halo = math.ceil(guard)
    for keeper in (TEST, VALIDATION) if guard > 1 else ():
        for window in tiles(parts.shape, APART_WINDOW):
            top, left = max(window.row - halo, 0), max(window.column - halo, 0)
            around = parts[top : window.row + window.height + halo, left : window.column + window.width + halo]
            mask = around == keeper
            if mask.any():
                around[within(mask, guard) & ~mask & (around != TEST)] = NONE
    return parts


def within(mask: NDArray[np.bool_], reach: float) -> NDArray[np.bool_]:
    """The pixels of (H, W) less than `reach` pixels from one of the mask, centre to centre, and the mask itself."""
    height, width = mask.shape
    most = min(math.ceil(reach), max(height, width))  # stands for every gap along a row that is too wide
    column = np.arange(width, dtype=np.int32)
    before = np.maximum.accumulate(np.where(mask, column, -most), axis=1)
    after = np.minimum.accumulate(np.where(mask, column, width + most)[:, ::-1], axis=1)[:, ::-1]
    gap = np.minimum(np.minimum(column - before, after - column), most)
    gap = gap.astype(np.uint8 if most < 256 else np.uint16)
    near = np.zeros(mask.shape, bool)
    for down in range(min(most, height)):
        across = np.arange(most)
        reached = int(np.count_nonzero(across**2 + down**2 < reach**2))  # gaps from 0 on that are near enough
        if reached:
            near[down:] |= gap[: height - down] < reached
            near[: height - down] |= gap[down:] < reached
    return near | mask


@dataclass(frozen=True)
class _Regions:
    """Region numbers from 1 to `last`, (h, w) int32 at a slice of rows and one of columns; 0 is no region."""

    last: int
    at: Callable[[slice, slice], NDArray[np.int32]]


def _squares(shape: tuple[int, int], side: int) -> _Regions:
    """Squares of about `side` pixels that fill the raster."""
    rows, columns = (max(1, round(length / side)) for length in shape)
    row = (np.arange(shape[0]) * rows // shape[0]).astype(np.int32)
    column = (np.arange(shape[1]) * columns // shape[1]).astype(np.int32)
    return _Regions(rows * columns, lambda down, across: row[down][:, None] * columns + column[across] + 1)


def _pieces(label: NDArray[np.uint8], valid: NDArray[np.bool_]) -> _Regions:
    """The connected pieces of the study area."""
    study = from_windows(valid.shape, bool, lambda at: valid[at.slices] | (label[at.slices] != UNKNOWN))
    numbers = mapped_zeros(valid.shape, np.int32)
    last = int(ndimage.label(study, output=numbers))
    return _Regions(last, lambda down, across: numbers[down, across])


def _block_sums(mask_at: Callable[[Window], NDArray[np.bool_]], shape: tuple[int, int], cell: int) -> NDArray[np.int64]:
    """How many pixels of a mask lie in each cell of a coarse grid; `mask_at` gives the mask at a window."""
    total = np.zeros(block_shape(shape, cell), np.int64)
    for strip in strips(shape):
        add_block_sums(total, mask_at(strip), strip.row, 0, cell)
    return total


@dataclass(frozen=True, kw_only=True)
class _CoarseSite:
    """A site in cells, (h, w), on which many arrangements of its regions can be tried.

    `regions` has the number of each cell's region, `ground` and `landslide` its valid and its landslide pixels;
    `guard` is in cells, and `numbers` are the regions with ground.
    """

    regions: NDArray[np.int32]
    ground: NDArray[np.int64]
    landslide: NDArray[np.int64]
    guard: float

    @property
    def numbers(self) -> NDArray[np.int32]:
        numbers = np.unique(self.regions[self.ground > 0])
        return np.asarray(numbers[numbers > 0])


def _coarse_site(
    regions: _Regions,
    valid: NDArray[np.bool_],
    landslide_at: Callable[[Window], NDArray[np.bool_]],
    guard: int,
    cell: int,
) -> _CoarseSite:
    """A site in cells of `cell` pixels a side, of which each has the region of its middle."""
    middles = slice(cell // 2, None, cell)
    coarse = regions.at(middles, middles)
    whole = tuple(map(slice, coarse.shape))
    return _CoarseSite(
        regions=coarse,
        ground=_block_sums(lambda at: valid[at.slices], valid.shape, cell)[whole],
        landslide=_block_sums(landslide_at, valid.shape, cell)[whole],
        guard=guard / cell,
    )


def _groups(
    site: _CoarseSite,
    regions: NDArray[np.int32],
    landslide: NDArray[np.bool_],
    choice: SplitChoice,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """The group, 0 to folds - 1, of every region number; -1 for 0, no region. `regions` and `landslide` are (H, W).

    Of many arrangements the one is chosen whose groups hold the most even shares of landslide area and of ground and
    lose the least ground to the guard. A region too small for the coarse grid, or without ground, goes with the
    nearest of the others. Raises SplitError where there are fewer regions with landslides than folds.
    """
    last, folds, ground = int(regions.max()), choice.folds, site.ground
    slides = np.bincount(regions[landslide], minlength=last + 1)[1:].astype(float)
    grouped = np.union1d(site.numbers, np.flatnonzero(slides) + 1).astype(np.int64) - 1
    with_landslides = int(np.count_nonzero(slides))
    if with_landslides < folds:
        raise SplitError(
            f"landslides lie in {plural(with_landslides, 'region')} and [split] folds = {folds} need one each. Use "
            f"fewer folds, or a smaller [split] region (now {choice.region})."
        )
    boxes = ndimage.find_objects(regions)
    centres = np.array([[(s.start + s.stop) / 2 for s in box] for box in boxes])
    area = np.asarray(ndimage.sum(ground, site.regions, np.arange(1, last + 1)))
    near = grouped[cKDTree(centres[grouped]).query(centres)[1]]
    near[grouped] = grouped  # Each goes with itself, even where another lies about the same centre.
    best_cost, best = np.inf, np.zeros(last, np.int64)
    # Divided by the folds, since each arrangement is looked at once for every fold.
    for attempt in range(max(_tries(site.regions.size) // folds, 1)):
        order = ("scattered", "nearest", "strips")[attempt % 3]
        groups = _fill(grouped, centres, slides, folds, order=order, rng=rng)[near]
        everywhere = np.concatenate([[-1], groups])[site.regions]
        cost = 0.0
        for group in range(folds):
            cost += abs(slides[groups == group].sum() / slides.sum() - 1 / folds)
            cost += abs(area[groups == group].sum() / area.sum() - 1 / folds)
            if site.guard > 1:
                to_guard = (everywhere != group) & within(everywhere == group, site.guard)
                cost += ground[to_guard].sum() / ground.sum() / 2
        if cost < best_cost:
            best_cost, best = cost, groups
    return np.concatenate([[-1], best])


def _fill(
    regions: NDArray[np.int64],
    centres: NDArray[np.float64],
    slides: NDArray[np.float64],
    folds: int,
    *,
    order: str,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """One arrangement, the (R,) groups: each group in turn takes an even share of the landslide area that is left.

    It leaves at least one region with landslides to each group that follows. The (N,) indices of `regions` are taken at
    random ("scattered"), from one on ("nearest") or along one direction ("strips"); `centres` (R, 2) and `slides` (R,),
    the landslide pixels, are those of every region. Regions that are not listed are in the last group.
    """
    groups = np.full(len(slides), folds - 1)
    angle = rng.random() * 2 * np.pi
    free = rng.permutation(regions)
    if order == "strips":
        free = free[np.argsort(centres[free] @ [np.cos(angle), np.sin(angle)], kind="stable")]
    for group in range(folds - 1):
        if order == "nearest":
            free = _nearest_first(free, centres, rng)
        share = slides[free].sum() / (folds - group)
        fair = int(np.argmax(np.cumsum(slides[free]) >= share * (1 - 1e-9))) + 1  # regions that make an even share
        with_landslides_left = np.count_nonzero(slides[free]) - np.cumsum(slides[free] > 0)
        most = int(np.flatnonzero(with_landslides_left >= folds - group - 1)[-1]) + 1
        groups[free[: min(fair, most)]] = group
        free = free[min(fair, most) :]
    return groups


def _nearest_first(
    free: NDArray[np.int64], centres: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Regions by their distance from one of them, drawn at random."""
    start = centres[rng.choice(free)]
    return np.asarray(free[np.argsort(((centres[free] - start) ** 2).sum(1), kind="stable")])


def _arrange(
    site: _CoarseSite,
    last: int,
    choice: SplitChoice,
    rng: np.random.Generator,
    tested: NDArray[np.bool_] | None,
) -> NDArray[np.uint8]:
    """The part of every region number up to `last`, from the best of many arrangements on the coarse grid.

    Regions too small for that grid train. `tested` says of every region number whether it is in the test part; where it
    is None, that part is drawn too.
    """
    ground, landslide, index = site.ground, site.landslide, site.numbers
    centres = np.array(ndimage.center_of_mass(ground, site.regions, index))
    slides = np.asarray(ndimage.sum(landslide, site.regions, index))
    shares = {TRAIN: choice.train, VALIDATION: choice.validation, TEST: 1 - choice.train - choice.validation}
    random_parts: tuple[int, ...] = (TEST, VALIDATION)
    if tested is not None:
        rest = float(slides[~tested[index]].sum() / max(slides.sum(), 1)) / (choice.train + choice.validation)
        shares = {TRAIN: choice.train * rest, VALIDATION: choice.validation * rest}
        random_parts = (VALIDATION,)
    best_cost, best = np.inf, np.zeros(last + 1, np.uint8)
    for attempt in range(_tries(site.regions.size)):
        part_of = np.full(last + 1, TRAIN, np.uint8)
        part_of[0] = NONE  # for ground in no region
        if tested is not None:
            part_of[tested] = TEST
        for part in random_parts:
            free = np.flatnonzero(part_of[index] == TRAIN)
            if not free.size:
                break
            # Neighbours together lose less ground to the guard; scattered regions make parts that are more alike.
            free = _nearest_first(free, centres, rng) if attempt % 2 else rng.permutation(free)
            enough = np.cumsum(slides[free]) >= shares[part] * slides.sum()
            part_of[index[free[: int(np.argmax(enough)) + 1]]] = part
        parts = keep_apart(part_of[site.regions], site.guard)
        cost = 0.0
        for part, share in shares.items():
            cost += abs(landslide[parts == part].sum() / max(landslide.sum(), 1) - share)
            cost += abs(ground[parts == part].sum() / ground.sum() - share)
        if cost < best_cost:
            best_cost, best = cost, part_of
    return best


def _tries(cells: int) -> int:
    """How many arrangements of so many cells are looked at."""
    return max(TRIES * MOST_CELLS // max(cells, MOST_CELLS), FEWEST_TRIES)


def _too_small(why: str, choice: SplitChoice) -> str:
    """The error of a site that cannot be split apart, and what to do about it."""
    return (
        f"the site is too small or too unevenly mapped to be split apart: {why}. Use a smaller [split] region "
        f'(now {choice.region}) or guard, or kind = "paper", whose scores are leaky and labelled so.'
    )
