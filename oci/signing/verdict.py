"""Whether an image's signatures meet a policy's requirements, and if not, why.

It exists so that the decision is one pure function of the policy, of what was asked for and of what was
found. It must not know registries or files.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from oci.reference import Reference
from oci.signing import certificates, log
from oci.signing.errors import SignatureProblem
from oci.signing.identity import DigestOnly, fulfils
from oci.signing.keys import Key, has_signed
from oci.signing.policy import Requirement, Signed
from oci.signing.signature import Signature

_TOLD = 4
"""Signatures whose problems are told: an event's text has limits."""


@dataclass(frozen=True, slots=True)
class Found:
    """A signature and where it was, or, in place of one that cannot be read, why."""

    where: str
    signature: Signature | None
    problem: str = ""


def refusal(
    requirements: Sequence[Requirement], asked: Reference, digests: Collection[str], found: Sequence[Found]
) -> str:
    """Why an image is not accepted: the first requirement that is not met; empty when all are.

    `digests` are of the image's manifest and of the index that it is in: either may be signed.
    """
    for requirement in requirements:
        if requirement.signed is None:
            return f"{requirement.rule}: no such image is accepted"
        problems = []
        for one in found:
            problem = one.problem
            if one.signature is not None:
                problem = _problem(requirement.signed, asked, digests, one.signature)
                if not problem:
                    break
            problems.append(f"{one.where}: {problem}")
        else:
            return f"{requirement.rule}: {_listed(problems)}"
    return ""


def _listed(problems: list[str]) -> str:
    more = len(problems) - _TOLD
    told = [*problems[:_TOLD], f"and {more} more"] if more > 0 else problems
    return "; ".join(told) or "the image has no signature"


def _problem(signed: Signed, asked: Reference, digests: Collection[str], signature: Signature) -> str:
    """Why a signature does not meet a requirement; empty when it does."""
    try:
        _check(signed, signature)
    except SignatureProblem as problem:
        return str(problem)
    # What is signed is believed from here on.
    if signature.digests.isdisjoint(digests):
        return f"it is of {', '.join(sorted(signature.digests))[:200]}"
    if fulfils(signed.identity, signature.named, asked):
        return ""
    if signature.named is None:
        return f"it names no image, which only signedIdentity {DigestOnly.__struct_config__.tag} takes"
    rule = signed.identity.__struct_config__.tag
    return f"it is of {signature.named[:200]!r}, which signedIdentity {rule} does not take for {asked.name}"


def _check(signed: Signed, signature: Signature) -> None:
    """Refuse a signature that is not by one who may sign. Raises SignatureProblem."""
    key = _signer(signed, signature)
    if signed.logs:
        if signature.entry is None:
            raise SignatureProblem("no Rekor log promises to have it")
        log.check(signature.entry, signed.logs, signature.payload, signature.signature, key)
        if signed.authority is not None and signature.certificate is not None:
            certificates.check(signed.authority, signature.certificate, signature.chain, signature.entry.time)


def _signer(signed: Signed, signature: Signature) -> Key:
    """The key that has made it. Raises SignatureProblem."""
    if signed.authority is None:
        for key in signed.keys:
            if has_signed(key, signature.signature, signature.message):
                return key
        raise SignatureProblem("it is by none of the keys")
    if signature.certificate is None:
        raise SignatureProblem("it has no certificate")
    key = certificates.key_of(signature.certificate)
    if not has_signed(key, signature.signature, signature.message):
        raise SignatureProblem("it is not by its certificate's key")
    return key
