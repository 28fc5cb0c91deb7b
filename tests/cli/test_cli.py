"""The command line as a user meets it: what each command leaves, exit codes, and going on after an interruption."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from command import command, contents
from conftest import CRS_UTM, SHAPE, polygon
from rasterio.crs import CRS
from shapely import box

from landslip.cli import main
from landslip.errors import OutputError
from landslip.geo.geopackage import write_vector
from landslip.geo.geotiff import write_raster
from landslip.geo.grid import Grid
from landslip.geo.raster import read, read_info, read_stored
from landslip.geo.vector import read_vector
from landslip.geo.warp import warp_array


def without_landslides(folder: Path) -> None:
    text = (folder / "site.toml").read_text()
    (folder / "site.toml").write_text(text[: text.index("[landslides]")])


# ---- what each command leaves ----


def test_every_command_leaves_what_it_promises(finished: Path) -> None:
    assert {"stack.tif", "valid.tif", "label.tif", "channels.json", "manifest.json", "table.csv"} == {
        p.name for p in (finished / "prepared").iterdir()
    }
    assert len(read_vector(finished / "i.gpkg")) > 10
    assert set(np.unique(read_stored(finished / "i.tif"))) == {0, 1}
    assert json.loads((finished / "s.json").read_text())["part"] == "test"
    assert not list(finished.rglob(".*"))


def test_a_map_says_where_not_to_trust_it_and_draws_it(folder: Path) -> None:
    words = "map", folder / "model", folder / "prepared" / "stack.tif", folder / "u.tif"
    done = command(*words, "--uncertainty", "--samples", 2, "--picture", folder / "u.png")
    inside = read(folder / "u.tif")[2]
    share = float(re.findall(r"(\S+) % of them lie outside", done.out)[0])
    assert done.code == 0 and share == pytest.approx(100 * (inside == 0).sum() / np.isfinite(inside).sum(), abs=0.05)
    assert (folder / "u.png").read_bytes()[:4] == b"\x89PNG"
    assert np.array_equal(read(folder / "u.tif")[0], read(folder / "p.tif")[0], equal_nan=True)
    label, split = folder / "prepared" / "label.tif", folder / "model" / "split.tif"
    assert command("evaluate", folder / "u.tif", label, "--split", split).code == 0
    assert "disagreement" in command("info", folder / "u.tif").out
    again = command(*words, "--uncertainty", "--overwrite", "--samples", 2, "--training", folder / "prepared")
    assert again.out == done.out


def test_where_the_map_alone_got_its_name_the_same_command_ends_well(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "map", folder / "model", folder / "prepared" / "stack.tif", folder / "n.tif"

    def full(*_: object) -> None:
        raise OutputError("n.qml: the disk is full (0.0 MiB free).")

    with monkeypatch.context() as patch:
        patch.setattr("landslip.inference.mapping._style", full)
        assert command(*words).code == 2
    content = (folder / "n.tif").read_bytes()
    assert command(*words).code == 0 and (folder / "n.qml").exists()
    assert (folder / "n.tif").read_bytes() == content and not (folder / ".n.tif.windows").exists()


def test_an_inventory_of_a_map_without_ground_says_so(folder: Path) -> None:
    with rasterio.open(folder / "p.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.write(np.full_like(file.read(), np.nan))
    done = command("inventory", folder / "p.tif", folder / "n.gpkg")
    assert done.code == 0 and "0 landslides, 0.000 km², no ground is mapped; " in done.out


def test_what_belongs_to_uncertainty_is_not_silently_left_out(folder: Path) -> None:
    words = "map", folder / "model", folder / "prepared" / "stack.tif", folder / "u.tif"
    for more in (("--samples", 4), ("--training", folder / "prepared"), ("--picture", folder / "u.png")):
        said = command(*words, *more)
        assert said.code == 2 and "belong to --uncertainty" in said.err and not (folder / "u.tif").exists()
    said = command(*words, "--uncertainty", "--method", "paper")
    assert said.code == 2 and "--method halo" in said.err
    said = command(*words, "--uncertainty", "--picture", folder / "u.tif")
    assert said.code == 2 and "cannot be its output too" in said.err


def test_check_says_0_for_a_good_site_and_1_with_all_faults_at_once(folder: Path) -> None:
    good = command("check", folder / "site.toml")
    assert (good.code, good.err) == (0, "")
    *notes, last = good.out.splitlines()
    assert last == "0 faults, 0 warnings" and all(line.startswith("note: ") for line in notes)
    (folder / "dem.tif").unlink()
    (folder / "rivers.gpkg").write_bytes(b"")
    (folder / "image.tif").write_bytes((folder / "image.tif").read_bytes()[:9000])
    bad = command("check", folder / "site.toml")
    assert bad.code == 1 and bad.err == ""
    for name in ("dem.tif", "rivers.gpkg", "image.tif"):
        assert len(re.findall(rf"^fault: \S*{re.escape(name)}", bad.out, re.M)) == 1, bad.out
    assert "image.tif: 1 block cannot be read (at row 0 column 0): truncated or damaged. Fetch it again." in bad.out
    assert bad.out.endswith("3 faults, 0 warnings\n")


def test_a_site_without_landslides_is_prepared_and_mapped(folder: Path) -> None:
    without_landslides(folder)
    prepared = command("prepare", folder / "site.toml", folder / "new", "--no-figures")
    assert prepared.code == 0 and "no [landslides]" in prepared.err
    assert command("map", folder / "model", folder / "new" / "stack.tif", folder / "new.tif").code == 0
    assert np.array_equal(read(folder / "new.tif"), read(folder / "p.tif"), equal_nan=True)
    refused = command("train", folder / "run.toml", folder / "new", folder / "m")
    assert refused.code == 2 and "label.tif holds no landslide" in refused.err


def test_prepare_draws_the_site_and_its_factors(folder: Path) -> None:
    new = folder / "new"
    assert command("prepare", folder / "site.toml", new).code == 0
    factors = json.loads((new / "channels.json").read_text())["channels"]
    names = {f"factor_{c['factor']}.png" for c in factors if c["group"] == "factor"}
    assert len(names) == 9  # the paper's
    assert {p.name for p in (new / "figures").iterdir()} == names | {"study_area.png", "factors.png"}
    assert command("prepare", folder / "site.toml", new, "--overwrite", "--no-figures").code == 0
    assert not (new / "figures").exists()


def test_a_geographic_dem_is_prepared(folder: Path) -> None:
    metric = read_info(folder / "dem.tif").grid
    # 0.001 degrees beyond all sides of a site at 31 N, at about 30 m
    geographic = Grid(CRS.from_epsg(4326), Affine(3e-4, 0, 110.575, 0, -2.7e-4, 31.008), 120, 140)
    z = warp_array(read(folder / "dem.tif"), metric, geographic, "cubic")
    write_raster(folder / "dem.tif", z, geographic, ["elevation"], float("nan"), overwrite=True)
    assert command("prepare", folder / "site.toml", folder / "new", "--no-figures").code == 0
    elevation = list(read_info(folder / "new" / "stack.tif").names).index("elevation") + 1
    new, old = (read(folder / where / "stack.tif", [elevation]) for where in ("new", "prepared"))
    # what two cubic warps may leave on slopes of 8 m a pixel; a pixel's shift would leave 8
    assert np.nanmean(np.abs(new - old)) < 0.5 and np.nanmax(np.abs(new - old)) < 4


def test_a_choice_is_overridden_and_recorded(folder: Path) -> None:
    words = ("--set", "training.epochs=1", "--set", "channels.factors=none", "--set", 'channels.bands=["red", "nir"]')
    assert command("train", folder / "run.toml", folder / "prepared", folder / "m", *words).code == 0
    facts = json.loads((folder / "m" / "model.json").read_text())
    assert [c["name"] for c in facts["channels"]] == ["red", "nir"] and facts["run"]["training"]["epochs"] == 1
    mapped = command("map", folder / "m", folder / "prepared" / "stack.tif", folder / "two.tif", "--method", "paper")
    assert mapped.code == 0 and read_info(folder / "two.tif").tags["method"] == "paper"


# ---- outputs that exist ----

EXISTING = {
    "prepare": ("prepare site.toml prepared --no-figures", "prepared"),
    "map": ("map model prepared/stack.tif p.tif", "p.tif"),
    "inventory": ("inventory p.tif i.gpkg", "i.gpkg"),
    "inventory's map": ("inventory p.tif j.gpkg --map i.tif", "i.tif"),
    "evaluate": ("evaluate p.tif prepared/label.tif --json s.json", "s.json"),
    "train": ("train run.toml prepared model --set training.epochs=1", "model/model.json"),
}


@pytest.mark.parametrize("line, output", EXISTING.values(), ids=EXISTING.keys())
def test_an_output_that_exists_is_kept_and_replaced_on_demand(
    folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, output: str
) -> None:
    monkeypatch.chdir(folder)
    before = contents(folder)
    refused = command(*line.split())
    assert refused.code == 2 and re.fullmatch(rf"landslip: {output} exists already\..*--overwrite.*\n", refused.err)
    assert contents(folder) == before
    if "train" in line:  # marked, so that a file that was not written again is seen
        (folder / output).write_text("{}")
    done = command(*line.split(), "--overwrite")
    assert done.code == 0, done.err
    after = contents(folder)
    assert not [name for name in after if "/." in name or name.startswith(".")]
    assert after[output] != b"{}" if "train" in line else set(after) >= set(before)


# ---- interruptions ----

# The command itself, in a process of its own, that stops at a stated point until it is told to stop for good.
PAUSED = """
import signal, sys, time
# a test run started in the background hands down that Ctrl-C is ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
import {module} as module
from landslip.cli.main import main

original, calls = module.{name}, []

def pausing(*args, **named):
    calls.append(1)
    if len(calls) == {call}:
        print("paused", flush=True)
        time.sleep(60)
    return original(*args, **named)

module.{name} = pausing
sys.argv[0] = "landslip"
main()
"""


@contextlib.contextmanager
def paused(module: str, name: str, call: int, *words: object) -> Iterator["subprocess.Popen[str]"]:
    """`landslip WORDS` in another process, paused where it calls `module.name` for the `call`-th time."""
    code = PAUSED.format(module=module, name=name, call=call)
    line = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "paused\n":
            pytest.fail(process.communicate()[1])
        yield process
        process.kill()


def interrupt(process: "subprocess.Popen[str]", stop: signal.Signals = signal.SIGINT) -> None:
    process.send_signal(stop)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + stop and out == ""
    assert err.splitlines()[-1].startswith("landslip: stopped.") and "Traceback" not in err


def test_ctrl_c_while_preparing_leaves_nothing(folder: Path) -> None:
    before = contents(folder)
    words = ("prepare", folder / "site.toml", folder / "new", "--no-figures")
    with paused("landslip.preparation.prepare", "write_json", 1, *words) as process:
        assert (folder / ".new.part" / "stack.tif").exists()  # all but the last files lie aside
        interrupt(process)
    assert contents(folder) == before
    assert command(*words).code == 0
    for name in ("stack.tif", "valid.tif", "label.tif", "channels.json"):
        assert (folder / "new" / name).read_bytes() == before[f"prepared/{name}"]


def test_ctrl_c_while_training_keeps_the_epochs_done(folder: Path) -> None:
    words = ("train", folder / "run.toml", folder / "prepared", folder / "m", "--overwrite")
    with paused("landslip.training.loop", "learning_rate", 14, *words) as process:  # 9 batches an epoch: in the second
        state = (folder / "m" / "state.safetensors").read_bytes()
        interrupt(process)
    assert {p.name for p in (folder / "m").iterdir()} == {"state.safetensors", "split.tif", "history.csv"}
    assert (folder / "m" / "state.safetensors").read_bytes() == state
    done = command(*words)
    assert done.code == 0 and "going on after epoch 1 of 3" in done.err
    same_model(folder)


def test_a_killed_training_goes_on(folder: Path) -> None:
    words = ("train", folder / "run.toml", folder / "prepared", folder / "m")
    with paused("landslip.training.train", "write_text", 2, *words) as process:  # the second epoch's state is kept
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    done = command(*words)
    assert done.code == 0 and "going on after epoch 2 of 3" in done.err
    same_model(folder)


@pytest.mark.parametrize("last", ["save_model", "remove_file"])
def test_a_training_killed_at_its_end_loses_nothing(last: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("train", folder / "run.toml", folder / "prepared", folder / "m")
    with monkeypatch.context() as patch:
        patch.setattr(f"landslip.training.train.{last}", killed := Killed(1 if last == "save_model" else 2))
        assert command(*words).code == 130 and killed.left == 0
    assert (folder / "m" / "state.safetensors").exists()
    assert (folder / "m" / "history.png").exists() == (folder / "m" / "model.json").exists() == (last == "remove_file")
    assert command(*words).code == 0
    same_model(folder)
    assert command(*words).code == 2  # it exists


class Killed:
    """Stops the program at its n-th call."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, *_: object, **__: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def same_model(folder: Path) -> None:
    """The weights, split and history of an undisturbed run, and nothing left over."""
    m, model = contents(folder / "m"), contents(folder / "model")
    assert set(m) == {*model, "history.png"}
    assert m["model.safetensors"] == model["model.safetensors"] and m["split.tif"] == model["split.tif"]
    rows, wanted = (text.decode().splitlines() for text in (m["history.csv"], model["history.csv"]))
    assert [row.split(",")[:-2] for row in rows] == [row.split(",")[:-2] for row in wanted]  # the last two are times


@pytest.mark.parametrize(
    "stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["ctrl-c", "terminated", "killed"]
)
def test_an_interrupted_map_has_no_name(folder: Path, stop: signal.Signals) -> None:
    before = contents(folder)
    words = ("map", folder / "model", folder / "prepared" / "stack.tif", folder / "new.tif", "--method", "paper")
    assert command(*words[:-3], folder / "whole.tif", *words[-2:]).code == 0
    with paused("landslip.inference.predict", "scaled", 1, *words) as process:
        assert (folder / ".new.tif.windows").exists() and not (folder / "new.tif").exists()
        if stop != signal.SIGKILL:
            interrupt(process, stop)
            assert set(contents(folder)) == {*before, "whole.tif", "whole.qml"}  # not a window was finished
        process.send_signal(stop)
        process.wait(timeout=30)
    assert not (folder / "new.tif").exists()
    assert command(*words).code == 0
    assert (folder / "new.tif").read_bytes() == (folder / "whole.tif").read_bytes()
    assert set(contents(folder)) == {*before, "whole.tif", "whole.qml", "new.tif", "new.qml"}


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals of POSIX")
def test_a_second_sigterm_does_not_end_the_tidying_up(tmp_path: Path) -> None:
    code = """
import os, signal
from pathlib import Path
from landslip.cli import main as cli
from landslip.runtime import atomic
give_up = atomic.give_up
def slowly(aside):
    os.kill(os.getpid(), signal.SIGTERM)
    give_up(aside)
atomic.give_up = slowly
def app():
    with atomic.atomic_folder(Path("new")):
        os.kill(os.getpid(), signal.SIGTERM)
cli.app = app
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 143 and "stopped." in done.stderr and not list(tmp_path.iterdir())


def test_a_command_runs_in_any_thread_and_leaves_sigterm_to_whoever_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(main, "app", lambda: seen.append(signal.getsignal(signal.SIGTERM)))
    thread = threading.Thread(target=main.main)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        main.main()
        assert seen[1] == signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    main.main()
    assert callable(seen[2]) and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# ---- words on the command line ----


@pytest.mark.parametrize(
    "line, says",
    [
        ("mapp model s.tif p.tif", "No such command 'mapp'"),
        ("map model s.tif", "Missing argument 'PROBABILITY.tif'"),
        ("map model s.tif p.tif --methd halo", "No such option: --methd"),
        ("map model s.tif p.tif --method hallo", "'hallo' is not one of 'halo', 'paper'"),
        ("inventory p.tif i.gpkg --threshold half", "'--threshold'"),
        ("evaluate p.tif l.tif --part tests", "'tests' is not one of"),
        ("info", "needs a file, a folder or --network"),
        ("info --network unet --channels 0", "'--channels'"),
        ("info --network unett", "did you mean unet"),
        ("train run.toml p m --set epochs=3", "TABLE.KEY=VALUE"),
        ("demo d --seed -1", "'--seed'"),
    ],
)
def test_a_slip_of_the_pen_is_named(line: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = command(*line.split())
    assert outcome.code == 2 and says in outcome.err and outcome.out == ""
    assert not list(tmp_path.iterdir())


def test_what_memory_cannot_hold_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object) -> None:
        raise MemoryError("Unable to allocate 931 GiB")

    monkeypatch.setattr("landslip.cli.info.network_table", greedy)
    outcome = command("info", "--network", "unet")
    assert outcome.code == 2
    assert re.fullmatch(r"landslip: not enough memory \(Unable to allocate 931 GiB\)\. .*\n", outcome.err)


def test_a_folder_that_is_prepared_anew_keeps_what_is_not_of_landslip(folder: Path) -> None:
    notes = folder / "prepared" / "notes.txt"
    notes.write_text("three weeks of work")
    refused = command("prepare", folder / "site.toml", folder / "prepared", "--overwrite")
    assert refused.code == 2 and "also holds notes.txt" in refused.err and notes.exists()
    notes.unlink()
    (folder / "prepared" / "stack.tif.aux.xml").write_text("what a viewer leaves")
    write_vector(folder / "landslides.gpkg", read_vector(folder / "landslides.gpkg"), overwrite=True)
    assert command("prepare", folder / "site.toml", folder / "prepared", "--overwrite", "--no-figures").code == 0


def test_an_input_in_the_folder_to_be_replaced_is_kept(folder: Path) -> None:
    text = (folder / "site.toml").read_text()
    (folder / "site.toml").write_text(text.replace("landslides.gpkg", "prepared/label.tif"))
    before = contents(folder)
    refused = command("prepare", folder / "site.toml", folder / "prepared", "--overwrite")
    assert refused.code == 2 and "label.tif is an input and lies in" in refused.err
    assert contents(folder) == before


def test_the_outline_cuts_the_grid_and_names_the_ground(folder: Path) -> None:
    part = polygon(0, 0, SHAPE[0], SHAPE[1] // 2)
    outline = read_vector(folder / "outline.gpkg").set_geometry([box(*part.bounds)])
    write_vector(folder / "outline.gpkg", outline, overwrite=True)
    done = command("prepare", folder / "site.toml", folder / "half")
    assert done.code == 0 and f"{SHAPE[0]} x {SHAPE[1] // 2} pixels of 15 x 15, EPSG:{CRS_UTM.to_epsg()}" in done.out
