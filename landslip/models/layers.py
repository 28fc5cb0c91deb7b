"""What the networks share (the check of their input, a 1x1 convolution) and what can be counted about them.

Counts follow the paper's Table IX: it was made with Keras, which counts four numbers per batch-normalised
channel, two of them moving statistics. Torch calls those two buffers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landslip.errors import ModelError


def check_input(x: Tensor, in_channels: int, multiple: int) -> None:
    """Raise ModelError for an `x` that is not (B, in_channels, H, W) with H and W multiples of `multiple`."""
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise ModelError(
            f"the network takes (B, {in_channels}, H, W), not {tuple(x.shape)}; "
            "give it the channels it was built for, as a batch"
        )
    height, width = x.shape[-2:]
    if height % multiple or width % multiple or not height or not width:
        raise ModelError(
            f"the network cannot take {height} x {width} pixels: rows and columns must be a multiple of "
            f"{multiple}; give it blocks of such a size"
        )


class Pointwise(nn.Conv2d):
    """A 1x1 convolution; in training one matrix product over the channels, forward and back.

    torch's fp32 path for a channels-last 1x1 convolution zeroes and copies gradients that a product does not need.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        if not self.training:
            return super().forward(x)
        maps = F.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias)
        return maps.permute(0, 3, 1, 2)


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One part of a network: where it is, what it gives, what it costs."""

    name: str  # path inside the network, e.g. dense_down.0
    kind: str  # class, e.g. DenseBlock
    channels: int  # of its output
    rows: int
    columns: int
    parameters: int  # learnt
    statistics: int  # running means and variances
    macs: int  # multiply-adds of its convolutions, for one window


def layer_table(model: nn.Module, in_channels: int, size: int = 64) -> list[LayerRow]:
    """List the parts of a network in the order the data meets them (Tables III and IV).

    A part is a child of the network, or a member of a ModuleList or ModuleDict, however deep. A window of `size` x
    `size` pixels passes once on torch's meta device, which computes shapes only; `model` is left as it is. Raises
    ModelError where parameters lie in no part that the window passes, since its sums would be too small.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    parts = dict(_parts(shadow))
    shapes: dict[str, tuple[int, ...]] = {}  # in the order of the forward pass
    work: dict[nn.Module, int] = {}

    def note_shape(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            first = output if isinstance(output, Tensor) else output[0]
            shapes[name] = tuple(first.shape)

        return hook

    def note_work(conv: nn.Conv2d, _inputs: object, output: Tensor) -> None:
        per_output = conv.in_channels // conv.groups * math.prod(conv.kernel_size)
        work[conv] = work.get(conv, 0) + output.numel() * per_output

    for name, part in parts.items():
        part.register_forward_hook(note_shape(name))
    for module in shadow.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note_work)
    with torch.no_grad():
        shadow(torch.empty(1, in_channels, size, size, device="meta"))

    table = []
    for name, shape in shapes.items():
        parameters, statistics, _ = parameter_count(parts[name])
        table.append(
            LayerRow(
                name=name,
                kind=type(parts[name]).__name__,
                channels=shape[1],
                rows=shape[2],
                columns=shape[3],
                parameters=parameters,
                statistics=statistics,
                macs=sum(work.get(m, 0) for m in parts[name].modules()),
            )
        )
    listed, held = sum(row.parameters for row in table), parameter_count(model)[0]
    if listed != held:
        raise ModelError(
            f"{type(model).__name__} has {held:,} parameters, and {listed:,} of them lie in parts that its forward "
            "pass calls. Make every part a module that forward calls, itself or from a ModuleList or ModuleDict."
        )
    return table


def parameter_count(model: nn.Module) -> tuple[int, int, int]:
    """Count (parameters, running means and variances, both together); the last is what Table IX counts."""
    parameters = sum(p.numel() for p in model.parameters())
    statistics = sum(b.numel() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var")))
    return parameters, statistics, parameters + statistics


def macs(model: nn.Module, in_channels: int, size: int = 64) -> int:
    """Count the multiply-adds of all convolutions for one window of `size` x `size` pixels."""
    return sum(row.macs for row in layer_table(model, in_channels, size))


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts of a network by their paths in it; lists and dictionaries of modules, never called, are looked into."""
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            for path, part in _parts(child):
                yield f"{name}.{path}", part
        else:
            yield name, child
