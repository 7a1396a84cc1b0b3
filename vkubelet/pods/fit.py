"""Whether a pod fits on this node beside those that are there: pure, with the kubelet's reasons and messages.

It exists because a kubelet checks what the scheduler has decided (pkg/kubelet/lifecycle/predicate.go): two
pods may have been bound at once, static pods were never scheduled, and nodes change. It must not know how
pods are kept, nor what a node is made of.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TypeAlias

from vkubelet.api.objects import Pod
from vkubelet.config import Taint
from vkubelet.pods.affinity import selects_node, untolerated
from vkubelet.pods.observed import Rejection
from vkubelet.pods.resources import Amounts, counted, is_extended, pod_requests

OS_LABEL = "kubernetes.io/os"
OS_NAME = "linux"
"""What spec.os must say, if it says anything: the node reports this operating system."""

SOURCE_ANNOTATION = "kubernetes.io/config.source"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
SYSTEM_CRITICAL_PRIORITY = 2_000_000_000
SYSTEM_NODE_CRITICAL = "system-node-critical"

_ANY_ADDRESS = "0.0.0.0"  # noqa: S104  compared, not listened on
_NO_EXECUTE = frozenset({"NoExecute"})

HostPort: TypeAlias = tuple[str, str, int]
"""Address, protocol and port on the host."""


@dataclasses.dataclass(frozen=True, slots=True)
class NodeView:
    """The node as it concerns pods. `allocatable` is as `resources.counted` counts, `pods` among it.

    `memory` is all it has, in bytes.
    """

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    allocatable: Mapping[str, int]
    memory: int

    def at_least(self, taken: Mapping[str, int]) -> NodeView:
        """The node with as much as somebody has of it already, though it may have lost that meanwhile."""
        more = {name: number for name, number in taken.items() if number > self.allocatable.get(name, 0)}
        return dataclasses.replace(self, allocatable={**self.allocatable, **more}) if more else self


@dataclasses.dataclass(frozen=True, slots=True)
class Demand:
    """What one pod takes of a node."""

    amounts: Mapping[str, int]
    ports: frozenset[HostPort]


class Used:
    """What the pods of a node take together."""

    def __init__(self) -> None:
        self.pods = 0
        self.amounts: Counter[str] = Counter()
        self.ports: Counter[HostPort] = Counter()

    def add(self, demand: Demand) -> None:
        """A pod is there now."""
        self.pods += 1
        self.amounts.update(demand.amounts)
        self.ports.update(demand.ports)

    def remove(self, demand: Demand) -> None:
        """A pod that was added is there no more."""
        self.pods -= 1
        self.amounts.subtract(demand.amounts)
        self.ports.subtract(demand.ports)
        self.ports = +self.ports


@dataclasses.dataclass(frozen=True, slots=True)
class Insufficient:
    """A resource of which the node has too little left."""

    resource: str
    requested: int
    used: int
    capacity: int

    @property
    def missing(self) -> int:
        """How much more must be free."""
        return self.requested - (self.capacity - self.used)

    @property
    def rejection(self) -> Rejection:
        """As the pod's status tells it."""
        return Rejection(
            f"OutOf{self.resource}",
            f"Node didn't have enough resource: {self.resource}, requested: {self.requested}, "
            f"used: {self.used}, capacity: {self.capacity}",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Mismatch:
    """Something else than an amount that does not fit; `name` is the scheduler plugin's."""

    name: str
    description: str

    @property
    def rejection(self) -> Rejection:
        """As the pod's status tells it."""
        return Rejection(self.name, f"Predicate {self.name} failed: {self.description}")


Failure: TypeAlias = Insufficient | Mismatch

NODE_AFFINITY = Mismatch("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")


def demand(pod: Pod) -> Demand:
    """What a pod takes, by what its containers request."""
    return Demand({name: counted(name, amount) for name, amount in _wanted(pod).items()}, _host_ports(pod))


def wrong_system(pod: Pod, node: NodeView) -> Rejection | None:
    """Whether the pod was made for another operating system: no room that is made could help it."""
    labelled = (pod.metadata.labels or {}).get(OS_LABEL)
    if labelled is not None and labelled != node.labels.get(OS_LABEL):
        return Rejection(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        )
    if pod.spec.os is not None and pod.spec.os.get("name") != OS_NAME:
        return Rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    return None


def failures(pod: Pod, node: NodeView, used: Used) -> list[Failure]:
    """All that keeps the pod from this node, in the kubelet's order: the first is what people are told.

    `used` is what the other pods take. Extended resources that the node does not know are not counted: they
    may be the cluster's.
    """
    wanted = demand(pod)
    found: list[Failure] = list(_insufficient(wanted, node, used))
    if not selects_node(pod, node.name, node.labels):
        found.append(NODE_AFFINITY)
    if pod.spec.node_name and pod.spec.node_name != node.name:
        found.append(Mismatch("NodeName", "node(s) didn't match the requested node name"))
    if any(_conflicts(port, used.ports) for port in wanted.ports):
        found.append(Mismatch("NodePorts", "node(s) didn't have free ports for the requested pod ports"))
    if not is_static(pod) and untolerated(node.taints, pod.spec.tolerations or (), _NO_EXECUTE) is not None:
        # NoSchedule is the scheduler's alone: a pod bound past it is meant to be here.
        found.append(Mismatch("TaintToleration", "node(s) had taints that the pod didn't tolerate"))
    return found


def is_static(pod: Pod) -> bool:
    """Whether a pod comes from this node's own files."""
    return (pod.metadata.annotations or {}).get(SOURCE_ANNOTATION, "api") != "api"


def is_mirror(pod: Pod) -> bool:
    """Whether a pod's object only shows a static pod."""
    return MIRROR_ANNOTATION in (pod.metadata.annotations or {})


def is_critical(pod: Pod) -> bool:
    """Whether room is made for a pod, and none by ending it (IsCriticalPod of pkg/kubelet/types)."""
    return is_static(pod) or is_mirror(pod) or (pod.spec.priority or 0) >= SYSTEM_CRITICAL_PRIORITY


def is_node_critical(pod: Pod) -> bool:
    """Whether a pod is among the last that the kernel may kill (IsNodeCriticalPod)."""
    return is_critical(pod) and pod.spec.priority_class_name == SYSTEM_NODE_CRITICAL


def _wanted(pod: Pod) -> Amounts:
    return {name: amount for name, amount in pod_requests(pod).items() if amount > Decimal()}


def _insufficient(wanted: Demand, node: NodeView, used: Used) -> Iterator[Insufficient]:
    allowed = node.allocatable.get("pods", 0)
    if used.pods + 1 > allowed:
        yield Insufficient("pods", 1, used.pods, allowed)
    first = ("cpu", "memory", "ephemeral-storage")
    for name in (*first, *sorted(wanted.amounts.keys() - {*first})):
        amount = wanted.amounts.get(name, 0)
        if not amount or (is_extended(name) and name not in node.allocatable):
            continue
        capacity, taken = node.allocatable.get(name, 0), used.amounts[name]
        if amount > capacity - taken:
            yield Insufficient(name, amount, taken, capacity)


def _host_ports(pod: Pod) -> frozenset[HostPort]:
    """Those of containers that run all the time."""
    sidecars = [container for container in pod.spec.init_containers or () if container.is_sidecar]
    return frozenset(
        (port.host_ip or _ANY_ADDRESS, port.protocol or "TCP", port.host_port)
        for container in (*sidecars, *(pod.spec.containers or ()))
        for port in container.ports or ()
        if port.host_port > 0
    )


def _conflicts(port: HostPort, taken: Mapping[HostPort, int]) -> bool:
    """The same port and protocol on the same address, or on all of them."""
    address, protocol, number = port
    return any(
        (protocol, number) == (other_protocol, other)
        and (_ANY_ADDRESS in (address, other_address) or address == other_address)
        for other_address, other_protocol, other in taken
    )
