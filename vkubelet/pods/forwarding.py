"""A connection to a port of a pod: only to what one of the pod's own processes listens on.

It exists because guests share the node's network: whoever may forward ports of a pod must not reach what else
listens on the node's addresses. A listening socket is told by its inode, which a process has among its
descriptors (proc(5): /proc/PID/net/tcp, /proc/PID/fd). It must not know pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from vkubelet.pods.interaction import ForwardError

_LISTEN = "0A"
_TIMEOUT = 30.0
"""Seconds for a connection to a socket of this machine, whose backlog may be full."""


def listeners(table: str, port: int) -> Iterator[tuple[str, int]]:
    """Address and inode of each socket that listens on `port`, from the text of /proc/PID/net/tcp or tcp6."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            address, _, number = fields[1].partition(":")
            if int(number, 16) == port:
                yield _address(address), int(fields[9])


def _address(text: str) -> str:
    """The address that the kernel prints as 32-bit numbers of the machine's own byte order."""
    words = [bytes.fromhex(text[start : start + 8]) for start in range(0, len(text), 8)]
    raw = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return str(ipaddress.ip_address(raw))


def _inodes(pid: int) -> set[int]:
    """The sockets that a process has open; none if it is gone, or not this node's to look into."""
    found = set()
    with (
        contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError),
        os.scandir(f"/proc/{pid}/fd") as entries,
    ):
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(entry.path)  # noqa: PTH115  no path is meant
                if target.startswith("socket:["):
                    found.add(int(target[8:-1]))
    return found


def listening(pids: Iterable[int], port: int) -> str | None:
    """The address at which one of these processes listens on `port`; None if none does. Blocks."""
    for pid in pids:
        own = _inodes(pid)
        for name in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                table = Path(f"/proc/{pid}/net/{name}").read_text()
                for address, inode in listeners(table, port):
                    if inode in own:
                        return address
    return None


async def connect(pids: Iterable[int], port: int) -> socket.socket:
    """A non-blocking connection to the socket that one of these processes listens on. Raises ForwardError."""
    found = await asyncio.to_thread(listening, tuple(pids), port)
    if found is None:
        raise ForwardError(f"failed to connect to port {port} of the pod: connection refused")
    address = ipaddress.ip_address(found)
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    connection = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(_TIMEOUT):
            await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
    except OSError as error:
        connection.close()
        reason = error.strerror or "timed out"
        raise ForwardError(f"failed to connect to port {port} of the pod: {reason.lower()}") from error
    except BaseException:
        connection.close()
        raise
    return connection
