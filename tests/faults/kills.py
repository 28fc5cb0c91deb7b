"""Kill every stage with SIGKILL at random moments and run it again: `python tests/faults/kills.py [--kills 100]`.

A case is a fresh folder: a stage is begun and killed one to three times, each time at a moment drawn evenly from what
an undisturbed run takes, and then left to finish (with --overwrite where it says so: a kill can come between the names
of several outputs). Its outputs must equal the undisturbed run's byte for byte. Half the times it replaces what the
stage made of other choices; then that stays until the new is whole, and half of those times the earlier choices are
made again after the kills instead, as by a person who gives the new ones up. After every kill whatever carries a final
name must be whole: the bytes of the undisturbed run, or the earlier ones, and what belongs together all of one of them.
All processes are forked from one that has imported everything, so that kills fall into the work and not into Python's
start. A server of reviews is killed while two browsers decide: what it had acknowledged must be there.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from itertools import cycle, zip_longest
from pathlib import Path
from threading import Timer

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of OpenMP do not survive a fork
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from conftest import write_tiny_site
from page import answer, arranged, port_of

import landslip.experiments.compare
import landslip.inference.quantize
import landslip.preparation.prepare
import landslip.training.train  # noqa: F401 - imported once, before any fork
from landslip.cli import main as cli
from landslip.errors import ModelError
from landslip.review import reviews
from landslip.training.checkpoint import load_model

COMPARE = """
[compare]
networks = ["fc_densenet"]
baselines = ["random_forest"]
channels = ["bands + factors"]
splits = ["apart"]
"""
GROWING = {"history.csv", "state.safetensors"}  # written anew after every epoch, whole each time
REDRAWN = {".png"}  # drawn last, of figures that are compared themselves
TIMES = {
    "seconds", "training_seconds", "mapping_seconds", "began", "finished", "created",
    "peak_mib", "training_peak_mib", "mapping_peak_mib", "peak_gpu_mib", "training_peak_gpu_mib",
}  # fmt: skip
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+Z?")  # when a GeoPackage and its styles were written


@dataclass(frozen=True)
class Stage:
    """A command, what it leaves (a file or a folder, by name), and other choices for it, which leave something else."""

    name: str
    words: tuple[str, ...]
    leaves: str
    other: tuple[str, ...]


PAPER = ("--method", "paper")

STAGES = (
    Stage("prepare", ("prepare", "site.toml", "new"), "new", ("--encoding", "paper")),
    Stage("train", ("train", "run.toml", "prepared", "new"), "new", ("--set", "training.seed=1")),
    Stage("map", ("map", "model", "prepared/stack.tif", "new.tif", "--memory", "1GB"), "new.tif", PAPER),
    Stage("map --cluster", ("map", "model", "prepared/stack.tif", "new.tif", "--cluster", "2"), "new.tif", PAPER),
    Stage("inventory", ("inventory", "p.tif", "new.gpkg"), "new.gpkg", ("--min-area", "9000")),
    Stage("compare", ("compare", "compare.toml", "prepared", "new"), "new", ("--set", "training.epochs=2")),
)


def start(folder: Path, words: tuple[str, ...]) -> int:
    """Fork a process that runs `landslip WORDS` in a folder, in a session of its own; its id."""
    child = os.fork()
    if child:
        return child
    code = 3
    try:
        os.setsid()
        os.chdir(folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["landslip", *words]
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def end(child: int, seconds: float | None) -> int | None:
    """Wait for a process, or kill it and all that it started after so many seconds: its exit code, None if killed."""
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() >= until:
            try:
                os.killpg(child, signal.SIGKILL)
            except ProcessLookupError:  # it has no session of its own yet
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.001)


def fingerprint(path: Path) -> str:
    """A hash of a file's content; of JSON and GeoPackages, without what says when and how long."""
    content = path.read_bytes()
    if path.suffix == ".gpkg":
        content = "\n".join(statements(path)).encode()
    if path.name == "history.csv":  # without how long an epoch took, and how fast it was
        rows = list(csv.DictReader(content.decode().splitlines()))
        kept = [
            {key: value for key, value in row.items() if key not in ("seconds", "blocks_per_second")} for row in rows
        ]
        content = json.dumps(kept).encode()
    if path.suffix == ".json":
        content = json.dumps(_timeless(json.loads(content)), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def statements(path: Path) -> list[str]:
    """A GeoPackage as SQL, without moments."""
    with closing(sqlite3.connect(path)) as connection:
        return [MOMENT.sub("", line) for line in connection.iterdump()]


def _first_difference(one: Path, other: Path) -> str:
    """Where two GeoPackages part; nothing of other files."""
    if one.suffix != ".gpkg" or not (one.exists() and other.exists()):
        return ""
    pairs = zip_longest(statements(one), statements(other))
    return next((f" ({a} / {b})"[:600] for a, b in pairs if a != b), "")


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def outputs(folder: Path, stage: Stage) -> dict[str, str]:
    """What a stage has left under final names in a folder, with fingerprints; hidden names are not final."""
    stem = Path(stage.leaves).stem
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and Path(parts[0]).stem == stem and not any(part.startswith(".") for part in parts):
            found["/".join(parts)] = fingerprint(path)
    return found


def undisturbed(folder: Path, stage: Stage, words: tuple[str, ...]) -> tuple[dict[str, str], float]:
    """What a run that nobody kills leaves in a folder, and how long it took."""
    began = time.monotonic()
    code = end(start(folder, words), None)
    took = time.monotonic() - began
    if code != 0:
        raise SystemExit(f"{stage.name} undisturbed: exit {code}\n{(folder / 'log').read_text()[-3000:]}")
    return outputs(folder, stage), took


def fresh(base: Path, folder: Path) -> Path:
    """A copy of the run folder that a stage begins with."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    return folder


def kill_stage(base: Path, work: Path, stage: Stage, kills: int, rng: np.random.Generator) -> dict[str, object]:
    """Kill a stage so many times: {"kills", "over", "seconds", "unlike", "faults"}; each fault is said in words."""
    other = (*stage.words, *stage.other)
    earlier, _ = undisturbed(fresh(base, work / "earlier"), stage, other)
    whole, took = undisturbed(fresh(base, work / "whole"), stage, stage.words)
    replaced, _ = undisturbed(fresh(work / "earlier", work / "replaced"), stage, (*stage.words, "--overwrite"))
    if stage.name == "inventory":  # ids are those of the inventory that is replaced
        unlike: set[str] = set()
    else:
        unlike = {name for name in whole if whole[name] != replaced.get(name)}
    stale = sorted({*replaced} - {*whole})
    faults = [f"{stale} of the earlier output stay beside the new"] if stale else []
    done = over_earlier = 0
    while done < kills:
        over = bool(rng.integers(2))
        words = (*stage.words, "--overwrite") if over else stage.words
        given_up = over and stage.name != "inventory" and bool(rng.integers(2))
        last, expected = (words, "replaced" if over else "whole")
        if given_up:
            last, expected = (*other, "--overwrite"), "earlier"
        wanted = {"whole": whole, "replaced": replaced, "earlier": earlier}[expected]
        folder = fresh(work / "earlier" if over else base, work / "killed")
        moments = []
        for _ in range(min(int(rng.integers(1, 4)), kills - done)):
            moments.append(float(rng.uniform(0, took)))
            code = end(start(folder, words), moments[-1])
            if code is not None:  # it was done before its time
                break
            done += 1
            over_earlier += over
            left = outputs(folder, stage)
            for name, found in left.items():
                fine = Path(name).name in GROWING or name in unlike or Path(name).suffix in REDRAWN
                known = {whole.get(name), *([replaced.get(name), earlier.get(name)] if over else [])}
                if not fine and found not in known:
                    faults.append(f"{name} is not whole after kills at {moments} s{' over an earlier one' * over}")
            if over and (mixed := mixture(folder, left, (whole, replaced, earlier), unlike, stage)):
                faults.append(f"{mixed} are of two outputs after kills at {moments} s")
            taken = (folder / f".{stage.leaves}.replaced").exists()  # the next run gives it its name again
            lost = [name for name in earlier if over and name not in left and not taken and not goes(name, stage)]
            if lost:
                faults.append(f"{lost} of the earlier output are lost after kills at {moments} s")
        code = end(start(folder, last), None)
        if code == 2 and _says_it_is_there(folder):  # killed after its last byte, which is seen below
            code = 0
            if stage.name == "inventory":  # or between two of its names
                code = end(start(folder, (*stage.words, "--overwrite")), None)
        left = outputs(folder, stage)
        how = f"after kills at {moments} s" + " over an earlier one" * over + ", given up" * given_up
        if code != 0:
            faults.append(f"exit {code} {how}: {(folder / 'log').read_text()[-300:]}")
        differing = {n for n in {*wanted, *left} - unlike if wanted.get(n) != left.get(n)}
        if differing:
            where = "".join(_first_difference(work / expected / name, folder / name) for name in sorted(differing))
            faults.append(f"{sorted(differing)} differ {how}{where}")
        hidden = [p.name for p in folder.rglob(".*") if p.suffix != ".lock"]
        if hidden:
            faults.append(f"{hidden} left {how}")
    about = {"kills": done, "over": over_earlier, "seconds": round(took, 2), "unlike": sorted(unlike)}
    return {**about, "faults": faults}


def mixture(
    folder: Path, left: dict[str, str], known: Sequence[dict[str, str]], unlike: set[str], stage: Stage
) -> list[str]:
    """Files of an output that are of none of the known ones together, though each is of one and nothing says so.

    An inventory's files, and a comparison's tables and pictures, get their names one after another. A run of a
    comparison is an output once it has its result, and a model folder of two trainings is one that nothing loads.
    """
    units = [""]
    if stage.name == "inventory":
        units = []
    elif stage.name == "compare":
        units = [
            name.removesuffix(end) for end in ("result.json", "model.json") for name in left if name.endswith(f"/{end}")
        ]
    for unit in units:
        own = {
            name: found
            for name, found in left.items()
            if name.startswith(unit)
            and name not in unlike
            and Path(name).suffix not in REDRAWN
            and Path(name).name != "state.safetensors"
        }
        model = {"train": "new/"}.get(stage.name, unit)
        if any(own.items() <= one.items() for one in known) or (
            f"{model}model.json" in left and not loads(folder / model)
        ):
            continue
        return sorted(own)
    return []


def loads(model: Path) -> bool:
    """Whether a folder is taken for a model."""
    try:
        load_model(model)
    except ModelError:
        return False
    return True


def goes(name: str, stage: Stage) -> bool:
    """Whether a comparison takes a file away before there is another: scores go before what they are of."""
    return stage.name == "compare" and Path(name).name == "result.json"


def _says_it_is_there(folder: Path) -> bool:
    """Whether the last run refused since its output was there already, and said what to do."""
    return "exists already" in (folder / "log").read_text().strip().splitlines()[-1]


def lost_decisions(path: Path, known: list[tuple[int, int]]) -> list[str]:
    """What is wrong with a reviewed inventory that should hold these decisions, (landslide, version), or later ones."""
    after = reviews.read_reviews(path)
    lost = [at for at, version in known if at not in after or after[at].version < version]
    with closing(sqlite3.connect(path)) as connection:
        whole = connection.execute("PRAGMA integrity_check").fetchone()[0]
    return [f"decisions on {lost} are lost, the file is {whole}"] if lost or whole != "ok" else []


def kill_review(base: Path, work: Path, kills: int, rng: np.random.Generator) -> dict[str, object]:
    """Kill a server that two browsers send decisions to, so many times: each that it had acknowledged must be there."""
    folder = arranged(fresh(base, work / "review"))
    path = folder / "inventory" / "landslides.gpkg"
    ids = [landslide.id for landslide in reviews.read_inventory(path)]
    faults: list[str] = []
    kept = 0
    for done in range(kills):
        before = {at: one.version for at, one in reviews.read_reviews(path).items()}
        (folder / "log").unlink(missing_ok=True)
        child = start(folder, ("serve", ".", "--port", "0"))
        port = port_of(folder / "log", lambda child=child: os.waitpid(child, os.WNOHANG) == (0, 0))
        killing = Timer(float(rng.uniform(0.01, 0.6)), os.killpg, (child, signal.SIGKILL))
        killing.start()
        with ThreadPoolExecutor(2) as pool:
            decided = pool.map(partial(decide_until_killed, port, before, f"try {done}"), (ids[::2], ids[1::2]))
            acknowledged = [one for each in decided for one in each]
        killing.join()
        os.waitpid(child, 0)
        kept += len(acknowledged)
        faults += [f"try {done}: {fault}" for fault in lost_decisions(path, [*acknowledged, *before.items()])]
    if not kept:
        faults.append("no decision was ever acknowledged: nothing was tried")
    return {"kills": kills, "decisions acknowledged": kept, "faults": faults}


def decide_until_killed(port: int, before: dict[int, int], note: str, ids: list[int]) -> list[tuple[int, int]]:
    """Send decisions on some landslides until the server is gone: those it acknowledged, (landslide, version)."""
    versions, made = dict(before), []
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    with suppress(ConnectionError, HTTPException):
        for at in cycle(ids):
            decision = {"landslide": at, "state": reviews.ACCEPTED, "version": versions.get(at, 0), "note": note}
            versions[at] = json.loads(answer(connection, "/api/reviews", decision))["version"]
            made.append((at, versions[at]))
    return made


def prepared_base(folder: Path, finished: Path | None) -> Path:
    """A run folder with everything that any stage starts from: a copy of a finished one, or made here."""
    if finished is not None:
        shutil.copytree(finished, folder)
    else:
        folder.mkdir()
        _finish(folder)
    (folder / "compare.toml").write_text((folder / "run.toml").read_text() + COMPARE)
    return folder


def _finish(folder: Path) -> None:
    write_tiny_site(folder)
    for words in (
        ("prepare", "site.toml", "prepared"),
        ("train", "run.toml", "prepared", "model"),
        ("map", "model", "prepared/stack.tif", "p.tif"),
        ("inventory", "p.tif", "i.gpkg"),
    ):
        if end(start(folder, words), None) != 0:
            raise SystemExit((folder / "log").read_text())
    (folder / "log").unlink()


def main() -> None:
    """Print what was killed and what was wrong, as JSON; exit code 1 where anything was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each stage")
    parser.add_argument("--stages", nargs="+", default=[*(stage.name for stage in STAGES), "review"])
    parser.add_argument("--base", type=Path, help="a finished run folder of the tests; default: made first")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        base, work = prepared_base(Path(name) / "base", given.base), Path(name) / "work"
        tries: dict[str, Callable[..., dict[str, object]]] = {
            stage.name: lambda rng, stage=stage: kill_stage(base, work, stage, given.kills, rng) for stage in STAGES
        }
        tries["review"] = lambda rng: kill_review(base, work, given.kills, rng)
        for stage in given.stages:
            found[stage] = tries[stage](np.random.default_rng((given.seed, len(stage))))
            print(f"{stage}: {found[stage]}", file=sys.stderr)
    print(json.dumps(found, indent=2))
    sys.exit(any(one["faults"] for one in found.values()))


if __name__ == "__main__":
    main()
