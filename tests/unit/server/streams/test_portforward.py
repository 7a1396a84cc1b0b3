"""Port-forward: over SPDY, over SPDY in a WebSocket, and over the old WebSocket protocol, to real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import WSMsgType
from spdy_client import SpdyClient, spdy_client

from vkubelet.server.streams.spdy_stream import BUFFER, SpdyStream

PATH = "/portForward/default/web"
TUNNEL = "SPDY/3.1+portforward.k8s.io"
REFUSED = (
    b"error forwarding port 81 to pod web, uid : failed to connect to port 81 of the pod: connection refused"
)


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A pod that answers in capitals, and a last word when the client has said all."""
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.write(b".")
    writer.close()


@contextlib.asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Tunnel:
    """Looks like a pair of reader and writer; the bytes travel in messages, cut at odd places."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._unsent = b""

    async def read(self, _: int) -> bytes:
        message = await self._websocket.receive()
        return message.data if message.type is WSMsgType.BINARY else b""

    def write(self, data: bytes) -> None:
        self._unsent += data

    async def drain(self) -> None:
        data, self._unsent = self._unsent, b""
        for start in range(0, len(data), 40_007):
            await self._websocket.send_bytes(data[start : start + 40_007])


@pytest.fixture(params=["spdy", "tunnel"])
def connected(request, streams) -> Callable[..., contextlib.AbstractAsyncContextManager[SpdyClient]]:
    """A client of the SPDY protocol, by either way."""

    @contextlib.asynccontextmanager
    async def tunnel(path: str) -> AsyncIterator[SpdyClient]:
        url = f"{'wss' if streams.tls else 'ws'}://127.0.0.1:{streams.port}{path}"
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
            session.ws_connect(url, protocols=[TUNNEL], ssl=streams.tls or True, max_msg_size=0) as websocket,
        ):
            assert websocket.protocol == TUNNEL
            both = Tunnel(websocket)
            client = SpdyClient(both, both)
            yield client
            if client.at_end:
                return
            websocket._response.connection.transport.abort()

    def connect(path: str = PATH) -> contextlib.AbstractAsyncContextManager[SpdyClient]:
        if request.param == "tunnel":
            return tunnel(path)
        return spdy_client(streams.port, path, protocol="portforward.k8s.io", tls=streams.tls)

    return connect


async def pair(client: SpdyClient, port: int, request: int) -> tuple[int, int]:
    """Open the two streams as kubectl does: data and error."""
    names = {"port": str(port), "requestid": str(request)}
    error = await client.open(fin=True, streamtype="error", **names)
    data = await client.open(streamtype="data", **names)
    await client.until(lambda: client.replied >= {error, data})
    return data, error


async def test_bytes_go_both_ways_and_each_way_ends_by_itself(streams, connected):
    async with listening(upper) as port, connected() as client:
        streams.pods.ports[80] = port
        data, error = await pair(client, 80, 0)
        await client.write(data, b"some ")
        await client.until(lambda: client.received[data] == b"SOME ")
        await client.write(data, b"words", fin=True)
        await client.until(lambda: client.ended >= {data, error})
        assert client.received == {data: b"SOME WORDS."}
        assert client.reset == {}


async def test_many_at_once_with_much_data(streams, connected):
    async with listening(upper) as port, connected() as client:
        streams.pods.ports[80] = port
        sent: dict[int, bytes] = {}
        for number in range(20):
            data, _ = await pair(client, 80, number)
            sent[data] = bytes([97 + number]) * (300_000 + number)

        async def send(stream_id: int, content: bytes) -> None:
            for start in range(0, len(content), 32768):
                await client.write(stream_id, content[start : start + 32768])
            await client.write(stream_id, b"", fin=True)

        sending = [asyncio.create_task(send(*item)) for item in sent.items()]
        await client.until(lambda: client.ended >= sent.keys())
        await asyncio.gather(*sending)
        assert {data: bytes(client.received[data]) for data in sent} == {
            data: content.upper() + b"." for data, content in sent.items()
        }


async def test_a_port_that_nobody_listens_on(streams, connected):
    async with connected() as client:
        data, error = await pair(client, 81, 0)
        await client.until(lambda: client.ended >= {data, error})
        assert client.received == {error: REFUSED}
        assert client.reset == {data: 5, error: 5}
        await client.send(client.session.ping()[1])
        await client.until(lambda: client.pongs == {1})


async def test_a_pod_that_breaks_the_connection(streams, connected):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        # To close it now is to reset it.
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with listening(serve) as port, connected() as client:
        streams.pods.ports[80] = port
        data, error = await pair(client, 80, 0)
        await client.write(data, b"xy")
        await client.until(lambda: client.ended >= {data, error})
        text = bytes(client.received[error])
        assert text == b"error forwarding port 80 to pod web, uid : Connection reset by peer"


async def test_a_client_that_resets_lets_the_pod_go(streams, connected):
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        while await reader.read(65536):
            pass
        gone.set()
        writer.close()

    async with listening(serve) as port, connected() as client:
        streams.pods.ports[80] = port
        data, error = await pair(client, 80, 0)
        await client.until(lambda: client.received[data] == b"hello")
        await client.send(client.session.reset(data))
        async with asyncio.timeout(30):
            await gone.wait()
        await client.until(lambda: error in client.ended)
        assert client.received[error] == b""


async def test_a_client_that_vanishes_lets_the_pod_go(streams, connected):
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        while await reader.read(65536):
            pass
        gone.set()
        writer.close()

    async with listening(serve) as port:
        streams.pods.ports[80] = port
        async with connected() as client:
            data, _ = await pair(client, 80, 0)
            await client.until(lambda: client.received[data] == b"hello")
        async with asyncio.timeout(30):
            await gone.wait()


async def test_streams_that_are_no_pair_are_reset(streams, connected):
    async with connected() as client:
        bad = [
            await client.open(streamtype="data"),
            await client.open(streamtype="data", port="x"),
            await client.open(streamtype="data", port="0"),
            await client.open(streamtype="data", port="65536"),
            await client.open(port="80"),
            await client.open(streamtype="other", port="80"),
        ]
        await client.until(lambda: client.reset.keys() == set(bad))


async def test_half_a_pair(streams, connected, monkeypatch):
    monkeypatch.setattr(streams.forwards, "_creation_timeout", 0.1)
    async with connected() as client:
        error = await client.open(streamtype="error", port="80", requestid="7")
        await client.until(lambda: error in client.ended)
        assert client.received[error] == b"(request=7) timed out waiting for streams"
        assert client.reset == {error: 5}


async def test_a_stream_too_many(streams, connected):
    async with connected() as client:
        error = await client.open(streamtype="error", port="80", requestid="7")
        again = await client.open(streamtype="error", port="80", requestid="7")
        await client.until(lambda: again in client.reset and client.received[error])
        expected = b"error processing stream for request 7: error stream already assigned"
        assert client.received[error] == expected


async def test_an_old_client_names_no_request(streams, connected):
    async with listening(upper) as port, connected() as client:
        streams.pods.ports[80] = port
        error = await client.open(fin=True, streamtype="error", port="80")
        data = await client.open(streamtype="data", port="80")
        await client.until(lambda: client.replied >= {error, data})
        await client.write(data, b"hi", fin=True)
        await client.until(lambda: client.ended >= {data, error})
        assert client.received[data] == b"HI."


async def test_the_end_of_the_server_ends_what_is_forwarded(streams, connected):
    async with listening(upper) as port, connected() as client:
        streams.pods.ports[80] = port
        await pair(client, 80, 0)
        streams.forwards.end()
        await client.until_end()


async def test_the_old_websocket(streams):
    url = f"{'wss' if streams.tls else 'ws'}://127.0.0.1:{streams.port}{PATH}?port=80,81&port=82"
    async with listening(upper) as port, aiohttp.ClientSession() as session:
        streams.pods.ports |= {80: port, 82: port}
        async with session.ws_connect(
            url, protocols=["v4.channel.k8s.io"], ssl=streams.tls or True
        ) as websocket:
            await websocket.send_bytes(b"\0some words")
            await websocket.send_bytes(b"\4other")
            got = dict.fromkeys(range(6), b"")
            wanted = {
                0: b"P\0SOME WORDS",
                1: b"P\0",
                2: b"Q\0",
                3: b"Q\0" + REFUSED,
                4: b"R\0OTHER",
                5: b"R\0",
            }
            async with asyncio.timeout(30):
                while got != wanted:
                    message = (await websocket.receive()).data
                    got[message[0]] += message[1:]


async def test_the_old_websocket_in_base64(streams):
    url = f"{'wss' if streams.tls else 'ws'}://127.0.0.1:{streams.port}{PATH}?port=81"
    protocol = "v4.base64.channel.k8s.io"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=[protocol], ssl=streams.tls or True) as websocket,
    ):
        texts = [message.data async for message in websocket]
        decoded = [(text[0], base64.b64decode(text[1:])) for text in texts]
        assert decoded == [("0", b"Q\0"), ("1", b"Q\0"), ("1", REFUSED)]


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, 'query parameter "port" is required'),
        ("?port=", 400, 'query parameter "port" cannot be empty'),
        (
            "?port=80,http",
            400,
            'unable to parse "80,http" as a port: strconv.ParseUint: parsing "http": invalid syntax',
        ),
        (
            "?port=65536",
            400,
            'unable to parse "65536" as a port: strconv.ParseUint: parsing "65536": value out of range',
        ),
        ("?port=0", 400, 'port "0" must be > 0'),
        (
            "?port=" + ",".join(["80"] * 65),
            400,
            "at most 64 ports can be forwarded over one WebSocket",
        ),
    ],
)
async def test_bad_ports(streams, query, status, text):
    url = f"{'https' if streams.tls else 'http'}://127.0.0.1:{streams.port}{PATH}{query}"
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, ssl=streams.tls or True) as answer,
    ):
        assert (answer.status, await answer.text()) == (status, text)


async def test_a_pod_that_does_not_read_stops_the_client(streams, connected, monkeypatch):
    """What waits in the node is bounded; once the pod reads, all of it arrives."""
    behind = asyncio.Event()
    most = 0
    original = SpdyStream.take

    def take(stream: SpdyStream, data: memoryview) -> None:
        nonlocal most
        original(stream, data)
        most = max(most, stream._buffered)
        if stream._buffered > BUFFER:
            behind.set()

    monkeypatch.setattr(SpdyStream, "take", take)
    size = 32 * 1024 * 1024
    arrived = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        await behind.wait()
        while data := await reader.read(65536):
            arrived += len(data)
        writer.close()

    async with listening(serve) as port, connected() as client:
        streams.pods.ports[80] = port
        data, error = await pair(client, 80, 0)
        for _ in range(size // 65536):
            await client.write(data, bytes(65536))
        await client.write(data, b"", fin=True)
        await client.until(lambda: client.ended >= {data, error})
    assert arrived == size
    # Beyond it comes what one read of the event loop brings, and what TLS had read ahead: 256 KiB each at
    # most.
    assert most <= BUFFER + 2 * 256 * 1024
