"""Platt's two numbers (1999), which make calibrated probabilities of logits."""

from __future__ import annotations

import math
from typing import NamedTuple


class Scaling(NamedTuple):
    """A probability is the sigmoid of logit / `temperature` + `bias`.

    A temperature alone (Guo et al. 2017) makes probabilities more or less sure about one half. The bias moves what is
    one half.
    """

    temperature: float = 1.0
    bias: float = 0.0


AS_LEARNT = Scaling()  # that of a model which was never calibrated


def require_sound(scaling: Scaling, whose: str) -> None:
    """Raise ValueError where a scaling holds numbers that no calibration writes; `whose` it is, in words."""
    if not 0 < scaling.temperature < math.inf:
        raise ValueError(f"{whose} temperature {scaling.temperature} is not a number above 0")
    if not math.isfinite(scaling.bias):
        raise ValueError(f"{whose} bias {scaling.bias} is not a number")
