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

from landslip import __version__
from landslip.ahead import ahead
from landslip.applicability import Applicability
from landslip.checkpoint import Model, match_channels
from landslip.compute import (
    CORE,
    Precision,
    device,
    disagreement,
    dropout_layers,
    halo_window,
    keep_memory,
    precision,
    probabilities,
    trim,
)
from landslip.errors import RunError
from landslip.grid import Grid, Window, require_same_grid, starts, tiles
from landslip.output import refuse_existing, refuse_input, write_text
from landslip.progress import say, track
from landslip.raster import PROBABILITY, creating, cut, opening, put, read_info, require_one_band
from landslip.stack import read_stack_info
from landslip.style import probability_style

Method = Literal["halo", "paper"]

NAN = np.float32(np.nan)
SEED = 0  # of the dropout samples; each core draws from it and its own place
UNCERTAINTY = ("dissimilarity index", "area of applicability", "disagreement")  # bands after the probability


@dataclass(frozen=True)
class Mapping:
    """What mapping made: the probability raster, valid pixels in it, windows run and skipped.

    `outside` counts the valid pixels outside the area of applicability; None where that was not asked, or not known.
    """

    path: Path
    valid_pixels: int
    windows: int
    skipped: int
    outside: int | None = None


@dataclass(frozen=True)
class Uncertainty:
    """What tells where not to trust a map: the training pixels' area of applicability, samples of dropout (0: none)."""

    area: Applicability
    samples: int = 8


def map_site(
    model: Model,
    stack_path: Path,
    out: Path,
    method: Method = "halo",
    precision_choice: str = "auto",
    valid_path: Path | None = None,
    overwrite: bool = False,
    uncertainty: Uncertainty | None = None,
) -> Mapping:
    """Map a whole stack into a float32 probability raster, NaN outside valid.

    `uncertainty` adds three bands: the dissimilarity index (0 or more), the area of applicability (1 inside, 0 outside)
    and the disagreement, the standard deviation of the probability over samples of dropout. A band that cannot be told
    (one block of training ground; a network without dropout; no samples) is NaN all over.

    valid.tif beside the stack says which pixels are valid; where there is none, those defined in every channel of the
    stack are. Raises ChannelError, with both lists, where the stack lacks a channel of the model or has it in another
    unit; RunError for uncertainty by the paper's method or from fewer than two samples.
    """
    refuse_existing(out, overwrite)
    if uncertainty is not None:
        _require_uncertainty(uncertainty, method)
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
        "network": str(model.facts["run"]["network"]["name"]),
        "landslip": __version__,
    }
    if model.temperature != 1:  # the weights alone no longer say what made the map
        tags["temperature"] = repr(model.temperature)
    names = [PROBABILITY]
    if uncertainty is not None:
        names += UNCERTAINTY
        tags |= {"applicability_threshold": repr(uncertainty.area.threshold), "samples": str(uncertainty.samples)}
        _say_what_is_unknown(model, uncertainty)
    with (
        opening(stack_path) as dataset,
        creating(
            out, stack.grid, "float32", names, float("nan"), tags, overwrite=overwrite, overviews="average"
        ) as target,
    ):
        source = _Source(dataset, model, positions, how, valid_path, uncertainty)
        outside = 0
        if method == "paper":
            valid, windows, skipped = _map_by_paper(source, stack.grid, target)
        else:
            valid, windows, skipped, outside = _map_by_halo(source, stack.grid, target)
    _style(out)
    known = uncertainty is not None and not np.isnan(uncertainty.area.threshold)
    return Mapping(out, valid, windows, skipped, outside if known else None)


def _style(out: Path) -> None:
    """How QGIS shows the raster; a style that somebody made for it stays."""
    path = out.with_suffix(".qml")
    if not path.exists():
        write_text(path, probability_style())


def _require_uncertainty(uncertainty: Uncertainty, method: Method) -> None:
    if method != "halo":
        raise RunError(f"--uncertainty goes with --method halo, where each pixel is computed once, not with {method}.")
    if uncertainty.samples < 2 and uncertainty.samples != 0:
        raise RunError(f"--samples {uncertainty.samples} cannot disagree: give 2 or more, or 0 to leave it undefined.")


def _say_what_is_unknown(model: Model, uncertainty: Uncertainty) -> None:
    if np.isnan(uncertainty.area.threshold):
        say(
            "warning: the training pixels lie in one block of ground, which does not tell how unlike other ground may "
            "be: the area of applicability is NaN all over."
        )
    if uncertainty.samples and not dropout_layers(model.network):
        say(
            f"warning: {model.facts['run']['network']['name']} was trained without dropout, so no samples can be drawn "
            "from it: the disagreement is NaN all over, which does not mean that it is sure."
        )


@dataclass(frozen=True)
class _Source:
    """An open stack with what it takes to turn a window of it into probabilities."""

    dataset: Any
    model: Model
    positions: list[int]
    precision: Precision
    valid_path: Path | None
    uncertainty: Uncertainty | None = None

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
        return probabilities(self.model.network, block, self.precision, self.model.temperature)

    def doubt(
        self, block: NDArray[np.float32], at: tuple[slice, slice], valid: NDArray[np.bool_], core: Window
    ) -> NDArray[np.float32]:
        """(3, h, w) bands of uncertainty of one block (1, C, ..) `at` the pixels to keep; `valid` is (h, w) of them."""
        assert self.uncertainty is not None
        out = np.full((len(UNCERTAINTY), *valid.shape), NAN, np.float32)
        area = self.uncertainty.area
        out[0, valid] = area.index(np.ascontiguousarray(block[0][:, at[0], at[1]][:, valid].T))
        out[1, valid] = area.inside(out[0, valid])
        seed = int(np.random.default_rng((SEED, core.row, core.column)).integers(2**62))
        samples, temperature = self.uncertainty.samples, self.model.temperature
        out[2] = disagreement(self.model.network, block, self.precision, samples, seed, temperature)[0][at]
        return out


def _map_by_halo(source: _Source, grid: Grid, target: Any) -> tuple[int, int, int, int]:
    cores = sorted(tiles(grid.shape, CORE), key=lambda core: -halo_window(core, grid.shape).area)

    def read(core: Window) -> tuple[NDArray[np.bool_], Window, NDArray[np.float32] | None]:
        valid = source.valid(core)
        kept = trim(core, valid) if valid.any() else core
        return valid, kept, source.block([halo_window(kept, grid.shape)]) if valid.any() else None

    total = skipped = outside = 0
    bands = 1 if source.uncertainty is None else 1 + len(UNCERTAINTY)
    with ThreadPoolExecutor(1) as files:
        for core, (valid, kept, block) in track(ahead(read, cores, files), len(cores), "map", "windows"):
            out = np.full((bands, *valid.shape), NAN, np.float32)
            if block is None:
                skipped += 1
            else:
                at, inside = kept.within(halo_window(kept, grid.shape)), kept.within(core)
                out[0, *inside] = source.probability(block)[0][at]
                if source.uncertainty is not None:
                    out[1:, *inside] = source.doubt(block, at, valid[inside], core)
                    outside += int(np.count_nonzero(out[2] == 0))
                out[:, ~valid] = NAN
                total += int(valid.sum())
            files.submit(put, target, out, core).result()
    return total, len(cores) - skipped, skipped, outside


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
