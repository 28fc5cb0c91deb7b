"""The log of decisions, undos and redos, and what stands after them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

from shapely import Geometry

from landslip.errors import ConflictError, ReviewError, VectorError
from landslip.review.review_tables import (
    LAYER,
    LOG,
    REVIEWS,
    decode,
    encode,
    geometry_column,
    has,
    has_state,
    quoted,
    time_now,
)

OPEN, ACCEPTED, REJECTED, REDRAWN, DRAWN = "open", "accepted", "rejected", "redrawn", "drawn"
STATES = (OPEN, ACCEPTED, REJECTED, REDRAWN, DRAWN)
MOST_SHOWN = 50  # characters of what a file says, in a message


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
class Entry:
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


def _require_types(row: Review | Entry) -> None:
    """VectorError for what SQLite keeps in any column and landslip never wrote: a text for a number, say."""
    for name, types in get_type_hints(type(row)).items():
        if not isinstance(value := getattr(row, name), types):
            raise VectorError(
                f"the reviews of the inventory hold {str(value)[:MOST_SHOWN]!r} as {name}, which cannot be. Mend that "
                "row, or make the inventory anew."
            )


def append(connection: sqlite3.Connection, entry: Entry) -> Entry:
    """Write a row of the log; a `decision` of 0 with an outline becomes the row's own version."""
    cursor = connection.execute(
        f"INSERT INTO {LOG} (landslide, decision, before, state, outline, note, decided) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (entry.landslide, entry.decision, entry.before, entry.state, entry.outline, entry.note, entry.decided),
    )
    version = int(cursor.lastrowid or 0)
    if entry.decision == 0 and entry.state != OPEN:
        connection.execute(f"UPDATE {LOG} SET decision = version WHERE version = ?", (version,))
    return _entry(connection, version)


def return_to(connection: sqlite3.Connection, last: Entry, decision: int) -> Review:
    """Write that an earlier decision (0: none) stands again."""
    state = OPEN if not decision else _entry(connection, decision).state
    return settle(connection, append(connection, Entry(0, last.landslide, decision, 0, state, None, "", time_now())))


def settle(connection: sqlite3.Connection, last: Entry) -> Review:
    """Bring layer `review` and the column of the inventory in step with the last row of a landslide's log."""
    review = standing_review(connection, last)
    if review.outline is None:
        connection.execute(f"DELETE FROM {REVIEWS} WHERE landslide = ?", (last.landslide,))
    else:
        stored = encode(review.outline, connection)
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
    if has_state(connection):
        connection.execute(f"UPDATE {LAYER} SET review = ? WHERE id = ?", (review.state, last.landslide))
    return review


def standing_review(connection: sqlite3.Connection, last: Entry) -> Review:
    return review_of(last, _entry(connection, last.decision) if last.decision else None)


def review_of(last: Entry, stands: Entry | None) -> Review:
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


def columns_of(table: str) -> str:
    return ", ".join(f"{table}.{field.name}" for field in fields(Entry))


def _entry(connection: sqlite3.Connection, version: int) -> Entry:
    row = connection.execute(
        f"SELECT version, landslide, decision, before, state, outline, note, decided FROM {LOG} WHERE version = ?",
        (version,),
    ).fetchone()
    if row is None:
        raise ReviewError(f"there is no decision {version}.")
    return Entry(*row)


def decided_entry(connection: sqlite3.Connection, decision: int) -> tuple[Entry, Entry]:
    """A decision, and the last row of its landslide's log."""
    made = _entry(connection, decision)
    if made.decision != made.version:
        raise ReviewError(f"{decision} is an undo or redo itself. Give the decision to take back or to make again.")
    (version,) = connection.execute(f"SELECT max(version) FROM {LOG} WHERE landslide = ?", (made.landslide,)).fetchone()
    return made, _entry(connection, version)


def count(value: object) -> int:
    """A whole number of the log, 0 where there is none."""
    if value is None or isinstance(value, int):
        return value or 0
    raise VectorError(f"layer {LOG} has {str(value)[:MOST_SHOWN]!r} for a whole number. Mend that row.")


def last_entry(connection: sqlite3.Connection, path: Path, landslide: int) -> Entry | None:
    (version,) = connection.execute(f"SELECT max(version) FROM {LOG} WHERE landslide = ?", (landslide,)).fetchone()
    if version is not None:
        return _entry(connection, version)
    if connection.execute(f"SELECT 1 FROM {LAYER} WHERE id = ?", (landslide,)).fetchone() is None:
        raise ReviewError(f"{path.name} has no landslide {landslide}.")
    return None


def require_current(landslide: int, last: Entry | None, version: int) -> None:
    current = 0 if last is None else last.version
    if current != version:
        state = OPEN if last is None else last.state
        raise ConflictError(
            f"landslide {landslide} was changed meanwhile: it is {state} now (version {current}, and the decision was "
            f"made on {version}). Nothing was kept; look at it again."
        )


def conflict(standing: Review) -> ConflictError:
    return ConflictError(
        f"landslide {standing.landslide} was changed meanwhile: it is {standing.state} now. Nothing was kept; look at "
        "it again."
    )


def last_of_log(connection: sqlite3.Connection) -> int:
    if not has(connection, LOG):
        return 0
    (version,) = connection.execute(f"SELECT max(version) FROM {LOG}").fetchone()
    return count(version)


def kept_review(connection: sqlite3.Connection, path: Path, only: int | None = None) -> dict[int, Review]:
    if not has(connection, LAYER) or not has_state(connection):
        return {}
    rows = connection.execute(
        f"SELECT id, review, {quoted(geometry_column(connection, path))} FROM {LAYER} WHERE review IN (?, ?, ?) "
        "AND id = coalesce(?, id)",
        (ACCEPTED, REJECTED, REDRAWN, only),
    ).fetchall()
    return {row[0]: Review(row[0], row[1], decode(row[2]), "", "", 0, 0) for row in rows if row[2] is not None}


def keep(connection: sqlite3.Connection, path: Path, landslide: int) -> Entry | None:
    """Write a state that only the inventory's column holds into the log, so that an undo comes back to it."""
    kept = kept_review(connection, path, landslide).get(landslide)
    if kept is None or kept.outline is None:
        return None
    stored = encode(kept.outline, connection)
    return append(connection, Entry(0, landslide, 0, 0, kept.state, stored, "", time_now()))


def outline_of(connection: sqlite3.Connection, path: Path, landslide: int, state: str, last: Entry | None) -> bytes:
    """The outline of an accepted landslide as it stands, of a rejected one as the inventory (or who drew it) has it."""
    stands = None if last is None else standing_review(connection, last)
    if stands is not None and stands.outline is not None:
        if landslide < 0 or (state == ACCEPTED and stands.state != REJECTED):
            return encode(stands.outline, connection)
    elif landslide < 0:
        raise ReviewError(f"landslide {landslide} was drawn and undone. Draw it again, or redo it.")
    column = quoted(geometry_column(connection, path))
    first = connection.execute(f"SELECT {column} FROM {LAYER} WHERE id = ?", (landslide,)).fetchone()
    if first is None or first[0] is None:
        raise ReviewError(f"{path.name} has no landslide {landslide} any more.")
    return encode(decode(first[0]), connection)
