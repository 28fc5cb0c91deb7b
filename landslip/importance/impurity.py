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
from scipy.stats import rankdata

from landslip.dataset.channels import StackInfo
from landslip.dataset.label import LANDSLIDE
from landslip.errors import LabelError
from landslip.geo.grid import Grid
from landslip.importance.frequency_ratio import Counts
from landslip.importance.ranking import RANKING_DRAWS, Float, Score, bootstrap_weights, bootstrapped, derangement
from landslip.importance.sampling import Sample, block_of, positions_of
from landslip.runtime.progress import track

CUTS = 200  # times that a factor's link to the landslides is cut
TREES = 100  # of a forest
LEAF = 5  # pixels of a leaf at least, since a fully grown tree spends its last splits on noise
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

    Whether it has an effect is told on the sample `drawn`: its gain ratio there against those with its values carried
    from other spatial blocks, of `block` pixels a side.
    """
    rng = np.random.default_rng(seed)
    weights = bootstrap_weights(rng, len(counted[0].table), RANKING_DRAWS)
    blocks, offset = _places(drawn, grid, block)
    carried = [_donors(blocks, offset, derangement(rng, int(blocks.max()) + 1)) for _ in range(CUTS)]
    landslide = (drawn.label == LANDSLIDE).astype(np.intp)
    scores = []
    for counts in counted:
        name, table = counts.classes.factor, counts.table.astype(np.float64)
        _, estimate = gain_ratio(table.sum(0))
        if np.isnan(estimate):
            why = "no pixel is defined" if not table.any() else "one class holds all pixels, so it says nothing"
            undefined = np.array([math.nan])
            scores.append(bootstrapped("gain_ratio", name, "factor", estimate=math.nan, draws=undefined, note=why))
            continue
        _, draws = gain_ratio(np.tensordot(weights, table, 1))
        codes = counts.classes.codes(drawn.values[:, counts.classes.positions].T)
        classes = table.shape[1]
        _, real = gain_ratio(_cross(codes, landslide, classes))
        _, cut = gain_ratio(np.stack([_cross(codes[donor], landslide, classes) for donor in carried]))
        effect = bool(real > np.percentile(np.nan_to_num(cut), 95))
        scores.append(bootstrapped("gain_ratio", name, "factor", estimate=float(estimate), draws=draws, effect=effect))
    return scores


def _cross(codes: NDArray[np.intp], outcome: NDArray[np.intp], classes: int) -> NDArray[np.int64]:
    """(classes, 2) counts of pixels by (N,) code, -1 where undefined, and by outcome, 0 or 1."""
    defined = codes >= 0
    return np.bincount(codes[defined] * 2 + outcome[defined], minlength=2 * classes).reshape(classes, 2)


# ---- random forest ----


def forest_importance(
    stack: StackInfo,
    drawn: Sample,
    factors: Sequence[str],
    *,
    together: Sequence[tuple[str, ...]],
    repeats: int,
    block: int,
    seed: int,
) -> tuple[list[Score], float, int]:
    """Gini importance of the factors, by random forests on the sample `drawn`.

    Returns the scores, the forests' mean area under the ROC curve on the blocks that each did not see (NaN where none
    had such blocks), and how many repeats were skipped. Every repeat draws spatial blocks with replacement and fits two
    forests: one gives the importances; the other sees every factor twice, as it is and carried from another block, and
    tells whether it beats itself. A draw of one class alone is skipped; LabelError where all are.
    """
    rng = np.random.default_rng(seed)
    positions = {name: positions_of(stack, name) for name in factors}
    channels = [i for name in factors for i in positions[name]]
    columns = [[channels.index(i) for i in positions[name]] for name in factors]
    x, y = drawn.values[:, channels], drawn.label == LANDSLIDE
    blocks, offset = _places(drawn, stack.grid, block)
    count = int(blocks.max()) + 1
    shares, gains, aucs = list[list[float]](), list[list[float]](), list[float]()
    for _ in track(range(repeats), repeats, "forests", "repeat"):
        weight = bootstrap_weights(rng, count, 1)[0][blocks]
        if len(np.unique(y[weight > 0])) < 2:
            continue
        number = int(rng.integers(2**31))
        carried = x[_donors(blocks, offset, derangement(rng, count))]
        forest = _fit_forest(x, y, weight, number)
        if len(np.unique(y[weight == 0])) == 2:
            aucs.append(_area_under_curve(forest, x[weight == 0], y[weight == 0]))
        shares.append(_by_factor(forest.feature_importances_, columns))
        both = _fit_forest(np.concatenate([x, carried], 1), y, weight, number)
        real, cut = np.split(both.feature_importances_, 2)
        pairs = zip(_by_factor(real, columns), _by_factor(cut, columns), strict=True)
        gains.append([of_real - of_cut for of_real, of_cut in pairs])
    if not shares:
        raise LabelError(
            f"{stack.path.with_name('label.tif')}: none of {repeats} draws of {count} spatial blocks of {block} pixels "
            "holds both landslides and other ground, so that no forest could be fitted. Give a smaller --block or more "
            "--repeats, or map more ground."
        )
    scores = _gini_scores(np.array(shares), np.array(gains), factors, together)
    return scores, float(np.mean(aucs)) if aucs else math.nan, repeats - len(shares)


def _fit_forest(x: NDArray[np.float32], y: NDArray[np.bool_], weight: Float, seed: int) -> Any:
    """A random forest fitted on those of (N, C) pixels whose (N,) weight is above 0."""
    from sklearn.ensemble import RandomForestClassifier  # Importing it takes a second.

    inside = weight > 0
    # Impurities are summed tree by tree in order, so that the number of threads changes no digit.
    forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, n_jobs=-1, random_state=seed)
    return forest.fit(x[inside], y[inside], sample_weight=weight[inside])


def _area_under_curve(forest: Any, x: NDArray[np.float32], y: NDArray[np.bool_]) -> float:
    """How well a forest puts (N, C) pixels of landslide above the others: the area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(y, forest.predict_proba(x)[:, 1]))


def _by_factor(importances: Float, columns: Sequence[Sequence[int]]) -> list[float]:
    """The importance of each factor: the sum over its columns of (C,) importances."""
    return [float(importances[of_factor].sum()) for of_factor in columns]


def _gini_scores(
    shares: Float, gains: Float, factors: Sequence[str], together: Sequence[tuple[str, ...]]
) -> list[Score]:
    """Scores of (repeats, factors) importances, of single factors and of those taken together.

    `gains` (repeats, factors) is what each factor had over itself with its values carried from another block.
    """
    scores = []
    for i, name in enumerate(factors):
        scores.append(
            bootstrapped(
                "gini",
                name,
                "factor",
                estimate=float(shares[:, i].mean()),
                draws=shares[:, i],
                effect=bool(np.percentile(gains[:, i], 5) > 0),
                note="" if shares[:, i].any() else "no tree splits on it: it is constant, or says nothing",
            )
        )
    for group in together:
        joint = shares[:, [list(factors).index(name) for name in group]].sum(1)
        scores.append(bootstrapped("gini", " + ".join(group), "together", estimate=float(joint.mean()), draws=joint))
    return scores


def _places(sample: Sample, grid: Grid, block: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """(N,) numbers of the spatial blocks that pixels lie in, counting those with a pixel, and (N, 2) places there."""
    _, blocks = np.unique(block_of(sample, grid, block), return_inverse=True)
    return blocks, np.stack([sample.row % block, sample.column % block], 1)


def _donors(blocks: NDArray[np.intp], offset: NDArray[np.int64], donor: NDArray[np.intp]) -> NDArray[np.intp]:
    """(N,) for each pixel the one that lies nearest to its place in the block that is its own block's donor."""
    order = np.argsort(blocks, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(blocks))[:-1])
    nearest = np.empty(len(blocks), np.intp)
    for number, pixels in enumerate(members):
        others = members[donor[number]]
        nearest[pixels] = others[cKDTree(offset[others]).query(offset[pixels])[1]]
    return nearest


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
        # Ranks first: spearmanr gives one number, and no matrix, for two columns.
        rho[np.ix_(varying, varying)] = np.corrcoef(rankdata(values[:, varying], axis=0), rowvar=False)
    names = list(dict.fromkeys(channel.factor for channel in stack.channels))
    positions = {name: list(positions_of(stack, name)) for name in names}

    def largest(a: str, b: str) -> float:
        pairs = rho[np.ix_(positions[a], positions[b])]
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
    groups = [tuple(name for name, number in zip(factors, group, strict=True) if number == g) for g in np.unique(group)]
    return [names for names in groups if len(names) > 1]
