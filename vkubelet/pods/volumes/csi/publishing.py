"""Asking a driver for a volume: ready on the node, and then shown to a pod.

It exists to hold the sequence of a kubelet's MountDevice and SetUp (pkg/volume/csi), with its texts. It must
not know which pods use a volume, nor when one ends.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from providers.faultpoints import reached
from vkubelet.api import times
from vkubelet.api.drivers import CSIDriverSpec
from vkubelet.api.objects import Pod
from vkubelet.api.references import ReferenceFailedError, References
from vkubelet.api.volumes import SecretReference, ServiceAccountTokenProjection
from vkubelet.csi.drivers import PREFIX, Driver, DriverNotFoundError, Drivers
from vkubelet.csi.protocol import NODE_PUBLISH, NODE_STAGE, STAGE_UNSTAGE_VOLUME, VOLUME_MOUNT_GROUP
from vkubelet.pods.volumes import ownership
from vkubelet.pods.volumes.csi.records import Records
from vkubelet.pods.volumes.csi.wanted import (
    PERSISTENT,
    TOKENS,
    Wanted,
    attachment_name,
    is_final,
    pod_info,
    publish_request,
    stage_request,
    unsupported,
)
from vkubelet.pods.volumes.errors import SetUpError, os_text
from vkubelet.pods.volumes.tokens import Tokens
from vkubelet.rpc.client import RpcError

logger = logging.getLogger(__name__)

TIMEOUT = 120.0
"""Seconds for one step of a volume; the kubelet's."""

_MOUNT_DEVICE, _SET_UP = "MountVolume.MountDevice failed", "MountVolume.SetUp failed"
_AN_HOUR = 3600


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """What there is still to do once a driver has shown a volume."""

    gives_group: bool
    """Whether the driver leaves the pod's group to the node."""


class Publishing:
    """One for the node. Use from one event loop."""

    def __init__(
        self, drivers: Drivers, records: Records, secrets: References, tokens: Tokens, node_name: str
    ) -> None:
        self._drivers = drivers
        self._records = records
        self._secrets = secrets
        self._tokens = tokens
        self._node = node_name

    async def stage(self, pod: Pod, wanted: Wanted, context: Mapping[str, str]) -> None:
        """Make the volume ready on the node, if its driver does that. Raises SetUpError.

        `context` is what attaching it gave.
        """
        driver = await self._driver(
            wanted, "attacher.MountDevice failed to create newCsiDriverClient", _MOUNT_DEVICE
        )
        deadline = asyncio.get_running_loop().time() + TIMEOUT
        try:
            can = await driver.capabilities(deadline)
        except RpcError as error:
            raise SetUpError(str(error), step=_MOUNT_DEVICE) from error
        if STAGE_UNSTAGE_VOLUME not in can:
            return
        secrets = await self._secret("NodeStageSecretRef", wanted.stage_secret, _MOUNT_DEVICE)
        staging = self._records.staging(wanted)
        try:
            await asyncio.to_thread(self._records.note_staged, staging, wanted)
        except OSError as error:
            cause = f"{PREFIX}failed to save volume info data: {os_text(error)}"
            raise SetUpError(cause, step=_MOUNT_DEVICE) from error
        reached("csi-stage-noted")
        group = ownership.fs_group(pod)
        request = stage_request(wanted, staging, can, context=context, secrets=secrets, group=group)
        try:
            await driver.ask(NODE_STAGE, request, deadline)
            reached("csi-staged")
        except RpcError as error:
            await self._refused(staging, error)
            raise SetUpError(str(error), step=_MOUNT_DEVICE) from error

    async def publish(
        self,
        pod: Pod,
        wanted: Wanted,
        spec: CSIDriverSpec | None,
        context: Mapping[str, str],
        *,
        again: bool = False,
    ) -> Published:
        """Show the volume to the pod; `again` is for one that it sees already. Raises SetUpError."""
        driver = await self._driver(wanted, "mounter.SetUpAt failed to get CSI client")
        deadline = asyncio.get_running_loop().time() + TIMEOUT
        cause = unsupported(wanted, spec)
        if cause is not None:
            raise SetUpError(f"{PREFIX}mounter.SetupAt failed to check volume lifecycle mode: {cause}")
        try:
            can = await driver.capabilities(deadline)
        except RpcError as error:
            what = "mounter.SetUpAt failed to check for STAGE_UNSTAGE_VOLUME capability"
            raise SetUpError(f"{PREFIX}{what}: {error}") from error
        secrets = await self._secret("NodePublishSecretRef", wanted.publish_secret)
        attributes = pod_info(pod, wanted) if spec is not None and spec.pod_info_on_mount else {}
        tokens = await self._service_account_tokens(pod, spec)
        if spec is not None and spec.service_account_token_in_secrets:
            secrets |= tokens
        else:
            attributes |= tokens
        target = self._records.target(pod.metadata.uid, wanted.name)
        attachment = attachment_name(wanted, self._node)
        try:
            await asyncio.to_thread(self._records.note_published, target, wanted, self._node, attachment)
        except OSError as error:
            cause = f"mounter.SetUpAt failed to save volume info data: {os_text(error)}"
            raise SetUpError(f"{PREFIX}{cause}") from error
        reached("csi-publish-noted")
        is_staged = wanted.lifecycle == PERSISTENT and STAGE_UNSTAGE_VOLUME in can
        request = publish_request(
            wanted,
            target,
            self._records.staging(wanted) if is_staged else None,
            can,
            context=context,
            attributes=attributes,
            secrets=secrets,
            group=ownership.fs_group(pod),
        )
        try:
            await driver.ask(NODE_PUBLISH, request, deadline)
            reached("csi-published")
        except RpcError as error:
            if not again:
                await self._refused(target, error)
            raise SetUpError(str(error)) from error
        return Published(gives_group=VOLUME_MOUNT_GROUP not in can)

    async def _refused(self, given: Path, error: RpcError) -> None:
        """Where a driver may still be at it, or has left something, it must be asked to take it back."""
        if is_final(error.code):
            try:
                await asyncio.to_thread(self._records.refused, given)
            except OSError as failure:
                logger.warning("a driver that failed has left something: %s", os_text(failure))

    async def _driver(self, wanted: Wanted, what: str, step: str = _SET_UP) -> Driver:
        try:
            return await self._drivers.get(wanted.driver)
        except DriverNotFoundError as error:
            raise SetUpError(f"{PREFIX}{what}: {error}", step=step) from error

    async def _secret(
        self, kind: str, reference: SecretReference | None, step: str = _SET_UP
    ) -> dict[str, str]:
        """What is in a secret that a volume names."""
        if reference is None:
            return {}
        where = f"{reference.namespace}/{reference.name}"
        try:
            found = await self._secrets.get("secrets", reference.namespace, reference.name)
            return {key: value.decode() for key, value in (found.data or {}).items()}
        except ReferenceFailedError as error:
            cause = (
                f"{PREFIX}failed to find the secret {reference.name} in the namespace {reference.namespace} "
                f"with error: {error}"
            )
            raise SetUpError(f"fetching {kind} {where} failed: {cause}", step=step) from error
        except UnicodeDecodeError as error:
            # What is said to a driver is text.
            raise SetUpError(
                f"fetching {kind} {where} failed: it holds what is not UTF-8", step=step
            ) from error

    async def _service_account_tokens(self, pod: Pod, spec: CSIDriverSpec | None) -> dict[str, str]:
        """Tokens of the pod's service account, for the audiences that the driver asks for."""
        wanted = (spec.token_requests if spec is not None else None) or ()
        found: dict[str, dict[str, str]] = {}
        for one in wanted:
            projection = ServiceAccountTokenProjection(
                audience=one.audience, expiration_seconds=one.expiration_seconds or _AN_HOUR
            )
            try:
                token = await self._tokens.get(pod, projection, None)
            except SetUpError as error:
                what = "mounter.SetUpAt failed to get service account token attributes"
                raise SetUpError(f"{PREFIX}{what}: {error}") from error
            expires = times.rfc3339(token.shown_expiry)
            found[one.audience] = {"token": token.text, "expirationTimestamp": expires}
        return {TOKENS: msgspec.json.encode(found).decode()} if found else {}
