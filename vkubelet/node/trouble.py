"""What the agent complains of in its log and an administrator should see without one: events of the node.

It exists because most trouble is met deep down, where nobody knows of nodes and events: whoever meets it logs
it, and here is the one list of what of that is told at the node. A complaint is known by the package that has
it and a part of its text as it is written there. It must not know what caused any of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

LONGEST = 1024
"""Characters of an event's message, as the API takes it."""
_MOST = 100
"""Complaints that wait for the node to be registered."""


class Told(NamedTuple):
    """A warning or an error of `package` whose text has `part` is an event of this reason."""

    package: str
    part: str
    reason: str


TOLD = (
    Told("providers.wasmtime", "no launcher, trying again", "LauncherFailed"),
    Told("providers.wasmtime", "letting go of it", "LauncherFailed"),
    Told("providers.wasmtime", "the launcher is gone", "LauncherGone"),
    Told("providers.wasmtime", "is set aside as", "CorruptState"),
    Told("oci", "is corrupt", "CorruptState"),
    Told("vkubelet.node", "set aside as", "CorruptState"),
    Told("vkubelet.deviceplugins", "is not known any more", "CorruptState"),
    Told("vkubelet.pods", "is not known any more", "CorruptState"),
    Told("vkubelet.pods.volumes.csi", "its driver is told of no end", "CorruptState"),
    Told("vkubelet.node", "client certificate not renewed", "CertificateRenewalFailed"),
    Told("vkubelet.node", "serving certificate not", "CertificateRenewalFailed"),
    Told("vkubelet.api", "credentials not renewed", "CredentialsNotRenewed"),
    Told("vkubelet.csi", "plugins cannot register", "PluginRegistrationFailed"),
    Told("vkubelet.deviceplugins", "no device plugin can register", "PluginRegistrationFailed"),
    Told("vkubelet.node", "since it cannot be watched", "FilesNotWatched"),
    Told("vkubelet.pods", "secrets are files", "SecretsOnDisk"),
    Told("vkubelet.pods", "containers that have ended", "ContainerGCFailed"),
    Told("vkubelet.pods", "images that no pod uses", "ImageGCFailed"),
    Told("vkubelet.pods", "what the node has left is not known", "InvalidDiskCapacity"),
    Told("vkubelet.server", "cannot accept a connection", "ConnectionsNotAccepted"),
)
"""Those of garbage collection and of the disk's capacity have the kubelet's reasons."""


def reason(record: logging.LogRecord) -> str | None:
    """The reason of the event that a record is; None if it is none."""
    if record.levelno < logging.WARNING or not isinstance(record.msg, str):
        return None
    for told in TOLD:
        if told.part in record.msg and f"{record.name}.".startswith(f"{told.package}."):
            return told.reason
    return None


class Trouble(logging.Handler):
    """Makes events of records, whichever thread they come from."""

    def __init__(self) -> None:
        """For the thread of the event loop."""
        super().__init__(logging.WARNING)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[str, str]] = deque(maxlen=_MOST)
        self._news = asyncio.Event()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of what is logged meanwhile."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        found = reason(record)
        if found is not None:
            self._waiting.append((found, record.getMessage()[:LONGEST]))
            self._loop.call_soon_threadsafe(self._news.set)

    async def run(self, tell: Callable[[str, str, str], None]) -> NoReturn:
        """Have all of it told, by type, reason and message; once the node is registered."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                tell("Warning", *self._waiting.popleft())
