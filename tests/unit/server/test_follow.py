"""Following a log while it is written, up to its end."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest
from log_clients import large, open_logs

from vkubelet.inotify import DirectoryWatcher, Watch
from vkubelet.server import log_stream
from vkubelet.server.log_file import LogFile
from vkubelet.server.log_options import LogOptions


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


async def test_a_log_that_cannot_be_followed_says_why_and_can_be_read(node, source, writer, monkeypatch):
    writer.line("here")

    def lacking(watch: Watch) -> bool:
        raise OSError(errno.EMFILE, "no inotify instance left: raise the sysctl", "directory")

    monkeypatch.setattr(Watch, "arm", lacking)
    async with node.logs(follow="true") as response:
        assert response.status == 500
        assert "no inotify instance left: raise the sysctl" in await response.text()
    async with node.logs() as response:
        assert await response.text() == "here\n"


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
