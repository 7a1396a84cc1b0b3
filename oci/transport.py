"""HTTP for registries: a requests session with deadlines, careful redirects and a way to be interrupted.

It exists because what `oras` and `requests` do by default is not fit for a node: no timeout, a redirect's
body read to its end, `~/.netrc` in place of the token, authorities and proxies by rules of their own, a
download that nothing can stop. Everything that goes to a registry goes through here. It must not know what is
asked for.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import weakref
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, disable_warnings
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, InsecureRequestWarning
from urllib3.poolmanager import PoolManager, ProxyManager

from oci import proxies, tls
from oci.hosts import Host

log = logging.getLogger(__name__)

# At debug level urllib3 logs whole URLs, and a redirect's may hold a signature that opens the content.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)

# Whom not to verify is the administrator's decision, who need not hear of it at each request.
disable_warnings(InsecureRequestWarning)

_REDIRECTS = 5
_LEFTOVER = 64 * 1024
_FOLLOWED = (301, 302, 303, 307, 308)


class RedirectError(requests.RequestException):
    """A redirect that is not followed; the text says where it leads, without the query."""


class ProxyFailedError(requests.RequestException):
    """A proxy that cannot be reached or refuses; the text names it, its cause tells why."""


class InterruptedTransferError(requests.RequestException):
    """The session was interrupted by its owner."""


class Interrupt:
    """Ends the transfers of sessions from another thread: a blocked read returns at once."""

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

    @property
    def is_raised(self) -> bool:
        """Whether all transfers have been ended."""
        return self._raised

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
    """Makes connections that an Interrupt knows, with the TLS context of a host."""

    def __init__(self, interrupt: Interrupt, host: Host) -> None:
        self._pools = _pool_classes(interrupt)
        self._host = host
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager: PoolManager
        self.poolmanager.pool_classes_by_scheme = self._pools

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        """Requests' key of a connection, with this context for all that it says of TLS."""
        parts = urlsplit(_text(request.url or ""))
        key = {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}
        return key, {"ssl_context": tls.context(self._host)} if parts.scheme == "https" else {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: requests would add authorities of its own to the context's."""

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> ProxyManager:
        if proxy.startswith("https:"):
            kwargs["proxy_ssl_context"] = tls.context(Host(proxy))
        manager: ProxyManager = super().proxy_manager_for(proxy, **kwargs)
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


class Session(requests.Session):
    """A requests session for one host of a registry, and for where it sends us. Times are seconds.

    `connect_timeout` bounds a connection's set-up, unless the host has its own; `read_timeout` the time
    between two pieces of an answer. Answers come unread (`stream`) and must be closed. The host's headers and
    certificates, and leave not to verify it, are for no other host; its authorities hold for all, as a token
    service's certificate is likely theirs.
    """

    def __init__(
        self, host: Host, interrupt: Interrupt, *, connect_timeout: float, read_timeout: float
    ) -> None:
        super().__init__()
        self._host = host
        self._timeouts = (host.connect_timeout or connect_timeout, read_timeout)
        self._proxies = proxies.from_environment(os.environ)
        self._own = _Adapter(interrupt, host)
        self._others = _Adapter(interrupt, Host(host.url, ca=host.ca))
        self.trust_env = False
        self.headers["User-Agent"] = "vkubelet"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def get_adapter(self, url: str) -> _Adapter:
        """By where it leads, however it is spelt."""
        return self._own if same_origin(url, self._host.url) else self._others

    def close(self) -> None:
        """Close the connections."""
        self._own.close()
        self._others.close()

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: requests looks at redirects even when told not to follow, and reads their bodies whole."""
        return None

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """As requests', with the deadlines; GET and HEAD follow a few redirects.

        A redirect loses the Authorization header when it leaves the origin, and is refused when it leaves
        TLS. Raises requests.RequestException, ProxyError and HostsError.
        """
        kwargs.update(timeout=self._timeouts, allow_redirects=False, stream=True)
        method, url = _text(method).upper(), _text(url)
        for _ in range(_REDIRECTS + 1):
            response = self._once(method, url, *args, **kwargs)
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

    def _once(
        self, method: str, url: str, *args: Any, headers: Any = None, **kwargs: Any
    ) -> requests.Response:
        """One request, as the host wants it if it is the host's, by the proxy if there is one."""
        own = dict(self._host.header) if same_origin(url, self._host.url) else {}
        # What the request itself says counts more: an answer to a challenge.
        kwargs["headers"] = CaseInsensitiveDict({**own, **(headers or {})})
        proxy = self._proxies.of(url)
        kwargs["proxies"] = {} if proxy is None else {urlsplit(url).scheme: proxy}
        try:
            return super().request(method, url, *args, **kwargs)
        except requests.exceptions.ProxyError as error:
            raise ProxyFailedError(f"proxy {proxies.without_user(proxy or '')}") from error


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
    port = parts.port or proxies.PORTS.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def _shown(url: str) -> str:
    """A URL without its query, which may be a signature that opens the content to whoever reads it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"[
        :200
    ]
