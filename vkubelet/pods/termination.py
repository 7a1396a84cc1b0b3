"""The message that a container leaves behind when it ends.

It exists because that message is a file which the guest writes at a path of its own choice, or the end of its
log: neither may lead the node elsewhere or cost it more than a few kilobytes. It must not know what becomes
of the message. The rules are the kubelet's (convertToKubeContainerStatus, getTerminationMessage).
"""

from __future__ import annotations

import dataclasses
import logging
import os
import posixpath
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from providers.base import Exit, ExitReason, Preopen
from providers.removal import remove_tree
from providers.rooted import open_in_root
from vkubelet.api.containers import Container

logger = logging.getLogger(__name__)

MESSAGE_MAX = 4096
"""Bytes of a termination message (MaxContainerTerminationMessageLength)."""
LOG_MAX = 2048
"""Bytes and lines of a log that stand in for one (MaxContainerTerminationMessageLogLength, ...LogLines)."""
LINES_MAX = 80
_TAIL = 32 * 1024
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

Tree: TypeAlias = Mapping[str, Path]
"""The host's directories that a guest sees, by its absolute paths; its root is `/`."""


def directory(run_dir: Path, uid: str) -> Path:
    """Where the messages of a pod's containers are, for as long as the pod is on this node."""
    return Path(run_dir, "termination", uid)


def place(where: Path, container: Container, number: int) -> Path:
    """The file of attempt `number`, in a directory of its own."""
    return Path(where, f"{container.name}-{number}", posixpath.basename(_path(container)))


def prepare(where: Path, container: Container, number: int, preopens: tuple[Preopen, ...]) -> Preopen | None:
    """Make the file, empty, and the mount that shows its directory to the guest.

    None where that cannot be: the path is in `/` itself or in a volume that the container mounts; there the
    file is looked for among the guest's own. Blocks for a few calls to the file system.
    """
    guest = posixpath.dirname(_path(container))
    if guest == "/" or any(_is_within(guest, other.guest) for other in preopens):
        return None
    file = place(where, container, number)
    directory = file.parent
    _make(str(where), 0o711)
    _make(str(directory), 0o777)  # whoever the container runs as writes it; no path but its own leads there
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.fchmod(descriptor, 0o666)
    finally:
        os.close(descriptor)
    return Preopen(directory, guest)


def _make(path: str, mode: int) -> None:
    """Make a directory, whatever the umask."""
    try:
        os.mkdir(path)  # noqa: PTH102  paths are text here: this is done for every start
    except FileNotFoundError:
        os.makedirs(path)  # noqa: PTH103
    except FileExistsError:
        return
    os.chmod(path, mode)  # noqa: PTH101


def completed(container: Container, end: Exit, file: Path, log: Path, tree: Callable[[], Tree]) -> Exit:
    """The end with what the container left behind added to its message, the runtime's own words first.

    `tree` is asked for where the guest's file could not be given a place of its own. Blocks for a few reads.
    """
    found = (
        _read(lambda: os.open(file, _FLAGS)) if file.parent.is_dir() else _read_in(tree(), _path(container))
    )
    wants_log = container.termination_message_policy == "FallbackToLogsOnError" and end.code != 0
    if not found and wants_log and end.reason is not ExitReason.CANNOT_RUN:
        found = _log_end(log)
    if not found:
        return end
    return dataclasses.replace(end, message=": ".join(part for part in (end.message, found) if part))


def remove(where: Path) -> None:
    """The pod is gone. Blocks: guests can write there, and so leave any tree."""
    try:
        remove_tree(where)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("termination messages of a pod that is gone are left at %s: %s", where, error)


def _path(container: Container) -> str:
    """The guest's absolute path of its message, without `..` that would leave its root."""
    path = container.termination_message_path or "/dev/termination-log"
    return posixpath.normpath("/" + path.lstrip("/"))


def _is_within(guest: str, mount: str) -> bool:
    return guest == mount or guest.startswith(mount.rstrip("/") + "/")


def _read_in(tree: Tree, path: str) -> str:
    """The file at a guest's path, as the guest sees it."""
    guest = max((other for other in tree if _is_within(path, other)), key=len, default="")
    if not guest:
        return ""
    return _read(lambda: open_in_root(tree[guest], path[len(guest.rstrip("/")) :], _FLAGS))


def _read(opened: Callable[[], int]) -> str:
    """The start of a file that a guest wrote. Empty if there is none; it may be something else by now."""
    try:
        descriptor = opened()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"Error on reading termination log: {os.strerror(error.errno or 0).lower()}"
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return "Error on reading termination log: not a regular file"
        return os.read(descriptor, MESSAGE_MAX).decode(errors="replace")
    finally:
        os.close(descriptor)


def _log_end(log: Path) -> str:
    """The last lines of a log in the CRI format, without their headers."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL, 0))
            lines = file.read(_TAIL).split(b"\n")
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"Error on reading termination message from logs: {error}"
    if size > _TAIL:
        lines = lines[1:]  # its beginning is cut off
    text = b""
    for line in lines[-LINES_MAX - 1 :]:
        parts = line.split(b" ", 3)  # time, stream, tag, content
        if len(parts) == 4:
            text += parts[3] + (b"" if parts[2] == b"P" else b"\n")
    return text[-LOG_MAX:].decode(errors="replace")
