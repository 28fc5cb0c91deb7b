"""A network with z-score and probability as one ONNX graph.

torch's TorchScript-based exporter is used, not the one on torch.export: it needs no further package (onnxscript) and
leaves H and W free without a proof that they are multiples of the poolings.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from landslip.errors import ModelError
from landslip.models.segnet import SegNet
from landslip.runtime.provenance import software
from landslip.training.checkpoint import BEYOND, Model

OPSET = 17  # onnxruntime 1.12 (2022) and later; all that the five networks need
ROUNDING = 1e-5  # of the largest value of a layer: what two orders of adding in float32 may differ by
SIDE = 64  # of the random blocks, at least
EXTRA = ("onnx", "onnxruntime")


def whole_network(model: Model) -> str:
    """The name of a model's network, as its run file has it."""
    return str(model.facts["run"]["network"]["name"])


class RawToProbability(nn.Module):
    """The whole of a model as one graph: raw (N, C, H, W) float32 to probabilities (N, 1, H, W) float32.

    `undefined` is what a pixel gets that lacks a channel, NaN or a number. `tell` adds SegNet's places to the outputs.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor
    undefined: Tensor
    zero: Tensor
    needed: Tensor

    def __init__(self, model: Model, nodata: float | None, undefined: float, tell: bool = False) -> None:
        super().__init__()
        shape = (1, len(model.channels), 1, 1)
        network = model.network
        self.network = _PlainSegNet(network, tell) if isinstance(network, SegNet) else network
        self.nodata = nodata
        self.register_buffer("mean", torch.tensor(model.zscore.mean, dtype=torch.float32).reshape(shape))
        self.register_buffer("std", torch.tensor(model.zscore.std, dtype=torch.float32).reshape(shape))
        self.register_buffer("temperature", torch.tensor(model.temperature, dtype=torch.float32))
        self.register_buffer("undefined", torch.tensor(undefined, dtype=torch.float32))
        self.register_buffer("zero", torch.tensor(0.0))
        needed = [i for i, channel in enumerate(model.channels) if channel.decides_valid]
        self.register_buffer("needed", torch.tensor(needed, dtype=torch.int64))

    def forward(self, raw: Tensor) -> Any:
        defined = raw.abs() <= BEYOND  # neither NaN nor infinite
        if self.nodata is not None:
            # Deepness's x / 255 / (1 / 255) moves the last digits of a value, so that equality would miss it.
            defined = defined & ((raw - self.nodata).abs() > 1e-6 * abs(self.nodata))
        x = (raw - self.mean) / self.std
        x = torch.where(defined & (x.abs() <= BEYOND), x, self.zero)
        outputs = self.network(x)
        logits, *places = outputs if isinstance(outputs, tuple) else (outputs,)
        p = torch.sigmoid(logits / self.temperature)
        if len(self.needed):
            valid = torch.amin(defined.index_select(1, self.needed).float(), 1, keepdim=True) > 0.5
            p = torch.where(valid, p, self.undefined)
        return (p, *places) if places else p


class _PlainSegNet(nn.Module):
    """SegNet with its unpooling in operators that every ONNX runtime has: torch exports no max_unpool2d.

    The place of a maximum is the first of the four, row by row, that equals it, as in torch's own pooling. With
    `tell` it also returns the places, five float tensors of 0 to 3.
    """

    def __init__(self, network: SegNet, tell: bool = False) -> None:
        super().__init__()
        self.network = network
        self.tell = tell

    def forward(self, x: Tensor) -> Any:
        places = []
        for stage in self.network.encoder:
            full = stage(x)
            x = F.max_pool2d(full, 2)
            places.append(_places(_corners(full), x))
        numbers = [sum(i * here.float() for i, here in enumerate(four)) for four in places]
        logits = _decode(self.network, x, places)
        return (logits, *numbers) if self.tell else logits


def _corners(full: Tensor) -> list[Tensor]:
    """The four pixels of each 2 x 2 window, row by row: four tensors of the pooled shape."""
    return [full[:, :, row::2, column::2] for row, column in ((0, 0), (0, 1), (1, 0), (1, 1))]


def _places(corners: list[Tensor], top: Tensor) -> list[Tensor]:
    """Which corner of each window is its maximum: four bool tensors, one of them True."""
    places: list[Tensor] = []
    earlier = torch.zeros_like(top) > 1
    for corner in corners:
        here = (corner == top) & ~earlier
        earlier = earlier | here
        places.append(here)
    return places


def _decode(network: SegNet, x: Tensor, places: list[list[Tensor]]) -> Tensor:
    for stage, four in zip(network.decoder, reversed(places), strict=True):
        x = stage(_unpool(x, four))
    logits: Tensor = network.head(x)
    return logits


def _unpool(x: Tensor, places: list[Tensor]) -> Tensor:
    """(N, C, H, W) values at their places in (N, C, 2 H, 2 W), zeros elsewhere."""
    n, c, h, w = x.shape
    four = [torch.where(here, x, torch.zeros_like(x)) for here in places]
    rows = [torch.stack(pair, -1).reshape(n, c, h, 2 * w) for pair in (four[:2], four[2:])]
    return torch.stack(rows, 3).reshape(n, c, 2 * h, 2 * w)


@torch.inference_mode()
def with_places(
    network: SegNet, x: NDArray[np.float32], numbers: Sequence[NDArray[np.float32]], temperature: float
) -> NDArray[np.float32] | None:
    """PyTorch's probabilities (N, H, W) with the maxima at given places; None where one of these is no maximum."""
    y, places = torch.from_numpy(x), []
    for stage, where in zip(network.encoder, numbers, strict=True):
        full = stage(y)
        corners, y = _corners(full), F.max_pool2d(full, 2)
        four = [torch.from_numpy(where == i) for i in range(4)]
        maxima = sum(torch.where(here, corner, 0) for here, corner in zip(four, corners, strict=True))
        if float((y - maxima).max()) > ROUNDING * float(full.abs().max()):
            return None
        places.append(four)
    return torch.sigmoid(_decode(network, y, places) / temperature)[:, 0].numpy()


def written_graph(
    model: Model, nodata: float | None, undefined: float, window: int | None, tell: bool = False
) -> bytes:
    """The model as ONNX; H and W are free where `window` is None. ModelError where torch cannot export it."""
    import onnx

    module = RawToProbability(model, nodata, undefined, tell).eval()
    free = {0: "batch"} if window else {0: "batch", 2: "height", 3: "width"}
    side = window or max(SIDE, model.multiple)
    target = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # sizes seen as constants, and that another exporter is the default
            torch.onnx.export(
                module,
                (torch.zeros(1, len(model.channels), side, side),),
                target,  # type: ignore[arg-type]
                input_names=["channels"],
                output_names=["probability"],
                dynamic_axes={"channels": free, "probability": free},
                opset_version=OPSET,
                dynamo=False,
            )
        onnx.checker.check_model(onnx.load_from_string(target.getvalue()))
    except Exception as error:
        # Whatever the exporter meets, the remedy is another version of it.
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{model.folder}: {whole_network(model)} cannot be written as ONNX by {written(library_versions())} "
            f"({type(error).__name__}: {reason}). Try other versions of them."
        ) from error
    return target.getvalue()


def library_versions() -> dict[str, str]:
    """The versions of landslip, of what it stands on, and of the libraries of the export."""
    versions = software()
    for name in EXTRA:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    return versions


def written(versions: dict[str, str]) -> str:
    """The versions of the libraries of the export, in a line."""
    return ", ".join(f"{name} {versions[name]}" for name in ("torch", *EXTRA))
