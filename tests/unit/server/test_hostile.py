"""What no honest client sends, byte by byte over real sockets: each is answered or dropped, nothing stays."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from vkubelet.server.app import KubeletServer
from vkubelet.server.auth import AlwaysAllow, KubeletAuth
from vkubelet.server.connection import MAX_HEADER, MAX_HEADERS, MAX_REQUEST_LINE, Limits

DEADLINE = 20.0
HOST = b"Host: x\r\n"
POST = b"POST /body HTTP/1.1\r\n" + HOST
GET = b"GET /healthz HTTP/1.1\r\n" + HOST


class Routes:
    """One route that takes any path below it, as /logs/ does, and one whose answer waits."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.waiting = 0
        self.go = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/logs/{path:.*}", self.log),
            web.get("/wait", self.wait),
            web.post("/body", self.body),
        ]

    def end(self) -> None:
        self.go.set()

    async def log(self, request: web.Request) -> web.Response:
        self.paths.append(request.match_info["path"])
        return web.Response(text="log")

    async def wait(self, request: web.Request) -> web.Response:
        self.waiting += 1
        await self.go.wait()
        return web.Response(text="done")

    async def body(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())


@dataclass
class Victim:
    """A server, and what it held before anything was done to it."""

    port: int
    server: KubeletServer
    routes: Routes
    tls: ssl.SSLContext
    stranger: ssl.SSLContext

    async def connect(
        self, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=tls or self.tls)

    async def say(self, data: bytes, *, closes: bool = True) -> bytes:
        """All that is answered to `data` until the server closes; `closes` says that it must do so itself."""
        reader, writer = await self.connect()
        try:
            async with asyncio.timeout(DEADLINE):
                writer.write(data)
                if not closes:
                    writer.write(GET + b"Connection: close\r\n\r\n")
                return await _read(reader)
        finally:
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, however it does."""
    answer = b""
    try:
        while data := await reader.read(65536):
            answer += data
    except (ConnectionError, ssl.SSLError):
        pass
    return answer


def _sockets() -> int:
    """How many sockets this process holds; uvloop opens other files when it sees fit."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += str(entry.readlink()).startswith("socket:")
    return found


Attack = Callable[..., Any]


@pytest.fixture
async def attack(authority, server_files, client_files, eventually) -> AsyncIterator[Attack]:
    """Starts a server with the given limits; afterwards it must still serve, and hold nothing."""
    async with AsyncExitStack() as ends:

        async def start(**limits: Any) -> Victim:
            routes = Routes()
            server = KubeletServer(
                address="127.0.0.1",
                port=0,
                tls=authority.server(server_files),
                healthy=lambda: None,
                auth=KubeletAuth("here", AlwaysAllow()),
                groups=[routes],
                limits=Limits(**{"lingering": 0.05, **limits}),
            )
            port = await server.start()
            ends.push_async_callback(server.close)
            victim = Victim(port, server, routes, authority.client(client_files), authority.client(None))
            tasks, sockets = asyncio.all_tasks(), _sockets()

            async def check() -> None:
                await eventually(lambda: server.connections == 0)
                await eventually(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})
                await eventually(lambda: _sockets() <= sockets)
                answer = await victim.say(GET + b"Connection: close\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert answer.endswith(b"ok")

            ends.push_async_callback(check)
            return victim

        yield start


@pytest.mark.parametrize(
    "request_",
    [
        # Two lengths, or a length and chunks: where the body ends would be a matter of opinion.
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4, 4\r\n\r\nabcd",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: -4\r\n\r\nabcd",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 0x4\r\n\r\nabcd",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4 4\r\n\r\nabcd",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\nabcd",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\nabcd",
        # A Transfer-Encoding that is not exactly what is understood.
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        # Lines that end otherwise, or go on.
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\tc: d\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: x\n\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\rX-A: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: b\0c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX A: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nnothing\r\n\r\n",
        # Chunks that are none.
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\na\r\n0\r\n\r\n",
        # No request at all.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"FOO /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1 \r\nHost: x\r\n\r\n",
        b"GET /hea lthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_can_be_read_in_two_ways_is_read_in_none(attack, caplog, request_):
    victim = await attack()
    with caplog.at_level(logging.INFO):
        answer = await victim.say(request_ + b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    heads = re.split(rb"HTTP/1\.[01] ", answer)[1:]
    assert len(heads) <= 1, "a second request was seen in one"
    for head in heads:
        assert head.startswith(b"400 "), answer
        assert b"\r\nServer:" not in head
        assert head.endswith((b"\r\n\r\n400 Bad Request",))
    assert victim.routes.waiting == 0
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * (MAX_REQUEST_LINE + 100) + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * (MAX_HEADER + 100) + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\n" + b"a" * (MAX_HEADER + 100) + b": b\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n", 400),
        (b"GET /" + b"a" * (MAX_REQUEST_LINE + 100), 431),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * (MAX_HEADER + 100), 431),
    ],
)
async def test_a_head_is_only_so_big(attack, request_, status):
    victim = await attack()
    assert re.match(rb"HTTP/1\.[01] %d " % status, await victim.say(request_))


async def test_only_one_transfer_coding_is_known(attack):
    victim = await attack()
    answer = await victim.say(
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + GET + b"\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 501 ")
    assert answer.count(b"HTTP/1.1") == 1


async def test_a_long_command_fits(attack):
    victim = await attack()
    line = b"GET /logs/x?command=" + b"a" * 200_000
    assert b"\r\n\r\nlog" in await victim.say(line + b" HTTP/1.1\r\n" + HOST + b"\r\n", closes=False)


@pytest.mark.parametrize(
    "path",
    [
        "/logs/../exec/a/b/c",
        "/logs/..",
        "/logs/.",
        "/logs/./a",
        "/logs/%2e%2e/etc/passwd",
        "/logs/%2E%2E/etc/passwd",
        "/logs/.%2e/etc/passwd",
        "/logs/..%2fetc%2fpasswd",
        "/logs/a%2f..%2f..%2fetc",
        "/logs/%2fetc/passwd",
        "/logs//etc/passwd",
        "/logs/a//b",
        "/logs/a%00b",
        "//logs/a",
        "//healthz",
        "/./healthz",
        "/metrics/../healthz",
        "/healthz/..",
        "/%2e%2e/healthz",
        "/containerLogs/default/web/..%2F..%2Fetc",
        "/containerLogs/../logs/a",
        "/containerLogs//web/main",
        "http://x/logs/../a",
    ],
)
async def test_a_path_means_what_it_says_or_nothing(attack, path):
    victim = await attack()
    answer = await victim.say(f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n", closes=False)
    assert answer.startswith(b"HTTP/1.1 404 "), answer
    assert victim.routes.paths == []


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/logs/", ""),
        ("/logs/a/b/", "a/b/"),
        ("/logs/...", "..."),
        ("/logs/..a/.b", "..a/.b"),
        ("/logs/%252e%252e/a", "%2e%2e/a"),
        ("/logs/a?x=/../b", "a"),
        ("/logs/%C3%A9", "é"),
        ("/logs/..\\a", "..\\a"),
    ],
)
async def test_a_path_that_only_looks_odd_is_served(attack, path, seen):
    victim = await attack()
    answer = await victim.say(f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n", closes=False)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert victim.routes.paths == [seen]


@pytest.mark.parametrize("sent", [None, b"", b"\x16\x03\x01", b"GET /healthz HTTP/1.1\r\n\r\n"])
async def test_a_handshake_takes_only_so_long(attack, sent):
    victim = await attack(handshake=0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", victim.port)
    if sent:
        writer.write(sent)
    async with asyncio.timeout(DEADLINE):
        await _read(reader)
    writer.close()


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /healthz HTTP/1.1\r\nX-Slow: ", GET])
async def test_a_request_takes_only_so_long(attack, sent):
    victim = await attack(idle=0.1)
    assert await victim.say(sent) == b""


async def test_drips_buy_no_time(attack):
    victim = await attack(idle=0.2)
    reader, writer = await victim.connect()
    ended = asyncio.ensure_future(_read(reader))
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    async with asyncio.timeout(DEADLINE):
        while not ended.done():
            writer.write(b"X: y\r\n")
            await asyncio.wait([ended], timeout=0.01)
    assert await ended == b""
    writer.transport.abort()


async def test_an_answered_client_has_as_long_for_the_next_request_and_no_longer(attack):
    victim = await attack(idle=0.1)
    answer = await victim.say(GET + b"\r\n" + b"GET /heal")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b"ok")


async def test_a_body_that_nobody_reads_is_not_taken_for_ever(attack):
    victim = await attack()
    reader, writer = await victim.connect()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n")
    reading = asyncio.ensure_future(_read(reader))
    async with asyncio.timeout(DEADLINE):
        try:
            while not (reading.done() or writer.is_closing()):
                writer.write(b"x" * 65536)
                await writer.drain()
                await asyncio.sleep(0)  # to drain what nothing waits for lets nobody else run
        except (ConnectionError, ssl.SSLError):
            pass
        answer = await reading
    assert answer.startswith(b"HTTP/1.1 200 ") or answer == b""
    assert answer.count(b"HTTP/1.1 ") <= 1
    writer.transport.abort()


async def test_bodies_to_read_routes_are_passed_over(attack):
    victim = await attack()
    answer = await victim.say(
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, closes=False
    )
    assert answer.count(b"HTTP/1.1 200 ") == 2


async def test_a_pipeline_is_answered_in_order_and_held_in_bounds(attack, eventually):
    victim = await attack()
    reader, writer = await victim.connect()
    writer.write(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n")
    await eventually(lambda: victim.routes.waiting == 1)
    count = 5_000
    pipeline = (GET + b"\r\n") * (count - 1) + GET + b"Connection: close\r\n\r\n"
    sending = asyncio.ensure_future(_send(writer, pipeline))
    # The server stops taking them: what it has not answered stays with the sender.
    (connection,) = victim.server._runner.server.connections
    await eventually(lambda: connection._buffer_paused)
    held = len(connection._messages)
    assert 0 < held < 1000
    victim.routes.go.set()
    async with asyncio.timeout(3 * DEADLINE):
        answer = await _read(reader)
        await sending
    assert answer.count(b"HTTP/1.1 200 ") == count + 1
    writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    for offset in range(0, len(data), 65536):
        writer.write(data[offset : offset + 65536])
        await writer.drain()


async def test_clients_that_vanish_in_the_middle(attack, eventually):
    victim = await attack()
    for sent in (
        b"",
        b"GET /hea",
        GET,
        GET + b"\r\n",
        b"POST /body HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc",
    ):
        _, writer = await victim.connect()
        writer.write(sent)
        await writer.drain()
        writer.transport.abort()
    _, writer = await victim.connect()
    writer.write(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n")
    await eventually(lambda: victim.routes.waiting == 1)
    writer.transport.abort()


async def test_a_flood_of_strangers_drops_the_oldest_of_them(attack, eventually):
    victim = await attack(strangers=5)
    known_reader, known = await victim.connect()
    known.write(GET + b"\r\n")
    assert await known_reader.readuntil(b"ok")
    flood = [await asyncio.open_connection("127.0.0.1", victim.port) for _ in range(50)]
    await eventually(lambda: victim.server.connections <= 6)
    # Who means it gets through, and who was let in stays.
    assert (await victim.say(GET + b"Connection: close\r\n\r\n")).endswith(b"ok")
    known.write(GET + b"\r\n")
    assert await known_reader.readuntil(b"ok")
    async with asyncio.timeout(DEADLINE):
        for reader, _ in flood[:45]:
            await _read(reader)
    for _, writer in (*flood, (None, known)):
        writer.transport.abort()


async def test_strangers_who_speak_tls_are_dropped_as_well(attack, eventually):
    victim = await attack(strangers=3)
    flood = [await victim.connect(victim.stranger) for _ in range(12)]
    await eventually(lambda: victim.server.connections <= 3)
    assert (await victim.say(GET + b"Connection: close\r\n\r\n")).endswith(b"ok")
    for _, writer in flood:
        writer.transport.abort()


async def test_when_all_connections_are_taken_by_friends_the_next_one_waits(attack, eventually):
    victim = await attack(connections=2)
    friends = [await victim.connect() for _ in range(2)]
    for reader, writer in friends:
        writer.write(GET + b"\r\n")
        assert await reader.readuntil(b"ok")
    asking = asyncio.ensure_future(victim.say(GET + b"Connection: close\r\n\r\n"))
    await asyncio.wait([asking], timeout=0.05)
    assert not asking.done()
    assert victim.server.connections == 2
    friends[0][1].transport.abort()
    assert (await asking).endswith(b"ok")
    friends[1][1].transport.abort()
