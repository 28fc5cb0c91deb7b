"""What a worker of a cluster does: a job opened once, and its tiles computed."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landslip.errors import DependencyError, LandslipError, RunError
from landslip.geo.tiling import Tile
from landslip.inference.engines import choose_engine
from landslip.inference.predict import (
    Job,
    TileReader,
    Uncertainty,
    job_facts,
    open_reader,
    predict_tile,
    read_tile,
    require_whole,
)
from landslip.inference.tile_store import PLAN, TileStore
from landslip.metrics.applicability import Applicability
from landslip.runtime.atomic import atomic_write
from landslip.training.checkpoint import load_model

AHEAD = 2  # windows that a worker is given at once, so that one is read while another is computed
SHARED = "This machine and all workers must see the model, the stack and the map's folder under one path."

_gate = threading.Condition()  # who holds it may open and close the job
_open_job: _OpenJob | None = None


def import_distributed() -> Any:
    """Dask's module `distributed`; DependencyError where it is not installed."""
    try:
        return import_module("distributed")
    except ImportError as error:
        raise DependencyError(
            "--cluster needs Dask distributed, which is not installed. Install it with landslip's extra, here and "
            "where the workers run: pip install landslip[cluster]."
        ) from error


def write_job(job: Job, store: TileStore) -> Path:
    """Keep a job in the tile store's folder, under a name of its own, so that no worker mixes two runs."""
    folder = store.folder.absolute()
    facts = {
        "at": str(Path.cwd()),  # where paths begin, and not in them: maps name damaged files as they were given
        "model": str(job.model),
        "weights": job.weights,
        "stack": str(job.stack),
        "valid": None if job.valid is None else str(job.valid),
        "method": job.method,
        "engine": job.engine,
        "precision": job.precision,
    }
    arrays: dict[str, Any] = {}
    if job.uncertainty is not None:
        area = job.uncertainty.area
        arrays = {"training": area.training, "channel_weights": area.weights, "samples": job.uncertainty.samples}
        arrays |= {"mean_distance": np.float64(area.mean_distance), "threshold": np.float64(area.threshold)}
    path = folder / f"job-{uuid.uuid4().hex}.npz"
    with atomic_write(path) as aside, aside.open("wb") as file:
        np.savez(file, facts=json.dumps(facts), **arrays)
    return path


def engine_here(model: str, name: str, precision_choice: str) -> tuple[str, str, int, str]:
    """Name, precision, threads and version of the engine that this worker would choose."""
    worker = import_distributed().get_worker()
    with _naming(worker.address), ThreadPoolExecutor(1, initializer=_use, initargs=(worker.state.nthreads,)) as thread:
        engine = thread.submit(lambda: choose_engine(load_model(Path(model)), name, precision_choice)).result()
    return engine.name, engine.precision, engine.threads, engine.version


def window(path: str, index: int, task: Tile, strict: bool) -> None:
    """Compute a window of the job at `path` and keep it."""
    distributed = import_distributed()
    worker = distributed.get_worker()
    with _using(path, worker.address, worker.state.nthreads) as job:
        distributed.secede()  # has Dask begin the next window, which is read while this one is computed
        with job.room:
            if job.store.finished(index):  # a worker kept it, and died before it could say so
                return
            read = job.files.submit(read_tile, job.source, task).result()
            if strict:
                require_whole(read)
            values = job.network.submit(predict_tile, job.source, task, read).result()
            job.files.submit(job.store.keep, index, values, read.damaged).result()


def close(path: str) -> None:
    """Close the job at `path`, or have its last window do so."""
    with _gate:
        if _open_job is not None and _open_job.path == path:
            _open_job.over = True
            _close_unused()
            _gate.notify_all()


@dataclass(kw_only=True)
class _OpenJob:
    """The job that this worker has open, with a thread for its network and one for its files (see `prefetch.py`).

    `room` lets so many windows in at a time, `resources` is what closing it gives back, `users` is how many windows
    are at work with it, and it is `over` when no more windows of it will come.
    """

    path: str
    source: TileReader
    store: TileStore
    network: ThreadPoolExecutor
    files: ThreadPoolExecutor
    room: threading.BoundedSemaphore
    resources: ExitStack
    users: int = 0
    over: bool = False


@contextmanager
def _using(path: str, worker: str, threads: int) -> Iterator[_OpenJob]:
    """The job at `path`, opened where it is not at hand; another one is closed as soon as nobody uses it."""
    global _open_job
    with _gate:
        while _open_job is not None and _open_job.path != path:
            _open_job.over = True
            _close_unused()
            if _open_job is not None:
                _gate.wait()
        if _open_job is None:
            with _naming(worker):
                _open_job = _open(path, threads)
        job = _open_job
        job.users += 1
    try:
        yield job
    finally:
        with _gate:
            job.users -= 1
            _close_unused()
            _gate.notify_all()


def _open(path: str, threads: int) -> _OpenJob:
    """Open the job at a path; RunError where it cannot be read, or would not give the bytes that were planned."""
    with ExitStack() as resources:
        network = resources.enter_context(ThreadPoolExecutor(1, initializer=_use, initargs=(threads,)))
        files = resources.enter_context(ThreadPoolExecutor(1))
        try:
            job, origin = _read_job(Path(path))
            plan = json.loads(Path(path).with_name(PLAN).read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(f"{error.filename or path} cannot be read ({error.strerror or error}). {SHARED}") from error
        valid = None if job.valid is None else origin / job.valid
        absolute = replace(job, model=origin / job.model, stack=origin / job.stack, valid=valid)
        rasters = ExitStack()  # of their own, since a raster is closed by the thread that opened it
        resources.callback(lambda: network.submit(rasters.close).result())
        source = network.submit(rasters.enter_context, open_reader(absolute)).result()
        _require_same(job_facts(absolute, source.model, source.engine), plan)
        return _OpenJob(
            path=path,
            source=replace(source, job=job),
            store=TileStore(Path(path).parent, Path(path).parent),
            network=network,
            files=files,
            room=threading.BoundedSemaphore(AHEAD),
            resources=resources.pop_all(),
        )


def _close_unused() -> None:
    """Close the open job where it is over and no window is at work with it; the caller holds the gate."""
    global _open_job
    if _open_job is not None and _open_job.over and not _open_job.users:
        _open_job.resources.close()
        _open_job = None


def _read_job(path: Path) -> tuple[Job, Path]:
    """A job that `write_job` kept, and the folder that its paths begin at."""
    with np.load(path, allow_pickle=False) as arrays:
        facts = json.loads(str(arrays["facts"]))
        uncertainty = None
        if "training" in arrays:
            mean, threshold = float(arrays["mean_distance"]), float(arrays["threshold"])
            area = Applicability(arrays["training"], mean, threshold, arrays["channel_weights"])
            uncertainty = Uncertainty(area, int(arrays["samples"]))
    valid = None if facts["valid"] is None else Path(facts["valid"])
    job = Job(
        model=Path(facts["model"]),
        weights=facts["weights"],
        stack=Path(facts["stack"]),
        valid=valid,
        method=facts["method"],
        engine=facts["engine"],
        precision=facts["precision"],
        uncertainty=uncertainty,
    )
    return job, Path(facts["at"])


def _require_same(here: dict[str, Any], plan: dict[str, Any]) -> None:
    """Raise RunError where this worker would compute other bytes than the map was planned with."""
    for key, value in json.loads(json.dumps(here)).items():
        if value != plan.get(key):
            raise RunError(
                f"its {key} is {value}, and the map was planned with {plan.get(key)}. All workers must have the same "
                "files, the same versions and the same number of threads."
            )


@contextmanager
def _naming(worker: str) -> Iterator[None]:
    """Name the worker in what it refuses."""
    try:
        yield
    except LandslipError as error:
        raise type(error)(f"worker {worker}: {error}") from error


def _use(threads: int) -> None:
    """Have torch compute with so many threads."""
    torch.set_num_threads(threads)
