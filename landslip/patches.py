"""`landslip import`: a data set of patches (image and mask pairs) becomes a prepared folder, as of a site.

Patches are laid out as a mosaic, one in the top left corner of each square cell. A cell is a whole number of patches
wide, and the gap that this leaves is at least the halo of mapping (`landslip.plan.HALO`): undefined in the stack,
False in valid, 255 in the label, 0 in the split. So no patch sees another, `map`, `inventory` and `evaluate` work as on
a site, and with [blocks] window = step = the side of a patch every window of the lattice is one patch or one gap.

The folders that a set calls train and test (or, where it has no test folder, validation) become the training and the
test part: the set's own scored folder is kept for the score. The validation part, which chooses epoch and threshold, is
a random share of the training patches, unless a folder is named for it.

Patches say nothing of where they lie: the CRS is a local one in metres, and its coordinates mean no place.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from landslip.errors import DependencyError, LabelError, PatchError, RunError
from landslip.geotiff import TILE, creating, put
from landslip.grid import Grid, Window
from landslip.label import LANDSLIDE, OTHER, UNKNOWN
from landslip.output import file_hash, refuse_existing, write_json, write_text, writing_folder
from landslip.plan import HALO
from landslip.prepare import WRITTEN, ChannelSummary, Prepared, channels_json, grid_json, refuse_losses, table_csv
from landslip.progress import plural, say, track
from landslip.provenance import software
from landslip.raster import picture_shape, read_picture, read_stored, require_whole_png
from landslip.site import FACTORS
from landslip.split import NONE, PARTS, TEST, TRAIN, VALIDATION
from landslip.stack import Channel

IMAGE_FOLDERS = ("images", "image", "img")
MASK_FOLDERS = ("masks", "mask", "annotations", "labels")
TRAIN_FOLDERS = ("train", "TrainData")
TEST_FOLDERS = ("test", "TestData", "validation", "ValidData", "val")
PICTURES, HDF5 = (".png",), (".h5", ".hdf5")
KEYS = {"image": "img", "mask": "mask"}  # data sets of Landslide4Sense's HDF5 files
DECORATION = re.compile(r"^(image|img|mask|label)s?[_-]|[_-](image|img|mask|label)s?$")
MOST_VALUES = 2**27  # of a patch
SMALLEST = 16  # pixels a side, as [blocks] window

# Sentinel-2's B1 to B12 without B8A (github.com/iarai/Landslide4Sense-2022, issue 3), then slope and DEM of ALOS PALSAR
LANDSLIDE4SENSE = (
    "coastal", "blue", "green", "red", "red_edge_1", "red_edge_2", "red_edge_3", "nir", "water_vapour", "cirrus",
    "swir1", "swir2", "slope", "elevation",
)  # fmt: skip
NAMES = {1: ("gray",), 3: ("red", "green", "blue"), 14: LANDSLIDE4SENSE}
UNIT = "-"  # what is stored: 8-bit values, or numbers that the set's makers have scaled (slope and elevation too)

NOWHERE = CRS.from_wkt('LOCAL_CS["mosaic of patches, coordinates mean no place",UNIT["metre",1]]')
TAGS = {"georeferenced": "no: a mosaic of patches, whose coordinates mean no place"}


@dataclass(frozen=True)
class Patch:
    """One patch: its part (`landslip.split`), its image and its mask; None where it has no mask."""

    part: int
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class Mosaic:
    """Patches of `side` pixels in cells of `pitch` pixels, row by row."""

    count: int
    side: int

    @property
    def pitch(self) -> int:
        """Side of a cell: the patch and a gap of at least HALO, in whole patches."""
        return self.side * (1 + math.ceil(HALO / self.side))

    @property
    def columns(self) -> int:
        """Cells in a row: about as many as there are rows."""
        return math.ceil(math.sqrt(self.count))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the mosaic in pixels."""
        return math.ceil(self.count / self.columns) * self.pitch, self.columns * self.pitch

    def window(self, i: int) -> Window:
        """Where patch `i` lies."""
        return Window(i // self.columns * self.pitch, i % self.columns * self.pitch, self.side, self.side)

    def within(self, strip: Window) -> range:
        """The patches that may meet a strip of whole rows."""
        first, last = strip.row // self.pitch, (strip.row + strip.height - 1) // self.pitch
        return range(first * self.columns, min((last + 1) * self.columns, self.count))


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
    train: str | None = None,
    test: str | None = None,
    validation: str | None = None,
    validation_share: float = 0.15,
    seed: int = 0,
    resolution: float = 10.0,
    names: Sequence[str] = (),
    overwrite: bool = False,
) -> Imported:
    """Import the patches of `folder` into the prepared folder `out`, which appears whole or not at all.

    `train`, `test` and `validation` name sub-folders; by default the first there is of TRAIN_FOLDERS and TEST_FOLDERS,
    and `validation_share` of the training patches, drawn from `seed`. Images and masks lie in PART/images and
    PART/masks or images/PART and masks/PART, as PNG (red, green, blue; alpha 0 is undefined; masks in the first band)
    or HDF5 (data sets `img` of (row, column, band) and `mask`). `resolution` is the pixel's side in metres. `names` are
    the channels' names, by default those of gray, RGB or Landslide4Sense's 14 bands. Test patches without a mask have
    the label 255. Raises PatchError for files that are missing, unpaired or unlike the others, LabelError for masks
    that hold something else or no landslide, DependencyError for HDF5 without h5py, RunError for impossible options,
    OutputError where the output exists; all before anything is written.
    """
    refuse_existing(out, overwrite, folder=True)
    if not (0 < validation_share < 1 and resolution > 0 and math.isfinite(resolution)):
        raise RunError(
            f"a validation share of {validation_share:g} and a resolution of {resolution:g} m are not both possible: "
            "the share lies between 0 and 1, the resolution is above 0."
        )
    folders = _part_folders(folder, train, test, validation)
    patches = [patch for part, (images, masks) in folders.items() for patch in _pairs(part, images, masks)]
    inputs = [path for pair in folders.values() for path in pair if path is not None]
    refuse_losses(out, inputs, WRITTEN | {"split.tif", "patches.csv"})
    side, channels = _require_alike(patches, names)
    landslide_value, found = _read_masks(patches, side)
    if validation is None:
        patches = _draw_validation(patches, validation_share, seed)
    parts = _summarise(patches, found, side)
    _require_landslides(parts, folder)

    mosaic = Mosaic(len(patches), side)
    height, width = mosaic.shape
    grid = Grid(NOWHERE, Affine(resolution, 0, 0, 0, -resolution, height * resolution), height, width)
    with writing_folder(out, overwrite) as aside:
        statistics = _write_rasters(patches, mosaic, grid, channels, landslide_value, aside)
        summaries = statistics.summaries(channels)
        write_text(aside / "patches.csv", _table_of_patches(patches, mosaic, folder))
        write_json(aside / "channels.json", channels_json(summaries, "planes"))
        write_text(aside / "table.csv", table_csv(summaries))
        choices = {
            "folder": folder.name,
            "parts": {_name(part): images.relative_to(folder) for part, (images, _) in folders.items()},
            "validation_share": validation_share if validation is None else None,
            "seed": seed if validation is None else None,
            "side": side,
            "pitch": mosaic.pitch,
        }
        hashes = [{"file": path.relative_to(folder), "sha256": file_hash(path)} for path in inputs]
        write_json(
            aside / "manifest.json",
            {
                "patches": choices,
                "grid": grid_json(grid),
                "encoding": "planes",
                "inputs": hashes,
                "software": software(),
            },
        )
    prepared = Prepared(out, grid, summaries, statistics.valid, statistics.landslide, [])
    return Imported(prepared, mosaic, parts)


# ---- what there is ----


def _part_folders(
    folder: Path, train: str | None, test: str | None, validation: str | None
) -> dict[int, tuple[Path, Path | None]]:
    """{part: (folder of images, folder of masks or None)}; the training part is first."""
    found = {TRAIN: _part_folder(folder, (train,) if train else TRAIN_FOLDERS, "--train")}
    if validation:
        found[VALIDATION] = _part_folder(folder, (validation,), "--validation")
    found[TEST] = _part_folder(folder, (test,) if test else TEST_FOLDERS, "--test")
    images = [pair[0] for pair in found.values()]
    if len(set(images)) < len(images):
        raise PatchError(f"{folder}: two parts would be made of {images[-1]}. Name different folders.")
    for part in (TRAIN, VALIDATION):
        if part in found and found[part][1] is None:
            raise PatchError(
                f"{found[part][0]} has no folder of masks beside it ({', '.join(MASK_FOLDERS)}), and the "
                f"{_name(part)} part needs them. Add the masks, or name another folder."
            )
    return found


def _part_folder(folder: Path, names: Sequence[str], option: str) -> tuple[Path, Path | None]:
    if not folder.is_dir():
        raise PatchError(f"{folder} is not a folder. Give the folder that holds the data set.")
    for name in names:
        images = _first_folder(folder, name, IMAGE_FOLDERS)
        if images is not None:
            return images, _first_folder(folder, name, MASK_FOLDERS)
    raise PatchError(
        f"{folder} holds no patches for {option}: looked for {' or '.join(names)}, with images in "
        f"{names[0]}/{IMAGE_FOLDERS[0]} or {IMAGE_FOLDERS[0]}/{names[0]} (or {', '.join(IMAGE_FOLDERS[1:])}). Name the "
        f"folder with {option}."
    )


def _first_folder(folder: Path, part: str, kinds: Sequence[str]) -> Path | None:
    places = [place for kind in kinds for place in (folder / part / kind, folder / kind / part)]
    return next((place for place in places if place.is_dir()), None)


def _pairs(part: int, images: Path, masks: Path | None) -> list[Patch]:
    """The patches of a part, in the natural order of their images' names."""
    image_of = _files(images)
    mask_of = {} if masks is None else _files(masks)
    if not image_of:
        raise PatchError(f"{images} holds no image: looked for files that end in {', '.join((*PICTURES, *HDF5))}.")
    alone = sorted(mask_of.keys() - image_of.keys(), key=natural)
    if alone:
        raise PatchError(
            f"{len(alone)} of {len(mask_of)} masks in {masks} have no image in {images}: "
            f"{_listed(mask_of[key].name for key in alone)}. Add the images, or remove the masks."
        )
    bare = sorted(image_of.keys() - mask_of.keys(), key=natural)
    if bare and part != TEST:
        raise PatchError(
            f"{len(bare)} of {len(image_of)} images in {images} have no mask in {masks}: "
            f"{_listed(image_of[key].name for key in bare)}. Add the masks, or remove the images."
        )
    if bare:
        say(f"warning: {len(bare)} of {len(image_of)} test images have no mask: they can be mapped, not scored.")
    return [Patch(part, image_of[key], mask_of.get(key)) for key in sorted(image_of, key=natural)]


def _files(folder: Path) -> dict[str, Path]:
    """{what an image and its mask share of their names: file}."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (*PICTURES, *HDF5) and not path.name.startswith("."):
            key = DECORATION.sub("", path.stem.lower())
            if key in found:
                raise PatchError(f"{folder}: {found[key].name} and {path.name} would be one patch. Rename one of them.")
            found[key] = path
    return found


def natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts texts as people do: image_2 before image_10."""
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", text)]


def _listed(names: Iterator[str], most: int = 5) -> str:
    found = list(names)
    return ", ".join(found[:most]) + (" ..." if len(found) > most else "")


# ---- what it holds ----


def _require_alike(patches: Sequence[Patch], names: Sequence[str]) -> tuple[int, tuple[Channel, ...]]:
    """The side that all patches share, in pixels, and their channels."""
    for path in (path for patch in patches for path in (patch.image, patch.mask)):
        if path is not None and path.suffix.lower() in PICTURES:
            require_whole_png(path)
    first = _shape(patches[0].image)
    for patch in patches:
        shape = _shape(patch.image)
        if shape != first:
            raise PatchError(
                f"{patch.image} has {_described(shape)} and {patches[0].image} {_described(first)}: all patches of a "
                "set are alike. Remove or resample those that differ."
            )
    bands, height, width = first
    if height != width or height < SMALLEST:
        raise PatchError(
            f"{patches[0].image} has {height} x {width} pixels: patches are squares of at least {SMALLEST} pixels. Cut "
            "or resample them."
        )
    return height, _channels(bands, names, patches[0].image)


def _described(shape: tuple[int, int, int]) -> str:
    return f"{plural(shape[0], 'band')} of {shape[1]} x {shape[2]} pixels"


def _channels(bands: int, names: Sequence[str], path: Path) -> tuple[Channel, ...]:
    names = tuple(names) or NAMES.get(bands, ())
    if len(names) != bands:
        given = f"{len(names)} names were given" if names else "it is not known which"
        raise PatchError(
            f"{path} has {plural(bands, 'band')}, and {given}. Name them in order: --channels red,green,blue,nir."
        )
    for name in names:
        if not name.isidentifier() or name != name.lower() or names.count(name) > 1:
            raise PatchError(
                f"--channels: {name!r} is not a name of its own in lower-case letters, digits and underscores."
            )
    return tuple(Channel(name, name, "factor" if name in FACTORS else "band", UNIT) for name in names)


def _read_masks(patches: Sequence[Patch], side: int) -> tuple[int, list[NDArray[np.int64]]]:
    """The value that stands for landslide, and (pixels that are not, pixels that are) for every patch."""
    seen: dict[int, Path] = {}
    shares = []
    for patch in patches:
        if patch.mask is None:
            shares.append(np.zeros(2, np.int64))
            continue
        mask = _mask(patch.mask)
        if mask.shape != (side, side):
            raise PatchError(
                f"{patch.mask} has {' x '.join(map(str, mask.shape))} pixels and its image {patch.image} {side} x "
                f"{side}: both cover the same pixels. Resample the mask by nearest neighbour."
            )
        for value in np.unique(mask).tolist():
            if value not in (0, 1, 255):
                raise LabelError(
                    f"{patch.mask} holds {value:g}; a mask holds 0 (not) and either 1 or 255 (landslide). Recode it."
                )
            seen.setdefault(int(value), patch.mask)
        landslide = int(np.count_nonzero(mask))
        shares.append(np.array([mask.size - landslide, landslide]))
    if 1 in seen and 255 in seen:
        raise LabelError(
            f"{seen[1]} holds 1 and {seen[255]} holds 255: landslide is one of them in all masks of a set. Recode them."
        )
    if not seen.keys() & {1, 255}:
        raise LabelError(
            f"no mask of the {len(patches)} patches holds a landslide (1 or 255), so there is nothing to learn. Check "
            "that the masks are the right files."
        )
    return (255 if 255 in seen else 1), shares


def _draw_validation(patches: Sequence[Patch], share: float, seed: int) -> list[Patch]:
    training = [i for i, patch in enumerate(patches) if patch.part == TRAIN]
    count = max(1, round(share * len(training)))
    if count >= len(training):
        raise PatchError(
            f"{len(training)} training patch(es) cannot be shared between training and validation ({share:g}). Use a "
            "smaller --validation-share, or name a folder with --validation."
        )
    drawn = set(np.random.default_rng(seed).choice(training, count, replace=False).tolist())
    return [Patch(VALIDATION, p.image, p.mask) if i in drawn else p for i, p in enumerate(patches)]


def _summarise(patches: Sequence[Patch], counts: Sequence[NDArray[np.int64]], side: int) -> dict[str, PartSummary]:
    summaries = {}
    for name, part in PARTS.items():
        own = [count for patch, count in zip(patches, counts, strict=True) if patch.part == part]
        landslide = [int(count[1]) for count in own]
        summaries[name] = PartSummary(
            len(own), sum(n > 0 for n in landslide), int(sum(count.sum() for count in own)), sum(landslide)
        )
    return summaries


def _require_landslides(parts: dict[str, PartSummary], folder: Path) -> None:
    for name in ("train", "validation"):
        if not parts[name].landslide:
            raise LabelError(
                f"{folder}: the {name} part ({parts[name].patches} patches) holds no landslide. Use another --seed or "
                "a larger --validation-share, or check the masks."
            )
    if not parts["test"].landslide:
        say("warning: the test part holds no landslide or no mask: it can be mapped, and has no score.")


# ---- files ----


def _shape(path: Path) -> tuple[int, int, int]:
    """(bands, rows, columns) of an image."""
    if path.suffix.lower() in PICTURES:
        return picture_shape(path)
    with _hdf5(path, "image") as data:
        if data.ndim != 3:
            raise PatchError(
                f"{path}: {data.name} has {plural(data.ndim, 'dimension')}; an image has (row, column, band)."
            )
        rows, columns, bands = data.shape
        return bands, rows, columns


def _image(path: Path) -> NDArray[np.float32]:
    """(B, H, W) float32 of an image, NaN where undefined."""
    if path.suffix.lower() in PICTURES:
        return read_picture(path)
    with _hdf5(path, "image") as data:
        values = np.moveaxis(data[()].astype(np.float32), 2, 0)
    values[~np.isfinite(values)] = np.nan
    return np.asarray(values)


def _mask(path: Path) -> NDArray[Any]:
    """A mask as it is stored, (H, W): the first band of a picture."""
    if path.suffix.lower() in PICTURES:
        return read_stored(path)
    with _hdf5(path, "mask") as data:
        return np.asarray(data[..., 0] if data.ndim == 3 and data.shape[2] == 1 else data[()])


@contextmanager
def _hdf5(path: Path, what: str) -> Iterator[Any]:
    """Open the data set of an HDF5 file that is the image or the mask: the one so called, or the only one."""
    try:
        import h5py
    except ImportError as error:
        raise DependencyError(
            f"{path} is HDF5, and h5py is not installed. Install it with landslip's extra: pip install landslip[hdf5]."
        ) from error
    try:
        with h5py.File(path, "r") as file:
            held = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
            names = [name for name in held if isinstance(file[name], h5py.Dataset)]
            name = KEYS[what] if KEYS[what] in names else names[0] if len(names) == 1 else None
            if name is None:
                raise PatchError(
                    f"{path} holds the data sets {', '.join(names) or 'none'} and none called {KEYS[what]}, which is "
                    f"the {what}. Rename it."
                )
            _require_own_numbers(path, file[name])
            yield file[name]
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:  # h5py has one for each layer below
        raise PatchError(
            f"{path} cannot be read as HDF5 ({' '.join(str(error).split())[:120]}): it is truncated, damaged or "
            "something else. Fetch it again."
        ) from error


def _require_own_numbers(path: Path, data: Any) -> None:
    """Raise PatchError for a data set that lies in other files, holds no numbers, or claims more than a patch holds."""
    if data.external or data.is_virtual:
        raise PatchError(f"{path}: {data.name} lies in other files, which are not read. Store it in this file.")
    if data.dtype.kind not in "biuf" or data.size is None:
        raise PatchError(
            f"{path}: {data.name} holds {data.dtype}, and a patch holds numbers. Is it the file you meant?"
        )
    if data.size > MOST_VALUES:
        raise PatchError(
            f"{path}: {data.name} claims {' x '.join(map(str, data.shape))} values, and a patch has at most "
            f"{MOST_VALUES:,}. If it is not damaged, cut it into smaller patches."
        )


# ---- the mosaic ----


@dataclass
class _Statistics:
    """Of every channel over the valid pixels, summed up patch by patch."""

    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    total: NDArray[np.float64]
    undefined: NDArray[np.int64]
    pixels: int = 0
    valid: int = 0
    landslide: int = 0

    def add(self, values: NDArray[np.float32], valid: NDArray[np.bool_], label: NDArray[np.uint8]) -> None:
        """Add (C, h, w) values with their valid pixels and label."""
        self.pixels += valid.size
        self.valid += int(valid.sum())
        self.landslide += int(np.count_nonzero((label == LANDSLIDE) & valid))
        self.undefined += np.isnan(values).sum((1, 2))
        kept = values[:, valid]
        if kept.size:
            self.minimum = np.fmin(self.minimum, kept.min(1))
            self.maximum = np.fmax(self.maximum, kept.max(1))
            self.total += kept.sum(1, dtype=np.float64)

    def summaries(self, channels: Sequence[Channel]) -> list[ChannelSummary]:
        """A summary per channel, as `landslip prepare` gives."""
        mean = self.total / self.valid if self.valid else np.full(len(channels), np.nan)
        rows = zip(channels, self.minimum, self.maximum, mean, self.undefined / self.pixels, strict=True)
        return [ChannelSummary(channel, *map(float, figures)) for channel, *figures in rows]


def _write_rasters(
    patches: Sequence[Patch],
    mosaic: Mosaic,
    grid: Grid,
    channels: Sequence[Channel],
    landslide_value: int,
    folder: Path,
) -> _Statistics:
    """Write stack.tif, valid.tif, label.tif and split.tif, a row of tiles at a time."""
    count = len(channels)
    statistics = _Statistics(np.full(count, np.nan), np.full(count, np.nan), np.zeros(count), np.zeros(count, np.int64))
    # patches of one set may be neighbours, or overlap, and no file says so
    split_tags = {"split": "given", "leaky": "unknown", "guard": "0", **TAGS}
    names = [channel.name for channel in channels]
    with ExitStack() as files:
        # compressed: three quarters are gap, which costs nothing so
        stack = files.enter_context(creating(folder / "stack.tif", grid, "float32", names, float("nan"), TAGS))
        valid = files.enter_context(creating(folder / "valid.tif", grid, "uint8", ["valid"], None, TAGS))
        label = files.enter_context(creating(folder / "label.tif", grid, "uint8", ["label"], UNKNOWN, TAGS))
        split = files.enter_context(creating(folder / "split.tif", grid, "uint8", ["part"], None, split_tags))
        for band, channel in enumerate(channels, start=1):
            stack.update_tags(band, **channel.tags())
        strips = [Window(row, 0, TILE, grid.width).clip(grid.shape) for row in range(0, grid.height, TILE)]
        for strip in track(strips, len(strips), "import", "strip"):
            shape = (strip.height, strip.width)
            values = np.full((count, *shape), np.nan, np.float32)
            truth, parts = np.full(shape, UNKNOWN, np.uint8), np.full(shape, NONE, np.uint8)
            for i in mosaic.within(strip):
                whole = mosaic.window(i)
                row, bottom = max(whole.row, strip.row), min(whole.row + whole.height, strip.row + strip.height)
                if row >= bottom:
                    continue
                part = Window(row, whole.column, bottom - row, whole.width)
                rows, columns = part.within(whole)
                here = part.within(strip)
                image, known = _image(patches[i].image)[:, rows, columns], _label(patches[i], landslide_value, mosaic)
                values[:, *here], truth[here], parts[here] = image, known[rows, columns], patches[i].part
                statistics.add(image, _defined(image), truth[here])
            put(stack, values, strip)
            put(valid, _defined(values).astype(np.uint8)[None], strip)
            put(label, truth[None], strip)
            put(split, parts[None], strip)
    return statistics


def _defined(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(values).any(axis=0))


def _label(patch: Patch, landslide_value: int, mosaic: Mosaic) -> NDArray[np.uint8]:
    if patch.mask is None:
        return np.full((mosaic.side, mosaic.side), UNKNOWN, np.uint8)
    return np.where(_mask(patch.mask) == landslide_value, LANDSLIDE, OTHER).astype(np.uint8)


def _name(part: int) -> str:
    return next(name for name, number in PARTS.items() if number == part)


def _table_of_patches(patches: Sequence[Patch], mosaic: Mosaic, folder: Path) -> str:
    """patches.csv: where in the mosaic a patch's first pixel lies."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("patch", "part", "row", "column"))
    for i, patch in enumerate(patches):
        window = mosaic.window(i)
        name = patch.image.relative_to(folder).as_posix()
        writer.writerow((name, _name(patch.part), window.row, window.column))
    return text.getvalue()


def table_of_parts(imported: Imported) -> str:
    """What each part holds, and the [blocks] that put training windows exactly on patches."""
    rows = [("part", "patches", "with landslide", "masked pixels", "landslide %")]
    for name, part in imported.parts.items():
        share = f"{100 * part.landslide / part.known:.2f}" if part.known else "-"
        rows.append((name, f"{part.patches}", f"{part.with_landslide}", f"{part.known}", share))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    side = imported.mosaic.side
    lines.append(f'\nTo train on whole patches: [blocks] window = {side}, step = {side}, and [split] kind = "given".')
    return "\n".join(lines)
