"""What lets an image pass, or tells why not: the policy in force, asked of the signatures in a registry.

It exists so that who pulls has one question to ask, before anything of an image but its manifests is fetched,
and so that an image that is here already costs a look at the files' stamps. It must not know pods.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from oci.errors import SignatureError
from oci.plan import Plan, kept
from oci.reference import Reference
from oci.registry import Repository
from oci.signing.errors import PolicyError
from oci.signing.lookup import signatures
from oci.signing.policy_file import InForce, PolicyFile
from oci.signing.records import Accepted, Records
from oci.signing.verdict import Found, refusal
from oci.store import Store


class Gate:
    """One for an image store."""

    def __init__(self, policy: Path, root: Path, store: Store) -> None:
        """`policy` is the policy's file; below `root`, the store's, is kept what was accepted."""
        self._policy = PolicyFile(policy)
        self._records = Records(root, store.ingest)
        self._store = store

    def open(self) -> None:
        """Read the policy; blocks. Raises PolicyError when it cannot be used."""
        self._policy.current()

    def knows(self, reference: Reference, digest: str) -> bool:
        """Whether this process knows an image to be accepted under this name; a few stats, and no more."""
        in_force = self._policy.last
        if in_force is None or (reference.name, digest) not in in_force.accepted:
            return False
        try:
            return in_force.is_current()
        except OSError:
            return False  # who reads it says why

    def recalls(self, reference: Reference, digest: str) -> bool:
        """Whether it is accepted, without its registry being asked; blocks. Raises SignatureError."""
        return self._recalls(self._in_force(reference), reference, digest)

    def check(self, repository: Repository, plan: Plan) -> None:
        """Refuse the image that the policy does not accept as what the repository's reference is.

        Its manifests, of which any may be signed, are in the store. Blocks. Raises SignatureError, and other
        OciErrors when a registry cannot be asked.
        """
        reference, digest = repository.reference, plan.digest
        in_force = self._in_force(reference)
        if self._recalls(in_force, reference, digest):
            return
        requirements = in_force.policy.requirements(reference)
        manifests = tuple(manifest.digest for manifest in plan.manifests)
        found: list[Found] = []
        cause = ""
        if any(requirement.signed is None for requirement in requirements):
            cause = refusal(requirements, reference, manifests, found)
        else:
            contents = {one: kept(reference, self._store, one) for one in manifests}
            for more in signatures(repository, contents):
                found += more
                cause = refusal(requirements, reference, manifests, found)
                if not cause:
                    break
        if cause:
            raise SignatureError(reference, f"{digest}: image policy {self._policy.path}: {cause}")
        in_force.accepted.add((reference.name, digest))
        self._records.add(digest, Accepted(in_force.digest, reference.name))

    def keep_only(self, digests: Collection[str]) -> None:
        """Images of other digests are gone; blocks. Raises OSError."""
        self._records.keep_only(digests)
        if self._policy.last is not None:
            accepted = self._policy.last.accepted
            accepted -= {one for one in accepted.copy() if one[1] not in digests}

    def _in_force(self, reference: Reference) -> InForce:
        try:
            return self._policy.current()
        except PolicyError as error:
            raise SignatureError(reference, str(error)) from error

    def _recalls(self, in_force: InForce, reference: Reference, digest: str) -> bool:
        name = reference.name
        if (name, digest) in in_force.accepted:
            return True
        requirements = in_force.policy.requirements(reference)
        if requirements and not self._records.has(digest, Accepted(in_force.digest, name)):
            return False
        in_force.accepted.add((name, digest))
        return True
