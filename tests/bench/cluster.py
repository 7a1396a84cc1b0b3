"""A control plane for one visit: fresh, so that no figure depends on what ran before, and gone afterwards."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import wasmtime

from oci.push import push_module
from tests.bench.idle import busy_seconds
from tests.bench.node import parent
from vkubelet.dev import cluster

REST = 0.15
"""The share of all CPUs that a machine at rest may use: a control plane alone takes some hundredths."""
REST_DEADLINE = 60.0

SLEEPER = """
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; 0: a subscription to the monotonic clock (id 1), an hour in nanoseconds; 128: its event
  (data (i32.const 16) "\\01")
  (data (i32.const 24) "\\00\\a0\\b8\\30\\46\\03\\00\\00")
  (data (i32.const 4096) "{ballast}")
  (func (export "_start")
    (loop $forever
      (br_if $forever
        (i32.eqz (call $poll_oneoff (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 8)))))
    unreachable))
"""
"""A guest that does nothing for ever. A failing sleep traps: no run counts guests that do not sleep."""
BALLAST = 5000
"""Bytes that make the module as large as a small program in C."""


@dataclass(frozen=True)
class Cluster:
    """A running control plane with the guest in its registry."""

    ready: cluster.Ready
    image: str
    directory: Path

    def processes(self) -> dict[str, int]:
        """Pids of the control plane by component; the supervisor holds etcd and the registry."""
        found = {"etcd": self.ready.pid}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if parent(directory) == self.ready.pid:
                    name = (directory / "cmdline").read_bytes().split(b"\0")[1].decode()
                    found[name] = int(directory.name)
            except (FileNotFoundError, ProcessLookupError):
                continue  # It ended meanwhile.
        return found


async def rest() -> float:
    """Return once this machine is at rest, or is not within REST_DEADLINE: the share of it that was busy.

    Neither a control plane that has just started nor a neighbour tells when it has done; CPU time does.
    """
    deadline = time.monotonic() + REST_DEADLINE
    while True:
        busy = busy_seconds()
        await asyncio.sleep(1)
        share = (busy_seconds() - busy) / (os.cpu_count() or 1)
        if share < REST or time.monotonic() > deadline:
            return share


@contextmanager
def fresh(binary: Path) -> Iterator[Cluster]:
    """A new control plane in a temporary directory, for as long as the block. Raises DevError."""
    with tempfile.TemporaryDirectory(prefix="vkubelet-bench-") as temporary:
        directory = Path(temporary)
        # Our end of this pipe ends with us, however that happens, and the cluster with it.
        theirs, lifeline = os.pipe()
        try:
            options = ["--default-ports=false", f"--lifeline-fd={theirs}"]
            ready = cluster.start(binary, directory / "cluster", options, [theirs])
        finally:
            os.close(theirs)
        try:
            module = directory / "sleeper.wasm"
            module.write_bytes(bytes(wasmtime.wat2wasm(SLEEPER.format(ballast="x" * BALLAST))))
            image = f"{ready.registry}/bench/sleeper:v1"
            push_module(module, image, insecure=True)
            yield Cluster(ready, image, directory)
        finally:
            cluster.stop(directory / "cluster")
            os.close(lifeline)
