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

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import Geometry

from landslip.errors import ReviewError, VectorError
from landslip.review.review_log import (
    ACCEPTED,
    DRAWN,
    REDRAWN,
    REJECTED,
    STATES,
    Entry,
    Review,
    append_entry,
    decided_entry,
    entry_of,
    keep_in_log,
    last_entry,
    last_of_log,
    log_columns,
    outline_of,
    require_current,
    return_to,
    review_of,
    reviews_in_column,
    settle,
    standing_review,
    undo_conflict,
    whole_number,
)
from landslip.review.review_tables import (
    LAYER,
    LOG,
    REVIEW_LAYER,
    decode,
    encode,
    geometry_column,
    has_table,
    layer_columns,
    open_package,
    open_transaction,
    quoted_name,
    time_now,
)

MOST_VERTICES = 20_000  # of an outline
MOST_NOTE = 1000  # characters
COLUMNS = len(fields(Entry))  # of the log
Attribute = str | int | float | bytes | None  # what SQLite stores


@dataclass(frozen=True)
class Landslide:
    """A row of the inventory: its attributes as they are stored, and its outline in the inventory's CRS."""

    id: int
    attributes: dict[str, Attribute]
    outline: Geometry


def read_inventory(path: Path) -> list[Landslide]:
    """The rows of an inventory, in the order of the file. VectorError where there is no such layer, or ids repeat."""
    with open_package(path) as connection:
        names = layer_columns(connection, LAYER, path)
        if "id" not in names:
            raise VectorError(f"{path}: layer {LAYER} has no column id. Make it anew with `landslip inventory`.")
        geometry = geometry_column(connection, path)
        shown = [name for name in names if name not in ("fid", geometry)]
        selection = ", ".join(quoted_name(name) for name in shown)
        rows = connection.execute(f"SELECT {quoted_name(geometry)}, {selection} FROM {LAYER}").fetchall()
    landslides = []
    for stored, *values in rows:
        attributes = dict(zip(shown, values, strict=True))
        if stored is not None and attributes["id"] is not None:
            if not isinstance(attributes["id"], int):
                raise VectorError(f"{path}: layer {LAYER} has the id {attributes['id']!r}, which is no whole number.")
            landslides.append(Landslide(int(attributes["id"]), attributes, decode(stored)))
    if len({landslide.id for landslide in landslides}) < len(landslides):
        raise VectorError(f"{path}: layer {LAYER} has an id twice. Make it anew with `landslip inventory`.")
    return landslides


def inventory_mark(path: Path) -> tuple[Any, ...]:
    """A value that changes when the inventory is made anew, and not when it is reviewed."""
    with open_package(path) as connection:
        changed = connection.execute("SELECT last_change FROM gpkg_contents WHERE table_name = ?", (LAYER,)).fetchone()
    return path.stat().st_ino, changed


def read_reviews(path: Path, since: int = 0) -> dict[int, Review]:
    """What stands of every landslide that was ever decided on, by id; `since` leaves out what has no later version.

    A state that only the column `review` holds, kept by `landslip inventory`, has version 0.
    """
    with open_package(path) as connection:
        reviews = reviews_in_column(connection, path) if not since else {}
        if has_table(connection, LOG):  # It gives each landslide's last change, and the decision that stands then.
            rows = connection.execute(
                f"SELECT {log_columns('last')}, {log_columns('stands')} FROM {LOG} AS last "
                f"JOIN (SELECT max(version) AS version FROM {LOG} GROUP BY landslide) AS newest USING (version) "
                f"LEFT JOIN {LOG} AS stands ON stands.version = last.decision WHERE last.version > ?",
                (since,),
            )
            for row in rows:
                last, stands = entry_of(row[:COLUMNS]), None if row[COLUMNS] is None else entry_of(row[COLUMNS:])
                reviews[last.landslide] = review_of(last, stands)
    return reviews


def corrections(path: Path) -> list[Review]:
    """The reviews in the order of their ids: layer `review` as it is, and what only the column `review` holds.

    Layer `review` may have been edited elsewhere, in QGIS say. Raises VectorError for a state that is none.
    """
    with open_package(path) as connection:
        reviews = reviews_in_column(connection, path)
        if has_table(connection, REVIEW_LAYER):
            rows = connection.execute(
                f"SELECT landslide, state, geom, note, decided, version FROM {REVIEW_LAYER}"
            ).fetchall()
            if has_table(connection, LOG):  # A landslide whose decision was undone is open, whatever the column says.
                for (landslide,) in connection.execute(f"SELECT DISTINCT landslide FROM {LOG}").fetchall():
                    reviews.pop(landslide, None)
            for landslide, state, stored, note, decided, version in rows:
                if state not in STATES[1:] or stored is None:
                    raise VectorError(
                        f"{path}: landslide {landslide} of layer {REVIEW_LAYER} has the state {state!r} or no outline; "
                        f"states are {', '.join(STATES[1:])}. Mend that row."
                    )
                reviews[landslide] = Review(
                    landslide=landslide,
                    state=state,
                    outline=decode(stored),
                    note=note or "",
                    decided=decided or "",
                    version=version or 0,
                    decision=version or 0,
                )
    return [reviews[landslide] for landslide in sorted(reviews)]


def crs_of(path: Path) -> str:
    """The CRS of an inventory, as WKT."""
    with open_package(path) as connection:
        row = connection.execute(
            "SELECT definition FROM gpkg_contents JOIN gpkg_spatial_ref_sys USING (srs_id) WHERE table_name = ?",
            (LAYER,),
        ).fetchone()
    if row is None:
        raise VectorError(f"{path} has no layer {LAYER}. Make it with `landslip inventory`.")
    return str(row[0])


def last_version(path: Path) -> int:
    """The version of the last change of any landslide; 0 where there was none."""
    with open_package(path) as connection:
        return last_of_log(connection)


def decide(
    path: Path, landslide: int | None, state: str, version: int = 0, outline: Geometry | None = None, *, note: str = ""
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
    with open_transaction(path) as connection:
        if landslide is None:
            (lowest,) = connection.execute(f"SELECT min(landslide) FROM {LOG}").fetchone()
            landslide, last = min(whole_number(lowest), 0) - 1, None
        else:
            last = last_entry(connection, path, landslide)
            require_current(landslide, last, version)
        if last is None and landslide > 0:
            last = keep_in_log(connection, path, landslide)
        stored = (
            encode(outline, connection) if outline is not None else outline_of(connection, path, landslide, state, last)
        )
        if state == REDRAWN and landslide < 0:
            state = DRAWN
        if state == ACCEPTED and last is not None and last.state in (REDRAWN, DRAWN):
            state = last.state  # Its outline stays too, which the inventory does not have.
        before = 0 if last is None else last.decision
        entry = Entry(landslide=landslide, before=before, state=state, outline=stored, note=note, decided=time_now())
        return settle(connection, append_entry(connection, entry))


def undo(path: Path, decision: int) -> Review:
    """Take a decision back; what stood before it stands again. ConflictError where it stands no more."""
    with open_transaction(path) as connection:
        entry, last = decided_entry(connection, decision)
        if last.decision != entry.version:
            raise undo_conflict(standing_review(connection, last))
        return return_to(connection, last, entry.before)


def redo(path: Path, decision: int) -> Review:
    """Make a decision again that was undone. ConflictError where something else was decided meanwhile."""
    with open_transaction(path) as connection:
        entry, last = decided_entry(connection, decision)
        if last.decision != entry.before or last.version == entry.before:
            raise undo_conflict(standing_review(connection, last))
        return return_to(connection, last, entry.version)


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
