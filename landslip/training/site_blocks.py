"""The blocks of a prepared site, read, varied and turned as the training loop asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from landslip.config.run import Run
from landslip.dataset.blocks import Block, Blocks, aspect_positions, turn
from landslip.dataset.split import VALIDATION
from landslip.dataset.training_data import TrainingData
from landslip.runtime.prefetch import prefetch
from landslip.training.augmentation import Augmentation, augmentation


@dataclass(frozen=True)
class SiteBlocks:
    """The training and validation blocks of a prepared site, as the loop asks for them."""

    data: TrainingData
    cut: Blocks
    run: Run

    @cached_property
    def augmentation(self) -> Augmentation:
        """How training blocks are varied, as the run chooses it."""
        return augmentation(self.run.augmentation, self.data.channels, self.cut.zscore)

    @property
    def count(self) -> int:
        """How many training windows there are."""
        return len(self.data.windows)

    def training(self, numbers: NDArray[np.int64], rng: np.random.Generator) -> Block:
        """(B, C, h, w) and (B, h, w) of training windows, each varied, turned and mirrored where the run says so."""
        pairs = [self.cut.cut(self.data.windows[i]) for i in numbers]
        if self.run.augmentation.varies:
            pairs = [(self.augmentation.vary(x, rng), y) for x, y in pairs]
        if self.run.training.augment:
            aspect = aspect_positions(self.data.channels)
            turns = [(int(rng.integers(4)), bool(rng.integers(2))) for _ in pairs]
            pairs = [turn(x, y, *turned, aspect) for (x, y), turned in zip(pairs, turns, strict=True)]
        return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])

    def validation(self, batch: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]]:
        """Batches of validation windows: (B, C, h, w) channels, (B, h, w) label, and which pixels are of that part."""
        windows = self.data.validation
        batches = [windows[i : i + batch] for i in range(0, len(windows), batch)]
        for chosen, (x, y) in prefetch(self.cut.batch, batches):
            yield x, y, np.stack([self.data.split.at(window) == VALIDATION for window in chosen])
