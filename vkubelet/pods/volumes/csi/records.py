"""What this node has asked drivers for, as files: what a later agent must take back is found by them.

It exists because volumes outlive the agent, and a driver is told of what it gave by the same paths and names.
Files and places are a kubelet's, which drivers and people know:

    ROOT_DIR/pods/UID/volumes/kubernetes.io~csi/NAME/mount              what a driver publishes for a pod
    ROOT_DIR/pods/UID/volumes/kubernetes.io~csi/NAME/vol_data.json
    ROOT_DIR/plugins/kubernetes.io/csi/DRIVER/DIGEST/globalmount        what it stages on the node
    ROOT_DIR/plugins/kubernetes.io/csi/DRIVER/DIGEST/vol_data.json

Each file is written whole before its driver is asked. It must not know what a driver is asked. Blocks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec

from vkubelet.pods.volumes.csi.wanted import Wanted
from vkubelet.pods.volumes.errors import os_text
from vkubelet.pods.volumes.layout import Layout, component, make_private

logger = logging.getLogger(__name__)

PLUGIN = "csi"
_FILE = "vol_data.json"
_MOUNT, _STAGING = "mount", "globalmount"


class _Data(msgspec.Struct, rename={"name": "specVolID", "handle": "volumeHandle"}, omit_defaults=True):
    """A file's content: what is read of it."""

    handle: str
    driver: str = msgspec.field(name="driverName")
    name: str = ""
    node: str = msgspec.field(name="nodeName", default="")
    attachment: str = msgspec.field(name="attachmentID", default="")
    lifecycle: str = msgspec.field(name="volumeLifecycleMode", default="")


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """Something that a driver gave, or was asked for, and where."""

    driver: str
    handle: str
    path: Path
    lifecycle: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What tells its volume from others of the node."""
        return self.driver, self.handle


class Records:
    """One for the node."""

    def __init__(self, layout: Layout, root: Path) -> None:
        """`root` is the node's own directory."""
        self._layout = layout
        self._staged = root / "plugins" / "kubernetes.io" / PLUGIN
        self._recovered: frozenset[Path] = frozenset()

    def target(self, uid: str, name: str) -> Path:
        """Where a volume is published for a pod."""
        return self._layout.on_disk(uid, PLUGIN, name) / _MOUNT

    def staging(self, wanted: Wanted) -> Path:
        """Where a volume is staged."""
        digest = hashlib.sha256(wanted.handle.encode()).hexdigest()
        return self._staged / component(wanted.driver, "the driver's name") / digest / _STAGING

    def note_published(self, target: Path, wanted: Wanted, node: str, attachment: str) -> None:
        """A driver is about to be asked to publish. Raises OSError."""
        make_private(target.parent)
        data = _Data(wanted.handle, wanted.driver, wanted.name, node, attachment, wanted.lifecycle)
        _write(target.parent, data)

    def note_staged(self, staging: Path, wanted: Wanted) -> None:
        """A driver is about to be asked to stage, into a directory that is there. Raises OSError."""
        make_private(staging)
        _write(staging.parent, _Data(wanted.handle, wanted.driver))

    def recover(self) -> tuple[dict[str, list[Given]], list[Given]]:
        """What earlier agents have asked for: for pods, by uid, and for the node."""
        published = {uid: found for uid in self._layout.uids() if (found := self.published(uid))}
        staged = [given for driver in _entries(self._staged) for given in _given(driver, _STAGING)]
        everything = (*staged, *(given for found in published.values() for given in found))
        self._recovered = frozenset(given.path for given in everything)
        return published, staged

    def any_published(self, uid: str) -> bool:
        """Whether there can be anything of the pod: one question to the file system."""
        return self._layout.on_disk(uid, PLUGIN, "any").parent.is_dir()

    def published(self, uid: str) -> list[Given]:
        """What was asked for the pod."""
        where = self._layout.on_disk(uid, PLUGIN, "any").parent
        return list(_given(where, _MOUNT))

    def staged_of(self, key: tuple[str, str]) -> Given | None:
        """The staging of one volume, if it was asked for."""
        driver, handle = key
        digest = hashlib.sha256(handle.encode()).hexdigest()
        where = self._staged / component(driver, "the driver's name") / digest
        return Given(driver, handle, where / _STAGING) if (where / _FILE).exists() else None

    def refused(self, given: Path) -> None:
        """Its driver has not given it, unless an earlier agent got it: then it is still to be taken back."""
        if given not in self._recovered:
            self.forget(given)

    def forget(self, given: Path) -> None:
        """Its driver has taken it back: remove what is left of it, unless something is mounted there still.

        Raises OSError. What is in the directory is not the node's to remove.
        """
        if given.is_mount():
            raise OSError(f"{given} is still mounted")
        with contextlib.suppress(FileNotFoundError):
            given.rmdir()
        for name in (_FILE, f".{_FILE}"):
            (given.parent / name).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            given.parent.rmdir()


def _given(parent: Path, name: str) -> Iterator[Given]:
    for directory in _entries(parent):
        file = directory / _FILE
        try:
            data = msgspec.json.decode(file.read_bytes(), type=_Data)
        except FileNotFoundError:
            continue
        except (OSError, msgspec.DecodeError) as error:
            cause = os_text(error) if isinstance(error, OSError) else error
            logger.error("%s cannot be read, its driver is told of no end: %s", file, cause)  # noqa: TRY400
            continue
        yield Given(data.driver, data.handle, directory / name, data.lifecycle)


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []


def _write(directory: Path, data: _Data) -> None:
    fresh = directory / f".{_FILE}"
    fresh.write_bytes(msgspec.json.encode(data))
    fresh.rename(directory / _FILE)
