"""What a pod's spec says of one container, as msgspec structs.

They exist apart from the pod because most of what a kubelet does, it does for one container. They must know
no behaviour. Every field has the API's own name in snake case (see `objects`).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from vkubelet.api.struct import Struct

IntOrString: TypeAlias = int | str


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
    divisor: IntOrString = "0"


class FileKeySelector(Struct):
    """valueFrom.fileKeyRef: a key of a file in env format on an emptyDir volume (KEP-3721)."""

    volume_name: str = ""
    path: str = ""
    key: str = ""
    optional: bool = False


class EnvVarSource(Struct):
    """env[].valueFrom."""

    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    file_key_ref: FileKeySelector | None = None


class EnvVar(Struct):
    """env[]."""

    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class EnvFromTarget(Struct):
    """envFrom[].configMapRef and secretRef."""

    name: str = ""
    optional: bool = False


class EnvFromSource(Struct):
    """envFrom[]."""

    prefix: str = ""
    config_map_ref: EnvFromTarget | None = None
    secret_ref: EnvFromTarget | None = None


class ResourceClaim(Struct):
    """resources.claims[]."""

    name: str = ""
    request: str = ""


class ResourceRequirements(Struct):
    """resources; quantities are kept as the API's text."""

    limits: dict[str, IntOrString] | None = None
    requests: dict[str, IntOrString] | None = None
    claims: list[ResourceClaim] | None = None


class ContainerResizePolicy(Struct):
    """resizePolicy[]."""

    resource_name: str = ""
    restart_policy: str = ""


class VolumeMount(Struct):
    """volumeMounts[]."""

    name: str = ""
    mount_path: str = ""
    read_only: bool = False
    recursive_read_only: str | None = None
    sub_path: str = ""
    sub_path_expr: str = ""
    mount_propagation: str | None = None
    bind_mount_options: list[str] | None = None


class VolumeDevice(Struct):
    """volumeDevices[]."""

    name: str = ""
    device_path: str = ""


class ContainerPort(Struct):
    """ports[]."""

    container_port: int = 0
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0
    host_ip: str = msgspec.field(name="hostIP", default="")


class ExecAction(Struct):
    """A probe's or a hook's exec."""

    command: list[str] | None = None


class HTTPHeader(Struct):
    """httpGet.httpHeaders[]."""

    name: str = ""
    value: str = ""


class HTTPGetAction(Struct):
    """A probe's or a hook's httpGet. `port` may be the name of one of the container's ports."""

    path: str = ""
    port: IntOrString = 0
    host: str = ""
    scheme: str = "HTTP"
    http_headers: list[HTTPHeader] | None = None
    protocol: str = ""


class TCPSocketAction(Struct):
    """A probe's tcpSocket."""

    port: IntOrString = 0
    host: str = ""


class GRPCAction(Struct):
    """A probe's grpc."""

    port: int = 0
    service: str = ""
    mode: str = ""


class SleepAction(Struct):
    """A hook's sleep."""

    seconds: int = 0


class Probe(Struct):
    """livenessProbe, readinessProbe and startupProbe. Times are seconds; defaults are the API's."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(Struct):
    """lifecycle.postStart and preStop."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Struct):
    """lifecycle."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class ContainerRestartRuleOnExitCodes(Struct):
    """restartPolicyRules[].exitCodes: `operator` is In or NotIn."""

    operator: str = ""
    values: list[int] | None = None


class ContainerRestartRule(Struct):
    """restartPolicyRules[]."""

    action: str = ""
    exit_codes: ContainerRestartRuleOnExitCodes | None = None


class SELinuxOptions(Struct):
    """securityContext.seLinuxOptions."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class Profile(Struct):
    """securityContext.seccompProfile and appArmorProfile."""

    type: str = ""
    localhost_profile: str | None = None


class Capabilities(Struct):
    """securityContext.capabilities."""

    add: list[str] | None = None
    drop: list[str] | None = None


class SecurityContext(Struct):
    """A container's securityContext."""

    capabilities: Capabilities | None = None
    privileged: bool = False
    se_linux_options: SELinuxOptions | None = None
    windows_options: dict[str, Any] | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool = False
    allow_privilege_escalation: bool | None = None
    proc_mount: str | None = None
    seccomp_profile: Profile | None = None
    app_armor_profile: Profile | None = None


class Container(Struct):
    """spec.containers[], initContainers[] and ephemeralContainers[]."""

    name: str
    image: str = ""
    image_pull_policy: str = ""
    command: list[str] | None = None
    args: list[str] | None = None
    working_dir: str = ""
    env: list[EnvVar] | None = None
    env_from: list[EnvFromSource] | None = None
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    resize_policy: list[ContainerResizePolicy] | None = None
    volume_mounts: list[VolumeMount] | None = None
    volume_devices: list[VolumeDevice] | None = None
    ports: list[ContainerPort] | None = None
    restart_policy: str | None = None
    restart_policy_rules: list[ContainerRestartRule] | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    security_context: SecurityContext | None = None
    termination_message_path: str = "/dev/termination-log"
    termination_message_policy: str = "File"
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    target_container_name: str = ""

    @property
    def is_sidecar(self) -> bool:
        """For an init container: whether it goes on beside the pod's containers (KEP-753)."""
        return self.restart_policy == "Always"
