"""Connections to what is probed: TCP, and TLS that trusts anybody.

It exists because a node makes a thousand of these a second: a plain socket costs half of what asyncio's
streams do. It must not know what is said over them, nor when to give up. What goes wrong, Go's words tell.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
import ssl

from providers.exhausted import lacking
from vkubelet.pods.descriptors import readable, writable

_CHUNK = 64 * 1024


class ConnectionFailedError(Exception):
    """The connection could not be made or broke; the text is Go's."""


class PlainAnswerError(ConnectionFailedError):
    """Asked for TLS, the peer answered in plain HTTP."""


class Connection:
    """A connection that carries bytes; `close` it in any case."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        """`sock` is connected to `peer` and does not block; it is owned from here on."""
        self._socket = sock
        self._peer = peer

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises ConnectionFailedError."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                await writable(self._socket.fileno())
            except ssl.SSLWantReadError:
                await readable(self._socket.fileno())
            except OSError as error:
                raise self._failure("write", error) from error

    async def receive(self) -> bytes:
        """The next bytes; empty at the end. Raises ConnectionFailedError."""
        while True:
            try:
                return self._socket.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError):
                await readable(self._socket.fileno())
            except ssl.SSLWantWriteError:
                await writable(self._socket.fileno())
            except OSError as error:
                raise self._failure("read", error) from error

    async def secure(self, hostname: str) -> None:
        """Go on over TLS. The peer's certificate is not looked at. Raises ConnectionFailedError."""
        self._socket = _context().wrap_socket(
            self._socket, do_handshake_on_connect=False, server_hostname=hostname
        )
        began = False
        while True:
            try:
                self._socket.do_handshake()
            except ssl.SSLWantReadError:
                await readable(self._socket.fileno())
                if not began:
                    began = True
                    self._check_record()
            except ssl.SSLWantWriteError:
                await writable(self._socket.fileno())
            except OSError as error:
                raise self._failure("read", error) from error
            else:
                return

    def close(self) -> None:
        """Close it; what was sent still arrives."""
        self._socket.close()

    def _check_record(self) -> None:
        """Tell a peer that speaks no TLS by what it sends first. Raises ConnectionFailedError."""
        try:
            first = socket.socket.recv(self._socket, 5, socket.MSG_PEEK)
        except OSError as error:
            raise self._failure("read", error) from error
        if first == b"HTTP/":
            raise PlainAnswerError("http: server gave HTTP response to HTTPS client")
        if first and first[0] not in _RECORDS:
            raise ConnectionFailedError("tls: first record does not look like a TLS handshake")

    def _failure(self, operation: str, error: OSError) -> ConnectionFailedError:
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return ConnectionFailedError("EOF")
        if isinstance(error, ssl.SSLError):
            reason = (error.reason or str(error)).replace("_", " ").lower()
            return ConnectionFailedError(f"tls: {reason}")
        ends = f"{_address(self._socket.getsockname())}->{self._peer}"
        return ConnectionFailedError(f"{operation} tcp {ends}: {operation}: {_text(error.errno)}")


_RECORDS = (21, 22)  # alert, handshake


async def dial(host: str, port: int) -> Connection:
    """Connect to a TCP port of an address or a name. Raises ConnectionFailedError.

    Raises OSError where it is this node that has no more sockets: that says nothing of the other side.
    """
    family = _family(host)
    if family is not None:
        return await _connect(family, (host, port))
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        if lacking(error):
            raise
        why = "no such host" if isinstance(error, socket.gaierror) else _text(error.errno)
        raise ConnectionFailedError(f"dial tcp: lookup {host}: {why}") from error
    failure: ConnectionFailedError | None = None
    for family, _, _, _, address in found:
        try:
            return await _connect(family, address)
        except ConnectionFailedError as error:
            failure = failure or error
    raise failure or ConnectionFailedError(f"dial tcp: lookup {host}: no such host")


def join(host: str, port: int) -> str:
    """An address as messages name it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def refused(host: str, port: int) -> ConnectionFailedError:
    """What is told where nobody listens."""
    return ConnectionFailedError(f"dial tcp {join(host, port)}: connect: {_text(errno.ECONNREFUSED)}")


async def _connect(family: int, address: tuple[object, ...]) -> Connection:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        if lacking(error):
            raise
        raise ConnectionFailedError(f"dial tcp {_address(address)}: socket: {_text(error.errno)}") from error
    try:
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            await writable(sock.fileno())
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except BaseException:
        sock.close()
        raise
    if code:
        sock.close()
        raise ConnectionFailedError(f"dial tcp {_address(address)}: connect: {_text(code)}")
    return Connection(sock, _address(address))


@functools.lru_cache(maxsize=1024)
def _family(host: str) -> int | None:
    """The family of a literal address; None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family
    return None


def _address(address: tuple[object, ...]) -> str:
    return join(str(address[0]), int(str(address[1])))


def _text(code: int | None) -> str:
    return os.strerror(code).lower() if code else "connection failed"


@functools.cache
def _context() -> ssl.SSLContext:
    """TLS 1.2 or later with anybody, in HTTP/1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
