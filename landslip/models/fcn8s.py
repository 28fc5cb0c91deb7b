"""FCN-8s: a plain encoder scored at three depths, the scores added on the way up (Long et al. 2015).

The layout is recovered from the count of Gao et al. 2021, Table IX (6,300,549 at seven channels).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from landslip.models.layers import check_input

WIDTHS = (64, 128, 256, 512, 1024)


class FCN8s(nn.Module):
    """FCN-8s on (B, in_channels, H, W): logits (B, 1, H, W); H and W multiples of 32, else ModelError."""

    multiple = 2 ** len(WIDTHS)

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder = nn.ModuleList()
        width = in_channels
        for index, out_width in enumerate(WIDTHS):
            self.encoder.append(_stage(width, out_width, kernel=7 if index == 0 else 3))
            width = out_width
        self.score32 = nn.Conv2d(WIDTHS[4], 1, 1)
        self.score16 = nn.Conv2d(WIDTHS[3], 1, 1)
        self.score8 = nn.Conv2d(WIDTHS[2], 1, 1)
        self.head = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1, H, W) of (B, in_channels, H, W)."""
        check_input(x, self.in_channels, self.multiple)
        maps = []
        for stage in self.encoder:
            x = stage(x)
            maps.append(x)
        score = _up(self.score32(maps[4]), 2) + self.score16(maps[3])
        score = _up(score, 2) + self.score8(maps[2])
        logits: Tensor = self.head(_up(score, 8))
        return logits


def _stage(width: int, out_width: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, out_width, kernel, padding=kernel // 2),
        nn.BatchNorm2d(out_width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


def _up(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
