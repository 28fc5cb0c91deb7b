"""`landslip map`: a stack becomes a probability raster, window by window.

Method `halo` (default) cuts the raster into cores that tile it, reads each with a halo around it, and keeps the core:
every pixel is computed once, with its surroundings. Method `paper` (III.C) slides windows of the training size at half
their step from top left to bottom right and averages the probabilities. Both cover every edge pixel, skip windows
without a valid pixel, and hold no more than a window (`halo`) or a row of windows (`paper`) in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from landslip.ahead import ahead
from landslip.checkpoint import Model
from landslip.compute import CORE, Precision, device, halo_window, keep_memory, precision, probabilities, trim
from landslip.errors import ChannelError
from landslip.grid import Grid, Window, require_same_grid, starts, tiles
from landslip.output import refuse_existing, refuse_input
from landslip.progress import track
from landslip.raster import creating, cut, opening, put, read_info, require_one_band
from landslip.stack import Channel, StackInfo, read_stack_info

Method = Literal["halo", "paper"]

NAN = np.float32(np.nan)


@dataclass(frozen=True)
class Mapping:
    """What mapping made: the probability raster, valid pixels in it, windows run and skipped."""

    path: Path
    valid_pixels: int
    windows: int
    skipped: int


def map_site(
    model: Model,
    stack_path: Path,
    out: Path,
    method: Method = "halo",
    precision_choice: str = "auto",
    valid_path: Path | None = None,
    overwrite: bool = False,
) -> Mapping:
    """Map a whole stack into a float32 probability raster, NaN outside valid.

    valid.tif beside the stack says which pixels are valid; where there is none, those defined in every channel of the
    stack are. Raises ChannelError, with both lists, where the stack lacks a channel of the model or has it in another
    unit.
    """
    refuse_existing(out, overwrite)
    stack = read_stack_info(stack_path)
    positions = match_channels(model, stack)
    valid_path = valid_path or (stack.valid_path if stack.valid_path.exists() else None)
    refuse_input(out, [stack_path, valid_path or stack.valid_path])
    if valid_path is not None:
        info = read_info(valid_path)
        require_one_band(info, "valid")
        require_same_grid(stack.grid, str(stack_path), info.grid, str(valid_path))
    how = precision(precision_choice)
    keep_memory()
    model.network.to(device()).eval()
    tags = {
        "threshold": repr(model.threshold),
        "model_sha256": str(model.facts["weights_sha256"]),
        "method": method,
        "precision": how,
    }
    with (
        opening(stack_path) as dataset,
        creating(
            out, stack.grid, "float32", ["landslide probability"], float("nan"), tags, overwrite=overwrite
        ) as target,
    ):
        source = _Source(dataset, model, positions, how, valid_path)
        run = _map_by_halo if method == "halo" else _map_by_paper
        valid, windows, skipped = run(source, stack.grid, target)
    return Mapping(out, valid, windows, skipped)


def match_channels(model: Model, stack: StackInfo) -> list[int]:
    """Where each of the model's channels is in a stack; ChannelError where they do not match."""
    return find_channels(model.channels, f"the model {model.folder}", stack)


def find_channels(channels: Sequence[Channel], trained: str, stack: StackInfo) -> list[int]:
    """Where each of the channels that `trained`, a model in words, takes is in a stack; ChannelError as above."""
    names = [channel.name for channel in stack.channels]
    wanted = [channel.name for channel in channels]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ChannelError(
            f"{stack.path} lacks {', '.join(missing)}: {trained} was trained on {', '.join(wanted)}; "
            f"the stack has {', '.join(names)}. Prepare the site with these channels, or use another model."
        )
    positions = [names.index(name) for name in wanted]
    for channel, position in zip(channels, positions, strict=True):
        found = stack.channels[position]
        if found.unit and channel.unit and found.unit != channel.unit:
            raise ChannelError(
                f"{stack.path}: channel {channel.name} is in {found.unit}, and {trained} was trained on "
                f"{channel.unit}. Prepare the site in the model's unit."
            )
    return positions


@dataclass(frozen=True)
class _Source:
    """An open stack with what it takes to turn a window of it into probabilities."""

    dataset: Any
    model: Model
    positions: list[int]
    precision: Precision
    valid_path: Path | None

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """(h, w) bool at a window inside the raster."""
        if self.valid_path is None:
            return np.asarray(~np.isnan(cut(self.dataset, window)).any(axis=0))
        with opening(self.valid_path) as dataset:
            return np.asarray(cut(dataset, window)[0] == 1)

    def block(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """(B, C, h, w) standardised at windows of one size, rounded up to the poolings; beyond the edge 0, the mean."""
        bands = [position + 1 for position in self.positions]
        grown = [window.round_up(self.model.multiple) for window in windows]
        return np.stack([self.model.zscore.apply(cut(self.dataset, window, bands)) for window in grown])

    def probability(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, h, w) of what `block` gave."""
        return probabilities(self.model.network, block, self.precision)


def _map_by_halo(source: _Source, grid: Grid, target: Any) -> tuple[int, int, int]:
    cores = list(tiles(grid.shape, CORE))

    def read(core: Window) -> tuple[NDArray[np.bool_], Window, NDArray[np.float32] | None]:
        valid = source.valid(core)
        kept = trim(core, valid) if valid.any() else core
        return valid, kept, source.block([halo_window(kept, grid.shape)]) if valid.any() else None

    total = skipped = 0
    with ThreadPoolExecutor(1) as files:
        for core, (valid, kept, block) in track(ahead(read, cores, files), len(cores), "map", "windows"):
            out = np.full(valid.shape, NAN, np.float32)
            if block is None:
                skipped += 1
            else:
                p = source.probability(block)[0][kept.within(halo_window(kept, grid.shape))]
                inside = kept.within(core)
                out[inside] = np.where(valid[inside], p, NAN)
                total += int(valid.sum())
            files.submit(put, target, out[None], core).result()
    return total, len(cores) - skipped, skipped


def _map_by_paper(source: _Source, grid: Grid, target: Any) -> tuple[int, int, int]:
    size = int(source.model.facts["run"]["blocks"]["window"])
    step = size // 2
    rows, columns = starts(grid.height, size, step), starts(grid.width, size, step)

    def read(windows: Sequence[Window]) -> tuple[list[Window], NDArray[np.float32] | None]:
        held = [w for w in windows if source.valid(w.clip(grid.shape)).any()]
        return held, source.block(held) if held else None

    total = skipped = ran = 0
    sums = np.zeros((size, grid.width))
    counts = np.zeros((size, grid.width), np.int32)
    with ThreadPoolExecutor(1) as files:
        for i, row in enumerate(track(rows, len(rows), "map", "rows of windows")):
            batches = [[Window(row, column, size, size) for column in batch] for batch in _batches(columns)]
            for windows, (held, block) in ahead(read, batches, files):
                skipped += len(windows) - len(held)
                ran += len(held)
                for window, p in zip(held, source.probability(block) if block is not None else (), strict=True):
                    inside = window.clip(grid.shape)
                    rows_here, columns_here = inside.within(window)
                    at = slice(window.column, window.column + inside.width)
                    sums[: inside.height, at] += p[rows_here, columns_here]
                    counts[: inside.height, at] += 1
            done = (rows[i + 1] if i + 1 < len(rows) else grid.height) - row
            strip = Window(row, 0, done, grid.width)
            valid = files.submit(source.valid, strip).result()
            with np.errstate(invalid="ignore"):
                mean = (sums[:done] / counts[:done]).astype(np.float32)
            files.submit(put, target, np.where(valid, mean, NAN)[None], strip).result()
            total += int(valid.sum())
            sums = np.vstack([sums[done:], np.zeros((done, grid.width))])
            counts = np.vstack([counts[done:], np.zeros((done, grid.width), np.int32)])
    return total, ran, skipped


def _batches(columns: list[int], size: int = 16) -> Iterator[list[int]]:
    for i in range(0, len(columns), size):
        yield columns[i : i + size]
