"""What of a pod's spec is refused, by the tables of fields; pure.

It exists so that what people are told is refused is what is refused. It must not know any field.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import msgspec

from vkubelet.api.containers import Container
from vkubelet.pods.fields import container, pod, security, volume
from vkubelet.pods.fields.base import Fields, Refusal, Where

_TABLES = pod.TABLES | container.TABLES | security.TABLES | volume.TABLES


def tables() -> dict[str, Fields]:
    """All tables, by the API's names of the types."""
    return dict(_TABLES)


def refusals(where: Where) -> Iterator[str]:
    """Each field that the node cannot take: its path in the pod, and the message."""
    spec = where.pod.spec
    yield from _of("PodSpec", spec, "spec", where)
    yield from _of("PodSecurityContext", spec.security_context, "spec.securityContext", where)
    yield from _of("ResourceRequirements", spec.resources, "spec.resources", where)
    for one in spec.volumes or ():
        path = f"spec.volumes[{one.name}]"
        yield from _of("Volume", one, path, where)
        yield from _of("EmptyDirVolumeSource", one.empty_dir, f"{path}.emptyDir", where)
        for index, source in enumerate((one.projected.sources if one.projected is not None else None) or ()):
            yield from _of("VolumeProjection", source, f"{path}.projected.sources[{index}]", where)
    groups = (
        ("initContainers", spec.init_containers),
        ("containers", spec.containers),
        ("ephemeralContainers", spec.ephemeral_containers),
    )
    for field, containers in groups:
        for item in containers or ():
            yield from _of_container(item, f"spec.{field}{{{item.name}}}", where)


def _of_container(item: Container, path: str, where: Where) -> Iterator[str]:
    yield from _of("Container", item, path, where)
    yield from _of("SecurityContext", item.security_context, f"{path}.securityContext", where)
    yield from _of("ResourceRequirements", item.resources, f"{path}.resources", where)
    for port in item.ports or ():
        yield from _of("ContainerPort", port, f"{path}.ports[{port.container_port}]", where)
    for mount in item.volume_mounts or ():
        yield from _of("VolumeMount", mount, f"{path}.volumeMounts[{mount.mount_path}]", where)
    for name, probe in (
        ("livenessProbe", item.liveness_probe),
        ("readinessProbe", item.readiness_probe),
        ("startupProbe", item.startup_probe),
    ):
        if probe is not None:
            yield from _of("GRPCAction", probe.grpc, f"{path}.{name}.grpc", where)
            yield from _of("HTTPGetAction", probe.http_get, f"{path}.{name}.httpGet", where)
    lifecycle = item.lifecycle
    for name, handler in (
        ("postStart", lifecycle.post_start if lifecycle is not None else None),
        ("preStop", lifecycle.pre_stop if lifecycle is not None else None),
    ):
        if handler is not None:
            yield from _of("HTTPGetAction", handler.http_get, f"{path}.lifecycle.{name}.httpGet", where)


def _of(kind: str, value: Any, path: str, where: Where) -> Iterator[str]:
    if value is None:
        return
    struct: type[msgspec.Struct] = type(value)
    for attribute, name, refusal in _checked(kind, struct):
        found = getattr(value, attribute)
        if found is None or found == "":
            continue
        message = refusal(found, where)
        if message is not None:
            yield f"{path}.{name}: {message}"


@functools.cache
def _checked(kind: str, struct: type[msgspec.Struct]) -> tuple[tuple[str, str, Refusal], ...]:
    """The fields of a type that can be refused: attribute, the API's name, and what decides."""
    table = _TABLES[kind]
    fields = {field.encode_name: field.name for field in msgspec.structs.fields(struct)}
    return tuple(
        (fields[name], name, field.refusal) for name, field in table.items() if field.refusal is not None
    )
