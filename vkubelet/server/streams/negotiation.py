"""Whether a request can become a stream, and which protocol is spoken then.

It exists because clients and the API server's proxies depend on these answers, which are the kubelet's. It
must not know what the streams are for. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from multidict import CIMultiDictProxy

from vkubelet.server.plain import plain

SPDY = "SPDY/3.1"
PROTOCOL = "X-Stream-Protocol-Version"
ACCEPTED_PROTOCOLS = "X-Accepted-Stream-Protocol-Versions"
WEBSOCKET_PROTOCOL = "Sec-WebSocket-Protocol"
TUNNEL_PREFIX = "SPDY/3.1+"
"""Of the WebSocket subprotocols whose messages carry SPDY."""
TUNNEL_SUFFIX = ".k8s.io"


class RefusedError(Exception):
    """The request cannot become a stream; `response` is the answer."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.text)
        self.response = response


def is_upgrade(headers: CIMultiDictProxy[str]) -> bool:
    """Whether the client asks for another protocol at all."""
    return any("upgrade" in value.lower() for value in headers.getall("Connection", ()))


def is_websocket(headers: CIMultiDictProxy[str]) -> bool:
    """Whether the client asks for WebSocket."""
    return headers.get("Upgrade", "").lower() == "websocket" and is_upgrade(headers)


def websocket_protocols(headers: CIMultiDictProxy[str]) -> list[str]:
    """The subprotocols that a WebSocket client names, by its preference."""
    text = headers.get(WEBSOCKET_PROTOCOL, "").strip()
    return [name.strip() for name in text.split(",")] if text else []


def tunnelled(headers: CIMultiDictProxy[str]) -> list[str]:
    """The SPDY protocols that a WebSocket client would tunnel; empty for any other request."""
    if not is_websocket(headers):
        return []
    return [
        name.removeprefix(TUNNEL_PREFIX)
        for name in websocket_protocols(headers)
        if name.startswith(TUNNEL_PREFIX) and name.endswith(TUNNEL_SUFFIX)
    ]


def require_upgrade(request: web.Request) -> None:
    """Raise RefusedError unless the client asks for another protocol (apimachinery, UpgradeAwareHandler)."""
    if not is_upgrade(request.headers):
        raise RefusedError(plain(500, "Upgrade request required"))


def spdy_protocol(request: web.Request, offered: Sequence[str]) -> str:
    """The first of the client's protocols that is `offered`. Raises RefusedError (httpstream.Handshake)."""
    values = request.headers.getall(PROTOCOL, [])
    if not values:
        count = len(set(request.headers))
        raise RefusedError(
            plain(400, f"unable to upgrade: header {PROTOCOL} does not exist in request with {count} headers")
        )
    wanted = [name.strip(" ") for value in values for name in value.split(",") if name.strip(" ")]
    if not wanted:
        listed = " ".join(values)
        raise RefusedError(
            plain(400, f"unable to upgrade: header {PROTOCOL} contains [{listed}], but no valid protocols")
        )
    chosen = common(wanted, offered)
    if chosen is None:
        refusal = plain(
            403,
            "unable to upgrade: unable to negotiate protocol: client supports "
            f"[{' '.join(wanted)}], server accepts [{' '.join(offered)}]",
        )
        for name in offered:
            refusal.headers.add(ACCEPTED_PROTOCOLS, name)
        raise RefusedError(refusal)
    if SPDY.lower() not in request.headers.get("Upgrade", "").lower():
        raise RefusedError(plain(400, "unable to upgrade: missing upgrade headers in request"))
    return chosen


def websocket_protocol(request: web.Request, offered: Sequence[str]) -> str:
    """The subprotocol of a WebSocket, "" where none is named and `offered` has it. Raises RefusedError."""
    if request.method != "GET":
        raise RefusedError(web.Response(status=405, text="bad method"))
    chosen = common(websocket_protocols(request.headers) or [""], offered)
    if chosen is None:
        raise RefusedError(web.Response(status=403))
    return chosen


def common(wanted: Sequence[str], offered: Sequence[str]) -> str | None:
    """The first of `wanted` that is `offered`."""
    return next((name for name in wanted if name in offered), None)
