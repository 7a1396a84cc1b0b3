"""The tasks of the event loop and where each of them stands.

It exists because asyncio tells of a suspended task only the outermost frame, and what a task waits for is in
the innermost. It must not know what the tasks do. Frames are module, line and function: no file's path, and
no variable, for those hold what is secret.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Generator, Iterable, Iterator
from types import FrameType
from typing import Any

import msgspec

_DEEPEST = 100
"""Frames of one task that are told at most."""


class TaskState(msgspec.Struct, rename="camel", frozen=True):
    """One task. `stack` has the outermost frame first."""

    name: str
    coroutine: str
    stack: tuple[str, ...]


def tasks() -> list[TaskState]:
    """All tasks of the running loop that are not done, by name."""
    found = [_state(task) for task in asyncio.all_tasks()]
    return sorted(found, key=lambda task: (task.name, task.coroutine))


def text(found: Iterable[TaskState]) -> str:
    """A paragraph for each task, the innermost frame last."""
    return "\n".join(
        f"task {task.name!r}: {task.coroutine}\n" + "".join(f"    {frame}\n" for frame in task.stack)
        for task in found
    )


def _state(task: asyncio.Task[Any]) -> TaskState:
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", type(coroutine).__name__)
    return TaskState(task.get_name(), name, tuple(map(_shown, _frames(coroutine))))


def _frames(awaited: Coroutine[Any, Any, Any] | Generator[Any, Any, Any] | None) -> Iterator[FrameType]:
    """From a coroutine to what it awaits, and what that awaits, until there is nothing with a frame."""
    current: object = awaited
    for _ in range(_DEEPEST):
        frame: FrameType | None
        if inspect.iscoroutine(current):
            frame, current = current.cr_frame, current.cr_await
        elif inspect.isgenerator(current):
            frame, current = current.gi_frame, current.gi_yieldfrom
        else:
            return
        if frame is not None:
            yield frame


def _shown(frame: FrameType) -> str:
    module = frame.f_globals.get("__name__", "?")
    return f"{module}:{frame.f_lineno} {frame.f_code.co_qualname}"
