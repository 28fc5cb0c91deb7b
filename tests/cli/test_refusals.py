"""A slip of the pen is told at once: what takes seconds to import is imported after all that can be refused."""

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest
from conftest import TinySite

from landslip.geo.geotiff import write_raster
from landslip.geo.raster import read, read_info
from landslip.runtime import progress

HEAVY = {"torch", "openvino", "matplotlib", "numba", "sklearn", "scipy", "geopandas", "pandas", "pyarrow"}
COMMANDS = """
import contextlib, io, json, sys
from landslip.cli.main import main
for words in json.load(sys.stdin):
    sys.argv, code, out, err = ["landslip", *words], 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, sorted(sys.modules), out.getvalue(), err.getvalue()]))
"""
# name -> (command, what it says), in the order in which one process takes them: the lightest come first
RUN_FILES = {
    "train": ("train {slip} {prepared} {out}", "unknown key 'training.epoch' (did you mean 'epochs'?)"),
    "compare": ("compare {slip} {prepared} {out}", "unknown key 'training.epoch' (did you mean 'epochs'?)"),
    "ladder": ("ladder {slip} {prepared} {out}", "unknown key 'training.epoch' (did you mean 'epochs'?)"),
    "a folder for a run file": ("train {root} {prepared} {out}", "is a folder: did you mean"),
    "no prepared site": ("train {run} {none} {out}", "is not a prepared site"),
    "a file for a prepared site": ("train {run} {prepared}/stack.tif {out}", "is not a prepared site. Did you mean"),
    "ladder: no other site": ("ladder {run} {prepared} {out} --elsewhere {none}", "is not a prepared site"),
    "report: no run": ("report {none} {out}.html", "is not a folder"),
    "serve: no run": ("serve {none}", "is not a folder"),
    "qgis: no run": ("qgis {none}", "is not a folder"),
    "stac: no run": ("stac {none} {out}", "is not a folder"),
    "transfer: no prepared site": ("transfer {model} {none} {out}", "is not a prepared site"),
    "quantize: no prepared site": ("quantize {model} {none}", "is not a prepared site"),
}
OTHERS = {
    "check": ("check {site}", "unknown key 'dem.pth' (did you mean 'path'?)"),
    "prepare": ("prepare {site} {out}", "unknown key 'dem.pth' (did you mean 'path'?)"),
    "a model that is there": ("train {run} {prepared} {model}", "model.json exists already"),
    "map: no model": ("map {none} {prepared}/stack.tif {out}.tif", "is not a model folder"),
    "map: a file for a model": ("map {model}/model.json {prepared}/stack.tif {out}.tif", "Did you mean"),
    "map: other channels": ("map {model} {other} {out}.tif", "other.tif lacks coastal, blue, green"),
    "calibrate: no model": ("calibrate {none} {prepared} {out}", "is not a model folder"),
    "export: a folder that is there": ("export {model} {prepared}", "exists already"),
    "importance: no model": ("importance {prepared} {out} --model {none}", "is not a model folder"),
    "evaluate: no map": ("evaluate {none} {prepared}/label.tif", "does not exist"),
    "inventory: no map": ("inventory {none} {out}.gpkg", "does not exist"),
}


@dataclass(frozen=True)
class Told:
    code: int
    imported: set[str]
    out: str
    err: str


def told(lines: list[list[str]]) -> list[Told]:
    """What each command says, and the modules that are there after it, one after another in one new process."""
    words = [sys.executable, "-c", COMMANDS]
    done = subprocess.run(words, input=json.dumps(lines), capture_output=True, text=True, check=True)
    found = map(json.loads, done.stdout.splitlines())
    return [Told(code, set(imported), out, err) for code, imported, out, err in found]


@pytest.fixture(scope="module")
def refused(made: TinySite, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """All refusals by name."""
    folder, root = tmp_path_factory.mktemp("slips"), made.folder
    (folder / "run.toml").write_text("[training]\nepoch = 3\n")
    (folder / "site.toml").write_text(made.site.read_text().replace("[dem]\npath", "[dem]\npth"))
    stack = read_info(root / "prepared" / "stack.tif")
    write_raster(folder / "other.tif", read(stack.path, [1]), stack.grid, ["thermal"], float("nan"))
    places = {"run": made.run, "prepared": root / "prepared", "model": root / "model", "root": root}
    slips = {"slip": folder / "run.toml", "site": folder / "site.toml", "other": folder / "other.tif"}
    named = {**places, **slips, "none": folder / "none", "out": folder / "out"}
    every = RUN_FILES | OTHERS
    return dict(zip(every, told([line.format(**named).split() for line, _ in every.values()]), strict=True))


@pytest.mark.parametrize("name", RUN_FILES | OTHERS)
def test_what_cannot_be_is_told_before_any_heavy_import(name: str, refused: dict[str, Told]) -> None:
    found, (_, says) = refused[name], (RUN_FILES | OTHERS)[name]
    assert (found.code, found.out) == (2, "") and says in found.err and found.err.count("\n") == 1
    assert not found.imported & (HEAVY if name in OTHERS else HEAVY | {"numpy", "rasterio", "rich"})


def test_a_stack_is_described_without_a_heavy_import(made: TinySite) -> None:
    (found,) = told([["info", str(made.folder / "prepared" / "stack.tif")]])
    assert found.code == 0 and "a stack of 18 channels" in found.out and not found.imported & HEAVY


# ---- how progress is said ----


def test_counts_are_said_as_people_say_them() -> None:
    assert [progress.plural(n, "window") for n in (0, 1, 2, 12_000)] == [
        "0 windows", "1 window", "2 windows", "12,000 windows",
    ]  # fmt: skip
    assert progress.plural(3, "batch") == "3 batches" and progress.plural(2, "class") == "2 classes"
    assert progress.plural(3, "epoch") == "3 epochs"


def test_what_is_slower_than_one_a_second_is_said_in_seconds_each() -> None:
    assert progress.pace(30, 2.5, "window") == "12.0 windows/s"
    assert progress.pace(2, 70, "window") == "35.0 s per window"
    assert progress.pace(0, 5, "window") == "0.0 windows/s"  # nothing is known yet


def test_lines_of_a_slow_work_say_its_pace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = iter(range(0, 1000, 25))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    assert list(progress.track(range(3), 3, "map", "window")) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines() == [
        "map: 1/3 windows, 25.0 s per window, 50 s left",
        "map: 2/3 windows, 25.0 s per window, 25 s left",
        "map: 3/3 windows, 25.0 s per window, 0 s left",
    ]
