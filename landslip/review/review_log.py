"""The log of decisions, undos and redos, and what stands after them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from shapely import Geometry

from landslip.errors import ConflictError, ReviewError, VectorError
from landslip.review.review_tables import (
    LAYER,
    LOG,
    REVIEW_LAYER,
    decode,
    encode,
    geometry_column,
    has_state,
    has_table,
    quoted_name,
    time_now,
)

OPEN, ACCEPTED, REJECTED, REDRAWN, DRAWN = "open", "accepted", "rejected", "redrawn", "drawn"
STATES = (OPEN, ACCEPTED, REJECTED, REDRAWN, DRAWN)
MOST_SHOWN = 50  # characters of what a file says, in a message


@dataclass(frozen=True, kw_only=True)
class Review:
    """What stands of a landslide. `outline` is None where it is open.

    `version` is that of the last change, an undo too (0: never decided on); `decision` is the version of the decision
    that stands, 0 for none.
    """

    landslide: int
    state: str
    outline: Geometry | None = None
    note: str = ""
    decided: str = ""
    version: int = 0
    decision: int = 0

    def __post_init__(self) -> None:
        _require_types(self)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the log.

    `decision` is the version of the decision that stands after it, and `before` that of the one that stood before a
    decision; `before` is 0 in an undo or redo. In a row that is not written yet `version` is 0, and so is the
    `decision` of a decision, which is the row itself.
    """

    version: int = 0
    landslide: int
    decision: int = 0
    before: int = 0
    state: str
    outline: bytes | None = None
    note: str | None = ""
    decided: str | None

    def __post_init__(self) -> None:
        _require_types(self)


def append_entry(connection: sqlite3.Connection, entry: Entry) -> Entry:
    """Write a row of the log, and return it as written; a `decision` of 0 that is not open becomes its own version."""
    cursor = connection.execute(
        f"INSERT INTO {LOG} (landslide, decision, before, state, outline, note, decided) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (entry.landslide, entry.decision, entry.before, entry.state, entry.outline, entry.note, entry.decided),
    )
    version = int(cursor.lastrowid or 0)
    if entry.decision == 0 and entry.state != OPEN:
        connection.execute(f"UPDATE {LOG} SET decision = version WHERE version = ?", (version,))
    return _read_entry(connection, version)


def keep_in_log(connection: sqlite3.Connection, path: Path, landslide: int) -> Entry | None:
    """Write a state that only the inventory's column holds into the log, so that an undo comes back to it."""
    review = reviews_in_column(connection, path, landslide).get(landslide)
    if review is None or review.outline is None:
        return None
    stored = encode(review.outline, connection)
    entry = Entry(landslide=landslide, state=review.state, outline=stored, decided=time_now())
    return append_entry(connection, entry)


def return_to(connection: sqlite3.Connection, last: Entry, decision: int) -> Review:
    """Write that an earlier decision (0: none) stands again."""
    state = OPEN if not decision else _read_entry(connection, decision).state
    returned = Entry(landslide=last.landslide, decision=decision, state=state, decided=time_now())
    return settle(connection, append_entry(connection, returned))


def settle(connection: sqlite3.Connection, last: Entry) -> Review:
    """Bring layer `review` and the inventory's column `review` in step with the last row of a landslide's log."""
    review = standing_review(connection, last)
    if review.outline is None:
        connection.execute(f"DELETE FROM {REVIEW_LAYER} WHERE landslide = ?", (last.landslide,))
    else:
        stored = encode(review.outline, connection)
        connection.execute(
            f"INSERT INTO {REVIEW_LAYER} (geom, landslide, state, note, decided, version) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (landslide) DO UPDATE SET geom = excluded.geom, state = excluded.state, "
            "note = excluded.note, decided = excluded.decided, version = excluded.version",
            (stored, last.landslide, review.state, review.note, review.decided, review.version),
        )
        left, bottom, right, top = review.outline.bounds
        connection.execute(
            "UPDATE gpkg_contents SET min_x = min(coalesce(min_x, ?1), ?1), min_y = min(coalesce(min_y, ?2), ?2), "
            "max_x = max(coalesce(max_x, ?3), ?3), max_y = max(coalesce(max_y, ?4), ?4) WHERE table_name = ?5",
            (left, bottom, right, top, REVIEW_LAYER),
        )
    connection.execute(
        "UPDATE gpkg_contents SET last_change = ? WHERE table_name IN (?, ?)", (last.decided, REVIEW_LAYER, LOG)
    )
    if has_state(connection):
        connection.execute(f"UPDATE {LAYER} SET review = ? WHERE id = ?", (review.state, last.landslide))
    return review


def last_entry(connection: sqlite3.Connection, path: Path, landslide: int) -> Entry | None:
    """The last row of a landslide's log; None where it has none. Raises ReviewError for one that is not there."""
    (version,) = connection.execute(f"SELECT max(version) FROM {LOG} WHERE landslide = ?", (landslide,)).fetchone()
    if version is not None:
        return _read_entry(connection, version)
    if connection.execute(f"SELECT 1 FROM {LAYER} WHERE id = ?", (landslide,)).fetchone() is None:
        raise ReviewError(f"{path.name} has no landslide {landslide}.")
    return None


def decided_entry(connection: sqlite3.Connection, decision: int) -> tuple[Entry, Entry]:
    """A decision, and the last row of its landslide's log."""
    entry = _read_entry(connection, decision)
    if entry.decision != entry.version:
        raise ReviewError(f"{decision} is an undo or redo itself. Give the decision to take back or to make again.")
    (version,) = connection.execute(
        f"SELECT max(version) FROM {LOG} WHERE landslide = ?", (entry.landslide,)
    ).fetchone()
    return entry, _read_entry(connection, version)


def last_of_log(connection: sqlite3.Connection) -> int:
    """The version of the last row of the log, 0 where there is none."""
    if not has_table(connection, LOG):
        return 0
    (version,) = connection.execute(f"SELECT max(version) FROM {LOG}").fetchone()
    return whole_number(version)


def standing_review(connection: sqlite3.Connection, last: Entry) -> Review:
    """What stands of a landslide after the last row of its log."""
    return review_of(last, _read_entry(connection, last.decision) if last.decision else None)


def review_of(last: Entry, stands: Entry | None) -> Review:
    """What stands of a landslide, from the last row of its log and the decision that this names."""
    if stands is None or stands.outline is None:
        return Review(landslide=last.landslide, state=OPEN, decided=last.decided or "", version=last.version)
    return Review(
        landslide=last.landslide,
        state=stands.state,
        outline=decode(stands.outline),
        note=stands.note or "",
        decided=stands.decided or "",
        version=last.version,
        decision=last.decision,
    )


def reviews_in_column(connection: sqlite3.Connection, path: Path, only: int | None = None) -> dict[int, Review]:
    """The decisions that `landslip inventory` kept in the column `review`, by landslide; of `only` one where given."""
    if not has_table(connection, LAYER) or not has_state(connection):
        return {}
    rows = connection.execute(
        f"SELECT id, review, {quoted_name(geometry_column(connection, path))} FROM {LAYER} WHERE review IN (?, ?, ?) "
        "AND id = coalesce(?, id)",
        (ACCEPTED, REJECTED, REDRAWN, only),
    ).fetchall()
    return {
        landslide: Review(landslide=landslide, state=state, outline=decode(stored))
        for landslide, state, stored in rows
        if stored is not None
    }


def outline_of(connection: sqlite3.Connection, path: Path, landslide: int, state: str, last: Entry | None) -> bytes:
    """The outline of an accepted landslide as it stands, of a rejected one as the inventory (or who drew it) has it."""
    stands = None if last is None else standing_review(connection, last)
    if stands is not None and stands.outline is not None:
        if landslide < 0 or (state == ACCEPTED and stands.state != REJECTED):
            return encode(stands.outline, connection)
    elif landslide < 0:
        raise ReviewError(f"landslide {landslide} was drawn and undone. Draw it again, or redo it.")
    column = quoted_name(geometry_column(connection, path))
    first = connection.execute(f"SELECT {column} FROM {LAYER} WHERE id = ?", (landslide,)).fetchone()
    if first is None or first[0] is None:
        raise ReviewError(f"{path.name} has no landslide {landslide} any more.")
    return encode(decode(first[0]), connection)


def log_columns(table: str) -> str:
    """The columns of the log for a query, in the order of `Entry`, each with the name of its table before it."""
    return ", ".join(f"{table}.{field.name}" for field in fields(Entry))


def entry_of(row: Sequence[Any]) -> Entry:
    """A row of the log from its columns, in the order of `log_columns`."""
    return Entry(**{field.name: value for field, value in zip(fields(Entry), row, strict=True)})


def whole_number(value: object) -> int:
    """A whole number of the log, 0 where there is none. Raises VectorError for what is no whole number."""
    if value is None or isinstance(value, int):
        return value or 0
    raise VectorError(f"layer {LOG} has {str(value)[:MOST_SHOWN]!r} for a whole number. Mend that row.")


def require_current(landslide: int, last: Entry | None, version: int) -> None:
    """Raise ConflictError where a landslide's last change is not the `version` that a decision was made on."""
    current = 0 if last is None else last.version
    if current != version:
        state = OPEN if last is None else last.state
        raise ConflictError(
            f"landslide {landslide} was changed meanwhile: it is {state} now (version {current}, and the decision was "
            f"made on {version}). Nothing was kept; look at it again."
        )


def undo_conflict(standing: Review) -> ConflictError:
    """The error for an undo or redo that comes after somebody else's decision, with what stands."""
    return ConflictError(
        f"landslide {standing.landslide} was changed meanwhile: it is {standing.state} now. Nothing was kept; look at "
        "it again."
    )


def _read_entry(connection: sqlite3.Connection, version: int) -> Entry:
    row = connection.execute(
        f"SELECT {log_columns(LOG)} FROM {LOG} WHERE version = ?",
        (version,),
    ).fetchone()
    if row is None:
        raise ReviewError(f"there is no decision {version}.")
    return entry_of(row)


def _require_types(row: Review | Entry) -> None:
    """Raise VectorError for a value of another type than its column's, such as a text for a number.

    SQLite keeps any value in any column, and landslip never wrote such a one.
    """
    for name, types in get_type_hints(type(row)).items():
        if not isinstance(value := getattr(row, name), types):
            raise VectorError(
                f"the reviews of the inventory hold {str(value)[:MOST_SHOWN]!r} as {name}, which cannot be. Mend that "
                "row, or make the inventory anew."
            )
