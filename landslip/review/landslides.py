"""Landslides of a vector file, with what a review made of them.

A file of `landslip inventory` holds its landslides as they were mapped (layer `inventory`, with the column `review`)
and, once they are reviewed, what was decided on them (layer `review`). As the truth about a place, the decisions count:
accepted outlines as they were mapped, redrawn and drawn ones as they were drawn, rejected ones not at all. Nobody knows
what those are that are still open: they are neither landslide nor other ground. Where nothing is decided yet, all that
was mapped is taken, and said so.

Files of others hold landslides in one layer. A column `review` of theirs is a review only where every value of it is a
state of ours; else all outlines are landslides, with a warning where some values are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely
from rasterio.crs import CRS

from landslip.errors import LabelError, VectorError
from landslip.geo.archive import archive_of
from landslip.geo.vector import is_geoparquet, layer_names, read_vector
from landslip.review.review_log import OPEN, REJECTED, STATES
from landslip.review.review_tables import LAYER, REVIEW_LAYER
from landslip.review.reviews import corrections, crs_of

Bounds = tuple[float, float, float, float]
IN_PACKAGE = "give the reviewed GeoPackage itself, without a layer, to have both"
OWN_COLUMNS = {"area_m2", "probability_mean"}  # of every inventory that landslip maps
MOST_WORDS = 5  # that a warning shows
IN_SITE, OF_INVENTORY = 'layer = "NAME" of [landslides]', "--inventory-layer NAME"  # how a layer is chosen


@dataclass(frozen=True)
class Landslides:
    """`outlines` are landslides; `unknown`, still open in a review, are neither landslide nor other ground.

    `states` counts the landslides of the whole file by what a review made of them; it is empty where the file knows of
    no review. `note` says in words what was left out and why; "" where nothing was.
    """

    outlines: gpd.GeoDataFrame
    unknown: gpd.GeoDataFrame
    states: dict[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def reviewed(self) -> bool:
        """Whether anything is decided."""
        return bool(self.states.keys() - {OPEN})


def read_landslides(
    path: Path,
    layer: str | None = None,
    crs: CRS | None = None,
    bounds: Bounds | None = None,
    *,
    option: str = IN_SITE,
    stated: str | None = None,
) -> Landslides:
    """The landslides of a vector file in `crs`, those that touch `bounds`, as the truth about a place.

    Without `layer`, what stands after the review of an inventory, else the file's one layer with geometries. `stated`
    is the CRS of a file that carries none. Raises LabelError where there are several layers, with the `option` to
    choose by, and for a review inside an archive; VectorError as `read_vector` does.
    """
    in_archive = archive_of(path) is not None
    if layer is None and not is_geoparquet(path) and (in_archive or path.exists()):
        names = layer_names(path, spatial=True)
        if in_archive and REVIEW_LAYER in names:
            raise LabelError(f"{path} lies in an archive, where its review cannot be read. Unpack it first.")
        if LAYER in names and not in_archive:
            rows = read_vector(path, LAYER, crs)
            if "id" in rows and (REVIEW_LAYER in names or _is_review(path, rows, "review")):
                return _after_review(path, rows, crs, bounds)
        layer = LAYER if in_archive and LAYER in names else _only(path, names, option)
    frame = read_vector(path, layer, crs, bounds, stated)
    column = "state" if layer == REVIEW_LAYER else "review"
    if column not in frame:
        return Landslides(frame, frame.iloc[:0])
    # A column is judged by the whole file, since there may be other words beyond the bounds.
    rows = frame if bounds is None else read_vector(path, layer, crs, stated=stated)
    if not _is_review(path, rows, column):
        return Landslides(frame, frame.iloc[:0], note=_foreign_note(rows, column))
    landslides = _by_state(path, rows.assign(review=_states(path, rows[column])), bounds)
    if layer != REVIEW_LAYER and landslides.reviewed:
        limits = f"redrawn ones by the outline that was mapped, and drawn ones are not in it: {IN_PACKAGE}"
        return replace(landslides, note=f"{landslides.note}; {limits}")
    return landslides


def read_mapped(
    path: Path,
    layer: str | None = None,
    crs: CRS | None = None,
    bounds: Bounds | None = None,
    *,
    option: str = OF_INVENTORY,
) -> Landslides:
    """The landslides of an inventory as they were mapped, whatever a review made of them; errors as `read_landslides`.

    With layer `review`, those that a review left.
    """
    if layer == REVIEW_LAYER:
        return read_landslides(path, layer, crs, bounds, option=option)
    names = [] if layer is not None or is_geoparquet(path) or not path.exists() else layer_names(path, spatial=True)
    note = ""
    if layer is None and names:
        layer = LAYER if LAYER in names else _only(path, names, option)
        if layer == LAYER and REVIEW_LAYER in names:
            what = option.replace("NAME", REVIEW_LAYER)
            note = f"{path.name} is scored as it was mapped; {what} scores what its review left of it"
    frame = read_vector(path, layer, crs, bounds)
    return Landslides(frame, frame.iloc[:0], note=note)


def _only(path: Path, names: list[str], option: str) -> str | None:
    """The one layer of a file, None where it names none. Raises LabelError where there are several."""
    if len(names) > 1:
        raise LabelError(f"{path} holds the layers {', '.join(names)}. Say which are the landslides: {option}.")
    return names[0] if names else None


def _after_review(path: Path, rows: gpd.GeoDataFrame, crs: CRS | None, bounds: Bounds | None) -> Landslides:
    """What stands of an inventory, from all rows of its layer and its reviews."""
    decided = corrections(path)
    ids = [one.landslide for one in decided]
    states = [one.state for one in decided]
    outlines = gpd.GeoSeries([one.outline for one in decided], crs=crs_of(path))
    outlines = outlines if crs is None else outlines.to_crs(crs.to_wkt())
    undecided = rows[~rows["id"].isin(ids)]
    columns = {"id": [*ids, *undecided["id"]], "review": [*states, *[OPEN] * len(undecided)]}
    landslides = gpd.GeoDataFrame(columns, geometry=[*outlines, *undecided.geometry], crs=rows.crs)
    return _by_state(path, landslides.set_index("id", drop=False).rename_axis(None), bounds)


def _by_state(path: Path, frame: gpd.GeoDataFrame, bounds: Bounds | None) -> Landslides:
    """Landslides by the column `review`; those of rows that touch `bounds`."""
    counts = {state: int(n) for state in STATES if (n := (frame["review"] == state).sum())}
    inside = frame if bounds is None else frame[frame.intersects(shapely.box(*bounds))]
    if not counts.keys() - {OPEN}:
        note = f"none of its {len(frame)} landslides is reviewed: all are taken as they were mapped"
        if is_geoparquet(path):
            note += " (decisions are kept in the GeoPackage, not here)"
        return Landslides(inside, inside.iloc[:0], counts, note if len(frame) else "")
    counted = {state: n for state, n in counts.items() if state not in (OPEN, REJECTED)}
    words = ", ".join(f"{n} {state}" for state, n in counted.items())
    omitted = [f"{counts[REJECTED]} rejected (other ground)"] if REJECTED in counts else []
    omitted += [f"{counts[OPEN]} still open (unknown ground)"] if OPEN in counts else []
    note = f"{sum(counted.values())} of its {len(frame)} landslides are taken, by its review"
    note += f" ({words})" if words else ""
    note += f"; left out are {' and '.join(omitted)}" if omitted else ""
    unknown, rejected = inside["review"] == OPEN, inside["review"] == REJECTED
    return Landslides(inside[~unknown & ~rejected], inside[unknown], counts, note)


def _is_review(path: Path, frame: gpd.GeoDataFrame, column: str) -> bool:
    """Whether a column holds states of a review: its every value is one, or some are and landslip wrote the file."""
    if column not in frame:
        return False
    words = _words(frame[column])
    return bool(words & set(STATES)) and (words <= set(STATES) or _is_ours(path, frame))


def _words(column: Any) -> set[str]:
    """The values of a column, as text, where it has any; a column of another program may hold numbers, or lists."""
    return {str(value) for value in column.dropna()}


def _is_ours(path: Path, frame: gpd.GeoDataFrame) -> bool:
    """Whether landslip wrote a file: it holds both of its layers, or the columns of its inventories."""
    layers = [] if is_geoparquet(path) else layer_names(path)
    return {LAYER, REVIEW_LAYER} <= set(layers) or set(frame.columns) >= OWN_COLUMNS


def _foreign_note(frame: gpd.GeoDataFrame, column: str) -> str:
    """A note that a column of another program is not a review, since it holds other words beside those of one.

    Empty where it holds none of a review's words: then nobody takes it for one, and nothing need be said.
    """
    words = _words(frame[column])
    if not words & set(STATES):
        return ""
    foreign = sorted(repr(word[:40]) for word in words - set(STATES))
    more = f" and {len(foreign) - MOST_WORDS} more" if len(foreign) > MOST_WORDS else ""
    return (
        f"its column {column} is not taken for a review, since it holds {', '.join(foreign[:MOST_WORDS])}{more} beside "
        f"{', '.join(state for state in STATES if state in words)}: all {len(frame)} outlines are landslides. If it is "
        f"one, let it hold only {', '.join(STATES)}"
    )


def _states(path: Path, column: Any) -> Any:
    """A column of states, open where it says nothing; VectorError for a word that is none."""
    states = column.fillna(OPEN)
    foreign = sorted({str(state) for state in states} - set(STATES))
    if foreign:
        raise VectorError(
            f"{path}: a landslide is {foreign[0]!r}, which no review makes of it; states are {', '.join(STATES)}. Mend "
            "that row."
        )
    return states
