"""The fields of volumes.

It exists as data. It must not know how a volume is made.
"""

from __future__ import annotations

from vkubelet.pods.fields.base import Fields, Where, applied, refused, works

_NO_DRIVER = "this node has no driver of this kind; use a persistentVolumeClaim of a kind that it mounts"


VOLUME: Fields = {
    "awsElasticBlockStore": refused(_NO_DRIVER),
    "azureDisk": refused(_NO_DRIVER),
    "azureFile": refused(_NO_DRIVER),
    "cephfs": refused(_NO_DRIVER),
    "cinder": refused(_NO_DRIVER),
    "configMap": works(),
    "csi": works("of a driver that has registered with this node"),
    "downwardAPI": works(),
    "emptyDir": works(),
    "ephemeral": works(),
    "fc": refused(_NO_DRIVER),
    "flexVolume": refused(_NO_DRIVER),
    "flocker": refused(_NO_DRIVER),
    "gcePersistentDisk": refused(_NO_DRIVER),
    "gitRepo": refused("no kubelet clones repositories any more; use an init container and an emptyDir"),
    "glusterfs": refused(_NO_DRIVER),
    "hostPath": works(),
    "image": applied(
        "files of an image, or an artifact's module; an image that runs anything must be for wasm"
    ),
    "iscsi": refused(_NO_DRIVER),
    "name": works(),
    "nfs": applied("by the machine's mount program, where the node may mount"),
    "persistentVolumeClaim": works(),
    "photonPersistentDisk": refused(_NO_DRIVER),
    "portworxVolume": refused(_NO_DRIVER),
    "projected": works(),
    "quobyte": refused(_NO_DRIVER),
    "rbd": refused(_NO_DRIVER),
    "scaleIO": refused(_NO_DRIVER),
    "secret": works(),
    "storageos": refused(_NO_DRIVER),
    "vsphereVolume": refused(_NO_DRIVER),
}


def _medium(value: str, _where: Where) -> str | None:
    if value.startswith("HugePages"):
        return f'{value}: a wasm guest\'s memory is its own, it cannot use huge pages; use "" or Memory'
    return None


_OWNERS = "alpha; a node that is not root's has one user for all files"


TABLES: dict[str, Fields] = {
    "Volume": VOLUME,
    "EmptyDirVolumeSource": {
        "medium": applied("Memory is a tmpfs where the node may mount one", but=_medium),
        "mode": works("alpha"),
        "sizeLimit": works("its excess evicts the pod; a tmpfs has no more in the first place"),
    },
    "HostPathVolumeSource": {
        "path": applied(
            "directories and regular files can be mounted, sockets, pipes and devices cannot; what a guest "
            "writes to a single file of another file system than the run directory's stays in a copy"
        ),
        "type": works(),
    },
    "ImageVolumeSource": {"pullPolicy": works(), "reference": works()},
    "CSIVolumeSource": {
        "driver": works(),
        "fsType": works(),
        "nodePublishSecretRef": works(),
        "readOnly": works(),
        "volumeAttributes": works(),
    },
    "NFSVolumeSource": {"path": works(), "readOnly": works(), "server": works()},
    "PersistentVolumeClaimVolumeSource": {
        "claimName": works("of a local, hostPath, nfs or csi volume; volumeMode Block cannot be mounted"),
        "readOnly": works(),
    },
    "EphemeralVolumeSource": {"volumeClaimTemplate": works("a controller makes the claim")},
    "ConfigMapVolumeSource": {
        "defaultMode": works(),
        "defaultUser": applied(_OWNERS),
        "items": works(),
        "name": works(),
        "optional": works(),
    },
    "SecretVolumeSource": {
        "defaultMode": works("narrowed to the owner's where the node can mount no tmpfs"),
        "defaultUser": applied(_OWNERS),
        "items": works(),
        "optional": works(),
        "secretName": works(),
    },
    "DownwardAPIVolumeSource": {"defaultMode": works(), "defaultUser": applied(_OWNERS), "items": works()},
    "DownwardAPIVolumeFile": {
        "fieldRef": works(),
        "mode": works(),
        "path": works(),
        "resourceFieldRef": works(),
        "user": applied(_OWNERS),
    },
    "KeyToPath": {"key": works(), "mode": works(), "path": works(), "user": applied(_OWNERS)},
    "ProjectedVolumeSource": {"defaultMode": works(), "defaultUser": applied(_OWNERS), "sources": works()},
    "VolumeProjection": {
        "clusterTrustBundle": works(),
        "configMap": works(),
        "downwardAPI": works(),
        "podCertificate": refused("this node asks for no certificates in the name of pods; mount a secret"),
        "secret": works(),
        "serviceAccountToken": works(),
    },
    "ConfigMapProjection": {"items": works(), "name": works(), "optional": works()},
    "SecretProjection": {"items": works(), "name": works(), "optional": works()},
    "DownwardAPIProjection": {"items": works()},
    "ServiceAccountTokenProjection": {
        "audience": works(),
        "expirationSeconds": works(),
        "path": works(),
        "user": applied(_OWNERS),
    },
    "ClusterTrustBundleProjection": {
        "labelSelector": works(),
        "name": works(),
        "optional": works(),
        "path": works(),
        "signerName": works(),
        "user": applied(_OWNERS),
    },
}
