"""What the page asks of landslides: the inventory, outlines in a view, candidates at a threshold, and reviews."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import shapely
from fastapi import FastAPI, Query
from rasterio.crs import CRS
from scipy import ndimage

from landslip.errors import ReviewError
from landslip.geo.geodesy import area_and_perimeter
from landslip.geo.polygonize import trace
from landslip.review import reviews as review
from landslip.review.review_log import DRAWN, OPEN, REJECTED, Review
from landslip.serve.layers import PageLayer
from landslip.serve.schemas import (
    Decision,
    Feature,
    Features,
    GeoJson,
    LandslideOut,
    LandslidesOut,
    Left,
    Outline,
    ReviewOut,
    ReviewsOut,
    Step,
    Threshold,
    refused,
)
from landslip.serve.session import Session
from landslip.serve.tiles import Tiles

MOST_OUTLINES = 3000  # in one view; the largest are shown
VIEW = 768  # most pixels a side of what candidates are traced from
SMALLEST = 4  # pixels of a view that a candidate has at least


def add_landslides(app: FastAPI, session: Session) -> None:
    """Answer what landslides there are: /api/landslides, /api/outlines and /api/candidates."""

    @app.get("/api/landslides", responses=refused(503))
    def landslides() -> LandslidesOut:
        """All rows of the inventory, without outlines and reviews."""
        inventory, _ = session.landslides()
        rows = [
            LandslideOut(
                id=one.id, attributes={k: _plain(v) for k, v in one.attributes.items()}, bounds=one.outline.bounds
            )
            for one in inventory
        ]
        return LandslidesOut(columns=list(inventory[0].attributes) if inventory else [], landslides=rows)

    @app.get("/api/outlines", responses=refused(422, 503))
    def outlines(
        left: Left, bottom: Left, right: Left, top: Left, tolerance: Annotated[float, Query(ge=0, le=1e6)] = 0.0
    ) -> Features:
        """Outlines as they stand in a view, simplified by `tolerance` metres: the inventory's, redrawn and drawn."""
        return _outlines(session, shapely.box(*_ordered(left, bottom, right, top)), tolerance)

    @app.get("/api/candidates", responses=refused(404, 422, 503))
    async def candidates(left: Left, bottom: Left, right: Left, top: Left, threshold: Threshold) -> Features:
        """Outlines of ground at or above a threshold in a view, traced from the raster as coarse as the view is."""
        layer, bounds = session.layer("probability"), _ordered(left, bottom, right, top)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(session.readers, _candidates, session.tiles, layer, bounds, threshold)


def add_reviews(app: FastAPI, session: Session) -> None:
    """Answer what was decided, and keep decisions: /api/reviews, its undo and its redo."""
    crs = session.shown.grid.crs

    @app.get("/api/reviews", responses=refused(422, 503))
    def reviews(since: Annotated[int, Query(ge=0, le=2**53)] = 0) -> ReviewsOut:
        """What stands of every landslide that was decided on, or only what changed after version `since`."""
        path = session.inventory_file()
        if path is None:
            return ReviewsOut(version=0, reviews=[])
        changed = list(review.read_reviews(path, since).values())
        version = max([since, *(one.version for one in changed)])
        return ReviewsOut(version=version, reviews=_reviews(changed, crs))

    deciding = refused(400, 404, 409, 422, 503)

    @app.post("/api/reviews", responses=deciding)
    def decide(decision: Decision) -> ReviewOut:
        """Keep a decision. It is on disk when this is answered; 409 where another window decided first."""
        outline = None if decision.outline is None else _outline_on_site(decision.outline, session)
        draws = decision.state == DRAWN and decision.landslide is None and outline is not None
        decided = review.decide(
            session.drawn_into() if draws else session.reviewed(),
            decision.landslide,
            decision.state,
            version=decision.version,
            outline=outline,
            note=decision.note,
        )
        return _reviews([decided], crs)[0]

    @app.post("/api/reviews/undo", responses=deciding)
    def undo(step: Step) -> ReviewOut:
        """Take a decision back; 409 where it stands no more."""
        return _reviews([review.undo(session.reviewed(), step.decision)], crs)[0]

    @app.post("/api/reviews/redo", responses=deciding)
    def redo(step: Step) -> ReviewOut:
        """Make a decision again that was undone; 409 where something else was decided meanwhile."""
        return _reviews([review.redo(session.reviewed(), step.decision)], crs)[0]


def _outlines(session: Session, view: shapely.Polygon, tolerance: float) -> Features:
    """The largest outlines that a view shows: the inventory's own, and those that reviews put in their place."""
    inventory, tree = session.landslides()
    reviews = session.reviews()
    in_view = [] if tree is None else [inventory[i] for i in tree.query(view)]
    outlines = [(one.id, one.outline) for one in in_view if _has_own_outline(reviews.get(one.id))]
    outlines += [
        (i, one.outline)
        for i, one in reviews.items()
        if not _has_own_outline(one) and one.outline is not None and one.outline.intersects(view)
    ]
    outlines.sort(key=lambda one: -one[1].area)
    states = {i: one.state for i, one in reviews.items()}
    return Features(
        left_out=max(0, len(outlines) - MOST_OUTLINES),
        features=[
            Feature(id=i, state=states.get(i, OPEN), geometry=_geojson(outline, tolerance))
            for i, outline in outlines[:MOST_OUTLINES]
        ],
    )


def _candidates(
    tiles: Tiles, layer: PageLayer, bounds: tuple[float, float, float, float], threshold: float
) -> Features:
    """The largest patches of ground at or above a threshold in a view, as outlines."""
    view = tiles.view(layer, bounds, VIEW)
    if view is None:
        return Features(left_out=0, features=[])
    values, grid = view
    patches, count = ndimage.label(values >= np.float32(threshold), np.ones((3, 3), bool), output=np.int32)
    pixels = np.bincount(patches.ravel(), minlength=count + 1)[1:]
    # Specks of the raster's own pixels are left out, as in an inventory; a coarse pixel may be a whole landslide.
    least = SMALLEST if grid.x_size <= tiles.grid.x_size * 1.5 else 1
    order = np.argsort(-pixels, kind="stable")
    order = order[pixels[order] >= least]
    numbers = np.zeros(count + 1, np.int32)
    numbers[order[:MOST_OUTLINES] + 1] = order[:MOST_OUTLINES] + 1
    frame = trace(numbers[patches], grid)
    return Features(
        left_out=max(0, len(order) - MOST_OUTLINES),
        features=[Feature(id=0, state="candidate", geometry=_geojson(one, 0.0)) for one in frame.geometry],
    )


def _has_own_outline(one: Review | None) -> bool:
    """Whether a landslide is shown with the inventory's outline, and not with one that was drawn."""
    return one is None or (one.landslide > 0 and one.state in (OPEN, REJECTED))


def _reviews(reviews: Sequence[Review], crs: CRS) -> list[ReviewOut]:
    """Reviews as they are sent; areas, of outlines that are shown, are true ones, as an inventory's are."""
    with_outline = [one for one in reviews if one.outline is not None and not _has_own_outline(one)]
    areas, _ = area_and_perimeter(np.array([one.outline for one in with_outline], object), crs)
    by_id = {one.landslide: float(area) for one, area in zip(with_outline, areas, strict=True)}
    return [_review(one, by_id.get(one.landslide)) for one in reviews]


def _review(one: Review, area: float | None) -> ReviewOut:
    return ReviewOut(
        landslide=one.landslide,
        state=one.state,
        note=one.note,
        decided=one.decided,
        version=one.version,
        decision=one.decision,
        area_m2=area,
        bounds=None if one.outline is None else one.outline.bounds,
    )


def _outline_on_site(sent: Outline, session: Session) -> shapely.Geometry:
    """The outline that was sent; ReviewError where it is none, or lies off the site."""
    outline = _polygon(sent)
    review.require_outline(outline)
    if not outline.intersects(shapely.box(*session.shown.grid.bounds)):
        raise ReviewError("the outline lies off the site. Draw it on the map.")
    return outline


def _polygon(outline: Outline) -> shapely.Geometry:
    for ring in outline.coordinates:
        if not all(math.isfinite(part) and abs(part) < 1e9 for point in ring for part in point):
            raise ReviewError("the outline has a coordinate that is no place on the map. Draw it again.")
        if ring[0] != ring[-1]:
            raise ReviewError("the outline is not closed: its first corner must be its last too.")
    shell, *holes = outline.coordinates
    return shapely.Polygon(shell, holes)


def _ordered(left: float, bottom: float, right: float, top: float) -> tuple[float, float, float, float]:
    """The bounds of a view; ReviewError where its sides are exchanged."""
    if left >= right or bottom >= top:
        raise ReviewError("a view needs left below right and bottom below top.")
    return left, bottom, right, top


def _geojson(geometry: shapely.Geometry, tolerance: float) -> GeoJson:
    if tolerance > 0:
        geometry = shapely.simplify(geometry, tolerance)
    return GeoJson.model_validate_json(shapely.to_geojson(geometry))


def _plain(value: review.Attribute) -> str | int | float | None:
    """An attribute as JSON has it: no bytes, no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.hex() if isinstance(value, bytes) else value
