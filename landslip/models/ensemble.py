"""Several trained networks as one: the mean of their logits (Lakshminarayanan et al. 2017, "deep ensembles")."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from landslip.models import build_model
from landslip.models.layers import check_input
from landslip.models.scaling import AS_LEARNT, Scaling, require_sound


class Member(nn.Module):
    """A network of an ensemble, which sees channels as it was trained to and answers as it was calibrated.

    `scale` and `shift` (C,) turn the ensemble's z-score of each channel into the member's. What is undefined is 0 in
    both.
    """

    def __init__(self, in_channels: int, table: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = build_model(table["name"], in_channels, **table.get("options", {}))
        self.scaling = Scaling(float(table.get("temperature", 1)), float(table.get("bias", 0)))
        scale = torch.tensor(table.get("scale", [1.0] * in_channels), dtype=torch.float32, device="cpu")
        shift = torch.tensor(table.get("shift", [0.0] * in_channels), dtype=torch.float32, device="cpu")
        if scale.shape != (in_channels,) or shift.shape != (in_channels,):
            raise ValueError(f"a member has {len(scale)} scales and {len(shift)} shifts for {in_channels} channels")
        if not (bool(((scale > 0) & scale.isfinite()).all()) and bool(shift.isfinite().all())):
            raise ValueError("a member's scales are not all above 0, or its shifts not all numbers")
        require_sound(self.scaling, "a member's")
        # Not among the weights: model.json states them, in full precision.
        self.register_buffer("scale", scale[:, None, None], persistent=False)
        self.register_buffer("shift", shift[:, None, None], persistent=False)
        self.as_it_is = bool((scale == 1).all()) and bool((shift == 0).all())

    def forward(self, x: Tensor) -> Tensor:
        """Scaled logits (B, 1, H, W) of (B, C, H, W) in the ensemble's z-score."""
        if not self.as_it_is:
            scale, shift = cast(Tensor, self.scale), cast(Tensor, self.shift)
            x = torch.where(x == 0, x, x * scale.to(x.dtype) + shift.to(x.dtype))
        logits: Tensor = self.network(x)
        temperature, bias = self.scaling
        return logits if self.scaling == AS_LEARNT else logits / temperature + bias


class Ensemble(nn.Module):
    """The mean logit of its members on (B, in_channels, H, W): (B, 1, H, W).

    H and W are multiples of what every member's are. `members` are tables: `name` and `options` of a network, and
    `scale`, `shift`, `temperature` and `bias` of a `Member` where they are not 1, 0, 1 and 0.
    """

    def __init__(self, in_channels: int, members: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__()
        if len(members) < 2:
            raise ValueError(f"an ensemble has two members or more, not {len(members)}")
        self.in_channels = in_channels
        self.members = nn.ModuleList(Member(in_channels, table) for table in members)
        self.multiple = math.lcm(*(cast(int, cast(Member, member).network.multiple) for member in self.members))

    def each(self, x: Tensor) -> Tensor:
        """The members' logits (members, B, 1, H, W) of (B, in_channels, H, W)."""
        check_input(x, self.in_channels, self.multiple)
        return torch.stack([member(x) for member in self.members])

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1, H, W) of (B, in_channels, H, W)."""
        return self.each(x).mean(0)
