"""Where a pod's volumes are on this node.

It exists so that one place knows the directories, and which of them are on disk and which in memory. It must
not know what is in them.

    ROOT_DIR/pods/UID/volumes/kubernetes.io~empty-dir/NAME    survives a boot, as the pod does
    RUN_DIR/volumes/UID/kubernetes.io~secret/NAME             in memory where the node can have it so

Below the two directories of a pod the names are a kubelet's. Both are for the node's own user alone, whatever
the modes of what is inside.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from vkubelet.pods.volumes.errors import SetUpError

_COMPONENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


def component(text: str, what: str) -> str:
    """`text`, which is one plain name of a path. Raises SetUpError: the API server would not let it pass."""
    if not _COMPONENT.fullmatch(text):
        raise SetUpError(f"{what} {text!r} is not a name that a directory can have")
    return text


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """The two directories that hold all pods' volumes."""

    disk: Path
    memory: Path

    @classmethod
    def of(cls, root_dir: Path, run_dir: Path) -> Layout:
        """Those of a node with these directories."""
        return cls(root_dir / "pods", run_dir / "volumes")

    def on_disk(self, uid: str, kind: str, name: str) -> Path:
        """The directory of a volume whose content is on disk."""
        return self.disk / component(uid, "the pod's uid") / "volumes" / _plugin(kind) / _volume(name)

    def in_memory(self, uid: str, kind: str, name: str) -> Path:
        """The directory of a volume whose content is in memory."""
        return self.memory / component(uid, "the pod's uid") / _plugin(kind) / _volume(name)

    def of_pod(self, uid: str) -> tuple[Path, Path]:
        """Everything that there can be of one pod."""
        name = component(uid, "the pod's uid")
        return self.disk / name, self.memory / name

    def uids(self) -> Iterator[str]:
        """The pods that there is something of."""
        found: set[str] = set()
        for parent in (self.disk, self.memory):
            with contextlib.suppress(FileNotFoundError):
                found.update(entry.name for entry in parent.iterdir())
        yield from sorted(found)


def make_private(path: Path) -> None:
    """A directory with its parents, all of them for the node's own user."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)


def _plugin(kind: str) -> str:
    return f"kubernetes.io~{kind}"


def _volume(name: str) -> str:
    return component(name, "the volume's name")
