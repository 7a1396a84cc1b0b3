"""The cgroups of a node's containers: one for each that has limits, made with it and removed with it, and one
for all others (on version 2), which get the processor time that nobody else wants. Those of a group are made
in one of the group's, which is there for as long as they are.

It exists so that the kernel bounds what the sandbox cannot: processor time, the memory of all processes
together, their number. It must not know what a container is beyond its id. Everything here blocks, though not
for long.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from providers.base import Group, ProviderError
from providers.wasmtime import cgroupfs, hierarchies
from providers.wasmtime.cgroupfs import Limits
from providers.wasmtime.hierarchies import Hierarchy

_log = logging.getLogger(__name__)

SHARED = "unbounded"
"""The name of the cgroup of all containers without limits."""


class Cgroups:
    """The cgroups of one node. Containers' ids are their names. Its methods may be called by any thread."""

    def __init__(self, found: tuple[Hierarchy, ...] = ()) -> None:
        self._hierarchies = found
        self._lingering: set[str] = set()
        self._groups = dict(_members(found))
        self._making = threading.Lock()

    def __bool__(self) -> bool:
        """Are there any?"""
        return bool(self._hierarchies)

    @property
    def versions(self) -> dict[str, int]:
        """What can be bounded, by the controller's name, and the version of its hierarchy."""
        return {name: each.version for each in self._hierarchies for name in each.controllers}

    def open(self) -> None:
        """Make the one that containers without limits share. Raises ProviderError."""
        least = Limits(cpu_request=0)
        try:
            for hierarchy in self._sharing():
                hierarchies.make(hierarchy.base / SHARED)
                hierarchies.tell(
                    hierarchy.base / SHARED, cgroupfs.settings(hierarchy.version, "cpu", least)[:1]
                )
        except OSError as error:
            raise ProviderError(f"making a cgroup: {hierarchies.reason(error)}") from error

    def _sharing(self) -> list[Hierarchy]:
        """On version 1, where joining costs each of them more than its start may, they stay with the node."""
        return [each for each in self._hierarchies if each.version == 2 and "cpu" in each.controllers]

    def joining(
        self, container_id: str, limits: Limits | None, group: Group | None = None
    ) -> tuple[tuple[Path, ...], Path | None]:
        """The files by which a process joins its cgroups, and what it can be born in instead (clone(2))."""
        joined = self._hierarchies if limits is not None else self._sharing()
        name = SHARED
        if limits is not None:
            name = container_id if group is None else f"{group.name}/{container_id}"
        born_in = [hierarchy.base / name for hierarchy in joined if hierarchy.version == 2]
        return tuple(hierarchy.joining(name) for hierarchy in joined), born_in[0] if born_in else None

    def create(self, container_id: str, limits: Limits, group: Group | None = None) -> None:
        """Make a container's, and its group's if need be. Raises ProviderError, and then there is none."""
        try:
            if group is not None:
                self._groups[container_id] = group.name
            with self._making:  # as long as it is empty, the group can be removed with another container
                for hierarchy in self._hierarchies:
                    if group is not None:
                        _make_group(hierarchy, group)
                    hierarchies.make(self._place(hierarchy, container_id))
            for hierarchy in self._hierarchies:
                self._limit(hierarchy, container_id, limits)
        except OSError as error:
            self.remove(container_id)
            raise ProviderError(f"making the container's cgroup: {hierarchies.reason(error)}") from error

    def update_group(self, group: Group) -> None:
        """Bound a group otherwise, if it is there. Raises ProviderError."""
        try:
            for hierarchy in self._hierarchies:
                directory = hierarchy.base / group.name
                if not directory.is_dir():
                    continue
                if "memory" in hierarchy.controllers:
                    _check_memory(hierarchy.version, directory, cgroupfs.group_memory(group))
                _limit_group(hierarchy, group)
        except OSError as error:
            raise ProviderError(f"changing the group's cgroup: {hierarchies.reason(error)}") from error

    def _place(self, hierarchy: Hierarchy, container_id: str) -> Path:
        return hierarchy.base.joinpath(*filter(None, [self._groups.get(container_id)]), container_id)

    def update(self, container_id: str, limits: Limits, pid: int) -> None:
        """Bound a running container otherwise; `pid` is for one that has none yet. Raises ProviderError."""
        try:
            for hierarchy in self._hierarchies:
                directory = self._place(hierarchy, container_id)
                missing = not directory.exists()
                if missing:
                    hierarchies.make(directory)
                elif "memory" in hierarchy.controllers:
                    bound = None if limits.memory is None else limits.memory + cgroupfs.OVERHEAD
                    _check_memory(hierarchy.version, directory, bound)
                self._limit(hierarchy, container_id, limits)
                if missing:
                    hierarchies.write(directory / "cgroup.procs", str(pid))
        except OSError as error:
            raise ProviderError(f"changing the container's cgroup: {hierarchies.reason(error)}") from error

    def _limit(self, hierarchy: Hierarchy, container_id: str, limits: Limits) -> None:
        for controller in hierarchy.controllers:
            told = cgroupfs.settings(hierarchy.version, controller, limits)
            hierarchies.tell(self._place(hierarchy, container_id), told)

    def oom_kills(self, container_id: str) -> int:
        """How many of its processes the kernel has killed since it used more than its memory."""
        for hierarchy in self._hierarchies:
            if "memory" in hierarchy.controllers:
                file = "memory.oom_control" if hierarchy.version == 1 else "memory.events"
                try:
                    return cgroupfs.oom_kills((self._place(hierarchy, container_id) / file).read_text())
                except OSError:
                    return 0
        return 0

    def remove(self, container_id: str) -> None:
        """Remove a container's; one that has processes still is tried again when the next one is removed."""
        for name in (container_id, *self._lingering):
            left = False
            for hierarchy in self._hierarchies:
                try:
                    hierarchies.remove(self._place(hierarchy, name))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        _log.error("the cgroup of container %s stays: %s", name, error)
                    left = True
            if left:
                self._lingering.add(name)
            else:
                self._lingering.discard(name)
                self._leave_group(name)

    def _leave_group(self, container_id: str) -> None:
        """Remove its group too if nothing is in it any more."""
        group = self._groups.pop(container_id, None)
        if group is None:
            return
        with self._making:
            for hierarchy in self._hierarchies:
                with contextlib.suppress(OSError):  # busy with others, or gone
                    hierarchies.remove(hierarchy.base / group)

    def sweep(self, known: Collection[str]) -> None:
        """Remove those of containers that are not known, which an agent that was killed left."""
        groups = frozenset(self._groups.values())
        for hierarchy in self._hierarchies:
            alone = {directory.name for directory in hierarchy.base.glob("*/")} - {SHARED, *groups}
            for name in (alone | self._groups.keys()) - set(known):
                self.remove(name)

    def close(self) -> None:
        """Leave nothing, unless containers run on."""
        for hierarchy in self._hierarchies:
            for directory in (hierarchy.base / SHARED, hierarchy.base):
                with contextlib.suppress(OSError):
                    hierarchies.remove(directory)


def _members(found: tuple[Hierarchy, ...]) -> Iterator[tuple[str, str]]:
    """The containers that an earlier agent has left in groups, and their groups' names."""
    for hierarchy in found:
        for directory in hierarchy.base.glob("*/*/"):
            yield directory.name, directory.parent.name


def _make_group(hierarchy: Hierarchy, group: Group) -> None:
    directory = hierarchy.base / group.name
    hierarchies.make(directory)
    if hierarchy.version == 2:
        hierarchies.enable(directory, hierarchy.controllers)
    _limit_group(hierarchy, group)


def _limit_group(hierarchy: Hierarchy, group: Group) -> None:
    directory = hierarchy.base / group.name
    for controller in hierarchy.controllers:
        told = cgroupfs.group_settings(hierarchy.version, controller, group)
        try:
            hierarchies.tell(directory, told)
        except OSError as error:
            if hierarchy.version == 2 or controller != "cpu" or error.errno != errno.EINVAL:
                raise
            # Version 1 lets none in it have more than it has itself: those that do are about to have less.
            for one in directory.glob("*/"):
                if int((one / told[-1].file).read_text()) > int(told[-1].value):
                    hierarchies.tell(one, told[-1:])
            hierarchies.tell(directory, told)


def _check_memory(version: int, directory: Path, bound: int | None) -> None:
    """Refuse a bound below what is in use: the kernel of version 2 would kill. Raises OSError."""
    if bound is None or version == 1:
        return
    used = int((directory / "memory.current").read_text())
    if used > bound:
        raise OSError(errno.EBUSY, f"{used} bytes are in use", str(directory / "memory.max"))
