"""What `landslip check` finds: faults, warnings and notes, and how an error that is raised becomes a fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from landslip.errors import LandslipError


@dataclass(frozen=True)
class Finding:
    """One fault (the site cannot be prepared), warning (it can; look first) or note (what was found, and is well)."""

    severity: Literal["fault", "warning", "note"]
    text: str


@contextmanager
def collect_faults(findings: list[Finding]) -> Iterator[None]:
    """Turn a LandslipError that is raised inside into a fault among the findings, so that the next check still runs.

    A fault that is among them already is not added again: several checks may trip over one damaged file.
    """
    try:
        yield
    except LandslipError as error:
        fault = Finding("fault", str(error))
        if fault not in findings:
            findings.append(fault)
