"""`landslip correct`: a prepared site whose label is what a reviewer made of an inventory.

Training takes the new folder as it takes any other. Where nothing was reviewed the label stays as it was.

The training, validation and test parts of the model that made the inventory go with the new folder, so that the same
run file trains on the same ground again. Drawn anew from the corrected label the parts would differ, and the scores of
the two models would stand on different ground.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from rasterio.crs import CRS

from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN, known_label
from landslip.dataset.split import NONE, PARTS, by_part_text
from landslip.dataset.training_data import CARRIED, carried_tags
from landslip.errors import GridError, LabelError, OutputError, ReviewError
from landslip.geo.geotiff import create_raster, write_window
from landslip.geo.grid import Grid, crs_name, require_same_grid, same_grid, tiles
from landslip.geo.raster import RasterInfo, open_raster, read_info, read_stored_window, require_one_band
from landslip.geo.rasterize import burn
from landslip.geo.vector import read_vector
from landslip.preparation.prepare import WRITTEN, refuse_losses
from landslip.review.review_log import REJECTED, Review
from landslip.review.review_tables import LAYER, REVIEW_LAYER
from landslip.review.reviews import corrections, crs_of
from landslip.runtime.atomic import atomic_folder, refuse_existing
from landslip.runtime.disk import file_hash
from landslip.runtime.provenance import software
from landslip.runtime.run_folder import prepared_file
from landslip.runtime.text import read_json, write_json
from landslip.training.checkpoint import load_model, run_of, split_of
from landslip.training.model_files import FACTS, SPLIT

LABEL_SIDE = 2048  # pixels a side of the windows that labels are corrected in
KEPT = ("stack.tif", "valid.tif", "channels.json", "split.tif")  # files of the folder that stay as they are


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """What was corrected: landslides by state, and pixels of the label that became landslide, or other ground.

    `outside` counts the outlines that lie off the site. `split` is the raster whose parts the folder keeps, None where
    there is none; `parts` counts the changed pixels in each part by its name; `note` says why none are kept, or who
    uses them.
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
    """The split raster whose parts are kept, None where there is none; `note` says why, or who uses the parts.

    `tags` are those of the new split.tif; empty where `path` is the prepared folder's own, which stays as it is.
    """

    path: Path | None = None
    tags: dict[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass
class _Changes:
    """Pixels of a label that became landslide or other ground, those of either on valid ground, and changes by part."""

    to_landslide: int = 0
    to_other: int = 0
    landslide: int = 0
    other: int = 0
    by_part: dict[int, int] = field(default_factory=lambda: dict.fromkeys((*PARTS.values(), NONE), 0))


def correct(
    prepared: Path, inventory: Path, out: Path, overwrite: bool = False, model: Path | None = None
) -> Corrected:
    """Write a prepared folder with the label of `prepared` corrected by the reviews of an inventory (GeoPackage).

    Accepted, redrawn and drawn outlines are burnt as landslide, rejected ones as other ground: pixels whose centre lies
    inside, on valid ground only. Where outlines overlap, landslide wins. Stack and valid pixels are hard links where
    the disk allows, copies elsewhere. `outside` counts outlines that lie off the site.

    split.tif holds the parts of `model`, by default of the one beside `prepared` or the inventory whose weights made
    the inventory; where there is none, it stays as `prepared` has it.

    Raises ReviewError where nothing was reviewed, GridError for an inventory in another CRS or a model of another site,
    LabelError where no landslide is left or no other ground, ModelError for a model that cannot be read, OutputError
    for a folder that exists or would be its own input.
    """
    for name in ("stack.tif", "valid.tif", "label.tif", "manifest.json"):
        prepared_file(prepared, name)
    refuse_existing(out, overwrite, folder=True)
    if out.resolve() == prepared.resolve():
        raise OutputError(f"{out} is what is corrected, and stays as it is. Give another folder.")
    refuse_losses(out, [inventory, prepared / "stack.tif"], WRITTEN | set(KEPT))
    manifest = _read_manifest(prepared / "manifest.json")
    label = read_info(prepared / "label.tif")
    require_one_band(label, "label")
    reviews = _require_reviews(inventory, label)
    parts = _parts_to_keep(prepared, inventory, model, label.grid)
    states = dict(Counter(review.state for review in reviews))
    with atomic_folder(out, overwrite) as aside:
        changes = _write_label(aside / "label.tif", label, reviews, prepared / "valid.tif", parts.path)
        _require_both(changes, inventory, label.path)
        _keep_files(prepared, aside, parts, label.grid)
        names = {**PARTS, "none": NONE} if parts.path is not None else {}
        by_part = {name: changes.by_part[part] for name, part in names.items()}
        manifest["corrected"] = {
            "inventory": inventory.name,
            "inventory_sha256": file_hash(inventory),
            "layer": REVIEW_LAYER,
            "label_before_sha256": file_hash(label.path),
            "label_after_sha256": file_hash(aside / "label.tif"),
            "landslides": states,
            "pixels_to_landslide": changes.to_landslide,
            "pixels_to_other": changes.to_other,
            "pixels_by_part": by_part,
            "carried_from": parts.tags.get(CARRIED),
            "last_decision": max(review.decided for review in reviews),
            "software": software(),
        }
        write_json(aside / "manifest.json", manifest)
    return Corrected(
        folder=out,
        states=states,
        to_landslide=changes.to_landslide,
        to_other=changes.to_other,
        outside=sum(not _touches(review.outline, label.grid.bounds) for review in reviews),
        split=parts.path,
        parts=by_part,
        note=parts.note,
    )


def parts_text(done: Corrected) -> str:
    """Whose parts training will keep and how many of the changed pixels lie in each, or why it draws them anew."""
    if done.split is None:
        return (
            f"{done.note}: training draws the parts anew from the corrected label, and scores before and after stand "
            "on different ground"
        )
    parts = f"parts: those of {done.split}, {done.note or 'which training keeps'}"
    return f"{parts}; of the pixels that changed {by_part_text(done.parts)}"


def _read_manifest(path: Path) -> dict[str, object]:
    """The manifest.json of a prepared folder, to which the correction is added; OutputError for anything else."""
    try:
        return dict(read_json(path))
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(f"{path} is not what prepare wrote ({str(error)[:120]}). Prepare the site again.") from error


def _require_reviews(inventory: Path, label: RasterInfo) -> list[Review]:
    """The reviews of an inventory; ReviewError where it holds none, GridError where it lies in another CRS."""
    reviews = corrections(inventory)
    if not reviews:
        raise ReviewError(
            f"{inventory} holds no review: no landslide of it is accepted, rejected, redrawn or drawn. Review it with "
            "`landslip serve RUN/` first."
        )
    crs = CRS.from_wkt(crs_of(inventory))
    if crs != label.grid.crs:
        raise GridError(
            f"{inventory} is in {crs_name(crs)} and {label.path} in {crs_name(label.grid.crs)}: an inventory is "
            "reviewed in the CRS of the site that it was mapped on."
        )
    return reviews


def _write_label(path: Path, label: RasterInfo, reviews: Sequence[Review], valid: Path, split: Path | None) -> _Changes:
    """Write the corrected label window by window, and count what changes; by part where there is a `split`."""
    rejected = [review.outline for review in reviews if review.state == REJECTED]
    landslides = [review.outline for review in reviews if review.state != REJECTED]
    changes, tags = _Changes(), _own_tags(label.tags) | {"corrected": "yes"}
    with (
        open_raster(label.path) as old,
        open_raster(valid) as valid_file,
        nullcontext() if split is None else open_raster(split) as split_file,
        create_raster(path, label.grid, "uint8", ["label"], UNKNOWN, tags=tags) as new,
    ):
        for window in tiles(label.grid.shape, LABEL_SIDE):
            before = known_label(read_stored_window(old, window), label.path)
            after, inside = before.copy(), read_stored_window(valid_file, window) == 1
            # Landslides last, so that they win where a rejected outline overlaps one.
            for code, outlines in ((OTHER, rejected), (LANDSLIDE, landslides)):
                after[burn(outlines, label.grid.crop(window)) & inside] = code
            changes.to_landslide += int(np.count_nonzero((after == LANDSLIDE) & (before != LANDSLIDE)))
            changes.to_other += int(np.count_nonzero((after == OTHER) & (before != OTHER)))
            changes.landslide += int(np.count_nonzero((after == LANDSLIDE) & inside))
            changes.other += int(np.count_nonzero((after == OTHER) & inside))
            write_window(new, after[None], window)
            if split_file is not None:
                parts = read_stored_window(split_file, window)[after != before]
                for part in changes.by_part:
                    changes.by_part[part] += int(np.count_nonzero(parts == part))
    return changes


def _own_tags(tags: dict[str, str]) -> dict[str, str]:
    """The tags of a raster without the one that GDAL adds."""
    return {key: value for key, value in tags.items() if key != "AREA_OR_POINT"}


def _require_both(changes: _Changes, inventory: Path, label: Path) -> None:
    """Raise LabelError where a corrected label has no landslide left, or no other ground, on valid pixels."""
    if not changes.landslide:
        raise LabelError(f"{inventory} rejects every landslide of {label}: nothing would be left to learn.")
    if not changes.other:
        raise LabelError(
            f"{label} says of no pixel that it is no landslide, and {inventory} rejects none: nothing would "
            f'tell landslides from the rest. Name {inventory.name} in the site file ([landslides] path = "...") '
            "and prepare the site again: all other ground inside the outline then counts as no landslide."
        )


def _parts_to_keep(prepared: Path, inventory: Path, model: Path | None, grid: Grid) -> _Parts:
    """Whose parts the new folder keeps: those of the model that made the inventory, else those of `prepared`.

    Raises GridError where `model` is named and was trained on another site.
    """
    model_folder = _model_of(prepared, inventory) if model is None else model
    prepared_split = prepared / SPLIT
    unchanged = _Parts()
    if prepared_split.exists():
        carried = CARRIED in read_info(prepared_split).tags
        unchanged = _Parts(prepared_split, note="" if carried else 'which training keeps with [split] kind = "given"')
    if model_folder is None:
        if prepared_split.exists():
            return unchanged
        return _Parts(note=f"no model beside {prepared} made {inventory.name} (--model MODEL/ names one)")
    loaded = load_model(model_folder)
    path, run = split_of(loaded), run_of(loaded)
    info = read_info(path)
    if model is not None:
        require_same_grid(grid, str(prepared / "label.tif"), info.grid, str(path))
    if run.split.kind == "given" and prepared_split.exists():
        return unchanged
    obstacle = ""
    if not same_grid(info.grid, grid):
        obstacle = f"{model_folder} was trained on another site"
    elif run.split.folds > 1:
        obstacle = f"{model_folder} is one of {run.split.folds} folds, which are drawn together"
    elif info.tags.get("split") != run.split.kind:
        obstacle = f"{model_folder} was trained on blocks of a transfer"
    if obstacle:
        return unchanged if prepared_split.exists() else _Parts(note=obstacle)
    return _Parts(path, _own_tags(info.tags) | carried_tags(run, str(loaded.facts["weights_sha256"])))


def _model_of(prepared: Path, inventory: Path) -> Path | None:
    """The model folder beside `prepared` or the inventory's folder whose weights made the inventory."""
    frame = read_vector(inventory, LAYER)
    hashes = set(frame["model_sha256"].dropna()) if "model_sha256" in frame else set()
    run_folders = dict.fromkeys((prepared.absolute().parent, inventory.absolute().parent.parent))
    for path in (path for folder in run_folders for path in sorted(folder.glob(f"*/{FACTS}"))):
        try:
            weights = read_json(path)["weights_sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if weights in hashes and path.with_name(SPLIT).exists():
            return path.parent
    return None


def _keep_files(prepared: Path, folder: Path, parts: _Parts, grid: Grid) -> None:
    """Put into the new folder what stays of the prepared one, and the parts of the model with tags of their own."""
    for name in KEPT:
        if (prepared / name).exists() and not (name == SPLIT and parts.tags):
            _link(prepared / name, folder / name)
    if parts.path is None or not parts.tags:
        return
    with (
        open_raster(parts.path) as old,
        create_raster(folder / SPLIT, grid, "uint8", ["part"], None, tags=parts.tags) as new,
    ):
        for window in tiles(grid.shape, LABEL_SIDE):
            write_window(new, read_stored_window(old, window)[None], window)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it on a disk that has no hard links.

    Outputs are replaced as whole files and never written into, so two names of one file are safe.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _touches(outline: shapely.Geometry | None, bounds: tuple[float, float, float, float]) -> bool:
    """Whether the rectangle around an outline meets that of the site."""
    left, bottom, right, top = shapely.bounds(outline)
    return bool(left < bounds[2] and right > bounds[0] and bottom < bounds[3] and top > bounds[1])
