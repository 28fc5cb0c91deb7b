"""What a disk can hold: names, room and rights, and the error for what it refuses; files removed, and hashed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

from landslip.errors import OutputError


def require_name(path: Path) -> None:
    """Raise OutputError for `.`, `..` and `/`, which are folders and no names that an output can have."""
    if path.name in ("", ".."):
        raise OutputError(f"{path} is a folder, and no name that an output can have. Give a name in it.")


def require_writable(path: Path) -> None:
    """Raise OutputError where there is no folder, or no right, to make `path`."""
    parent = existing_parent(path.parent)
    if not parent.is_dir():
        raise OutputError(f"{path} cannot be written: {parent} is not a folder. Give another name.")
    if not os.access(parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: {parent} is read-only. Write elsewhere, or change its rights.")


def require_space(path: Path, needed: float) -> None:
    """Raise OutputError where fewer than `needed` bytes are free on the disk that will hold `path`."""
    free = shutil.disk_usage(existing_parent(path)).free
    if free < needed:
        raise OutputError(
            f"{path} needs about {needed / 2**20:.1f} MiB and its disk has {free / 2**20:.1f} MiB free. "
            "Free some space, or write elsewhere."
        )


def write_failure(path: Path, error: OSError) -> OutputError:
    """The error for a write that the system refused: the disk is full, or the place cannot be written to."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(existing_parent(path)).free / 2**20
        return OutputError(f"{path}: the disk is full ({free:.1f} MiB free). Free some space and run again.")
    return OutputError(
        f"{path} cannot be written: {error.strerror or error}. Give another place, or change its rights."
    )


def existing_parent(path: Path) -> Path:
    """The path itself, or the nearest folder around it, that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def is_stream(path: Path) -> bool:
    """Whether a path leads to a pipe, a socket or a device, which has no end or no place to go back to."""
    return path.exists() and not (path.is_file() or path.is_dir())


def flush(path: Path) -> None:
    """Have the system store what was written into a file. Raises OSError where the disk is full."""
    # A full disk may show only now, and a rename before that would name a file that is not whole.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, where it is there. Raises OSError where that cannot be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def give_up(aside: Path) -> None:
    """Remove what was written aside, or leave it where that cannot be."""
    with suppress(OSError):  # What stopped the writing may stop this too, and is the error to show.
        remove(aside)


def remove_file(path: Path, of: Path) -> None:
    """Remove a file where it is there. Raises OutputError that names `of`, whose file it is, where that cannot be."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise write_failure(of, error) from error


def remove_folder(folder: Path) -> None:
    """Remove a folder where it is there. Raises OutputError that names it where that cannot be."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise write_failure(folder, error) from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal; of a folder (a file geodatabase, say), of its files' own hashes."""
    if path.is_dir():
        lines = [f"{file.name} {file_hash(file)}" for file in sorted(path.iterdir()) if file.is_file()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
