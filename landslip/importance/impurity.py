"""What tells landslides from other ground pixel by pixel: Gini importance and information gain ratio, and correlation.

Both look at how pure the classes or leaves are that a factor makes. They describe the site and not a run, so they stand
on all valid pixels of known label: the training windows of a run lie at landslides, and the ground around landslides is
not the ground that a factor must tell them from. Intervals come from spatial blocks drawn anew with replacement.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from landslip.dataset.channels import StackInfo
from landslip.dataset.label import LANDSLIDE
from landslip.errors import LabelError
from landslip.geo.grid import Grid
from landslip.importance.frequency_ratio import Counts
from landslip.importance.ranking import DRAWS, Float, Score, bootstrap_weights, derangement, percentiles
from landslip.importance.sampling import Sample, block_of, positions_of
from landslip.runtime.progress import track

CUTS = 200  # times that a factor's link to the landslides is cut
TREES = 100
LEAF = 5  # pixels of a leaf at least: a fully grown tree spends its last splits on noise
CORRELATED = 0.7  # |Spearman| above which two factors can stand in for each other

# ---- information gain ratio ----


def gain_ratio(table: NDArray[Any]) -> tuple[Float, Float]:
    """Information gain in bits and gain ratio of (..., K, 2) counts of K classes and two outcomes (Quinlan 1993).

    The gain is the entropy of the outcome less that within classes; the ratio is it over the entropy of the classes.
    NaN where one class holds all, or nothing was counted.
    """
    table = np.asarray(table, np.float64)
    total = table.sum((-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        size = table.sum(-1)
        within = (size / total[..., None] * entropy(table)).sum(-1)
        gain = entropy(table.sum(-2)) - within
        split = entropy(size)
        return gain, np.where(split > 0, gain / split, np.nan)


def entropy(counts: Float) -> Float:
    """Entropy in bits along the last axis of (..., K) counts; 0 where nothing was counted."""
    total = counts.sum(-1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    return np.asarray(-(share * np.log2(share, out=np.zeros_like(share), where=share > 0)).sum(-1))


def gain_ratios(counted: Sequence[Counts], drawn: Sample, grid: Grid, block: int, seed: int) -> list[Score]:
    """The gain ratio of every factor over all its pixels, with intervals from its tables of blocks.

    Whether it has an effect is told on a sample: by its gain ratio there, against those with its values carried from
    other blocks.
    """
    rng = np.random.default_rng(seed)
    chosen = bootstrap_weights(rng, len(counted[0].table), DRAWS)
    blocks, offset = _places(drawn, grid, block)
    carried = [_donors(blocks, offset, derangement(rng, int(blocks.max()) + 1)) for _ in range(CUTS)]
    landslide = (drawn.label == LANDSLIDE).astype(np.intp)
    scores = []
    for counts in counted:
        name, table = counts.classes.factor, counts.table.astype(np.float64)
        _, estimate = gain_ratio(table.sum(0))
        if np.isnan(estimate):
            why = "no pixel is defined" if not table.any() else "one class holds all pixels, so it says nothing"
            scores.append(Score("gain_ratio", name, "factor", math.nan, math.nan, math.nan, note=why))
            continue
        _, spread = gain_ratio(np.tensordot(chosen, table, 1))
        codes = counts.classes.codes(drawn.values[:, counts.classes.positions].T)
        classes = table.shape[1]
        _, own = gain_ratio(_cross(codes, landslide, classes))
        _, null = gain_ratio(np.stack([_cross(codes[donor], landslide, classes) for donor in carried]))
        effect = bool(own > np.percentile(np.nan_to_num(null), 95))
        scores.append(Score("gain_ratio", name, "factor", float(estimate), *percentiles(spread), effect=effect))
    return scores


def _cross(codes: NDArray[np.intp], outcome: NDArray[np.intp], classes: int) -> NDArray[np.int64]:
    """(classes, 2) counts of (N,) codes, -1 undefined, and outcomes, 0 or 1."""
    defined = codes >= 0
    return np.bincount(codes[defined] * 2 + outcome[defined], minlength=2 * classes).reshape(classes, 2)


# ---- random forest ----


def forest_importance(
    stack: StackInfo,
    drawn: Sample,
    factors: Sequence[str],
    together: Sequence[tuple[str, ...]],
    repeats: int,
    block: int,
    seed: int,
) -> tuple[list[Score], float, int]:
    """Gini importance of the factors, the forests' mean AUC on the blocks that each did not see, and repeats skipped.

    Every repeat draws spatial blocks with replacement and fits two forests: one gives the importances; the other sees
    every factor twice, as it is and carried from another block, and tells whether it beats itself. A draw of one class
    alone is skipped; LabelError where all are.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    own = {name: positions_of(stack, name) for name in factors}
    positions = [i for name in factors for i in own[name]]
    columns = {name: [positions.index(i) for i in own[name]] for name in factors}
    x, y = drawn.values[:, positions], drawn.label == LANDSLIDE
    blocks, offset = _places(drawn, stack.grid, block)
    every = int(blocks.max()) + 1
    found, beats, aucs = [], [], []
    for _ in track(range(repeats), repeats, "forests", "repeat"):
        weight = bootstrap_weights(rng, every, 1)[0][blocks]
        inside = weight > 0
        if len(np.unique(y[inside])) < 2:
            continue
        number = int(rng.integers(2**31))
        moved = x[_donors(blocks, offset, derangement(rng, every))]
        forests = []
        for values in (x, np.concatenate([x, moved], 1)):
            # impurities are summed tree by tree in order, whatever the number of threads
            forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, n_jobs=-1, random_state=number)
            forests.append(forest.fit(values[inside], y[inside], sample_weight=weight[inside]))
        if len(np.unique(y[~inside])) == 2:
            aucs.append(roc_auc_score(y[~inside], forests[0].predict_proba(x[~inside])[:, 1]))
        gini = forests[0].feature_importances_
        found.append([gini[columns[name]].sum() for name in factors])
        real, cutoff = np.split(forests[1].feature_importances_, 2)
        beats.append([real[columns[name]].sum() - cutoff[columns[name]].sum() for name in factors])
    if not found:
        raise LabelError(
            f"{stack.path.with_name('label.tif')}: none of {repeats} draws of {every} spatial blocks of {block} pixels "
            "holds both landslides and other ground, so that no forest could be fitted. Give a smaller --block or more "
            "--repeats, or map more ground."
        )
    shares, gains = np.array(found), np.array(beats)  # (repeats fitted, factors)
    scores = []
    for i, name in enumerate(factors):
        note = ""
        if not shares[:, i].any():
            note = "no tree splits on it: it is constant, or says nothing"
        effect = bool(np.percentile(gains[:, i], 5) > 0)
        scores.append(
            Score(
                "gini", name, "factor", float(shares[:, i].mean()), *percentiles(shares[:, i]), effect=effect, note=note
            )
        )
    for group in together:
        joint = shares[:, [list(factors).index(name) for name in group]].sum(1)
        scores.append(Score("gini", " + ".join(group), "together", float(joint.mean()), *percentiles(joint)))
    return scores, float(np.mean(aucs)) if aucs else math.nan, repeats - len(found)


def _places(drawn: Sample, grid: Grid, block: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """(N,) number of the spatial block of each pixel, those without a pixel left out, and (N, 2) its place in it."""
    _, blocks = np.unique(block_of(drawn, grid, block), return_inverse=True)
    return blocks, np.stack([drawn.row % block, drawn.column % block], 1)


def _donors(blocks: NDArray[np.intp], offset: NDArray[np.int64], donor: NDArray[np.intp]) -> NDArray[np.intp]:
    """(N,) for each pixel the one of its block's donor that lies nearest to its place in the block."""
    order = np.argsort(blocks, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(blocks))[:-1])
    out = np.empty(len(blocks), np.intp)
    for number, pixels in enumerate(members):
        others = members[donor[number]]
        out[pixels] = others[cKDTree(offset[others]).query(offset[pixels])[1]]
    return out


# ---- correlated factors ----


def correlation(stack: StackInfo, drawn: Sample) -> dict[str, dict[str, float]]:
    """Spearman's rho of every pair of factors and bands, the largest in size over their channels.

    NaN for what is constant, or undefined all over the sample.
    """
    undefined = np.isnan(drawn.values)
    defined = ~undefined[:, ~undefined.all(axis=0)].any(axis=1)
    values = drawn.values[defined]
    varying = np.array([len(np.unique(column)) > 1 for column in values.T])
    rho = np.full((len(varying), len(varying)), np.nan)
    if len(values) > 2 and varying.sum() > 1:
        part = np.atleast_2d(spearmanr(values[:, varying]).statistic)
        part = part if part.shape[0] == varying.sum() else np.array([[1, part[0, 0]], [part[0, 0], 1]])
        rho[np.ix_(varying, varying)] = part
    names = list(dict.fromkeys(channel.factor for channel in stack.channels))
    own = {name: list(positions_of(stack, name)) for name in names}

    def largest(a: str, b: str) -> float:
        pairs = rho[np.ix_(own[a], own[b])]
        return math.nan if np.isnan(pairs).all() else float(pairs.flat[np.nanargmax(np.abs(pairs))])

    return {a: {b: largest(a, b) for b in names if b != a} for a in names}


def correlated_groups(rho: Mapping[str, Mapping[str, float]], factors: Sequence[str]) -> list[tuple[str, ...]]:
    """Factors linked by |rho| above CORRELATED, directly or over others; those linked to none are left out."""
    pairs = [(i, j) for i, a in enumerate(factors) for j, b in enumerate(factors) if abs(rho[a].get(b, 0)) > CORRELATED]
    if not pairs:
        return []
    row, column = zip(*pairs, strict=True)
    links = coo_array((np.ones(len(row)), (row, column)), shape=(len(factors), len(factors)))
    _, group = connected_components(links, directed=False)
    groups = [tuple(name for name, own in zip(factors, group, strict=True) if own == g) for g in np.unique(group)]
    return [names for names in groups if len(names) > 1]
