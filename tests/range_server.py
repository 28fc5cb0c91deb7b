"""Serves a folder on loopback: range_server.py FOLDER STATUS_OF_WHAT_IS_MISSING prints its port.

A process of its own, since rasterio holds Python's lock while GDAL waits for an answer.
"""

import sys
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Ranged(BaseHTTPRequestHandler):
    """Serves a folder's files, whole or by range (RFC 9110, 14)."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, folder: Path, missing: int) -> None:
        self.folder, self.missing = folder, missing
        super().__init__(*args)

    def do_GET(self) -> None:
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_response(self.missing)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = path.stat().st_size
        first, last = 0, size - 1
        if asked := self.headers.get("Range"):
            first, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(first), min(int(end or last), last)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        else:
            self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if self.command == "GET":
            with path.open("rb") as file:
                file.seek(first)
                self.wfile.write(file.read(last + 1 - first))

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    handler = partial(Ranged, folder=Path(sys.argv[1]), missing=int(sys.argv[2]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    print(server.server_port, flush=True)
    server.serve_forever()
