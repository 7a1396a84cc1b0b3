"""Persistent volumes and claims, as msgspec structs: what pods get their storage from.

They exist apart because the node reads them by name, for its pods. They must know no behaviour. Every field
has the API's own name in snake case (see `objects`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from vkubelet.api.objects import ObjectMeta, ObjectReference
from vkubelet.api.struct import Struct
from vkubelet.api.volumes import HostPathVolumeSource, NFSVolumeSource, SecretReference


class PersistentVolumeClaimSpec(Struct):
    """spec of a claim."""

    volume_name: str = ""


class PersistentVolumeClaimStatus(Struct):
    """status of a claim."""

    phase: str = ""


class PersistentVolumeClaim(Struct):
    """A claim."""

    metadata: ObjectMeta
    spec: PersistentVolumeClaimSpec = msgspec.field(default_factory=PersistentVolumeClaimSpec)
    status: PersistentVolumeClaimStatus = msgspec.field(default_factory=PersistentVolumeClaimStatus)


class LocalVolumeSource(Struct):
    """local."""

    path: str = ""
    fs_type: str | None = None


class CSIPersistentVolumeSource(Struct):
    """csi of a volume of the cluster."""

    driver: str = ""
    volume_handle: str = ""
    fs_type: str = ""
    volume_attributes: dict[str, str] | None = None
    node_stage_secret_ref: SecretReference | None = None
    node_publish_secret_ref: SecretReference | None = None


class VolumeNodeAffinity(Struct):
    """nodeAffinity: `required` is a node selector."""

    required: dict[str, Any] | None = None


class PersistentVolumeSpec(Struct):
    """spec of a volume: exactly one kind is set; kinds that the node does not serve are not read."""

    access_modes: list[str] | None = None
    claim_ref: ObjectReference | None = None
    mount_options: list[str] | None = None
    volume_mode: str | None = None
    node_affinity: VolumeNodeAffinity | None = None
    host_path: HostPathVolumeSource | None = None
    local: LocalVolumeSource | None = None
    nfs: NFSVolumeSource | None = None
    csi: CSIPersistentVolumeSource | None = None


class PersistentVolume(Struct):
    """A volume of the cluster."""

    metadata: ObjectMeta
    spec: PersistentVolumeSpec = msgspec.field(default_factory=PersistentVolumeSpec)
