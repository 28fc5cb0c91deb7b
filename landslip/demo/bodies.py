"""Bodies that slide down the made-up ground: landslides, and look-alikes of the same shapes and sizes."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from landslip.demo.terrain import Float, Mask

SIZES = (2_000.0, 600_000.0)  # smallest and largest landslide, square metres
SIZE_MEDIAN, SIZE_SPREAD = 35_000.0, 1.5  # of the lognormal that sizes are drawn from


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """Pixels of disturbed ground, (n,) each, and the metres that they were raised or lowered by."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    relief: Float


@dataclass(frozen=True, kw_only=True)
class Body(Disturbance):
    """Disturbed ground along a path; its relief is that which it leaves as a landslide.

    `along` is how far down the path a pixel lies, from 0 at the crown to 1 at the toe, `across` how far from the path,
    from 0 to 1 at the flank; `width` is that of the body in metres.
    """

    along: Float
    across: Float
    width: float


class Bodies:
    """Grows bodies down the slope of a surface, none over another.

    `surface`, (row, column), is elevation in metres, `size` the side of its pixels in metres; no body grows on ground
    that is `taken`, nor within two pixels of another body.
    """

    def __init__(self, rng: np.random.Generator, surface: Float, size: float, taken: Mask) -> None:
        self.rng, self.size = rng, size
        smooth = ndimage.gaussian_filter(surface, 3)
        fall_row, fall_column = (-g for g in np.gradient(smooth))
        steepness = np.hypot(fall_row, fall_column) + 1e-9
        self.fall: tuple[Float, Float] = (fall_row / steepness, fall_column / steepness)
        self.taken = taken.copy()

    def sideways(self) -> Bodies:
        """Grows bodies of the same shapes along the contour instead, on the same free ground."""
        other = copy(self)
        other.fall = self.fall[1], -self.fall[0]
        return other

    def place(self, where: Mask, weight: Float, sizes: Float) -> list[Body]:
        """Bodies of `sizes` (square metres) on ground `where`, started with chances by `weight`."""
        bodies: list[Body] = []
        shortfall = 0.0  # square metres that earlier bodies fell short of their sizes by
        for i, size in enumerate(sizes):
            area = size
            # The next large bodies make up for what did not fit. Small ones do not: they would no longer be small.
            if area > SIZE_MEDIAN:
                area = min(area * min(1 + shortfall / sizes[i:].sum(), 1.3), SIZES[1])
            body = self._grow(where, weight, area / self.size**2)
            shortfall += size - (0.0 if body is None else len(body.rows) * self.size**2)
            if body is not None:
                bodies.append(body)
        return bodies

    def _grow(self, where: Mask, weight: Float, pixels: float) -> Body | None:
        """A body of about `pixels` on free ground, less after every 40 attempts; None after 400, or without ground."""
        free = where & ~self.taken
        inner = ndimage.binary_erosion(free, iterations=2) & (weight > 0)
        starts = np.flatnonzero(inner)
        if len(starts) == 0:
            return None
        chance = np.cumsum(weight.ravel()[starts])
        for attempt in range(400):
            start = int(starts[np.searchsorted(chance, self.rng.uniform(0, chance[-1]))])
            body = self._body(free, start // where.shape[1], start % where.shape[1], pixels)
            if body is not None:
                mask = np.zeros(where.shape, bool)
                mask[body.rows, body.columns] = True
                self.taken |= ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=2)
                return body
            if attempt % 40 == 39:
                pixels = max(pixels * self.rng.uniform(0.75, 0.95), SIZES[0] / self.size**2)
        return None

    def _body(self, free: Mask, row: int, column: int, pixels: float) -> Body | None:
        """A body of about `pixels` from a source pixel down the slope, or None where it does not fit."""
        # The larger a landslide, the less it can grow in length, which ends at the valley, and the more in width.
        elongation = self.rng.uniform(1.6, 3.4) * min(1.0, (500 / pixels) ** 0.4)
        length = float(np.sqrt(pixels * elongation * 1.15))
        path = self._path(free, row, column, length)
        run_out = len(path) * 0.5
        if run_out < 0.7 * length:
            return None
        width = pixels / run_out
        ragged = ndimage.gaussian_filter1d(self.rng.standard_normal((2, 41)), 4.0, axis=1) * 3.7
        reach = int(np.ceil(width)) + 2
        r0, c0 = np.maximum(np.floor(path.min(0)).astype(int) - reach, 0)
        r1, c1 = np.minimum(np.ceil(path.max(0)).astype(int) + reach + 1, free.shape)
        grid_rows, grid_columns = np.mgrid[r0:r1, c0:c1]
        points = np.column_stack([grid_rows.ravel(), grid_columns.ravel()])
        away, nearest = cKDTree(path).query(points, distance_upper_bound=reach)
        nearest = np.minimum(nearest, len(path) - 1)
        along = nearest / (len(path) - 1)
        ahead = np.gradient(path, axis=0)[nearest]
        side = ((points - path[nearest]) * np.column_stack([-ahead[:, 1], ahead[:, 0]])).sum(1) > 0
        wave = ragged[side.astype(int), np.rint(along * 40).astype(int)]
        # A round crown, a slight waist and a wide toe.
        profile = np.interp(along, [0, 0.1, 0.3, 0.55, 0.8, 0.95, 1], [0.6, 0.95, 1.05, 0.85, 1.1, 0.95, 0.6])
        for _ in range(4):
            half = 0.5 * width * profile * np.clip(1 + 0.15 * wave, 0.5, 1.5)
            shape = (away <= half).reshape(grid_rows.shape)
            mask = shape & free[r0:r1, c0:c1]
            mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask)) & free[r0:r1, c0:c1]
            pieces, count = ndimage.label(mask)
            if count == 0:
                return None
            mask = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
            width *= float(np.clip(pixels / mask.sum(), 0.7, 1.4))
            if width > 1.3 * run_out or width + 1 > reach * 1.6:
                return None
        if not 0.8 * pixels <= mask.sum() <= 1.3 * pixels or mask.sum() < 0.68 * shape.sum():
            return None
        rows, columns = grid_rows[mask], grid_columns[mask]
        t, across = along.reshape(mask.shape)[mask], (away / np.maximum(half, 0.5)).reshape(mask.shape)[mask]
        depth = min(6.0, 0.03 * width * self.size)
        relief = -depth * np.sin(2 * np.pi * np.clip(t, 0, 1)) * np.clip(1 - across**2, 0, 1)
        return Body(rows=rows, columns=columns, along=t, across=across, width=width * self.size, relief=relief)

    def _path(self, free: Mask, row: int, column: int, length: float) -> Float:
        """Points half a pixel apart down the slope, (n, 2) as row, column; they end where the ground is not free."""
        here = np.array([row, column], float)
        path = [here]
        heading = np.array([self.fall[0][row, column], self.fall[1][row, column]])
        for _ in range(int(2 * length)):
            r, c = round(here[0]), round(here[1])
            if not (0 <= r < free.shape[0] and 0 <= c < free.shape[1] and free[r, c]):
                break
            heading = 0.85 * heading + 0.15 * np.array([self.fall[0][r, c], self.fall[1][r, c]])
            heading /= np.hypot(*heading) + 1e-9
            here = here + 0.5 * heading
            path.append(here)
        return np.array(path)


def body_sizes(rng: np.random.Generator, count: int, total: float) -> Float:
    """Areas in square metres, largest first: lognormal between SIZES, scaled to sum to `total`."""
    sizes = SIZE_MEDIAN * np.exp(SIZE_SPREAD * rng.standard_normal(count))
    for _ in range(20):
        sizes = np.clip(sizes * total / sizes.sum(), *SIZES)
    return np.sort(sizes)[::-1]
