"""Windows seeded at landslides, and the blocks cut at them (the paper's III.A)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from landslip.config.run import BlockChoice
from landslip.dataset.channels import Channel
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.dataset.zscore import ZScore
from landslip.errors import LabelError
from landslip.geo.grid import Window, lattice
from landslip.geo.mapped_array import from_windows, strips
from landslip.geo.raster import read_window

Block = tuple[NDArray[np.float32], NDArray[np.uint8]]


@dataclass(frozen=True)
class Blocks:
    """Blocks cut from an open stack: standardised channels and the label with 255 where nothing is scored."""

    dataset: DatasetReader
    positions: tuple[int, ...]
    zscore: ZScore
    valid: NDArray[np.bool_]
    label: NDArray[np.uint8]

    def cut(self, window: Window) -> Block:
        """(C, h, w) float32 and (h, w) uint8 at a window; beyond the raster's edge 0 and 255."""
        x = self.zscore.apply(read_window(self.dataset, window, [position + 1 for position in self.positions]))
        y = np.full((window.height, window.width), UNKNOWN, np.uint8)
        inside = window.clip(self.valid.shape)
        y[inside.within(window)] = np.where(self.valid[inside.slices], self.label[inside.slices], UNKNOWN)
        return x, y

    def batch(self, windows: Sequence[Window]) -> Block:
        """(B, C, h, w) float32 and (B, h, w) uint8 at windows of one size."""
        cuts = [self.cut(window) for window in windows]
        return np.stack([x for x, _ in cuts]), np.stack([y for _, y in cuts])


def seeded_windows(
    label: NDArray[np.uint8], valid: NDArray[np.bool_], choice: BlockChoice, rng: np.random.Generator
) -> list[Window]:
    """Windows of the lattice that hold at least one seed, a landslide pixel drawn at random; then the background ones.

    `choice.seeds` is how many are drawn ("all": every landslide pixel is a seed). `choice.background` adds windows
    without any landslide, as a share of the seeded ones, drawn at random.
    """
    seeds = from_windows(label.shape, bool, lambda strip: (label[strip.slices] == LANDSLIDE) & valid[strip.slices])
    if choice.seeds != "all":
        pixels = _places(seeds)
        chosen = rng.choice(pixels, min(choice.seeds, pixels.size), replace=False)
        seeds[:] = False
        seeds.flat[chosen] = True
    seeded, empty = [], []
    for window in lattice(label.shape, choice.window, choice.step):
        if seeds[window.slices].any():
            seeded.append(window)
        elif choice.background and not (label[window.slices] == LANDSLIDE).any() and valid[window.slices].any():
            empty.append(window)
    extra = min(round(choice.background * len(seeded)), len(empty))
    if extra:
        seeded += [empty[i] for i in np.sort(rng.choice(len(empty), extra, replace=False))]
    return seeded


def aspect_positions(channels: Sequence[Channel]) -> tuple[int, int] | None:
    """Positions of aspect's sine and cosine, which turn with the image; None where aspect is not used.

    Raises LabelError where aspect is one channel in degrees: a turned image would need it turned before the z-score.
    """
    kinds = [channel.kind for channel in channels]
    if any(channel.factor == "aspect" and channel.kind == "continuous" for channel in channels):
        raise LabelError("aspect in degrees cannot be turned with the image: set augment = false, or encoding planes.")
    if "sine" in kinds and "cosine" in kinds:
        return kinds.index("sine"), kinds.index("cosine")
    return None


def turn(
    x: NDArray[np.float32], y: NDArray[np.uint8], quarter: int, mirror: bool, aspect: tuple[int, int] | None
) -> Block:
    """Turn a block by `quarter` x 90 degrees counter-clockwise, then mirror it left to right if `mirror`.

    x is (C, h, w) and y (h, w). Aspect's sine (its east part) and cosine (its north part) turn with the image: a
    quarter turn takes east to north and north to west, a mirror takes east to west.
    """
    x, y = np.rot90(x, quarter, (1, 2)).copy(), np.rot90(y, quarter).copy()
    if aspect is not None:
        sine, cosine = aspect
        for _ in range(quarter % 4):
            x[sine], x[cosine] = -x[cosine], x[sine].copy()
    if mirror:
        x, y = x[:, :, ::-1].copy(), y[:, ::-1].copy()
        if aspect is not None:
            x[aspect[0]] *= -1
    return x, y


def _places(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N,) places of the pixels of a mask, counted row by row."""
    return np.concatenate(
        [np.flatnonzero(mask[strip.slices]) + strip.row * strip.width for strip in strips(mask.shape)]
    )
