"""Rivers from elevation, where no river map is to be had.

Depressions are filled and each pixel drains to one of its eight neighbours (D8) in the order of Wang & Liu
2006, Int. J. Geogr. Inf. Sci. 20(2), 193-213, as pyflwdir implements it.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landslip.errors import GridError

if TYPE_CHECKING:
    from affine import Affine


def catchment_area(z: ArrayLike, transform: "Affine") -> NDArray[np.float32]:
    """Upstream area in km2 that drains through each pixel, itself included: float32 (row, column).

    z: elevation (row, column) in metres, NaN where undefined (NaN in the result too; water leaves there and
    at the array's edge). transform: the grid's, in metres. Area outside the array is not counted: bring the
    whole catchment, or a margin, where the figure matters. Raises GridError if z is not (row, column).
    """
    import pyflwdir  # Takes long, and few sites derive their rivers.

    elevation = np.array(z, np.float32)  # It is a copy, since undefined values are marked in it.
    if elevation.ndim != 2:
        raise GridError(f"elevation has shape {elevation.shape}: give one plane (row, column)")
    elevation[~np.isfinite(elevation)] = np.nan
    undefined = np.isnan(elevation)
    if undefined.all():
        return np.full(elevation.shape, np.nan, np.float32)
    flow = pyflwdir.from_dem(elevation, nodata=np.nan, transform=transform)
    pixel_km2 = abs(transform.determinant) / 1e6
    area = np.asarray(flow.upstream_area(unit="cell") * pixel_km2, np.float32)
    area[undefined] = np.nan
    return area


def rivers_from_elevation(z: ArrayLike, transform: "Affine", min_area_km2: float) -> NDArray[np.bool_]:
    """True where at least min_area_km2 drain through a pixel: bool (row, column), False where undefined.

    z, transform and errors as in `catchment_area`; GridError too if min_area_km2 is not positive. Usual
    thresholds are 1 to 25 km2: the smaller, the further up the rivers begin.
    """
    if not min_area_km2 > 0:
        raise GridError(f"min_area_km2 is {min_area_km2}: give a positive catchment area")
    return catchment_area(z, transform) >= min_area_km2
