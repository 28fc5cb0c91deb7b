"""U-Net: two convolutions a level, three levels, skips concatenated, no batch norm (Ronneberger et al. 2015).

The layout is recovered from the count of Gao et al. 2021, Table IX (7,700,741 at seven channels).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landslip.models.layers import check_input

WIDTHS = (64, 128, 256)
BOTTOM = 512


class UNet(nn.Module):
    """U-Net on (B, in_channels, H, W): logits (B, 1, H, W); H and W multiples of 8, else ModelError."""

    multiple = 2 ** len(WIDTHS)

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        width = in_channels
        for out_width in WIDTHS:
            self.down.append(_two_convolutions(width, out_width))
            width = out_width
        self.bottom = _two_convolutions(width, BOTTOM)
        width = BOTTOM
        for out_width in reversed(WIDTHS):
            self.up.append(_up_convolution(width, out_width))
            self.join.append(_two_convolutions(2 * out_width, out_width))
            width = out_width
        self.head = nn.Sequential(nn.Conv2d(width, 2, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1, H, W) of (B, in_channels, H, W)."""
        check_input(x, self.in_channels, self.multiple)
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skips.pop(), up(x)], 1))
        logits: Tensor = self.head(x)
        return logits


def _two_convolutions(width: int, out_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, out_width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_width, out_width, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _up_convolution(width: int, out_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        # An even kernel has no middle: one row and column of zeros at the bottom and the right keep the size.
        nn.ZeroPad2d((0, 1, 0, 1)),
        nn.Conv2d(width, out_width, 2),
        nn.ReLU(inplace=True),
    )
