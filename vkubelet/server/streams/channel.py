"""One direction pair of bytes between a client and what it talks to, however it is carried.

It exists so that commands and forwarded ports know neither SPDY nor WebSocket. It must not know either.
"""

from __future__ import annotations

from typing import Protocol

CHUNK = 64 * 1024
"""Bytes at most of one read or of one frame or message that is sent."""


class ChannelClosedError(Exception):
    """Nothing can be sent any more: the channel was reset, or its connection is gone."""


class Channel(Protocol):
    """One task reads, any number write. What the peer has not taken, or the reader, is held only in part."""

    @property
    def broken(self) -> bool:
        """Whether it has ended by a reset or with its connection: what was read may not be all."""
        ...

    async def read(self) -> memoryview:
        """The next bytes, at most CHUNK; empty at their end, be that a reset or a lost connection."""
        ...

    async def write(self, data: bytes | memoryview) -> None:
        """Send; returns when more may be sent. Raises ChannelClosedError."""
        ...

    def close(self) -> None:
        """Nothing more is sent; what comes in may still be read. May be called twice."""
        ...

    def discard(self) -> None:
        """What comes in is dropped from now on: nobody reads."""
        ...
