"""The one module that opens vectors; it burns them onto a grid and traces rasters into polygons."""

from __future__ import annotations

import io
import json
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS as ProjCRS
from rasterio.crs import CRS
from rasterio.features import rasterize, shapes
from rasterio.warp import transform_bounds

from landslip.errors import LandslipError, OutputError, VectorError
from landslip.geo.archive import START, archive_of, gdal_name, lack
from landslip.geo.grid import Grid, Window, looks_like_degrees
from landslip.runtime.atomic import atomic_write, is_stream
from landslip.runtime.run_folder import folder_given

VECTOR_SUFFIXES = (".gpkg", ".shp", ".geojson", ".json", ".fgb", ".parquet")
BURN = ("centre", "majority", "touched")
STYLES = "layer_styles"
GEOPARQUET = (".parquet", ".geoparquet")
TEXT = (pa.null(), pa.string(), pa.large_string())
FACTS = {  # what tables of a GeoPackage say of a layer, as a text; not what differs from one writing to the next
    "sqlite_master": "type || ' ' || name",
    "gpkg_contents": "table_name || ' ' || data_type || ' ' || identifier",
    "gpkg_geometry_columns": "table_name || ' ' || column_name || ' ' || geometry_type_name",
    "gpkg_extensions": "ifnull(table_name, '') || ' ' || ifnull(column_name, '') || ' ' || extension_name",
}
VERSION = "1.3"  # of a GeoPackage that QGIS 3.22 reads without a warning
FINER = 5  # sub-pixels per side where a majority is counted
SQUARE = 512  # pixels burnt at a time
MARGIN = 16  # pixels burnt around it, so that GDAL does not cut lines of that length at its border
MANY = 1000  # corners from which a geometry is cut to the square before it is burnt


def read_vector(
    path: Path,
    layer: str | None = None,
    crs: CRS | None = None,
    bounds: tuple[float, float, float, float] | None = None,
    stated: str | None = None,
) -> gpd.GeoDataFrame:
    """Read features, reprojected to `crs` where given and limited to those that touch `bounds` (in `crs`).

    `layer` is the first that has geometries, where not given; `stated` is the CRS of a file that carries none. Raises
    VectorError for a missing or unreadable file, an unknown layer, no CRS, or one other than stated.
    """
    if archive_of(path) is None and not path.exists():
        raise VectorError(f"{path} does not exist. {START}")
    if is_stream(path):
        raise VectorError(f"{path} is a pipe or a device, not a file. Write it to a file first.")
    with _named(path):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if is_geoparquet(path):
                    frame = _read_geoparquet(path, layer, crs, bounds)
                else:
                    layer = layer or next(iter(layer_names(path, spatial=True)), None)
                    box = _bounds_in_file(path, layer, crs, bounds, stated)
                    frame = gpd.read_file(_source(path), layer=layer, bbox=box, fid_as_index=True)
        except DataLayerError as error:
            raise VectorError(
                f"{path} has no layer {layer!r}; its layers are {', '.join(layer_names(path))}."
            ) from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise VectorError(f"{path} holds a table without geometries. Give a layer that has them.")
    frame = _with_crs(frame, path, stated)
    with _named(path):
        frame = frame[~(frame.geometry.is_empty | frame.geometry.isna())]
        frame = frame.set_geometry(shapely.force_2d(frame.geometry.values))
        return frame if crs is None else frame.to_crs(crs.to_wkt())


def _with_crs(frame: gpd.GeoDataFrame, path: Path, stated: str | None) -> gpd.GeoDataFrame:
    """Features in the CRS that their file carries, else in the one that was stated."""
    if frame.crs is None and stated is not None:
        return frame.set_crs(stated)
    if frame.crs is None:
        left, bottom, right, top = bounds = frame.total_bounds
        looks = f" Its numbers (x {left:g} to {right:g}, y {bottom:g} to {top:g}) look like degrees: EPSG:4326, say."
        raise VectorError(
            f"{path} has no CRS.{looks if looks_like_degrees(bounds) else ''} Assign one: a .prj file beside a "
            'shapefile, or crs = "EPSG:..." with the path in a site file.'
        )
    if stated is not None and not frame.crs.equals(ProjCRS.from_user_input(stated), ignore_axis_order=True):
        raise VectorError(
            f"{path} carries the CRS {frame.crs.name}, and crs = {stated!r} says another: it is for files that carry "
            "none. Leave it out, or mend the file's own."
        )
    return frame


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in whatever a damaged one makes its readers raise: GDAL, GEOS, PROJ and pandas have their own."""
    try:
        yield
    except (LandslipError, MemoryError):
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _source(path: Path) -> Path | str:
    """What GDAL is asked for: a file as it is, one in an archive by GDAL's name."""
    return path if archive_of(path) is None else gdal_name(path)


def _unreadable(path: Path, error: Exception) -> VectorError:
    wrong = lack(path) or (folder_given(path, VECTOR_SUFFIXES) if path.is_dir() else "")
    if wrong:
        return VectorError(wrong)
    reason = " ".join(str(error).split(";")[0].split())[:200]
    return VectorError(
        f"{path} cannot be read as a vector file ({reason}): it is truncated, damaged or "
        "not a vector file. Fetch or make it again."
    )


def is_geoparquet(path: Path) -> bool:
    """Whether the name is that of a GeoParquet file, which GDAL reads only where it was built with Arrow."""
    return path.suffix.lower() in GEOPARQUET


def _read_geoparquet(
    path: Path, layer: str | None, crs: CRS | None, bounds: tuple[float, float, float, float] | None
) -> gpd.GeoDataFrame:
    if layer is not None and layer != path.stem:
        raise VectorError(f"{path} has no layer {layer!r}: a GeoParquet file has one, {path.stem}. Leave it out.")
    if archive_of(path) is not None:
        raise VectorError(f"{path}: GeoParquet is not read from inside an archive. Unpack it first.")
    frame = gpd.read_parquet(path)
    if frame.crs is not None and crs is not None and bounds is not None:
        box = transform_bounds(crs, CRS.from_user_input(frame.crs), *bounds, densify_pts=41)
        frame = frame[frame.intersects(shapely.box(*box))]
    return frame


def _bounds_in_file(
    path: Path,
    layer: str | None,
    crs: CRS | None,
    bounds: tuple[float, float, float, float] | None,
    stated: str | None,
) -> tuple[float, float, float, float] | None:
    if bounds is None or crs is None:
        return None
    import pyogrio

    file_crs = pyogrio.read_info(_source(path), layer=layer)["crs"] or stated
    if not file_crs:
        return None
    left, bottom, right, top = transform_bounds(crs, CRS.from_user_input(file_crs), *bounds, densify_pts=41)
    return left, bottom, right, top


def layer_names(path: Path, spatial: bool = False) -> list[str]:
    """Names of a vector file's layers, `spatial` ones or tables without geometry too; VectorError where it is none."""
    import pyogrio

    if is_geoparquet(path):
        return [path.stem]
    with _named(path):
        listed = pyogrio.list_layers(_source(path))
        return [str(name) for name, geometry in listed if geometry is not None or not spatial]


def layer_facts(path: Path, layer: str | None = None) -> tuple[str, str, CRS | None]:
    """The name, kind of geometry ("Polygon", "MultiLineString" ...) and CRS of a layer; of the first with geometries.

    Raises VectorError for what is no vector file, and where it has no such layer.
    """
    import pyogrio

    with _named(path):
        held = {str(name): str(kind) for name, kind in pyogrio.list_layers(_source(path)) if kind is not None}
    name = layer or next(iter(held), "")
    if name not in held:
        raise VectorError(f"{path} has no layer {name!r} of geometries; its layers are {', '.join(layer_names(path))}.")
    with _named(path):
        crs = pyogrio.read_info(_source(path), layer=name)["crs"]
        return name, held[name].split(" ")[0].removesuffix("Z"), CRS.from_user_input(crs) if crs else None


def write_vector(path: Path, frame: gpd.GeoDataFrame, layer: str | None = None, overwrite: bool = False) -> None:
    """Write features as a GeoPackage, aside first and renamed when whole."""
    with atomic_write(path, overwrite) as aside, open_vector_writer(aside, path, layer or path.stem) as add:
        add(frame)


@contextmanager
def open_vector_writer(
    aside: Path, path: Path, layer: str, base: Path | None = None, multi: bool | None = None
) -> Iterator[Callable[[gpd.GeoDataFrame], None]]:
    """Yield what adds features to `aside`, a file that `atomic_write` will rename to the GeoPackage `path`.

    With `base`, an earlier GeoPackage, everything else in it is kept, and the layer replaced. With `multi` every
    geometry becomes a multipart one, so that all that is added fits, and a layer of none is one of multipolygons; by
    default, where what is added has both kinds.
    """
    require_geopackage_name(path)
    version = VERSION
    if base is not None:
        with _written(path):
            _copy_geopackage(base, aside)
            version = _version_of(aside)
    added: list[int] = []
    boxes: list[NDArray[np.float64]] = []
    expected: set[str] = set()

    def add(frame: gpd.GeoDataFrame) -> None:
        how = {"layer": layer, "driver": "GPKG", "engine": "pyogrio", "promote_to_multi": multi, "VERSION": version}
        if multi and frame.empty:  # no geometry says what kind those to come are
            how["geometry_type"] = "MultiPolygon"
        with _written(path):
            frame.to_file(aside, mode="a" if added else "w", **how)
            if not added:
                twin = io.BytesIO()
                frame.iloc[:1].to_file(twin, **how)
                expected.update(_facts(twin, layer))
        added.append(len(frame))
        boxes.append(frame.total_bounds)

    yield add
    with _written(path):
        _require_whole(aside, layer, sum(added), expected, np.array(boxes))


@contextmanager
def lock_geopackage(path: Path) -> Iterator[None]:
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
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter of what SQLite says of a damaged one
        raise _unreadable(path, error) from error


def _copy_geopackage(source: Path, target: Path) -> None:
    # SQLite's own copy: whole also while another program writes to the source
    reading = sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)
    with closing(reading) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def _version_of(path: Path) -> str:
    """That of a GeoPackage, as far as it decides which triggers a layer has: 1.4 has others than all before."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as file:
        (number,) = file.execute("PRAGMA user_version").fetchone()
    return "1.4" if number >= 10400 else VERSION


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Raise OutputError where GDAL or SQLite cannot write what `path` is to hold."""
    try:
        yield
    except (DataSourceError, RuntimeError, sqlite3.Error, UnicodeDecodeError) as error:
        raise OutputError(
            f"{path} cannot be written ({str(error)[:120]}): the disk may be full. Free some space and run again."
        ) from error


def _require_whole(
    aside: Path, layer: str, features: int, expected: set[str], boxes: NDArray[np.float64] | None = None
) -> None:
    """Raise RuntimeError where a layer lacks features, or anything that GDAL says of it in the file's tables.

    GDAL makes much of that, and the index, while it closes the file, and says nothing of what it could not store then.
    `expected`: what the same layer has in memory; `boxes`: of what was added, (n, 4).
    """
    lacking = expected - _facts(aside, layer)
    with closing(sqlite3.connect(f"file:{quote(str(aside))}?mode=ro", uri=True)) as kept:
        counts = [kept.execute(f'SELECT count(*) FROM "{layer}"').fetchone()]
        if kept.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpkg_ogr_contents'").fetchone():
            said_of = "SELECT feature_count FROM gpkg_ogr_contents WHERE table_name = ?"
            counts.append(kept.execute(said_of, [layer]).fetchone())
        else:  # GDAL's own; an earlier GeoPackage of another program has none
            lacking = {fact for fact in lacking if "feature_count" not in fact}
        if boxes is not None:
            counts.append(kept.execute(f'SELECT count(*) FROM "rtree_{layer}_geom"').fetchone())
            extent = "SELECT min_x, min_y, max_x, max_y FROM gpkg_contents WHERE table_name = ?"
            said = np.array(kept.execute(extent, [layer]).fetchone(), np.float64)
            known = boxes[~np.isnan(boxes).any(axis=1)]
            if len(known) and not np.allclose(said, [*known[:, :2].min(axis=0), *known[:, 2:].max(axis=0)]):
                lacking.add("extent")
    if lacking or any(count != (features,) for count in counts):
        missing = ", ".join(sorted(lacking) or ["features"])[:60]
        raise RuntimeError(f"the file holds less than what was written into it: {missing}")


def _facts(file: Path | io.BytesIO, layer: str) -> set[str]:
    """What a GeoPackage's tables hold on a layer: its triggers and indexes, extensions, geometry and CRS."""
    import pyogrio

    found: set[str] = set()
    with warnings.catch_warnings(action="ignore"):  # a file in memory has no extension
        for table, text in FACTS.items():
            if table == "sqlite_master" or f"table {table}" in found:
                told = pyogrio.read_dataframe(file, sql=f"SELECT {text} AS fact FROM {table}", read_geometry=False)
                found.update(told["fact"])
        crs = pyogrio.read_info(file, layer=layer)["crs"]
    return {*(fact for fact in found if layer in fact), f"CRS {crs}"}


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
    how = {"layer": STYLES, "driver": "GPKG", "layer_options": {"FID": "id"}}
    with _written(path):
        pyogrio.write_dataframe(pd.DataFrame(rows), aside, **how)
        pyogrio.write_dataframe(pd.DataFrame(rows), twin := io.BytesIO(), **how)
        _require_whole(aside, STYLES, len(rows), _facts(twin, STYLES))


@contextmanager
def open_parquet_writer(aside: Path) -> Iterator[Callable[[gpd.GeoDataFrame], None]]:
    """Yield what adds features, a row group at a time, to `aside`, a GeoParquet 1.1 that `atomic_write` will rename."""
    groups: list[dict[str, Any]] = []
    with ExitStack() as files:
        writer: pq.ParquetWriter | None = None

        def add(frame: gpd.GeoDataFrame) -> None:
            nonlocal writer
            held = io.BytesIO()
            frame.to_parquet(held, index=False, schema_version="1.1.0", write_covering_bbox=True)
            table = pq.read_table(held)
            # a column without a value in one group may have text in the next
            text = [f.with_type(pa.string()) if f.type in TEXT else f for f in table.schema]
            table = table.cast(pa.schema(text, table.schema.metadata))
            groups.append(json.loads(table.schema.metadata[b"geo"]))
            if writer is None:
                bare = table.schema.remove_metadata()
                writer = files.enter_context(pq.ParquetWriter(aside, bare, compression="zstd", store_schema=False))
            writer.write_table(table.replace_schema_metadata())

        yield add
        if writer is not None:
            writer.add_key_value_metadata({"geo": json.dumps(_all_groups(groups))})


def _all_groups(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """What GeoParquet's metadata says of all row groups, from what it says of each."""
    whole = groups[0]
    columns = [group["columns"][group["primary_column"]] for group in groups]
    kinds = {kind for column in columns for kind in column["geometry_types"]}
    boxes = np.array([column["bbox"] for column in columns if "bbox" in column])
    own = whole["columns"][whole["primary_column"]]
    own["geometry_types"] = sorted(kinds)
    if boxes.size:
        own["bbox"] = [*np.nanmin(boxes[:, :2], axis=0).tolist(), *np.nanmax(boxes[:, 2:], axis=0).tolist()]
    return whole


def highest_value(path: Path, layer: str, column: str) -> int:
    """The largest whole number in a column of a layer, which may be without geometry; 0 where there is none."""
    import pyogrio

    with _named(path):
        values = pyogrio.read_dataframe(path, layer=layer, columns=[column], read_geometry=False)
        found = values[column].dropna() if column in values else ()
        return int(max(found, default=0))


def require_geopackage_name(path: Path) -> None:
    """Raise OutputError for an output of polygons that is not called .gpkg: what is inside is always a GeoPackage."""
    if path.suffix.lower() != ".gpkg":
        raise OutputError(f"{path} would hold a GeoPackage: give it a name that ends in .gpkg.")


@dataclass(frozen=True)
class Shapes:
    """Geometries to be burnt onto a grid window by window: parts of multipart ones apart, empty ones left out.

    parts: (N,) shapely geometries; index: (N,) the place of the geometry that a part belongs to among those given;
    large: (N,) bool, which of them are worth cutting before they are burnt.
    """

    grid: Grid
    how: str
    parts: NDArray[Any]
    index: NDArray[np.int64]
    large: NDArray[np.bool_]
    tree: shapely.STRtree


def shapes_on(geometries: Iterable[Any], grid: Grid, how: str = "centre") -> Shapes:
    """Geometries, in the grid's CRS, made ready for `burn_window`.

    `how`: "centre", a pixel whose centre lies inside; "touched", every pixel that a geometry touches; "majority", a
    pixel at least half covered (counted on 5 x 5 sub-pixels). Raises VectorError for another word.
    """
    if how not in BURN:
        raise VectorError(f"polygons cannot be burnt by {how!r}; the ways are {', '.join(BURN)}.")
    given = np.array([g if g is None or not g.is_empty else None for g in geometries], object)
    parts, index = shapely.get_parts(given, return_index=True)
    large = shapely.get_num_coordinates(parts) > MANY
    large[large] = shapely.is_valid(parts[large])
    return Shapes(grid, how, parts, index, large, shapely.STRtree(parts))


def burn_window(shapes: Shapes, window: Window) -> NDArray[np.bool_]:
    """(h, w) bool of a window inside the shapes' grid.

    GDAL's rounding at a pixel's edge depends on the corner of what is burnt: every part of the grid is burnt in its own
    fixed square, so that no pixel depends on the window.
    """
    out = np.zeros((window.height, window.width), bool)
    for square in _squares_of(shapes, window):
        chosen = _near(shapes, square)
        if chosen.size:
            burnt = _burn_square(shapes, chosen, square, np.ones(chosen.size, np.int32))
            _copy_common(burnt != 0, square, out, window)
    return out


def burn(geometries: Iterable[Any], grid: Grid, how: str = "centre") -> NDArray[np.bool_]:
    """Burn geometries, in the grid's CRS, into (H, W) bool; `how` and errors as `shapes_on` has them."""
    return burn_window(shapes_on(geometries, grid, how), Window(0, 0, *grid.shape))


def _squares_of(shapes: Shapes, window: Window) -> Iterator[Window]:
    for row in range(window.row // SQUARE * SQUARE, window.row + window.height, SQUARE):
        for column in range(window.column // SQUARE * SQUARE, window.column + window.width, SQUARE):
            yield Window(row, column, SQUARE, SQUARE).clip(shapes.grid.shape)


def _near(shapes: Shapes, square: Window) -> NDArray[np.int64]:
    """The parts that may touch a square, in the order they were given in."""
    if shapes.parts.size == 0:
        return np.zeros(0, np.int64)
    return np.sort(shapes.tree.query(shapely.box(*shapes.grid.crop(square).pad(MARGIN).bounds)))


def _burn_square(
    shapes: Shapes, chosen: NDArray[np.int64], square: Window, values: NDArray[np.int32]
) -> NDArray[np.int32]:
    """(h, w) int32 of a square: the value of the last part that a pixel belongs to, 0 where there is none."""
    here = shapes.grid.crop(square).pad(MARGIN)
    parts = shapes.parts[chosen]
    large = shapes.large[chosen]
    parts[large] = shapely.clip_by_rect(parts[large], *here.pad(1).bounds)
    burning = [(part, value) for part, value in zip(parts, values.tolist(), strict=True) if not part.is_empty]
    if not burning:
        return np.zeros((square.height, square.width), np.int32)
    if shapes.how != "majority":
        burnt = rasterize(
            burning, here.shape, transform=here.transform, all_touched=shapes.how == "touched", dtype="int32"
        )
        return np.asarray(burnt)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    corner, shape = here.transform, (here.height * FINER, here.width * FINER)
    transform = Affine(corner.a / FINER, 0, corner.c, 0, corner.e / FINER, corner.f)
    fine = rasterize([part for part, _ in burning], shape, transform=transform, dtype="uint8")
    share = fine.reshape(here.height, FINER, here.width, FINER).sum((1, 3))
    return np.asarray(share * 2 >= FINER * FINER, np.int32)[MARGIN:-MARGIN, MARGIN:-MARGIN]


def _copy_common(source: NDArray[Any], at: Window, target: NDArray[Any], window: Window) -> None:
    """Copy what a window has in common with the square `at`."""
    common = at.intersect(window)
    target[common.within(window)] = source[common.within(at)]


def unburnt(geometries: list[Any], grid: Grid, how: str = "centre") -> list[int]:
    """Positions of the geometries that burn to no pixel of the grid, each burnt by itself; empty ones too."""
    shapes = shapes_on(geometries, grid, how)
    seen: set[int] = set()
    if how != "majority":  # burnt all at once, what stays on top is seen; the rest is burnt one by one
        for square in _squares_of(shapes, Window(0, 0, *grid.shape)):
            chosen = _near(shapes, square)
            if chosen.size:
                ids = _burn_square(shapes, chosen, square, (shapes.index[chosen] + 1).astype(np.int32))
                seen.update((np.unique(ids) - 1).tolist())
    full = set(shapes.index.tolist())
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
