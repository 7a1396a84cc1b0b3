"""Config maps, secrets and services, as msgspec structs: what pods get their configuration from.

They exist apart because the node reads them by name, for its pods. They must know no behaviour. Every field
has the API's own name in snake case (see `objects`); what the API writes in base64 is bytes here. No secret's
content is in a `repr`, so that none comes into a log or an error by it.
"""

from __future__ import annotations

import msgspec

from vkubelet.api.objects import ObjectMeta
from vkubelet.api.struct import Struct


class ConfigMap(Struct):
    """A config map. `data` and `binary_data` have no key in common: the API sees to it."""

    metadata: ObjectMeta
    data: dict[str, str] | None = None
    binary_data: dict[str, bytes] | None = None
    immutable: bool = False

    def __repr__(self) -> str:
        """The object's name only: an error that shows a config map need not show all of it."""
        return f"ConfigMap({self.metadata.namespace}/{self.metadata.name})"


class Secret(Struct):
    """A secret."""

    metadata: ObjectMeta
    data: dict[str, bytes] | None = None
    type: str = ""
    immutable: bool = False

    def __repr__(self) -> str:
        """The object's name only."""
        return f"Secret({self.metadata.namespace}/{self.metadata.name})"


class ServiceMeta(Struct):
    """metadata of a service. A cluster has many of them: what nobody reads is not kept."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class ServicePort(Struct):
    """spec.ports[] of a service."""

    name: str = ""
    protocol: str = "TCP"
    port: int = 0


class ServiceSpec(Struct):
    """spec of a service. `cluster_ip` is `None`, as a word, for a headless one."""

    type: str = ""
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    ports: list[ServicePort] | None = None


class Service(Struct):
    """A service: the part of it that containers are told by environment variables."""

    metadata: ServiceMeta
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
