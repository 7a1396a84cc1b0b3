"""The requests that are streams: what is done when one has ended."""

from __future__ import annotations

import asyncio

import pytest

from vkubelet import footprint
from vkubelet.server.streams.sessions import StreamSessions


async def test_what_a_stream_has_left_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given = asyncio.Event()
    monkeypatch.setattr(footprint, "QUIET", 0.01)
    monkeypatch.setattr(footprint, "_trim", given.set)
    sessions = StreamSessions()
    with sessions.session():
        await asyncio.sleep(0.05)
        assert not given.is_set()
    async with asyncio.timeout(10):
        await given.wait()


async def test_all_end_with_the_server() -> None:
    sessions, ended = StreamSessions(), asyncio.Event()

    async def stream() -> None:
        with sessions.session():
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    streaming = asyncio.create_task(stream())
    await asyncio.sleep(0)
    sessions.end()
    with pytest.raises(asyncio.CancelledError):
        await streaming
    assert ended.is_set()
