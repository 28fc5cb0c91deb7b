"""`landslip correct`: a prepared site whose label is what a reviewer made of an inventory.

Training takes the new folder as it takes any other. Where nothing was reviewed the label stays as it was. The parts of
the model that made the inventory go with it, so that the same run file trains on the same ground again: drawn anew from
another label, they would be others, and the scores of both models would stand on different ground.
"""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS

from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN, known_label
from landslip.dataset.split import NONE, PARTS, by_part_text
from landslip.dataset.training_data import CARRIED, carried_tags
from landslip.errors import GridError, LabelError, OutputError, ReviewError
from landslip.geo.geotiff import create_raster, write_window
from landslip.geo.grid import Grid, crs_name, require_same_grid, same_grid, tiles
from landslip.geo.raster import open_raster, read_info, read_stored_window, require_one_band
from landslip.geo.rasterize import burn
from landslip.geo.vector import read_vector
from landslip.preparation.prepare import WRITTEN, refuse_losses
from landslip.review.review_log import REJECTED
from landslip.review.review_tables import LAYER, REVIEWS
from landslip.review.reviews import corrections, crs_of
from landslip.runtime.atomic import atomic_folder, refuse_existing
from landslip.runtime.disk import file_hash
from landslip.runtime.provenance import software
from landslip.runtime.run_folder import prepared_file
from landslip.runtime.text import read_json, write_json
from landslip.training.checkpoint import load_model, run_of, split_of
from landslip.training.model_files import FACTS, SPLIT

SIDE = 2048  # pixels per side of what is held at a time
KEPT = ("stack.tif", "valid.tif", "channels.json", "split.tif")  # as they are; the last only where it is given


@dataclass(frozen=True)
class Corrected:
    """What was corrected: landslides by state, and pixels of the label that became landslide, or other ground.

    `split` is the raster whose parts the folder keeps, None where there is none, and `parts` how many of the pixels
    that changed lie in each; `note` says why none are, or who uses them.
    """

    folder: Path
    states: dict[str, int]
    to_landslide: int
    to_other: int
    outside: int
    split: Path | None = None
    parts: dict[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class _Parts:
    """A split raster whose parts are kept, with the tags that it gets; no `path` where none are, and why."""

    path: Path | None = None
    tags: dict[str, str] = field(default_factory=dict)
    why: str = ""


def correct(
    prepared: Path, inventory: Path, out: Path, overwrite: bool = False, model: Path | None = None
) -> Corrected:
    """Write a prepared folder with the label of `prepared` corrected by the reviews of an inventory (GeoPackage).

    Accepted, redrawn and drawn outlines are burnt as landslide, rejected ones as other ground, pixels whose centre lies
    inside, on valid ground only; where they overlap, landslide wins. Stack and valid pixels are hard links where the
    disk allows, copies elsewhere. `outside` counts outlines that hold no valid pixel.

    split.tif holds the parts of `model`, by default of the one beside `prepared` or the inventory whose weights made
    the inventory; where there is none, it stays as `prepared` has it. Raises ReviewError where nothing was reviewed,
    GridError for an inventory in another CRS or a model of another site, LabelError where no landslide is left or no
    other ground, ModelError for a model that cannot be read, OutputError for a folder that exists or would be its own
    input.
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
    kept = _parts(prepared, inventory, model, grid)
    states: dict[str, int] = {}
    for review in reviews:
        states[review.state] = states.get(review.state, 0) + 1
    groups = [
        (OTHER, [review.outline for review in reviews if review.state == REJECTED]),
        (LANDSLIDE, [review.outline for review in reviews if review.state != REJECTED]),
    ]
    changed, left, rest = {LANDSLIDE: 0, OTHER: 0}, 0, 0
    in_part = dict.fromkeys((*PARTS.values(), NONE), 0)
    with atomic_folder(out, overwrite) as aside:
        with (
            open_raster(label.path) as old,
            open_raster(prepared / "valid.tif") as valid,
            nullcontext() if kept.path is None else open_raster(kept.path) as split,
            create_raster(aside / "label.tif", grid, "uint8", ["label"], UNKNOWN, _tags(label.tags)) as new,
        ):
            for window in tiles(grid.shape, SIDE):
                before = known_label(read_stored_window(old, window), label.path)
                after, inside = before.copy(), read_stored_window(valid, window) == 1
                for code, outlines in groups:
                    after[burn(outlines, grid.crop(window)) & inside] = code
                for code in changed:
                    changed[code] += int(np.count_nonzero((after == code) & (before != code)))
                left += int(np.count_nonzero((after == LANDSLIDE) & inside))
                rest += int(np.count_nonzero((after == OTHER) & inside))
                write_window(new, after[None], window)
                if split is not None:
                    parts = read_stored_window(split, window)[after != before]
                    for part in in_part:
                        in_part[part] += int(np.count_nonzero(parts == part))
        if not left:
            raise LabelError(f"{inventory} rejects every landslide of {label.path}: nothing would be left to learn.")
        if not rest:
            raise LabelError(
                f"{label.path} says of no pixel that it is no landslide, and {inventory} rejects none: nothing would "
                f'tell landslides from the rest. Name {inventory.name} in the site file ([landslides] path = "...") '
                "and prepare the site again: all other ground inside the outline then counts as no landslide."
            )
        for name in KEPT:
            if (prepared / name).exists() and not (name == SPLIT and kept.tags):
                _link(prepared / name, aside / name)
        if kept.path is not None and kept.tags:
            _copy_split(kept, aside / SPLIT, grid)
        names = {**PARTS, "none": NONE}
        by_part = {name: in_part[part] for name, part in names.items()} if kept.path is not None else {}
        manifest["corrected"] = {
            "inventory": inventory.name,
            "inventory_sha256": file_hash(inventory),
            "layer": REVIEWS,
            "label_before_sha256": file_hash(label.path),
            "label_after_sha256": file_hash(aside / "label.tif"),
            "landslides": states,
            "pixels_to_landslide": changed[LANDSLIDE],
            "pixels_to_other": changed[OTHER],
            "pixels_by_part": by_part,
            "carried_from": kept.tags.get(CARRIED),
            "last_decision": max(review.decided for review in reviews),
            "software": software(),
        }
        write_json(aside / "manifest.json", manifest)
    outside = sum(not _touches(review.outline, grid.bounds) for review in reviews)
    return Corrected(out, states, changed[LANDSLIDE], changed[OTHER], outside, kept.path, by_part, kept.why)


def parts_text(done: Corrected) -> str:
    """Whose parts training will keep and how many of the changed pixels lie in each, or why it draws them anew."""
    if done.split is None:
        return (
            f"{done.note}: training draws the parts anew from the corrected label, and scores before and after stand "
            "on different ground"
        )
    kept = f"parts: those of {done.split}, {done.note or 'which training keeps'}"
    return f"{kept}; of the pixels that changed {by_part_text(done.parts)}"


def _parts(prepared: Path, inventory: Path, model: Path | None, grid: Grid) -> _Parts:
    """Whose parts are kept: the model's, else those that `prepared` holds already."""
    found = _model_of(prepared, inventory) if model is None else model
    own = prepared / SPLIT
    stays = _Parts()
    if own.exists():
        carried = CARRIED in read_info(own).tags
        stays = _Parts(own, why="" if carried else 'which training keeps with [split] kind = "given"')
    if found is None:
        if own.exists():
            return stays
        return _Parts(why=f"no model beside {prepared} made {inventory.name} (--model MODEL/ names one)")
    loaded = load_model(found)
    path, run = split_of(loaded), run_of(loaded)
    info = read_info(path)
    if model is not None:
        require_same_grid(grid, str(prepared / "label.tif"), info.grid, str(path))
    if run.split.kind == "given" and own.exists():
        return stays
    why = ""
    if not same_grid(info.grid, grid):
        why = f"{found} was trained on another site"
    elif run.split.folds > 1:
        why = f"{found} is one of {run.split.folds} folds, which are drawn together"
    elif info.tags.get("split") != run.split.kind:
        why = f"{found} was trained on blocks of a transfer"
    if why:
        return stays if own.exists() else _Parts(why=why)
    tags = {key: value for key, value in info.tags.items() if key != "AREA_OR_POINT"}
    return _Parts(path, tags | carried_tags(run, str(loaded.facts["weights_sha256"])))


def _model_of(prepared: Path, inventory: Path) -> Path | None:
    """The model folder beside `prepared` or the inventory's folder whose weights made the inventory."""
    frame = read_vector(inventory, LAYER)
    made_by = set(frame["model_sha256"].dropna()) if "model_sha256" in frame else set()
    homes = dict.fromkeys((prepared.absolute().parent, inventory.absolute().parent.parent))
    for path in (path for home in homes for path in sorted(home.glob(f"*/{FACTS}"))):
        try:
            weights = read_json(path)["weights_sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if weights in made_by and path.with_name(SPLIT).exists():
            return path.parent
    return None


def _copy_split(kept: _Parts, path: Path, grid: Grid) -> None:
    assert kept.path is not None
    with open_raster(kept.path) as old, create_raster(path, grid, "uint8", ["part"], None, kept.tags, True) as new:
        for window in tiles(grid.shape, SIDE):
            write_window(new, read_stored_window(old, window)[None], window)


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
