"""FC-DenseNet: dense blocks in a U, the paper's own network.

Gao et al. 2021 (JSTARS), after Jegou et al. 2017 (FC-DenseNet) and Huang et al. 2017 (bottleneck and
compression). The paper's layer tables are pictures that did not survive; the defaults are the reading whose
count equals Table IX (2,961,676 at seven channels), `fc_densenet_shallow` is a second such reading.

    first -> dense_down.0 -> transition_down.0 -> ... -> bottom -> transition_up.0 -> dense_up.0 ... -> head
                  |________________ skip, concatenated _________________^

Widths, with k the growth rate and l the layers of a block: a dense block turns w maps into w + k l (it
keeps its input, on both paths), a transition down w into floor(compression w), a transition up into the
width of the skip, which the concatenation doubles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from landslip.errors import RunError
from landslip.models.layers import Pointwise, check_input

BOTTLENECK = 4  # the 1x1 convolution of a dense layer gives 4k maps (Huang et al. 2017)


class DenseLayer(nn.Module):
    """BN-ReLU-1x1 convolution to 4k maps, BN-ReLU-3x3 convolution to k maps, dropout."""

    def __init__(self, width: int, growth_rate: int, dropout: float, bias: bool) -> None:
        super().__init__()
        inner = BOTTLENECK * growth_rate
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = Pointwise(width, inner, bias)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, growth_rate, 3, padding=1, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to (B, growth_rate, H, W)."""
        x = self.conv1(F.relu(self.norm1(x), inplace=True))
        x = self.conv2(F.relu(self.norm2(x), inplace=True))
        maps: Tensor = self.dropout(x)
        return maps


class DenseBlock(nn.Module):
    """Dense layers, each fed with the block's input and all maps before it: w maps -> w + k l maps."""

    def __init__(
        self, width: int, layers: int, growth_rate: int, *, dropout: float, bias: bool, checkpoint: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(width + i * growth_rate, growth_rate, dropout, bias) for i in range(layers)
        )
        self.checkpoint = checkpoint

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to (B, width + layers x growth_rate, H, W)."""
        maps = [x]
        for layer in self.layers:
            # The concatenation is inside what is recomputed, since it is most of the memory.
            if self.checkpoint and self.training and torch.is_grad_enabled():
                maps.append(_recomputed(layer, maps))
            else:
                maps.append(layer(torch.cat(maps, 1)))
        return torch.cat(maps, 1)


def _recomputed(layer: nn.Module, maps: list[Tensor]) -> Tensor:
    """Run a layer on the concatenated maps, and again in the backward pass: nothing between is kept."""

    def run(*inputs: Tensor) -> Tensor:
        out: Tensor = layer(torch.cat(inputs, 1))
        return out

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _frozen_statistics(layer)

    out: Tensor = recompute(run, *maps, use_reentrant=False, context_fn=contexts)
    return out


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch norms as they are until the block ends."""
    # The second pass sees the same batch: counted again, it would move the running statistics twice.
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches


class TransitionDown(nn.Module):
    """BN-ReLU-1x1 convolution, dropout, 2x2 max-pooling: half the rows and columns."""

    def __init__(self, width: int, out_width: int, dropout: float, bias: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.conv = Pointwise(width, out_width, bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to (B, out_width, H / 2, W / 2)."""
        x = self.conv(F.relu(self.norm(x), inplace=True))
        return F.max_pool2d(self.dropout(x), 2)


class TransitionUp(nn.Module):
    """3x3 convolution (BN-ReLU before it where `norm`), nearest x2 upsampling, then the skip concatenated."""

    def __init__(self, width: int, out_width: int, norm: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width) if norm else None
        self.conv = nn.Conv2d(width, out_width, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, width, H, W) and the skip (B, skips, 2 H, 2 W) to (B, out_width + skips, 2 H, 2 W)."""
        if self.norm is not None:
            x = F.relu(self.norm(x), inplace=True)
        # The paper names the convolution before the upsampling; in this order it is a quarter of the work.
        return torch.cat([F.interpolate(self.conv(x), scale_factor=2, mode="nearest"), skip], 1)


class FCDenseNet(nn.Module):
    """FC-DenseNet on (B, in_channels, H, W): logits (B, 1, H, W).

    growth_rate   k, the maps each dense layer adds
    layers        dense layers of each block: down, bottom, up; an odd number of blocks
    first_width   maps of the first 3x3 convolution
    compression   share of the maps a transition down keeps, in (0, 1]
    up_width      maps a transition up gives: as the "skip" it meets has, or as its own "input" has
    dropout       share of values dropped after each dense layer and transition down, in [0, 1)
    bias          whether the convolutions have biases (those of transitions up and of the head always do)
    norm_first    BN-ReLU before the convolution of transitions up and head; False: a BN after the head
    checkpoint    recompute dense layers in the backward pass: 40 % less memory, a quarter to 40 % more time

    H and W must be multiples of `multiple` (2 per transition down), else ModelError. Options that make no
    network raise RunError.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        growth_rate: int = 16,
        layers: Sequence[int] = (4, 4, 6, 6, 10, 6, 6, 4, 4),
        first_width: int = 48,
        compression: float = 0.5,
        up_width: str = "skip",
        dropout: float = 0.2,
        bias: bool = True,
        norm_first: bool = False,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        _require_widths(growth_rate, layers, first_width)
        _require_choices(compression, up_width, dropout)
        depth = len(layers) // 2
        self.in_channels = in_channels
        self.multiple = 2**depth

        def dense(width: int, count: int) -> DenseBlock:
            return DenseBlock(width, count, growth_rate, dropout=dropout, bias=bias, checkpoint=checkpoint)

        self.first = nn.Conv2d(in_channels, first_width, 3, padding=1, bias=bias)
        self.dense_down, self.transition_down = nn.ModuleList(), nn.ModuleList()
        width, skips = first_width, []
        for count in layers[:depth]:
            self.dense_down.append(dense(width, count))
            width += count * growth_rate
            skips.append(width)
            narrow = int(compression * width)
            if narrow < 1:
                raise RunError(
                    f"fc_densenet: compression {compression} leaves none of {width} maps; raise it to "
                    f"{1 / width:.3g} or more"
                )
            self.transition_down.append(TransitionDown(width, narrow, dropout, bias))
            width = narrow
        self.bottom = dense(width, layers[depth])
        width += layers[depth] * growth_rate
        self.transition_up, self.dense_up = nn.ModuleList(), nn.ModuleList()
        for count, skip in zip(layers[depth + 1 :], reversed(skips), strict=True):
            up = skip if up_width == "skip" else width
            self.transition_up.append(TransitionUp(width, up, norm_first))
            self.dense_up.append(dense(up + skip, count))
            width = up + skip + count * growth_rate
        conv = nn.Conv2d(width, 1, 1)
        if norm_first:
            self.head = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True), conv)
        else:
            self.head = nn.Sequential(conv, nn.BatchNorm2d(1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1, H, W) of (B, in_channels, H, W)."""
        check_input(x, self.in_channels, self.multiple)
        x = self.first(x)
        skips = []
        for dense, down in zip(self.dense_down, self.transition_down, strict=True):
            x = dense(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for up, dense in zip(self.transition_up, self.dense_up, strict=True):
            x = dense(up(x, skips.pop()))
        logits: Tensor = self.head(x)
        return logits


def fc_densenet_shallow(
    in_channels: int,
    *,
    growth_rate: int = 12,
    layers: Sequence[int] = (3, 3, 3, 3, 2, 3, 3, 3, 3),
    first_width: int = 64,
    compression: float = 0.5,
    dropout: float = 0.2,
    checkpoint: bool = False,
) -> FCDenseNet:
    """Build the second reading of Table IX: fewer layers, wide transitions up; options as `FCDenseNet`."""
    return FCDenseNet(
        in_channels,
        growth_rate=growth_rate,
        layers=layers,
        first_width=first_width,
        compression=compression,
        up_width="input",
        dropout=dropout,
        bias=False,
        norm_first=True,
        checkpoint=checkpoint,
    )


def _require_widths(growth_rate: int, layers: Sequence[int], first_width: int) -> None:
    """Raise RunError for numbers of maps and layers that make no network."""
    for name, count in (("growth_rate", growth_rate), ("first_width", first_width)):
        if type(count) is not int or count < 1:
            raise RunError(f"fc_densenet: {name} is {count!r}; it must be a whole number, 1 or more")
    if (
        not isinstance(layers, list | tuple)
        or len(layers) % 2 == 0
        or any(type(count) is not int or count < 1 for count in layers)
    ):
        raise RunError(
            f"fc_densenet: layers is {layers!r}; it must list an odd number of blocks (down, bottom, up), "
            "each of 1 layer or more"
        )


def _require_choices(compression: float, up_width: str, dropout: float) -> None:
    """Raise RunError for a compression, width of transitions up or dropout that make no network."""
    if not isinstance(compression, int | float) or not 0 < compression <= 1:
        raise RunError(f"fc_densenet: compression is {compression!r}; it must be above 0 and at most 1")
    if up_width not in ("skip", "input"):
        raise RunError(f"fc_densenet: up_width is {up_width!r}; it must be 'skip' or 'input'")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise RunError(f"fc_densenet: dropout is {dropout!r}; it must be 0 or more and below 1")
