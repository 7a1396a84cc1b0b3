"""One repository of a registry: manifests and blobs in, errors with names out.

It exists to keep the distribution specification's requests, and what each failure means, in one place: of a
registry's hosts those that may be asked are, one after the other, until one gives what is wanted. All of it
blocks and is called in threads. It must not know where content is kept or what it is for.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, TypeVar
from urllib.parse import urljoin, urlsplit

import requests

from oci import digests
from oci.credentials import Credentials
from oci.endpoint import CHUNK, Endpoint
from oci.errors import (
    ImageError,
    InvalidManifestError,
    RegistryHostsError,
    RegistryProtocolError,
    RegistryUnavailableError,
    VerificationError,
)
from oci.failures import from_status, together
from oci.hosts import Capability, Host, own_host
from oci.manifest import INDEX, INDEXES, MANIFESTS, MAXIMUM_SIZE, Descriptor
from oci.reference import Reference
from oci.registries import CONNECT_TIMEOUT, READ_TIMEOUT
from oci.transport import Interrupt, same_origin

__all__ = ["CHUNK", "Repository"]

log = logging.getLogger(__name__)

CONTINUATIONS = 5
"""How often a host may break off a blob and go on with it. Each time something of it must have come."""

_ACCEPT = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}

T = TypeVar("T")


class Repository:
    """One repository, one set of credentials, a few kept connections.

    `reference` gives registry and repository and is what errors name.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        insecure: bool,
        hosts: Sequence[Host] = (),
        credentials: Credentials | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        """Times are seconds; no request is made. With `hosts` these are asked, in place of the registry."""
        self.reference = reference
        own = own_host(reference.registry, insecure=insecure)
        self._hosts = tuple(hosts) or (own,)
        self._is_plain = insecure
        self._credentials = credentials
        self._timeouts = (connect_timeout, read_timeout)
        self._interrupt = Interrupt()
        self._endpoints: dict[Host, Endpoint] = {}

    def close(self) -> None:
        """Close the connections."""
        for endpoint in self._endpoints.values():
            endpoint.close()

    def interrupt(self) -> None:
        """Make every request fail, now and from now on; may be called from any thread."""
        self._interrupt.interrupt()

    def resolve(self) -> str | None:
        """The digest that the reference has in the registry, without its content; None if it does not say.

        A HEAD, which registries that limit pulls do not count. Raises OciError.
        """
        identifier = self.reference.identifier

        def ask(endpoint: Endpoint) -> str | None:
            with endpoint.ask("HEAD", f"/manifests/{identifier}", "manifest", _ACCEPT) as response:
                digest: str = response.headers.get("Docker-Content-Digest", "")
                return digest if response.status_code == 200 and digests.valid(digest) else None

        return self._first(_needed(identifier), "manifest", ask)

    def manifest(self, identifier: str) -> tuple[str, bytes]:
        """A manifest by tag or digest, verified: its digest and its bytes. Raises OciError."""
        subject = f"manifest {identifier}"
        return self._first(
            _needed(identifier), subject, lambda endpoint: self._manifest(endpoint, identifier, subject)
        )

    def _manifest(self, endpoint: Endpoint, identifier: str, subject: str) -> tuple[str, bytes]:
        with endpoint.ask("GET", f"/manifests/{identifier}", subject, _ACCEPT) as response:
            if response.status_code != 200:
                raise from_status(self.reference, response, subject)
            data = b"".join(endpoint.pieces(response, MAXIMUM_SIZE, subject))
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

    @property
    def is_mirrored(self) -> bool:
        """Whether more hosts than one may be asked for a blob."""
        return sum("pull" in host.capabilities for host in self._hosts) > 1

    def blob(self, descriptor: Descriptor, *, by_last: bool = False) -> Iterator[bytes]:
        """A blob's bytes as they come, at most one byte more than its size; nothing is verified.

        What breaks off is continued where it did, a few times, by the next host too. With `by_last` only the
        last host is asked, the registry itself as a rule. Raises OciError.
        """
        subject = f"blob {descriptor.digest}"
        failed: list[tuple[str, ImageError]] = []
        have = 0
        for host in self._able("pull", subject)[-1 if by_last else 0 :]:
            left = CONTINUATIONS
            while True:
                before = have
                try:
                    for piece in self._blob(self._endpoint(host), descriptor, have, subject):
                        have += len(piece)
                        yield piece
                except ImageError as error:
                    is_broken = isinstance(error, RegistryUnavailableError) and have > before
                    if is_broken and left and not self._interrupt.is_raised:
                        left -= 1
                        log.info("%s; continued after %d bytes", error, have)
                        continue
                    self._go_on(host, error, failed)
                    break
                else:
                    return
        raise together(self.reference, failed, subject)

    def _blob(self, endpoint: Endpoint, descriptor: Descriptor, have: int, subject: str) -> Iterator[bytes]:
        """A host's bytes of a blob after the first `have`."""
        wanted = {"Range": f"bytes={have}-"} if have else {}
        with endpoint.ask("GET", f"/blobs/{descriptor.digest}", subject, wanted) as response:
            is_rest = response.status_code == 206 and bool(have)
            if response.status_code != 200 and not is_rest:
                raise from_status(self.reference, response, subject)
            if is_rest:
                self._check_range(response, descriptor, have, subject)
            announced: str = response.headers.get("Content-Length", "")
            size = descriptor.size - have if is_rest else descriptor.size
            if announced.isdecimal() and announced != str(size):
                raise VerificationError(
                    self.reference, f"{subject}: is {announced} bytes, the manifest says {size}"
                )
            skipped = 0 if is_rest else have  # a host that knows no ranges sends all of it again
            for piece in endpoint.pieces(response, size, subject):
                yield piece[skipped:]
                skipped = max(0, skipped - len(piece))

    def _check_range(
        self, response: requests.Response, descriptor: Descriptor, have: int, subject: str
    ) -> None:
        given: str = response.headers.get("Content-Range", "")
        if re.fullmatch(rf"bytes {have}-{descriptor.size - 1}/({descriptor.size}|\*)", given) is None:
            raise RegistryProtocolError(
                self.reference,
                f"{subject}: asked for what follows byte {have} the registry gives {given[:100]!r}",
            )

    def referrers(self, digest: str) -> bytes:
        """The list of what refers to a manifest, its first page; nothing is verified. Raises OciError.

        Registries without the API, which is of the specification's version 1.1, mostly know no such page.
        """
        subject = f"referrers of {digest}"

        def ask(endpoint: Endpoint) -> bytes:
            with endpoint.ask("GET", f"/referrers/{digest}", subject, {"Accept": INDEX}) as response:
                if response.status_code != 200:
                    raise from_status(self.reference, response, subject)
                return b"".join(endpoint.pieces(response, MAXIMUM_SIZE, subject))

        return self._first("resolve", subject, ask)

    def has_blob(self, digest: str) -> bool:
        """Whether the repository holds a blob. Raises OciError."""
        subject = f"blob {digest}"
        with self._target(subject).ask("HEAD", f"/blobs/{digest}", subject, {}) as response:
            if response.status_code not in (200, 404):
                raise from_status(self.reference, response, subject)
            return response.status_code == 200

    def upload_missing(self, blob: Descriptor, content: BinaryIO) -> None:
        """Put a blob there unless it is, from its beginning. Raises OciError."""
        if not self.has_blob(blob.digest):
            content.seek(0)
            self.upload_blob(blob.digest, blob.size, content)

    def upload_blob(self, digest: str, size: int, content: BinaryIO) -> None:
        """Put a blob there in one piece, streamed. Raises OciError."""
        subject = f"upload of blob {digest}"
        host = self._target(subject)
        with host.ask("POST", "/blobs/uploads/", subject, {"Content-Length": "0"}) as response:
            location: str = response.headers.get("Location", "")
            if response.status_code != 202 or not location:
                raise from_status(self.reference, response, subject)
        target = urljoin(f"{host.base}/blobs/uploads/", location)
        if not same_origin(target, host.base):
            raise RegistryProtocolError(self.reference, f"{subject}: the registry sends it to another host")
        joiner = "&" if urlsplit(target).query else "?"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with host.request("PUT", f"{target}{joiner}digest={digest}", subject, headers, content) as response:
            if response.status_code != 201:
                raise from_status(self.reference, response, subject)

    def upload_manifest(self, media_type: str, data: bytes, identifier: str = "") -> str:
        """Put a manifest there under the reference, or under another tag or digest. Raises OciError.

        Gives the digest of the subject that the registry has listed it with, if it has.
        """
        subject, headers = "upload of the manifest", {"Content-Type": media_type}
        path = f"/manifests/{identifier or self.reference.identifier}"
        with self._target(subject).ask("PUT", path, subject, headers, data) as response:
            if response.status_code != 201:
                raise from_status(self.reference, response, subject)
            listed: str = response.headers.get("OCI-Subject", "")
            return listed

    def _able(self, capability: Capability, subject: str) -> list[Host]:
        """The hosts that may be asked for it, in order. Raises RegistryHostsError when there are none."""
        able = [host for host in self._hosts if capability in host.capabilities]
        if not able:
            raise RegistryHostsError(self.reference, f"{subject}: no host has the capability {capability}")
        return able

    def _first(self, capability: Capability, subject: str, ask: Callable[[Endpoint], T]) -> T:
        """The first answer of a host that is not None, else the last host's. Raises OciError."""
        failed: list[tuple[str, ImageError]] = []
        hosts = self._able(capability, subject)
        for host in hosts:
            try:
                answer = ask(self._endpoint(host))
            except ImageError as error:
                self._go_on(host, error, failed)
            else:
                if answer is not None or host == hosts[-1]:
                    return answer
        raise together(self.reference, failed, subject)

    def _target(self, subject: str) -> Endpoint:
        """Where content is put: the first host that takes it, and no other."""
        return self._endpoint(self._able("push", subject)[0])

    def _endpoint(self, host: Host) -> Endpoint:
        found = self._endpoints.get(host)
        if found is None:
            connect_timeout, read_timeout = self._timeouts
            found = self._endpoints[host] = Endpoint(
                self.reference,
                host,
                self._credentials if self._is_trusted(host) else None,
                self._interrupt,
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
            )
        return found

    def _is_trusted(self, host: Host) -> bool:
        """Whether a host gets the registry's credentials. One that stands in for it, if it is trusted to say
        what a tag stands for; but never over plain HTTP where the registry has TLS.
        """
        if host.namespace(self.reference.registry) is None:
            return True
        return "resolve" in host.capabilities and (self._is_plain or host.url.startswith("https:"))

    def _go_on(self, host: Host, error: ImageError, failed: list[tuple[str, ImageError]]) -> None:
        """Ask the next host, unless nobody wants the answer any more."""
        if self._interrupt.is_raised:
            raise error
        failed.append((host.origin, error))


def _needed(identifier: str) -> Capability:
    """A digest's content speaks for itself; what a tag stands for is the host's word."""
    return "pull" if digests.valid(identifier) else "resolve"
