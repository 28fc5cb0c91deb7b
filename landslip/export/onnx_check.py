"""An ONNX graph held against PyTorch, on random blocks and on real ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landslip.dataset.channels import read_stack_info
from landslip.errors import ModelError
from landslip.export.onnx_graph import library_versions, written
from landslip.geo.grid import tiles
from landslip.geo.raster import open_raster, read_window
from landslip.models.forward import probabilities
from landslip.training.checkpoint import Model, match_channels

MOST_DIFFERENT = 1e-4  # in probability, from PyTorch
REAL_BLOCKS, REAL_SIDE = 4, 256  # blocks of a real stack, and their side in pixels


def random_blocks(model: Model, nodata: float | None, side: int) -> list[NDArray[np.float32]]:
    """Two batches (N, C, H, W) of raw values drawn from the model's statistics, with undefined ones of every kind."""
    rng = np.random.default_rng(0)
    side = -(-side // model.multiple) * model.multiple
    blocks = []
    for batch, height, width in ((1, side, side), (2, side, side + model.multiple)):
        shape = (batch, len(model.channels), height, width)
        mean, std = (a[:, None, None].astype(np.float32) for a in (model.zscore.mean, model.zscore.std))
        raw = mean + std * rng.standard_normal(shape, np.float32)
        for i, channel in enumerate(model.channels):
            if channel.kind == "class":
                raw[:, i] = rng.random((batch, height, width)) < 0.3
            elif channel.kind in ("sine", "cosine"):
                raw[:, i] = rng.uniform(-1, 1, (batch, height, width))
        missing = [math.nan, math.inf, -math.inf, *([] if nodata is None else [nodata])]
        for value in missing:
            raw[rng.random(shape) < 0.02 / len(model.channels)] = value
        raw[:, :, : height // 8, : width // 4] = missing[-1]  # a corner without anything
        blocks.append(raw)
    return blocks


def real_blocks(model: Model, path: Path) -> list[NDArray[np.float32]]:
    """Up to four blocks (1, C, H, W) of a stack, those with most defined pixels; ModelError where none is defined."""
    stack = read_stack_info(path)
    bands = [position + 1 for position in match_channels(model, stack)]
    windows = list(tiles(stack.grid.shape, REAL_SIDE))
    windows = windows[:: max(1, len(windows) // (4 * REAL_BLOCKS))]
    fullest: list[tuple[float, NDArray[np.float32]]] = []
    with open_raster(path) as dataset:
        for window in windows:
            block = read_window(dataset, window.round_up(model.multiple), bands)
            share = float(np.isfinite(block).all(0).mean())
            if share > 0:
                fullest = sorted([*fullest, (share, block[None])], key=lambda pair: -pair[0])[:REAL_BLOCKS]
    if not fullest:
        raise ModelError(f"{path} has no pixel that is defined in every channel of {model.folder}: nothing to check.")
    return [block for _, block in fullest]


def deepness_input(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """What Deepness feeds a network of raw values, (N, C, H, W): (x / 255 - mean) / std, float32, with our metadata.

    The plugin's preprocessing: `np.float32(x * 1. / 255.)`, then minus mean and over std as float32 arrays (PUTvision,
    qgis-plugin-deepness, src/deepness/processing/models/preprocessing_utils.py).
    """
    mean, std = (np.array(values, np.float32)[:, None, None] for values in deepness_statistics(raw.shape[1]))
    return np.asarray((np.float32(raw * 1.0 / 255.0) - mean) / std, np.float32)


def deepness_statistics(channels: int) -> tuple[list[float], list[float]]:
    """The mean and deviation of each channel that make Deepness's arithmetic the identity, but for rounding."""
    return [0.0] * channels, [1 / 255] * channels


def largest_difference(
    model: Model,
    graph: bytes,
    blocks: Sequence[NDArray[np.float32]],
    *,
    nodata: float | None,
    undefined: float,
    altered: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> float:
    """The largest difference in probability between a graph and PyTorch; inf where they disagree on what is defined.

    PyTorch goes the way that `landslip map` goes, in fp32; `altered` changes what the graph alone is given.
    """
    session = _session(graph)
    needed = [channel.decides_valid for channel in model.channels]
    largest = 0.0
    for raw in blocks:
        defined = np.isfinite(raw) if nodata is None else np.isfinite(raw) & (raw != np.float32(nodata))
        x = np.stack([model.zscore.apply(block) for block in np.where(defined, raw, np.float32(np.nan))])
        valid = np.asarray(defined[:, needed].all(1))
        expected = probabilities(model.network, x, "fp32", model.scaling)
        with np.errstate(invalid="ignore", over="ignore"):
            channels = raw if altered is None else altered(raw)
        probability = session.run(None, {"channels": channels})[0][:, 0]
        if not np.array_equal(probability[~valid], np.full(np.count_nonzero(~valid), undefined), equal_nan=True):
            return math.inf
        difference = float(np.max(np.abs(probability - expected)[valid], initial=0.0))
        largest = max(largest, difference if math.isfinite(difference) else math.inf)
    return largest


def require_close(model: Model, differences: dict[str, float]) -> None:
    """Raise ModelError where a kind of block differs from PyTorch by more than MOST_DIFFERENT in probability."""
    for kind, difference in differences.items():
        if not difference <= MOST_DIFFERENT:
            raise ModelError(
                f"{model.folder}: written as ONNX it differs from PyTorch by {difference:.2g} in probability on {kind} "
                f"blocks, and at most {MOST_DIFFERENT:g} is allowed ({written(library_versions())}). Nothing is "
                "written; try other versions."
            )


def _session(graph: bytes) -> Any:
    """An ONNX Runtime session on as many threads as PyTorch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
