"""The tables of a GeoPackage that hold reviews, and its geometries."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import shapely
from shapely import Geometry

from landslip.errors import OutputError, VectorError
from landslip.geo.geopackage import STYLE_TABLE
from landslip.plots.qgis_style import review_style

LAYER, REVIEW_LAYER, LOG = "inventory", "review", "review_log"
ENVELOPES = (0, 32, 48, 48, 64)  # bytes, by the indicator in the header's flags
PATIENCE = 10.0  # seconds to wait for another writer


@contextmanager
def open_package(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection to a GeoPackage; the error names the file where it is missing, damaged or locked."""
    if not path.exists():
        raise VectorError(f"{path} does not exist. Make it with `landslip inventory`.")
    try:
        # For writing even where it is only read: whoever opens the file next rolls back what a killed process left.
        uri = f"{path.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)) as connection:
            for name, part in (("ST_MinX", 0), ("ST_MinY", 1), ("ST_MaxX", 2), ("ST_MaxY", 3)):
                connection.create_function(name, 1, partial(_bound, part=part), deterministic=True)
            connection.create_function("ST_IsEmpty", 1, _is_empty, deterministic=True)
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
    except sqlite3.OperationalError as error:
        remedy = "Another program keeps it locked: close it there, or try again" if "locked" in str(error) else ""
        raise OutputError(
            f"{path} cannot be used ({error}). {remedy or 'Check its rights, and that the disk has room'}."
        ) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # The latter of what SQLite says of a damaged file.
        raise VectorError(f"{path} cannot be read as a GeoPackage ({error}). Make it anew.") from error


@contextmanager
def open_transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection in one transaction: no other writer comes between, and an error leaves nothing of it."""
    with open_package(path) as connection:
        opened = path.stat().st_ino
        connection.execute("BEGIN IMMEDIATE")
        try:
            layer_columns(connection, LAYER, path)
            _make_tables(connection)
            yield connection
            connection.execute("COMMIT")
            if path.stat().st_ino != opened:  # It went into the file that was replaced.
                raise OutputError(f"{path} was made anew meanwhile. Nothing was kept; decide again.")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def has_table(connection: sqlite3.Connection, table: str) -> bool:
    """Whether a file has a table of that name."""
    rows = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
    return rows.fetchone() is not None


def layer_columns(connection: sqlite3.Connection, table: str, path: Path) -> list[str]:
    """The names of a layer's columns. Raises VectorError where the file has no such layer."""
    if not has_table(connection, table):
        raise VectorError(f"{path} has no layer {table}. Make it with `landslip inventory`.")
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def has_state(connection: sqlite3.Connection) -> bool:
    """Whether the inventory has the column `review`."""
    return any(row[1] == "review" for row in connection.execute(f"PRAGMA table_info({LAYER})"))


def geometry_column(connection: sqlite3.Connection, path: Path) -> str:
    """The name of the inventory's geometry column. Raises VectorError where it has none."""
    row = connection.execute("SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (LAYER,)).fetchone()
    if row is None:
        raise VectorError(f"{path}: layer {LAYER} has no geometries. Make it anew with `landslip inventory`.")
    return str(row[0])


def quoted_name(name: str) -> str:
    """A name as SQL takes it, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def time_now() -> str:
    """The time, UTC, to the millisecond, as a GeoPackage holds it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def decode(stored: object) -> Geometry:
    """The geometry of a GeoPackage blob. Raises VectorError for what is none."""
    if (
        not isinstance(stored, bytes)
        or len(stored) <= 8
        or stored[:2] != b"GP"
        or (stored[3] >> 1 & 7) >= len(ENVELOPES)
    ):
        raise VectorError("a geometry of the GeoPackage is damaged. Make the inventory anew.")
    try:
        return shapely.force_2d(shapely.from_wkb(stored[8 + ENVELOPES[stored[3] >> 1 & 7] :]))
    except (shapely.GEOSException, NotImplementedError) as error:  # The latter of curves.
        raise VectorError(f"a geometry of the GeoPackage is damaged ({error}). Make the inventory anew.") from error


def encode(geometry: Geometry, connection: sqlite3.Connection) -> bytes:
    """A polygon as the blob of a multipolygon, with the inventory's CRS and its envelope."""
    (srs,) = connection.execute("SELECT srs_id FROM gpkg_contents WHERE table_name = ?", (LAYER,)).fetchone()
    polygons = shapely.force_2d(geometry)
    if polygons.geom_type == "Polygon":
        polygons = shapely.MultiPolygon([polygons])
    left, bottom, right, top = polygons.bounds
    header = struct.pack("<2sBBi4d", b"GP", 0, 0b11, srs, left, right, bottom, top)  # little-endian, xy envelope
    return header + bytes(shapely.to_wkb(polygons, byte_order=1))


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make the layer `review` and the log where they are not there yet, with their style for QGIS."""
    if has_table(connection, LOG) and has_table(connection, REVIEW_LAYER):
        return
    (srs,) = connection.execute("SELECT srs_id FROM gpkg_contents WHERE table_name = ?", (LAYER,)).fetchone()
    now = time_now()
    connection.execute(
        f"CREATE TABLE {REVIEW_LAYER} (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom MULTIPOLYGON, "
        "landslide INTEGER NOT NULL UNIQUE, state TEXT NOT NULL, note TEXT, decided DATETIME, version INTEGER NOT NULL)"
    )
    connection.execute(
        f"CREATE TABLE {LOG} (version INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, landslide INTEGER NOT NULL, "
        "decision INTEGER NOT NULL, before INTEGER NOT NULL, state TEXT NOT NULL, outline BLOB, note TEXT, "
        "decided DATETIME)"
    )
    connection.execute(f"CREATE INDEX {LOG}_by_landslide ON {LOG} (landslide, version)")
    about = "decisions on landslides, one row each", "every decision, undo and redo in order"
    connection.executemany(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [(REVIEW_LAYER, "features", REVIEW_LAYER, about[0], now, srs), (LOG, "attributes", LOG, about[1], now, None)],
    )
    connection.execute(
        "INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'MULTIPOLYGON', ?, 0, 0)", (REVIEW_LAYER, srs)
    )
    if has_table(connection, STYLE_TABLE):
        connection.execute(
            f"INSERT INTO {STYLE_TABLE} (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
            "styleQML, styleSLD, useAsDefault, description, owner, update_time) "
            "VALUES ('', '', ?, 'geom', ?, ?, '', 1, 'landslip', '', ?)",
            (REVIEW_LAYER, REVIEW_LAYER, review_style(), now),
        )


def _bound(stored: bytes | None, part: int) -> float | None:
    """One of left, bottom, right and top of a stored geometry, by its position; None where there is none."""
    return None if stored is None else float(decode(stored).bounds[part])


def _is_empty(stored: bytes | None) -> int | None:
    return None if stored is None else int(decode(stored).is_empty)
