"""The inputs of a site, opened: its images with what their metadata says, read once and passed on as values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from landslip.config.site import Site
from landslip.config.site_tables import ImageTable
from landslip.geo.grid import Grid
from landslip.geo.raster import read_info
from landslip.preparation.findings import Finding, collect_faults
from landslip.scenes.bundle import listed_scene, read_bundle
from landslip.scenes.scene import Scene


@dataclass(frozen=True)
class SiteImage:
    """An [[image]] of a site file, and the scene that its metadata tells of: None for an image that is one file."""

    table: ImageTable
    scene: Scene | None
    _grids: dict[Path, Grid] = field(default_factory=dict, repr=False, compare=False)

    def grid_of(self, path: Path) -> Grid:
        """The grid of one of the image's rasters, whose header is read once. Raises what reading it raises."""
        if path not in self._grids:
            self._grids[path] = read_info(path).grid
        return self._grids[path]

    def with_table(self, **changes: object) -> SiteImage:
        """The image with other values in its table, and the same scene."""
        return dataclasses.replace(self, table=self.table.model_copy(update=changes))

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read of the image; of an archive, the archive."""
        return (Path(str(self.table.path)),) if self.scene is None else self.scene.files


@dataclass(frozen=True, kw_only=True)
class SiteInputs:
    """A site with its images opened. The site has the names and dates that metadata gives its images.

    `unopened` are the images that could not be opened, where `open_site` was to leave them out.
    """

    site: Site
    images: tuple[SiteImage, ...]
    before: tuple[SiteImage, ...]
    unopened: tuple[ImageTable, ...] = ()

    def files(self) -> list[tuple[str, Path]]:
        """(what it is, path) of every input file, in the order of the site file."""
        files = [
            (f"{key}[{i}]", path)
            for key, images in (("image", self.images), ("before", self.before))
            for i, image in enumerate(images)
            for path in image.files
        ]
        return files + self.site.layers()


def open_site(site: Site, findings: list[Finding] | None = None) -> SiteInputs:
    """Read the metadata of a site's images.

    Raises SiteError for missing files and corrupt metadata. With `findings` such an image is left out instead, and is a
    fault among them.
    """

    def opened(table: ImageTable) -> SiteImage | None:
        with nullcontext() if findings is None else collect_faults(findings):
            return open_image(table)
        return None

    images, before = ([(table, opened(table)) for table in tables] for tables in (site.image, site.before))
    described = {
        key: tuple(table if image is None else image.table for table, image in pairs)
        for key, pairs in (("image", images), ("before", before))
    }
    return SiteInputs(
        site=site.model_copy(update=described),
        images=tuple(image for _, image in images if image is not None),
        before=tuple(image for _, image in before if image is not None),
        unopened=tuple(table for table, image in images + before if image is None),
    )


def open_image(table: ImageTable) -> SiteImage:
    """An image with its scene, whose name and date its table gets where the site file leaves them to the metadata.

    Raises SiteError for missing files and corrupt metadata.
    """
    if table.bundle is not None:
        scene = read_bundle(table.bundle, tuple(table.bands), table.pansharpen, table.saturation)
    elif table.files:
        scene = listed_scene(
            table.files,
            scale=table.scale,
            offset=table.offset,
            metadata=table.metadata,
            nodata=table.nodata,
            unit=table.unit,
        )
    else:
        return SiteImage(table, None)
    return SiteImage(table, scene).with_table(scene=table.scene or scene.name, date=table.date or scene.date)


def fill_groups(images: Sequence[SiteImage]) -> list[list[SiteImage]]:
    """Images in groups, each of which becomes one image: scenes that fill each other, in the order given."""
    groups: list[list[SiteImage]] = []
    for image in images:
        alike = [group for group in groups if image.table.fills(group[0].table)]
        if alike:
            alike[0].append(image)
        else:
            groups.append([image])
    return groups
