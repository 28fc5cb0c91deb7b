"""Mapping and serving again and again: nothing grows. A minute here, an hour with LANDSLIP_FAULTS=full."""

import sys
from pathlib import Path

import pytest
from soak import judged
from test_kills import FULL, tried


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from Linux's /proc")
def test_an_hour_of_mapping_and_serving_holds_no_more_at_its_end(finished: Path) -> None:
    pytest.importorskip("fastapi", reason="the page needs landslip[serve]")
    found = tried("soak.py", finished, "--minutes", 60 if FULL else 0)
    assert found["faults"] == [] and found["rounds"] >= 8 and found["answers"] >= 1600


def test_what_grows_is_said() -> None:
    still = {"answers": 10.0, "mapping: MiB": 500.0, "serving: open files": 12.0, "files": 50.0}
    assert judged([still] * 12)["faults"] == []
    found = judged([still | {"mapping: MiB": 500 + 2.0 * i, "serving: open files": 12 + i // 4} for i in range(40)])
    assert found["faults"] == ["mapping: MiB grew by 40", "serving: open files grew by 5"]
