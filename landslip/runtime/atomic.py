"""Outputs are written aside and renamed, so that no half-written file ever carries a final name.

Whatever goes wrong inside `atomic_write` or `atomic_folder` (an error, a full disk, Ctrl-C) removes what was written
aside and leaves an earlier output untouched. What a killed process left aside is replaced by the next run. A folder
that a later run goes on from stays aside after Ctrl-C, as it does after a kill.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from threading import get_ident

from landslip.errors import OutputError
from landslip.runtime.progress import say

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LONGEST_NAME = 200  # bytes; most disks take 255
LOCK = ".landslip.lock"  # in a folder whose parent is read-only

_locked: dict[str, tuple[int, int]] = {}  # by which process and thread


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
        there, new = ("a file", "a folder") if folder else ("a folder", "a file")
        raise OutputError(f"{path} is {there}, and {new} cannot replace it. Remove it, or give another name.")
    _require_writable(path)


def require_name(path: Path) -> None:
    """Raise OutputError for a path that no output, and nothing that lies beside it meanwhile, can have."""
    if path.name in ("", ".."):
        raise OutputError(f"{path} is a folder, and no name that an output can have. Give a name in it.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in str(path)):  # Cs: bytes that are not UTF-8
        raise OutputError(f"{str(path)!a} holds what is no text. Give a name of letters, digits and signs.")
    if (length := len(path.name.encode())) > LONGEST_NAME and not path.name.startswith("."):  # but what lies beside it
        raise OutputError(
            f"{path.name} is a name of {length} bytes, and files beside it get longer ones. Give one of {LONGEST_NAME} "
            "at most."
        )


def is_stream(path: Path) -> bool:
    """Whether a path leads to a pipe, a socket or a device, which has no end or no place to go back to."""
    return path.exists() and not (path.is_file() or path.is_dir())


def refuse_input(path: Path, inputs: Iterable[Path]) -> None:
    """Raise OutputError where an output would replace one of the files it is made from."""
    for source in inputs:
        if os.path.realpath(path) == os.path.realpath(source):  # Path.resolve fails where a link leads to itself
            raise OutputError(f"{path} is read by this command and cannot be its output too. Give another name.")


def _is_our_folder(path: Path) -> bool:
    return (path / "manifest.json").exists() or not any(path.iterdir())


def write_failure(path: Path, error: OSError) -> OutputError:
    """The one error for a write that the system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(_existing_parent(path)).free / 2**20
        return OutputError(f"{path}: the disk is full ({free:.1f} MiB free). Free some space and run again.")
    return OutputError(
        f"{path} cannot be written: {error.strerror or error}. Give another place, or change its rights."
    )


def _require_writable(path: Path, inside: bool = False) -> None:
    parent = _existing_parent(path if inside else path.parent)
    if not parent.is_dir():
        raise OutputError(f"{path} cannot be written: {parent} is not a folder. Give another name.")
    if not os.access(parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: {parent} is read-only. Write elsewhere, or change its rights.")


def require_space(path: Path, needed: float) -> None:
    """Raise OutputError where fewer than `needed` bytes are free on the disk that will hold `path`."""
    free = shutil.disk_usage(_existing_parent(path)).free
    if free < needed:
        raise OutputError(
            f"{path} needs about {needed / 2**20:.1f} MiB and its disk has {free / 2**20:.1f} MiB free. "
            "Free some space, or write elsewhere."
        )


def _existing_parent(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _lock_of(path: Path) -> Path:
    if path.name in ("", ".."):  # `.` is the folder that its name elsewhere is
        path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.lock") if path.name else path / LOCK


@contextmanager
def exclusive_lock(path: Path, inside: bool = False) -> Iterator[None]:
    """Let no other process or thread make `path` until the block ends; OutputError where one does.

    `inside`: a folder that is added to and not replaced, whose parent may be read-only. Says nothing where the system
    or the disk knows no locks. A killed process leaves an empty hidden file at most, a refused one nothing.
    """
    lock = _lock_of(path)
    inside = inside and not os.access(_existing_parent(lock.parent), os.W_OK)
    if inside:
        lock = path / LOCK
    me = (os.getpid(), get_ident())
    if fcntl is None or _locked.get(os.path.realpath(lock)) == me:
        yield
        return
    _require_writable(path, inside)
    with ExitStack() as held:
        try:
            if not lock.parent.exists():
                lock.parent.mkdir(parents=True, exist_ok=True)
                held.callback(_remove_if_empty, lock.parent)
            file = held.enter_context(lock.open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.fstat(file.fileno()).st_ino == lock.stat().st_ino  # it may have ended, and removed it, just now
        except (BlockingIOError, FileNotFoundError):
            mine = False
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
                raise write_failure(path, error) from error
            mine = True
        if not mine:
            raise OutputError(f"{path} is being written by another run. Wait for it, or give another name.")
        _locked[os.path.realpath(lock)] = me
        try:
            yield
        finally:
            _locked.pop(os.path.realpath(lock), None)
            with suppress(OSError):
                lock.unlink()


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def atomic_write(path: Path, overwrite: bool = False, by: str = "") -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    `by` sets apart processes that may write the same file at one time. Raises OutputError where `path` exists (unless
    `overwrite`), and for a full or read-only disk.
    """
    refuse_existing(path, overwrite)
    aside = path.with_name(f".{path.stem}.part{by}{path.suffix}")
    with nullcontext() if by else exclusive_lock(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove(aside)
            yield aside
            flush(aside)
            aside.replace(path)
        except OSError as error:
            _give_up(aside)
            raise write_failure(path, error) from error
        except BaseException:
            _give_up(aside)
            raise


@contextmanager
def atomic_folder(path: Path, overwrite: bool = False, ledger: str = "") -> Iterator[Path]:
    """As `atomic_write`, for a folder: everything in it appears at once, under its final name, or not at all.

    With `ledger`, the name of a file that the block keeps in it, the folder aside still holds what a killed process
    left, and one stopped by Ctrl-C where that file is there, for the block to go on from.
    """
    require_name(path)
    aside = path.with_name(f".{path.name}.part")
    replaced = path.with_name(f".{path.name}.replaced")
    with exclusive_lock(path):
        _bring_back(replaced, path)
        refuse_existing(path, overwrite, folder=True)
        try:
            if not ledger:
                _remove(aside)
            aside.mkdir(parents=True, exist_ok=bool(ledger))
            _discard(replaced)
            yield aside
            if path.exists():
                path.rename(replaced)
            aside.rename(path)
            _discard(replaced)
        except OSError as error:
            _give_up(aside)
            _bring_back(replaced, path)
            raise write_failure(path, error) from error
        except OutputError as error:  # of a file in it, named as it will be
            _give_up(aside)
            _bring_back(replaced, path)
            raise OutputError(str(error).replace(str(aside), str(path))) from error
        except BaseException as error:
            if not (ledger and isinstance(error, KeyboardInterrupt) and (aside / ledger).exists()):
                _give_up(aside)
            _bring_back(replaced, path)
            raise


@contextmanager
def atomic_files(folder: Path, last: str, first: str = "", replaces: Iterable[str] = ()) -> Iterator[Path]:
    """Yield a hidden folder in `folder`: what the block writes there gets its names when all is whole, `last` last.

    Where `last` tells that `first` is not its own, no reader takes new files beside earlier ones for an output. Files
    of the same names are replaced, and those of `replaces` that the block does not write are removed before the
    last is named (a warning where that cannot be); others in `folder` stay. Raises OutputError for a full or read-only
    disk, and before any file is touched where one of the names is not a file's.
    """
    aside, staged = folder / ".part", folder / f".{last}"
    with exclusive_lock(folder, inside=True):
        try:
            _remove(aside)
            aside.mkdir(parents=True)
            yield aside
            made = sorted((path.name for path in aside.iterdir()), key=lambda name: (name == last, name != first, name))
            gone = [name for name in replaces if name not in made and (folder / name).exists()]
            for name in (*made, *gone):
                refuse_existing(folder / name, overwrite=True)
            (aside / last).replace(staged)
            for name in made[:-1]:
                (aside / name).replace(folder / name)
            _remove_or_warn(folder / stale for stale in gone)
            aside.rmdir()
            staged.replace(folder / last)  # with which there is nothing left to do, or to kill
        except OSError as error:
            raise write_failure(folder, error) from error
        except OutputError as error:  # of a file in it, named as it will be
            raise OutputError(str(error).replace(str(aside), str(folder))) from error
        finally:
            for hidden in (aside, staged):
                _give_up(hidden)


@contextmanager
def scratch_file(path: Path, what: str) -> Iterator[Path]:
    """Yield a name beside `path` for `what` is needed only while `path` is made; it is removed in every case."""
    aside = path.with_name(f".{path.stem}.{what}.tif")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(aside)
        yield aside
    except OSError as error:
        raise write_failure(path, error) from error
    except OutputError as error:  # named as what the person asked for
        raise OutputError(str(error).replace(str(aside), str(path))) from error
    finally:
        _give_up(aside)


def _bring_back(replaced: Path, path: Path) -> None:
    """Give an earlier folder its name again where a run stopped between taking it and giving it to the new one."""
    if replaced.exists() and not path.exists():
        replaced.rename(path)


def _discard(replaced: Path) -> None:
    """Remove an earlier folder, under a name that is never brought back, since a kill would leave half of it."""
    removed = replaced.with_suffix(".removed")
    for earlier in list(replaced.parent.iterdir()):
        if re.fullmatch(re.escape(removed.name) + r"\d*", earlier.name):
            _give_up(earlier)
    if replaced.exists():
        names = (removed.with_name(f"{removed.name}{number or ''}") for number in count())
        removed = next(name for name in names if not os.path.lexists(name))
        replaced.rename(removed)
        _give_up(removed)
        if removed.exists():  # hidden, and no reason to refuse what is whole
            say(f"warning: {removed} is of no more use and cannot be removed. Remove it.")


def _remove_or_warn(files: Iterable[Path]) -> None:
    for path in files:
        try:
            path.unlink()
        except OSError as error:
            say(f"warning: {path} is of earlier results and cannot be removed ({error.strerror}). Remove it.")


def remove_file(path: Path, of: Path) -> None:
    """Remove a file where it is there; OutputError that names `of`, which it belongs to, where that cannot be."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise write_failure(of, error) from error


def remove_folder(folder: Path) -> None:
    """Remove a folder where it is there; OutputError that names it where that cannot be."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise write_failure(folder, error) from error


def flush(path: Path) -> None:
    """Have the system store what was written into a file; OSError where the disk is full."""
    # A full disk may show only when the system stores what it holds in memory, and a rename must not overtake that.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _give_up(aside: Path) -> None:
    with suppress(OSError):  # what stopped the writing may stop this too, and is the error to show
        _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal; of a folder (a file geodatabase, say), that of its files' in order."""
    if path.is_dir():
        inner = [f"{file.name} {file_hash(file)}" for file in sorted(path.iterdir()) if file.is_file()]
        return hashlib.sha256("\n".join(inner).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
