"""A pod's quality-of-service class, by the rules of Kubernetes' GetPodQOS; pure."""

from __future__ import annotations

from vkubelet.api.objects import Pod
from vkubelet.pods.text import quantity

_RESOURCES = ("cpu", "memory")


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort. The API server's own value wins when it has set one."""
    if pod.status.qos_class:
        return pod.status.qos_class
    any_set, guaranteed = False, True
    for container in [*(pod.spec.init_containers or ()), *(pod.spec.containers or ())]:
        limits = container.resources.limits or {}
        requests = container.resources.requests or {}
        for name in _RESOURCES:
            limit = quantity(limits.get(name, 0))
            request = quantity(requests.get(name, limits.get(name, 0)))
            any_set = any_set or limit > 0 or request > 0
            guaranteed = guaranteed and limit > 0 and request == limit
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
