"""What a container's process has around it: its directory and files, whom it runs as, its cgroups.

It exists so that all that is made for a container before its process, and all that bounds it beside the
sandbox, is made, changed and removed in one place. It must not know when any of it happens, nor how a process
comes to be.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
import signal
from collections.abc import Collection
from pathlib import Path

from providers.base import (
    Capabilities,
    ContainerSpec,
    Exit,
    ExitReason,
    Group,
    Identity,
    InvalidSpecError,
    Preopen,
    ProviderError,
)
from providers.copying import copy_tree
from providers.wasmtime import adoption, cgroupfs, cgroups, hierarchies, kernelfiles, rootfs, roots
from providers.wasmtime.cgroupfs import Limits
from providers.wasmtime.directory import RunDirectory
from providers.wasmtime.files import CorruptFileError

_log = logging.getLogger(__name__)

_CHOWN, _SETGID, _SETUID = 1 << 0, 1 << 6, 1 << 7
_TO_BECOME_ANOTHER = _CHOWN | _SETGID | _SETUID
"""Of capabilities(7), what it takes."""


class Confinement:
    """What the containers of one run directory have around them."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._cgroups = cgroups.Cgroups()
        self._may_become_another = False
        self._missing = ""

    def open(self, known: Collection[str], *, same_boot: bool) -> None:
        """Find out what this host can enforce; `known` are containers that have run here.

        Raises ProviderError.
        """
        found = self._kept() if known and same_boot else None
        if found is None:
            name = f"vkubelet-{hashlib.sha256(os.fsencode(self._directory.path)).hexdigest()[:12]}"
            found = hierarchies.find(name)
            adoption.keep_cgroups(self._directory, found.encode())
        self._missing = found.missing
        self._cgroups = cgroups.Cgroups(found.hierarchies)
        self._cgroups.open()
        self._may_become_another = effective_capabilities() & _TO_BECOME_ANOTHER == _TO_BECOME_ANOTHER

    def sweep(self, running: Collection[str]) -> None:
        """Remove the cgroups of all others, which an earlier agent did not come to remove."""
        self._cgroups.sweep(running)

    def _kept(self) -> hierarchies.Found | None:
        """Where the cgroups of containers that are known are: an agent may not run where the last one ran."""
        data = adoption.kept_cgroups(self._directory)
        try:
            found = None if data is None else hierarchies.Found.decode(data)
        except CorruptFileError as error:
            _log.error("%s: %s", self._directory.path, error)
            return None
        return found if found and all(each.base.is_dir() for each in found.hierarchies) else None

    def close(self, running: Collection[str]) -> None:
        """Leave what running containers have, and nothing else."""
        self._cgroups.sweep(running)
        self._cgroups.close()

    def capabilities(self) -> Capabilities:
        """See Provider.capabilities."""
        controllers = self._cgroups.versions
        missing = [self._missing] if self._missing else []
        if not self._may_become_another:
            missing.append(f"the node runs as user {os.geteuid()} and may not become another")
        return Capabilities(
            identities=self._may_become_another,
            memory="memory" in controllers,
            cpu_limit="cpu" in controllers,
            cpu_request="cpu" in controllers,
            processes="pids" in controllers,
            missing="; ".join(missing),
        )

    def check(self, spec: ContainerSpec) -> None:
        """Raise InvalidSpecError for what cannot be made as the spec says."""
        if len(spec.id) != 64 or not set(spec.id) <= set("0123456789abcdef"):
            raise InvalidSpecError(f"id: {spec.id!r} is not 64 lower-case hex digits")
        for index, preopen in enumerate(spec.preopens):
            if not os.path.isdir(preopen.host):  # noqa: PTH112  half of what the path object's costs
                raise InvalidSpecError(f"preopens[{index}]: {preopen.host} is not a directory")
        if spec.group is not None and not re.fullmatch("[A-Za-z0-9_-]{1,63}", spec.group.name):
            raise InvalidSpecError(f"group: {spec.group.name!r} is no name of a group")
        if spec.root is not None and not spec.root.is_dir():
            raise InvalidSpecError(f"root: {spec.root} is not a directory")
        if spec.template is not None and not spec.template.is_dir():
            raise InvalidSpecError(f"template: {spec.template} is not a directory")
        rootfs.check(spec)
        if spec.identity is not None and not self._may_become_another:
            check_identity(spec.identity, Identity(os.geteuid(), os.getegid(), tuple(os.getgroups())))

    def create(self, spec: ContainerSpec) -> None:
        """Make the directory of a container or an instance. Raises ProviderError."""
        owner, limits = self._directory.owner(spec), Limits.of(spec)
        joining, born_in = self._cgroups.joining(owner, limits, spec.group)
        files = self._directory.kernel_files(owner)
        own: tuple[Preopen, ...] = ()
        if (limits is not None) if owner == spec.id else files.is_dir():
            own = kernelfiles.preopens(files, spec)
        if owner != spec.id:
            own = tuple(preopen for preopen in own if preopen.host.is_dir())
        self._directory.create(spec, cgroups=joining, born_in=born_in, own_preopens=own)

    def furnish_at_once(self, spec: ContainerSpec) -> bool:
        """Make what takes no time worth a thread; False if something is left for `furnish` to do."""
        if spec.root is not None:
            return True
        if self._is_another(spec) or Limits.of(spec) or spec.template is not None:
            return False
        return rootfs.link_files(self._directory.root(spec.id), spec.files)

    def furnish(self, spec: ContainerSpec) -> None:
        """Make what may take its time. An instance has all of its container's. Raises ProviderError."""
        root = self._directory.root(spec.id)
        rootfs.place_files(root, spec.files)
        # Last, as its links could lead whoever makes anything afterwards.
        if spec.template is not None:
            try:
                copy_tree(spec.template, root, share=spec.read_only_root)
                roots.note_begin(root.parent)
            except OSError as error:
                raise ProviderError(
                    f"copying the image's files: {error.filename}: {error.strerror}"
                ) from error
        if spec.identity is not None and spec.log_path is not None and self._is_another(spec):
            _hand_over(spec.log_path.parent, spec.identity)
        limits = Limits.of(spec)
        if limits is not None:
            self._show(spec)
            self._cgroups.create(spec.id, limits, spec.group)

    def _show(self, spec: ContainerSpec) -> None:
        """Let a container's guest see what it is held to."""
        files = kernelfiles.contents(spec, self._cgroups.versions)
        try:
            kernelfiles.place(self._directory.kernel_files(spec.id), files)
        except OSError as error:
            raise ProviderError(f"showing the container its limits: {error}") from error

    def _is_another(self, spec: ContainerSpec) -> bool:
        return spec.identity is not None and spec.identity.uid != os.geteuid()

    def update(self, spec: ContainerSpec, pid: int) -> None:
        """Give a running container and its later instances other limits. Raises ProviderError.

        Its process has to be told that there is another limit of linear memory.
        """
        limits = Limits.of(spec)
        self._cgroups.update(spec.id, limits or Limits(), pid)
        joining, _ = self._cgroups.joining(spec.id, limits, spec.group)
        self._directory.rewrite(spec, cgroups=joining)
        if self._directory.kernel_files(spec.id).is_dir():
            self._show(spec)
        try:
            self._directory.write_memory_limit(spec.id, spec.memory_limit)
        except OSError as error:
            raise ProviderError(f"changing the memory limit: {error}") from error

    def update_group(self, group: Group) -> None:
        """Bound a group otherwise. Raises ProviderError."""
        self._cgroups.update_group(group)

    def explain(self, container_id: str, ended: Exit) -> Exit:
        """The end of a container that a signal ended: the kernel's, for want of memory, is told as that."""
        if ended.reason is not ExitReason.KILLED or ended.signal != signal.SIGKILL:
            return ended
        if not self._cgroups.oom_kills(container_id):
            return ended
        told = (
            "out of memory: the processes of the container used more than its limit and the "
            f"{cgroupfs.OVERHEAD >> 20} MiB that are added for the runtime, or its group more than it may"
        )
        explained = dataclasses.replace(ended, reason=ExitReason.OUT_OF_MEMORY, message=told)
        try:
            self._directory.record(container_id, explained)
        except OSError as error:
            _log.error("container %s: recording that it was out of memory: %s", container_id, error)
        return explained

    def has_cgroup(self, spec: ContainerSpec) -> bool:
        """Is there more of it to be removed than its directory, when it has ended?"""
        return bool(self._cgroups) and Limits.of(spec) is not None

    def remove(self, container_id: str) -> None:
        """Remove its cgroup, if it has one."""
        self._cgroups.remove(container_id)


def check_identity(wanted: Identity, own: Identity) -> None:
    """Raise InvalidSpecError unless a process that may change nothing of it is as wanted already."""
    for what, number, mine in (("user", wanted.uid, own.uid), ("group", wanted.gid, own.gid)):
        if number != mine:
            raise InvalidSpecError(
                f"identity: {what} {number}: this node runs as {what} {mine} and may not become another; "
                "run it as root"
            )
    lacking = sorted(set(wanted.groups) - {own.gid, *own.groups})
    if lacking:
        raise InvalidSpecError(
            f"identity: group {lacking[0]}: this node is not in it and may not join it; run it as root"
        )


def effective_capabilities() -> int:
    """What this process may do now, as capabilities(7) numbers it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _hand_over(directory: Path, identity: Identity) -> None:
    """Let the container's process rotate its log. Raises ProviderError."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(fd, identity.uid, identity.gid)
        finally:
            os.close(fd)
    except OSError as error:
        raise ProviderError(f"giving {directory} to user {identity.uid}: {error.strerror}") from error
