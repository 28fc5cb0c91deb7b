"""What `landslip check` says of the DEM, and of how much of the outline lies beyond the grid."""

from __future__ import annotations

import numpy as np

from landslip.config.site_tables import DemTable, FileTable
from landslip.geo.grid import Grid, Window, metric_fault, tiles
from landslip.geo.raster import RasterInfo, read, read_info
from landslip.geo.warp import covering_window, warp
from landslip.preparation.check_images import defined_range, overlaps
from landslip.preparation.findings import Finding
from landslip.preparation.plausibility import require_metres
from landslip.preparation.site_grid import read_outline
from landslip.preparation.source import FILL_WINDOW
from landslip.preparation.study_area import StudyArea
from landslip.preparation.terrain_sources import RIVER_BYTES, catchment_grid
from landslip.runtime.parallel import parallel_map
from landslip.runtime.provenance import machine_memory

STEEP_SPAN = 6  # pixels over which ground is judged steep, for repeated pixels
MOST_JUDGED = 4096  # pixels a side, around the middle, of a DEM that is judged
ENOUGH_STEEP = 100  # steep places it takes to judge
MUCH_MEMORY = 2 * 2**30  # bytes of memory: a warning from here on
LEAST_SHARE = 0.001  # of the outline: a warning from here on


def check_dem(dem: DemTable, grid: Grid | None, findings: list[Finding]) -> None:
    """Whether a DEM lies on the site, is in metres, and holds elevation that slopes can be taken on.

    `grid` is None where the site has none: then the whole DEM is looked at.
    """
    info = read_info(dem.path)
    if grid is not None and not overlaps(info, grid):
        text = f"{dem.path} ({info.grid.describe()}) does not overlap the site, {grid.describe()}. Check its CRS."
        findings.append(Finding("fault", text))
        return
    unit = require_metres(dem)
    if unit is not None:
        findings.append(unit)
    if info.count > 1:
        findings.append(Finding("warning", f"{dem.path} has {info.count} bands: band 1 is taken for elevation."))
    window = covering_window(info, grid, 0) if grid is not None else Window(0, 0, info.height, info.width)
    if not defined_range(dem.path, 1, window, dem.nodata)[0]:
        findings.append(Finding("fault", f"{dem.path} is undefined all over the site."))
        return
    _check_elevation(dem, info, window, findings)


def check_dem_cover(dem: DemTable, study_area: StudyArea, findings: list[Finding]) -> None:
    """How much of the ground inside the outline has no elevation."""
    if not study_area.pixels or _is_faulty(dem, findings):
        return

    def pixels_without(window: Window) -> int:
        inside = study_area.inside(window)
        if not inside.any():
            return 0
        z = warp(dem.path, study_area.grid.crop(window), [1], "nearest", dem.nodata)[0]
        return int(np.count_nonzero(np.isnan(z) & inside))

    share = sum(parallel_map(pixels_without, tiles(study_area.grid.shape, FILL_WINDOW))) / study_area.pixels
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


def check_outline(outline: FileTable, grid: Grid, findings: list[Finding]) -> None:
    """How much of the outline lies beyond the grid, which reaches only as far as the raster whose pixels it takes."""
    polygons = read_outline(outline, grid.crs).geometry.make_valid()
    share = 1 - float(polygons.clip_by_rect(*grid.bounds).area.sum() / polygons.area.sum())
    if share >= LEAST_SHARE:
        text = (
            f"{outline.path}: {100 * share:.1f} % of the outline lies beyond the first image (or the DEM, where there "
            f"is none), {grid.describe()}: nothing is mapped there. Give a further [[image]] with the same bands, or a "
            "smaller [outline]."
        )
        findings.append(Finding("warning", text))


def check_catchment(dem: DemTable, grid: Grid, findings: list[Finding]) -> None:
    """Whether the machine has the memory that deriving rivers takes; asked before any long work.

    Rivers are derived from the whole DEM around the site at once.
    """
    if _is_faulty(dem, findings):
        return
    catchment = catchment_grid(dem, grid)
    needs, has = catchment.height * catchment.width * RIVER_BYTES, machine_memory()
    text = (
        f"{dem.path}: rivers are derived from {catchment.height} x {catchment.width} pixels as a whole, which takes "
        f"about {needs / 2**30:.1f} GiB of memory"
    )
    remedy = "Give [rivers] path, which takes none, or a coarser [dem] dem_resolution."
    if needs > has:
        findings.append(Finding("fault", f"{text}; there are {has / 2**30:.1f}. {remedy}"))
    elif needs > MUCH_MEMORY:
        findings.append(Finding("warning", f"{text}. {remedy}"))


def repeated_pixels(z: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> int:
    """About how many times each pixel of elevation (H, W) is repeated, along the axis where it is more; 1 where not.

    On steep ground hardly any two neighbours have the same elevation. Where pixels were repeated k times, a share of
    (k - 1) / k of them do.
    """
    return max(_repeats_along_rows(z), _repeats_along_rows(z.T))


def _check_elevation(dem: DemTable, info: RasterInfo, window: Window, findings: list[Finding]) -> None:
    """Elevation in the middle of a window that says 0 for undefined, or in which slopes come out as terraces."""
    z = read(dem.path, [1], _middle(window, MOST_JUDGED), dem.nodata)[0]
    defined = z[~np.isnan(z)]
    if defined.size == 0:
        return
    zero = float((defined == 0).mean())
    others = defined[defined != 0]
    if zero > 0.001 and others.size and (others.min() > 50 or others.max() < -50):
        text = (
            f"{dem.path}: {100 * zero:.1f} % of its pixels are exactly 0 while the others start at {others.min():g} m: "
            "0 seems to stand for undefined. Give [dem] nodata = 0."
        )
        findings.append(Finding("warning", text))
    step = repeated_pixels(z)
    if step > 1 and dem.dem_resolution is None:
        size = f" = {step * info.grid.x_size:g}" if metric_fault(info.crs) is None else ""
        text = (
            f"{dem.path} repeats each pixel {step} times: slope taken on it shows terraces. "
            f"Give [dem] dem_resolution{size} (metres)."
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
    """Whether a fault of the DEM is among the findings already."""
    return any(finding.severity == "fault" and str(dem.path) in finding.text for finding in findings)


def _middle(window: Window, most: int) -> Window:
    """The middle of a window, at most so many pixels a side."""
    height, width = min(window.height, most), min(window.width, most)
    row, column = window.row + (window.height - height) // 2, window.column + (window.width - width) // 2
    return Window(row, column, height, width)


def _repeats_along_rows(z: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> int:
    """About how many times each pixel of elevation (H, W) is repeated along its row."""
    rise = np.abs(z[:, STEEP_SPAN:] - z[:, :-STEEP_SPAN])
    defined = rise[~np.isnan(rise)]
    if defined.size == 0:
        return 1
    steep = rise >= max(float(np.quantile(defined, 0.75)), 1.5 * STEEP_SPAN)
    if steep.sum() < ENOUGH_STEEP:
        return 1
    middle = STEEP_SPAN // 2
    level = z[:, middle : z.shape[1] - STEEP_SPAN + middle] == z[:, middle + 1 : z.shape[1] - STEEP_SPAN + middle + 1]
    return round(1 / max(1 - float(level[steep].mean()), 0.05))
