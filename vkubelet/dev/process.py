"""Detached processes: started to outlive this command, found again and ended by later ones.

A process is found by the lock that it holds, with its pid as the lock file's text: a lock goes with its
process, so that what a killed one left behind is never taken for a running one.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vkubelet.dev.layout import DevError

KILL_TIMEOUT = 10.0
"""Seconds that a killed process may take to be gone: more means that it hangs in the kernel."""


def spawn(command: Sequence[str], log: Path, *, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, with its output appended to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=pass_fds,
        )


def lock_holder(path: Path) -> int | None:
    """The pid that the holder of a lock file wrote into it; None when nobody holds the lock."""
    try:
        file = path.open("r")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read().strip()
            if not text.isdigit():
                raise DevError(f"{path} is held by a process that is just starting; try again") from None
            return int(text)
    return None


def end(pid: int, grace: float) -> bool:
    """Ask a process to end and wait; kill it after `grace` seconds. True when it ended by itself."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if _signalled(pidfd, signal.SIGTERM, grace):
            return True
        if not _signalled(pidfd, signal.SIGKILL, KILL_TIMEOUT):
            raise DevError(f"process {pid} cannot be ended")
        return False
    finally:
        os.close(pidfd)


def _signalled(pidfd: int, number: signal.Signals, timeout: float) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return True
    return bool(first_ready([pidfd], timeout))


def first_ready(descriptors: Sequence[int], timeout: float) -> list[int]:
    """Those of the descriptors that are readable (a pidfd: ended) within `timeout` seconds."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(timeout * 1000)]


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, for an error's text; empty when there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
