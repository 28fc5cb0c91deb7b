"""A network with z-score and probability as one ONNX graph.

torch's TorchScript-based exporter is used, not the one on torch.export: it needs no further package (onnxscript) and
leaves H and W free without a proof that they are multiples of the poolings.
"""

from __future__ import annotations

import io
import warnings
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor, nn

from landslip.errors import ModelError
from landslip.runtime.provenance import software
from landslip.training.checkpoint import FLOAT32_MAX, Model

OPSET = 17  # onnxruntime 1.12 (2022) and later; all that the five networks need
RANDOM_SIDE = 64  # of the random blocks, at least
EXTRA = ("onnx", "onnxruntime")


class RawToProbability(nn.Module):
    """The whole of a model as one graph: raw (N, C, H, W) float32 to probabilities (N, 1, H, W) float32.

    `undefined` is what a pixel gets that lacks a channel, NaN or a number.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor
    bias: Tensor
    undefined: Tensor
    zero: Tensor
    needed: Tensor

    def __init__(self, model: Model, nodata: float | None, undefined: float) -> None:
        super().__init__()
        shape = (1, len(model.channels), 1, 1)
        self.network = model.network
        self.nodata = nodata
        self.register_buffer("mean", torch.tensor(model.zscore.mean, dtype=torch.float32).reshape(shape))
        self.register_buffer("std", torch.tensor(model.zscore.std, dtype=torch.float32).reshape(shape))
        self.register_buffer("temperature", torch.tensor(model.scaling.temperature, dtype=torch.float32))
        self.register_buffer("bias", torch.tensor(model.scaling.bias, dtype=torch.float32))
        self.register_buffer("undefined", torch.tensor(undefined, dtype=torch.float32))
        self.register_buffer("zero", torch.tensor(0.0))
        needed = [i for i, channel in enumerate(model.channels) if channel.decides_valid]
        self.register_buffer("needed", torch.tensor(needed, dtype=torch.int64))

    def forward(self, raw: Tensor) -> Tensor:
        defined = raw.abs() <= FLOAT32_MAX  # neither NaN nor infinite
        if self.nodata is not None:
            # Deepness's x / 255 / (1 / 255) moves the last digits of a value, so that equality would miss it.
            defined = defined & ((raw - self.nodata).abs() > 1e-6 * abs(self.nodata))
        x = (raw - self.mean) / self.std
        x = torch.where(defined & (x.abs() <= FLOAT32_MAX), x, self.zero)
        p = torch.sigmoid(self.network(x) / self.temperature + self.bias)
        if len(self.needed):
            valid = torch.amin(defined.index_select(1, self.needed).float(), 1, keepdim=True) > 0.5
            p = torch.where(valid, p, self.undefined)
        return p


def written_graph(model: Model, nodata: float | None, *, undefined: float, window: int | None) -> bytes:
    """The model as ONNX; H and W are free where `window` is None. ModelError where torch cannot export it."""
    import onnx

    module = RawToProbability(model, nodata, undefined).eval()
    free = {0: "batch"} if window else {0: "batch", 2: "height", 3: "width"}
    side = window or max(RANDOM_SIDE, model.multiple)
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
            f"{model.folder}: {model.network_name} cannot be written as ONNX by {written(library_versions())} "
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
