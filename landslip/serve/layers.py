"""What a run can show on a map: its layers, each with the bands it is made of and how they become colours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from landslip.dataset.channels import Channel, StackInfo, read_stack_info
from landslip.dataset.label import LANDSLIDE
from landslip.errors import RasterError
from landslip.geo.grid import Grid, same_grid, tiles
from landslip.geo.raster import RasterInfo, open_raster, read_info, read_stored_window
from landslip.plots.palette import (
    CYCLE,
    DIVERGING,
    DOUBT,
    FALSE_ALARMS,
    HITS,
    LANDSLIDES,
    MISSES,
    NOT_KNOWN,
    RAMP,
    RAMPS,
    REFERENCE,
    class_colour,
)
from landslip.plots.qgis_style import FALSE_COLOUR, TRUE_COLOUR
from landslip.runtime.run_folder import RunFolder

Kind = Literal["image", "ramp", "angle", "planes", "codes", "agreement"]
STRIP = 2048  # pixels a side of what is read of a label at a time


@dataclass(frozen=True)
class PageLayer:
    """One layer: `bands` of the raster at `path` (three for a colour image, one or more otherwise).

    `ramp` names the colours of a continuous layer, `fixed` its range where it is not stretched to percentiles;
    `codes` are (stored value, word, colour) of classes. `overlay` layers leave most pixels clear.
    """

    key: str
    title: str
    group: str
    path: Path
    bands: tuple[int, ...]
    kind: Kind
    unit: str = ""
    ramp: str = RAMP
    fixed: tuple[float, float] | None = None
    even: bool = False
    codes: tuple[tuple[int, str, str], ...] = ()
    overlay: bool = False
    beside: Path | None = None  # a second raster: the label, of the layer of agreement


@dataclass(frozen=True)
class Shown:
    """The layers of a run on their one grid, and what was left out, in words."""

    grid: Grid
    layers: tuple[PageLayer, ...]
    left_out: tuple[str, ...]


def layers_of(run: RunFolder) -> Shown:
    """Every layer that a run's rasters can show. Raises RasterError where it has none.

    The grid is that of the probability raster, or of the stack; a raster on another grid is left out and named. A label
    of no landslide, such as that of a site whose file names none, is no reference and shows nothing.
    """
    rasters = [path for path in (run.probability, run.stack, run.landslide_map, run.label) if path is not None]
    if not rasters:
        raise RasterError(f"{run.root} holds no raster to show. Prepare a site, or map one, into it first.")
    infos = {path: read_info(path) for path in rasters}
    grid = infos[rasters[0]].grid
    left_out = [
        f"{path} is not shown: it lies on another grid ({info.grid.describe()}) than {rasters[0].name}"
        for path, info in infos.items()
        if not same_grid(info.grid, grid)
    ]
    usable = {path: info for path, info in infos.items() if same_grid(info.grid, grid)}
    label = run.label if run.label in usable and _holds_landslides(run.label) else None
    found: list[PageLayer] = []
    if run.stack in usable and run.stack is not None:
        found += _of_stack(read_stack_info(run.stack))
    if run.probability in usable and run.probability is not None:
        found += _of_probability(run.probability, usable[run.probability])
        if label is not None:
            codes = ((1, "hit", HITS), (2, "miss", MISSES), (3, "false alarm", FALSE_ALARMS))
            found.append(
                PageLayer(
                    "agreement", "Hits, misses, false alarms", "Result", run.probability, (1,), "agreement",
                    codes=codes, overlay=True, beside=label,
                )
            )  # fmt: skip
    if run.landslide_map in usable and run.landslide_map is not None:
        codes_of_map = ((1, "landslide", LANDSLIDES),)
        found.append(
            PageLayer(
                "map", "Landslide map", "Result", run.landslide_map, (1,), "codes", codes=codes_of_map, overlay=True
            )
        )
    if label is not None:
        known = ((1, "landslide", REFERENCE), (255, "unknown", NOT_KNOWN))
        found.append(PageLayer("reference", "Reference", "Reference", label, (1,), "codes", codes=known, overlay=True))
    if not found:
        raise RasterError(f"{run.root} holds no raster to show. Prepare a site, or map one, into it first.")
    return Shown(grid, tuple(_told_apart(found)), tuple(left_out))


def _holds_landslides(label: Path | None) -> bool:
    if label is None:
        return False
    with open_raster(label) as dataset:
        return any((read_stored_window(dataset, window) == LANDSLIDE).any() for window in tiles(dataset.shape, STRIP))


def _of_stack(stack: StackInfo) -> Iterator[PageLayer]:
    at = {channel.name: position for position, channel in enumerate(stack.channels, start=1)}
    for key, title, names in (
        ("true-colour", "True colour", TRUE_COLOUR),
        ("false-colour", "False colour (near infrared)", FALSE_COLOUR),
    ):
        if set(names) <= at.keys():
            yield PageLayer(key, title, "Image", stack.path, tuple(at[name] for name in names), "image")
    factors: dict[str, list[Channel]] = {}
    for channel in stack.channels:
        factors.setdefault(channel.factor, []).append(channel)
    for factor, channels in factors.items():
        bands = tuple(at[channel.name] for channel in channels)
        title = _words(factor)
        group = "Band" if channels[0].group == "band" else "Factor"
        kinds = {channel.kind: at[channel.name] for channel in channels}
        if {"sine", "cosine"} <= kinds.keys():
            angle = kinds["sine"], kinds["cosine"]
            yield PageLayer(_slug(factor), title, group, stack.path, angle, "angle", "degree", CYCLE, (0.0, 360.0))
        elif "class" in kinds:
            named = tuple(
                (i, _words(channel.name.removeprefix(f"{factor}_")), class_colour(i))
                for i, channel in enumerate(channels)
            )
            yield PageLayer(_slug(factor), title, group, stack.path, bands, "planes", codes=named)
        else:
            for channel in channels:
                ramp = "gray" if group == "Band" else RAMPS.get(factor, RAMP)
                own = title if len(channels) == 1 else _words(channel.name)
                yield PageLayer(
                    _slug(channel.name), own, group, stack.path, (at[channel.name],), "ramp", channel.unit, ramp,
                    even=factor in DIVERGING,
                )  # fmt: skip


def _of_probability(path: Path, info: RasterInfo) -> Iterator[PageLayer]:
    yield PageLayer("probability", "Landslide probability", "Result", path, (1,), "ramp", "", RAMP, (0.0, 1.0))
    for band, name in enumerate(info.names[1:], start=2):
        title = _words(name or f"band {band}")
        if name == "area of applicability":
            inside = ((0, "outside: unlike the training ground", FALSE_ALARMS),)
            yield PageLayer(_slug(title), title, "Uncertainty", path, (band,), "codes", codes=inside, overlay=True)
        else:
            yield PageLayer(_slug(title), title, "Uncertainty", path, (band,), "ramp", "", DOUBT)


def _told_apart(layers: list[PageLayer]) -> Iterator[PageLayer]:
    """Layers with keys of their own: a channel may be called as anything."""
    seen: set[str] = set()
    for layer in layers:
        key, number = layer.key, 2
        while key in seen:
            key, number = f"{layer.key}-{number}", number + 1
        seen.add(key)
        yield layer if key == layer.key else PageLayer(**{**layer.__dict__, "key": key})


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "layer"


def _words(name: str) -> str:
    text = name.replace("_", " ").strip()
    known = {"ndvi": "NDVI", "mndwi": "MNDWI", "dndvi": "dNDVI", "nir": "Near infrared"}
    return known.get(text, text[:1].upper() + text[1:])
