"""Spectral indices: normalized differences of two bands, and their change.

Bands are arrays of one shape in one unit (reflectance, or digital numbers without an offset), NaN where
undefined.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landslip.errors import GridError

Float32 = NDArray[np.float32]


def normalized_difference(a: ArrayLike, b: ArrayLike) -> Float32:
    """(a - b) / (a + b), float32 of the bands' shape; always in [-1, 1].

    A band below 0 counts as 0: reflectance is not negative, and where a file says so (dark water, shadow) it is an
    artefact of the atmospheric correction, which the quotient would blow up (USGS, "Why are there negative values
    observed over water in some Landsat surface reflectance products?"; its own index product ends at -1 and 1 too,
    Landsat Surface Reflectance-Derived Spectral Indices, version 3.5). Values above 1 stay as they are: the quotient
    is blind to a gain that both bands share, as digital numbers and sunlit snow have. NaN where either band is NaN or
    neither is above 0 (no light came back). Raises GridError if the shapes differ.
    """
    # In float64, since unsigned digital numbers would wrap around below zero.
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    _same_shape(first, second)
    first, second = np.maximum(first, 0), np.maximum(second, 0)  # NaN stays NaN
    total = first + second
    out = np.full(total.shape, np.nan)
    np.divide(first - second, total, out=out, where=total > 0)
    return out.astype(np.float32)


def ndvi(red: ArrayLike, nir: ArrayLike) -> Float32:
    """Normalized difference vegetation index, (nir - red) / (nir + red): high where plants are green.

    Rouse et al. 1974, Monitoring vegetation systems in the Great Plains with ERTS. Landsat 8: bands 4 and 5.
    """
    return normalized_difference(nir, red)


def mndwi(green: ArrayLike, swir1: ArrayLike) -> Float32:
    """Modified normalized difference water index, (green - swir1) / (green + swir1): positive on open water.

    Xu 2006, Int. J. Remote Sensing 27(14), 3025-3033. Landsat 8: bands 3 and 6.
    """
    return normalized_difference(green, swir1)


def dndvi(before: ArrayLike, after: ArrayLike) -> Float32:
    """Change of NDVI, after - before: negative where vegetation was lost, as on fresh landslides.

    before, after: NDVI of one shape; float32, in [-2, 2], NaN where either is. Raises GridError if the shapes
    differ.
    """
    earlier, later = np.asarray(before, np.float64), np.asarray(after, np.float64)
    _same_shape(earlier, later)
    return (later - earlier).astype(np.float32)


def _same_shape(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    if a.shape != b.shape:
        raise GridError(f"bands have shapes {a.shape} and {b.shape}: bring both to one grid first")
