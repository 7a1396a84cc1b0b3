"""A container's root directory as it is before the guest's first instruction: mount points and single files.

It exists because WASI gives a guest directories only, and shows none of them in another: what a container has
beside its own root directory must be made to appear there. It must not know who runs in it.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from providers.base import ContainerSpec, FileMount, InvalidSpecError, Preopen, ProviderError
from providers.rooted import open_beneath

STOP = PurePosixPath("/.vkubelet")
"""Where a guest sees that it is asked to stop; see ContainerSpec.stop_file."""

_BUFFER = 1024 * 1024
_NOT_LINKED = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOENT}
"""Why a file may have no hard link (link(2)): it is elsewhere, not ours to link, or has no name left."""


def check(spec: ContainerSpec) -> None:
    """Raise InvalidSpecError if what the guest is to see cannot be where it is to be."""
    taken: dict[PurePosixPath, str] = {STOP: "stop_file"} if spec.stop_file else {}
    preopens = {f"preopens[{index}]": preopen.guest for index, preopen in enumerate(spec.preopens)}
    files = {f"files[{index}]": file.guest for index, file in enumerate(spec.files)}
    for name, guest in (preopens | files).items():
        place = _place(name, guest)
        if place in taken:
            raise InvalidSpecError(f"{name}: {place} is taken by {taken[place]}")
        taken[place] = name
    for place, name in taken.items():
        for above in place.parents:
            if taken.get(above) in files:
                raise InvalidSpecError(f"{name}: {place} lies in {taken[above]}, a file at {above}")
            if name in files and above in taken:
                raise InvalidSpecError(
                    f"{name}: {place} lies in {taken[above]}, a directory of its own at {above}"
                )


def _place(name: str, guest: str) -> PurePosixPath:
    place = PurePosixPath(guest)
    if not guest.startswith("/"):
        raise InvalidSpecError(f"{name}: {guest!r} is not an absolute path")
    if ".." in place.parts or place == PurePosixPath("/"):
        raise InvalidSpecError(f"{name}: {guest!r} is no place in the root directory")
    # POSIX lets two slashes mean something of their own.
    return PurePosixPath("/", *place.parts[1:])


def make(root: Path, spec: ContainerSpec, own_preopens: Iterable[Preopen] = ()) -> None:
    """Make the root directory with a mount point for each directory in it. Raises OSError."""
    make_directory(str(root))
    places = [PurePosixPath(preopen.guest) for preopen in (*spec.preopens, *own_preopens)]
    if spec.stop_file:
        places.append(STOP)
    for place in places:
        # In the directory of another it is that one's business: what is there is not ours to change.
        if not any(above in places for above in place.parents):
            _make_directories(root, place.parts[1:])
    identity = spec.identity
    if identity is not None and (identity.uid, identity.gid) != (os.geteuid(), os.getegid()):
        os.chown(root, identity.uid, identity.gid)


def place_files(root: Path, files: tuple[FileMount, ...]) -> None:
    """Make the files appear; takes as long as what has to be copied. Raises ProviderError."""
    for index, file in enumerate(files):
        try:
            _place_file(root, file)
        except InvalidSpecError as error:
            raise InvalidSpecError(f"files[{index}]: {error}") from error
        except OSError as error:
            raise ProviderError(f"files[{index}]: {file.host} for {file.guest}: {error.strerror}") from error


def _place_file(root: Path, file: FileMount) -> None:
    parts = PurePosixPath(file.guest).parts[1:]
    _make_directories(root, parts[:-1])
    target = root.joinpath(*parts)
    try:
        host = _open(file)
    except OSError as error:
        raise InvalidSpecError(f"{file.host / file.beneath}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(host).st_mode):
            raise InvalidSpecError(f"{file.host} is no regular file: a guest can be given no other")
        if file.read_only or not _link(host, target):
            _copy(host, target, read_only=file.read_only)
    finally:
        os.close(host)


def _open(file: FileMount) -> int:
    if not file.beneath:
        return os.open(file.host, os.O_PATH | os.O_CLOEXEC)
    directory = os.open(file.host, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_beneath(directory, file.beneath, os.O_PATH)
    finally:
        os.close(directory)


def _link(host: int, target: Path) -> bool:
    try:
        # With a directory given, even if it is not used, the call follows the link that a descriptor is.
        os.link(f"/proc/self/fd/{host}", target, src_dir_fd=host, follow_symlinks=True)
    except OSError as error:
        if error.errno not in _NOT_LINKED:
            raise
        return False
    return True


def _copy(host: int, target: Path, *, read_only: bool) -> None:
    source = os.open(f"/proc/self/fd/{host}", os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(source, "rb") as reader, target.open("xb") as writer:
        status = os.fstat(source)
        shutil.copyfileobj(reader, writer, _BUFFER)
        writer.flush()
        mode = stat.S_IMODE(status.st_mode) & 0o777
        if os.geteuid() == 0:
            os.fchown(writer.fileno(), status.st_uid, status.st_gid)
        os.fchmod(writer.fileno(), mode & ~0o222 if read_only else mode)
        os.utime(writer.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


def _make_directories(root: Path, parts: tuple[str, ...]) -> None:
    path = str(root)
    for part in parts:
        path = f"{path}/{part}"
        try:
            make_directory(path)
        except FileExistsError:
            continue


def make_directory(path: str) -> None:
    """Make a directory that others may look into, whatever the umask. Raises OSError."""
    os.mkdir(path, 0o755)  # noqa: PTH102  paths are text here, as in directory.py
    os.chmod(path, 0o755)  # noqa: PTH101, S103
