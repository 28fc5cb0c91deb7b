"""Measure `landslip prepare` on a made-up scene: `python benchmarks/prepare.py [--side 2000] [--json]`.

The scene has a DEM and seven bands of `--side` pixels at 15 m, rivers, faults, rocks and landslides. First `landslip
prepare` is a process of its own, so that its peak memory is its own, with the bytes that it reads and writes over the
disk's own rate beside it. Then each factor is taken by itself, from file to file, beside other programs on the same
raster: gdaldem and gdal_proximity.py (from file to file too), xarray-spatial, OpenCV and scipy (arrays only: reading
and writing not counted), each where it is installed. Before that everything is compiled. A full Landsat scene is --side
15400; it takes 50 GB of disk, and scipy 10 GB of memory (--without-scipy leaves it out).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from process import measured, show
from rasterio.crs import CRS

from landslip.config.site import read_site
from landslip.config.site_tables import FileTable
from landslip.factors.terrain import surfaces
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import create_blank, create_raster, find_tiles, put_tiles, write_raster, write_window
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import read, read_info
from landslip.geo.rasterize import burn
from landslip.geo.vector import read_vector
from landslip.preparation.channel_sources import channel_sources
from landslip.preparation.distance_sources import distance_source
from landslip.preparation.site_inputs import open_site
from landslip.preparation.source import FILL_WINDOW
from landslip.runtime.parallel import parallel_map

BANDS = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2")
SITE = """name = "scene"
[[image]]
path = "image.tif"
bands = {{ {bands} }}
scale = 0.0000275
offset = -0.2
[dem]
path = "dem.tif"
[rivers]
path = "rivers.gpkg"
[landslides]
path = "landslides.gpkg"
"""
FURTHER = """[faults]
path = "faults.gpkg"
[lithology]
path = "rocks.gpkg"
field = "rock"
"""


def write_scene(
    folder: Path, side: int, bands: Sequence[str] = BANDS, further: bool = True, landslides: int | None = None
) -> Grid:
    """The files of a site of `side` x `side` pixels; nothing is held whole.

    `further`: faults and lithology too. `landslides`: so many, and half as many as `side` by default.
    """
    grid = Grid(CRS.from_epsg(32648), Affine(15, 0, 300_000, 0, -15, 3_700_000), side, side)
    rng = np.random.default_rng(0)
    with (
        create_raster(folder / "dem.tif", grid, "float32", ["elevation"], -9999.0, compress=False) as dem,
        create_raster(folder / "image.tif", grid, "uint16", bands, 0) as image,
    ):
        for window in tiles(grid.shape, 1024):
            y = np.arange(window.row, window.row + window.height)[:, None]
            x = np.arange(window.column, window.column + window.width)[None]
            z = 2000 + 800 * np.sin(x / 260) * np.cos(y / 310) + 60 * np.sin(x / 17 + y / 23)
            z = z + rng.normal(0, 0.5, z.shape)
            write_window(dem, z.astype(np.float32)[None], window)
            values = 9000 + 2 * z + rng.integers(0, 400, (len(bands), *z.shape))
            write_window(image, values.astype(np.uint16), window)
    left, bottom, right, top = grid.bounds
    metres = right - left

    def lines(count: int, share: float) -> list[shapely.LineString]:
        begin = np.column_stack((rng.uniform(left, right, count), rng.uniform(bottom, top, count)))
        steps = rng.normal(0, metres * share / 6, (count, 40, 2)).cumsum(axis=1)
        return [shapely.LineString(start + way) for start, way in zip(begin, steps, strict=True)]

    def write(name: str, geometries: list[shapely.Geometry], **columns: list[str]) -> None:
        write_vector(folder / f"{name}.gpkg", gpd.GeoDataFrame(columns, geometry=geometries, crs=grid.crs.to_wkt()))

    write("rivers", lines(max(4, side // 100), 0.02))
    write("faults", lines(6, 0.05))
    edges = np.linspace(left, right, 6)
    rocks = [shapely.box(a, bottom, b, top) for a, b in pairwise(edges)]
    write("rocks", rocks, rock=["shale", "limestone", "granite", "shale", "marl"])
    count = side // 2 if landslides is None else landslides
    points = shapely.points(rng.uniform(left, right, count), rng.uniform(bottom, top, count))
    write("landslides", list(shapely.buffer(points, rng.uniform(20, 150, count))))
    site = SITE.format(bands=", ".join(f"{name} = {i}" for i, name in enumerate(bands, start=1)))
    (folder / "site.toml").write_text(site + FURTHER if further else site)
    return grid


def seconds(work: Callable[[], object]) -> float:
    """Seconds of wall clock that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def disk_rate(folder: Path, mebibytes: int = 512) -> tuple[float, float]:
    """MiB/s written and read past the system's memory, as far as it lets go of what was written."""
    path, block = folder / "rate", os.urandom(2**20)
    began = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(block)
        os.fsync(file.fileno())
    written = mebibytes / (time.perf_counter() - began)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        while file.read(2**20):
            pass
    path.unlink()
    return written, mebibytes / (time.perf_counter() - began)


def terrain_to_file(folder: Path, grid: Grid, name: str) -> None:
    """One surface of the DEM, block by block into a raster."""
    create_blank(folder / "one.tif", grid, [name], [{}])
    places = find_tiles(folder / "one.tif")

    def fill(window: Window) -> None:
        around = Window(window.row - 1, window.column - 1, window.height + 2, window.width + 2)
        z = read(folder / "dem.tif", [1], around)[0]
        put_tiles(places, surfaces(z, grid.x_size, grid.y_size, [name])[:, 1:-1, 1:-1], window, [1])

    for _ in parallel_map(fill, tiles(grid.shape, FILL_WINDOW)):
        pass


def layers_to_file(folder: Path, grid: Grid) -> dict[str, float]:
    """Seconds of each layer of the site, from its inputs into a stack."""
    found = channel_sources(open_site(read_site(folder / "site.toml")), grid, "planes")
    names = [channel.name for layer in found for channel in layer.channels]
    create_blank(folder / "layers.tif", grid, names, [{} for _ in names])
    places, first, took = find_tiles(folder / "layers.tif"), 1, {}
    for layer in found:
        bands = range(first, first + len(layer.channels))
        first = bands.stop

        def fill_layer(layer=layer, bands=bands) -> None:
            values = layer.begin(folder)

            def fill(window: Window) -> None:
                put_tiles(places, values(window), window, bands)

            for _ in parallel_map(fill, layer.windows(grid.shape)):
                pass

        took[layer.name] = seconds(fill_layer)
    (folder / "layers.tif").unlink()
    return took


def other_programs(folder: Path, grid: Grid, with_scipy: bool) -> dict[str, float]:
    """Seconds of other programs on the same rasters."""
    found: dict[str, float] = {}
    dem, features = folder / "dem.tif", folder / "features.tif"
    for name in ("slope", "aspect"):
        if shutil.which("gdaldem"):
            command = ["gdaldem", name, dem, folder / "other.tif", "-q"]
            found[f"{name}_gdaldem"] = seconds(lambda command=command: subprocess.run(command, check=True))
    burnt = burn(read_vector(folder / "faults.gpkg").geometry, grid, "touched")
    if shutil.which("gdal_proximity.py"):
        write_raster(features, burnt[None].astype(np.uint8), grid, ["features"], compress=False)
        command = ["gdal_proximity.py", features, folder / "near.tif", "-distunits", "GEO", "-ot", "Float32", "-q"]
        found["distance_gdal_proximity"] = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    z = read(dem)[0]
    try:
        import xarray
        import xrspatial

        one = xarray.DataArray(z, dims=("y", "x"), attrs={"res": (15.0, 15.0)})
        small = one[:64, :64]
        for name in ("slope", "aspect", "curvature"):
            function = getattr(xrspatial, name)
            function(small)  # compiles
            found[f"{name}_xarray_spatial"] = seconds(lambda function=function: function(one))
    except ImportError:
        pass
    try:
        import cv2

        none = (~burnt).astype(np.uint8)
        found["distance_opencv"] = seconds(
            lambda: cv2.distanceTransform(none, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * np.float32(15)
        )
    except ImportError:
        pass
    if with_scipy:
        from scipy import ndimage

        def slope() -> None:
            rise = [ndimage.sobel(z, axis) / (8 * 15) for axis in (0, 1)]
            np.degrees(np.arctan(np.hypot(*rise)))

        found["slope_scipy"] = seconds(slope)
        found["curvature_scipy"] = seconds(lambda: ndimage.laplace(z) * (-100 / 15**2))
        found["distance_scipy"] = seconds(lambda: ndimage.distance_transform_edt(~burnt, sampling=15))
    return found


def main() -> None:
    """Print the figures, as text or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2000, help="of the scene, pixels")
    parser.add_argument("--folder", type=Path, default=None, help="where the scene is made (default: temporary)")
    parser.add_argument("--without-scipy", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        warm, folder = Path(name) / "warm", Path(name) / "scene"
        for place, side in ((warm, 300), (folder, arguments.side)):
            place.mkdir()
            grid = write_scene(place, side)
            if place == warm:  # compiles, for this process and, where the code can be kept, for the next
                measured("prepare", place / "site.toml", place / "prepared")
                layers_to_file(place, grid)
                for factor in ("slope", "aspect", "curvature"):
                    terrain_to_file(place, grid, factor)
        whole = measured("prepare", folder / "site.toml", folder / "prepared")
        took = whole.seconds
        found |= {"prepare_peak_mib": whole.peak_mib, "prepare_seconds": took}
        found["prepare_processor_seconds"] = whole.processor_seconds
        found["prepare_nanoseconds_per_pixel"] = 1e9 * took / arguments.side**2
        count = read_info(folder / "prepared" / "stack.tif").count
        gaps = 2 * 2 * 4 * arguments.side**2  # two distances keep 4 bytes a pixel in a file, written and read once
        written = sum(path.stat().st_size for path in (folder / "prepared").iterdir()) + gaps / 2
        # the inputs are hashed, checked and used; the stack is read once for what follows from all its channels
        inputs = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".tif", ".gpkg"))
        taken = 3 * inputs + count * 4 * arguments.side**2 + gaps / 2
        shutil.rmtree(folder / "prepared")
        writes, reads = disk_rate(folder)
        limit = written / 2**20 / writes + taken / 2**20 / reads
        found |= {"written_mib": written / 2**20, "read_mib": taken / 2**20}
        found |= {"disk_mib_per_second_written": writes, "disk_mib_per_second_read": reads}
        found |= {"disk_limit_seconds": limit, "prepare_over_disk_limit": took / limit}
        found |= {f"layer_seconds_{name}": value for name, value in layers_to_file(folder, grid).items()}
        for factor in ("slope", "aspect", "curvature"):
            found[f"{factor}_landslip"] = seconds(lambda factor=factor: terrain_to_file(folder, grid, factor))
        faults = distance_source("faults", FileTable(path=folder / "faults.gpkg"), grid)

        def distances() -> None:
            values = faults.begin(folder)
            for _ in parallel_map(values, faults.windows(grid.shape)):
                pass

        found["distance_landslip"] = seconds(distances)
        found |= other_programs(folder, grid, not arguments.without_scipy)
    show(found, arguments.json)


if __name__ == "__main__":
    main()
