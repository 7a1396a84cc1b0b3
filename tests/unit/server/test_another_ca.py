"""What becomes of connections that began under another CA than the one by which callers are known now."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import aiohttp
import pytest

from vkubelet.server.auth import AlwaysAllow


async def test_another_ca_ends_handshakes_that_began_under_the_former(
    start, stranger, server_files, eventually
):
    kubelet = await start(authorizer=AlwaysAllow())
    ours = kubelet.authority.client(kubelet.authority.issue("ann"))
    port = int(kubelet.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    await eventually(lambda: kubelet.server.connections == 1)
    kubelet.server.use_tls(stranger.server(server_files))
    with pytest.raises((ConnectionError, ssl.SSLError)):
        async with asyncio.timeout(30):
            await writer.start_tls(ours, server_hostname="127.0.0.1")
    writer.close()
    await eventually(lambda: kubelet.server.connections == 0)


async def test_another_ca_leaves_nobody_waiting_who_has_just_come(start, stranger, server_files, eventually):
    kubelet = await start(authorizer=AlwaysAllow())
    theirs = kubelet.authority.client(stranger.issue("ben"))
    port = int(kubelet.url.rpartition(":")[2])
    for turns in range(4):
        before = kubelet.server.connections
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        while kubelet.server.connections == before:  # noqa: ASYNC110  the very moment, not soon after it
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        kubelet.server.use_tls(stranger.server(server_files))
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            async with asyncio.timeout(10):
                await writer.start_tls(theirs, server_hostname="127.0.0.1")
        writer.close()
    await eventually(lambda: kubelet.server.connections == 0)


async def test_another_ca_ends_idle_connections_and_spares_streams(start, stranger, server_files, eventually):
    kubelet = await start(authorizer=AlwaysAllow())
    ours = kubelet.authority.client(kubelet.authority.issue("ann"))
    theirs = kubelet.authority.client(stranger.issue("ben"))
    url = f"{kubelet.url}/exec/default/web/main"
    connector = aiohttp.TCPConnector(ssl=ours)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect(url) as stream,
        session.ws_connect(url) as other,
    ):
        async with session.get(f"{kubelet.url}/healthz") as response:
            assert response.status == 200
        assert kubelet.server.connections == 3
        kubelet.server.use_tls(stranger.server(server_files))
        await eventually(lambda: kubelet.server.connections == 2)
        for each in (stream, other):
            await each.send_bytes(b"still")
            assert await each.receive_bytes() == b"still"
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await session.get(f"{kubelet.url}/healthz")
        assert await kubelet.ask("/healthz", token=None, ssl=theirs) == (200, "ok")
