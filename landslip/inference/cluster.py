"""`landslip map --cluster`: the windows of a plan computed by the workers of a Dask cluster.

A worker opens the job once, reads its windows itself and keeps them in the map's ledger itself: through the scheduler
goes the place of a window, never a pixel. A window whose worker died is given to another. A worker computes one window
at a time, with the threads that Dask grants it, and reads the next meanwhile; it refuses where it would not compute the
bytes that the map was planned with (other files, weights, versions, threads).
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from importlib import metadata
from typing import Any

import torch

from landslip import __version__
from landslip.errors import RunError
from landslip.geo.tiling import Tiling
from landslip.inference.cluster_worker import AHEAD, SHARED, close, engine_here, import_distributed, window, write_job
from landslip.inference.engines import Engine, choose_engine
from landslip.inference.predict import Job
from landslip.inference.tile_store import TileStore
from landslip.runtime.progress import forecasting, plural, say, track
from landslip.training.checkpoint import Model

MOST_HERE = 1024  # workers on one machine; a slip of the finger would start processes until nothing goes
CONNECT = 10.0  # seconds that a scheduler has to answer
WORKERS = 60.0  # seconds for the first worker to come, and for another where all have gone
SEEN = 120.0  # seconds after which the last windows must be seen here: a network file system shows them late
ROUND = 2.0  # seconds after which workers that have come are given windows
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
        asked = client.submit(engine_here, str(model.folder.absolute()), name, precision_choice, pure=False)
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
    path = write_job(job, ledger)
    with _connected(address, len(left)) as client:
        workers = len(client.nthreads())
        say(f"map: on {plural(workers, 'worker')} of {address}")
        done = _windows(client, str(path), plan, left, strict)
        try:
            for _ in forecasting(track(done, len(left), "map", "window"), len(left), "map", "window", workers):
                pass
        finally:
            with suppress(Exception):  # workers that have gone have closed their files too
                client.run(close, str(path), on_error="ignore")
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


@contextmanager
def _connected(address: str, windows: int) -> Iterator[Any]:
    """A Dask client of a running cluster, or of one started here for so many windows; it has a worker."""
    distributed = import_distributed()
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
                        window, path, i, plan.tasks[i], strict, workers=[worker], allow_other_workers=True, pure=False
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
    distributed = import_distributed()
    with suppress(TimeoutError, distributed.CancelledError):  # `_result` says which was cancelled
        distributed.wait(futures, timeout=ROUND, return_when="FIRST_COMPLETED")
    return [future for future in futures if future.done()]


def _result(future: Any, what: str) -> Any:
    """What a task returned. Its LandslipError is raised here as it was there."""
    distributed = import_distributed()
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


# ---- on a worker ----
