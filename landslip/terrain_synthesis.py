"""Made-up eroded terrain: valleys cut by rivers that drain to one trunk river, and the rivers traced from it.

The surface is the steady state of stream-power incision, where the channel's slope follows Flint's law
S = k A^-theta (A the drained area; Flint 1974, Water Resour. Res. 10(5), 969-973; Whipple & Tucker 1999,
J. Geophys. Res. 104(B8), 17661-17674), with a limit on the steepness of hillslopes. It is reached by turns: drain
the surface by D8, raise every pixel above the one it drains to by slope x distance, smooth, drain again.
"""

from typing import Any

import numpy as np
import pyflwdir
from numpy.typing import NDArray
from pyflwdir import dem as flow_dem
from scipy import ndimage

Float = NDArray[np.float64]

TURNS = 20
CHANNEL_STEEPNESS = 57.0  # k, with A in square metres
CONCAVITY = 0.45  # theta
HILLSLOPE_AREA = 60_000.0  # square metres; where less drains, the slope no longer steepens
STEEPEST = 1.1  # rise over run of a hillslope before `gain`
TRUNK_BED = 80.0  # elevation of the trunk river's lowest end, metres
TRUNK_FALL = 0.0006
FLOOR_WIDTH = 300.0  # metres from the trunk over which its valley floor steepens


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


def drainage(z: Float, size: float) -> tuple[Any, Float]:
    """D8 drainage (a pyflwdir raster) of elevation (row, column), and the area drained in square kilometres."""
    flow = pyflwdir.from_dem(z.astype(np.float32), nodata=-9999.0)
    return flow, np.asarray(flow.upstream_area("cell") * size**2 / 1e6, np.float64)
