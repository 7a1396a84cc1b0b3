"""A certificate authority of a test's own."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vkubelet.server.tls import harden


class Authority:
    """A certificate authority that writes what it issues below a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()

    @classmethod
    def of(cls, directory: Path, certificate: Path, key: Path) -> Self:
        """The one that somebody else has made, of these files."""
        found = cls(directory, "it")
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        found._key, found.pem = loaded, certificate.read_text()
        found._name = x509.load_pem_x509_certificate(certificate.read_bytes()).subject
        return found

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: float = 1, since: float = -2
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=since))
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    def issue(
        self,
        user: str | None,
        groups: tuple[str, ...] = (),
        *,
        serving: bool = False,
        days: float = 1,
        since: float = -2,
    ) -> tuple[Path, Path]:
        """Certificate and key files for a client, or for a server on the loopback addresses.

        They are good from `since` to `days`, in days from now.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        if user is not None:
            attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        usage = ExtendedKeyUsageOID.SERVER_AUTH if serving else ExtendedKeyUsageOID.CLIENT_AUTH
        names = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
        certificate = (
            self._builder(x509.Name(attributes), key.public_key(), days, since)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        number = certificate.serial_number
        files = self._directory / f"{number}.crt", self._directory / f"{number}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def server(self, files: tuple[Path, Path]) -> ssl.SSLContext:
        """A server's context that believes this authority's clients."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=self.pem)
        context.load_cert_chain(*files)
        return harden(context)

    def client(self, files: tuple[Path, Path] | None) -> ssl.SSLContext:
        """A client's context that trusts this authority."""
        context = ssl.create_default_context(cadata=self.pem)
        if files is not None:
            context.load_cert_chain(*files)
        return context
