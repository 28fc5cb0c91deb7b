"""Site files: the facts about a place, read from TOML into validated values, and the grid they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, model_validator

from landslip.config.site_tables import (
    ClassTable,
    DemTable,
    FactorTable,
    FileTable,
    GridTable,
    ImageTable,
    InputPath,
    LandslidesTable,
    RiversTable,
)
from landslip.config.strict import Strict, validated
from landslip.errors import SiteError
from landslip.geo.archive import plain
from landslip.runtime.text import read_toml


class Site(Strict):
    """One study area: its inputs and its outline. All paths are resolved when it is read."""

    name: str = Field(min_length=1)
    data: InputPath | None = Field(None, description="folder that the paths below start at")
    grid: GridTable = GridTable()
    outline: FileTable | None = None
    image: tuple[ImageTable, ...] = ()
    before: tuple[ImageTable, ...] = ()
    dem: DemTable | None = None
    rivers: RiversTable | None = None
    faults: FileTable | None = None
    lithology: ClassTable | None = None
    landslides: LandslidesTable | None = None
    factor: tuple[FactorTable, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Site:
        if not self.image and self.dem is None and not self.factor:
            raise ValueError("a site needs an [[image]], a [dem] or a [[factor]]: there is nothing to map from")
        names = list(dict.fromkeys(name for image in self.image for name in image.bands)) + [
            f.name for f in self.factor
        ]
        twice = sorted({name for name in names if names.count(name) > 1})
        for images in (self.image, self.before):
            sets = [
                image.bands.keys()
                for i, image in enumerate(images)
                if not any(image.fills(earlier) for earlier in images[:i])
            ]
            twice += sorted({name for bands in sets for name in bands if sum(name in other for other in sets) > 1})
        if twice:
            raise ValueError(
                f"named twice: {', '.join(dict.fromkeys(twice))}. Only bundles that give the same bands fill each other"
            )
        if self.rivers is not None and self.rivers.from_dem_km2 is not None and self.dem is None:
            raise ValueError("[rivers] from_dem_km2 needs a [dem]")
        if self.before:
            bands = [name for image in self.before for name in image.bands]
            missing = [role for role in ("red", "nir") if role not in bands or role not in names]
            if missing:
                raise ValueError(f"[[before]] adds dNDVI, which needs {' and '.join(missing)} before and after")
        return self

    def layers(self) -> list[tuple[str, Path]]:
        """(what it is, path) of every input file but the images, in the order of the site file."""
        files: list[tuple[str, Path]] = []
        for what in ("outline", "dem", "rivers", "faults", "lithology", "landslides"):
            table = getattr(self, what)
            if table is not None and table.path is not None:
                files.append((what, table.path))
        files.extend((f"factor {f.name}", f.path) for f in self.factor)
        return files


def read_site(path: Path | str, data: Path | str | None = None) -> Site:
    """Read a site file. Paths in it start at its `data` folder, else at its own folder; `data` overrides both.

    A file in an archive is `archive.zip/file`, or as GDAL has it. Raises SiteError that lists every fault of the file.
    """
    path = Path(path)
    site = validated(Site, read_toml(path, SiteError), path, SiteError)
    if data is not None:
        try:
            data = Path(plain(str(data)))
        except ValueError as error:
            raise SiteError(f"--data: {error}.") from error
    root = path.parent if site.data is None else path.parent / site.data
    return _resolve(site, root if data is None else Path(data))


def _resolve(site: Site, root: Path) -> Site:
    """The site with its paths from `root`."""

    def resolved(table: Any) -> Any:
        if isinstance(table, tuple):
            return tuple(resolved(item) for item in table)
        if isinstance(table, ImageTable):
            return _resolve_image(table, root)
        path = getattr(table, "path", None)
        if isinstance(table, BaseModel) and path is not None:
            return table.model_copy(update={"path": root / path})
        return table

    return site.model_copy(update={name: resolved(getattr(site, name)) for name in Site.model_fields})


def _resolve_image(image: ImageTable, root: Path) -> ImageTable:
    """The image with its paths from `root`."""
    paths: dict[str, object] = {
        key: root / value for key in ("path", "bundle", "metadata") if (value := getattr(image, key))
    }
    paths["files"] = {role: root / path for role, path in image.files.items()}
    return image.model_copy(update=paths)
