"""What is installed: CI's hashes are of the versions that were tested together."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKED = re.compile(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}")


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_pinned_version_but_that_of_torch_has_a_hash() -> None:
    pins = [line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()]
    locked = [LOCKED.fullmatch(line) for line in (ROOT / ".ci" / "locked.txt").read_text().splitlines()]
    assert all(locked)
    versions = {normal(found[1]): found[2] for found in locked if found}
    assert versions == {normal(name): version for name, version in pins if name != "torch"}
