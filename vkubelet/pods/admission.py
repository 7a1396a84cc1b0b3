"""Which pods this node takes: a pure function from a pod to the reason it is refused, if it is.

It exists so that nothing in a spec is silently ignored: a field whose promise this node cannot keep refuses
the pod, in the way that a kubelet's admission handlers do (phase Failed, `Pod was rejected: ...`), with
the field's path and what to do. What a wasm guest makes meaningless (capabilities, seccomp, ports that
only inform) is accepted. It must not know how a pod is run.
"""

from __future__ import annotations

from collections.abc import Iterator

from vkubelet.api.containers import Container, SecurityContext
from vkubelet.api.objects import Pod, PodSecurityContext
from vkubelet.api.volumes import Volume
from vkubelet.pods.observed import Rejection

REASON = "UnsupportedPodSpec"

# The mount that the ServiceAccount admission plugin adds to every pod on its own accord.
TOKEN_VOLUME_PREFIX = "kube-api-access-"  # noqa: S105  a volume's name


def admit(pod: Pod) -> Rejection | None:
    """None when the node takes the pod, else all that it cannot keep, named by field."""
    found = list(_unsupported(pod))
    if not found:
        return None
    return Rejection(REASON, "this wasm node cannot keep what the pod asks for: " + "; ".join(found))


def has_token_volume(pod: Pod) -> bool:
    """Whether the pod carries the automatic service account volume, which is accepted and not mounted."""
    return any(_is_token_volume(volume) for volume in pod.spec.volumes or ())


def _unsupported(pod: Pod) -> Iterator[str]:
    spec = pod.spec
    for volume in spec.volumes or ():
        if not _is_token_volume(volume) and volume.kind not in ("emptyDir", "hostPath"):
            yield f"spec.volumes[{volume.name}]: {volume.kind or 'unknown'} volumes are not supported"
    for flag, name in ((spec.host_pid, "hostPID"), (spec.host_ipc, "hostIPC")):
        if flag:
            yield f"spec.{name}: a wasm guest cannot see the host's processes; remove it"
    if spec.runtime_class_name:
        yield f"spec.runtimeClassName: {spec.runtime_class_name!r} is not configured on this node; remove it"
    yield from _windows_or_user(spec.security_context, "spec.securityContext")
    for field, containers in (("initContainers", spec.init_containers), ("containers", spec.containers)):
        for container in containers or ():
            path = f"spec.{field}{{{container.name}}}"
            yield from _unsupported_in(container, path, host_network=spec.host_network)


def _unsupported_in(container: Container, path: str, *, host_network: bool) -> Iterator[str]:
    if container.volume_devices:
        yield f"{path}.volumeDevices: not supported"
    yield from _unsupported_probes(container, path)
    for index, rule in enumerate(container.restart_policy_rules or ()):
        if rule.action != "Restart":
            yield f"{path}.restartPolicyRules[{index}].action: {rule.action} is not supported; use Restart"
    for port in container.ports or ():
        if port.host_port and not host_network:
            yield (
                f"{path}.ports[{port.container_port}].hostPort: guests have a network only with "
                "spec.hostNetwork: true; set that, or remove the host port"
            )
    context = container.security_context
    if context is not None and context.privileged:
        yield f"{path}.securityContext.privileged: a wasm guest has no privileges to be given; remove it"
    if context is not None and context.read_only_root_filesystem:
        yield f"{path}.securityContext.readOnlyRootFilesystem: not supported"
    yield from _windows_or_user(context, f"{path}.securityContext")


def _unsupported_probes(container: Container, path: str) -> Iterator[str]:
    """What alpha features add to probes."""
    for name, probe in (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    ):
        if probe is not None and probe.grpc is not None and probe.grpc.mode not in ("", "Plaintext"):
            yield f"{path}.{name}.grpc.mode: {probe.grpc.mode} is not supported; use Plaintext"
        if probe is not None and probe.http_get is not None and probe.http_get.protocol not in ("", "HTTP1"):
            yield f"{path}.{name}.httpGet.protocol: {probe.http_get.protocol} is not supported; use HTTP1"


def _windows_or_user(context: PodSecurityContext | SecurityContext | None, path: str) -> Iterator[str]:
    for name, field in (
        ("windows_options", "windowsOptions"),
        ("run_as_user", "runAsUser"),
        ("run_as_group", "runAsGroup"),
        ("fs_group", "fsGroup"),
        ("supplemental_groups", "supplementalGroups"),
    ):
        if getattr(context, name, None) not in (None, [], {}):
            yield f"{path}.{field}: not supported; guests have no user of their own"


def _is_token_volume(volume: Volume) -> bool:
    return volume.name.startswith(TOKEN_VOLUME_PREFIX) and volume.projected is not None
