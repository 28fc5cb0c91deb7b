"""Stages killed at random moments: nothing is lost, and no half file carries a final name.

A few kills here; 20 of each stage with LANDSLIP_FAULTS=full (`make faults`).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FULL = os.environ.get("LANDSLIP_FAULTS") == "full"
HERE = Path(__file__).parent
STAGES = ("prepare", "train", "map", "map --cluster", "inventory", "compare", "review")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and process groups are Linux's")


def tried(script: str, finished: Path, *words: object) -> dict[str, dict[str, Any]]:
    """What a script has found, by stage."""
    command = [sys.executable, HERE / script, "--base", finished, *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if not done.stdout:
        pytest.fail(done.stderr[-3000:], pytrace=False)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("stage", STAGES if FULL else ("map", "inventory", "review"))
def test_killed_at_any_moment_a_stage_ends_with_the_same_bytes(stage: str, finished: Path) -> None:
    if stage == "map --cluster":
        pytest.importorskip("distributed", reason="a cluster needs Dask distributed")
    tries = 20 if FULL else 3
    found = tried("kills.py", finished, "--kills", tries, "--stages", stage)[stage]
    assert found["faults"] == [] and found["kills"] == tries
    measured = {"comparison.csv", "comparison.md"}  # seconds and memory
    assert {Path(str(name)).name for name in found.get("unlike", ())} <= (measured if stage == "compare" else set())


def test_files_of_two_outputs_side_by_side_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):  # which it sets for itself where they are not
        monkeypatch.setenv(name, os.environ.get(name, ""))
    import kills

    compare, prepare = (next(stage for stage in kills.STAGES if stage.name == name) for name in ("compare", "prepare"))
    old = {"new/a.tif": "1", "new/b.tif": "1", "new/c.png": "1"}
    new = dict.fromkeys(old, "2")
    one = old | {"new/b.tif": "2"}
    assert kills.mixture(tmp_path, one, (new, old), set(), prepare) == ["new/a.tif", "new/b.tif"]
    assert kills.mixture(tmp_path, one, (new, old), {"new/b.tif"}, prepare) == []
    assert kills.mixture(tmp_path, old | {"new/c.png": "2"}, (new, old), set(), prepare) == []
    old, new = ({f"new/runs/x/{name}": i for name in ("map.tif", "result.json")} for i in "12")
    one = {**old, "new/runs/x/map.tif": "2"}
    assert kills.mixture(tmp_path, one, (new, old), set(), compare) == [*old]
    del one["new/runs/x/result.json"]
    assert kills.mixture(tmp_path, one, (new, old), set(), compare) == []
