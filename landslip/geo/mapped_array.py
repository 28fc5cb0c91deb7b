"""Arrays of a whole raster, (H, W): filled window by window, and large ones held in a file.

The label, the valid pixels and the parts of the ground of 600 megapixels are 1.8 GB together. Held in a mapped file,
they give their memory to others when the system needs it, so that a training keeps to a container's limit whatever the
area.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from landslip.geo.grid import Window

LARGE = 2**23  # bytes from which an array is held in a file
ROWS = 256  # of a strip: those of a stored tile


def mapped_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros, which from LARGE bytes on lies in a file of its own, gone with the array.

    The file is in the system's temporary folder (TMPDIR). Where that has no room, or the system cannot take the room at
    once, the array lies in memory all the same.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE or not hasattr(os, "posix_fallocate"):
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, size)  # A disk that fills up later would end the process.
            return np.frombuffer(mmap.mmap(file.fileno(), size), dtype).reshape(shape)
    except OSError:
        return np.zeros(shape, dtype)


def from_windows(shape: tuple[int, int], dtype: DTypeLike, at: Callable[[Window], NDArray[Any]]) -> NDArray[Any]:
    """(H, W) of what `at` gives, (h, w), at one strip after another."""
    out = mapped_zeros(shape, dtype)
    for window in strips(shape):
        out[window.slices] = at(window)
    return out


def union_of_windows(windows: Iterable[Window], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The union of windows, (H, W) bool; what lies beyond the raster is left out."""
    union = mapped_zeros(shape, bool)
    for window in windows:
        union[window.clip(shape).slices] = True
    return union


def strips(shape: tuple[int, int]) -> Iterator[Window]:
    """Windows of ROWS whole rows over a raster of `shape`, from the top; the last may have fewer."""
    for row in range(0, shape[0], ROWS):
        yield Window(row, 0, min(ROWS, shape[0] - row), shape[1])


def bounding_window(mask: NDArray[np.bool_]) -> Window:
    """The smallest window that holds all pixels of a mask, (H, W), which has some."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Window(int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
