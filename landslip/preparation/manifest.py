"""What manifest.json says of a site: the inputs by their hashes, the grid and the software."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from landslip.geo.archive import own_file
from landslip.geo.grid import Grid
from landslip.preparation.images import describe_images
from landslip.preparation.site_inputs import SiteInputs
from landslip.preparation.source import Encoding
from landslip.runtime.disk import file_hash
from landslip.runtime.provenance import software

# the files beside a .shp that belong to it
SHAPEFILE = (".dbf", ".prj", ".shx", ".cpg")


def make_manifest(inputs: SiteInputs, grid: Grid, encoding: Encoding) -> dict[str, object]:
    """What manifest.json says of a site before its channels are computed."""
    return {
        "site": inputs.site.model_dump(mode="json", exclude_defaults=True),
        "grid": grid_json(grid),
        "encoding": encoding,
        "images": describe_images(inputs.images),
        **({"before": describe_images(inputs.before)} if inputs.before else {}),
        "inputs": _inputs_json(inputs.files()),
        "software": software(),
    }


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


def grid_json(grid: Grid) -> dict[str, object]:
    """A grid as manifest.json holds it."""
    return {
        "crs": grid.crs.to_wkt(),
        "transform": list(grid.transform)[:6],
        "height": grid.height,
        "width": grid.width,
    }


def _inputs_json(inputs: Iterable[tuple[str, Path]]) -> list[dict[str, str]]:
    """What manifest.json says of every (what it is, path): the file and its SHA-256.

    Of a file in an archive, `file` is the archive, which is what is hashed, and `member` what is read of it.
    """
    hashes: dict[Path, str] = {}
    rows = []
    for what, path in inputs:
        for part in (path, *_companions(path)):
            file = own_file(part)
            if file not in hashes:
                hashes[file] = file_hash(file)
            member = {} if file == part else {"member": part.relative_to(file).as_posix()}
            rows.append({"what": what, "file": file.name, **member, "sha256": hashes[file]})
    return rows


def _companions(path: Path) -> list[Path]:
    """The files that a shapefile consists of besides its .shp."""
    companions = [path.with_suffix(ending) for ending in SHAPEFILE] if path.suffix.lower() == ".shp" else []
    return [part for part in companions if part.exists()]
