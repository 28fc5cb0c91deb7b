"""Initial weights: the paper's positive unit ball, and He's.

Both are drawn from a torch.Generator on the CPU in the order of `module.modules()`, so that one seed is one
set of weights whatever the device. Batch norms keep their scale of 1 and shift of 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from landslip.errors import ModelError


def positive_unit_ball_(module: nn.Module, generator: torch.Generator) -> None:
    """Fill convolutions and linear layers with weights in [0, 1) that sum to 1 over each neuron's inputs.

    Drawn uniformly and scaled; biases 0. Gao et al. 2021, after Caffe's filler of that name. All weights
    being positive, a network without batch norm averages its input over and over: `he_` suits it better.
    """
    for weight, bias in _weights(module):
        values = torch.rand(weight.shape, generator=generator)
        values /= values.flatten(1).sum(1).view(-1, *[1] * (values.ndim - 1))
        _fill(weight, bias, values)


def he_(module: nn.Module, generator: torch.Generator) -> None:
    """Fill convolutions and linear layers with normal weights of variance 2 / inputs; biases 0.

    He et al. 2015: keeps the variance from layer to layer under ReLU. Two maps under a ReLU that a head is left with
    (U-Net, ResU-Net) start as opposites, a and -a, and so do the two weights on them: w max(a, 0) - w max(-a, 0) = w a,
    so that the head is linear at first and alive everywhere. Drawn apart, both maps may be dead on most of the ground,
    or both may only lower the logit, which is soonest mended by switching both off; either way nothing before them
    learns.
    """
    for weight, bias in _weights(module):
        values = torch.empty(weight.shape)
        nn.init.kaiming_normal_(values, mode="fan_in", nonlinearity="relu", generator=generator)
        if len(values) == 2:
            values[1] = -values[0]
        elif values.shape[:2] == (1, 2):
            values[0, 1] = -values[0, 0]
        _fill(weight, bias, values)


def prior_bias_(module: nn.Module, share: float) -> None:
    """Set the bias of the output so that a network that knows nothing yet gives `share`, the rare class's, everywhere.

    Otherwise training first spends its steps on learning that landslides are rare (Lin et al. 2017, RetinaNet, 4.1).
    The output's bias is the last of a single number: that of the last convolution or of the batch norm after it.
    """
    biases = [p for name, p in module.named_parameters() if name.endswith("bias") and p.numel() == 1]
    with torch.no_grad():
        biases[-1].fill_(math.log(share / (1 - share)))


def _weights(module: nn.Module) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The weights and biases of all convolutions and linear layers, in the order of the modules.

    Raises ModelError for other layers with weights of their own, which the seed would leave as chance made them.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            yield part.weight, part.bias
        elif not isinstance(part, nn.BatchNorm2d) and next(part.parameters(recurse=False), None) is not None:
            raise ModelError(
                f"{type(part).__name__} has weights that no seed fills. Build the network of Conv2d, Linear and "
                "BatchNorm2d, or fill that layer in models/initialization.py too."
            )


def _fill(weight: Tensor, bias: Tensor | None, values: Tensor) -> None:
    with torch.no_grad():
        weight.copy_(values)
        if bias is not None:
            bias.zero_()
