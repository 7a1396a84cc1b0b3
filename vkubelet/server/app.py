"""The kubelet API's server: the routes, who may call them, and its life.

It exists to compose what is in this package and to hold what every request shares: TLS, authentication,
limits, the answers to what does not exist. It must not know what a route does.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import unquote

from aiohttp import web
from aiohttp.typedefs import Handler

from vkubelet.server.auth import Doorkeeper, RefusedError
from vkubelet.server.auth_identity import Identity
from vkubelet.server.connection import Connection, Limits
from vkubelet.server.listener import Listener
from vkubelet.server.metrics.http import counted

logger = logging.getLogger(__name__)

# Seconds that requests get to end when the server closes; followed logs are ended at once.
CLOSE_TIMEOUT = 1.0
BACKLOG = 1024

IDENTITY: web.RequestKey[Identity] = web.RequestKey("identity", Identity)


class ListenError(Exception):
    """The server cannot listen where it should; the text is one line for people."""


class PortTakenError(ListenError):
    """Another process listens there."""


class RouteGroup(Protocol):
    """Some routes of the kubelet API, with what serves them."""

    def routes(self) -> Iterable[web.RouteDef]:
        """The routes, for an application that is about to start."""
        ...

    def end(self) -> None:
        """The server closes: end the requests that do not end by themselves."""
        ...


class KubeletServer:
    """Serves the kubelet API to those whom `auth` lets in: over TLS, or on a socket of the file system."""

    def __init__(
        self,
        *,
        address: str | Path,
        port: int = 0,
        tls: ssl.SSLContext | None,
        healthy: Callable[[], str | None],
        auth: Doorkeeper,
        groups: Iterable[RouteGroup] = (),
        limits: Limits = Limits(),  # noqa: B008  it is frozen
    ) -> None:
        """`tls` has been through `harden`; `healthy` says what is wrong with the node agent, or None.

        An `address` that is a path is a socket which only its owner can open, and then there is no TLS.
        `groups` are served beside its health.
        """
        self._address = address
        self._port = port
        self._tls = tls
        self._healthy = healthy
        self._auth = auth
        self._limits = limits
        self._groups = tuple(groups)
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None

    @property
    def connections(self) -> int:
        """How many are open, those in their TLS handshake included."""
        return self._listener.connections if self._listener is not None else 0

    async def start(self) -> int:
        """Listen; from its return on requests are answered. Returns the port, a free one for 0.

        Raises PortTakenError or ListenError, and leaves nothing open then.
        """
        address = self._address
        listening = _listen_at(address) if isinstance(address, Path) else listen(address, self._port)
        try:
            self._runner = web.AppRunner(
                self._application(),
                handler_cancellation=True,  # a follower waits for its log, not for its client to go away
                shutdown_timeout=CLOSE_TIMEOUT,
            )
            await self._runner.setup()
            server = cast("web.Server", self._runner.server)  # `setup` has made it
            connection = functools.partial(Connection, server, self._limits)
            self._listener = Listener(listening, self._tls, self._limits, connection)
            self._listener.start()
        except BaseException:
            listening.close()
            await self.close()
            raise
        return 0 if isinstance(self._address, Path) else int(listening.getsockname()[1])

    async def run(self) -> None:
        """Serve until cancelled, then close. `start` must have returned."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self.close()

    def use_tls(self, tls: ssl.SSLContext) -> None:
        """Speak TLS with another context from now on, as when other CAs are to be believed.

        Connections made with the former one take no further request; what runs on them runs on.
        """
        self._tls = tls
        if self._listener is not None:
            self._listener.use_tls(tls)
        if self._runner is not None and self._runner.server is not None:
            for connection in self._runner.server.connections:
                if isinstance(connection, Connection):
                    connection.retire()

    async def close(self) -> None:
        """Stop listening, end every request and release everything; may be called twice."""
        listener, self._listener = self._listener, None
        runner, self._runner = self._runner, None
        try:
            if listener is not None:
                await listener.close()
        finally:
            if runner is not None:
                await runner.cleanup()
            if listener is not None and isinstance(self._address, Path):
                self._address.unlink(missing_ok=True)

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[counted, _plain_errors, self._admitted])
        application.on_response_prepare.append(_anonymous_software)

        async def end(_: web.Application) -> None:
            for group in self._groups:
                group.end()

        application.on_shutdown.append(end)
        application.router.add_route("*", "/healthz", self._healthz)
        for group in self._groups:
            application.router.add_routes(group.routes())
        return application

    @web.middleware
    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Nothing is told, not even what exists, to who may not be told."""
        try:
            request[IDENTITY] = await self._auth.admit(request)
        except RefusedError as refused:
            return web.Response(status=refused.status, text=str(refused))
        if isinstance(request.protocol, Connection):
            request.protocol.known()
        if not _clean(request.rel_url.raw_path):
            raise web.HTTPNotFound
        return await handler(request)

    async def _healthz(self, _: web.Request) -> web.Response:
        reason = self._healthy()
        if reason is None:
            return web.Response(text="ok", headers={"X-Content-Type-Options": "nosniff"})
        return web.Response(status=500, text=reason)


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The kubelet's bodies for what is no route, and a line in the log for every request, at debug."""
    try:
        if request.headers.getall("Transfer-Encoding", ["chunked"]) == ["chunked"]:
            response = await handler(request)
        else:  # aiohttp passes such a body on as it came
            response = web.Response(status=501, text="501 Not Implemented")
            response.force_close()
    except web.HTTPNotFound:
        response = web.Response(status=404, text="404: Page Not Found")
    except web.HTTPMethodNotAllowed as refused:
        allowed = ", ".join(sorted(refused.allowed_methods))
        response = web.Response(status=405, text="405: Method Not Allowed", headers={"Allow": allowed})
    if "Upgrade" in request.headers and not response.prepared:
        response.force_close()  # what follows on the connection is not HTTP any more, by the client's word
    if isinstance(request.protocol, Connection) and request.protocol.retired:
        response.force_close()
    logger.debug("%s %s from %s: %d", request.method, request.rel_url, request.remote, response.status)
    return response


def _clean(raw_path: str) -> bool:
    """Whether a path means what it says: no segment of it is empty but the last, climbs, or hides a slash.

    A kubelet's router redirects to what such a path could mean; no client of the kubelet API sends one.
    """
    segments = [unquote(segment) for segment in raw_path.split("/")[1:]]
    return not any(
        segment in {".", ".."}
        or "/" in segment
        or "\0" in segment
        or (not segment and index < len(segments) - 1)
        for index, segment in enumerate(segments)
    )


async def _anonymous_software(_: web.Request, response: web.StreamResponse) -> None:
    """Which software answers, in which version, is nobody's business."""
    response.headers.popall("Server", None)


def _listen_at(path: Path) -> socket.socket:
    """A socket of the file system; what an agent that was killed left there is taken away."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        path.chmod(0o600)  # the directory is its owner's alone, so that nobody has come in before
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ListenError(f"cannot serve the kubelet API on {path}: {error.strerror or error}") from error
    return listening


def listen(address: str, port: int) -> socket.socket:
    """A socket that listens there. Raises PortTakenError and ListenError."""
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    try:
        version = ipaddress.ip_address(address).version
        return socket.create_server(
            (address, port),
            family=socket.AF_INET6 if version == 6 else socket.AF_INET,
            backlog=BACKLOG,
            dualstack_ipv6=address == "::",
        )
    except ValueError as error:
        raise ListenError(f"cannot serve the kubelet API on {where}: {error}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(
                f"cannot serve the kubelet API on {where}: the port is taken by another process"
            ) from error
        raise ListenError(f"cannot serve the kubelet API on {where}: {error.strerror}") from error
