"""What manifest.json says of a site: the inputs by their hashes, the grid and the software."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from pydantic import JsonValue

from landslip.geo.archive import own_file
from landslip.geo.grid import Grid
from landslip.preparation.images import ImageFacts, describe_images
from landslip.preparation.site_inputs import SiteInputs
from landslip.preparation.source import Encoding
from landslip.runtime.disk import file_hash
from landslip.runtime.provenance import software

# the files beside a .shp that belong to it
SHAPEFILE = (".dbf", ".prj", ".shx", ".cpg")


class GridFacts(TypedDict):
    """A grid as manifest.json holds it; `transform` has the six coefficients of an affine transform."""

    crs: str
    transform: list[float]
    height: int
    width: int


class InputFacts(TypedDict):
    """An input as manifest.json holds it: what it is, and the file that was hashed.

    Of a file in an archive, `file` is the archive and `member` what is read of it.
    """

    what: str
    file: str
    member: NotRequired[str]
    sha256: str


class Manifest(TypedDict):
    """What manifest.json says of a site. Once its channels are computed it says how, and what was noticed."""

    site: dict[str, JsonValue]
    grid: GridFacts
    encoding: Encoding
    images: list[ImageFacts]
    before: NotRequired[list[ImageFacts]]
    inputs: list[InputFacts]
    software: dict[str, str]
    resampling: NotRequired[dict[str, dict[str, str]]]
    warnings: NotRequired[list[str]]
    landslides_that_burn_to_no_pixel: NotRequired[list[str]]
    landslides_by_review: NotRequired[dict[str, int]]


def make_manifest(inputs: SiteInputs, grid: Grid, encoding: Encoding) -> Manifest:
    """What manifest.json says of a site before its channels are computed."""
    facts = {
        "site": inputs.site.model_dump(mode="json", exclude_defaults=True),
        "grid": grid_facts(grid),
        "encoding": encoding,
        "images": describe_images(inputs.images),
        **({"before": describe_images(inputs.before)} if inputs.before else {}),
        "inputs": _input_facts(inputs.files()),
        "software": software(),
    }
    return cast(Manifest, facts)  # Written in this order.


def without_folders(texts: Iterable[str], inputs: SiteInputs) -> list[str]:
    """Texts that call the site's files by their names alone: a manifest is passed on, their folders are not."""
    bundles = [image.table.bundle for image in (*inputs.images, *inputs.before) if image.table.bundle is not None]
    paths = sorted({*(path for _, path in inputs.files()), *bundles}, key=lambda path: -len(str(path)))
    shortened = []
    for text in texts:
        for path in paths:
            text = text.replace(str(path), path.name)
        shortened.append(text)
    return shortened


def grid_facts(grid: Grid) -> GridFacts:
    """A grid as manifest.json holds it."""
    return GridFacts(crs=grid.crs.to_wkt(), transform=list(grid.transform)[:6], height=grid.height, width=grid.width)


def _input_facts(inputs: Iterable[tuple[str, Path]]) -> list[InputFacts]:
    """What manifest.json says of every (what it is, path), each file hashed once."""
    hashes: dict[Path, str] = {}
    rows: list[InputFacts] = []
    for what, path in inputs:
        for part in (path, *_companions(path)):
            file = own_file(part)
            if file not in hashes:
                hashes[file] = file_hash(file)
            if file == part:
                rows.append(InputFacts(what=what, file=file.name, sha256=hashes[file]))
            else:
                member = part.relative_to(file).as_posix()
                rows.append(InputFacts(what=what, file=file.name, member=member, sha256=hashes[file]))
    return rows


def _companions(path: Path) -> list[Path]:
    """The files that a shapefile consists of besides its .shp."""
    companions = [path.with_suffix(ending) for ending in SHAPEFILE] if path.suffix.lower() == ".shp" else []
    return [part for part in companions if part.exists()]
