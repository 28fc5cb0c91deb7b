"""The files of a set of patches, read one at a time: PNG, GeoTIFF or HDF5.

An image is (band, row, column) as it is stored, NaN where undefined; a mask is (row, column). In HDF5 the image is the
data set `img` and the mask `mask`, or the only one there is. Patches are squares, so of the three axes of an image the
one that differs is the bands': (row, column, band) and (band, row, column) are told apart by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.errors import DependencyError, PatchError
from landslip.geo.preview import picture_shape, read_picture
from landslip.geo.raster import read, read_info, read_stored
from landslip.runtime.progress import plural

PICTURES, GEOTIFF, HDF5 = (".png",), (".tif", ".tiff"), (".h5", ".hdf5")
SUFFIXES = (*PICTURES, *GEOTIFF, *HDF5)
HDF5_KEYS = {"image": "img", "mask": "mask"}  # data sets of Landslide4Sense's HDF5 files


def image_shape(path: Path) -> tuple[int, int, int]:
    """(bands, rows, columns) of an image."""
    if _all_named(path):
        info = read_info(path)
        return info.count, info.height, info.width
    if _is_raster(path):
        return picture_shape(path)
    with _open_hdf5(path, "image") as data:
        return _bands_first(path, data) or (data.shape[2], data.shape[0], data.shape[1])


def in_8_bits(path: Path) -> bool:
    """Whether an image is stored in 8 bits: values made to be looked at, and of no unit."""
    if _is_raster(path):
        return set(read_info(path).dtypes) == {"uint8"}
    with _open_hdf5(path, "image") as data:
        return bool(data.dtype == np.uint8)


def read_image(path: Path) -> NDArray[np.float32]:
    """(B, H, W) float32 of an image as it is stored, NaN where undefined."""
    if _all_named(path):
        return read(path)
    if _is_raster(path):
        return read_picture(path)
    with _open_hdf5(path, "image") as data:
        first = _bands_first(path, data) is not None
        with np.errstate(over="ignore"):  # A float64 beyond float32 becomes infinite, and so undefined.
            values = data[()].astype(np.float32)
    values = values if first else np.moveaxis(values, 2, 0)
    values[~np.isfinite(values)] = np.nan
    return np.asarray(values)


def read_mask(path: Path) -> NDArray[Any]:
    """A mask as it is stored, (H, W): the first band of a raster."""
    if _is_raster(path):
        return read_stored(path)
    with _open_hdf5(path, "mask") as data:
        values = data[()]
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[..., 0] if values.shape[2] == 1 else values[0]
    return np.asarray(values)


def _is_raster(path: Path) -> bool:
    """Whether a patch is a PNG or a GeoTIFF, which GDAL reads."""
    return path.suffix.lower() in (*PICTURES, *GEOTIFF)


def _all_named(path: Path) -> bool:
    """Whether all bands of a GeoTIFF have names; then none is alpha, though GDAL takes a fourth in 8 bits for it."""
    return path.suffix.lower() in GEOTIFF and all(read_info(path).names)


def _bands_first(path: Path, data: Any) -> tuple[int, int, int] | None:
    """The shape of an image whose first axis is that of the bands; None where it is the last."""
    if data.ndim != 3:
        raise PatchError(f"{path}: {data.name} has {plural(data.ndim, 'dimension')}; an image has (row, column, band).")
    first, second, third = data.shape
    return (first, second, third) if second == third != first else None


@contextmanager
def _open_hdf5(path: Path, what: str) -> Iterator[Any]:
    """Open the data set of an HDF5 file that is the image or the mask: the one so called, or the only one."""
    try:
        import h5py
    except ImportError as error:
        raise DependencyError(
            f"{path} is HDF5, and h5py is not installed. Install it with landslip's extra: pip install landslip[hdf5]."
        ) from error
    try:
        with h5py.File(path, "r") as file:
            names = [name for name in file if isinstance(file[name], h5py.Dataset)]
            name = HDF5_KEYS[what] if HDF5_KEYS[what] in names else names[0] if len(names) == 1 else None
            if name is None:
                raise PatchError(
                    f"{path} holds the data sets {', '.join(names) or 'none'} and none called {HDF5_KEYS[what]}, which "
                    f"is the {what}. Rename it."
                )
            yield file[name]
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:  # All are raised by h5py.
        raise PatchError(
            f"{path} cannot be read as HDF5 ({' '.join(str(error).split())[:120]}): it is truncated, damaged or "
            "something else. Fetch it again."
        ) from error
