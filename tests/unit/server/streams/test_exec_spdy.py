"""exec over SPDY, as kubectl and API servers before 1.36 speak it."""

from __future__ import annotations

import json

import pytest
from spdy_client import SpdyClient, spdy_client

from vkubelet.pods.interaction import CommandError, Target, Wanted

PATH = "/exec/default/web/main"


async def opened(client: SpdyClient, *names: str) -> list[int]:
    """Open streams of these types, as client-go does: one after the other."""
    ids = [await client.open(streamtype=name) for name in names]
    await client.until(lambda: client.replied >= set(ids))
    return ids


async def test_output_and_success(streams):
    async def script(run):
        await run.print(b"hello\n")
        await run.print(b"oops\n", "stderr")
        return 0

    streams.pods.script = script
    path = f"{PATH}?command=echo&command=hello+world&output=1&error=1"
    async with spdy_client(streams.port, path, tls=streams.tls) as client:
        error, out, err = await opened(client, "error", "stdout", "stderr")
        await client.until(lambda: client.ended >= {error, out, err})
        assert client.received == {error: b'{"status":"Success"}', out: b"hello\n", err: b"oops\n"}
        assert client.reset == {}
        await client.until(lambda: client.gone)
        assert (client.gone.last_good, client.gone.status) == (err, 0)
    assert streams.pods.asked == [
        (
            Target("default", "web", None, "main"),
            ("echo", "hello world"),
            Wanted(stdin=False, stdout=True, stderr=True, tty=False),
        )
    ]


async def test_input_reaches_the_command_until_its_end(streams):
    async def script(run):
        while data := await run.input():
            await run.print(data.upper())
        return 7

    streams.pods.script = script
    path = f"{PATH}?command=tr&input=1&output=1"
    async with spdy_client(streams.port, path, tls=streams.tls) as client:
        error, stdin, out = await opened(client, "error", "stdin", "stdout")
        await client.write(stdin, b"some ")
        await client.until(lambda: client.received[out] == b"SOME ")
        await client.write(stdin, b"words", fin=True)
        await client.until(lambda: client.ended >= {error, out})
        assert client.received[out] == b"SOME WORDS"
        assert json.loads(client.received[error]) == {
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code: command terminated with exit code 7",
            "details": {"causes": [{"reason": "ExitCode", "message": "7"}]},
        }


@pytest.mark.parametrize("protocol", ["channel.k8s.io", "v2.channel.k8s.io", "v3.channel.k8s.io"])
async def test_before_v4_an_error_is_a_text(streams, protocol):
    async def script(run):
        await run.print(b"x")
        return 3

    streams.pods.script = script
    path = f"{PATH}?command=false&output=1"
    async with spdy_client(streams.port, path, protocol=protocol, tls=streams.tls) as client:
        error, out = await opened(client, "error", "stdout")
        await client.until(lambda: client.ended >= {error, out})
        assert client.received == {
            out: b"x",
            error: b"command terminated with non-zero exit code: command terminated with exit code 3",
        }


@pytest.mark.parametrize("during", [False, True])
async def test_a_command_that_cannot_run(streams, during):
    failure = CommandError('exec: "nope": not found')
    if during:

        async def script(_):
            raise failure

        streams.pods.script = script
    else:
        streams.pods.failure = failure
    path = f"{PATH}?command=nope&output=1"
    async with spdy_client(streams.port, path, tls=streams.tls) as client:
        error, out = await opened(client, "error", "stdout")
        await client.until(lambda: client.ended >= {error, out})
        assert json.loads(client.received[error]) == {
            "status": "Failure",
            "reason": "InternalError",
            "message": f"Internal error occurred: error executing command in container: {failure}",
            "code": 500,
        }


async def test_a_terminal_is_resized(streams):
    async def script(run):
        sizes = [await run.sizes.get() for _ in range(3)]
        await run.print(repr(sizes).encode())
        return 0

    streams.pods.script = script
    path = f"{PATH}?command=sh&input=1&output=1&error=1&tty=1"
    async with spdy_client(streams.port, path, tls=streams.tls) as client:
        error, _, out, resize = await opened(client, "error", "stdin", "stdout", "resize")
        await client.write(resize, b'{"Width":80,"Height":24}\n{"Wid')
        await client.write(resize, b'th":100,"Height":50}{"width":1}\n')
        await client.until(lambda: client.ended >= {error, out})
        assert client.received[out] == b"[(80, 24), (100, 50), (1, 0)]"
    assert streams.pods.asked[0][2] == Wanted(stdin=True, stdout=True, stderr=False, tty=True)


async def test_a_client_that_vanishes_ends_the_command(streams, eventually):
    async def script(run):
        await run.print(b"there")
        await run.input()
        return 0

    streams.pods.script = script
    path = f"{PATH}?command=sleep&input=1&output=1"
    async with spdy_client(streams.port, path, tls=streams.tls) as client:
        _, _, out = await opened(client, "error", "stdin", "stdout")
        await client.until(lambda: client.received[out] == b"there")
        assert streams.pods.running == 1
    await eventually(lambda: streams.pods.left == 1)


async def test_a_client_that_opens_too_few_streams(streams, monkeypatch):
    monkeypatch.setattr(streams.commands, "_creation_timeout", 0.1)
    async with spdy_client(streams.port, f"{PATH}?command=x&output=1", tls=streams.tls) as client:
        await opened(client, "error")
        await client.until_end()
        assert client.gone.status == 0
    assert streams.pods.asked == []


async def test_streams_that_are_no_commands_are_reset(streams):
    async with spdy_client(streams.port, f"{PATH}?command=x&output=1", tls=streams.tls) as client:
        error = await client.open(streamtype="error")
        again = await client.open(streamtype="error")
        other = await client.open(streamtype="other")
        none = await client.open()
        await client.until(lambda: {again, other, none} <= client.reset.keys())
        assert error not in client.reset


async def test_the_end_of_the_server_ends_commands(streams, eventually):
    async def script(run):
        await run.print(b"there")
        await run.input()
        return 0

    streams.pods.script = script
    path = f"{PATH}?command=sleep&input=1&output=1"
    async with spdy_client(streams.port, path, tls=streams.tls) as client:
        _, _, out = await opened(client, "error", "stdin", "stdout")
        await client.until(lambda: client.received[out] == b"there")
        streams.commands.end()
        await client.until_end()
        assert streams.pods.left == 1


async def test_what_is_no_spdy_is_told_to_go_away(streams, eventually):
    async def script(run):
        await run.input()
        return 0

    streams.pods.script = script
    path = f"{PATH}?command=sleep&input=1&output=1"
    async with spdy_client(streams.port, path, tls=streams.tls) as client:
        await opened(client, "error", "stdin", "stdout")
        await eventually(lambda: streams.pods.running == 1)
        await client.send(b"\x80\x02\x00\x01\x00\x00\x00\x00")
        await client.until_end()
        assert client.gone.status == 1
    assert streams.pods.left == 1
