"""A driver's volume as a pod wants it, and what the driver is asked for then.

It exists as pure functions, to hold the kubelet's rules (pkg/volume/csi) of what a driver is told. It must
not know when a driver is asked, nor where it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from vkubelet.api.drivers import CSIDriverSpec
from vkubelet.api.objects import Pod
from vkubelet.api.storage import CSIPersistentVolumeSource, PersistentVolume
from vkubelet.api.volumes import CSIVolumeSource, SecretReference
from vkubelet.csi import protocol
from vkubelet.csi.protocol import (
    AccessMode,
    MountVolume,
    NodePublishVolumeRequest,
    NodeStageVolumeRequest,
    VolumeCapability,
)

EPHEMERAL: Literal["Ephemeral"] = "Ephemeral"
PERSISTENT: Literal["Persistent"] = "Persistent"

TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"

_MODES = {
    "ReadWriteOnce": protocol.SINGLE_NODE_WRITER,
    "ReadOnlyMany": protocol.MULTI_NODE_READER_ONLY,
    "ReadWriteMany": protocol.MULTI_NODE_MULTI_WRITER,
    "ReadWriteOncePod": protocol.SINGLE_NODE_WRITER,
}
_FINER_MODES = {
    **_MODES,
    "ReadWriteOnce": protocol.SINGLE_NODE_MULTI_WRITER_MODE,
    "ReadWriteOncePod": protocol.SINGLE_NODE_SINGLE_WRITER,
}
"""For drivers that tell one pod's volume from one node's."""

_UNCERTAIN = frozenset({"Canceled", "DeadlineExceeded", "Unavailable", "ResourceExhausted", "Aborted"})


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """One volume. `name` is that of its directory and messages: the pod's name for it, or the PV's.

    `outer_name` is the pod's name for it in either case.
    """

    driver: str
    handle: str
    name: str
    outer_name: str
    lifecycle: Literal["Ephemeral", "Persistent"]
    read_only: bool = False
    fs_type: str = ""
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    mount_options: Sequence[str] = ()
    access_modes: Sequence[str] = ()
    stage_secret: SecretReference | None = None
    publish_secret: SecretReference | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from other volumes of the node."""
        return self.driver, self.handle


def inline(pod: Pod, name: str, source: CSIVolumeSource) -> Wanted:
    """A volume that is made for the pod alone, and goes with it."""
    secret = source.node_publish_secret_ref
    if secret is not None:
        secret = SecretReference(name=secret.name, namespace=pod.metadata.namespace)
    return Wanted(
        driver=source.driver,
        handle=f"csi-{_digest(pod.metadata.uid, name)}",
        name=name,
        outer_name=name,
        lifecycle=EPHEMERAL,
        read_only=source.read_only,
        fs_type=source.fs_type,
        attributes=source.volume_attributes or {},
        publish_secret=secret,
    )


def persistent(volume: PersistentVolume, outer_name: str, *, read_only: bool) -> Wanted:
    """A volume of the cluster."""
    spec = volume.spec
    source = spec.csi or CSIPersistentVolumeSource()
    return Wanted(
        driver=source.driver,
        handle=source.volume_handle,
        name=volume.metadata.name,
        outer_name=outer_name,
        lifecycle=PERSISTENT,
        read_only=read_only,
        fs_type=source.fs_type,
        attributes=source.volume_attributes or {},
        mount_options=spec.mount_options or (),
        access_modes=spec.access_modes or (),
        stage_secret=source.node_stage_secret_ref,
        publish_secret=source.node_publish_secret_ref,
    )


def unique_name(driver: str, handle: str) -> str:
    """The volume's name in the node's status."""
    return f"kubernetes.io/csi/{driver}^{handle}"


def attachment_name(wanted: Wanted, node: str) -> str:
    """The name of the object that tells whether the volume is attached to the node."""
    return f"csi-{_digest(wanted.handle, wanted.driver, node)}"


def unsupported(wanted: Wanted, spec: CSIDriverSpec | None) -> str | None:
    """Why the driver must not be asked for such a volume; `spec` is None for one without an object."""
    if spec is None:
        if wanted.lifecycle == PERSISTENT:
            return None
        return (
            f'volume mode "{wanted.lifecycle}" not supported by driver {wanted.driver} (no CSIDriver object)'
        )
    modes = spec.volume_lifecycle_modes or [PERSISTENT]
    if wanted.lifecycle in modes:
        return None
    listed = " ".join(f'"{mode}"' for mode in modes)
    return (
        f'volume mode "{wanted.lifecycle}" not supported by driver {wanted.driver} (only supports [{listed}])'
    )


def gives_group(wanted: Wanted, policy: str, group: int | None) -> bool:
    """Whether the node is to give the volume's files to the pod's group."""
    if group is None or policy == "None" or wanted.read_only:
        return False
    if policy == "File":
        return True
    if not wanted.fs_type:
        return False
    return wanted.lifecycle == EPHEMERAL or bool(
        {"ReadWriteOnce", "ReadWriteOncePod"}.intersection(wanted.access_modes)
    )


def pod_info(pod: Pod, wanted: Wanted) -> dict[str, str]:
    """What a driver that asks for it is told of the pod."""
    return {
        "csi.storage.k8s.io/pod.name": pod.metadata.name,
        "csi.storage.k8s.io/pod.namespace": pod.metadata.namespace,
        "csi.storage.k8s.io/pod.uid": pod.metadata.uid,
        "csi.storage.k8s.io/serviceAccount.name": pod.spec.service_account_name,
        "csi.storage.k8s.io/ephemeral": "true" if wanted.lifecycle == EPHEMERAL else "false",
    }


def stage_request(
    wanted: Wanted,
    staging: Path,
    can: Collection[int],
    *,
    context: Mapping[str, str],
    secrets: Mapping[str, str],
    group: int | None,
) -> NodeStageVolumeRequest:
    """Make it ready at `staging`. `context` is what attaching it gave, `can` the driver's capabilities."""
    return NodeStageVolumeRequest(
        volume_id=wanted.handle,
        publish_context=dict(context),
        staging_target_path=str(staging),
        volume_capability=capability(wanted, can, group),
        secrets=dict(secrets),
        volume_context=dict(wanted.attributes),
    )


def publish_request(
    wanted: Wanted,
    target: Path,
    staging: Path | None,
    can: Collection[int],
    *,
    context: Mapping[str, str],
    attributes: Mapping[str, str],
    secrets: Mapping[str, str],
    group: int | None,
) -> NodePublishVolumeRequest:
    """Show it at `target`; `attributes` are told beside the volume's own."""
    return NodePublishVolumeRequest(
        volume_id=wanted.handle,
        publish_context=dict(context),
        staging_target_path=str(staging) if staging is not None else "",
        target_path=str(target),
        volume_capability=capability(wanted, can, group),
        readonly=wanted.read_only,
        secrets=dict(secrets),
        volume_context={**wanted.attributes, **attributes},
    )


def capability(wanted: Wanted, can: Collection[int], group: int | None) -> VolumeCapability:
    """How the volume is wanted; the group goes to drivers that apply it themselves."""
    modes = _FINER_MODES if protocol.SINGLE_NODE_MULTI_WRITER in can else _MODES
    mode = modes.get(
        wanted.access_modes[0] if wanted.access_modes else "ReadWriteOnce", protocol.UNKNOWN_MODE
    )
    told = str(group) if group is not None and protocol.VOLUME_MOUNT_GROUP in can else ""
    mount = MountVolume(
        fs_type=wanted.fs_type, mount_flags=list(wanted.mount_options), volume_mount_group=told
    )
    return VolumeCapability(mount=mount, access_mode=AccessMode(mode=mode))


def is_final(code: str) -> bool:
    """Whether a call that failed so is over for the driver too: by any other it may go on."""
    return code not in _UNCERTAIN


def _digest(*parts: str) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()
