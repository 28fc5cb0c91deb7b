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

AHEAD = 2  # windows that a worker holds: one is read while another is computed
SHARED = "This machine and all workers must see the model, the stack and the map's folder under one path."


def import_distributed() -> Any:
    try:
        return import_module("distributed")
    except ImportError as error:
        raise DependencyError(
            "--cluster needs Dask distributed, which is not installed. Install it with landslip's extra, here and "
            "where the workers run: pip install landslip[cluster]."
        ) from error


def write_job(job: Job, ledger: TileStore) -> Path:
    """Keep a job in the ledger's folder under a name of its own: a worker that has opened it never mixes two runs."""
    folder = ledger.folder.absolute()
    facts = {
        "at": str(Path.cwd()),  # where paths begin; kept apart, since maps name damaged files as they were given
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


def _read_job(path: Path) -> tuple[Job, Path]:
    """A job that `write_job` kept, and the folder that its paths begin at."""
    with np.load(path, allow_pickle=False) as kept:
        facts = json.loads(str(kept["facts"]))
        uncertainty = None
        if "training" in kept:
            mean, threshold = float(kept["mean_distance"]), float(kept["threshold"])
            area = Applicability(kept["training"], mean, threshold, kept["channel_weights"])
            uncertainty = Uncertainty(area, int(kept["samples"]))
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


@dataclass(kw_only=True)
class _AtHand:
    """The job that this worker has open, and a thread each for its network and its files (see `prefetch.py`)."""

    path: str
    source: TileReader
    ledger: TileStore
    network: ThreadPoolExecutor
    files: ThreadPoolExecutor
    room: threading.BoundedSemaphore
    held: ExitStack
    users: int = 0
    over: bool = False  # no more windows of it will come


_gate = threading.Condition()
_at_hand: _AtHand | None = None


def engine_here(model: str, name: str, precision_choice: str) -> tuple[str, str, int, str]:
    """Name, precision, threads and version of the engine that this worker would choose."""
    worker = import_distributed().get_worker()
    with _naming(worker.address), ThreadPoolExecutor(1, initializer=_use, initargs=(worker.state.nthreads,)) as thread:
        engine = thread.submit(lambda: choose_engine(load_model(Path(model)), name, precision_choice)).result()
    return engine.name, engine.precision, engine.threads, engine.version


def _use(threads: int) -> None:
    torch.set_num_threads(threads)


def window(path: str, index: int, task: Tile, strict: bool) -> None:
    """Compute a window of the job at `path` and keep it."""
    distributed = import_distributed()
    worker = distributed.get_worker()
    with _using(path, worker.address, worker.state.nthreads) as job:
        distributed.secede()  # Dask may begin the next one, which is read while this one is computed
        with job.room:
            if job.ledger.finished(index):  # by a worker that could not say so any more
                return
            read = job.files.submit(read_tile, job.source, task).result()
            if strict:
                require_whole(read)
            values = job.network.submit(predict_tile, job.source, task, read).result()
            job.files.submit(job.ledger.keep, index, values, read.damaged).result()


@contextmanager
def _using(path: str, worker: str, threads: int) -> Iterator[_AtHand]:
    """The job at `path`, opened where it is not at hand; another one is closed as soon as nobody uses it."""
    global _at_hand
    with _gate:
        while _at_hand is not None and _at_hand.path != path:
            _at_hand.over = True
            _close_unused()
            if _at_hand is not None:
                _gate.wait()
        if _at_hand is None:
            with _naming(worker):
                _at_hand = _open(path, threads)
        job = _at_hand
        job.users += 1
    try:
        yield job
    finally:
        with _gate:
            job.users -= 1
            _close_unused()
            _gate.notify_all()


def close(path: str) -> None:
    """Close the job at `path`, or have its last window do so."""
    with _gate:
        if _at_hand is not None and _at_hand.path == path:
            _at_hand.over = True
            _close_unused()
            _gate.notify_all()


def _close_unused() -> None:
    global _at_hand
    if _at_hand is not None and _at_hand.over and not _at_hand.users:
        _at_hand.held.close()
        _at_hand = None


def _open(path: str, threads: int) -> _AtHand:
    with ExitStack() as held:
        network = held.enter_context(ThreadPoolExecutor(1, initializer=_use, initargs=(threads,)))
        files = held.enter_context(ThreadPoolExecutor(1))
        try:
            job, at = _read_job(Path(path))
            wanted = json.loads(Path(path).with_name(PLAN).read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(f"{error.filename or path} cannot be read ({error.strerror or error}). {SHARED}") from error
        valid = None if job.valid is None else at / job.valid
        there = replace(job, model=at / job.model, stack=at / job.stack, valid=valid)
        inside = ExitStack()  # a raster is closed by the thread that opened it
        held.callback(lambda: network.submit(inside.close).result())
        source = network.submit(inside.enter_context, open_reader(there)).result()
        _require_same(job_facts(there, source.model, source.engine), wanted)
        own = replace(source, job=job)
        room = threading.BoundedSemaphore(AHEAD)
        return _AtHand(
            path=path,
            source=own,
            ledger=TileStore(Path(path).parent, Path(path).parent),
            network=network,
            files=files,
            room=room,
            held=held.pop_all(),
        )


def _require_same(here: dict[str, Any], wanted: dict[str, Any]) -> None:
    """RunError where this worker would compute other bytes than the map was planned with."""
    for key, value in json.loads(json.dumps(here)).items():
        if value != wanted.get(key):
            raise RunError(
                f"its {key} is {value}, and the map was planned with {wanted.get(key)}. All workers must have the same "
                "files, the same versions and the same number of threads."
            )


@contextmanager
def _naming(worker: str) -> Iterator[None]:
    """Name the worker in what it refuses."""
    try:
        yield
    except LandslipError as error:
        raise type(error)(f"worker {worker}: {error}") from error
