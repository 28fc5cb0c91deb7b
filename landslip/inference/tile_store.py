"""The windows of a map that are finished, kept beside it until it is whole, so that a killed run goes on.

A folder `.NAME.tif.windows/` holds a folder named by the hash of what the map is made of (`plan.json` says it in
words), and that a file per finished window, written aside and renamed: a file that is there is whole. Any number of
processes may write into one tile store, since each file has one name and one content; who computes a map of other
inputs or choices, or comes late from a run that was given up, writes where nobody looks.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from landslip.errors import LandslipError, OutputError, ResumeError
from landslip.runtime.atomic import atomic_write, refuse_existing
from landslip.runtime.disk import remove_file, remove_folder, require_name
from landslip.runtime.locks import exclusive_lock
from landslip.runtime.progress import say
from landslip.runtime.text import read_json, write_json

PLAN = "plan.json"


@dataclass(frozen=True)
class TileStore:
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

    def left(self, shapes: Sequence[tuple[int, int, int]]) -> list[int]:
        """The windows, of these (bands, h, w), that are still to be computed.

        One that is not what it should be, and one with damage in it, which may be mended by now, is computed again.
        """
        indices = []
        for index, shape in enumerate(shapes):
            path = self._values(index)
            if not path.exists() or self._notes(index).exists() or not _holds(path, shape):
                remove_file(path, self.out)
                remove_file(self._notes(index), self.out)
                indices.append(index)
        return indices

    def keep(self, index: int, values: NDArray[np.float32], damaged: list[str]) -> None:
        """Store a window, and first what could not be read of it."""
        # Two workers of a cluster may be given one window, and each writes it aside under a name of its own.
        process = f".{socket.gethostname()}-{os.getpid()}"
        with _named_as_the_map(self):
            if damaged:
                with atomic_write(self._notes(index), overwrite=True, by=process) as aside:
                    aside.write_text(json.dumps(damaged), encoding="utf-8")
            with atomic_write(self._values(index), overwrite=True, by=process) as aside, aside.open("wb") as file:
                np.save(file, values)

    def load(self, index: int) -> NDArray[np.float32]:
        """The values of a finished window."""
        return np.asarray(np.load(self._values(index), allow_pickle=False))

    def damaged(self, index: int) -> list[str]:
        """What could not be read of a finished window."""
        path = self._notes(index)
        return list(read_json(path)) if path.exists() else []

    def remove(self) -> None:
        """Forget all of it, and what other runs of this map left; only say where that cannot be: the map is whole."""
        base = _base(self.out)
        try:
            for plan in base.glob(f"*/{PLAN}"):
                plan.unlink()  # goes before the windows, as in `_forget`
            shutil.rmtree(base)
        except FileNotFoundError:
            pass
        except OSError as error:
            say(f"warning: {base} is of no more use and cannot be removed ({error.strerror}). Remove it.")


@contextmanager
def open_tile_store(out: Path, facts: Mapping[str, object], overwrite: bool) -> Iterator[TileStore]:
    """The tile store of the map `out` made of `facts`, anew or as a killed run left it; one run at a time has it.

    Raises ResumeError, with what differs, where a run of other inputs or choices left windows (not with `overwrite`:
    then they go), and OutputError where another run is writing this map.
    """
    base, text = _base(out), json.dumps(facts, sort_keys=True)
    now = json.loads(text)  # as plan.json gives it back, with lists for tuples
    store = TileStore(base / hashlib.sha256(text.encode()).hexdigest()[:12], out)
    with exclusive_lock(out), _kept_if_begun(store):
        others = [plan.parent for plan in sorted(base.glob(f"*/{PLAN}")) if plan.parent != store.folder]
        if others and not overwrite:
            then = _facts_of(others[0])
            differing = [key for key in {**now, **then} if then.get(key) != now.get(key)] or ["kind"]
            first = differing[0]
            raise ResumeError(
                f"{base} holds windows of a killed run of another {', '.join(differing)} ({first}: {then.get(first)} "
                f"then, {now.get(first)} now). Give --overwrite to begin anew, or another name."
            )
        for folder in others:
            _forget(folder)
        with _named_as_the_map(store):
            if not (store.folder / PLAN).exists():
                # A killed run was removing this folder, and what it knew of damage may be gone.
                if store.folder.exists():
                    remove_folder(store.folder)
                write_json(store.folder / PLAN, now)
        yield store


def is_begun(out: Path) -> bool:
    """Whether a killed run has left windows of the map `out`."""
    return any(_base(out).glob(f"*/{PLAN}"))


def refuse_existing_map(out: Path, overwrite: bool) -> None:
    """As `refuse_existing`, but not where a run was killed after the map got its name and before its windows went.

    The same command ends that run. Of a run that was killed while it removed its windows, what is left is removed.
    """
    require_name(out)
    if is_begun(out):
        return
    base = _base(out)
    if out.exists() and base.is_dir():
        with suppress(LandslipError), exclusive_lock(out):  # which is refused where a run is at work there
            if not is_begun(out):
                remove_folder(base)
    refuse_existing(out, overwrite)


@contextmanager
def _kept_if_begun(store: TileStore) -> Iterator[None]:
    """Whatever ends a run early, its finished windows stay for the next; a tile store without whole ones goes."""
    try:
        yield
    except BaseException:
        if all(path.with_suffix(".json").exists() for path in store.folder.glob("*.npy")):
            with suppress(LandslipError):  # the first error is the one to show
                _forget(store.folder)
            with suppress(OSError):
                _base(store.out).rmdir()  # which fails where another run's windows lie there
        raise


@contextmanager
def _named_as_the_map(store: TileStore) -> Iterator[None]:
    """Where a window cannot be written, name the map that was asked for."""
    try:
        yield
    except OutputError as error:
        named = re.sub(re.escape(str(store.folder)) + r"[^\s:]*", lambda _: str(store.out), str(error))
        raise OutputError(named) from error


def _base(out: Path) -> Path:
    """The folder beside a map that holds a folder for each kind of run of it."""
    return out.with_name(f".{out.name}.windows")


def _forget(folder: Path) -> None:
    """Remove a folder of windows, its plan first: windows without one are known to be of no more use."""
    remove_file(folder / PLAN, folder)
    remove_folder(folder)


def _holds(path: Path, shape: tuple[int, int, int]) -> bool:
    """Whether a file holds a window of this shape, whole."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, SyntaxError, TokenError):  # the last two, since numpy reads a header as Python
        return False
    return bool(values.shape == shape and values.dtype == np.float32)


def _facts_of(folder: Path) -> dict[str, object]:
    """What the map of a folder of windows is made of; nothing where that cannot be read."""
    try:
        return dict(read_json(folder / PLAN))
    except (OSError, ValueError, TypeError):
        return {}
