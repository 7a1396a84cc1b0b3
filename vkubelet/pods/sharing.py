"""What the containers of a pod share beside what each may use: the group that a provider bounds; pure.

It exists because spec.resources bounds all of them together, because pods compete for processors as wholes,
and because what has no limits of its own, an ephemeral container, must not go beyond its pod's: the rules are
those of ResourceConfigForPod (pkg/kubelet/cm). It must not know how that is done.
"""

from __future__ import annotations

from providers.base import Group
from vkubelet.api.objects import Pod
from vkubelet.pods.qos import BEST_EFFORT, qos_class
from vkubelet.pods.resources import POD_LEVEL, Applied, counted, limit, pod_limits, pod_requests
from vkubelet.pods.text import quantity


def shared(pod: Pod) -> Applied:
    """What the pod's containers may use together: limits where all of them have one, or the whole pod."""
    limits = {
        name: amount
        for name, amount in pod_limits(pod).items()
        if name in POD_LEVEL and (_whole_limit(pod, name) or _all_limited(pod, name))
    }
    return Applied(
        memory_limit=counted("memory", limits["memory"]) if "memory" in limits else 0,
        cpu_limit=counted("cpu", limits["cpu"]) if "cpu" in limits else 0,
        cpu_request=counted("cpu", amount) if (amount := pod_requests(pod).get("cpu")) is not None else 0,
    )


def widest(one: Applied, other: Applied) -> Applied:
    """What is enough for the one and for the other; a limit of 0 is none."""
    limits = {
        name: max(getattr(one, name), getattr(other, name))
        if getattr(one, name) and getattr(other, name)
        else 0
        for name in ("memory_limit", "cpu_limit")
    }
    return Applied(cpu_request=max(one.cpu_request, other.cpu_request), **limits)


def lowers_memory(before: Applied, after: Applied) -> bool:
    """Whether there is less memory than before."""
    limit = after.memory_limit
    return limit != 0 and (before.memory_limit == 0 or limit < before.memory_limit)


def group(pod: Pod, bounds: Applied, process_limit: int | None = None) -> Group | None:
    """The pod's group with these bounds; None for a pod that asks for nothing: it gets what others leave.

    `process_limit` is the node's podPidsLimit, for which every pod has a group.

    A limit of the whole pod means what Linux means by it. In a sum of limits, as in each of them, nobody has
    thought of the runtime's own memory.
    """
    if qos_class(pod) == BEST_EFFORT and process_limit is None:
        return None
    runtimes = 0 if _whole_limit(pod, "memory") else len(pod.spec.all_containers())
    return Group(
        f"pod{pod.metadata.uid}",
        memory_limit=bounds.memory_limit or None,
        cpu_limit=bounds.cpu_limit or None,
        cpu_request=bounds.cpu_request,
        runtimes=runtimes if bounds.memory_limit else 0,
        process_limit=process_limit,
    )


def _whole_limit(pod: Pod, name: str) -> bool:
    limits = pod.spec.resources.limits if pod.spec.resources is not None else None
    return bool(quantity((limits or {}).get(name, 0)))


def _all_limited(pod: Pod, name: str) -> bool:
    """Whether each container has a limit; ephemeral ones can have none."""
    containers = (*(pod.spec.init_containers or ()), *(pod.spec.containers or ()))
    return all(limit(container, name) for container in containers)
