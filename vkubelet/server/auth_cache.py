"""Answers that hold for a while, and one question at a time.

It exists because the API server must be asked who calls and what they may, and not at every request: an
answer is kept for its time, callers that ask the same at once share one question, and neither the answers
nor the questions under way are ever more than a fixed number. It must not know what is asked.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")

# What the kubelet's cache of permissions holds.
CAPACITY = 8192
# Questions under way: strangers cause them, and the node's own requests need the same connections.
CONCURRENCY = 8
# Seconds from a question to its answer, waiting for its turn included; then it has failed.
DEADLINE = 10.0


@dataclasses.dataclass(slots=True)
class _Question(Generic[Answer]):
    """A question under way and how many wait for its answer."""

    task: asyncio.Task[Answer]
    waiting: int = 0


class AnswerCache(Generic[Key, Answer]):
    """A bounded cache of answers, the least recently used of which goes first. For one event loop."""

    def __init__(
        self,
        lifetime: Callable[[Answer], float],
        *,
        capacity: int = CAPACITY,
        deadline: float = DEADLINE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`lifetime` says for how many seconds an answer holds: 0 for not at all."""
        self._lifetime = lifetime
        self._capacity = capacity
        self._deadline = deadline
        self._clock = clock
        self._answers: OrderedDict[Key, tuple[float, Answer]] = OrderedDict()
        self._questions: dict[Key, _Question[Answer]] = {}
        self._turns = asyncio.Semaphore(CONCURRENCY)

    @property
    def kept(self) -> int:
        """How many answers are kept."""
        return len(self._answers)

    async def get(self, key: Key, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer for `key`, kept or from `ask`.

        What `ask` raises is raised to all who share the question and is not kept; so is TimeoutError when it
        takes too long. A question that nobody waits for any longer is cancelled.
        """
        kept = self._answers.get(key)
        if kept is not None:
            until, answer = kept
            if self._clock() < until:
                self._answers.move_to_end(key)
                return answer
            del self._answers[key]
        question = self._questions.get(key)
        if question is None:
            question = _Question(asyncio.ensure_future(self._ask(key, ask)))
            self._questions[key] = question
        question.waiting += 1
        try:
            return await asyncio.shield(question.task)
        finally:
            question.waiting -= 1
            if not question.waiting and self._questions.get(key) is question:
                del self._questions[key]
                if not question.task.done():
                    question.task.cancel()
                    await asyncio.wait([question.task])

    async def _ask(self, key: Key, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        async with asyncio.timeout(self._deadline), self._turns:
            answer = await ask()
        lifetime = self._lifetime(answer)
        if lifetime > 0:
            self._answers[key] = (self._clock() + lifetime, answer)
            self._answers.move_to_end(key)
            if len(self._answers) > self._capacity:
                self._answers.popitem(last=False)
        return answer
