"""Asking guests to stop, who get no signal: by a file, by the end of their input; and their end at last."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from providers.base import ContainerState, Exit, ExitReason

from .conftest import DEADLINE, Node, guest, log_lines
from .test_run import complete

LONG = 2 * DEADLINE
"""A grace that no test waits for."""


async def begin(node: Node, name: str, *args: str, **fields: Any) -> ContainerState:
    """A container whose guest has said what it says before it waits."""
    state = await node.start(guest(name), *args, **fields)
    if name == "stoppable":
        await until(lambda: "stdout F read-only: Operation not permitted" in log_lines(state.log_path))
    else:
        await until((node.container(state.id) / "started").exists)
    return state


async def end_of(node: Node) -> Exit:
    ended = (await node.next_end()).exit
    assert ended is not None
    return ended


def killed(ended: Exit) -> bool:
    return (ended.code, ended.reason, ended.signal) == (137, ExitReason.KILLED, signal.SIGKILL)


async def test_a_guest_sees_that_it_is_asked(node: Node) -> None:
    state = await begin(node, "stoppable", stop_file=True)
    assert "there is stop" not in str(log_lines(state.log_path))
    await node.provider.stop(state.id, LONG)
    ended = await end_of(node)
    assert (ended.code, ended.reason) == (0, ExitReason.COMPLETED)
    assert log_lines(state.log_path)[-1] == "stdout F stopping"


async def test_a_guest_that_does_not_heed_it_is_ended(node: Node) -> None:
    state = await begin(node, "stoppable", "deaf", stop_file=True)
    await node.provider.stop(state.id, 0.2)
    assert killed(await end_of(node))


async def test_the_sooner_end_holds(node: Node) -> None:
    state = await begin(node, "stoppable", "deaf", stop_file=True)
    await node.provider.stop(state.id, LONG)
    await node.provider.stop(state.id, 0.1)
    await node.provider.stop(state.id, LONG)
    assert killed(await end_of(node))


async def test_no_grace_is_no_question(node: Node) -> None:
    state = await begin(node, "stoppable", stop_file=True)
    await node.provider.stop(state.id, 0)
    assert killed(await end_of(node))


async def test_input_that_is_kept_open_ends(node: Node) -> None:
    state = await begin(node, "copy", stdin=True)
    await node.provider.stop(state.id, LONG)
    assert (await end_of(node)).code == 0


async def test_input_ends_for_those_who_are_attached_too(node: Node) -> None:
    state = await begin(node, "copy", stdin=True)
    client = await node.provider.attach(state.id)
    client.send(b"\x00before\n")
    await until(lambda: log_lines(state.log_path) == ["stdout F before"])
    await node.provider.stop(state.id, LONG)
    assert (await end_of(node)).code == 0
    client.close()


async def test_a_terminal_says_the_end_in_its_own_way(node: Node) -> None:
    state = await begin(node, "copy", stdin=True, tty=True)
    await node.provider.stop(state.id, LONG)
    assert (await end_of(node)).code == 0


@pytest.mark.parametrize("fields", [{}, {"tty": True}])
async def test_who_cannot_hear_is_ended_at_once(node: Node, fields: dict[str, bool]) -> None:
    state = await begin(node, "nap", **fields)
    await node.provider.stop(state.id, LONG)
    assert killed(await end_of(node))


async def test_what_has_ended_or_is_not_known_is_left_alone(node: Node) -> None:
    ended, _ = await node.run(guest("hello"), stop_file=True)
    assert ended.code == 0
    for name in [*node.provider._containers, "f" * 64]:
        await node.provider.stop(name, LONG)


async def test_an_instance_sees_it_too(node: Node) -> None:
    state = await begin(node, "stoppable", "deaf", stop_file=True)
    root = node.provider.root(state.id)
    _, output, _ = await complete(node, "files", "list", "/.vkubelet", root=root, stop_file=True)
    assert b"stop" not in output
    await node.provider.stop(state.id, LONG)
    _, output, _ = await complete(node, "files", "list", "/.vkubelet", root=root, stop_file=True)
    assert b"/.vkubelet has stop\n" in output


async def test_a_later_agent_asks_too(node: Node) -> None:
    state = await begin(node, "stoppable", stop_file=True)
    await node.vanish()
    assert [found.id for found in await node.open()] == [state.id]
    await node.provider.stop(state.id, LONG)
    assert (await end_of(node)).code == 0


async def test_the_mount_point_can_be_seen(node: Node, tmp_path: Path) -> None:
    ended, lines = await node.run(guest("files"), "list", "/", stop_file=True)
    assert ended.code == 0
    assert "stdout F / has .vkubelet" in lines
