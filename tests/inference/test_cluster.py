"""A map by a real scheduler and real worker processes is the map of one process, whatever happens to them."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affine import Affine
from conftest import CRS_UTM, TinySite
from made_up import served, spoil

from landslip.errors import DependencyError, LandslipError, RasterError, RunError
from landslip.geo.archive import gdal_name
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid
from landslip.geo.raster import exists, file_facts, read, read_info
from landslip.inference import cluster, cluster_worker, mapping
from landslip.inference.engines import BASE, bytes_of_a_pixel
from landslip.inference.mapping import map_site
from landslip.inference.predict import Uncertainty
from landslip.runtime.disk import file_hash
from landslip.training.checkpoint import Model, load_model, save_model
from landslip.training.training_pixels import area_of

distributed = pytest.importorskip("distributed", reason="Dask distributed runs clusters")

BIG = (384, 512)  # of windows of 192 x 192 px with cores of 64 x 64: 48 of them


@dataclass(frozen=True)
class Ground:
    """A stack, its valid pixels, a model, the memory that holds the smallest window, and the map by this process."""

    model: Model
    stack: Path
    memory: float
    alone: Path
    doubted: Path

    def map(self, out: Path, **choices: Any) -> str:
        """The hash of a map made of it."""
        chosen: dict[str, Any] = {"precision_choice": "fp32", "engine_choice": "torch", "memory": self.memory}
        map_site(self.model, self.stack, out, **(chosen | choices))
        return file_hash(out)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As many threads here as a worker has: the bytes of a map may depend on them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def ground(made: TinySite, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Ground:
    folder = tmp_path_factory.mktemp("ground")
    small = made.folder / "prepared" / "stack.tif"
    grid = Grid(CRS_UTM, Affine(15, 0, 460_000, 0, -15, 3_430_000), *BIG)
    values = np.tile(read(small), (1, 3, 3))[:, :, : BIG[1]]
    write_raster(folder / "stack.tif", values, grid, [str(name) for name in read_info(small).names], float("nan"))
    valid = np.ones((1, *BIG), np.uint8)
    valid[0, :70, :90] = valid[0, 200:230] = 0
    write_raster(folder / "valid.tif", valid, grid, ["valid"])
    model = load_model(made.folder / "model")
    memory = BASE["torch"] + 256**2 * (bytes_of_a_pixel(model, "torch") + 0.01)
    made_of = Ground(model, folder / "stack.tif", memory, folder / "alone.tif", folder / "doubted.tif")
    made_of.map(made_of.alone)
    return made_of


@pytest.fixture(scope="module")
def workers(ground: Ground) -> Iterator[Any]:
    """A scheduler and three worker processes of one thread each, on loopback."""
    with distributed.LocalCluster(
        n_workers=3,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as found:
        found.wait_for_workers(3)
        yield found


def kept(out: Path) -> list[Path]:
    """The windows in the ledger of a map."""
    return sorted(out.with_name(f".{out.name}.windows").glob("*/0*.npy"))


def when_kept(out: Path, windows: int, then: Callable[[], None]) -> threading.Thread:
    """Do something once so many windows of a map are in its ledger."""

    def watch() -> None:
        until = time.monotonic() + 120
        while len(kept(out)) < windows and time.monotonic() < until:
            time.sleep(0.005)
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def pids(workers: Any) -> list[int]:
    with distributed.Client(workers) as client:
        return list(client.run(os.getpid).values())


def test_a_worker_killed_in_the_middle_changes_no_byte(ground: Ground, workers: Any, tmp_path: Path) -> None:
    out, seen = tmp_path / "p.tif", []
    before = pids(workers)

    def kill() -> None:
        os.kill(before[1], signal.SIGKILL)
        seen.append(len(kept(out)))

    watching = when_kept(out, 8, kill)
    found = ground.map(out, cluster=workers.scheduler_address)
    watching.join()
    assert 8 <= seen[0] < 40 and len(before) == 3
    assert found == file_hash(ground.alone) and not list(tmp_path.glob(".*"))
    workers.wait_for_workers(3)
    assert before[1] not in pids(workers)


def test_the_map_of_a_killed_client_is_gone_on_with(ground: Ground, workers: Any, tmp_path: Path) -> None:
    out = tmp_path / "p.tif"
    command = [sys.executable, "-m", "landslip", "map", ground.model.folder, ground.stack, out, "--precision"]
    command += [
        "fp32",
        "--engine",
        "torch",
        "--memory",
        f"{ground.memory:.2f}B",
        "--cluster",
        workers.scheduler_address,
    ]
    client = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    when_kept(out, 5, client.kill).join()
    assert client.wait() == -signal.SIGKILL and not out.exists()
    assert client.stderr is not None and "map: on 3 workers" in client.stderr.read()
    done = {path.name: path.stat().st_ino for path in kept(out)}
    assert 5 <= len(done) < 45
    again: dict[str, int] = {}
    assemble = mapping._assemble

    def note(*args: Any, **named: Any) -> Any:
        again.update({path.name: path.stat().st_ino for path in kept(out)})
        return assemble(*args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapping, "_assemble", note)
        assert ground.map(out, cluster=workers.scheduler_address) == file_hash(ground.alone)
    assert {name: again[name] for name in done} == done and len(again) > len(done)


def test_uncertainty_and_relative_paths_reach_the_workers(
    ground: Ground, workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ground.stack.parent)
    here = replace(
        ground,
        model=replace(ground.model, folder=Path(os.path.relpath(ground.model.folder))),
        stack=Path("stack.tif"),
    )
    # two samples of 12 windows are enough
    valid = np.zeros((1, *BIG), np.uint8)
    valid[0, 100:250, 30:200] = 1
    write_raster(tmp_path / "valid.tif", valid, read_info(here.stack).grid, ["valid"])
    asked = {"uncertainty": Uncertainty(area_of(ground.model), 2), "valid_path": tmp_path / "valid.tif"}
    alone = here.map(tmp_path / "alone.tif", **asked)
    assert here.map(Path(os.path.relpath(tmp_path / "p.tif")), cluster=workers.scheduler_address, **asked) == alone
    doubt = read(tmp_path / "p.tif")[3]
    assert np.array_equal(np.isfinite(doubt), valid[0] == 1) and np.nanmax(doubt) > 0


def test_a_damaged_stack_is_mapped_around_alike_and_refused_alike(
    ground: Ground, workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ground.stack, tmp_path / "stack.tif")
    shutil.copy(ground.stack.with_name("valid.tif"), tmp_path / "valid.tif")
    spoil(tmp_path / "stack.tif", "0_0", band=4)
    monkeypatch.chdir(tmp_path)
    hurt = replace(ground, stack=Path("stack.tif"))  # named in the map as it is given here
    alone = hurt.map(tmp_path / "alone.tif")
    assert "rows" in read_info(tmp_path / "alone.tif").tags["damaged"]
    assert hurt.map(tmp_path / "p.tif", cluster=workers.scheduler_address) == alone
    refused = []
    for name, where in (("a", None), ("b", workers.scheduler_address)):
        with pytest.raises(RasterError, match=r"stack\.tif: rows .* cannot be read.*--strict") as found:
            hurt.map(tmp_path / f"{name}.tif", cluster=where, strict=True)
        refused.append(str(found.value).split(":")[0])
    assert refused[0] == refused[1] and not (tmp_path / "b.tif").exists()


def test_a_number_starts_workers_here_which_share_its_threads(
    ground: Ground, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ground.map(tmp_path / "p.tif", cluster="local:2", memory=None) == ground.map(tmp_path / "a.tif", memory=None)
    assert "map: on 1 worker of local:2" in capsys.readouterr().err  # one window, one worker
    torch.set_num_threads(8)
    try:
        assert [cluster._threads_of_each(count) for count in (1, 3, 8, 20)] == [8, 2, 1, 1]
        assert cluster.engine_of_workers("4", ground.model, "torch", "fp32").threads == 2
    finally:
        torch.set_num_threads(1)


def test_a_worker_of_two_threads_has_two_windows_at_once_and_changes_no_byte(ground: Ground, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        alone = ground.map(tmp_path / "alone.tif")
        assert ground.map(tmp_path / "p.tif", cluster="1") == alone
    finally:
        torch.set_num_threads(1)


# ---- refusals ----


def refused(ground: Ground, address: str, out: Path, **choices: Any) -> str:
    """What is said of a map that cannot be made there; nothing is made."""
    with pytest.raises(LandslipError) as found:
        ground.map(out, cluster=address, **choices)
    assert not out.exists()
    return f"{type(found.value).__name__}: {found.value}"


@pytest.mark.parametrize(
    "address", ["", "0", "-1", "local:", "local:0", "host:8786", "two", "tcp://", "10000", "9" * 5000]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(RunError, match=r"--cluster .* is neither a scheduler's address.*nor a number of workers"):
        cluster.workers_here(address)


def test_addresses_and_numbers_are_told_apart() -> None:
    assert [cluster.workers_here(text) for text in ("4", "local:12", "tcp://10.0.0.1:8786", "tls://head:1")] == [
        4,
        12,
        0,
        0,
    ]


def test_a_scheduler_that_is_not_there_is_one_error(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    for address in ("tcp://127.0.0.1:9", "tcp://127.0.0.1", "nonsense://127.0.0.1:9"):
        said = refused(ground, address, tmp_path / "p.tif")
        assert (
            said.startswith(f"RunError: the scheduler at {address} cannot be reached (") and "`dask scheduler`" in said
        )
    assert not list(tmp_path.glob(".*"))


def test_a_machine_too_busy_to_ask_the_scheduler_is_one_error(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object, **__: object) -> None:
        raise AssertionError  # as Dask does where its own thread has not begun after ten seconds

    monkeypatch.setattr(distributed, "Client", late)
    said = refused(ground, "tcp://127.0.0.1:9", tmp_path / "p.tif")
    assert said.startswith("RunError: the scheduler at tcp://127.0.0.1:9 cannot be reached (")


def test_a_scheduler_without_workers_is_one_error(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "WORKERS", 0.5)
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL) as empty:
        said = refused(ground, empty.scheduler_address, tmp_path / "p.tif")
        assert f"has had no worker for 0 s. Start some: dask worker {empty.scheduler_address}" in said


def test_workers_of_another_version_are_named_with_both(
    ground: Ground, workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "own_version", lambda: "9.9")
    said = refused(ground, workers.scheduler_address, tmp_path / "p.tif")
    assert "RunError: worker tcp://127.0.0.1:" in said
    assert "has landslip 0.1.0, and this machine has landslip 9.9. Install one version" in said


@pytest.mark.parametrize("missing", ["model", "stack", "plan"])
def test_workers_that_do_not_see_the_files_are_one_error(
    ground: Ground, workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name in ("stack.tif", "valid.tif"):
        shutil.copy(ground.stack.with_name(name), tmp_path / name)
    shutil.copytree(ground.model.folder, tmp_path / "model")
    moved = replace(ground, model=load_model(tmp_path / "model"), stack=tmp_path / "stack.tif")
    lost = {"model": "model/model.json", "stack": "stack.tif", "plan": ".p.tif.windows"}[missing]
    if missing == "model":
        (tmp_path / lost).unlink()
    else:

        def lose(*_: object) -> None:
            (next((tmp_path / lost).glob("*/plan.json")) if missing == "plan" else tmp_path / lost).unlink()

        monkeypatch.setattr(mapping, "_forecast", lose)
    said = refused(moved, workers.scheduler_address, tmp_path / "p.tif")
    assert "worker tcp://127.0.0.1:" in said and str(tmp_path / lost).removesuffix("/model.json") in said


def test_workers_that_see_another_model_or_stack_are_one_error(
    ground: Ground, workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ground.stack, tmp_path / "stack.tif")
    model = ground.model
    moved = replace(ground, model=replace(model, folder=tmp_path / "model"), stack=tmp_path / "stack.tif")
    facts = {key: model.facts[key] for key in ("run", "split")}
    other = {name: tensor * 2 for name, tensor in model.network.state_dict().items()}
    save_model(tmp_path / "model", other, model.channels, model.zscore, 0.5, facts=facts)
    said = refused(moved, workers.scheduler_address, tmp_path / "p.tif")
    assert said.startswith("ModelError: worker tcp://") and "holds other weights here" in said
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(model.folder, tmp_path / "model")
    monkeypatch.setattr(mapping, "_forecast", lambda *_: os.utime(tmp_path / "stack.tif", ns=(0, 0)))
    said = refused(moved, workers.scheduler_address, tmp_path / "q.tif")
    assert "its stack is ['stack.tif'," in said and "and the map was planned with ['stack.tif'," in said


def test_without_distributed_the_extra_is_named(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DependencyError, match=r"pip install landslip\[cluster\]"):
        ground.map(tmp_path / "p.tif", cluster="tcp://127.0.0.1:9")


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly(distributed.WorkerPlugin):
    """Every window kills the worker that computes it."""

    def setup(self, worker: Any) -> None:
        cluster_worker.predict_tile = die  # type: ignore[assignment]


def test_a_window_that_kills_its_workers_is_named_with_the_remedy(ground: Ground, tmp_path: Path) -> None:
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
        ) as deadly,
        distributed.Client(deadly) as client,
    ):
        client.register_plugin(Deadly())
        said = refused(ground, deadly.scheduler_address, tmp_path / "p.tif")
    assert "RunError: 1 worker died with the window of 256 x 256 pixels at rows from 0, columns from" in said
    assert "smaller --memory" in said and not (tmp_path / ".p.tif.windows").exists()  # nothing was finished


# ---- files behind GDAL's virtual paths ----


def test_names_of_virtual_paths_are_given_to_gdal_whole() -> None:
    cases = {
        "/vsicurl/https://host/a/stack.tif": "/vsicurl/https://host/a/stack.tif",
        "/vsicurl/http://host:80/x.tif": "/vsicurl/http://host:80/x.tif",
        "/vsis3/bucket/key.tif": "/vsis3/bucket/key.tif",
        "/data/http:/x.tif": "/data/http:/x.tif",
        "rel/x.tif": "rel/x.tif",
    }
    assert {text: gdal_name(Path(text)) for text in cases} == cases


def test_a_stack_on_a_server_is_mapped_by_the_workers(ground: Ground, workers: Any, tmp_path: Path) -> None:
    with served(ground.stack.parent) as at:
        assert read_info(at / "stack.tif").names == read_info(ground.stack).names
        there = replace(ground, stack=at / "stack.tif")
        assert there.map(tmp_path / "p.tif", cluster=workers.scheduler_address) == file_hash(ground.alone)
        assert exists(at / "valid.tif") and not exists(at / "nothing.tif")
        assert file_facts(at / "stack.tif")[0] == f"{gdal_name(at)}/stack.tif"
        assert file_facts(at / "stack.tif")[1] != file_facts(at / "valid.tif")[1]
    with served(ground.stack.parent, 403) as at, pytest.raises(RasterError, match="403"):
        exists(at / "nothing.tif")
    with pytest.raises(RasterError, match=r"/vsicurl/http://127\.0\.0\.1.*cannot be read"):
        read_info(at / "stack.tif")
