"""The private registry of the suite, which its specs reach at localhost:5000.

It exists because the suite runs its registry as a pod on the host's network, and the guest that stands in for
that image, a module, cannot listen. The images are the dev registry's. It must not know who asks.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from door import door_to

from vkubelet.dev.report import Report

PORT = 5000
CREDENTIALS = "user:password"
"""Those of the suite (framework/registry)."""


@contextmanager
def listening(registry: str, report: Report) -> Iterator[None]:
    """Answer for as long as the block runs. Where another run's does already, that one answers."""
    with ExitStack() as ends:
        try:
            ends.enter_context(door_to(registry, lambda login: login == CREDENTIALS, PORT))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            report.step(f"Something listens on port {PORT} already: specs take it for their private registry")
        yield
