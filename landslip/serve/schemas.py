"""What the page asks and is answered, as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path as PathParameter
from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from landslip.review import reviews as review

Parts = Literal["train", "validation", "test", "all"]
Error = Annotated[str, Field(description="what is wrong and what to do about it")]


class Refusal(BaseModel):
    """Why a request was refused."""

    error: Error


class Outline(BaseModel):
    """An area as GeoJSON has it, in the CRS of the run's grid."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["Polygon"]
    coordinates: Annotated[
        list[Annotated[list[tuple[float, float]], Field(min_length=4, max_length=review.MOST_VERTICES)]],
        Field(min_length=1, max_length=100),
    ]


Version = Annotated[int, Field(ge=0, le=2**53)]
Id = Annotated[int, Field(ge=-(2**53), le=2**53)]


class Decision(BaseModel):
    """A decision on a landslide. `version` is the one it was made on; `landslide` is null for one that is drawn."""

    model_config = ConfigDict(extra="forbid")
    landslide: Id | None
    state: Literal["accepted", "rejected", "redrawn", "drawn"]
    version: Version = 0
    outline: Outline | None = None
    note: Annotated[str, Field(max_length=review.MOST_NOTE)] = ""


class Step(BaseModel):
    """A decision to take back, or to make again, by its version."""

    model_config = ConfigDict(extra="forbid")
    decision: Annotated[int, Field(ge=1, le=2**53)]


class ReviewOut(BaseModel):
    """What stands of a landslide; `decision` 0 where nothing does."""

    landslide: int
    state: str
    note: str
    decided: str
    version: int
    decision: int
    area_m2: float | None
    bounds: tuple[float, float, float, float] | None


class ReviewsOut(BaseModel):
    """Reviews, and the version of the last change of any."""

    version: int
    reviews: list[ReviewOut]


class GeoJson(BaseModel):
    """A geometry as GeoJSON has it, in the CRS of the run's grid."""

    type: str
    coordinates: list[Any]


class Feature(BaseModel):
    """An outline on the map; `id` 0 for a candidate that is in no inventory."""

    id: int
    state: str
    geometry: GeoJson


class Features(BaseModel):
    """Outlines in a view; `left_out` says how many more there are."""

    left_out: int
    features: list[Feature]


class LayerOut(BaseModel):
    """A layer by its key. `mark` changes when its file does."""

    key: str
    title: str
    group: str
    unit: str
    kind: str
    overlay: bool
    mark: str


class GridOut(BaseModel):
    """The run's grid; at zoom `levels` a pixel of a tile is a pixel of the raster."""

    crs: str
    left: float
    bottom: float
    right: float
    top: float
    x_size: float
    y_size: float
    width: int
    height: int
    levels: int
    tile: int


class RunOut(BaseModel):
    """What the page is made from."""

    name: str
    grid: GridOut
    layers: list[LayerOut]
    warnings: list[str]
    threshold: float | None
    threshold_source: str | None
    inventory_threshold: float | None
    reviewable: bool
    parts: list[str]


class LegendOut(BaseModel):
    """How to read a layer's colours."""

    range: list[float] | None = None
    colours: list[str] | None = None
    classes: list[dict[str, str]] | None = None
    stretch: list[list[float]] | None = None


class LandslideOut(BaseModel):
    """A row of the inventory: all its attributes, and its bounds."""

    id: int
    attributes: dict[str, str | int | float | None]
    bounds: tuple[float, float, float, float]


class LandslidesOut(BaseModel):
    """The inventory without its outlines."""

    columns: list[str]
    landslides: list[LandslideOut]


class ScoresAt(BaseModel):
    """Pixels of a part by class at a threshold, and the six scores; null where one is undefined."""

    tp: int
    fp: int
    fn: int
    tn: int
    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    kappa: float | None
    miou: float | None


class ScoresOut(BaseModel):
    """The scores of a part at evenly spaced thresholds, from 0 to 1."""

    counting: bool
    part: str
    split: str | None = None
    leaky: bool | None = None
    notes: list[str] = []
    thresholds: list[ScoresAt] = []


Left = Annotated[float, Query(allow_inf_nan=False, ge=-1e9, le=1e9)]
Key = Annotated[str, PathParameter(pattern="^[a-z0-9-]{1,80}$")]
Threshold = Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)]
REFUSED = {
    400: "what was sent cannot be read",
    403: "another site, or another host, asked",
    404: "there is no such thing in the run",
    409: "another window decided first",
    413: "too much was sent",
    422: "what was asked cannot be",
    503: "a file of the run cannot be used now",
}


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the description of the API says of refusals."""
    return {status: {"model": Refusal, "description": REFUSED[status]} for status in statuses}
