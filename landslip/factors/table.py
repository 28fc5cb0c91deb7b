"""The influencing factors that landslip derives itself, one row each: what the rest of the program knows of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What a factor is called, what it is derived from, and how it is drawn.

    `unit` is that of its channel, "" where it has none. `bands` are the roles that an index takes. `ramp` is
    matplotlib's name of the colours of its values, "" for the usual ones; with `diverging` they run evenly about 0.
    `names_place` is True where a value tells the place it is from, as an elevation does: augmentation may move it.
    """

    title: str
    source: Literal["dem", "bands", "lines", "classes"]
    unit: str = ""
    bands: tuple[str, ...] = ()
    ramp: str = ""
    diverging: bool = False
    names_place: bool = False


SCALES = (5, 15, 31)  # sides of the windows that relief is taken in, pixels of the DEM


def _within(side: int) -> dict[str, Factor]:
    """The factors that are taken within a window of `side` pixels."""
    window = f"{side} x {side} pixels"
    return {
        f"position_{side}": Factor(
            title=f"topographic position, {window}", source="dem", unit="m", ramp="BrBG", diverging=True
        ),
        f"relief_{side}": Factor(title=f"relief, {window}", source="dem", unit="m", ramp="cividis"),
        f"roughness_{side}": Factor(title=f"roughness, {window}", source="dem", unit="degree", ramp="magma"),
        f"aspect_sin_range_{side}": Factor(title=f"range of aspect's sine, {window}", source="dem"),
        f"aspect_cos_range_{side}": Factor(title=f"range of aspect's cosine, {window}", source="dem"),
    }


FACTORS = {
    "elevation": Factor(title="elevation", source="dem", unit="m", ramp="cividis", names_place=True),
    "slope": Factor(title="slope", source="dem", unit="degree", ramp="magma"),
    "aspect": Factor(title="aspect", source="dem"),
    "curvature": Factor(title="curvature", source="dem", unit="1/100 m", ramp="BrBG", diverging=True),
    "plan_curvature": Factor(title="plan curvature", source="dem", unit="1/m", ramp="BrBG", diverging=True),
    "profile_curvature": Factor(title="profile curvature", source="dem", unit="1/m", ramp="BrBG", diverging=True),
    "relative_elevation": Factor(title="relative elevation", source="dem", unit="m", ramp="BrBG", diverging=True),
    **{name: factor for side in SCALES for name, factor in _within(side).items()},
    "ndvi": Factor(title="NDVI", source="bands", bands=("red", "nir"), ramp="YlGn"),
    "mndwi": Factor(title="MNDWI", source="bands", bands=("green", "swir1"), ramp="YlGnBu"),
    "dndvi": Factor(title="dNDVI", source="bands", bands=("red", "nir"), ramp="BrBG", diverging=True),
    "distance_to_river": Factor(title="distance to river", source="lines", unit="m", names_place=True),
    "distance_to_fault": Factor(title="distance to fault", source="lines", unit="m", names_place=True),
    "lithology": Factor(title="lithology", source="classes"),
}


def title_of(name: str) -> str:
    """A factor's title; of any other name its words."""
    return FACTORS[name].title if name in FACTORS else name.replace("_", " ")
