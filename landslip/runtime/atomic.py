"""Outputs are written aside and renamed, so that no half-written file ever carries a final name.

Whatever goes wrong meanwhile (an error, a full disk, Ctrl-C) removes what was written aside and leaves an earlier
output as it was. What a killed process left aside is replaced by the next run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from landslip.errors import OutputError
from landslip.runtime.disk import flush, give_up, is_stream, remove, require_name, require_writable, write_failure
from landslip.runtime.locks import exclusive_lock
from landslip.runtime.progress import say


def refuse_existing(path: Path, overwrite: bool, folder: bool = False) -> None:
    """Raise OutputError where `path`, a file or a folder to be, may not be written. Call before long work."""
    require_name(path)
    if is_stream(path):
        raise OutputError(f"{path} is neither a file nor a folder. Give another name.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already. Give another name, or --overwrite to replace it.")
    if path.is_dir() and any(path.iterdir()) and not (path / "manifest.json").exists():
        raise OutputError(
            f"{path} is a folder that landslip did not write (no manifest.json in it), so --overwrite "
            "does not replace it. Give another name."
        )
    if path.exists() and path.is_dir() != folder:
        earlier, new = ("a file", "a folder") if folder else ("a folder", "a file")
        raise OutputError(f"{path} is {earlier}, and {new} cannot replace it. Remove it, or give another name.")
    require_writable(path)


def refuse_input(path: Path, inputs: Iterable[Path]) -> None:
    """Raise OutputError where an output would replace one of the files it is made from."""
    for source in inputs:
        if os.path.realpath(path) == os.path.realpath(source):  # Path.resolve fails on a link to itself.
            raise OutputError(f"{path} is read by this command and cannot be its output too. Give another name.")


@contextmanager
def atomic_write(path: Path, overwrite: bool = False, by: str = "") -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the `with` ends well.

    `by` sets apart processes that may write the same file at one time. Raises OutputError where `path` exists (unless
    `overwrite`), and for a full or read-only disk.
    """
    refuse_existing(path, overwrite)
    aside = path.with_name(f".{path.stem}.part{by}{path.suffix}")
    with nullcontext() if by else exclusive_lock(path), _clean_up(path, aside):
        remove(aside)
        yield aside
        flush(aside)
        aside.replace(path)


@contextmanager
def atomic_folder(path: Path, overwrite: bool = False, ledger: str = "") -> Iterator[Path]:
    """As `atomic_write`, for a folder: everything in it appears at once, under its final name, or not at all.

    With `ledger`, the name of a file in the folder that says how far a run got, the folder aside still holds what a
    killed process left, so that a run can go on from there. What Ctrl-C stopped stays too, where it has that file.
    """
    require_name(path)
    aside = path.with_name(f".{path.name}.part")
    replaced = path.with_name(f".{path.name}.replaced")
    with exclusive_lock(path):
        _bring_back(replaced, path)
        refuse_existing(path, overwrite, folder=True)
        try:
            with _clean_up(path, aside, ledger):
                if not ledger:
                    remove(aside)
                aside.mkdir(exist_ok=True)
                remove(replaced)
                yield aside
                if path.exists():
                    path.rename(replaced)
                aside.rename(path)
        finally:
            _bring_back(replaced, path)
        give_up(replaced)


@contextmanager
def atomic_files(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield a hidden folder in `folder`; of `names`, what is written there gets its place in that order in the end.

    Readers go by the last name, which must be written. An earlier file of a name that is not written anew is removed.
    Other files in `folder` stay. Raises OutputError for a full or read-only disk, and, before any file is touched,
    where one of the names is a folder's.
    """
    aside = folder / ".part"
    with exclusive_lock(folder, inside=True), _clean_up(folder, aside):
        remove(aside)
        aside.mkdir()
        yield aside
        for name in names:
            refuse_existing(folder / name, overwrite=True)
        for name in names:
            if (aside / name).exists():
                (aside / name).replace(folder / name)
            else:
                _remove_earlier(folder / name)


def _remove_earlier(path: Path) -> None:
    """Remove a file of earlier results; where that cannot be, say so, since it would be taken for one of the new."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        say(f"warning: {path} is of earlier results and cannot be removed ({error.strerror or error}). Remove it.")


@contextmanager
def scratch_file(path: Path, what: str) -> Iterator[Path]:
    """Yield the name of a .tif beside `path` that is needed only while `path` is made; it is removed in every case.

    `what` is a part of its name. Raises OutputError where the disk is full or read-only.
    """
    aside = path.with_name(f".{path.stem}.{what}.tif")
    with _clean_up(path, aside):
        remove(aside)
        yield aside


@contextmanager
def _clean_up(path: Path, aside: Path, ledger: str = "") -> Iterator[None]:
    """Remove what is still aside in the end, and name `path` in errors, since nobody knows of what lies aside."""
    unfinished = False
    try:
        aside.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise write_failure(path, error) from error
    except OutputError as error:
        raise OutputError(str(error).replace(str(aside), str(path))) from error
    except KeyboardInterrupt:
        unfinished = bool(ledger) and (aside / ledger).exists()
        raise
    finally:
        if not unfinished:
            give_up(aside)


def _bring_back(replaced: Path, path: Path) -> None:
    """Give an earlier folder its name again where a run stopped between taking it and giving it to the new one."""
    if replaced.exists() and not path.exists():
        replaced.rename(path)
