"""Blocks varied by chance, so that a network learns what a landslide is and not where or in which light it lay.

Light: every band of a block is given its own brightness, contrast and gamma. Place: elevation and distances are moved
by one number a block, since their absolute values name the site. Dropping: now and then all bands, or a factor, are
taken away, so that none is relied on alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landslip.config.run import AugmentationChoice
from landslip.dataset.channels import Channel
from landslip.dataset.zscore import ZScore
from landslip.factors.table import FACTORS

DARKEST = 1e-4  # band value below which gamma is not applied, in its units


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How the z-scored blocks of a training are varied.

    `bands` are positions of the bands among the channels, `placed` those of elevation and distances, `parts` those of
    what is dropped together: all bands, and each factor. `mean` and `std` are the z-score's, (C,).
    """

    choice: AugmentationChoice
    bands: tuple[int, ...]
    placed: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def vary(self, x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """A block (C, h, w), varied; where a channel is undefined, and so 0, it stays 0."""
        varied = x.copy()
        for position in self.bands:
            varied[position] = self._lit(x[position], position, rng)
        metres = rng.uniform(-self.choice.offset, self.choice.offset)
        for position in self.placed:
            varied[position] += np.float32(metres / self.std[position])
        varied[x == 0] = 0
        dropped = rng.uniform(size=len(self.parts)) < self.choice.drop
        if not dropped.all():  # something must be left to learn from
            for part in np.flatnonzero(dropped):
                varied[list(self.parts[part])] = 0
        return varied

    def _lit(self, band: NDArray[np.float32], position: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """A band (h, w) in another light: gamma about its mean, then contrast and brightness in its deviations."""
        gamma, contrast = np.exp(rng.normal(0, (self.choice.gamma, self.choice.contrast)))
        brightness = rng.normal(0, self.choice.brightness)
        mean, std = self.mean[position], self.std[position]
        if mean > DARKEST and self.choice.gamma:
            stored = np.maximum(band * std + mean, DARKEST)
            band = ((mean * (stored / mean) ** gamma - mean) / std).astype(np.float32)
        return np.asarray(contrast * band + brightness, np.float32)


def augmentation(choice: AugmentationChoice, channels: Sequence[Channel], zscore: ZScore) -> Augmentation:
    """The variation of blocks with these channels, as a run chooses it."""
    bands = tuple(i for i, channel in enumerate(channels) if channel.group == "band")
    placed = {name for name, factor in FACTORS.items() if factor.names_place}
    factors = dict.fromkeys(channel.factor for channel in channels if channel.group == "factor")
    parts = [tuple(i for i, channel in enumerate(channels) if channel.factor == name) for name in factors]
    return Augmentation(
        choice=choice,
        bands=bands,
        placed=tuple(i for i, channel in enumerate(channels) if channel.factor in placed),
        parts=tuple(part for part in (bands, *parts) if part),
        mean=zscore.mean,
        std=zscore.std,
    )
