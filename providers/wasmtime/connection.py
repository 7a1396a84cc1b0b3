"""One connection to the launcher: what the agent asks of it, and what it tells.

It exists so that the provider asks for a container and awaits its process, and hears of ends, without
knowing about sockets, lines or request numbers. It must not know what a container is. The messages are
described in `native/launcher.c`.
"""

from __future__ import annotations

import array
import asyncio
import dataclasses
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable

from providers.base import ProviderError, Streams
from providers.faultpoints import reached

_log = logging.getLogger(__name__)

_ANSWER_SECONDS = 30.0
_RECEIVE_BYTES = 64 * 1024


class LauncherGoneError(Exception):
    """The launcher ended, or dropped the connection: what was asked of it may or may not have happened."""


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """A container's process. `start_time` is in clock ticks since boot, `started_at` in ns (Unix)."""

    pid: int
    start_time: int
    started_at: int


class Connection:
    """One connection to a launcher: requests, each answered in its time, and news of ends.

    It has its socket to itself: no transport of an event loop can send descriptors.
    """

    def __init__(self, client: socket.socket, on_ended: Callable[[str], None]) -> None:
        """`client` is connected, non-blocking, and from now on the connection's."""
        self._loop = asyncio.get_running_loop()
        self.identity = ""
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.launcher_pid: int = struct.unpack("3i", credentials)[0]
        self._socket = client
        self._on_ended = on_ended
        self._input = b""
        self._output: deque[_Message] = deque()
        self._requests: dict[str, asyncio.Future[Process]] = {}
        self._next = 0
        self._oldest = 0
        self._watchdog: asyncio.TimerHandle | None = None
        self._loop.add_reader(client, self._on_readable)

    def start(self, container_id: str, *, attachable: bool = False) -> asyncio.Future[Process]:
        """Ask for a container's process. Fails with ProviderError, or LauncherGoneError: nobody knows.

        `attachable` is what its spec says: it has its socket for those who attach when this is answered.
        """
        return self._ask("serve" if attachable else "start", container_id, ())

    def run(self, container_id: str, streams: Streams) -> asyncio.Future[Process]:
        """Ask for the process of an instance that has these standard files, and ends with this connection."""
        return self._ask("run", container_id, (streams.stdin, streams.stdout, streams.stderr))

    def _ask(self, verb: str, container_id: str, descriptors: tuple[int, ...]) -> asyncio.Future[Process]:
        answer: asyncio.Future[Process] = self._loop.create_future()
        if self.closed.done():
            # Later, as any answer: those who wait for the end of the connection go first.
            self._loop.call_soon(_settle, answer, LauncherGoneError())
            return answer
        self._next += 1
        self._requests[str(self._next)] = answer
        if self._watchdog is None:
            self._watch()
        self._send(f"{verb} {self._next} {container_id}\n", descriptors)
        reached("container-asked-for")
        return answer

    def _watch(self) -> None:
        """One timer for all requests: who answers none for this long is let go of."""
        if self._requests and int(next(iter(self._requests))) <= self._oldest:
            _log.error("the launcher has not answered for %.0f s; letting go of it", _ANSWER_SECONDS)
            self.close()
            return
        self._oldest = self._next
        self._watchdog = None
        if self._requests:
            self._watchdog = self._loop.call_later(_ANSWER_SECONDS, self._watch)

    def shut_down(self) -> None:
        """Ask the launcher to end; `closed` tells when it has."""
        if not self.closed.done():
            self._send("shutdown\n", ())

    def close(self) -> None:
        """Let go of the launcher, which goes on."""
        if self.closed.done():
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        while self._output:
            self._output.popleft().close()
        if self._watchdog is not None:
            self._watchdog.cancel()
        self.closed.set_result(None)
        if not self.ready.done():
            self.ready.set_result(None)
        for answer in self._requests.values():
            _settle(answer, LauncherGoneError())
        self._requests.clear()

    def _send(self, line: str, descriptors: tuple[int, ...]) -> None:
        if self._output:
            self._output.append(_Message.later(line.encode(), descriptors))
            return
        message = _Message(line.encode(), descriptors)
        try:
            if not message.send(self._socket):
                self._output.append(_Message.later(message.data, message.descriptors))
                self._loop.add_writer(self._socket, self._on_writable)
        except OSError:
            # Whoever asked must see its answer first, and not in the middle of asking.
            self._loop.call_soon(self.close)

    def _on_writable(self) -> None:
        try:
            while self._output:
                if not self._output[0].send(self._socket):
                    return
                self._output.popleft().close()
        except OSError:
            self.close()
            return
        self._loop.remove_writer(self._socket)

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            try:
                self._on_line(line.decode(errors="replace"))
            except (ValueError, KeyError):
                _log.error("the launcher sent %r, which is no message; letting go of it", line)
                self.close()
            if self.closed.done():
                return

    def _on_line(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        if not self.ready.done():
            self.identity = line
            self.ready.set_result(None)
        elif verb == "ended":
            self._on_ended(rest)
        elif verb == "started":
            request, pid, start_time, started_at = rest.split()
            _settle(self._requests.pop(request), Process(int(pid), int(start_time), int(started_at)))
        elif verb == "failed":
            request, _, text = rest.partition(" ")
            _settle(self._requests.pop(request), ProviderError(text))
        else:
            raise ValueError(line)


@dataclasses.dataclass(slots=True)
class _Message:
    """What is left to send of one message. The first byte brings the descriptors."""

    data: bytes
    descriptors: tuple[int, ...]
    own: bool = False

    @classmethod
    def later(cls, data: bytes, descriptors: tuple[int, ...]) -> _Message:
        """One that waits, with descriptors of its own: the caller may close theirs."""
        return cls(data, tuple(map(os.dup, descriptors)), own=True)

    def send(self, client: socket.socket) -> bool:
        """True if nothing is left. Raises OSError."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", self.descriptors))]
        try:
            sent = client.sendmsg([self.data], ancillary if self.descriptors else [], socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return False
        self.data = self.data[sent:]
        self.close()
        return not self.data

    def close(self) -> None:
        """Let go of descriptors that are its own."""
        if self.own:
            for descriptor in self.descriptors:
                os.close(descriptor)
        self.descriptors = ()


def _settle(answer: asyncio.Future[Process], result: Process | Exception) -> None:
    if answer.done():  # whoever asked has gone
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
