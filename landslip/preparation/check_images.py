"""What `landslip check` says of images and of other rasters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from landslip.config.site import Site
from landslip.config.site_tables import FactorTable, ImageTable
from landslip.errors import RasterError, SiteError
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import RASTER_SUFFIXES, RasterInfo, read, read_info, unreadable_blocks
from landslip.geo.vector import read_vector
from landslip.geo.warp import covering_window
from landslip.preparation.findings import Finding, collect_faults
from landslip.preparation.images import quality_on, require_alike
from landslip.preparation.site_inputs import SiteImage
from landslip.preparation.source import FILL_WINDOW
from landslip.runtime.parallel import parallel_map
from landslip.runtime.progress import plural
from landslip.scenes.scene import Scene

ALWAYS_RASTERS = ("image", "dem")  # the inputs that are rasters whatever their suffix
READ_MARGIN = 16  # pixels read beyond the site
HALF = 0.5  # of the site's rectangle: less than that defined or clear is worth a warning
QUALITY_WINDOW = 2048  # pixels a side of the windows that quality is read in


@dataclass
class _ClearPixels:
    """Of the site's rectangle: the pixels that are clear in each scene, those clear in any, and the first's flags."""

    by_scene: list[int]
    in_any: int = 0
    flagged: dict[str, int] = field(default_factory=dict)


def readable_inputs(site: Site, what: str, path: Path, grid: Grid | None, findings: list[Finding]) -> None:
    """Raise where an input cannot be read as a whole: a raster's blocks on the site, or a vector file.

    Invalid geometries, and a nodata value that the raster's type cannot hold, are warnings. `what` is the input's name
    as `Site.layers` gives it, or "image"; `grid` is None where the site has no grid, and no block is read then.
    """
    if what not in ALWAYS_RASTERS and path.suffix.lower() not in RASTER_SUFFIXES:
        table = _table(site, what)
        frame = read_vector(path, table.layer, stated=table.crs)
        broken = int((~frame.geometry.is_valid).sum())
        if broken:
            findings.append(
                Finding("warning", f"{path}: {broken} of {len(frame)} geometries are invalid (crossing rings, say).")
            )
        return
    info = _require_readable(path, grid)
    for band, (nodata, dtype) in enumerate(zip(info.nodata, info.dtypes, strict=True), start=1):
        if nodata is not None and np.issubdtype(np.dtype(dtype), np.integer):
            limits = np.iinfo(np.dtype(dtype))
            if not limits.min <= nodata <= limits.max:
                findings.append(
                    Finding("warning", f"{path} band {band}: declared nodata {nodata:g} cannot occur in {dtype}.")
                )


def check_factor(factor: FactorTable, grid: Grid, findings: list[Finding]) -> None:
    """Whether a factor's raster has the band that the site names, and has values on the site."""
    info = read_info(factor.path)
    if factor.band > info.count:
        raise RasterError(
            f"{factor.path}: factor {factor.name} is band {factor.band}, but the file has "
            f"{plural(info.count, 'band')}. Count from 1."
        )
    _check_cover(info, [factor.band], factor.nodata, grid, findings)


def check_image(image: ImageTable, path: Path, grid: Grid | None, findings: list[Finding]) -> None:
    """Whether an image's file has the bands that the site names, scaled as the file says, with values on the site."""
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
            f"{path} {_bands_text(bands)} {verb} scale {scale:g} and offset {offset:g}; the site gives none, so values "
            "are taken as stored. Give scale and offset in the site file if reflectance is wanted."
        )
        findings.append(Finding("warning", text))
    if grid is not None:
        existing = [band for band in image.bands.values() if band <= info.count]
        _check_cover(info, existing, image.nodata, grid, findings)


def check_scenes(group: Sequence[SiteImage], grid: Grid | None, findings: list[Finding]) -> None:
    """Whether the scenes of one image are whole, can fill each other, and leave some of the site clear of clouds."""
    scenes = [(image.table, image.scene) for image in group if image.scene is not None]
    sound = 0
    with collect_faults(findings):
        require_alike(group)
        for _, scene in scenes:
            with collect_faults(findings):
                _check_scene(scene, grid, findings)
                sound += 1
        if grid is not None and sound == len(scenes):
            _check_clear(scenes, grid, findings)


def defined_range(path: Path, band: int, window: Window, nodata: Sequence[float]) -> tuple[int, float, float]:
    """How many pixels of a band are defined at a window, the least and the largest value; read block by block."""

    def range_of(part: Window) -> tuple[int, float, float]:
        values = read(path, [band], part.moved(window.row, window.column), nodata)
        defined = int(np.count_nonzero(~np.isnan(values)))
        return (defined, float(np.nanmin(values)), float(np.nanmax(values))) if defined else (0, np.inf, -np.inf)

    counts, lowest, highest = zip(
        *parallel_map(range_of, tiles((window.height, window.width), FILL_WINDOW)), strict=True
    )
    return sum(counts), min(lowest), max(highest)


def overlaps(info: RasterInfo, grid: Grid) -> bool:
    """Whether a raster and the grid have ground in common."""
    window = covering_window(info, grid, 0)
    return window.height > 0 and window.width > 0


def _table(site: Site, what: str) -> Any:
    """The table of a site file that names a vector file."""
    return {f"factor {factor.name}": factor for factor in site.factor}.get(what) or getattr(site, what)


def _require_readable(path: Path, grid: Grid | None) -> RasterInfo:
    """Raise where a raster has no CRS, is rotated, or has blocks on the site that do not decode."""
    info = read_info(path)
    _ = info.grid  # Raises where the raster has no CRS or is rotated.
    bad = unreadable_blocks(path, covering_window(info, grid, READ_MARGIN)) if grid is not None else []
    if bad:
        where = ", ".join(f"row {w.row} column {w.column}" for w in bad[:3])
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise RasterError(
            f"{path}: {plural(len(bad), 'block')} cannot be read (at {where}{more}): truncated or damaged. Fetch it "
            "again."
        )
    return info


def _check_scene(scene: Scene, grid: Grid | None, findings: list[Finding]) -> None:
    """Raise where a scene's rasters are damaged, or lie elsewhere than the site."""
    infos = [_require_readable(path, grid) for path in dict.fromkeys(scene.rasters)]
    if grid is None:
        return
    if not overlaps(infos[0], grid):
        where, site = infos[0].grid.describe(), grid.describe()
        raise RasterError(f"{scene.origin} ({where}) does not overlap the site, {site}. Give another scene.")
    if scene.quality is None:
        for name, band in scene.bands.items():
            info = read_info(band.path)
            _check_cover(info, [band.number], band.nodata, grid, findings)
            if band.number > info.count:
                raise RasterError(f"{band.path}: {name} has no band {band.number}.")


def _check_clear(scenes: Sequence[tuple[ImageTable, Scene]], grid: Grid, findings: list[Finding]) -> None:
    """Raise where every pixel of the site is clouded in every scene; warn where a scene or half the site is."""
    first = scenes[0][1]
    if first.quality is None:
        return
    clear = _count_clear(scenes, grid)
    pixels = grid.height * grid.width
    if clear.in_any == 0:
        listed = ", ".join(
            f"{flag.replace('_', ' ')} {100 * count / pixels:.0f} %" for flag, count in clear.flagged.items()
        )
        others = f", nor in {plural(len(scenes) - 1, 'further scene')}" if len(scenes) > 1 else ""
        raise SiteError(
            f"{first.origin}: no pixel of the site is clear ({listed}){others}. Give a clearer scene, or a further "
            "[[image]] with the same bands to fill from, or mask less with [[image]] mask."
        )
    for (_, scene), count in zip(scenes, clear.by_scene, strict=True):
        if count == 0:
            findings.append(Finding("warning", f"{scene.origin}: no pixel of the site is clear; it adds nothing."))
    if clear.in_any < HALF * pixels:
        share = 100 * (1 - clear.in_any / pixels)
        text = f"{first.origin}: {share:.0f} % of the site's rectangle is fill or masked in every scene given."
        findings.append(Finding("warning", text))


def _count_clear(scenes: Sequence[tuple[ImageTable, Scene]], grid: Grid) -> _ClearPixels:
    """Count clear pixels window by window; a scene without quality counts none, and says nothing of the others."""
    clear = _ClearPixels([0] * len(scenes))
    for window in tiles(grid.shape, QUALITY_WINDOW):
        anywhere = np.zeros((window.height, window.width), bool)
        for i, (image, scene) in enumerate(scenes):
            if scene.quality is None:
                continue
            stored = quality_on(scene.quality, grid.crop(window))
            usable = ~scene.quality.unusable(stored, image.mask, image.saturation)
            anywhere |= usable
            clear.by_scene[i] += int(usable.sum())
            for flag in ("fill", *image.mask) if i == 0 else ():
                clear.flagged[flag] = clear.flagged.get(flag, 0) + int(scene.quality.shows(stored, flag).sum())
        clear.in_any += int(anywhere.sum())
    return clear


def _check_cover(
    info: RasterInfo, bands: Sequence[int], nodata: Sequence[float], grid: Grid, findings: list[Finding]
) -> None:
    """Whether bands of a raster have values on the site's rectangle, and not one value everywhere."""
    if not overlaps(info, grid):
        findings.append(
            Finding("fault", f"{info.path} ({info.grid.describe()}) does not overlap the site, {grid.describe()}.")
        )
        return
    window = covering_window(info, grid, 0)
    bands_by_text: dict[tuple[Literal["fault", "warning"], str], list[int]] = {}  # one finding for bands that are alike
    for band in bands:
        defined, low, high = defined_range(info.path, band, window, nodata)
        if not defined:
            bands_by_text.setdefault(("fault", "undefined all over the site"), []).append(band)
        elif low == high:
            bands_by_text.setdefault(("warning", f"{low:g} everywhere on the site"), []).append(band)
        elif defined < HALF * window.area:
            share = 100 * (1 - defined / window.area)
            text = f"undefined on {share:.0f} % of the site's rectangle"
            bands_by_text.setdefault(("warning", text), []).append(band)
    for (severity, text), alike in bands_by_text.items():
        verb = "is" if len(alike) == 1 else "are"
        findings.append(Finding(severity, f"{info.path} {_bands_text(alike)} {verb} {text}."))


def _bands_text(bands: Sequence[int]) -> str:
    """Bands by number, as they are read aloud: band 3; bands 1 to 6; bands 1, 3 and 5."""
    if len(bands) > 2 and list(bands) == list(range(bands[0], bands[-1] + 1)):
        return f"bands {bands[0]} to {bands[-1]}"
    return ("band " if len(bands) == 1 else "bands ") + " and ".join(", ".join(map(str, bands)).rsplit(", ", 1))
