"""What every request passes before it is answered: who asks, how much is sent, and what a browser may do with it.

A page of another site can make a browser ask a server on this computer. It cannot choose the Host that the browser
names, except by pointing a name of its own at this computer (DNS rebinding), and it cannot hide its Origin: both are
checked. Addresses written as numbers need no name, so they pass.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

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

    def __init__(self, app: App, names: frozenset[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it: 403 for who asks, 413 for how much is sent."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        # The body is read before the request is handled: one without a stated length must not grow either.
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MOST_SENT:
                await _refuse(send, 413, f"more than {MOST_SENT} bytes were sent. Simplify the outline.")
                return
        delivered = False

        async def receive_body() -> MutableMapping[str, Any]:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present),
                ]
            await send(message)

        await self.app(scope, receive_body, with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and words, where a request is refused by its headers alone."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self._is_here(_name(hosts[0])):
            return 403, "this server answers to its own address only. Open the address that `landslip serve` printed."
        for origin in headers.get("origin", []):
            if origin.partition("://")[2].lower() != hosts[0].lower():
                return 403, "a page of another site asked. Only the page of this server may."
        if any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", [])):
            # A link on a page of another site may open the page itself, and nothing else.
            navigates = headers.get("sec-fetch-mode") == ["navigate"] and scope["method"] == "GET"
            if not (navigates and scope["path"] == "/"):
                return 403, "a page of another site asked. Only the page of this server may."
        length = headers.get("content-length", ["0"])[0]
        if length.isdecimal() and int(length) > MOST_SENT:
            return 413, f"{length} bytes were sent, and {MOST_SENT} are taken. Simplify the outline."
        return None

    def _is_here(self, name: str) -> bool:
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return "*" in self.names or address.is_loopback


def names_of(host: str) -> frozenset[str]:
    """The names that a server listening on `host` answers to; "*" stands for any address written as numbers."""
    here = {"localhost", host.lower()}
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return frozenset(here) if loopback else frozenset(here | {socket.gethostname().lower(), "*"})


def _name(host: str) -> str:
    """The name in a Host header, without its port and brackets, lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if ":" in name else name


async def _refuse(send: Send, status: int, error: str) -> None:
    """Answer without handing the request on."""
    body = json.dumps({"error": error}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close", **HEADERS}
    coded = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": coded})
    await send({"type": "http.response.body", "body": body})
