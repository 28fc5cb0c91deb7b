"""Rasters read small, to be looked at, and pictures that are read as rasters (PNG, say)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from landslip.errors import RasterError
from landslip.geo.grid import Grid, Window
from landslip.geo.raster import info_of, open_raster, read_window, unreadable

PERCENTILES = (2, 98)  # of a band's values, which a picture is stretched between


def picture_shape(path: Path) -> tuple[int, int, int]:
    """(bands, rows, columns) of a picture (a PNG, say), its alpha band not counted."""
    with open_raster(path) as dataset:
        return len(_but_alpha(dataset)), dataset.height, dataset.width


def read_picture(path: Path) -> NDArray[np.float32]:
    """Read a picture, which needs no CRS, as (B, H, W) float32 without its alpha band; NaN where alpha is 0."""
    with open_raster(path) as dataset:
        return read_window(dataset, Window(0, 0, dataset.height, dataset.width), _but_alpha(dataset))


def require_whole_png(path: Path) -> None:
    """Raise RasterError for a PNG that is cut short or altered: GDAL reads such a file as if nothing were wrong.

    Every chunk carries its length and a CRC, and the last is IEND (ISO/IEC 15948, 5.3).
    """
    if not path.exists():
        raise RasterError(f"{path} does not exist. Check the path.")
    stored, position, name = path.read_bytes(), 8, b""
    intact = stored[:8] == b"\x89PNG\r\n\x1a\n"
    while intact and name != b"IEND":
        length = int.from_bytes(stored[position : position + 4])
        name, end = stored[position + 4 : position + 8], position + 8 + length
        checksum = stored[end : end + 4]
        intact = len(checksum) == 4 and zlib.crc32(stored[position + 4 : end]) == int.from_bytes(checksum)
        position = end + 4
    if not intact:
        raise unreadable(path, RasterioError("its PNG chunks are not whole"))


def read_decimated(path: Path, bands: Sequence[int], most: int, stored: bool = False) -> tuple[NDArray[Any], Grid]:
    """A raster thinned to at most `most` pixels a side, for pictures: (B, H, W) and its grid.

    Every n-th pixel is read, so classes stay classes; `stored` keeps nodata as it is instead of turning it into NaN.
    """
    with open_raster(path) as dataset:
        grid = info_of(dataset, path).grid
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


def _but_alpha(dataset: DatasetReader) -> list[int]:
    """The bands of a picture without the one that says how opaque it is."""
    return [band for band, what in zip(dataset.indexes, dataset.colorinterp, strict=True) if what != ColorInterp.alpha]
