"""The queue of what has changed: once each, a few at a time, and again when it is due."""

from __future__ import annotations

import asyncio
import time
import weakref

import pytest

from vkubelet.pods.volumes import renewal as module
from vkubelet.pods.volumes.renewal import AT_ONCE, Renewal


class Volumes:
    def __init__(self, again: float | None = None) -> None:
        self.again = again
        self.renewed = 0
        self.go = asyncio.Event()
        self.go.set()
        self.more = asyncio.Event()

    async def renew(self) -> float | None:
        self.renewed += 1
        self.more.set()
        await self.go.wait()
        return self.again

    async def times(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.renewed < count:
                self.more.clear()
                await self.more.wait()


@pytest.fixture
async def renewal() -> Renewal:
    return Renewal()


async def test_who_is_told_often_is_renewed_once_and_who_hangs_holds_up_nobody(renewal: Renewal) -> None:
    hanging = [Volumes() for _ in range(AT_ONCE - 1)]
    for volumes in hanging:
        volumes.go.clear()
    quick, gone = Volumes(), Volumes()
    for _ in range(3):
        for volumes in (*hanging, quick, gone):
            renewal.now(volumes)
    renewal.forget(gone)
    task = asyncio.create_task(renewal.run())
    await quick.times(1)
    renewal.now(quick)
    await quick.times(2)
    assert (quick.renewed, gone.renewed) == (2, 0)
    assert [volumes.renewed for volumes in hanging] == [1] * len(hanging)
    renewal.now(hanging[0])
    hanging[0].go.set()
    await hanging[0].times(2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_due_comes_by_itself(renewal: Renewal) -> None:
    due, never = Volumes(again=time.time()), Volumes()
    renewal.at(due, time.time() + 0.01)
    renewal.at(never, time.time() + 0.01)
    renewal.at(never, None)
    task = asyncio.create_task(renewal.run())
    await due.times(3)
    renewal.forget(due)
    assert never.renewed == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_who_is_forgotten_meanwhile_does_not_come_again_and_is_not_kept(renewal: Renewal) -> None:
    due, other = Volumes(again=time.time()), Volumes()
    kept = weakref.ref(due)
    due.go.clear()
    renewal.now(due)
    task = asyncio.create_task(renewal.run())
    await due.times(1)
    renewal.forget(due)
    due.go.set()
    for _ in range(AT_ONCE):
        renewal.now(other)
        await other.times(other.renewed + 1)
    assert due.renewed == 1
    del due
    assert kept() is None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_defect_costs_its_own_volumes_a_pause_only(
    renewal: Renewal, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Defective(Volumes):
        async def renew(self) -> float | None:
            await super().renew()
            raise ZeroDivisionError

    monkeypatch.setattr(module, "DEFECT_PAUSE", 0.01)
    defective, other = Defective(), Volumes()
    task = asyncio.create_task(renewal.run())
    renewal.now(defective)
    await defective.times(2)
    renewal.now(other)
    await other.times(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
