"""The cache of answers: how long they hold, how many, and who asks."""

from __future__ import annotations

import asyncio

import pytest

from vkubelet.server import auth_cache
from vkubelet.server.auth_cache import AnswerCache


class Oracle:
    """Answers when it is let; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.asking = 0
        self.most = 0
        self.speak = asyncio.Event()
        self.answer: str | Exception = "yes"

    async def __call__(self) -> str:
        self.asked += 1
        self.asking += 1
        self.most = max(self.most, self.asking)
        try:
            await self.speak.wait()
        finally:
            self.asking -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def oracle() -> Oracle:
    return Oracle()


async def test_an_answer_holds_for_its_time(oracle):
    clock = Clock()
    cache = AnswerCache[str, str](lambda answer: {"yes": 5.0, "no": 1.0}[answer], clock=clock)
    oracle.speak.set()
    for now, asked in ((0.0, 1), (4.9, 1), (5.0, 2)):
        clock.now = now
        assert await cache.get("a", oracle) == "yes"
        assert oracle.asked == asked
    oracle.answer = "no"
    for now, asked in ((10.0, 3), (10.9, 3), (11.0, 4)):
        clock.now = now
        assert await cache.get("a", oracle) == "no"
        assert oracle.asked == asked


async def test_a_lifetime_of_nothing_keeps_nothing(oracle):
    cache = AnswerCache[str, str](lambda _: 0.0)
    oracle.speak.set()
    await cache.get("a", oracle)
    await cache.get("a", oracle)
    assert (oracle.asked, cache.kept) == (2, 0)


async def test_the_least_recently_used_answer_goes_first(oracle):
    cache = AnswerCache[str, str](lambda _: 5.0, capacity=2)
    oracle.speak.set()
    for key in ("a", "b", "a", "c", "a"):
        await cache.get(key, oracle)
    assert (oracle.asked, cache.kept) == (3, 2)
    await cache.get("b", oracle)
    assert oracle.asked == 4


async def test_who_asks_the_same_at_once_shares_the_question(oracle, eventually):
    cache = AnswerCache[str, str](lambda _: 5.0)
    callers = [asyncio.ensure_future(cache.get("a", oracle)) for _ in range(100)]
    await eventually(lambda: oracle.asking == 1)
    oracle.speak.set()
    assert await asyncio.gather(*callers) == ["yes"] * 100
    assert oracle.asked == 1


async def test_a_failure_is_everyones_and_is_not_kept(oracle, eventually):
    cache = AnswerCache[str, str](lambda _: 5.0)
    oracle.answer = ValueError("down")
    callers = [asyncio.ensure_future(cache.get("a", oracle)) for _ in range(3)]
    await eventually(lambda: oracle.asking == 1)
    oracle.speak.set()
    assert [str(each) for each in await asyncio.gather(*callers, return_exceptions=True)] == ["down"] * 3
    oracle.answer = "yes"
    assert await cache.get("a", oracle) == "yes"
    assert oracle.asked == 2


async def test_one_who_leaves_takes_nobody_with_him(oracle, eventually):
    cache = AnswerCache[str, str](lambda _: 5.0)
    first, second = (asyncio.ensure_future(cache.get("a", oracle)) for _ in range(2))
    await eventually(lambda: oracle.asking == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    oracle.speak.set()
    assert await second == "yes"


async def test_a_question_ends_with_the_last_who_waits(oracle, eventually):
    cache = AnswerCache[str, str](lambda _: 5.0)
    before = asyncio.all_tasks()
    caller = asyncio.ensure_future(cache.get("a", oracle))
    await eventually(lambda: oracle.asking == 1)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert oracle.asking == 0
    assert asyncio.all_tasks() == before
    oracle.speak.set()
    assert await cache.get("a", oracle) == "yes"


async def test_questions_are_asked_a_few_at_a_time(oracle, eventually):
    cache = AnswerCache[int, str](lambda _: 5.0)
    callers = [asyncio.ensure_future(cache.get(key, oracle)) for key in range(50)]
    await eventually(lambda: oracle.asking == auth_cache.CONCURRENCY)
    oracle.speak.set()
    await asyncio.gather(*callers)
    assert (oracle.asked, oracle.most) == (50, auth_cache.CONCURRENCY)


async def test_a_silent_oracle_is_waited_for_until_the_deadline(oracle):
    cache = AnswerCache[str, str](lambda _: 5.0, deadline=0.01)
    with pytest.raises(TimeoutError):
        await cache.get("a", oracle)
    assert (oracle.asked, oracle.asking, cache.kept) == (1, 0, 0)
