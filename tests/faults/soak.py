"""Map and serve in a loop: `python tests/faults/soak.py [--minutes 60]`. Memory, files and file handles must not grow.

One process maps a site again and again, with both engines, as a program that imports landslip would, and makes
inventories; a server of the same folder is asked for tiles, outlines and decisions all the while. After every round
what both hold is noted: resident memory, open files, threads; and the files in the folder and in the temporary one.
Caches fill at first, so the last quarter of the rounds is compared with the second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from page import answer, arranged, port_of

GROWTH = 16.0  # MiB that memory may grow by from the second to the last quarter: what an allocator may scatter
FEW = 2  # files, handles and threads that may be more: of an answer that is just being sent
MAPPER = """
import json, sys
from landslip.cli import main as cli
commands = json.loads(sys.argv[1])
for _ in sys.stdin:
    for words in commands:
        sys.argv = ["landslip", *words, "--overwrite"]
        try:
            cli.main()
        except SystemExit as stop:
            assert not stop.code, stop.code
    print("done", flush=True)
"""
MAP = ["map", "model", "prepared/stack.tif", "map/probability.tif", "--memory=1GB", "--engine"]
COMMANDS = [[*MAP, "openvino"]] if find_spec("openvino") else []
COMMANDS += [[*MAP, "torch"], ["inventory", "map/probability.tif", "again/landslides.gpkg"]]


@contextmanager
def mapping(run: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that maps once for every line that it is given, and answers `done`."""
    words = [sys.executable, "-c", MAPPER, json.dumps(COMMANDS)]
    with (
        (run.parent / "mapper").open("w") as said,
        subprocess.Popen(
            words, cwd=run, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        ) as process,
    ):
        yield process
        process.kill()


@contextmanager
def serving(run: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server of a run folder, and its port."""
    words = [sys.executable, "-m", "landslip", "serve", str(run), "--port", "0"]
    with (run.parent / "server").open("w") as said, subprocess.Popen(words, env=environment, stderr=said) as server:
        try:
            yield server, port_of(run.parent / "server", lambda: server.poll() is None)
        finally:
            server.kill()


def ask(port: int, at: int) -> int:
    """Look at the page as a browser does, decide on a landslide and take it back; the number of answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=120)

    said = partial(answer, connection)
    about = json.loads(said("/api/run"))
    view = "&".join(f"{side}={about['grid'][side]}" for side in ("left", "bottom", "right", "top"))
    paths = [f"/api/tiles/probability/{z}/0/0.png" for z in range(about["grid"]["levels"] + 1)]
    paths += ["/", f"/api/outlines?{view}", f"/api/candidates?{view}&threshold=0.5", "/api/layers/probability/legend"]
    for path in paths:
        said(path)
    landslides = json.loads(said("/api/landslides"))["landslides"]
    one = landslides[at % len(landslides)]["id"]
    known = {each["landslide"]: each for each in json.loads(said("/api/reviews"))["reviews"]}
    version = known[one]["version"] if one in known else 0
    made = json.loads(said("/api/reviews", {"landslide": one, "state": "accepted", "version": version}))
    said("/api/reviews/undo", {"decision": made["decision"]})
    connection.close()
    return len(paths) + 5


def held(process: subprocess.Popen[Any]) -> dict[str, float]:
    """What a process holds: resident memory in MiB, open files, threads."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    facts = dict(line.split(":", 1) for line in lines)
    return {
        "MiB": int(facts["VmRSS"].split()[0]) / 1024,
        "open files": len(os.listdir(f"/proc/{process.pid}/fd")),
        "threads": int(facts["Threads"]),
    }


def soak(run: Path, temporary: Path, minutes: float) -> Iterator[dict[str, float]]:
    """Map and serve for so many minutes, eight rounds at least; yields what was held after each."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done, until = 0, time.monotonic() + 60 * minutes
    with mapping(run, environment) as mapper, serving(run, environment) as (server, port):
        assert mapper.stdin is not None and mapper.stdout is not None
        while done < 8 or time.monotonic() < until:
            mapper.stdin.write("again\n")
            mapper.stdin.flush()
            answers = sum(ask(port, 20 * done + i) for i in range(20))
            if "done\n" not in iter(mapper.stdout.readline, ""):
                raise SystemExit((run.parent / "mapper").read_text()[-3000:])
            ask(port, done)  # of the new map
            one: dict[str, float] = {"answers": answers}
            for name, process in (("mapping", mapper), ("serving", server)):
                one |= {f"{name}: {key}": value for key, value in held(process).items()}
            one["files"] = sum(1 for _ in run.rglob("*")) + sum(1 for _ in temporary.rglob("*"))
            done += 1
            yield one


def judged(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Medians of the second and the last quarter of the rounds, and what grew."""
    quarter = len(rounds) // 4
    spans = {"second quarter": rounds[quarter : 2 * quarter], "last quarter": rounds[-quarter:]}
    keys = [key for key in rounds[0] if key != "answers"]
    found = {name: {key: statistics.median(one[key] for one in span) for key in keys} for name, span in spans.items()}
    grown = {key: found["last quarter"][key] - found["second quarter"][key] for key in keys}
    faults = [f"{key} grew by {grown[key]:g}" for key in keys if grown[key] > (GROWTH if key.endswith("MiB") else FEW)]
    return {"rounds": len(rounds), "answers": sum(one["answers"] for one in rounds), **found, "faults": faults}


def main() -> None:
    """Print what was held and what grew, as JSON, each round before it on stderr; exit code 1 where anything grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--base", type=Path, help="a finished run folder of the tests; default: made first")
    given = parser.parse_args()
    from kills import prepared_base  # which asks for one thread

    with tempfile.TemporaryDirectory() as name:
        run, temporary = arranged(prepared_base(Path(name) / "run", given.base)), Path(name) / "temporary"
        temporary.mkdir()
        rounds = []
        for one in soak(run, temporary, given.minutes):
            rounds.append(one)
            print(json.dumps(one), file=sys.stderr)
    found = judged(rounds)
    print(json.dumps(found, indent=2))
    sys.exit(bool(found["faults"]))


if __name__ == "__main__":
    main()
