"""Locks by which one run at a time writes an output."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import get_ident

from landslip.errors import OutputError
from landslip.runtime.disk import existing_parent, require_writable, write_failure

if sys.platform == "win32":
    fcntl = None  # Windows locks files by other means, which are not used: nobody keeps runs apart there.
else:
    import fcntl

LOCK = ".landslip.lock"  # in a folder whose parent is read-only

_owners: dict[str, tuple[int, int]] = {}  # process and thread that hold a lock, by its path


@contextmanager
def exclusive_lock(path: Path, inside: bool = False) -> Iterator[None]:
    """Let no other process or thread make `path` until the `with` ends. Raises OutputError where one does.

    `inside`: `path` is a folder that is added to and not replaced, so that its parent may be read-only. Where the
    system or the disk knows no locks, nothing is kept apart. A killed process leaves an empty hidden file at most, a
    refused one nothing.
    """
    lock = _lock_of(path)
    inside = inside and not os.access(existing_parent(lock.parent), os.W_OK)
    if inside:
        lock = path / LOCK
    owner = (os.getpid(), get_ident())
    if fcntl is None or _owners.get(os.path.realpath(lock)) == owner:
        yield
        return
    require_writable(path, inside)
    with ExitStack() as stack:
        try:
            if not lock.parent.exists():
                lock.parent.mkdir(parents=True, exist_ok=True)
                stack.callback(_remove_if_empty, lock.parent)
            file = stack.enter_context(lock.open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The other run may have ended, and removed the file, between the two lines above.
            free = os.fstat(file.fileno()).st_ino == lock.stat().st_ino
        except (BlockingIOError, FileNotFoundError):
            free = False
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
                raise write_failure(path, error) from error
            free = True
        if not free:
            raise OutputError(f"{path} is being written by another run. Wait for it, or give another name.")
        _owners[os.path.realpath(lock)] = owner
        try:
            yield
        finally:
            _owners.pop(os.path.realpath(lock), None)
            with suppress(OSError):
                lock.unlink()


def _lock_of(path: Path) -> Path:
    """The file that is locked while `path` is made: hidden, beside it."""
    if path.name in ("", ".."):  # The folder may be written under its full name elsewhere, which is to be locked too.
        path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.lock") if path.name else path / LOCK


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
