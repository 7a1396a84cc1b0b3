"""Volumes that must be attached to the node before a driver can show them.

It exists to hold the node's half of that: it says which volumes it uses, which a controller must not detach,
and waits until the controller says that one is attached. It must not know how a volume is mounted.
"""

from __future__ import annotations

import asyncio

import msgspec

from vkubelet.api.asking import patiently
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.drivers import VolumeAttachment
from vkubelet.pods.volumes.attaching import AttachingNode
from vkubelet.pods.volumes.csi.wanted import Wanted, attachment_name, unique_name
from vkubelet.pods.volumes.errors import UNATTACHED, SetUpError

_PATH = "/apis/storage.k8s.io/v1/volumeattachments"
TIMEOUT = 123.0
"""Seconds after which people are told that a volume is not attached yet: the kubelet's."""


class Attachments:
    """One for the node. Use from one event loop."""

    def __init__(self, client: ApiClient, node: AttachingNode, node_name: str) -> None:
        self._client = client
        self._node = node
        self._name = node_name
        self._in_use: set[str] = set()

    def hold(self, key: tuple[str, str]) -> None:
        """The volume is in use from now on."""
        self._in_use.add(unique_name(*key))
        self._node.use_volumes(frozenset(self._in_use))

    def release(self, key: tuple[str, str]) -> None:
        """The volume is not in use any more, and may be detached."""
        if unique_name(*key) in self._in_use:
            self._in_use.discard(unique_name(*key))
            self._node.use_volumes(frozenset(self._in_use))

    async def wait(self, wanted: Wanted) -> dict[str, str]:
        """Wait until the volume, which is held, is attached; what its driver is to be told of that.

        Raises SetUpError, after the kubelet's time at the latest.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._node.attached(unique_name(*wanted.key))
        except TimeoutError:
            raise SetUpError("context deadline exceeded", step=UNATTACHED) from None
        name = attachment_name(wanted, self._name)
        try:
            status = (await self._get(name)).status
        except _AttachmentError as error:
            cause = f"volume {wanted.handle} has GET error for volume attachment {name}: {error}"
            raise _failed(cause) from error
        if not status.attached:
            if status.attach_error is not None:
                raise _failed(status.attach_error.message)
            raise _failed(f"volume {wanted.handle} is not attached for volume attachment {name}")
        return status.attachment_metadata or {}

    async def _get(self, name: str) -> VolumeAttachment:
        try:
            answer = await patiently(lambda: self._client.get(f"{_PATH}/{name}"))
            return msgspec.json.decode(answer, type=VolumeAttachment)
        except ApiError as error:
            raise _AttachmentError(error.message) from error
        except (ApiUnavailableError, msgspec.DecodeError) as error:
            raise _AttachmentError(str(error)) from error


class _AttachmentError(Exception):
    """The object cannot be had; the text is the cause."""


def _failed(cause: str) -> SetUpError:
    return SetUpError(cause, step="MountVolume.WaitForAttach failed")
