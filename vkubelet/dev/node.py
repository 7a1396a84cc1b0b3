"""The wasm node of a dev cluster: `vkubelet run` as a detached process with directories of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vkubelet.dev import kubectl, process
from vkubelet.dev.cluster import Ready
from vkubelet.dev.layout import DevError

READY_TIMEOUT = 60.0
"""Seconds from the start of the process to the node's Ready condition, certificates included."""
DRAIN_TIMEOUT = 75.0
"""Seconds for all containers to end; the node itself cuts longer grace periods of pods short."""


def name() -> str:
    """The node's name: the host's, as a kubelet takes it, marked as wasm beside one of the same host."""
    return f"{socket.gethostname().lower()}-wasm"


def options(directory: Path, ready: Ready, node: str) -> list[str]:
    """The flags of `vkubelet run` for a node that only this machine can reach."""
    return [
        f"--kubeconfig={directory / 'kubeconfig'}",
        f"--bootstrap-kubeconfig={ready.bootstrap_kubeconfig}",
        f"--node-name={node}",
        "--node-ip=127.0.0.1",
        "--address=127.0.0.1",
        "--port=0",
        f"--root-dir={directory / 'root'}",
        f"--run-dir={directory / 'run'}",
        f"--pod-logs-dir={directory / 'pod-logs'}",
        f"--insecure-registries={ready.registry}",
        "--drain-on-shutdown=true",
        # Not of disks: how full they are is the machine's user's affair, who may like them so.
        "--eviction-hard=memory.available<100Mi,pid.available<5%",
    ]


def running(directory: Path) -> int | None:
    """The pid of the node's process, if it runs."""
    return process.lock_holder(directory / "run" / "agent.lock")


def left_containers(directory: Path) -> bool:
    """Whether the run directory names containers: they outlive an agent that was killed."""
    return any((directory / "run").glob("*/containers/*/*"))


def start(directory: Path, ready: Ready, node: str, more: Sequence[str] = ()) -> int:
    """Start the node of that name detached and wait until it is Ready; returns its pid. Raises DevError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = directory / "vkubelet.log"
    command = [sys.executable, "-m", "vkubelet.cli", "run", *options(directory, ready, node), *more]
    child = process.spawn(command, log)
    wait_ready(child.pid, node, ready.kubeconfig, log)
    return child.pid


def wait_ready(pid: int, node: str, kubeconfig: Path, log: Path) -> None:
    """Return once the node is Ready; raise DevError when its process ends first, or in READY_TIMEOUT."""
    agent = os.pidfd_open(pid)
    try:
        # It exists first, then it is Ready: kubectl waits for one thing at a time.
        for condition in ("create", "condition=Ready"):
            _wait(agent, node, condition, kubeconfig, log)
    finally:
        os.close(agent)


def _wait(agent: int, node: str, condition: str, kubeconfig: Path, log: Path) -> None:
    command = ["wait", f"--for={condition}", f"node/{node}", f"--timeout={READY_TIMEOUT:.0f}s"]
    with subprocess.Popen(
        [kubectl.binary(), *command],
        env=kubectl.environment(kubeconfig),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        watched = os.pidfd_open(waiting.pid)
        try:
            ended = process.first_ready([agent, watched], READY_TIMEOUT + 5)
        finally:
            os.close(watched)
            waiting.terminate()
        complaint = waiting.communicate()[1].strip()
    if agent in ended:
        raise DevError(f"the node ended; its log is {log}\n{process.tail(log)}")
    if waiting.returncode != 0:
        raise DevError(
            f"the node is not Ready: {complaint or 'no answer'}; its log is {log}\n{process.tail(log)}"
        )


def stop(directory: Path) -> bool:
    """End the node and its containers. False when it did not run."""
    pid = running(directory)
    if pid is None:
        return False
    if not process.end(pid, DRAIN_TIMEOUT):
        raise DevError(
            f"the node did not end within {DRAIN_TIMEOUT:.0f} s and was killed: containers may still run"
        )
    return True
