"""Write GeoPackages and GeoParquet files, and check that a GeoPackage is whole before it gets its name."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NotRequired, TypedDict
from urllib.parse import quote

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError

from landslip.errors import OutputError
from landslip.geo.vector import name_in_errors, unreadable
from landslip.runtime.atomic import atomic_write

STYLE_TABLE = "layer_styles"
TEXT = (pa.null(), pa.string(), pa.large_string())  # types of Arrow that are stored as text
VERSION = "1.3"  # of a GeoPackage that QGIS 3.22 reads without a warning


class _GeoColumn(TypedDict):
    """What GeoParquet's metadata says of a column of geometries; `bbox` is absent where there are none."""

    geometry_types: list[str]
    bbox: NotRequired[list[float]]


class _GeoMetadata(TypedDict):
    """What GeoParquet's metadata says of a row group, as far as it is used here."""

    primary_column: str
    columns: dict[str, _GeoColumn]


def write_vector(path: Path, frame: gpd.GeoDataFrame, layer: str | None = None, overwrite: bool = False) -> None:
    """Write features as a GeoPackage, aside first and renamed when whole."""
    with atomic_write(path, overwrite) as aside, open_vector_writer(aside, path, layer or path.stem) as add:
        add(frame)


@contextmanager
def open_vector_writer(
    aside: Path, path: Path, layer: str, base: Path | None = None, multi: bool | None = None
) -> Iterator[Callable[[gpd.GeoDataFrame], None]]:
    """Yield a function that adds features to `aside`, which `atomic_write` will rename to the GeoPackage `path`.

    With `base`, an earlier GeoPackage, everything else in it is kept, and the layer replaced. With `multi` every
    geometry becomes a multipart one, so that whatever is added later fits, and a layer of none is one of multipolygons;
    by default that is so where what is added has both kinds.
    """
    require_geopackage_name(path)
    if base is not None:
        with _report_failed_write(path):
            _copy_geopackage(base, aside)
    lengths: list[int] = []
    boxes: list[NDArray[np.float64]] = []

    def add(frame: gpd.GeoDataFrame) -> None:
        options = {"layer": layer, "driver": "GPKG", "engine": "pyogrio", "promote_to_multi": multi, "VERSION": VERSION}
        if multi and frame.empty:  # No geometry says of what kind those to come are.
            options["geometry_type"] = "MultiPolygon"
        with _report_failed_write(path):
            frame.to_file(aside, mode="a" if lengths else "w", **options)
        lengths.append(len(frame))
        boxes.append(frame.total_bounds)

    yield add
    with _report_failed_write(path):
        _require_features(aside, layer, sum(lengths))
        _require_geometry(aside, layer, sum(lengths), np.array(boxes))


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
    options = {"layer": STYLE_TABLE, "driver": "GPKG", "layer_options": {"FID": "id"}}
    with _report_failed_write(path):
        pyogrio.write_dataframe(pd.DataFrame(rows), aside, **options)
        _require_features(aside, STYLE_TABLE, len(rows))


@contextmanager
def lock_geopackage(path: Path) -> Iterator[None]:
    """Let nobody else write to a GeoPackage, and have in it what others wrote; OutputError where they keep it open.

    A file with a write-ahead log (QGIS makes one of what it opens) must not be replaced: the log would be taken for
    that of the new file.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None)) as connection:
            # This brings the log in, and fails where others have the file open.
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN IMMEDIATE")
            yield
    except sqlite3.OperationalError as error:
        raise OutputError(
            f"{path} cannot be replaced ({error}). Close it in QGIS and elsewhere, check its rights, and run again."
        ) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # The latter of what SQLite says of a damaged file.
        raise unreadable(path, error) from error


def highest_value(path: Path, layer: str, column: str) -> int:
    """The largest number in a column of a layer, or of a table without geometries; 0 where there is none."""
    import pyogrio

    with name_in_errors(path):
        values = pyogrio.read_dataframe(path, layer=layer, columns=[column], read_geometry=False)
        numbers = values[column].dropna() if column in values else ()
        return int(max(numbers, default=0))


def require_geopackage_name(path: Path) -> None:
    """Raise OutputError for an output of polygons that is not called .gpkg: what is inside is always a GeoPackage."""
    if path.suffix.lower() != ".gpkg":
        raise OutputError(f"{path} would hold a GeoPackage: give it a name that ends in .gpkg.")


@contextmanager
def open_parquet_writer(aside: Path) -> Iterator[Callable[[gpd.GeoDataFrame], None]]:
    """Yield a function that adds features, as a row group, to the GeoParquet 1.1 file `aside`."""
    groups: list[_GeoMetadata] = []
    with ExitStack() as files:
        writer: pq.ParquetWriter | None = None

        def add(frame: gpd.GeoDataFrame) -> None:
            nonlocal writer
            file = io.BytesIO()
            frame.to_parquet(file, index=False, schema_version="1.1.0", write_covering_bbox=True)
            table = pq.read_table(file)
            # A column without a value in one group may have text in the next, and all groups have one schema.
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


def _copy_geopackage(source: Path, target: Path) -> None:
    """Copy a GeoPackage."""
    # SQLite's own copy is whole even while another program writes to the source.
    reading = sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)
    with closing(reading) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


@contextmanager
def _report_failed_write(path: Path) -> Iterator[None]:
    """Raise OutputError where GDAL or SQLite cannot write what `path` is to hold."""
    try:
        yield
    except (DataSourceError, RuntimeError, sqlite3.Error, UnicodeDecodeError) as error:
        raise OutputError(
            f"{path} cannot be written ({str(error)[:120]}): the disk may be full. Free some space and run again."
        ) from error


def _require_features(aside: Path, layer: str, features: int) -> None:
    """Raise RuntimeError where a GeoPackage is damaged, or a layer in it holds fewer features than were written."""
    import pyogrio

    # GDAL says nothing of what it could not store while it closed the file.
    with closing(sqlite3.connect(f"file:{quote(str(aside))}?mode=ro", uri=True)) as connection:
        (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        (count,) = connection.execute(f'SELECT count(*) FROM "{layer}"').fetchone()
    counted = pyogrio.read_info(aside, layer=layer, force_feature_count=True)["features"]
    if state != "ok" or not count == counted == features:
        raise RuntimeError(f"the file holds less than what was written into it: {state}, {count} features")


def _require_geometry(aside: Path, layer: str, features: int, boxes: NDArray[np.float64]) -> None:
    """Raise RuntimeError where a GeoPackage lacks a layer's geometry, CRS, extent or index.

    `boxes`: the bounds (n, 4) of what was added, NaN where that had none.
    """
    with closing(sqlite3.connect(f"file:{quote(str(aside))}?mode=ro", uri=True)) as connection:
        facts = connection.execute(
            "SELECT min_x, min_y, max_x, max_y FROM gpkg_contents JOIN gpkg_geometry_columns USING (table_name, srs_id)"
            " JOIN gpkg_spatial_ref_sys USING (srs_id) WHERE table_name = ?",
            [layer],
        ).fetchone()
        (indexed,) = connection.execute(f'SELECT count(*) FROM "rtree_{layer}_geom"').fetchone()
    finite = boxes[~np.isnan(boxes).any(axis=1)]
    extent = [*finite[:, :2].min(axis=0), *finite[:, 2:].max(axis=0)] if len(finite) else ()
    if facts is None or indexed != features or (extent and not np.allclose(np.array(facts, np.float64), extent)):
        raise RuntimeError("the file holds less than what was written into it: its geometry, index or extent")


def _all_groups(groups: list[_GeoMetadata]) -> _GeoMetadata:
    """What GeoParquet's metadata says of all row groups, from what it says of each."""
    joined = groups[0]
    columns = [group["columns"][group["primary_column"]] for group in groups]
    kinds = {kind for column in columns for kind in column["geometry_types"]}
    boxes = np.array([column["bbox"] for column in columns if "bbox" in column])
    column_facts = joined["columns"][joined["primary_column"]]
    column_facts["geometry_types"] = sorted(kinds)
    if boxes.size:
        column_facts["bbox"] = [*np.nanmin(boxes[:, :2], axis=0).tolist(), *np.nanmax(boxes[:, 2:], axis=0).tolist()]
    return joined
