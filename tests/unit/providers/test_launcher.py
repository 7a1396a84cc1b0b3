"""The launcher's socket: who may speak, what happens to those who speak otherwise, and versions."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest
from waiting import until

from providers.base import ExitReason, ProviderError
from providers.wasmtime import engine, launcher, processes
from providers.wasmtime.connection import Connection, LauncherGoneError
from providers.wasmtime.native import build

from .conftest import Node, guest, stop

STRANGER = """
import os, socket, sys
os.chdir(sys.argv[1])  # a socket's address is short, and a test's path is long
os.setgroups([]); os.setgid(65534); os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.settimeout(30)
client.connect("launcher.sock")
sys.stdout.buffer.write(client.recv(1000))
"""


def is_free(lock: TextIO) -> bool:
    """Whether nobody holds it, or did until now."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def connect(node: Node) -> socket.socket:
    """A connection of our own, which takes the agent's place."""
    directory = os.open(node.run_dir, os.O_PATH)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(f"/proc/self/fd/{directory}/launcher.sock")
    os.close(directory)
    return client


def read_line(client: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        got = client.recv(1)
        if not got:
            break
        line += got
    return line


def closed(client: socket.socket) -> bool:
    """Does the launcher let go of us?"""
    try:
        while client.recv(1000):
            pass
    except ConnectionResetError:
        return True
    return True


@pytest.mark.parametrize(
    "message",
    [
        b"\n",
        b"hello\n",
        b"start\n",
        b"start 1\n",
        b"start 1 short\n",
        b"start x " + b"a" * 64 + b"\n",
        b"start  " + b"a" * 64 + b"\n",
        b"start 1 " + b"A" * 64 + b"\n",
        b"start 1 " + b"../" * 21 + b"a\n",
        b"start 123456789012345678901234567890 " + b"a" * 64 + b"\n",
        b"shutdown now\n",
        b"run 1 " + b"a" * 64 + b"\n",
        b"run x " + b"a" * 64 + b"\n",
        b"\0" * 1000,
        b"x" * 256,
        b"x" * 100_000,
        bytes(range(256)) * 300,
    ],
)
async def test_who_speaks_otherwise_is_let_go_of(node: Node, message: bytes) -> None:
    launcher_pid = await without_agent(node)
    with connect(node) as client:
        assert read_line(client).decode().strip() == build.identity()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(message)
        assert await asyncio.to_thread(closed, client)
    # The same launcher goes on to serve.
    await node.open()
    assert node.provider._launcher.connection.launcher_pid == launcher_pid
    ended, _ = await node.run(guest("hello"))
    assert ended.reason is ExitReason.COMPLETED


async def without_agent(node: Node) -> int:
    """Leave the launcher, whose pid is returned, without the agent, so that it is ours to talk to."""
    pid: int = node.provider._launcher.connection.launcher_pid
    await node.vanish()
    return pid


async def test_a_start_of_what_is_not_there_is_refused(node: Node) -> None:
    with pytest.raises(ProviderError, match="opening the container's directory: No such file"):
        await node.provider._launcher.connection.start("a" * 64)


async def test_messages_may_come_in_any_pieces(node: Node) -> None:
    await without_agent(node)
    with connect(node) as client:
        read_line(client)
        for byte in b"start 7 " + b"a" * 64 + b"\nstart 8 " + b"b" * 64 + b"\n":
            client.send(bytes([byte]))
        assert read_line(client).startswith(b"failed 7 opening")
        assert read_line(client).startswith(b"failed 8 opening")


async def test_an_agent_that_does_not_read_is_let_go_of(node: Node) -> None:
    """It is no reason to hold up anything, nor to keep ever more text for it."""
    launcher_pid = await without_agent(node)
    with connect(node) as client:
        read_line(client)
        request = b"".join(b"start %d %s\n" % (number, b"a" * 64) for number in range(1000))
        await asyncio.to_thread(_send_until_let_go, client, request)
    await node.open()
    assert node.provider._launcher.connection.launcher_pid == launcher_pid


async def test_a_newer_agent_takes_the_place_of_an_older(node: Node) -> None:
    await without_agent(node)
    with connect(node) as older, connect(node) as newer:
        assert read_line(newer)
        assert await asyncio.to_thread(closed, older)
        newer.sendall(b"start 1 " + b"a" * 64 + b"\n")
        assert read_line(newer).startswith(b"failed 1 ")


async def test_an_agent_that_closes_amid_a_reconnection_leaves_no_launcher(node: Node) -> None:
    connection = node.provider._launcher.connection
    connection.close()
    await connection.closed
    await node.provider.close()
    assert node.provider._launcher.connection is None
    assert not (node.run_dir / "launcher.sock").exists()


def _send_until_let_go(client: socket.socket, request: bytes) -> None:
    try:
        for _ in range(10_000):
            client.sendall(request)
    except (ConnectionResetError, BrokenPipeError):
        return
    pytest.fail("the launcher took 10 million requests and no answer was read")


async def test_only_its_own_user_may_speak(node: Node) -> None:
    address = node.run_dir / "launcher.sock"
    assert stat.S_IMODE(address.stat().st_mode) == 0o600
    assert stat.S_IMODE(node.run_dir.stat().st_mode) == 0o700
    if os.geteuid() != 0:
        return  # only root can become somebody else; file modes are all that can be looked at
    # Even if the modes let a stranger in, the launcher does not.
    for part in (node.run_dir, *node.run_dir.parents[:-1]):
        part.chmod(part.stat().st_mode | 0o011)
    address.chmod(0o777)
    command = [sys.executable, "-c", STRANGER, str(node.run_dir)]
    stranger = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    answer, _ = await stranger.communicate()
    assert stranger.returncode == 0
    assert answer == b""


async def test_sigterm_ends_the_launcher_and_no_container(node: Node) -> None:
    state = await node.start(guest("sleep"))
    os.kill(node.provider._launcher.connection.launcher_pid, signal.SIGTERM)
    await node.provider._launcher.connection.closed
    ended, _ = await node.run(guest("hello"))
    assert ended.reason is ExitReason.COMPLETED
    assert processes.stat(state.pid) is not None


def patched(program: Path, target: Path, old: bytes, new: bytes) -> None:
    """A launcher that differs from `program` in some bytes."""
    content = program.read_bytes()
    assert old in content
    target.write_bytes(content.replace(old, new))
    target.chmod(0o755)


async def test_a_launcher_of_another_version_is_replaced(
    make_node: Callable[[Path], Node], shipped: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older-launcher"
    identity = build.identity().encode()
    patched(shipped, older, identity, identity.replace(b"launcher ", b"launcher\t", 1))
    node = make_node(older)
    await node.open()
    asleep = await node.start(guest("nap"))
    old = node.provider._launcher.connection.launcher_pid
    await node.vanish()
    node.program = shipped
    assert [state.id for state in await node.open()] == [asleep.id]
    assert node.provider._launcher.connection.launcher_pid != old
    ended, _ = await node.run(guest("hello"))
    assert ended.reason is ExitReason.COMPLETED
    await stop(node)


async def test_a_launcher_for_another_wasmtime_is_refused(
    make_node: Callable[[Path], Node], shipped: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other-launcher"
    version = f"wasmtime {engine.version()}".encode()
    patched(shipped, other, version, version[:-1] + b"x")
    with pytest.raises(ProviderError, match=r"was built for wasmtime .*x engine .* rebuild it"):
        await make_node(other).open()


def run_launcher(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def test_another_library_is_refused(program: Path, tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    library = bytearray(engine.library().read_bytes())
    at = library.find(bytes.fromhex(build.build_id(engine.library())))
    library[at] ^= 0xFF
    (tmp_path / "other.so").write_bytes(library)
    result = run_launcher(program, tmp_path, tmp_path / "other.so")
    assert result.returncode == 1
    assert "this launcher was built for" in result.stderr
    assert "rebuild it" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), 2, "usage"),
        (("a", "b", "c"), 2, "usage"),
        (("/nowhere", "library"), 1, "/nowhere: No such file or directory"),
        (("/", "library"), 1, "opening the directory of containers: No such file or directory"),
    ],
)
def test_what_cannot_be_served_is_said(program: Path, arguments: tuple[str], code: int, text: str) -> None:
    result = run_launcher(program, *arguments)
    assert result.returncode == code
    assert text in result.stderr


def test_a_library_that_is_not_there(program: Path, tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    result = run_launcher(program, tmp_path, tmp_path / "none.so")
    assert result.returncode == 1
    assert "none.so" in result.stderr


async def test_a_missing_launcher_is_named(make_node: Callable[[Path], Node], tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"none does not exist; rebuild it"):
        await make_node(tmp_path / "none").open()


async def test_a_launcher_that_does_not_speak_is_given_up(
    make_node: Callable[[Path], Node], shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_HELLO_SECONDS", 0.2)
    node = make_node(shipped)
    (node.run_dir).mkdir()
    directory = os.open(node.run_dir, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(f"/proc/self/fd/{directory}/launcher.sock")
        deaf.listen()
        with pytest.raises(ProviderError, match="does not answer"):
            await node.open()
    os.close(directory)


async def test_a_launcher_of_another_version_that_does_not_end_is_given_up(
    make_node: Callable[[Path], Node], shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_HELLO_SECONDS", 0.2)
    node = make_node(shipped)
    (node.run_dir).mkdir()
    directory = os.open(node.run_dir, os.O_PATH)
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"launcher of another version\n")
        heard.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_unix_server(greet, f"/proc/self/fd/{directory}/launcher.sock")
    with pytest.raises(ProviderError, match="another version does not end"):
        await node.open()
    async with asyncio.timeout(30):
        assert await heard == b"shutdown\n"
    server.close()
    await server.wait_closed()
    os.close(directory)


async def test_a_launcher_that_speaks_nonsense_is_let_go_of(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ended: list[str] = []
    connection = Connection(ours, ended.append)
    theirs.sendall(b"identity\nended abc\n")
    await connection.ready
    answer = connection.start("a" * 64)
    theirs.sendall(b"started 99 1 2 3\n")
    with pytest.raises(LauncherGoneError):
        await answer
    assert ended == ["abc"]
    assert "which is no message" in caplog.text
    with pytest.raises(LauncherGoneError):
        await connection.start("b" * 64)
    theirs.close()


def test_credentials_are_the_three_numbers_that_we_read() -> None:
    ours, theirs = socket.socketpair()
    found = struct.unpack("3i", ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    assert found == (os.getpid(), os.getuid(), os.getgid())
    ours.close()
    theirs.close()


@pytest.mark.parametrize("count", [1, 2, 4, 200])
async def test_descriptors_that_are_no_three_are_refused_and_closed(node: Node, count: int) -> None:
    launcher_pid = await without_agent(node)
    ours, theirs = os.pipe()
    with connect(node) as client:
        read_line(client)
        socket.send_fds(client, [b"run 1 " + b"a" * 64 + b"\n"], [theirs] * count)
        os.close(theirs)
        assert await asyncio.to_thread(closed, client)
    assert await asyncio.to_thread(os.read, ours, 1) == b""
    os.close(ours)
    await node.open()
    assert node.provider._launcher.connection.launcher_pid == launcher_pid


async def test_descriptors_ahead_of_all_lines_are_refused_and_closed(node: Node) -> None:
    await without_agent(node)
    ours, theirs = os.pipe()
    with connect(node) as client:
        read_line(client)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(100):
                socket.send_fds(client, [b" "], [theirs] * 3)
        os.close(theirs)
        assert await asyncio.to_thread(closed, client)
    assert await asyncio.to_thread(os.read, ours, 1) == b""
    os.close(ours)


async def test_many_lines_with_descriptors_at_once(node: Node) -> None:
    """More than the launcher keeps: it takes lines before it takes more."""
    await without_agent(node)
    ours, theirs = os.pipe()
    with connect(node) as client:
        read_line(client)
        for number in range(300):
            await asyncio.to_thread(
                socket.send_fds, client, [b"run %d %s\n" % (number, b"a" * 64)], [theirs] * 3
            )
        for number in range(300):
            assert read_line(client).startswith(b"failed %d opening" % number)
    os.close(theirs)
    assert await asyncio.to_thread(os.read, ours, 1) == b""
    os.close(ours)


async def test_a_launcher_that_nobody_comes_to_ends_and_one_with_containers_goes_on(
    make_node: Callable[[Path], Node], shipped: Path
) -> None:
    busy, left = make_node(shipped), make_node(shipped)
    await busy.open()
    await busy.start(guest("nap"))
    busy_pid = busy.provider._launcher.connection.launcher_pid
    await busy.vanish()
    (left.run_dir / "containers").mkdir(parents=True)
    # As an agent does that is ended before it has connected.
    await launcher._run(shipped, str(left.run_dir), str(engine.library()))
    with (left.run_dir / "launcher.lock").open() as lock:
        shutil.rmtree(left.run_dir)
        await until(lambda: is_free(lock))
    await busy.open()
    assert busy.provider._launcher.connection.launcher_pid == busy_pid
    await stop(busy)
