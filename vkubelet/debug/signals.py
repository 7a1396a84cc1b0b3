"""SIGUSR1 and SIGUSR2: what the agent is doing, for who is on its machine and has no access to its API.

It exists because an agent that hangs answers no request. SIGUSR1 writes the whole state into a file and says
so in the log; it needs an event loop that turns. SIGUSR2 needs nothing: it is answered from the signal's own
context, with the stack of every thread on standard error, also when the loop is blocked. It must not know
what the state holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from vkubelet.debug.state import Diagnosis, State

logger = logging.getLogger(__name__)

FILE = "state.json"
"""In the run directory; the latest state that was asked for."""


@contextlib.contextmanager
def answered(diagnosis: Diagnosis, run_dir: Path) -> Iterator[None]:
    """Answer both signals meanwhile; for the thread of the event loop."""
    loop = asyncio.get_running_loop()
    writing: set[asyncio.Task[None]] = set()

    def asked() -> None:
        task = loop.create_task(_write(diagnosis.state(), run_dir / FILE), name="state dump")
        writing.add(task)
        task.add_done_callback(writing.discard)

    loop.add_signal_handler(signal.SIGUSR1, asked)
    with contextlib.suppress(ValueError, AttributeError):  # a standard error that is no file, as in tests
        faulthandler.register(signal.SIGUSR2, sys.stderr, all_threads=True)
    try:
        yield
    finally:
        # Not back to the default, which would end a process that is about to end well.
        loop.remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


async def _write(state: State, path: Path) -> None:
    summary = f"{len(state.pods)} pods, {len(state.tasks)} tasks, queues {state.queues}"
    try:
        await asyncio.to_thread(_replace, path, msgspec.json.format(msgspec.json.encode(state), indent=2))
    except OSError as error:
        logger.error("state not written to %s: %s; %s", path, error.strerror, summary)  # noqa: TRY400
    else:
        logger.info("state written to %s: %s", path, summary)


def _replace(path: Path, data: bytes) -> None:
    """Write the file whole, for its owner alone."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(0o600, exist_ok=False)
    new.write_bytes(data)
    new.replace(path)
