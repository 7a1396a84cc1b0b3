"""The `signedIdentity` of a policy: which image a signature may speak of, beside its digest.

It exists because a digest that was signed for one repository must not pass in another one. The rules and
their names are those of containers-policy.json(5); `digestOnly` is one more, for signatures that name no
image at all, as those in sigstore bundles made by `cosign sign`. All of it is pure. It must not know keys or
registries.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from oci.errors import InvalidReferenceError
from oci.reference import Reference, parse
from oci.signing.errors import PolicyError


class _Rule(msgspec.Struct, rename="camel", frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """What all of them have."""


class MatchExact(_Rule, frozen=True, tag="matchExact"):
    """The signature names the same repository and the same tag or digest."""


class MatchRepoDigestOrExact(_Rule, frozen=True, tag="matchRepoDigestOrExact"):
    """The same, but of an image that is asked for by digest only the repository counts."""


class MatchRepository(_Rule, frozen=True, tag="matchRepository"):
    """The signature names the same repository."""


class ExactReference(_Rule, frozen=True, tag="exactReference"):
    """The signature names this image, whatever was asked for."""

    docker_reference: str


class ExactRepository(_Rule, frozen=True, tag="exactRepository"):
    """The signature names this repository, whatever was asked for."""

    docker_repository: str


class RemapIdentity(_Rule, frozen=True, tag="remapIdentity"):
    """As matchRepoDigestOrExact, of an image that below `prefix` is signed as one below `signed_prefix`."""

    prefix: str
    signed_prefix: str


class DigestOnly(_Rule, frozen=True, tag="digestOnly"):
    """Whatever the signature names, and if it names nothing."""


Identity: TypeAlias = (
    MatchExact
    | MatchRepoDigestOrExact
    | MatchRepository
    | ExactReference
    | ExactRepository
    | RemapIdentity
    | DigestOnly
)


def check(rule: Identity) -> None:
    """Refuse a rule that no signature could fulfil. Raises PolicyError naming the field."""
    if isinstance(rule, ExactReference):
        if not _has_identifier(_read(rule.docker_reference, "dockerReference")):
            raise PolicyError(f"dockerReference {rule.docker_reference!r}: has neither tag nor digest")
    elif isinstance(rule, ExactRepository):
        if _has_identifier(_read(rule.docker_repository, "dockerRepository")):
            raise PolicyError(f"dockerRepository {rule.docker_repository!r}: has a tag or a digest")
    elif isinstance(rule, RemapIdentity):
        for field, value in (("prefix", rule.prefix), ("signedPrefix", rule.signed_prefix)):
            host, slash, path = value.partition("/")
            # A host alone is no reference: it is judged with a name behind it.
            named = _read(f"{host}/{path or 'name'}", field)
            if _has_identifier(named) or named.registry != host or (slash and named.repository != path):
                raise PolicyError(f"{field} {value!r}: is no host, namespace or repository in full")


def fulfils(rule: Identity, named: str | None, asked: Reference) -> bool:
    """Whether a signature that names the image `named` counts for one that was asked for."""
    if isinstance(rule, DigestOnly):
        return True
    signed = _parse(named)
    if signed is None:
        return False
    if isinstance(rule, MatchRepository):
        return signed.full_repository == asked.full_repository
    if isinstance(rule, ExactRepository):
        return signed.full_repository == _read(rule.docker_repository, "dockerRepository").full_repository
    if isinstance(rule, ExactReference):
        return signed == _read(rule.docker_reference, "dockerReference")
    repository = asked.full_repository
    if isinstance(rule, RemapIdentity):
        repository = _remapped(rule, repository)
    elif isinstance(rule, MatchExact) and asked.digest:
        return signed.full_repository == repository and signed.digest == asked.digest
    if signed.full_repository != repository:
        return False
    return asked.digest is not None or (signed.digest is None and signed.tag == asked.tag)


def _remapped(rule: RemapIdentity, repository: str) -> str:
    if repository == rule.prefix or repository.startswith(f"{rule.prefix}/"):
        return rule.signed_prefix + repository.removeprefix(rule.prefix)
    return repository


def _has_identifier(reference: Reference) -> bool:
    return bool(reference.tag or reference.digest)


def _read(text: str, field: str) -> Reference:
    """A name of the policy. Raises PolicyError."""
    found = _parse(text)
    if found is None:
        raise PolicyError(f"{field} {text!r}: is no image name")
    return found


def _parse(text: str | None) -> Reference | None:
    """A name as it is written: without a tag it means no tag. None for what is none."""
    try:
        found = parse(text or "")
    except InvalidReferenceError:
        return None
    has_tag = ":" in (text or "").partition("@")[0].rpartition("/")[2]
    return found if has_tag else Reference(found.registry, found.repository, None, found.digest)
