"""`landslip map --cluster`: the windows of a plan computed by the workers of a Dask cluster.

A worker opens the job once, reads its windows itself and keeps them in the map's ledger itself: through the scheduler
goes the place of a window, never a pixel. A window whose worker died is given to another. A worker computes one window
at a time, with the threads that Dask grants it, and reads the next meanwhile; it refuses where it would not compute the
bytes that the map was planned with (other files, weights, versions, threads).
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landslip import __version__
from landslip.errors import DependencyError, LandslipError, RunError
from landslip.geo.tiling import Tile, Tiling
from landslip.inference.engines import Engine, choose_engine
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
from landslip.runtime.progress import forecasting, plural, say, track
from landslip.training.checkpoint import Model, load_model

AHEAD = 2  # windows that a worker holds: one is read while another is computed
MOST_HERE = 1024  # workers on one machine; a slip of the finger would start processes until nothing goes
CONNECT = 10.0  # seconds that a scheduler has to answer
WORKERS = 60.0  # seconds for the first worker to come, and for another where all have gone
SEEN = 120.0  # seconds after which the last windows must be seen here: a network file system shows them late
ROUND = 2.0  # seconds after which workers that have come are given windows
SHARED = "This machine and all workers must see the model, the stack and the map's folder under one path."


# ---- where the map is asked for ----


def engine_of_workers(address: str, model: Model, name: str = "auto", precision_choice: str = "auto") -> Engine:
    """The engine that the cluster's workers compute with, to plan by; it computes nothing here.

    `threads` are those of one worker. Raises as `choose_engine` does, and RunError where there is no such cluster.
    """
    count = workers_here(address)
    if count:
        engine = choose_engine(model, name, precision_choice)
        return replace(engine, threads=_threads_of_each(count)) if engine.threads else engine
    with _connected(address, 0) as client:
        _require_version(client, list(client.nthreads()))
        asked = client.submit(_engine_here, str(model.folder.absolute()), name, precision_choice, pure=False)
        found, precision, threads, version = _result(asked, f"the model of {model.folder}")
    return Engine(found, precision, threads, version, _nowhere)


def _nowhere(_: Any) -> Any:
    raise AssertionError("the engine of a cluster computes on its workers")


def run_on_cluster(job: Job, plan: Tiling, left: list[int], ledger: TileStore, address: str, strict: bool) -> None:
    """Have the windows `left` of a plan computed on a cluster; when this returns, all of them are in the ledger.

    `address` is that of a running scheduler (tcp://host:port), or a number of processes on this machine (4, local:4).
    Raises RunError where the cluster cannot do it, and what a worker raises (with `strict`, a RasterError).
    """
    if not left:
        return
    path = _write_job(job, ledger)
    with _connected(address, len(left)) as client:
        workers = len(client.nthreads())
        say(f"map: on {plural(workers, 'worker')} of {address}")
        done = _windows(client, str(path), plan, left, strict)
        try:
            for _ in forecasting(track(done, len(left), "map", "window"), len(left), "map", "window", workers):
                pass
        finally:
            with suppress(Exception):  # workers that have gone have closed their files too
                client.run(_close, str(path), on_error="ignore")
    _wait_until_seen(ledger, left)


def workers_here(address: str) -> int:
    """How many workers `address` asks for on this machine; 0 where it is that of a scheduler."""
    if found := re.fullmatch(r"(?:local:)?([1-9]\d*)", address):
        if len(found[1]) > 9 or int(found[1]) > MOST_HERE:
            raise RunError(f"--cluster {address}: no machine has room for so many. Give at most {MOST_HERE} workers.")
        return int(found[1])
    if re.fullmatch(r"\w+://.+", address):
        return 0
    raise RunError(
        f"--cluster {address} is neither a scheduler's address, such as tcp://10.0.0.1:8786, nor a number of workers "
        "on this machine, such as 4 or local:4."
    )


def _threads_of_each(count: int) -> int:
    return max(1, torch.get_num_threads() // count)


def _distributed() -> Any:
    try:
        return import_module("distributed")
    except ImportError as error:
        raise DependencyError(
            "--cluster needs Dask distributed, which is not installed. Install it with landslip's extra, here and "
            "where the workers run: pip install landslip[cluster]."
        ) from error


@contextmanager
def _connected(address: str, windows: int) -> Iterator[Any]:
    """A Dask client of a running cluster, or of one started here for so many windows; it has a worker."""
    distributed = _distributed()
    count = workers_here(address)
    with ExitStack() as held:
        where: Any = address
        if count:
            where = held.enter_context(
                distributed.LocalCluster(
                    n_workers=min(count, windows),
                    threads_per_worker=_threads_of_each(count),
                    processes=True,
                    memory_limit=0,  # the size of the windows is the limit
                    dashboard_address="127.0.0.1:0",  # any free port: the usual one may be taken
                    silence_logs="CRITICAL",
                )
            )
        try:
            client = held.enter_context(distributed.Client(where, timeout=CONNECT, set_as_default=False))
        except (OSError, ValueError) as error:  # of no port, no such host, nobody there; TimeoutError is an OSError
            raise RunError(
                f"the scheduler at {address} cannot be reached ({str(error)[:200]}). Is it running there, and is its "
                "port open to this machine? `dask scheduler` says its address when it starts."
            ) from error
        try:
            client.wait_for_workers(1, timeout=WORKERS)
        except TimeoutError as error:
            raise RunError(
                f"the scheduler at {address} has had no worker for {WORKERS:.0f} s. Start some: dask worker {address}."
            ) from error
        with client.as_current():
            yield client


def _require_version(client: Any, workers: list[str]) -> None:
    """RunError where a worker has another landslip than this machine: asked of Python's own library, so any answers."""
    found = client.run(metadata.version, "landslip", workers=workers, on_error="return")
    for worker, version in found.items():
        if version != __version__:
            is_ = "no landslip" if isinstance(version, BaseException) else f"landslip {version}"
            raise RunError(
                f"worker {worker} has {is_}, and this machine has landslip {__version__}. Install one version in all "
                "places, with the extra `cluster`."
            )


def _windows(client: Any, path: str, plan: Tiling, left: list[int], strict: bool) -> Iterator[int]:
    """Each of the windows `left` as it is finished. A worker is never given more than it can begin with."""
    queue, flying, known = deque(left), dict[Any, tuple[int, str]](), set[str]()
    seen = time.monotonic()
    while queue or flying:
        living = client.nthreads()
        if living:
            seen = time.monotonic()
        elif time.monotonic() - seen > WORKERS:
            raise RunError(
                f"all workers have gone, and none came for {WORKERS:.0f} s. What they finished is kept: start some, "
                "and give the same command again."
            )
        if new := [worker for worker in living if worker not in known]:
            _require_version(client, new)
            known.update(new)
        held = Counter(worker for _, worker in flying.values())
        for full in range(1, AHEAD + 1):
            for worker in living:
                if queue and held[worker] < full:
                    held[worker] += 1
                    i = queue.popleft()
                    future = client.submit(
                        _window, path, i, plan.tasks[i], strict, workers=[worker], allow_other_workers=True, pure=False
                    )
                    flying[future] = i, worker
        for future in _finished(list(flying)):
            i, _ = flying.pop(future)
            core = plan.tasks[i].core
            rows, columns = f"rows from {core.row}", f"columns from {core.column}"
            _result(future, f"the window of {plan.read[0]} x {plan.read[1]} pixels at {rows}, {columns}")
            yield i


def _finished(futures: list[Any]) -> list[Any]:
    """Those of the futures that are finished, well or not, as soon as one is; none after a while."""
    if not futures:
        time.sleep(ROUND)
        return []
    distributed = _distributed()
    with suppress(TimeoutError, distributed.CancelledError):  # `_result` says which was cancelled
        distributed.wait(futures, timeout=ROUND, return_when="FIRST_COMPLETED")
    return [future for future in futures if future.done()]


def _result(future: Any, what: str) -> Any:
    """What a task returned. Its LandslipError is raised here as it was there."""
    distributed = _distributed()
    try:
        return future.result()
    except distributed.KilledWorker as error:
        raise RunError(
            f"{plural(error.allowed_failures + 1, 'worker')} died with {what}, the last at "
            f"{error.last_worker.address}: most often for want of memory. What was finished is kept. "
            "Give the same command with a smaller --memory (that of one worker) and --overwrite, since other windows "
            "begin anew; or start workers with more memory."
        ) from None
    except distributed.CancelledError as error:
        raise RunError(
            f"the scheduler has let go of {what} ({str(error)[:100]}): it was stopped or begun anew. What was finished "
            "is kept: give the same command again."
        ) from None


def _wait_until_seen(ledger: TileStore, left: list[int]) -> None:
    """Wait until what workers have kept is seen here too; RunError where it never is."""
    until = time.monotonic() + SEEN
    while missing := [i for i in left if not ledger.finished(i)]:
        if time.monotonic() > until:
            raise RunError(
                f"{ledger.folder} lacks {plural(len(missing), 'window')} that workers have finished, as seen "
                f"here. {SHARED}"
            )
        time.sleep(1)
        os.listdir(ledger.folder)  # has a network file system look again


# ---- a job as a file ----


def _write_job(job: Job, ledger: TileStore) -> Path:
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
    """A job that `_write_job` kept, and the folder that its paths begin at."""
    with np.load(path, allow_pickle=False) as kept:
        facts = json.loads(str(kept["facts"]))
        uncertainty = None
        if "training" in kept:
            mean, threshold = float(kept["mean_distance"]), float(kept["threshold"])
            area = Applicability(kept["training"], mean, threshold, kept["channel_weights"])
            uncertainty = Uncertainty(area, int(kept["samples"]))
    valid = None if facts["valid"] is None else Path(facts["valid"])
    job = Job(
        Path(facts["model"]),
        facts["weights"],
        Path(facts["stack"]),
        valid,
        facts["method"],
        facts["engine"],
        facts["precision"],
        uncertainty,
    )
    return job, Path(facts["at"])


# ---- on a worker ----


@dataclass
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


def _engine_here(model: str, name: str, precision_choice: str) -> tuple[str, str, int, str]:
    """Name, precision, threads and version of the engine that this worker would choose."""
    worker = _distributed().get_worker()
    with _naming(worker.address), ThreadPoolExecutor(1, initializer=_use, initargs=(worker.state.nthreads,)) as thread:
        engine = thread.submit(lambda: choose_engine(load_model(Path(model)), name, precision_choice)).result()
    return engine.name, engine.precision, engine.threads, engine.version


def _use(threads: int) -> None:
    torch.set_num_threads(threads)


def _window(path: str, index: int, task: Tile, strict: bool) -> None:
    """Compute a window of the job at `path` and keep it."""
    distributed = _distributed()
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


def _close(path: str) -> None:
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
        return _AtHand(path, own, TileStore(Path(path).parent, Path(path).parent), network, files, room, held.pop_all())


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
