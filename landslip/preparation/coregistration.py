"""Whether image, DEM and landslides lie on one another: their shift, to a fraction of a pixel.

Terrain shades an image, so an image is registered to a DEM by the relief's shading (Horn & Bachman 1978, Commun. ACM
21(11), 914-924). The shading of ground under any sun is a sum of the three components of its unit normal, whatever the
sun's azimuth and height, so the sun need not be known: at every trial shift the bands' best sum is correlated with the
normals' best sum, the first canonical correlation (Hotelling 1936, Biometrika 28, 321-377). The third component, which
falls with the slope, also takes up land cover that follows the slope. Landslides are registered in the same way: the
bands' best sum against the share of each pixel that the polygons cover, so that neither the bands that tell landslides
from their surroundings nor the contrast's sign need be known.

Both sides are made local first, as phase and orientation correlation do in the frequency domain (Fitch et al. 2002,
Proc. BMVC, 133-142): smoothed, taken off the mean of their surroundings and divided by the deviation there. Covariances
are computed tile by tile and pooled for the shift, whose peak is refined on a spline. For the shift's standard error
each tile is left out once (the jackknife; Tukey 1958). A shift counts only where that error is small and the peak
stands well above all others; else it cannot be told, and None is returned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import geopandas as gpd
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy import fft, ndimage

from landslip.config.site_tables import DemTable
from landslip.geo.grid import Grid, Window, metric_fault
from landslip.geo.raster import read_info
from landslip.geo.rasterize import burn
from landslip.geo.warp import default_grid, warp
from landslip.preparation.images import read_images
from landslip.preparation.site_inputs import SiteImage
from landslip.preparation.study_area import Inside

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Label = Callable[[Window], NDArray[np.uint8]]  # (h, w) at a window of the grid: 1 landslide, 0 not, 255 unknown

SHIFT_REACH = 24  # pixels: trial shifts in each direction
MOST_TILES = 16  # that are read of a site
LARGEST_TILE = 256  # pixels a side, at most
FEWEST_TILES = 4  # below which no standard error is to be had
TILES_OF_A_SMALL_SITE = 12  # that a site is cut into where that makes them smaller than LARGEST_TILE
SMALLEST_TILE = 32  # pixels a side
MOST_BANDS = 10  # of the image, the first ones
TILE_COVERED = 0.25  # of a tile that lies inside the outline
SMOOTH, MOST_SMOOTH = 1.0, 2.0  # pixels: deviation of the first smoothing, more for a coarse DEM
SURROUNDINGS = 9  # pixels a side of the box, applied twice, that is a pixel's surroundings, times the smoothing
PEAK_APART = 8.0  # smoothings from the peak where another peak is another place
MOST_DEVIATIONS = 3.0  # a single bright roof counts no more than this
FLAT_SHADING = 0.01  # of a unit normal: shading below this (0.6 degrees) is the DEM's own noise
FINER = 8  # sub-pixels a side on which the share of a pixel under landslides is counted
PROMINENT = 2.0  # the peak's shared variance over that of any other place, at least, for a shift that is believed
PRECISE = 0.25  # pixels: the largest standard error of a shift that is believed
PEAK_STEP = 0.02  # pixels: to which the peak is refined
TOLERANCE = 0.5  # pixels: the shift that `check` warns of
FAR = 300  # pixels: how far places lie from the site, at most, whose relief its own is compared with
FEWEST_PLACES = 100  # to compare with, at least: fewer say nothing of one in a hundred
PLACE_COVERED = 0.95  # of a place that has elevation, at least, for it to be compared


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far a layer lies from where the image shows it.

    `east` and `north` are metres; `columns` (to the right) and `rows` (downwards) are pixels of the grid. `error` is
    the standard error of the larger of those two, pixels, from chance alone.
    """

    east: float
    north: float
    columns: float
    rows: float
    error: float

    @property
    def pixels(self) -> float:
        """Length, pixels."""
        return math.hypot(self.columns, self.rows)


@dataclass(frozen=True)
class _Covariances:
    """The covariances of one tile: between B bands of the image and T planes of the layer, and within each of them.

    `between` is (B, T, S, S), at every trial shift in rows and columns; `image` is (B, B), `layer` (T, T).
    """

    between: Float64
    image: Float64
    layer: Float64


def relief_shift(images: Sequence[SiteImage], dem: DemTable, grid: Grid, inside: Inside) -> Shift | None:
    """How far the DEM lies from where the image's shading shows it; None where that cannot be told.

    At most 16 tiles of 256 pixels are read, spread over the site. Raises what reading the images and the DEM raises.
    """
    smooth = _smoothing(dem, grid)
    covariances = []
    for window in evenly(candidates(grid.shape, inside), MOST_TILES):
        layer = np.asarray([local(plane, smooth, FLAT_SHADING) for plane in _normals(dem, _around(grid, window))])
        covariances.append(_covariances(_bands(images, grid, window, inside, smooth), layer))
    return shift_of(covariances, grid, smooth)


def relief_rank(images: Sequence[SiteImage], dem: DemTable, grid: Grid, inside: Inside) -> float | None:
    """The share of places around a site, 0 to 1, whose relief the image shows less of than of the site's own.

    For sites too small for `relief_shift`. The image of the site's middle, at most 256 pixels a side, is compared with
    the DEM's relief there and at places up to FAR pixels away. The share is near 1 for a DEM that lies where the image
    does, and may be anything for one that does not. None with fewer than FEWEST_PLACES of them, or where too little of
    the middle lies inside the outline.
    """
    height, width = (min(n, LARGEST_TILE) for n in grid.shape)
    window = Window((grid.height - height) // 2, (grid.width - width) // 2, height, width)
    if inside(window).mean() < TILE_COVERED:
        return None
    smooth = _smoothing(dem, grid)
    image = _bands(images, grid, window, inside, smooth)[:, SHIFT_REACH:-SHIFT_REACH, SHIFT_REACH:-SHIFT_REACH]
    relief = np.asarray([local(plane, smooth, FLAT_SHADING) for plane in _normals(dem, grid.crop(window).pad(FAR))])
    defined = np.isfinite(warp(dem.path, grid.crop(window).pad(FAR), [1], "nearest", dem.nodata)[0])
    white = _whitening(_within(image))

    def shared(row: int, column: int) -> float:
        layer = relief[:, FAR + row : FAR + row + height, FAR + column : FAR + column + width]
        between = image.reshape(len(image), -1) @ layer.reshape(len(layer), -1).T
        return float(np.linalg.svd(white @ between @ _whitening(_within(layer)), compute_uv=False)[0])

    steps = range(-FAR, FAR + 1, FAR // 15)
    places = [
        (row, column)
        for row in steps
        for column in steps
        if max(abs(row), abs(column)) >= SHIFT_REACH
        and defined[FAR + row : FAR + row + height, FAR + column : FAR + column + width].mean() > PLACE_COVERED
    ]
    if len(places) < FEWEST_PLACES or not image.any():
        return None
    shared_here = shared(0, 0)
    return float(np.mean([shared(*place) < shared_here for place in places]))


def landslide_shift(
    images: Sequence[SiteImage],
    landslides: gpd.GeoDataFrame | None,
    label: Label,
    grid: Grid,
    inside: Inside,
) -> Shift | None:
    """How far landslide outlines lie from where the image shows their contrast; None where that cannot be told.

    `landslides` are polygons in the grid's CRS, or None to take `label` itself. The 16 tiles are read that hold most of
    the rarer of landslide and other ground.
    """
    mixed = []  # tiles of both, with the pixels of the rarer, negative so that sorting puts the most first
    for row, windows in groupby(candidates(grid.shape, inside), lambda window: window.row):
        across: NDArray[np.uint8] | None = None
        for window in windows:
            if across is None:
                across = label(Window(row, 0, window.height, grid.width))
            part = across[:, window.slices[1]]
            fewer = min(int((part == 1).sum()), int((part == 0).sum()))
            if fewer:
                mixed.append((-fewer, window))
    covariances = []
    for _, window in sorted(mixed)[:MOST_TILES]:
        share = (
            _padded(label, window, grid.shape)
            if landslides is None
            else covered_share(landslides, _around(grid, window))
        )
        layer = local(share, SMOOTH)[None]
        covariances.append(_covariances(_bands(images, grid, window, inside, SMOOTH), layer))
    return shift_of(covariances, grid, SMOOTH)


def candidates(shape: tuple[int, int], inside: Inside) -> list[Window]:
    """Tiles of a grid of which a quarter or more lies inside, row by row; smaller ones on a small site."""
    side = int(np.clip(math.sqrt(shape[0] * shape[1] / TILES_OF_A_SMALL_SITE), SMALLEST_TILE, LARGEST_TILE))
    rows, columns = max(1, round(shape[0] / side)), max(1, round(shape[1] / side))
    height, width = shape[0] // rows, shape[1] // columns
    windows = []
    for r in range(rows):
        across = inside(Window(r * height, 0, min(height, LARGEST_TILE), shape[1]))
        row = (
            Window(r * height, c * width, min(height, LARGEST_TILE), min(width, LARGEST_TILE)) for c in range(columns)
        )
        windows += [window for window in row if across[:, window.slices[1]].mean() >= TILE_COVERED]
    return windows


def evenly(windows: Sequence[Window], most: int) -> list[Window]:
    """At most `most` of the windows, evenly along their order."""
    if len(windows) <= most:
        return list(windows)
    return [windows[int((i + 0.5) * len(windows) / most)] for i in range(most)]


def covered_share(landslides: gpd.GeoDataFrame, grid: Grid) -> Float32:
    """The share of each pixel that polygons cover, (H, W) in [0, 1], counted on 8 x 8 sub-pixels."""
    left, bottom, right, top = grid.bounds
    polygons = landslides.geometry.cx[left:right, bottom:top]
    t = grid.transform
    fine = Grid(grid.crs, Affine(t.a / FINER, 0, t.c, 0, t.e / FINER, t.f), grid.height * FINER, grid.width * FINER)
    covered = burn(polygons, fine)
    return np.asarray(covered.reshape(grid.height, FINER, grid.width, FINER).mean((1, 3)), np.float32)


def local(plane: Float32, smooth: float, least: float = 0.0) -> Float32:
    """A plane (H, W) smoothed, less the mean of its surroundings and over their deviation; 0 where undefined.

    `smooth` is the deviation of the Gaussian, pixels. The surroundings are a box of nine times that, applied twice;
    for the deviation it is twice as wide. `least` is added to the deviation, in the plane's unit, so that noise on even
    ground stays small.
    """
    defined = np.isfinite(plane)
    if not defined.any():
        return np.zeros(plane.shape, np.float32)
    weight = defined.astype(np.float32)

    def mean(values: Float32, over: Callable[[Float32], Float32]) -> Float32:
        return np.asarray(over(np.where(defined, values, np.float32(0))) / (over(weight) + np.float32(1e-6)))

    def box(values: Float32, times: int = 1) -> Float32:
        side = round(times * SURROUNDINGS * smooth)
        once = ndimage.uniform_filter(values, side, mode="constant")
        return np.asarray(ndimage.uniform_filter(once, side, mode="constant"))

    def gaussian(values: Float32) -> Float32:
        return np.asarray(ndimage.gaussian_filter(values, smooth, mode="constant", truncate=3))

    detail = mean(plane, gaussian)
    detail = np.where(defined, detail - mean(detail, box), np.float32(0))
    deviation = np.sqrt(np.maximum(mean(detail**2, lambda values: box(values, 2)), 0))
    floor = least + 0.1 * float(detail[defined].std()) + 1e-12
    detail = np.clip(detail / (deviation + np.float32(floor)), -MOST_DEVIATIONS, MOST_DEVIATIONS)
    return detail.astype(np.float32)


def shift_of(tiles: Sequence[_Covariances], grid: Grid, smooth: float) -> Shift | None:
    """The shift that tiles agree on; None with too few tiles, or where it is not significant."""
    tiles = [tile for tile in tiles if np.trace(tile.image) > 0 and np.trace(tile.layer) > 0]
    if len(tiles) < FEWEST_TILES:
        return None
    shared = _shared_variance(tiles)
    best = _peak(shared)
    if best is None:
        return None
    if _prominence(shared, PEAK_APART * smooth) < PROMINENT:
        return None
    left_out = [_peak(_shared_variance([*tiles[:i], *tiles[i + 1 :]])) for i in range(len(tiles))]
    if any(peak is None for peak in left_out):
        return None
    places = np.asarray(left_out, np.float64)
    scatter = (len(tiles) - 1) / len(tiles) * ((places - places.mean(axis=0)) ** 2).sum(axis=0)
    error = float(np.sqrt(scatter.max()))
    if error > PRECISE:
        return None
    rows, columns = best
    return Shift(
        east=columns * grid.x_size,
        north=-rows * grid.y_size,
        columns=columns,
        rows=rows,
        error=error,
    )


def _smoothing(dem: DemTable, grid: Grid) -> float:
    """The deviation of the first smoothing, pixels of the grid: half a pixel of a coarse DEM."""
    return min(max(SMOOTH, 0.5 * _dem_pixel(dem, grid) / grid.x_size), MOST_SMOOTH)


def _normals(dem: DemTable, around: Grid) -> Float32:
    """The three components (east, south, up) of the ground's unit normals, (3, H, W), NaN where undefined."""
    z = warp(dem.path, around, [1], "cubic", dem.nodata)[0].astype(np.float64) * dem.scale
    z_down, z_right = np.gradient(z, around.y_size, around.x_size)
    up = 1 / np.sqrt(1 + z_down**2 + z_right**2)
    return np.asarray([z_right * up, z_down * up, up], np.float32)


def _dem_pixel(dem: DemTable, grid: Grid) -> float:
    """The side of the DEM's pixels in metres, or `dem_resolution` where that is coarser."""
    info = read_info(dem.path)
    size = info.grid.x_size if metric_fault(info.crs) is None else default_grid(info, grid.crs, None).x_size
    return max(size, dem.dem_resolution or 0.0)


def _around(grid: Grid, window: Window) -> Grid:
    """The grid of a window and the trial shifts around it."""
    return grid.crop(window).pad(SHIFT_REACH)


def _padded(label: Label, window: Window, shape: tuple[int, int]) -> Float32:
    """Landslide or not at a window and SHIFT_REACH around it, NaN where unknown and beyond a grid of `shape`."""
    out = np.full((window.height + 2 * SHIFT_REACH, window.width + 2 * SHIFT_REACH), np.nan, np.float32)
    around = Window(window.row - SHIFT_REACH, window.column - SHIFT_REACH, *out.shape)
    part = around.clip(shape)
    codes = label(part)
    out[part.within(around)] = np.where(codes <= 1, codes, np.nan)
    return out


def _bands(images: Sequence[SiteImage], grid: Grid, window: Window, inside: Inside, smooth: float) -> Float32:
    """The image's bands of a tile, local, with SHIFT_REACH zeros on every side: (B, h, w)."""
    bands = list(read_images(images, grid.crop(window)).values())[:MOST_BANDS]
    out = np.zeros((len(bands), window.height + 2 * SHIFT_REACH, window.width + 2 * SHIFT_REACH), np.float32)
    ground = inside(window)
    for plane, band in zip(out, bands, strict=True):
        plane[SHIFT_REACH:-SHIFT_REACH, SHIFT_REACH:-SHIFT_REACH] = local(
            np.where(ground, band, np.float32(np.nan)), smooth
        )
    return out


def _covariances(image: Float32, layer: Float32) -> _Covariances:
    """The covariances of image (B, H, W) at x with layer (T, H, W) at x + shift, for every trial shift.

    They come from Fourier transforms, which would wrap around: the image's rim of SHIFT_REACH pixels has to be zero.
    """
    size = [fft.next_fast_len(n, real=True) for n in image.shape[1:]]
    image_spectra, layer_spectra = fft.rfft2(image, size), fft.rfft2(layer, size)
    trial = np.arange(-SHIFT_REACH, SHIFT_REACH + 1)
    places = np.ix_(trial % size[0], trial % size[1])
    between = np.empty((len(image), len(layer), len(trial), len(trial)))
    for b, conjugate in enumerate(np.conj(image_spectra)):
        for t, spectrum in enumerate(layer_spectra):
            between[b, t] = fft.irfft2(conjugate * spectrum, size)[places]
    inner = layer[:, SHIFT_REACH:-SHIFT_REACH, SHIFT_REACH:-SHIFT_REACH]
    return _Covariances(between, _within(image), _within(inner))


def _within(planes: Float32) -> Float64:
    """The covariances (B, B) of planes (B, H, W) that are local, and so have no mean."""
    flat = planes.reshape(len(planes), -1).astype(np.float64)
    return np.asarray(flat @ flat.T)


def _shared_variance(tiles: Sequence[_Covariances]) -> Float64:
    """The first canonical correlation of image and layer, squared, at every trial shift: (S, S)."""
    image = _whitening(np.sum([tile.image for tile in tiles], axis=0))
    layer = _whitening(np.sum([tile.layer for tile in tiles], axis=0))
    between = np.sum([tile.between for tile in tiles], axis=0)
    white = np.einsum("ab,btij,ts->ijas", image, between, layer, optimize=True)
    # The largest eigenvalue of the smaller product is the square of the largest singular value, and quicker to have.
    product = np.einsum("ijas,ijat->ijst", white, white, optimize=True)
    return np.asarray(np.linalg.eigvalsh(product)[..., -1])


def _whitening(covariance: Float64) -> Float64:
    """The inverse square root of a covariance (B, B), which makes planes uncorrelated and of one variance."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 1e-3 * values[-1])  # Else bands that repeat one another would add their noise.
    return np.asarray(vectors / np.sqrt(values) @ vectors.T)


def _peak(shared: Float64) -> tuple[float, float] | None:
    """(row, column) shift of the largest value, refined on a cubic spline; None at the rim of the trial shifts."""
    row, column = (int(i) for i in np.unravel_index(int(shared.argmax()), shared.shape))
    if not (2 <= row < shared.shape[0] - 2 and 2 <= column < shared.shape[1] - 2):
        return None
    around = np.arange(-1, 1 + PEAK_STEP / 2, PEAK_STEP)
    rows, columns = np.meshgrid(row + around, column + around, indexing="ij")
    fine = ndimage.map_coordinates(shared, [rows, columns], order=3)
    i, j = np.unravel_index(int(fine.argmax()), fine.shape)
    return float(row + around[i] - SHIFT_REACH), float(column + around[j] - SHIFT_REACH)


def _prominence(shared: Float64, beyond: float) -> float:
    """The largest value over the largest farther than `beyond` pixels from it."""
    row, column = np.unravel_index(int(shared.argmax()), shared.shape)
    rows, columns = np.ogrid[: shared.shape[0], : shared.shape[1]]
    far = (rows - row) ** 2 + (columns - column) ** 2 > beyond**2
    return float(shared[row, column] / max(float(shared[far].max()), 1e-12))
