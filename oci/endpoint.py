"""One host of a registry, asked for one repository through oras: requests in, answers and errors out.

It exists so that what is asked for need not know that several hosts may have it. All of it blocks and is
called in threads. It must not know the distribution specification's requests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import oras.provider
import requests

from oci.auth import Authenticator
from oci.credentials import Credentials
from oci.failures import FAILURES, from_exception
from oci.hosts import Host
from oci.reference import Reference
from oci.transport import Interrupt, Session, finish

CHUNK = 256 * 1024
"""Bytes of an answer held at a time."""


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


class Endpoint:
    """A host as it stands for the reference's registry. `base` is the repository's URL there."""

    def __init__(
        self,
        reference: Reference,
        host: Host,
        credentials: Credentials | None,
        interrupt: Interrupt,
        *,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        """Times are seconds; no request is made."""
        self.host = host
        self.base = f"{host.url}/{reference.repository}"
        self._reference = reference
        namespace = host.namespace(reference.registry)
        self._query = "" if namespace is None else f"?ns={quote(namespace, safe=':')}"
        self._session = Session(host, interrupt, connect_timeout=connect_timeout, read_timeout=read_timeout)
        insecure = urlsplit(host.url).scheme == "http"
        self._oras = _OrasRegistry(self._session, credentials, insecure=insecure)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def ask(
        self, method: str, path: str, subject: str, headers: Mapping[str, str], data: bytes | None = None
    ) -> contextlib.AbstractContextManager[requests.Response]:
        """The answer to a request for a path below the repository. Raises OciError."""
        return self.request(method, f"{self.base}{path}{self._query}", subject, headers, data)

    @contextlib.contextmanager
    def request(
        self,
        method: str,
        url: str,
        subject: str,
        headers: Mapping[str, str],
        data: bytes | BinaryIO | None,
    ) -> Iterator[requests.Response]:
        """The answer, unread. Raises OciError.

        The bytes are wanted as they are kept: no encoding, which would be hashed too, or hide a bomb.
        """
        try:
            response = self._oras.do_request(
                url, method, headers={**headers, "Accept-Encoding": "identity"}, data=data
            )
        except FAILURES as error:
            raise from_exception(self._reference, error, subject) from error
        with response:
            yield response
            finish(response)

    def pieces(self, response: requests.Response, limit: int, subject: str) -> Iterator[bytes]:
        """The body in chunks, ending with the first byte beyond `limit`. Raises OciError."""
        left = limit + 1
        try:
            while left > 0 and (piece := response.raw.read(min(CHUNK, left), decode_content=False)):
                left -= len(piece)
                yield piece
        except FAILURES as error:
            raise from_exception(self._reference, error, subject) from error
