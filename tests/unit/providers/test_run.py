"""Instances that belong to a caller: their standard files, their ends, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pty
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from providers.base import Exit, ExitReason, InvalidSpecError, Preopen, ProviderError, Streams
from providers.wasmtime import processes

from .conftest import COMPILED, Node, guest, stop


@dataclasses.dataclass
class Running:
    """An instance under way, and our ends of its pipes."""

    task: asyncio.Task[Exit]
    pid: int
    stdin: int
    stdout: int
    stderr: int

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(os.write, self.stdin, data)

    def close_stdin(self) -> None:
        os.close(self.stdin)
        self.stdin = -1

    def close(self) -> None:
        for fd in {self.stdin, self.stdout, self.stderr} - {-1}:
            os.close(fd)


async def read_all(fd: int) -> bytes:
    """All until the end; a terminal's is an error (EIO), once nobody has its other side."""
    data = b""
    while True:
        try:
            got = await asyncio.to_thread(os.read, fd, 65536)
        except OSError:
            return data
        if not got:
            return data
        data += got


async def read_until(fd: int, text: bytes) -> bytes:
    data = b""
    while text not in data:
        got = await asyncio.to_thread(os.read, fd, 65536)
        assert got, data
        data += got
    return data


Run = Callable[..., Any]


@pytest.fixture
async def descriptors(node: Node) -> AsyncIterator[None]:
    """Looks after the test whether anything stayed, here, in the launcher or in the run directory."""
    places = (os.getpid(), node.provider._launcher.connection.launcher_pid)
    await complete(node, "hello")  # what is opened once is open now
    before = [count(pid) for pid in places]
    yield
    assert list((node.run_dir / "containers").iterdir()) == []
    assert list((node.run_dir / "trash").iterdir()) == []
    assert node.provider._instances._known == {}
    for pid, number in zip(places, before, strict=True):
        await until(lambda pid=pid, number=number: count(pid) <= number)  # type: ignore[misc]


def count(pid: int) -> int:
    """Descriptors but for those of the compiled code that a launcher keeps."""
    found = 0
    for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208  a path object a descriptor takes longer
        with contextlib.suppress(FileNotFoundError):
            found += not str(Path(f"/proc/{pid}/fd/{name}").readlink()).startswith(str(COMPILED))
    return found


async def begin(node: Node, name: str, *args: str, **fields: Any) -> Running:
    """Run a guest with pipes."""
    spec = await node.spec(guest(name), *args, **{"log_path": None} | fields)
    (in_read, in_write), (out_read, out_write), (error_read, error_write) = (os.pipe() for _ in range(3))
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    streams = Streams(in_read, out_write, error_write)
    task = asyncio.ensure_future(node.provider.run(spec, streams, started.set_result))
    await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
    for fd in (in_read, out_write, error_write):
        os.close(fd)
    return Running(task, started.result() if started.done() else 0, in_write, out_read, error_read)


async def complete(node: Node, name: str, *args: str, **fields: Any) -> tuple[Exit, bytes, bytes]:
    """Run a guest that reads nothing to its end: how it ended, its output and its error output."""
    running = await begin(node, name, *args, **fields)
    running.close_stdin()
    with contextlib.closing(running):
        output, errors = await asyncio.gather(read_all(running.stdout), read_all(running.stderr))
        return await running.task, output, errors


@pytest.mark.usefixtures("descriptors")
async def test_output_goes_to_the_callers_files(node: Node) -> None:
    ended, output, errors = await complete(node, "hello")
    assert (ended.code, ended.reason, ended.message) == (0, ExitReason.COMPLETED, "")
    assert 0 < ended.started_at < ended.finished_at
    assert output == b"hello from a guest\n"
    assert errors == b"hello from its other stream\n"
    assert node.ended.empty()


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize("code", [0, 1, 127, 255])
async def test_exit_codes(node: Node, code: int) -> None:
    ended, _, _ = await complete(node, "exit", str(code))
    assert ended.code == code


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize("name", ["copy", "component_copy"])
async def test_input_is_read_to_its_end(node: Node, name: str) -> None:
    running = await begin(node, name)
    given = os.urandom(3_000_001)

    async def feed() -> None:
        for at in range(0, len(given), 65536):
            await running.write(given[at : at + 65536])
        running.close_stdin()

    with contextlib.closing(running):
        _, output = await asyncio.gather(feed(), read_all(running.stdout))
        assert output == given
        assert (await running.task).code == 0
        assert await read_all(running.stderr) == (b"3000001 bytes\n" if name == "copy" else b"")


@pytest.mark.usefixtures("descriptors")
async def test_a_component_runs_too(node: Node) -> None:
    ended, output, _ = await complete(node, "component")
    assert (ended.code, ended.reason) == (0, ExitReason.COMPLETED)
    assert output == b"hello from a component\n"


@pytest.mark.usefixtures("descriptors")
async def test_a_trap_is_told_on_standard_error(node: Node) -> None:
    ended, _, errors = await complete(node, "trap")
    assert (ended.code, ended.reason) == (134, ExitReason.TRAP)
    assert errors.endswith(b"wasm trap: integer divide by zero\n")


@pytest.mark.usefixtures("descriptors")
async def test_output_that_nobody_reads_ends_it_as_any_process(node: Node) -> None:
    running = await begin(node, "copy")
    os.close(running.stdout)
    running.stdout = -1
    with contextlib.closing(running):
        await running.write(b"text")
        ended = await running.task
    assert (ended.code, ended.signal, ended.reason) == (141, signal.SIGPIPE, ExitReason.KILLED)


@pytest.mark.usefixtures("descriptors")
async def test_a_terminal(node: Node) -> None:
    ours, theirs = pty.openpty()
    spec = await node.spec(guest("terminal"), log_path=None, tty=True)
    run = asyncio.ensure_future(
        node.provider.run(spec, Streams(theirs, theirs, theirs), lambda _: os.close(theirs))
    )
    assert b"terminal 1 1 1\r\n" in await read_until(ours, b"\n")
    os.write(ours, b"some\n")
    assert b"heard some\r\n" in await read_until(ours, b"heard some\r\n")
    os.write(ours, b"\x04")
    assert b"bye\r\n" in await read_all(ours)
    assert (await run).code == 3
    os.close(ours)


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize(("key", "number"), [(b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)])
async def test_keys_that_end_it(node: Node, key: bytes, number: int) -> None:
    ours, theirs = pty.openpty()
    spec = await node.spec(guest("terminal"), log_path=None, tty=True)
    run = asyncio.ensure_future(
        node.provider.run(spec, Streams(theirs, theirs, theirs), lambda _: os.close(theirs))
    )
    await read_until(ours, b"terminal")
    os.write(ours, key)
    ended = await run
    assert (ended.code, ended.signal) == (128 + number, number)
    os.close(ours)


@pytest.mark.usefixtures("descriptors")
async def test_a_terminal_that_goes_ends_it(node: Node) -> None:
    ours, theirs = pty.openpty()
    spec = await node.spec(guest("nap"), log_path=None, tty=True)
    started = asyncio.Event()

    def on_start(_pid: int) -> None:
        os.close(theirs)
        started.set()

    run = asyncio.ensure_future(node.provider.run(spec, Streams(theirs, theirs, theirs), on_start))
    await started.wait()
    await until(lambda: leads_session_with_terminal(node))
    os.close(ours)
    assert (await run).signal == signal.SIGHUP


def leads_session_with_terminal(node: Node) -> bool:
    (instance,) = node.provider._instances.running()
    fields = Path(f"/proc/{instance.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[4]) != 0


async def test_no_terminal_where_one_is_asked_for(node: Node) -> None:
    ended, _, _ = await complete(node, "hello", tty=True)
    assert (ended.code, ended.reason) == (128, ExitReason.CANNOT_RUN)
    assert ended.message == "taking the terminal: Inappropriate ioctl for device"


@pytest.mark.usefixtures("descriptors")
async def test_a_cancelled_instance_is_gone_when_the_caller_knows(node: Node) -> None:
    running = await begin(node, "copy")
    running.task.cancel()
    with contextlib.closing(running):
        with pytest.raises(asyncio.CancelledError):
            await running.task
        assert processes.stat(running.pid) is None
        assert list((node.run_dir / "containers").iterdir()) == []


@pytest.mark.usefixtures("descriptors")
async def test_cancelled_before_there_is_a_process(node: Node) -> None:
    spec = await node.spec(guest("copy"), log_path=None)
    ends = os.pipe()
    run = asyncio.ensure_future(node.provider.run(spec, Streams(ends[0], ends[1], ends[1])))
    await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    for fd in ends:
        os.close(fd)


@pytest.mark.usefixtures("descriptors")
async def test_a_listener_that_fails_ends_it(node: Node) -> None:
    spec = await node.spec(guest("nap"), log_path=None)
    ends = os.pipe()

    def fail(pid: int) -> None:
        raise LookupError(pid)

    with pytest.raises(LookupError) as raised:
        await node.provider.run(spec, Streams(ends[0], ends[1], ends[1]), fail)
    assert processes.stat(raised.value.args[0]) is None
    for fd in ends:
        os.close(fd)


@pytest.mark.usefixtures("descriptors")
async def test_many_at_once(node: Node) -> None:
    results = await asyncio.gather(*(complete(node, "exit", str(number % 7)) for number in range(100)))
    assert [ended.code for ended, _, _ in results] == [number % 7 for number in range(100)]


@pytest.mark.usefixtures("descriptors")
async def test_an_instance_in_a_containers_root(node: Node, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "given").write_text("there")
    volumes = (Preopen(tmp_path / "volume", "/data", read_only=True),)
    state = await node.start(guest("nap"), preopens=volumes)
    root = node.provider.root(state.id)
    (root / "own").write_text("text")
    told = ["read", "/own", "read", "/data/given", "write", "/new", "thing"]
    spec = node.provider.spec(state.id)
    ended, output, _ = await complete(node, "files", *told, root=root, preopens=spec.preopens)
    assert ended.code == 0
    assert output == b"/own: text\n/data/given: there\n"
    assert (root / "new").read_text() == "thing"
    await node.provider.kill(state.id)
    await node.next_end()
    await node.provider.remove(state.id)


async def test_the_spec_of_a_container(node: Node) -> None:
    spec = await node.spec(guest("nap"), working_dir="/data", memory_limit=1 << 20)
    await node.provider.start(spec)
    for _ in range(2):
        assert node.provider.spec(spec.id) == spec
    await node.provider.update(spec.id, memory_limit=2 << 20, cpu_limit=None, cpu_request=None)
    assert node.provider.spec(spec.id) == dataclasses.replace(spec, memory_limit=2 << 20)
    with pytest.raises(ProviderError, match="is not known"):
        node.provider.spec("f" * 64)


async def test_what_cannot_be_asked_for(node: Node, tmp_path: Path) -> None:
    streams = Streams(0, 1, 2)
    with pytest.raises(InvalidSpecError, match="log_path: what is run for a caller has no log"):
        await node.provider.run(await node.spec(guest("hello")), streams)
    with pytest.raises(InvalidSpecError, match="log_path: a container has a log"):
        await node.start(guest("hello"), log_path=None)
    with pytest.raises(InvalidSpecError, match=r"root: .*/nowhere is not a directory"):
        await node.provider.run(
            await node.spec(guest("hello"), log_path=None, root=tmp_path / "nowhere"), streams
        )


# What dies meanwhile: with one launcher, for it is nothing that a sanitizer could see.


@pytest.fixture
async def other(make_node: Callable[[Path], Node], shipped: Path) -> Node:
    node = make_node(shipped)
    await node.open()
    return node


@contextlib.contextmanager
def lone(running: Running) -> Iterator[None]:
    """For an instance whose caller vanishes with the agent."""
    yield
    running.close()


async def test_it_ends_with_its_agent(other: Node) -> None:
    running = await begin(other, "copy")
    container = await other.start(guest("nap"))
    await until((other.container(container.id) / "started").exists)
    with lone(running):
        await other.vanish()
        assert await read_all(running.stdout) == b""
        await until(lambda: processes.stat(running.pid) is None)
    found = await other.open()
    assert [state.id for state in found] == [container.id]
    await until(lambda: len(list((other.run_dir / "containers").iterdir())) == 1)
    await stop(other)


async def test_it_ends_when_another_agent_takes_the_place(other: Node) -> None:
    running = await begin(other, "copy")
    other.provider._launcher.connection.close()
    with contextlib.closing(running):
        ended = await running.task
    assert (ended.code, ended.reason) == (137, ExitReason.KILLED)
    await stop(other)


async def test_it_survives_its_launcher_and_its_end_is_seen(other: Node) -> None:
    running = await begin(other, "copy")
    os.kill(other.provider._launcher.connection.launcher_pid, signal.SIGKILL)
    await other.provider._launcher.connection.closed
    with contextlib.closing(running):
        await running.write(b"still there")
        running.close_stdin()
        assert await read_all(running.stdout) == b"still there"
        ended = await running.task
    assert (ended.code, ended.reason) == (0, ExitReason.COMPLETED)
    await stop(other)


async def test_the_next_agent_ends_what_lost_launcher_and_agent(other: Node) -> None:
    running = await begin(other, "copy")
    launcher = other.provider._launcher.connection.launcher_pid
    os.kill(launcher, signal.SIGKILL)
    await other.provider._launcher.connection.closed
    with lone(running):
        await other.vanish()
        assert processes.stat(running.pid) is not None
        assert await other.open() == []
        assert await read_all(running.stdout) == b""
    await until(lambda: list((other.run_dir / "containers").iterdir()) == [])
    assert other.ended.empty()
    await stop(other)


async def test_an_agent_that_closes_ends_it(other: Node) -> None:
    running = await begin(other, "copy")
    launcher = other.provider._launcher.connection.launcher_pid
    await other.provider.close()
    with contextlib.closing(running):
        assert (await running.task).code == 137
    await until(lambda: processes.stat(launcher) is None or not (other.run_dir / "launcher.sock").exists())
    other.provider = None
    await stop(other)
