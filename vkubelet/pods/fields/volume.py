"""The fields of volumes.

It exists as data. It must not know how a volume is made.
"""

from __future__ import annotations

from vkubelet.api.volumes import Volume
from vkubelet.pods.fields.base import Field, Fields, applied, refused, works

TOKEN_VOLUME_PREFIX = "kube-api-access-"  # noqa: S105  a volume's name
"""The mount that the ServiceAccount admission plugin adds to every pod on its own accord."""

_NO_DRIVER = "this kind's driver is none of this node's; use a persistentVolumeClaim of a CSI driver"


def _not_yet(kind: str) -> Field:
    return refused(f"{kind} volumes are not supported")


VOLUME: Fields = {
    "awsElasticBlockStore": refused(_NO_DRIVER),
    "azureDisk": refused(_NO_DRIVER),
    "azureFile": refused(_NO_DRIVER),
    "cephfs": refused(_NO_DRIVER),
    "cinder": refused(_NO_DRIVER),
    "configMap": _not_yet("configMap"),
    "csi": _not_yet("csi"),
    "downwardAPI": _not_yet("downwardAPI"),
    "emptyDir": works(),
    "ephemeral": _not_yet("ephemeral"),
    "fc": refused(_NO_DRIVER),
    "flexVolume": refused(_NO_DRIVER),
    "flocker": refused(_NO_DRIVER),
    "gcePersistentDisk": refused(_NO_DRIVER),
    "gitRepo": refused("no kubelet clones repositories any more; use an init container and an emptyDir"),
    "glusterfs": refused(_NO_DRIVER),
    "hostPath": works(),
    "image": _not_yet("image"),
    "iscsi": refused(_NO_DRIVER),
    "name": works(),
    "nfs": _not_yet("nfs"),
    "persistentVolumeClaim": _not_yet("persistentVolumeClaim"),
    "photonPersistentDisk": refused(_NO_DRIVER),
    "portworxVolume": refused(_NO_DRIVER),
    "projected": _not_yet("projected"),
    "quobyte": refused(_NO_DRIVER),
    "rbd": refused(_NO_DRIVER),
    "scaleIO": refused(_NO_DRIVER),
    "secret": _not_yet("secret"),
    "storageos": refused(_NO_DRIVER),
    "vsphereVolume": refused(_NO_DRIVER),
}


def is_token(volume: Volume) -> bool:
    """Whether it is the automatic service account volume, which is accepted and not mounted."""
    return volume.name.startswith(TOKEN_VOLUME_PREFIX) and volume.projected is not None


TABLES: dict[str, Fields] = {
    "Volume": VOLUME,
    "EmptyDirVolumeSource": {
        "medium": applied("Memory is a tmpfs where the node may mount one"),
        "mode": applied("alpha: the directory is world-writable, as without it"),
        "sizeLimit": works("its excess evicts the pod; a tmpfs has no more in the first place"),
    },
    "HostPathVolumeSource": {"path": works(), "type": works()},
}
