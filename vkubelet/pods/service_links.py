"""Services as environment variables, as a kubelet makes them (pkg/kubelet/envvars); pure.

It must not know how services are found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vkubelet.api.configuration import Service

MASTER_NAMESPACE = "default"
MASTER_SERVICE = "kubernetes"
"""The API server's own service: every container is told of it."""


def linked(own: Iterable[Service], default: Iterable[Service], *, all_own: bool) -> list[Service]:
    """The services that a pod's containers are told of.

    `own` are those of the pod's namespace, `default` those of the default namespace; `all_own` is
    enableServiceLinks. A service of the master's name in the pod's own namespace stands before it.
    """
    masters = (service for service in default if service.metadata.name == MASTER_SERVICE)
    found = {service.metadata.name: service for service in (*masters, *(own if all_own else ()))}
    return list(found.values())


def variables(services: Iterable[Service]) -> dict[str, str]:
    """The variables of all these services, which have an address each."""
    return dict(pair for service in services for pair in _of(service))


def _of(service: Service) -> Iterator[tuple[str, str]]:
    name, address = _upper(service.metadata.name), service.spec.cluster_ip
    ports = service.spec.ports or []
    yield f"{name}_SERVICE_HOST", address
    if ports:
        yield f"{name}_SERVICE_PORT", str(ports[0].port)
    for port in ports:
        if port.name:
            yield f"{name}_SERVICE_PORT_{_upper(port.name)}", str(port.port)
    host = f"[{address}]" if ":" in address else address
    for number, port in enumerate(ports):
        protocol = port.protocol or "TCP"
        link = f"{protocol.lower()}://{host}:{port.port}"
        prefix = f"{name}_PORT_{port.port}_{protocol.upper()}"
        if number == 0:
            yield f"{name}_PORT", link
        yield prefix, link
        yield f"{prefix}_PROTO", protocol.lower()
        yield f"{prefix}_PORT", str(port.port)
        yield f"{prefix}_ADDR", address


def _upper(name: str) -> str:
    return name.replace("-", "_").upper()
