"""The messages and methods of `v1beta1.Registration` and `v1beta1.DevicePlugin`, as far as they are used.

They exist as the specification names and numbers them (k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1). They
must know no behaviour.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from vkubelet.rpc.client import Method
from vkubelet.rpc.messages import Message

VERSION = "v1beta1"
HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"


class Empty(Message):
    """Nothing to say."""


class DevicePluginOptions(Message):
    """Which calls a plugin wants beside Allocate."""

    pre_start_required: Annotated[bool, 1] = False
    get_preferred_allocation_available: Annotated[bool, 2] = False


class RegisterRequest(Message):
    """A plugin tells of itself; `endpoint` is its socket's name in the directory of ours."""

    version: Annotated[str, 1] = ""
    endpoint: Annotated[str, 2] = ""
    resource_name: Annotated[str, 3] = ""


class Device(Message):
    """One device. Its place in the machine's topology does not matter: nothing here aligns by it."""

    id: Annotated[str, 1] = ""
    health: Annotated[str, 2] = ""


class ListAndWatchResponse(Message):
    """All devices of a plugin."""

    devices: Annotated[list[Device], 1] = msgspec.field(default_factory=list)


class ContainerPreferredAllocationRequest(Message):
    """Which devices of these one container should get."""

    available: Annotated[list[str], 1] = msgspec.field(default_factory=list)
    must_include: Annotated[list[str], 2] = msgspec.field(default_factory=list)
    allocation_size: Annotated[int, 3] = 0


class PreferredAllocationRequest(Message):
    """One element for each container: here always one."""

    container_requests: Annotated[list[ContainerPreferredAllocationRequest], 1] = msgspec.field(
        default_factory=list
    )


class ContainerPreferredAllocationResponse(Message):
    """The devices that the plugin would give."""

    device_ids: Annotated[list[str], 1] = msgspec.field(default_factory=list)


class PreferredAllocationResponse(Message):
    """One element for each container."""

    container_responses: Annotated[list[ContainerPreferredAllocationResponse], 1] = msgspec.field(
        default_factory=list
    )


class ContainerAllocateRequest(Message):
    """The devices that one container gets."""

    device_ids: Annotated[list[str], 1] = msgspec.field(default_factory=list)


class AllocateRequest(Message):
    """One element for each container: here always one."""

    container_requests: Annotated[list[ContainerAllocateRequest], 1] = msgspec.field(default_factory=list)


class Mount(Message):
    """A directory or file of the host that the container is to see."""

    container_path: Annotated[str, 1] = ""
    host_path: Annotated[str, 2] = ""
    read_only: Annotated[bool, 3] = False


class DeviceSpec(Message):
    """A device file of the host that the container is to see; `permissions` is of `rwm`."""

    container_path: Annotated[str, 1] = ""
    host_path: Annotated[str, 2] = ""
    permissions: Annotated[str, 3] = ""


class CDIDevice(Message):
    """A device by its name in CDI's specifications on the host."""

    name: Annotated[str, 1] = ""


class ContainerAllocateResponse(Message):
    """What a container needs in order to use its devices."""

    envs: Annotated[dict[str, str], 1] = msgspec.field(default_factory=dict)
    mounts: Annotated[list[Mount], 2] = msgspec.field(default_factory=list)
    devices: Annotated[list[DeviceSpec], 3] = msgspec.field(default_factory=list)
    annotations: Annotated[dict[str, str], 4] = msgspec.field(default_factory=dict)
    cdi_devices: Annotated[list[CDIDevice], 5] = msgspec.field(default_factory=list)


class AllocateResponse(Message):
    """One element for each container."""

    container_responses: Annotated[list[ContainerAllocateResponse], 1] = msgspec.field(default_factory=list)


class PreStartContainerRequest(Message):
    """A container is about to start with these devices."""

    device_ids: Annotated[list[str], 1] = msgspec.field(default_factory=list)


_PLUGIN = "/v1beta1.DevicePlugin"
REGISTER = Method("/v1beta1.Registration/Register", RegisterRequest, Empty)
GET_OPTIONS = Method(f"{_PLUGIN}/GetDevicePluginOptions", Empty, DevicePluginOptions)
LIST_AND_WATCH = Method(f"{_PLUGIN}/ListAndWatch", Empty, ListAndWatchResponse)
GET_PREFERRED_ALLOCATION = Method(
    f"{_PLUGIN}/GetPreferredAllocation", PreferredAllocationRequest, PreferredAllocationResponse
)
ALLOCATE = Method(f"{_PLUGIN}/Allocate", AllocateRequest, AllocateResponse)
PRE_START_CONTAINER = Method(f"{_PLUGIN}/PreStartContainer", PreStartContainerRequest, Empty)
