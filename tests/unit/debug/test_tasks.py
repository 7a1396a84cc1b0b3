"""Where tasks stand, down to what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from vkubelet.debug.state import joined
from vkubelet.debug.tasks import TaskState, tasks, text
from vkubelet.pods.insight import PodInsight


async def inner(event: asyncio.Event, password: str) -> None:
    await event.wait()
    assert password


async def outer(event: asyncio.Event) -> None:
    await inner(event, "a secret")


async def items(event: asyncio.Event) -> AsyncIterator[int]:
    await event.wait()
    yield 1


async def iterate(event: asyncio.Event) -> None:
    async for _ in items(event):
        pass


def of(name: str) -> TaskState:
    (found,) = [task for task in tasks() if task.name == name]
    return found


async def test_a_task_is_told_down_to_what_it_waits_for() -> None:
    event = asyncio.Event()
    task = asyncio.create_task(outer(event), name="waiting")
    await asyncio.sleep(0)
    found = of("waiting")
    assert found.coroutine == "outer"
    functions = [frame.split(" ")[1] for frame in found.stack]
    assert functions == ["outer", "inner", "Event.wait"]
    assert found.stack[-1].startswith("asyncio.locks:")
    assert "a secret" not in msgspec.json.encode(tasks()).decode() + text(tasks())
    assert "task 'waiting': outer\n    " in text(tasks())
    event.set()
    await task
    assert "waiting" not in [other.name for other in tasks()]


async def test_an_asynchronous_generator_is_no_end() -> None:
    event = asyncio.Event()
    task = asyncio.create_task(iterate(event), name="iterating")
    await asyncio.sleep(0)
    assert of("iterating").stack[0].endswith(" iterate")
    event.set()
    await task


async def test_the_task_that_asks_and_one_that_has_not_begun_are_told() -> None:
    task = asyncio.create_task(outer(asyncio.Event()), name="new")
    assert of("new").stack[0].endswith(" outer")
    this = asyncio.current_task()
    assert this is not None
    assert of(this.get_name()).stack
    task.cancel()


def pod(namespace: str, name: str) -> PodInsight:
    return PodInsight(namespace, name, "u", "Running", 1.0, ("news",), "mounted", ())


def test_a_pod_has_the_tasks_that_name_it() -> None:
    found = [
        TaskState("pod a/web", "run", ("x:1 run", "vkubelet.pods.worker:2 _wait", "asyncio.locks:3 wait")),
        TaskState("start a/web main", "start", ("x:1 start",)),
        TaskState("pod a/web-2", "run", ()),
        TaskState("events", "run", ()),
    ]
    second, first = joined([pod("b", "web"), pod("a", "web")], found)[::-1]
    assert first.tasks == {"pod a/web": "vkubelet.pods.worker:2 _wait", "start a/web main": "x:1 start"}
    assert second.tasks == {}
