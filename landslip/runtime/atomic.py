"""Outputs are written aside and renamed, so that no half-written file ever carries a final name.

Whatever goes wrong inside `atomic_write` or `atomic_folder` (an error, a full disk, Ctrl-C) removes what was written
aside and leaves an earlier output untouched. What a killed process left aside is replaced by the next run. A folder
that a later run goes on from stays aside after Ctrl-C, as it does after a kill.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path

from landslip.errors import OutputError
from landslip.runtime.disk import flush, give_up, is_stream, remove, require_name, require_writable, write_failure
from landslip.runtime.locks import exclusive_lock
from landslip.runtime.progress import say


def refuse_existing(path: Path, overwrite: bool, folder: bool = False) -> None:
    """Raise OutputError where `path`, a file or a folder to be, may not be written. Call before long work."""
    require_name(path)
    if path.is_symlink() and not path.exists():
        raise OutputError(
            f"{path} is a link to {path.readlink()}, which is not there. Remove it, or give another name."
        )
    if is_stream(path):
        raise OutputError(f"{path} is neither a file nor a folder. Give another name.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already. Give another name, or --overwrite to replace it.")
    if path.is_dir() and not _is_our_folder(path):
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
    with nullcontext() if by else exclusive_lock(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove(aside)
            yield aside
            flush(aside)
            aside.replace(path)
        except OSError as error:
            give_up(aside)
            raise write_failure(path, error) from error
        except BaseException:
            give_up(aside)
            raise


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
            if not ledger:
                remove(aside)
            aside.mkdir(parents=True, exist_ok=bool(ledger))
            _discard(replaced)
            yield aside
            if path.exists():
                path.rename(replaced)
            aside.rename(path)
            _discard(replaced)
        except OSError as error:
            give_up(aside)
            _bring_back(replaced, path)
            raise write_failure(path, error) from error
        except OutputError as error:  # It names a file in the folder aside, which is gone by the time it is read.
            give_up(aside)
            _bring_back(replaced, path)
            raise OutputError(str(error).replace(str(aside), str(path))) from error
        except BaseException as error:
            if not (ledger and isinstance(error, KeyboardInterrupt) and (aside / ledger).exists()):
                give_up(aside)
            _bring_back(replaced, path)
            raise


@contextmanager
def atomic_files(folder: Path, last: str, first: str = "", replaces: Iterable[str] = ()) -> Iterator[Path]:
    """Yield a hidden folder in `folder`; what is written there gets its place when all is whole, the file `last` last.

    The file `first` comes first: where `last` says which `first` it belongs to, no reader takes new files beside
    earlier ones for one output. Files of the same names are replaced. Those of `replaces` that are not written anew are
    removed before `last` is named, with a warning where that cannot be. Other files in `folder` stay. Raises
    OutputError for a full or read-only disk, and, before any file is touched, where one of the names is a folder's.
    """
    aside, staged = folder / ".part", folder / f".{last}"
    with exclusive_lock(folder, inside=True):
        try:
            remove(aside)
            aside.mkdir(parents=True)
            yield aside
            names = [path.name for path in aside.iterdir()]
            names.sort(key=lambda name: (name == last, name != first, name))
            stale = [name for name in replaces if name not in names and (folder / name).exists()]
            for name in (*names, *stale):
                refuse_existing(folder / name, overwrite=True)
            (aside / last).replace(staged)
            for name in names[:-1]:
                (aside / name).replace(folder / name)
            _remove_or_warn(folder / name for name in stale)
            aside.rmdir()
            staged.replace(folder / last)  # The last step of all, so that a run killed before it has no last file.
        except OSError as error:
            raise write_failure(folder, error) from error
        except OutputError as error:  # It names a file in the folder aside, which is gone by the time it is read.
            raise OutputError(str(error).replace(str(aside), str(folder))) from error
        finally:
            for hidden in (aside, staged):
                give_up(hidden)


@contextmanager
def scratch_file(path: Path, what: str) -> Iterator[Path]:
    """Yield the name of a .tif beside `path` that is needed only while `path` is made; it is removed in every case.

    `what` is a part of its name. Raises OutputError where the disk is full or read-only.
    """
    aside = path.with_name(f".{path.stem}.{what}.tif")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(aside)
        yield aside
    except OSError as error:
        raise write_failure(path, error) from error
    except OutputError as error:  # It names the file aside, of which the person at the keyboard knows nothing.
        raise OutputError(str(error).replace(str(aside), str(path))) from error
    finally:
        give_up(aside)


def _is_our_folder(path: Path) -> bool:
    return (path / "manifest.json").exists() or not any(path.iterdir())


def _bring_back(replaced: Path, path: Path) -> None:
    """Give an earlier folder its name again where a run stopped between taking it and giving it to the new one."""
    if replaced.exists() and not path.exists():
        replaced.rename(path)


def _discard(replaced: Path) -> None:
    """Remove an earlier folder, renamed first: a kill meanwhile leaves half of it, which must not be brought back."""
    removed = replaced.with_suffix(".removed")
    for earlier in list(replaced.parent.iterdir()):
        if re.fullmatch(re.escape(removed.name) + r"\d*", earlier.name):
            give_up(earlier)
    if replaced.exists():
        names = (removed.with_name(f"{removed.name}{number or ''}") for number in count())
        removed = next(name for name in names if not os.path.lexists(name))
        replaced.rename(removed)
        give_up(removed)
        if removed.exists():  # It is hidden, and no reason to refuse a new folder that is whole.
            say(f"warning: {removed} is of no more use and cannot be removed. Remove it.")


def _remove_or_warn(files: Iterable[Path]) -> None:
    for path in files:
        try:
            path.unlink()
        except OSError as error:
            say(f"warning: {path} is of earlier results and cannot be removed ({error.strerror}). Remove it.")
