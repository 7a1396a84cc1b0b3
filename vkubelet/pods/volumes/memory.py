"""The node's directory for what must not be on a disk.

It exists because what a node can promise depends on who it runs as: where its run directory is no file system
in memory, it mounts one, and where it may not, secrets are files for their owner alone. It must not know what
is kept there.
"""

from __future__ import annotations

import logging
from pathlib import Path

from vkubelet.pods.volumes import ownership, tmpfs
from vkubelet.pods.volumes.layout import make_private

logger = logging.getLogger(__name__)


class Memory:
    """One directory, for all pods."""

    def __init__(self, directory: Path) -> None:
        """Nothing is made before `open`."""
        self._directory = directory
        self.is_certain = False
        """Whether what is kept there is never on a disk."""

    @property
    def narrowed(self) -> bool:
        """Whether files are for their owner alone, whatever their modes should be.

        It costs nothing: a node that is not root runs all containers as its own user.
        """
        return not self.is_certain and not ownership.may_change_owners()

    def open(self) -> None:
        """Make the directory, in memory where the node can. Blocks. Raises OSError."""
        make_private(self._directory)
        self._directory.chmod(0o700)
        if tmpfs.is_in_memory(self._directory):
            self.is_certain = True
            return
        try:
            tmpfs.mount(self._directory)
        except OSError as error:
            logger.warning(
                "secrets are files for the node's user alone on the disk of %s, which is not a tmpfs, "
                "and none can be mounted there: %s; set run-dir to a directory on a tmpfs",
                self._directory,
                error.strerror,
            )
        else:
            self.is_certain = True

    def close(self) -> None:
        """Take away what `open` has mounted, perhaps an earlier agent's, unless something is in it."""
        try:
            if self._directory.is_mount() and not any(self._directory.iterdir()):
                tmpfs.unmount(self._directory)
        except OSError as error:
            logger.warning("%s stays mounted: %s", self._directory, error.strerror)
