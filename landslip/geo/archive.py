"""Files in archives: where a path such as `dem.zip/dem.tif` leads, how GDAL is asked for it, what an archive holds.

Archives (.zip, .tar, .tar.gz, .tgz) are read where they lie and never unpacked. Names that GDAL has for what is in them
(`/vsizip/dem.zip/dem.tif`) are turned into such paths where a site file is read, so that nothing that follows need know
how a path was written.
"""

from __future__ import annotations

import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ARCHIVES = {".zip": "/vsizip/", ".tar": "/vsitar/", ".tar.gz": "/vsitar/", ".tgz": "/vsitar/"}
ARCHIVE_KINDS = ".zip, .tar, .tar.gz or .tgz"
NETWORK = (
    *("http", "https", "ftp", "sftp", "s3", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "swift", "hdfs"),
    *("webhdfs", "curl"),
)  # before :// and, with some others, after /vsi
ELSEWHERE = re.compile(rf"[/{{]/?vsi({'|'.join(NETWORK)}|adls)(_streaming)?(/|$)")
MOST_SHOWN = 5  # names of an archive's files in a message
START = "Check the path; paths in a site file start at its own folder, or at the one that `data` or --data names."
# What a damaged archive raises. RuntimeError comes of what is encrypted, packed in a way of its own, a link to itself,
# or nested without end.
UNREADABLE = (
    OSError, ValueError, LookupError, RuntimeError, EOFError, OverflowError, struct.error,
    tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def archive_of(path: Path) -> Path | None:
    """The archive that a path such as `scene.tar/band.TIF` lies in; None for a file of its own."""
    return next((parent for parent in path.parents if _is_archive(parent) and parent.is_file()), None)


def own_file(path: Path) -> Path:
    """The file on the disk that a path leads to: the archive, or the path itself."""
    return archive_of(path) or path


def is_virtual(path: Path) -> bool:
    """Whether a path is GDAL's own: /vsis3/BUCKET/FILE, /vsicurl/https://HOST/FILE and their like."""
    return path.as_posix().startswith("/vsi")


def gdal_name(path: Path) -> str:
    """A path as GDAL is asked for it.

    Path makes one slash of the two in https://, which a virtual path may hold.
    """
    if is_virtual(path):
        return re.sub(r"(/(?:https?|ftp):)/+", r"\1//", path.as_posix(), count=1)
    archive = archive_of(path)
    if archive is None:
        return str(path)
    member, outer = path.relative_to(archive).as_posix(), archive.absolute().as_posix()
    # In braces, so that GDAL takes this for the archive even where a folder above it is called like one. It cannot tell
    # its braces from those of a name.
    outer = outer if {"{", "}"} & set(outer) else f"{{{outer}}}"
    kind = next(prefix for ending, prefix in ARCHIVES.items() if archive.name.lower().endswith(ending))
    return f"{kind}{outer}/{member}"


def plain(text: str) -> str:
    """A path as a person writes it, with GDAL's name for a file in an archive turned into `archive.zip/file`.

    Raises ValueError for what lies on a network, for an archive within an archive, and for what else GDAL alone knows.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", text)  # C:/ is none; a Path has one slash.
    if (text.startswith("/vsi") and ELSEWHERE.search(text)) or (scheme and scheme[1].lower().split("+")[0] in NETWORK):
        raise ValueError(
            f"{text} lies on a network, and a site is known by the hashes of its files, which are read many times. "
            "Download it first, and give the path of the file"
        )
    if scheme and text[scheme.end() :].startswith("/"):
        raise ValueError(f"{text} is a URL: give the path of the file, or archive.zip/file for one in an archive")
    if not text.startswith("/vsi"):
        return text
    match = re.fullmatch(r"/vsi(?:zip|tar)/(?:\{(?P<braced>.*)\}/*(?P<member>.*)|(?P<whole>.*))", text)
    if match is None:
        raise ValueError(
            f"{text} is a way of GDAL's that is not taken here. Give a file, or a path into a {ARCHIVE_KINDS}"
        )
    inner = match["whole"] if match["braced"] is None else f"{match['braced']}/{match['member']}".rstrip("/")
    if re.match(r"/?vsi\w+/", inner):
        raise ValueError(f"{text} is an archive within an archive. Unpack the outer one, and give the inner one's path")
    if not any(_is_archive(part) for part in (Path(inner), *Path(inner).parents)):
        raise ValueError(f"{text} names no archive that is read here: its name ends in {ARCHIVE_KINDS}")
    return inner


def shown(name: str) -> str:
    """GDAL's name for a file, as a person would write it."""
    with suppress(ValueError):
        return plain(name)
    return name


def lack(path: Path) -> str:
    """Why nothing can be opened at a path into an archive, or at one, as a sentence; empty for every other path.

    The archive lacks the file, or is given where a file in it is wanted. Called once opening has failed.
    """
    archive = archive_of(path)
    if archive is None and not (_is_archive(path) and path.is_file()):
        return ""
    try:
        members = names(archive or path)
    except UNREADABLE as error:
        return f"{archive or path} cannot be read as an archive ({error}): it is truncated or damaged. Fetch it again."
    files = [name.removeprefix("./") for name in members if not name.endswith("/")]
    listed = ", ".join(files[:MOST_SHOWN]) + (" ..." if len(files) > MOST_SHOWN else "")
    if archive is None:
        such = f", such as {path}/{files[0]}" if files else ""
        return f"{path} is an archive of {listed or 'nothing'}. Name the file in it{such}."
    member = path.relative_to(archive).as_posix()
    if any(name == member or name.startswith(f"{member}/") for name in files):
        return ""
    return f"{archive} holds no {member}. It holds {listed or 'nothing'}."


def names(archive: Path) -> list[str]:
    """The names in an archive, in order; one of UNREADABLE where it is damaged."""
    if archive.suffix.lower() == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            return sorted(zipped.namelist())
    with open_tar(archive) as opened:
        return sorted(member.name for member in opened.getmembers() if member.isfile())


def text_in(archive: Path, name: str) -> str:
    """The text of a file in a .zip or .tar; one of UNREADABLE where it cannot be read."""
    if archive.suffix.lower() == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            return zipped.read(name).decode("utf-8-sig")
    with open_tar(archive) as opened:
        file = opened.extractfile(name)
        if file is None:
            raise ValueError("it is no file")
        return file.read().decode("utf-8-sig")


@contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """An open .tar, compressed or not; one of UNREADABLE where it is none."""
    with tarfile.open(path, "r:" if path.suffix.lower() == ".tar" else "r:gz") as opened:
        yield opened


def _is_archive(path: Path) -> bool:
    """Whether the name is that of an archive."""
    return path.name.lower().endswith(tuple(ARCHIVES))
