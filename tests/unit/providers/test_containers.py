"""Real guests as real containers, with the launcher as shipped and under each sanitizer."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from exhausted import no_files
from waiting import until

from providers.base import ExitReason, InvalidSpecError, Preopen, ProviderError
from providers.wasmtime import files, processes

from .conftest import Node, assemble, guest, log_lines, sleeping


async def test_hello(node: Node) -> None:
    ended, lines = await node.run(guest("hello"))
    assert (ended.code, ended.reason, ended.message, ended.signal) == (0, ExitReason.COMPLETED, "", 0)
    assert 0 < ended.started_at < ended.finished_at
    assert sorted(lines) == ["stderr F hello from its other stream", "stdout F hello from a guest"]


async def test_arguments_and_environment_reach_the_guest(node: Node) -> None:
    env = (("EMPTY", ""), ("TEXT", "a=b\nü"))
    _, lines = await node.run(guest("show"), "one", "", "zwei ü", env=env, working_dir="/data")
    assert lines == [
        *("stdout F arg guest", "stdout F arg one", "stdout F arg ", "stdout F arg zwei ü"),
        *("stdout F env EMPTY=", "stdout F env TEXT=a=b", "stdout F ü", "stdout F env PWD=/data"),
    ]


async def test_long_arguments_reach_the_guest(node: Node) -> None:
    long = ["x" * 700_000, "y" * 700_000]
    ended, lines = await node.run(guest("show"), *long)
    assert ended.reason is ExitReason.COMPLETED
    text = "".join(line.partition(" ")[2][2:] for line in lines)
    assert all(argument in text for argument in long)


@pytest.mark.parametrize(
    ("code", "reason"), [(0, ExitReason.COMPLETED), (1, ExitReason.ERROR), (255, ExitReason.ERROR)]
)
async def test_exit_codes(node: Node, code: int, reason: ExitReason) -> None:
    ended, _ = await node.run(guest("exit"), str(code))
    assert (ended.code, ended.reason, ended.message) == (code, reason, "")


async def test_a_trap_says_its_cause_and_where(node: Node) -> None:
    ended, lines = await node.run(guest("trap"))
    assert (ended.code, ended.reason) == (134, ExitReason.TRAP)
    assert ended.message.startswith("wasm trap: integer divide by zero\n")
    assert "wasm backtrace" in ended.message
    assert lines[0].startswith("stderr F error while executing at wasm backtrace")
    assert lines[-1] == "stderr F     wasm trap: integer divide by zero"


async def test_a_trap_before_the_entry_point_is_the_guests(node: Node) -> None:
    module = assemble('(module (func $f unreachable) (start $f) (func (export "_start")))')
    ended, _ = await node.run(module)
    assert (ended.code, ended.reason) == (134, ExitReason.TRAP)


async def test_a_stack_that_overflows_is_a_trap_with_a_short_message(node: Node) -> None:
    name = "f" * 3000
    ended, _ = await node.run(
        assemble(f'(module (func ${name} (call ${name})) (export "_start" (func ${name})))')
    )
    assert ended.message.startswith("wasm trap: call stack exhausted\n")
    assert len(ended.message.encode()) == files.MESSAGE_MAX


@pytest.mark.parametrize(
    ("argument", "code", "reason"),
    [
        ((), 0, ExitReason.COMPLETED),
        (("x",), 1, ExitReason.ERROR),
        (("xx",), 1, ExitReason.ERROR),
        (("xxx",), 134, ExitReason.TRAP),
    ],
)
async def test_components(node: Node, argument: tuple[str], code: int, reason: ExitReason) -> None:
    # The component takes its first argument as what to do; our tests' first is the guest's name otherwise.
    spec = await node.spec(guest("component"))
    spec = dataclasses.replace(spec, args=argument)
    await node.provider.start(spec)
    ended = (await node.next_end()).exit
    assert ended is not None
    assert (ended.code, ended.reason) == (code, reason)
    assert log_lines(spec.log_path)[0] == "stdout F hello from a component"


@pytest.mark.parametrize("allowed", [False, True])
async def test_the_network_is_for_those_who_may_use_it(node: Node, allowed: bool) -> None:
    ended, _ = await node.run(guest("network"), network=allowed)
    assert (ended.code, ended.message) == (0 if allowed else 1, "")


async def test_killing_ends_a_sleep(node: Node) -> None:
    state = await node.start(guest("nap"))
    assert state.exit is None
    assert processes.stat(state.pid) is not None
    await node.provider.kill(state.id)
    ended = await node.next_end()
    assert ended.exit is not None
    assert (ended.exit.code, ended.exit.reason, ended.exit.signal) == (137, ExitReason.KILLED, signal.SIGKILL)
    assert ended.exit.started_at == state.started_at
    await node.provider.kill(state.id)  # does nothing


async def test_another_signal_is_told(node: Node) -> None:
    state = await node.start(guest("nap"))
    await until_claimed(node, state.id)
    os.kill(state.pid, signal.SIGUSR1)
    ended = await node.next_end()
    assert ended.exit is not None
    assert (ended.exit.code, ended.exit.reason) == (128 + signal.SIGUSR1, ExitReason.KILLED)
    assert ended.exit.message == "killed by signal 10 (User defined signal 1)"


async def test_files(node: Node, tmp_path: Path) -> None:
    for name in ("ro", "rw"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "given").write_text(name)
    preopens = (Preopen(tmp_path / "ro", "/ro", read_only=True), Preopen(tmp_path / "rw", "/deep/rw"))
    told = "write /own text read /own read /ro/given write /ro/new x read /deep/rw/given write /deep/rw/new y"
    ended, lines = await node.run(
        guest("files"), *told.split(), "read", "/../../etc/hostname", preopens=preopens
    )
    assert ended.code == 2
    assert lines[:2] == ["stdout F /own: text", "stdout F /ro/given: ro"]
    assert re.match(r"stdout F write /ro/new: ", lines[2])
    assert lines[3] == "stdout F /deep/rw/given: rw"
    assert re.match(r"stdout F read /../../etc/hostname: ", lines[4])
    assert (tmp_path / "rw" / "new").read_text() == "y"


async def test_the_root_directory_dies_with_the_container(node: Node) -> None:
    state = await node.start(guest("files"), "write", "/own", "text")
    await node.next_end()
    assert (node.container(state.id) / "rootfs" / "own").read_text() == "text"
    await node.provider.remove(state.id)
    assert not node.container(state.id).exists()
    assert list((node.run_dir / "trash").iterdir()) == []
    assert state.log_path.exists()


async def test_logs_are_rotated_by_the_container(node: Node) -> None:
    state = await node.start(guest("logger"), "5000", "100", log_max_bytes=100_000, log_max_files=3)
    ended = await node.next_end()
    assert ended.exit is not None
    assert ended.exit.reason is ExitReason.COMPLETED
    found = [*sorted(state.log_path.parent.glob(f"{state.log_path.name}.*")), state.log_path]
    assert len(found) == 3
    numbers = [int(line.split()[2]) for file in found for line in log_lines(file)]
    assert numbers == list(range(5000 - len(numbers), 5000))


async def test_a_log_that_cannot_be_opened(node: Node, tmp_path: Path) -> None:
    ended, _ = await node.run(guest("hello"), log_path=tmp_path / "missing" / "0.log")
    assert (ended.code, ended.reason, ended.started_at) == (128, ExitReason.CANNOT_RUN, 0)
    assert ended.message == f"opening the log {tmp_path}/missing/0.log: No such file or directory"


async def test_code_of_another_engine_cannot_run(node: Node, tmp_path: Path) -> None:
    spec = await node.spec(guest("hello"))
    (tmp_path / "code").write_bytes(b"no compiled code")
    spec = dataclasses.replace(spec, artifact=dataclasses.replace(spec.artifact, path=tmp_path / "code"))
    await node.provider.start(spec)
    ended = (await node.next_end()).exit
    assert ended is not None
    assert ended.reason is ExitReason.CANNOT_RUN
    assert ended.message.startswith("loading the compiled module: ")


async def test_many_at_once(node: Node) -> None:
    specs = [await node.spec(guest("exit"), str(number % 7)) for number in range(150)]
    states = await asyncio.gather(*(node.provider.start(spec) for spec in specs))
    assert len({state.pid for state in states}) == len(states)
    ends = {(await node.next_end()).id for _ in states}
    assert ends == {spec.id for spec in specs}
    await asyncio.gather(*(node.provider.remove(state.id) for state in states))
    assert list((node.run_dir / "containers").iterdir()) == []


async def test_a_container_has_nothing_of_the_launchers(node: Node) -> None:
    state = await node.start(guest("sleep"))
    await until_claimed(node, state.id)
    await until_logged(state.log_path)
    process = Path(f"/proc/{state.pid}")
    targets = {str(link.readlink()) for link in (process / "fd").iterdir()}
    assert not [target for target in targets if "socket" in target or "launcher.lock" in target], targets
    status = (process / "status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert re.search(r"^SigBlk:\t0+$", status, re.MULTILINE)
    assert re.search(r"^Max core file size +0 +0 ", (process / "limits").read_text(), re.MULTILINE)
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    assert int(fields[3]) == state.pid  # a session of its own
    environment = (process / "environ").read_bytes()
    assert b"HOME" not in environment


async def test_a_cancelled_start_leaves_nothing(node: Node) -> None:
    spec = await node.spec(guest("nap"))
    starting = asyncio.ensure_future(node.provider.start(spec))
    await asyncio.sleep(0)  # it has begun, and awaits the launcher
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    # The end of the next one is told; of the cancelled one nothing ever is.
    ended, _ = await node.run(guest("hello"))
    assert ended.reason is ExitReason.COMPLETED
    await until(lambda: not node.container(spec.id).exists())
    assert node.ended.empty()


async def test_a_start_that_is_held_makes_all_but_the_process(node: Node, tmp_path: Path) -> None:
    late, go = tmp_path / "late", asyncio.Event()
    late.mkdir()
    mounted = (Preopen(late, "/late", read_only=True),)
    spec = await node.spec(guest("files"), "read", "/late/file", preopens=mounted)
    starting = asyncio.ensure_future(node.provider.start(spec, go))
    await until(lambda: node.container(spec.id).exists())
    done, _ = await asyncio.wait([starting], timeout=0.2)
    assert not done
    assert not (node.container(spec.id) / "started").exists()
    assert node.provider._containers[spec.id].process is None
    (late / "file").write_text("it came late\n")
    go.set()
    state = await starting
    ended = await node.ended.get()
    assert (ended.id, ended.exit and ended.exit.code) == (spec.id, 0)
    assert "it came late" in state.log_path.read_text()


async def test_a_start_that_is_cancelled_while_it_is_held_leaves_nothing(node: Node) -> None:
    spec = await node.spec(guest("nap"))
    starting = asyncio.ensure_future(node.provider.start(spec, asyncio.Event()))
    await until(lambda: node.container(spec.id).exists())
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: not node.container(spec.id).exists())
    assert spec.id not in node.provider._containers
    assert node.ended.empty()


async def test_a_cancelled_removal_is_done_nevertheless(node: Node) -> None:
    state = await node.start(guest("hello"))
    await node.ended.get()
    (node.container(state.id) / "more").mkdir()  # it goes by way of the trash, in a thread
    threads, may_go = ThreadPoolExecutor(1), threading.Event()
    asyncio.get_running_loop().set_default_executor(threads)
    threads.submit(may_go.wait)
    try:
        removing = asyncio.ensure_future(node.provider.remove(state.id))
        await until(lambda: not node.container(state.id).exists())
        removing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await removing
    finally:
        may_go.set()
    await until(lambda: not list((node.run_dir / "trash").iterdir()))


async def test_what_cannot_be_asked_for(node: Node, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match=r"preopens\[0\]: .*/nowhere is not a directory"):
        await node.start(guest("hello"), preopens=(Preopen(tmp_path / "nowhere", "/data"),))
    with pytest.raises(InvalidSpecError, match=r"preopens\[0\]: 'data' is not an absolute path"):
        await node.start(guest("hello"), preopens=(Preopen(tmp_path, "data"),))
    spec = await node.spec(guest("nap"))
    await node.provider.start(spec)
    with pytest.raises(ProviderError, match="exists already"):
        await node.provider.start(spec)
    with pytest.raises(ProviderError, match="still runs"):
        await node.provider.remove(spec.id)
    await node.provider.remove("f" * 64)
    await node.provider.kill("f" * 64)


async def until_claimed(node: Node, container_id: str) -> None:
    await until((node.container(container_id) / "started").exists)


async def until_logged(path: Path) -> None:
    await until(lambda: path.exists() and path.stat().st_size > 0)


async def test_a_process_is_ended_when_no_file_can_be_opened(node: Node) -> None:
    state = await sleeping(node)
    with no_files([os.getpid()]):
        await node.provider.kill(state.id)
        await until(lambda: is_gone(state.pid))
    ended = (await node.next_end()).exit
    assert ended is not None
    assert (ended.code, ended.reason) == (137, ExitReason.KILLED)


def is_gone(pid: int) -> bool:
    """Told without opening anything."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
