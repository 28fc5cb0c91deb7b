"""GeoPackages and GeoParquet files written, and found whole once written."""

from __future__ import annotations

import io
import json
import sqlite3
import warnings
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

STYLES = "layer_styles"
TEXT = (pa.null(), pa.string(), pa.large_string())  # types of Arrow that are stored as text
# What tables of a GeoPackage say of a layer, as a text in SQL, without what differs from one writing to the next.
FACTS = {
    "sqlite_master": "type || ' ' || name",
    "gpkg_contents": "table_name || ' ' || data_type || ' ' || identifier",
    "gpkg_geometry_columns": "table_name || ' ' || column_name || ' ' || geometry_type_name",
    "gpkg_extensions": "ifnull(table_name, '') || ' ' || ifnull(column_name, '') || ' ' || extension_name",
}
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
    version = VERSION
    if base is not None:
        with _written(path):
            _copy_geopackage(base, aside)
            version = _version_of(aside)
    added: list[int] = []
    boxes: list[NDArray[np.float64]] = []
    expected: set[str] = set()

    def add(frame: gpd.GeoDataFrame) -> None:
        options = {"layer": layer, "driver": "GPKG", "engine": "pyogrio", "promote_to_multi": multi, "VERSION": version}
        if multi and frame.empty:  # No geometry says of what kind those to come are.
            options["geometry_type"] = "MultiPolygon"
        with _written(path):
            frame.to_file(aside, mode="a" if added else "w", **options)
            if not added:
                twin = io.BytesIO()
                frame.iloc[:1].to_file(twin, **options)
                expected.update(_facts(twin, layer))
        added.append(len(frame))
        boxes.append(frame.total_bounds)

    yield add
    with _written(path):
        _require_whole(aside, layer, sum(added), expected, np.array(boxes))


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
    options = {"layer": STYLES, "driver": "GPKG", "layer_options": {"FID": "id"}}
    with _written(path):
        pyogrio.write_dataframe(pd.DataFrame(rows), aside, **options)
        pyogrio.write_dataframe(pd.DataFrame(rows), twin := io.BytesIO(), **options)
        _require_whole(aside, STYLES, len(rows), _facts(twin, STYLES))


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


def _version_of(path: Path) -> str:
    """The version of a GeoPackage, as far as it decides which triggers a layer has: 1.4 has others than all before."""
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
    """Raise RuntimeError where a layer lacks features, or what GDAL writes about it into the file's tables.

    GDAL writes much of that, and the index, while it closes the file, and says nothing of what it could not store then.
    `expected`: what the tables say of the same layer written to memory; `boxes`: the bounds (n, 4) of what was added.
    """
    lacking = expected - _facts(aside, layer)
    with closing(sqlite3.connect(f"file:{quote(str(aside))}?mode=ro", uri=True)) as connection:
        counts = [connection.execute(f'SELECT count(*) FROM "{layer}"').fetchone()]
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpkg_ogr_contents'").fetchone():
            feature_count = "SELECT feature_count FROM gpkg_ogr_contents WHERE table_name = ?"
            counts.append(connection.execute(feature_count, [layer]).fetchone())
        else:  # This table is GDAL's own, and an earlier GeoPackage of another program has none.
            lacking = {fact for fact in lacking if "feature_count" not in fact}
        if boxes is not None:
            counts.append(connection.execute(f'SELECT count(*) FROM "rtree_{layer}_geom"').fetchone())
            extent = "SELECT min_x, min_y, max_x, max_y FROM gpkg_contents WHERE table_name = ?"
            stored = np.array(connection.execute(extent, [layer]).fetchone(), np.float64)
            finite = boxes[~np.isnan(boxes).any(axis=1)]
            if len(finite) and not np.allclose(stored, [*finite[:, :2].min(axis=0), *finite[:, 2:].max(axis=0)]):
                lacking.add("extent")
    if lacking or any(count != (features,) for count in counts):
        missing = ", ".join(sorted(lacking) or ["features"])[:60]
        raise RuntimeError(f"the file holds less than what was written into it: {missing}")


def _facts(file: Path | io.BytesIO, layer: str) -> set[str]:
    """What a GeoPackage's tables hold on a layer: its triggers and indexes, extensions, geometry and CRS."""
    import pyogrio

    facts: set[str] = set()
    with warnings.catch_warnings(action="ignore"):  # A file in memory has no extension.
        for table, text in FACTS.items():
            if table == "sqlite_master" or f"table {table}" in facts:
                rows = pyogrio.read_dataframe(file, sql=f"SELECT {text} AS fact FROM {table}", read_geometry=False)
                facts.update(rows["fact"])
        crs = pyogrio.read_info(file, layer=layer)["crs"]
    return {*(fact for fact in facts if layer in fact), f"CRS {crs}"}


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
