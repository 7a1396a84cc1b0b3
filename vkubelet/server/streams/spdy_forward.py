"""Forwarded connections over SPDY: two streams each, data and error, that name the same request.

It exists to find the pairs among a connection's streams and to tell the client what went wrong with one
(cri-streaming, portforward/httpstream.go). It must not know what carries the SPDY connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from vkubelet.pods.interaction import ForwardError
from vkubelet.server.streams.channel import ChannelClosedError
from vkubelet.server.streams.forward import Connect, forward
from vkubelet.server.streams.spdy_stream import SpdyStream

PROTOCOLS = ("portforward.k8s.io",)


@dataclass(slots=True)
class _Pair:
    request: str
    timer: asyncio.TimerHandle
    data: SpdyStream | None = None
    error: SpdyStream | None = None


class ForwardedStreams:
    """The forwarded connections of one SPDY connection."""

    def __init__(self, connect: Connect, pod: str, creation_timeout: float) -> None:
        """`pod` names the pod in errors: "web, uid 1234"; a pair must be whole after `creation_timeout`."""
        self._connect = connect
        self._pod = pod
        self._creation_timeout = creation_timeout
        self._loop = asyncio.get_running_loop()
        self._pairs: dict[str, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, stream: SpdyStream) -> bool:
        """Take a stream of the client's, if it is one of a pair."""
        kind = stream.header("streamtype")
        if _port(stream.header("port")) is None or kind not in ("data", "error"):
            return False
        request = stream.header("requestid") or _assumed_request(stream, kind)
        pair = self._pairs.get(request)
        if pair is None:
            timer = self._loop.call_later(self._creation_timeout, self._give_up, request)
            pair = self._pairs[request] = _Pair(request, timer)
        if getattr(pair, kind) is not None:
            message = f"error processing stream for request {request}: {kind} stream already assigned"
            self._start(_print(pair.error, message))
            return False
        setattr(pair, kind, stream)
        if kind == "error":
            stream.discard()
        if pair.data is not None and pair.error is not None:
            self._remove(pair)
            self._start(self._forward(pair.data, pair.error))
        return True

    async def end(self) -> None:
        """End all that is forwarded."""
        for pair in list(self._pairs.values()):
            self._remove(pair)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _forward(self, data: SpdyStream, error: SpdyStream) -> None:
        port = _port(data.header("port"))
        assert port is not None  # noqa: S101  `accept` has seen to it
        try:
            await forward(self._connect, port, data)
        except ForwardError as failure:
            await _print(error, f"error forwarding port {port} to pod {self._pod}: {failure}")
            data.reset()
            error.reset()
        except ChannelClosedError:
            error.close()
        else:
            data.close()
            error.close()

    def _give_up(self, request: str) -> None:
        pair = self._pairs[request]
        self._remove(pair)
        self._start(_abandon(pair))

    def _remove(self, pair: _Pair) -> None:
        pair.timer.cancel()
        del self._pairs[pair.request]

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="port-forward")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _print(error: SpdyStream | None, message: str) -> None:
    if error is not None:
        with contextlib.suppress(ChannelClosedError):
            await error.write(message.encode())


async def _abandon(pair: _Pair) -> None:
    await _print(pair.error, f"(request={pair.request}) timed out waiting for streams")
    for stream in (pair.data, pair.error):
        if stream is not None:
            stream.reset()


def _assumed_request(stream: SpdyStream, kind: str) -> str:
    """What an old client means that names no request: it opens the error stream, and then the data stream."""
    return str(stream.id if kind == "error" else stream.id - 2)


def _port(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        return None
    port = int(text)
    return port if 0 < port < 65536 else None
