"""The private registry of the suite, which its specs reach at localhost:5000.

It exists because the suite runs its registry as a pod on the host's network, and the guest that stands in for
that image, a module, cannot listen. The images are the dev registry's. It must not know who asks.
"""

from __future__ import annotations

import base64
import errno
import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from vkubelet.dev.report import Report

PORT = 5000
CREDENTIALS = "user:password"
"""Those of the suite (framework/registry)."""
_TIMEOUT = 30.0
_HEADERS = ("Content-Type", "Content-Length", "Docker-Content-Digest")


@contextmanager
def listening(registry: str, report: Report) -> Iterator[None]:
    """Answer for as long as the block runs. Where another run's does already, that one answers."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", PORT), _handler(registry))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        report.step(f"Something listens on port {PORT} already: specs take it for their private registry")
        yield
        return
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(registry: str) -> type[BaseHTTPRequestHandler]:
    allowed = f"Basic {base64.b64encode(CREDENTIALS.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        """Forwards what those ask who say who they are."""

        timeout = _TIMEOUT

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
            """Nobody reads it."""

        def _answer(self) -> None:
            if self.headers.get("Authorization") != allowed:
                self.send_response(HTTPStatus.UNAUTHORIZED)
                self.send_header("WWW-Authenticate", 'Basic realm="conformance"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            backend = http.client.HTTPConnection(registry, timeout=_TIMEOUT)
            try:
                accepted = {"Accept": self.headers.get("Accept", "*/*")}
                backend.request(self.command, self.path, headers=accepted)
                found = backend.getresponse()
                body = found.read()
            finally:
                backend.close()
            self.send_response(found.status)
            for name in _HEADERS:
                if (value := found.getheader(name)) is not None:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler
