"""The event recorder: tells people what happens to their pods, and never makes anything wait for it.

It exists to put a queue and a rate between the agent and the API server: `event` only appends, and a single
task sends. What an event becomes (new, counted, combined, dropped) the correlator decides. It must not know
why something is reported; an event is a courtesy, and its loss is never an error.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

import msgspec

from vkubelet import clock
from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.correlator import Correlated, Correlator, TokenBucket
from vkubelet.api.objects import ObjectReference

log = logging.getLogger(__name__)

_QUEUE = 5000
"""What a thousand pods that start at once have to tell."""

_GATHERED = 0.25
"""Seconds that an event is kept, so that what comes with it is sent with it, and after the pod's status."""

_LATEST = 5.0
"""Seconds after which an event waits for no status any more."""

_BATCH = 0.5
"""Seconds of the rate that are saved up once the burst is spent: many requests in a row cost half as much
processor time as the same ones each on its own."""

_TRIES = 12
"""client-go's number; with the back-off below an API server may be away for about a minute."""

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class _Happened:
    ref: ObjectReference
    type: str
    reason: str
    message: str
    at: float


class Recorder(Protocol):
    """Takes in what happens to an object, for people; where it goes is the recorder's affair."""

    def event(self, ref: ObjectReference, type: str, reason: str, message: str) -> None:  # noqa: A002
        """Something happened to `ref`; `type` is Normal or Warning. Never blocks, never raises."""
        ...


class EventRecorder:
    """Records `v1` Events as the node's kubelet. Use from one event loop.

    `qps` and `burst` are the kubelet's eventRecordQPS and eventBurst: events a second over all objects, with
    0 for no limit. At most 5000 wait; then the oldest go, and one line of the log counts them. `calm` returns
    when nothing of more worth than an event is to be sent, or after the seconds it is given.
    """

    def __init__(
        self,
        client: ApiClient,
        node_name: str,
        *,
        qps: float,
        burst: int,
        calm: Callable[[float], Awaitable[None]] | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._client = client
        self._calm = calm
        self._correlator = Correlator(node_name)
        self._bucket = TokenBucket(qps, burst) if qps > 0 else None
        self._backoff = backoff or Backoff(0.5, 10.0)
        self._queue: deque[_Happened] = deque()
        self._dropped = 0
        self._waiting = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def event(self, ref: ObjectReference, type: str, reason: str, message: str) -> None:  # noqa: A002
        """Queue an event about `ref`; `type` is Normal or Warning. Never blocks, never raises."""
        if len(self._queue) >= _QUEUE:
            self._queue.popleft()
            self._dropped += 1
        self._queue.append(_Happened(ref, type, reason, message, clock.now()))
        self._idle.clear()
        self._waiting.set()

    def queue(self) -> dict[str, int]:
        """How many events wait, and how many were dropped since the log told of some."""
        return {"waiting": len(self._queue), "dropped": self._dropped}

    async def run(self) -> NoReturn:
        """Send what is queued; ends only by cancellation."""
        while True:
            await self._waiting.wait()
            while self._queue:
                if self._dropped:
                    log.warning("%d events dropped: more than %d were waiting", self._dropped, _QUEUE)
                    self._dropped = 0
                await self._yield(self._queue[0].at)
                happened = self._queue.popleft()
                correlated = self._correlator.observe(
                    happened.ref,
                    happened.type,
                    happened.reason,
                    happened.message,
                    happened.at + clock.ahead(),
                )
                if correlated is None:
                    log.debug("event %s about %s is spam", happened.reason, happened.ref.name)
                else:
                    await self._send(correlated)
            self._waiting.clear()
            self._idle.set()

    async def flush(self, timeout: float) -> None:
        """Wait until all that is queued has been sent or given up, or `timeout` seconds; `run` sends."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d events not sent in time", len(self._queue))

    async def _yield(self, happened_at: float) -> None:
        """Let statuses go first: whoever waits for a pod waits for those."""
        if self._calm is None:
            return
        age = clock.now() - happened_at
        if age < _GATHERED:
            await asyncio.sleep(_GATHERED - age)
        if age < _LATEST:
            await self._calm(_LATEST - age)

    async def _send(self, correlated: Correlated) -> None:
        event = correlated.event
        about = f"event {event.reason} about {event.involved_object.namespace}/{event.involved_object.name}"
        for _ in range(_TRIES):
            if self._bucket is not None:
                pause = self._bucket.reserve(time.monotonic())
                if pause > 0:
                    await asyncio.sleep(pause + _BATCH)
            retry_after: float | None = None
            try:
                await self._write(correlated)
            except ApiUnavailableError as error:
                cause: Exception = error
            except ApiError as error:
                cause, retry_after = error, error.retry_after
                if error.status not in _RETRIED:
                    # In a namespace that is being deleted nothing can be created: that is no news.
                    level = logging.DEBUG if "being terminated" in error.message else logging.WARNING
                    log.log(level, "%s refused: %s", about, error)
                    return
            else:
                self._backoff.reset()
                return
            log.debug("%s not sent: %s", about, cause)
            await asyncio.sleep(self._backoff.delay(retry_after))
        log.warning("%s given up: %s", about, cause)

    async def _write(self, correlated: Correlated) -> None:
        event = correlated.event
        path = f"/api/v1/namespaces/{event.metadata.namespace}/events"
        if correlated.patch is not None:
            try:
                await self._client.patch(f"{path}/{event.metadata.name}", correlated.patch)
            except ApiError as error:
                # Events live for an hour, the memory of them as long as the agent: write it anew.
                if error.status != 404:
                    raise
            else:
                return
        try:
            await self._client.post(path, _encoder.encode(event))
        except ApiError as error:
            # A former try whose answer was lost has made it.
            if error.reason != "AlreadyExists":
                raise
