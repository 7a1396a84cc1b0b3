"""What the cluster says of storage drivers and their volumes, as msgspec structs.

They exist apart because only a node with a driver reads them. They must know no behaviour. Every field has
the API's own name in snake case (see `objects`).
"""

from __future__ import annotations

import msgspec

from vkubelet.api.objects import ObjectMeta
from vkubelet.api.struct import Struct


class TokenRequest(Struct):
    """tokenRequests[] of a driver: it is to get such a token of each pod's service account."""

    audience: str = ""
    expiration_seconds: int | None = None


class CSIDriverSpec(Struct):
    """spec of a driver. Its defaults are those of a driver that has no object, but for the modes."""

    attach_required: bool = True
    pod_info_on_mount: bool = False
    volume_lifecycle_modes: list[str] | None = None
    fs_group_policy: str = "ReadWriteOnceWithFSType"
    token_requests: list[TokenRequest] | None = None
    requires_republish: bool = False
    service_account_token_in_secrets: bool = False


class CSIDriver(Struct):
    """How a driver of volumes wants to be used."""

    metadata: ObjectMeta
    spec: CSIDriverSpec = msgspec.field(default_factory=CSIDriverSpec)


class VolumeError(Struct):
    """attachError."""

    message: str = ""


class VolumeAttachmentStatus(Struct):
    """status of an attachment."""

    attached: bool = False
    attachment_metadata: dict[str, str] | None = None
    attach_error: VolumeError | None = None


class VolumeAttachment(Struct):
    """A volume attached to a node, or to be."""

    metadata: ObjectMeta
    status: VolumeAttachmentStatus = msgspec.field(default_factory=VolumeAttachmentStatus)
