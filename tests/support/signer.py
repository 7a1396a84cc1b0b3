"""Signs images as cosign does, with keys, certificates and a log that are made for a test."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGN = "https://sigstore.dev/cosign/sign/v1"
NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
"""When everything is signed."""
MINUTE = datetime.timedelta(minutes=1)

USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "encipher_only",
    "decipher_only",
)

Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def pem(key: Private) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def sign(
    key: Private, message: bytes, digest: hashes.HashAlgorithm | None = None, *, pss: bool = False
) -> bytes:
    chosen = digest or hashes.SHA256()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(chosen))
    form = padding.PSS(padding.MGF1(chosen), 32) if pss else padding.PKCS1v15()
    return key.sign(message, form, chosen)


def payload(digest: str, named: str, **changes: Any) -> bytes:
    """What is signed in cosign's first format."""
    critical = {
        "identity": {"docker-reference": named},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    return json.dumps({"critical": {**critical, **changes}, "optional": None}).encode()


def statement(digest: str, *, name: str = "", predicate: str = SIGN) -> bytes:
    algorithm, _, value = digest.partition(":")
    subject: dict[str, Any] = {"digest": {algorithm: value}}
    if name:
        subject["name"] = name
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [subject],
            "predicateType": predicate,
            "predicate": {},
        }
    ).encode()


def envelope_message(payload: bytes, kind: str = "application/vnd.in-toto+json") -> bytes:
    return f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload


@dataclass
class Log:
    """A Rekor log."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def entry(self, body: dict[str, Any], at: datetime.datetime = NOW) -> dict[str, Any]:
        """What was logged, in the form of cosign's first format."""
        logged = {
            "body": b64(json.dumps(body).encode()),
            "integratedTime": int(at.timestamp()),
            "logIndex": 7,
            "logID": hashlib.sha256(pem(self.key)).hexdigest(),
        }
        message = json.dumps(logged, separators=(",", ":"), sort_keys=True).encode()
        return {"SignedEntryTimestamp": b64(sign(self.key, message)), "Payload": logged}

    def hashed(self, payload: bytes, signature: bytes, verifier: bytes) -> dict[str, Any]:
        return {
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}},
                "signature": {"content": b64(signature), "publicKey": {"content": b64(verifier)}},
            },
        }

    def enveloped(self, payload: bytes, signature: bytes, verifier: bytes) -> dict[str, Any]:
        return {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": b64(signature), "verifier": b64(verifier)}],
            },
        }


@dataclass
class Authority:
    """A Fulcio: a root that lasts, and certificates for minutes."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    certificate: x509.Certificate = None  # type: ignore[assignment]  # made of the key
    issuer: Authority | None = None

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {id(self)}")])
        above = self.issuer or self
        usage = dict.fromkeys(USAGES, False)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(above.certificate.subject if self.issuer else name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 1000 * MINUTE)
            .not_valid_after(NOW + 1000 * MINUTE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
            .sign(above.key, hashes.SHA256())
        )

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def certify(
        self,
        key: Private,
        email: str = "dev@example.com",
        *,
        oidc: str = "https://login.example.com",
        old: str | None = None,
        build: str = "",
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
    ) -> x509.Certificate:
        """A certificate of ten minutes from NOW on."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - MINUTE)
            .not_valid_after(NOW + 9 * MINUTE)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(email)]), critical=True)
        )
        extensions = [("8", _utf8(oidc)), ("9", _utf8(build)), ("1", old.encode() if old else b"")]
        for last, value in extensions:
            if len(value) > 2:
                oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{last}")
                builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _utf8(text: str) -> bytes:
    data = text.encode()
    length = bytes([len(data)]) if len(data) < 0x80 else bytes([0x81, len(data)])
    return b"\x0c" + length + data


@dataclass
class Signer:
    """A key, perhaps with a certificate, and perhaps with a log that is told."""

    key: Private = field(default_factory=new_key)
    certificate: x509.Certificate | None = None
    chain: tuple[x509.Certificate, ...] = ()
    log: Log | None = None
    at: datetime.datetime = NOW
    digest: hashes.HashAlgorithm | None = None
    pss: bool = False

    def pem(self) -> bytes:
        return pem(self.key)

    def verifier(self) -> bytes:
        certificate = self.certificate
        return certificate.public_bytes(serialization.Encoding.PEM) if certificate else self.pem()

    def sign(self, message: bytes) -> bytes:
        return sign(self.key, message, self.digest, pss=self.pss)

    def annotations(self, payload: bytes) -> dict[str, str]:
        """Those of a layer with this payload."""
        signature = self.sign(payload)
        found = {"dev.cosignproject.cosign/signature": b64(signature)}
        if self.certificate:
            found["dev.sigstore.cosign/certificate"] = self.verifier().decode()
        if self.chain:
            encoded = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in self.chain)
            found["dev.sigstore.cosign/chain"] = encoded.decode()
        if self.log:
            body = self.log.hashed(payload, signature, self.verifier())
            found["dev.sigstore.cosign/bundle"] = json.dumps(self.log.entry(body, self.at))
        return found

    def _bundle(self, content: dict[str, Any], body: dict[str, Any] | None) -> bytes:
        material: dict[str, Any] = {"publicKey": {"hint": "a key"}}
        if self.certificate:
            raw = self.certificate.public_bytes(serialization.Encoding.DER)
            material = {"certificate": {"rawBytes": b64(raw)}}
        if self.log and body is not None:
            logged = self.log.entry(body, self.at)
            told = logged["Payload"]
            material["tlogEntries"] = [
                {
                    "logIndex": str(told["logIndex"]),
                    "logId": {"keyId": b64(bytes.fromhex(told["logID"]))},
                    "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
                    "integratedTime": str(told["integratedTime"]),
                    "inclusionPromise": {"signedEntryTimestamp": logged["SignedEntryTimestamp"]},
                    "canonicalizedBody": told["body"],
                }
            ]
        return json.dumps({"mediaType": BUNDLE, "verificationMaterial": material, **content}).encode()

    def bundle(self, payload: bytes, kind: str = "application/vnd.in-toto+json") -> bytes:
        """A bundle of a statement."""
        signature = self.sign(envelope_message(payload, kind))
        body = self.log.enveloped(payload, signature, self.verifier()) if self.log else None
        envelope = {"payload": b64(payload), "payloadType": kind, "signatures": [{"sig": b64(signature)}]}
        return self._bundle({"dsseEnvelope": envelope}, body)

    def message_bundle(self, message: bytes) -> bytes:
        """A bundle of a message: of an image, its manifest."""
        signature = self.sign(message)
        body = self.log.hashed(message, signature, self.verifier()) if self.log else None
        digest = {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(message).digest())}
        return self._bundle(
            {"messageSignature": {"messageDigest": digest, "signature": b64(signature)}}, body
        )
