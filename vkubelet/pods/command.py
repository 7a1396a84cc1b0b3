"""What the command of an exec names: a module in the container's files, its own module, or an applet.

It exists to hold the order in which a command is looked for, with the messages that a runtime has for what
cannot be run. It must not know how an instance is run. What it opens belongs to a guest, which may change it
at any time: a module is taken as a private copy, whose digest is that of the bytes that are compiled.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from providers.base import ContainerSpec
from providers.rooted import first_in_root, open_in_root
from vkubelet.pods.interaction import CommandError

FAILED = "exec failed: unable to start container process"
"""How a runtime begins its message for a command that it cannot run."""
MAGIC = b"\0asm"
MODULE_MAX = 512 * 1024 * 1024
"""Bytes of a module in a guest's files: more is no command, but a way to fill the node's disk."""
STANDARD_DIRECTORIES = frozenset({"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin"})
"""Where a script expects the everyday commands: an applet may be called by a path there."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class OwnModule:
    """The container's entry point again."""


@dataclass(frozen=True, slots=True)
class Applet:
    """A command of the toolbox."""

    name: str


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A module in the container's files; `path` is a copy that is the caller's, `digest` its `sha256:HEX`."""

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Files:
    """The directories that a container sees: its root, and what is mounted below it (guest path to host)."""

    root: Path
    mounts: Mapping[str, Path]

    def place(self, path: str) -> tuple[Path, str]:
        """The directory that the absolute `path` is in, and the path inside it."""
        normal = posixpath.normpath(path)
        best = max((m for m in self.mounts if normal == m or normal.startswith(f"{m}/")), key=len, default="")
        return (self.mounts[best], normal[len(best) :] or "/") if best else (self.root, path)


def candidates(name: str, working_dir: str, search: str) -> tuple[str, ...]:
    """The absolute paths at which `name` may be a file, in order; `search` is the container's $PATH."""
    if "/" in name:
        return (posixpath.join(working_dir, name),)
    return tuple(posixpath.join(part, name) for part in search.split(":") if part.startswith("/"))


def own_names(spec: ContainerSpec, image: str) -> frozenset[str]:
    """What the container's own module is called: its argv[0] and the name in `image`, an image's id."""
    names = {image.partition("@")[0].rpartition("/")[2]}
    if spec.args:
        names |= {spec.args[0], posixpath.basename(spec.args[0])}
    return frozenset(names | {f"{name}.wasm" for name in names if name}) - {""}


def applet(name: str, applets: Collection[str]) -> Applet | None:
    """The applet that `name` means, bare or in a standard directory."""
    directory, base = posixpath.split(name)
    # POSIX lets two leading slashes mean something of their own; here they mean one.
    normal = f"/{posixpath.normpath(directory).lstrip('/')}" if directory.startswith("/") else directory
    if base in applets and (not directory or normal in STANDARD_DIRECTORIES):
        return Applet(base)
    return None


def _candidates(name: str, spec: ContainerSpec) -> tuple[str, ...]:
    environment = dict(spec.env)
    return candidates(name, environment.get("PWD", spec.working_dir), environment.get("PATH", ""))


def _without_file(name: str, own: Collection[str], applets: Collection[str]) -> OwnModule | Applet | None:
    return OwnModule() if name in own else applet(name, applets)


def resolve_at_once(
    command: Sequence[str],
    spec: ContainerSpec,
    files: Files,
    own: Collection[str],
    applets: Collection[str],
) -> OwnModule | Applet | None:
    """What is to be run, where that takes no time to tell; None where `resolve` is to be asked.

    That is so if no file of that name is in the container's own directory, and none can be elsewhere.
    """
    inside = []
    for path in _candidates(command[0], spec):
        root, path_inside = files.place(path)
        if root is not files.root:
            return None
        inside.append(path_inside)
    if first_in_root(files.root, inside) is not None:
        return None
    return _without_file(command[0], own, applets)


def resolve(
    command: Sequence[str],
    spec: ContainerSpec,
    files: Files,
    own: Collection[str],
    applets: Collection[str],
    private: Path,
) -> OwnModule | Applet | ModuleFile:
    """What is to be run; a module is copied into the directory `private`. Raises CommandError.

    Blocks for as long as a module takes to be copied.
    """
    name = command[0]
    for path in _candidates(name, spec):
        root, inside = files.place(path)
        try:
            descriptor = open_in_root(root, inside, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                continue
            raise _failure(name, _reason(error)) from error
        with os.fdopen(descriptor, "rb") as file:
            try:
                return _copy(name, file, private)
            except OSError as error:
                raise _failure(name, _reason(error)) from error
    known = _without_file(name, own, applets)
    if known is not None:
        return known
    if "/" in name:
        raise _failure(name, f"stat {name}: no such file or directory")
    raise _failure(name, "executable file not found in $PATH")


def _copy(name: str, file: BinaryIO, private: Path) -> ModuleFile:
    """Copy a module, hashing what is copied. Raises OSError, CommandError."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise _failure(name, "permission denied: it is no regular file")
    if file.read(len(MAGIC)) != MAGIC:
        raise _failure(name, "exec format error: it is not WebAssembly")
    file.seek(0)
    with tempfile.NamedTemporaryFile(dir=private, suffix=".wasm", delete=False) as copy:
        try:
            size, digest = _copy_bytes(file, copy)
        except BaseException:
            Path(copy.name).unlink()
            raise
    if size > MODULE_MAX:
        Path(copy.name).unlink()
        raise _failure(name, f"file too large: a module has at most {MODULE_MAX >> 20} MiB")
    return ModuleFile(Path(copy.name), digest)


def _copy_bytes(file: BinaryIO, copy: IO[bytes]) -> tuple[int, str]:
    """Size and digest of what was copied, which ends soon after MODULE_MAX bytes."""
    size, digest = 0, hashlib.sha256()
    while size <= MODULE_MAX and (data := file.read(_CHUNK)):
        size += len(data)
        digest.update(data)
        copy.write(data)
    return size, f"sha256:{digest.hexdigest()}"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _failure(name: str, reason: str) -> CommandError:
    return CommandError(f'{FAILED}: exec: "{name}": {reason}')
