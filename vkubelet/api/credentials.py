"""Where the API server is, whom to trust and who we are, as one immutable value.

It exists so that the client's hot path touches no file and no lock, however a kubeconfig came by its
credentials. It must send no request to the API server. Key material that is written out for OpenSSL is
removed as soon as it has been read.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import hashlib
import ssl
import tempfile
import time
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from vkubelet.api.kubeconfig import KubeconfigError, Resolved, entries, one_line, resolve

_EXPIRY_MARGIN = 300.0
"""Seconds before its expiry at which an exec plugin's token is asked for again."""

_TOKEN_FILE_LIFE = 60.0
"""Seconds for which a token read from a file is used: client-go's period."""

_NAMED_FILES = ("certificate-authority", "client-certificate", "client-key")
"""What a kubeconfig may name in place of quoting it; a tokenFile is read again anyway."""


@dataclass(frozen=True)
class Credentials:
    """A kubeconfig's current context, ready for use."""

    server: str
    """`https://host:port`, with the path prefix of a proxying server and without a slash at its end."""
    tls: ssl.SSLContext | None = None
    tls_digest: bytes = b""
    """Of all that `tls` was made from: equal ones share a context, and with it the open connections."""
    ca_data: bytes | None = None
    certificate_until: datetime.datetime | None = None
    """When the client certificate expires; None without one."""
    authorization: str | None = None
    server_hostname: str | None = None
    proxy: str | None = None
    token_file: Path | None = None
    """Where `authorization` was read from, when others renew it there."""
    renewable: bool = False
    """Whether `renew` can bring another token: on a 401 it is worth trying."""
    stale_at: float = float("inf")
    """On `time.monotonic`'s clock; infinite when nothing expires by itself."""
    files: tuple[Path, ...] = ()
    """The kubeconfig, and the files of certificates and keys that it names."""
    content: bytes = b""
    """Of `files`, as `content_of` tells it, from before they were read."""


async def load(path: Path, former: Credentials | None = None) -> Credentials:
    """Read `path`'s current context, which was read before as `former`. Raises KubeconfigError."""
    # What can be said without the loader's process is said at once.
    cluster, user = await asyncio.to_thread(entries, path)
    named = [section[key] for section in (cluster, user) for key in _NAMED_FILES if section.get(key)]
    files = (path, *(path.parent / str(name) for name in named))
    content = await asyncio.to_thread(content_of, files)
    with tempfile.TemporaryDirectory(prefix="vkubelet-") as directory:
        resolved = await resolve(path, directory)
        try:
            credentials = _credentials(resolved, former)
        except ssl.SSLError as error:
            cause = f"certificate or key unusable: {error}"
            raise KubeconfigError(f"kubeconfig {path}: {cause}") from error
        except (OSError, ValueError) as error:
            raise KubeconfigError(f"kubeconfig {path}: {one_line(error)}") from error
    return dataclasses.replace(credentials, files=files, content=content)


def content_of(files: Iterable[Path]) -> bytes:
    """A digest of what is in these files now, or of why it cannot be read. Blocks."""
    digest = hashlib.sha256()
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            content = one_line(error).encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.digest()


async def renew(path: Path, former: Credentials) -> Credentials:
    """`former` with a token that is current: its file read again, or else the whole kubeconfig at `path`.

    Raises KubeconfigError.
    """
    if former.token_file is None:
        return await load(path, former)
    try:
        token = (await asyncio.to_thread(former.token_file.read_text)).strip()
    except (OSError, ValueError) as error:
        raise KubeconfigError(f"kubeconfig {path}: tokenFile: {one_line(error)}") from error
    if not token:
        raise KubeconfigError(f"kubeconfig {path}: tokenFile {former.token_file} is empty")
    return dataclasses.replace(
        former, authorization=f"Bearer {token}", stale_at=time.monotonic() + _TOKEN_FILE_LIFE
    )


def _credentials(resolved: Resolved, former: Credentials | None) -> Credentials:
    digest = _tls_digest(resolved)
    tls: ssl.SSLContext | None = None
    if former is not None and former.tls_digest == digest:
        tls = former.tls
    elif resolved.server.startswith("https"):
        tls = _tls_context(resolved)
    stale_at = float("inf")
    if resolved.token_file is not None:
        stale_at = time.monotonic() + _TOKEN_FILE_LIFE
    if resolved.expires_at is not None:
        stale_at = time.monotonic() + resolved.expires_at - time.time() - _EXPIRY_MARGIN
    return Credentials(
        server=resolved.server,
        tls=tls,
        tls_digest=digest,
        ca_data=Path(resolved.ca_file).read_bytes() if resolved.ca_file else None,
        certificate_until=_until(resolved.cert_file),
        # A file's last line break is no part of its token.
        authorization=resolved.authorization and resolved.authorization.strip(),
        server_hostname=resolved.server_hostname,
        proxy=resolved.proxy or _proxy_of_environment(resolved.server),
        token_file=Path(resolved.token_file) if resolved.token_file else None,
        renewable=resolved.renewable,
        stale_at=stale_at,
    )


def _until(certificate: str | None) -> datetime.datetime | None:
    if not certificate:
        return None
    return x509.load_pem_x509_certificates(Path(certificate).read_bytes())[0].not_valid_after_utc


def _tls_digest(resolved: Resolved) -> bytes:
    digest = hashlib.sha256(f"{resolved.server} {resolved.verify_tls}".encode())
    for name in (resolved.ca_file, resolved.cert_file, resolved.key_file):
        digest.update(hashlib.sha256(Path(name).read_bytes()).digest() if name else b"none")
    return digest.digest()


def _tls_context(resolved: Resolved) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=resolved.ca_file)
    # Go checks no more than RFC 5280's path validation, and many clusters' CAs lack what strict asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if resolved.cert_file:
        context.load_cert_chain(resolved.cert_file, resolved.key_file)
    if not resolved.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _proxy_of_environment(server: str) -> str | None:
    """HTTPS_PROXY and its like, read once: asking the environment at each request is dear."""
    url = urlsplit(server)
    if urllib.request.proxy_bypass(url.netloc):
        return None
    return urllib.request.getproxies().get(url.scheme)
