"""SegNet: VGG16's convolutions down and mirrored up, places of the maxima instead of skips.

Badrinarayanan et al. 2017. The layout is recovered from the count of Gao et al. 2021, Table IX (29,461,253
at seven channels).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from landslip.models.layers import check_input

DOWN: tuple[tuple[int, ...], ...] = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
UP: tuple[tuple[int, ...], ...] = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64,))


class SegNet(nn.Module):
    """SegNet on (B, in_channels, H, W): logits (B, 1, H, W); H and W multiples of 32, else ModelError."""

    multiple = 2 ** len(DOWN)

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        width = in_channels
        for widths in DOWN:
            self.encoder.append(_stage(width, widths))
            width = widths[-1]
        for widths in UP:
            self.decoder.append(_stage(width, widths))
            width = widths[-1]
        self.head = nn.Sequential(nn.Conv2d(width, 1, 1), nn.BatchNorm2d(1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1, H, W) of (B, in_channels, H, W)."""
        check_input(x, self.in_channels, self.multiple)
        places = []
        for stage in self.encoder:
            x, where = F.max_pool2d(stage(x), 2, return_indices=True)
            places.append(where)
        for stage in self.decoder:
            x = stage(F.max_unpool2d(x, places.pop(), (2, 2)))
        logits: Tensor = self.head(x)
        return logits


def _stage(width: int, widths: tuple[int, ...]) -> nn.Sequential:
    stage = nn.Sequential()
    for out_width in widths:
        stage.extend([nn.Conv2d(width, out_width, 3, padding=1), nn.BatchNorm2d(out_width), nn.ReLU(inplace=True)])
        width = out_width
    return stage
