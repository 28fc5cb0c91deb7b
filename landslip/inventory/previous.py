"""An earlier inventory, whose ids and reviews go on in the new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import realpath  # Path.resolve fails where a link leads to itself
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landslip.errors import OutputError, VectorError
from landslip.geo.geopackage import highest_value, lock_geopackage
from landslip.geo.grid import Grid
from landslip.geo.vector import layer_names, read_vector
from landslip.review.review_tables import LAYER, LOG, REVIEW_LAYER

MOST_ID = 2**53  # what every program that reads an id can count to


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """An earlier inventory in the CRS of the new one: outlines (m,), ids (m,), and states of review by id.

    `highest_id` is the highest that its reviews use. `base` is the file whose other layers go on in the new one, None
    where there is none. `changed` is when the file was last written to before it was read, nanoseconds; None where it
    is not replaced.
    """

    path: Path
    outlines: NDArray[Any]
    ids: NDArray[np.int64]
    states: dict[int, str]
    highest_id: int
    base: Path | None
    changed: int | None


def layer_of(path: Path) -> str | None:
    """The layer of a vector file that an inventory is read from; None, the first, where none has its name."""
    return LAYER if LAYER in layer_names(path) else None


def earlier_inventory(out_gpkg: Path, previous: Path | None, grid: Grid) -> Earlier | None:
    """The inventory whose ids are kept: `previous`, else the one at `out_gpkg` that is replaced; None where none is.

    Raises OutputError for a file that is to be replaced and cannot be read, or whose reviews would be lost, VectorError
    for a `previous` that is no inventory.
    """
    if previous is None or realpath(previous) == realpath(out_gpkg):
        return _read_earlier(out_gpkg, grid, replaced=True)
    earlier = _read_earlier(previous, grid, replaced=False)
    _refuse_lost_reviews(out_gpkg, previous)
    return earlier


@contextmanager
def keep_as_read(earlier: Earlier) -> Iterator[None]:
    """Raise OutputError where an inventory was reviewed since it was read; let nobody write to it until this ends."""
    with lock_geopackage(earlier.path):
        if earlier.path.stat().st_mtime_ns != earlier.changed:
            raise OutputError(
                f"{earlier.path} was reviewed while the inventory was made anew. It is kept; run the command again."
            )
        yield


def _read_earlier(path: Path, grid: Grid, replaced: bool) -> Earlier | None:
    """The inventory at `path`; None where there is none and it is not one that the user names."""
    if replaced:
        try:
            layers = layer_names(path) if path.exists() else []
            if LAYER not in layers and not {REVIEW_LAYER, LOG} & set(layers):
                return None
            if LAYER not in layers:
                raise VectorError(f"{path} has reviews and no layer {LAYER}")
        except VectorError as error:  # Else its reviews would be lost without a word.
            raise OutputError(f"{path} is to be replaced, and cannot be read to keep its ids. Move it away.") from error
    changed = None
    if replaced:
        with lock_geopackage(path):  # Another program may not have brought all it wrote into the file yet.
            changed = path.stat().st_mtime_ns
    frame = read_vector(path, LAYER, grid.crs)
    if "id" not in frame.columns:
        raise VectorError(f"{path}: layer {LAYER} has no column id, so that no id can be kept. Is it an inventory?")
    numbers = pd.to_numeric(frame["id"], errors="coerce")
    frame = frame[numbers.between(1, MOST_ID) & (numbers % 1 == 0)]  # No inventory gives other ids.
    ids = frame["id"].to_numpy(np.int64)
    states = dict(zip(ids.tolist(), frame["review"], strict=True)) if "review" in frame.columns else {}
    names = layer_names(path)
    highest_id = max(
        (highest_value(path, name, "landslide") for name in (REVIEW_LAYER, LOG) if name in names), default=0
    )
    # All that is in the file that is replaced stays, reviews and notes drawn in QGIS; of another file, only if it has
    # reviews, which would be lost otherwise.
    base = path if replaced or REVIEW_LAYER in names else None
    return Earlier(
        path=path,
        outlines=frame.geometry.to_numpy(),
        ids=ids,
        states=states,
        highest_id=highest_id,
        base=base,
        changed=changed,
    )


def _refuse_lost_reviews(out_gpkg: Path, previous: Path) -> None:
    """Raise OutputError where the file to be replaced holds reviews, and those of another one are to be kept."""
    if out_gpkg.exists() and LOG in layer_names(out_gpkg):
        raise OutputError(
            f"{out_gpkg} holds reviews, which keeping those of {previous} would lose. Give another name, or leave out "
            "--previous."
        )
