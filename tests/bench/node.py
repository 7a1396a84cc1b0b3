"""vkubelet as a peer: `vkubelet run` with an identity of its own, in directories of its own."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from vkubelet.dev import node, process
from vkubelet.dev.cluster import Ready
from vkubelet.dev.layout import DevError

SHARED_MEMORY = Path("/dev/shm")
"""Runtime state belongs on a tmpfs, as /run is for an installed node: its bytes count as memory here too."""
LEFTOVER_TIMEOUT = 5.0


class Vkubelet:
    """The node agent with its launcher and its containers."""

    name = "vkubelet"
    node = "bench-vkubelet"

    def __init__(
        self, ready: Ready, directory: Path, program: str = "vkubelet.cli", more: Sequence[str] = ()
    ) -> None:
        """`program` is the module that is run, `more` are flags of its own."""
        self._ready = ready
        self._program = program
        self._more = more
        self._directory = directory / "node"
        self._run = Path(
            tempfile.mkdtemp(prefix="vkubelet-bench-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)
        )
        self.log = self._directory / "vkubelet.log"
        self._pid = 0

    @property
    def run_dir(self) -> Path:
        """Where its runtime state is."""
        return self._run

    def start(self) -> None:
        """Return once the node is Ready. Raises DevError."""
        self._directory.mkdir(mode=0o700)
        options = [
            option
            for option in node.options(self._directory, self._ready, self.node)
            if not option.startswith("--run-dir=")
        ]
        options += [f"--run-dir={self._run}", *self._more]
        command = [sys.executable, "-m", self._program, "run", *options]
        self._pid = process.spawn(command, self.log).pid
        node.wait_ready(self._pid, self.node, self._ready.kubeconfig, self.log)

    def stop(self) -> None:
        """End the agent, the launcher and whatever container should be left, and remove what they wrote."""
        try:
            if self._pid and not process.end(self._pid, node.DRAIN_TIMEOUT):
                raise DevError(f"the agent did not end within {node.DRAIN_TIMEOUT:.0f} s")
        finally:
            for pid in self._native():
                process.end(pid, LEFTOVER_TIMEOUT)
            shutil.rmtree(self._run)

    def processes(self) -> dict[str, int]:
        """Pids by what they are; raises DevError when there is no launcher."""
        native = self._native()
        launchers = [pid for pid, parent in native.items() if parent not in native]
        if len(launchers) != 1:
            raise DevError(f"{len(launchers)} launchers in {self._run}, expected one")
        return {"agent": self._pid, "launcher": launchers[0]}

    def containers(self) -> list[int]:
        """Pids of all containers' processes."""
        native = self._native()
        return [pid for pid, parent in native.items() if parent in native]

    def _native(self) -> dict[int, int]:
        """The launcher and its children, which keep its command line: pid to parent's pid."""
        own = f"{self._run}/".encode()
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                command = (directory / "cmdline").read_bytes().split(b"\0")
                if len(command) > 1 and command[1].startswith(own):
                    found[int(directory.name)] = parent(directory)
            except (FileNotFoundError, ProcessLookupError):
                continue  # It ended meanwhile.
        return found


@contextlib.contextmanager
def running(
    ready: Ready, directory: Path, program: str = "vkubelet.cli", more: Sequence[str] = ()
) -> Iterator[Vkubelet]:
    """A node that is Ready, which ends with the block. Raises DevError."""
    node = Vkubelet(ready, directory, program, more)
    try:
        node.start()
        yield node
    finally:
        node.stop()


def parent(directory: Path) -> int:
    """The parent's pid of a process, from its directory in /proc."""
    return int((directory / "stat").read_text().rpartition(")")[2].split()[1])
