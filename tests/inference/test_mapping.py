"""A map of several windows: the same whatever the windows, killed and resumed, and on damaged files."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from conftest import CRS_UTM, TinySite
from made_up import spoil

from landslip.errors import ModelError, OutputError, RasterError, ResumeError
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid
from landslip.geo.raster import read, read_info, read_stored
from landslip.geo.tiling import HALO
from landslip.inference.engines import BASE, bytes_of_a_pixel, torch_engine
from landslip.inference.mapping import map_site
from landslip.inference.predict import Job, job_facts
from landslip.inference.tile_store import TileStore, open_tile_store
from landslip.runtime.disk import file_hash
from landslip.training.checkpoint import Model, load_model

WIDE = Grid(CRS_UTM, Affine(15, 0, 460_000, 0, -15, 3_430_000), 4 * 128, 5 * 192)


@pytest.fixture(scope="module")
def wide(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny site's stack repeated 4 x 5 times, compressed in tiles, with a hole in its valid pixels."""
    folder = tmp_path_factory.mktemp("wide")
    stack = made.folder / "prepared" / "stack.tif"
    names = [str(name) for name in read_info(stack).names]
    write_raster(folder / "stack.tif", np.tile(read(stack), (1, 4, 5)), WIDE, names, float("nan"))
    valid = np.tile(read_stored(made.folder / "prepared" / "valid.tif"), (4, 5))
    valid[200:340, 300:500] = 0
    write_raster(folder / "valid.tif", valid[None], WIDE, ["valid"])
    return folder


def memory_for(model: Model, side: int, engine: str = "torch") -> float:
    """A ceiling that just holds windows of `side` x `side` pixels."""
    return BASE[engine] + side * side * bytes_of_a_pixel(model, engine) + 1


def mapped(made: TinySite, wide: Path, out: Path, side: int = 384, **options: object) -> np.ndarray:
    model = load_model(made.folder / "model")
    map_site(
        model,
        wide / "stack.tif",
        out,
        precision_choice="fp32",
        engine_choice="torch",
        memory=memory_for(model, side),
        **options,  # type: ignore[arg-type]
    )
    return read(out)[0]


def test_windows_of_other_sizes_give_the_same_map(made: TinySite, wide: Path, tmp_path: Path) -> None:
    maps = [mapped(made, wide, tmp_path / f"{side}.tif", side) for side in (256, 384, 900)]
    windows = [read_info(tmp_path / f"{side}.tif").tags["window"] for side in (256, 384, 900)]
    assert len(set(windows)) == 3
    valid = read_stored(wide / "valid.tif") == 1
    for p in maps:
        assert np.array_equal(~np.isnan(p), valid)
        np.testing.assert_allclose(p[valid], maps[0][valid], atol=1e-5)  # the tiny network sees less than the halo


def test_the_papers_method_does_not_depend_on_what_is_computed_at_once(
    made: TinySite, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mapped(made, wide, tmp_path / "a.tif", 900, method="paper")
    monkeypatch.setattr("landslip.inference.mapping.PAPER_CORE", 64)
    parts = mapped(made, wide, tmp_path / "b.tif", 900, method="paper")
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert np.array_equal(np.isnan(parts), np.isnan(whole))


def command(made: TinySite, wide: Path, out: Path) -> list[str]:
    memory = memory_for(load_model(made.folder / "model"), 256)
    return [
        *(sys.executable, "-c", "from landslip.cli.main import main; main()"),
        *("map", str(made.folder / "model"), str(wide / "stack.tif"), str(out)),
        *("--engine", "torch", "--precision", "fp32", "--memory", str(int(memory))),
    ]


def test_killed_at_any_window_the_same_command_ends_with_the_same_bytes(
    made: TinySite, wide: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, out = tmp_path / "whole.tif", tmp_path / "killed.tif"
    subprocess.run(command(made, wide, whole), env=environment, check=True, capture_output=True)
    store = tmp_path / ".killed.tif.windows"
    for enough in (1, 20):
        with subprocess.Popen(command(made, wide, out), env=environment, stderr=subprocess.PIPE) as process:
            while process.poll() is None and len(list(store.glob("*/[0-9]*.npy"))) < enough:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL and not out.exists()
    last = subprocess.run(command(made, wide, out), env=environment, check=True, capture_output=True, text=True)
    assert "finished by an earlier run" in last.stderr
    assert file_hash(out) == file_hash(whole) and not store.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"whole.tif", "whole.qml", "killed.tif", "killed.qml"}


def test_killed_while_it_tidied_up_the_same_command_finds_its_map(
    made: TinySite, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "p.tif"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("landslip.inference.mapping.TileStore.remove", stop)
        mapped(made, wide, out)
    content, windows = out.read_bytes(), tmp_path / ".p.tif.windows"
    assert windows.exists()
    shutil.copytree(windows, tmp_path / "kept")
    mapped(made, wide, out)
    assert out.read_bytes() == content and not windows.exists()
    p = read(out)
    p[0, 1, 1] = 0.5  # another map under this name, and windows of a run that is to replace it
    write_raster(out, p, WIDE, ["probability"], float("nan"), overwrite=True)
    content = out.read_bytes()
    shutil.copytree(tmp_path / "kept", windows)
    with pytest.raises(OutputError, match=r"p\.tif exists already"):
        mapped(made, wide, out)
    assert out.read_bytes() == content and any(windows.glob("*/*.npy"))


def test_killed_while_it_removed_its_windows_the_same_command_leaves_none(
    made: TinySite, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="runs are kept apart by flock")
    out, windows = tmp_path / "p.tif", tmp_path / ".p.tif.windows"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", stop)
        mapped(made, wide, out)
    content = out.read_bytes()
    assert any(windows.glob("*/*.npy"))
    with (tmp_path / ".p.tif.lock").open("w") as lock:  # another run has begun meanwhile, and has not said of what
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match=r"p\.tif exists already"):
            mapped(made, wide, out)
        assert any(windows.glob("*/*.npy"))
    with pytest.raises(OutputError, match=r"p\.tif exists already"):
        mapped(made, wide, out)
    assert out.read_bytes() == content and not windows.exists()


def test_windows_that_cannot_be_removed_are_said_and_the_map_is_made(
    made: TinySite, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", fails)
        mapped(made, wide, tmp_path / "p.tif")
    assert ".p.tif.windows is of no more use and cannot be removed (Input/output error)" in capsys.readouterr().err
    with pytest.raises(OutputError, match=r"p\.tif exists already"):
        mapped(made, wide, tmp_path / "p.tif")
    assert {path.name for path in tmp_path.iterdir()} == {"p.tif", "p.qml"}


def test_windows_of_a_run_of_another_model_are_not_taken(
    made: TinySite, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mapped(made, wide, tmp_path / "whole.tif")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("landslip.inference.mapping._assemble", stop)
        mapped(made, wide, tmp_path / "p.tif")
    (found,) = (tmp_path / ".p.tif.windows").glob("*/plan.json")
    plan = found.parent.rename(found.parent.with_name("another")) / "plan.json"
    facts = json.loads(plan.read_text())
    plan.write_text(json.dumps({**facts, "weights": "of another model"}))
    with pytest.raises(ResumeError, match=r"another weights \(weights: of another model then, .*--overwrite"):
        mapped(made, wide, tmp_path / "p.tif")
    window = next(plan.parent.glob("*.npy"))
    window.write_bytes(window.read_bytes()[:-4] + b"1234")  # a window of the other run is not looked at
    assert np.array_equal(mapped(made, wide, tmp_path / "p.tif", overwrite=True), whole, equal_nan=True)
    assert not plan.parent.exists()


def test_a_damaged_block_is_undefined_and_named_and_the_rest_is_mapped(
    made: TinySite, wide: Path, tmp_path: Path
) -> None:
    shutil.copytree(wide, tmp_path / "in")
    stack = tmp_path / "in" / "stack.tif"
    spoil(stack, "1_1", band=4)
    model = load_model(made.folder / "model")
    options = {"precision_choice": "fp32", "engine_choice": "torch", "memory": memory_for(model, 384)}
    with pytest.raises(RasterError, match=r"stack.tif: rows 256 to 511, columns 256 to 511 cannot be read.*--strict"):
        map_site(model, stack, tmp_path / "p.tif", strict=True, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "p.tif").exists()
    done = map_site(model, stack, tmp_path / "p.tif", **options)  # type: ignore[arg-type]
    assert done.damaged == (f"{stack}: rows 256 to 511, columns 256 to 511",)  # once, however many windows meet it
    p, before = read(tmp_path / "p.tif")[0], mapped(made, wide, tmp_path / "before.tif")
    lost = np.zeros(WIDE.shape, bool)
    lost[256:512, 256:512] = True  # the second tile of the second row of tiles of 256
    valid = read_stored(wide / "valid.tif") == 1
    assert np.array_equal(~np.isnan(p), valid & ~lost)
    assert "stack.tif: rows" in read_info(tmp_path / "p.tif").tags["damaged"]
    far = np.ones(WIDE.shape, bool)
    far[256 - HALO : 512 + HALO, 256 - HALO : 512 + HALO] = False
    np.testing.assert_allclose(p[far & valid], before[far & valid], atol=1e-5)


def test_a_damaged_raster_of_valid_pixels_costs_its_block_only(made: TinySite, wide: Path, tmp_path: Path) -> None:
    shutil.copytree(wide, tmp_path / "in")
    spoil(tmp_path / "in" / "valid.tif", "3_0", band=1)
    p = mapped(made, tmp_path / "in", tmp_path / "p.tif")
    valid = read_stored(wide / "valid.tif") == 1
    valid[:256, 768:] = False
    assert np.array_equal(~np.isnan(p), valid)


def test_a_stack_of_which_nothing_can_be_read_is_no_map(made: TinySite, wide: Path, tmp_path: Path) -> None:
    shutil.copytree(wide, tmp_path / "in")
    stack = tmp_path / "in" / "stack.tif"
    rows, columns = -(-WIDE.height // 256), -(-WIDE.width // 256)
    for row in range(rows):
        for column in range(columns):
            spoil(stack, f"{column}_{row}", band=4)
    with pytest.raises(
        RasterError, match=r"nothing could be mapped: .*stack\.tif: rows .* cannot be read, nor \d+ other part"
    ):
        mapped(made, tmp_path / "in", tmp_path / "p.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_no_room_on_the_disk_is_said_before_the_work(
    made: TinySite, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "landslip.runtime.disk.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6)
    )
    with pytest.raises(OutputError, match=r"p\.tif needs about \d+\.\d MiB and its disk has 1\.0 MiB free"):
        mapped(made, wide, tmp_path / "p.tif")


def test_the_forecast_says_what_is_to_be_done(
    made: TinySite, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landslip.runtime.progress.WORTH_SAYING", 0.0)
    mapped(made, wide, tmp_path / "p.tif", 256)
    said = capsys.readouterr().err
    assert "map: 0.5 megapixels in 118 windows of 256 x 256, 2 % skipped; torch in fp32" in said
    assert "for the other 114 windows" in said


def test_a_ledger_holds_what_it_is_given(tmp_path: Path) -> None:
    out = tmp_path / "map" / "p.tif"
    values = np.array([[[0.5, np.nan]]], np.float32)
    shapes = [(1, 1, 2)] * 4
    with open_tile_store(out, {"a": 1}, overwrite=False) as store:
        assert store.left(shapes) == [0, 1, 2, 3]
        for index, damaged in ((1, []), (2, ["stack.tif: rows 0 to 9"]), (3, [])):
            store.keep(index, values, damaged)
        assert store.damaged(2) == ["stack.tif: rows 0 to 9"] and store.damaged(1) == []
        with ThreadPoolExecutor(1) as another, pytest.raises(OutputError, match=r"p\.tif is being written by another"):
            another.submit(open_tile_store(out, {"a": 1}, overwrite=True).__enter__).result()
    (store.folder / "0000003.npy").write_bytes(b"\x93NUMPY, cut short")
    with open_tile_store(out, {"a": 1}, overwrite=False) as again:
        assert again.left(shapes) == [0, 2, 3]  # what was damaged may be mended by now; what is not whole is none
        assert np.array_equal(again.load(1), values, equal_nan=True) and not again.finished(2)
        assert again.left([(1, 2, 1)] * 2) == [0, 1]  # of another shape
        again.keep(0, values, [])
    with (
        pytest.raises(ResumeError, match=r"another a, b \(a: 1 then, 2 now\)"),
        open_tile_store(out, {"a": 2, "b": 0}, overwrite=False),
    ):
        pass
    with open_tile_store(out, {"a": 2}, overwrite=True) as other:
        assert other.left(shapes) == [0, 1, 2, 3] and not store.folder.exists()
        other.remove()
    assert not list(out.parent.iterdir())


def test_windows_that_say_nothing_of_their_damage_any_more_are_not_taken(tmp_path: Path) -> None:
    """A run that was killed while it removed them: first the plan goes."""
    out, values = tmp_path / "p.tif", np.zeros((1, 1, 2), np.float32)
    with open_tile_store(out, {"a": 1}, overwrite=False) as store:
        store.keep(0, values, ["stack.tif: rows 0 to 9"])
        store.keep(1, values, [])
    (store.folder / "plan.json").unlink()
    (store.folder / "0000000.json").unlink()
    with open_tile_store(out, {"a": 1}, overwrite=False) as again:
        assert again.folder == store.folder and again.left([(1, 1, 2)] * 2) == [0, 1]
        again.remove()


@pytest.mark.parametrize("way", ["ended", "replaced", "whole"])
def test_windows_lose_their_plan_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """So that one whose notes are gone is never taken for whole."""
    out, values = tmp_path / "p.tif", np.zeros((1, 1, 2), np.float32)

    def killed(folder: Path) -> None:
        for notes in Path(folder).rglob("0*.json"):
            notes.unlink()
        raise SystemExit(137)

    def keep(store: TileStore) -> None:
        store.keep(0, values, ["stack.tif: rows 0 to 9"])

    if way == "replaced":
        with open_tile_store(out, {"a": 1}, overwrite=False) as store:
            keep(store)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("shutil.rmtree", killed)
        with open_tile_store(out, {"a": 2 if way == "replaced" else 1}, overwrite=True) as store:
            keep(store)
            if way == "ended":
                raise ValueError
            store.remove()
    with open_tile_store(out, {"a": 1}, overwrite=True) as again:
        assert again.left([(1, 1, 2)]) == [0]


def test_maps_of_one_stem_have_windows_of_their_own(tmp_path: Path) -> None:
    with open_tile_store(tmp_path / "p.tif", {"a": 1}, overwrite=False) as one:
        one.keep(0, np.zeros((1, 1, 2), np.float32), [])
        with open_tile_store(tmp_path / "p.tiff", {"a": 2}, overwrite=True) as other:
            other.remove()
        assert one.left([(1, 1, 2)]) == []
        one.remove()
    assert not any(tmp_path.iterdir())


def test_another_z_score_is_another_map(made: TinySite, wide: Path, tmp_path: Path) -> None:
    model = load_model(made.folder / "model")
    job = Job(
        model=model.folder,
        weights="w",
        stack=wide / "stack.tif",
        valid=None,
        method="halo",
        engine="torch",
        precision="fp32",
    )
    engine = torch_engine(model, "fp32")
    facts = job_facts(job, model, engine)
    moved = replace(model, zscore=replace(model.zscore, mean=model.zscore.mean + 1))
    assert job_facts(job, model, engine) == facts != job_facts(job, moved, engine)


def test_a_network_that_gives_no_number_on_valid_ground_is_an_error(
    made: TinySite, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "landslip.inference.engines.logits", lambda network, x, how: np.full((1, *x.shape[2:]), np.nan, np.float32)
    )
    with pytest.raises(ModelError, match="gives no probability"):
        mapped(made, wide, tmp_path / "p.tif")
    assert not list(tmp_path.iterdir())
