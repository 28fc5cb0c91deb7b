"""What a worker of a cluster does: it opens a job once, and computes the job's windows one after another."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from landslip.errors import LandslipError, RunError
from landslip.geo.tiling import Tile
from landslip.inference.engines import Engine, choose_engine
from landslip.inference.predict import (
    Job,
    JobFacts,
    TileReader,
    job_facts,
    open_reader,
    predict_tile,
    read_tile,
    require_whole,
)
from landslip.inference.tile_store import PLAN, TileStore
from landslip.runtime.extras import require_extra
from landslip.training.checkpoint import load_model

SHARED = "This machine and all workers must see the model, the stack and the map's folder under one path."


@dataclass(frozen=True, kw_only=True)
class SharedJob:
    """A job as it goes to the workers, with the absolute folder of its tile store.

    Its paths begin at `origin`. They stay relative in the job, since a map names damaged files as they were given.
    """

    job: Job
    folder: Path
    origin: Path = field(default_factory=Path.cwd)
    run: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True, kw_only=True)
class _OpenJob:
    """The job that this worker has open. Its rasters are closed as soon as nobody holds it any more.

    The network and the files have a thread each: so one window is computed at a time, while the next is read.
    """

    run: str
    source: TileReader
    store: TileStore
    network: ThreadPoolExecutor
    files: ThreadPoolExecutor
    rasters: ExitStack


_open_job: _OpenJob | None = None
_opening = threading.Lock()  # so that windows which begin together do not each open the job


def import_distributed() -> Any:
    """Dask's module `distributed`; DependencyError where it is not installed."""
    require_extra("cluster", "--cluster", "distributed")
    return import_module("distributed")


def engine_here(model: Path, name: str, precision_choice: str) -> Engine:
    """The engine that this worker would choose, without its network."""
    worker = import_distributed().get_worker()
    with _name_worker(worker.address), _one_thread(worker.state.nthreads) as thread:
        engine = thread.submit(lambda: choose_engine(load_model(model), name, precision_choice)).result()
    return replace(engine, logits=computed_elsewhere)


def computed_elsewhere(_: Any) -> Any:
    """The logits of an engine that plans are made by, and that must never be asked for any."""
    raise AssertionError("the engine of a cluster computes on its workers")


def compute_window(shared: SharedJob, index: int, tile: Tile, strict: bool) -> None:
    """Compute a window of a job and keep it in the tile store."""
    global _open_job
    worker = import_distributed().get_worker()
    with _opening, _name_worker(worker.address):
        if _open_job is None or _open_job.run != shared.run:
            _open_job = None  # closed first, so that memory holds one model
            _open_job = _open(shared, worker.state.nthreads)
        job = _open_job
    if job.store.finished(index):  # a worker kept it, and died before it could say so
        return
    read = job.files.submit(read_tile, job.source, tile).result()
    if strict:
        require_whole(read)
    values = job.network.submit(predict_tile, job.source, tile, read).result()
    job.files.submit(job.store.keep, index, values, read.damaged).result()


def close_job(run: str) -> None:
    """Let go of a run's job, which closes it once its last window is finished."""
    global _open_job
    with _opening:
        if _open_job is not None and _open_job.run == run:
            _open_job = None


def _open(shared: SharedJob, threads: int) -> _OpenJob:
    """Open a job; RunError where its files cannot be seen, or where its map was planned with anything else."""
    job, origin, network, rasters = shared.job, shared.origin, _one_thread(threads), ExitStack()
    try:
        plan = json.loads((shared.folder / PLAN).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{shared.folder / PLAN} cannot be read ({error.strerror}). {SHARED}") from error
    valid = None if job.valid is None else origin / job.valid
    absolute = replace(job, model=origin / job.model, stack=origin / job.stack, valid=valid)
    source = network.submit(rasters.enter_context, open_reader(absolute)).result()
    _require_same(job_facts(absolute, source.model, source.engine), plan)
    return _OpenJob(
        run=shared.run,
        source=replace(source, job=job),
        store=TileStore(shared.folder, shared.folder),
        network=network,
        files=ThreadPoolExecutor(1),
        rasters=rasters,
    )


def _require_same(here: JobFacts, plan: Mapping[str, object]) -> None:
    """Raise RunError where this worker would compute other bytes than the map was planned with."""
    for key, value in json.loads(json.dumps(here)).items():
        if value != plan.get(key):
            raise RunError(
                f"its {key} is {value}, and the map was planned with {plan.get(key)}. All workers must have the same "
                "files, the same versions and the same number of threads."
            )


@contextmanager
def _name_worker(worker: str) -> Iterator[None]:
    """Name the worker in what it refuses."""
    try:
        yield
    except LandslipError as error:
        raise type(error)(f"worker {worker}: {error}") from error


def _one_thread(threads: int) -> ThreadPoolExecutor:
    """A thread in which torch computes with so many threads."""
    return ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))
