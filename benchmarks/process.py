"""A command of landslip measured as a process of its own, and how figures are printed."""

from __future__ import annotations

import json
import subprocess
import sys

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
