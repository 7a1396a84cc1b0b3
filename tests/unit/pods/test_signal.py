"""The event for one waiter."""

import asyncio

import pytest

from vkubelet.pods.signal import Signal


async def test_who_comes_after_it_was_set_does_not_wait() -> None:
    signal = Signal()
    signal.set()
    await asyncio.wait_for(signal.wait(), 10)
    signal.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(signal.wait(), 0)


async def test_who_waits_is_let_go_though_it_is_set_twice_and_cleared() -> None:
    signal = Signal()
    waiting = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    signal.set()
    signal.set()
    signal.clear()
    await asyncio.wait_for(waiting, 10)


async def test_one_waits_at_a_time_and_another_may_after_it_was_cancelled() -> None:
    signal = Signal()
    first = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task"):
        await signal.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    signal.set()
    await asyncio.wait_for(signal.wait(), 10)
