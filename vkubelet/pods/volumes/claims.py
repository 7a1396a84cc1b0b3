"""From a pod's claim to the cluster's volume that is bound to it.

It exists to hold the checks that a kubelet makes on that way, with its texts. It must not know how a volume
is mounted.
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import msgspec

from vkubelet.api.asking import patiently
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.objects import Pod
from vkubelet.api.storage import PersistentVolume, PersistentVolumeClaim
from vkubelet.api.volumes import Volume
from vkubelet.pods.affinity import selected
from vkubelet.pods.allocations import NodeSource
from vkubelet.pods.volumes.errors import UNPROCESSED, SetUpError

_PROTECTION = "kubernetes.io/pvc-protection"
_GROUP = "pv.beta.kubernetes.io/gid"

T = TypeVar("T", PersistentVolume, PersistentVolumeClaim)


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """A volume of the cluster as a pod may have it. `group` is one more that its processes belong to."""

    volume: PersistentVolume
    read_only: bool
    group: int | None

    @property
    def name(self) -> str:
        """The volume's own name."""
        return self.volume.metadata.name


class Claims:
    """One for the node."""

    def __init__(self, client: ApiClient | None, node: NodeSource) -> None:
        """Without a client there are no claims."""
        self._client = client
        self._node = node

    async def resolve(self, pod: Pod, volume: Volume) -> Bound:
        """The volume behind the pod's claim. Raises SetUpError with the kubelet's text."""
        source = volume.persistent_volume_claim
        if source is not None:
            claim_name, read_only = source.claim_name, source.read_only
        else:
            claim_name, read_only = f"{pod.metadata.name}-{volume.name}", False
        try:
            claim = await self._claim(pod.metadata.namespace, claim_name)
            if source is None:
                _check_owner(pod, claim)
            found = await self._volume(claim)
        except _ClaimError as error:
            raise SetUpError(
                f"error processing PVC {pod.metadata.namespace}/{claim_name}: {error}", step=UNPROCESSED
            ) from error
        _check_mode(pod, volume, found)
        self._check_node(found)
        return Bound(found, read_only, _group(pod, found))

    async def _claim(self, namespace: str, name: str) -> PersistentVolumeClaim:
        claim = await self._get(
            f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}",
            PersistentVolumeClaim,
            "failed to fetch PVC from API server",
        )
        if claim.metadata.deletion_timestamp and _PROTECTION not in (claim.metadata.finalizers or ()):
            raise _ClaimError("PVC is being deleted")
        if claim.status.phase != "Bound":
            raise _ClaimError("PVC is not bound")
        if not claim.spec.volume_name:
            raise _ClaimError("PVC has empty pvc.Spec.VolumeName")
        return claim

    async def _volume(self, claim: PersistentVolumeClaim) -> PersistentVolume:
        name = claim.spec.volume_name
        what = f"failed to fetch PV {name} from API server"
        found = await self._get(f"/api/v1/persistentvolumes/{name}", PersistentVolume, what)
        if found.spec.claim_ref is None:
            raise _ClaimError(
                f"found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to "
                "the claim"
            )
        if found.spec.claim_ref.uid != claim.metadata.uid:
            raise _ClaimError(
                f"found PV object {name} but its pv.Spec.ClaimRef.UID {found.spec.claim_ref.uid} does not "
                f"point to claim.UID {claim.metadata.uid}"
            )
        return found

    async def _get(self, path: str, kind: type[T], what: str) -> T:
        client = self._client
        if client is None:
            raise _ClaimError(f"{what}: this node runs without an API server")
        try:
            return msgspec.json.decode(await patiently(lambda: client.get(path)), type=kind)
        except ApiError as error:
            raise _ClaimError(f"{what}: {error.message}") from error
        except (ApiUnavailableError, msgspec.DecodeError) as error:
            raise _ClaimError(f"{what}: {error}") from error

    def _check_node(self, found: PersistentVolume) -> None:
        affinity = found.spec.node_affinity
        if affinity is None or affinity.required is None:
            return
        node = self._node.view()
        if not selected(affinity.required, node.name, node.labels):
            raise SetUpError(
                "no matching NodeSelectorTerms",
                step="MountVolume.NodeAffinity check failed",
                name=found.metadata.name,
            )


class _ClaimError(Exception):
    """A claim that cannot be followed; the text is the cause."""


def _check_owner(pod: Pod, claim: PersistentVolumeClaim) -> None:
    """A claim that happens to have the name of an ephemeral volume's is not the pod's."""
    owners = claim.metadata.owner_references or ()
    if not any(owner.uid == pod.metadata.uid and owner.controller for owner in owners):
        meta = claim.metadata
        raise SetUpError(
            f"PVC {meta.namespace}/{meta.name} was not created for pod {pod.key} (pod is not owner)",
            step=UNPROCESSED,
        )


def _check_mode(pod: Pod, volume: Volume, found: PersistentVolume) -> None:
    mode = found.spec.volume_mode or "Filesystem"
    mounted = any(
        mount.name == volume.name
        for container in pod.spec.all_containers()
        for mount in container.volume_mounts or ()
    )
    if mounted and mode != "Filesystem":
        raise SetUpError(
            f"volume {volume.name} has volumeMode {mode}, but is specified in volumeMounts", step=UNPROCESSED
        )


def _group(pod: Pod, found: PersistentVolume) -> int | None:
    """The group that the volume's annotation adds to the pod's processes."""
    text = (found.metadata.annotations or {}).get(_GROUP, "")
    context = pod.spec.security_context
    present = (context.supplemental_groups if context is not None else None) or ()
    return int(text) if text.isascii() and text.isdecimal() and int(text) not in present else None
