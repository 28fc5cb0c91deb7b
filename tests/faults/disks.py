"""Have the disk fail once at every kind of call: `python tests/faults/disks.py [--tries 20]`, with strace installed.

strace makes one call of a stage fail with EIO or ENOSPC: a write, a synchronisation, a truncation or a renaming, drawn
evenly from those that an undisturbed run makes. The stage must then end in one of landslip's own errors, or well (what
failed was not needed, or tried again) and with the undisturbed run's bytes; what carries a final name must be whole,
and the same command must then end well, or say that an output (whole) is there already. Decisions of a review that were
acknowledged must be there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from kills import STAGES, Stage, fresh, lost_decisions, outputs, prepared_base, read_acknowledged

CALLS = ("write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "rename", "mkdir", "unlink")
PROGRAM = "from landslip.cli import main; main()"
DECIDING = """
import sys
from pathlib import Path
from landslip import review
from landslip.errors import LandslipError
path = Path("i.gpkg")
for landslide in review.read_landslides(path):
    try:
        made = review.decide(path, landslide.id, "accepted", note="x" * 1000)
        print(landslide.id, made.version, flush=True)
    except LandslipError as error:
        print(f"landslip: {error}", file=sys.stderr)
"""
KEEPING = ("pwrite64", "fsync", "fdatasync", "ftruncate", "unlink")  # of SQLite; `write` is what is printed
OWN_ERROR = re.compile(r"^landslip: \S", re.MULTILINE)


def run(
    folder: Path, words: tuple[str, ...], more: list[str], log: Path, program: str = PROGRAM
) -> subprocess.CompletedProcess[str]:
    """Run `landslip WORDS`, or another program, in a folder under strace."""
    traced = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(log), "-e", f"trace={','.join(CALLS)}", *more]
    return subprocess.run(
        [*traced, sys.executable, "-c", program, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def calls_of(log: Path, folder: Path) -> dict[str, int]:
    """How often each kind of call was made: the number that strace counts by."""
    found = dict.fromkeys(CALLS, 0)
    for line in log.read_text(errors="replace").splitlines():
        if (name := re.match(r"\d+\s+(\w+)\(", line)) and name[1] in found:
            found[name[1]] += 1
    return found


def fail_stage(base: Path, work: Path, stage: Stage, tries: int, rng: np.random.Generator) -> dict[str, object]:
    """Fail a call of a stage so many times: {"tries", "refused", "ended well", "faults"}."""
    folder, log = fresh(base, work / "whole"), work / "trace"
    done = run(folder, stage.words, [], log)
    if done.returncode:
        raise SystemExit(f"{stage.name} undisturbed: exit {done.returncode}\n{done.stderr[-2000:]}")
    whole, calls = outputs(folder, stage), calls_of(log, folder)
    kinds = [name for name, count in calls.items() if count]
    faults: list[str] = []
    refused = 0
    for at in range(tries):
        call = kinds[at % len(kinds)]
        number = int(rng.integers(1, calls[call] + 1))
        error = ("EIO", "ENOSPC")[int(rng.integers(2))]
        said = f"{error} at {call} {number} of {calls[call]}"
        folder = fresh(base, work / "failing")
        done = run(folder, stage.words, ["-e", f"inject={call}:error={error}:when={number}"], log)
        left = outputs(folder, stage)
        left |= {
            name: whole[name] for name in left if name in whole and _same_pixels(folder / name, work / "whole" / name)
        }
        halves = [name for name, found in left.items() if found != whole.get(name) and not _grows(name)]
        if done.returncode == 0 and left != whole:
            faults.append(f"{said}: exit 0, and {sorted({*left} ^ {*whole}) or halves} differ")
        elif done.returncode == 2:
            refused += 1
            if not OWN_ERROR.search(done.stderr) or "Traceback" in done.stderr:
                faults.append(f"{said}: {done.stderr[-600:]}")
        elif done.returncode:
            faults.append(f"{said}: exit {done.returncode}: {done.stderr[-600:]}")
        if halves:
            faults.append(f"{said}: {halves} not whole under final names")
        if done.returncode:
            again = run(folder, stage.words, [], log)
            there = "exists already" in again.stderr  # of several outputs the first had got its name, whole
            if (again.returncode or outputs(folder, stage) != whole) and not there:
                faults.append(f"{said}: the same command then ends with {again.returncode}: {again.stderr[-400:]}")
    return {"tries": tries, "calls": calls, "refused": refused, "ended well": tries - refused, "faults": faults}


def fail_review(base: Path, work: Path, tries: int, rng: np.random.Generator) -> dict[str, object]:
    """Fail a call of a program that decides on every landslide: each decision that it acknowledged must be there."""
    folder, log = fresh(base, work / "whole"), work / "trace"
    done = run(folder, (), [], log, DECIDING)
    if done.returncode or done.stderr:
        raise SystemExit(f"deciding undisturbed: exit {done.returncode}\n{done.stderr[-2000:]}")
    calls = {name: count for name, count in calls_of(log, folder).items() if name in KEEPING and count}
    faults: list[str] = []
    refused = kept = 0
    for at in range(tries):
        call = list(calls)[at % len(calls)]
        number = int(rng.integers(1, calls[call] + 1))
        error = ("EIO", "ENOSPC")[int(rng.integers(2))]
        said = f"{error} at {call} {number} of {calls[call]}"
        folder = fresh(base, work / "failing")
        done = run(folder, (), ["-e", f"inject={call}:error={error}:when={number}"], log, DECIDING)
        refused += bool(done.stderr)
        if done.returncode or "Traceback" in done.stderr:
            faults.append(f"{said}: exit {done.returncode}: {done.stderr[-600:]}")
        acknowledged = read_acknowledged(done.stdout)
        kept += len(acknowledged)
        faults += [f"{said}: {fault}" for fault in lost_decisions(folder / "i.gpkg", acknowledged)]
    return {"tries": tries, "calls": calls, "refused": refused, "decisions acknowledged": kept, "faults": faults}


def _same_pixels(one: Path, other: Path) -> bool:
    """Whether two GeoTIFFs say the same: where a write into its directory fails GDAL puts another at the file's end."""
    if one.suffix != ".tif":
        return False
    with rasterio.open(one) as a, rasterio.open(other) as b:
        return a.tags() == b.tags() and a.profile == b.profile and a.read().tobytes() == b.read().tobytes()


def _grows(name: str) -> bool:
    return Path(name).name in ("history.csv", "state.safetensors")


def main() -> None:
    """Print what failed and what was wrong, as JSON; exit code 1 where anything was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=20, help="of each stage")
    stages = {stage.name: stage for stage in STAGES}
    parser.add_argument(
        "--stages", nargs="+", default=["prepare", "train", "map", "inventory", "review"], choices=[*stages, "review"]
    )
    parser.add_argument("--base", type=Path, help="a finished run folder of the tests; default: made first")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not shutil.which("strace"):
        raise SystemExit("strace is not installed")
    found = {}
    with tempfile.TemporaryDirectory() as name:
        base, work = prepared_base(Path(name) / "base", given.base), Path(name) / "work"
        work.mkdir()
        for stage in given.stages:
            rng = np.random.default_rng((given.seed, len(stage)))
            if stage == "review":
                found[stage] = fail_review(base, work, given.tries, rng)
            else:
                found[stage] = fail_stage(base, work, stages[stage], given.tries, rng)
            print(f"{stage}: {found[stage]}", file=sys.stderr)
    print(json.dumps(found, indent=2))
    sys.exit(any(one["faults"] for one in found.values()))


if __name__ == "__main__":
    main()
