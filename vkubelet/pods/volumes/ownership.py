"""fsGroup: whose a volume's files are, so that every user of the pod may use them.

It exists to hold the kubelet's rules (its VolumeOwnership). It must not know kinds of volume. The node
changes owners only as root: as anybody else it is the pod's processes' own user already.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from providers.rooted import open_beneath
from vkubelet.api.objects import Pod

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NODE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITABLE, _READABLE, _SEARCHABLE = 0o660, 0o440, 0o110


def fs_group(pod: Pod) -> int | None:
    """The group that the pod's volumes are to belong to, if there is one."""
    context = pod.spec.security_context
    return context.fs_group if context is not None else None


def fs_user(pod: Pod) -> int | None:
    """The user that all of the pod's containers run as, if they say so and agree (FsUserFrom)."""
    context = pod.spec.security_context
    default = context.run_as_user if context is not None else None
    users = {
        container.security_context.run_as_user
        if container.security_context is not None and container.security_context.run_as_user is not None
        else default
        for container in pod.spec.all_containers()
    }
    return users.pop() if len(users) == 1 else None


def may_change_owners() -> bool:
    """Whether this node can give files to others."""
    return os.geteuid() == 0


def give(path: Path | str, group: int, *, read_only: bool) -> None:
    """Give a file or a whole tree to the group, with the permissions that this is for.

    No link is followed. Blocks for as long as the tree is large. Raises OSError.
    """
    top = os.open(path, _NODE)
    try:
        pending = [""]
        while pending:
            # Anew for each, by its path from the top: a tree may be wider than a table of descriptors.
            prefix = pending.pop()
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                pending += _give_below(top, prefix, group, read_only)
        _give(top, group, read_only)
    finally:
        os.close(top)


def is_given(path: Path, group: int, *, read_only: bool) -> bool:
    """Whether the tree's root says that all of it is the group's: fsGroupChangePolicy OnRootMismatch."""
    found = path.stat()
    wanted = (_READABLE if read_only else _WRITABLE) | _SEARCHABLE | stat.S_ISGID
    return stat.S_ISDIR(found.st_mode) and found.st_gid == group and found.st_mode & wanted == wanted


def _give_below(top: int, prefix: str, group: int, read_only: bool) -> list[str]:
    """Give what is in a directory, which a guest may change meanwhile; its directories are returned."""
    inner = []
    directory = open_beneath(top, prefix or ".", _DIRECTORY, follow=False)
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    descriptor = os.open(entry.name, _NODE, dir_fd=directory)
                    try:
                        if _give(descriptor, group, read_only):
                            inner.append(f"{prefix}{entry.name}/")
                    finally:
                        os.close(descriptor)
    finally:
        os.close(directory)
    return inner


def _give(descriptor: int, group: int, read_only: bool) -> bool:
    """Give what was opened, be it a link itself; whether it is a directory."""
    # By its place in /proc: the calls for descriptors take none that is a mere path.
    path = f"/proc/self/fd/{descriptor}"
    os.chown(path, -1, group)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISLNK(mode):
        return False
    wanted = _READABLE if read_only else _WRITABLE
    if stat.S_ISDIR(mode):
        wanted |= _SEARCHABLE | stat.S_ISGID
    os.chmod(path, stat.S_IMODE(mode) | wanted)  # noqa: PTH101
    return stat.S_ISDIR(mode)
