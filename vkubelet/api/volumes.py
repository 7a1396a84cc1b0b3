"""A pod's volumes, as msgspec structs.

They exist apart because there are many kinds. They must know no behaviour beyond which kind one is. Every
field has the API's own name in snake case (see `objects`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from vkubelet.api.containers import IntOrString, ObjectFieldSelector, ResourceFieldSelector
from vkubelet.api.struct import Struct


class KeyToPath(Struct):
    """items[] of a config map, a secret or a projection of them. `mode` None: the volume's default."""

    key: str = ""
    path: str = ""
    mode: int | None = None
    user: int | None = None


class EmptyDirVolumeSource(Struct):
    """emptyDir."""

    medium: str = ""
    size_limit: IntOrString | None = None
    mode: int | None = None


class HostPathVolumeSource(Struct):
    """hostPath."""

    path: str = ""
    type: str = ""


class ConfigMapVolumeSource(Struct):
    """configMap."""

    name: str = ""
    items: list[KeyToPath] | None = None
    default_mode: int = 0o644
    default_user: int | None = None
    optional: bool = False


class SecretVolumeSource(Struct):
    """secret."""

    secret_name: str = ""
    items: list[KeyToPath] | None = None
    default_mode: int = 0o644
    default_user: int | None = None
    optional: bool = False


class DownwardAPIVolumeFile(Struct):
    """downwardAPI.items[]."""

    path: str = ""
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: int | None = None
    user: int | None = None


class DownwardAPIVolumeSource(Struct):
    """downwardAPI."""

    items: list[DownwardAPIVolumeFile] | None = None
    default_mode: int = 0o644
    default_user: int | None = None


class ConfigMapProjection(Struct):
    """projected.sources[].configMap."""

    name: str = ""
    items: list[KeyToPath] | None = None
    optional: bool = False


class SecretProjection(Struct):
    """projected.sources[].secret."""

    name: str = ""
    items: list[KeyToPath] | None = None
    optional: bool = False


class DownwardAPIProjection(Struct):
    """projected.sources[].downwardAPI."""

    items: list[DownwardAPIVolumeFile] | None = None


class ServiceAccountTokenProjection(Struct):
    """projected.sources[].serviceAccountToken; the API's default is an hour."""

    audience: str = ""
    expiration_seconds: int = 3600
    path: str = ""
    user: int | None = None


class LabelSelectorRequirement(Struct):
    """labelSelector.matchExpressions[]."""

    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class LabelSelector(Struct):
    """labelSelector."""

    match_labels: dict[str, str] | None = None
    match_expressions: list[LabelSelectorRequirement] | None = None


class ClusterTrustBundleProjection(Struct):
    """projected.sources[].clusterTrustBundle: one by name, or all of a signer that the labels select."""

    name: str | None = None
    signer_name: str | None = None
    label_selector: LabelSelector | None = None
    optional: bool = False
    path: str = ""
    user: int | None = None


class VolumeProjection(Struct):
    """projected.sources[]."""

    config_map: ConfigMapProjection | None = None
    secret: SecretProjection | None = None
    downward_api: DownwardAPIProjection | None = msgspec.field(name="downwardAPI", default=None)
    service_account_token: ServiceAccountTokenProjection | None = None
    cluster_trust_bundle: ClusterTrustBundleProjection | None = None
    pod_certificate: dict[str, Any] | None = None


class ProjectedVolumeSource(Struct):
    """projected."""

    sources: list[VolumeProjection] | None = None
    default_mode: int = 0o644
    default_user: int | None = None


class ImageVolumeSource(Struct):
    """image."""

    reference: str = ""
    pull_policy: str = ""


class PersistentVolumeClaimVolumeSource(Struct):
    """persistentVolumeClaim."""

    claim_name: str = ""
    read_only: bool = False


class EphemeralVolumeSource(Struct):
    """ephemeral: a claim `POD-VOLUME` that a controller makes from the template."""

    volume_claim_template: dict[str, Any] | None = None


class SecretReference(Struct):
    """nodePublishSecretRef and the like."""

    name: str = ""
    namespace: str = ""


class CSIVolumeSource(Struct):
    """csi: an inline ephemeral volume."""

    driver: str = ""
    read_only: bool = False
    fs_type: str = ""
    volume_attributes: dict[str, str] | None = None
    node_publish_secret_ref: SecretReference | None = None


class NFSVolumeSource(Struct):
    """nfs."""

    server: str = ""
    path: str = ""
    read_only: bool = False


class Volume(Struct):
    """spec.volumes[]: exactly one kind is set; kinds that no node of today serves are in `unknown_kind`."""

    name: str
    empty_dir: EmptyDirVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = msgspec.field(name="downwardAPI", default=None)
    projected: ProjectedVolumeSource | None = None
    image: ImageVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    ephemeral: EphemeralVolumeSource | None = None
    csi: CSIVolumeSource | None = None
    nfs: NFSVolumeSource | None = None
    aws_elastic_block_store: dict[str, Any] | None = None
    azure_disk: dict[str, Any] | None = None
    azure_file: dict[str, Any] | None = None
    cephfs: dict[str, Any] | None = None
    cinder: dict[str, Any] | None = None
    fc: dict[str, Any] | None = None
    flex_volume: dict[str, Any] | None = None
    flocker: dict[str, Any] | None = None
    gce_persistent_disk: dict[str, Any] | None = None
    git_repo: dict[str, Any] | None = None
    glusterfs: dict[str, Any] | None = None
    iscsi: dict[str, Any] | None = None
    photon_persistent_disk: dict[str, Any] | None = None
    portworx_volume: dict[str, Any] | None = None
    quobyte: dict[str, Any] | None = None
    rbd: dict[str, Any] | None = None
    scale_io: dict[str, Any] | None = msgspec.field(name="scaleIO", default=None)
    storageos: dict[str, Any] | None = None
    vsphere_volume: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        """The API's name of the field that is set: `emptyDir`, `hostPath`; empty when none is known here."""
        for name, kind in zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True):
            if name != "name" and getattr(self, name) is not None:
                return kind
        return ""
