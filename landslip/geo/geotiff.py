"""The one module that writes rasters: GeoTIFFs, made aside and renamed when whole. Arrays are (band, row, column)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.profiles import Profile
from rasterio.windows import Window as RasterioWindow

from landslip.errors import GridError, OutputError
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import open_raster, reason
from landslip.runtime.atomic import atomic_write, scratch_file
from landslip.runtime.disk import require_space

STORED_TILE = 256  # side of the tiles that rasters are stored in, pixels
COG_TILE = 512  # side of the tiles of rasters with overviews, pixels
GEOTIFF_SUFFIXES = {".tif", ".tiff"}


def write_raster(
    path: Path,
    values: NDArray[Any],
    grid: Grid,
    names: Sequence[str],
    nodata: float | None = None,
    *,
    tags: Mapping[str, str] | None = None,
    compress: bool = True,
    overwrite: bool = False,
) -> None:
    """Write (B, H, W) values as a GeoTIFF in their own dtype, bands described by `names`."""
    if values.shape != (len(names), *grid.shape):
        raise GridError(f"{path}: values of shape {values.shape} do not fit {len(names)} bands of {grid.describe()}.")
    dtype = str(values.dtype)
    with create_raster(path, grid, dtype, names, nodata, tags=tags, compress=compress, overwrite=overwrite) as dataset:
        for window in tiles(grid.shape, 16 * STORED_TILE):
            write_window(dataset, values[:, window.slices[0], window.slices[1]], window)


@contextmanager
def create_raster(
    path: Path,
    grid: Grid,
    dtype: str,
    names: Sequence[str],
    nodata: float | None,
    *,
    tags: Mapping[str, str] | None = None,
    compress: bool = True,
    overwrite: bool = False,
    overviews: Literal["average", "nearest"] | None = None,
) -> Iterator[DatasetWriter]:
    """Yield an open, tiled GeoTIFF to be written window by window; it gets its name when the `with` ends well.

    With `overviews`, made by that resampling, the file is a cloud-optimized GeoTIFF (which takes its size on the disk
    once more while it is made). Raises OutputError where the file exists (unless `overwrite`), is not called .tif, and
    where the disk is full or read-only.
    """
    require_geotiff_name(path)
    profile = _profile(grid, dtype, len(names), nodata, compress)
    with atomic_write(path, overwrite) as aside, scratch_file(path, "plain") as plain:
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
                if not _is_whole(aside, header):
                    raise RasterioError("the file is shorter than what was written into it")
        except RasterioError as error:
            raise OutputError(
                f"{path} cannot be written ({reason(error)}): the disk may be full. Free some space and run again."
            ) from error


def write_window(
    dataset: DatasetWriter, values: NDArray[Any], window: Window, bands: Sequence[int] | None = None
) -> None:
    """Write (B, h, w) values at a window of a raster opened by `create_raster`."""
    if values.shape[1:] != (window.height, window.width):  # GDAL would stretch them to fit.
        raise GridError(f"values of {values.shape[1:]} pixels do not fit a window of {window.height} x {window.width}")
    dataset.write(
        values,
        list(dataset.indexes if bands is None else bands),
        window=RasterioWindow(window.column, window.row, window.width, window.height),
    )


def require_geotiff_name(path: Path) -> None:
    """Raise OutputError for an output raster that is not called .tif: what is inside is always a GeoTIFF."""
    if path.suffix.lower() not in GEOTIFF_SUFFIXES:
        raise OutputError(f"{path} would hold a GeoTIFF: give it a name that ends in .tif.")


@dataclass(frozen=True)
class StoredTiles:
    """Where the tiles of an uncompressed float32 raster lie in its file: offsets (band, tile row, tile column)."""

    path: Path
    shape: tuple[int, int]
    offsets: NDArray[np.int64]


def create_blank(path: Path, grid: Grid, names: Sequence[str], tags: Sequence[Mapping[str, str]]) -> None:
    """Make an uncompressed float32 GeoTIFF whose tiles all have their place and hold nothing yet; NaN is nodata.

    Its size on the disk is taken at once where the system can, so that the disk cannot fill up later. `tags`: a mapping
    for every band.
    """
    require_geotiff_name(path)
    profile = _profile(grid, "float32", len(names), None, compress=False)
    with rasterio.open(path, "w", **profile) as dataset:
        for band, (name, band_tags) in enumerate(zip(names, tags, strict=True), start=1):
            dataset.set_band_description(band, name)
            dataset.update_tags(band, **band_tags)
    # Nodata is declared afterwards: GDAL would write every tile of a file that has it, and leaves holes in others.
    with rasterio.open(path, "r+") as dataset:
        dataset.nodata = float("nan")
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise  # Any other error means that this file system cannot, and nothing is lost.


def find_tiles(path: Path) -> StoredTiles:
    """Where the tiles of a raster lie that `create_blank` made; OutputError where it could not place them."""
    with open_raster(path) as dataset:
        rows, columns = -(-dataset.height // STORED_TILE), -(-dataset.width // STORED_TILE)
        places = [
            dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band)
            for band in dataset.indexes
            for row in range(rows)
            for column in range(columns)
        ]
        if None in places:  # GDAL says nothing of a write that fails while it closes a file, and leaves such gaps.
            raise OutputError(f"{path} cannot be written: the disk may be full. Free some space and run again.")
        offsets = np.array(places, np.int64).reshape(dataset.count, rows, columns)
        return StoredTiles(path, (dataset.height, dataset.width), offsets)


def put_tiles(tiles: StoredTiles, values: NDArray[np.float32], window: Window, bands: Sequence[int]) -> None:
    """Write (B, h, w) values at a window that begins and ends at borders of tiles, or at the raster's edge.

    They go straight into their places, past GDAL, so that several threads may write at once, and a run that goes on
    after an interruption leaves the same bytes as one that was not interrupted.
    """
    tile = np.full((STORED_TILE, STORED_TILE), np.nan, np.float32)
    with tiles.path.open("rb+", buffering=0) as file:
        for plane, band in zip(values, bands, strict=True):
            for row in range(0, window.height, STORED_TILE):
                for column in range(0, window.width, STORED_TILE):
                    part = plane[row : row + STORED_TILE, column : column + STORED_TILE]
                    if part.shape != tile.shape:
                        tile[:] = np.nan
                    tile[: part.shape[0], : part.shape[1]] = part
                    offset = tiles.offsets[
                        band - 1, (window.row + row) // STORED_TILE, (window.column + column) // STORED_TILE
                    ]
                    file.seek(int(offset))
                    file.write(tile.data)


def _profile(grid: Grid, dtype: str, count: int, nodata: float | None, compress: bool) -> Profile:
    """How rasterio is told to make a GeoTIFF of `count` bands on a grid."""
    predictor = 3 if dtype.startswith("float") else 2
    compression = {"compress": "deflate", "predictor": predictor, "zlevel": 6} if compress else {}
    return Profile(
        driver="GTiff",
        height=grid.height,
        width=grid.width,
        count=count,
        dtype=dtype,
        crs=grid.crs,
        transform=grid.transform,
        nodata=nodata,
        tiled=True,
        blockxsize=STORED_TILE,
        blockysize=STORED_TILE,
        interleave="band",
        bigtiff="if_safer",
        **compression,
    )


def _to_cog(plain: Path, aside: Path, overviews: str, dtype: str) -> None:
    """Copy a GeoTIFF as a cloud-optimized one, with overviews made by the resampling of that name."""
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
    except Exception as error:  # GDAL's own errors, for which rasterio has no public name.
        raise RasterioError(str(error)) from error


def _header(dataset: DatasetReader | DatasetWriter) -> list[Any]:
    """The descriptions and tags of a raster and of its bands, without those that GDAL adds."""
    tags = [dataset.tags(), *(dataset.tags(band) for band in dataset.indexes)]
    tags[0].pop("AREA_OR_POINT", None)  # GDAL adds it by itself.
    return [dataset.descriptions, *({key: value for key, value in each.items() if value} for each in tags)]


def _is_whole(path: Path, header: list[Any]) -> bool:
    """Whether a GeoTIFF holds all its blocks and the `header` that was written."""
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
