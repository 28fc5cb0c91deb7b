"""What the page asks of a run as a whole: grid and layers, legends, tiles and scores."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from landslip.geo.grid import Grid, crs_name
from landslip.metrics.confusion import BINS, Confusion
from landslip.runtime.run_folder import RunFolder
from landslip.runtime.text import read_json
from landslip.serve.schemas import (
    GridOut,
    Key,
    LayerOut,
    LegendOut,
    Parts,
    RunOut,
    ScoresAt,
    ScoresOut,
    Threshold,
    refused,
)
from landslip.serve.session import Session
from landslip.serve.tiles import TILE_SIDE

PATIENCE = 1.5  # seconds that a request waits for scores before it is told to come again


def add_run(app: FastAPI, session: Session) -> None:
    """Answer what the page is made from: /api/run."""

    @app.get("/api/run", responses=refused(503))
    def about() -> RunOut:
        """What the page is made from: grid, layers, threshold."""
        session.threshold, session.source, session.inventory_threshold = session.thresholds()
        reviewable = session.inventory_file() is not None
        return RunOut(
            name=_name_of(session.run),
            grid=_grid_out(session.shown.grid, session.tiles.levels),
            layers=[
                LayerOut(
                    key=layer.key,
                    title=layer.title,
                    group=layer.group,
                    unit=layer.unit,
                    kind=layer.kind,
                    overlay=layer.overlay,
                    mark=session.tiles.mark(layer),
                )
                for layer in session.shown.layers
            ],
            warnings=list(session.shown.left_out),
            threshold=session.threshold,
            threshold_source=session.source,
            inventory_threshold=session.inventory_threshold if reviewable else None,
            reviewable=reviewable,
            parts=session.parts(),
        )


def add_layers(app: FastAPI, session: Session) -> None:
    """Answer how layers look: /api/layers/.../legend and /api/tiles/..."""
    tiles = session.tiles

    @app.get("/api/layers/{key}/legend", responses=refused(404, 422, 503))
    async def legend(key: Key) -> LegendOut:
        """How to read a layer's colours."""
        layer = session.layer(key)
        return await asyncio.get_running_loop().run_in_executor(session.readers, tiles.legend, layer)

    @app.get(
        "/api/tiles/{key}/{z}/{x}/{y}.png",
        response_class=Response,
        responses={
            200: {"content": {"image/png": {}}, "description": "a tile of 256 x 256 pixels, clear where undefined"},
            304: {"description": "the tile that the browser has is still right"},
            **refused(404, 422, 503),
        },
    )
    async def tile(
        request: Request,
        *,
        key: Key,
        z: Annotated[int, PathParameter(ge=0, le=40)],
        x: Annotated[int, PathParameter(ge=0, le=2**40)],
        y: Annotated[int, PathParameter(ge=0, le=2**40)],
        threshold: Threshold | None = None,
        mark: Annotated[
            str, Query(max_length=200, description="of the layer; with it a browser need not ask again")
        ] = "",
    ) -> Response:
        """A tile of a layer. `threshold` is that of hits, misses and false alarms."""
        layer = session.layer(key)
        if not tiles.exists(z, x, y):
            raise HTTPException(404, "there is no such tile.")
        current_mark = tiles.mark(layer)
        at = (session.threshold or 0.0) if threshold is None else threshold
        tag = f'"{current_mark}-{key}-{z}-{x}-{y}' + (f'-{at:g}"' if layer.kind == "agreement" else '"')
        caching = "private, max-age=86400, immutable" if mark == current_mark else "private, no-cache"
        headers = {"etag": tag, "cache-control": caching}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        loop = asyncio.get_running_loop()
        content = await loop.run_in_executor(session.readers, tiles.tile, layer, z, x, y, at)
        return Response(content, media_type="image/png", headers=headers)


def add_scores(app: FastAPI, session: Session) -> None:
    """Answer how well the map does: /api/scores."""

    @app.get("/api/scores", status_code=200, responses=refused(404, 422, 503))
    async def scores(part: Parts) -> ScoresOut:
        """The scores of a part at every threshold, so that the page need not ask while a slider moves."""
        future = asyncio.wrap_future(session.count(part))
        try:
            counted = await asyncio.wait_for(asyncio.shield(future), PATIENCE)
        except TimeoutError:
            return ScoresOut(counting=True, part=part)
        return ScoresOut(
            counting=False,
            part=counted.part,
            split=counted.split,
            leaky=counted.leaky,
            notes=list(counted.notes),
            thresholds=[_scores_at(counted.counts.confusion(i / BINS)) for i in range(BINS + 1)],
        )


def _scores_at(pixels: Confusion) -> ScoresAt:
    scores = {name: None if math.isnan(score) else score for name, score in pixels.scores().items()}
    return ScoresAt(tp=pixels.tp, fp=pixels.fp, fn=pixels.fn, tn=pixels.tn, **scores)


def _grid_out(grid: Grid, levels: int) -> GridOut:
    left, bottom, right, top = grid.bounds
    return GridOut(
        crs=crs_name(grid.crs),
        left=left,
        bottom=bottom,
        right=right,
        top=top,
        x_size=grid.x_size,
        y_size=grid.y_size,
        width=grid.width,
        height=grid.height,
        levels=levels,
        tile=TILE_SIDE,
    )


def _name_of(run: RunFolder) -> str:
    """The site's name, where a manifest or a site file says it, else that of the folder."""
    if run.manifest is not None:
        try:
            name = read_json(run.manifest).get("site", {}).get("name")
        except (OSError, ValueError, AttributeError):
            name = None
        if isinstance(name, str) and name:
            return name[:200]
    return run.root.resolve().name
