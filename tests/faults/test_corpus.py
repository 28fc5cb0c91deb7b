"""Inputs made bad by the thousand: each ends well or is refused with one message, in bounded time and memory.

A few hundred here; all 10,000 with LANDSLIP_FAULTS=full (`make faults`). `corpus.py` says how to try one case again.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = os.environ.get("LANDSLIP_FAULTS") == "full"
CORPUS, GENERATED = (Path(__file__).with_name(f"{name}.py") for name in ("corpus", "generated"))


def tried(finished: Path, *options: str, script: Path = CORPUS) -> str:
    """What `corpus.py`, or another script of its kind, says; fails with it where a case failed."""
    words = [sys.executable, str(script), str(finished), *options]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}", pytrace=False)
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="cases are forks with Linux's limits")
def test_bad_inputs(finished: Path) -> None:
    if FULL:
        tried(finished, "--count", "10000")
    else:
        tried(finished, "--count", "250", "--light")


@pytest.mark.skipif(not FULL, reason="LANDSLIP_FAULTS=full reads every good input by every reader")
def test_what_is_not_changed_is_read(finished: Path) -> None:
    tried(finished, "--unchanged")


@pytest.mark.skipif(sys.platform != "linux", reason="cases are forks with Linux's limits")
def test_made_up_inputs(finished: Path) -> None:
    tried(finished, "--examples", "1500" if FULL else "40", "--seed", "1", script=GENERATED)
