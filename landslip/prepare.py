"""`landslip prepare`: a site's inputs become stack.tif, valid.tif, label.tif, channels.json and manifest.json.

Beside them lie table.csv (the paper's Table II) and, where asked for, pictures of the site and its factors.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.check import check_site
from landslip.errors import OutputError, SiteError
from landslip.figures import draw_prepared
from landslip.folder import FACTOR_SHEET, FIGURES, STUDY_AREA
from landslip.grid import Grid, tiles
from landslip.images import describe_images
from landslip.label import UNKNOWN, burn_label
from landslip.output import file_hash, refuse_existing, require_space, write_json, write_text, writing_folder
from landslip.progress import say, track
from landslip.provenance import software
from landslip.raster import creating, put, write_raster
from landslip.site import Site, read_outline, site_grid
from landslip.stack import Channel, Encoding, channels
from landslip.vector import burn

WRITTEN = {"stack.tif", "valid.tif", "label.tif", "channels.json", "manifest.json", "table.csv", FIGURES}
DRAWN = (STUDY_AREA, FACTOR_SHEET, "factor_*.png")  # in FIGURES
ALONGSIDE = (".aux.xml", ".ovr")  # what viewers put beside rasters


@dataclass(frozen=True)
class ChannelSummary:
    """A row of the paper's Table II for one channel, over the valid pixels.

    `undefined` is the share of the outline's pixels where the channel has no value.
    """

    channel: Channel
    minimum: float
    maximum: float
    mean: float
    undefined: float


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made: the folder, the grid, a summary per channel and the landslides that burnt to no pixel."""

    folder: Path
    grid: Grid
    summaries: list[ChannelSummary]
    valid_pixels: int
    landslide_pixels: int
    unburnt: list[Any]


def prepare(
    site: Site, folder: Path, encoding: Encoding = "planes", overwrite: bool = False, figures: bool = False
) -> Prepared:
    """Prepare a site into `folder`, which appears whole or not at all; with `figures`, draw them into it then.

    Raises SiteError that lists every fault of the inputs before any long work, OutputError where the folder exists.
    """
    refuse_existing(folder, overwrite)
    refuse_losses(folder, [path for _, path in site.inputs()], WRITTEN)
    findings = check_site(site)
    faults = [finding.text for finding in findings if finding.severity == "fault"]
    if faults:
        listed = "\n  ".join(faults)
        raise SiteError(f"site {site.name!r} cannot be prepared:\n  {listed}" if len(faults) > 1 else faults[0])
    for finding in findings:
        say(f"{finding.severity}: {finding.text}")
    grid = site_grid(site)
    inside = np.ones(grid.shape, bool)
    if site.outline is not None:
        inside = burn(read_outline(site.outline, grid.crs).geometry, grid)
    with writing_folder(folder, overwrite) as aside:
        found, valid = _write_layers(site, grid, encoding, inside, aside)
        label, lost = np.full(grid.shape, UNKNOWN, np.uint8), list[Any]()
        if site.landslides is not None:
            label, lost = burn_label(site.landslides, grid, inside)
        burnt = site.landslides.burn if site.landslides is not None else ""
        write_raster(aside / "label.tif", label[None], grid, ["label"], UNKNOWN, {"burn": burnt})
        write_raster(aside / "valid.tif", valid[None].astype(np.uint8), grid, ["valid"])
        summaries = _assemble(found, grid, inside, valid, aside)
        write_json(aside / "channels.json", channels_json(summaries, encoding))
        write_json(aside / "manifest.json", _manifest(site, grid, encoding, lost))
        write_text(aside / "table.csv", table_csv(summaries))
    if figures:
        say("drawing the study area and every factor")
        draw_prepared(folder)
    landslide_pixels = int(((label == 1) & valid).sum())
    return Prepared(folder, grid, summaries, int(valid.sum()), landslide_pixels, lost)


def refuse_losses(folder: Path, inputs: Iterable[Path], written: set[str]) -> None:
    """Raise OutputError where replacing `folder` would remove more than the files `written` there, or an input."""
    for path in inputs:
        if path.exists() and folder.resolve() in path.resolve().parents:
            raise OutputError(f"{path} is an input and lies in {folder}, which is to be replaced. Give another folder.")
    if folder.is_dir():
        others = [p.name for p in folder.iterdir() if not (p.name in written or p.name.endswith(ALONGSIDE))]
        if FIGURES in written and (folder / FIGURES).is_dir():
            drawn = (folder / FIGURES).iterdir()
            others += [f"{FIGURES}/{p.name}" for p in drawn if not any(p.match(name) for name in DRAWN)]
        others.sort()
        if others:
            listed = ", ".join(others[:5]) + (" ..." if len(others) > 5 else "")
            raise OutputError(f"{folder} also holds {listed}, which would be lost. Move it, or give another folder.")


def _write_layers(
    site: Site, grid: Grid, encoding: Encoding, inside: NDArray[np.bool_], aside: Path
) -> tuple[list[Channel], NDArray[np.bool_]]:
    """Keep each channel in a file of its own until their number is known; return them and the valid pixels."""
    valid = inside.copy()
    found: list[Channel] = []
    for channel, values in track(channels(site, grid, encoding), 0, "prepare", "channels"):
        if channel.name in (other.name for other in found):
            raise SiteError(
                f"site {site.name!r} would have two channels called {channel.name}. Rename the band, factor or class."
            )
        require_space(aside, values.nbytes * 2)
        np.save(aside / f"{channel.name}.npy", values)
        found.append(channel)
        if channel.factor != "aspect" or channel.kind != "continuous":
            valid &= ~np.isnan(values)  # aspect in degrees is undefined on flat ground, which is valid
    if not valid.any():
        shares = ", ".join(f"{c.name}" for c in found)
        raise SiteError(f"site {site.name!r} has no pixel that is inside the outline and defined in all of {shares}.")
    return found, valid


def _assemble(
    found: list[Channel], grid: Grid, inside: NDArray[np.bool_], valid: NDArray[np.bool_], aside: Path
) -> list[ChannelSummary]:
    summaries = []
    names = [channel.name for channel in found]
    with creating(aside / "stack.tif", grid, "float32", names, float("nan"), compress=False) as dataset:
        for band, channel in enumerate(found, start=1):
            dataset.update_tags(band, **channel.tags())
            kept = aside / f"{channel.name}.npy"
            values = np.load(kept, mmap_mode="r")
            for window in tiles(grid.shape, 2048):
                put(dataset, np.ascontiguousarray(values[window.slices])[None], window, [band])
            summaries.append(_summary(channel, values, inside, valid))
            del values
            kept.unlink()
    return summaries


def _summary(
    channel: Channel, values: NDArray[np.float32], inside: NDArray[np.bool_], valid: NDArray[np.bool_]
) -> ChannelSummary:
    kept = values[valid]
    kept = kept[~np.isnan(kept)]
    undefined = float(np.isnan(values[inside]).mean())
    if kept.size == 0:
        return ChannelSummary(channel, np.nan, np.nan, np.nan, undefined)
    return ChannelSummary(channel, float(kept.min()), float(kept.max()), float(kept.mean(dtype=np.float64)), undefined)


def channels_json(summaries: list[ChannelSummary], encoding: Encoding) -> dict[str, Any]:
    """What channels.json holds: a row per channel, and which channels make which band or factor."""
    factors: dict[str, list[str]] = {}
    for summary in summaries:
        factors.setdefault(summary.channel.factor, []).append(summary.channel.name)
    rows = [
        {
            **asdict(summary.channel),
            "standardised": summary.channel.standardised,
            "range": [summary.minimum, summary.maximum],
            "mean": summary.mean,
            "undefined_share": summary.undefined,
        }
        for summary in summaries
    ]
    return {"encoding": encoding, "channels": rows, "factors": factors}


def _manifest(site: Site, grid: Grid, encoding: Encoding, lost: list[Any]) -> dict[str, Any]:
    return {
        "site": site.model_dump(mode="json", exclude_defaults=True),
        "grid": grid_json(grid),
        "encoding": encoding,
        "images": describe_images(site.image),
        "inputs": [{"what": what, "file": path.name, "sha256": file_hash(path)} for what, path in site.inputs()],
        "landslides_that_burn_to_no_pixel": [str(item) for item in lost],
        "software": software(),
    }


def grid_json(grid: Grid) -> dict[str, Any]:
    """A grid as manifest.json holds it."""
    return {
        "crs": grid.crs.to_wkt(),
        "transform": list(grid.transform)[:6],
        "height": grid.height,
        "width": grid.width,
    }


def table_csv(summaries: Iterable[ChannelSummary]) -> str:
    """The paper's Table II as CSV: one row a channel, its range and mean over the valid pixels in its unit."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("channel", "factor", "group", "unit", "minimum", "maximum", "mean", "undefined_share"))
    for s in summaries:
        figures = ("" if np.isnan(f) else f"{f:.7g}" for f in (s.minimum, s.maximum, s.mean, s.undefined))
        rows.writerow((s.channel.name, s.channel.factor, s.channel.group, s.channel.unit, *figures))
    return out.getvalue()


def table(prepared: Prepared) -> str:
    """The paper's Table II for a prepared site: unit, range, mean and undefined share of each channel."""
    rows = [("channel", "unit", "minimum", "maximum", "mean", "undefined %")]
    for s in prepared.summaries:
        figures = (f"{s.minimum:.4g}", f"{s.maximum:.4g}", f"{s.mean:.4g}", f"{100 * s.undefined:.2f}")
        rows.append((s.channel.name, s.channel.unit or "-", *figures))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
