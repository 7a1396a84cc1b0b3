"""What can go wrong between an image reference and its files, as types.

It exists so that a caller can tell a mistyped name from a registry that is down without reading texts, and
so that every text names the registry, the repository, the reference in it and the cause. It must not know
how any of it is found out.
"""

from __future__ import annotations

from typing import Protocol


class Named(Protocol):
    """What an error has to name: a `Reference` does."""

    @property
    def registry(self) -> str: ...  # noqa: D102

    @property
    def repository(self) -> str: ...  # noqa: D102

    @property
    def identifier(self) -> str: ...  # noqa: D102


def printable(text: str) -> str:
    """Somebody else's words in one line: what cannot be printed is a space."""
    return "".join(char if char.isprintable() else " " for char in text)


class OciError(Exception):
    """No image, and why."""


class InvalidReferenceError(OciError):
    """The text names no image."""

    def __init__(self, text: str, cause: str) -> None:
        """The words are those of the kubelet, which has them from distribution's reference package."""
        super().__init__(f'couldn\'t parse image name "{text}": invalid reference format: {cause}')
        self.cause = cause


class ImageError(OciError):
    """An error about one image; `cause` is the text without the names."""

    def __init__(self, reference: Named, cause: str) -> None:
        """`cause` holds no credentials and no signed URL: the text goes to events and logs."""
        super().__init__(
            f"registry {reference.registry}, repository {reference.repository}, "
            f"reference {reference.identifier}: {cause}"
        )
        self.registry = reference.registry
        self.repository = reference.repository
        self.identifier = reference.identifier
        self.cause = cause


class NotFoundError(ImageError):
    """The registry knows no such repository, manifest or blob."""


class UnauthorizedError(ImageError):
    """The registry, or its token service, answered 401 or 403.

    Some registries answer so for a repository that does not exist, to keep its absence a secret.
    """


class RegistryUnavailableError(ImageError):
    """The registry could not be asked, or could not answer now; asking again later may help.

    `retry_after` is what the registry asked for, in seconds, or None.
    """

    def __init__(self, reference: Named, cause: str, retry_after: float | None = None) -> None:
        """A `Retry-After` becomes part of the text."""
        if retry_after is not None:
            cause = f"{cause} (retry after {retry_after:g} s)"
        super().__init__(reference, cause)
        self.retry_after = retry_after


class RegistryHostsError(ImageError):
    """What this node is told of the registry's hosts and certificates cannot be used; nobody was asked."""


class RegistryProtocolError(ImageError):
    """The registry gave an answer that the distribution specification has no room for."""


class InvalidManifestError(ImageError):
    """The manifest is too large, no JSON, or not of the image specification's shape."""


class VerificationError(ImageError):
    """The content is not what its digest or size promised."""


class SignatureError(ImageError):
    """The image policy does not accept the image, or cannot be read; the text names the policy's rule."""


class InvalidLayerError(ImageError):
    """A layer's archive is damaged, hostile or too large to be unpacked."""


class NotWasmError(ImageError):
    """The image holds no WebAssembly; the text says what it holds instead."""


class UnsupportedImageError(NotWasmError):
    """The image holds WebAssembly in a form that is not run yet."""


class StoreError(ImageError):
    """The node's own disk failed: full, read-only, broken."""


class LostError(StoreError):
    """Content that was on this node is not any more: another process, or a person, has removed it."""
