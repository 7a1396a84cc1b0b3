"""What is asked of the stream routes over HTTP, and answered before anything streams."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from spdy_client import request, spdy_client

from vkubelet.pods.interaction import CommandError, InteractionError, Target, Wanted

EXEC = "/exec/default/web/main?command=x&output=1"
ATTACH = "/attach/default/web/main?output=1"
FORWARD = "/portForward/default/web"
UPGRADE = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
WEBSOCKET = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
VERSION = "X-Stream-Protocol-Version"
AT_LEAST_ONE = "you must specify at least 1 of stdin, stdout, stderr"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "text"),
    [
        ("POST", "/exec/default/web/main", UPGRADE, 400, AT_LEAST_ONE),
        ("POST", "/exec/default/web/main?output=true&tty=1", UPGRADE, 400, AT_LEAST_ONE),
        ("POST", "/exec/default/web/main?error=1&tty=1", UPGRADE, 400, AT_LEAST_ONE),
        ("GET", "/attach/default/web/main", UPGRADE, 400, AT_LEAST_ONE),
        ("POST", "/exec/default/no/main?output=1", UPGRADE, 404, "pod does not exist"),
        ("POST", "/attach/default/no/main?output=1", UPGRADE, 404, "pod does not exist"),
        ("POST", "/portForward/default/no", UPGRADE, 404, "pod does not exist"),
        ("POST", "/portForward/default/no/uid", UPGRADE, 404, "pod does not exist"),
        ("POST", EXEC, {}, 500, "Upgrade request required\n"),
        ("GET", ATTACH, {"Connection": "keep-alive"}, 500, "Upgrade request required\n"),
        ("POST", FORWARD, {}, 500, "Upgrade request required\n"),
        (
            "POST",
            EXEC,
            UPGRADE,
            400,
            f"unable to upgrade: header {VERSION} does not exist in request with 3 headers\n",
        ),
        (
            "POST",
            FORWARD,
            {**UPGRADE, VERSION: " , "},
            400,
            f"unable to upgrade: header {VERSION} contains [,], but no valid protocols\n",
        ),
        (
            "POST",
            EXEC,
            {**UPGRADE, VERSION: "v9.channel.k8s.io, other"},
            403,
            "unable to upgrade: unable to negotiate protocol: client supports [v9.channel.k8s.io other], "
            "server accepts [v4.channel.k8s.io v3.channel.k8s.io v2.channel.k8s.io channel.k8s.io]\n",
        ),
        (
            "POST",
            FORWARD,
            {**UPGRADE, VERSION: "v4.channel.k8s.io"},
            403,
            "unable to upgrade: unable to negotiate protocol: client supports [v4.channel.k8s.io], "
            "server accepts [portforward.k8s.io]\n",
        ),
        (
            "POST",
            EXEC,
            {**UPGRADE, "Upgrade": "SPDY/2", VERSION: "v4.channel.k8s.io"},
            400,
            "unable to upgrade: missing upgrade headers in request\n",
        ),
        ("POST", EXEC, WEBSOCKET, 405, "bad method"),
        ("GET", EXEC, {**WEBSOCKET, "Sec-WebSocket-Protocol": "v3.channel.k8s.io"}, 403, ""),
        ("GET", EXEC, {**WEBSOCKET, "Sec-WebSocket-Version": "12"}, 400, "Unsupported version: 12"),
        ("GET", EXEC, {**WEBSOCKET, "Sec-WebSocket-Key": "short"}, 400, "Handshake error: 'short'"),
        ("GET", FORWARD + "?port=80", {**WEBSOCKET, "Sec-WebSocket-Protocol": "v5.channel.k8s.io"}, 403, ""),
        ("GET", FORWARD, {**WEBSOCKET, "Sec-WebSocket-Protocol": "SPDY/3.1+other.k8s.io"}, 403, ""),
        ("PUT", EXEC, UPGRADE, 405, "405: Method Not Allowed"),
        ("POST", "/exec/default/web", UPGRADE, 404, "404: Not Found"),
    ],
)
async def test_refusals(streams, method, path, headers, status, text):
    reader, writer = await asyncio.open_connection("127.0.0.1", streams.port, ssl=streams.tls)
    async with asyncio.timeout(30):
        answered, fields = await request(reader, writer, method, path, headers)
        body = await reader.readexactly(int(fields["Content-Length"]))
    writer.close()
    assert (answered, body.decode()) == (status, text)
    assert streams.pods.asked == []
    if VERSION in headers and status == 403:
        assert "X-Accepted-Stream-Protocol-Versions" in fields


async def test_every_protocol_that_is_offered_is_named(streams):
    url = f"{'https' if streams.tls else 'http'}://127.0.0.1:{streams.port}{EXEC}"
    headers = {**UPGRADE, VERSION: "v9"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, headers=headers, ssl=streams.tls or True) as answer,
    ):
        assert answer.headers.getall("X-Accepted-Stream-Protocol-Versions") == [
            "v4.channel.k8s.io",
            "v3.channel.k8s.io",
            "v2.channel.k8s.io",
            "channel.k8s.io",
        ]


@pytest.mark.parametrize("path", [EXEC, ATTACH, FORWARD])
async def test_what_the_pods_refuse(streams, path):
    streams.pods.refusal = InteractionError(500, 'container not found ("main")')
    url = f"{'https' if streams.tls else 'http'}://127.0.0.1:{streams.port}{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, headers=UPGRADE, ssl=streams.tls or True) as answer,
    ):
        assert (answer.status, await answer.text()) == (500, 'container not found ("main")')


async def test_the_clients_first_choice_is_taken(streams):
    reader, writer = await asyncio.open_connection("127.0.0.1", streams.port, ssl=streams.tls)
    headers = {**UPGRADE, VERSION: "v5.channel.k8s.io,v3.channel.k8s.io, v4.channel.k8s.io"}
    async with asyncio.timeout(30):
        status, answered = await request(reader, writer, "GET", EXEC, headers)
    writer.transport.abort()
    assert (status, answered[VERSION]) == (101, "v3.channel.k8s.io")
    assert "Content-Length" not in answered
    assert "Transfer-Encoding" not in answered


@pytest.mark.parametrize("tty", [False, True])
async def test_attach(streams, tty):
    async def script(run):
        await run.print(b"already running\n")
        if tty:
            await run.sizes.get()
        return 0

    streams.pods.script = script
    streams.pods.tty = tty
    path = f"/attach/default/web/1234-5678/main?input=1&output=1&tty={int(not tty)}"
    async with spdy_client(streams.port, path, tls=streams.tls) as client:
        names = ("error", "stdin", "stdout", "resize")
        error, _, out, resize = [await client.open(streamtype=name) for name in names]
        await client.until(lambda: len(client.replied) == 4)
        await client.write(resize, b'{"Width":1,"Height":2}')
        await client.until(lambda: client.ended >= {error, out})
        assert client.received == {error: b'{"status":"Success"}', out: b"already running\n"}
    target = Target("default", "web", "1234-5678", "main")
    assert streams.pods.asked == [(target, Wanted(stdin=True, stdout=True, stderr=False, tty=tty))]


async def test_attach_that_fails(streams):
    streams.pods.failure = CommandError("the container has ended")
    async with spdy_client(streams.port, ATTACH, tls=streams.tls) as client:
        error, out = [await client.open(streamtype=name) for name in ("error", "stdout")]
        await client.until(lambda: client.ended >= {error, out})
        told = json.loads(client.received[error])
        assert told["message"] == (
            "Internal error occurred: error attaching to container: the container has ended"
        )


async def test_a_terminal_has_one_output(streams):
    streams.pods.tty = True
    url = f"{'https' if streams.tls else 'http'}://127.0.0.1:{streams.port}{ATTACH}&error=1"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, headers=UPGRADE, ssl=streams.tls or True) as answer,
    ):
        text = "rpc error: code = InvalidArgument desc = tty and stderr cannot both be true"
        assert (answer.status, await answer.text()) == (500, text)
