"""Following a log while it is written, rotated and ended, and letting go of it."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest

from vkubelet.pods.directory import LogSource
from vkubelet.server import log_stream, logs
from vkubelet.server.inotify import DirectoryWatcher
from vkubelet.server.log_file import LogFile
from vkubelet.server.log_options import LogOptions


def descriptors() -> list[str]:
    """What this process has open."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(entry))  # noqa: PTH115  a socket's link is no path
        except FileNotFoundError:
            continue  # the listing's own
    return links


def open_logs(source: LogSource) -> list[str]:
    return [link for link in descriptors() if link.startswith(str(source.path.parent))]


async def test_lines_arrive_as_they_are_written_until_the_containers_end(node, source, writer):
    writer.line("before")
    async with node.logs(follow="true") as response:
        assert await response.content.readline() == b"before\n"
        for number in range(20):
            writer.line(f"line {number}")
            assert await response.content.readline() == f"line {number}\n".encode()
        writer.line("last words")
        source.end.set()
        assert await response.content.read() == b"last words\n"
    assert node.reader.armed == 0


async def test_a_silent_log_answers_at_once(node, source, writer):
    async with node.logs(follow="true") as response:
        assert response.status == 200
        source.end.set()
        assert await response.content.read() == b""


async def test_parts_of_a_line_arrive_without_waiting_for_its_end(node, source, writer):
    async with node.logs(follow="true", timestamps="true") as response:
        writer.line("load", tag="P")
        first = await response.content.readuntil(b"load")
        assert len(first) == 31 + 4
        writer.line("ing")
        assert await response.content.readline() == b"ing\n"
        source.end.set()


async def test_a_line_written_in_two_pieces_is_one_line(node, source, writer):
    async with node.logs(follow="true") as response:
        writer.line("whole")
        assert await response.content.readline() == b"whole\n"
        writer.raw(b"2026-11-24T02:00:00.000000000Z stdout F to")
        writer.raw(b"rn\n")
        assert await response.content.readline() == b"torn\n"
        source.end.set()


async def test_what_a_killed_writer_left_of_a_line_is_shown(node, source, writer):
    writer.line("whole")
    writer.raw(b"2026-11-24T02:00:00.000000000Z stdout F tor")
    source.end.set()
    for follow in ("true", "false"):
        async with node.logs(follow=follow) as response:
            assert await response.content.read() == b"whole\ntor"


async def test_options_hold_while_following(node, source, writer):
    for number in range(10):
        writer.line(f"old {number}")
    async with node.logs(follow="true", tailLines=2, limitBytes=20) as response:
        assert await response.content.readline() == b"old 8\n"
        assert await response.content.readline() == b"old 9\n"
        writer.line("a line too long")
        assert await response.content.read() == b"a line t"


async def test_a_tail_of_nothing_shows_what_comes(node, source, writer):
    writer.line("old")
    async with node.logs(follow="true", tailLines=0) as response:
        writer.line("new")
        assert await response.content.readline() == b"new\n"
        source.end.set()


async def test_one_stream_is_followed(node, source, writer):
    async with node.logs(follow="true", stream="Stderr") as response:
        writer.line("out")
        writer.line("err", "stderr")
        assert await response.content.readline() == b"err\n"
        source.end.set()


async def test_the_next_attempts_log_is_not_shown(node, source, writer, new_writer):
    async with node.logs(follow="true") as response:
        writer.line("first attempt")
        assert await response.content.readline() == b"first attempt\n"
        following = new_writer(source.path.with_name("1.log"))
        following.line("second attempt")
        source.end.set()
        assert await response.content.read() == b""
        following.close()


async def test_a_follower_waits_for_the_first_file(node, source, new_writer, monkeypatch):
    monkeypatch.setattr(log_stream, "APPEARS_WITHIN", 0.01)
    async with node.logs(follow="true", tailLines=1) as response:
        assert response.status == 200
        writer = new_writer(source.path)
        writer.line("at last")
        assert await response.content.readline() == b"at last\n"
        source.end.set()
        assert await response.content.read() == b""
        writer.close()


async def test_a_reader_waits_a_moment_for_the_first_file(node, source, new_writer, eventually):
    async def read() -> str:
        async with node.logs() as response:
            return await response.text()

    reading = asyncio.ensure_future(read())
    await eventually(lambda: node.reader.armed == 1)
    complete = source.path.with_name("complete")
    writer = new_writer(complete)
    writer.line("there")
    complete.rename(source.path)
    assert await reading == "there\n"
    writer.close()


async def test_a_running_container_without_a_file_has_an_empty_log(node, monkeypatch):
    monkeypatch.setattr(log_stream, "APPEARS_WITHIN", 0.01)
    async with node.logs() as response:
        assert (response.status, await response.text()) == (200, "")


async def test_an_end_before_the_first_file_ends_the_follower(node, source, monkeypatch):
    monkeypatch.setattr(log_stream, "APPEARS_WITHIN", 0.01)
    async with node.logs(follow="true") as response:
        source.end.set()
        assert await response.content.read() == b""


async def test_a_removed_pods_log_ends(node, source, writer):
    async with node.logs(follow="true") as response:
        writer.line("x")
        assert await response.content.readline() == b"x\n"
        shutil.rmtree(source.path.parent)
        assert await response.content.read() == b""


async def test_what_was_torn_before_a_rotation_is_no_part_of_the_next_line(node, source, writer):
    async with node.logs(follow="true") as response:
        writer.raw(b"2026-11-24T02:00:00.000000000Z stdout F tor")
        writer.rotate()
        writer.line("next")
        assert await response.content.readline() == b"tornext\n"
        source.end.set()


async def test_a_file_opened_for_nobody_is_closed(source, writer, eventually, monkeypatch):
    opened, go_on = threading.Event(), threading.Event()

    class SlowFile(LogFile):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            opened.set()
            go_on.wait(20)

    async def read() -> None:
        async with log_stream.open_log(source, LogOptions(), watcher, threads):
            raise AssertionError("never opened")

    monkeypatch.setattr(log_stream, "LogFile", SlowFile)
    watcher = DirectoryWatcher()
    with ThreadPoolExecutor(1) as threads:
        reading = asyncio.ensure_future(read())
        await eventually(opened.is_set)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        go_on.set()
        await eventually(lambda: len(open_logs(source)) == 1)
    watcher.close()


async def test_a_log_that_is_removed_alone_ends(node, source, writer):
    async with node.logs(follow="true") as response:
        writer.line("x")
        assert await response.content.readline() == b"x\n"
        source.path.unlink()
        assert await response.content.read() == b""


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


async def raw_follower(node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that takes no more of its answer than a small buffer holds, until it is read."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", node.port))
    context = node.session.connector._ssl
    reader, writer = await asyncio.open_connection(
        sock=plain, ssl=context, server_hostname="127.0.0.1", limit=4096
    )
    writer.write(
        b"GET /containerLogs/default/web/main?follow=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    return reader, writer


async def accepted(node, eventually):
    """The server's side of the only connection."""
    await eventually(lambda: len(node.server._runner.server.connections) == 1)
    return node.server._runner.server.connections[0]


async def read_body(client: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    reader, writer = client
    await reader.readuntil(b"\r\n\r\n")
    body = bytearray()
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    writer.close()
    return bytes(body)


def large(source: LogSource, megabytes: int) -> None:
    line = b"2026-11-24T02:00:00.000000000Z stdout F " + b"x" * 983 + b"\n"
    with source.path.open("wb") as file:
        for _ in range(megabytes):
            file.write(line * 1024)


async def test_a_slow_reader_costs_bounded_memory_and_gets_all(node, source, eventually):
    large(source, 64)
    source.end.set()
    taken = 0
    read = LogFile.read

    def counting(self: LogFile) -> bytes:
        nonlocal taken
        data = read(self)
        taken += len(data)
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LogFile, "read", counting)
        tracemalloc.start()
        client = await raw_follower(node)
        connection = await accepted(node, eventually)
        await eventually(lambda: connection._paused)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert taken < 16 * 2**20
    assert peak < 8 * 2**20
    assert len(await read_body(client)) == 64 * 1024 * 984


async def test_a_client_that_goes_away_in_the_middle_of_a_write_releases_all(node, source, eventually):
    large(source, 64)
    _, writer = await raw_follower(node)
    connection = await accepted(node, eventually)
    await eventually(lambda: connection._paused)
    assert len(open_logs(source)) == 1
    writer.transport.abort()
    await eventually(lambda: not open_logs(source) and not node.server._runner.server.connections)
    assert node.reader.armed == 0


async def test_a_client_that_goes_away_from_a_silent_log_releases_all(node, source, writer, eventually):
    await (await node.session.get(node.url + "/healthz")).read()
    await eventually(lambda: len(node.server._runner.server.connections) == 1)
    before = len(descriptors())
    responses = [await node.logs(follow="true") for _ in range(5)]
    await eventually(lambda: node.reader.armed == 1)
    assert len(open_logs(source)) == 5 + 1
    for response in responses:
        response.close()
    await eventually(lambda: len(descriptors()) <= before)
    assert node.reader.armed == 0


async def test_a_client_that_never_reads_on_is_cut_off(node, source, eventually, monkeypatch, caplog):
    monkeypatch.setattr(logs, "STALLED_AFTER", 0.05)
    large(source, 64)
    _, writer = await raw_follower(node)
    await eventually(lambda: bool(open_logs(source)))
    await eventually(lambda: not open_logs(source) and not node.server._runner.server.connections)
    assert "log of default/web/main: the client has taken nothing for 0.05 s" in caplog.messages
    writer.transport.abort()


async def test_hundreds_of_followers_share_one_inotify(node, tmp_path, new_writer, eventually):
    count = 200
    sources = []
    for number in range(count):
        directory = tmp_path / str(number)
        directory.mkdir()
        sources.append(LogSource(directory / "0.log", asyncio.Event()))
        sources[-1].path.touch()
        node.directory.logs["many", str(number), "c"] = sources[-1]

    async def follow(number: int) -> str:
        url = f"{node.url}/containerLogs/many/{number}/c?follow=true"
        async with node.session.get(url) as response:
            return await response.text()

    followers = [asyncio.ensure_future(follow(number)) for number in range(count)]
    await eventually(lambda: node.reader.armed == count)
    assert descriptors().count("anon_inode:inotify") == 1
    for number, source in enumerate(sources):
        writer = new_writer(source.path)
        writer.line(str(number))
        writer.close()
        source.end.set()
    assert await asyncio.gather(*followers) == [f"{number}\n" for number in range(count)]
    assert node.reader.armed == 0


async def test_closing_the_server_ends_followers_and_leaves_nothing_open(
    node, source, writer, eventually, monkeypatch
):
    monkeypatch.setattr(node.server._runner, "_shutdown_timeout", 1000)
    async with node.logs(follow="true") as response:
        writer.line("x")
        assert await response.content.readline() == b"x\n"
        async with asyncio.timeout(20):
            await node.server.close()
        with pytest.raises(aiohttp.ClientError):
            await response.content.read()
    await eventually(lambda: len(open_logs(source)) == 1)
    node.reader.close()
    assert "anon_inode:inotify" not in descriptors()


async def test_a_read_error_breaks_the_answer_off(node, source, caplog, monkeypatch):
    large(source, 1)
    source.end.set()
    read = LogFile.read

    def failing(self: LogFile) -> bytes:
        if self._offset:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(self)

    monkeypatch.setattr(LogFile, "read", failing)
    async with node.logs() as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    assert "log of default/web/main: [Errno 5] Input/output error" in caplog.messages


async def test_lines_that_are_none_are_left_out_and_reported(node, source, writer, caplog):
    writer.raw(b"\x00" * 50 + b"\n")
    writer.line("good")
    source.end.set()
    async with node.logs() as response:
        assert await response.text() == "good\n"
    assert "log of default/web/main: left out 1 lines that are not in the CRI format" in caplog.messages
