"""What is said to a storage driver: the services csi.v1.Node and pluginregistration.Registration.

It exists as data: the messages and fields that this node uses, with the specifications' names and numbers. It
must not know when anything is said.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from vkubelet.rpc.client import Method
from vkubelet.rpc.messages import Message

_Pairs = dict[str, str]

# NodeServiceCapability.RPC.Type
STAGE_UNSTAGE_VOLUME = 1
SINGLE_NODE_MULTI_WRITER = 5
VOLUME_MOUNT_GROUP = 6

# VolumeCapability.AccessMode.Mode
UNKNOWN_MODE = 0
SINGLE_NODE_WRITER = 1
MULTI_NODE_READER_ONLY = 3
MULTI_NODE_MULTI_WRITER = 5
SINGLE_NODE_SINGLE_WRITER = 6
SINGLE_NODE_MULTI_WRITER_MODE = 7


class Empty(Message):
    """Any message of which nothing is read or said."""


class Topology(Message):
    """Where a volume or a node is, by keys of the driver."""

    segments: Annotated[_Pairs, 1] = msgspec.field(default_factory=dict)


class NodeGetInfoResponse(Message):
    """Who this node is for the driver; `max_volumes_per_node` is 0 where there is no limit."""

    node_id: Annotated[str, 1] = ""
    max_volumes_per_node: Annotated[int, 2] = 0
    accessible_topology: Annotated[Topology | None, 3] = None


class RpcCapability(Message):
    """NodeServiceCapability.RPC."""

    type: Annotated[int, 1] = 0


class NodeServiceCapability(Message):
    """Something that the driver can do on a node."""

    rpc: Annotated[RpcCapability | None, 1] = None


class NodeGetCapabilitiesResponse(Message):
    """Everything that it can."""

    capabilities: Annotated[list[NodeServiceCapability], 1] = msgspec.field(default_factory=list)


class MountVolume(Message):
    """VolumeCapability.MountVolume: a file system."""

    fs_type: Annotated[str, 1] = ""
    mount_flags: Annotated[list[str], 2] = msgspec.field(default_factory=list)
    volume_mount_group: Annotated[str, 3] = ""


class AccessMode(Message):
    """VolumeCapability.AccessMode."""

    mode: Annotated[int, 1] = 0


class VolumeCapability(Message):
    """How a volume is wanted; no guest can be given a device."""

    mount: Annotated[MountVolume | None, 2] = None
    access_mode: Annotated[AccessMode | None, 3] = None


class NodeStageVolumeRequest(Message):
    """Make a volume ready on the node, once for all its pods."""

    volume_id: Annotated[str, 1] = ""
    publish_context: Annotated[_Pairs, 2] = msgspec.field(default_factory=dict)
    staging_target_path: Annotated[str, 3] = ""
    volume_capability: Annotated[VolumeCapability | None, 4] = None
    secrets: Annotated[_Pairs, 5] = msgspec.field(default_factory=dict)
    volume_context: Annotated[_Pairs, 6] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"NodeStageVolumeRequest({self.volume_id})"


class NodeUnstageVolumeRequest(Message):
    """Undo that."""

    volume_id: Annotated[str, 1] = ""
    staging_target_path: Annotated[str, 2] = ""


class NodePublishVolumeRequest(Message):
    """Show a volume to one pod."""

    volume_id: Annotated[str, 1] = ""
    publish_context: Annotated[_Pairs, 2] = msgspec.field(default_factory=dict)
    staging_target_path: Annotated[str, 3] = ""
    target_path: Annotated[str, 4] = ""
    volume_capability: Annotated[VolumeCapability | None, 5] = None
    readonly: Annotated[bool, 6] = False
    secrets: Annotated[_Pairs, 7] = msgspec.field(default_factory=dict)
    volume_context: Annotated[_Pairs, 8] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"NodePublishVolumeRequest({self.volume_id})"


class NodeUnpublishVolumeRequest(Message):
    """Undo that."""

    volume_id: Annotated[str, 1] = ""
    target_path: Annotated[str, 2] = ""


class PluginInfo(Message):
    """What a plugin says of itself: `type` is CSIPlugin for a storage driver, `endpoint` where it serves."""

    type: Annotated[str, 1] = ""
    name: Annotated[str, 2] = ""
    endpoint: Annotated[str, 3] = ""
    supported_versions: Annotated[list[str], 4] = msgspec.field(default_factory=list)


class RegistrationStatus(Message):
    """What a plugin is told of its registration."""

    plugin_registered: Annotated[bool, 1] = False
    error: Annotated[str, 2] = ""


GET_INFO = Method("/pluginregistration.Registration/GetInfo", Empty, PluginInfo)
NOTIFY = Method("/pluginregistration.Registration/NotifyRegistrationStatus", RegistrationStatus, Empty)

NODE_GET_INFO = Method("/csi.v1.Node/NodeGetInfo", Empty, NodeGetInfoResponse)
NODE_GET_CAPABILITIES = Method("/csi.v1.Node/NodeGetCapabilities", Empty, NodeGetCapabilitiesResponse)
NODE_STAGE = Method("/csi.v1.Node/NodeStageVolume", NodeStageVolumeRequest, Empty)
NODE_UNSTAGE = Method("/csi.v1.Node/NodeUnstageVolume", NodeUnstageVolumeRequest, Empty)
NODE_PUBLISH = Method("/csi.v1.Node/NodePublishVolume", NodePublishVolumeRequest, Empty)
NODE_UNPUBLISH = Method("/csi.v1.Node/NodeUnpublishVolume", NodeUnpublishVolumeRequest, Empty)
