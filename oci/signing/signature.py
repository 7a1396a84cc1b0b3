"""One signature as a registry has it, read with doubt: what was signed, by which key or certificate.

It exists so that cosign's layers and sigstore's bundles are judged alike. What is read here is anybody's
text until the signature over it is verified. Bundles are those of sigstore_bundle.proto, envelopes DSSE's,
payloads those of containers-signature(5) or in-toto's. All of it is pure. It must not know policies or
registries.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from cryptography import x509

from oci.signing.certificates import read_certificate, read_chain
from oci.signing.errors import SignatureProblem
from oci.signing.log import Entry

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle"
"""What the media types of all versions of a bundle begin with."""

_SIGNATURE = "dev.cosignproject.cosign/signature"
_CERTIFICATE = "dev.sigstore.cosign/certificate"
_CHAIN = "dev.sigstore.cosign/chain"
_LOGGED = "dev.sigstore.cosign/bundle"
_SIMPLE_TYPE = "cosign container image signature"
_IN_TOTO = "application/vnd.in-toto+json"
_STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
_SIGN = "https://sigstore.dev/cosign/sign/v1"


@dataclass(frozen=True, slots=True)
class Signature:
    """`message` is what is signed, `payload` what is logged of it; they speak of `digests` as `named`."""

    message: bytes
    payload: bytes
    signature: bytes
    digests: frozenset[str]
    named: str | None
    certificate: x509.Certificate | None
    chain: tuple[x509.Certificate, ...]
    entry: Entry | None


class _Image(msgspec.Struct, frozen=True, rename="kebab"):
    docker_manifest_digest: str


class _Identity(msgspec.Struct, frozen=True, rename="kebab"):
    docker_reference: str


class _Critical(msgspec.Struct, frozen=True):
    type: str
    image: _Image
    identity: _Identity


class _Simple(msgspec.Struct, frozen=True):
    critical: _Critical


class _LoggedPayload(msgspec.Struct, frozen=True):
    body: bytes
    time: int = msgspec.field(name="integratedTime")
    index: int = msgspec.field(name="logIndex")
    log: str = msgspec.field(name="logID")


class _Logged(msgspec.Struct, frozen=True, rename="pascal"):
    signed_entry_timestamp: bytes
    payload: _LoggedPayload


class _Subject(msgspec.Struct, frozen=True):
    digest: dict[str, str]
    name: str = ""


class _Statement(msgspec.Struct, frozen=True, rename="camel"):
    type: str = msgspec.field(name="_type")
    subject: list[_Subject]
    predicate_type: str


class _Bytes(msgspec.Struct, frozen=True, rename="camel"):
    raw_bytes: bytes


class _Chain(msgspec.Struct, frozen=True):
    certificates: list[_Bytes]


class _LogId(msgspec.Struct, frozen=True, rename="camel"):
    key_id: bytes


class _Promise(msgspec.Struct, frozen=True, rename="camel"):
    signed_entry_timestamp: bytes


class _LogEntry(msgspec.Struct, frozen=True, rename="camel"):
    log_id: _LogId
    canonicalized_body: bytes
    log_index: str | int = 0
    integrated_time: str | int = 0
    inclusion_promise: _Promise | None = None


class _Material(msgspec.Struct, frozen=True, rename="camel"):
    certificate: _Bytes | None = None
    chain: _Chain | None = msgspec.field(name="x509CertificateChain", default=None)
    tlog_entries: list[_LogEntry] = []


class _Digest(msgspec.Struct, frozen=True):
    algorithm: str
    digest: bytes


class _MessageSignature(msgspec.Struct, frozen=True, rename="camel"):
    signature: bytes
    message_digest: _Digest


class _EnvelopeSignature(msgspec.Struct, frozen=True):
    sig: bytes


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    payload: bytes
    payload_type: str
    signatures: list[_EnvelopeSignature]


class _Bundle(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    verification_material: _Material
    message_signature: _MessageSignature | None = None
    dsse_envelope: _Envelope | None = None


_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def simple(payload: bytes, annotations: Mapping[str, str]) -> Signature:
    """The signature in a layer of cosign's. Raises SignatureProblem."""
    try:
        critical = msgspec.json.decode(payload, type=_Simple).critical
        logged = msgspec.json.decode(annotations.get(_LOGGED) or "null", type=_Logged | None)
        signature = b64decode(annotations.get(_SIGNATURE, ""), validate=True)
    except (*_ERRORS, binascii.Error, ValueError) as error:
        raise SignatureProblem(f"it cannot be read: {error}") from error
    if critical.type != _SIMPLE_TYPE:
        raise SignatureProblem(f"its type is {critical.type[:100]!r}, not {_SIMPLE_TYPE!r}")
    certificate = annotations.get(_CERTIFICATE)
    entry = None
    if logged is not None:
        told = logged.payload
        entry = Entry(told.body, told.time, told.index, told.log, logged.signed_entry_timestamp)
    return Signature(
        message=payload,
        payload=payload,
        signature=signature,
        digests=frozenset((critical.image.docker_manifest_digest,)),
        named=critical.identity.docker_reference,
        certificate=read_certificate(certificate.encode()) if certificate else None,
        chain=read_chain(annotations[_CHAIN].encode()) if annotations.get(_CHAIN) else (),
        entry=entry,
    )


def bundle(data: bytes, manifests: Mapping[str, bytes]) -> Signature:
    """The signature in a bundle: of a statement, or of one of `manifests`. Raises SignatureProblem."""
    try:
        found = msgspec.json.decode(data, type=_Bundle)
    except _ERRORS as error:
        raise SignatureProblem(f"it cannot be read: {error}") from error
    if not found.media_type.startswith(BUNDLE):
        raise SignatureProblem(f"its media type is {found.media_type[:100]!r}, which is no bundle's")
    envelope, message = found.dsse_envelope, found.message_signature
    if (envelope is None) == (message is None):
        raise SignatureProblem("it has not one content")
    if message is not None:
        told = message.message_digest
        digest = f"{told.algorithm.replace('SHA2_', 'sha')}:{told.digest.hex()}"
        signed = manifests.get(digest, b"")
        return _signature(found, signed, signed, message.signature, frozenset((digest,)), None)
    assert envelope is not None  # noqa: S101
    if len(envelope.signatures) != 1:
        raise SignatureProblem("its envelope has not one signature")
    kind, payload = envelope.payload_type.encode(), envelope.payload
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    digests, named = _statement(envelope)
    return _signature(found, signed, payload, envelope.signatures[0].sig, digests, named)


def _statement(envelope: _Envelope) -> tuple[frozenset[str], str | None]:
    """The digests that a statement is about, and the name it has for the one that it is about."""
    if envelope.payload_type != _IN_TOTO:
        raise SignatureProblem(f"its payload is {envelope.payload_type[:100]!r}, not {_IN_TOTO!r}")
    try:
        statement = msgspec.json.decode(envelope.payload, type=_Statement)
    except _ERRORS as error:
        raise SignatureProblem(f"its statement cannot be read: {error}") from error
    if statement.type not in _STATEMENTS:
        raise SignatureProblem(f"its statement is of type {statement.type[:100]!r}")
    # Who says what was found in an image, or where it was built, does not approve of it.
    if statement.predicate_type != _SIGN:
        raise SignatureProblem(f"it says {statement.predicate_type[:100]!r} of the image, not {_SIGN!r}")
    digests = frozenset(
        f"{algorithm}:{value}" for one in statement.subject for algorithm, value in one.digest.items()
    )
    return digests, (statement.subject[0].name or None) if len(statement.subject) == 1 else None


def _signature(
    found: _Bundle,
    message: bytes,
    payload: bytes,
    signature: bytes,
    digests: frozenset[str],
    named: str | None,
) -> Signature:
    material = found.verification_material
    given = [material.certificate] if material.certificate else []
    given += material.chain.certificates if material.chain else []
    certificates = [read_certificate(one.raw_bytes) for one in given]
    return Signature(
        message=message,
        payload=payload,
        signature=signature,
        digests=digests,
        named=named,
        certificate=certificates[0] if certificates else None,
        chain=tuple(certificates[1:]),
        entry=_entry(material.tlog_entries),
    )


def _entry(entries: list[_LogEntry]) -> Entry | None:
    """The first entry that a log promises."""
    for one in entries:
        if one.inclusion_promise is not None:
            try:
                # Protobuf's JSON writes large integers as text.
                time, index = int(one.integrated_time), int(one.log_index)
            except ValueError as error:
                raise SignatureProblem("its log entry has impossible numbers") from error
            promise = one.inclusion_promise.signed_entry_timestamp
            return Entry(one.canonicalized_body, time, index, one.log_id.key_id.hex(), promise)
    return None
