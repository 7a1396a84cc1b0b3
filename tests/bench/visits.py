"""Every kind of visit that pods get from kubectl, and from whoever measures them, well or ill ended.

Each sees to it that the answer is the expected one: many refusals would show nothing of what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
from spdy_client import SpdyClient

from tests.bench.caller import BOTH, OUTPUT, RESIZE, TERMINAL, Caller, expect, finish, send, until, vanish
from tests.bench.staying import KILLED, RESTARTING, SERVING, TALKED

FORWARDED = 3
"""Connections that one port-forward carries."""
METRICS = ("metrics", "metrics/cadvisor", "metrics/probes", "metrics/resource")
PAGES = (*METRICS, "stats/summary", "pods", "configz", "healthz", "debug/tasks")
Visit = Callable[[int], Awaitable[None]]


class Visits:
    """All kinds. Each takes a number, by which it chooses a pod, and whether its client says good-bye."""

    def __init__(self, caller: Caller, echo: Mapping[str, int]) -> None:
        """`echo` is the port that each serving pod listens on."""
        self._caller = caller
        self._echo = echo

    def kinds(self) -> Mapping[str, Visit]:
        """Every kind, by its name."""
        return {
            "exec: the container's own module": self._own_module,
            "exec: an exit code": self._exit_code,
            "exec: a toolbox command": self._toolbox,
            "exec: a shell with its input": self._shell,
            "exec: no such command": self._no_such_command,
            "exec: the client vanishes": self._vanishing,
            "exec: a terminal": self._terminal,
            "exec: over SPDY": self._over_spdy,
            "exec: the container ends": self._ending,
            "attach: input and output": self._attached,
            "attach: a terminal": self._attached_terminal,
            "attach: a log": self._attached_log,
            "logs: whole, tail, previous": self._logs,
            "logs: followed, left": self._followed,
            "logs: followed to the end": self._followed_to_the_end,
            "port-forward: SPDY": self._forwarded,
            "port-forward: in a WebSocket": self._tunnelled,
            "port-forward: nobody listens": self._forwarded_to_nobody,
            "pages": self._pages,
            "what there is not": self._missing,
            "no whole request": self._half_a_request,
        }

    async def _own_module(self, number: int) -> None:
        async with self._caller.exec(_talked(number), "actor", "print", "hi", "exit", "0") as socket:
            expect(await finish(socket), b"hi\n")

    async def _exit_code(self, number: int) -> None:
        async with self._caller.exec(_talked(number), "actor", "exit", "3") as socket:
            expect(await finish(socket, "command terminated with exit code 3"), b"")

    async def _toolbox(self, number: int) -> None:
        async with self._caller.exec(_talked(number), "cat", "/config/a") as socket:
            expect(await finish(socket), b"1")

    async def _shell(self, number: int) -> None:
        async with self._caller.exec(_talked(number), "sh", wanted=BOTH) as socket:
            await send(socket, b"echo $((6 * 7)) | cat\n", end=True)
            expect(await finish(socket), b"42\n")

    async def _no_such_command(self, number: int) -> None:
        async with self._caller.exec(_talked(number), "nosuch") as socket:
            expect(await finish(socket, "executable file not found"), b"")

    async def _vanishing(self, number: int) -> None:
        async with self._caller.exec(_talked(number), "yes") as socket:
            await until(socket, b"y\ny\n")
            vanish(socket)

    async def _terminal(self, number: int) -> None:
        async with self._caller.exec(_talked(number), "sh", wanted=TERMINAL) as socket:
            await socket.send_bytes(bytes((RESIZE,)) + b'{"Width":80,"Height":24}')
            await send(socket, b"echo $((6 * 7))\n")
            await until(socket, b"42\r\n")
            if number % 2:
                vanish(socket)
            else:
                await send(socket, b"exit\n")
                await finish(socket)

    async def _over_spdy(self, number: int) -> None:
        path = f"exec/default/{_talked(number)}/main?command=cat&input=1&output=1"
        async with self._caller.spdy(path, "v4.channel.k8s.io") as client:
            error, stdin, out = [await client.open(streamtype=name) for name in ("error", "stdin", "stdout")]
            await client.write(stdin, b"ping")
            await client.until(lambda: client.received[out] == b"ping")
            if number % 2:
                return
            await client.write(stdin, b"", fin=True)
            await client.until(lambda: client.ended >= {error, out})
            expect(json.loads(bytes(client.received[error]))["status"], "Success")

    async def _ending(self, number: int) -> None:
        """Whether there is a container at the moment, or one that is to come, is chance."""
        with contextlib.suppress(aiohttp.WSServerHandshakeError):
            async with self._caller.exec(f"killed-{number % KILLED}", "actor", "hear", wanted=BOTH) as socket:
                async for _ in socket:
                    pass

    async def _attached(self, number: int) -> None:
        async with self._caller.stream("attach", f"{_talked(number)}/hearing", BOTH) as socket:
            await send(socket, b"word %d\n" % number)
            await until(socket, b"heard word %d\n" % number)
            if number % 2:
                vanish(socket)

    async def _attached_terminal(self, number: int) -> None:
        async with self._caller.stream("attach", f"{_talked(number)}/terminal", TERMINAL) as socket:
            await send(socket, b"word %d\n" % number)
            await until(socket, b"heard word %d\r\n" % number)
            if number % 2:
                vanish(socket)

    async def _attached_log(self, number: int) -> None:
        async with self._caller.stream("attach", f"{_talked(number)}/counting", OUTPUT) as socket:
            await until(socket, b"\n")
            if number % 2:
                vanish(socket)

    async def _logs(self, number: int) -> None:
        path = f"containerLogs/default/{_talked(number)}/counting"
        # What has just been rotated has no lines, as with a kubelet.
        await self._caller.text(path)
        expect((await self._caller.text(f"{path}?tailLines=2&timestamps=true")).count("\n") <= 2, True)
        # It is restarted right now, perhaps, and has none.
        await self._caller.status(f"containerLogs/default/{_restarting(number)}/main?previous=true")

    async def _followed(self, number: int) -> None:
        path = f"containerLogs/default/{_talked(number)}/counting?follow=true&tailLines=1"
        async with self._caller.session.get(self._caller.url(path)) as answer:
            for _ in range(3):
                expect((await answer.content.readline()).endswith(b"\n"), True)
            vanish(answer)

    async def _followed_to_the_end(self, number: int) -> None:
        await self._caller.status(f"containerLogs/default/{_restarting(number)}/main?follow=true")

    async def _forwarded(self, number: int) -> None:
        pod = _serving(number)
        async with self._caller.spdy(f"portForward/default/{pod}", "portforward.k8s.io") as client:
            await self._echoed(client, self._echo[pod], number)

    async def _tunnelled(self, number: int) -> None:
        pod = _serving(number)
        async with self._caller.tunnel(f"portForward/default/{pod}") as client:
            await self._echoed(client, self._echo[pod], number)

    async def _echoed(self, client: SpdyClient, port: int, number: int) -> None:
        pairs = [await _pair(client, port, request) for request in range(FORWARDED)]
        for data, _ in pairs:
            await client.write(data, b"ping")
        await client.until(lambda: all(client.received[data] == b"ping" for data, _ in pairs))
        if number % 2:
            return
        for data, _ in pairs:
            await client.write(data, b"", fin=True)
        await client.until(lambda: client.ended >= {stream for pair in pairs for stream in pair})

    async def _forwarded_to_nobody(self, number: int) -> None:
        path = f"portForward/default/{_serving(number)}"
        async with self._caller.spdy(path, "portforward.k8s.io") as client:
            _, error = await _pair(client, 1, 0)
            await client.until(lambda: error in client.ended)
            expect(b"connection refused" in client.received[error], True)

    async def _pages(self, _: int) -> None:
        for page in PAGES:
            expect(bool(await self._caller.text(page)), True)

    async def _missing(self, _: int) -> None:
        for path in ("containerLogs/default/no/main", "exec/default/no/main?command=a&output=1", "nowhere"):
            expect(await self._caller.status(path), 404)

    async def _half_a_request(self, number: int) -> None:
        """Half of the clients leave before TLS is spoken, half within a request."""
        tls = self._caller.tls if number % 2 else None
        _, writer = await asyncio.open_connection("127.0.0.1", self._caller.port, ssl=tls)
        writer.write(b"GET /pods HTTP/1.1\r\nHost: x\r\n" if tls else b"\x16\x03")
        writer.transport.abort()


def _talked(number: int) -> str:
    return f"talked-{number % TALKED}"


def _serving(number: int) -> str:
    return f"serving-{number % SERVING}"


def _restarting(number: int) -> str:
    return f"restarting-{number % RESTARTING}"


async def _pair(client: SpdyClient, port: int, request: int) -> tuple[int, int]:
    """The two streams of a connection, as kubectl opens them: data and error."""
    number, name = str(port), str(request)
    error = await client.open(fin=True, streamtype="error", port=number, requestid=name)
    data = await client.open(streamtype="data", port=number, requestid=name)
    await client.until(lambda: client.replied >= {error, data})
    return data, error
