"""Image references, read and normalised as Docker and the kubelet do.

It exists so that one image has one name in this node, whichever way a pod spells it. The grammar and the
defaults are those of github.com/distribution/reference. It must not know registries or the network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from oci import digests
from oci.errors import InvalidReferenceError

DEFAULT_REGISTRY = "docker.io"
LEGACY_DEFAULT_REGISTRY = "index.docker.io"
_OFFICIAL = "library/"
_DEFAULT_TAG = "latest"
_MAXIMUM_REPOSITORY = 255

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised reference: at least one of `tag` and `digest` is set.

    With both, the digest decides, as in Docker; the tag is kept for people.
    """

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def identifier(self) -> str:
        """What the registry is asked for: the digest, else the tag."""
        return self.digest or self.tag or _DEFAULT_TAG

    @property
    def full_repository(self) -> str:
        """Where all images of the repository are: `registry/repository`."""
        return f"{self.registry}/{self.repository}"

    @property
    def name(self) -> str:
        """What the image is kept under: `registry/repository@digest`, else `registry/repository:tag`."""
        return f"{self.full_repository}{'@' if self.digest else ':'}{self.identifier}"

    def by_digest(self, digest: str) -> Reference:
        """The same repository's content of this digest."""
        return Reference(self.registry, self.repository, None, digest)

    def __str__(self) -> str:
        """The normalised text, all parts of it."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.full_repository}{tag}{digest}"


def parse(text: str) -> Reference:
    """Read `[registry[:port]/]repository[:tag][@digest]`; `x` is docker.io/library/x:latest.

    Raises InvalidReferenceError.
    """
    if not text:
        raise InvalidReferenceError(text, "repository name must have at least one component")
    if _IDENTIFIER.fullmatch(text):
        raise InvalidReferenceError(text, "cannot specify 64-byte hexadecimal strings")
    named, at, digest = text.partition("@")
    if at and not digests.valid(digest):
        raise InvalidReferenceError(text, f"digest {digest!r} is no sha256, sha384 or sha512 digest")
    registry, remainder = _split(named)
    repository, colon, tag = remainder.partition(":")
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = _OFFICIAL + repository
    if repository.lower() != repository:
        raise InvalidReferenceError(text, f"repository name ({repository}) must be lowercase")
    if _REGISTRY.fullmatch(registry) is None:
        raise InvalidReferenceError(text, f"{registry!r} is no registry host")
    if any(_COMPONENT.fullmatch(component) is None for component in repository.split("/")):
        raise InvalidReferenceError(text, f"{repository!r} is no repository name")
    if len(repository) > _MAXIMUM_REPOSITORY:
        raise InvalidReferenceError(
            text, f"repository name must not be more than {_MAXIMUM_REPOSITORY} characters"
        )
    if colon and _TAG.fullmatch(tag) is None:
        raise InvalidReferenceError(text, f"{tag!r} is no tag")
    return Reference(registry, repository, tag or (None if digest else _DEFAULT_TAG), digest or None)


def _split(named: str) -> tuple[str, str]:
    """Registry and the rest. A first part is a registry if it could not be a part of a repository's name."""
    first, slash, rest = named.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        return DEFAULT_REGISTRY if first == LEGACY_DEFAULT_REGISTRY else first, rest
    return DEFAULT_REGISTRY, named
