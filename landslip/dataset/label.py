"""The values of a label: 1 landslide, 0 not, 255 unknown or outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.errors import LabelError

LANDSLIDE, OTHER, UNKNOWN = 1, 0, 255
LABEL_NAMES = {OTHER: "not landslide", LANDSLIDE: "landslide"}  # what other programs are told the values mean


def known_label(label: NDArray[Any], path: Path | str) -> NDArray[np.uint8]:
    """Stored label values as uint8; LabelError where they hold anything but 1, 0 and 255."""
    strange = ~np.isin(label, (LANDSLIDE, OTHER, UNKNOWN))
    if strange.any():
        raise LabelError(
            f"{path} holds {label[strange][0]}; a label holds {LANDSLIDE} (landslide), {OTHER} (not) and {UNKNOWN} "
            "(unknown). Prepare it again with landslip, or recode it."
        )
    return label.astype(np.uint8)
