"""The windows of a map that are finished, kept beside it until it is whole, so that a killed run goes on.

A folder `.NAME.windows/` holds `plan.json`, what the map is made of, and a file per finished window, written aside and
renamed: a file that is there is whole. Any number of processes may write into one ledger, since each file has one name
and one content. Where the inputs are others than those of `plan.json` nothing of it is used.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.errors import LandslipError, OutputError, ResumeError
from landslip.output import write_failure, write_json, writing

PLAN = "plan.json"


@dataclass(frozen=True)
class Ledger:
    """A folder of finished windows, each (bands, h, w) float32, of the map that is to be called `out`."""

    folder: Path
    out: Path

    def _values(self, index: int) -> Path:
        return self.folder / f"{index:07d}.npy"

    def _notes(self, index: int) -> Path:
        return self.folder / f"{index:07d}.json"

    def finished(self, index: int) -> bool:
        """Whether a window is there, whole."""
        return self._values(index).exists()

    def keep(self, index: int, values: NDArray[np.float32], damaged: list[str]) -> None:
        """Store a window, and first what could not be read of it."""
        own = f".{socket.gethostname()}-{os.getpid()}"  # of a cluster's workers two may be given one window
        with _named_as_the_map(self):
            if damaged:
                write_json(self._notes(index), damaged, overwrite=True)
            with writing(self._values(index), overwrite=True, by=own) as aside, aside.open("wb") as file:
                np.save(file, values)

    def load(self, index: int) -> NDArray[np.float32]:
        """The values of a finished window."""
        return np.asarray(np.load(self._values(index), allow_pickle=False))

    def damaged(self, index: int) -> list[str]:
        """What could not be read of a finished window."""
        path = self._notes(index)
        return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []

    def remove(self) -> None:
        """Forget all of it."""
        try:
            shutil.rmtree(self.folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise write_failure(self.folder, error) from error


@contextmanager
def _named_as_the_map(ledger: Ledger) -> Iterator[None]:
    """Where a window cannot be written, name the map that was asked for."""
    try:
        yield
    except OutputError as error:
        named = re.sub(re.escape(str(ledger.folder)) + r"[^\s:]*", lambda _: str(ledger.out), str(error))
        raise OutputError(named) from error


@contextmanager
def kept_if_begun(ledger: Ledger) -> Iterator[None]:
    """Whatever ends a run early: windows that are finished stay for the next, and a ledger without any goes."""
    try:
        yield
    except BaseException:
        if not any(ledger.folder.glob("*.npy")):
            with suppress(LandslipError):  # the first error is the one to show
                ledger.remove()
        raise


def open_ledger(out: Path, facts: dict[str, Any], overwrite: bool) -> Ledger:
    """The ledger of the map `out` that is made of `facts`, anew or as a killed run left it.

    Raises ResumeError, with what differs, where it was left by a run of other inputs or choices (not with `overwrite`).
    """
    ledger = Ledger(out.with_name(f".{out.stem}.windows"), out)
    path = ledger.folder / PLAN
    facts = json.loads(json.dumps(facts))
    left = _left(path)
    if left is not None and left != facts:
        differing = [key for key in {**facts, **left} if left.get(key) != facts.get(key)]
        if not overwrite:
            first = differing[0]
            raise ResumeError(
                f"{ledger.folder} holds windows of a killed run of another {', '.join(differing)} ({first}: "
                f"{left.get(first)} then, {facts.get(first)} now). Give --overwrite to begin anew, or another name."
            )
        ledger.remove()
        left = None
    if left is None:
        ledger.remove()
        with kept_if_begun(ledger), _named_as_the_map(ledger):
            write_json(path, facts)
    return ledger


def _left(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise OutputError(f"{path} is not what landslip wrote ({str(error)[:100]}). Remove its folder.") from error
    except OSError as error:
        raise write_failure(path, error) from error
