"""`landslip check`: reads every input of a site and lists all faults, warnings and notes at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from landslip.config.site import (
    ClassTable,
    DemTable,
    FactorTable,
    FileTable,
    ImageTable,
    LandslidesTable,
    Site,
    one_image,
    read_outline,
    scene_of,
    site_grid,
)
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.errors import LandslipError, RasterError, SiteError
from landslip.factors.lithology import unmapped
from landslip.geo.grid import Grid, Window, metric_fault, tiles
from landslip.geo.raster import (
    RASTER_SUFFIXES,
    RasterInfo,
    edit_info,
    read,
    read_info,
    unreadable_blocks,
)
from landslip.geo.vector import burn_window, read_vector, shapes_on
from landslip.geo.warp import covering_window, warp
from landslip.preparation.channel_sources import BLOCK, RIVER_BYTES, catchment_grid, class_reader, class_table
from landslip.preparation.coregistration import TOLERANCE, Shift, landslide_shift, relief_rank, relief_shift
from landslip.preparation.images import quality_on, require_alike
from landslip.preparation.label_source import LabelSource, open_label, require_landslides
from landslip.preparation.plausibility import Finding, doubts, require_metres
from landslip.runtime.parallel import parallel_map
from landslip.runtime.progress import plural
from landslip.runtime.provenance import machine_memory
from landslip.scenes.scene import Scene

ALWAYS_RASTERS = ("image", "before", "dem")
MARGIN = 16  # pixels read beyond the site
HALF = 0.5
MOST_LISTED = 8
SPAN = 6  # pixels over which ground is judged steep, for repeated pixels
MOST_JUDGED = 4096  # pixels a side, around the middle, of a DEM that is judged
ENOUGH = 100  # steep places it takes to judge
MUCH = 2 * 2**30  # bytes of memory that a warning is worth
LEAST_SHARE = 0.001  # of the outline that a warning is worth
SURE = 0.99  # of the places around that show less of the relief than the site does
Inside = Callable[[Window], NDArray[np.bool_]]  # the pixels of a window, (h, w), that lie inside the outline


def check_site(site: Site) -> list[Finding]:
    """Every fault and warning of a site's inputs, and notes; without faults and warnings all is well."""
    findings: list[Finding] = []

    def attempt(step: Callable[[], None]) -> bool:
        try:
            step()
        except LandslipError as error:
            fault = Finding("fault", str(error))
            if fault not in findings:
                findings.append(fault)
            return False
        return True

    grids: list[Grid] = []
    attempt(lambda: grids.append(site_grid(site)))
    scenes = {f"{which}[{i}]" for which, i, image in _images(site) if image.path is None}
    readable = {
        path: attempt(lambda what=what, path=path: _readable(site, what, path, grids, findings))  # type: ignore[misc]
        for what, path in site.inputs()
        if what not in scenes
    }
    for _, _, image in _images(site):
        if image.path is not None and readable[image.path]:
            attempt(lambda image=image: _check_image(image, image.path, grids, findings))  # type: ignore[misc]
    for group in (*one_image(site.image), *one_image(site.before)):
        if group[0].path is None:
            _check_scenes(group, attempt, grids, findings)
    if site.dem is not None and readable[site.dem.path]:
        dem = site.dem
        attempt(lambda: _check_dem(dem, grids, findings))
    if not grids:
        return findings
    grid = grids[0]
    inside: Inside = _everywhere
    total = grid.height * grid.width
    if site.outline is not None and readable[site.outline.path]:
        outline = shapes_on(read_outline(site.outline, grid.crs).geometry, grid)
        inside = partial(burn_window, outline)
        counts = parallel_map(lambda window: int(np.count_nonzero(inside(window))), tiles(grid.shape, BLOCK))
        total = sum(counts)
        if not total:
            findings.append(Finding("fault", f"{site.outline.path} covers no pixel centre of {grid.describe()}."))
        elif site.grid.extent is None:
            _check_outline(site.outline, grid, findings)
    if site.dem is not None and readable[site.dem.path]:
        attempt(lambda: _check_dem_cover(dem, grid, inside, total, findings))
    if site.rivers is not None and site.rivers.from_dem_km2 is not None and site.dem and readable[site.dem.path]:
        attempt(lambda: _check_catchment(dem, grid, findings))
    for table in (site.rivers, site.faults):
        if table is not None and table.path is not None and readable[table.path]:
            lines = FileTable(path=table.path, layer=table.layer, crs=table.crs)
            attempt(lambda lines=lines: _check_lines(lines, grid, findings))  # type: ignore[misc]
    if site.lithology is not None and readable[site.lithology.path]:
        lithology = site.lithology
        attempt(lambda: _check_classes("lithology", lithology, grid, inside, total, findings))
    for factor in site.factor:
        if factor.kind == "classes" and readable[factor.path]:
            attempt(lambda factor=factor: _check_classes(factor.name, factor, grid, inside, total, findings))  # type: ignore[misc]
        elif readable[factor.path]:
            attempt(lambda factor=factor: _check_factor(factor, grid, findings))  # type: ignore[misc]
    labels: list[LabelSource] = []
    if site.landslides is None:
        findings.append(Finding("warning", "no [landslides]: the site can be prepared and mapped, not trained on."))
    elif readable[site.landslides.path]:
        landslides = site.landslides
        attempt(lambda: labels.append(_check_landslides(landslides, grid, inside, findings)))
    if not any(finding.severity == "fault" for finding in findings):
        attempt(lambda: findings.extend(doubts(site, grid, inside)))
        attempt(lambda: _check_shifts(site, grid, inside, labels, findings))
    return findings


def _readable(site: Site, what: str, path: Path, grids: list[Grid], findings: list[Finding]) -> None:
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


def _images(site: Site) -> list[tuple[str, int, ImageTable]]:
    """(table, position in it, image) of every image."""
    tables = (("image", site.image), ("before", site.before))
    return [(which, i, image) for which, images in tables for i, image in enumerate(images)]


def _table(site: Site, what: str) -> Any:
    """The table of a site file that names a vector file."""
    return {f"factor {factor.name}": factor for factor in site.factor}.get(what) or getattr(site, what)


def _check_factor(factor: FactorTable, grid: Grid, findings: list[Finding]) -> None:
    info = read_info(factor.path)
    if factor.band > info.count:
        raise RasterError(
            f"{factor.path}: factor {factor.name} is band {factor.band}, but the file has "
            f"{plural(info.count, 'band')}. Count from 1."
        )
    _check_cover(factor.path, info, grid, findings, [factor.band], factor.nodata)


def _check_image(image: ImageTable, path: Path, grids: list[Grid], findings: list[Finding]) -> None:
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


def _check_scenes(
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
    if grids and not _overlaps(infos[0], grids[0]):
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
    if not _overlaps(info, grid):
        findings.append(
            Finding("fault", f"{path} ({info.grid.describe()}) does not overlap the site, {grid.describe()}.")
        )
        return
    window = covering_window(info, grid, 0)
    alike: dict[tuple[Literal["fault", "warning"], str], list[int]] = {}  # bands of which the same is to be said
    for band in bands:
        defined, low, high = _defined_range(path, band, window, nodata)
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


def _defined_range(path: Path, band: int, window: Window, nodata: Sequence[float]) -> tuple[int, float, float]:
    """How many pixels of a band are defined at a window, the least and the largest value; read block by block."""

    def at(part: Window) -> tuple[int, float, float]:
        values = read(path, [band], part.moved(window.row, window.column), nodata)
        defined = int(np.count_nonzero(~np.isnan(values)))
        return (defined, float(np.nanmin(values)), float(np.nanmax(values))) if defined else (0, np.inf, -np.inf)

    found = list(parallel_map(at, tiles((window.height, window.width), BLOCK)))
    return sum(n for n, _, _ in found), min(low for _, low, _ in found), max(high for _, _, high in found)


def _everywhere(window: Window) -> NDArray[np.bool_]:
    return np.ones((window.height, window.width), bool)


def _overlaps(info: RasterInfo, grid: Grid) -> bool:
    window = covering_window(info, grid, 0)
    return window.height > 0 and window.width > 0


def _check_dem(dem: DemTable, grids: list[Grid], findings: list[Finding]) -> None:
    info = read_info(dem.path)
    if grids and not _overlaps(info, grids[0]):
        text = f"{dem.path} ({info.grid.describe()}) does not overlap the site, {grids[0].describe()}. Check its CRS."
        findings.append(Finding("fault", text))
        return
    unit = require_metres(dem)
    if unit is not None:
        findings.append(unit)
    if info.count > 1:
        findings.append(Finding("warning", f"{dem.path} has {info.count} bands: band 1 is taken for elevation."))
    window = covering_window(info, grids[0], 0) if grids else Window(0, 0, info.height, info.width)
    if not _defined_range(dem.path, 1, window, dem.nodata)[0]:
        findings.append(Finding("fault", f"{dem.path} is undefined all over the site."))
        return
    z = read(dem.path, [1], _middle(window, MOST_JUDGED), dem.nodata)[0]
    defined = z[~np.isnan(z)]
    if defined.size == 0:
        return
    zero = float((defined == 0).mean())
    rest = defined[defined != 0]
    if zero > 0.001 and rest.size and (rest.min() > 50 or rest.max() < -50):
        text = (
            f"{dem.path}: {100 * zero:.1f} % of its pixels are exactly 0 while the others start at {rest.min():g} m: "
            "0 seems to stand for undefined. Give [dem] nodata = 0."
        )
        findings.append(Finding("warning", text))
    step = repeated_pixels(z)
    if step > 1 and dem.dem_resolution is None:
        size = (metric_fault(info.crs) is None) and f" = {step * info.grid.x_size:g}"
        text = (
            f"{dem.path} repeats each pixel {step} times: slope taken on it shows terraces. "
            f"Give [dem] dem_resolution{size or ''} (metres)."
        )
        findings.append(Finding("warning", text))
    fine = metric_fault(info.crs) is None and info.grid.x_size < 20 and dem.dem_resolution is None
    if fine and np.array_equal(defined, np.round(defined)):
        text = (
            f"{dem.path} has whole-metre steps at {info.grid.x_size:g} m: gentle slopes come out as terraces. "
            "A coarser [dem] dem_resolution (30, say) smooths them."
        )
        findings.append(Finding("warning", text))


def _is_faulty(dem: DemTable, findings: list[Finding]) -> bool:
    """Whether a fault of the DEM is said already."""
    return any(finding.severity == "fault" and str(dem.path) in finding.text for finding in findings)


def _check_dem_cover(dem: DemTable, grid: Grid, inside: Inside, total: int, findings: list[Finding]) -> None:
    """How much of the outline, `total` pixels, has no elevation."""
    if not total or _is_faulty(dem, findings):
        return

    def lacking(window: Window) -> int:
        ground = inside(window)
        if not ground.any():
            return 0
        z = warp(dem.path, grid.crop(window), [1], "nearest", dem.nodata)[0]
        return int(np.count_nonzero(np.isnan(z) & ground))

    share = sum(parallel_map(lacking, tiles(grid.shape, BLOCK))) / total
    if share == 1:
        findings.append(
            Finding("fault", f"{dem.path} is undefined all over the outline. Give a DEM of the site, or check its CRS.")
        )
    elif share >= LEAST_SHARE:
        text = (
            f"{dem.path} leaves {100 * share:.1f} % of the outline without elevation: nothing is mapped there. "
            "Give a DEM that covers the site, or a smaller [outline]."
        )
        findings.append(Finding("warning", text))


def _check_outline(outline: FileTable, grid: Grid, findings: list[Finding]) -> None:
    """How much of the outline lies beyond the grid, which ends where the raster does that its pixels are taken from."""
    polygons = read_outline(outline, grid.crs).geometry.make_valid()
    share = 1 - float(polygons.clip_by_rect(*grid.bounds).area.sum() / polygons.area.sum())
    if share >= LEAST_SHARE:
        text = (
            f"{outline.path}: {100 * share:.1f} % of the outline lies beyond the first image (or the DEM, where there "
            f"is none), {grid.describe()}: nothing is mapped there. Give a further [[image]] with the same bands, or a "
            "smaller [outline]."
        )
        findings.append(Finding("warning", text))


def _check_catchment(dem: DemTable, grid: Grid, findings: list[Finding]) -> None:
    """Whether the memory is there that deriving rivers takes, which hold the whole DEM; said before any long work."""
    if _is_faulty(dem, findings):
        return
    own = catchment_grid(dem, grid)
    needs, has = own.height * own.width * RIVER_BYTES, machine_memory()
    text = (
        f"{dem.path}: rivers are derived from {own.height} x {own.width} pixels as a whole, which takes about "
        f"{needs / 2**30:.1f} GiB of memory"
    )
    remedy = "Give [rivers] path, which takes none, or a coarser [dem] dem_resolution."
    if needs > has:
        findings.append(Finding("fault", f"{text}; there are {has / 2**30:.1f}. {remedy}"))
    elif needs > MUCH:
        findings.append(Finding("warning", f"{text}. {remedy}"))


def _middle(window: Window, most: int) -> Window:
    """The middle of a window, at most so many pixels a side."""
    height, width = min(window.height, most), min(window.width, most)
    row, column = window.row + (window.height - height) // 2, window.column + (window.width - width) // 2
    return Window(row, column, height, width)


def repeated_pixels(z: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> int:
    """How many times each pixel of (H, W) elevation is repeated, about, along the axis where it is more: 1 where not.

    On steep ground neighbours hardly ever have one elevation, unless pixels were repeated k times: then (k - 1) / k do.
    """
    return max(_repeats_along_rows(z), _repeats_along_rows(z.T))


def _repeats_along_rows(z: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> int:
    rise = np.abs(z[:, SPAN:] - z[:, :-SPAN])
    defined = rise[~np.isnan(rise)]
    if defined.size == 0:
        return 1
    steep = rise >= max(float(np.quantile(defined, 0.75)), 1.5 * SPAN)
    if steep.sum() < ENOUGH:
        return 1
    middle = SPAN // 2
    level = z[:, middle : z.shape[1] - SPAN + middle] == z[:, middle + 1 : z.shape[1] - SPAN + middle + 1]
    return round(1 / max(1 - float(level[steep].mean()), 0.05))


def _check_lines(lines: FileTable, grid: Grid, findings: list[Finding]) -> None:
    frame = read_vector(lines.path, lines.layer, grid.crs, stated=lines.crs)
    if frame.empty:
        findings.append(Finding("fault", f"{lines.path} holds no geometry. Leave the layer out, or give its lines."))
        return
    left, bottom, right, top = frame.total_bounds
    width, height = grid.bounds[2] - grid.bounds[0], grid.bounds[3] - grid.bounds[1]
    far = max(grid.bounds[0] - right, left - grid.bounds[2], grid.bounds[1] - top, bottom - grid.bounds[3])
    if far > 10 * max(width, height):
        findings.append(
            Finding("warning", f"{lines.path}: the nearest feature is over {far / 1000:.0f} km from the site.")
        )


def _check_classes(
    name: str,
    table: ClassTable,
    grid: Grid,
    inside: Inside,
    total: int,
    findings: list[Finding],
) -> None:
    """Classes without a place in the map, with their pixels and share of the outline's `total`; and without ground."""
    codes, meaning = class_reader(table, grid)
    known, classes = class_table(table, meaning)

    def at(window: Window) -> dict[int, int]:
        return unmapped(np.where(inside(window), codes(window), -1), {}, nodata=-1)

    counts, occurring = dict[int, int](), set[str]()
    for found in parallel_map(at, tiles(grid.shape, BLOCK)):
        occurring |= {known[code] for code in found if code in known}
        for code, count in found.items():
            if code not in known:
                counts[code] = counts.get(code, 0) + count
    if counts:
        listed = ", ".join(
            f"{meaning.get(code, code)!r} ({counts[code]} pixels, {100 * counts[code] / total:.2g} %)"
            for code in sorted(counts)
        )
        text = (
            f"{table.path}: {name} classes without an entry in [{name}] classes stay undefined, and so does the ground "
            f"they cover: {listed}. Give each a class."
        )
        findings.append(Finding("warning", text))
    absent = [label for label in classes if label not in occurring]
    if not occurring:
        findings.append(Finding("fault", f"{table.path}: no {name} class of the table occurs on the site."))
    elif absent:
        text = (
            f"{table.path}: {name} {', '.join(map(repr, absent))} lies nowhere on the site: its channel is kept, so "
            f"that sites have the same ones, and is 0 everywhere. [{name}] classes can join it to another class."
        )
        findings.append(Finding("warning", text))


def _check_landslides(table: LandslidesTable, grid: Grid, inside: Inside, findings: list[Finding]) -> LabelSource:
    source = open_label(table, grid)

    def burnt(window: Window) -> int:
        return int(np.count_nonzero((source.at(window) == LANDSLIDE) & inside(window)))

    require_landslides(table, grid, sum(parallel_map(burnt, tiles(grid.shape, BLOCK))))
    lost = [item for row, column, item in source.lost if inside(Window(row, column, 1, 1)).any()]
    if lost:
        total = 0 if source.outlines is None else len(source.outlines.outlines)
        shown = ", ".join(str(item) for item in lost[:MOST_LISTED]) + (" ..." if len(lost) > MOST_LISTED else "")
        text = (
            f"{table.path}: {len(lost)} of {total} landslides burn to no pixel by {table.burn} at {grid.x_size:g} m "
            f'(features {shown}). burn = "touched" keeps them.'
        )
        findings.append(Finding("warning", text))
    if source.outlines is not None and source.outlines.note:
        severity: Literal["note", "warning"] = "note" if source.outlines.reviewed else "warning"
        findings.append(Finding(severity, f"{table.path}: {source.outlines.note}."))
    return source


def _check_shifts(
    site: Site,
    grid: Grid,
    inside: Inside,
    labels: Sequence[LabelSource],
    findings: list[Finding],
) -> None:
    """Whether the DEM and the landslides lie where the image shows them."""
    if not site.image:
        return
    if site.dem is not None:
        shift = relief_shift(site.image, site.dem, grid, inside)
        remedy = (
            f"If it is the DEM that is misplaced, move it{_how_to_move(site.dem.path, shift, grid)}; else the image."
        )
        finding = shift_finding(f"{site.dem.path}: the DEM", "its relief", shift, remedy)
        rank = relief_rank(site.image, site.dem, grid, inside) if shift is None else None
        findings.append(finding if rank is None else rank_finding(f"{site.dem.path}: the DEM", rank))
    if site.landslides is not None and labels:
        table = site.landslides
        frame = None if labels[0].outlines is None else labels[0].outlines.outlines

        def label(window: Window) -> NDArray[np.uint8]:
            return np.where(inside(window), labels[0].at(window), np.uint8(UNKNOWN))

        shift = landslide_shift(site.image, frame, label, grid, inside)
        how = _how_to_move(table.path, shift, grid) if table.is_raster else " (QGIS: Translate)"
        remedy = f"If it is they that are misplaced, move them{how}; else the image."
        findings.append(shift_finding(f"{table.path}: the landslides", "them", shift, remedy))


def _how_to_move(path: Path, shift: Shift | None, grid: Grid) -> str:
    """The command that moves a raster to where the image shows it; without numbers where its CRS is not the grid's."""
    own = read_info(path).transform
    if shift is None or read_info(path).crs != grid.crs:
        return f": {edit_info(path, transform='...')}"
    moved = (own.a, own.b, round(own.c - shift.east, 2), own.d, own.e, round(own.f - shift.north, 2))
    transform = ", ".join(f"{number:.12g}" for number in moved)
    return f": {edit_info(path, transform=transform)}"


def rank_finding(what: str, rank: float) -> Finding:
    """Of a shift that cannot be told: a note where the image at least shows the DEM's relief, else a warning."""
    text = f"{what} and the image have too little in common to tell how far they lie apart"
    if rank >= SURE:
        return Finding(
            "note",
            f"{text}, but the image shows its relief better here than at {100 * rank:.0f} % of the places around.",
        )
    return Finding(
        "warning",
        f"{text}, so that was not checked; and the image shows its relief here no better than at "
        f"{100 * (1 - rank):.0f} % of the places around. Look at both in a GIS: do valleys and ridges meet?",
    )


def shift_finding(what: str, shown: str, shift: Shift | None, remedy: str) -> Finding:
    """A warning for a shift of more than half a pixel; else a note, also where it cannot be told."""
    verb = "lies" if what.endswith("DEM") else "lie"
    if shift is None:
        return Finding(
            "note", f"{what} and the image have too little in common to tell whether they lie on one another."
        )
    east = f"{abs(shift.east):.1f} m {'east' if shift.east >= 0 else 'west'} ({abs(shift.columns):.2f} pixels)"
    north = f"{abs(shift.north):.1f} m {'north' if shift.north >= 0 else 'south'} ({abs(shift.rows):.2f} pixels)"
    where = f"{what} {verb} {east} and {north} of where the image shows {shown}, give or take {shift.error:.2f} pixels"
    if shift.pixels > TOLERANCE:
        return Finding("warning", f"{where}: more than half a pixel. {remedy}")
    return Finding("note", f"{where}: within half a pixel.")
