"""Which blocks of a new site to label and to fine-tune on: the most uncertain ones, and those least like each other.

No label is looked at, as on a site that is still to be labelled. All blocks lie in one half of the site, so that the
other half stays unseen. Half of them are the windows in which the model is most uncertain, half those whose channels
are least like the ones chosen already (k-centre: Gonzalez 1985, Theoretical Computer Science 38, 293-306; to choose
what to label: Sener & Savarese 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import StackInfo
from landslip.errors import SplitError
from landslip.geo.grid import Window
from landslip.geo.raster import open_raster, read_window
from landslip.training.checkpoint import Model, match_channels


def choose_blocks(
    model: Model,
    stack: StackInfo,
    valid: NDArray[np.bool_],
    *,
    probability: NDArray[np.float32],
    count: int,
    window: int,
) -> list[Window]:
    """`count` windows to fine-tune on, in the order chosen, from (H, W) valid and probability.

    Candidates are windows of `window` pixels a side, side by side in the more uncertain half of the site, at least half
    of each valid. The first half of the blocks are the most uncertain ones, by the mean of 4 p (1 - p) over valid
    pixels; each further one is the candidate farthest from all chosen before it, by the means of its standardised
    channels and its probability. Raises SplitError where there are fewer candidates.
    """
    uncertainty = np.where(valid, 4 * probability * (1 - probability), 0)
    candidates = _candidates(more_uncertain_half(valid, uncertainty), valid, window)
    _require_enough(candidates, count, window, stack)
    features = _features(model, stack, valid, probability, candidates)
    spread = features.std(0)
    features = features / np.where(spread > 0, spread, 1)
    doubt = np.array([uncertainty[w.slices].sum() / valid[w.slices].sum() for w in candidates])
    chosen = [int(i) for i in np.argsort(-doubt, kind="stable")[: (count + 1) // 2]]
    nearest = np.min([((features - features[i]) ** 2).sum(1) for i in chosen], axis=0)
    while len(chosen) < count:
        nearest[chosen] = -1  # Where candidates are alike, one could be chosen twice.
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, ((features - features[chosen[-1]]) ** 2).sum(1))
    return [candidates[i] for i in chosen]


def require_candidates(stack: StackInfo, valid: NDArray[np.bool_], count: int, window: int) -> None:
    """Raise SplitError where neither half of a site has `count` candidates, before anything is mapped."""
    both = [_candidates(half, valid, window) for half in _halves(valid)]
    _require_enough(max(both, key=len), count, window, stack)


def more_uncertain_half(valid: NDArray[np.bool_], uncertainty: NDArray[np.floating[Any]]) -> Window:
    """The half of a site, cut across its longer side so that each holds half of the valid pixels, with more doubt."""
    halves = _halves(valid)
    doubt = [uncertainty[w.slices].sum() / max(int(valid[w.slices].sum()), 1) for w in halves]
    return halves[int(doubt[1] > doubt[0])]


def _halves(valid: NDArray[np.bool_]) -> tuple[Window, Window]:
    """The two halves of a site, cut across its longer side, each with half of the (H, W) valid pixels."""
    height, width = valid.shape
    along = valid.sum(0 if width >= height else 1, dtype=np.int64)
    at = int(np.searchsorted(np.cumsum(along), along.sum() / 2)) + 1
    if width >= height:
        return Window(0, 0, height, at), Window(0, at, height, width - at)
    return Window(0, 0, at, width), Window(at, 0, height - at, width)


def _candidates(half: Window, valid: NDArray[np.bool_], window: int) -> list[Window]:
    """The windows side by side in half of a site, at least half of each valid."""
    rows = range(half.row, half.row + half.height - window + 1, window)
    columns = range(half.column, half.column + half.width - window + 1, window)
    inside = [Window(row, column, window, window) for row in rows for column in columns]
    return [w for w in inside if 2 * valid[w.slices].sum() >= window**2]


def _require_enough(candidates: Sequence[Window], count: int, window: int, stack: StackInfo) -> None:
    """Raise SplitError where there are fewer candidates than blocks to choose."""
    if len(candidates) < count:
        raise SplitError(
            f"{stack.path.parent}: {count} blocks are to be chosen and {len(candidates)} windows of {window} px lie "
            "side by side in half of the site, so that the rest can be scored. Use fewer --blocks."
        )


def _features(
    model: Model,
    stack: StackInfo,
    valid: NDArray[np.bool_],
    probability: NDArray[np.float32],
    windows: Sequence[Window],
) -> NDArray[np.float64]:
    """(N, C + 1) means over the valid pixels of each window: of its standardised channels and of its probability."""
    bands = [position + 1 for position in match_channels(model, stack)]
    means = []
    with open_raster(stack.path) as dataset:
        for window in windows:
            values = model.zscore.apply(read_window(dataset, window, bands))
            both = np.concatenate([values, probability[window.slices][None]])
            means.append(both[:, valid[window.slices]].mean(1, dtype=np.float64))
    return np.array(means)
