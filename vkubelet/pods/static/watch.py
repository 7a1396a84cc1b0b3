"""Follows the directory of static pods: at every change, what is in it is told anew.

It exists to hold the watching, which waits and never polls, apart from what follows from it. A directory that
does not exist yet is waited for. A file that was right and has become wrong, perhaps because it is only half
written, keeps the pod that it last named; people are told. It must not know how pods are run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from vkubelet import inotify
from vkubelet.config import Config
from vkubelet.pods.manifests.reading import Manifest
from vkubelet.pods.static.files import Found, read_all
from vkubelet.pods.static.source import StaticPods

logger = logging.getLogger(__name__)

SETTLE = 0.1
"""Seconds after a change before the files are read: who writes a file writes more than once."""
UNWATCHED = 20.0
"""Seconds between looks at what cannot be watched: the kubelet's fileCheckFrequency."""


class ManifestWatcher:
    """Follows one directory, or one file."""

    def __init__(
        self,
        path: Path,
        node_name: str,
        *,
        update: Callable[[Iterable[Manifest]], None],
        complain: Callable[[str], None],
    ) -> None:
        """`update` gets all static pods whenever they may have changed.

        `complain` gets, once, what is wrong with a file, or with `path` itself.
        """
        self._path = path
        self._node_name = node_name
        self._update = update
        self._complain = complain
        self._good: dict[str, Manifest] = {}
        self._faults: dict[str, str] = {}
        self._unwatched = ""
        self.synced = asyncio.Event()
        """Set once the files have been read for the first time."""

    async def run(self) -> NoReturn:
        """Follow it until cancelled, also where the system has no watch to give: then it is looked at."""
        watcher = inotify.DirectoryWatcher(inotify.ANY)
        try:
            while True:
                watch, hidden = self._arm(watcher)
                await self._look()
                self.synced.set()
                if watch is None:
                    await asyncio.sleep(UNWATCHED)
                    continue
                if not any(_readable(directory) for directory in hidden):
                    await watch.wait()
                    await asyncio.sleep(SETTLE)
                watch.close()
        finally:
            watcher.close()

    def _arm(self, watcher: inotify.DirectoryWatcher) -> tuple[inotify.Watch | None, list[Path]]:
        """See _armed; no watch, of which people are told once, where there is none to be had."""
        try:
            watch = _armed(watcher, self._path)
        except OSError as error:
            text = f"static pods are looked at every {UNWATCHED:g} s, since they cannot be watched: {error}"
            if text != self._unwatched:
                self._complain(text)
            self._unwatched = text
            return None, []
        self._unwatched = ""
        return watch

    async def _look(self) -> None:
        try:
            found = await asyncio.to_thread(read_all, self._path, self._node_name, time.time())
        except OSError as error:
            self._tell({str(self._path): f"cannot read static pods from {self._path}: {error.strerror}"})
            return
        if not found.exists:
            logger.info("static pods: %s does not exist, waiting for it", self._path)
        self._take(found)

    def _take(self, found: Found) -> None:
        kept = {file: pod for file, pod in self._good.items() if file in found.faults}
        names = {manifest.pod.key for manifest in found.pods.values()}
        kept = {file: pod for file, pod in kept.items() if pod.pod.key not in names}
        self._good = kept | dict(found.pods)
        self._tell(found.faults)
        self._update(list(self._good.values()))

    def _tell(self, faults: Mapping[str, str]) -> None:
        for file, text in faults.items():
            if self._faults.get(file) != text:
                self._complain(text)
        self._faults = dict(faults)


def manifest_watcher(
    config: Config, pods: StaticPods, complain: Callable[[str], None]
) -> ManifestWatcher | None:
    """What follows the configured directory, if one is configured, and tells `pods` of what is in it."""
    if not config.static_pod_path:
        return None
    path = Path(config.static_pod_path).absolute()
    return ManifestWatcher(path, config.node_name, update=pods.update, complain=complain)


def _armed(watcher: inotify.DirectoryWatcher, path: Path) -> tuple[inotify.Watch, list[Path]]:
    """A watch of `path`, or else of the nearest directory above it that can be watched.

    With it come the directories that cannot be watched now: should one of them have become readable before
    the watch was armed, nothing would tell. Raises OSError.
    """
    hidden: list[Path] = []
    for directory in (path, *path.parents):
        watch = watcher.watch(directory)
        try:
            if watch.arm():
                return watch, hidden
        except PermissionError:
            logger.debug("%s cannot be watched", directory)
        hidden.append(directory)
    raise FileNotFoundError(f"no directory above {path} can be watched")


def _readable(directory: Path) -> bool:
    return directory.is_dir() and os.access(directory, os.R_OK)
