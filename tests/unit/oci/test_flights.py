"""One run for all who want it, and none when nobody does."""

import asyncio

import pytest

from oci.flights import SingleFlight


class Work:
    """A run that ends when told to."""

    def __init__(self) -> None:
        self.runs = 0
        self.ended = 0
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.runs += 1
        self.begun.set()
        try:
            await self.go.wait()
            if self.error is not None:
                raise self.error
            return self.runs
        finally:
            self.ended += 1


@pytest.fixture
async def work() -> Work:
    return Work()


async def waiters(flights: SingleFlight[str, int], work: Work, number: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(flights.run("a", work)) for _ in range(number)]
    await work.begun.wait()
    return tasks


async def test_all_get_the_one_result(work: Work):
    flights: SingleFlight[str, int] = SingleFlight()
    tasks = await waiters(flights, work, 5)
    assert "a" in flights
    work.go.set()
    assert await asyncio.gather(*tasks) == [1] * 5
    assert "a" not in flights
    assert await flights.run("a", work) == 2


async def test_all_get_the_one_error(work: Work):
    flights: SingleFlight[str, int] = SingleFlight()
    tasks = await waiters(flights, work, 3)
    work.error = ValueError("no")
    work.go.set()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [work.error] * 3
    assert "a" not in flights


async def test_keys_do_not_wait_for_each_other(work: Work):
    flights: SingleFlight[str, int] = SingleFlight()
    tasks = await waiters(flights, work, 1)
    other = Work()
    other.go.set()
    assert await flights.run("b", other) == 1
    work.go.set()
    assert await tasks[0] == 1


async def test_a_cancelled_waiter_leaves_the_others_theirs(work: Work):
    flights: SingleFlight[str, int] = SingleFlight()
    first, second, third = await waiters(flights, work, 3)
    first.cancel()
    third.cancel()
    await asyncio.wait({first, third})
    assert first.cancelled()
    assert third.cancelled()
    work.go.set()
    assert await second == 1
    assert work.runs == work.ended == 1


async def test_the_last_waiters_cancellation_ends_the_run(work: Work):
    flights: SingleFlight[str, int] = SingleFlight()
    tasks = await waiters(flights, work, 2)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert work.ended == 1
    assert "a" not in flights


async def test_who_comes_while_a_run_is_ending_gets_a_new_one():
    flights: SingleFlight[str, str] = SingleFlight()
    begun, ending, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow_to_end() -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()
        return "old"

    async def new() -> str:
        return "new"

    leaving = asyncio.create_task(flights.run("a", slow_to_end))
    await begun.wait()
    leaving.cancel()
    await ending.wait()
    assert await flights.run("a", new) == "new"
    leaving.cancel()  # impatience does not orphan the run
    for _ in range(5):
        await asyncio.sleep(0)
    assert not leaving.done()
    may_end.set()
    await asyncio.wait({leaving})
    assert leaving.cancelled()
