"""The one module that opens rasters. Arrays are (band, row, column); undefined is NaN.

Reading turns declared nodata, the site's own nodata values, masks and infinities into NaN and names the file in every
error. Writing goes aside first and is renamed when whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.warp import calculate_default_transform, transform_bounds
from rasterio.warp import transform as transform_points
from rasterio.windows import Window as RasterioWindow

from landslip.errors import GridError, OutputError, RasterError
from landslip.grid import Grid, Window, crs_name, tiles
from landslip.output import is_stream, require_space, scratch, writing
from landslip.resample import reach, resample

# Pictures and rasters without a CRS are named in our own words. Here and once: catching warnings around each opening is
# not safe among threads.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

# GDAL would keep a twentieth of the machine's memory in blocks it has read; memory is to follow the window instead.
os.environ.setdefault("GDAL_CACHEMAX", "128")

TILE = 256  # side of the tiles that rasters are stored in, pixels
BIGTIFF, FIRST_REQUEST = 43, 16384  # version of a TIFF with 64-bit offsets; bytes that a client asks for first
COG_TILE = 512  # of those that are looked at through overviews
MOST_OF_A_BLOCK = 2**31  # bytes of one stored block, which is decoded as a whole
LARGEST_TILE = 4096 * 4096  # pixels; a larger block of a smaller raster is a slip
OWN_PIXELS = ("GTiff", "PNG", "JP2OpenJPEG")  # drivers whose file holds all of the raster
MOST_FROM_A_BYTE = 100_000  # pixels; the best compressors reach some thousands
MOST_UNQUESTIONED = 10**9  # pixels
MOST_BANDS = 4096
GEOTIFF_SUFFIXES = {".tif", ".tiff"}
ARCHIVES = {".tar": "/vsitar/", ".zip": "/vsizip/"}  # read where they lie, never unpacked
FARTHEST = 1e9  # of a coordinate, metres or degrees: no body mapped so far is as large
SMALLEST_PIXEL = 1e-9  # metres or degrees
MOST_AT_ONCE = 16_000_000  # pixels of a raster that are read for a window before it is divided
KNOT = 16  # pixels between two that PROJ computes
FINEST = 2.0**20  # parts of a pixel that positions are rounded to
SAME_SIZE = 1e-8  # by how much two pixel sizes may differ and be one: 0.0002 of a pixel over a scene
PERCENTILES = (2, 98)  # that a band is stretched between, for pictures
PROBABILITY = "landslide probability"  # the description of that band


@dataclass(frozen=True)
class RasterInfo:
    """What a raster's header says. `crs` may be None; `rotated` where the transform is not north-up."""

    path: Path
    count: int
    height: int
    width: int
    crs: CRS | None
    transform: Affine
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    names: tuple[str | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    tags: dict[str, str]
    rotated: bool

    @property
    def grid(self) -> Grid:
        """The raster's own grid; GridError where it has no CRS, is rotated, or lies where nothing can."""
        if self.crs is None:
            raise GridError(f"{self.path} has no CRS. Assign one, e.g. with `gdal_edit.py -a_srs EPSG:32649`.")
        if self.rotated:
            raise GridError(f"{self.path} is rotated or south-up. Warp it north-up first, e.g. with gdalwarp.")
        grid, (width, height) = Grid(self.crs, self.transform, self.height, self.width), self.transform[:5:4]
        if not (min(width, -height) > SMALLEST_PIXEL and all(abs(at) < FARTHEST for at in grid.bounds)):  # NaN too
            raise GridError(
                f"{self.path} says that its pixels measure {width:g} x {-height:g} and that it reaches from x, y = "
                f"{', '.join(f'{at:g}' for at in grid.bounds[:2])} to {', '.join(f'{at:g}' for at in grid.bounds[2:])}:"
                " its georeference is damaged. Assign it anew, e.g. with `gdal_edit.py -a_ullr`."
            )
        return grid


def require_one_band(info: RasterInfo, what: str) -> None:
    """Raise RasterError for a raster of several bands where a `what` raster has one."""
    if info.count != 1:
        raise RasterError(f"{info.path} has {info.count} bands, and a {what} raster has one. Is it the file you meant?")


def require_probability(info: RasterInfo) -> None:
    """Raise RasterError for a raster of several bands whose first does not say that it is the probability.

    A raster of one band is taken as it is, whoever made it.
    """
    if info.count != 1 and info.names[0] != PROBABILITY:
        raise RasterError(
            f"{info.path} has {info.count} bands, and its first is called {info.names[0] or 'nothing'}, not "
            f"{PROBABILITY}. Is it the file you meant?"
        )


def archive_of(path: Path) -> Path | None:
    """The archive (.tar, .zip) that a path such as `scene.tar/band.TIF` lies in; None for a file of its own."""
    archives = (parent for parent in path.parents if parent.suffix.lower() in ARCHIVES and parent.is_file())
    return next(archives, None)


def is_virtual(path: Path) -> bool:
    """Whether a path is GDAL's own: /vsis3/BUCKET/FILE, /vsicurl/https://HOST/FILE and their like."""
    return path.as_posix().startswith("/vsi")


def gdal_name(path: Path) -> str:
    """A path as GDAL is asked for it: Path makes one slash of the two in https://, which a virtual path may hold."""
    return re.sub(r"(/(?:https?|ftp):)/+", r"\1//", path.as_posix(), count=1) if is_virtual(path) else str(path)


def exists(path: Path) -> bool:
    """Whether a raster is there. RasterError where a virtual path does not answer, rather than taking it for missing.

    A server that answers 404 says that it is not; one that answers 403 says nothing.
    """
    if not is_virtual(path):
        return path.exists()
    try:
        with opening(path):
            return True
    except RasterError as error:
        if "404" in str(error) or "does not exist" in str(error) or "No such file" in str(error):
            return False
        raise


def file_facts(path: Path) -> list[Any]:
    """A file by name, size and time: a stack of gigabytes is not read twice to know it again.

    What a virtual path leads to has neither for us: it is known by its header.
    """
    if not is_virtual(path):
        with opening(path) as dataset:  # with what a virtual raster is made of, masks and what lies beside it
            parts = (Path(name) for name in dataset.files if not name.endswith((".aux.xml", ".ovr")))
            names = {archive_of(path) or path, *(part for part in parts if part.exists())}
        stats = {name.name: name.stat() for name in sorted(names)}
        return [path.name, *([name, stat.st_size, stat.st_mtime_ns] for name, stat in stats.items())]
    info = read_info(path)
    crs = None if info.crs is None else info.crs.to_wkt()
    facts = [info.count, info.height, info.width, crs, tuple(info.transform), info.dtypes, info.names, info.tags]
    return [gdal_name(path), hashlib.sha256(repr(facts).encode()).hexdigest()]


@contextmanager
def opening(path: Path) -> Iterator[Any]:
    """Open a raster for reading; RasterError names a missing, unreadable or truncated file.

    `path` may lead into an archive, `scene.tar/band.TIF`, which is read where it lies, or be GDAL's own (/vsis3/...).
    """
    archive = None if is_virtual(path) else archive_of(path)
    if archive is None and not is_virtual(path) and not path.exists():
        raise RasterError(f"{path} does not exist. Check the path; paths in a site file start at its folder.")
    if archive is None and not is_virtual(path) and is_stream(path):
        raise RasterError(f"{path} is a pipe or a device, not a file. Write it to a file first.")
    name = gdal_name(path)
    driver = None
    if archive is not None:
        member, whole = path.relative_to(archive).as_posix(), archive.absolute().as_posix()
        # braces: whatever the names above it look like, this is the archive; GDAL cannot tell them from those of a name
        whole = whole if {"{", "}"} & set(whole) else f"{{{whole}}}"
        name = f"{ARCHIVES[archive.suffix.lower()]}{whole}/{member}"
        driver = "JP2OpenJPEG" if path.suffix.lower() == ".jp2" else "GTiff"  # a VRT could name any other file
    try:
        with rasterio.open(name, driver=driver) as dataset:
            _require_plausible(dataset, path, None if is_virtual(path) else (archive or path).stat().st_size)
            yield dataset
    except (RasterioError, CRSError, UnicodeDecodeError) as error:  # the last of names and tags
        raise _unreadable(gdal_name(path), error) from error


def _require_plausible(dataset: Any, path: Path, size: int | None) -> None:
    """Refuse a small file that claims to be a huge raster before any of it is read.

    `size`: bytes on the disk; None for what lies elsewhere, which does not say.
    """
    if dataset.count > MOST_BANDS:  # each costs milliseconds, whatever its size
        raise RasterError(
            f"{path} has {dataset.count:,} bands, more than the {MOST_BANDS:,} that are read. If it is not damaged, "
            "take out those that are needed: gdal_translate -b."
        )
    if any(dtype.startswith("complex") for dtype in dataset.dtypes):
        raise RasterError(
            f"{path} holds complex numbers ({dataset.dtypes[0]}). Give one of their parts, or their size."
        )
    claimed = dataset.height * dataset.width * dataset.count
    if dataset.driver in OWN_PIXELS and size is not None and claimed > max(MOST_UNQUESTIONED, MOST_FROM_A_BYTE * size):
        raise RasterError(
            f"{path} claims {dataset.count} x {dataset.height} x {dataset.width} pixels and holds "
            f"{size:,} bytes: it is damaged or not meant to be read. Fetch or make it again."
        )
    for (height, width), dtype in zip(dataset.block_shapes, dataset.dtypes, strict=True):
        most = max(LARGEST_TILE, 4 * dataset.height * dataset.width)
        if height * width > most or height * width * np.dtype(dtype).itemsize > MOST_OF_A_BLOCK:
            raise RasterError(
                f"{path} claims {dataset.height} x {dataset.width} pixels stored in blocks of {height} x {width}, held "
                "in memory whole. If it is not damaged, tile it: gdal_translate -co TILED=YES."
            )


def _unreadable(path: Path | str, error: BaseException) -> RasterError:
    return RasterError(
        f"{path} cannot be read as a raster ({_reason(error)}): it is truncated, damaged or not a raster. "
        "Fetch or make it again."
    )


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(cause).replace("\n", " ").strip()[:200] or type(cause).__name__


def read_info(path: Path) -> RasterInfo:
    """Read a raster's header."""
    with opening(path) as dataset:
        transform = dataset.transform
        return RasterInfo(
            path,
            dataset.count,
            dataset.height,
            dataset.width,
            dataset.crs,
            transform,
            tuple(dataset.dtypes),
            tuple(dataset.nodatavals),
            tuple(dataset.descriptions),
            tuple(dataset.scales),
            tuple(dataset.offsets),
            dict(dataset.tags()),
            transform.b != 0 or transform.d != 0 or transform.a <= 0 or transform.e >= 0,
        )


def read_band_tags(path: Path) -> list[dict[str, str]]:
    """The tags of every band, in band order."""
    with opening(path) as dataset:
        return [dict(dataset.tags(band)) for band in dataset.indexes]


def cut(
    dataset: Any,
    window: Window,
    bands: Sequence[int] | None = None,
    nodata: Sequence[float] = (),
) -> NDArray[np.float32]:
    """Pixels of an open raster at a window, as (B, height, width) float32 with NaN where undefined.

    What lies beyond the raster's edge is NaN. `nodata` adds values to those that the file declares.
    """
    bands = list(dataset.indexes if bands is None else bands)
    if not set(bands) <= set(dataset.indexes):
        raise RasterError(f"{dataset.name} has {dataset.count} band(s), so no band {max(bands)}. Bands count from 1.")
    inside = window.clip((dataset.height, dataset.width))
    out = np.full((len(bands), window.height, window.width), np.nan, np.float32)
    if inside.height == 0 or inside.width == 0:
        return out
    box = RasterioWindow(inside.column, inside.row, inside.width, inside.height)
    stored = _decode(dataset, bands, box)
    with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite, and so undefined
        values = stored.astype(np.float32)
    for value, band_values, declared in zip(values, stored, (dataset.nodatavals[b - 1] for b in bands), strict=True):
        for missing in (*([] if declared is None else [declared]), *nodata):
            with np.errstate(over="ignore"):
                value[band_values == missing] = np.nan
    flags = dataset.mask_flag_enums
    if any("per_dataset" in {flag.name for flag in flags[b - 1]} for b in bands):
        masks = dataset.read_masks(bands, window=box)
        values[masks == 0] = np.nan
    values[~np.isfinite(values)] = np.nan
    rows, columns = inside.within(window)
    out[:, rows, columns] = values
    return out


def cut_around(
    dataset: Any, window: Window, bands: Sequence[int] | None = None
) -> tuple[NDArray[np.float32], list[Window]]:
    """As `cut`, but what is stored damaged is NaN in all bands, and listed: the stored blocks that cannot be read."""
    try:
        return cut(dataset, window, bands), []
    except RasterError:  # which of the stored blocks it is takes reading them one by one
        count = dataset.count if bands is None else len(bands)
    values = np.full((count, window.height, window.width), np.nan, np.float32)
    damaged = []
    for block in _stored_blocks(dataset, window):
        part = block.intersect(window)
        rows, columns = part.within(window)
        try:
            values[:, rows, columns] = cut(dataset, part, bands)
        except RasterError:
            damaged.append(block)
    return values, damaged


def _stored_blocks(dataset: Any, part: Window) -> Iterator[Window]:
    """The stored blocks that meet a part of a raster."""
    part = part.clip(dataset.shape)
    height, width = dataset.block_shapes[0]
    rows = range(part.row // height, -(-(part.row + part.height) // height))
    columns = range(part.column // width, -(-(part.column + part.width) // width))
    for row, column in product(rows, columns):
        yield Window(row * height, column * width, height, width).clip(dataset.shape)


def cut_stored(dataset: Any, window: Window, band: int = 1) -> NDArray[Any]:
    """One band of an open raster at a window inside it, (height, width), as it is stored: nothing turned into NaN."""
    box = RasterioWindow(window.column, window.row, window.width, window.height)
    return np.asarray(_decode(dataset, band, box))


def _decode(dataset: Any, bands: Any, box: RasterioWindow) -> NDArray[Any]:
    # Named here, not in `opening`: where several rasters are open at once, that would name the innermost.
    try:
        return np.asarray(dataset.read(bands, window=box))
    except RasterioError as error:
        raise _unreadable(dataset.name, error) from error


def read(
    path: Path,
    bands: Sequence[int] | None = None,
    window: Window | None = None,
    nodata: Sequence[float] = (),
) -> NDArray[np.float32]:
    """Read a raster, or a window of it, as (B, H, W) float32 with NaN where undefined."""
    with opening(path) as dataset:
        return cut(dataset, window or Window(0, 0, dataset.height, dataset.width), bands, nodata)


def read_stored(path: Path, band: int = 1, window: Window | None = None) -> NDArray[Any]:
    """Read one band as it is stored (classes, labels, masks), (H, W), nothing turned into NaN."""
    with opening(path) as dataset:
        return cut_stored(dataset, window or Window(0, 0, dataset.height, dataset.width), band)


def picture_shape(path: Path) -> tuple[int, int, int]:
    """(bands, rows, columns) of a picture (a PNG, say), its alpha band not counted."""
    with opening(path) as dataset:
        return len(_but_alpha(dataset)), dataset.height, dataset.width


def read_picture(path: Path) -> NDArray[np.float32]:
    """Read a picture, which needs no CRS, as (B, H, W) float32 without its alpha band; NaN where alpha is 0."""
    with opening(path) as dataset:
        return cut(dataset, Window(0, 0, dataset.height, dataset.width), _but_alpha(dataset))


def require_whole_png(path: Path) -> None:
    """Raise RasterError for a PNG that is cut short or altered: GDAL reads such a file as if nothing were wrong.

    Every chunk carries its length and a CRC, and the last is IEND (ISO/IEC 15948, 5.3).
    """
    if not path.exists():
        raise RasterError(f"{path} does not exist. Check the path.")
    stored, at, name = path.read_bytes(), 8, b""
    whole = stored[:8] == b"\x89PNG\r\n\x1a\n"
    while whole and name != b"IEND":
        length = int.from_bytes(stored[at : at + 4])
        name, end = stored[at + 4 : at + 8], at + 8 + length
        whole = len(stored) >= end + 4 and zlib.crc32(stored[at + 4 : end]) == int.from_bytes(stored[end : end + 4])
        at = end + 4
    if not whole:
        raise _unreadable(path, RasterioError("its PNG chunks are not whole"))


def _but_alpha(dataset: Any) -> list[int]:
    return [band for band, what in zip(dataset.indexes, dataset.colorinterp, strict=True) if what != ColorInterp.alpha]


def glance(path: Path, bands: Sequence[int], most: int, stored: bool = False) -> tuple[NDArray[Any], Grid]:
    """A raster thinned to at most `most` pixels a side, for pictures: (B, H, W) and its grid.

    Every n-th pixel is read, so classes stay classes; `stored` keeps nodata as it is instead of turning it into NaN.
    """
    with opening(path) as dataset:
        grid = read_info(path).grid
        thin = max(1, -(-max(grid.shape) // most))
        height, width = -(-grid.height // thin), -(-grid.width // thin)
        values = dataset.read(list(bands), out_shape=(len(bands), height, width), masked=not stored)
        if not stored:
            values = values.astype(np.float32).filled(np.nan)
        a, e = grid.transform.a * grid.width / width, grid.transform.e * grid.height / height
        return values, Grid(grid.crs, Affine(a, 0, grid.transform.c, 0, e, grid.transform.f), height, width)


def stretch(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """The 2nd and 98th percentile of what is defined, never one value twice; (0, 1) where nothing is."""
    defined = values[np.isfinite(values)]
    if not defined.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(defined, PERCENTILES))
    return (low, high) if high > low else (low, low + 1)


def warp(
    path: Path,
    grid: Grid,
    bands: Sequence[int] | None = None,
    resampling: str = "bilinear",
    nodata: Sequence[float] = (),
) -> NDArray[np.float32]:
    """Bring a raster onto `grid` as (B, H, W) float32 with NaN where undefined.

    `resampling` is bilinear or cubic for continuous values, nearest for classes. Only the part of the raster that
    covers the grid is read. A raster that lies on the grid's own pixels is cut, not resampled. What a pixel gets does
    not depend on how `grid` was cropped, to the bit.
    """
    with opening(path) as dataset:
        source = read_info(path).grid
        with _leading(path, source.crs, grid.crs):
            window = needed_window(source, grid, resampling).clip(source.shape)
        if window.area > MOST_AT_ONCE and max(grid.shape) > 1:
            return in_quarters(lambda part: warp(path, grid.crop(part), bands, resampling, nodata), grid.shape)
        values = cut(dataset, window, bands, nodata)
    return warp_array(values, source.crop(window), grid, resampling)


def warp_stored(path: Path, grid: Grid, band: int = 1) -> NDArray[np.float32]:
    """One band brought onto `grid` by the nearest pixel, (H, W) float32: nodata stays a value; NaN beyond it."""
    with opening(path) as dataset:
        source = read_info(path).grid
        with _leading(path, source.crs, grid.crs):
            window = needed_window(source, grid, "nearest").clip(source.shape)
        if 0 in (window.height, window.width):
            return np.full(grid.shape, np.nan, np.float32)
        values = cut_stored(dataset, window, band).astype(np.float32)
    return np.asarray(warp_array(values[None], source.crop(window), grid, "nearest")[0])


def lies_on(path: Path, grid: Grid) -> bool:
    """Whether a raster's pixels are the grid's own, so that it is cut and not resampled."""
    return _whole_pixel_offset(read_info(path).grid, grid) is not None


def how_resampled(path: Path, grid: Grid, method: str) -> str:
    """What is done to a raster's pixels on the way to the grid, in words."""
    return "none: its pixels are the grid's" if lies_on(path, grid) else method


def warp_array(
    values: NDArray[np.float32], source: Grid, grid: Grid, resampling: str = "bilinear"
) -> NDArray[np.float32]:
    """Bring (B, H, W) float32 values from one grid to another; NaN is undefined on both."""
    if 0 in (*source.shape, *grid.shape):
        return np.full((len(values), *grid.shape), np.nan, np.float32)
    offset = _whole_pixel_offset(source, grid)
    if offset is not None:
        return _cut_array(values, Window(*offset, *grid.shape))
    rows, columns = _positions(source, grid)
    return resample(values, source.first, rows, columns, resampling, _scale(source, grid))


def in_quarters(values: Callable[[Window], NDArray[np.float32]], shape: tuple[int, int]) -> NDArray[np.float32]:
    """`values`, (B, h, w) at a window, of a whole of `shape` put together from its quarters."""
    rows, columns = ((0, n // 2, n) if n > 1 else (0, n) for n in shape)
    parts = [
        [values(Window(top, left, bottom - top, right - left)) for left, right in pairwise(columns)]
        for top, bottom in pairwise(rows)
    ]
    return np.concatenate([np.concatenate(line, axis=2) for line in parts], axis=1)


def needed_window(source: Grid, grid: Grid, resampling: str = "bilinear") -> Window:
    """The window of `source`, or beyond it, that resampling onto `grid` looks at; empty where no pixel has a place."""
    offset = _whole_pixel_offset(source, grid)
    if offset is not None:
        return Window(*offset, *grid.shape)
    rows, columns = _positions(source, grid)
    known = np.isfinite(rows) & np.isfinite(columns)
    if not known.any():
        return Window(0, 0, 0, 0)
    down, across = (reach(resampling, scale) for scale in _scale(source, grid))
    row, column = int(np.floor(rows[known].min())) - down, int(np.floor(columns[known].min())) - across
    height = int(np.floor(rows[known].max())) + down + 1 - row
    width = int(np.floor(columns[known].max())) + across + 1 - column
    return Window(row - source.first[0], column - source.first[1], height, width)


def _positions(source: Grid, grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the centres of `grid`'s pixels lie, (H, W) rows and columns in `source`'s pixels from its origin's corner.

    They follow from a pixel's place in the grid that `grid` was cropped from. Between two CRSs every 16th is computed
    by PROJ and the others between them, which moves them by less than a thousandth of a pixel.
    """
    own, first = grid.origin or grid.transform, grid.first
    down = first[0] + np.arange(grid.height)
    across = first[1] + np.arange(grid.width)
    if source.crs == grid.crs:
        x, y = own.c + (across + 0.5) * own.a, own.f + (down + 0.5) * own.e
        rows, columns = _in_pixels(source, x, y)
        return np.repeat(rows[:, None], grid.width, 1), np.repeat(columns[None], grid.height, 0)
    first_node = first[0] // KNOT, first[1] // KNOT
    last_node = (first[0] + grid.height) // KNOT + 1, (first[1] + grid.width) // KNOT + 1
    x = own.c + (np.arange(first_node[1], last_node[1] + 1) * KNOT + 0.5) * own.a
    y = own.f + (np.arange(first_node[0], last_node[0] + 1) * KNOT + 0.5) * own.e
    shape = (len(y), len(x))
    xs, ys = np.broadcast_to(x, shape).ravel(), np.broadcast_to(y[:, None], shape).ravel()
    there = _transformed(grid.crs, source.crs, xs, ys)
    rows, columns = (values.reshape(shape) for values in _in_pixels(source, *there))
    above, left = down // KNOT - first_node[0], across // KNOT - first_node[1]
    u, v = (down % KNOT / KNOT)[:, None], across % KNOT / KNOT
    return _between(rows, above, left, u, v), _between(columns, above, left, u, v)


def _in_pixels(
    source: Grid, x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and columns of coordinates, rounded to a millionth of a pixel, so that a pixel's border is met exactly."""
    own = source.origin or source.transform
    return np.round((y - own.f) / own.e * FINEST) / FINEST, np.round((x - own.c) / own.a * FINEST) / FINEST


def _transformed(
    from_crs: CRS, to_crs: CRS, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    there = np.array(transform_points(from_crs, to_crs, x, y)[:2], np.float64)
    there[:, ~np.isfinite(there).all(axis=0)] = np.nan
    return there[0], there[1]


def _between(
    knots: NDArray[np.float64], above: NDArray[Any], left: NDArray[Any], u: NDArray[Any], v: NDArray[Any]
) -> NDArray[np.float64]:
    lines = knots[above] * (1 - u) + knots[above + 1] * u
    return np.asarray(lines[:, left] * (1 - v) + lines[:, left + 1] * v)


def _scale(source: Grid, grid: Grid) -> tuple[float, float]:
    """Source pixels in one pixel of `grid`, down and across, at the corner of the grid that it was cropped from."""
    if source.crs == grid.crs:
        return grid.y_size / source.y_size, grid.x_size / source.x_size
    own = grid.origin or grid.transform
    x, y = np.array([own.c, own.c + own.a, own.c]), np.array([own.f, own.f, own.f + own.e])
    x, y = _transformed(grid.crs, source.crs, x, y)
    down, across = abs(y[2] - y[0]) / source.y_size, abs(x[1] - x[0]) / source.x_size
    return (float(down), float(across)) if np.isfinite(down + across) else (1.0, 1.0)


def _whole_pixel_offset(source: Grid, grid: Grid, tolerance: float = 1e-3) -> tuple[int, int] | None:
    """(row, column) of `grid`'s corner on `source`'s pixels, or None where resampling is needed."""
    if source.crs != grid.crs:
        return None
    if abs(source.x_size / grid.x_size - 1) > SAME_SIZE or abs(source.y_size / grid.y_size - 1) > SAME_SIZE:
        return None
    # asked of the grids that both were cropped from, so that the answer is one for all their windows
    ours, theirs = grid.origin or grid.transform, source.origin or source.transform
    row, column = (theirs.f - ours.f) / source.y_size, (ours.c - theirs.c) / source.x_size
    if abs(row - round(row)) > tolerance or abs(column - round(column)) > tolerance:
        return None
    return (
        round(row) + grid.first[0] - source.first[0],
        round(column) + grid.first[1] - source.first[1],
    )


def _cut_array(values: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    out = np.full((len(values), window.height, window.width), np.nan, np.float32)
    inside = window.clip((values.shape[1], values.shape[2]))
    if inside.height and inside.width:
        rows, columns = inside.within(window)
        out[:, rows, columns] = values[:, inside.slices[0], inside.slices[1]]
    return out


@contextmanager
def _leading(path: Path, crs: CRS, other: CRS) -> Iterator[None]:
    """Name the file, and both CRSs, where PROJ knows no way from one to the other."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # GDAL's, for which rasterio has no public name
        raise GridError(
            f"{path} is in {crs_name(crs)}, to which no way leads from {crs_name(other)} "
            f"({' '.join(str(error).split())[:200]}). Give it in a CRS of the same body."
        ) from error


def covering_window(raster: RasterInfo, grid: Grid, margin: int = 4) -> Window:
    """The window of a raster that covers `grid` with `margin` of its pixels to spare, clipped to the raster.

    Where the grid's pixels are larger the margin grows with them, as GDAL's kernels do (cubic: two target pixels).
    Raises GridError where no way leads from the grid's CRS to the raster's.
    """
    source = raster.grid
    with _leading(raster.path, source.crs, grid.crs):
        left, bottom, right, top = transform_bounds(grid.crs, source.crs, *grid.bounds, densify_pts=41)
    x, y = source.transform.c, source.transform.f
    across = (right - left) / source.x_size / max(grid.width, 1)  # source pixels in one target pixel
    down = (top - bottom) / source.y_size / max(grid.height, 1)
    columns, rows = max(margin, int(2 * across) + 2), max(margin, int(2 * down) + 2)
    first_column = int(np.floor((left - x) / source.x_size)) - columns
    last_column = int(np.ceil((right - x) / source.x_size)) + columns
    first_row = int(np.floor((y - top) / source.y_size)) - rows
    last_row = int(np.ceil((y - bottom) / source.y_size)) + rows
    window = Window(first_row, first_column, last_row - first_row, last_column - first_column)
    return window.clip(source.shape)


def default_grid(info: RasterInfo, crs: CRS, resolution: float | None) -> Grid:
    """The grid that a raster takes in another CRS and, where given, at another resolution (metres).

    Raises GridError where it takes none.
    """
    source = info.grid
    with _leading(info.path, source.crs, crs):
        transform, width, height = calculate_default_transform(
            source.crs, crs, source.width, source.height, *source.bounds, resolution=resolution
        )
    if transform is None or not width or not height:
        raise GridError(f"{info.path} cannot be brought from {crs_name(source.crs)} to {crs_name(crs)}.")
    return Grid(crs, transform, int(height), int(width))


@contextmanager
def creating(
    path: Path,
    grid: Grid,
    dtype: str,
    names: Sequence[str],
    nodata: float | None,
    tags: Mapping[str, str] | None = None,
    compress: bool = True,
    overwrite: bool = False,
    overviews: Literal["average", "nearest"] | None = None,
) -> Iterator[Any]:
    """Yield an open, tiled GeoTIFF to be written window by window; it gets its name when the block ends well.

    With `overviews`, made by that resampling, the file is a cloud-optimized GeoTIFF (which takes its size on the disk
    once more while it is made). Raises OutputError where the file exists (unless `overwrite`), is not called .tif, and
    where the disk is full or read-only.
    """
    require_geotiff_name(path)
    profile = _profile(grid, dtype, len(names), nodata, compress)
    with writing(path, overwrite) as aside, scratch(path, "plain") as plain:
        first = plain if overviews else aside
        if compress:
            require_space(path, 2**20)
        try:
            with rasterio.open(first, "w", **profile) as dataset:
                dataset.update_tags(**(tags or {}))
                for band, name in enumerate(names, start=1):
                    dataset.set_band_description(band, name)
                yield dataset
                header = _header(dataset)
            if not _is_whole(first, header):
                raise RasterioError("the file is shorter than what was written into it")
            if overviews:
                _to_cog(plain, aside, overviews, dtype)
                if not (_is_whole(aside, header) and _begins_with_its_directory(aside)):
                    raise RasterioError("the file is shorter than what was written into it")
        except RasterioError as error:
            raise OutputError(
                f"{path} cannot be written ({_reason(error)}): the disk may be full. Free some space and run again."
            ) from error


def _profile(grid: Grid, dtype: str, count: int, nodata: float | None, compress: bool) -> dict[str, Any]:
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": grid.height,
        "width": grid.width,
        "count": count,
        "dtype": dtype,
        "crs": grid.crs,
        "transform": grid.transform,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": TILE,
        "blockysize": TILE,
        "interleave": "band",
        "bigtiff": "if_safer",
    }
    if compress:
        profile |= {"compress": "deflate", "predictor": 3 if dtype.startswith("float") else 2, "zlevel": 6}
    return profile


def create_blank(path: Path, grid: Grid, names: Sequence[str], tags: Sequence[Mapping[str, str]]) -> None:
    """Make an uncompressed float32 GeoTIFF whose tiles all have their place and hold nothing yet; NaN is nodata.

    Its size on the disk is taken at once where the system can, so that the disk cannot fill up later. `tags`: a mapping
    for every band.
    """
    require_geotiff_name(path)
    profile = _profile(grid, "float32", len(names), None, compress=False)
    with rasterio.open(path, "w", **profile) as dataset:
        for band, (name, own) in enumerate(zip(names, tags, strict=True), start=1):
            dataset.set_band_description(band, name)
            dataset.update_tags(band, **own)
    # declared afterwards: GDAL leaves holes for tiles of a file without nodata, and would write every tile of one with
    with rasterio.open(path, "r+") as dataset:
        dataset.nodata = float("nan")
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise  # other file systems cannot, and nothing is lost


@dataclass(frozen=True)
class Tiles:
    """Where the tiles of an uncompressed float32 raster lie in its file: offsets (band, tile row, tile column)."""

    path: Path
    shape: tuple[int, int]
    offsets: NDArray[np.int64]


def find_tiles(path: Path) -> Tiles:
    """Where the tiles of a raster lie that `create_blank` made; OutputError where it could not place them."""
    with opening(path) as dataset:
        rows, columns = -(-dataset.height // TILE), -(-dataset.width // TILE)
        places = [
            dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band)
            for band in dataset.indexes
            for row in range(rows)
            for column in range(columns)
        ]
        if None in places:  # GDAL says nothing of a write that fails while it closes a file
            raise OutputError(f"{path} cannot be written: the disk may be full. Free some space and run again.")
        offsets = np.array(places, np.int64).reshape(dataset.count, rows, columns)
        return Tiles(path, (dataset.height, dataset.width), offsets)


def put_tiles(tiles: Tiles, values: NDArray[np.float32], window: Window, bands: Sequence[int]) -> None:
    """Write (B, h, w) values at a window that begins and ends at borders of tiles, or at the raster's edge.

    Straight into their places, past GDAL: several threads may write at once, and a run that goes on after an
    interruption leaves the bytes of one that was not interrupted.
    """
    tile = np.full((TILE, TILE), np.nan, np.float32)
    with tiles.path.open("rb+", buffering=0) as file:
        for plane, band in zip(values, bands, strict=True):
            for row in range(0, window.height, TILE):
                for column in range(0, window.width, TILE):
                    part = plane[row : row + TILE, column : column + TILE]
                    if part.shape != tile.shape:
                        tile[:] = np.nan
                    tile[: part.shape[0], : part.shape[1]] = part
                    at = tiles.offsets[band - 1, (window.row + row) // TILE, (window.column + column) // TILE]
                    file.seek(int(at))
                    file.write(tile.data)


def take_tiles(tiles: Tiles, window: Window) -> NDArray[np.float32]:
    """Read (B, h, w) values at a window as `put_tiles` takes it, all bands."""
    out = np.empty((len(tiles.offsets), window.height, window.width), np.float32)
    tile = np.empty((TILE, TILE), np.float32)
    with tiles.path.open("rb", buffering=0) as file:
        for plane, offsets in zip(out, tiles.offsets, strict=True):
            for row in range(0, window.height, TILE):
                for column in range(0, window.width, TILE):
                    part = plane[row : row + TILE, column : column + TILE]
                    file.seek(int(offsets[(window.row + row) // TILE, (window.column + column) // TILE]))
                    file.readinto(tile.data)
                    part[:] = tile[: part.shape[0], : part.shape[1]]
    return out


def _to_cog(plain: Path, aside: Path, overviews: str, dtype: str) -> None:
    choices = {
        "blocksize": COG_TILE,
        "compress": "DEFLATE",
        "level": 6,
        "predictor": "FLOATING_POINT" if dtype.startswith("float") else "STANDARD",
        "overview_resampling": overviews.upper(),
        "bigtiff": "IF_SAFER",
    }
    try:
        rasterio.shutil.copy(plain, aside, driver="COG", **choices)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # GDAL's, for which rasterio has no public name
        raise RasterioError(str(error)) from error


def require_geotiff_name(path: Path) -> None:
    """Raise OutputError for an output raster that is not called .tif: what is inside is always a GeoTIFF."""
    if path.suffix.lower() not in GEOTIFF_SUFFIXES:
        raise OutputError(f"{path} would hold a GeoTIFF: give it a name that ends in .tif.")


def _header(dataset: Any) -> list[Any]:
    tags = [dataset.tags(), *(dataset.tags(band) for band in dataset.indexes)]
    tags[0].pop("AREA_OR_POINT", None)  # GDAL's own
    return [dataset.descriptions, *({key: value for key, value in own.items() if value} for own in tags)]


def _is_whole(path: Path, header: list[Any]) -> bool:
    # GDAL says nothing of a write that fails while a file is closed: every block must lie inside the file, and the
    # header, which is written last, must hold what was put into it.
    size = path.stat().st_size
    with rasterio.open(path) as dataset:
        if _header(dataset) != header:
            return False
        height, width = dataset.block_shapes[0]
        rows, columns = -(-dataset.height // height), -(-dataset.width // width)
        for band in dataset.indexes:
            for row in range(rows):
                for column in range(columns):
                    start = dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band)
                    length = dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=band)
                    if not start or not length or int(start) + int(length) > size:
                        return False
        dataset.read(window=RasterioWindow(dataset.width - 1, dataset.height - 1, 1, 1))
    return True


def _begins_with_its_directory(path: Path) -> bool:
    # where a write into the first directory fails GDAL puts another at the end, which no browser's first request finds
    with path.open("rb") as file:
        head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    (version,) = struct.unpack(f"{order}H", head[2:4])
    (at,) = struct.unpack(f"{order}Q", head[8:]) if version == BIGTIFF else struct.unpack(f"{order}I", head[4:8])
    return bool(at < FIRST_REQUEST)


def put(dataset: Any, values: NDArray[Any], window: Window, bands: Sequence[int] | None = None) -> None:
    """Write (B, h, w) values at a window of a raster opened by `creating`."""
    if values.shape[1:] != (window.height, window.width):  # GDAL would stretch them
        raise GridError(f"values of {values.shape[1:]} pixels do not fit a window of {window.height} x {window.width}")
    dataset.write(
        values,
        list(dataset.indexes if bands is None else bands),
        window=RasterioWindow(window.column, window.row, window.width, window.height),
    )


def write_raster(
    path: Path,
    values: NDArray[Any],
    grid: Grid,
    names: Sequence[str],
    nodata: float | None = None,
    tags: Mapping[str, str] | None = None,
    compress: bool = True,
    overwrite: bool = False,
) -> None:
    """Write (B, H, W) values as a GeoTIFF in their own dtype, bands described by `names`."""
    if values.shape != (len(names), *grid.shape):
        raise GridError(f"{path}: values of shape {values.shape} do not fit {len(names)} bands of {grid.describe()}.")
    with creating(path, grid, str(values.dtype), names, nodata, tags, compress, overwrite) as dataset:
        for window in tiles(grid.shape, 16 * TILE):
            put(dataset, values[:, window.slices[0], window.slices[1]], window)


def unreadable_blocks(path: Path, within: Window | None = None) -> list[Window]:
    """Every stored block of a raster that does not decode (of those that meet `within`), for `landslip check`."""
    bad = []
    with opening(path) as dataset:
        for block in _stored_blocks(dataset, within or Window(0, 0, *dataset.shape)):
            try:
                dataset.read(window=RasterioWindow(block.column, block.row, block.width, block.height))
            except RasterioError:
                bad.append(block)
    return bad
