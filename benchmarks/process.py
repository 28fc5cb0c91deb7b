"""A command of landslip measured as a process of its own, and how figures are printed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

PROBE = """
import json, resource, subprocess, sys, time
limit, *command = sys.argv[1:]
limits = lambda: resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit))) if int(limit) else None
began, private = time.perf_counter(), 0
process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=limits)
import threading
def watch():
    global private
    while process.returncode is None:
        try:
            with open(f"/proc/{process.pid}/status") as status:
                private = max([private, *(int(line.split()[1]) for line in status if line.startswith("RssAnon"))])
        except OSError:
            pass
        time.sleep(0.1)
threading.Thread(target=watch, daemon=True).start()
said = process.communicate()[0]
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"peak_mib": used.ru_maxrss / 1024, "private_mib": private / 1024,
                  "seconds": time.perf_counter() - began, "processor_seconds": used.ru_utime + used.ru_stime,
                  "said": said, "failed": process.returncode != 0}))
"""


@dataclass(frozen=True)
class Measured:
    """What a process took: its peak of resident memory in MiB, seconds by the clock and of processor time.

    `private_mib` is the most of its own, which the system cannot take back, seen every tenth of a second; `said` what
    it printed. Other work on the machine stretches processor time less.
    """

    peak_mib: float
    private_mib: float
    seconds: float
    processor_seconds: float
    said: str
    failed: bool


def measured(*words: object) -> Measured:
    """`landslip WORDS`, which must end well, as a process that does not inherit the peak of this one."""
    found = measured_command([sys.executable, "-m", "landslip", *words])
    if found.failed:
        raise RuntimeError(f"landslip {' '.join(map(str, words))}: {found.said[-3000:]}")
    return found


def measured_command(command: list[Any], limit: int = 0) -> Measured:
    """Any command, within `limit` bytes of private memory where that is not 0 (RLIMIT_DATA)."""
    probe = [sys.executable, "-c", PROBE, str(limit), *map(str, command)]
    return Measured(**json.loads(subprocess.run(probe, check=True, capture_output=True, text=True).stdout))


def show(found: dict[str, float], as_json: bool) -> None:
    """Print figures by name, as text or JSON."""
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name:<48}{value:12.3f}")


def show_table(rows: list[dict[str, Any]], columns: dict[str, tuple[str, str]]) -> None:
    """Print rows as a table; `columns` says by key what a column is called and how its figures are formatted."""
    lines = [[head for head, _ in columns.values()]]
    lines += [[_cell(row.get(key), how) for key, (_, how) in columns.items()] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for i, line in enumerate(lines):
        cells = [c.ljust(w) if not j else c.rjust(w) for j, (c, w) in enumerate(zip(line, widths, strict=True))]
        print("| " + " | ".join(cells) + " |")
        if not i:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")


def _cell(value: Any, how: str) -> str:
    return "" if value is None else format(value, how)
