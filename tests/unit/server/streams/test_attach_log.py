"""attach to a container without a standard input or a terminal: its log is what there is to join."""

from __future__ import annotations

import asyncio

import pytest

from vkubelet.pods.directory import LogSource

from .test_exec_websocket import SUCCESS, V5, messages, websocket

PATH = "/attach/default/web/main"


def line(text: str, stream: str = "stdout") -> bytes:
    return f"2026-11-24T00:00:00.000000000Z {stream} F {text}\n".encode()


@pytest.fixture
def log(streams, source) -> LogSource:
    source.path.write_bytes(line("before"))
    streams.pods.log = source
    return source


async def follow(streams, log, eventually, query: str, expected: set[bytes]) -> list[bytes]:
    """Write lines until each of `expected` has come, then end the container; all that came."""
    async with websocket(streams, f"{PATH}?{query}", V5) as client:
        received: list[bytes] = []

        async def collect() -> None:
            async for message in client:
                received.append(message.data)  # noqa: PERF401  looked at while it grows

        def written() -> bool:
            with log.path.open("ab") as file:
                file.write(line("out") + line("err", "stderr"))
            return expected <= {part for data in received for part in data.splitlines(keepends=True)}

        collecting = asyncio.create_task(collect())
        await eventually(written)
        log.end.set()
        await collecting
    return received


async def test_each_output_is_followed_from_now_on(streams, log, eventually):
    received = await follow(streams, log, eventually, "output=1&error=1", {b"\x01out\n", b"\x02err\n"})
    assert received[-1] == SUCCESS
    assert not any(b"before" in data for data in received)
    assert not any(b"err" in data for data in received if data[0] == 1)
    assert streams.pods.asked == []


async def test_what_is_not_wanted_is_not_sent(streams, log, eventually):
    received = await follow(streams, log, eventually, "error=1", {b"\x02err\n"})
    assert received[0] == b"\x02"
    assert received[-1] == SUCCESS
    assert not any(b"out" in data for data in received)


async def test_a_log_that_is_gone_is_told(streams, log):
    log.path.unlink()
    log.end.set()
    async with websocket(streams, f"{PATH}?output=1", V5) as client:
        *_, status = await messages(client)
    assert b"the container's output cannot be followed: failed to open log file" in status
