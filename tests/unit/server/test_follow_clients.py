"""Slow, leaving and many clients of a log, and what is released when they and the server are gone."""

from __future__ import annotations

import asyncio
import tracemalloc

import aiohttp
import pytest
from log_clients import accepted, descriptors, large, open_logs, raw_follower, read_body

from vkubelet.pods.directory import LogSource
from vkubelet.server import logs
from vkubelet.server.log_file import LogFile


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
