"""/portForward: what `kubectl port-forward` speaks to.

It exists to turn requests into forwarded connections, over SPDY, over SPDY in a WebSocket, and over the old
WebSocket protocol. It must not know how a stream is framed, nor how a port of a pod is reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable

from aiohttp import web

from vkubelet.pods.interaction import ForwardError, InteractionError, Interactions
from vkubelet.server.streams import negotiation
from vkubelet.server.streams.channel import Channel, ChannelClosedError
from vkubelet.server.streams.forward import Connect, forward
from vkubelet.server.streams.negotiation import RefusedError
from vkubelet.server.streams.racing import until
from vkubelet.server.streams.sessions import CREATION_TIMEOUT, IDLE_TIMEOUT, StreamSessions
from vkubelet.server.streams.spdy_forward import PROTOCOLS, ForwardedStreams
from vkubelet.server.streams.tunnel import tunnelled
from vkubelet.server.streams.upgrade import SwitchedResponse, upgraded
from vkubelet.server.streams.websocket import WebSocketChannels, accept

_TEXT = "v4.base64.channel.k8s.io"
_WEBSOCKET_PROTOCOLS = ("", "v4.channel.k8s.io", _TEXT)
_MAX_PORTS = 64
"""Ports of one WebSocket: each has two channels, whose numbers are one byte."""


class PortForwardRoutes:
    """Implements app.RouteGroup."""

    def __init__(
        self,
        interactions: Interactions,
        *,
        idle_timeout: float = IDLE_TIMEOUT,
        creation_timeout: float = CREATION_TIMEOUT,
    ) -> None:
        """Times in seconds: `idle_timeout` without a byte, `creation_timeout` for a pair of streams."""
        self._interactions = interactions
        self._idle_timeout = idle_timeout
        self._creation_timeout = creation_timeout
        self._sessions = StreamSessions()

    def routes(self) -> Iterable[web.RouteDef]:
        """See RouteGroup."""
        for path in ("{namespace}/{pod}", "{namespace}/{pod}/{uid}"):
            yield web.get(f"/portForward/{path}", self.handle, allow_head=False)
            yield web.post(f"/portForward/{path}", self.handle)

    def end(self) -> None:
        """See RouteGroup."""
        self._sessions.end()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Forward connections until the client goes."""
        names = request.match_info
        namespace, pod, uid = names["namespace"], names["pod"], names.get("uid")
        websocket = negotiation.is_websocket(request.headers)
        tunnel = negotiation.tunnelled(request.headers)

        async def connect(port: int) -> socket.socket:
            return await self._interactions.connect(namespace, pod, uid, port)

        named = f"{pod}, uid {uid or ''}"
        try:
            ports = _ports(request) if websocket and not tunnel else []
            self._interactions.check_pod(namespace, pod, uid)
            negotiation.require_upgrade(request)
            with self._sessions.session():
                if tunnel:
                    return await self._serve_tunnel(request, connect, named)
                if websocket:
                    return await self._serve_websocket(request, connect, named, ports)
                return await self._serve_spdy(request, connect, named)
        except InteractionError as error:
            return web.Response(status=error.status, text=str(error))
        except RefusedError as refused:
            return refused.response

    async def _serve_spdy(self, request: web.Request, connect: Connect, pod: str) -> web.StreamResponse:
        response = SwitchedResponse(negotiation.spdy_protocol(request, PROTOCOLS))
        forwarded = ForwardedStreams(connect, pod, self._creation_timeout)
        try:
            async with upgraded(request, response, forwarded.accept, self._idle_timeout) as connection:
                await connection.over()
                await forwarded.end()
        finally:
            await forwarded.end()
        return response

    async def _serve_tunnel(self, request: web.Request, connect: Connect, pod: str) -> web.StreamResponse:
        offered = [f"{negotiation.TUNNEL_PREFIX}{name}" for name in PROTOCOLS]
        websocket, transport, _ = await accept(request, offered)
        forwarded = ForwardedStreams(connect, pod, self._creation_timeout)
        try:
            async with tunnelled(websocket, transport, forwarded.accept, self._idle_timeout) as connection:
                await connection.over()
                await forwarded.end()
        finally:
            await forwarded.end()
        return websocket

    async def _serve_websocket(
        self, request: web.Request, connect: Connect, pod: str, ports: list[int]
    ) -> web.StreamResponse:
        websocket, transport, protocol = await accept(request, _WEBSOCKET_PROTOCOLS)
        opened = WebSocketChannels(
            websocket, transport, (True, False) * len(ports), self._idle_timeout, text=protocol == _TEXT
        )
        ends = opened.channels

        async def work() -> None:
            async with asyncio.TaskGroup() as group:
                for number, port in enumerate(ports):
                    data, error = ends[2 * number : 2 * number + 2]
                    group.create_task(_forward_one(connect, pod, port, data, error))

        try:
            await until(opened.over(), work())
            await opened.close()
        finally:
            opened.release()
        return websocket


async def _forward_one(connect: Connect, pod: str, port: int, data: Channel, error: Channel) -> None:
    """Forward one connection over two channels, each of which first says the port it is for."""
    named = struct.pack("<H", port)
    with contextlib.suppress(ChannelClosedError):
        await data.write(named)
        await error.write(named)
        try:
            await forward(connect, port, data)
        except ForwardError as failure:
            await error.write(f"error forwarding port {port} to pod {pod}: {failure}".encode())


def _ports(request: web.Request) -> list[int]:
    """The ports that the query names. Raises InteractionError (portforward.NewV4Options)."""
    texts = request.query.getall("port", [])
    if not texts:
        raise InteractionError(400, 'query parameter "port" is required')
    ports = []
    for text in texts:
        if not text:
            raise InteractionError(400, 'query parameter "port" cannot be empty')
        for part in text.split(","):
            if not (part.isascii() and part.isdigit()):
                reason = f'strconv.ParseUint: parsing "{part}": invalid syntax'
                raise InteractionError(400, f'unable to parse "{text}" as a port: {reason}')
            if len(part.lstrip("0")) > 5 or int(part) > 65535:
                reason = f'strconv.ParseUint: parsing "{part}": value out of range'
                raise InteractionError(400, f'unable to parse "{text}" as a port: {reason}')
            if int(part) < 1:
                raise InteractionError(400, f'port "{text}" must be > 0')
            ports.append(int(part))
    if len(ports) > _MAX_PORTS:
        raise InteractionError(400, f"at most {_MAX_PORTS} ports can be forwarded over one WebSocket")
    return ports
