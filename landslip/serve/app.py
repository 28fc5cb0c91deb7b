"""The server of `landslip serve`: a page, the layers of a run as tiles, its landslides and the reviews of them.

No request names a file: layers go by key, landslides by id. Bad input is answered 4xx with one sentence, never with a
traceback. `landslip.review.reviews` alone writes; every decision is on disk before it is answered.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from landslip.errors import ConflictError, LandslipError, OutputError, ReviewError, SplitError
from landslip.plots.palette import style_sheet
from landslip.runtime.progress import say
from landslip.runtime.run_folder import open_run
from landslip.serve.guard import Guard, names_of
from landslip.serve.landslide_routes import add_landslides, add_reviews
from landslip.serve.routes import add_layers, add_run, add_scores
from landslip.serve.schemas import refused
from landslip.serve.session import Session

SCRIPT = "text/javascript; charset=utf-8"
STYLE_SHEET = "text/css; charset=utf-8"
MODULES = (  # of the page, each importing those before it
    "state.js", "dom.js", "api.js", "settings.js", "map.js", "outlines.js", "scores.js", "table.js", "review.js",
    "drawing.js", "page.js",
)  # fmt: skip
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", STYLE_SHEET),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"/{name}": (name, SCRIPT) for name in MODULES},
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
        responses=refused(403, 413),
    )
    app.add_middleware(Guard, names=names)
    add_pages(app)
    for add in (add_run, add_layers, add_scores, add_landslides, add_reviews):
        add(app, session)
    _answer_errors(app)
    return app


def serve(root: Path, port: int = 8008, host: str = "127.0.0.1", browser: bool = False) -> None:
    """Serve a run until Ctrl-C; with `browser`, open the page in this computer's own.

    Raises OutputError for an address that cannot be listened on.
    """
    import uvicorn

    session = Session(open_run(root))
    listener = _listener(host, port)
    names = names_of(host)
    if "*" in names:
        say(
            f"warning: --host {host} lets every computer that reaches this one look at the run and change its reviews: "
            "there is no password. Leave out --host to be alone."
        )
    for text in session.shown.left_out:
        say(f"warning: {text}")
    host_in_url = f"[{host}]" if ":" in host else host
    address = f"http://{host_in_url}:{listener.getsockname()[1]}/"
    advice = "the browser opens it" if browser else "open it in a browser, or give --open"
    say(f"{root} is at {address}  ({advice}; Ctrl-C ends it)")
    if browser:
        here = address.replace("://0.0.0.0:", "://127.0.0.1:")
        # In a thread, since some browsers return only when they are closed.
        threading.Thread(target=_open_browser, args=(here,), daemon=True).start()
    config = uvicorn.Config(
        create_app(session, names), log_level="warning", server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=2, limit_concurrency=200,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


def add_pages(app: FastAPI) -> None:
    """Serve the page and Leaflet, read once from the installed packages into memory."""
    from xstatic.pkg import leaflet

    contents: dict[str, tuple[bytes, str]] = {}
    for path, (name, kind) in FILES.items():
        contents[path] = (files("landslip.serve") / name).read_bytes(), kind
    contents["/page.css"] = style_sheet().encode() + contents["/page.css"][0], STYLE_SHEET
    for name, kind in (("leaflet.js", SCRIPT), ("leaflet.css", STYLE_SHEET)):
        contents[f"/{name}"] = (Path(leaflet.BASE_DIR) / name).read_bytes(), kind

    def serving(path: str) -> Callable[[], Response]:
        def page() -> Response:
            content, kind = contents[path]
            return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

        return page

    for path in contents:
        app.add_api_route(path, serving(path), include_in_schema=False)


def _answer_errors(app: FastAPI) -> None:
    """Answer every error with its status and one sentence: {"error": "..."}."""

    @app.exception_handler(LandslipError)
    async def refuse(_: Request, error: LandslipError) -> JSONResponse:
        status = 503
        if isinstance(error, ConflictError):
            status = 409
        elif isinstance(error, ReviewError | SplitError):
            status = 422
        return JSONResponse({"error": str(error)}, status)

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


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; OutputError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small pieces at once only where the protocol is named; otherwise a tile waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(100)  # From here on a browser that asks waits, and is not refused.
    except OSError as error:
        listener.close()
        raise OutputError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}). Give another --port, or 0 for any."
        ) from error
    return listener


def _open_browser(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        say(f"warning: no browser was found here. Open {address} in one yourself.")
