"""ResU-Net: residual units in a U, four poolings, skips concatenated (He et al. 2016; Zhang et al. 2018).

The layout is recovered from the count of Gao et al. 2021, Table IX (9,874,437 at seven channels).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landslip.models.layers import check_input

WIDTHS = (32, 64, 128, 256, 512)  # the last is the bottom


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut: (B, width, H, W) -> (B, out_width, H, W)."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out_width, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(out_width)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(out_width)
        self.shortcut: nn.Module = nn.Identity()
        if width != out_width:
            self.shortcut = nn.Sequential(nn.Conv2d(width, out_width, 1), nn.BatchNorm2d(out_width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to (B, out_width, H, W)."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        return F.relu(y + self.shortcut(x), inplace=True)


class ResUNet(nn.Module):
    """ResU-Net on (B, in_channels, H, W): logits (B, 1, H, W); H and W multiples of 16, else ModelError."""

    multiple = 2 ** (len(WIDTHS) - 1)

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width = in_channels
        for out_width in WIDTHS[:-1]:
            self.down.append(ResidualUnit(width, out_width))
            width = out_width
        self.bottom = ResidualUnit(width, WIDTHS[-1])
        width = WIDTHS[-1]
        for skip in reversed(WIDTHS[:-1]):
            self.up.append(nn.Sequential(ResidualUnit(width + skip, skip), ResidualUnit(skip, skip)))
            width = skip
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
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skips.pop()], 1))
        logits: Tensor = self.head(x)
        return logits
