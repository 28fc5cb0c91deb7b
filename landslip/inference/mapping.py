"""`landslip map`: a stack becomes a probability raster, window by window.

Windows are planned once (`tiling.py`), an engine computes them (`engines.py`, `predict.py`), here or on a cluster
(`cluster.py`), and each is kept when it is finished (`tile_store.py`): a killed run goes on, and no more than a window
is held in memory. When all are there the raster is put together, written aside and renamed.
"""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import StackInfo, read_stack_info
from landslip.errors import RasterError, RunError
from landslip.geo.geotiff import create_raster, require_geotiff_name, write_window
from landslip.geo.grid import Grid, require_same_grid
from landslip.geo.raster import PROBABILITY, exists, read, read_info, require_one_band
from landslip.geo.tiling import HALO, Tiling, cell_size, needed_cells, plan_tiles, smallest
from landslip.inference.cluster import engine_of_workers, run_on_cluster, workers_here
from landslip.inference.engines import Engine, bytes_of_a_pixel, choose_engine, most_pixels, require_memory
from landslip.inference.predict import (
    DOUBT,
    Job,
    Method,
    Uncertainty,
    job_facts,
    open_reader,
    predict_tile,
    read_tile,
    require_whole,
)
from landslip.inference.tile_store import TileStore, open_tile_store, refuse_existing_map
from landslip.models.ensemble import Ensemble
from landslip.models.forward import dropout_layers
from landslip.models.scaling import AS_LEARNT
from landslip.plots.qgis_style import probability_style
from landslip.runtime.atomic import refuse_existing, refuse_input
from landslip.runtime.disk import require_space
from landslip.runtime.prefetch import prefetch
from landslip.runtime.progress import forecasting, plural, say, track
from landslip.runtime.provenance import own_version
from landslip.runtime.text import write_text
from landslip.training.checkpoint import Model, match_channels
from landslip.training.domain_check import require_similar_ground

NAMED_PARTS = 20  # damaged parts that a map's tag names
PAPER_CORE = 512  # pixels a side of what the paper's method computes at once


@dataclass(frozen=True, kw_only=True)
class MapResult:
    """What mapping made: the probability raster, valid pixels in it, windows run, the share of the raster skipped.

    `damaged` lists what of the inputs could not be read and is undefined in the map. `outside` counts the valid pixels
    outside the area of applicability; None where that was not asked, or not known. `warnings` say what makes the ground
    unlike that the model was trained on, as the map's tags do.
    """

    path: Path
    valid_pixels: int
    windows: int
    skipped: float
    damaged: tuple[str, ...] = ()
    outside: int | None = None
    warnings: tuple[str, ...] = ()


def map_site(
    model: Model,
    stack_path: Path | str,
    out: Path | str,
    *,
    method: Method = "halo",
    precision_choice: str = "auto",
    valid_path: Path | None = None,
    overwrite: bool = False,
    uncertainty: Uncertainty | None = None,
    engine_choice: str = "auto",
    memory: float | None = None,
    strict: bool = False,
    cluster: str | None = None,
    accept_range: bool = False,
) -> MapResult:
    """Map a whole stack into a float32 probability raster, NaN outside valid; go on where a killed run stopped.

    `uncertainty` adds three bands: the dissimilarity index (0 or more), the area of applicability (1 inside, 0 outside)
    and the disagreement, the standard deviation of the probability over samples of dropout. A band that cannot be told
    (one block of training ground; a network without dropout; no samples) is NaN all over. `memory` is a ceiling in
    bytes (of one worker, with `cluster`), which sets the size of the windows. What is stored damaged is undefined in
    the map and named in the result; with `strict` it is a RasterError. `cluster` has the windows computed by the
    workers of a running Dask scheduler (tcp://host:port), or by so many processes on this machine (4, local:4).

    valid.tif beside the stack says which pixels are valid; where there is none, those defined in all its channels are.
    What makes the ground unlike that of the training is a warning, which the map's tags and the result hold; where
    that is a band or an index, a ChannelError unless `accept_range` (see `domain_check.py`). Raises ChannelError where
    the stack lacks a channel of the model or has it in another unit; RunError for uncertainty by the paper's method or
    from fewer than two samples, and for too little memory; ResumeError where a killed run of other inputs left windows.
    """
    stack_path, out = Path(stack_path), Path(out)
    refuse_existing_map(out, overwrite)
    require_geotiff_name(out)
    if uncertainty is not None:
        _require_uncertainty(uncertainty, method)
    stack = read_stack_info(stack_path)
    match_channels(model, stack)
    valid_path = _valid_of(stack, valid_path, out)
    needed = needed_cells(valid_path, stack.grid.shape, cell_size(model.multiple))
    warnings = _warn(model, stack, valid_path, needed=needed, uncertainty=uncertainty, accept_range=accept_range)
    engine = _engine(model, engine_choice, precision_choice, needed=needed, cluster=cluster)
    if uncertainty is not None:
        _say_what_is_unknown(model, uncertainty)
    job = _job(model, stack_path, valid_path, method=method, engine=engine, uncertainty=uncertainty)
    plan = _plan(job, model, stack.grid, needed=needed, memory=memory, cluster=cluster)
    order = _Order(job=job, plan=plan, grid=stack.grid, model=model, engine=engine, out=out)
    done = _carry_out(order, cluster=cluster, warnings=warnings, strict=strict, overwrite=overwrite)
    return replace(done, warnings=tuple(warnings.values()))


@dataclass(frozen=True, kw_only=True)
class _Order:
    """A map that is to be made: of which files, in which windows, on which grid, with what, and where it goes."""

    job: Job
    plan: Tiling
    grid: Grid
    model: Model
    engine: Engine
    out: Path


# ---- before any window is computed ----


def _require_uncertainty(uncertainty: Uncertainty, method: Method) -> None:
    """Raise RunError for uncertainty that cannot be told."""
    if method != "halo":
        raise RunError(f"--uncertainty goes with --method halo, where each pixel is computed once, not with {method}.")
    if uncertainty.samples < 2 and uncertainty.samples != 0:
        raise RunError(f"--samples {uncertainty.samples} cannot disagree: give 2 or more, or 0 to leave it undefined.")


def _valid_of(stack: StackInfo, valid_path: Path | None, out: Path) -> Path | None:
    """The valid raster of a stack, as it was given or beside the stack; None where there is none.

    Raises OutputError where the map `out` would replace what it is made of, GridError where that raster lies on another
    grid.
    """
    valid_path = valid_path or (stack.valid_path if exists(stack.valid_path) else None)
    refuse_input(out, [stack.path, valid_path or stack.valid_path])
    if valid_path is not None:
        info = read_info(valid_path)
        require_one_band(info, "valid")
        require_same_grid(stack.grid, str(stack.path), info.grid, str(valid_path))
    return valid_path


def _warn(
    model: Model,
    stack: StackInfo,
    valid_path: Path | None,
    *,
    needed: NDArray[np.bool_],
    uncertainty: Uncertainty | None,
    accept_range: bool,
) -> dict[str, str]:
    """Say what makes the ground unlike that of the training; returns these warnings by tag."""
    area = None if uncertainty is None else uncertainty.area
    cell = cell_size(model.multiple)
    warnings = require_similar_ground(
        model, stack, valid_path, needed=needed, cell=cell, accept_range=accept_range, area=area
    )
    for text in warnings.values():
        say(f"warning: {stack.path}: {text}.")
    return warnings


def _engine(
    model: Model, engine_choice: str, precision_choice: str, *, needed: NDArray[np.bool_], cluster: str | None
) -> Engine:
    """What computes the network, here or on the workers of a cluster."""
    if cluster is not None:
        return engine_of_workers(cluster, model, engine_choice, precision_choice)
    return choose_engine(model, engine_choice, precision_choice, int(needed.sum()) * cell_size(model.multiple) ** 2)


def _say_what_is_unknown(model: Model, uncertainty: Uncertainty) -> None:
    """Warn of bands of uncertainty that will be NaN all over."""
    if np.isnan(uncertainty.area.threshold):
        say(
            "warning: the training pixels lie in one block of ground, which does not tell how unlike other ground may "
            "be: the area of applicability is NaN all over."
        )
    if uncertainty.samples and not isinstance(model.network, Ensemble) and not dropout_layers(model.network):
        say(
            f"warning: {model.network_name} was trained without dropout, so no samples can be drawn "
            "from it: the disagreement is NaN all over, which does not mean that it is sure."
        )


def _job(
    model: Model,
    stack_path: Path,
    valid_path: Path | None,
    *,
    method: Method,
    engine: Engine,
    uncertainty: Uncertainty | None,
) -> Job:
    """What a process that computes windows of the map has to know."""
    return Job(
        model=model.folder,
        weights=str(model.facts["weights_sha256"]),
        stack=stack_path,
        valid=valid_path,
        method=method,
        engine=engine.name,
        precision=engine.precision,
        uncertainty=uncertainty,
    )


def _plan(
    job: Job, model: Model, grid: Grid, *, needed: NDArray[np.bool_], memory: float | None, cluster: str | None
) -> Tiling:
    """The windows that cover the `needed` cells (rows, columns), as large as the memory allows.

    Raises RunError where there is too little memory for the smallest.
    """
    # Dropout is PyTorch's, whichever engine gives the probability.
    heaviest = "torch" if job.uncertainty and job.uncertainty.samples else job.engine
    of_a_pixel = bytes_of_a_pixel(model, heaviest)
    most = most_pixels(heaviest, of_a_pixel, memory, smallest(grid.shape, model.multiple))
    if job.method == "paper":
        most = min(most, (PAPER_CORE + 2 * HALO) ** 2)
    plan = plan_tiles(grid.shape, needed, model.multiple, most)
    processes = 1 if cluster is None else workers_here(cluster)
    require_memory(heaviest, of_a_pixel, math.prod(plan.read), min(processes, len(plan.tasks)))
    return plan


# ---- the windows and the map ----


def _carry_out(
    order: _Order, *, cluster: str | None, warnings: dict[str, str], strict: bool, overwrite: bool
) -> MapResult:
    """Compute the windows that no earlier run has finished, and put the map together."""
    with open_tile_store(order.out, _facts(order), overwrite) as store:
        left = store.left([(order.job.bands, task.core.height, task.core.width) for task in order.plan.tasks])
        overwrite = overwrite or (not left and _is_made(order, store))
        refuse_existing(order.out, overwrite)
        _forecast(order, left)
        if cluster is None:
            _run_here(order, left, store, strict)
        else:
            run_on_cluster(order.job, order.plan, left, store=store, address=cluster, strict=strict)
        done = _assemble(order, store, _tags(order) | warnings, overwrite)
        _style(order.out)
        store.remove()
    return done


def _facts(order: _Order) -> dict[str, object]:
    """What decides every byte of a map: a killed run is gone on with where all of it is the same."""
    plan, uncertainty = order.plan, order.job.uncertainty
    facts: dict[str, object] = {
        **job_facts(order.job, order.model, order.engine),
        "windows": [len(plan.tasks), *plan.read],
    }
    if uncertainty is not None:
        facts["uncertainty"] = [
            uncertainty.samples,
            repr(uncertainty.area.threshold),
            repr(uncertainty.area.mean_distance),
        ]
    return facts


def _is_made(order: _Order, store: TileStore) -> bool:
    """Whether the map of these finished windows has its name already: a kill came after it had got it."""
    if not exists(order.out):
        return False
    info = read_info(order.out)
    return (info.grid.shape, info.count) == (order.plan.shape, order.job.bands) and all(
        np.array_equal(read(order.out, window=task.core), store.load(i), equal_nan=True)
        for i, task in enumerate(order.plan.tasks)
    )


def _forecast(order: _Order, left: list[int]) -> None:
    """Say what is to be done, and refuse before the work what the disk has no room for."""
    plan, bands = order.plan, order.job.bands
    pixels = math.prod(plan.shape)
    # Windows lie there as they are computed, then the raster as it is and with its overviews, which compress little.
    disk = (sum(plan.tasks[i].core.area for i in left) * bands + pixels * bands * (1 + 4 / 3)) * 4
    require_space(order.out, disk)
    rows, columns = plan.read
    size = f"{pixels / 1e6:.1f} megapixels" if pixels >= 1e5 else plural(pixels, "pixel")
    finished = len(plan.tasks) - len(left)
    of = f", {finished} of them finished by an earlier run" if finished else ""
    say(
        f"map: {size} in {plural(len(plan.tasks), 'window')} of {rows} x {columns}{of}, {100 * plan.skipped:.0f} % "
        f"skipped; {order.job.engine} in {order.job.precision}; up to {math.ceil(disk / 2**20):,} MiB of disk"
    )


def _run_here(order: _Order, left: list[int], store: TileStore, strict: bool) -> None:
    """Compute the windows `left` one after another; meanwhile a thread reads the next and keeps the one before."""
    with open_reader(order.job, order.model, order.engine) as source, ThreadPoolExecutor(1) as files:
        storing: Future[None] | None = None
        reads = prefetch(lambda i: read_tile(source, order.plan.tasks[i]), left, files)
        for i, read in forecasting(track(reads, len(left), "map", "window"), len(left), "map", "window"):
            if strict:
                require_whole(read)
            values = predict_tile(source, order.plan.tasks[i], read)
            if storing is not None:
                storing.result()
            storing = files.submit(store.keep, i, values, read.damaged)
        if storing is not None:
            storing.result()


def _assemble(order: _Order, store: TileStore, tags: dict[str, str], overwrite: bool) -> MapResult:
    """Put the finished windows together under the map's own name; RasterError where none of them holds a pixel."""
    plan, out, uncertainty = order.plan, order.out, order.job.uncertainty
    names = [PROBABILITY, *(DOUBT if uncertainty is not None else ())]
    valid = outside = 0
    damaged = list(dict.fromkeys(text for i in range(len(plan.tasks)) for text in store.damaged(i)))
    if damaged:
        more = [f"and {len(damaged) - NAMED_PARTS} more"] if len(damaged) > NAMED_PARTS else []
        tags = {**tags, "damaged": "; ".join([*damaged[:NAMED_PARTS], *more])}
    with create_raster(
        out, order.grid, "float32", names, nodata=float("nan"), tags=tags, overwrite=overwrite, overviews="average"
    ) as target:
        for i, task in enumerate(plan.tasks):
            values = store.load(i)
            write_window(target, values, task.core)
            valid += int(np.count_nonzero(~np.isnan(values[0])))
            if uncertainty is not None:
                outside += int(np.count_nonzero(values[2] == 0))
        if damaged and not valid:
            others = f", nor {plural(len(damaged) - 1, 'other part')}" if len(damaged) > 1 else ""
            raise RasterError(
                f"nothing could be mapped: {damaged[0]} cannot be read{others}. Fetch or make it again, and give the "
                "same command."
            )
    for text in damaged:
        say(f"warning: {text} cannot be read: undefined in {out}.")
    tells_outside = uncertainty is not None and not np.isnan(uncertainty.area.threshold)
    return MapResult(
        path=out,
        valid_pixels=valid,
        windows=len(plan.tasks),
        skipped=plan.skipped,
        damaged=tuple(damaged),
        outside=outside if tells_outside else None,
    )


def _tags(order: _Order) -> dict[str, str]:
    """What the map says of how it was made."""
    job, model, engine = order.job, order.model, order.engine
    tags = {
        "threshold": repr(model.threshold),
        "model_sha256": job.weights,
        "method": job.method,
        "engine": engine.name,
        "precision": engine.precision,
        "network": model.network_name,
        "window": f"{order.plan.read[0]} x {order.plan.read[1]}",
        "landslip": own_version(),
    }
    if model.scaling != AS_LEARNT:  # the weights alone no longer say what made the map
        tags |= {"temperature": repr(model.scaling.temperature), "bias": repr(model.scaling.bias)}
    if job.uncertainty is not None:
        tags |= {
            "applicability_threshold": repr(job.uncertainty.area.threshold),
            "samples": str(job.uncertainty.samples),
        }
    return tags


def _style(out: Path) -> None:
    """Have QGIS show the raster in colours; a style that somebody made for it stays."""
    path = out.with_suffix(".qml")
    if not path.exists():
        write_text(path, probability_style())
