"""What is in an unpacked image: which of its files are WebAssembly, and whether all of it is still as it was.

It exists so that a later start of the agent can tell a whole directory from a damaged one without reading the
files again. It must not know how they got there.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from oci import digests
from oci.binary import MAGIC


class Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`modules` are WebAssembly files by their paths from the root, without a leading slash, and digests.

    `fingerprint` changes with every name, type, mode, size, time and link's target.
    """

    fingerprint: str
    modules: dict[str, str]


def survey(root: Path) -> Contents:
    """Look at all of it; files that begin like WebAssembly are read. Blocks. Raises OSError."""
    modules: dict[str, str] = {}
    known: dict[int, str] = {}
    hasher = hashlib.sha256()
    for name, status, link in _walk(str(root)):
        hasher.update(_told(name, status, link))
        if not stat.S_ISREG(status.st_mode) or status.st_size < len(MAGIC):
            continue
        if status.st_ino not in known:
            known[status.st_ino] = _module_digest(root / name)
        if known[status.st_ino] and name.isprintable():
            modules[name] = known[status.st_ino]
    return Contents(hasher.hexdigest(), modules)


def is_unchanged(root: Path, contents: Contents) -> bool:
    """Whether all of it looks as it did, for what a look at every name costs. Blocks. Raises OSError."""
    hasher = hashlib.sha256()
    for name, status, link in _walk(str(root)):
        hasher.update(_told(name, status, link))
    return hasher.hexdigest() == contents.fingerprint


def _walk(root: str) -> Iterator[tuple[str, os.stat_result, str]]:
    """Every name below, with its status and a link's target, in an order that is always the same.

    Paths are text: a node looks at tens of thousands.
    """
    left = [""]
    while left:
        directory = left.pop()
        with os.scandir(f"{root}/{directory}") as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            name = f"{directory}{entry.name}"
            status = entry.stat(follow_symlinks=False)
            is_link = entry.is_symlink()
            yield name, status, os.readlink(entry.path) if is_link else ""  # noqa: PTH115
            if entry.is_dir(follow_symlinks=False):
                left.append(f"{name}/")


def _told(name: str, status: os.stat_result, link: str) -> bytes:
    is_file = stat.S_ISREG(status.st_mode)
    # A link's own mode means nothing, and a directory's size is the file system's business.
    mode = stat.S_IFMT(status.st_mode) if link else status.st_mode
    return os.fsencode(f"{name}\0{mode}\0{status.st_size if is_file else 0}\0{status.st_mtime_ns}\0{link}\0")


def _module_digest(path: Path) -> str:
    """The digest of a file that begins like WebAssembly; empty for another."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return ""
        file.seek(0)
        return digests.of_file(file)
