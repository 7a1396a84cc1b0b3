"""What an image's own files say of its users: /etc/passwd and /etc/group.

It exists because an image may name the user that it runs as. Lines that are not of the form that passwd(5)
and group(5) describe are passed over, as the C library does. It must not know who runs what.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from oci.layers.errors import LayerError
from oci.layers.walk import walking

MAXIMUM = 1024 * 1024
"""Bytes of each file that are read."""


@dataclass(frozen=True, slots=True)
class User:
    """An entry of /etc/passwd."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Group:
    """An entry of /etc/group."""

    name: str
    gid: int
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class Users:
    """All of them, in their order: of several entries the first counts."""

    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()

    def named(self, name: str) -> User | None:
        """The user of that name."""
        return next((user for user in self.users if user.name == name), None)

    def numbered(self, uid: int) -> User | None:
        """The user of that number."""
        return next((user for user in self.users if user.uid == uid), None)

    def group_named(self, name: str) -> int | None:
        """The number of the group of that name."""
        return next((group.gid for group in self.groups if group.name == name), None)

    def groups_of(self, user: User) -> tuple[int, ...]:
        """The numbers of the groups that it is a member of."""
        return tuple(dict.fromkeys(group.gid for group in self.groups if user.name in group.members))


NOBODY = Users()
"""Of images without files."""


def parse(passwd: str, group: str) -> Users:
    """The texts of both files."""
    users = []
    for fields in _lines(passwd, 7):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is not None and gid is not None:
            users.append(User(fields[0], uid, gid))
    groups = []
    for fields in _lines(group, 4):
        gid = _number(fields[2])
        if gid is not None:
            members = frozenset(name.strip() for name in fields[3].split(",")) - {""}
            groups.append(Group(fields[0], gid, members))
    return Users(tuple(users), tuple(groups))


def read_users(root: Path) -> Users:
    """What the image whose files are below `root` says. Blocks for a moment. Raises OSError."""
    opened = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return parse(_text(opened, "passwd"), _text(opened, "group"))
    finally:
        os.close(opened)


def _text(root: int, name: str) -> str:
    """A file of /etc; empty if there is none, or none that can be read there."""
    with walking(root) as walk:
        try:
            walk.go(("etc",))
            file = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=walk.directory
            )
        except (OSError, LayerError):
            return ""
        try:
            is_regular = stat.S_ISREG(os.fstat(file).st_mode)
            return os.read(file, MAXIMUM).decode(errors="replace") if is_regular else ""
        finally:
            os.close(file)


def _lines(text: str, count: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) == count and fields[0] and not line.startswith("#"):
            yield fields


def _number(text: str) -> int | None:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None
    return number if number is None or number < 2**31 else None
