"""Slow sides, floods, silence, and clients that vanish when nobody looks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import tracemalloc
from pathlib import Path

import aiohttp
import pytest
from spdy_client import SpdyClient, spdy_client

from vkubelet.server.commands import CommandRoutes
from vkubelet.server.log_reader import LogReader
from vkubelet.server.portforward import PortForwardRoutes
from vkubelet.server.streams import connection, hangup, upgrade
from vkubelet.server.streams.connection import MAX_ANSWERS, SpdyConnection
from vkubelet.server.streams.upgrade import TransportWire

PATH = "/exec/default/web/main"
V5 = "v5.channel.k8s.io"


async def opened(client: SpdyClient, *names: str) -> list[int]:
    ids = [await client.open(streamtype=name) for name in names]
    await client.until(lambda: client.replied >= set(ids))
    return ids


@contextlib.asynccontextmanager
async def websocket(streams, path: str, protocol: str = V5):
    url = f"{'wss' if streams.tls else 'ws'}://127.0.0.1:{streams.port}{path}"
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
        session.ws_connect(url, protocols=[protocol], ssl=streams.tls or True) as socket,
    ):
        yield socket


async def count(run) -> int:
    """A command that says how much it was given."""
    total = 0
    while data := await run.input():
        total += len(data)
    await run.print(str(total).encode())
    return 0


async def flood(run) -> int:
    """A command that prints 20 MB, and says so."""
    for _ in range(20 * 16):
        await run.print(b"x" * 65536)
    return 9


async def deaf(run) -> int:
    """A command that takes nothing."""
    await asyncio.get_running_loop().create_future()
    return 0


@pytest.mark.parametrize("way", ["spdy", "websocket"])
async def test_much_input_flows_in_little_memory(streams, way):
    streams.pods.script = count
    path = f"{PATH}?command=wc&input=1&output=1"
    size, piece = 128 * 1024 * 1024, bytes(32768)
    tracemalloc.start()
    try:
        if way == "spdy":
            async with spdy_client(streams.port, path, tls=streams.tls) as client:
                error, stdin, out = await opened(client, "error", "stdin", "stdout")
                for _ in range(size // len(piece)):
                    await client.write(stdin, piece)
                await client.write(stdin, b"", fin=True)
                await client.until(lambda: client.ended >= {error, out})
                answer = bytes(client.received[out])
        else:
            async with websocket(streams, path) as socket:
                for _ in range(size // len(piece)):
                    await socket.send_bytes(b"\0" + piece)
                await socket.send_bytes(b"\xff\0")
                answer = b"".join([message.data[1:] async for message in socket if message.data[0] == 1])
        assert answer == str(size).encode()
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", ["spdy", "websocket"])
async def test_a_client_that_reads_late_gets_all_and_the_command_waits(streams, way, monkeypatch):
    monkeypatch.setattr(connection, "LINGER", 0.0)
    paused = asyncio.Event()
    most = 0

    async def script(run) -> int:
        nonlocal most
        for number in range(20 * 16):
            if not paused.is_set():
                most = number
            await run.print(b"x" * 65536)
        return 9

    streams.pods.script = script
    path = f"{PATH}?command=yes&output=1"
    if way == "spdy":
        original = SpdyConnection.pause

        def pause(self: SpdyConnection) -> None:
            paused.set()
            original(self)

        monkeypatch.setattr(SpdyConnection, "pause", pause)
        async with spdy_client(streams.port, path, tls=streams.tls) as client:
            error, out = await opened(client, "error", "stdout")
            async with asyncio.timeout(30):
                await paused.wait()
            await client.until(lambda: client.ended >= {error, out})
            await client.until(lambda: client.gone)
            assert len(client.received[out]) == 20 * 1024 * 1024
            status = bytes(client.received[error])
    else:
        # Without a reader, the client's own queue fills first.
        async with websocket(streams, path) as socket:
            received = [message.data async for message in socket]
            assert sum(len(data) - 1 for data in received if data[0] == 1) == 20 * 1024 * 1024
            status = received[-1][1:]
    assert json.loads(status)["details"]["causes"][0]["message"] == "9"


@pytest.mark.parametrize("way", ["spdy", "websocket"])
async def test_a_client_that_vanishes_behind_input_that_nobody_reads(streams, way, monkeypatch, eventually):
    """The end of the connection stands behind what is not read; two chunks are with the command."""
    monkeypatch.setattr(hangup, "PATIENCE", 0.01)
    monkeypatch.setattr(upgrade, "PATIENCE", 0.01)
    streams.pods.script = deaf
    path = f"{PATH}?command=sleep&input=1&output=1"
    if way == "spdy":
        async with spdy_client(streams.port, path, tls=streams.tls) as client:
            _, stdin, _ = await opened(client, "error", "stdin", "stdout")
            for _ in range(6):
                await client.write(stdin, bytes(32768))
            await eventually(lambda: streams.pods.running == 1)
    else:
        async with websocket(streams, path) as socket:
            for _ in range(11):
                await socket.send_bytes(bytes(32768))
            await eventually(lambda: streams.pods.running == 1)
            socket._response.connection.transport.abort()
    await eventually(lambda: streams.pods.left == 1)


async def test_answers_that_are_not_taken_stop_the_reading(streams, monkeypatch):
    """A flood of pings by a client that reads nothing: what waits for it has a bound."""
    stopped = asyncio.Event()
    most = 0
    original = TransportWire.pause_reading
    feeding = SpdyConnection.feed

    def pause_reading(self: TransportWire) -> None:
        stopped.set()
        original(self)

    def feed(self: SpdyConnection, data: bytes) -> None:
        nonlocal most
        feeding(self, data)
        most = max(most, self._answers)

    monkeypatch.setattr(TransportWire, "pause_reading", pause_reading)
    monkeypatch.setattr(SpdyConnection, "feed", feed)
    streams.pods.script = deaf
    path = f"{PATH}?command=x&output=1"
    async with spdy_client(streams.port, path, tls=streams.tls, receive_buffer=4096) as client:
        await opened(client, "error", "stdout")
        client.reader._transport.pause_reading()
        pings = b"".join(client.session.ping()[1] for _ in range(5000))

        async def send() -> None:
            while True:
                await client.send(pings)

        sending = asyncio.create_task(send())
        async with asyncio.timeout(30):
            await stopped.wait()
        sending.cancel()
        await asyncio.wait([sending])
        assert most <= MAX_ANSWERS + 256 * 1024
        client.reader._transport.resume_reading()
        number, ping = client.session.ping()
        client.writer.write(ping)
        await client.until(lambda: number in client.pongs)


@pytest.mark.parametrize("way", ["spdy", "websocket"])
async def test_silence_ends_a_connection(streams, way, monkeypatch):
    for group in (streams.commands, streams.forwards):
        monkeypatch.setattr(group, "_idle_timeout", 0.1)
    streams.pods.script = deaf
    path = f"{PATH}?command=sleep&input=1&output=1"
    if way == "spdy":
        async with spdy_client(streams.port, path, tls=streams.tls) as client:
            await opened(client, "error", "stdin", "stdout")
            await client.until_end()
            assert client.gone is not None
    else:
        async with websocket(streams, path) as socket:
            assert [message.data async for message in socket] == [b"\x01"]
            assert socket.close_code == 1000
    assert streams.pods.left == 1


async def test_a_command_that_does_not_read_does_not_stop_the_rest(streams):
    """Input that a command refuses is dropped, and its output still comes."""

    async def script(run) -> int:
        run.reads_input = False
        await run.sizes.get()
        await run.print(b"done")
        return 0

    streams.pods.script = script
    path = f"{PATH}?command=x&input=1&output=1&tty=1"
    async with spdy_client(streams.port, path, tls=streams.tls) as client:
        error, stdin, out, resize = await opened(client, "error", "stdin", "stdout", "resize")
        for _ in range(100):
            await client.write(stdin, bytes(32768))
        await client.write(resize, b'{"Width":1,"Height":1}')
        await client.until(lambda: client.ended >= {error, out})
        assert client.received[out] == b"done"


async def test_output_that_the_client_resets_is_still_read(streams):
    """The command runs to its end, as behind a closed pager."""

    async def script(run) -> int:
        for _ in range(100):
            await run.print(bytes(65536))
        return 4

    streams.pods.script = script
    async with spdy_client(streams.port, f"{PATH}?command=x&output=1", tls=streams.tls) as client:
        error, out = await opened(client, "error", "stdout")
        await client.send(client.session.reset(out))
        await client.until(lambda: error in client.ended)
        assert b'"message":"4"' in client.received[error]


@pytest.mark.parametrize(
    "rubbish", [b"no json", b"[]", b'{"Width":-1}', b'{"Width":65536}', b"[" * 5000, b'{"Width":true}']
)
async def test_sizes_that_are_none_are_ignored(streams, rubbish):
    async def script(run) -> int:
        while await run.input():
            pass
        return int(run.sizes.qsize())

    streams.pods.script = script
    path = f"{PATH}?command=x&input=1&output=1&tty=1"
    async with spdy_client(streams.port, path, tls=streams.tls) as client:
        error, stdin, out, resize = await opened(client, "error", "stdin", "stdout", "resize")
        await client.write(resize, rubbish)
        await client.write(resize, b'{"Width":1,"Height":1}' * 4000)
        await client.write(stdin, b"x", fin=True)
        await client.until(lambda: client.ended >= {error, out})
        assert client.received[error] == b'{"status":"Success"}'


async def test_200_at_once(streams):
    async def script(run) -> int:
        while data := await run.input():
            await run.print(data)
        return 0

    streams.pods.script = script
    path = f"{PATH}?command=cat&input=1&output=1"
    all_there = asyncio.Barrier(200)

    async def one(number: int) -> bytes:
        async with spdy_client(streams.port, path, tls=streams.tls) as client:
            error, stdin, out = await opened(client, "error", "stdin", "stdout")
            await all_there.wait()
            await client.write(stdin, b"%d" % number, fin=True)
            await client.until(lambda: client.ended >= {error, out})
            return bytes(client.received[out])

    async with asyncio.timeout(60):
        got = await asyncio.gather(*map(one, range(200)))
    assert got == [b"%d" % number for number in range(200)]


def asked_for_life(peer: int) -> tuple[int, ...] | None:
    """How the connection of this process whose peer has this port is kept alive."""
    for entry in Path("/proc/self/fd").iterdir():
        if not entry.is_socket():
            continue
        with socket.socket(fileno=os.dup(int(entry.name))) as found, contextlib.suppress(OSError):
            if found.family == socket.AF_INET and found.getpeername()[1] == peer:
                options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                times = (found.getsockopt(socket.IPPROTO_TCP, option) for option in options)
                return (found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *times)
    return None


@pytest.mark.parametrize("way", ["spdy", "websocket"])
async def test_a_silent_client_is_asked_for_a_sign_of_life(streams, way):
    streams.pods.script = deaf
    path = f"{PATH}?command=sleep&output=1"
    if way == "spdy":
        async with spdy_client(streams.port, path, tls=streams.tls) as client:
            await opened(client, "error", "stdout")
            asked = asked_for_life(client.writer.get_extra_info("sockname")[1])
    else:
        async with websocket(streams, path) as client:
            await client.receive()
            asked = asked_for_life(client.get_extra_info("sockname")[1])
    assert asked == (1, 15, 15, 9)


async def test_defaults_are_the_kubelets(pods):
    with contextlib.closing(LogReader()) as reader:
        both = CommandRoutes(pods, reader), PortForwardRoutes(pods)
    for routes in both:
        assert (routes._idle_timeout, routes._creation_timeout) == (4 * 3600, 30)
