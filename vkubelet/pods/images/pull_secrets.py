"""The credentials that a pod has for an image: of its imagePullSecrets, then the node's own, then of plugins.

It exists so that one place reads secrets of either type, and tells of those that are not there. It must not
know what is pulled with them. The rules are those of pkg/credentialprovider/secrets and getPullSecretsForPod.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from oci.credential_helper import CredentialHelperError, lookup
from oci.credentials import Credentials
from oci.keyring import Key, Keyring, KeyringError, read_config, read_legacy_config
from oci.reference import Reference
from vkubelet.api.configuration import Secret
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod, pod_reference
from vkubelet.api.references import ReferenceFailedError, References
from vkubelet.pods.images.access import Holder, digest_of

if TYPE_CHECKING:
    from vkubelet.pods.images.credential_providers import CredentialProviders

logger = logging.getLogger(__name__)

_READERS = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson", read_config),
    "kubernetes.io/dockercfg": (".dockercfg", read_legacy_config),
}


class PullSecretError(Exception):
    """A secret that says nothing that can be read; the text names it and no credentials."""


class PullSecrets:
    """One for the node."""

    def __init__(
        self,
        references: References,
        recorder: Recorder,
        node_config: Path,
        providers: CredentialProviders | None = None,
    ) -> None:
        """`node_config` is a Docker configuration with the node's own credentials, if it is there."""
        self._references = references
        self._recorder = recorder
        self._node_config = node_config
        self._providers = providers

    async def of(self, pod: Pod, reference: Reference) -> list[tuple[Credentials, Holder | None]]:
        """What to try for the image, in this order; the holder is None for the node's own.

        A secret that is missing is told of, and the others are tried. Raises PullSecretError.
        """
        secrets, missing = await self._secrets(pod)
        if missing:
            message = (
                f"Unable to retrieve some image pull secrets ({', '.join(missing)}); attempting to pull the "
                "image may not succeed."
            )
            self._recorder.event(pod_reference(pod), "Warning", "FailedToRetrieveImagePullSecret", message)
        keys = [key for secret in secrets for key in _keys(secret)]
        found: list[tuple[Credentials, Holder | None]] = [
            (key.credentials, _holder(key)) for key in Keyring(keys).lookup(reference)
        ]
        found += [(credentials, None) for credentials in await self._of_node(reference)]
        if self._providers is not None:
            found += await self._providers.of(pod, reference)
        return found

    def forget(self, pod: Pod) -> None:
        """Nothing is asked for the pod any more."""
        self._references.use(_owner(pod), ())
        if self._providers is not None:
            self._providers.forget(pod)

    async def _secrets(self, pod: Pod) -> tuple[list[Secret], list[str]]:
        """Those that are there, and the names of the others."""
        namespace = pod.metadata.namespace
        names = list(dict.fromkeys(one.name for one in pod.spec.image_pull_secrets or () if one.name))
        # Watched from now on, so that later containers of the pod cost no request.
        self._references.use(_owner(pod), [("secrets", namespace, name) for name in names], _no_matter)
        found, missing = [], []
        for name in names:
            try:
                found.append(await self._references.get("secrets", namespace, name))
            except ReferenceFailedError as error:
                logger.info("pod %s: image pull secret %s: %s", pod.key, name, error)
                missing.append(name)
        return found, missing

    async def _of_node(self, reference: Reference) -> list[Credentials]:
        try:
            data = await asyncio.to_thread(self._node_config.read_bytes)
            return await lookup(data, reference)
        except FileNotFoundError:
            return []
        except (OSError, KeyringError, CredentialHelperError) as error:
            # No pod is to blame, and most images need none of it.
            logger.warning("%s: %s", self._node_config, error)
            return []


def _owner(pod: Pod) -> str:
    """Who uses the secrets, as `References.use` tells users apart."""
    return f"image pull secrets {pod.metadata.uid}"


def _no_matter() -> None:
    """A secret has changed: the next pull finds it so."""


def _keys(secret: Secret) -> list[Key[Secret]]:
    """What a secret says; one of another type, or without content, says nothing. Raises PullSecretError."""
    field, read = _READERS.get(secret.type, ("", read_config))
    data = (secret.data or {}).get(field)
    if not data:
        return []
    try:
        return read(data, secret)
    except KeyringError as error:
        meta = secret.metadata
        raise PullSecretError(f'secret "{meta.namespace}/{meta.name}": {field}: {error}') from error


def _holder(key: Key[Secret]) -> Holder:
    meta = key.source.metadata
    return Holder(namespace=meta.namespace, name=meta.name, uid=meta.uid, digest=digest_of(key.credentials))
