"""Logs that are rotated while they are read."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from log_clients import accepted, open_logs, raw_follower, read_body

from vkubelet.inotify import DirectoryWatcher
from vkubelet.pods.directory import LogSource
from vkubelet.server import log_stream
from vkubelet.server.log_options import LogOptions


async def test_what_was_torn_before_a_rotation_is_no_part_of_the_next_line(node, source, writer):
    async with node.logs(follow="true") as response:
        writer.raw(b"2026-11-24T02:00:00.000000000Z stdout F tor")
        writer.rotate()
        writer.line("next")
        assert await response.content.readline() == b"tornext\n"
        source.end.set()


async def test_who_does_not_follow_gets_the_file_that_was_current(source, writer):
    output = []

    async def write(data: bytes) -> None:
        output.append(data)

    watcher = DirectoryWatcher()
    with ThreadPoolExecutor(1) as threads:
        writer.line("old")
        async with log_stream.open_log(source, LogOptions(), watcher, threads) as stream:
            writer.rotate()
            writer.line("new")
            await stream.copy(write)
        assert watcher.armed == 0
    watcher.close()
    assert output == [b"old\n"]
    assert len(open_logs(source)) == 1


async def test_both_halves_of_a_rotation(node, source, writer):
    async with node.logs(follow="true") as response:
        writer.line("one")
        assert await response.content.readline() == b"one\n"
        writer.line("two", tag="P")
        writer.rename_away()
        assert await response.content.readexactly(3) == b"two"
        writer.begin_anew()
        writer.line(" and a half")
        assert await response.content.readline() == b" and a half\n"
        writer.rotate()
        writer.rotate()
        writer.line("three")
        assert await response.content.readline() == b"three\n"
        assert len(open_logs(source)) == 2  # the writer's and the follower's
        writer.rename_away()
        source.end.set()
        assert await response.content.read() == b""


def write_many(writer, source: LogSource, loop: asyncio.AbstractEventLoop, lines: int, each: int) -> None:
    """In a thread: numbered lines, a rotation after each `each` of them, and the container's end."""
    for number in range(lines):
        writer.line(f"{number:08d}", stream=("stdout", "stderr")[number % 2])
        if number % each == each - 1:
            writer.rotate()
    loop.call_soon_threadsafe(source.end.set)


@pytest.mark.parametrize("each", [1, 7, 500])
async def test_fast_rotation_loses_and_repeats_nothing(node, source, writer, each):
    lines = 20 * each if each < 100 else 10_000
    thread = threading.Thread(
        target=write_many, args=(writer, source, asyncio.get_running_loop(), lines, each)
    )
    async with node.logs(follow="true") as first, node.logs(follow="true") as second:
        thread.start()
        expected = "".join(f"{number:08d}\n" for number in range(lines))
        assert await first.text() == expected
        assert await second.text() == expected
    thread.join()


async def test_a_reader_that_rotation_overtakes_goes_on_with_what_is_left(
    node, source, new_writer, eventually
):
    writer = new_writer(source.path, keep=3)
    writer.raw(b"".join(b"2026-11-24T02:00:00.000000000Z stdout F %01000d\n" % n for n in range(20_000)))
    client = await raw_follower(node)
    connection = await accepted(node, eventually)
    await eventually(lambda: connection._paused)
    for number in range(20_000, 20_100):
        writer.rotate()
        writer.line(f"{number:08d}")
    source.end.set()
    numbers = [int(line) for line in (await read_body(client)).split()]
    assert numbers[:20_000] == list(range(20_000))
    assert numbers[20_000:] == list(range(20_096, 20_100))
    writer.close()
