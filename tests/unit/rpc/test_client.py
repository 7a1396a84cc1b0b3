"""Calls to a plugin over a real socket: what it answers, and every way in which it does not."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from exhausted import no_files
from grpc_server import RefusedError, grpc_server

from vkubelet.rpc.client import Method, RpcError, call
from vkubelet.rpc.messages import Message


class Text(Message):
    text: Annotated[str, 1] = ""


class Number(Message):
    number: Annotated[int, 1] = 0


ECHO = Method("/test.Service/Echo", Text, Text)
MISREAD = Method("/test.Service/Echo", Text, Number)


async def echo(request: Text) -> Text:
    if request.text == "hang":
        await asyncio.get_running_loop().create_future()
    if request.text == "fail":
        raise RefusedError("FAILED_PRECONDITION", "not now")
    return request


async def failure(
    path: Path, text: str, method: Method[Text, Text] = ECHO, timeout: float = 10.0
) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await call(path, method, Text(text=text), timeout=timeout)
    return caught.value


async def test_what_a_plugin_answers_is_handed_back(tmp_path: Path) -> None:
    async with grpc_server(tmp_path / "s", {ECHO: echo}):
        assert await call(tmp_path / "s", ECHO, Text(text="x" * 100_000), timeout=10) == Text(
            text="x" * 100_000
        )


async def test_failures_read_as_in_go(tmp_path: Path) -> None:
    async with grpc_server(tmp_path / "s", {ECHO: echo}):
        error = await failure(tmp_path / "s", "fail")
        assert (error.code, str(error)) == (
            "FailedPrecondition",
            "rpc error: code = FailedPrecondition desc = not now",
        )
        assert (
            await failure(tmp_path / "s", "", Method("/test.Service/Other", Text, Text))
        ).code == "Unimplemented"
        with pytest.raises(RpcError, match="code = Internal desc = the answer cannot be read"):
            await call(tmp_path / "s", MISREAD, Text(text="x"), timeout=10)


async def test_a_plugin_that_hangs_is_given_up(tmp_path: Path) -> None:
    async with grpc_server(tmp_path / "s", {ECHO: echo}):
        error = await failure(tmp_path / "s", "hang", timeout=0.05)
    assert str(error) == "rpc error: code = DeadlineExceeded desc = context deadline exceeded"


async def test_whoever_only_listens_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        assert (await failure(tmp_path / "s", "", timeout=0.05)).code in ("DeadlineExceeded", "Unavailable")


async def test_a_socket_that_nobody_serves_is_told_at_once(tmp_path: Path) -> None:
    assert (await failure(tmp_path / "none", "")).code == "Unavailable"
    (tmp_path / "file").touch()
    assert (await failure(tmp_path / "file", "")).code == "Unavailable"


async def test_a_plugin_that_was_started_anew_is_found(tmp_path: Path) -> None:
    for _ in range(2):
        async with grpc_server(tmp_path / "s", {ECHO: echo}):
            assert await call(tmp_path / "s", ECHO, Text(text="x"), timeout=10) == Text(text="x")
        assert (await failure(tmp_path / "s", "x")).code == "Unavailable"


def test_an_agent_that_meets_no_plugin_imports_no_grpc() -> None:
    code = "import sys, vkubelet.agent; assert not {'grpc', 'google.protobuf'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_where_no_files_are_left_it_fails_and_the_process_lives(tmp_path: Path) -> None:
    async with grpc_server(tmp_path / "s", {ECHO: echo}):
        await call(tmp_path / "s", ECHO, Text(text="x"), timeout=10)
        with no_files([os.getpid()]):
            error = await failure(tmp_path / "s", "x")
        assert str(error) == "rpc error: code = ResourceExhausted desc = Too many open files"
        await call(tmp_path / "s", ECHO, Text(text="x"), timeout=10)
