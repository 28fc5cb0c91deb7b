"""The training pixels that travel with a model, so that a map can say where ground is unlike what was trained on.

At the end of training up to 5,000 pixels of known label are drawn from the training windows and written beside the
weights as the network sees them (standardised), each with the block of ground that it lies in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from landslip.dataset.blocks import seeded_windows
from landslip.dataset.label import UNKNOWN
from landslip.dataset.split import TRAIN, Split
from landslip.dataset.training_data import read_prepared, read_split
from landslip.dataset.zscore import ZScore
from landslip.errors import LabelError, ModelError
from landslip.geo.geotiff import STORED_TILE
from landslip.geo.grid import Window, tiles
from landslip.geo.mapped_array import strips, union_of_windows
from landslip.geo.raster import open_raster, read_window
from landslip.metrics.applicability import Applicability, fit_applicability
from landslip.runtime.atomic import atomic_write
from landslip.runtime.disk import file_hash
from landslip.runtime.progress import say
from landslip.training.checkpoint import Model, match_channels, run_of, split_of
from landslip.training.model_facts import PixelTable
from landslip.training.model_files import FACTS, SPLIT

PIXELS_FILE = "training_pixels.safetensors"
MOST_PIXELS = 5000  # training pixels that are drawn
FOLD_WINDOWS = 4  # training windows along a side of the squares of ground, where there is ground enough
FEWEST_FOLDS = 5  # where fewer squares of ground hold pixels their side is halved, down to one window


@dataclass(frozen=True)
class TrainingPixels:
    """Pixels drawn from the training ground: (N, C) `values` as the network sees them, and (N,) squares of ground."""

    values: NDArray[np.float32]
    folds: NDArray[np.int32]


def training_ground(windows: Iterable[Window], label: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W): the valid pixels of known label in the union of the training windows."""
    ground = union_of_windows(windows, valid.shape)
    for strip in strips(valid.shape):
        ground[strip.slices] &= valid[strip.slices] & (label[strip.slices] != UNKNOWN)
    return ground


def draw_training_pixels(
    dataset: DatasetReader,
    positions: Sequence[int],
    zscore: ZScore,
    ground: NDArray[np.bool_],
    *,
    window: int,
    seed: int,
    most: int = MOST_PIXELS,
) -> TrainingPixels:
    """Draw up to `most` pixels of (H, W) `ground` at random from an open stack, by a random stream of their own.

    `positions` are those of the model's channels in the stack, `window` is the side of a training window in pixels.
    The squares of ground that pixels are numbered by have four windows a side, or less where fewer than five would
    hold pixels. Raises LabelError where the ground holds no pixel.
    """
    total = int(np.count_nonzero(ground))
    if not total:
        raise LabelError("no valid pixel of known label in the training windows. Check label.tif and the split.")
    ranks = np.sort(np.random.default_rng(seed).choice(total, min(most, total), replace=False))
    bands = [position + 1 for position in positions]
    values, rows, columns, passed = [], [], [], 0
    for tile in tiles((ground.shape[0], ground.shape[1]), STORED_TILE):
        row, column = np.nonzero(ground[tile.slices])
        first, last = np.searchsorted(ranks, (passed, passed + len(row)))
        chosen = ranks[first:last] - passed
        passed += len(row)
        if len(chosen):
            row, column = row[chosen], column[chosen]
            values.append(zscore.apply(read_window(dataset, tile, bands))[:, row, column].T)
            rows.append(row + tile.row)
            columns.append(column + tile.column)
    folds = _folds(np.concatenate(rows), np.concatenate(columns), window)
    return TrainingPixels(np.ascontiguousarray(np.concatenate(values)), folds)


def joined(before: TrainingPixels, after: TrainingPixels) -> TrainingPixels:
    """The pixels of a model trained on one site and then on another, each with its own squares of ground."""
    folds = np.concatenate([before.folds, after.folds + before.folds.max() + 1])
    return TrainingPixels(np.concatenate([before.values, after.values]), folds)


def write_training_pixels(pixels: TrainingPixels, folder: Path) -> PixelTable:
    """Write training_pixels.safetensors into a model folder; returns what model.json says of it."""
    path = folder / PIXELS_FILE
    with atomic_write(path, overwrite=True) as aside:
        aside.write_bytes(save_arrays({"values": pixels.values, "folds": pixels.folds}))
    return {"count": len(pixels.values), "blocks": int(np.unique(pixels.folds).size), "sha256": file_hash(path)}


def read_training_pixels(model: Model) -> TrainingPixels:
    """The training pixels in a model's folder; ModelError where there are none, or where they were altered."""
    path = model.folder / PIXELS_FILE
    facts = model.facts.get("training_pixels")
    if facts is None:
        raise ModelError(
            f"{model.folder} holds no training pixels (its {FACTS} names none: an earlier version trained it), so that "
            "no ground can be told unlike them. Give the prepared site it was trained on, --training PREPARED/, or "
            "train it again."
        )
    if not path.exists():
        raise ModelError(f"{path} does not exist: the model folder is not whole. Copy it again or train it again.")
    try:
        sha256, expected = file_hash(path), str(facts["sha256"])
        if sha256 != expected:
            raise ValueError(f"SHA-256 {sha256[:12]}, and {FACTS} says {expected[:12]}: truncated or altered")
        arrays = load_arrays(path.read_bytes())
        pixels = TrainingPixels(arrays["values"], arrays["folds"])
        shapes = pixels.values.shape, pixels.folds.shape
        if shapes != ((len(pixels.folds), len(model.channels)), (len(pixels.values),)):
            raise ValueError(f"its arrays have the shapes {shapes}, and the model has {len(model.channels)} channels")
        if pixels.values.dtype != np.float32 or not np.isfinite(pixels.values).all():
            raise ValueError("its pixels are not all numbers in float32")
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"{path} does not hold this model's training pixels ({error}). Copy the folder again."
        ) from error
    return pixels


def area_of(model: Model, prepared: Path | None = None) -> Applicability:
    """A model's area of applicability, from the training pixels in its folder or else those of a prepared site."""
    pixels = read_training_pixels(model) if prepared is None else pixels_of_prepared(model, prepared)
    return fit_applicability(pixels.values, pixels.folds, [channel.factor for channel in model.channels])


def pixels_of_prepared(model: Model, prepared: Path) -> TrainingPixels:
    """Draw a model's training pixels anew from the prepared site it was trained on and its own split.tif.

    Raises ModelError where the model's folder has no split.tif or another's, or nothing was trained on there,
    GridError where the split lies on another grid, ChannelError where the stack lacks a channel.
    """
    stack, label, valid = read_prepared(prepared)
    positions = match_channels(model, stack)
    parts = read_split(split_of(model), stack)
    windows = training_windows(model, prepared, parts, label, valid)
    run = run_of(model)
    with open_raster(stack.path) as dataset:
        ground = training_ground(windows, label, valid)
        return draw_training_pixels(
            dataset, positions, model.zscore, ground=ground, window=run.blocks.window, seed=run.split.seed
        )


def training_windows(
    model: Model, prepared: Path, parts: Split, label: NDArray[np.uint8], valid: NDArray[np.bool_]
) -> list[Window]:
    """The windows that a model was trained on, laid out anew on the prepared site; says what changed since.

    `parts` are those of the model's split.tif. Raises ModelError where no training window lies at the site's
    landslides, as on another site.
    """
    trained_on = model.facts.get("site_inputs", {})
    changed = [name for name, sha256 in trained_on.items() if _differs(prepared / name, sha256)]
    if changed:
        say(f"warning: {prepared} is not quite what the model was trained on: {', '.join(changed)} changed since.")
    run = run_of(model)
    windows = seeded_windows(label, valid, run.blocks, np.random.default_rng(run.split.seed))
    windows = parts.inside(windows, TRAIN)
    if not windows:
        raise ModelError(
            f"{model.folder / SPLIT}: no training window of {run.blocks.window} px at landslides of {prepared} lies in "
            "its training part. Give the prepared site that the model was trained on."
        )
    return windows


def _folds(rows: NDArray[np.int64], columns: NDArray[np.int64], window: int) -> NDArray[np.int32]:
    """(N,) numbers, from 0, of the squares of ground that pixels at (N,) rows and columns lie in."""
    side = FOLD_WINDOWS * window
    while True:
        squares = np.stack([rows // side, columns // side])
        distinct, folds = np.unique(squares, axis=1, return_inverse=True)
        if distinct.shape[1] >= FEWEST_FOLDS or side <= window:
            return folds.ravel().astype(np.int32)
        side //= 2


def _differs(path: Path, sha256: str) -> bool:
    """Whether a file is there and has another SHA-256."""
    return path.exists() and file_hash(path) != sha256
