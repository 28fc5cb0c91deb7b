"""`landslip map --cluster`: the windows of a plan computed by the workers of a Dask cluster.

Through Dask's scheduler goes the place of a window, never a pixel: a worker reads its windows and keeps them in the
map's tile store itself. Dask gives the windows of a worker that died to another.
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

from landslip.errors import RunError
from landslip.geo.tiling import Tiling
from landslip.inference.cluster_worker import (
    SHARED,
    SharedJob,
    close_job,
    compute_window,
    engine_here,
    import_distributed,
)
from landslip.inference.engines import Engine, choose_engine
from landslip.inference.predict import Job
from landslip.inference.tile_store import TileStore
from landslip.runtime.progress import forecasting, plural, say, track
from landslip.runtime.provenance import own_version
from landslip.training.checkpoint import Model

AHEAD = 2  # windows that a worker has at once, so that one is read while another is computed
CONNECT = 10.0  # seconds that a scheduler has to answer
WORKERS = 60.0  # seconds for the first worker to come, and for another where all have gone
SEEN_WITHIN = 120.0  # seconds after which the last windows must be seen here, as a network file system shows them late
ROUND = 2.0  # seconds after which workers that have come are given windows


def engine_of_workers(address: str, model: Model, name: str = "auto", precision_choice: str = "auto") -> Engine:
    """The engine that the cluster's workers compute with, to plan by; it computes nothing here.

    `threads` are those of one worker. Raises as `choose_engine` does, and RunError where there is no such cluster.
    """
    count = workers_here(address)
    if count:
        here = choose_engine(model, name, precision_choice)
        return replace(here, threads=_threads_of_each(count)) if here.threads else here
    with _connect(address, 0) as client:
        _require_version(client, list(client.nthreads()))
        future = client.submit(engine_here, model.folder.absolute(), name, precision_choice, pure=False)
        engine: Engine = _result(future, f"the model of {model.folder}")
        return engine


def run_on_cluster(job: Job, plan: Tiling, left: list[int], store: TileStore, *, address: str, strict: bool) -> None:
    """Have the windows `left` of a plan computed on a cluster; when this returns, all of them are in the tile store.

    `address` is that of a running scheduler (tcp://host:port), or a number of processes on this machine (4, local:4).
    Raises RunError where the cluster cannot do it, and what a worker raises (with `strict`, a RasterError).
    """
    if not left:
        return
    shared = SharedJob(job=job, folder=store.folder.absolute())
    with _connect(address, len(left)) as client:
        workers = len(client.nthreads())
        say(f"map: on {plural(workers, 'worker')} of {address}")
        finished = _windows(client, shared, plan, left, strict)
        try:
            for _ in forecasting(track(finished, len(left), "map", "window"), len(left), "map", "window", workers):
                pass
        finally:
            with suppress(Exception):  # workers that have gone have closed their files by that
                client.run(close_job, shared.run, on_error="ignore")
    _wait_until_seen(store, left)


def workers_here(address: str) -> int:
    """How many workers `address` asks for on this machine; 0 where it is that of a scheduler, RunError for neither."""
    if number := re.fullmatch(r"(?:local:)?([1-9]\d{0,3})", address):
        return int(number[1])
    if re.fullmatch(r"\w+://.+", address):
        return 0
    raise RunError(
        f"--cluster {address} is neither a scheduler's address, such as tcp://10.0.0.1:8786, nor a number of workers "
        "on this machine, such as 4 or local:4."
    )


def _threads_of_each(count: int) -> int:
    """The threads that each of so many workers on this machine computes with."""
    return max(1, torch.get_num_threads() // count)


@contextmanager
def _connect(address: str, windows: int) -> Iterator[Any]:
    """A Dask client of a running cluster, or of one started here for so many windows; it has a worker.

    Raises RunError where the scheduler cannot be reached or has no worker.
    """
    distributed = import_distributed()
    count = workers_here(address)
    with ExitStack() as resources:
        cluster: Any = address
        if count:
            cluster = resources.enter_context(
                distributed.LocalCluster(
                    n_workers=min(count, windows),
                    threads_per_worker=_threads_of_each(count),
                    processes=True,
                    memory_limit=0,  # none of Dask's: the size of the windows is the limit
                    dashboard_address="127.0.0.1:0",  # on any free port, since the usual one may be in use
                    silence_logs="CRITICAL",
                )
            )
        try:
            client = resources.enter_context(distributed.Client(cluster, timeout=CONNECT, set_as_default=False))
        # There is no port, no such host or no answer (a TimeoutError), or this machine is so busy that Dask's thread
        # did not begin in time (an AssertionError).
        except (OSError, ValueError, AssertionError) as error:
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
    """Raise RunError where a worker has another landslip than this machine, or none."""
    here = own_version()
    # Asked of Python's own library, so that a worker without landslip answers too.
    versions = client.run(metadata.version, "landslip", workers=workers, on_error="return")
    for worker, version in versions.items():
        if version != here:
            what = "no landslip" if isinstance(version, BaseException) else f"landslip {version}"
            raise RunError(
                f"worker {worker} has {what}, and this machine has landslip {here}. Install one version in all "
                "places, with the extra `cluster`."
            )


def _windows(client: Any, shared: SharedJob, plan: Tiling, left: list[int], strict: bool) -> Iterator[int]:
    """Each of the windows `left` as it is finished.

    Dask would give a worker as many windows as it has threads, and one window uses all of them. So each worker is
    given its next window here, and has AHEAD of them at most. Dask's `as_completed` would wait for ever where all
    workers have gone.
    """
    distributed = import_distributed()
    queue, running, checked = deque(left), dict[Any, tuple[int, str]](), set[str]()
    last_seen = time.monotonic()
    while queue or running:
        workers = list(client.nthreads())
        if workers:
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > WORKERS:
            raise RunError(
                f"all workers have gone, and none came for {WORKERS:.0f} s. What they finished is kept: start some, "
                "and give the same command again."
            )
        if new := [worker for worker in workers if worker not in checked]:
            _require_version(client, new)
            checked.update(new)
        while queue and len(running) < AHEAD * len(workers):
            loads = Counter(worker for _, worker in running.values())
            worker = min(workers, key=loads.__getitem__)
            index = queue.popleft()
            arguments = shared, index, plan.tasks[index], strict
            # Where this worker dies, Dask may give the window to another.
            future = client.submit(compute_window, *arguments, workers=[worker], allow_other_workers=True, pure=False)
            running[future] = index, worker
        if not running:
            time.sleep(ROUND)
        with suppress(TimeoutError, distributed.CancelledError):  # `_result` says which was cancelled
            distributed.wait(list(running), timeout=ROUND, return_when="FIRST_COMPLETED")
        for future in [future for future in running if future.done()]:
            index, _ = running.pop(future)
            core, (height, width) = plan.tasks[index].core, plan.read
            at = f"rows from {core.row}, columns from {core.column}"
            _result(future, f"the window of {height} x {width} pixels at {at}")
            yield index


def _result(future: Any, what: str) -> Any:
    """What a task returned; its LandslipError is raised here as it was there.

    `what` names the task. Raises RunError where its workers died or the scheduler let go of it.
    """
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


def _wait_until_seen(store: TileStore, left: list[int]) -> None:
    """Wait until the windows that workers have kept are seen here too; RunError where they never are."""
    until = time.monotonic() + SEEN_WITHIN
    while missing := [index for index in left if not store.finished(index)]:
        if time.monotonic() > until:
            count = plural(len(missing), "window")
            raise RunError(f"{store.folder} lacks {count} that workers have finished, as seen here. {SHARED}")
        time.sleep(1)
        os.listdir(store.folder)  # so that a network file system looks again
