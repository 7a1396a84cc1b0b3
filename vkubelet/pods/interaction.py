"""How the kubelet API talks to a running container: the interface between the server's streams and the pods.

It exists because the server may know the pods' side but not the other way round: `exec`, `attach` and
`portForward` ask through `Interactions`, and the pods' side answers from what it knows. It must know neither
HTTP nor SPDY nor WebSocket, nor how an instance is run. The messages are a kubelet's, because kubectl shows
them to people as they are.
"""

from __future__ import annotations

import dataclasses
import socket
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from vkubelet.pods.directory import LogSource


class InteractionError(Exception):
    """There is nothing to talk to; it is known before a stream is opened, and answered over plain HTTP.

    `status` is the HTTP status and the text the body, both as the kubelet's.
    """

    def __init__(self, status: int, message: str) -> None:
        """`status` is 400 to 599."""
        super().__init__(message)
        self.status = status


class CommandError(Exception):
    """The command could not be run: not found, not WebAssembly, no terminal; the text is for the user."""


class ForwardError(Exception):
    """A port that cannot be forwarded to, or a connection to it that broke; the text is for the user."""


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The container that a request names; `uid` is None where the request names no one pod of that name."""

    namespace: str
    pod: str
    uid: str | None
    container: str


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Which of the standard files the client wants. With `tty` there is one output, `stdout`."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


class Interaction(Protocol):
    """A command that runs, or a container that is attached to, seen from the client's end.

    Reads and writes wait: what a slow side has not taken is held nowhere. One task reads each output, one
    writes. Streams that were not wanted are at their end from the start. The transfer is in chunks of at most
    64 KiB.
    """

    async def read_stdout(self) -> bytes:
        """The next output; empty at its end."""
        ...

    async def read_stderr(self) -> bytes:
        """The next error output; empty at its end."""
        ...

    async def write_stdin(self, data: bytes) -> None:
        """Pass input on. Raises BrokenPipeError when it is read no more."""
        ...

    async def close_stdin(self) -> None:
        """No more input comes; may be called twice."""
        ...

    def resize(self, width: int, height: int) -> None:
        """The client's terminal has this size, in characters. Without a terminal: nothing."""
        ...

    async def wait(self) -> int:
        """The exit code, 0 when what was attached to is detached from. Output may still be read after it."""
        ...


class Interactions(Protocol):
    """What the kubelet API may ask. All names come from a request and may be any text."""

    def check(self, target: Target) -> None:
        """Raise InteractionError unless the target is there and its container runs."""
        ...

    def exec(
        self, target: Target, command: tuple[str, ...], wanted: Wanted
    ) -> AbstractAsyncContextManager[Interaction]:
        """Run a command beside a container. Entering raises InteractionError or CommandError.

        Leaving ends what runs: no process, descriptor or task of it stays.
        """
        ...

    def attach(self, target: Target, wanted: Wanted) -> AbstractAsyncContextManager[Interaction]:
        """Join a running container. Entering raises InteractionError or CommandError; leaving detaches.

        Whether it has a terminal is the container's own matter: `wanted.tty` is not looked at.
        """
        ...

    def logged(self, target: Target) -> LogSource | None:
        """The log of a container that has neither standard input nor terminal; None for one that has.

        Such a container's output goes nowhere but there: who joins it follows its log. Raises
        InteractionError.
        """
        ...

    def has_tty(self, target: Target) -> bool:
        """Whether the container's spec has `tty`: an attached client then gets one output."""
        ...

    def check_pod(self, namespace: str, pod: str, uid: str | None) -> None:
        """Raise InteractionError unless the pod is there and runs."""
        ...

    async def connect(self, namespace: str, pod: str, uid: str | None, port: int) -> socket.socket:
        """A connected, non-blocking TCP socket to a port of the pod; the caller's. Raises ForwardError."""
        ...
