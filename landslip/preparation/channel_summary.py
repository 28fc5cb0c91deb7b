"""The range and mean of each channel, and what a prepared site is in short."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from landslip.dataset.channels import Channel, Group, Kind
from landslip.geo.grid import Grid
from landslip.preparation.source import Encoding
from landslip.runtime.text import csv_table, screen_table, write_json, write_text


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


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared site: its folder, its grid, a summary per channel and the landslides that burnt to no pixel."""

    folder: Path
    grid: Grid
    summaries: list[ChannelSummary]
    valid_pixels: int
    landslide_pixels: int
    unburnt: list[Any]


@dataclass(kw_only=True)
class Totals:
    """Figures of the whole site, added up window by window.

    `parts` holds for each channel arrays (tiles, 5) of a row per stored tile: pixels, minimum, maximum and sum over
    valid pixels, and undefined pixels inside the outline. Tiles are the same whatever the windows, and so are the sums.
    `unburnt` are the ids of landslides that burn to no pixel.
    """

    parts: list[list[NDArray[np.float64]]]
    inside: int = 0
    valid: int = 0
    landslide_inside: int = 0  # landslide pixels inside the outline
    landslide: int = 0  # landslide pixels that are valid
    unburnt: list[Any] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)  # number of landslides by what a review made of them

    def summaries(self, channels: list[Channel]) -> list[ChannelSummary]:
        """A row of Table II for each channel."""
        rows = []
        for channel, parts in zip(channels, self.parts, strict=True):
            pixels, minimum, maximum, total, undefined = np.concatenate(parts).T
            mean = math.fsum(total) / pixels.sum() if pixels.any() else math.nan
            low, high = (minimum.min(), maximum.max()) if pixels.any() else (math.nan, math.nan)
            share = undefined.sum() / self.inside
            rows.append(ChannelSummary(channel, float(low), float(high), float(mean), float(share)))
        return rows


def write_summaries(folder: Path, summaries: list[ChannelSummary], encoding: Encoding) -> None:
    """Write channels.json and table.csv into a folder."""
    write_json(folder / "channels.json", _channels_file(summaries, encoding))
    write_text(folder / "table.csv", table_csv(summaries))


def table_csv(summaries: Iterable[ChannelSummary]) -> str:
    """The paper's Table II as CSV: one row a channel, its range and mean over the valid pixels in its unit."""
    columns = ("channel", "factor", "group", "unit", "minimum", "maximum", "mean", "undefined_share")
    rows = []
    for s in summaries:
        figures = ("" if np.isnan(f) else f"{f:.7g}" for f in (s.minimum, s.maximum, s.mean, s.undefined))
        cells = (s.channel.name, s.channel.factor, s.channel.group, s.channel.unit, *figures)
        rows.append(dict(zip(columns, cells, strict=True)))
    return csv_table(columns, rows)


def channel_table(prepared: Prepared) -> str:
    """The paper's Table II for a prepared site: unit, range, mean and undefined share of each channel."""
    rows = []
    for s in prepared.summaries:
        figures = (f"{s.minimum:.4g}", f"{s.maximum:.4g}", f"{s.mean:.4g}", f"{100 * s.undefined:.2f}")
        rows.append((s.channel.name, s.channel.unit or "-", *figures))
    return screen_table(["channel", "unit", "minimum", "maximum", "mean", "undefined %"], rows, text_columns=2)


class ChannelFacts(TypedDict):
    """A channel as channels.json holds it."""

    name: str
    factor: str
    group: Group
    unit: str
    kind: Kind
    standardised: bool
    range: tuple[float, float]
    mean: float
    undefined_share: float


class ChannelsFile(TypedDict):
    """What channels.json holds: a row per channel, and which channels make which band or factor."""

    encoding: Encoding
    channels: list[ChannelFacts]
    factors: dict[str, list[str]]


def _channels_file(summaries: list[ChannelSummary], encoding: Encoding) -> ChannelsFile:
    """What channels.json is to hold."""
    factors: dict[str, list[str]] = {}
    for summary in summaries:
        factors.setdefault(summary.channel.factor, []).append(summary.channel.name)
    rows = [
        ChannelFacts(
            name=summary.channel.name,
            factor=summary.channel.factor,
            group=summary.channel.group,
            unit=summary.channel.unit,
            kind=summary.channel.kind,
            standardised=summary.channel.standardised,
            range=(summary.minimum, summary.maximum),
            mean=summary.mean,
            undefined_share=summary.undefined,
        )
        for summary in summaries
    ]
    return {"encoding": encoding, "channels": rows, "factors": factors}
