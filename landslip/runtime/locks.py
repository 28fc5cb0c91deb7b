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
from landslip.runtime.disk import give_up, require_writable, write_failure

if sys.platform == "win32":
    fcntl = None  # Windows locks files by other means, which are not used: nobody keeps runs apart there.
else:
    import fcntl

LOCK = ".landslip.lock"  # in a folder that is added to

_owners: dict[str, tuple[int, int]] = {}  # process and thread that hold a lock, by its path


@contextmanager
def exclusive_lock(path: Path, inside: bool = False) -> Iterator[None]:
    """Let no other process or thread make `path` until the `with` ends. Raises OutputError where one does.

    `inside`: `path` is a folder that is added to and not replaced, so that its parent may be read-only. Where the
    system or the disk knows no locks, nothing is kept apart. A killed process leaves an empty hidden file at most.
    """
    lock = path / LOCK if inside else path.with_name(f".{path.name}.lock")
    key, owner = os.path.realpath(lock), (os.getpid(), get_ident())
    if fcntl is None or _owners.get(key) == owner:
        yield
        return
    require_writable(lock)
    with ExitStack() as stack:
        try:
            if not lock.parent.exists():
                lock.parent.mkdir(parents=True, exist_ok=True)
                stack.callback(_remove_if_empty, lock.parent)
            file = stack.enter_context(lock.open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The other run may have ended, and removed the file, between the two lines above.
            is_free = os.path.samestat(os.fstat(file.fileno()), lock.stat())
        except (BlockingIOError, FileNotFoundError):
            is_free = False
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
                raise write_failure(path, error) from error
            is_free = True
        if not is_free:
            raise OutputError(f"{path} is being written by another run. Wait for it, or give another name.")
        _owners[key] = owner
        try:
            yield
        finally:
            del _owners[key]
            give_up(lock)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
