"""The influencing factors that landslip derives itself, one row each: what the rest of the program knows of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What a factor is called, what it is derived from, and how it is drawn.

    `unit` is that of its channel, "" where it has none. `bands` are the roles that an index takes. `ramp` is
    matplotlib's name of the colours of its values, "" for the usual ones; with `diverging` they run evenly about 0.
    """

    title: str
    source: Literal["dem", "bands", "lines", "classes"]
    unit: str = ""
    bands: tuple[str, ...] = ()
    ramp: str = ""
    diverging: bool = False


FACTORS = {
    "elevation": Factor(title="elevation", source="dem", unit="m", ramp="cividis"),
    "slope": Factor(title="slope", source="dem", unit="degree", ramp="magma"),
    "aspect": Factor(title="aspect", source="dem"),
    "curvature": Factor(title="curvature", source="dem", unit="1/100 m", ramp="BrBG", diverging=True),
    "plan_curvature": Factor(title="plan curvature", source="dem", unit="1/m", ramp="BrBG", diverging=True),
    "profile_curvature": Factor(title="profile curvature", source="dem", unit="1/m", ramp="BrBG", diverging=True),
    "ndvi": Factor(title="NDVI", source="bands", bands=("red", "nir"), ramp="YlGn"),
    "mndwi": Factor(title="MNDWI", source="bands", bands=("green", "swir1"), ramp="YlGnBu"),
    "dndvi": Factor(title="dNDVI", source="bands", bands=("red", "nir"), ramp="BrBG", diverging=True),
    "distance_to_river": Factor(title="distance to river", source="lines", unit="m"),
    "distance_to_fault": Factor(title="distance to fault", source="lines", unit="m"),
    "lithology": Factor(title="lithology", source="classes"),
}


def title_of(name: str) -> str:
    """A factor's title; of any other name its words."""
    return FACTORS[name].title if name in FACTORS else name.replace("_", " ")
