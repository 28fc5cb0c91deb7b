"""A command of landslip measured as a process of its own, and how figures are printed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PROBE = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, capture_output=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, time.perf_counter() - began, used.ru_utime + used.ru_stime)
"""


def peak_and_seconds(*words: object) -> tuple[float, float]:
    """Peak memory in MiB and seconds of `landslip WORDS`, which does not inherit the peak of this process."""
    peak, took, _ = measured(*words)
    return peak, took


def measured(*words: object) -> tuple[float, float, float]:
    """As `peak_and_seconds`, and the seconds of processor time, which other work on the machine stretches less."""
    command = [sys.executable, "-c", PROBE, sys.executable, "-m", "landslip.cli", *map(str, words)]
    peak, took, used = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(peak) / 1024, float(took), float(used)


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
