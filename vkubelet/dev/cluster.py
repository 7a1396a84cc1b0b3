"""One control plane with its registry: started, found, and ended, by its data directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from vkubelet.dev import process
from vkubelet.dev.layout import DevError

START_TIMEOUT = 150.0
"""Seconds; the program itself gives up after 120 and says why."""
STOP_TIMEOUT = 20.0


class Ready(msgspec.Struct, frozen=True, rename="camel"):
    """What the program writes once all of it serves."""

    pid: int
    version: str
    apiserver: str
    registry: str
    kubeconfig: Path
    bootstrap_kubeconfig: Path
    ca: Path


def running(directory: Path) -> Ready | None:
    """The cluster of that directory, if it runs and is ready. What a killed one left is not believed."""
    holder = process.lock_holder(directory / "lock")
    if holder is None:
        return None
    try:
        ready = _decode((directory / "ready").read_bytes())
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise DevError(f"{directory / 'ready'} is not what a cluster writes: {error}") from error
    return ready if ready.pid == holder else None


def start(binary: Path, directory: Path, options: Sequence[str] = (), pass_fds: Sequence[int] = ()) -> Ready:
    """Start the cluster detached and wait until it is ready. Raises DevError with the log's end."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = directory / "devcluster.log"
    told, telling = os.pipe()
    try:
        command = [str(binary), f"--data-dir={directory}", f"--ready-fd={telling}", *options]
        child = process.spawn(command, log, pass_fds=[telling, *pass_fds])
    finally:
        os.close(telling)
    try:
        text = _told(told)
    except BaseException:
        process.end(child.pid, STOP_TIMEOUT)
        raise
    if not text:
        child.wait()
        raise DevError(f"the cluster did not start: {process.tail(log, 1).removeprefix('devcluster: ')}")
    return _decode(text)


def _decode(text: bytes) -> Ready:
    """The ready file's text, typed; paths are the only type in it that JSON does not know."""
    return msgspec.json.decode(text, type=Ready, dec_hook=lambda kind, value: kind(value))


def _told(descriptor: int) -> bytes:
    """What the program says when it is ready; nothing when it ended instead."""
    with os.fdopen(descriptor, "rb") as reader:
        if not process.first_ready([descriptor], START_TIMEOUT):
            raise DevError(f"the cluster did not get ready within {START_TIMEOUT:.0f} s")
        return reader.read()


def stop(directory: Path) -> bool:
    """End the cluster and wait for its end; its data stays. False when it did not run."""
    holder = process.lock_holder(directory / "lock")
    if holder is None:
        return False
    process.end(holder, STOP_TIMEOUT)
    return True
