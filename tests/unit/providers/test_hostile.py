"""Guests that harm whom they can, each alone: what bounds them, how they end, and that nothing is left."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import bombs
import pytest

from providers.base import ContainerState, ExitReason
from providers.wasmtime import processes

from .conftest import DEADLINE, Node, assemble, guest, log_lines, stop

MIB = 1024 * 1024
LIMIT = 32 * MIB


@pytest.fixture
async def shipped_node(make_node: Callable[[Path], Node], shipped: Path) -> AsyncIterator[Node]:
    """A node whose launcher has no sanitizer: what is tried takes its time."""
    node = make_node(shipped)
    await node.open()
    yield node
    await stop(node)


async def ready(node: Node, *args: str, **fields: object) -> ContainerState:
    """Start the hostile guest, and wait until it has had its way."""
    state: ContainerState = await node.start(guest("hostile"), *args, **fields)
    async with asyncio.timeout(DEADLINE):
        while not said(state.log_path, "ready"):
            assert node.ended.empty(), node.ended.get_nowait()
            await asyncio.sleep(0.02)
    return state


def said(log: Path, text: str) -> bool:
    """Is this the end of what it wrote? It may be long, and no text."""
    try:
        with log.open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - 1000, 0))
            return file.read().endswith(f"{text}\n".encode())
    except FileNotFoundError:
        return False  # not yet, or rotated just now


def anonymous(pid: int) -> int:
    """Bytes of memory that no file backs, of a process."""
    (held,) = re.findall(r"RssAnon:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(held) * 1024


async def end(node: Node, state: ContainerState) -> None:
    """Kill and remove it; nothing of it may be left but its log."""
    await node.provider.kill(state.id)
    ended = await node.next_end()
    assert ended.exit is not None
    assert (ended.exit.code, ended.exit.reason) == (137, ExitReason.KILLED)
    with pytest.raises(ProcessLookupError):
        os.kill(state.pid, 0)  # it is reaped
    await node.provider.remove(state.id)
    for directory in (node.run_dir / "containers", node.run_dir / "trash", *node.roots_dir.iterdir()):
        assert not list(directory.iterdir())


async def test_a_table_is_bounded_as_memory_is(shipped_node: Node) -> None:
    ended, _ = await shipped_node.run(assemble(bombs.TABLE.format(minimum=1)), memory_limit=LIMIT)
    assert (ended.code, ended.reason) == (137, ExitReason.OUT_OF_MEMORY)
    told = re.match(
        r"out of memory: the guest asked for (\d+) bytes, and its limit is (\d+)\n", ended.message
    )
    assert told is not None
    assert int(told[1]) > int(told[2]) == LIMIT
    ended, _ = await shipped_node.run(
        assemble(bombs.TABLE.format(minimum=LIMIT // 8 + 1)), memory_limit=LIMIT
    )
    assert (ended.code, ended.reason) == (128, ExitReason.CANNOT_RUN)
    assert ended.message.endswith(
        f"out of memory: the guest asked for {LIMIT + 8} bytes, and its limit is {LIMIT}"
    )


async def test_a_table_may_be_as_large_as_the_limit(node: Node) -> None:
    fits = bombs.TABLE.format(minimum=LIMIT // 8 - 100000).replace("(br_if $more", "(drop")
    ended, _ = await node.run(assemble(fits.replace("unreachable", "")), memory_limit=LIMIT)
    assert ended.reason is ExitReason.COMPLETED


async def test_objects_of_the_garbage_collector_are_memory(node: Node) -> None:
    ended, _ = await node.run(assemble(bombs.OBJECTS), memory_limit=LIMIT)
    assert (ended.code, ended.reason) == (137, ExitReason.OUT_OF_MEMORY)
    assert f"the guest's objects take more than its limit of {LIMIT} bytes\n" in ended.message


async def test_any_exit_code(shipped_node: Node) -> None:
    codes = [*range(256), 256, 257, 511, 65536, 2**31 - 1, -1, -128, -(2**31)]
    states = {(await shipped_node.start(guest("hostile"), "exit", str(code))).id: code for code in codes}
    for _ in codes:
        ended = await shipped_node.next_end()
        assert ended.exit is not None
        code = states[ended.id] % 256  # what a process' parent is told (exit(3))
        reason = ExitReason.COMPLETED if code == 0 else ExitReason.ERROR
        assert (ended.exit.code, ended.exit.reason) == (code, reason), states[ended.id]


@pytest.mark.parametrize("kind", ["endless", "binary", "escapes", "short"])
async def test_a_flood_of_output_takes_its_files_and_no_memory(shipped_node: Node, kind: str) -> None:
    state = await ready(shipped_node, "flood", kind, "16", log_max_bytes=MIB, log_max_files=3)
    found = sorted(state.log_path.parent.iterdir())
    assert len(found) == 3
    assert all(path.stat().st_size <= MIB for path in found)
    # As the kubelet's reader has it: a time, a stream, a tag, and whatever bytes there were, on each line.
    line = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z stdout [FP] [^\n]*")
    for path in found:
        lines = path.read_bytes().split(b"\n")
        assert lines.pop() == b""
        assert all(line.fullmatch(each) for each in lines)
    assert anonymous(state.pid) < 8 * MIB
    await end(shipped_node, state)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("files", "/", "20000"), "made 20000"),
        (("deep", "/", "3000"), "deep 3000"),
        (("open",), "opened "),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
async def test_what_it_has_made_goes_with_it(shipped_node: Node, args: tuple[str, ...], told: str) -> None:
    state = await ready(shipped_node, *args)
    (line,) = [each for each in log_lines(state.log_path) if told in each]
    if args == ("open",):
        assert 1000 < int(line.split()[3].rstrip(":")) < 65536
    assert len(log_lines(state.log_path)) == 2, "and everything else was done"
    await end(shipped_node, state)


async def test_no_link_leads_out(shipped_node: Node) -> None:
    secret = shipped_node.directory / "secret"
    secret.write_text("secret")
    state = await ready(shipped_node, "links", "/")
    before = {path for path in shipped_node.directory.rglob("*") if "rootfs" not in path.parts}
    assert not [path for path in before if path.name in {"inside", "hard", "up"}]
    lines = [each.removeprefix("stdout F ") for each in log_lines(state.log_path)]
    for way in ("read", "path", "make", "mkdir", "up", "root"):
        assert not [each for each in lines if each == f"{way}: done"], way
    await end(shipped_node, state)
    assert secret.read_text() == "secret"


@pytest.mark.parametrize("how", ["clock", "stdin", "accept"])
async def test_nothing_that_it_waits_for_keeps_it(shipped_node: Node, how: str) -> None:
    state = await ready(shipped_node, "block", how)
    assert "stdout F accept: done" not in log_lines(state.log_path)
    await end(shipped_node, state)


async def test_clocks_tell_no_lies_and_a_list_beyond_all_memory_is_none(shipped_node: Node) -> None:
    state = await ready(shipped_node, "clocks")
    past, many, _ = log_lines(state.log_path)
    assert past == "stdout F past: 0"
    assert many != "stdout F many: 0"
    await end(shipped_node, state)


@pytest.mark.parametrize(
    ("levels", "reason"), [(8, ExitReason.COMPLETED), (16, ExitReason.CANNOT_RUN)], ids=["few", "many"]
)
async def test_instances_are_bounded(shipped_node: Node, levels: int, reason: ExitReason) -> None:
    ended, _ = await shipped_node.run(assemble(bombs.doubling(levels)), memory_limit=LIMIT)
    assert ended.reason is reason
    assert ("instance count too high" in ended.message) == (reason is ExitReason.CANNOT_RUN)


@pytest.mark.parametrize("allowed", [True, False])
async def test_what_is_the_nodes_own_is_reached_by_those_who_may_use_its_network(
    shipped_node: Node, allowed: bool
) -> None:
    ended, _ = await shipped_node.run(guest("dial"), network=allowed)
    assert ended.code == int(allowed)


def test_who_is_to_end_gives_way_no_more() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        os.setpriority(os.PRIO_PROCESS, child.pid, 10)
        found = processes.stat(child.pid)
        assert found is not None
        processes.kill(child.pid, found[1])
        # It is not reaped yet, so that there is one to ask.
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == (0 if os.geteuid() == 0 else 10)
        assert child.wait() == -signal.SIGKILL
        processes.kill(child.pid, found[1])  # nobody is there
