"""Following files that people or Kubernetes exchange: certificates and CAs that are read while they serve.

It exists because such a file is reached through links, which are swapped (`..data` of a mounted secret), and
because waiting for a change must cost nothing until there is one. It must not know what is in the files.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import NoReturn

from vkubelet.inotify import ANY, DirectoryWatcher, Watch

logger = logging.getLogger(__name__)

SETTLE = 0.1
"""Seconds after a change before the files are looked at: who exchanges a pair writes more than once."""
UNWATCHED = 60.0
"""Seconds between looks at what cannot be watched: the kubelet's pause before it watches again."""
_MOST_LINKS = 40


async def follow(paths: Iterable[Path], look: Callable[[], Awaitable[None]]) -> NoReturn:
    """Call `look` now, and whenever one of the files may have become another or have other content."""
    followed = [path.absolute() for path in paths]
    watcher: DirectoryWatcher | None = None
    watches: list[Watch] = []
    told = ""
    try:
        while True:
            try:
                watcher = watcher or DirectoryWatcher(ANY)
                watches = await _armed(watcher, followed)
            except OSError as error:
                if str(error) != told:
                    told = str(error)
                    logger.warning("looked at every %.0f s, since it cannot be watched: %s", UNWATCHED, told)
            await look()
            if watches:
                await _any(watches)
            await asyncio.sleep(SETTLE if watches else UNWATCHED)
            watches = _closed(watches)
    finally:
        if watcher is not None:
            watcher.close()


async def _armed(watcher: DirectoryWatcher, paths: Iterable[Path]) -> list[Watch]:
    """Watches of all that decides what the paths lead to. Raises OSError when something cannot be watched."""
    watches: dict[Path, Watch] = {}
    try:
        # What is swapped between being found and being watched is found again.
        while missing := await asyncio.to_thread(_places, paths) - watches.keys():
            for directory in missing:
                watch = watcher.watch(directory)
                if watch.arm():
                    watches[directory] = watch
    except BaseException:
        _closed(watches.values())
        raise
    return [*watches.values()]


def _closed(watches: Iterable[Watch]) -> list[Watch]:
    """Nothing, once these are closed."""
    for watch in watches:
        watch.close()
    return []


async def _any(watches: Iterable[Watch]) -> None:
    waiting = [asyncio.ensure_future(watch.wait()) for watch in watches]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


def _places(paths: Iterable[Path]) -> frozenset[Path]:
    return frozenset[Path]().union(*map(places, paths))


def places(path: Path) -> frozenset[Path]:
    """The directories whose entries decide which file an absolute path leads to. Raises OSError.

    They are those where a link on its way stands, and the one that the file itself is in; where the way ends
    before, the last one that there is.
    """
    found = set()
    ahead, here, links = [*reversed(path.parts[1:])], Path("/"), 0
    while ahead and links <= _MOST_LINKS:
        name = ahead.pop()
        if name == "..":
            here = here.parent
            continue
        step = here / name
        target = _link(step)
        if target is not None:
            found.add(here)
            links += 1
            here = Path("/") if target.is_absolute() else here
            ahead.extend(reversed([part for part in target.parts if part != "/"]))
        elif ahead and step.is_dir():
            here = step
        else:
            found.add(here)
            break
    return frozenset(found or {here})


def _link(path: Path) -> Path | None:
    """Where a link leads to; None for what is none, or is not there."""
    try:
        return path.readlink()
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
            return None
        raise
