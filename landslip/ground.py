"""What a training, a comparison and a calibration stand on: a prepared site surveyed into split and windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landslip.blocks import aspect_positions, seeded_windows
from landslip.errors import LabelError, SplitError
from landslip.folder import prepared_file
from landslip.geotiff import write_raster
from landslip.grid import Window, require_same_grid, squares
from landslip.label import LANDSLIDE, OTHER, read_label
from landslip.models import build_model
from landslip.output import file_hash
from landslip.raster import cut_stored, opening, read_info, require_one_band
from landslip.run import Run
from landslip.split import NONE, PARTS, TRAIN, VALIDATION, Split, leaky_of, split_apart, split_paper
from landslip.stack import Channel, StackInfo, choose_channels, read_stack_info
from landslip.whole import covered, filled, strips


@dataclass(frozen=True)
class Ground:
    """What a training run stands on: the stack's chosen channels, label, valid pixels, split and windows."""

    stack: StackInfo
    positions: tuple[int, ...]
    channels: tuple[Channel, ...]
    label: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    split: Split
    windows: list[Window]
    validation: list[Window]

    def scored(self) -> NDArray[np.bool_]:
        """The (H, W) valid pixels of the validation part."""
        return _scored(self.split, self.valid)


def _scored(split: Split, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return filled(valid.shape, bool, lambda w: (split.parts[w.slices] == VALIDATION) & valid[w.slices])


def survey(run: Run, prepared: Path) -> Ground:
    """Read a prepared site and lay out split and windows; everything follows from the run and its seed."""
    stack, label, valid = read_prepared(prepared)
    positions = choose_channels(stack.channels, run.channels, stack.path)
    if not any((valid[w.slices] & (label[w.slices] == LANDSLIDE)).any() for w in strips(label.shape)):
        raise LabelError(f"{prepared / 'label.tif'} holds no landslide on valid ground, so there is nothing to learn.")
    channels = tuple(stack.channels[i] for i in positions)
    if run.training.augment:
        aspect_positions(channels)  # refuses aspect in degrees before any work
    require_window(run, len(channels))
    rng = np.random.default_rng(run.split.seed)
    windows = seeded_windows(label, valid, run.blocks, rng)
    if run.split.kind == "paper":
        split, windows = split_paper(windows, label.shape, rng)
    elif run.split.kind == "given":
        split = replace(read_split(prepared_file(prepared, "split.tif"), stack), kind="given")
        windows = split.inside(windows, TRAIN)
    else:
        split = split_apart(run.split, run.blocks.window, label, valid, rng)
        windows = split.inside(windows, TRAIN)
    if not windows:
        raise SplitError(
            f"no training window of {run.blocks.window} px fits into the training part. Use a smaller [blocks] window, "
            'a smaller [split] guard, more [blocks] seeds, or kind = "paper" (leaky).'
        )
    _require_both_classes(windows, label, valid, prepared)
    scored = _scored(split, valid)
    if run.split.kind == "given" and not any(
        (scored[w.slices] & (label[w.slices] == LANDSLIDE)).any() for w in strips(label.shape)
    ):
        raise SplitError(
            f"{prepared / 'split.tif'}: its validation part holds no landslide, so that neither an epoch nor a "
            "threshold can be chosen. Give ground with landslides to part 2."
        )
    size = run.blocks.window
    validation = [w for w in squares(label.shape, size) if scored[w.slices].any()]
    return Ground(stack, tuple(positions), channels, label, valid, split, windows, validation)


def read_prepared(prepared: Path) -> tuple[StackInfo, NDArray[np.uint8], NDArray[np.bool_]]:
    """A prepared site's stack header, its label (H, W) uint8 and its valid pixels (H, W) bool, all on one grid.

    Raises ModelError where a file is missing and GridError where they do not lie on one grid.
    """
    stack = read_stack_info(prepared_file(prepared, "stack.tif"))
    for name in ("label.tif", "valid.tif"):
        info = read_info(prepared_file(prepared, name))
        require_one_band(info, name.removesuffix(".tif"))
        require_same_grid(stack.grid, str(stack.path), info.grid, str(info.path))
    with opening(prepared / "valid.tif") as dataset:
        valid = filled(stack.grid.shape, bool, lambda window: cut_stored(dataset, window) == 1)
    return stack, read_label(prepared / "label.tif"), valid


def input_hashes(run: Run, prepared: Path) -> dict[str, str]:
    """SHA-256 of each file of a prepared site that a run's weights and scores follow from, by name."""
    given = {"split.tif": file_hash(prepared_file(prepared, "split.tif"))} if run.split.kind == "given" else {}
    return site_hashes(prepared) | given


def site_hashes(prepared: Path) -> dict[str, str]:
    """SHA-256 of a prepared site's stack, valid pixels and label, by file name."""
    return {name: file_hash(prepared_file(prepared, name)) for name in ("stack.tif", "valid.tif", "label.tif")}


def read_split(path: Path, stack: StackInfo) -> Split:
    """A split raster on a stack's grid. GridError where it lies on another, SplitError for what it cannot hold."""
    info = read_info(path)
    require_one_band(info, "split")
    require_same_grid(stack.grid, str(stack.path), info.grid, str(path))
    with opening(path) as dataset:
        parts = filled(stack.grid.shape, np.uint8, lambda window: _known_parts(cut_stored(dataset, window), path))
    guard = info.tags.get("guard", "0")
    if not guard.isdecimal():
        raise SplitError(f"{path}: its guard is {guard!r} and not a whole number of pixels. Mend or remove that tag.")
    kind = info.tags.get("split", "given")
    return Split(kind, leaky_of(info.tags), int(guard), parts)


def _known_parts(parts: NDArray[Any], path: Path) -> NDArray[Any]:
    strange = sorted(set(np.unique(parts).tolist()) - {NONE, *PARTS.values()})
    if strange:
        raise SplitError(f"{path} holds {strange[0]}; a split holds 0 (none), 1 (train), 2 (validation) and 3 (test).")
    return parts


def require_window(run: Run, channels: int) -> None:
    """Raise SplitError where the network cannot take the run's windows, RunError where it cannot be built."""
    window, name = run.blocks.window, run.network.name
    with torch.device("meta"):
        network = build_model(name, channels, **run.network.options)
        block = torch.empty(1, channels, window, window)
    multiple = int(network.multiple)  # type: ignore[arg-type]
    if window % multiple:
        raise SplitError(f"[blocks] window = {window} must be a multiple of {multiple} for {name}.")
    try:
        with torch.no_grad():
            network.train()(block)  # shapes only; the last batch of an epoch may be a single block
    except ValueError as error:
        raise SplitError(
            f"[blocks] window = {window} is too small for {name}: its poolings leave one pixel, of which batch "
            f"normalisation has no variance. Use a window of {2 * window} or more, a multiple of {multiple}."
        ) from error


def _require_both_classes(
    windows: list[Window], label: NDArray[np.uint8], valid: NDArray[np.bool_], prepared: Path
) -> None:
    union = covered(windows, label.shape)
    seen = {code for w in strips(label.shape) for code in np.unique(label[w.slices][union[w.slices] & valid[w.slices]])}
    for code, name in ((LANDSLIDE, "landslide"), (OTHER, "other ground")):
        if code not in seen:
            raise LabelError(
                f"{prepared / 'label.tif'}: the training windows hold no pixel of {name}, so there is nothing to tell "
                "apart. Use another [split] seed or region, or map more ground."
            )


def write_split(ground: Ground, folder: Path) -> str:
    """Write the ground's parts to split.tif in a folder; returns the file's SHA-256."""
    tags = ground.split.tags() | {"window": str(ground.windows[0].height)}
    path = folder / "split.tif"
    write_raster(path, ground.split.parts[None], ground.stack.grid, ["part"], None, tags, True, True)
    return file_hash(path)
