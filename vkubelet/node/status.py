"""The node object: what is registered, what its status says, and the smallest patch that makes it so.

It exists as pure functions, so that what the API server gets to see can be read in one place and tried by
tables. It must not read the machine, the clock or the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from vkubelet.api.objects import ObjectMeta
from vkubelet.api.struct import Struct
from vkubelet.config import Config
from vkubelet.node import quantity
from vkubelet.node.conditions import NodeCondition
from vkubelet.node.facts import Facts, Resources
from vkubelet.pods.resources import is_extended

ARCH = "wasm32-wasi"
INSTANCE = "vkubelet.dev/instance"
"""The annotation that tells one agent from another of the same node name."""

ATTACHING = "volumes.kubernetes.io/controller-managed-attach-detach"
"""The annotation that has the cluster's controller attach volumes to the node."""

LIMITED = "vkubelet.dev/limited"
"""The annotation that tells what of pods' limits this host cannot enforce, and why."""

SANDBOX = "vkubelet.dev/sandbox"
"""The annotation that tells what stands around a guest beside WebAssembly, as far as this host allows it."""

IMAGES_MAXIMUM = 50
IMAGE_NAMES_MAXIMUM = 5
"""The kubelet's nodeStatusMaxImages and its limit of names for one image."""


class NodeAddress(Struct):
    """status.addresses[]."""

    type: str
    address: str


class NodeImage(Struct):
    """status.images[]: an image that is on the node, with its digest references first."""

    names: list[str] | None = None
    size_bytes: int = 0


class Taint(Struct):
    """spec.taints[]."""

    key: str
    effect: str
    value: str = ""
    time_added: str | None = None


class NodeSpec(Struct):
    """spec, as far as it is read."""

    taints: list[Taint] | None = None
    unschedulable: bool = False


class NodeStatus(Struct, omit_defaults=False):
    """status: exactly the fields that this node writes, in the shape in which they are compared."""

    capacity: dict[str, str] | None = None
    allocatable: dict[str, str] | None = None
    conditions: list[NodeCondition] | None = None
    addresses: list[NodeAddress] | None = None
    daemon_endpoints: dict[str, Any] | None = None
    node_info: dict[str, Any] | None = None
    images: list[NodeImage] | None = None
    features: dict[str, bool] | None = None
    declared_features: list[str] | None = None
    volumes_in_use: list[str] | None = None


class AttachedVolume(Struct):
    """status.volumesAttached[], which a controller writes."""

    name: str = ""


class ShownStatus(NodeStatus):
    """status: with what others write into it, as far as it is read."""

    volumes_attached: list[AttachedVolume] | None = None


class NodeObject(Struct):
    """A node."""

    metadata: ObjectMeta
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: ShownStatus = msgspec.field(default_factory=ShownStatus)


@dataclass(frozen=True)
class Posted:
    """What was last sent, and how the server then showed it.

    A server normalizes some values and drops fields that it does not know: a field whose wish and whose
    showing are both what they were then needs no further patch.
    """

    wanted: Mapping[str, Any]
    shown: Mapping[str, Any]


_REQUIRED_LABELS = ("kubernetes.io/arch", "kubernetes.io/os")


def labels(config: Config) -> dict[str, str]:
    """The node's labels: Krustlet's, one for each newer spelling of the target, and the configured ones."""
    return {
        **dict.fromkeys(_REQUIRED_LABELS, ARCH),
        "kubernetes.io/hostname": config.node_name,
        "beta.kubernetes.io/arch": ARCH,
        "beta.kubernetes.io/os": ARCH,
        "type": "vkubelet",
        "vkubelet.dev/wasm32-wasip1": "true",
        "vkubelet.dev/wasm32-wasip2": "true",
        **config.node_labels,
    }


def required_labels(config: Config) -> dict[str, str]:
    """The labels that are put back whenever they are missing, as the kubelet does with these two."""
    return {name: text for name, text in labels(config).items() if name in _REQUIRED_LABELS}


def own_annotations(instance: str, limited: str, sandbox: Mapping[str, str]) -> dict[str, str | None]:
    """The annotations that are this node's; None for one that it must not have."""
    return {
        INSTANCE: instance,
        ATTACHING: "true",
        LIMITED: limited or None,
        SANDBOX: ",".join(part for part, lacking in sandbox.items() if not lacking) or None,
    }


def new_node(config: Config, status: NodeStatus, annotations: Mapping[str, str | None]) -> dict[str, Any]:
    """The object to create. Taints are set here and never again: NodeRestriction forbids it."""
    spec: dict[str, Any] = {}
    if config.register_with_taints:
        spec["taints"] = [msgspec.to_builtins(taint) for taint in config.register_with_taints]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": config.node_name,
            "labels": labels(config),
            "annotations": {key: value for key, value in annotations.items() if value is not None},
        },
        "spec": spec,
        "status": _document(status),
    }


def metadata_patch(
    labels: Mapping[str, str], annotations: Mapping[str, str | None], found: ObjectMeta
) -> dict[str, Any]:
    """What an existing node lacks of these labels and annotations; empty when nothing."""
    lacks = {
        "labels": _missing(labels, found.labels),
        "annotations": _missing(annotations, found.annotations),
    }
    return {field: missing for field, missing in lacks.items() if missing}


def _missing(wanted: Mapping[str, str | None], existing: Mapping[str, str] | None) -> dict[str, str | None]:
    return {key: value for key, value in wanted.items() if (existing or {}).get(key) != value}


def node_status(
    config: Config,
    facts: Facts,
    *,
    host_ip: str,
    port: int,
    conditions: Sequence[NodeCondition],
    images: Iterable[NodeImage],
    features: Iterable[str],
    volumes_in_use: Iterable[str] = (),
) -> NodeStatus:
    """The status to show; `features` are the declaredFeatures that are truly implemented."""
    largest = sorted(images, key=lambda image: (-image.size_bytes, image.names or []))[:IMAGES_MAXIMUM]
    return NodeStatus(
        capacity=_resources(facts.capacity),
        allocatable=_resources(facts.allocatable),
        conditions=list(conditions),
        addresses=[
            NodeAddress(type="InternalIP", address=host_ip),
            NodeAddress(type="Hostname", address=config.node_name),
        ],
        daemon_endpoints={"kubeletEndpoint": {"Port": port}},
        node_info={
            "machineID": facts.machine_id,
            "systemUUID": facts.system_uuid,
            "bootID": facts.boot_id,
            "kernelVersion": facts.kernel_version,
            "osImage": facts.os_image,
            "containerRuntimeVersion": facts.container_runtime_version,
            "kubeletVersion": facts.kubelet_version,
            "kubeProxyVersion": "",
            "operatingSystem": facts.operating_system,
            "architecture": facts.architecture,
        },
        images=[
            NodeImage(names=(image.names or [])[:IMAGE_NAMES_MAXIMUM], size_bytes=image.size_bytes)
            for image in largest
        ],
        # A wasm image has no /etc/group: who is in which group, the pod alone says.
        features={"supplementalGroupsPolicy": True},
        # Validation wants them sorted and unique.
        declared_features=sorted(set(features)),
        volumes_in_use=sorted(volumes_in_use) or None,
    )


def status_patch(
    wanted: NodeStatus, shown: NodeStatus, posted: Posted | None, *, due: bool
) -> dict[str, Any]:
    """The strategic merge patch of `status` that turns `shown` into `wanted`; empty when nothing changed.

    A heartbeat time alone is no change. `due` means that the report period has passed: then the conditions
    are sent with their new heartbeat in any case, and they always go along with any other change.
    """
    own = own_resources(wanted)
    wishes, showing = comparable(wanted, own), comparable(shown, own)
    mirrored = _mirrored(shown, own)
    changed = [
        name
        for name, wish in wishes.items()
        if wish != showing[name]
        and not (posted and posted.wanted[name] == wish and posted.shown[name] == showing[name])
    ]
    if not changed and not due and not mirrored:
        return {}
    document = _document(wanted)
    patch = {key: document[key] for key in (_camel(name) for name in changed)}
    patch["conditions"] = document["conditions"]
    if mirrored:
        patch["allocatable"] = {**patch.get("allocatable", {}), **mirrored}
    if "addresses" in patch:
        # Their merge key is the type, which is no key: a second InternalIP would overwrite the first.
        patch["addresses"] = [*patch["addresses"], {"$patch": "replace"}]
    return patch


def is_attached(shown: ShownStatus, volume: str) -> bool:
    """Whether the cluster knows that the volume is in use here, and says that it is attached."""
    attached = (one.name for one in shown.volumes_attached or ())
    return volume in (shown.volumes_in_use or ()) and volume in attached


def without_extended(patch: Mapping[str, Any], wanted: NodeStatus, shown: NodeStatus) -> dict[str, Any]:
    """The patch that also takes from the node what others gave to the one that had its name before.

    It is shown as nothing rather than removed, as a kubelet does (reconcileExtendedResource).
    """
    own = own_resources(wanted)
    others = {name: "0" for name in shown.capacity or () if is_extended(name) and name not in own}
    amounts = {field: {**patch.get(field, {}), **others} for field in ("capacity", "allocatable") if others}
    return {**patch, **amounts}


def own_resources(wanted: NodeStatus) -> frozenset[str]:
    """The resources that this node speaks for; others may give it extended ones (through its capacity)."""
    return frozenset(wanted.capacity or ())


def _mirrored(shown: NodeStatus, own: frozenset[str]) -> dict[str, str | None]:
    """What makes allocatable follow the capacity that others gave to the node, as a kubelet lets it."""
    capacity, allocatable = shown.capacity or {}, shown.allocatable or {}
    given = {name: amount for name, amount in capacity.items() if is_extended(name) and name not in own}
    found: dict[str, str | None] = {
        name: amount for name, amount in given.items() if allocatable.get(name) != amount
    }
    gone = (name for name in allocatable if is_extended(name) and name not in capacity and name not in own)
    return found | dict.fromkeys(gone)


def comparable(status: NodeStatus, own: frozenset[str]) -> dict[str, Any]:
    """The fields as plain values that are equal when the API server would call them equal.

    Of the resources, those in `own`.
    """
    fields: dict[str, Any] = {}
    for name in NodeStatus.__struct_fields__:
        value = msgspec.to_builtins(getattr(status, name))
        if name == "conditions":
            ours = [entry for entry in value or () if entry["type"] in _OWN_CONDITIONS]
            for entry in ours:
                entry.pop("lastHeartbeatTime", None)
            value = {entry["type"]: entry for entry in ours}
        elif name in ("capacity", "allocatable"):
            value = {key: amount for key, amount in (value or {}).items() if key in own}
        elif name == "node_info":
            value = {key: text for key, text in (value or {}).items() if key in _OWN_INFO and text}
        fields[name] = value or None
    return fields


_OWN_CONDITIONS = frozenset({"MemoryPressure", "DiskPressure", "PIDPressure", "Ready"})
"""Others may add conditions to a node: these are never touched."""

_OWN_INFO = frozenset(
    {
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    }
)


def _resources(amounts: Resources) -> dict[str, str]:
    return {
        "cpu": quantity.decimal(amounts.millicores),
        "memory": quantity.binary(amounts.memory),
        "ephemeral-storage": quantity.binary(amounts.storage),
        "pods": quantity.decimal(amounts.pods * 1000),
        **{name: quantity.decimal(amount * 1000) for name, amount in amounts.extended.items()},
    }


def _document(status: NodeStatus) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(status)
    return document


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
