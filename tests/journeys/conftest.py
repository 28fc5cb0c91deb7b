"""One quick run folder, made once by `landslip demo`, that the journeys start from."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from journeys.walk import landslip


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder as the quick demo left it, which nothing may change.

    The processes of one test run share it: whoever comes first makes it, and the others wait for it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "demo"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            landslip("demo", "run", "--quick", at=folder)
            (folder / "whole").touch()
    return folder / "run"


@pytest.fixture(scope="session")
def run(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run folder that commands add to, one after the other."""
    return Path(shutil.copytree(untouched, tmp_path_factory.mktemp("journeys") / "run"))


@pytest.fixture
def copied(untouched: Path, tmp_path: Path) -> Path:
    """A copy of the run folder, to be changed at will."""
    return Path(shutil.copytree(untouched, tmp_path / "run"))
