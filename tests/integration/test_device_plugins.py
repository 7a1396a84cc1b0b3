"""Devices of plugins on the real cluster: Kubernetes' own sample plugin, untouched, and one for each case."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from namespaces import Namespace
from peers import build_peer
from told_plugin import Told
from waiting import eventually

pytestmark = pytest.mark.integration

SAMPLE = "example.com/resource"
WIDGET = "example.com/widget"
OF_KUBELETS = "/var/lib/kubelet/device-plugins"
"""Where the sample plugin looks for the kubelet, whatever it is told."""


def asking(resource: str, number: int = 1, **more: Any) -> dict[str, Any]:
    return {"resources": {"limits": {resource: str(number)}}, **more}


def amounts(cluster: Any, node: str, resource: str) -> tuple[str | None, str | None]:
    status = json.loads(cluster.kubectl("get", "node", node, "--output=json"))["status"]
    return status["capacity"].get(resource), status["allocatable"].get(resource)


def rejected(space: Namespace, pod: str) -> tuple[str, str]:
    space.wait(f"pod/{pod}", "jsonpath={.status.phase}=Failed")
    status = space.status(pod)
    return status["reason"], status["message"]


def health(space: Namespace, pod: str) -> dict[str, dict[str, str]]:
    (container,) = space.status(pod)["containerStatuses"]
    return {
        one["name"]: {device["resourceID"]: device["health"] for device in one["resources"]}
        for one in container.get("allocatedResourcesStatus", [])
    }


class Sample:
    """Kubernetes' sample device plugin, for which the node's directory is where kubelets have theirs."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._log = directory.parent / "sample.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        script = (
            f'mount -t tmpfs tmpfs /var/lib && mkdir -p {OF_KUBELETS} && mount --bind "$1" {OF_KUBELETS} '
            '&& exec "$2"'
        )
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", *user, "--mount", "sh", "-c", script, "sh", self._directory, self._program]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@pytest.fixture(scope="session")
def sample_program() -> Path:
    return build_peer("sample-device-plugin", "k8s.io/kubernetes/test/images/sample-device-plugin")


@pytest.fixture
def device_node(short_path: Path, start_node: Callable[..., Any]) -> Any:
    return start_node("device-node", directory=short_path)


@pytest.fixture
def sample(device_node: Any, sample_program: Path) -> Iterator[Sample]:
    found = Sample(sample_program, device_node.directory / "root" / "device-plugins")
    found.start()
    yield found
    found.kill()


@pytest.fixture
def plugin_of(device_node: Any) -> Iterator[Callable[..., Told]]:
    started: list[Told] = []

    def start(resource: str, **answer: Any) -> Told:
        # Short names: the path of a socket has 107 bytes at most.
        plugins, endpoint = device_node.directory / "root" / "device-plugins", f"{len(started)}.sock"
        started.append(Told(plugins, resource, endpoint, answer))
        return started[-1]

    yield start
    for plugin in started:
        plugin.close()


@pytest.fixture
def told(plugin_of: Callable[..., Told]) -> Told:
    return plugin_of(WIDGET, envs={"COLOUR": "red"})


def until_amounts(cluster: Any, node: Any, resource: str, capacity: str, allocatable: str) -> None:
    eventually(
        lambda: amounts(cluster, node.name, resource) == (capacity, allocatable),
        f"{capacity} and {allocatable} of {resource}",
        60,
    )


def test_kubernetes_own_sample_plugin(
    space: Namespace, cluster: Any, device_node: Any, sample: Sample, actor: str
) -> None:
    until_amounts(cluster, device_node, SAMPLE, "2", "2")
    # The scheduler finds the node by what it has.
    space.pod("one", actor, "read", "/tmp/Dev-1", "sleep", "600", container=asking(SAMPLE))
    space.wait("pod/one", "condition=Ready")
    assert space.get("pod/one")["spec"]["nodeName"] == device_node.name
    assert health(space, "one") == {SAMPLE: {"Dev-1": "Healthy"}}
    assert "/tmp/Dev-1: " in space.kubectl("logs", "one")
    space.pod("two", actor, "sleep", "600", container=asking(SAMPLE), nodeName=device_node.name)
    space.wait("pod/two", "condition=Ready")
    space.pod("three", actor, "sleep", "600", container=asking(SAMPLE), nodeName=device_node.name)
    text = f"requested number of devices unavailable for {SAMPLE}. Requested: 1, Available: 0"
    message = f"Pod was rejected: Allocate failed due to {text}, which is unexpected"
    assert rejected(space, "three") == ("UnexpectedAdmissionError", message)
    # What one pod leaves is the next one's.
    space.kubectl("delete", "pod", "one", "--grace-period=0", "--wait")
    space.pod("four", actor, "sleep", "600", container=asking(SAMPLE), nodeName=device_node.name)
    space.wait("pod/four", "condition=Ready")
    assert health(space, "four") == {SAMPLE: {"Dev-1": "Healthy"}}
    assert "Traceback" not in device_node.log.read_text()


def test_a_plugin_that_dies_and_an_agent_that_is_killed(
    space: Namespace, cluster: Any, device_node: Any, sample: Sample, actor: str
) -> None:
    until_amounts(cluster, device_node, SAMPLE, "2", "2")
    space.pod("one", actor, "sleep", "600", container=asking(SAMPLE), nodeName=device_node.name)
    space.wait("pod/one", "condition=Ready")
    sample.kill()
    until_amounts(cluster, device_node, SAMPLE, "2", "0")
    sample.start()
    until_amounts(cluster, device_node, SAMPLE, "2", "2")
    started = space.status("one")["containerStatuses"][0]["containerID"]
    os.kill(device_node.pid, signal.SIGKILL)
    device_node.start()
    # Nobody is sent there before the plugin, which sees the new socket, has registered again.
    until_amounts(cluster, device_node, SAMPLE, "0", "0")
    until_amounts(cluster, device_node, SAMPLE, "2", "2")
    assert space.status("one")["containerStatuses"][0]["containerID"] == started
    assert health(space, "one") == {SAMPLE: {"Dev-1": "Healthy"}}
    space.pod("two", actor, "sleep", "600", container=asking(SAMPLE, 2), nodeName=device_node.name)
    text = f"requested number of devices unavailable for {SAMPLE}. Requested: 2, Available: 1"
    assert text in rejected(space, "two")[1]
    space.pod("three", actor, "sleep", "600", container=asking(SAMPLE), nodeName=device_node.name)
    space.wait("pod/three", "condition=Ready")
    assert health(space, "three") == {SAMPLE: {"Dev-2": "Healthy"}}


def test_variables_and_health_reach_the_pod(
    space: Namespace, cluster: Any, device_node: Any, told: Told, actor: str
) -> None:
    told.tell(a="Healthy", b="Healthy", c="Unhealthy")
    until_amounts(cluster, device_node, WIDGET, "3", "2")
    container = asking(WIDGET, 2, env=[{"name": "SHADE", "value": "dark"}], command=["actor"])
    container["args"] = ["print", "$(COLOUR)", "env", "SHADE", "env", "DEVICES", "sleep", "600"]
    space.pod("u", actor, container=container, nodeName=device_node.name)
    space.wait("pod/u", "condition=Ready")
    assert space.kubectl("logs", "u").splitlines() == ["red", "SHADE=dark", "DEVICES=a,b"]
    assert health(space, "u") == {WIDGET: {"a": "Healthy", "b": "Healthy"}}
    told.tell(a="Healthy", b="Unhealthy", c="Healthy")
    eventually(
        lambda: health(space, "u") == {WIDGET: {"a": "Healthy", "b": "Unhealthy"}}, "the news of b's health"
    )
    until_amounts(cluster, device_node, WIDGET, "3", "2")
    space.pod("v", actor, "sleep", "600", container=asking(WIDGET), nodeName=device_node.name)
    space.wait("pod/v", "condition=Ready")
    assert health(space, "v") == {WIDGET: {"c": "Healthy"}}


def test_directories_reach_the_guest_and_files_of_devices_do_not(
    space: Namespace,
    cluster: Any,
    device_node: Any,
    plugin_of: Callable[..., Told],
    tmp_path: Path,
    actor: str,
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "driver").write_text("of the plugin")
    mounts = [
        {"container_path": "/opt/fixed", "host_path": str(shared), "read_only": True},
        {"container_path": "/opt/shared", "host_path": str(shared)},
    ]
    plugin_of(WIDGET, mounts=mounts).tell(a="Healthy")
    until_amounts(cluster, device_node, WIDGET, "1", "1")
    steps = ["read", "/opt/fixed/driver", "write", "/opt/fixed/x=1", "write", "/opt/shared/y=2"]
    space.pod("u", actor, *steps, container=asking(WIDGET), nodeName=device_node.name, restartPolicy="Never")
    space.wait("pod/u", "jsonpath={.status.phase}=Succeeded")
    seen, refused = space.kubectl("logs", "u").splitlines()
    assert seen == "/opt/fixed/driver: of the plugin"
    assert refused.startswith("cannot write /opt/fixed/x: ")
    assert sorted(path.name for path in shared.iterdir()) == ["driver", "y"]
    device = {"container_path": "/dev/null", "host_path": "/dev/null", "permissions": "rw"}
    plugin_of(SAMPLE, devices=[device]).tell(a="Healthy")
    until_amounts(cluster, device_node, SAMPLE, "1", "1")
    space.pod("v", actor, container=asking(SAMPLE), nodeName=device_node.name)
    message = space.wait_reason("v", "CreateContainerConfigError")["message"]
    assert "device /dev/null is a character device: a wasm guest can be given directories and" in message


def test_two_pods_want_the_last_device(
    space: Namespace, cluster: Any, device_node: Any, told: Told, actor: str
) -> None:
    told.tell(a="Healthy")
    until_amounts(cluster, device_node, WIDGET, "1", "1")
    pods = [f"p{number}" for number in range(4)]
    for pod in pods:
        space.pod(pod, actor, "sleep", "600", container=asking(WIDGET), nodeName=device_node.name)
    for pod in pods:
        space.wait(f"pod/{pod}", "jsonpath={.status.phase}")
    eventually(
        lambda: sorted(space.status(pod).get("phase") for pod in pods) == ["Failed"] * 3 + ["Running"],
        "one pod runs, and all others failed",
    )


def test_a_plugin_that_hangs_costs_other_pods_nothing(
    space: Namespace, cluster: Any, device_node: Any, told: Told, actor: str
) -> None:
    told.tell(a="Healthy")
    until_amounts(cluster, device_node, WIDGET, "1", "1")
    told.freeze()
    space.pod("waits", actor, "sleep", "600", container=asking(WIDGET), nodeName=device_node.name)
    space.pod("runs", actor, "sleep", "600", nodeName=device_node.name)
    space.wait("pod/runs", "condition=Ready")
    assert space.status("waits")["phase"] == "Pending"


def test_a_resource_that_is_gone(
    space: Namespace, cluster: Any, device_node: Any, told: Told, actor: str
) -> None:
    told.tell(a="Healthy")
    until_amounts(cluster, device_node, WIDGET, "1", "1")
    told.tell()
    until_amounts(cluster, device_node, WIDGET, "0", "0")
    space.pod("u", actor, "sleep", "600", container=asking(WIDGET), nodeName=device_node.name)
    text = f"no healthy devices present; cannot allocate unhealthy devices {WIDGET}"
    assert text in rejected(space, "u")[1]
