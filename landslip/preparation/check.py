"""`landslip check`: reads every input of a site and lists all faults, warnings and notes at once."""

from __future__ import annotations

from pathlib import Path

from landslip.config.site import Site
from landslip.config.site_tables import FileTable
from landslip.geo.grid import Grid
from landslip.preparation.check_images import check_factor, check_image, check_scenes, readable_inputs
from landslip.preparation.check_terrain import check_catchment, check_dem, check_dem_cover, check_outline
from landslip.preparation.check_vectors import check_classes, check_landslides, check_lines, check_shifts
from landslip.preparation.findings import Finding, collect_faults
from landslip.preparation.label_source import LabelSource
from landslip.preparation.plausibility import doubts
from landslip.preparation.site_grid import site_grid
from landslip.preparation.site_inputs import SiteInputs, fill_groups, open_site
from landslip.preparation.study_area import StudyArea, study_area_of


def check_site(site: Site) -> list[Finding]:
    """Every fault and warning of a site's inputs, and notes; without faults and warnings all is well."""
    findings: list[Finding] = []
    check_inputs(open_site(site, findings), findings)
    return findings


def check_inputs(inputs: SiteInputs, findings: list[Finding]) -> Grid | None:
    """Add what is to be said of a site's inputs to the findings. Returns the grid; None where the site has none."""
    site = inputs.site
    grid: Grid | None = None
    if not any(image in inputs.unopened for image in site.image[:1]):  # The first image's pixels are the grid's.
        with collect_faults(findings):
            grid = site_grid(inputs)
    readable = _readable(inputs, grid, findings)
    _check_images(inputs, readable, grid, findings)
    if site.dem is not None and readable[site.dem.path]:
        with collect_faults(findings):
            check_dem(site.dem, grid, findings)
    if grid is None:
        return None
    study_area = _study_area(site, readable, grid, findings)
    _check_terrain(site, readable, study_area, findings)
    _check_layers(site, readable, study_area, findings)
    label = _check_label(site, readable, study_area, findings)
    if not any(finding.severity == "fault" for finding in findings):
        with collect_faults(findings):
            findings.extend(doubts(inputs, grid, study_area.inside))
        with collect_faults(findings):
            check_shifts(inputs, study_area, label, findings)
    return grid


def _readable(inputs: SiteInputs, grid: Grid | None, findings: list[Finding]) -> dict[Path, bool]:
    """Whether each input can be read; scenes are left out, whose files are read with their metadata."""
    files = [("image", image.files[0]) for image in (*inputs.images, *inputs.before) if image.scene is None]
    readable: dict[Path, bool] = {}
    for what, path in files + inputs.site.layers():
        readable[path] = False
        with collect_faults(findings):
            readable_inputs(inputs.site, what, path, grid, findings)
            readable[path] = True
    return readable


def _check_images(inputs: SiteInputs, readable: dict[Path, bool], grid: Grid | None, findings: list[Finding]) -> None:
    """Images that are single files one by one, then scenes together with those that fill them."""
    for image in (*inputs.images, *inputs.before):
        if image.scene is None and readable[image.files[0]]:
            with collect_faults(findings):
                check_image(image.table, image.files[0], grid, findings)
    for group in (*fill_groups(inputs.images), *fill_groups(inputs.before)):
        if group[0].scene is not None:
            check_scenes(group, grid, findings)


def _study_area(site: Site, readable: dict[Path, bool], grid: Grid, findings: list[Finding]) -> StudyArea:
    """The ground that the other inputs are judged on: inside the outline, or everywhere where that cannot be read."""
    outline = site.outline if site.outline is not None and readable[site.outline.path] else None
    study_area = study_area_of(outline, grid)
    if outline is not None and not study_area.pixels:
        findings.append(Finding("fault", f"{outline.path} covers no pixel centre of {grid.describe()}."))
    elif outline is not None and site.grid.extent is None:
        check_outline(outline, grid, findings)
    return study_area


def _check_terrain(site: Site, readable: dict[Path, bool], study_area: StudyArea, findings: list[Finding]) -> None:
    """Whether the DEM covers the ground, and whether rivers can be derived from it where the site asks for them."""
    if site.dem is None or not readable[site.dem.path]:
        return
    with collect_faults(findings):
        check_dem_cover(site.dem, study_area, findings)
    if site.rivers is not None and site.rivers.from_dem_km2 is not None:
        with collect_faults(findings):
            check_catchment(site.dem, study_area.grid, findings)


def _check_layers(site: Site, readable: dict[Path, bool], study_area: StudyArea, findings: list[Finding]) -> None:
    """Rivers, faults, lithology and the factors that the site names itself."""
    for table in (site.rivers, site.faults):
        if table is not None and table.path is not None and readable[table.path]:
            with collect_faults(findings):
                lines = FileTable(path=table.path, layer=table.layer, crs=table.crs)
                check_lines(lines, study_area.grid, findings)
    if site.lithology is not None and readable[site.lithology.path]:
        with collect_faults(findings):
            check_classes("lithology", site.lithology, study_area, findings)
    for factor in site.factor:
        if not readable[factor.path]:
            continue
        with collect_faults(findings):
            if factor.kind == "classes":
                check_classes(factor.name, factor, study_area, findings)
            else:
                check_factor(factor, study_area.grid, findings)


def _check_label(
    site: Site, readable: dict[Path, bool], study_area: StudyArea, findings: list[Finding]
) -> LabelSource | None:
    """The label of a site's landslides; None where it has none, or where they are at fault."""
    if site.landslides is None:
        findings.append(Finding("warning", "no [landslides]: the site can be prepared and mapped, not trained on."))
    elif readable[site.landslides.path]:
        with collect_faults(findings):
            return check_landslides(site.landslides, study_area, findings)
    return None
