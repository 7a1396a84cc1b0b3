"""HTTP for probes and hooks: one request, one answer, redirections followed while they stay with the host.

It exists because it has to be cheap a thousand times a second, bounded against whatever answers, and told in
the words of Go's client, which people know from a kubelet's events. It must not know what an answer means.
"""

from __future__ import annotations

import asyncio

from vkubelet.pods.probes.connection import Connection, ConnectionFailedError, PlainAnswerError, dial
from vkubelet.pods.probes.http_request import Request
from vkubelet.pods.probes.http_response import BodyError, MalformedHeadError, Response
from vkubelet.pods.probes.url import PORTS, Url, UrlError, join
from vkubelet.pods.text import quoted

_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
_REQUESTS_MAX = 10
_BROKEN = "net/http: HTTP/1.x transport connection broken: "


class GetError(Exception):
    """There is no answer; the text is that of Go's client."""

    def __init__(self, url: Url | str, why: str) -> None:
        super().__init__(f"Get {quoted(str(url))}: {why}")


class PlainHttpError(GetError):
    """What was asked over TLS answers in plain HTTP."""


async def get(request: Request, timeout: float | None) -> Response:
    """The answer to a request, read as far as a kubelet reads one; `timeout` seconds are for all of it.

    Raises GetError when there is none, BodyError when it breaks off.
    """
    exchange = _Exchange(request)
    try:
        async with asyncio.timeout(timeout):
            return await exchange.run()
    except TimeoutError:
        if exchange.response.has_head:
            why = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
            raise BodyError(why) from None
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        raise GetError(exchange.request.url, why) from None


class _Exchange:
    """A request and what it is redirected to."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.response = Response()
        self._hostname = request.url.hostname

    async def run(self) -> Response:
        """See `get`."""
        sent = 0
        while True:
            connection = await self._ask()
            try:
                await self._read_head(connection)
                sent += 1
                following = self._following(sent)
                if following is None:
                    await self._read_body(connection)
                    return self.response
            finally:
                connection.close()
            self.request, self.response = following, Response()

    async def _ask(self) -> Connection:
        """A connection over which the request has been sent. Raises GetError."""
        url = self.request.url
        if url.scheme not in PORTS:
            raise GetError(url, f"unsupported protocol scheme {quoted(url.scheme)}")
        if self.request.fault is not None:
            raise GetError(url, self.request.fault)
        connection = None
        try:
            connection = await dial(url.hostname, PORTS[url.scheme] if url.port is None else url.port)
            if url.scheme == "https":
                await connection.secure(url.hostname)
            await connection.send(self.request.encoded)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, PlainAnswerError):
                raise PlainHttpError(url, str(error)) from error
            if isinstance(error, ConnectionFailedError):
                raise GetError(url, str(error)) from error
            raise
        return connection

    async def _read_head(self, connection: Connection) -> None:
        """Raises GetError, and BodyError when what comes with the head is malformed."""
        try:
            while not self.response.has_head:
                await self._receive(connection)
        except (ConnectionFailedError, MalformedHeadError) as error:
            raise GetError(self.request.url, f"{_BROKEN if self.response.began else ''}{error}") from error

    async def _read_body(self, connection: Connection) -> None:
        """Raises BodyError."""
        try:
            while not self.response.complete:
                await self._receive(connection)
        except ConnectionFailedError as error:
            raise BodyError(str(error)) from error

    async def _receive(self, connection: Connection) -> None:
        data = await connection.receive()
        if data:
            self.response.feed(data)
        else:
            self.response.end()

    def _following(self, sent: int) -> Request | None:
        """The request to send next; None when this answer is the last. Raises GetError."""
        response, url = self.response, self.request.url
        if response.status not in _REDIRECTIONS or not response.location:
            return None
        try:
            to = join(url, response.location)
        except UrlError as error:
            why = f"failed to parse Location header {quoted(response.location)}: {error}"
            raise GetError(url, why) from error
        if to.hostname != self._hostname:
            return None
        if sent >= _REQUESTS_MAX:
            raise GetError(response.location, f"stopped after {_REQUESTS_MAX} redirects")
        relative = "://" not in response.location and not response.location.startswith("//")
        return self.request.redirected(to, relative=relative)
