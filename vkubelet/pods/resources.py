"""What a pod's spec says of resources, as numbers; pure.

It exists because several parts need the same sums: admission, which must count as the scheduler does,
eviction, metrics and the limits that a process gets. It must not know what is done with them. For those who
only show amounts, a text that is no quantity counts as none: whoever starts a container refuses such a one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import TypeAlias

import msgspec

from vkubelet.api.containers import Container, IntOrString, ResourceRequirements
from vkubelet.api.objects import Pod
from vkubelet.pods.text import quantity

Amounts: TypeAlias = dict[str, Decimal]
"""Amounts by the resource's name, in its base unit: cores, bytes, pieces."""

POD_LEVEL = ("cpu", "memory")
"""What spec.resources may speak of for the whole pod (and huge pages, which no guest has)."""

_NATIVE = "kubernetes.io/"
_NONE = Decimal()


class Applied(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """What a container's process is held to: bytes and thousandths of a core, 0 for none.

    `memory_request` has no effect on a process: it counts for the container's resize policy.
    """

    memory_limit: int = 0
    memory_request: int = 0
    cpu_limit: int = 0
    cpu_request: int = 0

    @property
    def weight(self) -> int | None:
        """What `cpu_request` is for the kernel: the limit where nothing is asked for, as the kubelet has it.

        None where nothing at all is said.
        """
        if not (self.memory_limit or self.cpu_limit or self.cpu_request):
            return None
        return self.cpu_request or self.cpu_limit


NOTHING_APPLIED = Applied()


def limit(container: Container, resource: str) -> Decimal | None:
    """The limit in bytes or cores; None if there is none."""
    return _amounts(container.resources.limits).get(resource)


def request(container: Container, resource: str) -> Decimal | None:
    """The request in bytes or cores; None if there is none."""
    return _amounts(container.resources.requests).get(resource)


def pod_requests(pod: Pod) -> Amounts:
    """What a pod asks for in sum, overhead included: PodRequests of k8s.io/component-helpers/resource."""
    found = container_requests(pod)
    found.update(_pod_level(pod, "requests"))
    _add(found, _amounts(pod.spec.overhead))
    return found


def container_requests(pod: Pod) -> Amounts:
    """What containers ask for in sum, as far as they are there at once (AggregateContainerRequests)."""
    return _aggregate(pod, lambda container: container.resources.requests)


def pod_limits(pod: Pod) -> Amounts:
    """What a pod may use in sum: PodLimits of k8s.io/component-helpers/resource."""
    found = _aggregate(pod, lambda container: container.resources.limits)
    found.update(_pod_level(pod, "limits"))
    for name, amount in _amounts(pod.spec.overhead).items():
        if found.get(name):
            found[name] += amount
    return found


def effective_limits(pod: Pod, container: Container) -> Amounts:
    """A container's limits; where it has none of its own for CPU or memory, those of the whole pod.

    The rule is the kubelet's GetLimits of pkg/kubelet/util.
    """
    found = _amounts(container.resources.limits)
    for name, amount in _pod_level(pod, "limits").items():
        if not found.get(name) and amount:
            found[name] = amount
    return found


def applied(pod: Pod, container: Container) -> Applied:
    """What a container of the pod is to be held to."""
    limits = effective_limits(pod, container)
    return Applied(
        memory_limit=counted("memory", limits.get("memory", _NONE)),
        memory_request=counted("memory", request(container, "memory") or _NONE),
        cpu_limit=counted("cpu", limits.get("cpu", _NONE)),
        cpu_request=counted("cpu", request(container, "cpu") or _NONE),
    )


def has_pod_level(resources: ResourceRequirements | None) -> bool:
    """Whether spec.resources says anything of what it may speak of."""
    if resources is None:
        return False
    named = {*(resources.requests or ()), *(resources.limits or ())}
    return any(name in POD_LEVEL or name.startswith("hugepages-") for name in named)


def is_extended(resource: str) -> bool:
    """Whether a resource is none of Kubernetes' own: `example.com/widget`."""
    return "/" in resource and _NATIVE not in resource and not resource.startswith("requests.")


def counted(resource: str, amount: Decimal) -> int:
    """An amount as schedulers count it: thousandths of a core, or whole pieces, rounded up."""
    scaled = amount * 1000 if resource == "cpu" else amount
    return int(scaled.to_integral_value(ROUND_CEILING))


def _aggregate(pod: Pod, of: Callable[[Container], Mapping[str, IntOrString] | None]) -> Amounts:
    """The sum over containers and sidecars, or what an init container needs beside the sidecars before it."""
    total: Amounts = {}
    for container in pod.spec.containers or ():
        _add(total, _amounts(of(container)))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in pod.spec.init_containers or ():
        own = _amounts(of(container))
        if container.is_sidecar:
            _add(total, own)
            _add(sidecars, own)
            _raise(peak, sidecars)
        else:
            _add(own, sidecars)
            _raise(peak, own)
    _raise(total, peak)
    return total


def _pod_level(pod: Pod, which: str) -> Amounts:
    if pod.spec.resources is None:
        return {}
    amounts = _amounts(getattr(pod.spec.resources, which))
    return {name: amount for name, amount in amounts.items() if name in POD_LEVEL}


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, _NONE) + amount


def _raise(total: Amounts, floor: Amounts) -> None:
    for name, amount in floor.items():
        total[name] = max(total.get(name, amount), amount)


def _amounts(texts: Mapping[str, IntOrString] | None) -> Amounts:
    return dict(_parsed(texts.items())) if texts else {}


def _parsed(texts: Iterable[tuple[str, IntOrString]]) -> Iterable[tuple[str, Decimal]]:
    for name, text in texts:
        try:
            yield name, quantity(text)
        except ValueError:
            continue
