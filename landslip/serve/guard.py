"""Check every request before it is answered: who asks, and how much is sent. Tell browsers what a page may do.

A page of another site can make a browser ask a server on this computer. It cannot choose the Host that the browser
names, except by pointing a name of its own at this computer (DNS rebinding), and it cannot hide its Origin: both are
checked. Addresses written as numbers need no name, so they pass.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_SENT = 2**20  # bytes of a request's body
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Guard:
    """ASGI middleware that refuses foreign hosts and origins and bodies that are too large."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it: 403 for who asks, 413 for how much is sent."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await (self.app if refusal is None else refusal)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """The answer, where a request is refused by its headers alone."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_here(hosts[0]):
            return _refuse(
                403, "this server answers to its own address only. Open the address that `landslip serve` printed."
            )
        another_site = "a page of another site asked. Only the page of this server may."
        if any(origin.partition("://")[2].lower() != hosts[0].lower() for origin in headers.getlist("origin")):
            return _refuse(403, another_site)
        if any(site not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):
            # A link on a page of another site may open the page itself, and nothing else.
            navigates = headers.getlist("sec-fetch-mode") == ["navigate"] and scope["method"] == "GET"
            if not (navigates and scope["path"] == "/"):
                return _refuse(403, another_site)
        if "transfer-encoding" in headers:
            return _refuse(413, "what is sent must state its length.")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > MOST_SENT:
            return _refuse(413, f"{length} bytes were sent, and {MOST_SENT} are taken. Simplify the outline.")
        return None

    def _is_here(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host.strip()}").hostname or ""
            if name in self.names:
                return True
            return ipaddress.ip_address(name).is_loopback or "*" in self.names
        except ValueError:  # It is no address written as numbers.
            return False


def names_of(host: str) -> frozenset[str]:
    """The names that a server listening on `host` answers to; "*" stands for any address written as numbers."""
    here = {"localhost", host.lower()}
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return frozenset(here) if loopback else frozenset(here | {socket.gethostname().lower(), "*"})


def _refuse(status: int, error: str) -> JSONResponse:
    return JSONResponse({"error": error}, status, {"connection": "close"})
