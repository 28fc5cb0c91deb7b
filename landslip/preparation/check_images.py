"""What `check` says of images and other rasters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from landslip.config.site import Site, scene_of
from landslip.config.site_tables import (
    FactorTable,
    ImageTable,
)
from landslip.errors import RasterError, SiteError
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import (
    RASTER_SUFFIXES,
    RasterInfo,
    read,
    read_info,
    unreadable_blocks,
)
from landslip.geo.vector import read_vector
from landslip.geo.warp import covering_window
from landslip.preparation.images import quality_on, require_alike
from landslip.preparation.plausibility import Finding
from landslip.preparation.source import BLOCK
from landslip.runtime.parallel import parallel_map
from landslip.runtime.progress import plural
from landslip.scenes.scene import Scene

ALWAYS_RASTERS = ("image", "before", "dem")
MARGIN = 16  # pixels read beyond the site
HALF = 0.5
Inside = Callable[[Window], NDArray[np.bool_]]  # the pixels of a window, (h, w), that lie inside the outline


def readable_inputs(site: Site, what: str, path: Path, grids: list[Grid], findings: list[Finding]) -> None:
    """A raster whose every block on the site decodes and whose CRS is known, or a vector file with valid geometries."""
    if not what.startswith(ALWAYS_RASTERS) and path.suffix.lower() not in RASTER_SUFFIXES:
        table = _table(site, what)
        frame = read_vector(path, table.layer, stated=table.crs)
        broken = int((~frame.geometry.is_valid).sum())
        if broken:
            findings.append(
                Finding("warning", f"{path}: {broken} of {len(frame)} geometries are invalid (crossing rings, say).")
            )
        return
    info = _require_readable(path, grids)
    for band, (nodata, dtype) in enumerate(zip(info.nodata, info.dtypes, strict=True), start=1):
        if nodata is not None and np.issubdtype(np.dtype(dtype), np.integer):
            limits = np.iinfo(np.dtype(dtype))
            if not limits.min <= nodata <= limits.max:
                findings.append(
                    Finding("warning", f"{path} band {band}: declared nodata {nodata:g} cannot occur in {dtype}.")
                )


def _require_readable(path: Path, grids: list[Grid]) -> RasterInfo:
    """Raise where a raster has no CRS, is rotated, or has blocks on the site that do not decode."""
    info = read_info(path)
    _ = info.grid  # no CRS or a rotated raster is a fault
    bad = unreadable_blocks(path, covering_window(info, grids[0], MARGIN)) if grids else []
    if bad:
        where = ", ".join(f"row {w.row} column {w.column}" for w in bad[:3])
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise RasterError(
            f"{path}: {plural(len(bad), 'block')} cannot be read (at {where}{more}): truncated or damaged. Fetch it "
            "again."
        )
    return info


def images_of(site: Site) -> list[tuple[str, int, ImageTable]]:
    """(table, position in it, image) of every image."""
    tables = (("image", site.image), ("before", site.before))
    return [(which, i, image) for which, images in tables for i, image in enumerate(images)]


def _table(site: Site, what: str) -> Any:
    """The table of a site file that names a vector file."""
    return {f"factor {factor.name}": factor for factor in site.factor}.get(what) or getattr(site, what)


def check_factor(factor: FactorTable, grid: Grid, findings: list[Finding]) -> None:
    info = read_info(factor.path)
    if factor.band > info.count:
        raise RasterError(
            f"{factor.path}: factor {factor.name} is band {factor.band}, but the file has "
            f"{plural(info.count, 'band')}. Count from 1."
        )
    _check_cover(factor.path, info, grid, findings, [factor.band], factor.nodata)


def check_image(image: ImageTable, path: Path, grids: list[Grid], findings: list[Finding]) -> None:
    info = read_info(path)
    unscaled: dict[tuple[float, float], list[int]] = {}  # bands by the scale and offset that they declare
    for name, band in image.bands.items():
        if band > info.count:
            findings.append(
                Finding(
                    "fault", f"{path}: {name} = {band}, but the file has {plural(info.count, 'band')}. Count from 1."
                )
            )
        elif info.scales[band - 1] != 1 and image.scale == 1:
            unscaled.setdefault((info.scales[band - 1], info.offsets[band - 1]), []).append(band)
    for (scale, offset), bands in unscaled.items():
        verb = "declares" if len(bands) == 1 else "declare"
        text = (
            f"{path} {bands_text(bands)} {verb} scale {scale:g} and offset {offset:g}; the site gives none, so values "
            "are taken as stored. Give scale and offset in the site file if reflectance is wanted."
        )
        findings.append(Finding("warning", text))
    if grids:
        named = [band for band in image.bands.values() if band <= info.count]
        _check_cover(path, info, grids[0], findings, named, image.nodata)


def check_scenes(
    group: list[ImageTable], attempt: Callable[[Callable[[], None]], bool], grids: list[Grid], findings: list[Finding]
) -> None:
    """Scenes that make one image: each of them, that they can fill each other, and that the site is not all clouded."""
    found: list[Scene] = []

    def read_metadata(image: ImageTable) -> None:
        scene = scene_of(image)
        if scene is not None:
            found.append(scene)

    sound = [attempt(lambda image=image: read_metadata(image)) for image in group]  # type: ignore[misc]
    if not all(sound) or not attempt(lambda: require_alike(found)):
        return
    sound = [attempt(lambda scene=scene: _check_scene(scene, grids, findings)) for scene in found]  # type: ignore[misc]
    if all(sound) and grids:
        attempt(lambda: _check_clear(group, found, grids[0], findings))


def _check_scene(scene: Scene, grids: list[Grid], findings: list[Finding]) -> None:
    """A scene whose rasters are whole, and which meets the site."""
    infos = [_require_readable(path, grids) for path in dict.fromkeys(scene.rasters)]
    if grids and not overlaps(infos[0], grids[0]):
        where, site = infos[0].grid.describe(), grids[0].describe()
        raise RasterError(f"{scene.origin} ({where}) does not overlap the site, {site}. Give another scene.")
    if grids and scene.quality is None:
        for name, band in scene.bands.items():
            _check_cover(band.path, read_info(band.path), grids[0], findings, [band.number], band.nodata)
            if band.number > read_info(band.path).count:
                raise RasterError(f"{band.path}: {name} has no band {band.number}.")


def _check_clear(group: list[ImageTable], scenes: list[Scene], grid: Grid, findings: list[Finding]) -> None:
    """A site that is not clouded in every scene."""
    if scenes[0].quality is None:
        return
    clear = [0] * len(scenes)
    shown: dict[str, int] = {}
    together = 0
    for window in tiles(grid.shape, 2048):
        anywhere = np.zeros((window.height, window.width), bool)
        for i, (image, scene) in enumerate(zip(group, scenes, strict=True)):
            if scene.quality is None:
                continue
            stored = quality_on(scene.quality, grid.crop(window))
            usable = ~scene.quality.unusable(stored, image.mask, image.saturation)
            anywhere |= usable
            clear[i] += int(usable.sum())
            for flag in ("fill", *image.mask) if i == 0 else ():
                shown[flag] = shown.get(flag, 0) + int(scene.quality.shows(stored, flag).sum())
        together += int(anywhere.sum())
    pixels = grid.height * grid.width
    if together == 0:
        listed = ", ".join(f"{name.replace('_', ' ')} {100 * count / pixels:.0f} %" for name, count in shown.items())
        others = f", nor in {plural(len(scenes) - 1, 'further scene')}" if len(scenes) > 1 else ""
        raise SiteError(
            f"{scenes[0].origin}: no pixel of the site is clear ({listed}){others}. Give a clearer scene, or a further "
            "[[image]] with the same bands to fill from, or mask less with [[image]] mask."
        )
    for scene, count in zip(scenes, clear, strict=True):
        if count == 0:
            findings.append(Finding("warning", f"{scene.origin}: no pixel of the site is clear; it adds nothing."))
    if together < HALF * pixels:
        share = 100 * (1 - together / pixels)
        text = f"{scenes[0].origin}: {share:.0f} % of the site's rectangle is fill or masked in every scene given."
        findings.append(Finding("warning", text))


def _check_cover(
    path: Path,
    info: RasterInfo,
    grid: Grid,
    findings: list[Finding],
    bands: Sequence[int],
    nodata: Sequence[float],
) -> None:
    if not overlaps(info, grid):
        findings.append(
            Finding("fault", f"{path} ({info.grid.describe()}) does not overlap the site, {grid.describe()}.")
        )
        return
    window = covering_window(info, grid, 0)
    alike: dict[tuple[Literal["fault", "warning"], str], list[int]] = {}  # bands of which the same is to be said
    for band in bands:
        defined, low, high = defined_range(path, band, window, nodata)
        if not defined:
            alike.setdefault(("fault", "undefined all over the site"), []).append(band)
        elif low == high:
            alike.setdefault(("warning", f"{low:g} everywhere on the site"), []).append(band)
        elif defined < HALF * window.area:
            share = 100 * (1 - defined / window.area)
            alike.setdefault(("warning", f"undefined on {share:.0f} % of the site's rectangle"), []).append(band)
    for (severity, what), found in alike.items():
        findings.append(Finding(severity, f"{path} {bands_text(found)} {'is' if len(found) == 1 else 'are'} {what}."))


def bands_text(bands: Sequence[int]) -> str:
    """Bands by number, as they are read aloud: band 3; bands 1 to 6; bands 1, 3 and 5."""
    if len(bands) > 2 and list(bands) == list(range(bands[0], bands[-1] + 1)):
        return f"bands {bands[0]} to {bands[-1]}"
    return ("band " if len(bands) == 1 else "bands ") + " and ".join(", ".join(map(str, bands)).rsplit(", ", 1))


def defined_range(path: Path, band: int, window: Window, nodata: Sequence[float]) -> tuple[int, float, float]:
    """How many pixels of a band are defined at a window, the least and the largest value; read block by block."""

    def at(part: Window) -> tuple[int, float, float]:
        values = read(path, [band], part.moved(window.row, window.column), nodata)
        defined = int(np.count_nonzero(~np.isnan(values)))
        return (defined, float(np.nanmin(values)), float(np.nanmax(values))) if defined else (0, np.inf, -np.inf)

    found = list(parallel_map(at, tiles((window.height, window.width), BLOCK)))
    return sum(n for n, _, _ in found), min(low for _, low, _ in found), max(high for _, _, high in found)


def everywhere(window: Window) -> NDArray[np.bool_]:
    return np.ones((window.height, window.width), bool)


def overlaps(info: RasterInfo, grid: Grid) -> bool:
    window = covering_window(info, grid, 0)
    return window.height > 0 and window.width > 0
