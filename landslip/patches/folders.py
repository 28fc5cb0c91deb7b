"""The folders of a patch data set, and the pairs of image and mask in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from landslip.dataset.split import PARTS, TEST, TRAIN, VALIDATION
from landslip.errors import PatchError
from landslip.patches.files import SUFFIXES
from landslip.runtime.progress import say

IMAGE_FOLDERS = ("images", "image", "img")
MASK_FOLDERS = ("masks", "mask", "annotations", "labels")
TRAIN_FOLDERS = ("train", "TrainData")
TEST_FOLDERS = ("test", "TestData", "validation", "ValidData", "val")
# what a file's name says of being an image or a mask, which its partner's name does not share
DECORATION = re.compile(r"^(image|img|mask|label)s?[_-]|[_-](image|img|mask|label)s?$")


@dataclass(frozen=True)
class Patch:
    """One patch: its part (`landslip.dataset.split`), its image and its mask; None where it has no mask."""

    part: int
    image: Path
    mask: Path | None


def part_folders(
    folder: Path, train: str | None, test: str | None, validation: str | None
) -> dict[int, tuple[Path, Path | None]]:
    """{part: (folder of images, folder of masks or None)}; the training part is first.

    Raises PatchError where a folder is missing, or two parts would be made of one.
    """
    folders = {TRAIN: _part_folder(folder, (train,) if train else TRAIN_FOLDERS, "--train")}
    if validation:
        folders[VALIDATION] = _part_folder(folder, (validation,), "--validation")
    folders[TEST] = _part_folder(folder, (test,) if test else TEST_FOLDERS, "--test")
    images = [pair[0] for pair in folders.values()]
    if len(set(images)) < len(images):
        raise PatchError(f"{folder}: two parts would be made of {images[-1]}. Name different folders.")
    for part in (TRAIN, VALIDATION):
        if part in folders and folders[part][1] is None:
            raise PatchError(
                f"{folders[part][0]} has no folder of masks beside it ({', '.join(MASK_FOLDERS)}), and the "
                f"{patch_name(part)} part needs them. Add the masks, or name another folder."
            )
    return folders


def pairs(part: int, images: Path, masks: Path | None) -> list[Patch]:
    """The patches of a part, in the natural order of their images' names.

    Raises PatchError for a mask without an image, and for an image without a mask outside the test part.
    """
    image_of = _files(images)
    mask_of = {} if masks is None else _files(masks)
    if not image_of:
        raise PatchError(f"{images} holds no image: looked for files that end in {', '.join(SUFFIXES)}.")
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


def natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts texts as people do: image_2 before image_10."""
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", text)]


def patch_name(part: int) -> str:
    """The name of a part as files and options have it: train, validation or test."""
    return next(name for name, number in PARTS.items() if number == part)


def _part_folder(folder: Path, names: Sequence[str], option: str) -> tuple[Path, Path | None]:
    """The folders of a part's images and of its masks, by the first of `names` that has images."""
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
    """The first folder there is of one of the kinds (images, say) for a part; None where there is none."""
    places = [place for kind in kinds for place in (folder / part / kind, folder / kind / part)]
    return next((place for place in places if place.is_dir()), None)


def _files(folder: Path) -> dict[str, Path]:
    """The files of a folder by what an image and its mask share of their names."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            key = DECORATION.sub("", path.stem.lower())
            if key in files:
                raise PatchError(f"{folder}: {files[key].name} and {path.name} would be one patch. Rename one of them.")
            files[key] = path
    return files


def _listed(names: Iterator[str], most: int = 5) -> str:
    """The first few of some names, in words."""
    listed = list(names)
    return ", ".join(listed[:most]) + (" ..." if len(listed) > most else "")
