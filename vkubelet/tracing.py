"""Spans of a pod's start: which step took how long, for a collector of traces, if somebody wants to know.

It exists so that whoever does a step names it in one line, and that this costs nothing on a node that traces
nothing. A trace belongs to the task that began it and to the tasks that this starts; it ends with its root,
and what begins later is no part of it. It must not know pods, nor where spans go. All of it belongs to the
event loop's thread. Names of attributes are those of OpenTelemetry's semantic conventions.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar

_MILLION = 1_000_000
_ERROR_LONGEST = 256


@dataclasses.dataclass(slots=True)
class Span:
    """A step. `began` and `ended` are nanoseconds since the epoch; `error` is empty if it went well."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    attributes: Mapping[str, str]
    began: int
    ended: int = 0
    error: str = ""


class _Trace:
    """A trace that is under way, and whatever is recorded of it."""

    def __init__(self, sink: Callable[[Span], None], name: str, attributes: Mapping[str, str]) -> None:
        self._sink = sink
        self._wall, self._clock = time.time_ns(), time.monotonic_ns()
        self.trace_id = os.urandom(16).hex()
        self.root = self.begin(name, attributes, "")
        self.is_open = True

    def begin(self, name: str, attributes: Mapping[str, str], parent_id: str) -> Span:
        return Span(self.trace_id, os.urandom(8).hex(), parent_id, name, attributes, self._now())

    def end(self, span: Span, error: str = "") -> None:
        span.ended, span.error = self._now(), error[:_ERROR_LONGEST]
        self._sink(span)

    def _now(self) -> int:
        """By one look at the clock and one that only rises: no step of a trace takes less than no time."""
        return self._wall + time.monotonic_ns() - self._clock


_here: ContextVar[tuple[_Trace, str] | None] = ContextVar("trace", default=None)
_NOTHING = contextlib.nullcontext()


class _Recording:
    """Where spans go, and how many traces of a million are recorded."""

    sink: Callable[[Span], None] | None = None
    per_million = 0


def record(sink: Callable[[Span], None] | None, per_million: int = 0) -> None:
    """Give what is traced from now on to `sink`, which never blocks; None: trace nothing."""
    _Recording.sink, _Recording.per_million = sink, per_million


def begin(name: str, attributes: Mapping[str, str]) -> None:
    """This task, and those that it starts, work on something that is traced, if it is chosen."""
    sink = _Recording.sink
    if sink is not None and random.randrange(_MILLION) < _Recording.per_million:  # noqa: S311  a sample
        trace = _Trace(sink, name, attributes)
        _here.set((trace, trace.root.span_id))


def finish(error: str = "") -> None:
    """What is traced here is done, or came to an `error`; the first word counts."""
    here = _here.get()
    if here is not None and here[0].is_open:
        here[0].end(here[0].root, error)
        here[0].is_open = False


def span(name: str, attributes: Mapping[str, str] | None = None) -> AbstractContextManager[None]:
    """What is done meanwhile is a step of what is traced here, if anything is."""
    here = _here.get()
    if here is None or not here[0].is_open:
        return _NOTHING
    return _step(here[0], here[1], name, attributes or {})


@contextlib.contextmanager
def _step(trace: _Trace, parent_id: str, name: str, attributes: Mapping[str, str]) -> Iterator[None]:
    step = trace.begin(name, attributes, parent_id)
    token = _here.set((trace, step.span_id))
    error = ""
    try:
        yield
    except asyncio.CancelledError:
        error = "cancelled"
        raise
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
        raise
    finally:
        _here.reset(token)
        trace.end(step, error)
