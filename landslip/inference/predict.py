"""What it takes to compute any tile of a map, here or elsewhere: a `Job` names it, a `TileReader` holds it open.

Method `halo` (default) reads a core with a halo around it and keeps the core: every pixel is computed once, with its
surroundings. Method `paper` (III.C) slides windows of the training size at half their step and averages the
probabilities.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import read_stack_info
from landslip.errors import ModelError, RasterError
from landslip.geo.grid import Window, starts
from landslip.geo.raster import file_facts, open_raster, read_around
from landslip.geo.tiling import Tile
from landslip.inference.engines import Engine, choose_engine
from landslip.metrics.applicability import Applicability
from landslip.models.forward import Precision, disagreement, kind_of_machine, scaled
from landslip.runtime.provenance import own_version
from landslip.training.checkpoint import Model, load_model, match_channels

Method = Literal["halo", "paper"]

NAN = np.float32(np.nan)
DROPOUT_SEED = 0  # of the dropout samples, with the place of each core, so that no two cores draw the same
BATCH = 16  # windows of the paper's method that the network sees at once
DOUBT = ("dissimilarity index", "area of applicability", "disagreement")  # bands after the probability


@dataclass(frozen=True)
class Uncertainty:
    """What tells where not to trust a map: the area of applicability, and how many samples of dropout (0: none)."""

    area: Applicability
    samples: int = 8


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a process needs to compute windows of a map: files by path, choices by value.

    `weights` is the SHA-256 of the model's weights.
    """

    model: Path
    weights: str
    stack: Path
    valid: Path | None
    method: Method
    engine: str
    precision: str
    uncertainty: Uncertainty | None = None

    @property
    def bands(self) -> int:
        """Bands of the map: the probability, and three more with uncertainty."""
        return 1 if self.uncertainty is None else 1 + len(DOUBT)


@dataclass(frozen=True, kw_only=True)
class TileReader:
    """A job's model, engine and open files."""

    job: Job
    model: Model
    engine: Engine
    stack: Any
    valid: Any
    bands: list[int]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the stack."""
        return self.stack.height, self.stack.width


@dataclass(frozen=True)
class TileInput:
    """What was read for a task: the (h, w) valid pixels of its core, and what is stored damaged, in words.

    `values` are the standardised channels (C, rows, columns) at `window`, None where no pixel of the core is valid.
    """

    valid: NDArray[np.bool_]
    window: Window
    values: NDArray[np.float32] | None
    damaged: list[str]


# What decides every byte of a window besides its place; `model.json` is a hash of what of it counts.
JobFacts = TypedDict(
    "JobFacts",
    {
        "weights": str,
        "model.json": str,
        "processor": str,
        "stack": list[object],
        "valid": list[object] | None,
        "method": Method,
        "engine": str,
        "precision": str,
        "threads": int,
        "landslip": str,
    },
)


def job_facts(job: Job, model: Model, engine: Engine) -> JobFacts:
    """What all processes that compute a map must agree in, so that they give the same bytes."""
    run = model.facts["run"]
    described = [[asdict(c) for c in model.channels], model.zscore.mean.tolist(), model.zscore.std.tolist()]
    described += [run["network"], run["blocks"]["window"], *model.scaling]
    return {
        "weights": job.weights,
        "model.json": hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12],
        "processor": kind_of_machine(),
        "stack": file_facts(job.stack),
        "valid": None if job.valid is None else file_facts(job.valid),
        "method": job.method,
        "engine": f"{engine.name} {engine.version}",
        "precision": engine.precision,
        "threads": engine.threads,
        "landslip": own_version(),
    }


@contextmanager
def open_reader(job: Job, model: Model | None = None, engine: Engine | None = None) -> Iterator[TileReader]:
    """Open what a job names; a model and an engine that are at hand are used as they are.

    Raises ModelError where the model has other weights than the job, ChannelError where the stack does not match it.
    """
    model = model or load_model(job.model)
    if model.facts["weights_sha256"] != job.weights:
        raise ModelError(
            f"{job.model} holds other weights here (SHA-256 {str(model.facts['weights_sha256'])[:12]}) than where the "
            f"map was asked for ({job.weights[:12]}). All machines must see the same files."
        )
    positions = match_channels(model, read_stack_info(job.stack))
    with ExitStack() as open_files:
        stack = open_files.enter_context(open_raster(job.stack))
        valid = None if job.valid is None else open_files.enter_context(open_raster(job.valid))
        engine = engine or choose_engine(model, job.engine, job.precision)
        yield TileReader(
            job=job,
            model=model,
            engine=engine,
            stack=stack,
            valid=valid,
            bands=[position + 1 for position in positions],
        )


def read_tile(source: TileReader, task: Tile) -> TileInput:
    """Read a task's pixels; what is stored damaged is undefined, and named."""
    window = task.read if source.job.method == "halo" else _paper_extent(source, task.core)
    if source.valid is None:
        values, damaged = read_around(source.stack, task.core)
        valid = np.asarray(~np.isnan(values).any(axis=0))
        named = [_where(source.job.stack, part) for part in damaged]
    else:
        values, damaged = read_around(source.valid, task.core)
        valid = np.asarray(values[0] == 1)
        named = [_where(source.job.valid, part) for part in damaged]
    if not valid.any():
        return TileInput(valid, window, None, named)
    raw, damaged = read_around(source.stack, window, source.bands)
    for part in damaged:
        valid[part.intersect(task.core).within(task.core)] = False
        named.append(_where(source.job.stack, part))
    valid &= ~np.isnan(raw[(slice(None), *task.core.within(window))]).any(axis=0)
    return TileInput(valid, window, source.model.zscore.apply(raw), list(dict.fromkeys(named)))


def require_whole(read: TileInput) -> None:
    """Raise RasterError where something of what was read is damaged."""
    if read.damaged:
        raise RasterError(
            f"{read.damaged[0]} cannot be read. Fetch or make it again; without --strict it is left undefined."
        )


def predict_tile(source: TileReader, task: Tile, read: TileInput) -> NDArray[np.float32]:
    """The map's bands at a task's core, (bands, h, w), NaN where not valid.

    Raises ModelError where the network gives no number on valid ground.
    """
    out = np.full((source.job.bands, *read.valid.shape), NAN, np.float32)
    if read.values is None:
        return out
    if source.job.method == "paper":
        out[0] = _mean_of_windows(source, task.core, read)
    else:
        at = task.core.within(read.window)
        block = read.values[None]
        out[0] = scaled(source.engine.logits(block)[0][at], source.model.scaling)
        if source.job.uncertainty is not None:
            out[1:] = _doubt(source, source.job.uncertainty, block, at=at, valid=read.valid, core=task.core)
    out[:, ~read.valid] = NAN
    if not np.isfinite(out[0][read.valid]).all():
        raise ModelError(
            f"{source.job.model} gives no probability (NaN) on valid ground at row {task.core.row}, column "
            f"{task.core.column}, in {source.engine.precision}. Map in fp32, or train the model again."
        )
    return out


def _where(path: Path | None, part: Window) -> str:
    """A part of a file, in words."""
    rows, columns = part.slices
    return f"{path}: rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1}"


def _doubt(
    source: TileReader,
    uncertainty: Uncertainty,
    block: NDArray[np.float32],
    *,
    at: tuple[slice, slice],
    valid: NDArray[np.bool_],
    core: Window,
) -> NDArray[np.float32]:
    """(3, h, w) bands of uncertainty of a core.

    `block` (1, C, rows, columns) is what the network sees, in which the core lies `at`; `valid` is (h, w) of the core.
    """
    out = np.full((len(DOUBT), *valid.shape), NAN, np.float32)
    if valid.any():
        out[0, valid] = uncertainty.area.index(np.ascontiguousarray(block[0][:, at[0], at[1]][:, valid].T))
        out[1, valid] = uncertainty.area.inside(out[0, valid])
    seed = int(np.random.default_rng((DROPOUT_SEED, core.row, core.column)).integers(2**62))
    arithmetic: Precision = "bf16" if source.engine.precision == "bf16" else "fp32"
    model = source.model
    out[2] = disagreement(
        model.network, block, arithmetic, samples=uncertainty.samples, seed=seed, scaling=model.scaling
    )[0][at]
    return out


def _paper_extent(source: TileReader, core: Window) -> Window:
    """What the paper's windows of a core cover, with what poolings need beyond it."""
    size, windows = _paper_windows(source, core)
    first, last, side = windows[0], windows[-1], size + -size % source.model.multiple
    return Window(first.row, first.column, last.row - first.row + side, last.column - first.column + side)


def _mean_of_windows(source: TileReader, core: Window, read: TileInput) -> NDArray[np.float32]:
    """(h, w) mean of the probabilities of the paper's windows that hold valid pixels of a core; NaN where none does."""
    assert read.values is not None
    size, windows = _paper_windows(source, core)
    parts = [window.intersect(core) for window in windows]
    pairs = [(w, part) for w, part in zip(windows, parts, strict=True) if read.valid[part.within(core)].any()]
    sums, counts = np.zeros(read.valid.shape), np.zeros(read.valid.shape, np.int32)
    side = size + -size % source.model.multiple
    # The last batch is filled up with what the one before held, since the engine is compiled for one shape.
    batch = np.zeros((BATCH, len(source.bands), side, side), np.float32)
    for first in range(0, len(pairs), BATCH):
        in_batch = pairs[first : first + BATCH]
        for block, (window, _) in zip(batch, in_batch, strict=False):
            rows, columns = Window(window.row, window.column, side, side).within(read.window)
            block[:] = read.values[:, rows, columns]
        probabilities = scaled(source.engine.logits(batch), source.model.scaling)
        for p, (window, part) in zip(probabilities, in_batch, strict=False):
            sums[part.within(core)] += p[part.within(window)]
            counts[part.within(core)] += 1
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts, np.float32)


def _paper_windows(source: TileReader, core: Window) -> tuple[int, list[Window]]:
    """The paper's windows that reach into a core, and their side in pixels."""
    size = int(source.model.facts["run"]["blocks"]["window"])
    rows, columns = (
        [at for at in starts(length, size, size // 2) if first - size < at < first + extent]
        for length, first, extent in zip(source.shape, (core.row, core.column), (core.height, core.width), strict=True)
    )
    return size, [Window(row, column, size, size) for row in rows for column in columns]
