"""Terrain factors from elevation: slope, aspect, curvature, hillshade.

Every function takes `z`, elevation (row, column) in metres with NaN where undefined, row 0 in the north, and
the pixel's width and height in metres (both positive; they may differ). It returns float32 (row, column),
computed in float64 from the 3 x 3 neighbourhood of each pixel, in one compiled pass for as many as are wanted at once
(`surfaces`):

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

Angles come from a polynomial for the arctangent (Abramowitz & Stegun 1964, 4.4.49), wrong by 2e-8 at most: a few
millionths of a degree.

Sources: Horn 1981, Proc. IEEE 69(1), 14-47; Zevenbergen & Thorne 1987, Earth Surf. Process. Landforms 12,
47-56.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landslip.errors import GridError
from landslip.runtime.jit import jit

Edges = Literal["undefined", "one-sided"]
Float32 = NDArray[np.float32]

DEGREES = 180 / np.pi  # in a radian


class Surface(IntEnum):
    """What `surfaces` computes; each is called by its name in lower case."""

    SLOPE = auto()
    ASPECT = auto()
    ASPECT_SIN = auto()
    ASPECT_COS = auto()
    CURVATURE = auto()
    PLAN_CURVATURE = auto()
    PROFILE_CURVATURE = auto()
    HILLSHADE = auto()


def surfaces(
    z: ArrayLike,
    x_size: float,
    y_size: float,
    wanted: Sequence[str],
    *,
    edges: Edges = "undefined",
    azimuth: float = 315.0,
    altitude: float = 45.0,
) -> Float32:
    """Several surfaces in one pass, float32 (len(wanted), row, column), by the names of `Surface` in lower case.

    Raises GridError on a z that is not two-dimensional, a pixel size that is not positive, or an unknown `edges`.
    """
    elevation = np.asarray(z)
    if elevation.ndim != 2:
        raise GridError(f"elevation has shape {elevation.shape}: give one plane (row, column)")
    if not (np.isfinite([x_size, y_size]).all() and x_size > 0 and y_size > 0):
        raise GridError(f"pixel size is {x_size} x {y_size}: give positive metres")
    if edges not in ("undefined", "one-sided"):
        raise GridError(f"edges is {edges!r}: give 'undefined' or 'one-sided'")
    kind = np.float32 if elevation.dtype in (np.float32, np.float16, np.int16, np.uint8, np.int8) else np.float64
    padded = np.full((elevation.shape[0] + 2, elevation.shape[1] + 2), np.nan, kind)
    padded[1:-1, 1:-1] = elevation
    turn, height = np.radians(azimuth), np.radians(altitude)
    light = np.array([np.sin(turn) * np.cos(height), np.cos(turn) * np.cos(height), np.sin(height)])
    out = np.full((len(wanted), *elevation.shape), np.nan, np.float32)  # a surface that is not computed is undefined
    codes = np.array([Surface[name.upper()] for name in wanted], np.int64)
    size = float(x_size), float(y_size)
    _surfaces(padded, size, codes, one_sided=edges == "one-sided", light=light, out=out)
    return out


def slope(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Slope in degrees, 0 to 90, by Horn (1981).

    z: (row, column) metres; x_size, y_size: pixel size in metres. Returns float32 (row, column).
    Raises GridError on a z that is not two-dimensional, a pixel size that is not positive, or an unknown
    `edges`.
    """
    return _one(surfaces(z, x_size, y_size, ["slope"], edges=edges))


def aspect(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Aspect, where the slope faces (downhill): degrees clockwise from north, [0, 360), by Horn (1981).

    NaN on flat ground, where no direction is defined. For use as channels take `aspect_sin_cos`, which is
    defined there. Same arguments and errors as `slope`.
    """
    return _one(surfaces(z, x_size, y_size, ["aspect"], edges=edges))


def aspect_sin_cos(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Sine (east) and cosine (north) of aspect, float32 (2, row, column), each in [-1, 1].

    Both are 0 on flat ground, so flat ground is no hole; NaN only where the terrain is undefined. Unlike
    degrees, the two may be averaged and resampled. Same arguments and errors as `slope`.
    """
    return surfaces(z, x_size, y_size, ["aspect_sin", "aspect_cos"], edges=edges)


def aspect_from(sin: ArrayLike, cos: ArrayLike) -> Float32:
    """Aspect in degrees clockwise from north, [0, 360), from its sine and cosine; NaN where both are 0.

    sin, cos: arrays of one shape, NaN where undefined; together of any length (a mean of several aspects is
    shorter than 1). Returns float32 of that shape.
    """
    east, north = np.asarray(sin, np.float64), np.asarray(cos, np.float64)
    bearing = (np.degrees(np.arctan2(east, north)) % 360.0).astype(np.float32)
    bearing[(east == 0) & (north == 0)] = np.nan
    bearing[bearing == 360] = 0  # 359.99999999 rounds to 360 in float32; north is 0
    return bearing


def curvature(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Standard curvature, -100 (z_xx + z_yy), in 1/100 m: positive where the ground is convex (crests).

    The second differences are those of Zevenbergen & Thorne (1987), each with its own pixel size; this is the
    "Curvature" of ArcGIS. Same arguments and errors as `slope`.
    """
    return _one(surfaces(z, x_size, y_size, ["curvature"], edges=edges))


def plan_curvature(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Plan curvature, that of the contour: 1/m, positive where flow spreads (noses), 0 on flat ground.

    -(z_xx z_y^2 - 2 z_xy z_x z_y + z_yy z_x^2) / (z_x^2 + z_y^2)^(3/2) with the derivatives of Zevenbergen &
    Thorne (1987): the curvature of the contour itself, as SAGA gives it. Their own PLANC is this times
    -steepness (the root of z_x^2 + z_y^2): negative on noses. Grows without bound towards flat ground. Same
    arguments and errors as `slope`.
    """
    return _one(surfaces(z, x_size, y_size, ["plan_curvature"], edges=edges))


def profile_curvature(z: ArrayLike, x_size: float, y_size: float, *, edges: Edges = "undefined") -> Float32:
    """Profile curvature, that of the line of steepest descent: 1/m, positive where convex, 0 on flat ground.

    -(z_xx z_x^2 + 2 z_xy z_x z_y + z_yy z_y^2) / ((z_x^2 + z_y^2) (1 + z_x^2 + z_y^2)^(3/2)) with the
    derivatives of Zevenbergen & Thorne (1987): the curvature of the line in its vertical plane, as SAGA gives
    it. Their own PROFC lacks the factor (1 + ...)^(3/2). Positive where the flow speeds up. Same arguments
    and errors as `slope`.
    """
    return _one(surfaces(z, x_size, y_size, ["profile_curvature"], edges=edges))


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
    return _one(surfaces(z, x_size, y_size, ["hillshade"], edges=edges, azimuth=azimuth, altitude=altitude))


def _one(planes: Float32) -> Float32:
    return np.asarray(planes[0])


@jit
def _surfaces(z: Any, size: Any, codes: Any, *, one_sided: bool, light: Any, out: Any) -> None:
    """Fill `out` (N, H, W); z (H + 2, W + 2) has a rim of NaN. Codes are those of `Surface`.

    size: width and height of a pixel, metres; light: the direction of the light, a unit vector (east, north, up).
    """
    height, width = out.shape[1:]
    k = np.empty((9, width))  # NW, N, NE, W, C, E, SW, S, SE of every pixel of a row
    hole = np.empty(width)  # added to every value: 0 where a pixel is defined, else NaN
    for i in range(height):
        _gather(z, i, k, hole)
        if one_sided:
            _extrapolate(k, hole)
        for band in range(len(codes)):
            code = codes[band]
            line = out[band, i]
            if code == Surface.SLOPE:
                _slope_line(k, hole, size, line)
            elif code == Surface.ASPECT:
                _aspect_line(k, hole, size, line)
            elif code in (Surface.ASPECT_SIN, Surface.ASPECT_COS):
                _aspect_part_line(k, hole, size, code == Surface.ASPECT_SIN, line)
            elif code == Surface.CURVATURE:
                _curvature_line(k, hole, size, line)
            elif code in (Surface.PLAN_CURVATURE, Surface.PROFILE_CURVATURE):
                _bend_line(k, hole, size, code == Surface.PLAN_CURVATURE, line)
            elif code == Surface.HILLSHADE:
                _hillshade_line(k, hole, size, light, line)


@jit
def _gather(z: Any, i: int, k: Any, hole: Any) -> None:
    """Fill `k` (9, W) with the neighbourhoods of row `i`, and `hole` (W,) with 0, or NaN where one has a gap."""
    width = len(hole)
    for j in range(width):
        k[0, j], k[1, j], k[2, j] = z[i, j], z[i, j + 1], z[i, j + 2]
        k[3, j], k[4, j], k[5, j] = z[i + 1, j], z[i + 1, j + 1], z[i + 1, j + 2]
        k[6, j], k[7, j], k[8, j] = z[i + 2, j], z[i + 2, j + 1], z[i + 2, j + 2]
    for j in range(width):  # NaN and infinity times 0 are NaN; no neighbour may be either, nor the centre
        hole[j] = k[0, j] + k[1, j] + k[2, j] + k[3, j] + k[4, j] + k[5, j] + k[6, j] + k[7, j] + k[8, j]
        hole[j] *= 0.0


@jit
def _extrapolate(k: Any, hole: Any) -> None:
    """Give the neighbours that are missing in `k` (9, W) values, as "one-sided" has it, where the centre is defined."""
    for j in range(len(hole)):
        if hole[j] != 0.0 and np.isfinite(k[4, j]):
            n = k[:, j]
            defined = np.isfinite(n)
            filled = n.copy()
            for m in (1, 3, 5, 7):
                if not defined[m]:
                    filled[m] = 2 * n[4] - n[8 - m] if defined[8 - m] else n[4]
            # Each corner with the two pixels beyond it in its own column, and the two in its own row.
            for m, beside, far, across, end in (
                (0, 3, 6, 1, 2),
                (2, 5, 8, 1, 0),
                (6, 3, 0, 7, 8),
                (8, 5, 2, 7, 6),
            ):
                if defined[m]:
                    continue
                if defined[beside] and defined[far]:
                    filled[m] = 2 * n[beside] - n[far]
                elif defined[across] and defined[end]:
                    filled[m] = 2 * n[across] - n[end]
                else:
                    filled[m] = filled[beside] + filled[across] - n[4]
            k[:, j] = filled
            hole[j] = 0.0


@jit
def _horn(k: Any, j: int, size: Any) -> Any:
    """(z_x, z_y) of pixel `j` by Horn (1981): differences over three rows and columns, the middle one twice."""
    z_x = ((k[2, j] + 2 * k[5, j] + k[8, j]) - (k[0, j] + 2 * k[3, j] + k[6, j])) / (8 * size[0])
    z_y = ((k[0, j] + 2 * k[1, j] + k[2, j]) - (k[6, j] + 2 * k[7, j] + k[8, j])) / (8 * size[1])
    return z_x, z_y


@jit
def _central(k: Any, j: int, size: Any) -> Any:
    """(z_x, z_y) of pixel `j` by Zevenbergen & Thorne (1987): from the four direct neighbours."""
    return (k[5, j] - k[3, j]) / (2 * size[0]), (k[1, j] - k[7, j]) / (2 * size[1])


@jit
def _second(k: Any, j: int, size: Any) -> Any:
    """(z_xx, z_yy) of pixel `j` by Zevenbergen & Thorne (1987)."""
    z_xx = (k[3, j] - 2 * k[4, j] + k[5, j]) / (size[0] * size[0])
    z_yy = (k[1, j] - 2 * k[4, j] + k[7, j]) / (size[1] * size[1])
    return z_xx, z_yy


@jit
def _arctangent(t: float) -> float:
    """The arctangent of 0 to 1, radians (Abramowitz & Stegun 1964, 4.4.49)."""
    u = t * t
    p = 0.0028662257 * u - 0.0161657367
    p = ((p * u + 0.0429096138) * u - 0.0752896400) * u + 0.1065626393
    p = ((p * u - 0.1420889944) * u + 0.1999355085) * u - 0.3333314528
    return t + t * u * p


@jit
def _slope_line(k: Any, hole: Any, size: Any, line: Any) -> None:
    """Fill a row with slope, degrees."""
    for j in range(len(hole)):
        z_x, z_y = _horn(k, j, size)
        t2 = z_x * z_x + z_y * z_y
        t = np.sqrt(t2) / (1 + np.sqrt(1 + t2))  # of half the angle, below 1
        line[j] = 2 * DEGREES * _arctangent(t) + hole[j]


@jit
def _aspect_line(k: Any, hole: Any, size: Any, line: Any) -> None:
    """Fill a row with aspect, degrees."""
    for j in range(len(hole)):
        z_x, z_y = _horn(k, j, size)
        large, small = max(abs(z_x), abs(z_y)), min(abs(z_x), abs(z_y))
        angle = DEGREES * _arctangent(small / large)  # NaN on flat ground, where no direction is defined
        angle = 90 - angle if abs(z_x) > abs(z_y) else angle  # from the north-south line
        angle = 180 - angle if z_y > 0 else angle
        angle = 360 - angle if z_x > 0 else angle
        rounded = np.float32(angle)
        line[j] = (np.float32(0) if rounded == 360 else rounded) + hole[j]


@jit
def _aspect_part_line(k: Any, hole: Any, size: Any, sine: bool, line: Any) -> None:
    """Fill a row with the sine of aspect, or else its cosine."""
    for j in range(len(hole)):
        z_x, z_y = _horn(k, j, size)
        steepness = np.sqrt(z_x * z_x + z_y * z_y)
        steepness = 1.0 if steepness == 0 else steepness
        line[j] = -(z_x if sine else z_y) / steepness + hole[j]


@jit
def _curvature_line(k: Any, hole: Any, size: Any, line: Any) -> None:
    """Fill a row with the standard curvature."""
    for j in range(len(hole)):
        z_xx, z_yy = _second(k, j, size)
        line[j] = -100 * (z_xx + z_yy) + hole[j]


@jit
def _bend_line(k: Any, hole: Any, size: Any, plan: bool, line: Any) -> None:
    """Fill a row with plan curvature, or else with profile curvature."""
    for j in range(len(hole)):
        z_x, z_y = _central(k, j, size)
        z_xx, z_yy = _second(k, j, size)
        z_xy = (k[2, j] + k[6, j] - k[0, j] - k[8, j]) / (4 * size[0] * size[1])
        t2 = z_x * z_x + z_y * z_y
        if plan:
            bend = z_xx * z_y * z_y - 2 * z_xy * z_x * z_y + z_yy * z_x * z_x
            over = t2 * np.sqrt(t2)
        else:
            bend = z_xx * z_x * z_x + 2 * z_xy * z_x * z_y + z_yy * z_y * z_y
            over = t2 * (1 + t2) * np.sqrt(1 + t2)
        line[j] = (0.0 if over == 0 else -bend / over) + hole[j]


@jit
def _hillshade_line(k: Any, hole: Any, size: Any, light: Any, line: Any) -> None:
    """Fill a row with hillshade, lit from the direction `light`."""
    for j in range(len(hole)):
        z_x, z_y = _horn(k, j, size)
        facing = light[2] - light[0] * z_x - light[1] * z_y
        facing = facing / np.sqrt(1 + z_x * z_x + z_y * z_y)
        line[j] = min(max(facing, 0.0), 1.0) + hole[j]
