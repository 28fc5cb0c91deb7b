"""The files of a scene as it was downloaded: a folder, or an archive read where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from landslip.errors import SiteError
from landslip.geo.archive import START, UNREADABLE, names, text_in
from landslip.scenes.scene import corrupt

SENTINEL_METADATA = "MTD_MSIL2A.xml"


class Folder:
    """The files of a folder or of an archive, by their names in it; only metadata is read from it.

    Raises SiteError for what is not there, is no folder, .tar or .zip, or is an archive that cannot be read.
    """

    def __init__(self, origin: Path) -> None:
        self.origin = origin
        # Left out are the files that some systems put beside every other (._ and its name), which are no bands, and
        # names that lead out of the archive, which could be any file of this machine.
        self.names = [
            name
            for name in self._names()
            if not name.rsplit("/", 1)[-1].startswith("._") and not name.startswith("/") and ".." not in name.split("/")
        ]

    def find(self, *endings: str) -> str | None:
        """The file whose name ends so, of several the least deep; earlier endings come first. None where none is."""
        for ending in endings:
            matches = [name for name in self.names if name.rsplit("/", 1)[-1].endswith(ending)]
            if matches:
                return min(matches, key=lambda name: (name.count("/"), name))
        return None

    def require_one_scene(self) -> None:
        """Raise SiteError where there is metadata of several scenes, of which one would be taken by chance."""
        for ending in ("_MTL.json", "_MTL.txt", "/" + SENTINEL_METADATA):
            files = [name for name in self.names if f"/{name}".endswith(ending)]
            if len(files) > 1:
                raise SiteError(
                    f"{self.origin} holds several scenes ({files[0]}, {files[1]}). Give each an [[image]] of its own."
                )

    def text(self, name: str) -> str:
        """A file's text; SiteError where it cannot be read."""
        try:
            if self.origin.is_dir():
                return (self.origin / name).read_text(encoding="utf-8-sig")
            return text_in(self.origin, name)
        except UNREADABLE as error:
            raise corrupt(self.origin / name, str(error)) from error

    def require(self, wanted: Mapping[str, str], remedy: str) -> None:
        """Raise SiteError that lists every one of {file: what it is} that is not there."""
        missing = [f"{name} ({what})" for name, what in wanted.items() if name not in self.names]
        if missing:
            raise SiteError(f"{self.origin} lacks {', '.join(missing)}. {remedy}")

    def _names(self) -> list[str]:
        if self.origin.is_dir():
            return [path.relative_to(self.origin).as_posix() for path in sorted(self.origin.rglob("*"))]
        if not self.origin.exists():
            raise SiteError(f"{self.origin} does not exist. {START}")
        try:
            if self.origin.suffix.lower() in (".tar", ".zip"):
                return names(self.origin)
        except UNREADABLE as error:
            raise SiteError(
                f"{self.origin} cannot be read as an archive ({error}): it is truncated or damaged. Fetch it again."
            ) from error
        if self.origin.name.lower().endswith((".tar.gz", ".tgz")):
            raise SiteError(f"{self.origin} is compressed: unpack it with gunzip, and give the .tar.")
        raise SiteError(f"{self.origin} is no bundle: give its folder, its .tar, or the .zip of a .SAFE folder.")
