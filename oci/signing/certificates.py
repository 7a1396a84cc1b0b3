"""Certificates of a Fulcio authority: whether one is to be believed, and whose key it has.

It exists so that an identity, a person's address or a workflow, can stand for a key. A certificate counts at
the time at which a log has seen it used, as it is valid for minutes. That the authority has logged it itself,
its signed certificate timestamps, is not looked at, as in containers/image. The extensions are Fulcio's
(docs/oid-info.md there). It must not know what is signed.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from oci.signing.errors import PolicyError, SignatureProblem
from oci.signing.keys import Key, believed

_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_OLD_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_BUILD_SIGNER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.9")
_UTF8_STRING = 0x0C


@dataclass(frozen=True, slots=True)
class Authority:
    """Certificates that are believed, and which of those that they vouch for may sign.

    `issuer` is who has identified the signer, `email` and `build_signer` who that must be; None is anyone.
    """

    roots: tuple[x509.Certificate, ...]
    issuer: str
    email: str | None
    build_signer: str | None


def authority(
    data: bytes, field: str, *, issuer: str, email: str | None, build_signer: str | None
) -> Authority:
    """An authority of the certificates in a PEM text. Raises PolicyError naming the policy's `field`."""
    try:
        roots = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise PolicyError(f"{field}: has no certificates in PEM") from error
    return Authority(tuple(roots), issuer, email, build_signer)


def read_certificate(data: bytes) -> x509.Certificate:
    """A certificate in PEM or DER. Raises SignatureProblem."""
    try:
        if data.lstrip().startswith(b"-----"):
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise SignatureProblem("its certificate cannot be read") from error


def read_chain(data: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in a PEM text. Raises SignatureProblem."""
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError as error:
        raise SignatureProblem("its chain of certificates cannot be read") from error


def key_of(certificate: x509.Certificate) -> Key:
    """A certificate's key. Raises SignatureProblem."""
    try:
        key = believed(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if key is None:
        raise SignatureProblem("its certificate has a key of a kind that is not believed")
    return key


def check(
    trusted: Authority, certificate: x509.Certificate, chain: tuple[x509.Certificate, ...], at: int
) -> None:
    """Refuse a certificate that does not count at a time, in seconds since the epoch.

    `chain` are certificates between it and the authority's, which nobody believes. Raises SignatureProblem.
    """
    try:
        moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
        builder = verification.PolicyBuilder().store(verification.Store(list(trusted.roots))).time(moment)
        verifier = builder.extension_policies(ca_policy=_CA, ee_policy=_SIGNER).build_client_verifier()
        verifier.verify(certificate, list(chain))
    except verification.VerificationError as error:
        raise SignatureProblem(f"its certificate is not the authority's: {error}") from error
    except (ValueError, OverflowError, OSError) as error:
        raise SignatureProblem(f"its certificate cannot be judged at the time {at}") from error
    try:
        _check_identity(trusted, certificate.extensions)
    except (ValueError, x509.DuplicateExtension) as error:
        raise SignatureProblem("its certificate's extensions cannot be read") from error


def _check_identity(trusted: Authority, extensions: x509.Extensions) -> None:
    issuers = {_text(extensions, _ISSUER), _text(extensions, _OLD_ISSUER)} - {None}
    if issuers != {trusted.issuer}:
        raise SignatureProblem(f"its signer was identified by {_list(issuers)}, not by {trusted.issuer!r}")
    if trusted.email is not None:
        emails = _emails(extensions)
        if trusted.email not in emails:
            raise SignatureProblem(f"its signer is {_list(emails)}, not {trusted.email!r}")
    if trusted.build_signer is not None:
        signer = _text(extensions, _BUILD_SIGNER)
        if signer != trusted.build_signer:
            raise SignatureProblem(f"its build's signer is {_list({signer})}, not {trusted.build_signer!r}")


def _emails(extensions: x509.Extensions) -> set[str | None]:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return set(names.get_values_for_type(x509.RFC822Name))


def _text(extensions: x509.Extensions, oid: x509.ObjectIdentifier) -> str | None:
    """The text in one of Fulcio's extensions: a UTF8String in DER, but for the oldest. Raises ValueError."""
    try:
        extension = extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None
    data = extension.public_bytes()
    return (data if oid == _OLD_ISSUER else _utf8_string(data)).decode()


def _utf8_string(data: bytes) -> bytes:
    """The content of one UTF8String in DER. Raises ValueError."""
    if len(data) < 2 or data[0] != _UTF8_STRING:
        raise ValueError(data)
    start, size = 2, data[1]
    if size >= 0x80:
        count = size & 0x7F
        start, size = 2 + count, int.from_bytes(data[2 : 2 + count], "big")
        if not 1 <= count <= 2:
            raise ValueError(data)
    if start + size != len(data):
        raise ValueError(data)
    return data[start:]


def _list(names: set[str | None]) -> str:
    """What a certificate says, shortened: it is the signer's text."""
    return ", ".join(sorted(repr(name[:200]) for name in names if name is not None)) or "nobody that it names"


def _is_ca(
    policy: verification.Policy, certificate: x509.Certificate, extension: x509.BasicConstraints
) -> None:
    if not extension.ca:
        raise ValueError("is no authority's")


def _signs_certificates(
    policy: verification.Policy, certificate: x509.Certificate, extension: x509.KeyUsage
) -> None:
    if not extension.key_cert_sign:
        raise ValueError("may not sign certificates")


def _signs_code(
    policy: verification.Policy, certificate: x509.Certificate, extension: x509.ExtendedKeyUsage
) -> None:
    if ExtendedKeyUsageOID.CODE_SIGNING not in extension:
        raise ValueError("is not for signing code")


_EITHER = verification.Criticality.AGNOSTIC
_ANY = verification.ExtensionPolicy.permit_all()
_CA = _ANY.require_present(x509.BasicConstraints, _EITHER, _is_ca).require_present(
    x509.KeyUsage, _EITHER, _signs_certificates
)
_SIGNER = _ANY.require_present(x509.ExtendedKeyUsage, _EITHER, _signs_code)
