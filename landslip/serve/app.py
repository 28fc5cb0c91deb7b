"""The server of `landslip serve`: a page, the layers of a run as tiles, its landslides and the reviews of them.

No request names a file: layers go by key, landslides by id. Bad input is answered 4xx with one sentence, never with a
traceback. `landslip.review.reviews` alone writes; every decision is on disk before it is answered.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import shapely
from fastapi import FastAPI, Query, Request
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from rasterio.crs import CRS
from scipy import ndimage
from starlette.exceptions import HTTPException

from landslip.errors import ConflictError, LandslipError, OutputError, ReviewError, SplitError
from landslip.geo.geodesy import area_and_perimeter
from landslip.geo.grid import crs_name
from landslip.geo.polygonize import trace
from landslip.plots.palette import style_sheet
from landslip.review import reviews as review
from landslip.review.review_log import DRAWN, OPEN, REJECTED, Review
from landslip.runtime.progress import say
from landslip.runtime.run_folder import RunFolder, open_run
from landslip.runtime.text import read_json
from landslip.serve.guard import Guard, names_of
from landslip.serve.layers import PageLayer
from landslip.serve.schemas import (
    REFUSED,
    Decision,
    Feature,
    Features,
    GridOut,
    Key,
    LandslideOut,
    LandslidesOut,
    LayerOut,
    Left,
    LegendOut,
    Outline,
    Parts,
    ReviewOut,
    ReviewsOut,
    RunOut,
    ScoresOut,
    Step,
    Threshold,
)
from landslip.serve.session import Session
from landslip.serve.tiles import SIDE, Tiles

MOST_OUTLINES = 3000  # in one view; the largest are shown
VIEW = 768  # most pixels a side of what candidates are traced from
SMALLEST = 4  # pixels of a view that a candidate has at least
PATIENCE = 1.5  # seconds that a request waits for scores before it is told to come again
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def create_app(session: Session, names: frozenset[str]) -> FastAPI:
    """The application: pages, tiles, landslides, reviews. `names` are the hosts it answers to."""

    @asynccontextmanager
    async def alive(_: FastAPI) -> AsyncIterator[None]:
        yield
        session.close()

    app = FastAPI(
        title="landslip serve",
        description="Layers, landslides and reviews of one run, for the page that comes with it.",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=alive,
        responses={status: REFUSED[status] for status in (403, 413)},
    )
    app.add_middleware(Guard, names=names)
    _add_pages(app)
    _add_reading(app, session)
    _add_reviews(app, session)

    @app.exception_handler(LandslipError)
    async def refuse(_: Request, error: LandslipError) -> JSONResponse:
        status = 409 if isinstance(error, ConflictError) else 422 if isinstance(error, ReviewError) else 503
        return JSONResponse({"error": str(error)}, 422 if isinstance(error, SplitError) else status)

    @app.exception_handler(HTTPException)
    async def answer(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def explain(_: Request, error: RequestValidationError) -> JSONResponse:
        # Not what was sent: it may be anything, NaN too, which JSON cannot say.
        faults = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:5]]
        return JSONResponse({"error": "; ".join(faults)}, 422)

    @app.exception_handler(Exception)
    async def apologise(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"a bug of landslip: {type(error).__name__}. Please report it."}, 500)

    return app


def _add_pages(app: FastAPI) -> None:
    """The page and Leaflet, from the installed packages into memory."""
    from xstatic.pkg import leaflet

    held: dict[str, tuple[bytes, str]] = {}
    for path, (name, kind) in FILES.items():
        held[path] = (files("landslip.serve") / name).read_bytes(), kind
    held["/page.css"] = style_sheet().encode() + held["/page.css"][0], held["/page.css"][1]
    for name, kind in (("leaflet.js", "text/javascript; charset=utf-8"), ("leaflet.css", "text/css; charset=utf-8")):
        held[f"/{name}"] = (Path(leaflet.BASE_DIR) / name).read_bytes(), kind

    def serving(path: str) -> Callable[[], Response]:
        def page() -> Response:
            content, kind = held[path]
            return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

        return page

    for path in held:
        app.add_api_route(path, serving(path), include_in_schema=False)


def _add_reading(app: FastAPI, session: Session) -> None:
    tiles, grid = session.tiles, session.shown.grid

    @app.get("/api/run", responses={503: REFUSED[503]})
    def about() -> RunOut:
        """What the page is made from: grid, layers, threshold."""
        left, bottom, right, top = grid.bounds
        session.threshold, session.source, session.inventory_threshold = session.thresholds()
        return RunOut(
            name=_name_of(session.run),
            grid=GridOut(
                crs=crs_name(grid.crs), left=left, bottom=bottom, right=right, top=top, x_size=grid.x_size,
                y_size=grid.y_size, width=grid.width, height=grid.height, levels=tiles.levels, tile=SIDE,
            ),
            layers=[
                LayerOut(
                    key=one.key, title=one.title, group=one.group, unit=one.unit, kind=one.kind, overlay=one.overlay,
                    mark=tiles.mark(one),
                )
                for one in session.shown.layers
            ],
            warnings=list(session.shown.left_out),
            threshold=session.threshold,
            threshold_source=session.source,
            inventory_threshold=session.inventory_threshold if session.inventory_file() is not None else None,
            reviewable=session.inventory_file() is not None,
            parts=session.parts(),
        )  # fmt: skip

    @app.get("/api/layers/{key}/legend", responses={s: REFUSED[s] for s in (404, 422, 503)})
    async def legend(key: Key) -> LegendOut:
        """How to read a layer's colours."""
        layer = session.layer(key)
        found = await asyncio.get_running_loop().run_in_executor(session.readers, tiles.legend, layer)
        return LegendOut(**found)

    @app.get(
        "/api/tiles/{key}/{z}/{x}/{y}.png",
        response_class=Response,
        responses={
            200: {"content": {"image/png": {}}, "description": "a tile of 256 x 256 pixels, clear where undefined"},
            304: {"description": "the tile that the browser has is still right"},
            **{s: REFUSED[s] for s in (404, 422, 503)},
        },
    )
    async def tile(
        request: Request,
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
        current = tiles.mark(layer)
        at = (session.threshold or 0.0) if threshold is None else threshold
        tag = f'"{current}-{key}-{z}-{x}-{y}' + (f'-{at:g}"' if layer.kind == "agreement" else '"')
        keep = "private, max-age=86400, immutable" if mark == current else "private, no-cache"
        headers = {"etag": tag, "cache-control": keep}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        loop = asyncio.get_running_loop()
        content = await loop.run_in_executor(session.readers, tiles.tile, layer, z, x, y, at)
        return Response(content, media_type="image/png", headers=headers)

    @app.get("/api/scores", status_code=200, responses={s: REFUSED[s] for s in (404, 422, 503)})
    async def scores(part: Parts) -> ScoresOut:
        """Counts of probability by label over a part, from which the scores of any threshold follow."""
        future = asyncio.wrap_future(session.count(part))
        try:
            found = await asyncio.wait_for(asyncio.shield(future), PATIENCE)
        except TimeoutError:
            return ScoresOut(counting=True, part=part)
        return ScoresOut(
            counting=False, part=found.part, split=found.split, leaky=found.leaky, notes=list(found.notes),
            landslide=found.counts.landslide.tolist(), other=found.counts.other.tolist(),
        )  # fmt: skip

    @app.get("/api/landslides", responses={503: REFUSED[503]})
    def landslides() -> LandslidesOut:
        """All rows of the inventory, without outlines and reviews."""
        found, _ = session.landslides()
        rows = [
            LandslideOut(
                id=one.id, attributes={k: _plain(v) for k, v in one.attributes.items()}, bounds=one.outline.bounds
            )
            for one in found
        ]
        return LandslidesOut(columns=list(found[0].attributes) if found else [], landslides=rows)

    @app.get("/api/outlines", responses={s: REFUSED[s] for s in (422, 503)})
    def outlines(
        left: Left, bottom: Left, right: Left, top: Left, tolerance: Annotated[float, Query(ge=0, le=1e6)] = 0.0
    ) -> Features:
        """Outlines as they stand in a view, simplified by `tolerance` metres: the inventory's, redrawn and drawn."""
        found, tree = session.landslides()
        stands = session.reviews()
        box = shapely.box(*_ordered(left, bottom, right, top))
        near = [] if tree is None else [found[i] for i in tree.query(box)]
        shown = [(one.id, one.outline) for one in near if _original(stands.get(one.id))]
        shown += [
            (i, one.outline)
            for i, one in stands.items()
            if not _original(one) and one.outline is not None and one.outline.intersects(box)
        ]
        shown.sort(key=lambda one: -one[1].area)
        states = {i: one.state for i, one in stands.items()}
        return Features(
            left_out=max(0, len(shown) - MOST_OUTLINES),
            features=[
                Feature(id=i, state=states.get(i, OPEN), geometry=_geojson(outline, tolerance))
                for i, outline in shown[:MOST_OUTLINES]
            ],
        )

    @app.get("/api/candidates", responses={s: REFUSED[s] for s in (404, 422, 503)})
    async def candidates(left: Left, bottom: Left, right: Left, top: Left, threshold: Threshold) -> Features:
        """Outlines of ground at or above a threshold in a view, traced from the raster as coarse as the view is."""
        layer, bounds = session.layer("probability"), _ordered(left, bottom, right, top)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(session.readers, _candidates, tiles, layer, bounds, threshold)


def _add_reviews(app: FastAPI, session: Session) -> None:
    crs = session.shown.grid.crs

    @app.get("/api/reviews", responses={s: REFUSED[s] for s in (422, 503)})
    def reviews(since: Annotated[int, Query(ge=0, le=2**53)] = 0) -> ReviewsOut:
        """What stands of every landslide that was decided on, or only what changed after version `since`."""
        path = session.inventory_file()
        if path is None:
            return ReviewsOut(version=0, reviews=[])
        found = review.read_reviews(path, since)
        version = max([since, *(one.version for one in found.values())])
        return ReviewsOut(version=version, reviews=_reviews(list(found.values()), crs))

    deciding: dict[int | str, dict[str, Any]] = {s: REFUSED[s] for s in (400, 404, 409, 422, 503)}

    @app.post("/api/reviews", responses=deciding)
    def decide(decision: Decision) -> ReviewOut:
        """Keep a decision. It is on disk when this is answered; 409 where another window decided first."""
        outline = None
        if decision.outline is not None:
            outline = _polygon(decision.outline)
            review.require_outline(outline)
            if not outline.intersects(shapely.box(*session.shown.grid.bounds)):
                raise ReviewError("the outline lies off the site. Draw it on the map.")
        draws = decision.state == DRAWN and decision.landslide is None and outline is not None
        path = session.drawn_into() if draws else session.reviewed()
        made = review.decide(path, decision.landslide, decision.state, decision.version, outline, decision.note)
        return _reviews([made], crs)[0]

    @app.post("/api/reviews/undo", responses=deciding)
    def undo(step: Step) -> ReviewOut:
        """Take a decision back; 409 where it stands no more."""
        return _reviews([review.undo(session.reviewed(), step.decision)], crs)[0]

    @app.post("/api/reviews/redo", responses=deciding)
    def redo(step: Step) -> ReviewOut:
        """Make a decision again that was undone; 409 where something else was decided meanwhile."""
        return _reviews([review.redo(session.reviewed(), step.decision)], crs)[0]


def _candidates(
    tiles: Tiles, layer: PageLayer, bounds: tuple[float, float, float, float], threshold: float
) -> Features:
    seen = tiles.view(layer, bounds, VIEW)
    if seen is None:
        return Features(left_out=0, features=[])
    values, grid = seen
    numbers, found = ndimage.label(values >= np.float32(threshold), np.ones((3, 3), bool), output=np.int32)
    pixels = np.bincount(numbers.ravel(), minlength=found + 1)[1:]
    # specks of the raster's own pixels go, as in an inventory; coarse pixels may be whole landslides
    least = SMALLEST if grid.x_size <= tiles.grid.x_size * 1.5 else 1
    order = np.argsort(-pixels, kind="stable")
    order = order[pixels[order] >= least]
    keep = np.zeros(found + 1, np.int32)
    keep[order[:MOST_OUTLINES] + 1] = order[:MOST_OUTLINES] + 1
    frame = trace(keep[numbers], grid)
    return Features(
        left_out=max(0, len(order) - MOST_OUTLINES),
        features=[Feature(id=0, state="candidate", geometry=_geojson(one, 0.0)) for one in frame.geometry],
    )


def _original(one: Review | None) -> bool:
    """Whether a landslide is shown with the inventory's outline."""
    return one is None or (one.landslide > 0 and one.state in (OPEN, REJECTED))


def _reviews(found: Sequence[Review], crs: CRS) -> list[ReviewOut]:
    """Reviews as they are sent; areas, of outlines that are shown, are true ones, as an inventory's are."""
    drawn = [one for one in found if one.outline is not None and not _original(one)]
    areas, _ = area_and_perimeter(np.array([one.outline for one in drawn], object), crs)
    by_id = {one.landslide: float(area) for one, area in zip(drawn, areas, strict=True)}
    return [_review(one, by_id.get(one.landslide)) for one in found]


def _review(one: Review, area: float | None) -> ReviewOut:
    outline = one.outline
    return ReviewOut(
        landslide=one.landslide, state=one.state, note=one.note, decided=one.decided, version=one.version,
        decision=one.decision, area_m2=area, bounds=None if outline is None else outline.bounds,
    )  # fmt: skip


def _polygon(outline: Outline) -> shapely.Geometry:
    for ring in outline.coordinates:
        if not all(math.isfinite(part) and abs(part) < 1e9 for point in ring for part in point):
            raise ReviewError("the outline has a coordinate that is no place on the map. Draw it again.")
        if ring[0] != ring[-1]:
            raise ReviewError("the outline is not closed: its first corner must be its last too.")
    shell, *holes = outline.coordinates
    return shapely.Polygon(shell, holes)


def _ordered(left: float, bottom: float, right: float, top: float) -> tuple[float, float, float, float]:
    if left >= right or bottom >= top:
        raise ReviewError("a view needs left below right and bottom below top.")
    return left, bottom, right, top


def _geojson(geometry: shapely.Geometry, tolerance: float) -> dict[str, Any]:
    if tolerance > 0:
        geometry = shapely.simplify(geometry, tolerance)
    return dict(json.loads(shapely.to_geojson(geometry)))


def _plain(value: Any) -> Any:
    """An attribute as JSON has it: no bytes, no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.hex() if isinstance(value, bytes) else value


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


def serve(root: Path, port: int = 8008, host: str = "127.0.0.1", browser: bool = False) -> None:
    """Serve a run until Ctrl-C; with `browser`, open the page in this computer's own.

    Raises OutputError for an address that cannot be listened on.
    """
    import uvicorn

    session = Session(open_run(root))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small pieces at once only where the protocol is named; otherwise a tile waits 40 ms
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(100)  # from here on a browser that asks waits, and is not refused
    except OSError as error:
        listening.close()
        raise OutputError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}). Give another --port, or 0 for any."
        ) from error
    names = names_of(host)
    if "*" in names:
        say(
            f"warning: --host {host} lets every computer that reaches this one look at the run and change its reviews: "
            "there is no password. Leave out --host to be alone."
        )
    for text in session.shown.left_out:
        say(f"warning: {text}")
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/"
    how = "the browser opens it" if browser else "open it in a browser, or give --open"
    say(f"{root} is at {address}  ({how}; Ctrl-C ends it)")
    if browser:
        here = address.replace("://0.0.0.0:", "://127.0.0.1:")
        threading.Thread(target=_open_browser, args=(here,), daemon=True).start()  # some browsers are waited for
    config = uvicorn.Config(
        create_app(session, names), log_level="warning", server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=2, limit_concurrency=200,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])


def _open_browser(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        say(f"warning: no browser was found here. Open {address} in one yourself.")
