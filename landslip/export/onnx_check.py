"""An ONNX graph held against PyTorch, on random blocks and on real ones.

SegNet puts a value where a maximum was, and where two neighbours are equal but for rounding, that place depends on the
order in which a processor adds: PyTorch differs from itself then, by any amount, at single pixels. SegNet is therefore
compared with PyTorch given the graph's own places, each of which must be a maximum but for rounding; the share of
pixels that another place moves is reported.
"""

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
from landslip.export.onnx_graph import (
    library_versions,
    with_places,
    written,
)
from landslip.geo.grid import tiles
from landslip.geo.raster import open_raster, read_window
from landslip.models.forward import probabilities
from landslip.models.segnet import SegNet
from landslip.training.checkpoint import Model, match_channels

MOST_DIFFERENT = 1e-4  # in probability, from PyTorch
REAL, REAL_SIDE = 4, 256  # blocks of a real stack, and their side


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
    """Up to REAL blocks (1, C, H, W) of a stack, those with most defined pixels; ModelError where none is defined."""
    stack = read_stack_info(path)
    bands = [position + 1 for position in match_channels(model, stack)]
    windows = list(tiles(stack.grid.shape, REAL_SIDE))
    windows = windows[:: max(1, len(windows) // (4 * REAL))]
    fullest: list[tuple[float, NDArray[np.float32]]] = []
    with open_raster(path) as dataset:
        for window in windows:
            block = read_window(dataset, window.round_up(model.multiple), bands)
            share = float(np.isfinite(block).all(0).mean())
            if share > 0:
                fullest = sorted([*fullest, (share, block[None])], key=lambda pair: -pair[0])[:REAL]
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


def judge(
    model: Model,
    graph: bytes,
    telling: bytes | None,
    blocks: Sequence[NDArray[np.float32]],
    nodata: float | None,
    undefined: float,
    altered: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> tuple[float, float]:
    """The largest difference in probability between a graph and PyTorch, and the share of pixels moved.

    PyTorch goes the way that `landslip map` goes, in fp32; `altered` changes what the graphs alone are given. `telling`
    is SegNet's graph that tells its places: then PyTorch is given these, and the graph must say what that one says.
    The difference is inf where the two disagree on what is defined.
    """
    session, session_with_places = _session(graph), None if telling is None else _session(telling)
    needed = [channel.decides_valid for channel in model.channels]
    worst = moved = 0.0
    for raw in blocks:
        defined = np.isfinite(raw) if nodata is None else np.isfinite(raw) & (raw != np.float32(nodata))
        x = np.stack([model.zscore.apply(block) for block in np.where(defined, raw, np.float32(np.nan))])
        valid = np.asarray(defined[:, needed].all(1))
        expected = probabilities(model.network, x, "fp32", model.temperature)
        with np.errstate(invalid="ignore", over="ignore"):
            channels = raw if altered is None else altered(raw)
        probability = session.run(None, {"channels": channels})[0][:, 0]
        if not np.array_equal(probability[~valid], np.full(np.count_nonzero(~valid), undefined), equal_nan=True):
            return math.inf, moved
        if session_with_places is not None and isinstance(model.network, SegNet):
            moved = max(moved, float((np.abs(probability - expected)[valid] > MOST_DIFFERENT).mean()))
            again, *places = session_with_places.run(None, {"channels": channels})
            at_places = with_places(model.network, x, places, model.temperature)
            if at_places is None:
                return math.inf, moved
            worst = max(worst, _farthest(probability, again[:, 0], valid))
            expected = at_places
        worst = max(worst, _farthest(probability, expected, valid))
    return worst, moved


def require_close(model: Model, where: str, difference: float) -> None:
    """Raise ModelError where a graph differs from PyTorch by more than MOST_DIFFERENT in probability."""
    if not difference <= MOST_DIFFERENT:
        raise ModelError(
            f"{model.folder}: written as ONNX it differs from PyTorch by {difference:.2g} in probability {where}, and "
            f"at most {MOST_DIFFERENT:g} is allowed ({written(library_versions())}). Nothing is written; try other "
            "versions."
        )


def _session(graph: bytes) -> Any:
    """An ONNX Runtime session on as many threads as PyTorch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _farthest(a: NDArray[np.float32], b: NDArray[np.float32], valid: NDArray[np.bool_]) -> float:
    """The largest difference of valid pixels; inf where one of them is NaN."""
    far = float(np.max(np.abs(a - b)[valid], initial=0.0))
    return far if math.isfinite(far) else math.inf
