"""`landslip check`: reads every input of a site and lists all faults, warnings and notes at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from landslip.config.site import Site, one_image
from landslip.config.site_tables import (
    FileTable,
)
from landslip.errors import LandslipError
from landslip.geo.grid import Grid, tiles
from landslip.geo.rasterize import burn_window, shapes_on
from landslip.preparation.check_images import (
    Inside,
    check_factor,
    check_image,
    check_scenes,
    everywhere,
    images_of,
    readable_inputs,
)
from landslip.preparation.check_terrain import check_catchment, check_dem, check_dem_cover, check_outline
from landslip.preparation.check_vectors import check_classes, check_landslides, check_lines, check_shifts
from landslip.preparation.label_source import LabelSource
from landslip.preparation.plausibility import Finding, doubts
from landslip.preparation.site_grid import read_outline, site_grid
from landslip.preparation.source import BLOCK
from landslip.runtime.parallel import parallel_map


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
    scenes = {f"{which}[{i}]" for which, i, image in images_of(site) if image.path is None}
    readable = {
        path: attempt(lambda what=what, path=path: readable_inputs(site, what, path, grids, findings))  # type: ignore[misc]
        for what, path in site.inputs()
        if what not in scenes
    }
    for _, _, image in images_of(site):
        if image.path is not None and readable[image.path]:
            attempt(lambda image=image: check_image(image, image.path, grids, findings))  # type: ignore[misc]
    for group in (*one_image(site.image), *one_image(site.before)):
        if group[0].path is None:
            check_scenes(group, attempt, grids, findings)
    if site.dem is not None and readable[site.dem.path]:
        dem = site.dem
        attempt(lambda: check_dem(dem, grids, findings))
    if not grids:
        return findings
    grid = grids[0]
    inside: Inside = everywhere
    total = grid.height * grid.width
    if site.outline is not None and readable[site.outline.path]:
        outline = shapes_on(read_outline(site.outline, grid.crs).geometry, grid)
        inside = partial(burn_window, outline)
        counts = parallel_map(lambda window: int(np.count_nonzero(inside(window))), tiles(grid.shape, BLOCK))
        total = sum(counts)
        if not total:
            findings.append(Finding("fault", f"{site.outline.path} covers no pixel centre of {grid.describe()}."))
        elif site.grid.extent is None:
            check_outline(site.outline, grid, findings)
    if site.dem is not None and readable[site.dem.path]:
        attempt(lambda: check_dem_cover(dem, grid, inside, total, findings))
    if site.rivers is not None and site.rivers.from_dem_km2 is not None and site.dem and readable[site.dem.path]:
        attempt(lambda: check_catchment(dem, grid, findings))
    for table in (site.rivers, site.faults):
        if table is not None and table.path is not None and readable[table.path]:
            lines = FileTable(path=table.path, layer=table.layer, crs=table.crs)
            attempt(lambda lines=lines: check_lines(lines, grid, findings))  # type: ignore[misc]
    if site.lithology is not None and readable[site.lithology.path]:
        lithology = site.lithology
        attempt(lambda: check_classes("lithology", lithology, grid, inside, total, findings))
    for factor in site.factor:
        if factor.kind == "classes" and readable[factor.path]:
            attempt(lambda factor=factor: check_classes(factor.name, factor, grid, inside, total, findings))  # type: ignore[misc]
        elif readable[factor.path]:
            attempt(lambda factor=factor: check_factor(factor, grid, findings))  # type: ignore[misc]
    labels: list[LabelSource] = []
    if site.landslides is None:
        findings.append(Finding("warning", "no [landslides]: the site can be prepared and mapped, not trained on."))
    elif readable[site.landslides.path]:
        landslides = site.landslides
        attempt(lambda: labels.append(check_landslides(landslides, grid, inside, findings)))
    if not any(finding.severity == "fault" for finding in findings):
        attempt(lambda: findings.extend(doubts(site, grid, inside)))
        attempt(lambda: check_shifts(site, grid, inside, labels, findings))
    return findings
