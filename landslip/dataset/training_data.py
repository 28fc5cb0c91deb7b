"""What a training, a comparison and a calibration stand on: a prepared site divided into parts and windows.

A split.tif in the prepared folder is read where the run asks for it (kind "given"), or where it was carried over from
a model before a correction; else the parts are drawn from the run's seed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from landslip.config.run import Run, SplitChoice
from landslip.dataset.blocks import aspect_positions, seeded_windows
from landslip.dataset.channels import Channel, StackInfo, choose_channels, read_stack_info
from landslip.dataset.label import LANDSLIDE, OTHER, known_label
from landslip.dataset.spatial_split import split_apart
from landslip.dataset.split import NONE, PARTS, TRAIN, VALIDATION, Split, leaky_of, split_paper
from landslip.errors import LabelError, RunError, SplitError
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Window, require_same_grid, squares
from landslip.geo.mapped_array import from_windows, strips, union_of_windows
from landslip.geo.raster import open_raster, read_info, read_stored_window, require_one_band
from landslip.models import ENSEMBLE, build_model
from landslip.runtime.disk import file_hash
from landslip.runtime.progress import say
from landslip.runtime.run_folder import prepared_file

CARRIED, CHOICE = (
    "carried_from",
    "split_choice",
)  # tags of split.tif: the weights whose parts these are, and their [split]
ENOUGH_WINDOWS = 8  # training windows, a batch, that a choice leaves which is proposed where the run's own does not fit
SMALLEST_WINDOW = 16  # pixels a side of the smallest window or region that a run file takes
LONGEST_LOOK = 60.0  # seconds that such a choice is looked for


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a training run stands on: the stack's chosen channels, label, valid pixels, split and windows.

    `positions` are those of the `channels` in the stack; `label` (H, W) uint8 and `valid` (H, W) bool lie on its grid.
    `windows` are trained on, and the windows of `validation` tile the validation part.
    """

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


def build_training_data(run: Run, prepared: Path) -> TrainingData:
    """Read a prepared site and lay out split and windows; everything follows from the run and its seed.

    Raises ChannelError, LabelError, SplitError or RunError where the run cannot be trained on the site. Where smaller
    windows, regions or guards would fit, the error names them.
    """
    if run.network.name == ENSEMBLE:
        raise RunError(
            '[network] name is "ensemble", which is put together of trained models. Train those, then give '
            "`landslip ensemble MODEL_1/ MODEL_2/ OUT_MODEL/`."
        )
    if run.split.kind == "all" and (run.training.choose != "last" or isinstance(run.training.threshold, str)):
        raise RunError(
            f'[split] kind = "all" leaves no validation ground for [training] choose = "{run.training.choose}" and '
            f"threshold = {run.training.threshold!r}. Give the folds that chose them (`--folds LADDER/`), "
            'or choose = "last" and a number as threshold.'
        )
    stack, label, valid = read_prepared(prepared)
    positions = choose_channels(stack.channels, run.channels, stack.path)
    if not any((valid[w.slices] & (label[w.slices] == LANDSLIDE)).any() for w in strips(label.shape)):
        raise LabelError(f"{prepared / 'label.tif'} holds no landslide on valid ground, so there is nothing to learn.")
    channels = tuple(stack.channels[i] for i in positions)
    if run.training.augment:
        aspect_positions(channels)  # refuses aspect in degrees before any work
    require_window(run, len(channels))
    carried, earlier = _carries_split(run, prepared), None
    if carried or run.split.kind == "given":
        earlier = read_split(prepared_file(prepared, "split.tif"), stack)
        earlier = earlier if carried else replace(earlier, kind="given")
    try:
        split, windows = _lay_out(run, prepared, label, valid, earlier)
    except (SplitError, LabelError) as error:
        advice = _what_works(run, len(channels), prepared, label=label, valid=valid, earlier=earlier)
        raise type(error)(f"{error}{advice}") from error
    scored = _scored(split, valid)
    if (carried or run.split.kind == "given") and not any(
        (scored[w.slices] & (label[w.slices] == LANDSLIDE)).any() for w in strips(label.shape)
    ):
        raise SplitError(
            f"{prepared / 'split.tif'}: its validation part holds no landslide, so that neither an epoch nor a "
            "threshold can be chosen. "
            + ("Remove that file to have it drawn anew." if carried else "Give ground with landslides to part 2.")
        )
    size = run.blocks.window
    validation = [w for w in squares(label.shape, size) if scored[w.slices].any()]
    return TrainingData(
        stack=stack,
        positions=tuple(positions),
        channels=channels,
        label=label,
        valid=valid,
        split=split,
        windows=windows,
        validation=validation,
    )


def read_prepared(prepared: Path) -> tuple[StackInfo, NDArray[np.uint8], NDArray[np.bool_]]:
    """A prepared site's stack header, its label (H, W) uint8 and its valid pixels (H, W) bool, all on one grid.

    Raises ModelError where a file is missing and GridError where they do not lie on one grid.
    """
    stack = read_stack_info(prepared_file(prepared, "stack.tif"))
    for name in ("label.tif", "valid.tif"):
        info = read_info(prepared_file(prepared, name))
        require_one_band(info, name.removesuffix(".tif"))
        require_same_grid(stack.grid, str(stack.path), info.grid, str(info.path))
    with open_raster(prepared / "valid.tif") as dataset:
        valid = from_windows(stack.grid.shape, bool, lambda window: read_stored_window(dataset, window) == 1)
    return stack, _read_label(prepared / "label.tif"), valid


def read_split(path: Path, stack: StackInfo) -> Split:
    """A split raster on a stack's grid. GridError where it lies on another, SplitError for what it cannot hold."""
    info = read_info(path)
    require_one_band(info, "split")
    require_same_grid(stack.grid, str(stack.path), info.grid, str(path))
    with open_raster(path) as dataset:

        def parts_at(window: Window) -> NDArray[np.uint8]:
            return _known_parts(read_stored_window(dataset, window), path)

        parts = from_windows(stack.grid.shape, np.uint8, parts_at)
    guard = info.tags.get("guard", "0")
    if not guard.isdecimal():
        raise SplitError(f"{path}: its guard is {guard!r} and not a whole number of pixels. Mend or remove that tag.")
    kind = info.tags.get("split", "given")
    return Split(
        kind=kind,
        leaky=leaky_of(info.tags),
        guard=int(guard),
        parts=parts,
        fold=info.tags.get("fold", ""),
        carried_from=info.tags.get(CARRIED, ""),
    )


def write_split(data: TrainingData, folder: Path) -> str:
    """Write the ground's parts to split.tif in a folder; returns the file's SHA-256."""
    tags = data.split.tags() | {"window": str(data.windows[0].height)}
    path = folder / "split.tif"
    write_raster(
        path,
        data.split.parts[None],
        data.stack.grid,
        ["part"],
        nodata=None,
        tags=tags,
        compress=True,
        overwrite=True,
    )
    return file_hash(path)


def require_window(run: Run, channels: int) -> None:
    """Raise SplitError where the network cannot take the run's windows, RunError where it cannot be built."""
    window, name = run.blocks.window, run.network.name
    with torch.device("meta"):
        network = build_model(name, channels, **run.network.options)
        block = torch.empty(1, channels, window, window)
    multiple = cast(int, network.multiple)
    if window % multiple:
        raise SplitError(f"[blocks] window = {window} must be a multiple of {multiple} for {name}.")
    try:
        with torch.no_grad():
            network.train()(block)  # gives shapes only; the last batch of an epoch may be a single block
    except ValueError as error:
        raise SplitError(
            f"[blocks] window = {window} is too small for {name}: its poolings leave one pixel, of which batch "
            f"normalisation has no variance. Use a window of {2 * window} or more, a multiple of {multiple}."
        ) from error


def input_hashes(run: Run, prepared: Path) -> dict[str, str]:
    """SHA-256 of each file of a prepared site that a run's weights and scores follow from, by name."""
    hashes = site_hashes(prepared)
    if run.split.kind == "given" or _carries_split(run, prepared):
        hashes["split.tif"] = file_hash(prepared_file(prepared, "split.tif"))
    return hashes


def site_hashes(prepared: Path) -> dict[str, str]:
    """SHA-256 of a prepared site's stack, valid pixels and label, by file name."""
    return {name: file_hash(prepared_file(prepared, name)) for name in ("stack.tif", "valid.tif", "label.tif")}


def carried_tags(run: Run, sha256: str) -> dict[str, str]:
    """Tags with which a split.tif in a prepared site is used by runs that ask for the same [split] as `run` does.

    `sha256` is that of the weights that `run` trained on these parts.
    """
    return {CARRIED: sha256, CHOICE: run.split.model_dump_json()}


def carried_note(run: Run, prepared: Path) -> str:
    """What becomes of the parts that a prepared site carries from a model before a correction; "" where it has none."""
    if run.split.kind in ("given", "all") or _carried(prepared) is None:
        return ""
    path = prepared / "split.tif"
    if _carries_split(run, prepared):
        return f"the parts are those of the model before the correction ({path}); without that file they are drawn anew"
    return (
        f"{path} holds the parts of the model before the correction, which was trained by other choices of [split] or "
        "with a smaller guard: parts are drawn anew, and scores before and after stand on different ground"
    )


def _scored(split: Split, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The (H, W) valid pixels of the validation part."""
    return from_windows(valid.shape, bool, lambda w: (split.parts[w.slices] == VALIDATION) & valid[w.slices])


def _read_label(path: Path) -> NDArray[np.uint8]:
    """A label raster as it is stored, (H, W) uint8; LabelError where it holds anything but 1, 0 and 255."""
    with open_raster(path) as dataset:

        def label_at(window: Window) -> NDArray[np.uint8]:
            return known_label(read_stored_window(dataset, window), path)

        return from_windows(dataset.shape, np.uint8, label_at)


def _known_parts(parts: NDArray[Any], path: Path) -> NDArray[Any]:
    """Stored parts as they are; SplitError where one has no meaning."""
    strange = sorted(set(np.unique(parts).tolist()) - {NONE, *PARTS.values()})
    if strange:
        raise SplitError(f"{path} holds {strange[0]}; a split holds 0 (none), 1 (train), 2 (validation) and 3 (test).")
    return parts


def _carries_split(run: Run, prepared: Path) -> bool:
    """Whether the split.tif of a prepared site holds the parts that a run asks for, of a model before a correction."""
    tags = _carried(prepared)
    # Folds are drawn together, and one of an earlier drawing would overlap the others.
    if tags is None or run.split.folds > 1 or run.split.kind == "all":
        return False
    guard = run.blocks.window if run.split.guard is None else run.split.guard
    try:
        drawn_by = SplitChoice.model_validate_json(tags[CHOICE])
    except ValueError:  # a version of landslip wrote it that knows other choices
        return False
    return drawn_by == run.split and (run.split.kind == "paper" or int(tags["guard"]) >= guard)


def _carried(prepared: Path) -> dict[str, str] | None:
    """The tags of a prepared site's split.tif, where it is of a model before a correction."""
    path = prepared / "split.tif"
    tags = read_info(path).tags if path.exists() else {}
    return tags if CARRIED in tags and CHOICE in tags and tags.get("guard", "").isdecimal() else None


def _lay_out(
    run: Run, prepared: Path, label: NDArray[np.uint8], valid: NDArray[np.bool_], earlier: Split | None
) -> tuple[Split, list[Window]]:
    """The split that a run asks for and its training windows.

    `earlier` is the split that was read from split.tif; without one it is drawn. Raises SplitError or LabelError where
    the windows cannot be trained on.
    """
    rng = np.random.default_rng(run.split.seed)
    windows = seeded_windows(label, valid, run.blocks, rng)
    if earlier is not None:
        split, windows = earlier, earlier.inside(windows, TRAIN)
    elif run.split.kind == "paper":
        split, windows = split_paper(windows, label.shape, rng)
    elif run.split.kind == "all":
        everywhere = from_windows(label.shape, np.uint8, lambda w: np.full((w.height, w.width), TRAIN, np.uint8))
        split = Split(kind="all", leaky=False, guard=0, parts=everywhere)
    else:
        split = split_apart(run.split, run.blocks.window, label, valid, rng)
        windows = split.inside(windows, TRAIN)
    if not windows:
        raise SplitError(
            f"no training window of {run.blocks.window} px fits into the training part. Use a smaller [blocks] window, "
            'a smaller [split] guard, more [blocks] seeds, or kind = "paper" (leaky).'
        )
    _require_both_classes(windows, label, valid, prepared)
    return split, windows


def _require_both_classes(
    windows: list[Window], label: NDArray[np.uint8], valid: NDArray[np.bool_], prepared: Path
) -> None:
    """Raise LabelError where the training windows hold one class alone."""
    union = union_of_windows(windows, label.shape)
    codes = {
        code for w in strips(label.shape) for code in np.unique(label[w.slices][union[w.slices] & valid[w.slices]])
    }
    for code, name in ((LANDSLIDE, "landslide"), (OTHER, "other ground")):
        if code not in codes:
            raise LabelError(
                f"{prepared / 'label.tif'}: the training windows hold no pixel of {name}, so there is nothing to tell "
                "apart. Use another [split] seed or region, or map more ground."
            )


def _what_works(
    run: Run,
    channels: int,
    prepared: Path,
    *,
    label: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    earlier: Split | None,
) -> str:
    """Smaller choices that a run which does not fit the site would train with, as the end of its error; "" for none.

    The first that leave ENOUGH_WINDOWS training windows, else those that leave the most. Larger windows and guards are
    tried before smaller ones. Nothing is changed for the user: other windows are another training.
    """
    began, best, advice, window = time.monotonic(), 0, "", run.blocks.window
    say("note: the run does not fit the site; looking for smaller windows, regions and guards that do")
    may_draw = earlier is None and run.split.kind == "apart"
    enough = ENOUGH_WINDOWS if may_draw else 1  # where parts are not drawn the largest window is best
    for choice in _smaller(run, may_draw):
        if best >= enough or time.monotonic() - began > LONGEST_LOOK:
            break
        if choice.blocks.window < window:
            window = choice.blocks.window
            try:
                require_window(choice, channels)
            except SplitError:
                break  # the network takes no smaller window either
        try:
            count = len(_lay_out(choice, prepared, label, valid, earlier)[1])
        except (SplitError, LabelError):
            continue
        if count > best:
            best = count
            advice = f" Of smaller ones, these work here: {_changes(run, choice)} ({count} training windows)."
    return advice


def _smaller(run: Run, may_draw: bool) -> Iterator[Run]:
    """Runs with smaller windows and, where parts are `drawn`, guards and regions; those nearest to the run first."""
    blocks, split = run.blocks, run.split
    for window in _halves(blocks.window):
        step = min(blocks.step, max(window // 2, 1))
        most = window if split.guard is None else min(split.guard, window)
        guards = (most, most // 2) if may_draw else (split.guard,)
        sizes = _halves(split.region) if may_draw and split.regions == "squares" else [split.region]
        for guard, region in product(guards, sizes):
            smaller_blocks = blocks.model_copy(update={"window": window, "step": step})
            smaller_split = split.model_copy(update={"guard": guard, "region": region})
            yield run.model_copy(update={"blocks": smaller_blocks, "split": smaller_split})


def _halves(size: int) -> list[int]:
    """A size in pixels, its half and so on, as far as a run file takes them."""
    return [size >> n for n in range(size.bit_length()) if size >> n >= SMALLEST_WINDOW]


def _changes(run: Run, choice: Run) -> str:
    """What a choice changes in the run file, as its keys and values."""
    tables = []
    for name in ("blocks", "split"):
        before, after = getattr(run, name), getattr(choice, name)
        keys = [key for key in type(after).model_fields if getattr(before, key) != getattr(after, key)]
        if keys:
            tables.append(f"[{name}] " + ", ".join(f"{key} = {getattr(after, key)}" for key in keys))
    return " and ".join(tables)
