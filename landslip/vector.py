"""The one module that opens vectors; it burns them onto a grid and traces rasters into polygons."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.crs import CRS
from rasterio.features import rasterize, shapes
from rasterio.warp import transform_bounds

from landslip.errors import OutputError, VectorError
from landslip.grid import Grid, Window
from landslip.output import writing

BURN = ("centre", "majority", "touched")
STYLES = "layer_styles"
VERSION = "1.3"  # of a GeoPackage that QGIS 3.22 reads without a warning
FINER = 5  # sub-pixels per side where a majority is counted
STRIP = 512  # rows burnt at a time where a majority is counted


def read_vector(
    path: Path,
    layer: str | None = None,
    crs: CRS | None = None,
    bounds: tuple[float, float, float, float] | None = None,
) -> gpd.GeoDataFrame:
    """Read features, reprojected to `crs` where given and limited to those that touch `bounds` (in `crs`).

    Raises VectorError for a missing or unreadable file, an unknown layer or no CRS.
    """
    if not path.exists():
        raise VectorError(f"{path} does not exist. Check the path; paths in a site file start at its folder.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = gpd.read_file(path, layer=layer, bbox=_bounds_in_file(path, layer, crs, bounds), fid_as_index=True)
    except DataLayerError as error:
        raise VectorError(f"{path} has no layer {layer!r}; its layers are {', '.join(layers(path))}.") from error
    except (DataSourceError, ValueError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise VectorError(f"{path} holds a table without geometries. Give a layer that has them.")
    if frame.crs is None:
        raise VectorError(f"{path} has no CRS. Assign one (a .prj file beside a shapefile, say).")
    frame = frame[~(frame.geometry.is_empty | frame.geometry.isna())]
    frame = frame.set_geometry(shapely.force_2d(frame.geometry.values))
    return frame if crs is None else frame.to_crs(crs.to_wkt())


def _unreadable(path: Path, error: Exception) -> VectorError:
    return VectorError(
        f"{path} cannot be read as a vector file ({str(error).split(';')[0][:200]}): it is truncated, damaged or "
        "not a vector file. Fetch or make it again."
    )


def _bounds_in_file(
    path: Path, layer: str | None, crs: CRS | None, bounds: tuple[float, float, float, float] | None
) -> tuple[float, float, float, float] | None:
    if bounds is None or crs is None:
        return None
    import pyogrio

    file_crs = pyogrio.read_info(path, layer=layer)["crs"]
    if not file_crs:
        return None
    left, bottom, right, top = transform_bounds(crs, CRS.from_user_input(file_crs), *bounds, densify_pts=41)
    return left, bottom, right, top


def layers(path: Path) -> list[str]:
    """Names of a vector file's layers, tables without geometry among them; VectorError where it is none."""
    import pyogrio

    try:
        return [str(name) for name, _ in pyogrio.list_layers(path)]
    except (DataSourceError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def write_vector(path: Path, frame: gpd.GeoDataFrame, layer: str | None = None, overwrite: bool = False) -> None:
    """Write features as a GeoPackage, aside first and renamed when whole."""
    with writing(path, overwrite) as aside:
        fill_vector(aside, path, frame, layer)


def fill_vector(
    aside: Path, path: Path, frame: gpd.GeoDataFrame, layer: str | None = None, base: Path | None = None
) -> None:
    """Write features into `aside`, a file that `writing` will rename to the GeoPackage `path`.

    With `base`, an earlier GeoPackage, everything else in it is kept, and the layer replaced.
    """
    import pyogrio

    require_geopackage_name(path)
    try:
        if base is not None:
            _copy_geopackage(base, aside)
        frame.to_file(aside, layer=layer or path.stem, driver="GPKG", engine="pyogrio", VERSION=VERSION)
        kept = pyogrio.read_info(aside, layer=layer or path.stem)
        # GDAL says nothing of an index that it could not store while it closes the file
        if kept["features"] != len(frame) or not kept["capabilities"]["fast_spatial_filter"]:
            raise RuntimeError("the file holds less than what was written into it")
    except (DataSourceError, RuntimeError, sqlite3.Error) as error:
        raise _unwritten(path, error) from error


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Let nobody else write to a GeoPackage, and have in it what others wrote; OutputError where they keep it open.

    A file with a write-ahead log (QGIS makes one of what it opens) must not be replaced: the log would be taken for
    that of the new file.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None)) as held:
            held.execute("PRAGMA journal_mode = DELETE")  # brings the log in, and needs to be alone for it
            held.execute("BEGIN IMMEDIATE")
            yield
    except sqlite3.OperationalError as error:
        raise OutputError(
            f"{path} cannot be replaced ({error}). Close it in QGIS and elsewhere, check its rights, and run again."
        ) from error
    except sqlite3.DatabaseError as error:
        raise _unreadable(path, error) from error


def _copy_geopackage(source: Path, target: Path) -> None:
    # SQLite's own copy: whole also while another program writes to the source
    reading = sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)
    with closing(reading) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def _unwritten(path: Path, error: BaseException) -> OutputError:
    return OutputError(
        f"{path} cannot be written ({str(error)[:120]}): the disk may be full. Free some space and run again."
    )


def fill_styles(aside: Path, path: Path, styles: Mapping[str, str]) -> None:
    """Add the QGIS styles (QML) of a GeoPackage's layers, by layer, so that QGIS opens them as they are meant to look.

    They go into the table layer_styles, where QGIS itself keeps the styles that are saved with the data.
    """
    import pyogrio

    rows = [
        {
            "f_table_catalog": "",
            "f_table_schema": "",
            "f_table_name": layer,
            "f_geometry_column": "geom",
            "styleName": layer,
            "styleQML": qml,
            "styleSLD": "",
            "useAsDefault": True,
            "description": "landslip",
            "owner": "",
            "ui": None,
            "update_time": pd.Timestamp.now("UTC").floor("s"),  # QGIS asks for it, and finds no style without it
        }
        for layer, qml in styles.items()
    ]
    try:
        pyogrio.write_dataframe(pd.DataFrame(rows), aside, layer=STYLES, driver="GPKG", layer_options={"FID": "id"})
    except (DataSourceError, RuntimeError) as error:
        raise _unwritten(path, error) from error


def fill_parquet(aside: Path, frame: gpd.GeoDataFrame) -> None:
    """Write features as GeoParquet 1.1 into `aside`, a file that `writing` will rename."""
    frame.to_parquet(aside, index=False, compression="zstd", schema_version="1.1.0", write_covering_bbox=True)


def highest(path: Path, layer: str, column: str) -> int:
    """The largest whole number in a column of a layer, which may be without geometry; 0 where there is none."""
    import pyogrio

    values = pyogrio.read_dataframe(path, layer=layer, columns=[column], read_geometry=False)
    found = values[column].dropna() if column in values else ()
    return int(max(found, default=0))


def require_geopackage_name(path: Path) -> None:
    """Raise OutputError for an output of polygons that is not called .gpkg: what is inside is always a GeoPackage."""
    if path.suffix.lower() != ".gpkg":
        raise OutputError(f"{path} would hold a GeoPackage: give it a name that ends in .gpkg.")


def burn(geometries: Iterable[Any], grid: Grid, how: str = "centre") -> NDArray[np.bool_]:
    """Burn geometries, in the grid's CRS, into (H, W) bool.

    `how`: "centre", a pixel whose centre lies inside; "touched", every pixel that a geometry touches; "majority", a
    pixel at least half covered (counted on 5 x 5 sub-pixels). Raises VectorError for another word.
    """
    _require_known(how)
    found = [geometry for geometry in geometries if geometry is not None and not geometry.is_empty]
    if not found:
        return np.zeros(grid.shape, bool)
    if how == "majority":
        return _burn_majority(found, grid)
    burnt = rasterize(
        found, grid.shape, transform=grid.transform, all_touched=how == "touched", dtype="uint8", default_value=1
    )
    return np.asarray(burnt, dtype=bool)


def _require_known(how: str) -> None:
    if how not in BURN:
        raise VectorError(f"polygons cannot be burnt by {how!r}; the ways are {', '.join(BURN)}.")


def _burn_majority(geometries: list[Any], grid: Grid) -> NDArray[np.bool_]:
    out = np.zeros(grid.shape, bool)
    tree = shapely.STRtree(geometries)
    for row in range(0, grid.height, STRIP):
        window = Window(row, 0, STRIP, grid.width).clip(grid.shape)
        strip = grid.crop(window)
        near = [geometries[i] for i in tree.query(shapely.box(*strip.bounds))]
        if not near:
            continue
        corner = strip.transform
        transform = Affine(corner.a / FINER, 0, corner.c, 0, corner.e / FINER, corner.f)
        fine = rasterize(near, (strip.height * FINER, strip.width * FINER), transform=transform, dtype="uint8")
        share = fine.reshape(strip.height, FINER, strip.width, FINER).sum((1, 3))
        out[window.slices] = share * 2 >= FINER * FINER
    return out


def unburnt(geometries: list[Any], grid: Grid, how: str = "centre") -> list[int]:
    """Positions of the geometries that burn to no pixel of the grid, each burnt by itself; empty ones too."""
    _require_known(how)
    full = [i for i, geometry in enumerate(geometries) if geometry is not None and not geometry.is_empty]
    seen: set[int] = set()
    if full and how != "majority":  # burnt all at once, what stays on top is seen; the rest is burnt one by one
        ids = rasterize(
            ((geometries[i], i + 1) for i in full),
            grid.shape,
            transform=grid.transform,
            all_touched=how == "touched",
            dtype="int32",
        )
        seen = set((np.unique(ids) - 1).tolist())
    burnt = {i for i in full if i in seen or _burns(geometries[i], grid, how)}
    return [i for i in range(len(geometries)) if i not in burnt]


def _burns(geometry: Any, grid: Grid, how: str) -> bool:
    return bool(burn_alone(geometry, grid, how)[1].any())


def burn_alone(geometry: Any, grid: Grid, how: str = "centre") -> tuple[Window, NDArray[np.bool_]]:
    """The window of the grid around a geometry, and the geometry burnt into it, (h, w) bool; empty beyond the grid."""
    left, bottom, right, top = geometry.bounds
    x, y = grid.transform.c, grid.transform.f
    row, column = int((y - top) // grid.y_size), int((left - x) // grid.x_size)
    height = int((y - bottom) // grid.y_size) - row + 1
    width = int((right - x) // grid.x_size) - column + 1
    window = Window(row, column, height, width).clip(grid.shape)
    if not (window.height and window.width):
        return Window(0, 0, 0, 0), np.zeros((0, 0), bool)
    return window, burn([geometry], grid.crop(window), how)


def trace(ids: NDArray[np.int32], grid: Grid) -> gpd.GeoDataFrame:
    """Polygons around each id > 0 of (H, W) int32, one row an id (column `id`), in the grid's CRS.

    Pieces of one id that meet only at a corner become one multipolygon, so that every geometry is valid.
    """
    pieces = outline(ids, Window(0, 0, *grid.shape))
    order = sorted(pieces)
    placed = place([together(pieces[i]) for i in order], grid)
    return gpd.GeoDataFrame({"id": np.array(order, np.int64)}, geometry=placed, crs=grid.crs.to_wkt())


def outline(ids: NDArray[np.int32], window: Window) -> dict[int, list[Any]]:
    """Polygons around each id > 0 of (h, w) int32 cut at `window`, by id, in whole pixels (x column, y row).

    Pixels are exact where metres are rounded, so that what two windows hold of one landslide meets without a gap.
    """
    corner = Affine.translation(window.column, window.row)
    pieces: dict[int, list[Any]] = {}
    for geometry, value in shapes(ids, mask=ids > 0, connectivity=4, transform=corner):
        pieces.setdefault(int(value), []).append(shapely.geometry.shape(geometry))
    return pieces


def join(pieces: list[Any]) -> Any:
    """One geometry from polygons in whole pixels that meet at the borders of windows, without a corner there."""
    return shapely.simplify(shapely.union_all(pieces), 0)


def together(pieces: list[Any]) -> Any:
    """One geometry from polygons that meet at corners at most."""
    return pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)


def place(geometries: list[Any], grid: Grid) -> NDArray[Any]:
    """Geometries in whole pixels (x column, y row) brought to the grid's CRS; outer rings run counterclockwise."""
    origin = np.array([grid.transform.c, grid.transform.f])
    size = np.array([grid.transform.a, grid.transform.e])
    placed = shapely.transform(np.array(geometries, object), lambda xy: origin + xy * size)
    return np.asarray(shapely.orient_polygons(placed))
