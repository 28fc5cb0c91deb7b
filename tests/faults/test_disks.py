"""A disk that fails once: one clear error, an earlier output stays, and no half file carries a final name.

A few failing calls here; 20 of each stage (8 of a comparison) and every call of an inventory with LANDSLIP_FAULTS=full
(`make faults`).
"""

import shutil
import sys
from pathlib import Path

import pytest
from test_kills import FULL, STAGES, tried

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("strace") is None, reason="strace makes the disk fail"
)

COUNT = {"compare": 8}  # minutes a call


@pytest.mark.parametrize("stage", STAGES if FULL else ("inventory", "review"))
def test_a_disk_that_fails_once_costs_one_clear_error(stage: str, finished: Path) -> None:
    found = tried("disks.py", finished, "--tries", COUNT.get(stage, 20) if FULL else 3, "--stages", stage)[stage]
    assert found["faults"] == []


@pytest.mark.skipif(not FULL, reason="minutes a kind: with LANDSLIP_FAULTS=full")
@pytest.mark.parametrize("call", ("write", "pwrite64", "fsync", "rename", "unlink"))
def test_every_call_that_fails_while_an_inventory_is_written_costs_one_clear_error(call: str, finished: Path) -> None:
    found = tried("disks.py", finished, "--every", call, "--stages", "inventory")["inventory"]
    assert found["faults"] == [] and found["tries"] > 0
