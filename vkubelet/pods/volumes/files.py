"""Volumes of files in memory: configMap, secret, downwardAPI and projected.

It exists to put content and writer together, and to keep what may be secret to the pod alone. It must not
know what the files are. A guest sees these volumes read-only, and sees new content at the same paths.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from vkubelet.api.objects import Pod
from vkubelet.api.volumes import Volume
from vkubelet.pods.volumes import atomic, ownership
from vkubelet.pods.volumes.content import Collector, Content, Kept, has_tokens
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.kinds import Mounted, Prepared
from vkubelet.pods.volumes.layout import Layout, make_private
from vkubelet.pods.volumes.memory import Memory
from vkubelet.pods.volumes.payload import File, Payload, checked

# The API's names of the kinds, and the kubelet's of their plugins.
PLUGINS = {
    "configMap": "configmap",
    "secret": "secret",
    "downwardAPI": "downward-api",
    "projected": "projected",
}
_DIRECTORY_MODE = 0o777
_OWNER_ONLY = 0o700
_AT_ONCE = 64 * 1024
"""Bytes that a thread would not write to memory sooner than it is there."""


class Files:
    """One of the four kinds. See Kind."""

    renewed = True

    def __init__(self, kind: str, collector: Collector, layout: Layout, memory: Memory) -> None:
        """`kind` is the API's name of it."""
        self._plugin = PLUGINS[kind]
        self._collector = collector
        self._layout = layout
        self._memory = memory

    async def begin(self, pod: Pod, volume: Volume) -> None:
        """Ask for what takes a while, before the volume is prepared; fails later if it must."""
        where = self._layout.in_memory(pod.metadata.uid, self._plugin, volume.name)
        await self._collector.begin(pod, volume, _kept_in(where))

    async def prepare(self, pod: Pod, volume: Volume) -> Prepared:
        """See Kind."""
        where = self._layout.in_memory(pod.metadata.uid, self._plugin, volume.name)
        group = ownership.fs_group(pod) if ownership.may_change_owners() else None
        kept = _kept_in(where)
        if not has_tokens(volume) or atomic.is_written(where):
            return self._whole(where, group, await self._collector.collect(pod, volume, kept))
        complete = await self._collector.all_but_tokens(pod, volume, kept)

        async def rest() -> Prepared:
            return self._whole(where, group, await complete())

        return Prepared(lambda: _make(where, group), at_once=self._memory.is_certain, rest=rest)

    def _whole(self, where: Path, group: int | None, content: Content) -> Prepared:
        payload = content.payload if ownership.may_change_owners() else _own(content.payload)
        payload = _narrowed(payload) if self._memory.narrowed else payload
        at_once = self._memory.is_certain and sum(len(file.data) for file in payload.values()) <= _AT_ONCE
        return Prepared(lambda: _write(where, payload, group), content.renew_at, at_once)


def _make(where: Path, group: int | None) -> Mounted:
    make_private(where.parent)
    where.mkdir(exist_ok=True)
    where.chmod(_DIRECTORY_MODE)
    if group is not None:
        os.chown(where, -1, group)
    return Mounted(where, read_only=True)


def _write(where: Path, payload: Payload, group: int | None) -> Mounted:
    made = _make(where, group)
    if group is None:
        atomic.write(where, payload)
    else:
        atomic.write(where, payload, lambda fresh: ownership.give(fresh, group, read_only=True))
    return made


def _kept_in(where: Path) -> Kept:
    """What an earlier agent wrote in the volume."""

    def kept(path: str) -> bytes | None:
        try:
            (clean,) = checked([(path, File(b"", 0))])
            return (where / atomic.DATA / clean).read_bytes()
        except (SetUpError, OSError):
            return None

    return kept if atomic.is_written(where) else lambda path: None


def _own(payload: Payload) -> Payload:
    """The files as a node can make them that can give none away: all its processes are their owner."""
    return {path: dataclasses.replace(file, user=None) for path, file in payload.items()}


def _narrowed(payload: Payload) -> Payload:
    return {path: dataclasses.replace(file, mode=file.mode & _OWNER_ONLY) for path, file in payload.items()}
