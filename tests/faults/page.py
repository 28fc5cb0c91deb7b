"""What a browser does with `landslip serve`, for the suites that kill the server and that ask it for an hour."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

PATIENCE = 120  # seconds until a server says where it is


def arranged(folder: Path) -> Path:
    """A finished folder of the tests as a run folder that can be served."""
    for name, to in (("p.tif", "map/probability.tif"), ("i.gpkg", "inventory/landslides.gpkg")):
        (folder / to).parent.mkdir()
        (folder / name).rename(folder / to)
    return folder


def port_of(said: Path, runs: Callable[[], bool]) -> int:
    """The port that a server says it listens on, once it has said so in a file."""
    until = time.monotonic() + PATIENCE
    while "http://127.0.0.1:" not in (text := said.read_text() if said.exists() else ""):
        if not runs() or time.monotonic() > until:
            raise SystemExit(f"the server ended, or said no port for {PATIENCE} s: {text}")
        time.sleep(0.01)
    return int(text.split("http://127.0.0.1:")[1].split("/")[0])


def answer(connection: HTTPConnection, path: str, body: dict[str, Any] | None = None) -> bytes:
    """What the server answers to GET, or with a body to POST from its own page; any refusal ends the suite."""
    host = f"http://{connection.host}:{connection.port}"
    headers = {} if body is None else {"content-type": "application/json", "origin": host}
    connection.request("GET" if body is None else "POST", path, body and json.dumps(body), headers)
    response = connection.getresponse()
    content = response.read()
    if response.status not in (200, 204):
        raise SystemExit(f"{path}: {response.status} {content[:300]!r}")
    return content
