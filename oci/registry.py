"""One repository of a registry, asked through oras: manifests and blobs in, errors with names out.

It exists to keep the distribution specification's requests, and what each failure means, in one place. All
of it blocks and is called in threads. It must not know where content is kept or what it is for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

import oras.provider
import requests

from oci import digests
from oci.auth import Authenticator, Credentials
from oci.errors import InvalidManifestError, RegistryProtocolError, VerificationError
from oci.failures import FAILURES, from_exception, from_status
from oci.manifest import INDEXES, MANIFESTS, MAXIMUM_SIZE, Descriptor
from oci.reference import Reference
from oci.transport import Session, finish, same_origin

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0

CHUNK = 256 * 1024
"""Bytes of a blob held at a time."""

_ACCEPT = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}

# docker.io is a name, not a host that speaks the registry's protocol.
_HOSTS = {"docker.io": "registry-1.docker.io"}


def is_insecure(registry: str, insecure_registries: Collection[str]) -> bool:
    """Whether a registry is asked over plain HTTP: it is listed as `host:port`, or as `host` for any port.

    Nothing is insecure unasked, a loopback address neither.
    """
    registry = registry.lower()
    host = registry if registry.endswith("]") else registry.rpartition(":")[0] or registry
    return any(entry.lower() in (registry, host) for entry in insecure_registries)


class _OrasRegistry(oras.provider.Registry):  # type: ignore[misc]
    """oras' registry without what it does on its own account: its session, its log-ins, its retries.

    oras repeats whatever failed five times, sleeping for over two minutes in all; here the pod's back-off
    decides when to ask again.
    """

    def __init__(self, session: Session, credentials: Credentials | None, *, insecure: bool) -> None:
        super().__init__(insecure=insecure)
        self.session: Session = session
        self.auth = Authenticator(session, credentials, insecure=insecure)

    def do_request(
        self, url: str, method: str = "GET", *, headers: dict[str, str], data: Any = None
    ) -> requests.Response:
        once = oras.provider.Registry.do_request.__wrapped__
        response: requests.Response = once(
            self, url, method, data=data, headers={**headers, **self.auth.header()}, stream=True
        )
        return response


class Repository:
    """One repository, one set of credentials, a few kept connections.

    `reference` gives registry and repository and is what errors name.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        insecure: bool,
        credentials: Credentials | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        """Times are seconds; no request is made."""
        self.reference = reference
        self._session = Session(connect_timeout=connect_timeout, read_timeout=read_timeout)
        self._oras = _OrasRegistry(self._session, credentials, insecure=insecure)
        host = _HOSTS.get(reference.registry, reference.registry)
        self._base = f"{'http' if insecure else 'https'}://{host}/v2/{reference.repository}"

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def interrupt(self) -> None:
        """Make every request fail, now and from now on; may be called from any thread."""
        self._session.interrupt()

    def resolve(self) -> str | None:
        """The digest that the reference has in the registry, without its content; None if it does not say.

        A HEAD, which registries that limit pulls do not count. Raises OciError.
        """
        with self._ask("HEAD", f"/manifests/{self.reference.identifier}", "manifest", _ACCEPT) as response:
            digest: str = response.headers.get("Docker-Content-Digest", "")
            return digest if response.status_code == 200 and digests.valid(digest) else None

    def manifest(self, identifier: str) -> tuple[str, bytes]:
        """A manifest by tag or digest, verified: its digest and its bytes. Raises OciError."""
        subject = f"manifest {identifier}"
        with self._ask("GET", f"/manifests/{identifier}", subject, _ACCEPT) as response:
            if response.status_code != 200:
                raise from_status(self.reference, response, subject)
            data = b"".join(self._pieces(response, MAXIMUM_SIZE, subject))
            named: str = response.headers.get("Docker-Content-Digest", "")
        if len(data) > MAXIMUM_SIZE:
            raise InvalidManifestError(self.reference, f"{subject}: larger than {MAXIMUM_SIZE} bytes")
        expected = identifier if digests.valid(identifier) else named
        if not digests.valid(expected):
            return digests.of(data), data
        if not digests.matches(expected, data):
            raise VerificationError(
                self.reference, f"{subject}: the content is {digests.of(data)}, expected {expected}"
            )
        return expected, data

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """A blob's bytes as they come, at most one byte more than its size; nothing is verified.

        Raises OciError.
        """
        subject = f"blob {descriptor.digest}"
        with self._ask("GET", f"/blobs/{descriptor.digest}", subject, {}) as response:
            if response.status_code != 200:
                raise from_status(self.reference, response, subject)
            announced: str = response.headers.get("Content-Length", "")
            if announced.isdecimal() and announced != str(descriptor.size):
                raise VerificationError(
                    self.reference, f"{subject}: is {announced} bytes, the manifest says {descriptor.size}"
                )
            yield from self._pieces(response, descriptor.size, subject)

    def has_blob(self, digest: str) -> bool:
        """Whether the repository holds a blob. Raises OciError."""
        subject = f"blob {digest}"
        with self._ask("HEAD", f"/blobs/{digest}", subject, {}) as response:
            if response.status_code not in (200, 404):
                raise from_status(self.reference, response, subject)
            return response.status_code == 200

    def upload_blob(self, digest: str, size: int, content: BinaryIO) -> None:
        """Put a blob there in one piece, streamed. Raises OciError."""
        subject = f"upload of blob {digest}"
        with self._ask("POST", "/blobs/uploads/", subject, {"Content-Length": "0"}) as response:
            location: str = response.headers.get("Location", "")
            if response.status_code != 202 or not location:
                raise from_status(self.reference, response, subject)
        target = urljoin(f"{self._base}/blobs/uploads/", location)
        if not same_origin(target, self._base):
            raise RegistryProtocolError(self.reference, f"{subject}: the registry sends it to another host")
        joiner = "&" if urlsplit(target).query else "?"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._request("PUT", f"{target}{joiner}digest={digest}", subject, headers, content) as response:
            if response.status_code != 201:
                raise from_status(self.reference, response, subject)

    def upload_manifest(self, media_type: str, data: bytes) -> None:
        """Put a manifest there under the reference. Raises OciError."""
        path, headers = f"/manifests/{self.reference.identifier}", {"Content-Type": media_type}
        with self._ask("PUT", path, "upload of the manifest", headers, data) as response:
            if response.status_code != 201:
                raise from_status(self.reference, response, "upload of the manifest")

    def _ask(
        self, method: str, path: str, subject: str, headers: Mapping[str, str], data: bytes | None = None
    ) -> contextlib.AbstractContextManager[requests.Response]:
        return self._request(method, f"{self._base}{path}", subject, headers, data)

    @contextlib.contextmanager
    def _request(
        self,
        method: str,
        url: str,
        subject: str,
        headers: Mapping[str, str],
        data: bytes | BinaryIO | None,
    ) -> Iterator[requests.Response]:
        """The bytes are wanted as they are kept: no encoding, which would be hashed too, or hide a bomb."""
        try:
            response = self._oras.do_request(
                url, method, headers={**headers, "Accept-Encoding": "identity"}, data=data
            )
        except FAILURES as error:
            raise from_exception(self.reference, error, subject) from error
        with response:
            yield response
            finish(response)

    def _pieces(self, response: requests.Response, limit: int, subject: str) -> Iterator[bytes]:
        """The body in chunks, ending with the first byte beyond `limit`."""
        left = limit + 1
        try:
            while left > 0 and (piece := response.raw.read(min(CHUNK, left), decode_content=False)):
                left -= len(piece)
                yield piece
        except FAILURES as error:
            raise from_exception(self.reference, error, subject) from error
