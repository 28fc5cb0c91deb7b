"""Real data, which is not in the repository: tests that need it skip without it."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


def need(name: str) -> Path:
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"needs the real data of ../shared/data/{name}, which is not in the repository")
    return folder
