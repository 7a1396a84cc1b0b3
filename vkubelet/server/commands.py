"""/exec and /attach: what `kubectl exec`, `attach`, `cp` and `debug` speak to.

It exists to turn requests into commands with channels, and errors into the kubelet's answers. It must not
know how a stream is framed, nor how a command is run. Arguments of commands are in no log: they may be
secrets.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from aiohttp import web

from vkubelet.pods.interaction import Interaction, InteractionError, Interactions, Target, Wanted
from vkubelet.server.log_reader import LogReader
from vkubelet.server.output import follow_output
from vkubelet.server.streams import negotiation, spdy_command, websocket_command
from vkubelet.server.streams.channel import ChannelClosedError
from vkubelet.server.streams.command import Command, serve
from vkubelet.server.streams.negotiation import RefusedError
from vkubelet.server.streams.racing import until
from vkubelet.server.streams.sessions import CREATION_TIMEOUT, IDLE_TIMEOUT, StreamSessions
from vkubelet.server.streams.upgrade import SwitchedResponse, upgraded

logger = logging.getLogger(__name__)


class CommandRoutes:
    """Implements app.RouteGroup."""

    def __init__(
        self,
        interactions: Interactions,
        reader: LogReader,
        *,
        idle_timeout: float = IDLE_TIMEOUT,
        creation_timeout: float = CREATION_TIMEOUT,
    ) -> None:
        """`reader` is the caller's. Times in seconds: `idle_timeout` without a byte, `creation_timeout` for a
        client's streams.
        """
        self._interactions = interactions
        self._reader = reader
        self._idle_timeout = idle_timeout
        self._creation_timeout = creation_timeout
        self._sessions = StreamSessions()

    def routes(self) -> Iterable[web.RouteDef]:
        """See RouteGroup."""
        for name, handler in (("exec", self.exec), ("attach", self.attach)):
            for path in ("{namespace}/{pod}/{container}", "{namespace}/{pod}/{uid}/{container}"):
                yield web.get(f"/{name}/{path}", handler, allow_head=False)
                yield web.post(f"/{name}/{path}", handler)

    def end(self) -> None:
        """See RouteGroup."""
        self._sessions.end()

    async def exec(self, request: web.Request) -> web.StreamResponse:
        """Run a command beside a container."""
        try:
            wanted = _wanted(request)
            target = _target(request)
            self._interactions.check(target)
            negotiation.require_upgrade(request)
            words = tuple(request.query.getall("command", ()))
            command = Command(
                lambda: self._interactions.exec(target, words, wanted), "error executing command in container"
            )
            return await self._serve(request, command, wanted)
        except InteractionError as error:
            return web.Response(status=error.status, text=str(error))
        except RefusedError as refused:
            return refused.response

    async def attach(self, request: web.Request) -> web.StreamResponse:
        """Join a running container."""
        try:
            wanted = _wanted(request)
            target = _target(request)
            self._interactions.check(target)
            # Whether there is a terminal was decided when the container was started.
            wanted = Wanted(wanted.stdin, wanted.stdout, wanted.stderr, self._interactions.has_tty(target))
            if wanted.tty and wanted.stderr:
                text = "rpc error: code = InvalidArgument desc = tty and stderr cannot both be true"
                return web.Response(status=500, text=text)
            negotiation.require_upgrade(request)
            command = Command(lambda: self._joined(target, wanted), "error attaching to container")
            return await self._serve(request, command, wanted)
        except InteractionError as error:
            return web.Response(status=error.status, text=str(error))
        except RefusedError as refused:
            return refused.response

    def _joined(self, target: Target, wanted: Wanted) -> AbstractAsyncContextManager[Interaction]:
        source = self._interactions.logged(target)
        if source is None:
            return self._interactions.attach(target, wanted)
        return follow_output(source, self._reader, wanted)

    async def _serve(self, request: web.Request, command: Command, wanted: Wanted) -> web.StreamResponse:
        with self._sessions.session():
            if negotiation.is_websocket(request.headers):
                return await self._serve_websocket(request, command, wanted)
            return await self._serve_spdy(request, command, wanted)

    async def _serve_spdy(self, request: web.Request, command: Command, wanted: Wanted) -> web.StreamResponse:
        protocol = negotiation.spdy_protocol(request, spdy_command.PROTOCOLS)
        streams = spdy_command.CommandStreams(protocol, wanted)

        async def work() -> None:
            try:
                channels = await streams.channels(self._creation_timeout)
            except TimeoutError:
                logger.debug("%s: timed out waiting for client to create streams", request.path)
                return
            with contextlib.suppress(ChannelClosedError):
                await serve(command, channels)

        response = SwitchedResponse(protocol)
        async with upgraded(request, response, streams.accept, self._idle_timeout) as connection:
            await until(connection.over(), work())
        return response

    async def _serve_websocket(
        self, request: web.Request, command: Command, wanted: Wanted
    ) -> web.StreamResponse:
        socket, opened, channels = await websocket_command.open_channels(request, wanted, self._idle_timeout)

        async def work() -> None:
            with contextlib.suppress(ChannelClosedError):
                await websocket_command.greet(channels)
                await serve(command, channels)

        try:
            await until(opened.over(), work())
            await opened.close()
        finally:
            opened.release()
        return socket


def _target(request: web.Request) -> Target:
    names = request.match_info
    return Target(names["namespace"], names["pod"], names.get("uid"), names["container"])


def _wanted(request: web.Request) -> Wanted:
    """Raises InteractionError (remotecommand.NewOptions)."""
    stdin, stdout, stderr, tty = (
        request.query.get(name) == "1" for name in ("input", "output", "error", "tty")
    )
    # A terminal has one output; a client that asks for two is not refused.
    stderr = stderr and not tty
    if not (stdin or stdout or stderr):
        raise InteractionError(400, "you must specify at least 1 of stdin, stdout, stderr")
    return Wanted(stdin, stdout, stderr, tty)
