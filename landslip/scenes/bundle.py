"""A scene from what was downloaded: a folder or an archive with its metadata, or files that are listed by band.

Only metadata is read here, and nothing is ever unpacked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from landslip.errors import SiteError
from landslip.geo.archive import START, UNREADABLE, archive_of, text_in
from landslip.scenes.landsat import landsat
from landslip.scenes.scene import SURFACE, Band, Scene, corrupt
from landslip.scenes.scene_files import SENTINEL_METADATA, Folder
from landslip.scenes.sentinel2 import read_sentinel_metadata, sentinel


def read_bundle(origin: Path, roles: Sequence[str], pan: bool | None = None, saturation: bool = True) -> Scene:
    """The scene in a folder or archive, by its metadata; bands as `roles` asks.

    `pan`: whether band 8 is wanted; None where it is wanted of a bundle that has one. Raises SiteError for a bundle
    that is neither Landsat-8/9 Collection 2 nor Sentinel-2 Level-2A, for corrupt metadata, and for missing files.
    """
    folder = Folder(origin)
    folder.require_one_scene()
    return _scene_in(folder, roles, pan, saturation)


def listed_scene(
    files: Mapping[str, Path],
    *,
    scale: float,
    offset: float,
    metadata: Path | None,
    nodata: tuple[float, ...],
    unit: str,
) -> Scene:
    """A scene of one file per band, scaled by `scale` and `offset` or as Sentinel-2's `metadata` says.

    Raises SiteError where the metadata is missing or corrupt, or a file's name says no band that it knows.
    """
    origin = next(iter(files.values())).parent
    if metadata is None:
        bands = {role: Band(path=path, scale=scale, offset=offset, nodata=nodata) for role, path in files.items()}
        return Scene(origin=origin, name="", date=None, unit=unit, bands=bands)
    scaling = read_sentinel_metadata(metadata, _text_of(metadata))
    bands = {}
    for role, path in files.items():
        match = re.search(r"_(B\d[\dA])(?=[_.])", path.name)
        if match is None or match[1] not in scaling.bands:
            raise SiteError(
                f"{path}: its name says no band ({', '.join(scaling.bands)}), so nobody knows its offset in "
                f"{metadata}. Give scale and offset instead of metadata."
            )
        scale, offset = scaling.bands[match[1]]
        bands[role] = Band(path=path, scale=scale, offset=offset, nodata=nodata or (0,))
    return Scene(
        origin=origin,
        name=scaling.name,
        date=scaling.date,
        unit=unit or SURFACE,
        bands=bands,
        metadata=(metadata,),
    )


def _scene_in(folder: Folder, roles: Sequence[str], pan: bool | None, saturation: bool) -> Scene:
    origin = folder.origin
    if folder.find("_MTL.json", "_MTL.txt"):
        return landsat(folder, roles, pan, saturation)
    if pan:
        raise SiteError(f"{origin}: pansharpen needs band 8 of a Landsat Level-1 bundle. Leave pansharpen out.")
    if folder.find(SENTINEL_METADATA) or origin.name.upper().removesuffix(".ZIP").endswith(".SAFE"):
        return sentinel(folder, roles)
    raise SiteError(
        f"{origin} holds neither *_MTL.json nor *_MTL.txt (Landsat-8/9 Collection 2) nor {SENTINEL_METADATA} "
        "(Sentinel-2 Level-2A): without metadata nobody knows its scaling. Fetch the bundle again, or give its bands "
        "as `files` with scale and offset."
    )


def _text_of(metadata: Path) -> str:
    """The text of a metadata file, which may lie in an archive; SiteError where it is missing or corrupt."""
    archive = archive_of(metadata)
    if archive is None and not metadata.exists():
        raise SiteError(f"{metadata} does not exist. {START}")
    try:
        if archive is None:
            return metadata.read_text(encoding="utf-8-sig")
        return text_in(archive, metadata.relative_to(archive).as_posix())
    except UNREADABLE as error:
        raise corrupt(metadata, str(error)) from error
