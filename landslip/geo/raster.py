"""The one module that opens rasters to read them. Arrays are (band, row, column); undefined is NaN.

Declared nodata, the site's own nodata values, masks and infinities become NaN, and every error names the file.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.transform import array_bounds
from rasterio.windows import Window as RasterioWindow

from landslip.errors import GridError, RasterError
from landslip.geo.archive import START, archive_of, gdal_name, is_virtual, lack, own_file, shown
from landslip.geo.grid import Grid, Window, crs_name, looks_like_degrees
from landslip.runtime.disk import is_stream
from landslip.runtime.progress import plural
from landslip.runtime.run_folder import folder_given

# Pictures and rasters without a CRS are named in our own words. The filter is set here and once, since catching
# warnings around each opening is not safe among threads.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
# GDAL would keep a twentieth of the machine's memory in blocks it has read; memory is to follow the window instead.
os.environ.setdefault("GDAL_CACHEMAX", "128")

MOST_OF_A_BLOCK = 2**31  # bytes of one stored block, which is decoded as a whole
LARGEST_TILE = 4096 * 4096  # pixels; a larger block of a smaller raster is a slip
OWN_PIXELS = ("GTiff", "PNG", "JP2OpenJPEG")  # drivers; their files hold all pixels, and lead to no other file
MOST_FROM_A_BYTE = 100_000  # pixels; the best compressors reach some thousands
MOST_UNQUESTIONED = 10**9  # pixels
MOST_BANDS = 4096
RASTER_SUFFIXES = {".tif", ".tiff", ".vrt", ".img", ".jp2", ".asc", ".bil", ".hgt", ".nc"}
# Drivers that files in archives are opened by, GeoTIFF for every other name: a VRT could name any other file.
IN_ARCHIVES = {
    ".jp2": "JP2OpenJPEG", ".asc": "AAIGrid", ".img": "HFA", ".hgt": "SRTMHGT", ".bil": "EHdr", ".flt": "EHdr",
    ".adf": "AIG", ".dt1": "DTED", ".dt2": "DTED",
}  # fmt: skip
FARTHEST = 1e9  # of a coordinate, metres or degrees: no body mapped so far is as large
SMALLEST_PIXEL = 1e-9  # metres or degrees
PROBABILITY = "landslide probability"  # the description of that band


@dataclass(frozen=True, kw_only=True)
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
    units: tuple[str | None, ...] = ()

    @property
    def grid(self) -> Grid:
        """The raster's own grid; GridError where it has no CRS, is rotated, or lies where nothing can."""
        if self.crs is None:
            raise GridError(_without_crs(self))
        if self.rotated:
            raise GridError(
                f"{self.path} is rotated or south-up. Warp it north-up first, with rasterio's own command: "
                f"`rio warp {self.path} NEW.tif --dst-crs {crs_name(self.crs)}`."
            )
        grid, (width, height) = Grid(self.crs, self.transform, self.height, self.width), self.transform[:5:4]
        if not (min(width, -height) > SMALLEST_PIXEL and all(abs(at) < FARTHEST for at in grid.bounds)):  # NaN too
            raise GridError(
                f"{self.path} says that its pixels measure {width:g} x {-height:g} and that it reaches from x, y = "
                f"{', '.join(f'{at:g}' for at in grid.bounds[:2])} to {', '.join(f'{at:g}' for at in grid.bounds[2:])}:"
                f" its georeference is damaged. Assign it anew: {edit_info(self.path, transform='...')}."
            )
        return grid


@contextmanager
def open_raster(path: Path) -> Iterator[DatasetReader]:
    """Open a raster for reading; RasterError names a missing, unreadable or truncated file.

    `path` may lead into an archive, `scene.tar/band.TIF`, which is read where it lies, or be GDAL's own (/vsis3/...).
    """
    archive = None if is_virtual(path) else archive_of(path)
    if archive is None and not is_virtual(path) and not path.exists():
        raise RasterError(f"{path} does not exist. {START}")
    if archive is None and not is_virtual(path) and is_stream(path):
        raise RasterError(f"{path} is a pipe or a device, not a file. Write it to a file first.")
    driver = None if archive is None else IN_ARCHIVES.get(path.suffix.lower(), "GTiff")
    try:
        with rasterio.open(gdal_name(path), driver=driver) as dataset:
            _require_plausible(dataset, path, None if is_virtual(path) else (archive or path).stat().st_size)
            yield dataset
    except (RasterioError, CRSError, UnicodeDecodeError) as error:  # The last of names and tags.
        raise unreadable(path, error) from error


def read_info(path: Path) -> RasterInfo:
    """Read a raster's header."""
    with open_raster(path) as dataset:
        return info_of(dataset, path)


def info_of(dataset: DatasetReader, path: Path) -> RasterInfo:
    """What the header of the open raster at `path` says."""
    transform = dataset.transform
    return RasterInfo(
        path=path,
        count=dataset.count,
        height=dataset.height,
        width=dataset.width,
        crs=dataset.crs,
        transform=transform,
        dtypes=tuple(dataset.dtypes),
        nodata=tuple(dataset.nodatavals),
        names=tuple(dataset.descriptions),
        scales=tuple(dataset.scales),
        offsets=tuple(dataset.offsets),
        tags=dict(dataset.tags()),
        rotated=transform.b != 0 or transform.d != 0 or transform.a <= 0 or transform.e >= 0,
        units=tuple(dataset.units),
    )


def read_band_tags(path: Path) -> list[dict[str, str]]:
    """The tags of every band, in band order."""
    with open_raster(path) as dataset:
        return [dict(dataset.tags(band)) for band in dataset.indexes]


def read_categories(path: Path) -> dict[int, str]:
    """What a raster itself calls its codes, in the file or in its .aux.xml: {code: name}, without empty names.

    rasterio has no call for GDAL's category names; the description of the raster as a VRT, made in memory, has them.
    """
    with open_raster(path) as dataset, MemoryFile(ext=".vrt") as described:
        try:
            rasterio.shutil.copy(dataset, described.name, driver="VRT")
        except RasterioError as error:
            raise unreadable(path, error) from error
        band = ElementTree.fromstring(described.read()).find("VRTRasterBand[@band='1']/CategoryNames")
    names = [] if band is None else [(item.text or "").strip() for item in band]
    return {code: name for code, name in enumerate(names) if name}


def exists(path: Path) -> bool:
    """Whether a raster is there.

    Raises RasterError where a virtual path does not answer: a server that answers 404 says that it is not there, one
    that answers 403 says nothing.
    """
    if not is_virtual(path) and archive_of(path) is None:
        return path.exists()
    try:
        with open_raster(path):
            return True
    except RasterError as error:
        if any(words in str(error) for words in ("404", "does not exist", "No such file", "holds no ")):
            return False
        raise


def file_facts(path: Path) -> list[Any]:
    """A raster's file by name, size and time, so that a stack of gigabytes need not be read to know it again.

    What a virtual path leads to is known by its header, since it has neither size nor time here.
    """
    if not is_virtual(path):
        with open_raster(path) as dataset:  # A virtual raster has other files too.
            parts = (Path(name) for name in dataset.files if not name.endswith((".aux.xml", ".ovr")))
            names = {own_file(path), *(part for part in parts if part.exists())}
        stats = {name.name: name.stat() for name in sorted(names)}
        return [path.name, *([name, stat.st_size, stat.st_mtime_ns] for name, stat in stats.items())]
    info = read_info(path)
    crs = None if info.crs is None else info.crs.to_wkt()
    facts = [info.count, info.height, info.width, crs, tuple(info.transform), info.dtypes, info.names, info.tags]
    return [gdal_name(path), hashlib.sha256(repr(facts).encode()).hexdigest()]


def read(
    path: Path,
    bands: Sequence[int] | None = None,
    window: Window | None = None,
    nodata: Sequence[float] = (),
) -> NDArray[np.float32]:
    """Read a raster, or a window of it, as (B, H, W) float32 with NaN where undefined."""
    with open_raster(path) as dataset:
        return read_window(dataset, window or Window(0, 0, dataset.height, dataset.width), bands, nodata)


def read_window(
    dataset: DatasetReader,
    window: Window,
    bands: Sequence[int] | None = None,
    nodata: Sequence[float] = (),
) -> NDArray[np.float32]:
    """Pixels of an open raster at a window, as (B, height, width) float32 with NaN where undefined.

    What lies beyond the raster's edge is NaN. `nodata` adds values to those that the file declares.
    """
    bands = list(dataset.indexes if bands is None else bands)
    if not set(bands) <= set(dataset.indexes):
        raise RasterError(
            f"{shown(dataset.name)} has {plural(dataset.count, 'band')}, so no band {max(bands)}. Bands count from 1."
        )
    inside = window.clip((dataset.height, dataset.width))
    out = np.full((len(bands), window.height, window.width), np.nan, np.float32)
    if inside.height == 0 or inside.width == 0:
        return out
    box = RasterioWindow(inside.column, inside.row, inside.width, inside.height)
    stored = _decode(dataset, bands, box)
    with np.errstate(over="ignore"):  # A float64 beyond float32 becomes infinite, and so undefined.
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


def read_around(
    dataset: DatasetReader, window: Window, bands: Sequence[int] | None = None
) -> tuple[NDArray[np.float32], list[Window]]:
    """As `read_window`, but what is stored damaged is NaN in all bands; the blocks that cannot be read are listed."""
    try:
        return read_window(dataset, window, bands), []
    except RasterError:  # Which of the stored blocks it is, only reading them one by one can tell.
        count = dataset.count if bands is None else len(bands)
    values = np.full((count, window.height, window.width), np.nan, np.float32)
    damaged = []
    for block in _stored_blocks(dataset, window):
        part = block.intersect(window)
        rows, columns = part.within(window)
        try:
            values[:, rows, columns] = read_window(dataset, part, bands)
        except RasterError:
            damaged.append(block)
    return values, damaged


def read_stored(path: Path, band: int = 1, window: Window | None = None) -> NDArray[Any]:
    """Read one band as it is stored (classes, labels, masks), (H, W), nothing turned into NaN."""
    with open_raster(path) as dataset:
        return read_stored_window(dataset, window or Window(0, 0, dataset.height, dataset.width), band)


def read_stored_window(dataset: DatasetReader, window: Window, band: int = 1) -> NDArray[Any]:
    """One band of an open raster at a window inside it, (height, width), as it is stored: nothing turned into NaN."""
    box = RasterioWindow(window.column, window.row, window.width, window.height)
    return np.asarray(_decode(dataset, band, box))


def unreadable_blocks(path: Path, within: Window | None = None) -> list[Window]:
    """Every stored block of a raster that does not decode (of those that meet `within`), for `landslip check`."""
    damaged = []
    with open_raster(path) as dataset:
        for block in _stored_blocks(dataset, within or Window(0, 0, *dataset.shape)):
            try:
                dataset.read(window=RasterioWindow(block.column, block.row, block.width, block.height))
            except RasterioError:
                damaged.append(block)
    return damaged


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


def edit_info(path: Path, crs: str = "", transform: str = "") -> str:
    """The command that changes what a raster's header says, one of rasterio's own: GDAL's may not be there."""
    options = " ".join([*([f"--crs {crs}"] if crs else []), *([f'--transform "[{transform}]"'] if transform else [])])
    archive = archive_of(path)
    first = "" if archive is None else f"unpack {archive}, then "
    return f"{first}`rio edit-info {options} {path if archive is None else path.name}` (it comes with rasterio)"


def unreadable(path: Path | str, error: BaseException) -> RasterError:
    """The error for a file that cannot be read as a raster, with the reason in a few words."""
    if isinstance(path, Path):
        wrong = lack(path) or ("" if not path.is_dir() else folder_given(path, RASTER_SUFFIXES))
        if wrong:
            return RasterError(wrong)
        path = gdal_name(path) if is_virtual(path) else path
    return RasterError(
        f"{path} cannot be read as a raster ({reason(error)}): it is truncated, damaged or not a raster. "
        "Fetch or make it again."
    )


def reason(error: BaseException) -> str:
    """What GDAL says of an error, in one short line."""
    cause = error.__cause__ or error
    return str(cause).replace("\n", " ").strip()[:200] or type(cause).__name__


def _without_crs(info: RasterInfo) -> str:
    """That a raster has no CRS, what its numbers look like, and how it is given one."""
    if info.transform == Affine.identity():
        remedy = edit_info(info.path, "EPSG:...", "...")
        return f"{info.path} has no CRS, nor a place: it is a bare picture. Assign both: {remedy}."
    left, bottom, right, top = array_bounds(info.height, info.width, info.transform)
    looks = ""
    if looks_like_degrees((left, bottom, right, top)):
        looks = f" Its numbers (x {left:g} to {right:g}, y {bottom:g} to {top:g}) look like degrees: EPSG:4326, say."
    return f"{info.path} has no CRS.{looks} Assign one: {edit_info(info.path, 'EPSG:...')}."


def _require_plausible(dataset: DatasetReader, path: Path, size: int | None) -> None:
    """Raise RasterError for a small file that claims to be a huge raster, before any of it is read.

    `size`: bytes on the disk; None for what lies elsewhere, which does not say.
    """
    if dataset.count > MOST_BANDS:  # Each costs milliseconds, whatever its size.
        raise RasterError(
            f"{path} has {dataset.count:,} bands, more than the {MOST_BANDS:,} that are read. If it is not damaged, "
            "take out those that are needed: `rio stack FILE --bidx 1,2,3 NEW.tif` (it comes with rasterio)."
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
    together = dataset.count if dataset.profile.get("interleave") == "pixel" else 1  # bands in one block
    for (height, width), dtype in zip(dataset.block_shapes, dataset.dtypes, strict=True):
        pixels = height * width * together
        most = max(LARGEST_TILE, 4 * dataset.height * dataset.width * together)
        if pixels > most or pixels * np.dtype(dtype).itemsize > MOST_OF_A_BLOCK:
            raise RasterError(
                f"{path} claims {dataset.height} x {dataset.width} pixels stored in blocks of {height} x {width}, held "
                "in memory whole. If it is not damaged, tile it: `rio convert FILE NEW.tif --co tiled=true` (it "
                "comes with rasterio)."
            )


def _stored_blocks(dataset: DatasetReader, part: Window) -> Iterator[Window]:
    """The stored blocks that meet a part of a raster."""
    part = part.clip(dataset.shape)
    height, width = dataset.block_shapes[0]
    rows = range(part.row // height, -(-(part.row + part.height) // height))
    columns = range(part.column // width, -(-(part.column + part.width) // width))
    for row, column in product(rows, columns):
        yield Window(row * height, column * width, height, width).clip(dataset.shape)


def _decode(dataset: DatasetReader, bands: Any, box: RasterioWindow) -> NDArray[Any]:
    # The file is named here and not in `open_raster`, which names the innermost where several rasters are open at once.
    try:
        return np.asarray(dataset.read(bands, window=box))
    except RasterioError as error:
        raise unreadable(shown(dataset.name), error) from error
