"""Waiting for a directory to change: one inotify instance for any number of waiters.

It exists because the standard library has no inotify, and because following five hundred silent logs must
cost nothing: no polling, no thread, no descriptor each. A watch fires once and is armed again by whoever
wants to hear more, so that a busy directory makes no more events than its watchers can take. It must not
know what is in the directories.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

IN_MODIFY = 0x00000002
IN_ATTRIB = 0x00000004
IN_CLOSE_WRITE = 0x00000008
IN_MOVED_FROM = 0x00000040
IN_MOVED_TO = 0x00000080
IN_CREATE = 0x00000100
IN_DELETE = 0x00000200
IN_DELETE_SELF = 0x00000400
IN_MOVE_SELF = 0x00000800
IN_Q_OVERFLOW = 0x00004000
IN_ONLYDIR = 0x01000000
IN_ONESHOT = 0x80000000

WRITTEN = IN_MODIFY | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
"""What matters to whoever reads files that are written and renamed in a directory."""
ANY = WRITTEN | IN_MOVED_FROM | IN_CLOSE_WRITE | IN_ATTRIB
"""Whatever can change what is in a directory, and who may read it."""

_HEADER = struct.Struct("iIII")
_BUFFER = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_libc.inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)


class Watch:
    """One waiter's interest in a directory."""

    def __init__(self, watcher: DirectoryWatcher, directory: Path) -> None:
        """Made by DirectoryWatcher.watch."""
        self._watcher = watcher
        self._directory = directory
        self._descriptor: int | None = None
        self._changed = asyncio.Event()

    def arm(self) -> bool:
        """From now on a change wakes `wait`, however long before it; False if there is no directory.

        What changed before must be looked at after this. Raises OSError, as when the system's limit of
        instances or of watches is reached.
        """
        if self._descriptor is None:
            self._changed.clear()
            try:
                self._descriptor = self._watcher.add(self._directory, self)
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    async def wait(self) -> None:
        """Until the directory changes after `arm`, or `wake` is called."""
        await self._changed.wait()

    def wake(self) -> None:
        """End `wait` for a reason other than the directory."""
        self._changed.set()

    def fired(self) -> None:
        """The watcher's word that something has changed, and that the watch is no longer armed."""
        self._descriptor = None
        self._changed.set()

    def close(self) -> None:
        """Stop watching; may be called twice."""
        if self._descriptor is not None:
            self._watcher.discard(self._descriptor, self)
            self._descriptor = None


class DirectoryWatcher:
    """The shared inotify instance. It belongs to the event loop that runs when it is made.

    The instance is the first armed watch's to open: a user has few of them, and until then none is needed.
    """

    def __init__(self, changes: int = WRITTEN) -> None:
        """`changes` are what wakes waiters."""
        self._mask = changes | IN_ONLYDIR | IN_ONESHOT
        self._inotify: int | None = None
        self._armed: dict[int, set[Watch]] = {}
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Let go of the instance. Watches never fire again."""
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = None
        self._armed.clear()

    def watch(self, directory: Path) -> Watch:
        """A watch of `directory`, not armed yet."""
        return Watch(self, directory)

    @property
    def armed(self) -> int:
        """How many directories are watched at the moment."""
        return len(self._armed)

    def add(self, directory: Path, watch: Watch) -> int:
        """Arm `watch`; waiters for one directory share what this returns. Raises OSError."""
        if self._inotify is None:
            self._inotify = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), str(directory))
            self._loop.add_reader(self._inotify, self._read, self._inotify)
        added = _libc.inotify_add_watch(self._inotify, os.fsencode(directory), self._mask)
        descriptor = _checked(added, str(directory))
        self._armed.setdefault(descriptor, set()).add(watch)
        return descriptor

    def discard(self, descriptor: int, watch: Watch) -> None:
        """Disarm `watch`."""
        waiting = self._armed.get(descriptor)
        if waiting is None:
            return
        waiting.discard(watch)
        if not waiting:
            del self._armed[descriptor]
            # It fails if the watch has fired and its event is still unread: then it is gone already.
            _libc.inotify_rm_watch(self._inotify, descriptor)

    def _read(self, instance: int) -> None:
        try:
            buffer = os.read(instance, _BUFFER)
        except BlockingIOError:
            return
        for descriptor, mask in _events(buffer):
            fired = list(self._armed) if mask & IN_Q_OVERFLOW else [descriptor]
            for each in fired:
                for watch in self._armed.pop(each, ()):
                    watch.fired()


def _events(buffer: bytes) -> Iterator[tuple[int, int]]:
    """Watch descriptor and mask of each `struct inotify_event`; the names in them are of no use here."""
    offset = 0
    while offset < len(buffer):
        descriptor, mask, _, length = _HEADER.unpack_from(buffer, offset)
        yield descriptor, mask
        offset += _HEADER.size + length


def _checked(result: int, what: str) -> int:
    if result >= 0:
        return result
    number = ctypes.get_errno()
    text = os.strerror(number)
    if number == errno.ENOSPC:
        text = "no watch left: raise the sysctl fs.inotify.max_user_watches"
    elif number == errno.EMFILE:
        text = "no inotify instance left: raise the sysctl fs.inotify.max_user_instances"
    raise OSError(number, text, what)
