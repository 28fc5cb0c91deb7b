"""Permutation importance of a trained network on ground held out from its training (Breiman 2001, Fisher et al. 2019).

The drop of kappa and F1 where a factor's channels are those of another window. Whole windows are swapped, so that what
a factor looks like stays and only its place is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import StackInfo
from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN
from landslip.dataset.split import PARTS
from landslip.errors import LabelError, SplitError
from landslip.geo.grid import require_same_grid, squares, tiles
from landslip.geo.raster import open_raster, read_info, read_stored_window, require_one_band
from landslip.importance.ranking import (
    RANKING_DRAWS,
    Float,
    Kind,
    Score,
    bootstrap_weights,
    bootstrapped,
    derangement,
    held_out_notes,
    kappa_f1,
)
from landslip.importance.sampling import SAMPLING_SIDE, choose_factors, open_prepared
from landslip.models.forward import Precision, device, keep_memory, precision, probabilities
from landslip.runtime.progress import plural, track
from landslip.training.checkpoint import Model, match_channels, split_of

HELD_PIXELS = 2**21  # pixels of held-out windows that are in memory at once, at most
BATCH = 16  # windows that the network sees at once


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
    """Read the windows of the test part of a model's split, or of the validation part where there is no test part.

    `block` is the side of the spatial blocks in pixels; where the windows would not fit into memory, as many as do are
    drawn from the seed. Raises SplitError where the part meets fewer than two windows, LabelError where it holds one
    class alone.
    """
    positions = match_channels(model, stack)
    path = split_of(model)
    info = read_info(path)
    require_one_band(info, "split")
    require_same_grid(stack.grid, str(stack.path), info.grid, str(path))
    size = int(model.facts["run"]["blocks"]["window"])
    shape = stack.grid.shape
    rng = np.random.default_rng(seed)
    with open_prepared(stack) as rasters, open_raster(path) as split:
        tested = any((read_stored_window(split, w) == PARTS["test"]).any() for w in tiles(shape, SAMPLING_SIDE))
        part = "test" if tested else "validation"
        meeting = []
        for window in squares(shape, size):
            inside = window.clip(shape)
            mask = read_stored_window(split, inside) == PARTS[part]
            if mask.any() and (mask & rasters.known(inside)[0]).any():
                meeting.append(window)
        most = max(2, HELD_PIXELS // size**2)
        windows = meeting
        if len(meeting) > most:
            windows = [meeting[i] for i in np.sort(rng.choice(len(meeting), most, replace=False))]
        if len(windows) < 2:
            raise SplitError(
                f"{path}: the {part} part meets {plural(len(windows), 'window')} of {size} pixels, and to permute "
                "takes two. Use a model with more held-out ground."
            )
        x = np.empty((len(windows), len(positions), size, size), np.float32)
        label = np.full((len(windows), size, size), UNKNOWN, np.uint8)
        valid = np.zeros((len(windows), size, size), bool)
        for i, window in enumerate(windows):
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
    _, blocks = np.unique([w.row // block * across + w.column // block for w in windows], return_inverse=True)
    names = list(dict.fromkeys(channel.factor for channel in model.channels if channel.group == "factor"))
    factors = {name: [i for i, channel in enumerate(model.channels) if channel.factor == name] for name in names}
    bands = [i for i, channel in enumerate(model.channels) if channel.group == "band"]
    of = f"{len(windows)}" if len(windows) == len(meeting) else f"{len(windows)} of {len(meeting)}"
    notes = [
        *_notes_on_windows(info.tags, part, f"{of} windows of {size} pixels", len(np.unique(blocks))),
        *_notes_on_factors(stack, names),
    ]
    return HeldOut(x=x, label=label, valid=valid, block=blocks, factors=factors, bands=bands, notes=notes)


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
        in_model = [name for name in names if name in held.factors]
        if len(in_model) > 1:
            groups.append((" + ".join(in_model), "together", [i for name in in_model for i in held.factors[name]]))
    if held.bands:
        groups.append(("bands", "bands", held.bands))
    rng = np.random.default_rng(seed)
    arithmetic = precision("auto")
    keep_memory()
    model.network.to(device()).eval()
    base = _mapped(model, held.x, arithmetic)
    drops = {name: np.empty((repeats, 2)) for name, _, _ in groups}
    draws: dict[str, list[Float]] = {name: [] for name, _, _ in groups}
    blocks = int(held.block.max()) + 1
    work = len(groups) * repeats
    for step in track(range(work), work, "permutation", "swap"):
        repeat, g = divmod(step, len(groups))
        if g == 0:
            donor = derangement(rng, len(held.x))
            weights = bootstrap_weights(rng, blocks, max(1, RANKING_DRAWS // repeats))
            scored = held.valid[donor]
            before = _tables(base, held, scored, blocks)
        name, _, positions = groups[g]
        swapped = held.x.copy()
        swapped[:, positions] = held.x[donor][:, positions]
        after = _tables(_mapped(model, swapped, arithmetic), held, scored, blocks)
        drops[name][repeat] = kappa_f1(before.sum(0)) - kappa_f1(after.sum(0))
        draws[name].append(np.array([kappa_f1(weight @ before) - kappa_f1(weight @ after) for weight in weights]))
    scores = []
    for i, measure in enumerate(("permutation_kappa", "permutation_f1")):
        for name, kind, _ in groups:
            of_repeats, of_draws = drops[name][:, i], np.concatenate(draws[name])[:, i]
            estimate = float(np.nanmean(of_repeats)) if np.isfinite(of_repeats).any() else math.nan
            low = np.nanpercentile(of_draws, 5) if np.isfinite(of_draws).any() else math.nan
            note = "undefined: no landslide, or nothing else, is scored" if math.isnan(estimate) else ""
            scores.append(
                bootstrapped(measure, name, kind, estimate=estimate, draws=of_draws, effect=bool(low > 0), note=note)
            )
    return scores


def _notes_on_windows(tags: Mapping[str, str], part: str, windows: str, blocks: int) -> list[str]:
    """What the permutation stands on: so many windows, in words, of a part, in so many spatial blocks."""
    notes = [
        f"permutation: {windows} on the {part} part, in {plural(blocks, 'spatial block')}; a "
        "factor's channels are swapped between whole windows, and pixels are scored where both windows are valid"
    ]
    return notes + held_out_notes(tags, part, blocks, "permutation")


def _notes_on_factors(stack: StackInfo, of_network: Sequence[str]) -> list[str]:
    """Which factors of the site the network does not see."""
    unseen = [name for name in choose_factors(stack, ()) if name not in of_network]
    return [f"the network does not see {', '.join(unseen)}"] if unseen else []


def _mapped(model: Model, x: NDArray[np.float32], arithmetic: Precision) -> NDArray[np.bool_]:
    """(N, h, w) bool: mapped as landslide at the model's threshold."""
    height, width = x.shape[2:]
    margin = ((0, 0), (0, 0), (0, -height % model.multiple), (0, -width % model.multiple))
    batches = (np.pad(x[i : i + BATCH], margin) for i in range(0, len(x), BATCH))
    p = np.concatenate([probabilities(model.network, batch, arithmetic, model.scaling) for batch in batches])
    return np.asarray(p[:, :height, :width] >= model.threshold)


def _tables(mapped: NDArray[np.bool_], held: HeldOut, scored: NDArray[np.bool_], blocks: int) -> Float:
    """(B, 4) pixels of each spatial block that are TP, FP, FN and TN."""
    landslide, other = scored & (held.label == LANDSLIDE), scored & (held.label == OTHER)
    masks = (mapped & landslide, mapped & other, ~mapped & landslide, ~mapped & other)
    return np.stack([np.bincount(held.block, mask.sum((1, 2)), blocks) for mask in masks], 1)
