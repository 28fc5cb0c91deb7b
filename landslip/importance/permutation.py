"""Permutation importance of a trained network on ground held out from its training (Breiman 2001, Fisher et al. 2019).

The drop of kappa and F1 where a factor's channels are those of another window. Whole windows are swapped, so that what
a factor looks like stays and only its place is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import StackInfo
from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN
from landslip.dataset.split import PARTS, leakage_note, leaky_of
from landslip.errors import LabelError, SplitError
from landslip.geo.grid import Window, require_same_grid, squares, tiles
from landslip.geo.raster import open_raster, read_info, read_stored_window, require_one_band
from landslip.importance.ranking import (
    DRAWS,
    FEWEST_BLOCKS,
    Float,
    Kind,
    Score,
    bootstrap_weights,
    bootstrapped,
    derangement,
    kappa_f1,
)
from landslip.importance.sampling import SIDE, choose_factors, open_prepared
from landslip.models.forward import device, keep_memory, precision, probabilities
from landslip.runtime.progress import plural, track
from landslip.training.checkpoint import Model, match_channels, split_of

HELD_PIXELS = 2**21  # pixels of held-out windows that are held at once, at most
BATCH = 16


@dataclass(frozen=True, kw_only=True)
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


def held_out(model: Model, stack: StackInfo, block: int, seed: int) -> HeldOut:
    positions = match_channels(model, stack)
    path = split_of(model)
    info = read_info(path)
    require_one_band(info, "split")
    require_same_grid(stack.grid, str(stack.path), info.grid, str(path))
    size = int(model.facts["run"]["blocks"]["window"])
    shape = stack.grid.shape
    rng = np.random.default_rng(seed)
    with open_prepared(stack) as rasters, open_raster(path) as split:
        held = {
            part: int(sum((read_stored_window(split, w) == PARTS[part]).sum() for w in tiles(shape, SIDE)))
            for part in PARTS
        }
        part = "test" if held["test"] else "validation"
        found = []
        for window in squares(shape, size):
            inside = window.clip(shape)
            mine = read_stored_window(split, inside) == PARTS[part]
            if mine.any() and (mine & rasters.known(inside)[0]).any():
                found.append(window)
        most = max(2, HELD_PIXELS // size**2)
        kept = found if len(found) <= most else [found[i] for i in np.sort(rng.choice(len(found), most, replace=False))]
        if len(kept) < 2:
            raise SplitError(
                f"{path}: the {part} part meets {plural(len(kept), 'window')} of {size} pixels, and to permute takes "
                "two. Use a model with more held-out ground."
            )
        x = np.empty((len(kept), len(positions), size, size), np.float32)
        label = np.full((len(kept), size, size), UNKNOWN, np.uint8)
        valid = np.zeros((len(kept), size, size), bool)
        for i, window in enumerate(kept):
            inside = window.clip(shape)
            at = inside.within(window)
            known, truth = rasters.known(inside)
            label[i][at] = np.where(known & (read_stored_window(split, inside) == PARTS[part]), truth, UNKNOWN)
            valid[i][at] = read_stored_window(rasters.valid, inside) == 1
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
    notes = _held_notes(info.tags, part, kept, found=found, blocks=numbers, size=size, seen=seen, stack=stack)
    return HeldOut(x=x, label=label, valid=valid, block=numbers, factors=own, bands=bands, notes=notes)


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
        f"permutation: {of} windows of {size} pixels on the {part} part, in {plural(spatial, 'spatial block')}; a "
        "factor's channels are swapped between whole windows, and pixels are scored where both windows are valid"
    ]
    if leakage := leakage_note(tags, part):
        notes.append(leakage)
    if part == "validation" and not leaky_of(tags):
        notes.append("the split has no test part: validation ground chose the epoch and the threshold")
    if spatial < FEWEST_BLOCKS:
        notes.append(
            f"permutation intervals stand on {plural(spatial, 'spatial block')} only and are too narrow; give a "
            "smaller --block"
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
    groups: list[tuple[str, Kind, list[int]]] = [
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
    for step in track(range(work), work, "permutation", "swap"):
        repeat, g = divmod(step, len(groups))
        if g == 0:
            donor = derangement(rng, len(held.x))
            drawn = bootstrap_weights(rng, blocks, max(1, DRAWS // repeats))
            scored = held.valid[donor]
            before = _tables(base, held, scored, blocks)
        name, _, positions = groups[g]
        swapped = held.x.copy()
        swapped[:, positions] = held.x[donor][:, positions]
        after = _tables(_mapped(model, swapped, how), held, scored, blocks)
        drops[name][repeat] = kappa_f1(before.sum(0)) - kappa_f1(after.sum(0))
        spread[name].append(np.array([kappa_f1(many @ before) - kappa_f1(many @ after) for many in drawn]))
    scores = []
    for at, measure in enumerate(("permutation_kappa", "permutation_f1")):
        for name, kind, _ in groups:
            estimate = float(np.nanmean(drops[name][:, at])) if np.isfinite(drops[name][:, at]).any() else math.nan
            every = np.concatenate(spread[name])[:, at]
            low = np.nanpercentile(every, 5) if np.isfinite(every).any() else math.nan
            note = "undefined: no landslide, or nothing else, is scored" if math.isnan(estimate) else ""
            scores.append(
                bootstrapped(measure, name, kind, estimate=estimate, draws=every, effect=bool(low > 0), note=note)
            )
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
