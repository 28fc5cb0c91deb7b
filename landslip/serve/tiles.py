"""Tiles of a run's rasters, cut with rio-tiler in the rasters' own CRS: pixels are thinned or enlarged, never warped.

Zoom 0 shows the whole grid in one tile, and every zoom doubles it; at zoom `levels` a pixel of a tile is a pixel of the
raster. So any north-up grid can be looked at, of whatever CRS and body.

A raster that has overviews is read through them. One that has none is read as it is near its own scale, and once from
end to end, strip by strip, for the scales at which a tile would otherwise need the whole of it: that thinned copy stays
in memory. What is held follows the thinned copies (`MOST_HELD`) and the tile, not the raster.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow
from rio_tiler.colormap import cmap
from rio_tiler.errors import NoOverviewWarning, RioTilerError
from rio_tiler.io import Reader
from rio_tiler.reader import read
from rio_tiler.utils import render

from landslip.dataset.label import UNKNOWN
from landslip.errors import RasterError
from landslip.geo.grid import Grid, Window
from landslip.geo.preview import stretch
from landslip.serve.layers import PageLayer
from landslip.serve.schemas import LegendOut

TILE_SIDE = 256  # of a tile, pixels
THIN_SIDE = 2048  # most pixels a side of a thinned copy
MOST_HELD = 256 * 2**20  # bytes of thinned copies
SAMPLE_SIDE = 512  # pixels a side that a stretch is taken from
FAINT, STRONG = 110, 210  # opacity of what is not known, and of other classes, over an image

# Said in our own words, with the remedy; here, since catching warnings one by one is not safe among threads.
warnings.filterwarnings("ignore", category=NoOverviewWarning)

Float = NDArray[np.float32]
Stamp = tuple[int, int, int]  # of a file: inode, time of change, size
BandKey = tuple[Path, Stamp, int]  # a band of a raster in one state of its file


class Tiles:
    """Tiles, legends and views of layers; safe to call from several threads at once."""

    def __init__(self, layers: tuple[PageLayer, ...], grid: Grid, warn: Callable[[str], None]) -> None:
        self.layers = {layer.key: layer for layer in layers}
        self.grid = grid
        self.levels = max(0, int(np.ceil(np.log2(max(max(grid.shape), 1) / TILE_SIDE))))
        self.thin = 1  # source pixels a side of one pixel of a thinned copy, a power of two
        while max(grid.shape) / self.thin > THIN_SIDE:
            self.thin *= 2
        self._warn, self._warned = warn, set[Path]()
        self._local = threading.local()  # open files: a handle of GDAL's belongs to one thread
        self._lock = threading.Lock()
        self._locks: dict[BandKey, threading.Lock] = {}  # of a thinned copy, while it is made
        self._copies: OrderedDict[BandKey, Float] = OrderedDict()  # thinned ones, the one last used at the end
        self._stretches: dict[BandKey, tuple[float, float]] = {}

    def mark(self, layer: PageLayer) -> str:
        """A word that changes when a file of the layer does."""
        return "-".join(f"{number:x}" for path in _files(layer) for number in stamp(path)[1:])

    def exists(self, z: int, x: int, y: int) -> bool:
        """Whether a tile shows any of the grid."""
        if not 0 <= z <= self.levels:
            return False
        factor = 1 << (self.levels - z)
        return (
            x >= 0 and y >= 0 and x * TILE_SIDE * factor < self.grid.width and y * TILE_SIDE * factor < self.grid.height
        )

    def tile(self, layer: PageLayer, z: int, x: int, y: int, threshold: float) -> bytes:
        """A tile as PNG, clear where undefined. `threshold` is that of hits, misses and false alarms."""
        factor = 1 << (self.levels - z)
        window = Window(y * TILE_SIDE * factor, x * TILE_SIDE * factor, TILE_SIDE * factor, TILE_SIDE * factor).clip(
            self.grid.shape
        )
        shape = -(-window.height // factor), -(-window.width // factor)
        values = self._pixels(layer.path, layer.bands, window, shape)
        if layer.kind == "image":
            coloured = np.zeros((4, TILE_SIDE, TILE_SIDE), np.uint8)
            for target, band, number in zip(coloured, values, layer.bands, strict=False):
                target[: shape[0], : shape[1]] = _scaled(band, self._stretch(layer, number))
            coloured[3, : shape[0], : shape[1]] = np.where(np.isnan(values).any(0), 0, 255)
            return bytes(render(coloured[:3], coloured[3], "PNG", zlevel=1))
        label = None if layer.beside is None else self._pixels(layer.beside, (1,), window, shape)[0]
        indices = np.zeros((TILE_SIDE, TILE_SIDE), np.uint8)  # 0 is clear
        indices[: shape[0], : shape[1]], palette = self._indices(layer, values, label, threshold)
        return _paletted_png(indices, palette)

    def view(self, layer: PageLayer, bounds: tuple[float, float, float, float], most: int) -> tuple[Float, Grid] | None:
        """A layer's first band within bounds (left, bottom, right, top) and its grid, at most `most` pixels a side.

        Thinned by a whole power of two, from a corner that it divides, so that pixels do not jump as a view moves.
        None where the bounds miss the grid.
        """
        left, bottom, right, top = bounds
        corner, grid = self.grid.transform, self.grid
        factor = 1
        while max((right - left) / grid.x_size, (top - bottom) / grid.y_size) / factor > most:
            factor *= 2
        step_x, step_y = factor * grid.x_size, factor * grid.y_size
        column, row = int((left - corner.c) // step_x) * factor, int((corner.f - top) // step_y) * factor
        width = (int((right - corner.c) // step_x) + 1) * factor - column
        height = (int((corner.f - bottom) // step_y) + 1) * factor - row
        window = Window(row, column, height, width).clip(grid.shape)
        if not window.area:
            return None
        shape = -(-window.height // factor), -(-window.width // factor)
        at = Affine(step_x, 0, corner.c + window.column * grid.x_size, 0, -step_y, corner.f - window.row * grid.y_size)
        return self._pixels(layer.path, layer.bands[:1], window, shape)[0], Grid(grid.crs, at, *shape)

    def legend(self, layer: PageLayer) -> LegendOut:
        """How to read a layer's colours: `range` and `colours` of a ramp, or `classes` with a word and a colour."""
        if layer.kind in ("codes", "planes", "agreement"):
            return LegendOut(classes=[{"name": name, "colour": colour} for _, name, colour in layer.codes])
        if layer.kind == "image":
            return LegendOut(stretch=[list(self._stretch(layer, band)) for band in layer.bands])
        ramp = _ramp(layer.ramp)[:: 255 // 15]
        colours = ["#{:02X}{:02X}{:02X}".format(*(int(part) for part in colour[:3])) for colour in ramp]
        return LegendOut(range=list(self._range(layer)), colours=colours)

    # -- colours ------------------------------------------------------------------------------------------------------

    def _indices(
        self, layer: PageLayer, values: Float, label: Float | None, threshold: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(h, w) uint8 positions in a palette, (N, 4) uint8 red, green, blue and opacity, whose first is clear."""
        if layer.kind not in ("ramp", "angle"):
            return _classes(layer, _codes(layer, values, label, threshold))
        band = values[0]
        if layer.kind == "angle":
            band = (np.degrees(np.arctan2(values[0], values[1])) % 360).astype(np.float32)
            band[(values[0] == 0) & (values[1] == 0)] = np.nan  # flat ground faces nowhere
        palette = _ramp(layer.ramp).copy()
        palette[0] = 0
        positions = np.where(np.isnan(band), 0, np.maximum(_scaled(band, self._range(layer)), 1))
        return positions.astype(np.uint8), palette

    def _range(self, layer: PageLayer) -> tuple[float, float]:
        low, high = layer.fixed or self._stretch(layer, layer.bands[0])
        return (-max(-low, high), max(-low, high)) if layer.even else (low, high)

    def _stretch(self, layer: PageLayer, band: int) -> tuple[float, float]:
        """The range that a band is stretched from, between percentiles of every n-th pixel of it."""
        key = layer.path, stamp(layer.path), band
        if key not in self._stretches:
            height, width = self.grid.shape
            factor = 1
            while max(height, width) / factor > SAMPLE_SIDE:
                factor *= 2
            shape = -(-height // factor), -(-width // factor)
            sample = self._pixels(layer.path, (band,), Window(0, 0, height, width), shape)
            self._stretches[key] = stretch(sample)
        return self._stretches[key]

    # -- reading ------------------------------------------------------------------------------------------------------

    def _pixels(self, path: Path, bands: tuple[int, ...], window: Window, shape: tuple[int, int]) -> Float:
        """(B, h, w) float32 with NaN where undefined: a window of the raster, thinned to `shape`."""
        factor = max(window.height / max(shape[0], 1), window.width / max(shape[1], 1))
        if factor < self.thin or self.thin == 1 or self._overviews(path):
            return self._read(path, bands, window, shape)
        step = max(1, round(factor / self.thin))
        planes = []
        for band in bands:
            copy = self._thinned(path, band)
            row, column = window.row // self.thin, window.column // self.thin
            part = copy[row::step, column::step][: shape[0], : shape[1]]
            planes.append(np.pad(part, ((0, shape[0] - part.shape[0]), (0, shape[1] - part.shape[1])), "edge"))
        return np.stack(planes)

    def _read(self, path: Path, bands: tuple[int, ...], window: Window, shape: tuple[int, int]) -> Float:
        try:
            reader = self._reader(path)
            box = RasterioWindow(window.column, window.row, window.width, window.height)
            image = read(reader.dataset, indexes=bands, window=box, height=shape[0], width=shape[1])
        except (RasterioError, RioTilerError) as error:
            raise RasterError(f"{path} cannot be read ({error}): make it again.") from error
        values = np.asarray(image.array.data, dtype=np.float32)
        hidden = np.ma.getmaskarray(image.array)
        # 255 is a class of a label, which is declared as nodata so that other programs leave it out.
        values[hidden & (values != UNKNOWN) if image.array.dtype == np.uint8 else hidden] = np.nan
        return values

    def _thinned(self, path: Path, band: int) -> Float:
        """Every `thin`-th pixel of a band, made once for each state of the file."""
        key = path, stamp(path), band
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            with self._lock:
                if key in self._copies:
                    self._copies.move_to_end(key)
                    return self._copies[key]
            if path not in self._warned:
                self._warned.add(path)
                self._warn(
                    f"{path.name} has no overviews: it is read from end to end once for each band that is looked at "
                    f"from afar. `gdaladdo -r nearest {path} 2 4 8 16 32 64` spares that."
                )
            height, width = self.grid.shape
            copy = np.full((-(-height // self.thin), -(-width // self.thin)), np.nan, np.float32)
            rows = TILE_SIDE * self.thin
            for top in range(0, height, rows):
                strip = Window(top, 0, rows, width).clip(self.grid.shape)
                part = copy[top // self.thin : -(-(top + strip.height) // self.thin)]
                part[:] = self._read(path, (band,), strip, (part.shape[0], part.shape[1]))[0]
            with self._lock:
                self._copies[key] = copy
                while len(self._copies) > 1 and sum(one.nbytes for one in self._copies.values()) > MOST_HELD:
                    self._copies.popitem(last=False)
            return copy

    def _overviews(self, path: Path) -> bool:
        """Whether a raster has overviews coarse enough that the whole of it is a small read."""
        factors = self._reader(path).dataset.overviews(1)
        return bool(factors) and max(factors) * 2 >= self.thin

    def _reader(self, path: Path) -> Any:
        """This thread's open file, opened anew where the file was replaced."""
        readers: dict[Path, tuple[Stamp, Any]] = self._local.__dict__.setdefault("readers", {})
        now = stamp(path)
        if path in readers and readers[path][0] == now:
            return readers[path][1]
        if path in readers:
            with suppress(Exception):
                readers.pop(path)[1].close()
        try:
            reader: Any = Reader(str(path))
        except (RasterioError, RioTilerError) as error:
            raise RasterError(f"{path} cannot be read ({error}): make it again.") from error
        if (reader.height, reader.width) != self.grid.shape:
            reader.close()
            raise RasterError(f"{path} was replaced by a raster on another grid. Start `landslip serve` again.")
        readers[path] = now, reader
        return reader


def stamp(path: Path) -> Stamp:
    """Inode, time of change and size of a file; RasterError where it is gone."""
    try:
        stat = path.stat()
    except OSError as error:
        raise RasterError(f"{path} is gone since `landslip serve` was started.") from error
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _files(layer: PageLayer) -> list[Path]:
    return [layer.path] if layer.beside is None else [layer.path, layer.beside]


@cache
def _ramp(name: str) -> NDArray[np.uint8]:
    """(256, 4) uint8: a ramp of colours, from low to high, by matplotlib's name, which rio-tiler writes small."""
    table = cmap.get(name.lower())
    return np.array([table[i] for i in range(256)], np.uint8)


def _scaled(values: Float, between: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = between
    share = np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0, 1)
    return np.asarray(share * 255).astype(np.uint8)


def _codes(layer: PageLayer, values: Float, label: Float | None, threshold: float) -> NDArray[np.int32]:
    """(h, w) int32 code of every pixel; -1 where there is none."""
    if layer.kind == "planes":
        best: NDArray[np.int32] = values.argmax(0).astype(np.int32)
        best[np.isnan(values).any(0) | ~(values > 0).any(0)] = -1
        return best
    if layer.kind == "agreement":
        assert label is not None
        mapped, compared = values[0] >= np.float32(threshold), ~np.isnan(values[0]) & ((label == 0) | (label == 1))
        codes = np.full(mapped.shape, -1, np.int32)
        for code, where in ((1, mapped & (label == 1)), (2, ~mapped & (label == 1)), (3, mapped & (label == 0))):
            codes[compared & where] = code
        return codes
    return np.asarray(np.nan_to_num(values[0], nan=-1)).astype(np.int32)


def _classes(layer: PageLayer, codes: NDArray[np.int32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Positions in a palette of a layer's classes, and the palette; classes that it does not name are clear."""
    palette = np.zeros((len(layer.codes) + 1, 4), np.uint8)
    indices = np.zeros(codes.shape, np.uint8)
    for position, (code, _, colour) in enumerate(layer.codes, start=1):
        opacity = 255 if not layer.overlay else FAINT if code in (0, UNKNOWN) else STRONG
        palette[position] = (*bytes.fromhex(colour[1:]), opacity)
        indices[codes == code] = position
    return indices, palette


def _paletted_png(indices: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """(h, w) uint8 positions in an (N, 4) uint8 palette as a PNG of colours in a palette.

    A quarter of the bytes to compress, and of the time, of a picture in red, green, blue and opacity.
    """
    picture = Image.fromarray(indices)
    picture.putpalette(palette[:, :3].tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1, transparency=palette[:, 3].tobytes())
    return file.getvalue()
