"""A pod's quality-of-service class, and how ready the kernel is to kill its containers for memory; pure.

It exists beside admission because eviction and the status need it too. The rules are those of GetPodQOS
(pkg/apis/core/v1/helper/qos) and GetContainerOOMScoreAdjust (pkg/kubelet/qos).
"""

from __future__ import annotations

from decimal import Decimal

from vkubelet.api.containers import Container, ResourceRequirements
from vkubelet.api.objects import Pod
from vkubelet.pods.fit import is_node_critical
from vkubelet.pods.resources import container_requests, has_pod_level, request
from vkubelet.pods.text import quantity

GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"
_RESOURCES = ("cpu", "memory")

_LAST_KILLED = -997
_FIRST_KILLED = 1000


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort. The API server's own value wins when it has set one."""
    if pod.status.qos_class:
        return pod.status.qos_class
    if has_pod_level(pod.spec.resources) and pod.spec.resources is not None:
        return _of_requirements(pod.spec.resources)
    containers = [*(pod.spec.init_containers or ()), *(pod.spec.containers or ())]
    classes = {_of_requirements(container.resources) for container in containers}
    return classes.pop() if len(classes) == 1 else BURSTABLE if classes else BEST_EFFORT


def oom_score_adj(pod: Pod, container: Container, memory_capacity: int) -> int:
    """What the kernel's oom_score_adj of a container's process should be; `memory_capacity` is the node's.

    Guaranteed pods go last. Of burstable ones, those go first that use most beyond what they asked for:
    asking for a tenth of the node's memory takes 100 off.
    """
    if is_node_critical(pod):
        return _LAST_KILLED
    match qos_class(pod):
        case "Guaranteed":
            return _LAST_KILLED
        case "BestEffort":
            return _FIRST_KILLED
    spare = _spare_request(pod)
    own = _score(_memory_request(container) + spare, memory_capacity)
    if container.is_sidecar and container in (pod.spec.init_containers or ()):
        least = min((_memory_request(one) for one in pod.spec.containers or ()), default=0)
        own = min(own, _score(least + spare, memory_capacity))
    if own < _FIRST_KILLED + _LAST_KILLED:
        return _FIRST_KILLED + _LAST_KILLED
    return own - 1 if own == _FIRST_KILLED else own


def _score(requested: int, capacity: int) -> int:
    return _FIRST_KILLED - _FIRST_KILLED * requested // capacity


def _memory_request(container: Container) -> int:
    return int(request(container, "memory") or 0)


def _spare_request(pod: Pod) -> int:
    """What the whole pod asks for beyond its containers, for each of them."""
    if pod.spec.resources is None:
        return 0
    whole = quantity((pod.spec.resources.requests or {}).get("memory", 0))
    containers = [*(pod.spec.init_containers or ()), *(pod.spec.containers or ())]
    spare = int(whole) - int(container_requests(pod).get("memory", 0))
    return max(spare, 0) // max(len(containers), 1)


def _of_requirements(resources: ResourceRequirements) -> str:
    """The class that one set of requests and limits stands for, if all of a pod's were like it."""
    requests, limits = resources.requests or {}, resources.limits or {}
    if not requests and not limits:
        return BEST_EFFORT
    classes = set()
    for name in _RESOURCES:
        allowed = quantity(limits.get(name, 0))
        asked = quantity(requests[name]) if name in requests else allowed
        if asked != allowed:
            return BURSTABLE
        classes.add(BEST_EFFORT if asked == Decimal() else GUARANTEED)
    return classes.pop() if len(classes) == 1 else BURSTABLE
