"""In-place resize on the real cluster: the resize subresource, what is granted, deferred, and carried out."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from namespaces import Namespace
from waiting import eventually

pytestmark = pytest.mark.integration

# The API server lets pods be resized only on nodes of this operating system, by this label.
LINUX = "--node-labels=kubernetes.io/os=linux"


@pytest.fixture
def linux(start_node: Callable[..., Any]) -> str:
    """The name of a node whose pods can be resized."""
    name: str = start_node("linux-node", LINUX).name
    return name


def resources(cpu: str, memory: str, limits: bool = False) -> dict[str, Any]:
    amounts = {"cpu": cpu, "memory": memory}
    return {"requests": amounts, "limits": amounts} if limits else {"requests": amounts}


def resize(space: Namespace, pod: str, wanted: dict[str, Any], whole: dict[str, Any] | None = None) -> None:
    spec: dict[str, Any] = {"containers": [{"name": "main", "resources": wanted}]}
    if whole is not None:
        spec["resources"] = whole
    patch = json.dumps({"spec": spec})
    space.kubectl("patch", "pod", pod, "--subresource=resize", "--patch", patch)


def conditions(space: Namespace, pod: str) -> dict[str, tuple[str, str]]:
    found = space.status(pod)["conditions"]
    return {
        one["type"]: (one.get("reason", ""), one.get("message", ""))
        for one in found
        if "Resize" in one["type"]
    }


def shown(space: Namespace, pod: str) -> dict[str, Any]:
    found: dict[str, Any] = space.status(pod)["containerStatuses"][0]
    return found


def resized(space: Namespace, pod: str, wanted: dict[str, Any]) -> Callable[[], bool]:
    def done() -> bool:
        status = space.status(pod)
        container = status["containerStatuses"][0]
        return (
            container["resources"] == wanted
            and container.get("allocatedResources") == wanted["requests"]
            and not any("Resize" in one["type"] for one in status["conditions"])
        )

    return done


def test_a_container_is_resized_as_it_runs(space: Namespace, linux: str, actor: str) -> None:
    before = resources("20m", "32Mi", limits=True)
    space.pod(
        "grows",
        actor,
        "await",
        "go",
        "grow",
        "40",
        "sleep",
        "600",
        container={"resources": before},
        nodeName=linux,
    )
    space.wait("pod/grows", "condition=Ready")
    assert shown(space, "grows")["resources"] == before
    assert shown(space, "grows")["allocatedResources"] == before["requests"]
    assert space.status("grows")["allocatedResources"] == before["requests"]
    after = resources("30m", "64Mi", limits=True)
    resize(space, "grows", after)
    eventually(resized(space, "grows", after), "resized")
    container = shown(space, "grows")
    assert container["restartCount"] == 0
    assert space.wait_event("grows", "ResizeStarted").startswith("Pod resize started: {")
    assert '"generation":2' in space.wait_event("grows", "ResizeCompleted")
    # It sees so itself, and in what the node made for it: also how ready the kernel is to kill it.
    shown_limit = "cat /sys/fs/cgroup/memory.max || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
    seen = space.kubectl("exec", "grows", "--", "sh", "-c", f"{shown_limit}; cat /proc/1/oom_score_adj")
    assert seen.split() == [str(64 << 20), "-997"]
    # The guest may now take what its first limit would have refused.
    space.kubectl("exec", "grows", "--", "sh", "-c", "echo > /go")
    eventually(lambda: "grew 40 MiB" in space.kubectl("logs", "grows"), "grown")


def test_a_policy_may_want_a_restart(space: Namespace, linux: str, actor: str) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    before = resources("20m", "32Mi", limits=True)
    container = {"resources": before, "resizePolicy": policy}
    space.pod(
        "restarts",
        actor,
        "sleep",
        "600",
        container=container,
        terminationGracePeriodSeconds=0,
        nodeName=linux,
    )
    space.wait("pod/restarts", "condition=Ready")
    first = resources("30m", "32Mi", limits=True)
    resize(space, "restarts", first)
    eventually(resized(space, "restarts", first), "resized")
    assert shown(space, "restarts")["restartCount"] == 0
    second = resources("30m", "48Mi", limits=True)
    resize(space, "restarts", second)
    eventually(lambda: shown(space, "restarts")["restartCount"] == 1, "restarted")
    eventually(resized(space, "restarts", second), "resized")
    assert space.wait_event("restarts", "Killing") == "Container main resize requires restart"


def test_what_does_not_fit_waits_for_room(
    space: Namespace, start_node: Callable[..., Any], actor: str
) -> None:
    alone = start_node("resize-node", LINUX)
    allocatable = json.loads(space.cluster.kubectl("get", "node", alone.name, "--output=json"))
    cores = allocatable["status"]["allocatable"]["cpu"]
    millicores = int(cores[:-1]) if cores.endswith("m") else 1000 * int(cores)
    third = resources(f"{millicores // 3}m", "16Mi")
    for name in ("one", "two"):
        space.pod(name, actor, "sleep", "600", container={"resources": third}, nodeName=alone.name)
        space.wait(f"pod/{name}", "condition=Ready")
    most = millicores - 100
    wanted = resources(f"{most}m", "16Mi")
    resize(space, "one", wanted)
    space.wait("pod/one", "jsonpath={.status.conditions[?(@.type=='PodResizePending')].reason}=Deferred")
    text = f"Node didn't have enough resource: cpu, requested: {most}, used: {millicores // 3}, capacity: "
    assert conditions(space, "one")["PodResizePending"] == ("Deferred", f"{text}{millicores}")
    assert shown(space, "one")["resources"] == third
    assert space.wait_event("one", "ResizeDeferred").startswith("Pod resize Deferred: {")
    # The next agent, after a kill, neither forgets what was granted nor what was asked for.
    os.kill(alone.pid, signal.SIGKILL)
    alone.start(LINUX)
    assert shown(space, "one")["resources"] == third
    assert conditions(space, "one")["PodResizePending"] == ("Deferred", f"{text}{millicores}")
    space.kubectl("delete", "pod", "two", "--grace-period=0", "--wait")
    eventually(resized(space, "one", wanted), "resized")
    assert shown(space, "one")["restartCount"] == 0


def test_a_limit_is_not_lowered_below_usage(space: Namespace, linux: str, actor: str) -> None:
    before = resources("20m", "64Mi", limits=True)
    space.pod("uses", actor, "grow", "8", "sleep", "600", container={"resources": before}, nodeName=linux)
    eventually(lambda: "grew 8 MiB" in space.kubectl("logs", "uses", check=False), "grown", 60)
    resize(space, "uses", resources("20m", "64Ki", limits=True))
    space.wait("pod/uses", "jsonpath={.status.conditions[?(@.type=='PodResizeInProgress')].reason}=Error")
    message = conditions(space, "uses")["PodResizeInProgress"][1]
    assert 'attempting to set container "main" memory limit (65536) below current usage (' in message
    assert shown(space, "uses")["resources"]["limits"]["memory"] == "64Mi"
    assert shown(space, "uses")["allocatedResources"]["memory"] == "64Ki"
    assert '"error":"cannot decrease memory limits: ' in space.wait_event("uses", "ResizeError")
    resize(space, "uses", before)
    eventually(resized(space, "uses", before), "resized")


def test_the_whole_pods_resources(space: Namespace, linux: str, actor: str) -> None:
    before = resources("100m", "64Mi", limits=True)
    space.pod("whole", actor, "sleep", "600", resources=before, nodeName=linux)
    space.wait("pod/whole", "condition=Ready")
    assert space.status("whole")["resources"] == before
    assert shown(space, "whole")["resources"] == {}
    after = resources("200m", "96Mi", limits=True)
    resize(space, "whole", {}, after)
    eventually(lambda: space.status("whole").get("resources") == after, "resized")
    eventually(lambda: not conditions(space, "whole"), "completed")
    assert space.status("whole")["allocatedResources"] == after["requests"]
    assert space.status("whole")["qosClass"] == "Guaranteed"
