"""What an API server checks of a pod that is to be made; pure.

It exists because a pod that never meets an API server must fail as clearly as one that does, and because a
static pod's mirror would be refused by the one that it meets. The rules are those of Kubernetes'
ValidatePodCreate, for the fields that this node reads. It must not know whether the node can run the pod.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from vkubelet.api.objects import ObjectMeta, Pod, PodSpec, Toleration
from vkubelet.pods.manifests.container_rules import check_containers, check_id, check_resources
from vkubelet.pods.manifests.problems import INT32, Problems
from vkubelet.pods.manifests.volume_rules import check_volumes

_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_LONGEST_ANNOTATIONS = 256 * 1024


def problems(pod: Pod) -> list[str]:
    """All that is wrong with a pod whose defaults have been filled in, by field."""
    found = Problems()
    _check_metadata(found, pod.metadata)
    _check_spec(found, pod.spec)
    return found.found


def _check_metadata(found: Problems, meta: ObjectMeta) -> None:
    if not meta.name:
        found.required("metadata.name", "name or generateName is required")
    else:
        found.subdomain("metadata.name", meta.name)
    if not meta.namespace:
        found.required("metadata.namespace")
    else:
        found.label("metadata.namespace", meta.namespace)
    for key, value in (meta.labels or {}).items():
        found.qualified("metadata.labels", key)
        found.label_value("metadata.labels", value)
    size = 0
    for key, value in (meta.annotations or {}).items():
        found.qualified("metadata.annotations", key.lower())
        size += len(key) + len(value)
    if size > _LONGEST_ANNOTATIONS:
        found.forbidden("metadata.annotations", f"may not be more than {_LONGEST_ANNOTATIONS} bytes")


def _check_spec(found: Problems, spec: PodSpec) -> None:
    volumes = check_volumes(found, spec.volumes or (), "spec.volumes")
    check_containers(found, spec, volumes)
    if spec.resources is not None:
        check_resources(found, spec.resources, "spec.resources")
    _check_host_network(found, spec)
    found.word("spec.restartPolicy", spec.restart_policy, ("Always", "Never", "OnFailure"))
    found.word("spec.dnsPolicy", spec.dns_policy, _DNS_POLICIES)
    _check_dns(found, spec)
    for key, value in (spec.node_selector or {}).items():
        found.qualified("spec.nodeSelector", key)
        found.label_value("spec.nodeSelector", value)
    _check_security(found, spec)
    for index, gate in enumerate(spec.readiness_gates or ()):
        found.qualified(f"spec.readinessGates[{index}].conditionType", gate.condition_type)
    for field, name in (
        ("serviceAccountName", spec.service_account_name),
        ("nodeName", spec.node_name),
        ("priorityClassName", spec.priority_class_name),
        ("runtimeClassName", spec.runtime_class_name),
    ):
        if name:
            found.subdomain(f"spec.{field}", name)
    deadline = spec.active_deadline_seconds
    if deadline is not None and not 1 <= deadline <= INT32:
        found.invalid("spec.activeDeadlineSeconds", deadline, f"must be between 1 and {INT32}, inclusive")
    for field, name in (("hostname", spec.hostname), ("subdomain", spec.subdomain)):
        if name:
            found.label(f"spec.{field}", name)
    _check_hostname(found, spec)
    for index, toleration in enumerate(spec.tolerations or ()):
        _check_toleration(found, toleration, f"spec.tolerations[{index}]")
    for index, alias in enumerate(spec.host_aliases or ()):
        at = f"spec.hostAliases[{index}]"
        _check_addresses(found, [(f"{at}.ip", alias.ip)])
        for number, name in enumerate(alias.hostnames or ()):
            found.subdomain(f"{at}.hostnames[{number}]", name)


def _check_host_network(found: Problems, spec: PodSpec) -> None:
    if not spec.host_network:
        return
    for number, container in enumerate(spec.containers or ()):
        for index, port in enumerate(container.ports or ()):
            if port.host_port != port.container_port:
                text = "must match `containerPort` when `hostNetwork` is true"
                found.invalid(f"spec.containers[{number}].ports[{index}].hostPort", port.host_port, text)


def _check_dns(found: Problems, spec: PodSpec) -> None:
    config = spec.dns_config
    if spec.dns_policy == "None" and config is None:
        found.required("spec.dnsConfig", "must provide `dnsConfig` when `dnsPolicy` is None")
    if config is None:
        return
    servers = config.nameservers or []
    if spec.dns_policy == "None" and not servers:
        text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        found.required("spec.dnsConfig.nameservers", text)
    if len(servers) > 3:
        found.invalid("spec.dnsConfig.nameservers", servers, "must not have more than 3 nameservers")
    _check_addresses(
        found, ((f"spec.dnsConfig.nameservers[{index}]", text) for index, text in enumerate(servers))
    )
    for index, option in enumerate(config.options or ()):
        if not option.name:
            found.required(f"spec.dnsConfig.options[{index}]", "must not be empty")


def _check_security(found: Problems, spec: PodSpec) -> None:
    if spec.share_process_namespace and spec.host_pid:
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        found.invalid("spec.shareProcessNamespace", True, text)
    context = spec.security_context
    if context is None:
        return
    path = "spec.securityContext"
    check_id(found, context.fs_group, f"{path}.fsGroup")
    check_id(found, context.run_as_user, f"{path}.runAsUser")
    check_id(found, context.run_as_group, f"{path}.runAsGroup")
    for index, group in enumerate(context.supplemental_groups or ()):
        check_id(found, group, f"{path}.supplementalGroups[{index}]")
    if context.fs_group_change_policy is not None:
        choices = ("Always", "OnRootMismatch")
        found.word(f"{path}.fsGroupChangePolicy", context.fs_group_change_policy, choices)
    if context.supplemental_groups_policy is not None:
        found.word(
            f"{path}.supplementalGroupsPolicy", context.supplemental_groups_policy, ("Merge", "Strict")
        )


def _check_hostname(found: Problems, spec: PodSpec) -> None:
    name = spec.hostname_override
    if name is None:
        return
    for flag, field in ((spec.set_hostname_as_fqdn, "setHostnameAsFQDN"), (spec.host_network, "hostNetwork")):
        if flag:
            found.forbidden("spec.hostnameOverride", f"may not be specified when {field} is true")
    if len(name) > 64:
        found.invalid("spec.hostnameOverride", name, "may not be more than 64 bytes")
    found.subdomain("spec.hostnameOverride", name)


def _check_toleration(found: Problems, toleration: Toleration, at: str) -> None:
    if toleration.key:
        found.qualified(f"{at}.key", toleration.key)
    elif toleration.operator != "Exists":
        text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        found.invalid(f"{at}.operator", toleration.operator, text)
    if toleration.toleration_seconds is not None and toleration.effect != "NoExecute":
        text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        found.invalid(f"{at}.effect", toleration.effect, text)
    if toleration.operator in ("", "Equal"):
        found.label_value(f"{at}.operator", toleration.value)
    elif toleration.operator == "Exists":
        if toleration.value:
            found.invalid(
                f"{at}.operator", toleration.value, "value must be empty when `operator` is 'Exists'"
            )
    elif toleration.operator not in ("Lt", "Gt"):
        found.unsupported(f"{at}.operator", toleration.operator, ("Equal", "Exists"))
    if toleration.effect:
        found.word(f"{at}.effect", toleration.effect, ("NoExecute", "NoSchedule", "PreferNoSchedule"))


def _check_addresses(found: Problems, addresses: Iterable[tuple[str, str]]) -> None:
    for path, text in addresses:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            found.invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
