"""kwok as a peer: a node object of its own and one process that reports its pods Running."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.kwok_program import Program
from vkubelet.dev import kubectl, process
from vkubelet.dev.cluster import Ready
from vkubelet.dev.node import wait_ready

LEASE_SECONDS = 40
"""As a kubelet's by default, and as vkubelet's."""
STOP_TIMEOUT = 10.0


class Kwok:
    """A fake node that runs nothing."""

    name = "kwok"
    node = "bench-kwok"

    def __init__(self, program: Program, ready: Ready, directory: Path) -> None:
        self._program = program
        self._ready = ready
        self.log = directory / "kwok.log"
        self._pid = 0

    def start(self) -> None:
        """Return once the node is Ready. Raises DevError."""
        kubeconfig = self._ready.kubeconfig
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.node},
            # Nobody else's pods: the bench binds its own.
            "spec": {"taints": [{"key": "bench", "effect": "NoSchedule"}]},
        }
        kubectl.run(kubeconfig, ["create", "--filename=-"], stdin=json.dumps(node))
        command = [
            str(self._program.binary),
            f"--kubeconfig={kubeconfig}",
            f"--manage-single-node={self.node}",
            f"--node-lease-duration-seconds={LEASE_SECONDS}",
            *(f"--config={stage}" for stage in self._program.stages),
        ]
        self._pid = process.spawn(command, self.log).pid
        wait_ready(self._pid, self.node, kubeconfig, self.log)

    def stop(self) -> None:
        """End the process, if it runs."""
        if self._pid:
            process.end(self._pid, STOP_TIMEOUT)

    def processes(self) -> dict[str, int]:
        """Pids by what they are."""
        return {"agent": self._pid}

    def containers(self) -> list[int]:
        """None: that is the point of kwok."""
        return []
