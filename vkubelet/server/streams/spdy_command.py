"""A command's channels as streams of a SPDY connection: the protocols channel.k8s.io to v4.channel.k8s.io.

It exists to wait for the streams that the client is to open, each with a header that says which it is. It
must not know commands.
"""

from __future__ import annotations

import asyncio

from vkubelet.pods.interaction import Wanted
from vkubelet.server.streams.command import CommandChannels
from vkubelet.server.streams.spdy_stream import SpdyStream

V1 = "channel.k8s.io"
V2 = "v2.channel.k8s.io"
V3 = "v3.channel.k8s.io"
V4 = "v4.channel.k8s.io"
PROTOCOLS = (V4, V3, V2, V1)
"""In the order in which the kubelet lists them."""

_NAMES = ("error", "stdin", "stdout", "stderr", "resize")


class CommandStreams:
    """Collects the streams of one connection."""

    def __init__(self, protocol: str, wanted: Wanted) -> None:
        """`protocol` is one of PROTOCOLS."""
        self._json_status = protocol == V4
        self._expected = {"error"}
        for name in ("stdin", "stdout", "stderr"):
            if getattr(wanted, name):
                self._expected.add(name)
        if wanted.tty and protocol in (V3, V4):
            self._expected.add("resize")
        self._streams: dict[str, SpdyStream] = {}
        self._complete = asyncio.Event()

    def accept(self, stream: SpdyStream) -> bool:
        """Whether the stream is one of a command's, and the first of its kind."""
        name = stream.header("streamtype")
        if name not in _NAMES or name in self._streams:
            return False
        self._streams[name] = stream
        if name not in self._expected or name in ("error", "stdout", "stderr"):
            stream.discard()
        if self._expected <= self._streams.keys():
            self._complete.set()
        return True

    async def channels(self, timeout: float) -> CommandChannels:
        """The channels, once the client has opened them all. Raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            await self._complete.wait()
        found = {name: self._streams[name] for name in self._expected - {"error"}}
        return CommandChannels(self._streams["error"], self._json_status, **found)
