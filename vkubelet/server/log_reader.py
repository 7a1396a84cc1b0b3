"""What all readers of logs share: one watch of directories, and threads that read files.

It exists so that thousands of followed logs cost one inotify descriptor, and a hanging disk stops logs and
nothing else. It must not know who reads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager

from vkubelet.inotify import DirectoryWatcher
from vkubelet.pods.directory import LogSource
from vkubelet.server.log_options import LogOptions
from vkubelet.server.log_stream import Lines, LogStream, open_log

LOG_THREADS = 4


class LogReader:
    """Opens logs for one event loop, in which it is to be made, until it is closed."""

    def __init__(self) -> None:
        """Make one, to be closed."""
        self._watcher = DirectoryWatcher()
        self._closed = False
        self._threads = ThreadPoolExecutor(LOG_THREADS, "container-logs")

    def open(
        self, source: LogSource, options: LogOptions, lines: Lines | None = None
    ) -> AbstractAsyncContextManager[LogStream]:
        """See open_log. Raises LogMissingError, OSError."""
        return open_log(source, options, self._watcher, self._threads, lines)

    @property
    def armed(self) -> int:
        """How many directories are watched at this moment."""
        return self._watcher.armed

    def close(self) -> None:
        """Release everything; may be called twice."""
        if not self._closed:
            self._closed = True
            self._watcher.close()
            self._threads.shutdown(wait=False)
