"""HTTP for registries: a requests session with deadlines, careful redirects and a way to be interrupted.

It exists because what `oras` and `requests` do by default is not fit for a node: no timeout, a redirect's
body read to its end, `~/.netrc` in place of the token, a download that nothing can stop. Everything that goes
to a registry goes through here. It must not know what is asked for.
"""

from __future__ import annotations

import logging
import socket
import threading
import weakref
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.poolmanager import PoolManager, ProxyManager

log = logging.getLogger(__name__)

# At debug level urllib3 logs whole URLs, and a redirect's may hold a signature that opens the content.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)

_REDIRECTS = 5
_LEFTOVER = 64 * 1024
_FOLLOWED = (301, 302, 303, 307, 308)


class RedirectError(requests.RequestException):
    """A redirect that is not followed; the text says where it leads, without the query."""


class InterruptedTransferError(requests.RequestException):
    """The session was interrupted by its owner."""


class Interrupt:
    """Ends the transfers of a session from another thread: a blocked read returns at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._raised = False

    def watch(self, connection: socket.socket) -> None:
        """Include a new connection. Raises InterruptedTransferError when it comes too late."""
        with self._lock:
            if self._raised:
                connection.close()
                raise InterruptedTransferError("interrupted")
            self._sockets.add(connection)

    def interrupt(self) -> None:
        """End all transfers, now and to come."""
        with self._lock:
            self._raised = True
            for connection in self._sockets:
                _shut_down(connection)


def _shut_down(connection: socket.socket) -> None:
    """Not `close`, which another thread's read would survive; and not TLS's own shutdown, which that
    thread's state does not survive.
    """
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        return  # it has ended by itself


class _Adapter(HTTPAdapter):
    """Makes connections that an Interrupt knows."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._pools = _pool_classes(interrupt)
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager: PoolManager
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> ProxyManager:
        manager: ProxyManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _pool_classes(interrupt: Interrupt) -> dict[str, Any]:
    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            interrupt.watch(self.sock)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            interrupt.watch(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _as_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """An authentication that adds nothing: with none, requests would put one from `~/.netrc`."""
    return request


class Session(requests.Session):
    """A requests session for one registry. Times are seconds.

    `connect_timeout` bounds a connection's set-up, `read_timeout` the time between two pieces of an answer.
    Answers come unread (`stream`) and must be closed.
    """

    def __init__(self, *, connect_timeout: float, read_timeout: float) -> None:
        super().__init__()
        self._timeouts = (connect_timeout, read_timeout)
        self._interrupt = Interrupt()
        adapter = _Adapter(self._interrupt)
        self.mount("https://", adapter)
        self.mount("http://", adapter)
        self.auth = _as_is
        self.headers["User-Agent"] = "vkubelet"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def interrupt(self) -> None:
        """End all transfers, now and to come; may be called from any thread."""
        self._interrupt.interrupt()

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: requests looks at redirects even when told not to follow, and reads their bodies whole."""
        return None

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """As requests', with the deadlines; GET and HEAD follow a few redirects.

        A redirect loses the Authorization header when it leaves the origin, and is refused when it leaves
        TLS. Raises requests.RequestException.
        """
        kwargs.update(timeout=self._timeouts, allow_redirects=False, stream=True)
        method, url = _text(method).upper(), _text(url)
        for _ in range(_REDIRECTS + 1):
            response = super().request(method, url, *args, **kwargs)
            location = response.headers.get("Location", "")
            if response.status_code not in _FOLLOWED or not location or method not in ("GET", "HEAD"):
                return response
            finish(response)
            try:
                target = urljoin(url, location)
                leaves = _origin(url) != _origin(target)
            except ValueError as error:
                raise RedirectError(f"redirect to what is no URL: {error}") from error
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
                raise RedirectError(f"redirect from {_shown(url)} to {_shown(target)}: it leaves TLS")
            if leaves:
                headers = dict(kwargs.get("headers") or {})
                headers.pop("Authorization", None)
                kwargs["headers"] = headers
            kwargs.pop("params", None)
            url = target
        raise RedirectError(f"more than {_REDIRECTS} redirects, the last to {_shown(url)}")


def finish(response: requests.Response) -> None:
    """Read the little that may be left of an answer, so that its connection can be used again."""
    left = response.raw.length_remaining
    if left is not None and left <= _LEFTOVER:
        try:
            response.raw.read(_LEFTOVER, decode_content=False)
        except HTTPError:
            log.debug("connection not kept: its answer did not end")
    response.close()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs lead to the same scheme, host and port. A malformed one leads nowhere."""
    try:
        return _origin(one) == _origin(other)
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def _shown(url: str) -> str:
    """A URL without its query, which may be a signature that opens the content to whoever reads it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"[
        :200
    ]
