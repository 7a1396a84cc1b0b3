"""A node whose time of day is set while it runs: nothing that it waits for comes too early or too late."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_proxy import api_proxy
from namespaces import Namespace
from waiting import eventually

from providers.wasmtime.native import build
from vkubelet.api import times

pytestmark = pytest.mark.integration

NODE = "its-clock-is-set"
SOURCE = Path(__file__).parents[1] / "support" / "set_clock.c"
HOUR = 3600
PASSED_ON = 'from providers.wasmtime import launcher\nlauncher._PASSED_ON += ("LD_PRELOAD", "SET_CLOCK")\n'
"""For the launcher and the containers it is set, too."""


class Clock:
    """The time of day of the processes that are started in `os.environ` as `enter` makes it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory, self._ahead = directory, directory / "ahead"
        self.set(0)

    def set(self, ahead: int) -> None:
        """So many seconds ahead of the machine's, from now on."""
        with self._ahead.open("r+b" if self._ahead.exists() else "wb") as file:
            file.write(ahead.to_bytes(8, "little", signed=True))

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        library = self._directory / "set_clock.so"
        subprocess.run([*build.zig(), "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        (self._directory / "sitecustomize.py").write_text(PASSED_ON)
        path = os.pathsep.join(filter(None, (str(self._directory), os.environ.get("PYTHONPATH"))))
        for name, value in {"LD_PRELOAD": library, "SET_CLOCK": self._ahead, "PYTHONPATH": path}.items():
            monkeypatch.setenv(name, str(value))


def renewed(cluster: Any) -> float:
    path = "--output=jsonpath={.spec.renewTime}"
    return times.parse(cluster.kubectl("--namespace=kube-node-lease", "get", "lease", NODE, path))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def node(
    cluster: Any,
    kubeconfig: Path,
    clock: Clock,
    start_node: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """The node of this test, which also serves as that of `space`."""
    with monkeypatch.context() as environment:
        clock.enter(environment)
        client_ca = cluster.directory / "pki" / "ca.crt"
        return start_node(NODE, f"--kubeconfig={kubeconfig}", f"--client-ca-file={client_ca}")


@pytest.fixture
def kubeconfig(cluster: Any, tmp_path: Path) -> Iterator[Path]:
    """Without TLS: a clock that is wrong by more than a certificate's life is told of elsewhere."""
    with api_proxy(cluster.kubeconfig, NODE, tmp_path / "kubeconfig"):
        yield tmp_path / "kubeconfig"


def test_nothing_comes_too_early_or_too_late(
    cluster: Any, node: Any, clock: Clock, space: Namespace, actor: str
) -> None:
    placed = {"nodeName": node.name}
    probe = {"exec": {"command": ["actor", "exit", "0"]}, "periodSeconds": 1, "failureThreshold": 1}
    limited = {"activeDeadlineSeconds": 600, "container": {"livenessProbe": probe}}
    space.pod("limited", actor, "sleep", "6000", **limited, **placed)
    space.wait("pod/limited", "condition=Ready")
    before = space.status("limited")["containerStatuses"][0]
    space.pod("crashes", actor, "exit", "1", **placed)
    space.wait_reason("crashes", "CrashLoopBackOff")
    restarts = count(space, "crashes")
    for ahead in (-HOUR, HOUR):
        heard = renewed(cluster)
        clock.set(ahead)
        eventually(lambda heard=heard: renewed(cluster) > heard, "the lease to be later", 30)  # type: ignore[misc]
        space.pod(f"new-{ahead}", actor, "exit", "0", restartPolicy="Never", **placed)
        space.wait(f"pod/new-{ahead}", "jsonpath={.status.phase}=Succeeded")
        assert abs(ended(space, f"new-{ahead}") - time.time() - ahead) < HOUR / 2, "set for containers, too"
        eventually(lambda: count(space, "crashes") > restarts, "the end of the back-off", 60)
    assert space.status("limited")["phase"] == "Running"
    assert space.status("limited")["containerStatuses"][0] == before


def count(space: Namespace, pod: str) -> int:
    return int(space.status(pod)["containerStatuses"][0]["restartCount"])


def ended(space: Namespace, pod: str) -> float:
    """When its container has ended, by its node's time of day."""
    return times.parse(space.status(pod)["containerStatuses"][0]["state"]["terminated"]["finishedAt"])
