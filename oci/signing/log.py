"""What a Rekor log promises of a signature: that it has it, and since when.

It exists because a certificate that was valid for minutes counts at the time of its use, which only the log
tells. The promise is the signed entry timestamp, checked without asking anybody; entries of Rekor's second
version, which has none, do not count. It must not know what an entry's signature is for.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from oci.signing.errors import SignatureProblem
from oci.signing.keys import Key, believed, encoded, has_signed

_MOST_JSON = 2**53
"""Integers below it mean the same to all who read JSON."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A log's entry: `body` is what was logged, `time` when, seconds since the epoch; `promise` is signed."""

    body: bytes
    time: int
    index: int
    log: str
    promise: bytes


class _Hash(msgspec.Struct, frozen=True):
    algorithm: str
    value: str


class _PublicKey(msgspec.Struct, frozen=True):
    content: bytes


class _Signature(msgspec.Struct, frozen=True, rename="camel"):
    content: bytes
    public_key: _PublicKey


class _Data(msgspec.Struct, frozen=True):
    hash: _Hash


class _HashedSpec(msgspec.Struct, frozen=True):
    signature: _Signature
    data: _Data


class _EnvelopeSignature(msgspec.Struct, frozen=True):
    signature: bytes
    verifier: bytes


class _EnvelopeSpec(msgspec.Struct, frozen=True, rename="camel"):
    payload_hash: _Hash
    signatures: list[_EnvelopeSignature]


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    kind: str
    api_version: str
    spec: msgspec.Raw


def check(entry: Entry, logs: Iterable[Key], payload: bytes, signature: bytes, key: Key) -> None:
    """Refuse an entry that is of no log here, or of another signature. Raises SignatureProblem."""
    if not (0 <= entry.time < _MOST_JSON and 0 <= entry.index < _MOST_JSON):
        raise SignatureProblem("its log entry has impossible numbers")
    promised = {
        "body": base64.b64encode(entry.body).decode(),
        "integratedTime": entry.time,
        "logID": entry.log,
        "logIndex": entry.index,
    }
    # RFC 8785: keys in order, no space between.
    message = json.dumps(promised, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    if not any(has_signed(log, entry.promise, message) for log in logs):
        raise SignatureProblem("its log entry is promised by none of the Rekor keys")
    logged_hash, logged_signature, logged_key = _read(entry.body)
    if _hash(logged_hash, payload) != logged_hash.value:
        raise SignatureProblem("its log entry is of another payload")
    if logged_signature != signature:
        raise SignatureProblem("its log entry is of another signature")
    if _key(logged_key) != encoded(key):
        raise SignatureProblem("its log entry is of another key")


def _read(body: bytes) -> tuple[_Hash, bytes, bytes]:
    """Hash of what was signed, signature, and key or certificate of an entry. Raises SignatureProblem."""
    try:
        found = msgspec.json.decode(body, type=_Body)
        kind = (found.kind, found.api_version)
        if kind == ("hashedrekord", "0.0.1"):
            spec = msgspec.json.decode(found.spec, type=_HashedSpec)
            return spec.data.hash, spec.signature.content, spec.signature.public_key.content
        if kind == ("dsse", "0.0.1"):
            envelope = msgspec.json.decode(found.spec, type=_EnvelopeSpec)
            if len(envelope.signatures) != 1:
                raise SignatureProblem("its log entry has not one signature")
            return envelope.payload_hash, envelope.signatures[0].signature, envelope.signatures[0].verifier
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SignatureProblem("its log entry cannot be read") from error
    raise SignatureProblem(f"its log entry is of kind {found.kind[:50]!r} {found.api_version[:50]!r}")


def _hash(logged: _Hash, payload: bytes) -> str:
    if logged.algorithm not in ("sha256", "sha384", "sha512"):
        raise SignatureProblem(f"its log entry has a hash {logged.algorithm[:50]!r}")
    return hashlib.new(logged.algorithm, payload).hexdigest()


def _key(data: bytes) -> bytes | None:
    """The key in a PEM text, or that of the certificate in it."""
    try:
        if b"BEGIN CERTIFICATE" in data:
            key = believed(x509.load_pem_x509_certificate(data).public_key())
        else:
            key = believed(serialization.load_pem_public_key(data))
    except (ValueError, UnsupportedAlgorithm):
        return None
    return None if key is None else encoded(key)
