"""The pixels that a calibration is fitted on: the logits of held-out ground, by the model or by the folds before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.blocks import Blocks
from landslip.dataset.channels import StackInfo
from landslip.dataset.label import LANDSLIDE, OTHER
from landslip.errors import ModelError, RunError
from landslip.geo.geotiff import STORED_TILE
from landslip.geo.grid import tiles
from landslip.geo.raster import open_raster
from landslip.metrics.confusion import Histogram
from landslip.models.forward import device, keep_memory, logits, precision
from landslip.training.checkpoint import Model, match_channels
from landslip.training.folds import Folds
from landslip.training.threshold import mapped_cores

AT_ONCE = 2 * STORED_TILE  # pixels a side of what is read of the folds' maps at a time


@dataclass(frozen=True)
class ScoredPixels:
    """The validation pixels with a known label: (n,) logits, whether each is landslide, and its region (0: none)."""

    logits: NDArray[np.float32]
    landslide: NDArray[np.bool_]
    region: NDArray[np.int32]

    def counted(self, probability: NDArray[np.float32], chosen: NDArray[np.bool_] | None = None) -> Histogram:
        """(n,) probabilities of the pixels, of all or of the chosen ones, counted by label."""
        label = np.where(self.landslide, np.uint8(LANDSLIDE), np.uint8(OTHER))
        return Histogram.from_arrays(probability, label, np.ones(len(label), bool) if chosen is None else chosen)


def map_pixels(
    model: Model,
    stack: StackInfo,
    label: NDArray[np.uint8],
    *,
    valid: NDArray[np.bool_],
    scored: NDArray[np.bool_],
    regions: NDArray[np.int32] | None,
) -> ScoredPixels:
    """The network's logits over the scored pixels, mapped as `landslip map` maps them.

    All rasters are (H, W). Raises ModelError where a logit is not finite.
    """
    arithmetic = precision("auto")
    keep_memory()
    model.network.to(device()).eval()
    count = int(np.count_nonzero(scored))
    pixels = ScoredPixels(np.empty(count, np.float32), np.empty(count, bool), np.zeros(count, np.int32))
    done = 0
    with open_raster(stack.path) as dataset:
        blocks = Blocks(dataset, tuple(match_channels(model, stack)), model.zscore, valid, label)
        for core, x, inside in mapped_cores(blocks, scored, model.multiple):
            here = scored[core.slices]
            at = slice(done, done + int(np.count_nonzero(here)))
            pixels.logits[at] = logits(model.network, x, arithmetic)[0][inside][here]
            pixels.landslide[at] = label[core.slices][here] == LANDSLIDE
            if regions is not None:
                pixels.region[at] = regions[core.slices][here]
            done = at.stop
    if not np.isfinite(pixels.logits).all():
        raise ModelError(f"{model.folder} gives logits that are not finite on {stack.path}. Train the model again.")
    return pixels


def pixels_of_folds(ladders: Mapping[Folds, int], label: NDArray[np.uint8], scored: NDArray[np.bool_]) -> ScoredPixels:
    """The mean logit over ladders of each scored pixel, by the fold that tested it; a ladder counts as often as said.

    `label` and `scored` are (H, W). Raises RunError where a map of a fold has no value on scored ground.
    """
    count = int(np.count_nonzero(scored))
    pixels = ScoredPixels(np.zeros(count, np.float32), np.empty(count, bool), np.zeros(count, np.int32))
    done = 0
    for window in tiles((label.shape[0], label.shape[1]), AT_ONCE):
        here = scored[window.slices]
        at = slice(done, done + int(np.count_nonzero(here)))
        if at.stop > done:
            for ladder, times in ladders.items():
                pixels.logits[at] += times / sum(ladders.values()) * ladder.logits(window)[here]
            pixels.landslide[at] = label[window.slices][here] == LANDSLIDE
            done = at.stop
    if not np.isfinite(pixels.logits).all():
        raise RunError("a fold's map has no value on ground that it tested. Make the ladder again.")
    return pixels
