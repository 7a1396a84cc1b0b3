"""What an API server checks of a pod's containers; pure.

It exists because a pod that never meets an API server must fail as clearly as one that does. The rules are
those of Kubernetes' pkg/apis/core/validation. It must not know how a container is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vkubelet.api.containers import (
    Container,
    ContainerPort,
    EnvVar,
    HTTPGetAction,
    LifecycleHandler,
    Probe,
    ResourceRequirements,
)
from vkubelet.api.objects import PodSpec
from vkubelet.api.volumes import Volume
from vkubelet.pods.manifests.problems import INT32, Problems
from vkubelet.pods.manifests.volume_rules import check_mounts
from vkubelet.pods.text import quantity

_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_RESOURCE_FIELDS = tuple(
    f"{kind}.{name}" for kind in ("limits", "requests") for name in ("cpu", "memory", "ephemeral-storage")
)
_NATIVE_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_ONLY_SIDECARS = "may not be set for init containers without restartPolicy=Always"


def check_containers(found: Problems, spec: PodSpec, volumes: Mapping[str, Volume]) -> None:
    """Check spec.containers and spec.initContainers."""
    names: set[str] = set()
    if not spec.containers:
        found.required("spec.containers")
    for index, container in enumerate(spec.containers or ()):
        at = f"spec.containers[{index}]"
        _check_common(found, container, volumes, at)
        if container.name in names:
            found.duplicate(f"{at}.name", container.name)
        names.add(container.name)
        _check_life(found, container, spec.termination_grace_period_seconds, at)
        _check_restart_policy(found, container, at)
    _check_host_ports(found, spec.containers or (), "spec.containers")
    for index, container in enumerate(spec.init_containers or ()):
        at = f"spec.initContainers[{index}]"
        _check_common(found, container, volumes, at)
        _check_restart_policy(found, container, at)
        if container.name in names:
            found.duplicate(f"{at}.name", container.name)
        names.add(container.name)
        _check_host_ports(found, [container], "spec.initContainers")
        if container.is_sidecar:
            _check_life(found, container, spec.termination_grace_period_seconds, at)
            continue
        for field, value in (
            ("lifecycle", container.lifecycle),
            ("livenessProbe", container.liveness_probe),
            ("readinessProbe", container.readiness_probe),
            ("startupProbe", container.startup_probe),
        ):
            if value is not None:
                found.forbidden(f"{at}.{field}", _ONLY_SIDECARS)
    if spec.ephemeral_containers:
        found.forbidden("spec.ephemeralContainers", "cannot be set on create")


def check_resources(found: Problems, resources: ResourceRequirements, at: str) -> None:
    """Check requests and limits: their names, that they are amounts, and that the former fit the latter."""
    limits, requests = resources.limits or {}, resources.requests or {}
    amounts = {}
    for field, given in (("limits", limits), ("requests", requests)):
        for name, amount in given.items():
            where = f"{at}.{field}[{name}]"
            _check_resource_name(found, name, where)
            if found.amount(where, amount):
                amounts[field, name] = quantity(amount)
    for name, amount in requests.items():
        limit, request = amounts.get(("limits", name)), amounts.get(("requests", name))
        overcommitted = name in _NATIVE_RESOURCES
        if name not in limits:
            if not overcommitted:
                text = "Limit must be set for non overcommitable resources"
                found.required(f"{at}.limits", text)
        elif limit is not None and request is not None:
            if request != limit and not overcommitted:
                text = f"must be equal to {name} limit of {limits[name]}"
                found.invalid(f"{at}.requests", str(amount), text)
            elif request > limit:
                text = f"must be less than or equal to {name} limit of {limits[name]}"
                found.invalid(f"{at}.requests", str(amount), text)


def _check_resource_name(found: Problems, name: str, where: str) -> None:
    before = len(found.found)
    found.qualified(where, name)
    if len(found.found) > before or "/" in name:
        return
    if name not in _NATIVE_RESOURCES and not name.startswith("hugepages-"):
        found.invalid(where, name, "must be a standard resource for containers")


def _check_common(found: Problems, container: Container, volumes: Mapping[str, Volume], at: str) -> None:
    if not container.name:
        found.required(f"{at}.name")
    else:
        found.label(f"{at}.name", container.name)
    if not container.image:
        found.required(f"{at}.image")
    elif container.image != container.image.strip():
        found.invalid(f"{at}.image", container.image, "must not have leading or trailing whitespace")
    policies = ("File", "FallbackToLogsOnError")
    found.word(f"{at}.terminationMessagePolicy", container.termination_message_policy, policies)
    _check_ports(found, container.ports or (), f"{at}.ports")
    for index, variable in enumerate(container.env or ()):
        _check_variable(found, variable, f"{at}.env[{index}]")
    for index, source in enumerate(container.env_from or ()):
        found.variable(f"{at}.envFrom[{index}].prefix", source.prefix)
        kinds = (("configMapRef", source.config_map_ref), ("secretRef", source.secret_ref))
        given = [(field, value) for field, value in kinds if value is not None]
        for field, value in given:
            if not value.name:
                found.required(f"{at}.envFrom[{index}].{field}.name")
        if not given:
            found.invalid(f"{at}.envFrom", "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(given) > 1:
            found.invalid(f"{at}.envFrom", "", "may not have more than one field specified at a time")
    check_mounts(found, container, volumes, at)
    found.word(f"{at}.imagePullPolicy", container.image_pull_policy, ("Always", "IfNotPresent", "Never"))
    check_resources(found, container.resources, f"{at}.resources")
    context = container.security_context
    if context is not None:
        for field, number in (("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)):
            check_id(found, number, f"{at}.securityContext.{field}")


def check_id(found: Problems, number: int | None, path: str) -> None:
    """Check the number of a user or of a group."""
    if number is not None and not 0 <= number <= INT32:
        found.invalid(path, number, f"must be between 0 and {INT32}, inclusive")


def _check_ports(found: Problems, ports: Iterable[ContainerPort], path: str) -> None:
    names: set[str] = set()
    for index, port in enumerate(ports):
        at = f"{path}[{index}]"
        if port.name:
            before = len(found.found)
            found.port(f"{at}.name", port.name)
            if len(found.found) == before and port.name in names:
                found.duplicate(f"{at}.name", port.name)
            names.add(port.name)
        if port.container_port == 0:
            found.required(f"{at}.containerPort")
        else:
            found.port(f"{at}.containerPort", port.container_port)
        if port.host_port != 0:
            found.port(f"{at}.hostPort", port.host_port)
        found.word(f"{at}.protocol", port.protocol, ("SCTP", "TCP", "UDP"))


def _check_host_ports(found: Problems, containers: Iterable[Container], path: str) -> None:
    taken: set[str] = set()
    for number, container in enumerate(containers):
        for index, port in enumerate(container.ports or ()):
            key = f"{port.protocol}/{port.host_ip}/{port.host_port}"
            if port.host_port and key in taken:
                found.duplicate(f"{path}[{number}].ports[{index}].hostPort", key)
            taken.add(key)


def _check_variable(found: Problems, variable: EnvVar, at: str) -> None:
    if not variable.name:
        found.required(f"{at}.name")
    found.variable(f"{at}.name", variable.name)
    source = variable.value_from
    if source is None:
        return
    at += ".valueFrom"
    given = [field for field in source.__struct_fields__ if getattr(source, field) is not None]
    if not given:
        choices = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        found.invalid(at, "", f"must specify one of: {choices}")
    elif variable.value:
        found.invalid(at, "", "may not be specified when `value` is not empty")
    elif len(given) > 1:
        found.invalid(at, "", "may not have more than one field specified at a time")
    if source.field_ref is not None:
        path = source.field_ref.field_path
        if not path:
            found.required(f"{at}.fieldRef.fieldPath")
        elif path not in _FIELDS and not path.startswith(("metadata.labels['", "metadata.annotations['")):
            found.invalid(f"{at}.fieldRef.fieldPath", path, "error converting fieldPath: not supported")
    resource = source.resource_field_ref
    if resource is not None:
        if not resource.resource:
            found.required(f"{at}.resourceFieldRef.resource")
        elif "hugepages-" not in resource.resource:
            found.word(f"{at}.resourceFieldRef.resource", resource.resource, _RESOURCE_FIELDS)
    for field, selector in (
        ("configMapKeyRef", source.config_map_key_ref),
        ("secretKeyRef", source.secret_key_ref),
    ):
        if selector is not None:
            found.subdomain(f"{at}.{field}.name", selector.name)
            if not selector.key:
                found.required(f"{at}.{field}.key")
            else:
                found.key(f"{at}.{field}.key", selector.key)
    file = source.file_key_ref
    if file is not None:
        for field, value in (("key", file.key), ("volumeName", file.volume_name), ("path", file.path)):
            if not value:
                found.required(f"{at}.fileKeyRef.{field}")
        found.descending(f"{at}.fileKeyRef.path", file.path)


def _check_life(found: Problems, container: Container, grace: int | None, at: str) -> None:
    """What follows a container that runs: hooks and probes."""
    if container.lifecycle is not None:
        for field, hook in (
            ("postStart", container.lifecycle.post_start),
            ("preStop", container.lifecycle.pre_stop),
        ):
            if hook is not None:
                _check_handler(found, hook, grace, f"{at}.lifecycle.{field}")
    for field, probe in (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    ):
        if probe is not None:
            _check_probe(found, probe, f"{at}.{field}", readiness=field == "readinessProbe")


def _check_probe(found: Problems, probe: Probe, at: str, *, readiness: bool) -> None:
    _check_handler(found, probe, None, at)
    for field, number in (
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        found.not_negative(f"{at}.{field}", number)
    grace = probe.termination_grace_period_seconds
    if grace is not None and grace <= 0:
        found.invalid(f"{at}.terminationGracePeriodSeconds", grace, "must be greater than 0")
    if readiness and grace is not None:
        found.invalid(f"{at}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes")
    if not readiness and probe.success_threshold != 1:
        found.invalid(f"{at}.successThreshold", probe.success_threshold, "must be 1")


def _check_handler(found: Problems, handler: Probe | LifecycleHandler, grace: int | None, at: str) -> None:
    grpc = handler.grpc if isinstance(handler, Probe) else None
    sleep = handler.sleep if isinstance(handler, LifecycleHandler) else None
    given = [
        field
        for field, value in (
            ("exec", handler.exec),
            ("httpGet", handler.http_get),
            ("tcpSocket", handler.tcp_socket),
            ("grpc", grpc),
            ("sleep", sleep),
        )
        if value is not None
    ]
    if not given:
        found.required(at, "must specify a handler type")
    for extra in given[1:]:
        found.forbidden(f"{at}.{extra}", "may not specify more than 1 handler type")
    if given[:1] == ["exec"] and handler.exec is not None and not handler.exec.command:
        found.required(f"{at}.exec.command")
    if given[:1] == ["httpGet"] and handler.http_get is not None:
        _check_http(found, handler.http_get, f"{at}.httpGet")
    if given[:1] == ["tcpSocket"] and handler.tcp_socket is not None:
        found.port(f"{at}.tcpSocket.port", handler.tcp_socket.port)
    if given[:1] == ["grpc"] and grpc is not None:
        found.port(f"{at}.grpc.port", grpc.port)
    if given[:1] == ["sleep"] and sleep is not None and grace is not None and not 0 <= sleep.seconds <= grace:
        text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        found.invalid(f"{at}.sleep", sleep.seconds, text)


def _check_http(found: Problems, action: HTTPGetAction, at: str) -> None:
    if not action.path:
        found.required(f"{at}.path")
    found.port(f"{at}.port", action.port)
    found.word(f"{at}.scheme", action.scheme, ("HTTP", "HTTPS"))
    for header in action.http_headers or ():
        found.header(f"{at}.httpHeaders", header.name)


def _check_restart_policy(found: Problems, container: Container, at: str) -> None:
    rules = container.restart_policy_rules or ()
    if container.restart_policy is None:
        if rules:
            found.required(f"{at}.restartPolicy", "must specify restartPolicy when restart rules are used")
    else:
        found.word(f"{at}.restartPolicy", container.restart_policy, _RESTART_POLICIES)
    if len(rules) > 20:
        found.invalid(f"{at}.restartPolicyRules", len(rules), "must have at most 20 items")
    for index, rule in enumerate(rules):
        where = f"{at}.restartPolicyRules[{index}]"
        found.word(f"{where}.action", rule.action, ("Restart", "RestartAllContainers"))
        if rule.exit_codes is None:
            found.required(f"{where}.exitCodes", "must be specified")
        else:
            found.word(f"{where}.exitCodes.operator", rule.exit_codes.operator, ("In", "NotIn"))
            if len(rule.exit_codes.values or ()) > 255:
                text = "must have at most 255 items"
                found.invalid(f"{where}.exitCodes.values", len(rule.exit_codes.values or ()), text)
