"""A command of landslip measured as a process of its own, and how figures are printed."""

from __future__ import annotations

import json
import subprocess
import sys

PROBE = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, time.perf_counter() - began)
"""


def peak_and_seconds(*words: object) -> tuple[float, float]:
    """Peak memory in MiB and seconds of `landslip WORDS`, which does not inherit the peak of this process."""
    command = [sys.executable, "-c", PROBE, sys.executable, "-m", "landslip.cli", *map(str, words)]
    peak, took = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(peak) / 1024, float(took)


def show(found: dict[str, float], as_json: bool) -> None:
    """Print figures by name, as text or JSON."""
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name:<48}{value:12.3f}")
