"""One quick run folder, made once by `landslip demo`, that the journeys start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from journeys.walk import landslip


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the quick demo. Commands add to it; what changes it works on `copied`."""
    folder = tmp_path_factory.mktemp("journeys")
    landslip("demo", "run", "--quick", at=folder)
    return folder / "run"


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A copy of the run folder, to be changed at will."""
    return Path(shutil.copytree(run, tmp_path / "run"))
