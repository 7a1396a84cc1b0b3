"""The one way to the API server: raw bytes over a pool of kept connections.

It exists because the generated client decodes into models at many times the cost of the request; here a
request is a prepared URL, a header or two and the body's bytes. It knows HTTP, TLS and the `Status` object,
and maps every failure to one of two exceptions. It must not know what is asked for.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import socket
import ssl
import time
import weakref
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec
import yarl

from vkubelet import telemetry
from vkubelet.api.credentials import Credentials, content_of, load, renew
from vkubelet.api.kubeconfig import KubeconfigError
from vkubelet.api.objects import Status

log = logging.getLogger(__name__)

__all__ = ["ApiClient", "ApiError", "ApiUnavailableError", "KubeconfigError"]

STRATEGIC_MERGE = "application/strategic-merge-patch+json"

_CONNECTIONS = 32
"""More would only queue inside the API server. Watches hold connections of their own, without a limit."""

_CONNECT_TIMEOUT = 10.0
_KEEPALIVE_TIMEOUT = 60.0
_DEAD_PEER = 30
"""Seconds after which the kernel gives up a connection whose peer no longer answers; client-go's HTTP/2
pings take 45."""

_SHORTEST_PAUSE = 0.1
"""Retry-After is in whole seconds: a server that says 0 is not asked in a tight loop."""

_LONGEST_LINE = 64 * 1024 * 1024
"""A watch line past this many bytes is no Kubernetes object: etcd takes 1.5 MB by default."""

_REFRESH_PAUSE = 10.0
"""Seconds between two renewals of the credentials, however many requests are refused in between."""

_status_decoder = msgspec.json.Decoder(Status)


class ApiError(Exception):
    """The server answered with an error.

    `reason` is the Status' machine-readable one (`NotFound`, `AlreadyExists`, `Expired`, ...), empty when
    the answer carried none; `retry_after` is in seconds.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class ApiUnavailableError(Exception):
    """No answer came: refused, reset, timed out or TLS failed; the text names the server and the cause."""


class ApiClient:
    """Requests to one API server as one user. Use from one event loop."""

    def __init__(self, credentials: Credentials, path: Path) -> None:
        self._credentials = credentials
        self._path = path
        self._loading = asyncio.Lock()
        self._loaded_at = time.monotonic()
        self._session = _session(_CONNECTIONS)
        self._watches = _session(0)
        self._streams: weakref.WeakSet[aiohttp.ClientResponse] = weakref.WeakSet()
        self.history = 0
        """How often the server was found in an earlier state: what was read before is worth nothing."""

    @classmethod
    async def from_kubeconfig(cls, path: Path) -> Self:
        """A client for the current context of the kubeconfig at `path`. Raises KubeconfigError.

        It costs a process that lives for half a second.
        """
        return cls(await load(path), path)

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._credentials.server

    @property
    def ca_data(self) -> bytes | None:
        """The PEM of the cluster's CA; None when the machine's own authorities are trusted."""
        return self._credentials.ca_data

    async def close(self) -> None:
        """Close every connection; requests under way fail with ApiUnavailableError."""
        await self._session.close()
        await self._watches.close()

    @property
    def credential_files(self) -> tuple[Path, ...]:
        """The kubeconfig and what it names: who renews the credentials writes there."""
        return self._credentials.files or (self._path,)

    async def reload_credentials(self) -> bool:
        """Read the kubeconfig again, as after a certificate's rotation; False if nothing of it has changed.

        New requests use new connections: the pool tells connections apart by their TLS context, so that one
        made with the former certificate is never taken again. Requests under way end in peace. Raises
        KubeconfigError, and then the former credentials stay in use.
        """
        async with self._loading:
            former = self._credentials
            if former.files and await asyncio.to_thread(content_of, former.files) == former.content:
                return False
            self._credentials = await load(self._path, former)
            self._loaded_at = time.monotonic()
            return True

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> bytes:
        """Send one request and return the answer's body.

        `path` begins with a slash and is already escaped; `timeout` bounds everything, in seconds. A server
        that asks for a pause (429 or 5xx with Retry-After) gets it as far as `timeout` allows, as with
        client-go. Raises ApiError and ApiUnavailableError.
        """
        deadline = time.monotonic() + timeout
        refreshed = False
        while True:
            credentials = await self._current()
            try:
                return await self._once(
                    credentials, method, path, body, content_type, query, deadline - time.monotonic()
                )
            except ApiError as error:
                if error.status == 401 and credentials.renewable and not refreshed:
                    refreshed = True
                    await self._refresh(credentials)
                elif error.retry_after is not None and _fits(error.retry_after, deadline):
                    await asyncio.sleep(max(error.retry_after, _SHORTEST_PAUSE))
                else:
                    raise

    async def get(self, path: str, *, query: Mapping[str, str] | None = None, timeout: float = 10.0) -> bytes:
        """GET; as `request`."""
        return await self.request("GET", path, query=query, timeout=timeout)

    async def post(
        self, path: str, body: bytes, *, query: Mapping[str, str] | None = None, timeout: float = 10.0
    ) -> bytes:
        """POST of JSON; as `request`."""
        return await self.request("POST", path, body=body, query=query, timeout=timeout)

    async def put(
        self, path: str, body: bytes, *, query: Mapping[str, str] | None = None, timeout: float = 10.0
    ) -> bytes:
        """PUT of JSON; as `request`."""
        return await self.request("PUT", path, body=body, query=query, timeout=timeout)

    async def patch(
        self, path: str, body: bytes, content_type: str = STRATEGIC_MERGE, *, timeout: float = 10.0
    ) -> bytes:
        """PATCH; as `request`."""
        return await self.request("PATCH", path, body=body, content_type=content_type, timeout=timeout)

    async def delete(self, path: str, body: bytes | None = None, *, timeout: float = 10.0) -> bytes:
        """DELETE, `body` being DeleteOptions; as `request`."""
        return await self.request("DELETE", path, body=body, timeout=timeout)

    def forget_history(self) -> None:
        """The server is in an earlier state, restored: what was read of it may be of a future without it.

        It takes watches from versions that it has not reached yet, and is silent: all of them end here.
        """
        self.history += 1
        for response in tuple(self._streams):
            response.close()

    async def watch(
        self, path: str, query: Mapping[str, str], *, idle_timeout: float
    ) -> AsyncGenerator[bytes, None]:
        """Yield a watch's lines, one JSON document each, until the server ends it.

        No byte for `idle_timeout` seconds, or a connection that breaks, raises ApiUnavailableError; a line
        cut off by the end of the stream is not yielded. Close the iterator (`contextlib.aclosing`) when
        leaving it early. `query` has `watch` and `timeoutSeconds`. Raises ApiError, of status 410 also when
        `forget_history` was called.
        """
        history, credentials = self.history, await self._current()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=idle_timeout)
        try:
            async with self._watches.get(
                _url(credentials, path, query),
                headers=_headers(credentials, None),
                ssl=credentials.tls or True,
                proxy=credentials.proxy,
                server_hostname=credentials.server_hostname,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                telemetry.REST_REQUESTS.inc(str(response.status), _host(credentials), "GET")
                if response.status >= 300:
                    raise _error(credentials, response, await response.read())
                self._streams.add(response)
                if history != self.history:
                    raise _gone_back()
                pending: list[bytes] = []
                size = 0
                async for chunk in response.content.iter_any():
                    *lines, rest = chunk.split(b"\n")
                    for line in lines:
                        yield b"".join((*pending, line))
                        pending.clear()
                        size = 0
                    if rest:
                        pending.append(rest)
                        size += len(rest)
                        if size > _LONGEST_LINE:
                            raise ApiUnavailableError(f"{credentials.server}: watch of {path}: line too long")
        except (aiohttp.ClientError, OSError) as error:
            if history != self.history:
                raise _gone_back() from error
            raise _unavailable(credentials, error) from error
        except ApiError as error:
            if error.status == 401 and credentials.renewable:
                await self._refresh(credentials)
            raise

    async def _once(
        self,
        credentials: Credentials,
        method: str,
        path: str,
        body: bytes | None,
        content_type: str,
        query: Mapping[str, str] | None,
        timeout: float,
    ) -> bytes:
        began = time.monotonic()
        try:
            async with self._session.request(
                method,
                _url(credentials, path, query),
                data=body,
                headers=_headers(credentials, content_type if body is not None else None),
                ssl=credentials.tls or True,
                proxy=credentials.proxy,
                server_hostname=credentials.server_hostname,
                timeout=aiohttp.ClientTimeout(total=max(timeout, 0.001)),
                allow_redirects=False,
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            _count(credentials, method, "<error>", began)
            raise _unavailable(credentials, error) from error
        _count(credentials, method, str(response.status), began)
        if response.status >= 300:
            raise _error(credentials, response, answer)
        return answer

    async def _current(self) -> Credentials:
        credentials = self._credentials
        if time.monotonic() >= credentials.stale_at:
            await self._refresh(credentials)
        return self._credentials

    async def _refresh(self, seen: Credentials) -> None:
        """Renew the credentials unless somebody has just done so since `seen` was handed out."""
        async with self._loading:
            if self._credentials is not seen or time.monotonic() < self._loaded_at + _REFRESH_PAUSE:
                return
            self._loaded_at = time.monotonic()
            try:
                self._credentials = await renew(self._path, self._credentials)
            except KubeconfigError as error:
                # The server decides: the old token may still do, and a plugin may work the next time.
                log.warning("credentials not renewed: %s", error)


def _gone_back() -> ApiError:
    return ApiError(410, "Expired", "the server has gone back to an earlier state")


def _session(connections: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections, keepalive_timeout=_KEEPALIVE_TIMEOUT, socket_factory=_socket
        ),
        headers={"Accept": "application/json", "User-Agent": "vkubelet"},
        cookie_jar=aiohttp.DummyCookieJar(),
        # A watch line of several megabytes should not stop the transport at each 64 KiB.
        read_bufsize=1 << 20,
    )


def _url(credentials: Credentials, path: str, query: Mapping[str, str] | None) -> yarl.URL:
    text = f"{credentials.server}{path}?{urlencode(query)}" if query else credentials.server + path
    return yarl.URL(text, encoded=True)


def _headers(credentials: Credentials, content_type: str | None) -> dict[str, str]:
    headers = {}
    if credentials.authorization is not None:
        headers["Authorization"] = credentials.authorization
    if content_type is not None:
        headers["Content-Type"] = content_type
    return headers


def _host(credentials: Credentials) -> str:
    return urlsplit(credentials.server).netloc


def _count(credentials: Credentials, method: str, code: str, began: float) -> None:
    """As client-go counts: an answer by its status, none at all as an error."""
    host = _host(credentials)
    telemetry.REST_REQUESTS.inc(code, host, method)
    telemetry.REST_DURATION.observe(time.monotonic() - began, host, method)


def _fits(pause: float, deadline: float) -> bool:
    return time.monotonic() + pause < deadline


def _error(credentials: Credentials, response: aiohttp.ClientResponse, body: bytes) -> ApiError:
    try:
        status = _status_decoder.decode(body)
    except msgspec.DecodeError:
        # A proxy's page, or the plain text of an authenticating front end.
        status = Status(message=body[:300].decode("utf-8", "replace").strip())
    retry_after: float | None = None
    if response.status == 429 or response.status >= 500:
        text = response.headers.get("Retry-After", "")
        retry_after = float(text) if text.isdecimal() else None
    message = status.message or (response.reason or "no message")
    until = credentials.certificate_until
    if response.status == 401 and until is not None and until < datetime.datetime.now(datetime.UTC):
        # The server does not say so: it may have taken us for somebody without a certificate.
        message = f"{message} (the client certificate has expired at {until})"
    return ApiError(response.status, status.reason, message, retry_after)


def _unavailable(credentials: Credentials, error: Exception) -> ApiUnavailableError:
    cause = "timed out" if isinstance(error, TimeoutError) else (str(error) or type(error).__name__)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        refused = error.certificate_error
        why = refused.verify_message if isinstance(refused, ssl.SSLCertVerificationError) else str(refused)
        cause = f"its certificate is not taken: {why}"
    elif (
        isinstance(error, aiohttp.ClientConnectorError)
        and not isinstance(error.os_error, ssl.SSLError)
        and error.os_error.errno
    ):
        # aiohttp's own text shows the TLS context's address in memory.
        cause = f"cannot connect: {os.strerror(error.os_error.errno)}"
    return ApiUnavailableError(f"API server {credentials.server}: {cause}")


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket whose dead peer is noticed: a quiet watch would otherwise wait for hours."""
    family, kind, protocol, _, _ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _DEAD_PEER // 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _DEAD_PEER // 6)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER * 1000)
    return connection
