"""The study area, the bands and factors (Table II) and the split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landslip.dataset.channels import StackInfo, read_stack_info
from landslip.dataset.split import PARTS, leakage_note, leaky_of
from landslip.errors import LandslipError
from landslip.evaluation.result import leakage
from landslip.factors.table import FACTORS
from landslip.geo.grid import Grid, crs_name
from landslip.geo.raster import read_info
from landslip.plots.maps import draw_split
from landslip.preparation import figures
from landslip.preparation.degrees import to_degrees
from landslip.preparation.site_inputs import open_site
from landslip.report.base import (
    Workspace,
    figure_text,
    km2,
    number,
    read_json_table,
    read_quietly,
    site_name,
    site_of,
    size_text,
    thinned,
    where,
)
from landslip.report.html import Block, Cell, Facts, Table, Text


def study_area(workspace: Workspace) -> list[Block]:
    """Where the site lies, its ground and its drawn landslides, on a map."""
    run = workspace.run
    if run.stack is None or run.valid is None or run.label is None:
        return workspace.lacks("stack", "valid", "label")
    prepared = run.stack.parent
    stack = run.stack

    def figure() -> Iterator[Block]:
        info = read_stack_info(stack)
        grid, parts = info.grid, figures.study_area_parts(info, bool(workspace.counts[0, 1]))
        yield workspace.draw(
            "area.png",
            lambda path: figures.draw_study_area(prepared, path),
            f"Map of the study area {site_name(workspace)}, {where(grid)}: {', '.join(parts)}.",
            f"The study area: {', '.join(parts)}. {_ticks(grid)}{thinned(grid)}",
            palette=True,
        )

    return workspace.attempt(stack, lambda: [_ground_facts(workspace, stack)]) + workspace.attempt(stack, figure)


def _ticks(grid: Grid) -> str:
    degrees = to_degrees(grid, [grid.bounds[0]], [grid.bounds[1]]) is not None
    return f"Kilometres of {crs_name(grid.crs)}" + (", degrees at the top and right. " if degrees else ". ")


def _ground_facts(workspace: Workspace, path: Path) -> Block:
    stack = read_stack_info(path)
    grid, counts = stack.grid, workspace.counts
    valid, landslide, labelled = (int(v) for v in counts[0])
    groups = {group: sum(channel.group == group for channel in stack.channels) for group in ("band", "factor")}
    left, bottom, right, top = grid.bounds
    area, grid_area = (pixels * grid.pixel_area for pixels in (valid, grid.height * grid.width))
    rows = [
        ("Name", site_name(workspace)),
        ("Grid", size_text(grid)),
        ("Coordinates", f"{crs_name(grid.crs)}: easting {left:,.0f} to {right:,.0f} m, northing "
         f"{bottom:,.0f} to {top:,.0f} m"),
        ("In degrees", where(grid)),
        ("Valid ground", f"{valid:,} pixels, {km2(area)} of {km2(grid_area)}"),
        (
            "Landslides, as drawn",
            f"{landslide:,} pixels, {km2(landslide * grid.pixel_area)}"
            + (f", {100 * landslide / labelled:.2f} % of the valid ground whose label is known" if labelled else ""),
        ),
        ("Channels", f"{len(stack.channels)}: {groups['band']} of bands, {groups['factor']} of factors"),
    ]  # fmt: skip
    return Facts(rows)


def factors(workspace: Workspace) -> list[Block]:
    """Maps of the factors, and Table II of the paper."""
    run = workspace.run
    if run.stack is None:
        return workspace.lacks("stack")
    path = run.stack

    def maps() -> Iterator[Block]:
        stack = read_stack_info(path)
        names = [name.replace("_", " ") for name in figures.factor_names(stack)]
        yield workspace.draw(
            "factors.png",
            lambda out: figures.draw_factors(path.parent, out),
            f"Maps of {', '.join(names)}, each with a scale.",
            "The factors. Scales run from the 2nd to the 98th percentile, evenly about 0 where the sign matters; grey "
            "is undefined, the line the edge of valid ground where not all is valid. Scale bar, north and "
            f"kilometres of {crs_name(stack.grid.crs)} on each. {thinned(stack.grid, figures.SMALL_MAP)}",
            palette=True,
        )

    blocks = workspace.attempt(path, maps)
    if run.channels is None:
        return blocks + workspace.lacks("channels")
    table = run.channels
    return blocks + workspace.attempt(table, lambda: [_table_ii(workspace, read_stack_info(path), table)])


def _table_ii(workspace: Workspace, stack: StackInfo, path: Path) -> Block:
    """Table II: a row per band and factor, over the valid pixels."""
    by_name = {row["name"]: row for row in read_json_table(path)["channels"]}
    manifest_site = read_quietly(workspace.run.manifest).get("site")
    sources = _Sources(workspace, manifest_site if isinstance(manifest_site, dict) else {})
    rows: list[list[Cell]] = []
    for factor in dict.fromkeys(channel.factor for channel in stack.channels):
        channels = [channel for channel in stack.channels if channel.factor == factor]
        summaries = [by_name[channel.name] for channel in channels]
        source, resolution, method = sources.of(factor)
        undefined = f"{100 * max(number(row['undefined_share']) for row in summaries):.2f}"
        unit = {"degree": "°", "": "-", "class": "class", "stored": "as stored"}.get(channels[0].unit, channels[0].unit)
        middle: list[Cell]
        if len(channels) == 2 and {channel.kind for channel in channels} == {"sine", "cosine"}:
            unit, middle = "°", [("0 to 360: its sine and cosine are the channels; flat ground 0, 0", 3)]
        elif channels[0].kind == "class":
            shares = (
                f"{channel.name.removeprefix(factor + '_').replace('_', ' ')} {100 * number(row['mean']):.1f} %"
                for channel, row in zip(channels, summaries, strict=True)
            )
            unit, middle = "class", [(", ".join(shares), 3)]
        else:
            low, high = summaries[0]["range"]
            middle = [figure_text(low), figure_text(summaries[0]["mean"]), figure_text(high)]
        rows.append([factor.replace("_", " "), channels[0].group, source, resolution, unit, *middle, undefined, method])
    return Table(
        "Bands and factors over the valid pixels (Table II of the paper).",
        ["Channel", "Kind", "Source", "Resolution", "Unit", "Minimum", "Mean", "Maximum",
         "Undefined (%)", "Brought to the grid"],
        rows,
        "Classes: their share of the valid pixels. Undefined: share of the outline, outside of which nothing is valid.",
        left=5,
        ends=True,
    )  # fmt: skip


@dataclass(frozen=True)
class _Sources:
    """Where a factor comes from, by the site as the manifest holds it."""

    workspace: Workspace
    site: Mapping[str, Any]

    def of(self, factor: str) -> tuple[str, str, str]:
        """(source, its resolution, how it was brought to the grid) of a band or factor; "-" where it is not known."""
        images = [(image, "") for image in self._tables("image")]
        for image, _ in images:
            if factor in image.get("bands", {}):
                return self._of_image(image, factor)
        known = FACTORS.get(factor)
        if known is not None and known.source == "dem" and self._table("dem"):
            dem = self._table("dem")
            method = "bilinear, or cut" if factor == "elevation" else "at the DEM's resolution, then bilinear"
            if dem.get("dem_resolution"):
                return _base(dem["path"]), f"{figure_text(dem['dem_resolution'])} m", f"cubic, {method}"
            return _base(dem["path"]), self._resolution(str(dem["path"])), method
        if known is not None and known.source == "bands":
            twice = "; before and after" if factor == "dndvi" else ""
            return f"bands {', '.join(known.bands)}{twice}", "grid", "computed on the grid"
        if factor == "distance_to_river" and self._table("rivers"):
            rivers = self._table("rivers")
            if rivers.get("from_dem_km2"):
                where = self._table("dem").get("path", "")
                return f"{_base(where)}, from {figure_text(rivers['from_dem_km2'])} km² drained", "DEM", "bilinear"
            return _base(rivers["path"]), "vector", "exact distance on the grid"
        if factor == "distance_to_fault" and self._table("faults"):
            return _base(self._table("faults")["path"]), "vector", "exact distance on the grid"
        tables = [table for table in self._tables("factor") if table.get("name") == factor]
        table = tables[0] if tables else self._table(factor)
        if not table.get("path"):
            return "-", "-", "-"
        if table.get("field"):
            return f"{_base(table['path'])}, field {table['field']}", "vector", "burnt by pixel centre"
        classes = factor == "lithology" or table.get("kind") == "classes"
        return _base(table["path"]), self._resolution(str(table["path"])), "nearest" if classes else "bilinear, or cut"

    def _of_image(self, image: Mapping[str, Any], factor: str) -> tuple[str, str, str]:
        if image.get("bundle"):
            return image.get("scene") or _base(image["bundle"]), "-", "scaled as its metadata says, bilinear, or cut"
        path = str(image.get("files", {}).get(factor) or image.get("path", ""))
        band = f", band {image['bands'][factor]}" if image.get("path") else ""
        return f"{_base(path)}{band}", self._resolution(path), "bilinear, or cut"

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self.site.get(name)
        return table if isinstance(table, dict) else {}

    def _tables(self, name: str) -> list[Mapping[str, Any]]:
        tables = self.site.get(name)
        return [table for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []

    def _resolution(self, path: str) -> str:
        """Pixel size from the header of an input, where the file is still there."""
        site = site_of(self.workspace)
        files = [] if site is None else [file for _, file in open_site(site, []).files()]
        for place in (Path(path), *(file for file in files if file.name == Path(path).name)):
            try:
                info = read_info(place)
            except (LandslipError, OSError, ValueError):
                continue
            size, unit = abs(info.transform.a), "°" if info.crs is not None and info.crs.is_geographic else " m"
            return f"{size:.6g}{unit}"
        return "-"


def _base(path: Any) -> str:
    return Path(str(path)).name


def split(workspace: Workspace) -> list[Block]:
    """The parts of the ground, what they were for, and how they lie."""
    run = workspace.run
    if run.split is None:
        return workspace.lacks("split")
    path = run.split

    def blocks() -> Iterator[Block]:
        info = read_info(path)
        tags, grid = info.tags, info.grid
        note = leakage_note(tags, "test")
        if note:
            yield Text(f"{note}.", "warning")
        yield Facts(
            [
                ("Split", tags.get("split", "unknown") + (f", fold {tags['fold']}" if tags.get("fold") else "")),
                ("Leaky", leakage(leaky_of(tags))),
                ("Guard between the parts", f"{tags.get('guard', 'unknown')} pixels"),
            ]
        )
        if run.valid is not None and run.label is not None:
            yield _parts(workspace, grid)
        if run.stack is not None:
            stack = run.stack
            yield workspace.draw(
                "split.png",
                lambda out: draw_split(stack, path, out),
                "Map of the training, validation and test parts over the relief.",
                f"Which ground was trained on, which chose the epoch, and which was kept for the test. {thinned(grid)}",
            )

    return workspace.attempt(path, blocks)


def _parts(workspace: Workspace, grid: Grid) -> Block:
    counts = workspace.counts
    rows = []
    for name, (valid, landslide, labelled) in zip(("all valid ground", *PARTS), counts.tolist(), strict=True):
        share = f"{100 * landslide / labelled:.2f}" if labelled else "-"
        of_all = f"{100 * valid / counts[0, 0]:.1f}" if counts[0, 0] else "-"
        area = [f"{pixels * grid.pixel_area / 1e6:,.3f}" for pixels in (valid, landslide)]
        rows.append([name, f"{valid:,}", area[0], of_all, area[1], share])
    heads = ["Part", "Pixels", "Area (km²)", "Of the ground (%)", "Landslide (km²)", "Landslide (%)"]
    return Table(
        "Ground and landslides of the parts.", heads, rows, "What is missing to all is the guard between them."
    )
