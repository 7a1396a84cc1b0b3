"""The node's conditions: a pure function of what it lacks, whether the agent is ready, and what was before.

It exists to hold the kubelet's words in one place: reasons and messages, and when a transition time changes.
Whether there is pressure is eviction's to say. It must not read anything, nor send.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vkubelet.api.struct import Struct
from vkubelet.api.times import rfc3339

READY = "Ready"


class NodeCondition(Struct):
    """status.conditions[]."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_heartbeat_time: str | None = None
    last_transition_time: str | None = None


@dataclass(frozen=True)
class _Pressure:
    present_reason: str
    present_message: str
    absent_reason: str
    absent_message: str
    present_event: str
    absent_event: str


_PRESSURES: Mapping[str, _Pressure] = {
    "MemoryPressure": _Pressure(
        "KubeletHasInsufficientMemory",
        "kubelet has insufficient memory available",
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
        "NodeHasInsufficientMemory",
        "NodeHasSufficientMemory",
    ),
    "DiskPressure": _Pressure(
        "KubeletHasDiskPressure",
        "kubelet has disk pressure",
        "KubeletHasNoDiskPressure",
        "kubelet has no disk pressure",
        "NodeHasDiskPressure",
        "NodeHasNoDiskPressure",
    ),
    "PIDPressure": _Pressure(
        "KubeletHasInsufficientPID",
        "kubelet has insufficient PID available",
        "KubeletHasSufficientPID",
        "kubelet has sufficient PID available",
        "NodeHasInsufficientPID",
        "NodeHasSufficientPID",
    ),
}


@dataclass(frozen=True)
class NotReady:
    """Why the node takes no pods: a machine's word and people's words."""

    message: str
    reason: str = "KubeletNotReady"


def conditions(
    before: Iterable[NodeCondition], pressed: Iterable[str], not_ready: NotReady | None, now: float
) -> list[NodeCondition]:
    """The conditions at `now` (epoch seconds), given those reported before; Ready is the last.

    A condition keeps its transition time for as long as its status stays what it was.
    """
    known = {condition.type: condition for condition in before}
    pressed = frozenset(pressed)
    wanted = []
    for kind, words in _PRESSURES.items():
        if kind in pressed:
            wanted.append(_condition(kind, "True", words.present_reason, words.present_message))
        else:
            wanted.append(_condition(kind, "False", words.absent_reason, words.absent_message))
    if not_ready is None:
        wanted.append(_condition(READY, "True", "KubeletReady", "kubelet is posting ready status"))
    else:
        wanted.append(_condition(READY, "False", not_ready.reason, not_ready.message))
    stamp = rfc3339(now)
    for condition in wanted:
        former = known.get(condition.type)
        same = former is not None and former.status == condition.status
        condition.last_transition_time = former.last_transition_time if same and former else stamp
        condition.last_heartbeat_time = stamp
    return wanted


def transitions(before: Iterable[NodeCondition], after: Sequence[NodeCondition]) -> list[str]:
    """The reasons of the events that tell of these changes, as the kubelet records them."""
    known = {condition.type: condition.status for condition in before}
    reasons = []
    for condition in after:
        if known.get(condition.type) == condition.status:
            continue
        present = condition.status == "True"
        if condition.type == READY:
            # A node that has just been made was never ready, so that there is no change to tell of.
            if condition.type in known:
                reasons.append("NodeReady" if present else "NodeNotReady")
        else:
            words = _PRESSURES[condition.type]
            reasons.append(words.present_event if present else words.absent_event)
    return reasons


def _condition(kind: str, status: str, reason: str, message: str) -> NodeCondition:
    return NodeCondition(type=kind, status=status, reason=reason, message=message)
