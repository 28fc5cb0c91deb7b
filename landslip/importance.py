"""`landslip importance`: which factors tell landslides from other ground (the paper's Fig. 9), with intervals.

Three measures, each a ranking of the factors (channels of one factor together):

- Gini importance: the mean decrease of impurity in a random forest (Breiman 2001), summed over a factor's channels; all
  factors sum to 1.
- Information gain ratio (Quinlan 1993) of the classes that `landslip intervals` makes, over every pixel.
- Permutation importance of a trained network on ground held out from its training: the drop of kappa and F1 where a
  factor's channels are those of another window (Breiman 2001, Fisher et al. 2019). Whole windows are swapped, so that
  what a factor looks like stays and only its place is lost.

The first two describe the site and not a run, so they stand on all valid pixels of known label: the training windows
of a run lie at landslides, and the ground around landslides is not the ground that a factor must tell them from.
Pixels beside each other say the same, so intervals come from spatial blocks drawn anew with replacement, not pixels.

A factor is said to have an effect where it beats itself with its link to the landslides cut: its blocks carried to
other blocks (after Altmann et al. 2010). That is the fair null for a smooth factor, which tells places apart by chance.
Factors that show none rank last.
Bands are left out of the first two, as in the paper; the network loses all of them at once as a yardstick, unranked.
Training anew without each factor is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from landslip.checkpoint import Model, load_model
from landslip.compute import device, keep_memory, precision, probabilities
from landslip.draw import Whisker, draw_ranking
from landslip.errors import LabelError, RunError, SplitError
from landslip.grid import Grid, Window, require_same_grid, squares, tiles
from landslip.inference import match_channels
from landslip.intervals import (
    SAMPLE,
    SIDE,
    Counts,
    Sample,
    block_of,
    channels_of,
    choose_factors,
    count,
    draw_sample,
    make_classes,
    opening_prepared,
    read_prepared,
    table_csv,
)
from landslip.label import LANDSLIDE, OTHER, UNKNOWN
from landslip.metrics import Confusion
from landslip.output import file_hash, refuse_existing, refuse_input, write_json, write_text
from landslip.progress import track
from landslip.provenance import software
from landslip.raster import cut_stored, opening, read_info, require_one_band
from landslip.split import PARTS
from landslip.stack import StackInfo

FILES = ("importance.csv", "importance.json", "importance.png")
CLASSES = 5  # natural breaks of a continuous factor
CUTS = 200  # times that a factor's link to the landslides is cut
DRAWS = 1000  # bootstrap draws of tables, which cost nothing
TREES = 100
LEAF = 5  # pixels of a leaf at least: a fully grown tree spends its last splits on noise
CORRELATED = 0.7  # |Spearman| above which two factors can stand in for each other
HELD_PIXELS = 2**21  # pixels of held-out windows that are held at once, at most
FEWEST_BLOCKS = 5  # spatial blocks that an interval stands on at least
BATCH = 16
MEASURES = {
    "gini": "Gini importance, random forest",
    "gain_ratio": "information gain ratio",
    "permutation_kappa": "permutation, network: drop of kappa",
    "permutation_f1": "permutation, network: drop of F1",
}
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """What one measure says of a factor.

    `kind`: a single factor, correlated factors taken together (names joined by " + "), or all bands. `low` and `high`
    bound 95 % of the bootstrap. `rank` counts single factors from 1; None for others and where the estimate is NaN.
    `unstable`: its interval overlaps that of the factor before or after it. `effect`: whether it beats itself with the
    link to the landslides cut (one-sided, 5 %); None where that was not tested. `note` explains NaN.
    """

    measure: str
    factor: str
    kind: Literal["factor", "together", "bands"]
    estimate: float
    low: float
    high: float
    rank: int | None = None
    unstable: bool = False
    effect: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Importance:
    """All rankings, Spearman's rho of pairs of factors (largest over their channels), and what a reader must know."""

    scores: list[Score]
    correlated: list[tuple[str, ...]]
    correlation: dict[str, dict[str, float]]
    forest_auc: float
    notes: list[str]


def importance(
    prepared: Path,
    out: Path,
    model: Path | None = None,
    repeats: int = 20,
    block: int = 128,
    sample: int = SAMPLE,
    seed: int = 0,
    overwrite: bool = False,
) -> Importance:
    """Rank the factors of a prepared site and write importance.csv, .json and .png into `out`.

    `model` adds the permutation importance of a network on the test part of its split.tif, or the validation part
    where there is no test part. `repeats` forests are fitted, and as often the network's factors are permuted; `block`
    is the side of the spatial blocks in pixels; a forest sees `sample` pixels, half of them landslide.
    Raises LabelError where the label holds one class only or too few blocks hold landslides, ChannelError where the
    stack has no factor, RunError for impossible numbers.
    """
    for name in FILES:
        refuse_existing(out / name, overwrite)
    if repeats < 2 or block < 8 or sample < 100:
        raise RunError(
            f"{repeats} repeats, blocks of {block} pixels, {sample} pixels: give at least 2 (--repeats), 8 (--block) "
            "and 100 (--sample)."
        )
    stack = read_prepared(prepared)
    factors = choose_factors(stack, ())
    refuse_input(out, [stack.path, prepared / "label.tif", prepared / "valid.tif"])
    loaded = None if model is None else load_model(model)
    held = None if loaded is None else _held_out(loaded, stack, block, seed)  # refused before any long work
    drawn = draw_sample(stack, SAMPLE, seed)
    counted = count(stack, [make_classes(stack, name, drawn, CLASSES) for name in factors], block)
    _require_blocks(counted[0].table, block, prepared)
    rho = correlation(stack, drawn)
    together = correlated_groups(rho, factors)
    scores = gain_ratios(counted, drawn, stack.grid, block, seed)
    forest, auc = forest_importance(
        stack, draw_sample(stack, sample, seed, balanced=True), factors, together, repeats, block, seed
    )
    scores = forest + scores
    notes = _notes(drawn, counted, stack, factors, together, rho, repeats, block, auc)
    if loaded is not None and held is not None:
        scores += permutation_importance(loaded, held, together, repeats, seed)
        notes += held.notes
    made = Importance(ranked(scores), together, rho, auc, notes)
    _write(made, out, stack, {"seed": seed, "repeats": repeats, "block": block, "sample": sample}, overwrite)
    return made


def _require_blocks(blocks: NDArray[np.int64], block: int, prepared: Path) -> None:
    held = int(blocks[:, :, 1].any(axis=1).sum())
    if held < FEWEST_BLOCKS:
        raise LabelError(
            f"{prepared / 'label.tif'}: landslides lie in {held} spatial block(s) of {block} pixels a side, and "
            f"intervals need {FEWEST_BLOCKS}. Give a smaller --block, or map more ground."
        )


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
    chosen = _multiplicity(rng, len(counted[0].table), DRAWS)
    blocks, offset = _places(drawn, grid, block)
    carried = [_donors(blocks, offset, _cycle(rng, int(blocks.max()) + 1)) for _ in range(CUTS)]
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
        scores.append(Score("gain_ratio", name, "factor", float(estimate), *_interval(spread), effect=effect))
    return scores


def _cross(codes: NDArray[np.intp], outcome: NDArray[np.intp], classes: int) -> NDArray[np.int64]:
    """(classes, 2) counts of (N,) codes, -1 undefined, and outcomes, 0 or 1."""
    defined = codes >= 0
    return np.bincount(codes[defined] * 2 + outcome[defined], minlength=2 * classes).reshape(classes, 2)


def _multiplicity(rng: np.random.Generator, blocks: int, draws: int) -> Float:
    """(draws, blocks): how often each block is drawn, with replacement."""
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), draws).astype(np.float64)


def _cycle(rng: np.random.Generator, n: int) -> NDArray[np.intp]:
    """(n,) a donor for each of n, never itself."""
    order = rng.permutation(n)
    donor = np.empty(n, np.intp)
    donor[order] = np.roll(order, 1)
    return donor


def _interval(values: Float) -> tuple[float, float]:
    """The middle 95 %; NaN where fewer than two values are defined."""
    defined = values[~np.isnan(values)]
    if defined.size < 2:
        return math.nan, math.nan
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)


# ---- random forest ----


def forest_importance(
    stack: StackInfo,
    drawn: Sample,
    factors: Sequence[str],
    together: Sequence[tuple[str, ...]],
    repeats: int,
    block: int,
    seed: int,
) -> tuple[list[Score], float]:
    """Gini importance of the factors, and the forests' mean AUC on the blocks that each did not see.

    Every repeat draws spatial blocks with replacement and fits two forests: one gives the importances; the other sees
    every factor twice, as it is and carried from another block, and tells whether it beats itself.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    own = {name: channels_of(stack, name) for name in factors}
    positions = [i for name in factors for i in own[name]]
    columns = {name: [positions.index(i) for i in own[name]] for name in factors}
    x, y = drawn.values[:, positions], drawn.label == LANDSLIDE
    blocks, offset = _places(drawn, stack.grid, block)
    every = int(blocks.max()) + 1
    found, beats, aucs = [], [], []
    for _ in track(range(repeats), repeats, "forests", "repeats"):
        weight = _multiplicity(rng, every, 1)[0][blocks]
        inside = weight > 0
        if len(np.unique(y[inside])) < 2:
            continue
        number = int(rng.integers(2**31))
        moved = x[_donors(blocks, offset, _cycle(rng, every))]
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
    shares, gains = np.array(found), np.array(beats)  # (repeats, factors)
    scores = []
    for i, name in enumerate(factors):
        note = ""
        if not shares[:, i].any():
            note = "no tree splits on it: it is constant, or says nothing"
        effect = bool(np.percentile(gains[:, i], 5) > 0)
        scores.append(
            Score(
                "gini", name, "factor", float(shares[:, i].mean()), *_interval(shares[:, i]), effect=effect, note=note
            )
        )
    for group in together:
        joint = shares[:, [list(factors).index(name) for name in group]].sum(1)
        scores.append(Score("gini", " + ".join(group), "together", float(joint.mean()), *_interval(joint)))
    return scores, float(np.mean(aucs)) if aucs else math.nan


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
    """Spearman's rho of every pair of factors and bands, the largest in size over their channels; NaN if constant."""
    defined = ~np.isnan(drawn.values).any(axis=1)
    values = drawn.values[defined]
    varying = np.array([len(np.unique(column)) > 1 for column in values.T])
    rho = np.full((len(varying), len(varying)), np.nan)
    if len(values) > 2 and varying.sum() > 1:
        part = np.atleast_2d(spearmanr(values[:, varying]).statistic)
        part = part if part.shape[0] == varying.sum() else np.array([[1, part[0, 0]], [part[0, 0], 1]])
        rho[np.ix_(varying, varying)] = part
    names = list(dict.fromkeys(channel.factor for channel in stack.channels))
    own = {name: list(channels_of(stack, name)) for name in names}

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


# ---- permutation of a network's factors ----


@dataclass(frozen=True)
class HeldOut:
    """Windows of held-out ground as the network sees them.

    `x` (N, C, h, w) standardised; `label` (N, h, w), 255 where nothing is scored; `valid` (N, h, w); `block` (N,) the
    spatial block of each window. `factors`: factor -> positions of its channels in the model; `bands` those of bands.
    """

    x: NDArray[np.float32]
    label: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    block: NDArray[np.intp]
    factors: dict[str, list[int]]
    bands: list[int]
    notes: list[str]


def _held_out(model: Model, stack: StackInfo, block: int, seed: int) -> HeldOut:
    positions = match_channels(model, stack)
    path = model.folder / "split.tif"
    if not path.exists():
        raise SplitError(f"{path} does not exist, so no ground is known to be held out. Copy the model folder again.")
    info = read_info(path)
    require_one_band(info, "split")
    require_same_grid(stack.grid, str(stack.path), info.grid, str(path))
    size = int(model.facts["run"]["blocks"]["window"])
    shape = stack.grid.shape
    rng = np.random.default_rng(seed)
    with opening_prepared(stack) as rasters, opening(path) as split:
        held = {
            part: int(sum((cut_stored(split, w) == PARTS[part]).sum() for w in tiles(shape, SIDE))) for part in PARTS
        }
        part = "test" if held["test"] else "validation"
        found = []
        for window in squares(shape, size):
            inside = window.clip(shape)
            mine = cut_stored(split, inside) == PARTS[part]
            if mine.any() and (mine & rasters.known(inside)[0]).any():
                found.append(window)
        most = max(2, HELD_PIXELS // size**2)
        kept = found if len(found) <= most else [found[i] for i in np.sort(rng.choice(len(found), most, replace=False))]
        if len(kept) < 2:
            raise SplitError(
                f"{path}: the {part} part meets {len(kept)} window(s) of {size} pixels, and to permute takes two."
                " Use a model with more held-out ground."
            )
        x = np.empty((len(kept), len(positions), size, size), np.float32)
        label = np.full((len(kept), size, size), UNKNOWN, np.uint8)
        valid = np.zeros((len(kept), size, size), bool)
        for i, window in enumerate(kept):
            inside = window.clip(shape)
            at = inside.within(window)
            known, truth = rasters.known(inside)
            label[i][at] = np.where(known & (cut_stored(split, inside) == PARTS[part]), truth, UNKNOWN)
            valid[i][at] = cut_stored(rasters.valid, inside) == 1
            x[i] = model.zscore.apply(rasters.values(window, positions))
    counts = {code: int((label == code).sum()) for code in (LANDSLIDE, OTHER)}
    if not all(counts.values()):
        raise LabelError(
            f"{path}: the {part} part holds {counts[LANDSLIDE]:,} pixels of landslide and {counts[OTHER]:,} of other "
            "ground where it is valid and known, and scores need both. Use a model with another split."
        )
    across = -(-shape[1] // block)
    number = [w.row // block * across + w.column // block for w in kept]
    _, numbers = np.unique(number, return_inverse=True)
    seen = list(dict.fromkeys(channel.factor for channel in model.channels if channel.group == "factor"))
    own = {name: [i for i, channel in enumerate(model.channels) if channel.factor == name] for name in seen}
    bands = [i for i, channel in enumerate(model.channels) if channel.group == "band"]
    notes = _held_notes(info.tags, part, kept, found, numbers, size, seen, stack)
    return HeldOut(x, label, valid, numbers, own, bands, notes)


def _held_notes(
    tags: Mapping[str, str],
    part: str,
    kept: Sequence[Window],
    found: Sequence[Window],
    blocks: NDArray[np.intp],
    size: int,
    seen: Sequence[str],
    stack: StackInfo,
) -> list[str]:
    of = f"{len(kept)}" if len(kept) == len(found) else f"{len(kept)} of {len(found)}"
    spatial = len(np.unique(blocks))
    notes = [
        f"permutation: {of} windows of {size} pixels on the {part} part, in {spatial} spatial blocks; a factor's "
        "channels are swapped between whole windows, and pixels are scored where both windows are valid"
    ]
    if tags.get("leaky") != "no":
        notes.append(
            f"LEAKY: the {tags.get('split', 'unknown')} split shares pixels between training and the {part} part"
        )
    elif part == "validation":
        notes.append("the split has no test part: validation ground chose the epoch and the threshold")
    if spatial < FEWEST_BLOCKS:
        notes.append(
            f"permutation intervals stand on {spatial} spatial block(s) only and are too narrow; give a smaller --block"
        )
    unseen = [name for name in choose_factors(stack, ()) if name not in seen]
    if unseen:
        notes.append(f"the network does not see {', '.join(unseen)}")
    return notes


def permutation_importance(
    model: Model, held: HeldOut, together: Sequence[tuple[str, ...]], repeats: int, seed: int
) -> list[Score]:
    """Drop of kappa and F1 of a network, at its threshold, where a factor is swapped between held-out windows.

    Each repeat draws one order for all factors, so that they are compared on the same pixels. The estimate is the mean
    over repeats; the interval holds both the orders and spatial blocks drawn with replacement. A factor that the
    network ignores drops exactly 0, and has no effect; where more than 5 % of the draws do not drop, none is shown.
    """
    groups: list[tuple[str, Literal["factor", "together", "bands"], list[int]]] = [
        (name, "factor", positions) for name, positions in held.factors.items()
    ]
    for names in together:
        own = [name for name in names if name in held.factors]
        if len(own) > 1:
            groups.append((" + ".join(own), "together", [i for name in own for i in held.factors[name]]))
    if held.bands:
        groups.append(("bands", "bands", held.bands))
    rng = np.random.default_rng(seed)
    how = precision("auto")
    keep_memory()
    model.network.to(device()).eval()
    base = _mapped(model, held.x, how)
    drops = {name: np.empty((repeats, 2)) for name, _, _ in groups}
    spread: dict[str, list[Float]] = {name: [] for name, _, _ in groups}
    blocks = int(held.block.max()) + 1
    work = len(groups) * repeats
    for step in track(range(work), work, "permutation", "swaps"):
        repeat, g = divmod(step, len(groups))
        if g == 0:
            donor = _cycle(rng, len(held.x))
            drawn = _multiplicity(rng, blocks, max(1, DRAWS // repeats))
            scored = held.valid[donor]
            before = _tables(base, held, scored, blocks)
        name, _, positions = groups[g]
        swapped = held.x.copy()
        swapped[:, positions] = held.x[donor][:, positions]
        after = _tables(_mapped(model, swapped, how), held, scored, blocks)
        drops[name][repeat] = _kappa_f1(before.sum(0)) - _kappa_f1(after.sum(0))
        spread[name].append(np.array([_kappa_f1(many @ before) - _kappa_f1(many @ after) for many in drawn]))
    scores = []
    for at, measure in enumerate(("permutation_kappa", "permutation_f1")):
        for name, kind, _ in groups:
            estimate = float(np.nanmean(drops[name][:, at])) if np.isfinite(drops[name][:, at]).any() else math.nan
            every = np.concatenate(spread[name])[:, at]
            low = np.nanpercentile(every, 5) if np.isfinite(every).any() else math.nan
            note = "undefined: no landslide, or nothing else, is scored" if math.isnan(estimate) else ""
            scores.append(Score(measure, name, kind, estimate, *_interval(every), effect=bool(low > 0), note=note))
    return scores


def _mapped(model: Model, x: NDArray[np.float32], how: Any) -> NDArray[np.bool_]:
    """(N, h, w) bool: mapped as landslide at the model's threshold."""
    height, width = x.shape[2:]
    more = ((0, 0), (0, 0), (0, -height % model.multiple), (0, -width % model.multiple))
    batches = (np.pad(x[i : i + BATCH], more) for i in range(0, len(x), BATCH))
    p = np.concatenate([probabilities(model.network, batch, how, model.temperature) for batch in batches])
    return np.asarray(p[:, :height, :width] >= model.threshold)


def _tables(mapped: NDArray[np.bool_], held: HeldOut, scored: NDArray[np.bool_], blocks: int) -> Float:
    """(B, 4) tp, fp, fn, tn of each spatial block."""
    landslide, other = scored & (held.label == LANDSLIDE), scored & (held.label == OTHER)
    masks = (mapped & landslide, mapped & other, ~mapped & landslide, ~mapped & other)
    return np.stack([np.bincount(held.block, mask.sum((1, 2)), blocks) for mask in masks], 1)


def _kappa_f1(table: Float) -> Float:
    confusion = Confusion(*(int(pixels) for pixels in table))
    return np.array([confusion.kappa, confusion.f1])


# ---- what is shown ----


def ranked(scores: Sequence[Score]) -> list[Score]:
    """Scores by measure, single factors first and in falling order with their rank; those without one come after.

    Factors that show no effect come after all that do, whatever their number: Gini gives noise in many values more than
    a real effect in two classes (Strobl et al. 2007). Neighbours on one side of that line whose intervals overlap are
    unstable. Of equals the first in the stack comes first.
    """
    out: list[Score] = []
    for measure in MEASURES:
        own = [score for score in scores if score.measure == measure]
        single = [score for score in own if score.kind == "factor"]
        order = sorted(
            (s for s in single if not math.isnan(s.estimate)), key=lambda s: (s.effect is False, -s.estimate)
        )
        for i, score in enumerate(order):
            beside = [order[j] for j in (i - 1, i + 1) if 0 <= j < len(order) and order[j].effect == score.effect]
            unstable = any(score.low <= other.high and other.low <= score.high for other in beside)
            out.append(Score(**{**asdict(score), "rank": i + 1, "unstable": unstable}))
        out += [score for score in single if math.isnan(score.estimate)]
        out += [score for score in own if score.kind != "factor"]
    return out


def _notes(
    drawn: Sample,
    counted: Sequence[Counts],
    stack: StackInfo,
    factors: Sequence[str],
    together: Sequence[tuple[str, ...]],
    rho: Mapping[str, Mapping[str, float]],
    repeats: int,
    block: int,
    auc: float,
) -> list[str]:
    notes = [
        f"Gini and gain ratio: all {drawn.pixels:,} valid pixels of known label, {drawn.landslides:,} landslide, in "
        f"{len(counted[0].table)} spatial blocks of {block} pixels; bands left out",
        f"Gini: {repeats} forests of {TREES} trees on blocks drawn with replacement, as many landslide as other "
        + (
            "pixels; no block was left to test a forest on"
            if math.isnan(auc)
            else f"pixels; mean AUC {auc:.3f} on the blocks that a forest did not see (0.5: it knows nothing)"
        ),
        f"gain ratio: continuous factors in {CLASSES} natural breaks of {len(drawn.label):,} pixels, aspect in eight "
        "directions and flat",
        "a factor shows an effect where it beats itself carried from other blocks (one-sided, 5 %; the network: where "
        "at most 5 % of the draws do not drop); those that show none rank last",
    ]
    notes += [
        f"{' + '.join(group)} are correlated (|Spearman| above {CORRELATED}): what one says the other says too, so "
        "their own places mean little and they are also taken together"
        for group in together
    ]
    bands = list(dict.fromkeys(channel.factor for channel in stack.channels if channel.group == "band"))
    for name in factors:
        near = [f"{band} {rho[name][band]:+.2f}" for band in bands if abs(rho[name][band]) > CORRELATED]
        if near:
            notes.append(f"{name} is correlated with bands ({', '.join(near)}), which a network may use instead")
    return notes


def _write(made: Importance, out: Path, stack: StackInfo, facts: dict[str, Any], overwrite: bool) -> None:
    write_text(out / "importance.csv", table_csv([asdict(score) for score in made.scores]), overwrite)
    panels = {
        title: [Whisker(s.factor, s.estimate, s.low, s.high, s.effect, s.unstable) for s in own]
        for measure, title in MEASURES.items()
        if measure != "permutation_f1" and (own := [s for s in made.scores if s.measure == measure])
    }
    draw_ranking(panels, out / "importance.png", overwrite)
    known = {**facts, "stack_sha256": file_hash(stack.path), "software": software()}
    write_json(out / "importance.json", {**asdict(made), **known}, overwrite)


def table(made: Importance) -> str:
    """The rankings as text, with the notes."""
    width = max(len(score.factor) for score in made.scores) + 2
    lines: list[str] = []
    for measure, title in MEASURES.items():
        own = [score for score in made.scores if score.measure == measure]
        if not own:
            continue
        lines += ["", title, f"  {'':>4}{'factor':<{width}}{'estimate':>10}{'95 % interval':>22}"]
        for score in own:
            marks = [
                *(["unstable place"] if score.unstable else []),
                *(["no effect shown"] if score.effect is False else []),
                *([score.note] if score.note else []),
            ]
            rank = "-" if score.rank is None else str(score.rank)
            span = f"{_figure(score.low)} to {_figure(score.high)}"
            figures = f"{_figure(score.estimate):>10}{span:>22}"
            lines.append(f"  {rank:>3} {score.factor:<{width}}{figures}  {', '.join(marks)}".rstrip())
    return "\n".join([*lines[1:], "", *(f"Note: {note}." for note in made.notes)])


def _figure(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.5f}"
