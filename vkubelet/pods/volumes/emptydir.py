"""emptyDir: a directory of the pod's own, on disk or in memory.

It exists to hold what a kubelet's emptyDir plugin promises of such a directory. It must not know who mounts
it.
"""

from __future__ import annotations

from pathlib import Path

from vkubelet.api.volumes import EmptyDirVolumeSource
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.layout import make_private

KIND = "empty-dir"
MODE = 0o777
"""Any user of the pod may write; the directory is for everybody in it."""


def make(where: Path, source: EmptyDirVolumeSource) -> Path:
    """Make the directory unless it is there. Blocks. Raises SetUpError, OSError."""
    if source.medium.startswith("HugePages"):
        raise SetUpError(
            f"medium {source.medium}: huge pages cannot be given to a wasm guest, whose memory is its own; "
            'use medium "" or Memory'
        )
    if source.medium not in ("", "Memory"):
        raise SetUpError(f'unknown storage medium "{source.medium}"')
    make_private(where.parent)
    where.mkdir(exist_ok=True)
    # Whatever the node's umask is.
    where.chmod(MODE)
    return where
