"""Made-up ground: eroded terrain that drains to one trunk river, the rivers traced from it, folded beds,
faults, and bodies that slide down it.

The surface is the steady state of stream-power incision, where the channel's slope follows Flint's law
S = k A^-theta (A the drained area; Flint 1974, Water Resour. Res. 10(5), 969-973; Whipple & Tucker 1999,
J. Geophys. Res. 104(B8), 17661-17674), with a limit on the steepness of hillslopes. It is reached by turns: drain
the surface by D8, raise every pixel above the one it drains to by slope x distance, smooth, drain again.
"""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pyflwdir
import shapely
from numpy.typing import NDArray
from pyflwdir import dem as flow_dem
from scipy import ndimage
from scipy.spatial import cKDTree

from landslip.geo.grid import Grid
from landslip.geo.polygonize import trace

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

TURNS = 20
CHANNEL_STEEPNESS = 57.0  # k, with A in square metres
CONCAVITY = 0.45  # theta
HILLSLOPE_AREA = 60_000.0  # square metres; where less drains, the slope no longer steepens
STEEPEST = 1.1  # rise over run of a hillslope before `gain`
TRUNK_BED = 80.0  # elevation of the trunk river's lowest end, metres
TRUNK_FALL = 0.0006
FLOOR_WIDTH = 300.0  # metres from the trunk over which its valley floor steepens

STREAM_KM2 = 1.2  # area drained where a river begins
FAULT_SPACING = 4_600.0  # metres
FOLD_LENGTH = 6_000.0  # metres from anticline to anticline

# rock: (class, upper end in the folded series of beds, which runs from 0 to 1 and back)
ROCKS = {
    "shale": ("soft", 0.2),
    "sandstone and shale": ("soft and hard", 0.38),
    "mudstone": ("soft", 0.56),
    "marl and limestone": ("soft and hard", 0.72),
    "limestone": ("hard", 0.88),
    "dolomite": ("hard", 1.0),
}
LITHOLOGY = {"soft": 1, "soft and hard": 2, "hard": 3}  # codes of the classes

SIZES = (2_000.0, 600_000.0)  # smallest and largest landslide, square metres
SIZE_MEDIAN, SIZE_SPREAD = 35_000.0, 1.5  # of the lognormal that sizes are drawn from


@dataclass(frozen=True)
class Body:
    """Pixels of one body and the relief (metres) that it leaves as a landslide."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    relief: Float


class Bodies:
    """Grows bodies down the slope of `surface`, none on ground that is taken."""

    def __init__(self, rng: np.random.Generator, surface: Float, size: float, taken: Mask) -> None:
        self.rng, self.size = rng, size
        smooth = ndimage.gaussian_filter(surface, 3)
        fall_row, fall_column = (-g for g in np.gradient(smooth))
        steepness = np.hypot(fall_row, fall_column) + 1e-9
        self.fall: tuple[Float, Float] = (fall_row / steepness, fall_column / steepness)
        self.taken = taken.copy()

    def place(self, where: Mask, weight: Float, sizes: Float) -> list[Body]:
        """Bodies of `sizes` (square metres) on ground `where`, started with chances by `weight`."""
        found: list[Body] = []
        owed = 0.0
        for i, wanted in enumerate(sizes):
            left = sizes[i:].sum()
            if wanted > SIZE_MEDIAN:  # what did not fit is made up for by the next, not by the small ones
                wanted = min(wanted * min(1 + owed / left, 1.3), SIZES[1])
            body = self._grow(where, weight, wanted / self.size**2)
            got = 0.0 if body is None else len(body.rows) * self.size**2
            owed += sizes[i] - got
            if body is not None:
                found.append(body)
        return found

    def _grow(self, where: Mask, weight: Float, pixels: float) -> Body | None:
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
                hull = np.zeros(where.shape, bool)
                hull[body.rows, body.columns] = True
                self.taken |= ndimage.binary_dilation(hull, np.ones((3, 3)), iterations=2)
                return body
            if attempt % 40 == 39:
                pixels = max(pixels * self.rng.uniform(0.75, 0.95), SIZES[0] / self.size**2)
        return None

    def _body(self, free: Mask, row: int, column: int, pixels: float) -> Body | None:
        """A body of about `pixels` from a source pixel down the slope, or None where it does not fit."""
        # the larger a landslide, the less it can grow in length, which ends at the valley, and the more in width
        elongation = self.rng.uniform(1.6, 3.4) * min(1.0, (500 / pixels) ** 0.4)
        length = float(np.sqrt(pixels * elongation * 1.15))
        path = self._path(free, row, column, length)
        reached = len(path) * 0.5
        if reached < 0.7 * length:
            return None
        width = pixels / reached
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
        # round crown, slight waist, wide toe
        profile = np.interp(along, [0, 0.1, 0.3, 0.55, 0.8, 0.95, 1], [0.6, 0.95, 1.05, 0.85, 1.1, 0.95, 0.6])
        for _ in range(4):
            half = 0.5 * width * profile * np.clip(1 + 0.15 * wave, 0.5, 1.5)
            whole = (away <= half).reshape(grid_rows.shape)
            mask = whole & free[r0:r1, c0:c1]
            mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask)) & free[r0:r1, c0:c1]
            pieces, found = ndimage.label(mask)
            if found == 0:
                return None
            mask = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
            width *= float(np.clip(pixels / mask.sum(), 0.7, 1.4))
            if width > 1.3 * reached or width + 1 > reach * 1.6:
                return None
        if not 0.8 * pixels <= mask.sum() <= 1.3 * pixels or mask.sum() < 0.68 * whole.sum():
            return None
        rows, columns = grid_rows[mask], grid_columns[mask]
        t, across = along.reshape(mask.shape)[mask], (away / np.maximum(half, 0.5)).reshape(mask.shape)[mask]
        depth = min(6.0, 0.03 * width * self.size)
        relief = -depth * np.sin(2 * np.pi * np.clip(t, 0, 1)) * np.clip(1 - across**2, 0, 1)
        return Body(rows, columns, relief)

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


def noise(rng: np.random.Generator, shape: tuple[int, int], wavelength: float, beta: float) -> Float:
    """Correlated Gaussian noise, (row, column), mean 0 and standard deviation 1.

    Its power falls as k^-beta for wavelengths under `wavelength` (pixels) and is level above.
    """
    k_row, k_column = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    amplitude = (k_row**2 + k_column**2 + wavelength**-2.0) ** (-beta / 4)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * amplitude, s=shape)
    field -= field.mean()
    return np.asarray(field / field.std(), np.float64)


def eroded_terrain(rng: np.random.Generator, gain: Float, size: float) -> Float:
    """Elevation (row, column) in metres of a landscape that drains to a trunk river running from west to east.

    gain: (row, column) factor on slope, > 0 (hard rock stands steeper); size: pixel size in metres.
    """
    shape = gain.shape
    trunk = _trunk(rng, shape)
    outlets = np.flatnonzero(trunk)
    bed = np.broadcast_to(TRUNK_BED + TRUNK_FALL * size * np.arange(shape[1])[::-1], shape)
    from_trunk = ndimage.distance_transform_edt(~trunk) * size
    floor = np.clip(from_trunk / FLOOR_WIDTH, 0.03, 1.0)
    z = bed + 0.1 * from_trunk + 90 * noise(rng, shape, 60, 4) + 2 * rng.standard_normal(shape)
    for turn in range(TURNS):
        z[trunk] = bed[trunk] - 200  # below all else, so that everything drains to it
        raised = _raise(z, outlets, bed, gain * floor, size)
        z = raised if turn == 0 else 0.4 * z + 0.6 * raised
        if turn < TURNS - 1:  # smoothing moves divides to where both sides are equally steep
            z = ndimage.gaussian_filter(z, 1.2) + 0.3 * rng.standard_normal(shape)
    smooth: Float = ndimage.gaussian_filter(raised, 1.5)
    return smooth


def folded_beds(rng: np.random.Generator, grid: Grid) -> tuple[Float, float]:
    """Position in the series of beds, (row, column) in [0, 1], and the strike of the fold axes (radians from east)."""
    strike = np.radians(rng.uniform(25, 65))
    row, column = np.indices(grid.shape)
    across = (column * np.sin(strike) + row * np.cos(strike)) * grid.x_size / FOLD_LENGTH
    wave = across + rng.uniform() + 0.08 * ndimage.gaussian_filter(noise(rng, grid.shape, 70, 4), 6)
    return np.abs(2 * (wave % 1) - 1), float(strike)


def rock_bodies(bed: NDArray[np.float32], grid: Grid) -> tuple[gpd.GeoDataFrame, NDArray[np.uint8]]:
    """Polygons with `rock`, and the codes of LITHOLOGY (row, column), from the position in the series of beds."""
    names = list(ROCKS)
    rock = np.minimum(np.searchsorted([end for _, end in ROCKS.values()], bed), len(names) - 1)
    codes = np.array([LITHOLOGY[klass] for klass, _ in ROCKS.values()], np.uint8)
    bodies, number = np.zeros(grid.shape, np.int32), 0
    for i in range(len(names)):
        pieces, found = ndimage.label(rock == i)
        bodies[pieces > 0] = pieces[pieces > 0] + number
        number += found
    frame = trace(bodies, grid)
    first = np.unique(bodies, return_index=True)[1]  # ids run from 1 without gaps
    frame["rock"] = [names[i] for i in rock.ravel()[first]]
    return frame, codes[rock]


def river_lines(z: Float, grid: Grid) -> gpd.GeoDataFrame:
    """Rivers traced down the D8 drainage of elevation (row, column): a line a reach, with `km2`, the area drained."""
    flow = pyflwdir.from_dem(z.astype(np.float32), nodata=-9999.0)
    km2 = np.asarray(flow.upstream_area("cell") * grid.pixel_area / 1e6, np.float64)
    xs = grid.transform.c + (np.arange(grid.width) + 0.5) * grid.x_size
    ys = grid.transform.f - (np.arange(grid.height) + 0.5) * grid.y_size
    xs, ys = np.meshgrid(xs, ys)
    found = flow.streams(mask=km2 >= STREAM_KM2, xs=xs, ys=ys, km2=km2)
    lines = gpd.GeoDataFrame.from_features(found, crs=grid.crs.to_wkt())
    return lines.loc[lines.length > 0, ["km2", "geometry"]].reset_index(drop=True)


def fault_lines(rng: np.random.Generator, grid: Grid, strike: float) -> gpd.GeoDataFrame:
    """Slightly bent lines at about FAULT_SPACING, aslant of the folds, which cross the site and run beyond it."""
    left, bottom, right, top = grid.bounds
    angle = strike + np.radians(rng.uniform(-25, 25))
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    centre = np.array([(left + right) / 2, (bottom + top) / 2])
    width = abs(across[0]) * (right - left) + abs(across[1]) * (top - bottom)
    length = abs(along[0]) * (right - left) + abs(along[1]) * (top - bottom) + 6_000
    count = int(np.clip(round(width / FAULT_SPACING), 1, 4))
    steps = np.arange(-length / 2, length / 2 + 1, 1_000)
    lines = []
    for i in range(count):
        offset = ((i + 0.5) / count - 0.5) * width + rng.uniform(-0.15, 0.15) * width / count
        bends = np.cumsum(ndimage.gaussian_filter1d(rng.normal(0, 400, len(steps)), 2, mode="nearest"))
        bends -= bends.mean()
        lines.append(shapely.LineString(centre + steps[:, None] * along + (offset + bends)[:, None] * across))
    return gpd.GeoDataFrame({"id": range(1, count + 1)}, geometry=lines, crs=grid.crs.to_wkt())


def body_sizes(rng: np.random.Generator, count: int, total: float) -> Float:
    """Areas in square metres, largest first: lognormal between SIZES, scaled to sum to `total`."""
    sizes = SIZE_MEDIAN * np.exp(SIZE_SPREAD * rng.standard_normal(count))
    for _ in range(20):
        sizes = np.clip(sizes * total / sizes.sum(), *SIZES)
    return np.sort(sizes)[::-1]


def _trunk(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A winding line of pixels from the west edge to the east edge."""
    rows, columns = shape
    bends = ndimage.gaussian_filter1d(noise(rng, (8, columns), columns / 3, 3)[0], 16)
    bends = (bends - bends.mean()) / bends.std()
    path = np.clip(np.rint(rows * (0.5 + 0.08 * bends)), 3, rows - 4).astype(int)
    trunk = np.zeros(shape, bool)
    for column in range(columns):
        low, high = sorted((path[column], path[min(column + 1, columns - 1)]))
        trunk[low : high + 1, column] = True
    return trunk


def _raise(z: Float, outlets: NDArray[np.int64], bed: Float, gain: Float, size: float) -> Float:
    """The steady state for the drainage of `z`: slope x distance summed down to the outlet, above its bed."""
    _, d8 = flow_dem.fill_depressions(z.astype(np.float32), nodata=-9999.0, idxs_pit=outlets)
    flow = pyflwdir.from_array(d8, ftype="d8", check_ftype=False)
    down = np.asarray(flow.idxs_ds, np.int64).copy()
    down[outlets] = outlets
    area = np.maximum(flow.upstream_area("cell") * size**2, HILLSLOPE_AREA)
    slope = np.minimum(CHANNEL_STEEPNESS * area**-CONCAVITY, STEEPEST) * gain
    row, column = np.divmod(np.arange(z.size), z.shape[1])
    step = np.hypot(row[down] - row, column[down] - column) * size
    rise = slope.ravel() * step  # 0 at the outlets, whose step is 0
    while (down[down] != down).any():  # each pass doubles the length of path summed
        rise = rise + rise[down]
        down = down[down]
    return np.asarray((rise + bed.ravel()[down]).reshape(z.shape))
