"""What tests of a node's certificates share: who signs them, and what is seen of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vkubelet.meters import Deadline
from vkubelet.node.keystore import Pair

PEM = serialization.Encoding.PEM


class Signer:
    """A CA that signs whatever it is asked; the certificates live from `start` to `end` hours from now."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.start, self.end = -1.0, 24.0
        self.requests: list[x509.CertificateSigningRequest] = []

    def __call__(self, pem: bytes) -> bytes:
        request = x509.load_pem_x509_csr(pem)
        self.requests.append(request)
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(hours=self.start))
            .not_valid_after(now + timedelta(hours=self.end))
        )
        for extension in request.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)


def pair_of(pem: bytes) -> Pair:
    return Pair(x509.load_pem_x509_certificates(pem)[0])


def left(deadline: Deadline) -> float:
    """What is shown of a certificate's life; 0 while nothing is."""
    return sum(sample.value for sample in deadline.family().samples)
