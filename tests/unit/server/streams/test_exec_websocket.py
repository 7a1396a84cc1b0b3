"""exec over WebSocket: the old protocols, and v5 as API servers from 1.36 on pass it through."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import WSMsgType

from vkubelet.pods.interaction import Wanted

PATH = "/exec/default/web/main"
V5 = "v5.channel.k8s.io"
SUCCESS = b'\x03{"status":"Success"}'


@contextlib.asynccontextmanager
async def websocket(streams, path: str, *protocols: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    scheme = "wss" if streams.tls else "ws"
    url = f"{scheme}://127.0.0.1:{streams.port}{path}"
    timeout = aiohttp.ClientTimeout(total=30)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.ws_connect(url, protocols=protocols, ssl=streams.tls or True, compress=15) as socket,
    ):
        assert socket.protocol == (protocols[0] if protocols else None)
        yield socket


async def messages(socket: aiohttp.ClientWebSocketResponse) -> list[bytes]:
    """All messages until the server closes."""
    return [message.data async for message in socket]


@pytest.mark.parametrize("protocols", [(), ("channel.k8s.io",), ("v4.channel.k8s.io",), (V5,)])
async def test_output_and_success(streams, protocols):
    async def script(run):
        await run.print(b"hello")
        return 0

    streams.pods.script = script
    async with websocket(streams, f"{PATH}?command=echo&output=1", *protocols) as socket:
        status = [SUCCESS] if protocols and protocols[0][0] == "v" else []
        assert await messages(socket) == [b"\x01", b"\x01hello", *status]
        assert socket.close_code == 1000
    assert streams.pods.asked[0][1:] == (("echo",), Wanted(stdin=False, stdout=True, stderr=False, tty=False))


async def test_of_what_is_there_at_once_errors_go_first(streams):
    async def script(run):
        await run.print(b"archive")
        await run.print(b"cannot stat", "stderr")
        return 0

    streams.pods.script = script
    async with websocket(streams, f"{PATH}?command=tar&output=1&error=1", "v4.channel.k8s.io") as socket:
        assert await messages(socket) == [b"\x01", b"\x02cannot stat", b"\x01archive", SUCCESS]


@pytest.mark.parametrize("protocol", ["base64.channel.k8s.io", "v4.base64.channel.k8s.io"])
async def test_base64(streams, protocol):
    async def script(run):
        await run.print(await run.input(), "stderr")
        return 1

    streams.pods.script = script
    async with websocket(streams, f"{PATH}?command=x&input=1&error=1", protocol) as socket:
        await socket.send_str("0" + "not base64!")
        await socket.send_str("0" + base64.b64encode(b"in\0put").decode())
        assert (await socket.receive()).data == "2"
        assert await socket.receive_str() == "2" + base64.b64encode(b"in\0put").decode()
        text = await socket.receive_str()
        told = base64.b64decode(text[1:])
        assert text[0] == "3"
        assert (b'"ExitCode"' in told) == (protocol[0] == "v")
        assert b"command terminated with exit code 1" in told
        assert (await socket.receive()).type is WSMsgType.CLOSE


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", V5])
async def test_input_and_its_end(streams, protocol):
    async def script(run):
        first = await run.input()
        await run.print(first.upper())
        if protocol == V5:
            assert await run.input() == b""
        return 3

    streams.pods.script = script
    async with websocket(streams, f"{PATH}?command=x&input=1&output=1", protocol) as socket:
        await socket.send_bytes(b"")
        await socket.send_bytes(b"\x09nobody")
        await socket.send_bytes(b"\x01not for the client to write")
        await socket.send_bytes(b"\x00words")
        if protocol == V5:
            await socket.send_bytes(b"\xff\x00")
        *output, status = await messages(socket)
        assert output == [b"\x01", b"\x01WORDS"]
        assert json.loads(status[1:])["details"] == {"causes": [{"reason": "ExitCode", "message": "3"}]}


@pytest.mark.parametrize("signal", [b"\xff", b"\xff\x00\x00", b"\xff\x05"])
async def test_a_bad_close_signal_ends_the_connection(streams, signal):
    async def script(run):
        await run.input()
        return 0

    streams.pods.script = script
    async with websocket(streams, f"{PATH}?command=x&input=1", V5) as socket:
        assert (await socket.receive()).data == b"\x03"
        await socket.send_bytes(signal)
        assert await messages(socket) == []
    assert streams.pods.left == 1


async def test_a_terminal_is_resized(streams):
    async def script(run):
        await run.print(repr(await run.sizes.get()).encode())
        return 0

    streams.pods.script = script
    async with websocket(streams, f"{PATH}?command=sh&output=1&tty=1", V5) as socket:
        await socket.send_bytes(b'\x04{"Width":132,"Height":43}\n')
        assert await messages(socket) == [b"\x01", b"\x01(132, 43)", SUCCESS]


async def test_a_client_that_vanishes_ends_the_command(streams, eventually):
    async def script(run):
        await run.input()
        return 0

    streams.pods.script = script
    async with websocket(streams, f"{PATH}?command=sleep&input=1&output=1", V5) as socket:
        assert (await socket.receive()).data == b"\x01"
        await eventually(lambda: streams.pods.running == 1)
        socket._response.connection.transport.abort()
    await eventually(lambda: streams.pods.left == 1)


async def test_a_client_that_closes_ends_the_command(streams, eventually):
    async def script(run):
        await run.input()
        return 0

    streams.pods.script = script
    async with websocket(streams, f"{PATH}?command=sleep&input=1&output=1", V5) as socket:
        assert (await socket.receive()).data == b"\x01"
        await eventually(lambda: streams.pods.running == 1)
    await eventually(lambda: streams.pods.left == 1)


@pytest.mark.parametrize("protocol", ["v3.channel.k8s.io", "other"])
async def test_an_unknown_protocol_is_forbidden(streams, protocol):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with websocket(streams, f"{PATH}?command=x&output=1", protocol):
            pass
    assert refused.value.status == 403
    assert streams.pods.asked == []
