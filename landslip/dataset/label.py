"""The label of a site, read: 1 landslide, 0 not, 255 unknown or outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.errors import LabelError
from landslip.geo.mapped_array import filled
from landslip.geo.raster import cut_stored, opening

LANDSLIDE, OTHER, UNKNOWN = 1, 0, 255


def read_label(path: Path) -> NDArray[np.uint8]:
    """A label raster as it is stored, (H, W) uint8; LabelError where it holds anything but 1, 0 and 255."""
    with opening(path) as dataset:
        return filled(dataset.shape, np.uint8, lambda window: known_label(cut_stored(dataset, window), path))


def known_label(label: NDArray[Any], path: Path | str) -> NDArray[np.uint8]:
    """Stored label values as uint8; LabelError where they hold anything but 1, 0 and 255."""
    strange = ~np.isin(label, (LANDSLIDE, OTHER, UNKNOWN))
    if strange.any():
        raise LabelError(
            f"{path} holds {label[strange][0]}; a label holds {LANDSLIDE} (landslide), {OTHER} (not) and {UNKNOWN} "
            "(unknown). Prepare it again with landslip, or recode it."
        )
    return label.astype(np.uint8)
