"""`landslip correct`: a prepared site whose label is what a reviewer made of an inventory.

Training takes the new folder as it takes any other. Where nothing was reviewed the label stays as it was.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS

from landslip.errors import GridError, LabelError, OutputError, ReviewError
from landslip.folder import prepared_file
from landslip.geotiff import creating, put
from landslip.grid import crs_name, tiles
from landslip.inventory import REVIEWS
from landslip.label import LANDSLIDE, OTHER, UNKNOWN, known_label
from landslip.output import file_hash, refuse_existing, write_json, writing_folder
from landslip.prepare import WRITTEN, refuse_losses
from landslip.provenance import software
from landslip.raster import cut_stored, opening, read_info, require_one_band
from landslip.review import REJECTED, corrections, crs_of
from landslip.tables import read_json
from landslip.vector import burn

SIDE = 2048  # pixels per side of what is held at a time
KEPT = ("stack.tif", "valid.tif", "channels.json", "split.tif")  # as they are; the last only where it is given


@dataclass(frozen=True)
class Corrected:
    """What was corrected: landslides by state, and pixels of the label that became landslide, or other ground."""

    folder: Path
    states: dict[str, int]
    to_landslide: int
    to_other: int
    outside: int


def correct(prepared: Path, inventory: Path, out: Path, overwrite: bool = False) -> Corrected:
    """Write a prepared folder with the label of `prepared` corrected by the reviews of an inventory (GeoPackage).

    Accepted, redrawn and drawn outlines are burnt as landslide, rejected ones as other ground, pixels whose centre lies
    inside, on valid ground only; where they overlap, landslide wins. Stack and valid pixels are hard links where the
    disk allows, copies elsewhere. `outside` counts outlines that hold no valid pixel. Raises ReviewError where nothing
    was reviewed, GridError for an inventory in another CRS, LabelError where no landslide is left, OutputError for a
    folder that exists or would be its own input.
    """
    for name in ("stack.tif", "valid.tif", "label.tif", "manifest.json"):
        prepared_file(prepared, name)
    refuse_existing(out, overwrite, folder=True)
    if out.resolve() == prepared.resolve():
        raise OutputError(f"{out} is what is corrected, and stays as it is. Give another folder.")
    refuse_losses(out, [inventory, prepared / "stack.tif"], WRITTEN | set(KEPT))
    manifest = _manifest(prepared / "manifest.json")
    label = read_info(prepared / "label.tif")
    require_one_band(label, "label")
    grid = label.grid
    reviews = corrections(inventory)
    if not reviews:
        raise ReviewError(
            f"{inventory} holds no review: no landslide of it is accepted, rejected, redrawn or drawn. Review it with "
            "`landslip serve RUN/` first."
        )
    crs = CRS.from_wkt(crs_of(inventory))
    if crs != grid.crs:
        raise GridError(
            f"{inventory} is in {crs_name(crs)} and {label.path} in {crs_name(grid.crs)}: an inventory is reviewed in "
            "the CRS of the site that it was mapped on."
        )
    states: dict[str, int] = {}
    for review in reviews:
        states[review.state] = states.get(review.state, 0) + 1
    groups = [
        (OTHER, [review.outline for review in reviews if review.state == REJECTED]),
        (LANDSLIDE, [review.outline for review in reviews if review.state != REJECTED]),
    ]
    changed, left = {LANDSLIDE: 0, OTHER: 0}, 0
    with writing_folder(out, overwrite) as aside:
        with (
            opening(label.path) as old,
            opening(prepared / "valid.tif") as valid,
            creating(aside / "label.tif", grid, "uint8", ["label"], UNKNOWN, _tags(label.tags)) as new,
        ):
            for window in tiles(grid.shape, SIDE):
                before = known_label(cut_stored(old, window), label.path)
                after, inside = before.copy(), cut_stored(valid, window) == 1
                for code, outlines in groups:
                    after[burn(outlines, grid.crop(window)) & inside] = code
                for code in changed:
                    changed[code] += int(np.count_nonzero((after == code) & (before != code)))
                left += int(np.count_nonzero((after == LANDSLIDE) & inside))
                put(new, after[None], window)
        if not left:
            raise LabelError(f"{inventory} rejects every landslide of {label.path}: nothing would be left to learn.")
        for name in KEPT:
            if (prepared / name).exists():
                _link(prepared / name, aside / name)
        manifest["corrected"] = {
            "inventory": inventory.name,
            "inventory_sha256": file_hash(inventory),
            "layer": REVIEWS,
            "label_before_sha256": file_hash(label.path),
            "label_after_sha256": file_hash(aside / "label.tif"),
            "landslides": states,
            "pixels_to_landslide": changed[LANDSLIDE],
            "pixels_to_other": changed[OTHER],
            "last_decision": max(review.decided for review in reviews),
            "software": software(),
        }
        write_json(aside / "manifest.json", manifest)
    outside = sum(not _touches(review.outline, grid.bounds) for review in reviews)
    return Corrected(out, states, changed[LANDSLIDE], changed[OTHER], outside)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(f"{path} is not what prepare wrote ({str(error)[:120]}). Prepare the site again.") from error


def _tags(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key != "AREA_OR_POINT"} | {"corrected": "yes"}


def _touches(outline: object, bounds: tuple[float, float, float, float]) -> bool:
    left, bottom, right, top = outline.bounds  # type: ignore[attr-defined]
    return bool(left < bounds[2] and right > bounds[0] and bottom < bounds[3] and top > bounds[1])


def _link(source: Path, target: Path) -> None:
    # Outputs are replaced as whole files, never written into: two names of one file are safe.
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)
