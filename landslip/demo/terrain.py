"""Made-up ground: eroded terrain that drains to one trunk river, the rivers traced from it, folded beds and faults.

The surface is the steady state of stream-power incision, where the channel's slope follows Flint's law
S = k A^-theta (A the drained area; Flint 1974, Water Resour. Res. 10(5), 969-973; Whipple & Tucker 1999,
J. Geophys. Res. 104(B8), 17661-17674), with a limit on the steepness of hillslopes. It is reached by turns: drain
the surface by D8, raise every pixel above the one it drains to by slope x distance, smooth, drain again.
"""

import geopandas as gpd
import numpy as np
import pyflwdir
import shapely
from numpy.typing import NDArray
from pyflwdir import dem as flow_dem
from scipy import ndimage

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
        z[trunk] = bed[trunk] - 200  # Below all else, so that everything drains to it.
        raised = _raise(z, outlets, bed, gain * floor, size)
        z = raised if turn == 0 else 0.4 * z + 0.6 * raised
        if turn < TURNS - 1:  # Smoothing moves divides to where both sides are equally steep.
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
    """Polygons of rocks, and the codes of their classes, (row, column), from the position in the series of beds.

    The polygons have the rock's name in `rock`; the codes are those of LITHOLOGY.
    """
    names = list(ROCKS)
    rock = np.minimum(np.searchsorted([end for _, end in ROCKS.values()], bed), len(names) - 1)
    codes = np.array([LITHOLOGY[klass] for klass, _ in ROCKS.values()], np.uint8)
    bodies, number = np.zeros(grid.shape, np.int32), 0
    for i in range(len(names)):
        pieces, count = ndimage.label(rock == i)
        bodies[pieces > 0] = pieces[pieces > 0] + number
        number += count
    frame = trace(bodies, grid)
    first = np.unique(bodies, return_index=True)[1]  # Ids run from 1 without gaps, as do the rows of the frame.
    frame["rock"] = [names[i] for i in rock.ravel()[first]]
    return frame, codes[rock]


def river_lines(z: Float, grid: Grid) -> gpd.GeoDataFrame:
    """Rivers traced down the D8 drainage of elevation (row, column): a line a reach, with `km2`, the area drained."""
    flow = pyflwdir.from_dem(z.astype(np.float32), nodata=-9999.0)
    km2 = np.asarray(flow.upstream_area("cell") * grid.pixel_area / 1e6, np.float64)
    xs = grid.transform.c + (np.arange(grid.width) + 0.5) * grid.x_size
    ys = grid.transform.f - (np.arange(grid.height) + 0.5) * grid.y_size
    xs, ys = np.meshgrid(xs, ys)
    reaches = flow.streams(mask=km2 >= STREAM_KM2, xs=xs, ys=ys, km2=km2)
    lines = gpd.GeoDataFrame.from_features(reaches, crs=grid.crs.to_wkt())
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
    while (down[down] != down).any():  # Each pass doubles the length of path that is summed up.
        rise = rise + rise[down]
        down = down[down]
    return np.asarray((rise + bed.ravel()[down]).reshape(z.shape))
