"""The policy file: for which images which requirements hold, as containers-policy.json(5) writes it.

It exists so that an administrator uses the file that Podman, Skopeo and CRI-O read. What of that format is
not known here is refused, never skipped: a requirement that is not understood would be one that does not
hold. Other transports than `docker` are those of other programs; nothing is pulled by them, and they are not
looked at. All of it is pure: whoever calls has the files. It must not know registries or signatures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from oci.reference import Reference
from oci.signing import identity
from oci.signing.certificates import Authority, authority
from oci.signing.errors import PolicyError
from oci.signing.identity import Identity, MatchRepoDigestOrExact
from oci.signing.keys import Key, read_key

MAXIMUM_SIZE = 4 * 1024 * 1024
"""Bytes of a policy file, or of a key or certificates that it names."""

ReadFile: TypeAlias = Callable[[str], bytes]
"""Gives a file by its absolute path. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Signed:
    """An image must have a signature by one of `keys`, or by who has a certificate of `authority`.

    With `logs`, keys of Rekor logs, one of these must have it too.
    """

    keys: tuple[Key, ...]
    authority: Authority | None
    logs: tuple[Key, ...]
    identity: Identity


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement and its place in the file; `signed` is None where nothing can fulfil it."""

    rule: str
    signed: Signed | None


@dataclass(frozen=True, slots=True)
class Policy:
    """The requirements of each scope, all of which must be met; those that accept anything are left out."""

    default: tuple[Requirement, ...]
    scopes: Mapping[str, tuple[Requirement, ...]]

    def requirements(self, reference: Reference) -> tuple[Requirement, ...]:
        """Those of the most specific scope that an image is in."""
        for scope in scopes(reference):
            found = self.scopes.get(scope)
            if found is not None:
                return found
        return self.default


def scopes(reference: Reference) -> list[str]:
    """The scopes that an image is in, the most specific first."""
    repository = reference.full_repository
    parts = repository.split("/")
    found = [reference.name, *("/".join(parts[:count]) for count in range(len(parts), 0, -1))]
    labels = reference.registry.partition(":")[0].split(".")
    if not reference.registry.startswith("["):
        found += [f"*.{'.'.join(labels[first:])}" for first in range(1, len(labels))]
    return [*found, ""]


class _Strict(msgspec.Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """Nothing that is not understood is passed over."""


class _File(_Strict, frozen=True):
    default: list[Any]
    transports: dict[str, dict[str, Any]] = {}


class _AcceptAnything(_Strict, frozen=True, tag_field="type", tag="insecureAcceptAnything"):
    pass


class _Reject(_Strict, frozen=True, tag_field="type", tag="reject"):
    pass


class _Fulcio(_Strict, frozen=True):
    oidc_issuer: str
    ca_path: str | None = None
    ca_data: bytes | None = None
    subject_email: str | None = None
    build_signer_uri: str | None = msgspec.field(name="buildSignerURI", default=None)


class _SigstoreSigned(_Strict, frozen=True, tag_field="type", tag="sigstoreSigned"):
    key_path: str | None = None
    key_paths: list[str] | None = None
    key_data: bytes | None = None
    key_datas: list[bytes] | None = None
    fulcio: _Fulcio | None = None
    rekor_public_key_path: str | None = None
    rekor_public_key_paths: list[str] | None = None
    rekor_public_key_data: bytes | None = None
    rekor_public_key_datas: list[bytes] | None = None
    signed_identity: Identity = MatchRepoDigestOrExact()


_TYPES = ("insecureAcceptAnything", "reject", "sigstoreSigned")


def read(data: bytes, file: ReadFile) -> Policy:
    """The policy in a file's bytes, with the keys that it names. Raises PolicyError naming the field."""
    try:
        document = json.loads(data, object_pairs_hook=_object)
        whole = msgspec.convert(document, _File)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise PolicyError(str(error) or type(error).__name__) from error
    found = {}
    for scope, written in whole.transports.get("docker", {}).items():
        if "*" in scope.removeprefix("*."):
            raise PolicyError(f"transports.docker[{scope!r}]: only `*.` at the beginning is a pattern")
        found[scope] = _requirements(written, f"transports.docker[{scope!r}]", file)
    return Policy(_requirements(whole.default, "default", file), found)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different: what one reader sees another one must see too."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise PolicyError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _requirements(written: Any, place: str, file: ReadFile) -> tuple[Requirement, ...]:
    if not isinstance(written, list) or not written:
        raise PolicyError(f"{place}: expected a list of at least one requirement")
    found = []
    for position, one in enumerate(written):
        here = f"{place}[{position}]"
        kind = one.get("type") if isinstance(one, dict) else None
        if kind not in _TYPES:
            raise PolicyError(f"{here}.type: {kind!r} is not supported here; only {', '.join(_TYPES)} are")
        try:
            requirement = msgspec.convert(one, _AcceptAnything | _Reject | _SigstoreSigned)
            if isinstance(requirement, _Reject):
                found.append(Requirement(f"{here} (reject)", None))
            elif isinstance(requirement, _SigstoreSigned):
                found.append(Requirement(f"{here} (sigstoreSigned)", _signed(requirement, file)))
        except (PolicyError, msgspec.ValidationError) as error:
            raise PolicyError(f"{here}: {error}") from error
    return tuple(found)


def _signed(written: _SigstoreSigned, file: ReadFile) -> Signed:
    identity.check(written.signed_identity)
    keys = _keys(written, "key", file)
    logs = _keys(written, "rekorPublicKey", file)
    if (written.fulcio is None) == (not keys):
        raise PolicyError("exactly one of keyPath, keyPaths, keyData, keyDatas and fulcio must be there")
    if written.fulcio is None:
        return Signed(keys, None, logs, written.signed_identity)
    if not logs:
        raise PolicyError("fulcio: needs a Rekor key, which tells when a certificate was used")
    return Signed((), _authority(written.fulcio, file), logs, written.signed_identity)


def _keys(written: _SigstoreSigned, name: str, file: ReadFile) -> tuple[Key, ...]:
    """The keys of the one of four fields that is there."""
    prefix = "key" if name == "key" else "rekor_public_key"
    values: dict[str, Sequence[str | bytes]] = {}
    for ending, is_list in (("path", False), ("paths", True), ("data", False), ("datas", True)):
        value = getattr(written, f"{prefix}_{ending}")
        if value is not None:
            values[f"{name}{ending.capitalize()}"] = value if is_list else [value]
    if len(values) > 1:
        raise PolicyError(f"{' and '.join(values)}: at most one of them may be there")
    for field, ones in values.items():
        if not ones:
            raise PolicyError(f"{field}: is empty")
        return tuple(read_key(_content(one, field, file), field) for one in ones)
    return ()


def _authority(written: _Fulcio, file: ReadFile) -> Authority:
    if (written.ca_path is None) == (written.ca_data is None):
        raise PolicyError("fulcio: exactly one of caPath and caData must be there")
    if not written.oidc_issuer:
        raise PolicyError("fulcio.oidcIssuer: is empty")
    if not (written.subject_email or written.build_signer_uri):
        raise PolicyError("fulcio: subjectEmail or buildSignerURI must be there")
    if written.ca_path is not None:
        field, data = "fulcio.caPath", _content(written.ca_path, "fulcio.caPath", file)
    else:
        field, data = "fulcio.caData", written.ca_data or b""
    return authority(
        data,
        field,
        issuer=written.oidc_issuer,
        email=written.subject_email or None,
        build_signer=written.build_signer_uri or None,
    )


def _content(value: str | bytes, field: str, file: ReadFile) -> bytes:
    if isinstance(value, bytes):
        return value
    if not value.startswith("/"):
        raise PolicyError(f"{field} {value!r}: is no absolute path")
    try:
        return file(value)
    except OSError as error:
        raise PolicyError(f"{field} {value}: {error.strerror or error}") from error
