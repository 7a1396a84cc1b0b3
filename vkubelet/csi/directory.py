"""The directory that plugins put their sockets into, as it changes.

It exists to watch it (the kubelet's pluginwatcher), and is all that a node without plugins has of them. It
must not know what is done about a socket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from vkubelet.api.backoff import Backoff
from vkubelet.inotify import IN_MOVED_FROM, WRITTEN, DirectoryWatcher, Watch

logger = logging.getLogger(__name__)

_RETRY_FIRST, _RETRY_LIMIT = 0.5, 122.0

Identity = tuple[int, int, int]
"""Device, inode and time of a socket's making: one that was made anew is told by it."""


class PluginDirectory:
    """One directory. Use from one event loop."""

    def __init__(self, directory: Path, on_look: Callable[[dict[Path, Identity]], Awaitable[None]]) -> None:
        """`on_look` is handed the sockets that there are, at first and whenever something has changed."""
        self._directory = directory
        self._on_look = on_look

    async def run(self) -> NoReturn:
        """Watch, until cancelled. A directory that cannot be watched is tried again, and has no sockets."""
        pauses = Backoff(_RETRY_FIRST, _RETRY_LIMIT)
        while True:
            try:
                watcher = DirectoryWatcher(WRITTEN | IN_MOVED_FROM)
                try:
                    await self._watch(watcher, pauses)
                finally:
                    watcher.close()
            except OSError as error:
                logger.error("plugins cannot register at %s: %s", self._directory, error)  # noqa: TRY400
                await self._on_look({})
            await asyncio.sleep(pauses.delay())

    async def _watch(self, watcher: DirectoryWatcher, pauses: Backoff) -> NoReturn:
        watches: dict[Path, Watch] = {}
        while True:
            # First armed, then looked at: nothing is missed in between.
            armed = [watch.arm() for watch in watches.values()]
            directories, found = await asyncio.to_thread(look, self._directory)
            pauses.reset()
            for path in watches.keys() - directories:
                watches.pop(path).close()
            fresh = directories - watches.keys()
            watches |= {path: watcher.watch(path) for path in fresh}
            await self._on_look(found)
            if all(armed) and not fresh:
                await _any(watches.values())


def look(directory: Path) -> tuple[set[Path], dict[Path, Identity]]:
    """The directory, which is made if need be, with all below it, and the sockets there. Blocks."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o750)
    directories, sockets = {directory}, {}
    for path, found in _walk(directory):
        if stat.S_ISDIR(found.st_mode):
            directories.add(path)
        elif stat.S_ISSOCK(found.st_mode):
            sockets[path] = (found.st_dev, found.st_ino, found.st_mtime_ns)
    return directories, sockets


def _walk(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for parent, inner, files in os.walk(directory):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in (*inner, *files):
            path = Path(parent, name)
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if not name.startswith("."):
                yield path, found


async def _any(watches: Iterable[Watch]) -> None:
    """Until something changes in one of the directories."""
    waiting = [asyncio.ensure_future(watch.wait()) for watch in watches]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
