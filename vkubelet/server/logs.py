"""GET /containerLogs/{namespace}/{pod}/{container}: what `kubectl logs` reads.

It exists to turn requests into log streams and errors into the kubelet's answers. It must not know how a
log is read, nor how pods are kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from aiohttp import web

from vkubelet.pods.directory import (
    ContainerDirectory,
    ContainerNotFoundError,
    ContainerNotReadyError,
    LogSource,
    PodNotFoundError,
)
from vkubelet.server.log_options import InvalidOptionsError, LogOptions, UndecodableError, decode
from vkubelet.server.log_reader import LogReader
from vkubelet.server.log_stream import LogMissingError, LogStream

logger = logging.getLogger(__name__)

# Seconds for which a client may take nothing of what it asked for: the kubelet's WriteTimeout.
STALLED_AFTER = 4 * 3600.0


class LogRoutes:
    """Implements app.RouteGroup."""

    def __init__(self, directory: ContainerDirectory, reader: LogReader) -> None:
        """`reader` is shared with others, and the caller's to close."""
        self._directory = directory
        self._reader = reader
        self._followers: set[asyncio.Task[None]] = set()

    def routes(self) -> Iterable[web.RouteDef]:
        """See RouteGroup."""
        yield web.get("/containerLogs/{namespace}/{pod}/{container}", self.handle, allow_head=False)

    def end(self) -> None:
        """See RouteGroup: followers' clients see an answer that breaks off."""
        for follower in self._followers:
            follower.cancel()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        names = request.match_info
        key = f"{names['namespace']}/{names['pod']}/{names['container']}"
        found = self._find(request)
        if isinstance(found, web.Response):
            return found
        source, options = found
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        try:
            async with self._reader.open(source, options) as stream:
                await response.prepare(request)
                await self._send(stream, response, following=options.follow)
                if stream.malformed:
                    logger.warning(
                        "log of %s: left out %d lines that are not in the CRI format", key, stream.malformed
                    )
        except LogMissingError as error:
            return web.Response(status=400, text=str(error))
        except ConnectionError:
            logger.debug("log of %s: the client is gone", key)
        except OSError as error:
            logger.error("log of %s: %s", key, error)  # noqa: TRY400  the text says it all
            if not response.prepared:
                return web.Response(status=500, text=f"failed to read the log of {key}: {error}")
            # An answer that breaks off must not look complete.
            if request.transport is not None:
                request.transport.abort()
        return response

    def _find(self, request: web.Request) -> tuple[LogSource, LogOptions] | web.Response:
        """The log that is meant and what is wanted of it, or the kubelet's answer to a bad request."""
        names = request.match_info
        query = {name: request.query.getone(name) for name in request.query}
        try:
            options = decode(query, time.time_ns())
            source = self._directory.log_file(
                names["namespace"], names["pod"], names["container"], uid=None, previous=options.previous
            )
        except UndecodableError as error:
            logger.debug("refused %s: %s", request.path_qs, error)
            return web.Response(status=400, text='{"message": "Unable to decode query."}')
        except InvalidOptionsError as error:
            logger.debug("refused %s: %s", request.path_qs, error)
            return web.Response(status=422, text='{"message": "Invalid request."}')
        except (PodNotFoundError, ContainerNotFoundError) as error:
            return web.Response(status=404, text=str(error))
        except ContainerNotReadyError as error:
            return web.Response(status=400, text=str(error))
        return source, options

    async def _send(self, stream: LogStream, response: web.StreamResponse, *, following: bool) -> None:
        async def write(data: bytes) -> None:
            try:
                async with asyncio.timeout(STALLED_AFTER):
                    await response.write(data)
            except TimeoutError as error:
                raise TimeoutError(f"the client has taken nothing for {STALLED_AFTER:g} s") from error

        task = asyncio.current_task()
        if task is not None and following:
            self._followers.add(task)
        try:
            await stream.copy(write)
        finally:
            self._followers.discard(task)
