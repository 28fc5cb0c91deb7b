"""`landslip prepare`: a site's inputs become stack.tif, valid.tif, label.tif, channels.json and manifest.json.

Beside them lie table.csv (the paper's Table II) and, where asked for, pictures of the site and its factors.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landslip.config.site import Site, read_outline, site_grid
from landslip.dataset.channels import Channel
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.errors import OutputError, SiteError
from landslip.geo.archive import own_file
from landslip.geo.geotiff import TILE, create_blank, create_raster, find_tiles, put_tiles, take_tiles, write_window
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.vector import burn_window, shapes_on
from landslip.preparation.channel_sources import ChannelSource, Encoding, Values, channel_sources
from landslip.preparation.check import check_site
from landslip.preparation.figures import draw_prepared
from landslip.preparation.images import describe_images
from landslip.preparation.label_source import open_label, require_landslides
from landslip.runtime.atomic import atomic_folder, file_hash, flush, refuse_existing, require_space
from landslip.runtime.jit import jit
from landslip.runtime.parallel import parallel_map
from landslip.runtime.progress import plural, say, track
from landslip.runtime.provenance import software
from landslip.runtime.run_folder import FACTOR_SHEET, FIGURES, STUDY_AREA
from landslip.runtime.text import read_json, write_json, write_text

LEDGER = "finished.json"  # of the channels that are, while the others are being computed
FINAL = 512  # side of the windows that all channels are read in at once, pixels
WRITTEN = {"stack.tif", "valid.tif", "label.tif", "channels.json", "manifest.json", "table.csv", FIGURES}
DRAWN = (STUDY_AREA, FACTOR_SHEET, "factor_*.png")  # in FIGURES
SHAPEFILE = (".dbf", ".prj", ".shx", ".cpg")
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
    site: Site, folder: Path | str, encoding: Encoding = "planes", overwrite: bool = False, figures: bool = False
) -> Prepared:
    """Prepare a site into `folder`, which appears whole or not at all, with `figures` those too.

    Each layer is computed block by block on all cores and written straight into its place in the stack, so memory does
    not follow the site's size. The same command after a kill or Ctrl-C goes on at the first layer that was not
    finished, as long as inputs, site and software are the same. Raises SiteError that lists every fault of the inputs
    before any long work, OutputError where the folder exists.
    """
    folder = Path(folder)
    refuse_existing(folder, overwrite, folder=True)
    refuse_losses(folder, [path for _, path in site.inputs()], WRITTEN)
    findings = check_site(site)
    faults = [finding.text for finding in findings if finding.severity == "fault"]
    if faults:
        listed = "\n  ".join(faults)
        raise SiteError(f"site {site.name!r} cannot be prepared:\n  {listed}" if len(faults) > 1 else faults[0])
    for finding in findings:
        say(f"{finding.severity}: {finding.text}")
    grid = site_grid(site)
    manifest = _manifest(site, grid, encoding)
    with atomic_folder(folder, overwrite, LEDGER) as aside, _saying_what_is_kept(aside):
        found = channel_sources(site, grid, encoding)
        channels = [channel for layer in found for channel in layer.channels]
        _require_own_names(site, channels)
        finished = _start(aside, manifest, grid, channels)
        left = [layer for layer in found if not {channel.name for channel in layer.channels} <= finished]
        blocks = sum(len(layer.windows(grid.shape)) for layer in left) + len(list(tiles(grid.shape, FINAL)))
        totals = _Totals([[] for _ in channels])
        work = chain(
            _fill_stack(found, left, finished, manifest, grid, aside), _finish(site, grid, channels, totals, aside)
        )
        for _ in track(work, blocks, "prepare", "block"):
            pass
        if not totals.valid:
            names = ", ".join(channel.name for channel in channels)
            raise SiteError(
                f"site {site.name!r} has no pixel that is inside the outline and defined in all of {names}."
            )
        if site.landslides is not None:
            require_landslides(site.landslides, grid, totals.burnt)
        summaries = totals.summaries(channels)
        write_json(aside / "channels.json", channels_json(summaries, encoding))
        write_text(aside / "table.csv", table_csv(summaries))
        manifest["resampling"] = {layer.name: layer.resampling for layer in found}
        manifest["warnings"] = _without_folders([f.text for f in findings if f.severity == "warning"], site)
        manifest["landslides_that_burn_to_no_pixel"] = [str(item) for item in totals.lost]
        if totals.states:
            manifest["landslides_by_review"] = totals.states
        write_json(aside / "manifest.json", manifest)
        if figures:  # before the ledger goes, so that a kill while they are drawn costs no more than them
            say("drawing the study area and every factor")
            draw_prepared(aside, overwrite=True)
        _clear(aside, WRITTEN)
    return Prepared(folder, grid, summaries, totals.valid, totals.landslide, totals.lost)


def refuse_losses(folder: Path, inputs: Iterable[Path], written: set[str]) -> None:
    """Raise OutputError where replacing `folder` would remove more than the files `written` there, or an input."""
    for path in map(own_file, inputs):
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


# ---- the stack, layer by layer ----


def _require_own_names(site: Site, channels: list[Channel]) -> None:
    names = [channel.name for channel in channels]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise SiteError(
            f"site {site.name!r} would have two channels called {twice[0]}. Rename the band, factor or class."
        )


def _start(aside: Path, manifest: dict[str, Any], grid: Grid, channels: list[Channel]) -> set[str]:
    """The names of the channels that a killed run finished; else a stack that holds nothing yet, and no name."""
    ledger = aside / LEDGER
    try:
        kept = read_json(ledger)
        if kept["of"] == _fingerprint(manifest) and (aside / "stack.tif").exists():
            finished = set(map(str, kept["finished"]))
            _clear(aside, {"stack.tif", LEDGER})  # what follows from all channels is made again
            if finished:
                say(f"an earlier run was interrupted: {len(finished)} of its {len(channels)} channels are taken over")
            return finished
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing was left, or nothing that can be gone on from
    _clear(aside, set())
    require_space(aside, grid.height * grid.width * (4 * len(channels) + 1))
    names, tags = [channel.name for channel in channels], [channel.tags() for channel in channels]
    create_blank(aside / "stack.tif", grid, names, tags)
    write_json(ledger, {"of": _fingerprint(manifest), "finished": []})
    return set()


@contextmanager
def _saying_what_is_kept(aside: Path) -> Iterator[None]:
    """What a run that is stopped leaves aside: the stack, where a channel of it is finished; else nothing."""
    try:
        yield
    except KeyboardInterrupt:
        ledger = aside / LEDGER
        finished = read_json(ledger)["finished"] if ledger.exists() else []
        if finished:
            say(f"kept in {aside}: {plural(len(finished), 'finished channel')}.")
        else:
            ledger.unlink(missing_ok=True)  # without it nothing is kept
        raise


def _fingerprint(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(repr(manifest).encode()).hexdigest()


def _clear(folder: Path, kept: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _fill_stack(
    found: list[ChannelSource],
    left: list[ChannelSource],
    finished: set[str],
    manifest: dict[str, Any],
    grid: Grid,
    aside: Path,
) -> Iterator[None]:
    """Compute the layers that are left and put them in their places; yields after every block."""
    stack, done = find_tiles(aside / "stack.tif"), sorted(finished)
    first = 1
    for layer in found:
        bands = range(first, first + len(layer.channels))
        first = bands.stop
        if layer not in left:
            continue
        values = layer.begin(aside)

        def fill(window: Window, values: Values = values, bands: range = bands) -> None:
            put_tiles(stack, values(window), window, bands)

        yield from parallel_map(fill, layer.windows(grid.shape))
        flush(stack.path)
        done += [channel.name for channel in layer.channels]
        write_json(aside / LEDGER, {"of": _fingerprint(manifest), "finished": done}, overwrite=True)
        _clear(aside, {"stack.tif", LEDGER})


# ---- what follows from all channels together ----


@dataclass
class _Totals:
    """Of the whole site, added up block by block.

    `parts` holds for each channel a row per stored tile: pixels, minimum, maximum and sum over valid pixels, undefined
    pixels inside. Tiles are the same whatever the blocks, so the sums are too.
    """

    parts: list[list[NDArray[np.float64]]]
    inside: int = 0
    valid: int = 0
    burnt: int = 0  # landslide inside
    landslide: int = 0  # landslide on valid pixels
    lost: list[Any] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)  # landslides by what a review made of them

    def summaries(self, channels: list[Channel]) -> list[ChannelSummary]:
        """A row of Table II for each channel."""
        found = []
        for channel, parts in zip(channels, self.parts, strict=True):
            pixels, minimum, maximum, total, undefined = np.concatenate(parts).T
            mean = math.fsum(total) / pixels.sum() if pixels.any() else math.nan
            low, high = (minimum.min(), maximum.max()) if pixels.any() else (math.nan, math.nan)
            share = undefined.sum() / self.inside
            found.append(ChannelSummary(channel, float(low), float(high), float(mean), float(share)))
        return found


def _finish(site: Site, grid: Grid, channels: list[Channel], totals: _Totals, aside: Path) -> Iterator[None]:
    """Write valid.tif and label.tif and fill the totals; yields after every block."""
    stack, source = find_tiles(aside / "stack.tif"), open_label(site.landslides, grid)
    totals.states = {} if source.outlines is None else source.outlines.states
    outline = None
    if site.outline is not None:
        outline = shapes_on(read_outline(site.outline, grid.crs).geometry, grid)
    # aspect in degrees is undefined on flat ground, which is valid
    needed = np.array([channel.factor != "aspect" or channel.kind != "continuous" for channel in channels])

    def at(window: Window) -> tuple[Window, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.uint8], Any]:
        shape = (window.height, window.width)
        inside = np.ones(shape, bool) if outline is None else burn_window(outline, window)
        values = take_tiles(stack, window)
        valid = inside & ~np.isnan(values[needed]).any(axis=0)
        label = source.at(window)
        label[~inside] = UNKNOWN
        parts = np.empty((len(values), -(-shape[0] // TILE) * -(-shape[1] // TILE), 5))
        _add_up(values, inside, valid, TILE, parts)
        return window, inside, valid, label, parts

    lost = set()
    strip = np.empty((2, FINAL, grid.width), np.uint8)  # label and valid of a row of windows
    burnt = site.landslides.burn if site.landslides is not None else ""
    with (
        create_raster(aside / "label.tif", grid, "uint8", ["label"], UNKNOWN, {"burn": burnt}) as label_file,
        create_raster(aside / "valid.tif", grid, "uint8", ["valid"], None) as valid_file,
    ):
        for window, inside, valid, label, parts in parallel_map(at, tiles(grid.shape, FINAL)):
            strip[0, : window.height, window.slices[1]] = label
            strip[1, : window.height, window.slices[1]] = valid
            if window.column + window.width == grid.width:
                _put_rows(label_file, strip[:1], window)
                _put_rows(valid_file, strip[1:], window)
            for own, part in zip(totals.parts, parts, strict=True):
                own.append(part)
            totals.inside += int(np.count_nonzero(inside))
            totals.valid += int(np.count_nonzero(valid))
            totals.burnt += int(np.count_nonzero(label == LANDSLIDE))
            totals.landslide += int(np.count_nonzero((label == LANDSLIDE) & valid))
            for i, (row, column, _) in enumerate(source.lost):
                row, column = row - window.row, column - window.column
                if 0 <= row < window.height and 0 <= column < window.width and inside[row, column]:
                    lost.add(i)
            yield
    totals.lost = [item for i, (_, _, item) in enumerate(source.lost) if i in lost]


def _put_rows(dataset: Any, strip: NDArray[np.uint8], window: Window) -> None:
    # in the order of the tiles: else their order in the file would hang on when GDAL's cache is full
    for row in range(0, window.height, TILE):
        rows = Window(window.row + row, 0, min(TILE, window.height - row), strip.shape[2])
        write_window(dataset, strip[:, row : row + rows.height], rows)


@jit
def _add_up(values: Any, inside: Any, valid: Any, tile: int, out: Any) -> None:
    """Fill `out` (C, tiles, 5) as `_Totals.parts` has it, for a window that begins at the corner of a tile."""
    height, width = inside.shape
    for c in range(len(values)):
        n = 0
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                pixels, undefined, total = 0, 0, 0.0
                low, high = np.inf, -np.inf
                for i in range(top, min(top + tile, height)):
                    for j in range(left, min(left + tile, width)):
                        value = values[c, i, j]
                        if value != value:
                            undefined += inside[i, j]
                        elif valid[i, j]:
                            pixels += 1
                            total += value
                            low, high = min(low, value), max(high, value)
                out[c, n, 0], out[c, n, 1], out[c, n, 2], out[c, n, 3], out[c, n, 4] = (
                    pixels, low, high, total, undefined,
                )  # fmt: skip
                n += 1


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


def _manifest(site: Site, grid: Grid, encoding: Encoding) -> dict[str, Any]:
    return {
        "site": site.model_dump(mode="json", exclude_defaults=True),
        "grid": grid_json(grid),
        "encoding": encoding,
        "images": describe_images(site.image),
        **({"before": describe_images(site.before)} if site.before else {}),
        "inputs": inputs_json(site.inputs()),
        "software": software(),
    }


def inputs_json(inputs: Iterable[tuple[str, Path]]) -> list[dict[str, str]]:
    """What manifest.json says of every (what it is, path): the file and its SHA-256.

    Of a file in an archive, `file` is the archive, which is what is hashed, and `member` what is read of it.
    """
    hashes: dict[Path, str] = {}
    rows = []
    for what, path in inputs:
        for part in (path, *_companions(path)):
            file = own_file(part)
            if file not in hashes:
                hashes[file] = file_hash(file)
            member = {} if file == part else {"member": part.relative_to(file).as_posix()}
            rows.append({"what": what, "file": file.name, **member, "sha256": hashes[file]})
    return rows


def _without_folders(texts: Iterable[str], site: Site) -> list[str]:
    """Texts that call the site's files by their names alone: where they lie here is nobody else's business."""
    bundles = [image.bundle for image in (*site.image, *site.before) if image.bundle is not None]
    paths = sorted({*(path for _, path in site.inputs()), *bundles}, key=lambda path: -len(str(path)))
    found = []
    for text in texts:
        for path in paths:
            text = text.replace(str(path), path.name)
        found.append(text)
    return found


def _companions(path: Path) -> list[Path]:
    """The files that a shapefile consists of besides its .shp."""
    found = [path.with_suffix(ending) for ending in SHAPEFILE] if path.suffix.lower() == ".shp" else []
    return [part for part in found if part.exists()]


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


def channel_table(prepared: Prepared) -> str:
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
