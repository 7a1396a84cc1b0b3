"""Which pods make room for a critical one that does not fit: a pure function of what they request.

It exists to hold the rules of pkg/kubelet/preemption: as few pods as possible, the least of their class
first. It must not know how a pod ends, nor what else keeps a pod from a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vkubelet.api.objects import Pod
from vkubelet.pods.fit import demand, is_critical
from vkubelet.pods.observed import Eviction
from vkubelet.pods.qos import BEST_EFFORT, BURSTABLE, GUARANTEED, qos_class

REASON = "Preempting"
MESSAGE = "Preempted in order to admit critical pod"
_DISRUPTION = "Pod was preempted by Kubelet to accommodate a critical pod."


class NoVictimsError(Exception):
    """All that may be ended would not make enough room."""

    def __init__(self, missing: Mapping[str, int]) -> None:
        told = "".join(f"(res: {name}, q: {amount}), " for name, amount in missing.items())
        super().__init__(f"no set of running pods found to reclaim resources: [{told}]")


def preempted(pod: Pod) -> Eviction:
    """How a victim ends, and what is told of it."""
    grace = pod.spec.termination_grace_period_seconds
    return Eviction(MESSAGE, 30 if grace is None else grace, reason=REASON, disruption=_DISRUPTION)


def victims(critical: Pod, pods: Iterable[Pod], missing: Mapping[str, int]) -> list[Pod]:
    """The pods to end for as much as is missing of each resource. Raises NoVictimsError.

    Of `pods` only those count that must yield to this one.
    """
    classes: dict[str, list[Pod]] = {BEST_EFFORT: [], BURSTABLE: [], GUARANTEED: []}
    for pod in pods:
        if _yields(pod, critical):
            classes[qos_class(pod)].append(pod)
    if left := _without(missing, [pod for found in classes.values() for pod in found]):
        raise NoVictimsError(left)
    # From the best class to the worst: each ends what would be missing if all of the worse ones had ended.
    ended: dict[str, list[Pod]] = {}
    for name, rest in (
        (GUARANTEED, (BEST_EFFORT, BURSTABLE)),
        (BURSTABLE, (BEST_EFFORT,)),
        (BEST_EFFORT, ()),
    ):
        gone = [pod for other in rest for pod in classes[other]]
        gone += [pod for found in ended.values() for pod in found]
        ended[name] = _nearest(classes[name], _without(missing, gone))
    return [*ended[BEST_EFFORT], *ended[BURSTABLE], *ended[GUARANTEED]]


def _yields(pod: Pod, critical: Pod) -> bool:
    if is_critical(critical) and not is_critical(pod):
        return True
    if critical.spec.priority is None or pod.spec.priority is None:
        return False
    return critical.spec.priority > pod.spec.priority


def _nearest(pods: list[Pod], missing: Mapping[str, int]) -> list[Pod]:
    """Again and again the pod that has most of what is missing; of equal ones, the one that asks for less."""
    candidates, found = list(pods), []
    while missing:
        best = min(candidates, key=lambda pod: (_distance(missing, pod), *_size(pod)))
        candidates.remove(best)
        found.append(best)
        missing = _without(missing, [best])
    return found


def _distance(missing: Mapping[str, int], pod: Pod) -> float:
    """How far a pod is from having all of it: each resource counts alike."""
    lacking = ((max(amount - _request(pod, name), 0), amount) for name, amount in missing.items())
    return sum((part / amount) ** 2 for part, amount in lacking)


def _size(pod: Pod) -> tuple[int, int]:
    return _request(pod, "memory"), _request(pod, "cpu")


def _without(missing: Mapping[str, int], pods: Iterable[Pod]) -> dict[str, int]:
    """What is missing still when these have ended."""
    gone = list(pods)
    left = {name: amount - sum(_request(pod, name) for pod in gone) for name, amount in missing.items()}
    return {name: amount for name, amount in left.items() if amount > 0}


def _request(pod: Pod, name: str) -> int:
    return 1 if name == "pods" else demand(pod).amounts.get(name, 0)
