"""The channels of a stack: what each plane is, which make which factor, and which of them a run chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from landslip.config.run import ChannelChoice
from landslip.errors import ChannelError
from landslip.factors.table import FACTORS
from landslip.geo.grid import Grid
from landslip.geo.raster import read_band_tags, read_info

Kind = Literal["continuous", "sine", "cosine", "class"]
Group = Literal["band", "factor"]
KINDS, GROUPS = get_args(Kind), get_args(Group)
DISPLAY = "display"  # unit of 8-bit values that were made to be looked at, stretched in a way that is not known
UNSTATED = "-"  # unit of values of which no file says what they are


@dataclass(frozen=True)
class Channel:
    """One plane the network sees.

    `factor` is the band or influencing factor that it belongs to (aspect_sin and aspect_cos make aspect); `group` is
    "band" or "factor"; sine, cosine and class planes are not z-scored.
    """

    name: str
    factor: str
    group: Group
    unit: str = ""
    kind: Kind = "continuous"

    def __post_init__(self) -> None:
        texts = (self.name, self.factor, self.unit)
        if not all(isinstance(text, str) for text in texts) or self.group not in GROUPS or self.kind not in KINDS:
            raise ChannelError(
                f"channel {self.name!r} (factor {self.factor!r}, group {self.group!r}, kind {self.kind!r}) is none "
                f"that landslip knows: groups are {', '.join(GROUPS)}, kinds {', '.join(KINDS)}."
            )

    @property
    def standardised(self) -> bool:
        """Whether the channel is z-scored."""
        return self.kind == "continuous"

    @property
    def decides_valid(self) -> bool:
        """Whether a pixel without this channel is undefined: all but aspect in degrees, which flat ground has not."""
        return self.factor != "aspect" or self.kind != "continuous"

    def tags(self) -> dict[str, str]:
        """The channel as tags of a raster's band."""
        return {f"landslip_{key}": str(value) for key, value in asdict(self).items() if key != "name"}


def factor_channel(name: str) -> Channel:
    """The channel of a factor that has one alone."""
    return Channel(name, name, "factor", FACTORS[name].unit)


@dataclass(frozen=True)
class StackInfo:
    """A stack raster's header: its grid and channels."""

    path: Path
    grid: Grid
    channels: tuple[Channel, ...]

    @property
    def valid_path(self) -> Path:
        """Where `prepare` puts the valid raster that belongs to the stack."""
        return self.path.with_name("valid.tif")


def read_stack_info(path: Path) -> StackInfo:
    """Read a stack's header; ChannelError where its bands carry no names."""
    info = read_info(path)
    unnamed = [str(i + 1) for i, name in enumerate(info.names) if not name]
    if unnamed:
        raise ChannelError(
            f"{path} is not a stack: band {', '.join(unnamed)} has no description. Make one with `landslip prepare`, "
            "or set the band descriptions to the channel names."
        )
    twice = sorted({str(name) for name in info.names if info.names.count(name) > 1})
    if twice:
        raise ChannelError(f"{path} has two channels called {', '.join(twice)}. Rename one band's description.")
    return StackInfo(path, info.grid, channels_of(path, info.names))


def channels_of(path: Path, names: Sequence[str | None]) -> tuple[Channel, ...]:
    """The channels of a raster with bands of these names, as their tags say; by name alone where they say nothing."""
    channels = []
    for name, tags in zip(names, read_band_tags(path), strict=True):
        described = {k.removeprefix("landslip_"): v for k, v in tags.items() if k.startswith("landslip_")}
        if described and not described.keys() >= {"factor", "group"}:
            raise ChannelError(f"{path}: band {name} does not say of which factor it is. Prepare the site again.")
        channels.append(_channel(str(name), described))
    return tuple(channels)


def choose_channels(channels: Sequence[Channel], choice: ChannelChoice, origin: Path) -> list[int]:
    """Positions of the chosen channels in a stack, in the stack's order.

    A choice names bands and factors (all channels of a factor go together). Raises ChannelError for an unknown name.
    """
    chosen: set[str] = set()
    groups: tuple[tuple[Group, Any], ...] = (("band", choice.bands), ("factor", choice.factors))
    for group, names in groups:
        present = list(dict.fromkeys(c.factor for c in channels if c.group == group))
        if names == "all":
            chosen |= set(present)
        elif names != "none":
            absent = [name for name in names if name not in present]
            if absent:
                raise ChannelError(
                    f"{origin} has no {group} {', '.join(absent)}; its {group}s are {', '.join(present) or 'none'}."
                )
            chosen |= set(names)
    positions = [i for i, channel in enumerate(channels) if channel.factor in chosen]
    if not positions:
        raise ChannelError(f"[channels] chooses none of the channels of {origin}. Name bands, factors or both.")
    return positions


def _channel(name: str, tags: dict[str, str]) -> Channel:
    """A channel of this name as the tags of its band, without their prefix, describe it."""
    if not tags:  # a stack made elsewhere, whose bands have names alone
        return Channel(name=name, factor=name, group="band")
    return Channel(
        name=name,
        factor=tags["factor"],
        group=cast(Group, tags["group"]),  # Channel refuses what is none.
        unit=tags.get("unit", ""),
        kind=cast(Kind, tags.get("kind", "continuous")),
    )
