"""The downward API: what a pod may be told of itself, as the texts that environment variables and files get.

It exists because variables and volumes have the same rules, and few differences. It is pure and must not know
where a text goes. The rules are those of pkg/fieldpath and pkg/api/v1/resource in Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vkubelet.api.containers import Container, ObjectFieldSelector, ResourceFieldSelector
from vkubelet.api.objects import Pod
from vkubelet.pods.resources import POD_LEVEL, counted
from vkubelet.pods.text import quantity, quoted

DEFAULTED_LIMITS = ("cpu", "memory", "ephemeral-storage")
"""The limits that a container without one of its own is told the node's allocatable amount for."""

_SUBSCRIPT = re.compile(r"(?s)(.+?)\['(.*)'\]")
# IsLabelKey of k8s.io/apimachinery: an optional DNS subdomain, and a name of at most 63 characters.
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_KEY = re.compile(rf"((?=.{{1,253}}/){_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")


class ConfigValueError(ValueError):
    """A value that cannot be made; the text is the kubelet's CreateContainerConfigError message."""


def variable_field(pod: Pod, selector: ObjectFieldSelector, host_ip: str) -> str:
    """The value of an environment variable's `fieldRef`. Raises ConfigValueError for a path without one.

    A pod has its node's address.
    """
    if selector.api_version not in ("", "v1"):
        raise ConfigValueError(f"unsupported pod version: {selector.api_version}")
    plain = {
        "spec.nodeName": pod.spec.node_name,
        "spec.host": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.hostIP": host_ip,
        "status.hostIPs": host_ip,
        "status.podIP": host_ip,
        "status.podIPs": host_ip,
    }
    found = plain.get(selector.field_path)
    return field_value(pod, selector.field_path) if found is None else found


def field_value(pod: Pod, path: str) -> str:
    """The value of a field of the object's metadata, as a downward API volume has it.

    Raises ConfigValueError for a path that names none.
    """
    meta = pod.metadata
    subscripted = _SUBSCRIPT.fullmatch(path)
    if subscripted is not None:
        field, key = subscripted[1], subscripted[2]
        if field not in ("metadata.labels", "metadata.annotations"):
            raise ConfigValueError(f'fieldPath "{path}" does not support subscript')
        found = meta.labels if field == "metadata.labels" else meta.annotations
        if not _KEY.fullmatch(key if field == "metadata.labels" else key.lower()):
            raise ConfigValueError(f"invalid key subscript in {path}: it is no qualified name")
        return (found or {}).get(key, "")
    match path:
        case "metadata.name":
            return meta.name
        case "metadata.namespace":
            return meta.namespace
        case "metadata.uid":
            return meta.uid
        case "metadata.labels":
            return _lines(meta.labels)
        case "metadata.annotations":
            return _lines(meta.annotations)
    raise ConfigValueError(f"unsupported fieldPath: {path}")


def variable_resource(
    pod: Pod, container: Container, selector: ResourceFieldSelector, allocatable: Mapping[str, int]
) -> str:
    """The value of an environment variable's `resourceFieldRef`: of `container`, or of the one it names.

    A container without a limit is told the pod's own limit, or else what the node has to give
    (`allocatable`, as `resources.counted` counts); an init container that another asks about is told none.
    Raises ConfigValueError.
    """
    limits = dict(allocatable)
    pod_limits = (pod.spec.resources.limits if pod.spec.resources is not None else None) or {}
    for name in POD_LEVEL:
        amount = _counted(name, pod_limits.get(name, 0))
        if amount and name in limits:
            limits[name] = amount
    if not selector.container_name:
        return _resource(container, selector, limits)
    if _named(pod.spec.containers, selector.container_name) is None:
        limits = {}
    return _resource(_find(pod, selector.container_name), selector, limits)


def volume_resource(pod: Pod, selector: ResourceFieldSelector, allocatable: Mapping[str, int]) -> str:
    """The value of a downward API volume's `resourceFieldRef`, which names a container. Raises as above."""
    return _resource(_find(pod, selector.container_name), selector, allocatable)


def _resource(container: Container, selector: ResourceFieldSelector, limits: Mapping[str, int]) -> str:
    which, _, name = selector.resource.partition(".")
    if which not in ("limits", "requests") or not (name in DEFAULTED_LIMITS or name.startswith("hugepages-")):
        raise ConfigValueError(f"unsupported container resource : {selector.resource}")
    given = container.resources.limits if which == "limits" else container.resources.requests
    amount = _counted(name, (given or {}).get(name, 0))
    if which == "limits" and name in DEFAULTED_LIMITS:
        amount = amount or limits.get(name, 0)
    divisor = _counted(name, selector.divisor) or _counted(name, 1)
    return str(-(-amount // divisor))


def _counted(name: str, text: str | int) -> int:
    """An amount in thousandths of a core or whole pieces, rounded up, as the API's MilliValue and Value."""
    try:
        return counted(name, quantity(text))
    except ValueError as error:
        raise ConfigValueError(f"{name}: {error}") from error


def _find(pod: Pod, name: str) -> Container:
    found = _named(pod.spec.containers, name) or _named(pod.spec.init_containers, name)
    if found is None:
        raise ConfigValueError(f"container {name} not found")
    return found


def _named(containers: Iterable[Container] | None, name: str) -> Container | None:
    return next((container for container in containers or () if container.name == name), None)


def _lines(values: Mapping[str, str] | None) -> str:
    """`key="value"`, a line each, sorted."""
    return "\n".join(f"{key}={quoted(value)}" for key, value in sorted((values or {}).items()))
