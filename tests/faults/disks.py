"""Have the disk fail once at every kind of call: `python tests/faults/disks.py [--tries 20]`, with strace installed.

strace makes one call of a stage fail with EIO or ENOSPC: a write, a synchronisation, a truncation or a renaming, drawn
evenly from those that an undisturbed run makes. The stage must then end in one of landslip's own errors, or well (what
failed was not needed, or tried again) and with the undisturbed run's bytes; what carries a final name must be whole,
and the same command must then end well, or say that an output (whole) is there already. Decisions of a review that were
acknowledged must be there. Half the times an earlier output is to be replaced, and must stay where a stage fails.
With --every every call of a kind fails in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from kills import STAGES, TIMES, Stage, fresh, lost_decisions, outputs, prepared_base, statements

CALLS = (
    "openat", "write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "rename", "mkdir", "unlink", "unlinkat",
    "rmdir",
)  # fmt: skip
PROGRAM = "from landslip.cli.main import main; main()"
DECIDING = """
import sys
from pathlib import Path
from landslip.review import reviews
from landslip.errors import LandslipError
path = Path("i.gpkg")
for landslide in reviews.read_inventory(path):
    try:
        made = reviews.decide(path, landslide.id, "accepted", note="x" * 1000)
        print(landslide.id, made.version, flush=True)
    except LandslipError as error:
        print(f"landslip: {error}", file=sys.stderr)
"""
KEEPING = ("pwrite64", "fsync", "fdatasync", "ftruncate", "unlink")  # of SQLite; `write` is what is printed
OWN_ERROR = re.compile(r"^landslip: \S", re.MULTILINE)


def run(
    folder: Path, words: tuple[str, ...], more: list[str], log: Path, program: str = PROGRAM, most: float = 1800
) -> subprocess.CompletedProcess[str]:
    """Run `landslip WORDS`, or another program, in a folder under strace; what takes `most` seconds hangs: killed."""
    traced = ["strace", "-f", "-y", "--seccomp-bpf", "-qq", "-o", str(log), "-e", f"trace={','.join(CALLS)}", *more]
    begun = subprocess.Popen(
        [*traced, sys.executable, "-c", program, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )
    try:
        out, err = begun.communicate(timeout=most)
    except subprocess.TimeoutExpired:
        os.killpg(begun.pid, signal.SIGKILL)
        out, err = begun.communicate()
        err += f"hangs for {most:.0f} s"
    return subprocess.CompletedProcess(begun.args, begun.returncode, out, err)


def calls_of(log: Path, folder: Path) -> dict[str, list[int]]:
    """Which calls of each kind meet a file of a folder: their numbers in their process, as strace counts."""
    found: dict[str, list[int]] = {name: [] for name in CALLS}
    counted: Counter[tuple[str, str]] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        if (call := re.match(r"(\d+)\s+(\w+)\((.*)", line)) and call[2] in found:
            counted[call[1], call[2]] += 1
            if _on_disk(call[2], call[3], folder):
                found[call[2]].append(counted[call[1], call[2]])
    return found


def _on_disk(call: str, words: str, folder: Path) -> bool:
    """Whether a call's words name a file of a folder, or one without its place, which is that of the process.

    Of what is opened only what is made thereby.
    """
    words = re.sub(r"^AT_FDCWD(<[^>]*>)?, ", "", words)  # where the process is says nothing of an absolute name
    named = str(folder) in words or bool(re.match(r'"[^/]', words))
    return named and (call != "openat" or "O_CREAT" in words)


def struck(log: Path, folder: Path) -> bool:
    """Whether calls failed, and all of them of the disk: none of a pipe or a socket between processes."""
    lines = log.read_text(errors="replace").splitlines()
    failed = [re.match(r"(?:\d+\s+)?(\w+)\((.*)", line) for line in lines if "(INJECTED)" in line]
    return bool(failed) and all(call and _on_disk(call[1], call[2], folder) for call in failed)


def fail_stage(
    base: Path, work: Path, stage: Stage, tries: int, rng: np.random.Generator, every: str | None = None
) -> dict[str, object]:
    """Fail a call of a stage so many times, or `every` call of a kind: {"tries", "refused", "ended well", "faults"}."""
    folder, log = fresh(base, work / "whole"), work / "trace"
    began = time.monotonic()
    done = run(folder, stage.words, [], log)
    most = 20 + 10 * (time.monotonic() - began)
    if done.returncode:
        raise SystemExit(f"{stage.name} undisturbed: exit {done.returncode}\n{done.stderr[-2000:]}")
    whole = left_by(folder, stage)
    calls = calls_of(log, folder)
    faults: list[str] = []
    refused = made = 0
    for call, number in _to_fail(calls, tries, rng, every):
        if made == tries and every is None:
            break
        error = ("EIO", "ENOSPC")[int(rng.integers(2))]
        said = f"{error} at {call} {number}"
        over = bool(rng.integers(2))
        folder = fresh(work / "whole" if over else base, work / "failing")
        words = (*stage.words, "--overwrite") if over else stage.words
        said += ", over an earlier output" if over else ""
        done = run(folder, words, ["-e", f"inject={call}:error={error}:when={number}"], log, most=most)
        if not struck(log, folder):  # every process fails its own call of that number, where it comes to it
            continue
        made += 1
        left = left_by(folder, stage)
        left |= {
            name: whole[name] for name in left if name in whole and _says_the_same(folder / name, work / "whole" / name)
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
        lost = [name for name in outputs(work / "whole", stage) if not (folder / name).exists()]
        if over and lost:
            faults.append(f"{said}: {lost} of the earlier output are lost")
        if done.returncode:
            again = run(folder, words, [], log)
            # of an inventory's outputs the first had got its name, whole
            there = stage.name == "inventory" and "exists already" in again.stderr
            if (again.returncode or left_by(folder, stage) != whole) and not there:
                faults.append(f"{said}: the same command then ends with {again.returncode}: {again.stderr[-400:]}")
    if made < tries and every is None:
        raise SystemExit(f"{stage.name}: of {10 * tries} failing calls {made} were of the disk alone")
    counts = {name: len(numbers) for name, numbers in calls.items()}
    return {"tries": made, "calls": counts, "refused": refused, "ended well": made - refused, "faults": faults}


def _to_fail(
    calls: dict[str, list[int]], tries: int, rng: np.random.Generator, every: str | None
) -> Iterator[tuple[str, int]]:
    """Kinds and numbers of calls: more than `tries`, as some turn out to be no call of the disk."""
    kinds = [name for name, numbers in calls.items() if numbers]
    if every is not None:
        yield from ((every, number) for number in sorted({*calls[every]}))
        return
    for at in range(10 * tries):
        kind = kinds[at % len(kinds)]
        yield kind, int(rng.choice(calls[kind]))


def left_by(folder: Path, stage: Stage) -> dict[str, str]:
    """What a stage has left; a comparison without its tables of seconds and memory, which no two runs agree on."""
    measured = ("comparison.csv", "comparison.md") if stage.name == "compare" else ()
    return {name: found for name, found in outputs(folder, stage).items() if Path(name).name not in measured}


def fail_review(base: Path, work: Path, tries: int, rng: np.random.Generator) -> dict[str, object]:
    """Fail a call of a program that decides on every landslide: each decision that it acknowledged must be there."""
    folder, log = fresh(base, work / "whole"), work / "trace"
    done = run(folder, (), [], log, DECIDING)
    if done.returncode or done.stderr:
        raise SystemExit(f"deciding undisturbed: exit {done.returncode}\n{done.stderr[-2000:]}")
    calls = {name: numbers for name, numbers in calls_of(log, folder).items() if name in KEEPING and numbers}
    faults: list[str] = []
    refused = kept = made = 0
    for at in range(10 * tries):
        if made == tries:
            break
        call = list(calls)[at % len(calls)]
        number = int(rng.choice(calls[call]))
        error = ("EIO", "ENOSPC")[int(rng.integers(2))]
        said = f"{error} at {call} {number}"
        folder = fresh(base, work / "failing")
        done = run(folder, (), ["-e", f"inject={call}:error={error}:when={number}"], log, DECIDING)
        if not struck(log, folder):
            continue
        made += 1
        refused += bool(done.stderr)
        if done.returncode or "Traceback" in done.stderr:
            faults.append(f"{said}: exit {done.returncode}: {done.stderr[-600:]}")
        acknowledged = read_acknowledged(done.stdout)
        kept += len(acknowledged)
        faults += [f"{said}: {fault}" for fault in lost_decisions(folder / "i.gpkg", acknowledged)]
    if made < tries or not refused or not kept:
        faults.append(f"{made} calls failed, {refused} decisions refused and {kept} acknowledged: too little was tried")
    counts = {name: len(numbers) for name, numbers in calls.items()}
    return {"tries": made, "calls": counts, "refused": refused, "decisions acknowledged": kept, "faults": faults}


def read_acknowledged(said: str) -> list[tuple[int, int]]:
    """(landslide, version) of every decision that a process has printed, a line each."""
    return [(int(at), int(version)) for at, version in map(str.split, said.splitlines())]


def _says_the_same(one: Path, other: Path) -> bool:
    """Whether two GeoTIFFs say the same: where a write into its directory fails GDAL puts another at the file's end.

    Or two model.json, but for the hash of such a file, which is compared itself; or two GeoPackages, but for triggers.
    """
    if one.suffix == ".gpkg":
        a, b = ([line for line in statements(path) if not line.startswith("CREATE TRIGGER")] for path in (one, other))
        return a == b
    if one.name == "model.json":
        a, b = ({**json.loads(path.read_text()), "split_sha256": ""} for path in (one, other))
        return all(a.get(key) == b.get(key) for key in {*a, *b} - TIMES)
    if one.suffix != ".tif":
        return False
    with rasterio.open(one) as a, rasterio.open(other) as b:
        profiles = [{**file.profile, "nodata": str(file.nodata)} for file in (a, b)]  # NaN is not NaN
        tags = [[file.tags(), *map(file.tags, file.indexes)] for file in (a, b)]
        return profiles[0] == profiles[1] and tags[0] == tags[1] and a.read().tobytes() == b.read().tobytes()


def _grows(name: str) -> bool:
    return Path(name).name in ("history.csv", "state.safetensors")


def main() -> None:
    """Print what failed and what was wrong, as JSON; exit code 1 where anything was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=20, help="of each stage")
    stages = {stage.name: stage for stage in STAGES}
    parser.add_argument("--stages", nargs="+", default=[*stages, "review"], choices=[*stages, "review"])
    parser.add_argument("--every", choices=CALLS, help="fail every call of this kind in turn, in place of --tries")
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
                found[stage] = fail_stage(base, work, stages[stage], given.tries, rng, given.every)
            print(f"{stage}: {found[stage]}", file=sys.stderr)
    print(json.dumps(found, indent=2))
    sys.exit(any(one["faults"] for one in found.values()))


if __name__ == "__main__":
    main()
