"""Writes a volume's files so that a guest sees all of the old ones or all of the new ones, never a mixture.

It exists because a guest has the volume's directory open, so that the directory must stay and only what is in
it may change. The layout is the kubelet's, which programs know and watch:

    KEY -> ..data/KEY                 what a guest opens
    ..data -> ..2026_02_01_15_04_05.1234      the files that count; replaced by one rename
    ..2026_02_01_15_04_05.1234/KEY    the files

It may be killed between any two steps: what counts is what `..data` leads to, and the next write removes
whatever else is there. It must not know what the files are. Blocks; for one writer a directory at a time.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from providers.faultpoints import reached
from vkubelet.pods.volumes.payload import File, Payload

DATA = "..data"
_NEXT = "..data_tmp"
_MODE = 0o755
"""Of directories: whoever may read a file may come to it."""
_OWN = ".."
"""What begins so is the volume's own; no file of a payload does."""

# Paths are text here: this is on the way of every pod's start.
# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH112, PTH114, PTH115, PTH123, PTH208, PTH211


def write(volume: Path, payload: Payload, own: Callable[[str], None] | None = None) -> bool:
    """Make the directory `volume`, which exists, show exactly `payload`; whether anything was changed.

    `own` is called with the directory of the new files before any guest can see them, to change whose they
    are. Raises OSError, with the old files in force.
    """
    where = str(volume)
    current = _current(where)
    changed = current is None or not _same(f"{where}/{current}", payload)
    if changed:
        current = _publish(where, payload, own)
    entries = os.listdir(where)
    visible = {path.split("/", 1)[0] for path in payload}
    for name in visible.difference(entries):
        os.symlink(f"{DATA}/{name}", f"{where}/{name}")
        changed = True
    for name in entries:
        if name in visible or name in (DATA, current):
            continue
        changed = True
        _remove(f"{where}/{name}")
    return changed


def is_written(volume: Path) -> bool:
    """Whether the directory shows files, be there none in it."""
    return _current(str(volume)) is not None


def _publish(where: str, payload: Payload, own: Callable[[str], None] | None) -> str:
    name = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()) + str(secrets.randbelow(1 << 32))
    fresh = f"{where}/{name}"
    os.mkdir(fresh)
    os.chmod(fresh, _MODE)
    made = {""}
    for path, file in payload.items():
        _make_parents(fresh, path, made)
        _create(f"{fresh}/{path}", file)
    if own is not None:
        own(fresh)
    reached("volume-files-made")
    # A link that a killed writer left would be in the way.
    if os.path.lexists(f"{where}/{_NEXT}"):
        os.unlink(f"{where}/{_NEXT}")
    os.symlink(name, f"{where}/{_NEXT}")
    os.rename(f"{where}/{_NEXT}", f"{where}/{DATA}")
    reached("volume-files-swapped")
    return name


def _make_parents(root: str, path: str, made: set[str]) -> None:
    """The directories above a file, whatever the node's umask is; `made` are those that exist."""
    parent = path.rpartition("/")[0]
    if parent in made:
        return
    _make_parents(root, parent, made)
    os.mkdir(f"{root}/{parent}")
    os.chmod(f"{root}/{parent}", _MODE)
    made.add(parent)


def _create(path: str, file: File) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(file.data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if file.user is not None:
            os.fchown(descriptor, file.user, -1)
        os.fchmod(descriptor, file.mode)
    finally:
        os.close(descriptor)


def _current(where: str) -> str | None:
    """The directory that counts; None if there is none."""
    try:
        name = os.readlink(f"{where}/{DATA}")
    except FileNotFoundError:
        return None
    return name if name.startswith(_OWN) and "/" not in name and os.path.isdir(f"{where}/{name}") else None


def _same(directory: str, payload: Payload) -> bool:
    """Whether the files of the directory are those of the payload, byte for byte."""
    found: set[str] = set()
    pending = [""]
    while pending:
        prefix = pending.pop()
        for entry in os.scandir(f"{directory}/{prefix}"):
            path = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                pending.append(f"{path}/")
            elif path in payload and _holds(entry, payload[path].data):
                found.add(path)
            else:
                return False
    return found == payload.keys()


def _holds(entry: os.DirEntry[str], data: bytes) -> bool:
    if not entry.is_file(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_size != len(data):
        return False
    with open(entry.path, "rb") as file:
        return file.read() == data


def _remove(path: str) -> None:
    """A link that leads nowhere any more, or files that a guest no longer sees."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
