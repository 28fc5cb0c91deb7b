"""An earlier inventory: its ids and its reviews, which go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landslip.errors import OutputError, VectorError
from landslip.geo.geopackage import (
    highest_value,
    lock_geopackage,
)
from landslip.geo.grid import Grid
from landslip.geo.vector import layer_names, read_vector
from landslip.review.review_tables import LAYER, LOG, REVIEWS

MOST_ID = 2**53  # what every program that reads an id can count to


@dataclass(frozen=True)
class Earlier:
    """An earlier inventory in the CRS of the new one: outlines (m,), ids (m,), states by id, the highest id in use."""

    path: Path
    outlines: NDArray[Any]
    ids: NDArray[np.int64]
    states: dict[int, str]
    taken: int
    base: Path | None  # the file whose other layers are kept
    changed: int  # when it was last written to before it was read; 0 where it is not replaced


def layer_of(path: Path) -> str | None:
    """The layer of a vector file that an inventory is read from; None, the first, where none has its name."""
    return LAYER if LAYER in layer_names(path) else None


def read_earlier(path: Path, grid: Grid, asked: bool) -> Earlier | None:
    """The inventory whose ids are kept; None where there is none and none was `asked` for."""
    if not asked:
        try:
            there = layer_names(path) if path.exists() else []
            if LAYER not in there and not {REVIEWS, LOG} & set(there):
                return None
            if LAYER not in there:
                raise VectorError(f"{path} has reviews and no layer {LAYER}")
        except VectorError as error:  # what was reviewed in it must not be lost silently
            raise OutputError(f"{path} is to be replaced, and cannot be read to keep its ids. Move it away.") from error
    changed = 0
    if not asked:
        with lock_geopackage(path):  # what another program has not brought into the file yet must not be missed
            changed = path.stat().st_mtime_ns
    frame = read_vector(path, LAYER, grid.crs)
    if "id" not in frame.columns:
        raise VectorError(f"{path}: layer {LAYER} has no column id, so that no id can be kept. Is it an inventory?")
    known = pd.to_numeric(frame["id"], errors="coerce")
    frame = frame[known.between(1, MOST_ID) & (known % 1 == 0)]  # others are no ids that an inventory gave
    ids = frame["id"].to_numpy(np.int64)
    states = dict(zip(ids.tolist(), frame["review"], strict=True)) if "review" in frame.columns else {}
    names = layer_names(path)
    taken = max((highest_value(path, name, "landslide") for name in (REVIEWS, LOG) if name in names), default=0)
    # what else is in the file that is replaced (reviews, notes drawn in QGIS) stays; of another one, only its reviews
    base = path if not asked or REVIEWS in names else None
    return Earlier(path, frame.geometry.to_numpy(), ids, states, taken, base, changed)


def refuse_lost_reviews(out_gpkg: Path, previous: Path) -> None:
    """Raise OutputError where the file to be replaced holds reviews, and those of another one are to be kept."""
    if out_gpkg.exists() and LOG in layer_names(out_gpkg):
        raise OutputError(
            f"{out_gpkg} holds reviews, which keeping those of {previous} would lose. Give another name, or leave out "
            "--previous."
        )


@contextmanager
def kept_as_read(earlier: Earlier) -> Iterator[None]:
    """Raise OutputError where an inventory was reviewed since it was read; let nobody write to it until this ends."""
    with lock_geopackage(earlier.path):
        if earlier.path.stat().st_mtime_ns != earlier.changed:
            raise OutputError(
                f"{earlier.path} was reviewed while the inventory was made anew. It is kept; run the command again."
            )
        yield
