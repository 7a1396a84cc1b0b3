"""The run directory: a directory for each container, and what stands in them.

It exists so that every file operation on a container's directory has one place. The operations are few and
small, and the directory is on a tmpfs or in the page cache, so they are done at once and not in threads; only
removing a container, whose root directory may hold anything, is for a thread. It must not know sockets,
processes or asyncio, nor what an agent makes of what the one before left (`adoption.py`).

    RUN_DIR/boot-id              the boot that the containers belong to
    RUN_DIR/containers/ID/       spec, started, rootfs/; attach.sock of those with input or a terminal;
                                 stop/ of those who are asked to stop by a file in it; own/, where alone its
                                 process may write, with exit; exit, of those whose process left none;
                                 .started and own/.exit, room for these, which a full disk may have no more;
                                 memory-limit, when it was changed; cgroup, a link to the (version 2) one
                                 that it is born in
    RUN_DIR/cgroups              where the containers' cgroups are
    RUN_DIR/corrupt/             what could not be understood, set aside for people
    RUN_DIR/trash/               what is being removed
"""

# Paths are text here: at a thousand containers a second, pathlib costs more than the calls themselves.
# ruff: noqa: PTH102, PTH106, PTH108, PTH211

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from providers import intact
from providers.base import ContainerSpec, Exit, ExitReason, Preopen, ProviderError
from providers.faultpoints import reached
from providers.removal import remove_tree
from providers.wasmtime import files, rootfs, specs, statefiles
from providers.wasmtime.files import Started
from providers.wasmtime.roots import Roots

_SPECS = 128
"""Specs that are kept decoded: of as many containers as a node has by default, and some."""
EXIT_FILE_MAX = files.MESSAGE_MAX + 1024
_RECORD, _CLAIM = 4096, 64
"""Bytes that are kept for records: a page, into which all but the longest messages fit, and part of one."""

_log = logging.getLogger(__name__)


class RunDirectory:
    """The state of one node's containers. One agent has it at a time."""

    def __init__(self, path: Path, roots: Path | None = None) -> None:
        """`roots` is for root directories that begin with files; None: they are in `path` too."""
        self.path = path
        self._roots = Roots(roots, path)
        self._containers = path / "containers"
        self._trash = path / "trash"
        self._corrupt = path / "corrupt"
        self._lock = -1
        self._specs: dict[str, ContainerSpec] = {}

    def open(self) -> None:
        """Make the directory and take it. Raises ProviderError if another agent has it."""
        try:
            for directory in (self.path, self._containers, self._trash, self._corrupt):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.chmod(0o700)
            self._roots.open()
            lock = self.path / "agent.lock"
            if lock.is_dir():
                _log.error("%s is a directory: set aside as %s", lock, intact.set_aside(lock))
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise ProviderError(f"{self.path} is in use by another agent") from error
        except OSError as error:
            self.close()
            raise ProviderError(f"{self.path} cannot be used: {error}") from error

    def close(self) -> None:
        """Let another agent have it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def container(self, container_id: str) -> Path:
        """The directory of a container, whether it exists or not."""
        return self._containers / container_id

    def root(self, container_id: str) -> Path:
        """The directory that is made for a container as its `/`, unless its spec names another."""
        return Path(f"{self._containers}/{container_id}/rootfs")

    def read_spec(self, container_id: str) -> ContainerSpec:
        """The spec of a container. Raises FileNotFoundError if there is none, CorruptFileError."""
        return specs.decode(container_id, statefiles.read(self.container(container_id) / "spec"))

    def spec(self, container_id: str) -> ContainerSpec:
        """The same of one that is asked for again and again; until it is told that it was rewritten."""
        known = self._specs.pop(container_id, None)
        if known is None:
            known = self.read_spec(container_id)
            if len(self._specs) == _SPECS:
                del self._specs[next(iter(self._specs))]
        self._specs[container_id] = known  # as the last one
        return known

    def forget_spec(self, container_id: str) -> None:
        """It was rewritten, or nobody will ask for it again. For the thread that asks."""
        self._specs.pop(container_id, None)

    def all(self) -> Iterator[Path]:
        """All directories of containers: each has its container's id as its name. Raises OSError."""
        return self._containers.iterdir()

    def set_aside(self, container_id: str) -> Path:
        """Keep for people what cannot be understood; where it is now. Raises OSError."""
        return intact.set_aside(self.container(container_id), self._corrupt)

    def owner(self, spec: ContainerSpec) -> str:
        """The container whose root directory it has: another one for an instance in it, else itself."""
        if spec.root is not None:
            directory, _, name = str(spec.root).rpartition("/")
            containers, _, owner = directory.rpartition("/")
            if name == "rootfs" and containers == str(self._containers):
                return owner
        return spec.id

    def remove_instance(self, instance_id: str) -> Path | None:
        """As `remove`, of an instance in the root directory of a container."""
        directory = f"{self._containers}/{instance_id}"
        try:
            for name in ("spec", "started", "own/exit"):
                os.unlink(f"{directory}/{name}")
            os.rmdir(f"{directory}/own")
            os.rmdir(directory)
        except OSError:
            return self.remove(instance_id)
        return None

    def create(
        self,
        spec: ContainerSpec,
        *,
        cgroups: Iterable[Path] = (),
        born_in: Path | None = None,
        own_preopens: Sequence[Preopen] = (),
    ) -> None:
        """Make a container's directory, ready for the launcher but for its files. Raises ProviderError.

        `cgroups` are the files by which it joins its cgroups, `born_in` the one that needs no joining, and
        `own_preopens` what the guest has from the node itself.
        """
        stop = self.stop_directory(self.owner(spec))
        encoded = specs.encode(spec, stop, cgroups, own_preopens)
        directory = f"{self._containers}/{spec.id}"
        try:
            os.mkdir(directory, 0o700)
            reached("container-directory-made")
            _reserve(directory)
            if spec.root is None:
                # Here and not by the process: an instance may be asked for as soon as the container is there.
                root = self.root(spec.id)
                if spec.template is not None:
                    root = self._roots.place(root, spec.id)
                rootfs.make(root, spec, own_preopens)
            if spec.stop_file:
                with contextlib.suppress(FileExistsError):
                    rootfs.make_directory(str(stop))
            if born_in is not None:
                os.symlink(born_in, f"{directory}/cgroup")
            statefiles.write(f"{directory}/spec", encoded)
            reached("container-spec-written")
        except FileExistsError as error:
            raise ProviderError(f"container {spec.id} exists already") from error
        except OSError as error:
            trash = self.discard(spec.id)
            if trash is not None:
                self.dispose(trash)
            raise ProviderError(f"making the container's directory: {error}") from error

    def rewrite(self, spec: ContainerSpec, *, cgroups: Iterable[Path] = ()) -> None:
        """Keep another spec for the instances that are still to come. Raises ProviderError."""
        encoded = specs.encode(spec, self.stop_directory(self.owner(spec)), cgroups)
        try:
            statefiles.write(f"{self._containers}/{spec.id}/spec", encoded)
        except OSError as error:
            raise ProviderError(f"rewriting the container's spec: {error}") from error

    def kernel_files(self, container_id: str) -> Path:
        """The directory of what a guest with limits sees of the kernel."""
        return Path(f"{self._containers}/{container_id}/kernel")

    def stop_directory(self, container_id: str) -> Path:
        """The directory that a container with `stop_file` has as `/.vkubelet`."""
        return Path(f"{self._containers}/{container_id}/stop")

    def ask_to_stop(self, container_id: str) -> None:
        """Make the file appear for which the guest looks. Raises OSError."""
        fd = os.open(
            self.stop_directory(container_id) / "stop", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        try:
            os.fchmod(fd, 0o644)
        finally:
            os.close(fd)

    def write_memory_limit(self, container_id: str, limit: int | None) -> None:
        """Leave a new limit for the container's process, which may be another user's. Raises OSError."""
        text = "-" if limit is None else str(limit)
        statefiles.write(f"{self._containers}/{container_id}/memory-limit", f"{text}\0".encode(), 0o644)

    def remove(self, container_id: str) -> Path | None:
        """Remove a container's directory; what may take its time is taken out of the way and returned.

        The spec goes first: without it, a directory is one that never was.
        """
        directory = f"{self._containers}/{container_id}"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{directory}/spec")
            reached("container-spec-removed")
            for name in ("started", "exit", "own/exit", "attach.sock", ".started", "own/.exit"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{directory}/{name}")
            for name in ("own", "rootfs"):
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(f"{directory}/{name}")
            os.rmdir(directory)
        except FileNotFoundError:
            return None
        except OSError:
            return self.discard(container_id)
        return None

    def discard(self, container_id: str) -> Path | None:
        """Take a container's directory out of the way at once; returns what remains to be removed."""
        trash = self._trash / f"{container_id}.{uuid.uuid4().hex}"
        try:
            self.container(container_id).rename(trash)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.error("a container that is removed leaves its directory to the next agent: %s", error)
            return None
        reached("container-trashed")
        return trash

    def trash(self) -> list[Path]:
        """What earlier agents did not come to remove, if it is asked for before anything is discarded."""
        stray = [root for root in self._roots.all() if not self.container(root.name).exists()]
        return [*self._trash.iterdir(), *stray]

    def dispose(self, *trash: Path) -> None:
        """Remove what `remove` or `discard` returned; blocks. What cannot be removed is left to the next."""
        for path in trash:
            try:
                if path.parent == self._trash:
                    self._roots.remove(path.name.partition(".")[0])
                remove_tree(path)
            except OSError as error:
                _log.error("what was removed of a container stays in %s: %s", path, error)

    def withdraw(self, container_id: str) -> Started | None:
        """Make sure that a container that has not begun never will; None if so, and else its claim."""
        directory = self.container(container_id)
        claim = directory / f".withdrawn.{os.getpid()}"
        statefiles.write(str(claim), files.encode_started(Started(0, 0, 0)))
        try:
            os.link(claim, directory / "started")
        except FileExistsError:
            return self.read_started(container_id)
        finally:
            claim.unlink()
        return None

    def read_started(self, container_id: str) -> Started:
        """The claim of a container's process. Raises FileNotFoundError if there is none, CorruptFileError."""
        return files.decode_started(statefiles.read(self.container(container_id) / "started"))

    def read_exit(self, container_id: str) -> Exit | None:
        """The exit record, None if there is none. Raises CorruptFileError."""
        for name in ("exit", "own/exit"):
            try:
                path = Path(f"{self._containers}/{container_id}/{name}")
                return files.decode_exit(statefiles.read(path, EXIT_FILE_MAX, owned=name == "exit"))
            except FileNotFoundError:
                continue
        return None

    def record(self, container_id: str, ended: Exit) -> None:
        """Record an end of which more is known than its process could record. Raises OSError."""
        statefiles.write(f"{self._containers}/{container_id}/exit", files.encode_exit(ended))

    def record_lost(self, container_id: str, started_at: int, message: str) -> Exit:
        """Record the end of a container that nobody saw: it left no record, and its process is gone.

        Where there is no room for a record, that may be why it left none.
        """
        ended = lost(started_at, message)
        directory = self.container(container_id)
        if directory.exists():
            try:
                statefiles.write(f"{directory}/exit", files.encode_exit(ended))
            except OSError as error:
                _log.error("how container %s ended cannot be recorded: %s", container_id, error)
                ended = lost(started_at, f"the process ended, and how could not be recorded: {error}")
        return ended


def lost(started_at: int, message: str) -> Exit:
    """An end that nobody saw."""
    return Exit(137, ExitReason.KILLED, message, started_at, time.time_ns(), signal=9)


def _reserve(directory: str) -> None:
    """Take room for the records that the container's process will make of this. Raises OSError."""
    os.mkdir(f"{directory}/own", 0o700)
    for name, size in (("own/.exit", _RECORD), (".started", _CLAIM)):
        fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, bytes(size)) < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{directory}/{name}")
        finally:
            os.close(fd)
