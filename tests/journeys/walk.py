"""Giving commands as a shell does, and finding the data and programs that some journeys need."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
PROGRAM = Path(sys.executable).with_name("landslip")
SMALL = "{layers=[2, 2, 2], first_width=16, growth_rate=8}"  # a network that trains in seconds
SHORT = ["--set", "training.epochs=1", "--set", "blocks.step=64", "--set", f"network.options={SMALL}"]


@dataclass(frozen=True)
class Said:
    """What a command printed on its two streams."""

    out: str
    err: str


def landslip(*words: object, at: Path, code: int = 0) -> Said:
    """Give `landslip WORDS` in the folder `at`, and require its exit code. A traceback is never an answer."""
    line = [str(PROGRAM), *map(str, words)]
    environment = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(line, cwd=at, env=environment, text=True, capture_output=True, timeout=600)
    everything = f"{' '.join(line)}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == code, everything
    assert "Traceback" not in done.stderr, everything
    return Said(done.stdout, done.stderr)


def need(name: str) -> Path:
    """A folder of the real data, which is not in the repository; without it the journey is skipped."""
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"needs the real data of ../shared/data/{name}, which is not in the repository")
    return folder
