"""The fields of Kubernetes' objects that this node reads, as msgspec structs.

They exist because decoding is the agent's hottest path: a struct with the needed fields decodes tens of
times faster than a generated model, and unknown fields are skipped. They must know no behaviour beyond
trivial look-ups. Every field has the API's own name in snake case; lists that the API may send as null
(a bookmark carries `"containers": null`) decode to None and are read through `or ()`.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Struct(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """Camel case on the wire, snake case here; defaults are not written.

    What is decoded is a tree and stays one: the garbage collector need not look for cycles in it.
    """


class OwnerReference(Struct):
    """metadata.ownerReferences[]."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    controller: bool | None = None


class ObjectMeta(Struct):
    """metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None
    finalizers: list[str] | None = None


class ObjectFieldSelector(Struct):
    """valueFrom.fieldRef."""

    field_path: str = ""
    api_version: str = "v1"


class KeySelector(Struct):
    """valueFrom.configMapKeyRef and secretKeyRef."""

    name: str = ""
    key: str = ""
    optional: bool = False


class ResourceFieldSelector(Struct):
    """valueFrom.resourceFieldRef."""

    resource: str = ""
    container_name: str = ""
    divisor: str | int = "0"


class EnvVarSource(Struct):
    """env[].valueFrom."""

    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    file_key_ref: dict[str, Any] | None = None


class EnvVar(Struct):
    """env[]."""

    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class ResourceRequirements(Struct):
    """resources; quantities are kept as the API's text."""

    limits: dict[str, str | int] | None = None
    requests: dict[str, str | int] | None = None


class VolumeMount(Struct):
    """volumeMounts[]."""

    name: str = ""
    mount_path: str = ""
    read_only: bool = False
    sub_path: str = ""


class ContainerPort(Struct):
    """ports[]."""

    container_port: int = 0
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0


class Container(Struct):
    """spec.containers[], initContainers[] and ephemeralContainers[]."""

    name: str
    image: str = ""
    image_pull_policy: str = ""
    command: list[str] | None = None
    args: list[str] | None = None
    working_dir: str = ""
    env: list[EnvVar] | None = None
    env_from: list[dict[str, Any]] | None = None
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    volume_mounts: list[VolumeMount] | None = None
    volume_devices: list[dict[str, Any]] | None = None
    ports: list[ContainerPort] | None = None
    restart_policy: str | None = None
    restart_policy_rules: list[dict[str, Any]] | None = None
    liveness_probe: dict[str, Any] | None = None
    readiness_probe: dict[str, Any] | None = None
    startup_probe: dict[str, Any] | None = None
    lifecycle: dict[str, Any] | None = None
    security_context: dict[str, Any] | None = None
    termination_message_path: str = ""
    termination_message_policy: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    target_container_name: str = ""


class Toleration(Struct):
    """spec.tolerations[]."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class LocalObjectReference(Struct):
    """A name in the pod's own namespace."""

    name: str = ""


class PodSpec(Struct):
    """spec."""

    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    ephemeral_containers: list[Container] | None = None
    volumes: list[dict[str, Any]] | None = None
    restart_policy: str = "Always"
    node_name: str = ""
    node_selector: dict[str, str] | None = None
    affinity: dict[str, Any] | None = None
    tolerations: list[Toleration] | None = None
    service_account_name: str = ""
    host_network: bool = False
    host_pid: bool = msgspec.field(name="hostPID", default=False)
    host_ipc: bool = msgspec.field(name="hostIPC", default=False)
    hostname: str = ""
    subdomain: str = ""
    runtime_class_name: str | None = None
    priority: int | None = None
    priority_class_name: str = ""
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None
    image_pull_secrets: list[LocalObjectReference] | None = None
    security_context: dict[str, Any] | None = None
    readiness_gates: list[dict[str, Any]] | None = None
    enable_service_links: bool | None = None

    def all_containers(self) -> list[Container]:
        """Those that this node runs, ephemeral ones last; their names are unique."""
        return [*(self.containers or ()), *(self.ephemeral_containers or ())]


class PodCondition(Struct):
    """status.conditions[]."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    last_probe_time: str | None = None
    observed_generation: int = 0


class ContainerStateWaiting(Struct):
    """state.waiting."""

    reason: str = ""
    message: str = ""


class ContainerStateRunning(Struct):
    """state.running."""

    started_at: str | None = None


class ContainerStateTerminated(Struct):
    """state.terminated."""

    exit_code: int
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str = msgspec.field(name="containerID", default="")


class ContainerState(Struct):
    """status.containerStatuses[].state and lastState: exactly one field is set, or none."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Struct, omit_defaults=False):
    """status.containerStatuses[]. Written whole: the API requires most of its fields."""

    name: str
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)
    ready: bool = False
    restart_count: int = 0
    image: str = ""
    image_id: str = msgspec.field(name="imageID", default="")
    container_id: str = msgspec.field(name="containerID", default="")
    started: bool | None = None


class HostIP(Struct):
    """status.hostIPs[] and podIPs[]."""

    ip: str = ""


class PodStatus(Struct):
    """status."""

    phase: str = ""
    conditions: list[PodCondition] | None = None
    message: str = ""
    reason: str = ""
    host_ip: str = msgspec.field(name="hostIP", default="")
    host_ips: list[HostIP] | None = msgspec.field(name="hostIPs", default=None)
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: list[HostIP] | None = msgspec.field(name="podIPs", default=None)
    start_time: str | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    ephemeral_container_statuses: list[ContainerStatus] | None = None
    qos_class: str = ""
    observed_generation: int = 0


class Pod(Struct):
    """A pod."""

    metadata: ObjectMeta
    spec: PodSpec
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @property
    def key(self) -> str:
        """`namespace/name`, as logs and errors name it."""
        return f"{self.metadata.namespace}/{self.metadata.name}"


class Status(Struct):
    """The API server's `Status` object: the body of an error."""

    code: int = 0
    reason: str = ""
    message: str = ""


class ObjectReference(Struct, omit_defaults=False):
    """involvedObject of an event, and similar pointers to an object. The API defaults none of its fields."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = "v1"
    resource_version: str = ""
    field_path: str = ""


def pod_reference(pod: Pod, field_path: str = "") -> ObjectReference:
    """The object an event about `pod` is attached to; `field_path` is `spec.containers{NAME}`."""
    return ObjectReference(
        kind="Pod",
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        resource_version=pod.metadata.resource_version,
        field_path=field_path,
    )
