"""Whom a TLS connection to a registry trusts, and what it shows of itself.

It exists because requests trusts a list of its own, while an administrator who adds an authority adds it to
the machine's: here what the machine trusts is trusted, found where Go programs look for it. It must not know
registries.
"""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from oci.hosts import Host, HostsError

# As crypto/x509 looks for them on Linux; the first one that is there is the machine's.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

_EXPIRED, _NOT_YET_VALID = 10, 9
_OF_NO_KNOWN_AUTHORITY = (2, 18, 19, 20, 21, 27)
_OF_ANOTHER_NAME = (62, 64)


def context(host: Host, environment: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """What to speak TLS to a host with. Files are read again only when they have changed; blocks.

    SSL_CERT_FILE and SSL_CERT_DIR stand in for the machine's own authorities, as for other programs. Raises
    HostsError for a file that cannot be used.
    """
    named = tuple(environment.get(name, "") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    bundle = (
        "" if any(named) else next((path for path in _BUNDLES if Path(path).exists()), DEFAULT_CA_BUNDLE_PATH)
    )
    files = [named[0] or bundle, *host.ca, *(path for pair in host.client for path in pair if path)]
    return _context(
        named, bundle, host.ca, host.client, host.skip_verify, tuple(_state(path) for path in files if path)
    )


def advice(error: ssl.SSLCertVerificationError) -> str:
    """Why a certificate is not believed, and what can be done."""
    what = f"its certificate is not trusted: {error.verify_message}"
    if error.verify_code == _EXPIRED:
        return f"{what} (renew it; or is this machine's clock wrong?)"
    if error.verify_code == _NOT_YET_VALID:
        return f"{what} (is this machine's clock wrong?)"
    if error.verify_code in _OF_NO_KNOWN_AUTHORITY:
        return (
            f"{what} (add its authority to the machine's trusted ones, or name it as `ca` in the registry's "
            "hosts.toml)"
        )
    if error.verify_code in _OF_ANOTHER_NAME:
        return f"{what} (ask by a name that is in the certificate, or have this one put into it)"
    return what


def _state(path: str) -> tuple[str, int, int]:
    """What changes when a file does."""
    try:
        found = Path(path).stat()
    except OSError as error:
        raise HostsError(f"{path}: {error.strerror}") from error
    return path, found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=8)
def _context(
    named: tuple[str, ...],
    bundle: str,
    ca: tuple[str, ...],
    client: tuple[tuple[str, str | None], ...],
    skip_verify: bool,
    _files: tuple[tuple[str, int, int], ...],
) -> ssl.SSLContext:
    """The variables' values and the files' states are here to tell one context from another."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if any(named):
        made.load_default_certs()  # they are OpenSSL's variables
    else:
        made.load_verify_locations(bundle)
    for path in ca:
        try:
            made.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise HostsError(f"{path}: no certificates of authorities in it: {_reason(error)}") from error
    # Of those with keys of one kind OpenSSL keeps the last; the first is to count.
    for certificate, key in reversed(client):
        try:
            made.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            files = certificate if key is None else f"{certificate} with {key}"
            raise HostsError(f"{files}: no certificate with its key: {_reason(error)}") from error
    if skip_verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def _no_password() -> str:
    """Instead of OpenSSL's question on the terminal."""
    return ""


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
