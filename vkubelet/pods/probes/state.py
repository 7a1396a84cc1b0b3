"""What the results of a probe come to: thresholds, and when a probe is due; pure.

It exists so that the kubelet's rules (pkg/kubelet/prober/worker.go) are functions of values. It must not know
how a probe is made, nor what its verdict leads to. Times are seconds of one clock, whichever it is.
"""

from __future__ import annotations

import dataclasses
import enum
import math

from vkubelet.api.containers import Probe


class ProbeKind(enum.Enum):
    """Which of a container's probes it is; the value is its name in the kubelet's messages."""

    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"

    @property
    def title(self) -> str:
        """The name as an event and a metric begin with it."""
        return self.value.capitalize()


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What is known of one probe of one attempt.

    `verdict` is what is in force (None: none yet), `last` the last result, `run` how often it came in a row.
    `held` tells that the probe is over until the container has been started anew.
    """

    verdict: bool | None
    last: bool | None = None
    run: int = 0
    held: bool = False


_BEFORE = {ProbeKind.STARTUP: None, ProbeKind.READINESS: False, ProbeKind.LIVENESS: True}


def begin(kind: ProbeKind) -> State:
    """A probe of a container that has just been started: not started, not ready, alive."""
    return State(_BEFORE[kind])


def resume(kind: ProbeKind, *, started: bool) -> State:
    """A probe of a container that an earlier agent started, and perhaps knew to have started up.

    Whether it is ready stays what it was until its probe says so or not.
    """
    if kind is ProbeKind.STARTUP and started:
        return State(True, held=True)
    return State(True if kind is ProbeKind.LIVENESS else None)


def step(kind: ProbeKind, probe: Probe, state: State, *, success: bool) -> State:
    """The state after one more result.

    A run of results below its threshold changes nothing. A startup probe is over with its first verdict, a
    liveness probe with its first failure.
    """
    if state.held:
        return state
    run = state.run + 1 if state.last is success else 1
    if run < (probe.success_threshold if success else probe.failure_threshold):
        return State(state.verdict, success, run)
    held = kind is ProbeKind.STARTUP or (kind is ProbeKind.LIVENESS and not success)
    return State(success, success, 0 if held else run, held)


EARLY_LOOKS = (0.0, 1.0)
"""Seconds after the initial delay at which a startup or readiness probe is tried beside its period.

A kubelet's ticks come a period after the pod does, and it tries readiness whenever it computes the pod's
status, which it does about a second after a start. A look can only succeed: what fails says nothing of a
container that has hardly begun, and is forgotten. So no container is ended earlier than a kubelet would.
"""


def first_tick(probe: Probe, began_at: float, base: float) -> float:
    """When the probe is first due: at a tick of its period from `base`, and not before its initial delay.

    `began_at` is when the container was started.
    """
    period = probe.period_seconds
    wait = began_at + probe.initial_delay_seconds - base
    return base + max(math.ceil(wait / period), 1) * period


def next_tick(probe: Probe, base: float, last: float, now: float) -> float:
    """The tick after `last`, one of those that come each period from `base`.

    One tick that was missed meanwhile is made up for at once, as Go's tickers do; more are not.
    """
    period = probe.period_seconds
    following = last + period
    return following if following >= now else base + (now - base) // period * period
