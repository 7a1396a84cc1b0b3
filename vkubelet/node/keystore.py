"""A certificate with its key in one file, and the key of one that has been asked for.

It exists so that a pair is never torn: certificate and key are one file, replaced whole, as the kubelet's
`kubelet-client-current.pem` is. A key that waits for its certificate has a file of its own until then, so
that the agent may be killed meanwhile. It must not know what the certificate is for.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from providers import intact
from vkubelet.node import csr, durable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """A certificate that has been found to fit its key."""

    leaf: x509.Certificate

    def valid(self, now: float) -> bool:
        """Whether `now` (epoch seconds) lies within its life."""
        moment = datetime.fromtimestamp(now, UTC)
        return self.leaf.not_valid_before_utc <= moment < self.leaf.not_valid_after_utc

    @property
    def expires_at(self) -> float:
        """The end of its life, in seconds since the epoch."""
        return self.leaf.not_valid_after_utc.timestamp()

    def renewal_at(self, chance: random.Random) -> float:
        """When to ask for the next (epoch seconds): at 70 to 90 % of its life, as the kubelet does."""
        start, end = self.leaf.not_valid_before_utc.timestamp(), self.leaf.not_valid_after_utc.timestamp()
        return start + (end - start) * chance.uniform(0.7, 0.9)

    def covers(self, dns_names: set[str], addresses: set[str]) -> bool:
        """Whether it is good for all of these names."""
        try:
            names = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return not dns_names and not addresses
        held = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
        return dns_names <= set(names.get_values_for_type(x509.DNSName)) and addresses <= held

    @property
    def common_name(self) -> str:
        """The subject's CN; empty when it has none."""
        attributes = self.leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(attributes[0].value) if attributes else ""


class KeyStore:
    """The files of one certificate: DIRECTORY/NAME-current.pem and DIRECTORY/NAME.key.new.

    All methods block: call them in a thread.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.current = directory / f"{name}-current.pem"
        self._pending = directory / f"{name}.key.new"

    def load(self) -> Pair | None:
        """The pair, if there is a usable one; a file that is none is set aside."""
        try:
            return parse(intact.read(self.current))
        except FileNotFoundError:
            return None
        except ValueError as error:
            aside = intact.set_aside(self.current)
            log.warning("%s is no certificate with its key (%s): set aside as %s", self.current, error, aside)
            return None

    def pending_key(self) -> bytes:
        """The key that a certificate is being asked for; a new one when none waits."""
        try:
            pem = intact.read(self._pending)
            csr.load_key(pem)
        except FileNotFoundError:
            log.debug("new key in %s", self._pending)
        except ValueError as error:
            aside = intact.set_aside(self._pending)
            log.warning("%s is no key (%s): set aside as %s", self._pending, error, aside)
        else:
            return pem
        pem = csr.new_key()
        durable.write(self._pending, pem)
        return pem

    def drop_pending(self) -> None:
        """Forget the key that waits: nothing will ever be signed for it."""
        self._pending.unlink(missing_ok=True)

    def keep(self, certificate_pem: bytes, key_pem: bytes) -> Pair:
        """Make these the current pair. Raises ValueError, keeping the old, when they do not fit."""
        data = certificate_pem.rstrip() + b"\n" + key_pem
        pair = parse(data)
        durable.write(self.current, data)
        self.drop_pending()
        return pair


def parse(pem: bytes) -> Pair:
    """The pair in one PEM file. Raises ValueError when it is none or certificate and key do not fit."""
    leaf = x509.load_pem_x509_certificates(pem)[0]
    key = serialization.load_pem_private_key(pem[pem.index(b"-----BEGIN PRIVATE KEY") :], password=None)
    if leaf.public_key() != key.public_key():
        raise ValueError("the certificate is of another key")
    return Pair(leaf)


def self_signed(node_name: str, names: list[x509.GeneralName], now: float, lifetime: float) -> bytes:
    """A certificate and key (PEM) that nobody vouches for, valid for `lifetime` seconds from `now`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{node_name}@{int(now)}"[-64:])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now - 60, UTC))
        .not_valid_after(datetime.fromtimestamp(now + lifetime, UTC))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private
