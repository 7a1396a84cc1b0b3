"""A container's root directory as it is before the guest's first instruction: mount points and single files.

It exists because WASI gives a guest directories only, and shows none of them in another: what a container has
beside its own root directory must be made to appear there. It must not know who runs in it.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from providers.base import ContainerSpec, FileMount, InvalidSpecError, Preopen, ProviderError
from providers.rooted import open_beneath

STOP = "/.vkubelet"
"""Where a guest sees that it is asked to stop; see ContainerSpec.stop_file."""

_BUFFER = 1024 * 1024
_NOT_LINKED = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOENT}
"""Why a file may have no hard link (link(2)): it is elsewhere, not ours to link, or has no name left."""


def check(spec: ContainerSpec) -> None:
    """Raise InvalidSpecError if what the guest is to see cannot be where it is to be."""
    taken: dict[str, str] = {STOP: "stop_file"} if spec.stop_file else {}
    directories = set(taken)
    files = set()
    for index, preopen in enumerate(spec.preopens):
        directories.add(_take(taken, f"preopens[{index}]", preopen.guest))
    for index, file in enumerate(spec.files):
        files.add(_take(taken, f"files[{index}]", file.guest))
    for place, name in taken.items():
        for above in _above(place):
            if above in files:
                raise InvalidSpecError(f"{name}: {place} lies in {taken[above]}, a file at {above}")
            if place in files and above in directories:
                raise InvalidSpecError(
                    f"{name}: {place} lies in {taken[above]}, a directory of its own at {above}"
                )


def _take(taken: dict[str, str], name: str, guest: str) -> str:
    """The place that is taken from now on."""
    if not guest.startswith("/"):
        raise InvalidSpecError(f"{name}: {guest!r} is not an absolute path")
    parts = _parts(guest)
    if ".." in parts or not parts:
        raise InvalidSpecError(f"{name}: {guest!r} is no place in the root directory")
    place = f"/{'/'.join(parts)}"
    if place in taken:
        raise InvalidSpecError(f"{name}: {place} is taken by {taken[place]}")
    taken[place] = name
    return place


def _parts(guest: str) -> list[str]:
    return [part for part in guest.split("/") if part not in ("", ".")]


def _above(place: str) -> Iterator[str]:
    """The directories that a place is in, but for the root."""
    end = place.rfind("/")
    while end > 0:
        yield place[:end]
        end = place.rfind("/", 0, end)


def make(root: Path, spec: ContainerSpec, own_preopens: Iterable[Preopen] = ()) -> None:
    """Make the root directory with a mount point for each directory in it. Raises OSError."""
    top = str(root)
    make_directory(top)
    places = {f"/{'/'.join(_parts(preopen.guest))}" for preopen in (*spec.preopens, *own_preopens)}
    if spec.stop_file:
        places.add(STOP)
    for place in places:
        # In the directory of another it is that one's business: what is there is not ours to change.
        if places.isdisjoint(_above(place)):
            _make_directories(top, _parts(place))
    identity = spec.identity
    if identity is not None and (identity.uid, identity.gid) != (os.geteuid(), os.getegid()):
        os.chown(root, identity.uid, identity.gid)


def link_files(root: Path, files: tuple[FileMount, ...]) -> bool:
    """Make the files appear if that takes links alone, else leave it, begun perhaps, to `place_files`.

    What is beneath a volume's directory is left too: it may be far away.
    """
    try:
        return all(not file.beneath and _place_file(str(root), file, copies=False) for file in files)
    except (InvalidSpecError, OSError):
        return False  # it will be told by whom it is left to


def place_files(root: Path, files: tuple[FileMount, ...]) -> None:
    """Make the files appear; takes as long as what has to be copied. Raises ProviderError."""
    for index, file in enumerate(files):
        try:
            _place_file(str(root), file, copies=True)
        except InvalidSpecError as error:
            raise InvalidSpecError(f"files[{index}]: {error}") from error
        except OSError as error:
            raise ProviderError(f"files[{index}]: {file.host} for {file.guest}: {error.strerror}") from error


def _place_file(root: str, file: FileMount, *, copies: bool) -> bool:
    """Whether the file is there now, as it always is if it may be a copy."""
    parts = _parts(file.guest)
    _make_directories(root, parts[:-1])
    target = f"{root}/{'/'.join(parts)}"
    try:
        host = _open(file)
    except OSError as error:
        raise InvalidSpecError(f"{file.host / file.beneath}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(host).st_mode):
            raise InvalidSpecError(f"{file.host} is no regular file: a guest can be given no other")
        if not file.read_only and _link(host, target):
            return True
        if copies:
            _copy(host, target, read_only=file.read_only)
        return copies
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


def _link(host: int, target: str) -> bool:
    try:
        # With a directory given, even if it is not used, the call follows the link that a descriptor is.
        os.link(f"/proc/self/fd/{host}", target, src_dir_fd=host, follow_symlinks=True)
    except FileExistsError:
        return True  # by `link_files`: no guest has run here
    except OSError as error:
        if error.errno not in _NOT_LINKED:
            raise
        return False
    return True


def _copy(host: int, target: str, *, read_only: bool) -> None:
    source = os.open(f"/proc/self/fd/{host}", os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(source, "rb") as reader, open(target, "xb") as writer:  # noqa: PTH123  as below
        status = os.fstat(source)
        shutil.copyfileobj(reader, writer, _BUFFER)
        writer.flush()
        mode = stat.S_IMODE(status.st_mode) & 0o777
        if os.geteuid() == 0:
            os.fchown(writer.fileno(), status.st_uid, status.st_gid)
        os.fchmod(writer.fileno(), mode & ~0o222 if read_only else mode)
        os.utime(writer.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


def _make_directories(root: str, parts: Sequence[str]) -> None:
    path = root
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
