"""`landslip import`: a data set of patches (image and mask pairs) becomes a prepared folder, as of a site.

Patches are laid out as a mosaic, one in the top left corner of each square cell. A cell is a whole number of patches
wide, and the gap that this leaves is at least the halo of mapping (`landslip.geo.tiling.HALO`). The gap is undefined in
the stack, 0 in valid.tif and in the split, 255 in the label. So no patch sees another, and `map`, `inventory` and
`evaluate` work as on a site. With [blocks] window = step = the side of a patch, every training window is one patch or
one gap.

The folders that a set calls train and test (or, where it has no test folder, validation) become the training and the
test part: the set's own scored folder is kept for the score. The validation part, which chooses epoch and threshold, is
a random share of the training patches, unless a folder is named for it.

Patches say nothing of where they lie: the CRS is a local one in metres, and its coordinates mean no place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from landslip.dataset.channels import Channel
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.dataset.split import PARTS, TRAIN, VALIDATION
from landslip.errors import LabelError, PatchError, RunError
from landslip.geo.grid import Grid
from landslip.geo.preview import require_whole_png
from landslip.patches.content import PATCH_TABLE, Content, geotiff_channels, read_content
from landslip.patches.files import PICTURES, image_shape, read_mask
from landslip.patches.folders import Patch, pairs, part_folders, patch_name
from landslip.patches.mosaic import NOWHERE, Mosaic, write_rasters
from landslip.preparation.channel_summary import Prepared, write_summaries
from landslip.preparation.manifest import grid_facts
from landslip.preparation.prepare import WRITTEN, refuse_losses
from landslip.runtime.atomic import atomic_folder, refuse_existing
from landslip.runtime.disk import file_hash
from landslip.runtime.progress import plural, say
from landslip.runtime.provenance import software
from landslip.runtime.text import csv_table, screen_table, write_json, write_text

SMALLEST_PATCH = 16  # pixels a side of a patch: [blocks] window, which is to be as large, takes no less


@dataclass(frozen=True)
class PartSummary:
    """What a part holds: patches, those with a landslide, known (masked) pixels and landslide pixels."""

    patches: int
    with_landslide: int
    known: int
    landslide: int


@dataclass(frozen=True)
class Imported:
    """What `import_patches` made: the prepared folder, the mosaic and what each part holds."""

    prepared: Prepared
    mosaic: Mosaic
    parts: dict[str, PartSummary]


def import_patches(
    folder: Path,
    out: Path,
    *,
    train: str | None = None,
    test: str | None = None,
    validation: str | None = None,
    validation_share: float = 0.15,
    seed: int = 0,
    resolution: float | None = None,
    names: Sequence[str] | Path = (),
    overwrite: bool = False,
) -> Imported:
    """Import the patches of `folder` into the prepared folder `out`, which appears whole or not at all.

    Images and masks lie in PART/images and PART/masks or images/PART and masks/PART, as PNG (red, green, blue; alpha 0
    is undefined; masks in the first band), GeoTIFF, or HDF5 (data sets `img` of (row, column, band) or (band, row,
    column), and `mask`). Test patches without a mask have the label 255.

    `train`, `test` and `validation` name sub-folders. By default they are the first there is of TRAIN_FOLDERS and of
    TEST_FOLDERS, and `validation_share` of the training patches, drawn from `seed`. `resolution` is the side of a pixel
    in metres; None: as the file of `names` or the patches say, else 10. `names` are the channels' names, or the file
    that says what they are (`content.py`).

    Raises, before anything is written, PatchError for files that are missing, unpaired or unlike, LabelError for masks
    of something else, DependencyError for HDF5 without h5py, RunError for options, OutputError where `out` exists.
    """
    refuse_existing(out, overwrite, folder=True)
    _require_possible(validation_share, resolution)
    folders = part_folders(folder, train, test, validation)
    patches = [patch for part, (images, masks) in folders.items() for patch in pairs(part, images, masks)]
    inputs = [path for pair in folders.values() for path in pair if path is not None]
    refuse_losses(out, inputs, WRITTEN | {"split.tif", "patches.csv"})
    side = _require_alike(patches)
    content = read_content(folder, patches[0].image, names, resolution)
    inputs += filter(None, [content.described_in])
    content, counts = _read_masks(patches, side, content)
    drawing = (validation_share, seed) if validation is None else None
    if drawing is not None:
        patches = _draw_validation(patches, *drawing)
    parts = _summarise(patches, counts)
    _require_landslides(parts, folder)
    mosaic = Mosaic(len(patches), side)
    grid = _grid_of(mosaic, content.resolution)
    with atomic_folder(out, overwrite) as aside:
        statistics = write_rasters(patches, mosaic, grid, content, aside)
        summaries = statistics.summaries(content.channels)
        write_text(aside / "patches.csv", _table_of_patches(patches, mosaic, folder))
        write_summaries(aside, summaries, "planes")
        choices = _choices(folder, folders, mosaic, content, drawing)
        write_json(aside / "manifest.json", _manifest(folder, inputs, choices, grid))
    prepared = Prepared(
        folder=out,
        grid=grid,
        summaries=summaries,
        valid_pixels=statistics.valid,
        landslide_pixels=statistics.landslide,
        unburnt=[],
    )
    return Imported(prepared, mosaic, parts)


def table_of_parts(imported: Imported) -> str:
    """What each part holds, and the [blocks] that put training windows exactly on patches."""
    rows = []
    for name, part in imported.parts.items():
        share = f"{100 * part.landslide / part.known:.2f}" if part.known else "-"
        rows.append((name, f"{part.patches}", f"{part.with_landslide}", f"{part.known}", share))
    table = screen_table(["part", "patches", "with landslide", "masked pixels", "landslide %"], rows)
    side = imported.mosaic.side
    choices = f'[blocks] window = {side}, step = {side}, and [split] kind = "given"'
    return f"{table}\n\nTo train on whole patches: {choices}."


def _require_possible(validation_share: float, resolution: float | None) -> None:
    """Raise RunError for options that no set of patches can be imported by."""
    if not 0 < validation_share < 1:
        raise RunError(f"--validation-share {validation_share:g} is not possible: a share lies between 0 and 1.")
    if resolution is not None and not (resolution > 0 and math.isfinite(resolution)):
        raise RunError(f"--resolution {resolution:g} is not possible: the side of a pixel is above 0 m.")


def _grid_of(mosaic: Mosaic, pixel: float) -> Grid:
    """The grid of a mosaic of pixels of so many metres, in a CRS that means no place."""
    height, width = mosaic.shape
    return Grid(NOWHERE, Affine(pixel, 0, 0, 0, -pixel, height * pixel), height, width)


def _choices(
    folder: Path,
    folders: dict[int, tuple[Path, Path | None]],
    mosaic: Mosaic,
    content: Content,
    drawing: tuple[float, int] | None,
) -> dict[str, object]:
    """What manifest.json says of how patches were imported.

    `drawing` is the share and the seed that the validation part was drawn by; None where it has a folder of its own.
    """
    share, seed = (None, None) if drawing is None else drawing
    return {
        "folder": folder.name,
        "parts": {patch_name(part): images.relative_to(folder) for part, (images, _) in folders.items()},
        "validation_share": share,
        "seed": seed,
        "side": mosaic.side,
        "pitch": mosaic.pitch,
        "channels": content.facts(),
        "mask": {"landslide": content.landslide, "unknown": content.unknown},
    }


def _manifest(folder: Path, inputs: Sequence[Path], choices: dict[str, object], grid: Grid) -> dict[str, object]:
    """What manifest.json says of imported patches: as of a site, but for how they were imported."""
    return {
        "patches": choices,
        "grid": grid_facts(grid),
        "encoding": "planes",
        "inputs": [{"file": _within(path, folder), "sha256": file_hash(path)} for path in inputs],
        "software": software(),
    }


def _within(path: Path, folder: Path) -> Path:
    """A path as seen from a folder; of one that lies elsewhere, the name."""
    return path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)


def _require_alike(patches: Sequence[Patch]) -> int:
    """The side that all patches share, in pixels."""
    for path in (path for patch in patches for path in (patch.image, patch.mask)):
        if path is not None and path.suffix.lower() in PICTURES:
            require_whole_png(path)
    first = patches[0].image
    first_shape, first_channels = image_shape(first), geotiff_channels(first)
    for patch in patches:
        shape = image_shape(patch.image)
        if shape != first_shape:
            raise PatchError(
                f"{patch.image} has {_shape_text(shape)} and {first} {_shape_text(first_shape)}: all patches of a "
                "set are alike. Remove or resample those that differ."
            )
        channels = geotiff_channels(patch.image)
        if channels != first_channels:
            raise PatchError(
                f"{patch.image} holds {_channels_text(channels)} and {first} {_channels_text(first_channels)}: all "
                "patches of a set are alike. Give all of them the same band names, units and tags, in one order."
            )
    _, height, width = first_shape
    if height != width or height < SMALLEST_PATCH:
        raise PatchError(
            f"{first} has {height} x {width} pixels: patches are squares of at least {SMALLEST_PATCH} pixels. Cut "
            "or resample them."
        )
    return height


def _channels_text(channels: Sequence[Channel]) -> str:
    """Channels with their units, in words."""
    return ", ".join(f"{c.name} ({c.unit or 'no unit'})" for c in channels) or "bands without names"


def _shape_text(shape: tuple[int, int, int]) -> str:
    """The bands, rows and columns of an image, in words."""
    return f"{plural(shape[0], 'band')} of {shape[1]} x {shape[2]} pixels"


def _read_masks(patches: Sequence[Patch], side: int, content: Content) -> tuple[Content, list[NDArray[np.int64]]]:
    """The content with what a mask's values stand for; and, for every patch, its pixels of other ground and landslide.

    Raises PatchError for a mask of another size than its image, LabelError for one that holds something else.
    """
    first_with: dict[float, Path] = {}  # the first mask that holds a value
    pixels_by_value: list[dict[float, int]] = []
    for patch in patches:
        pixels_by_value.append({})
        if patch.mask is None:
            continue
        mask = read_mask(patch.mask)
        if mask.shape != (side, side):
            raise PatchError(
                f"{patch.mask} has {' x '.join(map(str, mask.shape))} pixels and its image {patch.image} {side} x "
                f"{side}: both cover the same pixels. Resample the mask by nearest neighbour."
            )
        values, pixels = np.unique(mask, return_counts=True)
        pixels_by_value[-1] = dict(zip(values.tolist(), pixels.tolist(), strict=True))
        for value in pixels_by_value[-1]:
            if content.landslide is None and value not in (0, 1, 255) and value != content.unknown:
                raise LabelError(
                    f"{patch.mask} holds {value:g}; a mask holds 0 (not) and either 1 or 255 (landslide). Recode it, "
                    f"or say in {PATCH_TABLE} beside the patches which it is: [landslides], landslide = {value:g}."
                )
            first_with.setdefault(value, patch.mask)
    landslide, unknown = _mask_values(first_with, pixels_by_value, content)
    counts = []
    for by_value in pixels_by_value:
        slides = by_value.get(landslide, 0)
        unclear = 0 if unknown is None else by_value.get(unknown, 0)
        counts.append(np.array([sum(by_value.values()) - slides - unclear, slides]))
    return replace(content, landslide=landslide, unknown=unknown), counts


def _mask_values(
    first_with: dict[float, Path], pixels_by_value: Sequence[dict[float, int]], content: Content
) -> tuple[int, int | None]:
    """The values of a mask that stand for landslide and for unknown; None where none stands for unknown.

    As stated; else landslide is 1 or 255, and where masks hold both, 255 is unknown, as in a prepared site's label.
    `first_with` has the first mask that holds each value, `pixels_by_value` the pixels of each value, patch by patch.
    """
    landslide, unknown = content.landslide, content.unknown
    if content.cut and landslide is None:  # Masks hold what the label does that they were cut from.
        landslide, unknown = LANDSLIDE, UNKNOWN
        say("masks are cut from a prepared site's label: 1 is taken for landslide and 255 for unknown.")
    if landslide is None:
        values = first_with.keys() - {unknown}
        if {1, 255} <= values:
            if not any({1, 255} <= by_value.keys() for by_value in pixels_by_value):
                raise LabelError(
                    f"{first_with[1]} holds 1 and {first_with[255]} holds 255: landslide is one of them in all masks "
                    f"of a set. Recode them, or say which it is in {PATCH_TABLE} beside the patches: [landslides], "
                    "landslide = 1, unknown = 255."
                )
            say("masks hold 0, 1 and 255: 1 is taken for landslide and 255 for unknown, as in a prepared site's label.")
            unknown = UNKNOWN
        landslide = 1 if 1 in values else 255
    if landslide == unknown:
        raise LabelError(
            f"{PATCH_TABLE} says that {unknown} is unknown, and no other value of the masks can be the landslides. Say "
            "which is: [landslides], landslide = VALUE."
        )
    if landslide not in first_with:
        stated = "1 or 255" if content.landslide is None else f"{landslide}"
        raise LabelError(
            f"no mask of the {len(pixels_by_value)} patches holds a landslide ({stated}), so there is nothing to "
            "learn. Check that the masks are the right files."
        )
    return landslide, unknown


def _draw_validation(patches: Sequence[Patch], share: float, seed: int) -> list[Patch]:
    """The patches, with a random share of the training patches put into the validation part, at least one."""
    training = [i for i, patch in enumerate(patches) if patch.part == TRAIN]
    count = max(1, round(share * len(training)))
    if count >= len(training):
        raise PatchError(
            f"{plural(len(training), 'training patch')} cannot be shared between training and validation ({share:g}). "
            "Use a smaller --validation-share, or name a folder with --validation."
        )
    chosen = set(np.random.default_rng(seed).choice(training, count, replace=False).tolist())
    return [Patch(VALIDATION, p.image, p.mask) if i in chosen else p for i, p in enumerate(patches)]


def _summarise(patches: Sequence[Patch], counts: Sequence[NDArray[np.int64]]) -> dict[str, PartSummary]:
    """What each part holds; `counts` are the pixels of other ground and of landslide, patch by patch."""
    summaries = {}
    for name, part in PARTS.items():
        in_part = [count for patch, count in zip(patches, counts, strict=True) if patch.part == part]
        landslide = [int(count[1]) for count in in_part]
        summaries[name] = PartSummary(
            patches=len(in_part),
            with_landslide=sum(pixels > 0 for pixels in landslide),
            known=int(sum(count.sum() for count in in_part)),
            landslide=sum(landslide),
        )
    return summaries


def _require_landslides(parts: dict[str, PartSummary], folder: Path) -> None:
    """Raise LabelError where the training or validation part holds no landslide; say so of the test part."""
    for name in ("train", "validation"):
        if not parts[name].landslide:
            raise LabelError(
                f"{folder}: the {name} part ({parts[name].patches} patches) holds no landslide. Use another --seed or "
                "a larger --validation-share, or check the masks."
            )
    if not parts["test"].landslide:
        say("warning: the test part holds no landslide or no mask: it can be mapped, and has no score.")


def _table_of_patches(patches: Sequence[Patch], mosaic: Mosaic, folder: Path) -> str:
    """patches.csv: where in the mosaic a patch's first pixel lies."""
    rows = []
    for i, patch in enumerate(patches):
        window = mosaic.window(i)
        name = patch.image.relative_to(folder).as_posix()
        rows.append({"patch": name, "part": patch_name(patch.part), "row": window.row, "column": window.column})
    return csv_table(["patch", "part", "row", "column"], rows)
