"""Reading one log for one client: from the first line asked for to the container's end.

It exists to be the only place where reading, following, rotation and the container's end meet. It must not
know HTTP: it writes to whatever it is given, and waits for each write, so that a slow client holds no more
than two blocks in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Protocol

from vkubelet.inotify import DirectoryWatcher, Watch
from vkubelet.pods.directory import LogSource
from vkubelet.server.cri_log import LogFilter
from vkubelet.server.log_file import BLOCK, LogFile, Place
from vkubelet.server.log_options import LogOptions

Write = Callable[[bytes], Awaitable[None]]

# Seconds that a request which does not follow waits for the log's file, which its writer is making: at
# the container's start, and for a moment at each rotation.
APPEARS_WITHIN = 2.0

# Bytes of a block that are filtered at a time. The memory of a larger piece's lines would be given back to
# the system and fetched again with every piece, which takes as long as all the rest.
PIECE = 64 * 1024


class LogMissingError(Exception):
    """The container has ended and its log file is gone."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Step:
    """What one look at the file gave: output, and whether the file's end was reached.

    From before the look are `place`, and `ended`, after which nothing more will be written.
    """

    output: bytes
    at_end: bool
    place: Place
    ended: bool


class Lines(Protocol):
    """What a reader gets of a log's bytes: a LogFilter, or another way to read them."""

    @property
    def done(self) -> bool:
        """Whether nothing more is wanted, whatever follows in the log."""
        ...

    def feed(self, data: bytes) -> bytes:
        """What is passed on of the bytes that follow."""
        ...

    def end_of_file(self) -> bytes:
        """What is passed on of a last line that has no line feed, now that none will come."""
        ...


class LogStream:
    """One client's reading of one log. Used through `open_log`."""

    def __init__(
        self,
        source: LogSource,
        options: LogOptions,
        watch: Watch,
        threads: Executor,
        lines: Lines | None = None,
    ) -> None:
        """`watch` is of the log's directory; files are read in `threads`. `lines`: see `open_log`."""
        self._source = source
        self._options = options
        self._watch = watch
        self._threads = threads
        self._filter: Lines = lines or LogFilter(options)
        self._file: LogFile | None = None

    @property
    def malformed(self) -> int:
        """How many lines of the log were left out because they are not in the CRI format."""
        return self._filter.malformed if isinstance(self._filter, LogFilter) else 0

    async def open(self) -> None:
        """Open the log, at the line asked for; a running container's may be about to be made.

        Raises LogMissingError, OSError.
        """
        await self._appears(asyncio.get_running_loop().time() + APPEARS_WITHIN)

    async def copy(self, write: Write) -> None:
        """Write what was asked for, and return when there will be no more of it. Raises OSError."""
        if self._file is None:
            if not self._options.follow:
                return
            with contextlib.suppress(LogMissingError):
                await self._appears(None)
        while self._file is not None and not self._filter.done:
            step = await self._copy_to_end(self._file, write)
            if self._filter.done:
                return
            over = self._options.follow and step.place is not Place.CURRENT
            if over and await self._turn_over(write):
                continue
            if step.ended or step.place is Place.REMOVED:
                await self._finish(write)
                return
            await self._watch.wait()

    def close(self) -> None:
        """Release the file and the watch, at once or as soon as a read under way has returned."""
        self._watch.close()
        if self._file is not None:
            self._threads.submit(self._file.close)
            self._file = None

    async def _appears(self, deadline: float | None) -> None:
        """Wait until the log's file exists, but not past the loop's time `deadline`, and open it."""
        watching = self._options.follow
        while self._file is None:
            ended = self._source.ended() or (watching and not self._watch.arm())
            try:
                await self._open_in_thread(lambda: LogFile(self._source.path))
            except FileNotFoundError as error:
                if ended:
                    raise LogMissingError(f"failed to open log file {str(self._source.path)!r}") from error
                if not watching:
                    watching = True  # and look again, because the watch tells only what comes after it
                    continue
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._watch.wait()
                except TimeoutError:
                    return
        if self._options.tail_lines is not None:
            seeking = self._threads.submit(self._file.seek_tail, self._options.tail_lines)
            await asyncio.wrap_future(seeking)

    async def _copy_to_end(self, file: LogFile, write: Write) -> _Step:
        """Write what is in the file now, and return the last look at it.

        While a block is written the next one is read: two blocks are what a slow client holds in memory.
        """
        looking = self._look(file)
        while True:
            step = await asyncio.wrap_future(looking)
            more = not step.at_end and not self._filter.done
            if more:
                looking = self._look(file)
            if step.output:
                await write(step.output)
            if not more:
                return step

    def _look(self, file: LogFile) -> Future[_Step]:
        # In this order: what was written before the container's end, before a rotation or before the watch
        # was armed is seen by the look at the file, because that comes after.
        ended = not self._options.follow or self._source.ended() or not self._watch.arm()
        return self._threads.submit(_look, file, self._filter, ended)

    async def _turn_over(self, write: Write) -> bool:
        """Go on with the file after this one; False if its writer has just taken that away too."""
        old = self._file
        if old is None or not await self._open_in_thread(old.successor):
            return False
        old.close()
        await self._finish(write)
        return True

    async def _finish(self, write: Write) -> None:
        if output := self._filter.end_of_file():
            await write(output)

    async def _open_in_thread(self, opening: Callable[[], LogFile | None]) -> bool:
        """Open a file in a thread; what it opens after a cancellation is closed again."""
        opened = self._threads.submit(opening)
        try:
            file = await asyncio.wrap_future(opened)
        except asyncio.CancelledError:
            opened.add_done_callback(_close_result)
            raise
        if file is not None:
            self._file = file
        return file is not None


@contextlib.asynccontextmanager
async def open_log(
    source: LogSource,
    options: LogOptions,
    watcher: DirectoryWatcher,
    threads: Executor,
    lines: Lines | None = None,
) -> AsyncIterator[LogStream]:
    """An open LogStream, closed at the end whatever happens. Raises LogMissingError, OSError.

    What it gives of the log's bytes `lines` says, or a LogFilter of the options.
    """
    watch = watcher.watch(source.path.parent)
    stream = LogStream(source, options, watch, threads, lines)
    try:
        with _woken_at(source.end, watch):
            await stream.open()
            yield stream
    finally:
        stream.close()


@contextlib.contextmanager
def _woken_at(end: asyncio.Event, watch: Watch) -> Iterator[None]:
    """Let the container's end wake whoever waits for its log."""
    waiting = asyncio.ensure_future(end.wait())
    waiting.add_done_callback(lambda _: watch.wake())
    try:
        yield
    finally:
        waiting.cancel()


def _look(file: LogFile, filter_: Lines, ended: bool) -> _Step:
    # The place is asked for first: if that is not the current one, what is read after is all there will be.
    place = file.place()
    data = file.read()
    output = b"".join(map(filter_.feed, pieces(data)))
    return _Step(output, len(data) < BLOCK, place, ended)


def pieces(data: bytes) -> Iterator[bytes]:
    """The parts of a block, which end where lines do: a filter copies what is left of one with the next."""
    begin = 0
    while begin < len(data):
        end = data.rfind(b"\n", begin, begin + PIECE) + 1 or begin + PIECE
        yield data[begin:end]
        begin = end


def _close_result(opened: Future[LogFile | None]) -> None:
    if not opened.cancelled() and opened.exception() is None and (file := opened.result()) is not None:
        file.close()
