"""Decisions on the landslides of an inventory: the one module that writes reviews.

They are kept in the inventory's own GeoPackage: layer `review` has a row for every landslide that is decided on, table
`review_log` every decision, undo and redo in their order, and the column `review` of layer `inventory` is kept in step
where there is one. A decision is one SQLite transaction, on disk before it is answered, so that a process killed at any
moment loses none and leaves none half.

Every change of a landslide gets a version, which only grows. Who decides says which version that was made on, and
ConflictError tells who comes second. Drawn landslides have ids below 0, which no inventory gives.

Source of the format: OGC 12-128r19 (GeoPackage 1.4), 2.1 features, 2.4 attributes, 2.1.3 the geometry's header; the
ST_ functions that its triggers call are those of annex F.3 (R-tree extension).
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import shapely
from shapely import Geometry

from landslip.errors import ConflictError, OutputError, ReviewError, VectorError
from landslip.plots.qgis_style import review_style

LAYER, REVIEWS, LOG = "inventory", "review", "review_log"
STYLES = "layer_styles"  # where QGIS keeps the styles of layers; `landslip inventory` makes it
OPEN, ACCEPTED, REJECTED, REDRAWN, DRAWN = "open", "accepted", "rejected", "redrawn", "drawn"
STATES = (OPEN, ACCEPTED, REJECTED, REDRAWN, DRAWN)
MOST_VERTICES = 20_000  # of an outline
MOST_NOTE = 1000  # characters
MOST_SHOWN = 50  # characters of what a file says, in a message
PATIENCE = 10.0  # seconds to wait for another writer


@dataclass(frozen=True)
class Landslide:
    """A row of the inventory: its attributes as they are stored, and its outline in the inventory's CRS."""

    id: int
    attributes: dict[str, Any]
    outline: Geometry


@dataclass(frozen=True)
class Review:
    """What stands of a landslide. `outline` is None where it is open.

    `version` is that of the last change, an undo too (0: never decided on); `decision` is the version of the decision
    that stands, 0 for none.
    """

    landslide: int
    state: str
    outline: Geometry | None
    note: str
    decided: str
    version: int
    decision: int

    def __post_init__(self) -> None:
        _require_types(self)


@dataclass(frozen=True)
class _Entry:
    """A row of the log. `before` is the decision that stood before a decision; 0 in an undo or redo."""

    version: int
    landslide: int
    decision: int
    before: int
    state: str
    outline: bytes | None
    note: str | None
    decided: str | None

    def __post_init__(self) -> None:
        _require_types(self)


def _require_types(row: Review | _Entry) -> None:
    """VectorError for what SQLite keeps in any column and landslip never wrote: a text for a number, say."""
    for name, types in get_type_hints(type(row)).items():
        if not isinstance(value := getattr(row, name), types):
            raise VectorError(
                f"the reviews of the inventory hold {str(value)[:MOST_SHOWN]!r} as {name}, which cannot be. Mend that "
                "row, or make the inventory anew."
            )


def read_inventory(path: Path) -> list[Landslide]:
    """The rows of an inventory, in the order of the file. VectorError where there is no such layer, or ids repeat."""
    with _open(path) as connection:
        names = _columns(connection, LAYER, path)
        if "id" not in names:
            raise VectorError(f"{path}: layer {LAYER} has no column id. Make it anew with `landslip inventory`.")
        geometry = _geometry_column(connection, path)
        shown = [name for name in names if name not in ("fid", geometry)]
        listed = ", ".join(_quoted(name) for name in shown)
        rows = connection.execute(f"SELECT {_quoted(geometry)}, {listed} FROM {LAYER}").fetchall()
    found = []
    for stored, *values in rows:
        attributes = dict(zip(shown, values, strict=True))
        if stored is not None and attributes["id"] is not None:
            if not isinstance(attributes["id"], int):
                raise VectorError(f"{path}: layer {LAYER} has the id {attributes['id']!r}, which is no whole number.")
            found.append(Landslide(int(attributes["id"]), attributes, decode(stored)))
    if len({landslide.id for landslide in found}) < len(found):
        raise VectorError(f"{path}: layer {LAYER} has an id twice. Make it anew with `landslip inventory`.")
    return found


def inventory_mark(path: Path) -> tuple[Any, ...]:
    """Something that changes when the inventory is another one (not when it is reviewed)."""
    with _open(path) as connection:
        stated = connection.execute("SELECT last_change FROM gpkg_contents WHERE table_name = ?", (LAYER,)).fetchone()
    return path.stat().st_ino, stated


def read_reviews(path: Path, since: int = 0) -> dict[int, Review]:
    """What stands of every landslide that was ever decided on, by id; `since` leaves out what has no later version.

    A state that only the column `review` holds, kept by `landslip inventory`, has version 0.
    """
    with _open(path) as connection:
        found = _kept(connection, path) if not since else {}
        if _has(connection, LOG):  # the last change of each landslide, with the decision that stands after it
            rows = connection.execute(
                f"SELECT {_columns_of('last')}, {_columns_of('stands')} FROM {LOG} AS last "
                f"JOIN (SELECT max(version) AS version FROM {LOG} GROUP BY landslide) AS newest USING (version) "
                f"LEFT JOIN {LOG} AS stands ON stands.version = last.decision WHERE last.version > ?",
                (since,),
            )
            for row in rows:
                last, stands = _Entry(*row[:8]), None if row[8] is None else _Entry(*row[8:])
                found[last.landslide] = _review(last, stands)
    return found


def corrections(path: Path) -> list[Review]:
    """Layer `review` as it is, edited elsewhere or not, and what only the column `review` holds, by id."""
    with _open(path) as connection:
        found = _kept(connection, path)
        if _has(connection, REVIEWS):
            rows = connection.execute(
                f"SELECT landslide, state, geom, note, decided, version FROM {REVIEWS}"
            ).fetchall()
            if _has(connection, LOG):  # an undone decision leaves its landslide open
                for (landslide,) in connection.execute(f"SELECT DISTINCT landslide FROM {LOG}").fetchall():
                    found.pop(landslide, None)
            for landslide, state, stored, note, decided, version in rows:
                if state not in STATES[1:] or stored is None:
                    raise VectorError(
                        f"{path}: landslide {landslide} of layer {REVIEWS} has the state {state!r} or no outline; "
                        f"states are {', '.join(STATES[1:])}. Mend that row."
                    )
                found[landslide] = Review(
                    landslide, state, decode(stored), note or "", decided or "", version or 0, version or 0
                )
    return [found[landslide] for landslide in sorted(found)]


def crs_of(path: Path) -> str:
    """The CRS of an inventory, as WKT."""
    with _open(path) as connection:
        row = connection.execute(
            "SELECT definition FROM gpkg_contents JOIN gpkg_spatial_ref_sys USING (srs_id) WHERE table_name = ?",
            (LAYER,),
        ).fetchone()
    if row is None:
        raise VectorError(f"{path} has no layer {LAYER}. Make it with `landslip inventory`.")
    return str(row[0])


def last_version(path: Path) -> int:
    """The version of the last change of any landslide; 0 where there was none."""
    with _open(path) as connection:
        return _last(connection)


def decide(
    path: Path, landslide: int | None, state: str, version: int = 0, outline: Geometry | None = None, note: str = ""
) -> Review:
    """Keep a decision on a landslide; `landslide` is None for one that is drawn, which gets an id below 0.

    `version` is the one that the decision was made on (`Review.version`; 0 for a landslide never decided on).
    `outline`, in the inventory's CRS, belongs to redrawn and drawn. Accepting one that is redrawn or drawn leaves it
    that, with its outline; a rejected landslide has the outline of the inventory, or of who drew it. Raises
    ConflictError where another decision came first, ReviewError for a landslide, state or outline that cannot be,
    OutputError where the file cannot be written.
    """
    if state not in (ACCEPTED, REJECTED, REDRAWN, DRAWN):
        raise ReviewError(f"a landslide cannot be {state!r}: give {ACCEPTED}, {REJECTED}, {REDRAWN} or {DRAWN}.")
    if (outline is None) != (state in (ACCEPTED, REJECTED)):
        raise ReviewError(f"{state}: an outline belongs to {REDRAWN} and {DRAWN}, and to no other state.")
    if (state == DRAWN) != (landslide is None):
        raise ReviewError(f"a landslide that is {DRAWN} has no id yet, and every other has one.")
    if len(note) > MOST_NOTE:
        raise ReviewError(f"the note has {len(note)} characters, and {MOST_NOTE} are kept. Shorten it.")
    if outline is not None:
        require_outline(outline)
    with _writing(path) as connection:
        if landslide is None:
            (lowest,) = connection.execute(f"SELECT min(landslide) FROM {LOG}").fetchone()
            landslide, last = min(_count(lowest), 0) - 1, None
        else:
            last = _last_entry(connection, path, landslide)
            _require_current(landslide, last, version)
        if last is None and landslide > 0:
            last = _keep(connection, path, landslide)
        stored = (
            _encode(outline, connection) if outline is not None else _outline(connection, path, landslide, state, last)
        )
        if state == REDRAWN and landslide < 0:
            state = DRAWN
        if state == ACCEPTED and last is not None and last.state in (REDRAWN, DRAWN):
            state = last.state  # its outline stays too, which the inventory does not have
        before = 0 if last is None else last.decision
        made = _append(connection, _Entry(0, landslide, 0, before, state, stored, note, _now()))
        return _settle(connection, made)


def undo(path: Path, decision: int) -> Review:
    """Take a decision back; what stood before it stands again. ConflictError where it stands no more."""
    with _writing(path) as connection:
        made, last = _decided(connection, decision)
        if last.decision != made.version:
            raise _conflict(_standing(connection, last))
        return _return_to(connection, last, made.before)


def redo(path: Path, decision: int) -> Review:
    """Make a decision again that was undone. ConflictError where something else was decided meanwhile."""
    with _writing(path) as connection:
        made, last = _decided(connection, decision)
        if last.decision != made.before or last.version == made.before:
            raise _conflict(_standing(connection, last))
        return _return_to(connection, last, made.version)


def require_outline(outline: Geometry) -> None:
    """Raise ReviewError for an outline that is no area: not a polygon, empty, crossing itself, or not finite."""
    if outline.geom_type not in ("Polygon", "MultiPolygon"):
        raise ReviewError(f"an outline is a polygon, not a {outline.geom_type}. Draw an area.")
    vertices = int(shapely.get_num_coordinates(outline))
    if vertices > MOST_VERTICES:
        raise ReviewError(f"the outline has {vertices} vertices, and {MOST_VERTICES} are kept. Simplify it.")
    if not np.isfinite(shapely.get_coordinates(outline)).all():
        raise ReviewError("the outline has a coordinate that is no number. Draw it again.")
    if not outline.is_valid:
        raise ReviewError(f"the outline is no simple area ({shapely.is_valid_reason(outline)}). Draw it again.")
    if not outline.area > 0:
        raise ReviewError("the outline holds no area. Draw it with three corners or more.")


# -- the log ----------------------------------------------------------------------------------------------------------


def _append(connection: sqlite3.Connection, entry: _Entry) -> _Entry:
    """Write a row of the log; a `decision` of 0 with an outline becomes the row's own version."""
    cursor = connection.execute(
        f"INSERT INTO {LOG} (landslide, decision, before, state, outline, note, decided) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (entry.landslide, entry.decision, entry.before, entry.state, entry.outline, entry.note, entry.decided),
    )
    version = int(cursor.lastrowid or 0)
    if entry.decision == 0 and entry.state != OPEN:
        connection.execute(f"UPDATE {LOG} SET decision = version WHERE version = ?", (version,))
    return _entry(connection, version)


def _return_to(connection: sqlite3.Connection, last: _Entry, decision: int) -> Review:
    """Write that an earlier decision (0: none) stands again."""
    state = OPEN if not decision else _entry(connection, decision).state
    return _settle(connection, _append(connection, _Entry(0, last.landslide, decision, 0, state, None, "", _now())))


def _settle(connection: sqlite3.Connection, last: _Entry) -> Review:
    """Bring layer `review` and the column of the inventory in step with the last row of a landslide's log."""
    review = _standing(connection, last)
    if review.outline is None:
        connection.execute(f"DELETE FROM {REVIEWS} WHERE landslide = ?", (last.landslide,))
    else:
        stored = _encode(review.outline, connection)
        connection.execute(
            f"INSERT INTO {REVIEWS} (geom, landslide, state, note, decided, version) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (landslide) DO UPDATE SET geom = excluded.geom, state = excluded.state, "
            "note = excluded.note, decided = excluded.decided, version = excluded.version",
            (stored, last.landslide, review.state, review.note, review.decided, review.version),
        )
        left, bottom, right, top = review.outline.bounds
        connection.execute(
            "UPDATE gpkg_contents SET min_x = min(coalesce(min_x, ?1), ?1), min_y = min(coalesce(min_y, ?2), ?2), "
            "max_x = max(coalesce(max_x, ?3), ?3), max_y = max(coalesce(max_y, ?4), ?4) WHERE table_name = ?5",
            (left, bottom, right, top, REVIEWS),
        )
    connection.execute(
        "UPDATE gpkg_contents SET last_change = ? WHERE table_name IN (?, ?)", (last.decided, REVIEWS, LOG)
    )
    if _has_state(connection):
        connection.execute(f"UPDATE {LAYER} SET review = ? WHERE id = ?", (review.state, last.landslide))
    return review


def _standing(connection: sqlite3.Connection, last: _Entry) -> Review:
    return _review(last, _entry(connection, last.decision) if last.decision else None)


def _review(last: _Entry, stands: _Entry | None) -> Review:
    """What stands of a landslide, from the last row of its log and the decision that this names."""
    if stands is None or stands.outline is None:
        return Review(last.landslide, OPEN, None, "", last.decided or "", last.version, 0)
    return Review(
        last.landslide,
        stands.state,
        decode(stands.outline),
        stands.note or "",
        stands.decided or "",
        last.version,
        last.decision,
    )


def _columns_of(table: str) -> str:
    return ", ".join(f"{table}.{field.name}" for field in fields(_Entry))


def _entry(connection: sqlite3.Connection, version: int) -> _Entry:
    row = connection.execute(
        f"SELECT version, landslide, decision, before, state, outline, note, decided FROM {LOG} WHERE version = ?",
        (version,),
    ).fetchone()
    if row is None:
        raise ReviewError(f"there is no decision {version}.")
    return _Entry(*row)


def _decided(connection: sqlite3.Connection, decision: int) -> tuple[_Entry, _Entry]:
    """A decision, and the last row of its landslide's log."""
    made = _entry(connection, decision)
    if made.decision != made.version:
        raise ReviewError(f"{decision} is an undo or redo itself. Give the decision to take back or to make again.")
    (version,) = connection.execute(f"SELECT max(version) FROM {LOG} WHERE landslide = ?", (made.landslide,)).fetchone()
    return made, _entry(connection, version)


def _count(value: object) -> int:
    """A whole number of the log, 0 where there is none."""
    if value is None or isinstance(value, int):
        return value or 0
    raise VectorError(f"layer {LOG} has {str(value)[:MOST_SHOWN]!r} for a whole number. Mend that row.")


def _last_entry(connection: sqlite3.Connection, path: Path, landslide: int) -> _Entry | None:
    (version,) = connection.execute(f"SELECT max(version) FROM {LOG} WHERE landslide = ?", (landslide,)).fetchone()
    if version is not None:
        return _entry(connection, version)
    if connection.execute(f"SELECT 1 FROM {LAYER} WHERE id = ?", (landslide,)).fetchone() is None:
        raise ReviewError(f"{path.name} has no landslide {landslide}.")
    return None


def _require_current(landslide: int, last: _Entry | None, version: int) -> None:
    current = 0 if last is None else last.version
    if current != version:
        state = OPEN if last is None else last.state
        raise ConflictError(
            f"landslide {landslide} was changed meanwhile: it is {state} now (version {current}, and the decision was "
            f"made on {version}). Nothing was kept; look at it again."
        )


def _conflict(standing: Review) -> ConflictError:
    return ConflictError(
        f"landslide {standing.landslide} was changed meanwhile: it is {standing.state} now. Nothing was kept; look at "
        "it again."
    )


def _last(connection: sqlite3.Connection) -> int:
    if not _has(connection, LOG):
        return 0
    (version,) = connection.execute(f"SELECT max(version) FROM {LOG}").fetchone()
    return _count(version)


# -- what `landslip inventory` kept of an earlier review ---------------------------------------------------------------


def _kept(connection: sqlite3.Connection, path: Path, only: int | None = None) -> dict[int, Review]:
    if not _has(connection, LAYER) or not _has_state(connection):
        return {}
    rows = connection.execute(
        f"SELECT id, review, {_quoted(_geometry_column(connection, path))} FROM {LAYER} WHERE review IN (?, ?, ?) "
        "AND id = coalesce(?, id)",
        (ACCEPTED, REJECTED, REDRAWN, only),
    ).fetchall()
    return {row[0]: Review(row[0], row[1], decode(row[2]), "", "", 0, 0) for row in rows if row[2] is not None}


def _keep(connection: sqlite3.Connection, path: Path, landslide: int) -> _Entry | None:
    """Write a state that only the inventory's column holds into the log, so that an undo comes back to it."""
    kept = _kept(connection, path, landslide).get(landslide)
    if kept is None or kept.outline is None:
        return None
    stored = _encode(kept.outline, connection)
    return _append(connection, _Entry(0, landslide, 0, 0, kept.state, stored, "", _now()))


def _outline(connection: sqlite3.Connection, path: Path, landslide: int, state: str, last: _Entry | None) -> bytes:
    """The outline of an accepted landslide as it stands, of a rejected one as the inventory (or who drew it) has it."""
    stands = None if last is None else _standing(connection, last)
    if stands is not None and stands.outline is not None:
        if landslide < 0 or (state == ACCEPTED and stands.state != REJECTED):
            return _encode(stands.outline, connection)
    elif landslide < 0:
        raise ReviewError(f"landslide {landslide} was drawn and undone. Draw it again, or redo it.")
    column = _quoted(_geometry_column(connection, path))
    first = connection.execute(f"SELECT {column} FROM {LAYER} WHERE id = ?", (landslide,)).fetchone()
    if first is None or first[0] is None:
        raise ReviewError(f"{path.name} has no landslide {landslide} any more.")
    return _encode(decode(first[0]), connection)


# -- the GeoPackage ---------------------------------------------------------------------------------------------------


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a GeoPackage that exists, its errors named."""
    if not path.exists():
        raise VectorError(f"{path} does not exist. Make it with `landslip inventory`.")
    try:
        # rw for reading too: what a killed process left half written is rolled back by whoever opens the file next
        uri = f"{path.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)) as connection:
            for name, part in (("ST_MinX", 0), ("ST_MinY", 1), ("ST_MaxX", 2), ("ST_MaxY", 3)):
                connection.create_function(name, 1, _bound(part), deterministic=True)
            connection.create_function("ST_IsEmpty", 1, _is_empty, deterministic=True)
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
    except sqlite3.OperationalError as error:
        remedy = "Another program keeps it locked: close it there, or try again" if "locked" in str(error) else ""
        raise OutputError(
            f"{path} cannot be used ({error}). {remedy or 'Check its rights, and that the disk has room'}."
        ) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter of what SQLite says of a damaged one
        raise VectorError(f"{path} cannot be read as a GeoPackage ({error}). Make it anew.") from error


@contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction, which no other writer comes between; nothing of it stays where an error is raised."""
    with _open(path) as connection:
        opened = path.stat().st_ino
        connection.execute("BEGIN IMMEDIATE")
        try:
            _columns(connection, LAYER, path)
            _make_tables(connection)
            yield connection
            connection.execute("COMMIT")
            if path.stat().st_ino != opened:  # it went into a file that has no name any more
                raise OutputError(f"{path} was made anew meanwhile. Nothing was kept; decide again.")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _make_tables(connection: sqlite3.Connection) -> None:
    if _has(connection, LOG) and _has(connection, REVIEWS):
        return
    (srs,) = connection.execute("SELECT srs_id FROM gpkg_contents WHERE table_name = ?", (LAYER,)).fetchone()
    now = _now()
    connection.execute(
        f"CREATE TABLE {REVIEWS} (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom MULTIPOLYGON, "
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
        [(REVIEWS, "features", REVIEWS, about[0], now, srs), (LOG, "attributes", LOG, about[1], now, None)],
    )
    connection.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'MULTIPOLYGON', ?, 0, 0)", (REVIEWS, srs))
    if _has(connection, STYLES):
        connection.execute(
            f"INSERT INTO {STYLES} (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
            "styleQML, styleSLD, useAsDefault, description, owner, update_time) "
            "VALUES ('', '', ?, 'geom', ?, ?, '', 1, 'landslip', '', ?)",
            (REVIEWS, REVIEWS, review_style(), now),
        )


def _has(connection: sqlite3.Connection, table: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
    return found.fetchone() is not None


def _columns(connection: sqlite3.Connection, table: str, path: Path) -> list[str]:
    if not _has(connection, table):
        raise VectorError(f"{path} has no layer {table}. Make it with `landslip inventory`.")
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _has_state(connection: sqlite3.Connection) -> bool:
    return any(row[1] == "review" for row in connection.execute(f"PRAGMA table_info({LAYER})"))


def _geometry_column(connection: sqlite3.Connection, path: Path) -> str:
    row = connection.execute("SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (LAYER,)).fetchone()
    if row is None:
        raise VectorError(f"{path}: layer {LAYER} has no geometries. Make it anew with `landslip inventory`.")
    return str(row[0])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


ENVELOPES = (0, 32, 48, 48, 64)  # bytes, by the indicator in the header's flags


def decode(stored: object) -> Geometry:
    """The geometry of a GeoPackage blob; VectorError where it is none, as a text is none."""
    if (
        not isinstance(stored, bytes)
        or len(stored) <= 8
        or stored[:2] != b"GP"
        or (stored[3] >> 1 & 7) >= len(ENVELOPES)
    ):
        raise VectorError("a geometry of the GeoPackage is damaged. Make the inventory anew.")
    try:
        return shapely.force_2d(shapely.from_wkb(stored[8 + ENVELOPES[stored[3] >> 1 & 7] :]))
    except (shapely.GEOSException, NotImplementedError) as error:  # curves
        raise VectorError(f"a geometry of the GeoPackage is damaged ({error}). Make the inventory anew.") from error


def _encode(geometry: Geometry, connection: sqlite3.Connection) -> bytes:
    """A polygon as the blob of a multipolygon, with the inventory's CRS and its envelope."""
    (srs,) = connection.execute("SELECT srs_id FROM gpkg_contents WHERE table_name = ?", (LAYER,)).fetchone()
    whole = shapely.force_2d(geometry)
    if whole.geom_type == "Polygon":
        whole = shapely.MultiPolygon([whole])
    left, bottom, right, top = whole.bounds
    header = struct.pack("<2sBBi4d", b"GP", 0, 0b11, srs, left, right, bottom, top)  # little-endian, xy envelope
    return header + bytes(shapely.to_wkb(whole, byte_order=1))


def _bound(part: int) -> Any:
    return lambda stored: None if stored is None else float(decode(stored).bounds[part])


def _is_empty(stored: bytes | None) -> int | None:
    return None if stored is None else int(decode(stored).is_empty)
