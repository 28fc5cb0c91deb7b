"""`landslip prepare`: a site's inputs become stack.tif, valid.tif, label.tif, channels.json and manifest.json.

Beside them lie table.csv (the paper's Table II) and, where asked for, pictures of the site and its factors.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetWriter

from landslip.config.site import Site
from landslip.dataset.channels import Channel
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.errors import OutputError, SiteError
from landslip.geo.archive import own_file
from landslip.geo.geotiff import STORED_TILE, create_blank, create_raster, find_tiles, put_tiles, write_window
from landslip.geo.grid import Grid, Window, tiles
from landslip.geo.raster import read
from landslip.preparation.channel_sources import channel_sources
from landslip.preparation.channel_summary import Prepared, Totals, write_summaries
from landslip.preparation.check import check_inputs
from landslip.preparation.figures import draw_prepared
from landslip.preparation.findings import Finding
from landslip.preparation.label_source import open_label, require_landslides
from landslip.preparation.manifest import Manifest, make_manifest, without_folders
from landslip.preparation.site_inputs import SiteInputs, open_site
from landslip.preparation.source import ChannelSource, Encoding, Values
from landslip.preparation.study_area import inside_of
from landslip.runtime.atomic import atomic_folder, refuse_existing
from landslip.runtime.disk import flush, require_space
from landslip.runtime.jit import jit
from landslip.runtime.parallel import parallel_map
from landslip.runtime.progress import plural, say, track
from landslip.runtime.run_folder import FACTOR_SHEET, FIGURES, STUDY_AREA
from landslip.runtime.text import read_json, write_json

LEDGER = "finished.json"  # names the channels that are finished, while the others are being computed
FINISH_WINDOW = 512  # side of the windows that all channels are read in at once, pixels
# what a prepared folder consists of
WRITTEN = {"stack.tif", "valid.tif", "label.tif", "channels.json", "manifest.json", "table.csv", FIGURES}
PICTURES = (STUDY_AREA, FACTOR_SHEET, "factor_*.png")  # what its folder FIGURES consists of
ALONGSIDE = (".aux.xml", ".ovr")  # what viewers put beside rasters


def prepare(
    site: Site, folder: Path | str, encoding: Encoding = "planes", overwrite: bool = False, figures: bool = False
) -> Prepared:
    """Prepare a site into `folder`, which appears whole or not at all; with `figures`, pictures of it too.

    Channels are computed window by window on all cores and written straight into their place in the stack, so that
    memory does not follow the site's size. The same command after a kill or Ctrl-C goes on at the first channels that
    were not finished, as long as inputs, site and software are the same.

    Raises SiteError that lists every fault of the inputs before any long work, OutputError where the folder exists.
    """
    folder = Path(folder)
    refuse_existing(folder, overwrite, folder=True)
    findings: list[Finding] = []
    inputs = open_site(site, findings)
    refuse_losses(folder, [path for _, path in inputs.files()], WRITTEN)
    grid = _require_sound(inputs, findings)
    manifest = make_manifest(inputs, grid, encoding)
    with atomic_folder(folder, overwrite, LEDGER) as aside, _say_what_is_kept(aside):
        sources = channel_sources(inputs, grid, encoding)
        channels = [channel for source in sources for channel in source.channels]
        _require_own_names(site, channels)
        finished = _start(aside, manifest, grid, channels)
        pending = [source for source in sources if not {channel.name for channel in source.channels} <= finished]
        windows = sum(len(source.windows(grid.shape)) for source in pending) + len(
            list(tiles(grid.shape, FINISH_WINDOW))
        )
        totals = Totals(parts=[[] for _ in channels])
        fill = _fill_stack(sources, pending, manifest, grid, aside)
        for _ in track(chain(fill, _finish(site, grid, channels, totals, aside)), windows, "prepare", "block"):
            pass
        if not totals.valid:
            names = ", ".join(channel.name for channel in channels)
            raise SiteError(
                f"site {site.name!r} has no pixel that is inside the outline and defined in all of {names}."
            )
        if site.landslides is not None:
            require_landslides(site.landslides, grid, totals.landslide_inside)
        summaries = totals.summaries(channels)
        write_summaries(aside, summaries, encoding)
        manifest["resampling"] = {source.name: source.resampling for source in sources}
        manifest["warnings"] = without_folders((f.text for f in findings if f.severity == "warning"), inputs)
        manifest["landslides_that_burn_to_no_pixel"] = [str(feature) for feature in totals.unburnt]
        if totals.states:
            manifest["landslides_by_review"] = totals.states
        write_json(aside / "manifest.json", manifest)
        if figures:
            # Drawn before the ledger is removed, so that a kill meanwhile costs no more than the figures.
            say("drawing the study area and every factor")
            draw_prepared(aside, overwrite=True)
        _clear(aside, WRITTEN)
    return Prepared(
        folder=folder,
        grid=grid,
        summaries=summaries,
        valid_pixels=totals.valid,
        landslide_pixels=totals.landslide,
        unburnt=totals.unburnt,
    )


def refuse_losses(folder: Path, inputs: Iterable[Path], written: set[str]) -> None:
    """Raise OutputError where replacing `folder` would remove more than the files `written` there, or an input."""
    for path in map(own_file, inputs):
        if path.exists() and folder.resolve() in path.resolve().parents:
            raise OutputError(f"{path} is an input and lies in {folder}, which is to be replaced. Give another folder.")
    if folder.is_dir():
        others = [p.name for p in folder.iterdir() if not (p.name in written or p.name.endswith(ALONGSIDE))]
        if FIGURES in written and (folder / FIGURES).is_dir():
            pictures = (folder / FIGURES).iterdir()
            others += [f"{FIGURES}/{p.name}" for p in pictures if not any(p.match(name) for name in PICTURES)]
        others.sort()
        if others:
            listed = ", ".join(others[:5]) + (" ..." if len(others) > 5 else "")
            raise OutputError(f"{folder} also holds {listed}, which would be lost. Move it, or give another folder.")


def _require_sound(inputs: SiteInputs, findings: list[Finding]) -> Grid:
    """The grid of a site whose inputs have no fault. What is found joins the findings, and is said.

    Raises SiteError that lists the faults, if any.
    """
    site, grid = inputs.site, check_inputs(inputs, findings)
    faults = [finding.text for finding in findings if finding.severity == "fault"]
    if faults:
        listed = "\n  ".join(faults)
        raise SiteError(f"site {site.name!r} cannot be prepared:\n  {listed}" if len(faults) > 1 else faults[0])
    for finding in findings:
        say(f"{finding.severity}: {finding.text}")
    assert grid is not None  # A site without a grid has a fault.
    return grid


def _require_own_names(site: Site, channels: list[Channel]) -> None:
    """Raise SiteError where two channels would have one name."""
    names = [channel.name for channel in channels]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise SiteError(
            f"site {site.name!r} would have two channels called {twice[0]}. Rename the band, factor or class."
        )


def _start(aside: Path, manifest: Manifest, grid: Grid, channels: list[Channel]) -> set[str]:
    """The names of the channels that a killed run of the same site finished, whose stack goes on; else a new stack."""
    ledger = aside / LEDGER
    try:
        earlier = read_json(ledger)
        if earlier["of"] == _fingerprint(manifest) and (aside / "stack.tif").exists():
            finished = set(map(str, earlier["finished"]))
            _clear(aside, {"stack.tif", LEDGER})  # What follows from all channels together is made again.
            if finished:
                say(f"an earlier run was interrupted: {len(finished)} of its {len(channels)} channels are taken over")
            return finished
    except (OSError, ValueError, KeyError, TypeError):
        pass  # There is no earlier run, or nothing of it that can be gone on from.
    _clear(aside, set())
    require_space(aside, grid.height * grid.width * (4 * len(channels) + 1))
    names, tags = [channel.name for channel in channels], [channel.tags() for channel in channels]
    create_blank(aside / "stack.tif", grid, names, tags)
    write_json(ledger, {"of": _fingerprint(manifest), "finished": []})
    return set()


@contextmanager
def _say_what_is_kept(aside: Path) -> Iterator[None]:
    """Say what a run that is stopped by Ctrl-C keeps: the stack, where a channel of it is finished; else nothing."""
    try:
        yield
    except KeyboardInterrupt:
        ledger = aside / LEDGER
        finished = read_json(ledger)["finished"] if ledger.exists() else []
        if finished:
            say(f"kept in {aside}: {plural(len(finished), 'finished channel')}.")
        else:
            ledger.unlink(missing_ok=True)  # `atomic_folder` keeps a folder only where the ledger lies in it.
        raise


def _fingerprint(manifest: Manifest) -> str:
    """What tells whether a stack was begun from the same inputs, site and software."""
    return hashlib.sha256(repr(manifest).encode()).hexdigest()


def _clear(folder: Path, names: set[str]) -> None:
    """Remove all that lies in a folder but these names."""
    for path in folder.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _fill_stack(
    sources: list[ChannelSource], pending: list[ChannelSource], manifest: Manifest, grid: Grid, aside: Path
) -> Iterator[None]:
    """Compute the pending channels and put them in their places in the stack; yields after every window."""
    stack = find_tiles(aside / "stack.tif")
    finished = [channel.name for source in sources if source not in pending for channel in source.channels]
    first = 1
    for source in sources:
        bands = range(first, first + len(source.channels))
        first = bands.stop
        if source not in pending:
            continue
        values = source.begin(aside)

        def fill(window: Window, values: Values = values, bands: range = bands) -> None:
            put_tiles(stack, values(window), window, bands)

        yield from parallel_map(fill, source.windows(grid.shape))
        flush(stack.path)
        finished += [channel.name for channel in source.channels]
        write_json(aside / LEDGER, {"of": _fingerprint(manifest), "finished": finished}, overwrite=True)
        _clear(aside, {"stack.tif", LEDGER})


def _finish(site: Site, grid: Grid, channels: list[Channel], totals: Totals, aside: Path) -> Iterator[None]:
    """Write valid.tif and label.tif and fill the totals; yields after every window."""
    landslides = open_label(site.landslides, grid)
    totals.states = {} if landslides.outlines is None else landslides.outlines.states
    inside_at = inside_of(site.outline, grid)
    needed = np.array([channel.decides_valid for channel in channels])

    def at(window: Window) -> tuple[Window, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.uint8], Any]:
        inside = inside_at(window)
        values = read(aside / "stack.tif", window=window)
        valid = inside & ~np.isnan(values[needed]).any(axis=0)
        label = landslides.at(window)
        label[~inside] = UNKNOWN
        parts = np.empty((len(values), -(-window.height // STORED_TILE) * -(-window.width // STORED_TILE), 5))
        _add_up(values, inside, valid, STORED_TILE, parts)
        return window, inside, valid, label, parts

    burnt_to_none = set()  # positions in `landslides.unburnt` that lie inside the outline
    strip = np.empty((2, FINISH_WINDOW, grid.width), np.uint8)  # label and valid of a row of windows
    rule = site.landslides.burn if site.landslides is not None else ""
    with (
        create_raster(aside / "label.tif", grid, "uint8", ["label"], UNKNOWN, tags={"burn": rule}) as label_file,
        create_raster(aside / "valid.tif", grid, "uint8", ["valid"], None) as valid_file,
    ):
        for window, inside, valid, label, parts in parallel_map(at, tiles(grid.shape, FINISH_WINDOW)):
            strip[0, : window.height, window.slices[1]] = label
            strip[1, : window.height, window.slices[1]] = valid
            if window.column + window.width == grid.width:
                _put_rows(label_file, strip[:1], window)
                _put_rows(valid_file, strip[1:], window)
            for of_channel, part in zip(totals.parts, parts, strict=True):
                of_channel.append(part)
            totals.inside += int(np.count_nonzero(inside))
            totals.valid += int(np.count_nonzero(valid))
            totals.landslide_inside += int(np.count_nonzero(label == LANDSLIDE))
            totals.landslide += int(np.count_nonzero((label == LANDSLIDE) & valid))
            for i, (row, column, _) in enumerate(landslides.unburnt):
                row, column = row - window.row, column - window.column
                if 0 <= row < window.height and 0 <= column < window.width and inside[row, column]:
                    burnt_to_none.add(i)
            yield
    totals.unburnt = [feature for i, (_, _, feature) in enumerate(landslides.unburnt) if i in burnt_to_none]


def _put_rows(dataset: DatasetWriter, strip: NDArray[np.uint8], window: Window) -> None:
    """Write whole rows (1, h, W) of a raster, one row of its tiles at a time.

    Written otherwise, the order of the tiles in the file would depend on when GDAL's cache is full.
    """
    for row in range(0, window.height, STORED_TILE):
        rows = Window(window.row + row, 0, min(STORED_TILE, window.height - row), strip.shape[2])
        write_window(dataset, strip[:, row : row + rows.height], rows)


@jit
def _add_up(values: Any, inside: Any, valid: Any, tile: int, out: Any) -> None:
    """Fill `out` (C, tiles, 5) as `Totals.parts` has it, for a window that begins at the corner of a tile."""
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
