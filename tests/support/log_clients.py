"""Clients of a log that are slow, and what a process and its server have open because of them."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from vkubelet.pods.directory import LogSource


def descriptors() -> list[str]:
    """What this process has open."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(entry))  # noqa: PTH115  a socket's link is no path
        except FileNotFoundError:
            continue  # the listing's own
    return links


def open_logs(source: LogSource) -> list[str]:
    return [link for link in descriptors() if link.startswith(str(source.path.parent))]


async def raw_follower(node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that takes no more of its answer than a small buffer holds, until it is read."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", node.port))
    context = node.session.connector._ssl
    reader, writer = await asyncio.open_connection(
        sock=plain, ssl=context, server_hostname="127.0.0.1", limit=4096
    )
    writer.write(
        b"GET /containerLogs/default/web/main?follow=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    return reader, writer


async def accepted(node, eventually):
    """The server's side of the only connection."""
    await eventually(lambda: len(node.server._runner.server.connections) == 1)
    return node.server._runner.server.connections[0]


async def read_body(client: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    reader, writer = client
    await reader.readuntil(b"\r\n\r\n")
    body = bytearray()
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    writer.close()
    return bytes(body)


def large(source: LogSource, megabytes: int) -> None:
    line = b"2026-11-24T02:00:00.000000000Z stdout F " + b"x" * 983 + b"\n"
    with source.path.open("wb") as file:
        for _ in range(megabytes):
            file.write(line * 1024)
