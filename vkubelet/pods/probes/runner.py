"""Makes the probes of all containers of the node, each when it is due.

It exists so that probes cost what their attempts cost: one timer for the node, and a task only for an attempt
that is under way. It must not know what follows from a verdict: whoever has a container probed is told.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from providers.exhausted import lacking
from vkubelet import clock, logs
from vkubelet.api.containers import Container, Probe
from vkubelet.api.objects import ContainerStatus, Pod
from vkubelet.pods.probes.checks import Check, Checks, has_network
from vkubelet.pods.probes.outcome import Outcome, ProbeError, Result
from vkubelet.pods.probes.report import Report, needs_network
from vkubelet.pods.probes.state import (
    EARLY_LOOKS,
    ProbeKind,
    State,
    begin,
    first_tick,
    next_tick,
    resume,
    step,
)
from vkubelet.pods.running import RunningContainer
from vkubelet.pods.text import subject

logger = logging.getLogger(__name__)

OnResult = Callable[[ProbeKind, bool], None]

_TRIES = 3
"""How often an attempt without a result is made at once (maxProbeRetries)."""
_COMMANDS_MAX = 100
_CONNECTIONS_MAX = 1000
"""Attempts under way at once, so that what hangs everywhere takes neither all memory nor all descriptors. One
that waits for its turn does not use up its timeout.
"""
_GRAIN = 0.02
"""Seconds: what is due within the same of these is begun together, which costs a quarter less."""
_SECOND = 1_000_000_000


@dataclass(slots=True, eq=False)
class _Probed:
    """One attempt of a container, with its probes."""

    pod: Pod
    container: Container
    running: RunningContainer
    on_result: OnResult
    began_at: float
    timed: dict[ProbeKind, _Timed] = field(default_factory=dict)

    @property
    def started(self) -> bool:
        """Whether its startup probe, if it has one, has succeeded."""
        startup = self.timed.get(ProbeKind.STARTUP)
        return startup is None or startup.state.verdict is True


@dataclass(slots=True, eq=False)
class _Timed:
    """One probe of a container. Times are the event loop's.

    Its ticks come each period from `base`, and `tick` is the next of them; `looks` are tries beside them.
    """

    kind: ProbeKind
    name: str
    probe: Probe
    check: Check
    state: State
    base: float
    tick: float
    looks: list[float]
    task: asyncio.Task[None] | None = None

    @property
    def due(self) -> float:
        """When it is next made."""
        return min(self.looks[0], self.tick) if self.looks else self.tick


class ProbeRunner:
    """Implements vkubelet.pods.services.Probes for the node."""

    def __init__(self, checks: Checks, report: Report) -> None:
        self._checks = checks
        self._report = report
        self._began = clock.now()
        self._probed: dict[str, _Probed] = {}
        self._queue: list[tuple[float, int, _Timed, _Probed]] = []
        self._numbers = itertools.count()
        self._alarm: asyncio.Handle | None = None
        self._alarm_due = 0.0
        self._group: asyncio.TaskGroup | None = None
        self._commands = asyncio.Semaphore(_COMMANDS_MAX)
        self._connections = asyncio.Semaphore(_CONNECTIONS_MAX)

    async def run(self) -> NoReturn:
        """Own the attempts, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._set_alarm()
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None
                if self._alarm is not None:
                    self._alarm.cancel()
        raise AssertionError("what never comes has come")

    def start(self, pod: Pod, container: Container, running: RunningContainer, on_result: OnResult) -> None:
        """See Probes. A container that was started before this agent keeps what its status says of it."""
        loop_now, now = asyncio.get_running_loop().time(), clock.now()
        started_at = clock.when(running.state.started_at / _SECOND)
        probed = _Probed(pod, container, running, on_result, loop_now - (now - started_at))
        before = _status(pod, running) if started_at < self._began else None
        for kind, probe in (
            (ProbeKind.STARTUP, container.startup_probe),
            (ProbeKind.READINESS, container.readiness_probe),
            (ProbeKind.LIVENESS, container.liveness_probe),
        ):
            if probe is None:
                continue
            check = self._checks.prepare(pod, container, running, probe)
            looks = []
            if before is None:
                base, state = loop_now, begin(kind)
                tick = first_tick(probe, probed.began_at, base)
                if kind is not ProbeKind.LIVENESS:
                    looks = _looks(probe, probed.began_at, loop_now, tick)
            else:
                # Not all probes of a node at once, after the agent was started anew.
                base = loop_now - random.random() * probe.period_seconds  # noqa: S311
                state = resume(kind, started=bool(before.started))
                tick = first_tick(probe, probed.began_at, base)
            name = f"{kind.value} probe {pod.key} {container.name}"
            probed.timed[kind] = _Timed(kind, name, probe, check, state, base, tick, looks)
            if needs_network(probe) and not has_network(pod):
                self._report.unreachable(pod, container, kind)
        self._probed[running.state.id] = probed
        for timed in probed.timed.values():
            self._put(timed, probed)

    def terminate(self, container_id: str) -> None:
        """See Probes: what would restart the container is over; whether it is ready is still asked."""
        probed = self._probed.get(container_id)
        if probed is None:
            return
        for kind in (ProbeKind.STARTUP, ProbeKind.LIVENESS):
            timed = probed.timed.get(kind)
            if timed is not None:
                timed.state = State(timed.state.verdict, held=True)
                timed.looks.clear()
                if timed.task is not None:
                    timed.task.cancel()
                else:
                    self._put(timed, probed)

    def stop(self, container_id: str) -> None:
        """See Probes."""
        probed = self._probed.pop(container_id, None)
        for timed in probed.timed.values() if probed is not None else ():
            if timed.task is not None:
                timed.task.cancel()

    def forget(self, uid: str) -> None:
        """See Probes."""
        self._report.forget(uid)

    def queue(self) -> dict[str, int]:
        """How many containers are probed, how many attempts are planned and how many are under way."""
        timed = [one for probed in self._probed.values() for one in probed.timed.values()]
        under_way = sum(one.task is not None for one in timed)
        return {"containers": len(self._probed), "planned": len(self._queue), "underWay": under_way}

    def _put(self, timed: _Timed, probed: _Probed) -> None:
        heapq.heappush(self._queue, (timed.due, next(self._numbers), timed, probed))
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Wake when the first probe is due."""
        if self._group is None or not self._queue:
            return
        due = math.ceil(self._queue[0][0] / _GRAIN) * _GRAIN
        if self._alarm is not None:
            if not self._alarm.cancelled() and self._alarm_due <= due:
                return
            self._alarm.cancel()
        # uvloop gives no TimerHandle for what is due already: when it is due is kept here.
        self._alarm_due = due
        self._alarm = asyncio.get_running_loop().call_at(due, self._ring)

    def _ring(self) -> None:
        """Begin the attempts that are due."""
        self._alarm = None
        now = asyncio.get_running_loop().time()
        while self._queue and self._queue[0][0] <= now:
            due, _, timed, probed = heapq.heappop(self._queue)
            if timed.task is None and timed.due == due and self._lives(probed):
                self._begin(timed, probed)
        self._set_alarm()

    def _lives(self, probed: _Probed) -> bool:
        """Whether the container is still to be probed; one that has ended is forgotten here."""
        identifier = probed.running.state.id
        if self._probed.get(identifier) is not probed:
            return False
        if probed.running.end.is_set():
            del self._probed[identifier]
            return False
        return True

    def _begin(self, timed: _Timed, probed: _Probed) -> None:
        """Make an attempt now, unless it is not the probe's turn."""
        if self._group is None:
            return
        look = timed.due < timed.tick
        if look:
            timed.looks.pop(0)
        if timed.state.held or not (timed.kind is ProbeKind.STARTUP or probed.started):
            self._plan(timed, probed, look=look)
            return
        timed.task = self._group.create_task(self._attempt(timed, probed, look=look), name=timed.name)

    def _plan(self, timed: _Timed, probed: _Probed, *, look: bool) -> None:
        """An attempt is over, or was left out: when is the next?"""
        if not look:
            now = asyncio.get_running_loop().time()
            timed.tick = next_tick(timed.probe, timed.base, timed.tick, now)
        self._put(timed, probed)

    async def _attempt(self, timed: _Timed, probed: _Probed, *, look: bool) -> None:
        """Make an attempt and take note of its result. A look that fails is as if it had not been."""
        began = asyncio.get_running_loop().time()
        logs.speak_of(subject(probed.pod, probed.container.name))
        try:
            outcome = await self._outcome(timed, probed, look=look)
            seconds = asyncio.get_running_loop().time() - began
            if self._lives(probed) and outcome is not None:
                self._note(timed, probed, outcome, seconds)
        except Exception:
            logger.exception("pod %s: %s probe: defect in the node agent", probed.pod.key, timed.kind.value)
        finally:
            timed.task = None
            if self._lives(probed):
                self._plan(timed, probed, look=look)

    async def _outcome(self, timed: _Timed, probed: _Probed, *, look: bool) -> Outcome | None:
        """What the attempt comes to; None when that counts for nothing."""
        async with self._connections if timed.probe.exec is None else self._commands:
            for last in (False,) * (_TRIES - 1) + (True,):
                try:
                    outcome = await _checked(timed.check)
                except ProbeError as error:
                    if last and not look and self._lives(probed):
                        self._report.error(probed.pod, probed.container, timed.kind, error)
                else:
                    return None if look and outcome.result is Result.FAILURE else outcome
        return None

    def _note(self, timed: _Timed, probed: _Probed, outcome: Outcome, seconds: float) -> None:
        """Count a result, and tell of the verdict if it is a new one."""
        self._report.outcome(probed.pod, probed.container, timed.kind, outcome, seconds)
        before = timed.state
        success = outcome.result is not Result.FAILURE
        timed.state = step(timed.kind, timed.probe, before, success=success)
        if timed.state.verdict is None or timed.state.verdict is before.verdict:
            return
        timed.looks.clear()
        if timed.kind is ProbeKind.STARTUP and success:
            self._trigger(probed)
        probed.on_result(timed.kind, timed.state.verdict)

    def _trigger(self, probed: _Probed) -> None:
        """The container has started: whether it is ready is asked at once, and each period from now on."""
        readiness = probed.timed.get(ProbeKind.READINESS)
        if readiness is not None:
            now = asyncio.get_running_loop().time()
            readiness.base = now
            readiness.tick = max(now, probed.began_at + readiness.probe.initial_delay_seconds)
            readiness.looks.clear()
            self._put(readiness, probed)


async def _checked(check: Check) -> Outcome:
    """An attempt, which what this machine lacks makes no failure of who is probed. Raises ProbeError."""
    try:
        return await check()
    except (OSError, RuntimeError) as error:
        text = lacking(error)
        if text is None:
            raise
        raise ProbeError(text) from error


def _looks(probe: Probe, began_at: float, now: float, tick: float) -> list[float]:
    """The tries before the first tick."""
    wanted = {max(began_at + probe.initial_delay_seconds + after, now) for after in EARLY_LOOKS}
    return sorted(look for look in wanted if look < tick)


def _status(pod: Pod, running: RunningContainer) -> ContainerStatus:
    """What the API server was last told of the container; nothing much if it was told nothing."""
    known = [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]
    suffix = f"//{running.state.id}"
    return next(
        (status for status in known if status.container_id.endswith(suffix)),
        ContainerStatus(name=running.spec.name),
    )
