"""One client's connection: aiohttp's, with answers to broken requests that tell nothing of the software.

It exists to hold what the server asks of a connection beyond HTTP itself: how much a request's head may
hold, how long a client may take, and whether its caller has been let in. It must not know routes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

logger = logging.getLogger(__name__)

# The kubelet takes heads of 1 MiB; a command to exec is a part of the request line.
MAX_REQUEST_LINE = 512 * 1024
MAX_HEADER = 16 * 1024
MAX_HEADERS = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What the server holds for its clients: times in seconds, and numbers of connections.

    `handshake` is for TLS. `idle` is for a connection without a complete request: the kubelet's IdleTimeout,
    which bounds as well how slowly a request may be sent. `lingering` is for the rest of a body that nobody
    reads, so that its sender gets to see the answer. `strangers` are those who have not been let in yet, a
    part of all `connections`.
    """

    handshake: float = 10.0
    idle: float = 90.0
    lingering: float = 2.0
    strangers: int = 1024
    connections: int = 4096


class Connection(web.RequestHandler):
    """A connection."""

    __slots__ = ("_ended", "known", "retired")

    def __init__(
        self, server: web.Server, limits: Limits, known: Callable[[], None], ended: Callable[[], None]
    ) -> None:
        """`known` is for whoever lets the caller in, `ended` is called when the connection is over."""
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.idle,
            lingering_time=limits.lingering,
            logger=logger,
            access_log=None,  # type: ignore[arg-type]  # what aiohttp itself is given for none
            max_line_size=MAX_REQUEST_LINE,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
            auto_decompress=False,
        )
        self.known = known
        self.retired = False
        self._ended = ended

    def retire(self) -> None:
        """Take no further request: close now, or after the one that is being answered."""
        self.retired = True
        if self._current_request is None:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The transport's word that it is over."""
        super().connection_lost(exc)
        self._ended()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request, and to a failure of ours; the connection ends with it."""
        if status >= 500:
            logger.error("%s %s failed", request.method, request.rel_url, exc_info=exc)
        else:
            logger.debug("refused what %s sent: %s", request.remote, message)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of an answer is sent already")
        phrase = (
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if isinstance(exc, LineTooLong) else HTTPStatus(status)
        )
        response = _Nameless(status=phrase.value, text=f"{phrase.value} {phrase.phrase}")
        response.force_close()
        return response


class _Nameless(web.Response):
    """Tells no software: what is no request never meets the application, whose answers tell none either."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)
