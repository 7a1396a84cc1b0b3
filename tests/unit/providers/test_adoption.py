"""Agents and launchers that die: what the next ones find, and that nothing runs twice or is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import until

from providers.base import ContainerState, ExitReason, ProviderError
from providers.wasmtime import files, processes
from providers.wasmtime import launcher as launchers
from providers.wasmtime.files import Started

from .conftest import Node, guest, stop
from .test_attach import INPUT, attach
from .test_run import complete

Make = Callable[[Path], Node]


@pytest.fixture
def node(make_node: Make, shipped: Path) -> Node:
    return make_node(shipped)


def launcher_of(node: Node) -> int:
    pid: int = node.provider._launcher.connection.launcher_pid
    return pid


async def kill_launcher(node: Node) -> None:
    """Kill the launcher with SIGKILL, and return when the agent has another."""
    old = launcher_of(node)
    os.kill(old, signal.SIGKILL)
    await until(lambda: node.provider._launcher.connection is not None and launcher_of(node) != old)


def states(found: list[ContainerState]) -> dict[str, ContainerState]:
    return {state.id: state for state in found}


async def claimed(node: Node, state: ContainerState) -> None:
    await until((node.container(state.id) / "started").exists)


async def test_the_next_agent_finds_what_runs_and_hears_of_its_end(node: Node) -> None:
    assert await node.open() == []
    began = await node.start(guest("nap"), labels={"pod": "a/b", "text": "ü\n\0"})
    await claimed(node, began)
    launcher = launcher_of(node)
    await node.vanish()
    assert await node.open() == [began]
    assert launcher_of(node) == launcher
    await node.provider.kill(began.id)
    ended = await node.next_end()
    assert ended.exit is not None
    assert (ended.exit.reason, ended.exit.signal) == (ExitReason.KILLED, signal.SIGKILL)
    await node.provider.remove(began.id)
    await node.vanish()
    assert await node.open() == []
    await stop(node)


async def test_what_runs_is_found_without_the_launcher_that_ends_meanwhile(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.open()
    began = await node.start(guest("nap"))
    await claimed(node, began)
    old = launcher_of(node)
    await node.vanish()
    look = launchers.sandbox

    async def without_launcher(program: Path) -> dict[str, str]:
        connection = node.provider._launcher.connection
        os.kill(old, signal.SIGKILL)
        await connection.closed
        return await look(program)

    monkeypatch.setattr(launchers, "sandbox", without_launcher)
    assert await node.open() == [began]
    await until(lambda: node.provider._launcher.connection is not None and launcher_of(node) != old)
    await node.provider.kill(began.id)
    ended = await node.next_end()
    assert (ended.id, ended.exit.code) == (began.id, 137)  # type: ignore[union-attr]
    await stop(node)


async def test_an_end_that_nobody_heard_of_is_found(node: Node) -> None:
    await node.open()
    killed = await node.start(guest("nap"))
    await claimed(node, killed)
    done = await node.start(guest("exit"), "3")
    launcher = launcher_of(node)
    await node.vanish()
    os.kill(killed.pid, signal.SIGKILL)
    await until((node.container(killed.id) / "exit").exists)  # the launcher lives, and records
    await until((node.container(done.id) / "own" / "exit").exists)
    while not node.ended.empty():
        node.ended.get_nowait()  # it may have ended before its agent
    found = states(await node.open())
    assert launcher_of(node) == launcher
    assert {state.exit.reason for state in found.values() if state.exit} == {
        ExitReason.KILLED,
        ExitReason.ERROR,
    }
    assert found[done.id].exit.code == 3  # type: ignore[union-attr]
    assert node.ended.empty()
    await stop(node)


async def test_containers_outlive_the_launcher(node: Node) -> None:
    await node.open()
    asleep = [await node.start(guest("nap")) for _ in range(3)]
    for state in asleep:
        await claimed(node, state)
    await kill_launcher(node)
    assert all(processes.stat(state.pid) is not None for state in asleep)
    await node.provider.kill(asleep[0].id)
    ended = await node.next_end()
    assert ended.id == asleep[0].id
    assert ended.exit is not None
    assert (ended.exit.code, ended.exit.reason) == (137, ExitReason.KILLED)
    # The new launcher starts containers, and another agent adopts those of both.
    newer = await node.start(guest("nap"))
    await claimed(node, newer)
    await node.vanish()
    running = {state.id for state in await node.open() if state.exit is None}
    assert running == {asleep[1].id, asleep[2].id, newer.id}
    for container_id in running:
        await node.provider.kill(container_id)
    assert {(await node.next_end()).id for _ in running} == running
    await stop(node)


async def test_launcher_and_agent_both_gone(node: Node) -> None:
    await node.open()
    asleep, killed = [await node.start(guest("nap")) for _ in range(2)]
    for state in (asleep, killed):
        await claimed(node, state)
    launcher = launcher_of(node)
    await node.vanish()
    os.kill(launcher, signal.SIGKILL)
    os.kill(killed.pid, signal.SIGKILL)
    found = states(await node.open())
    assert found[asleep.id] == asleep
    if found[killed.id].exit is None:  # not yet quite dead when the agent looked
        found[killed.id] = await node.next_end()
    ended = found[killed.id].exit
    assert ended is not None
    assert (ended.code, ended.reason) == (137, ExitReason.KILLED)
    await stop(node)


async def test_starts_survive_launchers_that_die(node: Node) -> None:
    """Every container starts exactly once, while launchers are killed all the time."""
    await node.open()
    module = guest("stream")
    specs = [await node.spec(module, "oonce\n") for _ in range(120)]
    starting = [asyncio.ensure_future(node.provider.start(spec)) for spec in specs]
    for _ in range(2):
        await asyncio.sleep(0)
        await kill_launcher(node)
    outcomes = await asyncio.gather(*starting, return_exceptions=True)
    # A launcher that dies whenever it is asked is reported; here it has died twice at most.
    assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []
    ends = [await node.next_end() for _ in specs]
    assert {state.id for state in ends} == {spec.id for spec in specs}
    for spec in specs:
        assert spec.log_path.read_text().count("once") == 1
    await stop(node)


async def test_a_start_that_no_process_claimed_never_happens(node: Node) -> None:
    """The agent died before a process came to be: the next agent takes the container back for good."""
    await node.open()
    spec = await node.spec(guest("nap"))
    node.provider._directory.create(spec)
    await node.vanish()
    assert await node.open() == []
    assert not node.container(spec.id).exists()
    await stop(node)


async def test_a_process_that_comes_late_does_not_run(node: Node) -> None:
    """A process finds the container withdrawn, as if its launcher had been slow, and leaves no trace."""
    await node.open()
    spec = await node.spec(guest("hello"))
    node.provider._directory.create(spec)
    assert node.provider._directory.withdraw(spec.id) is None
    process = await node.provider._launcher.connection.start(spec.id)
    await until(lambda: processes.stat(process.pid) is None)
    assert not spec.log_path.exists()
    await stop(node)


async def test_after_a_reboot_nothing_runs(node: Node) -> None:
    await node.open()
    state = await node.start(guest("nap"))
    await claimed(node, state)
    await node.vanish()
    (node.run_dir / "boot-id").write_text(str(uuid.uuid4()))
    # After a real reboot the pid may be anybody's: this one is alive, and must be left alone.
    found = states(await node.open())
    ended = found[state.id].exit
    assert ended is not None
    assert (ended.code, ended.reason, ended.message) == (137, ExitReason.KILLED, "the node was rebooted")
    assert ended.started_at == state.started_at
    assert processes.stat(state.pid) is not None
    await node.vanish()
    assert states(await node.open())[state.id].exit == ended
    processes.kill(state.pid, processes.stat(state.pid)[1])  # type: ignore[index]
    await stop(node)


async def test_a_reused_pid_is_not_the_container(node: Node) -> None:
    await node.open()
    state = await node.start(guest("nap"))
    await claimed(node, state)
    await node.vanish()
    found = processes.stat(state.pid)
    assert found is not None
    claim = Started(os.getpid(), 1, state.started_at)  # our own pid, and another process's start time
    (node.container(state.id) / "started").write_bytes(files.encode_started(claim))
    ended = states(await node.open())[state.id].exit
    assert ended is not None
    assert ended.reason is ExitReason.KILLED
    await node.provider.kill(state.id)
    processes.kill(os.getpid(), 1)
    processes.kill(state.pid, found[1])
    await stop(node)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("spec", b""),
        ("spec", b"vkubelet container 1\0labels of yore\0.\0"),
        ("spec", b"vkubelet container 1\0l/log\0j[1]\0.\0"),
        ("spec", b"vkubelet container 1\0l/log\0j{\0.\0"),
        ("started", b"1\x002\0"),
        ("started", b"a\0b\0c\0"),
        ("exit", b"0\0completed"),
        ("own/exit", b"0\0completed"),
        ("exit", b"0\0never heard of\x000\x000\x000\0\0"),
    ],
)
async def test_what_is_corrupt_is_set_aside(
    node: Node, name: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await node.open()
    state = await node.start(guest("hello"))
    await node.next_end()
    await node.vanish()
    (node.container(state.id) / name).write_bytes(content)
    assert await node.open() == []
    assert not node.container(state.id).exists()
    (aside,) = (node.run_dir / "corrupt").iterdir()
    assert aside.name.startswith(state.id)
    assert (aside / name).read_bytes() == content
    assert state.id in caplog.text
    await stop(node)


async def test_a_removal_that_was_cut_short_is_finished(node: Node) -> None:
    await node.open()
    state = await node.start(guest("files"), "write", "/a", "b")
    await node.next_end()
    trash = node.provider._directory.discard(state.id)
    unfinished = node.container("e" * 64)
    unfinished.mkdir()
    (unfinished / "spec.new").write_text("half a spec")
    await node.vanish()
    assert await node.open() == []
    await until(lambda: not trash.exists())
    assert not unfinished.exists()
    await stop(node)


async def test_one_agent_at_a_time(node: Node, shipped: Path) -> None:
    await node.open()
    second = Node(node.directory, shipped)
    with pytest.raises(ProviderError, match="in use by another agent"):
        await second.open()
    ended, _ = await node.run(guest("hello"))
    assert ended.reason is ExitReason.COMPLETED
    await stop(node)


async def test_an_idle_launcher_ends_with_its_agent(node: Node) -> None:
    await node.open()
    await node.run(guest("hello"))
    launcher = launcher_of(node)
    await node.provider.close()
    await until(lambda: _is_over(launcher))
    assert not (node.run_dir / "launcher.sock").exists()


def _is_over(pid: int) -> bool:
    """Is it gone, or a zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it goes while it is read
        return True


async def test_fifty_containers_do_not_notice_a_launcher_that_is_killed(node: Node) -> None:
    """They go on, are attached to, have instances run in them, and end, with the next launcher."""
    await node.open()
    states = [await node.start(guest("actor"), "hear", stdin=True) for _ in range(50)]
    for state in states:
        await claimed(node, state)
    launcher = launcher_of(node)
    await kill_launcher(node)
    assert _is_over(launcher)
    assert all(processes.stat(state.pid) is not None for state in states)
    for state in states[::10]:
        ended, output, _ = await complete(node, "hello", root=node.provider.root(state.id))
        assert (ended.code, output) == (0, b"hello from a guest\n")
        client = await attach(node, state)
        await client.send(INPUT, b"typed\n")
        await client.read_until(b"heard typed")
        client.close()
    for state in states:
        await node.provider.kill(state.id)
    ends = [await node.next_end() for _ in states]
    assert {state.id for state in ends} == {state.id for state in states}
    assert {(state.exit.code, state.exit.signal) for state in ends if state.exit} == {(137, 9)}
    await stop(node)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, a_directory, lambda path: path.write_bytes(b"?"), lambda path: path.chmod(0o666)],
    ids=["missing", "directory", "corrupt", "world-writable"],
)
@pytest.mark.parametrize("name", ["spec", "started"])
async def test_what_cannot_be_managed_does_not_go_on(
    node: Node, name: str, damage: Callable[[Path], None]
) -> None:
    """Its pod is about to be started once more: two processes must not have its volumes."""
    await node.open()
    hurt, other = await node.start(guest("nap")), await node.start(guest("nap"))
    for state in (hurt, other):
        await claimed(node, state)
    await until(hurt.log_path.exists)
    await node.vanish()
    damage(node.container(hurt.id) / name)
    assert states(await node.open()) == {other.id: other}
    await until(lambda: _is_over(hurt.pid))
    assert not node.container(hurt.id).exists()
    await stop(node)


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, a_directory, lambda path: path.write_bytes(b"\xff"), lambda path: path.write_bytes(b"")],
)
async def test_without_its_boot_a_container_is_known_by_its_process(
    node: Node, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    await node.open()
    state = await node.start(guest("nap"))
    await claimed(node, state)
    await node.vanish()
    damage(node.run_dir / "boot-id")
    assert states(await node.open()) == {state.id: state}
    assert "boot-id" in caplog.text
    assert (node.run_dir / "boot-id").read_text() == processes.boot_id()
    await stop(node)


@pytest.mark.parametrize("name", ["agent.lock", "cgroups"])
async def test_a_directory_in_the_place_of_a_file_is_set_aside(
    node: Node, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    await node.open()
    state = await node.start(guest("nap"))
    await claimed(node, state)
    await node.vanish()
    a_directory(node.run_dir / name)
    assert states(await node.open()) == {state.id: state}
    assert f"{name}.corrupt" in caplog.text
    await stop(node)


async def test_a_spec_of_a_later_version_is_refused_and_set_aside(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    await node.open()
    state = await node.start(guest("nap"))
    await claimed(node, state)
    await node.vanish()
    path = node.container(state.id) / "spec"
    path.write_bytes(path.read_bytes().replace(b"vkubelet container 1", b"vkubelet container 7"))
    assert await node.open() == []
    assert "spec: 'vkubelet container 7' is none that this version reads" in caplog.text
    (aside,) = (node.run_dir / "corrupt").iterdir()
    assert (aside / "spec").exists()
    await stop(node)
