"""Sends spans to a collector: OTLP over HTTP in JSON (opentelemetry.io/docs/specs/otlp, version 1).

It exists because the packages of OpenTelemetry take more memory than the whole agent, and the protocol is one
POST. Spans wait in a queue that is bounded; what is too much, or what the collector does not take in time, is
dropped and counted, never waited for. Sizes and times are those of OpenTelemetry's batch processor. It must
not know what is traced.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NoReturn

import aiohttp
import msgspec

from vkubelet import telemetry, tracing
from vkubelet.config import Config
from vkubelet.tracing import Span

logger = logging.getLogger(__name__)

QUEUE, BATCH = 2048, 512
PAUSE = 5.0
"""Seconds for which spans are gathered, unless there is a whole batch before."""
DEADLINE = 10.0
"""Seconds that a collector has to answer."""
TRIES = 5
RETRY_FIRST, RETRY_MOST = 1.0, 30.0
_RETRIED = frozenset({429, 502, 503, 504})
"""The answers after which the protocol has a client try again."""
_ANSWER_LONGEST = 65536
_INTERNAL, _ERROR = 1, 2


FLUSH = 2.0
"""Seconds that the end of the agent waits for what is on its way."""


@contextlib.asynccontextmanager
async def exporting(config: Config) -> AsyncIterator[None]:
    """Trace meanwhile what the configuration wants traced."""
    if not config.tracing_endpoint:
        yield
        return
    rate = config.tracing_sampling_rate_per_million
    logger.info("%d of a million pod starts are traced to %s", rate, config.tracing_endpoint)
    exporter = Exporter(config.tracing_endpoint, config.node_name)
    tracing.record(exporter.put, rate)
    sending = asyncio.create_task(exporter.run(), name="traces")
    try:
        yield
    finally:
        tracing.record(None)
        await exporter.flush(FLUSH)
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending


class _Partial(msgspec.Struct, rename="camel"):
    rejected_spans: int | str = 0


class _Answer(msgspec.Struct, rename="camel"):
    partial_success: _Partial | None = None


class _RefusedError(Exception):
    """The collector does not take a batch; `again` tells whether it may later, after how many seconds."""

    def __init__(self, text: str, *, again: bool, after: float | None = None) -> None:
        super().__init__(text)
        self.again = again
        self.after = after


class Exporter:
    """One for the agent. `endpoint` is the collector's URL, to which /v1/traces is added."""

    def __init__(self, endpoint: str, node: str) -> None:
        self._url = f"{endpoint.rstrip('/')}/v1/traces"
        self._resource = {
            "service.name": "vkubelet",
            "service.version": importlib.metadata.version("vkubelet"),
            "k8s.node.name": node,
        }
        self._queue: deque[Span] = deque()
        self._full = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._failing = False

    def put(self, span: Span) -> None:
        """Take a span in. Never blocks: one that finds the queue full is dropped."""
        if len(self._queue) >= QUEUE:
            telemetry.TRACE_SPANS.inc("dropped")
            return
        self._queue.append(span)
        self._idle.clear()
        if len(self._queue) >= BATCH:
            self._full.set()

    async def run(self) -> NoReturn:
        """Send what there is, until cancelled."""
        timeout = aiohttp.ClientTimeout(total=DEADLINE)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE):
                        await self._full.wait()
                self._full.clear()
                while self._queue:
                    batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                    await self._deliver(session, batch)
                self._idle.set()

    async def flush(self, timeout: float) -> None:
        """Wait until all has been sent or dropped, at most `timeout` seconds; `run` sends."""
        self._full.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()

    async def _deliver(self, session: aiohttp.ClientSession, batch: list[Span]) -> None:
        """Send a batch, some times if need be; what is not taken then is dropped."""
        body, delay = encode(batch, self._resource), RETRY_FIRST
        for again in reversed(range(TRIES)):
            try:
                rejected = await self._post(session, body)
            except _RefusedError as error:
                if not self._failing:
                    logger.warning("traces are not taken by the collector at %s: %s", self._url, error)
                self._failing = True
                if not (again and error.again):
                    telemetry.TRACE_SPANS.inc("dropped", by=len(batch))
                    return
                await asyncio.sleep(min(error.after or delay, RETRY_MOST))
                delay *= 2
            else:
                self._failing = False
                telemetry.TRACE_SPANS.inc("exported", by=len(batch) - rejected)
                telemetry.TRACE_SPANS.inc("rejected", by=rejected)
                return

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> int:
        """How many of the spans the collector did not want. Raises _RefusedError."""
        headers = {"Content-Type": "application/json"}
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                if answer.status != 200:
                    wait = answer.headers.get("Retry-After", "")
                    after = float(wait) if wait.isdecimal() else None
                    raise _RefusedError(f"{answer.status}", again=answer.status in _RETRIED, after=after)
                text = await answer.content.read(_ANSWER_LONGEST)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _RefusedError(str(error) or f"no answer within {DEADLINE:.0f} s", again=True) from error
        try:
            partial = msgspec.json.decode(text or b"{}", type=_Answer).partial_success
            return int(partial.rejected_spans) if partial is not None else 0
        except (msgspec.DecodeError, ValueError) as error:
            raise _RefusedError(f"an answer that is none: {error}", again=False) from error


def encode(spans: Iterable[Span], resource: Mapping[str, str]) -> bytes:
    """An ExportTraceServiceRequest in the protocol's JSON: ids in hex, 64-bit numbers as text."""
    scope = {"scope": {"name": "vkubelet"}, "spans": [_span(one) for one in spans]}
    request = {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}]}
    return msgspec.json.encode(request)


def _span(one: Span) -> dict[str, Any]:
    found: dict[str, Any] = {
        "traceId": one.trace_id,
        "spanId": one.span_id,
        "parentSpanId": one.parent_id,
        "name": one.name,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(one.began),
        "endTimeUnixNano": str(one.ended),
        "attributes": _attributes(one.attributes),
    }
    if one.error:
        found["status"] = {"code": _ERROR, "message": one.error}
    return found


def _attributes(found: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in found.items()]
