"""The pixel grid everything is brought to, and windows of it.

A `Grid` is one frozen value compared by equality: rows, columns, affine transform and CRS. Shapes and windows are
(row, column); coordinates are (x, y) in metres. Windows are positions, never pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from affine import Affine
from rasterio.crs import CRS

from landslip.errors import GridError

WEB_MERCATOR = 3857


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels: first row, first column, height and width. It may reach beyond a raster's edge."""

    row: int
    column: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """(row slice, column slice) for an array that starts at pixel (0, 0)."""
        return slice(self.row, self.row + self.height), slice(self.column, self.column + self.width)

    @property
    def area(self) -> int:
        """Pixels in the window."""
        return self.height * self.width

    def moved(self, rows: int, columns: int) -> Window:
        """The window, so many rows further down and columns further right."""
        return Window(self.row + rows, self.column + columns, self.height, self.width)

    def intersect(self, other: Window) -> Window:
        """The pixels that two windows share; a window without height or width where they do not meet."""
        row, column = max(self.row, other.row), max(self.column, other.column)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.column + self.width, other.column + other.width)
        return Window(row, column, max(bottom - row, 0), max(right - column, 0))

    def clip(self, shape: tuple[int, int]) -> Window:
        """The part of the window inside a raster of `shape` (rows, columns)."""
        return self.intersect(Window(0, 0, *shape))

    def round_up(self, multiple: int) -> Window:
        """The window grown down and right until its sides are multiples of `multiple`."""
        return Window(self.row, self.column, self.height + -self.height % multiple, self.width + -self.width % multiple)

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Slices of this window in an array cut at `outer`, which must hold it."""
        row, column = self.row - outer.row, self.column - outer.column
        return slice(row, row + self.height), slice(column, column + self.width)


@dataclass(frozen=True)
class Grid:
    """Rows, columns, north-up affine transform and projected CRS in metres.

    A cropped grid knows the transform of the grid that it was cropped from (`origin`), and the row and column at which
    it begins there (`first`), so that a pixel's coordinates are the same to the bit however it was cropped. Both take
    no part in comparisons.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int
    origin: Affine | None = field(default=None, compare=False, repr=False)
    first: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height, self.width

    @property
    def x_size(self) -> float:
        """Pixel width in units of the CRS (metres on a metric grid)."""
        return abs(self.transform.a)

    @property
    def y_size(self) -> float:
        """Pixel height in units of the CRS (metres on a metric grid)."""
        return abs(self.transform.e)

    @property
    def pixel_area(self) -> float:
        """Area of one pixel in square units of the CRS."""
        return self.x_size * self.y_size

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in the CRS."""
        left, top = self.transform.c, self.transform.f
        return left, top - self.height * self.y_size, left + self.width * self.x_size, top

    def pad(self, pixels: int) -> Grid:
        """The grid grown by `pixels` on all four sides."""
        return self.crop(Window(-pixels, -pixels, self.height + 2 * pixels, self.width + 2 * pixels))

    def crop(self, window: Window) -> Grid:
        """The grid of a window; the window may reach beyond the grid."""
        origin = self.origin or self.transform
        row, column = self.first[0] + window.row, self.first[1] + window.column
        x, y = origin.c + column * origin.a, origin.f + row * origin.e
        transform = Affine(origin.a, 0.0, x, 0.0, origin.e, y)
        return Grid(self.crs, transform, window.height, window.width, origin=origin, first=(row, column))

    def describe(self) -> str:
        """One line for messages and `landslip info`."""
        left, bottom, right, top = self.bounds
        return (
            f"{self.height} x {self.width} pixels of {self.x_size:g} x {self.y_size:g}, {crs_name(self.crs)}, "
            f"x {left:.1f} to {right:.1f}, y {bottom:.1f} to {top:.1f}"
        )


def crs_name(crs: CRS | None) -> str:
    """The EPSG code where there is one, else the CRS's own name, else 'no CRS'."""
    if crs is None:
        return "no CRS"
    code = crs.to_epsg()
    if code:
        return f"EPSG:{code}"
    return crs.to_wkt().split('"')[1] if '"' in crs.to_wkt() else str(crs)


def same_grid(a: Grid, b: Grid, tolerance: float = 1e-3) -> bool:
    """Whether two grids have one CRS and shape and corners within `tolerance` of a pixel."""
    if a.shape != b.shape or a.crs != b.crs:
        return False
    slack = tolerance * min(a.x_size, a.y_size)
    return all(abs(p - q) <= slack for p, q in zip(a.bounds, b.bounds, strict=True))


def require_same_grid(a: Grid, a_name: str, b: Grid, b_name: str) -> None:
    """Raise GridError, with both grids in the message, unless the two are one grid."""
    if not same_grid(a, b):
        raise GridError(
            f"{a_name} and {b_name} do not lie on one grid: {a.describe()} against {b.describe()}. "
            "Prepare both from one site file."
        )


def metric_fault(crs: CRS | None) -> str | None:
    """Why `crs` cannot be the CRS of a grid in metres, or None where it can."""
    if crs is None:
        return "it has no CRS"
    if crs.is_geographic:
        return f"its CRS {crs_name(crs)} is geographic (degrees)"
    if not crs.is_projected:
        return f"its CRS {crs_name(crs)} is not projected"
    if crs.to_epsg() == WEB_MERCATOR:
        return "its CRS EPSG:3857 is Web Mercator, whose metres grow with latitude"
    if not math.isclose(crs.linear_units_factor[1], 1.0, rel_tol=1e-9):
        return f"its CRS {crs_name(crs)} is in {crs.linear_units_factor[0]}, not metres"
    return None


def looks_like_degrees(bounds: Sequence[float]) -> bool:
    """Whether bounds (left, bottom, right, top) of an unknown CRS can be longitudes and latitudes."""
    left, bottom, right, top = bounds
    return -180 <= left < right <= 180 and -90 <= bottom < top <= 90


def is_local_metric(crs: CRS) -> bool:
    """Whether `crs` is an engineering CRS in metres: sizes and areas are true, but nobody knows where on Earth."""
    return crs.to_wkt().startswith("LOCAL_CS[") and math.isclose(crs.units_factor[1], 1.0, rel_tol=1e-9)


def metric_size(grid: Grid) -> tuple[float, float] | None:
    """Width and height of a pixel in metres; None where the grid's CRS is not in metres."""
    metric = metric_fault(grid.crs) is None or is_local_metric(grid.crs)
    return (grid.x_size, grid.y_size) if metric else None


def require_metric(grid: Grid, name: str) -> None:
    """Raise GridError unless the grid of `name` is in metres, so that its areas are in square metres."""
    fault = metric_fault(grid.crs)
    if fault and not is_local_metric(grid.crs):
        raise GridError(f"{name}: {fault}, and areas are in square metres. Warp it to a metric CRS first.")


def starts(length: int, size: int, step: int) -> list[int]:
    """First pixels of windows of `size` at every `step` along one axis; the last is shifted to end at the edge.

    Every pixel is covered. An axis shorter than the window gets one window that reaches beyond it. Raises GridError
    for a step that would leave gaps.
    """
    if not 1 <= step <= size:
        raise GridError(f"windows of {size} pixels at every {step} leave gaps. Give a step from 1 to {size}.")
    if length <= size:
        return [0]
    firsts = list(range(0, length - size + 1, step))
    if firsts[-1] != length - size:
        firsts.append(length - size)
    return firsts


def lattice(shape: tuple[int, int], size: int, step: int) -> Iterator[Window]:
    """Windows of `size` x `size` at every `step` over a raster of `shape`, row by row, covering every pixel."""
    for row in starts(shape[0], size, step):
        for column in starts(shape[1], size, step):
            yield Window(row, column, size, size)


def squares(shape: tuple[int, int], size: int) -> Iterator[Window]:
    """As `tiles`, but all of one size: those at the bottom and right may reach beyond the edge."""
    for row in range(0, shape[0], size):
        for column in range(0, shape[1], size):
            yield Window(row, column, size, size)


def tiles(shape: tuple[int, int], size: int) -> Iterator[Window]:
    """Windows that tile a raster of `shape` exactly once; those at the bottom and right may be smaller."""
    for square in squares(shape, size):
        yield square.clip(shape)
