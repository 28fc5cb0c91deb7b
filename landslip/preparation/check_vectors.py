"""What `landslip check` says of lines, classes and landslides, and whether image, DEM and landslides meet."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from landslip.config.site_tables import ClassTable, FileTable, LandslidesTable
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.factors.lithology import unmapped
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import edit_info, read_info
from landslip.geo.vector import read_vector
from landslip.preparation.class_sources import class_reader, class_table
from landslip.preparation.coregistration import TOLERANCE, Shift, landslide_shift, relief_rank, relief_shift
from landslip.preparation.findings import Finding
from landslip.preparation.label_source import LabelSource, open_label, require_landslides
from landslip.preparation.site_inputs import SiteInputs
from landslip.preparation.source import FILL_WINDOW
from landslip.preparation.study_area import StudyArea
from landslip.runtime.parallel import parallel_map

MOST_LISTED = 8  # landslides that are named in a warning
SURE_RANK = 0.99  # of the places around: where that many show less of the relief than the site does, the DEM lies well


def check_lines(lines: FileTable, grid: Grid, findings: list[Finding]) -> None:
    """Whether a layer of lines holds any, and whether they lie so far away that it may be the wrong layer."""
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


def check_classes(name: str, table: ClassTable, study_area: StudyArea, findings: list[Finding]) -> None:
    """Which classes of a layer the site file leaves out, on how much ground, and which lie nowhere on the site."""
    codes, meaning = class_reader(table, study_area.grid)
    class_of, classes = class_table(table, meaning)

    def pixels_by_code(window: Window) -> dict[int, int]:
        return unmapped(np.where(study_area.inside(window), codes(window), -1), {}, nodata=-1)

    counts, occurring = dict[int, int](), set[str]()
    for pixels in parallel_map(pixels_by_code, tiles(study_area.grid.shape, FILL_WINDOW)):
        occurring |= {class_of[code] for code in pixels if code in class_of}
        for code, count in pixels.items():
            if code not in class_of:
                counts[code] = counts.get(code, 0) + count
    if counts:
        listed = ", ".join(
            f"{meaning.get(code, code)!r} ({counts[code]} pixels, {100 * counts[code] / study_area.pixels:.2g} %)"
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


def check_landslides(table: LandslidesTable, study_area: StudyArea, findings: list[Finding]) -> LabelSource:
    """The label of a site's landslides; a warning where some are too small to cover a pixel.

    Raises LabelError where none lies inside the outline.
    """
    grid = study_area.grid
    source = open_label(table, grid)

    def landslide_pixels(window: Window) -> int:
        return int(np.count_nonzero((source.at(window) == LANDSLIDE) & study_area.inside(window)))

    require_landslides(table, grid, sum(parallel_map(landslide_pixels, tiles(grid.shape, FILL_WINDOW))))
    features = [
        feature for row, column, feature in source.unburnt if study_area.inside(Window(row, column, 1, 1)).any()
    ]
    if features:
        total = 0 if source.outlines is None else len(source.outlines.outlines)
        more = " ..." if len(features) > MOST_LISTED else ""
        shown = ", ".join(str(feature) for feature in features[:MOST_LISTED]) + more
        text = (
            f"{table.path}: {len(features)} of {total} landslides burn to no pixel by {table.burn} at {grid.x_size:g} "
            f'm (features {shown}). burn = "touched" keeps them.'
        )
        findings.append(Finding("warning", text))
    if source.outlines is not None and source.outlines.note:
        severity: Literal["note", "warning"] = "note" if source.outlines.reviewed else "warning"
        findings.append(Finding(severity, f"{table.path}: {source.outlines.note}."))
    return source


def check_shifts(inputs: SiteInputs, study_area: StudyArea, label: LabelSource | None, findings: list[Finding]) -> None:
    """Whether the DEM and the landslides lie where the image shows them."""
    site, images = inputs.site, inputs.images
    if not images:
        return
    grid, inside = study_area.grid, study_area.inside
    if site.dem is not None:
        shift = relief_shift(images, site.dem, grid, inside)
        remedy = (
            f"If it is the DEM that is misplaced, move it{_how_to_move(site.dem.path, shift, grid)}; else the image."
        )
        finding = shift_finding(f"{site.dem.path}: the DEM", "its relief", shift, remedy)
        rank = relief_rank(images, site.dem, grid, inside) if shift is None else None
        findings.append(finding if rank is None else rank_finding(f"{site.dem.path}: the DEM", rank))
    if site.landslides is not None and label is not None:
        table, label_at = site.landslides, label.at
        frame = None if label.outlines is None else label.outlines.outlines

        def label_inside(window: Window) -> NDArray[np.uint8]:
            return np.where(inside(window), label_at(window), np.uint8(UNKNOWN))

        shift = landslide_shift(images, frame, label_inside, grid, inside)
        command = _how_to_move(table.path, shift, grid) if table.is_raster else " (QGIS: Translate)"
        remedy = f"If the landslides are misplaced, move them{command}; otherwise move the image."
        findings.append(shift_finding(f"{table.path}: the landslides", "them", shift, remedy))


def rank_finding(what: str, rank: float) -> Finding:
    """Of a shift that cannot be measured: a note where the image at least shows the DEM's relief, else a warning.

    `rank` is the share of the places around whose relief the image shows less of, 0 to 1 (`relief_rank`).
    """
    text = f"{what} and the image have too little in common to tell how far they lie apart"
    if rank >= SURE_RANK:
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
    """A warning for a shift of more than half a pixel; else a note, also where it cannot be measured."""
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


def _how_to_move(path: Path, shift: Shift | None, grid: Grid) -> str:
    """The command that moves a raster to where the image shows it; without numbers where its CRS is not the grid's."""
    info = read_info(path)
    if shift is None or info.crs != grid.crs:
        return f": {edit_info(path, transform='...')}"
    t = info.transform
    coefficients = (t.a, t.b, round(t.c - shift.east, 2), t.d, t.e, round(t.f - shift.north, 2))
    transform = ", ".join(f"{number:.12g}" for number in coefficients)
    return f": {edit_info(path, transform=transform)}"
