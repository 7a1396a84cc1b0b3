"""A run directory on a full disk: what ends is known, what cannot start says why and leaves nothing."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from small_disk import SmallDisk, small_disk
from waiting import until

from providers.base import ContainerState, ExitReason, Identity, ProviderError

from .conftest import Node, guest, log_lines, stop

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk")

FILL: dict[str, Callable[[SmallDisk], None]] = {
    "bytes": SmallDisk.fill_bytes,
    "inodes": SmallDisk.fill_inodes,
}


@pytest.fixture
def disk(make_node: Callable[[Path], Node], shipped: Path) -> Iterator[tuple[Node, SmallDisk]]:
    node = make_node(shipped)
    with small_disk(node.run_dir, "4m", 500) as disk:
        yield node, disk


@pytest.fixture(params=FILL)
async def full(
    disk: tuple[Node, SmallDisk], request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Node, Callable[[], None]]]:
    """A node with an agent, and what makes its disk full."""
    node, small = disk
    await node.open()
    yield node, lambda: FILL[request.param](small)
    small.free()
    await stop(node)


async def waiting(node: Node, *verbs: str, identity: Identity | None = None) -> ContainerState:
    """A container that goes on by these verbs when it is told."""
    state = await node.start(guest("actor"), "print", "x", "await", "/go", *verbs, identity=identity)
    await until(lambda: log_lines(state.log_path))
    (node.provider.root(state.id) / "ready").touch()
    return state


def tell(node: Node, state: ContainerState) -> None:
    root = node.provider.root(state.id)
    (root / "ready").rename(root / "go")


@pytest.mark.parametrize("identity", [None, Identity(4711, 4712)])
async def test_how_a_container_ended_is_known_and_kept(
    full: tuple[Node, Callable[[], None]], identity: Identity | None
) -> None:
    node, fill = full
    told = await waiting(node, "exit", "3", identity=identity)
    killed = await waiting(node, identity=identity)
    fill()
    tell(node, told)
    ended = await node.next_end()
    assert ended.exit is not None
    assert (ended.exit.code, ended.exit.reason) == (3, ExitReason.ERROR)
    await node.provider.kill(killed.id)
    ended = await node.next_end()
    assert ended.exit is not None
    assert (ended.exit.code, ended.exit.signal) == (137, 9)
    fill()
    await node.vanish()
    found = {state.id: state.exit for state in await node.open()}
    assert {state: end.code for state, end in found.items() if end} == {told.id: 3, killed.id: 137}


async def test_what_cannot_start_says_why_and_leaves_nothing(full: tuple[Node, Callable[[], None]]) -> None:
    node, fill = full
    running = await waiting(node)
    fill()
    with pytest.raises(ProviderError, match="No space left on device"):
        await node.start(guest("exit"), "0")
    assert [path.name for path in (node.run_dir / "containers").iterdir()] == [running.id]
    assert list((node.run_dir / "trash").iterdir()) == []


async def test_an_agent_that_has_no_room_for_its_lock_says_so(disk: tuple[Node, SmallDisk]) -> None:
    node, small = disk
    small.fill_inodes()
    with pytest.raises(ProviderError, match="No space left on device"):
        await node.open()
    small.free()
    assert await node.open() == []
    await stop(node)


async def test_what_can_be_recorded_nowhere_is_told_once(
    disk: tuple[Node, SmallDisk], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, small = disk
    await node.open()
    state = await waiting(node)
    monkeypatch.setattr(node.provider._directory, "read_exit", lambda _: None)
    small.fill_bytes()
    await node.provider.kill(state.id)
    ended = await node.next_end()
    assert ended.exit is not None
    assert "how could not be recorded: " in ended.exit.message
    small.free()
    await stop(node)
