"""In-place resize of a pod's resources, as pure functions: what differs, what is to be done, what is shown.

It exists to hold the rules of pkg/kubelet/allocation and of the resize part of pkg/kubelet/kuberuntime in one
place. A pod's spec says what is desired; what the node has taken on is allocated; what a container's process
is held to is applied. It must not know how any of the three is kept or carried out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from vkubelet.api.containers import Container, IntOrString, ResourceRequirements
from vkubelet.api.objects import Pod
from vkubelet.api.struct import Struct
from vkubelet.pods.observed import ResizeView
from vkubelet.pods.qos import GUARANTEED, qos_class
from vkubelet.pods.resources import (
    NOTHING_APPLIED,
    POD_LEVEL,
    Applied,
    applied,
    counted,
    pod_limits,
    pod_requests,
)
from vkubelet.pods.text import amount_text, quantity

_NONE = Decimal()


class PodResources(Struct):
    """The resources of a pod's containers and of the whole pod, as its spec has them."""

    containers: dict[str, ResourceRequirements] = msgspec.field(default_factory=dict)
    whole: ResourceRequirements | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for: of such a pod that stays so, as its QoS class may not change."""
        return self.whole is None and not any(
            each.requests or each.limits for each in self.containers.values()
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Restart:
    """A running container must be started anew to be resized: its resize policy says so."""

    container: str


@dataclasses.dataclass(frozen=True, slots=True)
class Update:
    """Hold a running container to something else, as it runs."""

    container: str
    before: Applied
    after: Applied


Step: TypeAlias = Restart | Update


def resources_of(pod: Pod) -> PodResources:
    """What the pod's spec says now."""
    return PodResources(
        containers={container.name: container.resources for container in _resizable(pod)},
        whole=pod.spec.resources,
    )


def same(one: PodResources, other: PodResources) -> bool:
    """Whether two say the same, however their quantities are spelled."""
    return one == other or _comparable(one) == _comparable(other)


def with_resources(pod: Pod, allocated: PodResources) -> Pod:
    """The pod as if its spec said what is allocated; the pod itself when it does."""
    if same(resources_of(pod), allocated):
        return pod
    spec = msgspec.structs.replace(
        pod.spec,
        containers=_replaced(pod.spec.containers, allocated),
        init_containers=_replaced(pod.spec.init_containers, allocated),
        resources=allocated.whole,
    )
    return msgspec.structs.replace(pod, spec=spec)


def steps(pod: Pod, now_applied: Mapping[str, Applied], running: Iterable[str]) -> list[Step]:
    """What makes the running containers be held to what `pod`, as allocated, says. Decreases come first."""
    running = set(running)
    found: list[Step] = []
    for container in _resizable(pod):
        if container.name not in running:
            continue
        before, after = now_applied.get(container.name, NOTHING_APPLIED), applied(pod, container)
        if before == after:
            continue
        if _restarts(container, before, after):
            found.append(Restart(container.name))
        else:
            found.append(Update(container.name, before, after))
    return sorted(found, key=_increase)


def usage_above(updates: Iterable[Update], usage: Mapping[str, int], whole: int = 0) -> str | None:
    """Why memory limits cannot be lowered to below what is used, by container; None when they can.

    A container whose usage is not known has ended, or is about to be started anew. `whole` is the whole pod's
    limit, where that is lowered.
    """
    used = sum(usage.values())
    errors = (
        [f"attempting to set pod memory limit ({whole}) below current usage ({used})"]
        if (whole and used >= whole)
        else []
    )
    errors += [
        f'attempting to set container "{update.container}" memory limit ({update.after.memory_limit}) '
        f"below current usage ({usage[update.container]})"
        for update in updates
        if _lowers_memory(update) and usage.get(update.container, 0) >= update.after.memory_limit
    ]
    if not errors:
        return None
    return (
        f"cannot decrease memory limits: {errors[0] if len(errors) == 1 else '[' + ', '.join(errors) + ']'}"
    )


def urgency(pod: Pod, allocated: Pod, since: str | None) -> tuple[bool, int, bool, str]:
    """The order in which pending resizes are tried: less is better (sortPendingResizes).

    Those that ask for no more go first, then by priority, then Guaranteed pods, then who has waited longest;
    `since` is the time, as the API writes it, from which on it has.
    """
    wanted, had = pod_requests(pod), pod_requests(allocated)
    more = any(wanted.get(name, _NONE) > had.get(name, _NONE) for name in POD_LEVEL)
    return more, -(pod.spec.priority or 0), qos_class(pod) != GUARANTEED, since or "~"


def lowers_memory(steps: Iterable[Step]) -> bool:
    """Whether any of the steps lowers a memory limit, so that usage must be looked at first."""
    return any(isinstance(step, Update) and _lowers_memory(step) for step in steps)


def shown_resources(container: Container, held_to: Applied | None) -> ResourceRequirements:
    """status.containerStatuses[].resources: what is allocated, but CPU and memory as they are applied.

    `container` is as allocated; `held_to` is None for one that does not run. The rules are those of the
    kubelet's convertContainerStatusResources.
    """
    resources = container.resources
    if held_to is None:
        return resources
    limits = dict(resources.limits) if resources.limits is not None else None
    requests = dict(resources.requests) if resources.requests is not None else None
    if limits is not None:
        _show(limits, "cpu", held_to.cpu_limit)
        _show(limits, "memory", held_to.memory_limit)
    if requests is not None:
        _show(requests, "cpu", held_to.cpu_request)
        _show(requests, "memory", held_to.memory_request)
    return ResourceRequirements(limits=limits, requests=requests, claims=resources.claims)


def whole_resources(
    pod: Pod, view: ResizeView | None
) -> tuple[dict[str, IntOrString] | None, ResourceRequirements | None]:
    """status.allocatedResources and status.resources: what the pod was granted in sum, and is held to.

    Both are None for a pod that asks for nothing and has no limits.
    """
    held = pod
    if view is not None and view.whole != pod.spec.resources:
        held = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, resources=view.whole))
    allocated, limits = pod_requests(pod), pod_limits(held)
    requests = allocated if held is pod else pod_requests(held)
    resources = ResourceRequirements(limits=_texts(limits), requests=_texts(requests))
    return _texts(allocated), resources if requests or limits else None


def summary(prefix: str, pod: Pod, generation: int, error: str = "") -> str:
    """The message of an event about a resize: the resources of the spec as JSON (pkg/kubelet/events)."""
    document: dict[str, Any] = {}
    if pod.spec.init_containers:
        document["initContainers"] = [_summarized(container) for container in pod.spec.init_containers]
    document["containers"] = [_summarized(container) for container in pod.spec.containers or ()]
    document["generation"] = generation
    if error:
        document["error"] = error
    return f"{prefix}: {msgspec.json.encode(document).decode()}"


def _resizable(pod: Pod) -> Iterator[Container]:
    """Ephemeral containers have no resources."""
    yield from pod.spec.init_containers or ()
    yield from pod.spec.containers or ()


def _replaced(containers: list[Container] | None, allocated: PodResources) -> list[Container] | None:
    if containers is None:
        return None
    return [
        msgspec.structs.replace(item, resources=allocated.containers.get(item.name, item.resources))
        for item in containers
    ]


def _comparable(resources: PodResources) -> tuple[dict[str, Any], Any]:
    each = {name: _amounts(one) for name, one in resources.containers.items()}
    return each, _amounts(resources.whole or ResourceRequirements())


def _amounts(one: ResourceRequirements) -> tuple[dict[str, Any], dict[str, Any]]:
    return _numbers(one.limits), _numbers(one.requests)


def _numbers(texts: Mapping[str, IntOrString] | None) -> dict[str, Any]:
    """By value where it is a quantity, as text where it is none."""
    found: dict[str, Any] = {}
    for name, text in (texts or {}).items():
        try:
            found[name] = quantity(text)
        except ValueError:
            found[name] = text
    return found


def _restarts(container: Container, before: Applied, after: Applied) -> bool:
    policies = {policy.resource_name: policy.restart_policy for policy in container.resize_policy or ()}
    memory = (before.memory_limit, before.memory_request) != (after.memory_limit, after.memory_request)
    cpu = (before.cpu_limit, before.cpu_request) != (after.cpu_limit, after.cpu_request)
    changed = {"memory": memory, "cpu": cpu}
    return any(changed[name] and policies.get(name) == "RestartContainer" for name in POD_LEVEL)


def _increase(step: Step) -> int:
    """Those that take less go first, so that the sum is never more than it need be."""
    if isinstance(step, Restart):
        return 0
    return step.after.memory_limit - step.before.memory_limit


def _lowers_memory(update: Update) -> bool:
    before, after = update.before.memory_limit, update.after.memory_limit
    return after != 0 and (before == 0 or after < before)


def _show(amounts: dict[str, IntOrString], name: str, value: int) -> None:
    """Write what is applied over what is allocated, unless that comes to the same."""
    if value and value != (counted(name, quantity(amounts[name])) if name in amounts else 0):
        amounts[name] = amount_text(Decimal(value) / 1000 if name == "cpu" else Decimal(value))


def _texts(amounts: Mapping[str, Decimal]) -> dict[str, IntOrString] | None:
    return {name: amount_text(amount) for name, amount in amounts.items()} or None


def _summarized(container: Container) -> dict[str, Any]:
    """As encoding/json writes it: keys of maps sorted, what is empty left out."""
    resources = {
        name: dict(sorted(amounts.items()))
        for name, amounts in (
            ("limits", container.resources.limits),
            ("requests", container.resources.requests),
        )
        if amounts
    }
    return {"name": container.name, "resources": resources}
