"""The threshold of a model, chosen on the validation part mapped as `landslip map` maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray

from landslip.config.run import TrainingChoice
from landslip.dataset.blocks import Block, Blocks
from landslip.dataset.training_data import TrainingData
from landslip.geo.grid import Window
from landslip.geo.tiling import Tile, cell_size, cells_holding, plan_tiles
from landslip.metrics.confusion import Histogram
from landslip.models.forward import Precision, probabilities
from landslip.runtime.prefetch import prefetch
from landslip.training.loop import State, threshold_of

AT_ONCE = 448 * 448  # pixels of validation ground that are mapped at once


def choose_threshold(
    choice: TrainingChoice, data: TrainingData, blocks: Blocks, state: State, precision: Precision
) -> dict[str, float]:
    """Choose the threshold anew for the weights that were chosen, on validation ground mapped as `landslip map` does.

    With their surroundings, pixels get other probabilities than in windows of the training size. Returns the scores
    of the validation part so mapped.
    """
    state.network.load_state_dict(state.best)
    state.network.eval()
    histogram, scored = Histogram.empty(), data.scored()
    for core, x, inside in mapped_cores(blocks, scored, cast(int, state.network.multiple)):
        p = probabilities(state.network, x, precision)[0][inside]
        histogram += Histogram.from_arrays(p, data.label[core.slices], scored[core.slices])
    threshold, scores = threshold_of(histogram, choice)
    state.threshold = threshold if math.isfinite(threshold) else state.threshold
    return {"validation_f1": scores["f1"], "validation_kappa": scores["kappa"], "threshold": state.threshold}


def mapped_cores(
    blocks: Blocks, scored: NDArray[np.bool_], multiple: int
) -> Iterator[tuple[Window, NDArray[np.float32], tuple[slice, slice]]]:
    """Cores that cover the (H, W) `scored` pixels, as `landslip map` would plan them, one after another.

    Yields the core, the (1, C, h, w) block that is read for it (sides are multiples of `multiple`), and where in that
    the core lies.
    """
    plan = plan_tiles(blocks.valid.shape, cells_holding(scored, cell_size(multiple)), multiple, AT_ONCE)

    def read(task: Tile) -> Block:
        return blocks.cut(task.read)

    for task, (x, _) in prefetch(read, plan.tasks):
        yield task.core, x[None], task.core.within(task.read)
