"""What a run can show on a map: its layers, each with the bands it is made of and how they become colours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from landslip.dataset.channels import Channel, StackInfo, read_stack_info
from landslip.dataset.label import LANDSLIDE, UNKNOWN
from landslip.errors import RasterError
from landslip.factors.table import title_of
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


@dataclass(frozen=True, kw_only=True)
class PageLayer:
    """One layer: `bands` of the raster at `path` (three for a colour image, one or more otherwise).

    `ramp` names the colours of a continuous layer. `fixed` is its range where it is not stretched to percentiles;
    `even` stretches it as far below 0 as above. `codes` are (stored value, word, colour) of classes. `overlay` layers
    leave most pixels clear. `beside` is a second raster: the label, of the layer of hits and misses.
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
    beside: Path | None = None


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
    layers: list[PageLayer] = []
    if run.stack in usable and run.stack is not None:
        layers += _of_stack(read_stack_info(run.stack))
    if run.probability in usable and run.probability is not None:
        layers += _of_probability(run.probability, usable[run.probability])
        if label is not None:
            layers.append(_agreement(run.probability, label))
    if run.landslide_map in usable and run.landslide_map is not None:
        layers.append(_classes("map", "Landslide map", run.landslide_map, {1: ("landslide", LANDSLIDES)}))
    if label is not None:
        classes = {LANDSLIDE: ("landslide", REFERENCE), UNKNOWN: ("unknown", NOT_KNOWN)}
        layers.append(_classes("reference", "Reference", label, classes, group="Reference"))
    if not layers:
        raise RasterError(f"{run.root} holds no raster to show. Prepare a site, or map one, into it first.")
    return Shown(grid, tuple(_with_own_keys(layers)), tuple(left_out))


def _holds_landslides(label: Path | None) -> bool:
    if label is None:
        return False
    with open_raster(label) as dataset:
        return any((read_stored_window(dataset, window) == LANDSLIDE).any() for window in tiles(dataset.shape, STRIP))


def _of_stack(stack: StackInfo) -> Iterator[PageLayer]:
    """The image in true and false colour where it has the bands, then every band and factor."""
    positions = {channel.name: position for position, channel in enumerate(stack.channels, start=1)}
    for key, title, names in (
        ("true-colour", "True colour", TRUE_COLOUR),
        ("false-colour", "False colour (near infrared)", FALSE_COLOUR),
    ):
        if set(names) <= positions.keys():
            bands = tuple(positions[name] for name in names)
            yield PageLayer(key=key, title=title, group="Image", path=stack.path, bands=bands, kind="image")
    factors: dict[str, list[tuple[int, Channel]]] = {}
    for position, channel in enumerate(stack.channels, start=1):
        factors.setdefault(channel.factor, []).append((position, channel))
    for factor, channels in factors.items():
        yield from _of_factor(stack.path, factor, channels)


def _of_factor(path: Path, factor: str, channels: list[tuple[int, Channel]]) -> Iterator[PageLayer]:
    """A band or factor from its channels: aspect as an angle, classes as one layer, all else a layer per channel."""
    title = _words(factor)
    group = "Band" if channels[0][1].group == "band" else "Factor"
    kinds = {channel.kind: band for band, channel in channels}
    if {"sine", "cosine"} <= kinds.keys():
        yield PageLayer(
            key=_slug(factor),
            title=title,
            group=group,
            path=path,
            bands=(kinds["sine"], kinds["cosine"]),
            kind="angle",
            unit="degree",
            ramp=CYCLE,
            fixed=(0.0, 360.0),
        )
    elif "class" in kinds:
        names = [_words(channel.name.removeprefix(f"{factor}_")) for _, channel in channels]
        yield PageLayer(
            key=_slug(factor),
            title=title,
            group=group,
            path=path,
            bands=tuple(band for band, _ in channels),
            kind="planes",
            codes=tuple((i, name, class_colour(i)) for i, name in enumerate(names)),
        )
    else:
        for band, channel in channels:
            yield PageLayer(
                key=_slug(channel.name),
                title=title if len(channels) == 1 else _words(channel.name),
                group=group,
                path=path,
                bands=(band,),
                kind="ramp",
                unit=channel.unit,
                ramp="gray" if group == "Band" else RAMPS.get(factor, RAMP),
                even=factor in DIVERGING,
            )


def _of_probability(path: Path, info: RasterInfo) -> Iterator[PageLayer]:
    """The probability and, where the map has them, its bands of uncertainty."""
    yield PageLayer(
        key="probability",
        title="Landslide probability",
        group="Result",
        path=path,
        bands=(1,),
        kind="ramp",
        fixed=(0.0, 1.0),
    )
    for band, name in enumerate(info.names[1:], start=2):
        title = _words(name or f"band {band}")
        if name == "area of applicability":
            outside = {0: ("outside: unlike the training ground", FALSE_ALARMS)}
            yield _classes(_slug(title), title, path, outside, group="Uncertainty", band=band)
        else:
            yield PageLayer(
                key=_slug(title), title=title, group="Uncertainty", path=path, bands=(band,), kind="ramp", ramp=DOUBT
            )


def _agreement(probability: Path, label: Path) -> PageLayer:
    return PageLayer(
        key="agreement",
        title="Hits, misses, false alarms",
        group="Result",
        path=probability,
        bands=(1,),
        kind="agreement",
        codes=((1, "hit", HITS), (2, "miss", MISSES), (3, "false alarm", FALSE_ALARMS)),
        overlay=True,
        beside=label,
    )


def _classes(
    key: str,
    title: str,
    path: Path,
    classes: Mapping[int, tuple[str, str]],
    *,
    group: str = "Result",
    band: int = 1,
) -> PageLayer:
    """An overlay of classes: word and colour by stored value."""
    codes = tuple((code, word, colour) for code, (word, colour) in classes.items())
    return PageLayer(
        key=key, title=title, group=group, path=path, bands=(band,), kind="codes", codes=codes, overlay=True
    )


def _with_own_keys(layers: list[PageLayer]) -> Iterator[PageLayer]:
    """The layers, each with a key that no other has: a channel may be called as anything."""
    keys: set[str] = set()
    for layer in layers:
        key, number = layer.key, 2
        while key in keys:
            key, number = f"{layer.key}-{number}", number + 1
        keys.add(key)
        yield replace(layer, key=key)


def _slug(name: str) -> str:
    """A name as a key, which stands in addresses."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "layer"


def _words(name: str) -> str:
    """A channel's or a factor's name as words."""
    text = "near infrared" if name == "nir" else title_of(name).strip()
    return text if text in ("NDVI", "MNDWI", "dNDVI") else text[:1].upper() + text[1:]
