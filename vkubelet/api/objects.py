"""The fields of Kubernetes' objects that this node reads, as msgspec structs.

They exist because decoding is the agent's hottest path: a struct with the needed fields decodes tens of
times faster than a generated model, and unknown fields are skipped. They must know no behaviour beyond
trivial look-ups. Every field has the API's own name in snake case; lists that the API may send as null
(a bookmark carries `"containers": null`) decode to None and are read through `or ()`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from vkubelet.api.containers import (
    Container,
    IntOrString,
    Profile,
    ResourceRequirements,
    SELinuxOptions,
)
from vkubelet.api.struct import Struct
from vkubelet.api.volumes import Volume


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


class HostAlias(Struct):
    """spec.hostAliases[]."""

    ip: str = ""
    hostnames: list[str] | None = None


class PodReadinessGate(Struct):
    """spec.readinessGates[]."""

    condition_type: str = ""


class Sysctl(Struct):
    """securityContext.sysctls[]."""

    name: str = ""
    value: str = ""


class PodSecurityContext(Struct):
    """A pod's securityContext. What a container's says too, the container's says for it."""

    se_linux_options: SELinuxOptions | None = None
    windows_options: dict[str, Any] | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: list[int] | None = None
    supplemental_groups_policy: str | None = None
    fs_group: int | None = None
    fs_group_change_policy: str | None = None
    sysctls: list[Sysctl] | None = None
    seccomp_profile: Profile | None = None
    app_armor_profile: Profile | None = None
    se_linux_change_policy: str | None = None


class PodDNSConfigOption(Struct):
    """spec.dnsConfig.options[]."""

    name: str = ""
    value: str | None = None


class PodDNSConfig(Struct):
    """spec.dnsConfig."""

    nameservers: list[str] | None = None
    searches: list[str] | None = None
    options: list[PodDNSConfigOption] | None = None


class PodSpec(Struct):
    """spec. Fields that only schedulers and controllers read are left out."""

    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    ephemeral_containers: list[Container] | None = None
    volumes: list[Volume] | None = None
    restart_policy: str = "Always"
    node_name: str = ""
    node_selector: dict[str, str] | None = None
    affinity: dict[str, Any] | None = None
    tolerations: list[Toleration] | None = None
    service_account_name: str = ""
    automount_service_account_token: bool | None = None
    host_network: bool = False
    host_pid: bool = msgspec.field(name="hostPID", default=False)
    host_ipc: bool = msgspec.field(name="hostIPC", default=False)
    host_users: bool | None = None
    share_process_namespace: bool | None = None
    hostname: str = ""
    hostname_override: str | None = None
    subdomain: str = ""
    set_hostname_as_fqdn: bool | None = msgspec.field(name="setHostnameAsFQDN", default=None)
    host_aliases: list[HostAlias] | None = None
    dns_policy: str = ""
    dns_config: PodDNSConfig | None = None
    runtime_class_name: str | None = None
    priority: int | None = None
    priority_class_name: str = ""
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None
    image_pull_secrets: list[LocalObjectReference] | None = None
    security_context: PodSecurityContext | None = None
    readiness_gates: list[PodReadinessGate] | None = None
    enable_service_links: bool | None = None
    overhead: dict[str, IntOrString] | None = None
    resources: ResourceRequirements | None = None
    resource_claims: list[dict[str, Any]] | None = None
    os: dict[str, str] | None = None

    def all_containers(self) -> list[Container]:
        """Init containers first, ephemeral ones last; their names are unique."""
        return [*(self.init_containers or ()), *(self.containers or ()), *(self.ephemeral_containers or ())]


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


class VolumeMountStatus(Struct):
    """status.containerStatuses[].volumeMounts[]."""

    name: str = ""
    mount_path: str = ""
    read_only: bool = False
    recursive_read_only: str | None = None


class LinuxContainerUser(Struct, omit_defaults=False):
    """status.containerStatuses[].user.linux."""

    uid: int
    gid: int
    supplemental_groups: list[int] | None = None


class ContainerUser(Struct):
    """status.containerStatuses[].user."""

    linux: LinuxContainerUser | None = None


class ResourceHealth(Struct, omit_defaults=False):
    """status.containerStatuses[].allocatedResourcesStatus[].resources[]."""

    resource_id: str = msgspec.field(name="resourceID")
    health: str


class ResourceStatus(Struct, omit_defaults=False):
    """status.containerStatuses[].allocatedResourcesStatus[]."""

    name: str
    resources: list[ResourceHealth]


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
    # What the API does not require is left out while it says nothing.
    allocated_resources: dict[str, IntOrString] | msgspec.UnsetType = msgspec.UNSET
    resources: ResourceRequirements | msgspec.UnsetType = msgspec.UNSET
    volume_mounts: list[VolumeMountStatus] | msgspec.UnsetType = msgspec.UNSET
    user: ContainerUser | msgspec.UnsetType = msgspec.UNSET
    stop_signal: str | msgspec.UnsetType = msgspec.UNSET
    allocated_resources_status: list[ResourceStatus] | msgspec.UnsetType = msgspec.UNSET


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
    allocated_resources: dict[str, IntOrString] | None = None
    resources: ResourceRequirements | None = None
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
