"""What every process that runs pods does first and last: its directories, its lock, its signals.

It exists so that a node with an API server, one without and a pod on a terminal begin and end alike. It must
not know any part of a node.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from providers import intact
from vkubelet.config import Config

T = TypeVar("T")

logger = logging.getLogger(__name__)

LOCK = "agent.lock"
"""In the run directory: whoever holds it is the agent, and its number is in it."""


class AgentError(Exception):
    """The agent cannot start; the text says why, in one line."""


def taken_by(lock: int) -> str | None:
    """Take the lock, an open file; None if it is ours now, else what the one who has it wrote there."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(lock, 32, 0).decode(errors="replace").strip()
    return None


@contextlib.contextmanager
def only_agent(run_dir: Path) -> Iterator[None]:
    """Hold the state directory for this process. Raises AgentError naming the process that has it."""
    path = run_dir / LOCK
    if path.is_dir():
        logger.error("%s is a directory: set aside as %s", path, intact.set_aside(path))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if (owner := taken_by(descriptor)) is not None:
            raise AgentError(f"{run_dir} is in use by another agent, process {owner}")
        # In the place of what is there, which needs no room on the disk.
        os.ftruncate(descriptor, os.pwrite(descriptor, str(os.getpid()).encode(), 0))
        yield
    finally:
        os.close(descriptor)


def make_directories(config: Config) -> None:
    """Make the node's directories. Raises AgentError."""
    try:
        for private in (config.root_dir, config.run_dir):
            Path(private).mkdir(parents=True, exist_ok=True, mode=0o700)
        Path(config.pod_logs_dir).mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise AgentError(f"the node's directories cannot be made: {error}") from error


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; a second signal ends the process as it would without us."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
    return stop


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run it in an event loop: uvloop's where it installs, else asyncio's own.

    All threads that it uses are made first: later the machine may have none to give. Raises RuntimeError when
    it has none now.
    """
    try:
        import uvloop
    except ImportError:
        return asyncio.run(_with_threads(main))
    return uvloop.run(_with_threads(main))


async def _with_threads(main: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    try:
        loop.set_default_executor(_executor(min(32, (os.cpu_count() or 1) + 4)))
        # uvloop has threads of its own for this, and ends the process when it cannot make them.
        with contextlib.suppress(OSError):
            await loop.getaddrinfo("localhost", None)
    except BaseException:
        main.close()
        raise
    return await main


def _executor(count: int) -> ThreadPoolExecutor:
    """One whose threads all run. Raises RuntimeError."""
    executor, all_run = ThreadPoolExecutor(count, "worker"), threading.Barrier(count + 1)
    try:
        for _ in range(count):
            executor.submit(all_run.wait)
    except RuntimeError:
        all_run.abort()
        raise
    all_run.wait()
    return executor


def leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    """The failures in a group, and in those in it."""
    found: list[Exception] = []
    for error in group.exceptions:
        found.extend(leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
