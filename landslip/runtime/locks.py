"""One run at a time writes an output."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import get_ident

from landslip.errors import OutputError
from landslip.runtime.disk import (
    existing_parent,
    require_writable,
    write_failure,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".landslip.lock"  # in a folder whose parent is read-only
_locked: dict[str, tuple[int, int]] = {}  # by which process and thread


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
    inside = inside and not os.access(existing_parent(lock.parent), os.W_OK)
    if inside:
        lock = path / LOCK
    me = (os.getpid(), get_ident())
    if fcntl is None or _locked.get(os.path.realpath(lock)) == me:
        yield
        return
    require_writable(path, inside)
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
