"""A sample of a prepared site, and its rasters window by window."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import StackInfo, read_stack_info
from landslip.dataset.label import LANDSLIDE, OTHER, UNKNOWN, known_label
from landslip.errors import ChannelError, LabelError, RasterError
from landslip.geo.grid import Grid, Window, require_same_grid, tiles
from landslip.geo.raster import open_raster, read_info, read_stored_window, read_window, require_one_band
from landslip.runtime.progress import track

SAMPLING_SIDE = 1024  # pixels per side of what is held in memory at a time
FACTOR_SAMPLE = 10_000  # pixels that natural breaks are exact on
SPATIAL_BLOCK = 128  # pixels per side of a spatial block, as of a split's region


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Pixels drawn from the valid ones of known label.

    `values` are (N, C), NaN where undefined; `label`, `row` and `column` are (N,). The pixels were drawn from `pixels`
    pixels, of which `landslides` are landslide.
    """

    values: NDArray[np.float32]
    label: NDArray[np.uint8]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    pixels: int
    landslides: int


@dataclass(frozen=True)
class PreparedRasters:
    """A prepared folder's open rasters."""

    stack: Any
    valid: Any
    label: Any

    def known(self, window: Window) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        """(h, w) bool, valid and of known label, and (h, w) labels, at a window inside the raster."""
        label = known_label(read_stored_window(self.label, window), self.label.name)
        return (read_stored_window(self.valid, window) == 1) & (label != UNKNOWN), label

    def values(self, window: Window, positions: Sequence[int]) -> NDArray[np.float32]:
        """(C, h, w) of the stack's channels at `positions`, NaN where undefined."""
        return read_window(self.stack, window, [position + 1 for position in positions])


def read_prepared_info(prepared: Path) -> StackInfo:
    """A prepared folder's stack; RasterError where it is none, GridError where its rasters lie on several grids."""
    for name in ("stack.tif", "valid.tif", "label.tif"):
        if not (prepared / name).exists():
            raise RasterError(
                f"{prepared / name} does not exist: {prepared} is not a prepared site. Make it with `landslip prepare`."
            )
    stack = read_stack_info(prepared / "stack.tif")
    for name in ("valid.tif", "label.tif"):
        info = read_info(prepared / name)
        require_one_band(info, name.removesuffix(".tif"))
        require_same_grid(stack.grid, str(stack.path), info.grid, str(info.path))
    return stack


def choose_factors(stack: StackInfo, names: Sequence[str]) -> list[str]:
    """The factors named, or all factors of a stack; ChannelError for an unknown one, and where there is none."""
    known = list(dict.fromkeys(channel.factor for channel in stack.channels))
    factors = list(dict.fromkeys(channel.factor for channel in stack.channels if channel.group == "factor"))
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}? " if nearest else ""
            raise ChannelError(f"{stack.path} has no factor {name!r}: {hint}it has {', '.join(known)}.")
    if not names and not factors:
        raise ChannelError(
            f"{stack.path} has no factor, only bands: {', '.join(known)}. Prepare the site with a [dem] or a "
            "[[factor]], or name bands with --factor where the command takes it."
        )
    return list(dict.fromkeys(names)) or factors


def positions_of(stack: StackInfo, factor: str) -> tuple[int, ...]:
    """Positions of a factor's channels in a stack."""
    return tuple(i for i, channel in enumerate(stack.channels) if channel.factor == factor)


@contextmanager
def open_prepared(stack: StackInfo) -> Iterator[PreparedRasters]:
    """The stack, valid and label rasters of a prepared folder, open together."""
    with ExitStack() as files:
        paths = (stack.path, stack.valid_path, stack.path.with_name("label.tif"))
        yield PreparedRasters(*(files.enter_context(open_raster(path)) for path in paths))


def draw_sample(stack: StackInfo, wanted: int, seed: int, balanced: bool = False) -> Sample:
    """Draw `wanted` valid pixels of known label at random, or all there are.

    `balanced`: half of them landslide and half not, or all of a class that has fewer. Raises LabelError where the
    valid ground holds one class only.
    """
    rng = np.random.default_rng(seed)
    windows = list(tiles(stack.grid.shape, SAMPLING_SIDE))
    with open_prepared(stack) as rasters:
        counts = np.zeros((len(windows), 2), np.int64)  # Of other ground and of landslide.
        for i, window in enumerate(windows):
            known, label = rasters.known(window)
            landslides = int(np.count_nonzero(known & (label == LANDSLIDE)))
            counts[i] = np.count_nonzero(known) - landslides, landslides
        _require_both(counts.sum(0), stack.path.with_name("label.tif"))
        strata = counts.T if balanced else counts.sum(1)[None]  # (strata, windows)
        ranks = [_ranks(rng, int(pixels.sum()), wanted // len(strata)) for pixels in strata]
        parts = []
        for i, window in enumerate(track(windows, len(windows), "sample", "window")):
            chosen = [
                ranks[s][slice(*np.searchsorted(ranks[s], (before, before + int(strata[s, i]))))] - before
                for s, before in enumerate(strata[:, :i].sum(1).tolist())
            ]
            if any(part.size for part in chosen):
                known, label = rasters.known(window)
                places = [np.flatnonzero(known & (label == code)) for code in (OTHER, LANDSLIDE)]
                places = places if balanced else [np.flatnonzero(known)]
                at = np.concatenate([place[part] for place, part in zip(places, chosen, strict=True)])
                row, column = np.divmod(at, window.width)
                values = rasters.values(window, range(len(stack.channels)))[:, row, column].T
                parts.append((values, label[row, column], row + window.row, column + window.column))
    values, labels, rows, columns = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Sample(
        values=values,
        label=labels,
        row=rows,
        column=columns,
        pixels=int(counts.sum()),
        landslides=int(counts[:, 1].sum()),
    )


def block_of(sample: Sample, grid: Grid, block: int) -> NDArray[np.int64]:
    """(N,) number of the spatial block that each pixel of a sample lies in."""
    return np.asarray(sample.row // block * -(-grid.width // block) + sample.column // block)


def _ranks(rng: np.random.Generator, total: int, most: int) -> NDArray[np.int64]:
    """At most so many numbers below a total, drawn at random, in order."""
    return np.arange(total) if total <= most else np.sort(rng.choice(total, most, replace=False))


def _require_both(counts: NDArray[np.int64], label: Path) -> None:
    """Raise LabelError where the ground, counted as other ground and landslide, is of one class alone."""
    other, landslides = (int(pixels) for pixels in counts)
    if not other or not landslides:
        raise LabelError(
            f"{label}: the valid ground holds {landslides:,} pixels of landslide and {other:,} of other ground, and "
            "what a factor says of landslides takes both. Map more ground, or check the outline."
        )
