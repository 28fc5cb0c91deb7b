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
from landslip.review.review_tables import LAYER, REVIEWS
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
    option: str = IN_SITE,
    stated: str | None = None,
) -> Landslides:
    """The landslides of a vector file in `crs`, those that touch `bounds`, as the truth about a place.

    Without `layer`, what stands after the review of an inventory, else the file's one layer with geometries. `stated`
    is the CRS of a file that carries none. Raises LabelError where there are several layers, with the `option` to
    choose by, and for a review inside an archive; VectorError as `read_vector` does.
    """
    archived = archive_of(path) is not None
    if layer is None and not is_geoparquet(path) and (archived or path.exists()):
        names = layer_names(path, spatial=True)
        if archived and REVIEWS in names:
            raise LabelError(f"{path} lies in an archive, where its review cannot be read. Unpack it first.")
        if LAYER in names and not archived:
            whole = read_vector(path, LAYER, crs)
            if "id" in whole and (REVIEWS in names or _is_review(path, whole, "review")):
                return _after_review(path, whole, crs, bounds)
        layer = LAYER if archived and LAYER in names else _only(path, names, option)
    frame = read_vector(path, layer, crs, bounds, stated)
    column = "state" if layer == REVIEWS else "review"
    if column not in frame:
        return Landslides(frame, frame.iloc[:0])
    whole = frame if bounds is None else read_vector(path, layer, crs, stated=stated)  # words may differ beyond
    if not _is_review(path, whole, column):
        return Landslides(frame, frame.iloc[:0], note=_foreign_note(whole, column))
    found = _by_state(path, whole.assign(review=_states(path, whole[column])), bounds)
    if layer != REVIEWS and found.reviewed:
        note = f"{found.note}; redrawn ones by the outline that was mapped, and drawn ones are not in it: {IN_PACKAGE}"
        return replace(found, note=note)
    return found


def read_mapped(
    path: Path,
    layer: str | None = None,
    crs: CRS | None = None,
    bounds: Bounds | None = None,
    option: str = OF_INVENTORY,
) -> Landslides:
    """The landslides of an inventory as they were mapped, whatever a review made of them; errors as `read_landslides`.

    With layer `review`, those that a review left.
    """
    if layer == REVIEWS:
        return read_landslides(path, layer, crs, bounds, option)
    names = [] if layer is not None or is_geoparquet(path) or not path.exists() else layer_names(path, spatial=True)
    note = ""
    if layer is None and names:
        layer = LAYER if LAYER in names else _only(path, names, option)
        if layer == LAYER and REVIEWS in names:
            what = option.replace("NAME", REVIEWS)
            note = f"{path.name} is scored as it was mapped; {what} scores what its review left of it"
    frame = read_vector(path, layer, crs, bounds)
    return Landslides(frame, frame.iloc[:0], note=note)


def _only(path: Path, names: list[str], option: str) -> str | None:
    if len(names) > 1:
        raise LabelError(f"{path} holds the layers {', '.join(names)}. Say which are the landslides: {option}.")
    return names[0] if names else None


def _after_review(path: Path, whole: gpd.GeoDataFrame, crs: CRS | None, bounds: Bounds | None) -> Landslides:
    """What stands of an inventory, from all rows of its layer and its reviews."""
    decided = corrections(path)
    ids = [one.landslide for one in decided]
    states = [one.state for one in decided]
    stands = gpd.GeoSeries([one.outline for one in decided], crs=crs_of(path))
    stands = stands if crs is None else stands.to_crs(crs.to_wkt())
    left = whole[~whole["id"].isin(ids)]
    columns = {"id": [*ids, *left["id"]], "review": [*states, *[OPEN] * len(left)]}
    found = gpd.GeoDataFrame(columns, geometry=[*stands, *left.geometry], crs=whole.crs)
    return _by_state(path, found.set_index("id", drop=False).rename_axis(None), bounds)


def _by_state(path: Path, frame: gpd.GeoDataFrame, bounds: Bounds | None) -> Landslides:
    """Landslides by the column `review`; those of rows that touch `bounds`."""
    counts = {state: int(n) for state in STATES if (n := (frame["review"] == state).sum())}
    here = frame if bounds is None else frame[frame.intersects(shapely.box(*bounds))]
    if not counts.keys() - {OPEN}:
        note = f"none of its {len(frame)} landslides is reviewed: all are taken as they were mapped"
        if is_geoparquet(path):
            note += " (decisions are kept in the GeoPackage, not here)"
        return Landslides(here, here.iloc[:0], counts, note if len(frame) else "")
    taken = {state: n for state, n in counts.items() if state not in (OPEN, REJECTED)}
    kept = ", ".join(f"{n} {state}" for state, n in taken.items())
    out = [f"{counts[REJECTED]} rejected (other ground)"] if REJECTED in counts else []
    out += [f"{counts[OPEN]} still open (unknown ground)"] if OPEN in counts else []
    note = (
        f"{sum(taken.values())} of its {len(frame)} landslides are taken, by its review{f' ({kept})' if kept else ''}"
    )
    note += f"; left out are {' and '.join(out)}" if out else ""
    unknown, rejected = here["review"] == OPEN, here["review"] == REJECTED
    return Landslides(here[~unknown & ~rejected], here[unknown], counts, note)


def _is_review(path: Path, frame: gpd.GeoDataFrame, column: str) -> bool:
    """Whether a column holds states of a review: its every value is one, or some are and landslip wrote the file."""
    if column not in frame:
        return False
    words = _words(frame[column])
    return bool(words & set(STATES)) and (words <= set(STATES) or _is_ours(path, frame))


def _words(column: Any) -> set[str]:
    """What a column says, where it says anything; of others it may hold numbers, or lists."""
    return {str(value) for value in column.dropna()}


def _is_ours(path: Path, frame: gpd.GeoDataFrame) -> bool:
    """Whether landslip wrote a file: it holds both of its layers, or the columns of its inventories."""
    held = [] if is_geoparquet(path) else layer_names(path)
    return {LAYER, REVIEWS} <= set(held) or set(frame.columns) >= OWN_COLUMNS


def _foreign_note(frame: gpd.GeoDataFrame, column: str) -> str:
    """That a column of others has words of a review and others, so that it is none; "" where it has none of a review.

    Their column may say anything, and nothing need be said of it where it says nothing that could be meant for us.
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


def _states(path: Path, given: Any) -> Any:
    """A column of states, open where it says nothing; VectorError for a word that is none."""
    known = given.fillna(OPEN)
    strange = sorted({str(state) for state in known} - set(STATES))
    if strange:
        raise VectorError(
            f"{path}: a landslide is {strange[0]!r}, which no review makes of it; states are {', '.join(STATES)}. Mend "
            "that row."
        )
    return known
