"""The image of a container, on this node: there already, or pulled with what its pod has for it.

It exists to keep a kubelet's EnsureImageExists in one readable sequence, with its events and reasons. It must
not know what an image is for.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from oci.credentials import Credentials
from oci.errors import InvalidReferenceError, OciError, RegistryUnavailableError, SignatureError
from oci.images import Image
from oci.reference import Reference, parse
from vkubelet import telemetry
from vkubelet.api.containers import Container
from vkubelet.api.correlator import TokenBucket
from vkubelet.api.events import Recorder
from vkubelet.api.objects import Pod
from vkubelet.pods.backoff import go_duration
from vkubelet.pods.builtin import REGISTRY, BuiltinImages
from vkubelet.pods.container_reference import container_reference
from vkubelet.pods.images.access import AccessFiles, Holder, permitted
from vkubelet.pods.images.pull_secrets import PullSecretError, PullSecrets
from vkubelet.pods.start_error import StartError
from vkubelet.toolbox import ToolboxError

_Found = list[tuple[Credentials, Holder | None]]
"""A pod's credentials for an image, and which of its secrets each is of."""


class Images(Protocol):
    """What is asked of the image store."""

    async def look(self, reference: Reference) -> Image | None:
        """The image if it is on this node, held; asks no registry. Raises OciError."""
        ...

    async def accepts(self, image: Image) -> bool:
        """Whether the image policy is known to accept it; a pull finds it out. Raises SignatureError."""
        ...

    async def set_aside_damaged(self, image: Image) -> None:
        """Have what is damaged of it pulled anew. Raises OSError."""
        ...

    def is_pulling(self, reference: Reference, credentials: Credentials | None, *, ask: bool) -> bool:
        """Whether such a pull would wait for one that is under way."""
        ...

    async def pull(
        self, reference: Reference, *, credentials: Credentials | None = None, ask: bool = False
    ) -> Image:
        """The image, pulled if need be; with `ask`, not without the registry's word. Raises OciError."""
        ...


class PullLimit:
    """How often registries may be asked for an image: the kubelet's registryPullQPS and registryBurst."""

    def __init__(self, qps: float, burst: int) -> None:
        """`burst` at once, and `qps` a second after that; with 0 a second there is no limit."""
        self._bucket = TokenBucket(qps, burst) if qps else None

    def take(self, now: float) -> bool:
        """Whether one more may be asked for now; `now` is seconds of a monotonic clock."""
        return self._bucket is None or self._bucket.take(now)


class ImageSource:
    """One for the node."""

    def __init__(
        self,
        images: Images,
        builtin: BuiltinImages,
        recorder: Recorder,
        secrets: PullSecrets,
        access: AccessFiles | None,
        limit: PullLimit,
    ) -> None:
        """All of them outlive this. Without `access`, whoever is here may use all that is here."""
        self._images = images
        self._builtin = builtin
        self._recorder = recorder
        self._secrets = secrets
        self._access = access
        self._limit = limit
        self._brought = 0  # pulls that have ended well

    async def image(self, pod: Pod, container: Container) -> Image:
        """The image that the container asks for, by its pull policy. Raises StartError."""
        name = container.image
        try:
            reference = parse(name)
        except InvalidReferenceError as error:
            message = f'Failed to apply default image tag "{name}": {error}'
            self._event(pod, container, "Warning", "InspectFailed", message)
            raise StartError("InvalidImageName", message) from error
        if reference.registry == REGISTRY:
            return await self._own(pod, container, reference)
        found: _Found | None = None
        policy = container.image_pull_policy
        while policy != "Always":
            brought = self._brought
            present, found = await self._present(pod, container, reference, found)
            if present is not None:
                return present
            if policy == "Never":
                message = f'Container image "{name}" is not present with pull policy of Never'
                self._event(pod, container, "Warning", "ErrImageNeverPull", message)
                raise StartError("ErrImageNeverPull", message)
            if found is None:
                found = await self._credentials(pod, container, reference)
            elif brought == self._brought:
                break  # else another pod's pull may have brought it while this one looked
        if found is None:
            found = await self._credentials(pod, container, reference)
        return await self._pull(pod, container, reference, found)

    async def set_aside_damaged(self, image: Image) -> None:
        """What runs it has found it damaged. Raises StartError."""
        if image.reference.registry == REGISTRY:
            return  # the node's own, which no registry has
        try:
            await self._images.set_aside_damaged(image)
        except OSError as error:
            raise StartError("ImageInspectError", f"image {image.reference}: {error}") from error

    def forget(self, pod: Pod) -> None:
        """Nothing is pulled for the pod any more."""
        self._secrets.forget(pod)

    async def _present(
        self, pod: Pod, container: Container, reference: Reference, found: _Found | None
    ) -> tuple[Image | None, _Found | None]:
        """The image that is here, if the pod may use it, and the pod's credentials, if they were needed."""
        present = await self._look(pod, container, reference)
        if present is not None and not self._is_open(present, reference):
            if found is None:
                found = await self._credentials(pod, container, reference)
            if not self._may_use(present, reference, [holder for _, holder in found if holder]):
                present = None
        if present is None or not await self._is_accepted(pod, container, present):
            return None, found
        self._tell_present(pod, container)
        return present, found

    async def _look(self, pod: Pod, container: Container, reference: Reference) -> Image | None:
        try:
            return await self._images.look(reference)
        except OciError as error:
            message = f'Failed to inspect image "{container.image}": {error}'
            self._event(pod, container, "Warning", "InspectFailed", message)
            raise StartError("ImageInspectError", message) from error

    async def _is_accepted(self, pod: Pod, container: Container, image: Image) -> bool:
        """Whether the image policy accepts what is here; if nobody knows, it is to be pulled anew."""
        try:
            is_accepted = await self._images.accepts(image)
        except SignatureError as error:
            raise self._failed(pod, container, str(error), is_unsigned=True) from error
        if not is_accepted and container.image_pull_policy == "Never":
            cause = (
                f"{image.digest}: is not known to be accepted by the image policy, and by the pull policy of "
                "Never no registry is asked for its signatures"
            )
            raise self._failed(pod, container, cause, is_unsigned=True)
        return is_accepted

    async def _own(self, pod: Pod, container: Container, reference: Reference) -> Image:
        """The image of that name which the node itself has."""
        try:
            image = await asyncio.to_thread(self._builtin.get, reference)
        except (OciError, ToolboxError) as error:
            raise self._failed(pod, container, str(error)) from error
        self._tell_present(pod, container)
        return image

    async def _pull(
        self,
        pod: Pod,
        container: Container,
        reference: Reference,
        found: _Found,
    ) -> Image:
        """Pull with the first of the credentials that gets it, or with none if there are none."""
        self._event(pod, container, "Normal", "Pulling", f'Pulling image "{container.image}"')
        began = time.monotonic()
        causes: dict[str, OciError] = {}
        tries: list[tuple[Credentials | None, Holder | None]] = [*found] or [(None, None)]
        ask = self._access is not None
        # Who waits for another's pull asks no registry.
        if not self._images.is_pulling(reference, tries[0][0], ask=ask) and not self._limit.take(began):
            raise self._failed(pod, container, "pull QPS exceeded")
        for credentials, holder in tries:
            try:
                image = await self._images.pull(reference, credentials=credentials, ask=ask)
            except OciError as error:
                causes[str(error)] = error
                continue
            if self._access is not None:
                self._access.allow(image.digest, reference.full_repository, holder)
            self._brought += 1
            self._tell_pulled(pod, container, image, time.monotonic() - began)
            return image
        texts = list(causes)
        pause = max(_pause(error) for error in causes.values())
        text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        is_unsigned = any(isinstance(error, SignatureError) for error in causes.values())
        raise self._failed(pod, container, text, pause, is_unsigned=is_unsigned) from causes[texts[0]]

    async def _credentials(self, pod: Pod, container: Container, reference: Reference) -> _Found:
        try:
            return await self._secrets.of(pod, reference)
        except PullSecretError as error:
            raise self._failed(pod, container, str(error)) from error

    def _is_open(self, image: Image, reference: Reference) -> bool:
        """Whether everybody may use it."""
        return self._access is None or self._access.get(image.digest, reference.full_repository).everybody

    def _may_use(self, image: Image, reference: Reference, holders: list[Holder]) -> bool:
        """Whether one of the holders may use it, as others of the same credentials have got it."""
        if self._access is None:
            return True
        repository = reference.full_repository
        holder = permitted(self._access.get(image.digest, repository), holders)
        if holder is not None:
            self._access.allow(image.digest, repository, holder)  # by what it has now
        return holder is not None

    def _tell_present(self, pod: Pod, container: Container) -> None:
        message = (
            f'Container image "{container.image}" already present on machine and can be accessed by the pod'
        )
        self._event(pod, container, "Normal", "Pulled", message)

    def _tell_pulled(self, pod: Pod, container: Container, image: Image, seconds: float) -> None:
        telemetry.IMAGE_PULL_DURATION.observe(seconds, telemetry.image_size_bucket(image.size))
        took = go_duration(seconds)
        message = (
            f'Successfully pulled image "{container.image}" in {took} ({took} including waiting). '
            f"Image size: {image.size} bytes."
        )
        self._event(pod, container, "Normal", "Pulled", message)

    def _failed(
        self, pod: Pod, container: Container, cause: str, pause: float = 0.0, *, is_unsigned: bool = False
    ) -> StartError:
        """Tell of it; the error to raise."""
        image = container.image
        self._event(pod, container, "Warning", "Failed", f'Failed to pull image "{image}": {cause}')
        if is_unsigned:
            text = f"image pull failed for {image} because the signature validation failed: {cause}"
            return StartError("SignatureValidationFailed", text, pause)
        return StartError("ErrImagePull", cause, pause)

    def _event(self, pod: Pod, container: Container, kind: str, reason: str, message: str) -> None:
        self._recorder.event(container_reference(pod, container.name), kind, reason, message)


def _pause(error: OciError) -> float:
    """Seconds for which the registry asked not to be asked again."""
    return (error.retry_after or 0.0) if isinstance(error, RegistryUnavailableError) else 0.0
