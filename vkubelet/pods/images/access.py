"""Who may use an image that is on the node: those whose credentials have once got it, or would.

It exists because an image of a private registry must not be given to a pod that could not have pulled it,
only because another pod could (KEP-2535, pkg/kubelet/images/pullmanager). Of credentials it keeps hashes, in
files for the node alone. What no file tells of, or what cannot be read, is open to nobody: the registry is
asked again, which costs a request. It must not know how an image is pulled.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from oci.credentials import Credentials
from providers.faultpoints import reached
from vkubelet.api.struct import Struct

logger = logging.getLogger(__name__)

MOST_SECRETS = 100
"""Secrets that are remembered of one repository: a kubelet's writeRecordWhileMatchingLimit."""


class Holder(Struct):
    """A secret that has credentials; `digest` is of these."""

    namespace: str
    name: str
    uid: str
    digest: str

    def same_secret(self, other: Holder) -> bool:
        """Whether it is the same object, perhaps with other credentials by now."""
        return (self.namespace, self.name, self.uid) == (other.namespace, other.name, other.uid)


class Access(Struct):
    """Who may use an image as one repository's: everybody on this node, or who has one of these secrets."""

    everybody: bool = False
    secrets: list[Holder] = msgspec.field(default_factory=list)


def digest_of(credentials: Credentials) -> str:
    """What tells two credentials apart."""
    parts = [credentials.username, credentials.password]
    tokens = [credentials.identity_token, credentials.registry_token]
    # Files that are there already know credentials without tokens as pairs.
    return hashlib.sha256(msgspec.json.encode([*parts, *tokens] if any(tokens) else parts)).hexdigest()


def permitted(access: Access, holders: Iterable[Holder]) -> Holder | None:
    """The holder who may use it: by the same credentials, or by the same secret, whatever it says now."""
    known = {one.digest for one in access.secrets}
    for holder in holders:
        if holder.digest in known or any(holder.same_secret(one) for one in access.secrets):
            return holder
    return None


def extended(access: Access, holder: Holder | None) -> Access:
    """The same with one more who may use it; None is everybody."""
    if holder is None or access.everybody:
        return Access(everybody=True)
    others = [one for one in access.secrets if not one.same_secret(holder)]
    return Access(secrets=[*others, holder][-MOST_SECRETS:])


class AccessFiles:
    """One for the node: a file an image, named by its digest."""

    def __init__(self, directory: Path) -> None:
        """The directory is made when something is kept."""
        self._directory = directory
        self._known: dict[str, dict[str, Access]] = {}

    def get(self, digest: str, repository: str) -> Access:
        """Who may use the image of `digest` as `repository`'s, `registry/name`."""
        return self._image(digest).get(repository, Access())

    def allow(self, digest: str, repository: str, holder: Holder | None) -> None:
        """Somebody has got it with these credentials, or, by None, with none or the node's own."""
        image = self._image(digest)
        before = image.get(repository, Access())
        after = extended(before, holder)
        if after == before:
            return
        image[repository] = after
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._path(digest)
            fresh = path.with_name(f".{path.name}")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(image))
            reached("image-access-half-written")
            os.replace(fresh, path)  # noqa: PTH105  the same, said as what it does
        except OSError as error:
            # The next agent asks the registry once more.
            logger.warning("who may use image %s is known to this agent only: %s", digest, error)

    def keep_only(self, digests: Collection[str]) -> None:
        """Forget all other images. Raises OSError."""
        for digest in self._known.keys() - set(digests):
            del self._known[digest]
        kept = {self._path(digest).name for digest in digests}
        if self._directory.is_dir():
            for path in self._directory.iterdir():
                if path.name not in kept:
                    path.unlink(missing_ok=True)

    def _image(self, digest: str) -> dict[str, Access]:
        found = self._known.get(digest)
        if found is None:
            found = self._known[digest] = self._read(self._path(digest))
        return found

    def _read(self, path: Path) -> dict[str, Access]:
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, Access])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            logger.warning("who may use an image is not known any more: %s: %s", path, error)
            return {}

    def _path(self, digest: str) -> Path:
        return self._directory / digest.replace(":", "-")
