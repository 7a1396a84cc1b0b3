"""Public keys, and whether one of them has made a signature.

It exists so that the kinds of keys and of signatures that are believed are named in one place: those that
cosign makes. It must not know what is signed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from oci.signing.errors import PolicyError

Key: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

P = ParamSpec("P")

_CURVES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
"""Each curve with the hash that goes with it."""
_LEAST_RSA = 2048


def read_key(data: bytes, field: str) -> Key:
    """The public key in a PEM text. Raises PolicyError naming the policy's `field`."""
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PolicyError(f"{field}: has no public key in PEM") from error
    known = believed(key)
    if known is None:
        raise PolicyError(f"{field}: is neither ECDSA on P-256, P-384 or P-521, Ed25519 nor RSA of 2048 bits")
    return known


def believed(key: object) -> Key | None:
    """The key if it is of a kind that is strong enough."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA:
        return key
    return None


def has_signed(key: Key, signature: bytes, message: bytes) -> bool:
    """Whether the signature of this message is by this key."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return _holds(key.verify, signature, message)
    if isinstance(key, ec.EllipticCurvePublicKey):
        # cosign takes SHA-256 whatever the curve, sigstore's bundles the hash that goes with it.
        digests = (hashes.SHA256(), _CURVES[key.curve.name])
        return any(_holds(key.verify, signature, message, ec.ECDSA(digest)) for digest in digests)
    digest = hashes.SHA256()
    forms = (padding.PKCS1v15(), padding.PSS(padding.MGF1(digest), padding.PSS.AUTO))
    return any(_holds(key.verify, signature, message, form, digest) for form in forms)


def encoded(key: Key) -> bytes:
    """What two equal keys have in common: SubjectPublicKeyInfo in DER."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _holds(verify: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> bool:
    try:
        verify(*args, **kwargs)
    except InvalidSignature:
        return False
    return True
