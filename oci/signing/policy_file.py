"""The policy file as it is now: read at a start, and again whenever it or a key that it names has changed.

It exists so that a policy is put right without a restart, and so that one that cannot be read lets nothing
pass: nobody knows what it would say. It must not know images or registries.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
from dataclasses import dataclass, field
from pathlib import Path

from oci.index import Stamp, stamp_of
from oci.signing.errors import PolicyError
from oci.signing.policy import MAXIMUM_SIZE, Policy, read

log = logging.getLogger(__name__)

_RULES = b"1"
"""To be changed when less is accepted than before, so that what was accepted is looked at again."""


@dataclass(frozen=True, slots=True)
class InForce:
    """A policy, what tells it from others, and the images that it is known to accept: name and digest."""

    policy: Policy
    digest: str
    stamps: dict[str, Stamp | None]
    accepted: set[tuple[str, str]] = field(default_factory=set)

    def is_current(self) -> bool:
        """Whether no file has changed; a few system calls. Raises OSError."""
        return all(stamp_of(path) == stamp for path, stamp in self.stamps.items())


class PolicyFile:
    """One for the node; its methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """The file is read when it is asked for."""
        self.path = path
        self.last: InForce | None = None
        self._lock = threading.Lock()

    def current(self) -> InForce:
        """The policy in force; blocks when it has to be read. Raises PolicyError."""
        with self._lock:
            try:
                if self.last is not None and self.last.is_current():
                    return self.last
                is_first, self.last = self.last is None, None
                self.last = self._read()
            except OSError as error:
                self.last = None
                raise PolicyError(f"image policy {self.path}: {error.strerror or error}") from error
            except PolicyError as error:
                raise PolicyError(f"image policy {self.path}: {error}") from error
            if not is_first:
                log.info("image policy %s: has changed and is read", self.path)
            return self.last

    def _read(self) -> InForce:
        stamps: dict[str, Stamp | None] = {}
        digest = hashlib.sha256(_RULES)

        def content(path: str) -> bytes:
            stamps[path] = stamp_of(path)  # before it is read: what changes meanwhile is read again
            data = _content(path)
            digest.update(hashlib.sha256(path.encode()).digest() + hashlib.sha256(data).digest())
            return data

        policy = read(content(str(self.path)), content)
        return InForce(policy, digest.hexdigest(), stamps)


def _content(path: str) -> bytes:
    """A file's bytes. Raises OSError and PolicyError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PolicyError(f"{path}: is no regular file")
        data = file.read(MAXIMUM_SIZE + 1)
    if len(data) > MAXIMUM_SIZE:
        raise PolicyError(f"{path}: is larger than {MAXIMUM_SIZE} bytes")
    return data
