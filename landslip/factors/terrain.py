"""Terrain factors from elevation: slope, aspect, curvature, hillshade.

Every function takes `z`, elevation (row, column) in metres with NaN where undefined, row 0 in the north, and
the pixel's width and height in metres (both positive; they may differ). It returns float32 (row, column),
computed in float64 from the 3 x 3 neighbourhood of each pixel:

    NW  N  NE          x runs east, y runs north: z_x = (E - W) / 2 x_size, z_y = (N - S) / 2 y_size
     W  C   E
    SW  S  SE

`edges` says what happens where that neighbourhood holds a NaN or leaves the array:

- "undefined" (default): the pixel is NaN. Callers bring one pixel more on each side than they need.
- "one-sided": missing neighbours are extrapolated linearly, as `gdaldem -compute_edges` does: N, E, S, W
  through the centre (N = 2 C - S; C where S is missing too), a corner along its column (NE = 2 E - SE), else
  along its row (NE = 2 N - NW), else by the plane through the centre and its two sides (NE = N + E - C).
  Planes stay exact, and second differences across an edge are 0. A pixel that is itself undefined stays NaN.
  gdaldem differs at the four corners of the array, where it misses planes, and next to nodata, where it takes
  C for every missing neighbour.

The work goes in strips of rows, so that the float64 arrays stay small whatever the raster's size.

Sources: Horn 1981, Proc. IEEE 69(1), 14-47; Zevenbergen & Thorne 1987, Earth Surf. Process. Landforms 12,
47-56.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landslip.errors import GridError

Edges = Literal["undefined", "one-sided"]
Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]

STRIP_PIXELS = 1 << 17  # 1 MiB per float64 array of a strip: the nine neighbours stay near the processor


class Neighbours(NamedTuple):
    """The 3 x 3 neighbourhood of every pixel of a strip: nine arrays (row, column), named by the compass."""

    nw: Float64
    n: Float64
    ne: Float64
    w: Float64
    c: Float64
    e: Float64
    sw: Float64
    s: Float64
    se: Float64


def slope(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Slope in degrees, 0 to 90, by Horn (1981).

    z: (row, column) metres; x_size, y_size: pixel size in metres. Returns float32 (row, column).
    Raises GridError on a z that is not two-dimensional, a pixel size that is not positive, or an unknown
    `edges`.
    """

    def compute(k: Neighbours) -> Float64:
        return _degrees_of(*_horn(k, x_size, y_size))

    return _by_strips(z, x_size, y_size, edges, compute)


def slope_zevenbergen_thorne(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Slope in degrees, 0 to 90, by Zevenbergen & Thorne (1987): from the four direct neighbours only.

    Same arguments and errors as `slope`. This is SAGA's default; Horn's is smoother on noisy elevation.
    """

    def compute(k: Neighbours) -> Float64:
        return _degrees_of(*_central(k, x_size, y_size))

    return _by_strips(z, x_size, y_size, edges, compute)


def aspect(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Aspect, where the slope faces (downhill): degrees clockwise from north, [0, 360), by Horn (1981).

    NaN on flat ground, where no direction is defined. For use as channels take `aspect_sin_cos`, which is
    defined there. Same arguments and errors as `slope`.
    """

    def compute(k: Neighbours) -> Float64:
        z_x, z_y = _horn(k, x_size, y_size)
        return _bearing(-z_x, -z_y)

    return _below_360(_by_strips(z, x_size, y_size, edges, compute))


def aspect_sin_cos(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Sine (east) and cosine (north) of aspect, float32 (2, row, column), each in [-1, 1].

    Both are 0 on flat ground, so flat ground is no hole; NaN only where the terrain is undefined. Unlike
    degrees, the two may be averaged and resampled. Same arguments and errors as `slope`.
    """

    def compute(k: Neighbours) -> Float64:
        z_x, z_y = _horn(k, x_size, y_size)
        steepness = np.hypot(z_x, z_y)
        steepness[steepness == 0] = 1.0
        return np.stack([-z_x / steepness, -z_y / steepness])

    return _by_strips(z, x_size, y_size, edges, compute, planes=2)


def aspect_from(sin: ArrayLike, cos: ArrayLike) -> Float32:
    """Aspect in degrees clockwise from north, [0, 360), from its sine and cosine; NaN where both are 0.

    sin, cos: arrays of one shape, NaN where undefined; together of any length (a mean of several aspects is
    shorter than 1). Returns float32 of that shape.
    """
    east, north = np.asarray(sin, np.float64), np.asarray(cos, np.float64)
    return _below_360(np.asarray(_bearing(east, north), np.float32))


def curvature(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Standard curvature, -100 (z_xx + z_yy), in 1/100 m: positive where the ground is convex (crests).

    The second differences are those of Zevenbergen & Thorne (1987), each with its own pixel size; this is the
    "Curvature" of ArcGIS. Same arguments and errors as `slope`.
    """

    def compute(k: Neighbours) -> Float64:
        z_xx, z_yy, _ = _second(k, x_size, y_size)
        return -100.0 * (z_xx + z_yy)

    return _by_strips(z, x_size, y_size, edges, compute)


def plan_curvature(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Plan curvature, that of the contour: 1/m, positive where flow spreads (noses), 0 on flat ground.

    -(z_xx z_y^2 - 2 z_xy z_x z_y + z_yy z_x^2) / (z_x^2 + z_y^2)^(3/2) with the derivatives of Zevenbergen &
    Thorne (1987): the curvature of the contour itself, as SAGA gives it. Their own PLANC is this times
    -steepness (the root of z_x^2 + z_y^2): negative on noses. Grows without bound towards flat ground. Same
    arguments and errors as `slope`.
    """

    def compute(k: Neighbours) -> Float64:
        z_x, z_y = _central(k, x_size, y_size)
        z_xx, z_yy, z_xy = _second(k, x_size, y_size)
        bend = z_xx * z_y**2 - 2 * z_xy * z_x * z_y + z_yy * z_x**2
        return _over(-bend, np.hypot(z_x, z_y) ** 3)

    return _by_strips(z, x_size, y_size, edges, compute)


def profile_curvature(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Profile curvature, that of the line of steepest descent: 1/m, positive where convex, 0 on flat ground.

    -(z_xx z_x^2 + 2 z_xy z_x z_y + z_yy z_y^2) / ((z_x^2 + z_y^2) (1 + z_x^2 + z_y^2)^(3/2)) with the
    derivatives of Zevenbergen & Thorne (1987): the curvature of the line in its vertical plane, as SAGA gives
    it. Their own PROFC lacks the factor (1 + ...)^(3/2). Positive where the flow speeds up. Same arguments
    and errors as `slope`.
    """

    def compute(k: Neighbours) -> Float64:
        z_x, z_y = _central(k, x_size, y_size)
        z_xx, z_yy, z_xy = _second(k, x_size, y_size)
        bend = z_xx * z_x**2 + 2 * z_xy * z_x * z_y + z_yy * z_y**2
        steepness2 = z_x**2 + z_y**2
        return _over(-bend, steepness2 * (1.0 + steepness2) ** 1.5)

    return _by_strips(z, x_size, y_size, edges, compute)


def hillshade(
    z: ArrayLike,
    x_size: float,
    y_size: float,
    *,
    azimuth: float = 315.0,
    altitude: float = 45.0,
    edges: Edges = "undefined",
) -> Float32:
    """Hillshade for pictures, 0 (turned away from the light) to 1 (facing it), by Horn (1981).

    azimuth: where the light comes from, degrees clockwise from north; altitude: degrees above the horizon.
    The cosine of the angle between the light and the ground's normal, clipped at 0. Same errors as `slope`.
    """
    turn, height = np.radians(azimuth), np.radians(altitude)
    east, north, up = np.sin(turn) * np.cos(height), np.cos(turn) * np.cos(height), np.sin(height)

    def compute(k: Neighbours) -> Float64:
        z_x, z_y = _horn(k, x_size, y_size)
        facing: Float64 = (up - east * z_x - north * z_y) / np.sqrt(1.0 + z_x**2 + z_y**2)
        return np.clip(facing, 0.0, 1.0)

    return _by_strips(z, x_size, y_size, edges, compute)


def _horn(k: Neighbours, x_size: float, y_size: float) -> tuple[Float64, Float64]:
    """z_x, z_y (rise per metre east, north) by Horn's 1-2-1 weights."""
    z_x = ((k.ne + 2 * k.e + k.se) - (k.nw + 2 * k.w + k.sw)) / (8 * x_size)
    z_y = ((k.nw + 2 * k.n + k.ne) - (k.sw + 2 * k.s + k.se)) / (8 * y_size)
    return z_x, z_y


def _central(k: Neighbours, x_size: float, y_size: float) -> tuple[Float64, Float64]:
    """z_x, z_y by central differences: G and H of Zevenbergen & Thorne."""
    return (k.e - k.w) / (2 * x_size), (k.n - k.s) / (2 * y_size)


def _second(k: Neighbours, x_size: float, y_size: float) -> tuple[Float64, Float64, Float64]:
    """z_xx, z_yy, z_xy in 1/m: twice D, twice E, and F of Zevenbergen & Thorne."""
    z_xx = (k.w - 2 * k.c + k.e) / x_size**2
    z_yy = (k.n - 2 * k.c + k.s) / y_size**2
    z_xy = (k.ne + k.sw - k.nw - k.se) / (4 * x_size * y_size)
    return z_xx, z_yy, z_xy


def _degrees_of(z_x: Float64, z_y: Float64) -> Float64:
    return np.degrees(np.arctan(np.hypot(z_x, z_y)))


def _bearing(east: Float64, north: Float64) -> Float64:
    """Degrees clockwise from north of a vector, NaN where it has no length."""
    bearing = np.degrees(np.arctan2(east, north)) % 360.0
    return np.where((east == 0) & (north == 0), np.nan, bearing)


def _below_360(degrees: Float32) -> Float32:
    """359.99999999 rounds to 360 in float32; north is 0."""
    return np.where(degrees == 360, np.float32(0), degrees)


def _over(numerator: Float64, denominator: Float64) -> Float64:
    """The quotient, 0 where the denominator is 0 (flat ground)."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


def _by_strips(
    z: ArrayLike,
    x_size: float,
    y_size: float,
    edges: Edges,
    compute: Callable[[Neighbours], Float64],
    planes: int = 0,
) -> Float32:
    """`compute` over strips of rows, NaN where undefined; planes: length of a leading axis, 0 for none."""
    elevation = np.asarray(z)
    if elevation.ndim != 2:
        raise GridError(f"elevation has shape {elevation.shape}: give one plane (row, column)")
    if not (np.isfinite([x_size, y_size]).all() and x_size > 0 and y_size > 0):
        raise GridError(f"pixel size is {x_size} x {y_size}: give positive metres")
    if edges not in ("undefined", "one-sided"):
        raise GridError(f"edges is {edges!r}: give 'undefined' or 'one-sided'")
    rows, columns = elevation.shape
    out = np.empty((planes, rows, columns) if planes else (rows, columns), np.float32)
    step = max(1, STRIP_PIXELS // max(1, columns))
    for top in range(0, rows, step):
        bottom = min(top + step, rows)
        neighbours, defined = _neighbours(elevation, top, bottom, edges)
        values = compute(neighbours)
        values[..., ~defined] = np.nan
        out[..., top:bottom, :] = values
    return out


def _neighbours(
    elevation: NDArray[np.generic], top: int, bottom: int, edges: Edges
) -> tuple[Neighbours, NDArray[np.bool_]]:
    """The nine neighbours of rows top to bottom, and where a value is defined."""
    rows, columns = elevation.shape
    padded = np.full((bottom - top + 2, columns + 2), np.nan)
    first, last = max(top - 1, 0), min(bottom + 1, rows)
    padded[first - top + 1 : last - top + 1, 1:-1] = elevation[first:last]
    missing = ~np.isfinite(padded)
    padded[missing] = np.nan  # an infinity is no elevation either
    high, wide = bottom - top, columns
    shifts = [(slice(i, i + high), slice(j, j + wide)) for i in range(3) for j in range(3)]
    k = [padded[shift] for shift in shifts]
    holes = [missing[shift] for shift in shifts]
    if edges == "undefined":
        # Explicit, since a NaN in a corner never enters z_xx, nor the centre Horn's slope.
        return Neighbours(*k), ~np.logical_or.reduce(holes)
    if missing.any():
        k = _extrapolated(k, holes)
    return Neighbours(*k), ~holes[4]


def _extrapolated(k: list[Float64], holes: list[NDArray[np.bool_]]) -> list[Float64]:
    """Missing neighbours from the others, one-sided; k and holes run NW, N, NE, W, C, E, SW, S, SE."""
    centre = k[4]
    filled = list(k)
    for i in (1, 3, 5, 7):
        filled[i] = np.where(holes[i], np.where(holes[8 - i], centre, 2 * centre - k[8 - i]), k[i])
    # corner, its neighbour in the same column and that column's far end, the same along the row
    for i, beside, far, across, end in ((0, 3, 6, 1, 2), (2, 5, 8, 1, 0), (6, 3, 0, 7, 8), (8, 5, 2, 7, 6)):
        by_plane = filled[beside] + filled[across] - centre
        by_row = np.where(holes[across] | holes[end], by_plane, 2 * k[across] - k[end])
        by_column = np.where(holes[beside] | holes[far], by_row, 2 * k[beside] - k[far])
        filled[i] = np.where(holes[i], by_column, k[i])
    return filled
