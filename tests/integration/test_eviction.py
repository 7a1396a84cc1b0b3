"""Evictions on the real cluster: for what the node lacks, as its thresholds say, and for pods' own limits."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guests import build_guest
from namespaces import Namespace
from waiting import eventually

from oci.push import push_module

pytestmark = pytest.mark.integration

MUCH = "x" * 100_000
LITTLE = "x" * 10
CUSTOM_SECTION = bytes([0, 2, 1, ord("x")])
"""Which makes another module of a module, and changes nothing that it does."""


def storage(limit: str) -> dict[str, Any]:
    return {"resources": {"limits": {"ephemeral-storage": limit}, "requests": {"ephemeral-storage": "0"}}}


def evicted(space: Namespace, pod: str) -> dict[str, Any]:
    space.wait(f"pod/{pod}", "jsonpath={.status.phase}=Failed")
    status = space.status(pod)
    assert status["reason"] == "Evicted"
    return status


def condition(of: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((item for item in of["conditions"] if item["type"] == kind), {})


def shown(space: Namespace, node: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(space.cluster.kubectl("get", "node", node.name, "--output=json"))
    return found


def wait_condition(space: Namespace, node: Any, kind: str, status: str) -> None:
    space.cluster.kubectl("wait", f"node/{node.name}", f"--for=condition={kind}={status}", "--timeout=60s")


def restart(node: Any, *flags: str) -> None:
    """As after a crash with another configuration: pods go on."""
    os.kill(node.pid, signal.SIGKILL)
    node.start(*flags)


def test_pods_that_hold_more_than_they_may(space: Namespace, node: Any, actor: str) -> None:
    where = {"nodeName": node.name, "restartPolicy": "Never"}
    volume = {"name": "scratch", "emptyDir": {"sizeLimit": "64Ki"}}
    mount = {"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}
    grow = ("write", f"/scratch/file={MUCH}", "sleep", "600")
    space.pod("volume", actor, *grow, container=mount, volumes=[volume], **where)
    keep = ("write", f"/scratch/file={LITTLE}", "sleep", "600")
    space.pod("modest", actor, *keep, container=mount, volumes=[volume], **where)
    fill = ("write", f"/file={MUCH}", "sleep", "600")
    space.pod("whole", actor, *fill, container=storage("64Ki"), **where)
    idle = {"name": "idle", "image": actor, "args": ["sleep", "600"], **storage("10Mi")}
    space.pod("one", actor, *fill, container=storage("64Ki"), others=[idle], **where)
    expected = {
        "volume": 'Usage of EmptyDir volume "scratch" exceeds the limit "64Ki". ',
        "whole": "Pod ephemeral local storage usage exceeds the total limit of containers 64Ki. ",
        "one": 'Container main exceeded its local ephemeral storage limit "64Ki". ',
    }
    for name, message in expected.items():
        status = evicted(space, name)
        assert status["message"] == message
        assert not condition(status, "DisruptionTarget"), "it is to blame itself"
        for container in status["containerStatuses"]:
            assert container["state"]["terminated"]["exitCode"] == 137
        assert space.wait_event(name, "Evicted") == message
    assert space.status("modest")["phase"] == "Running"


def test_a_node_short_of_memory(space: Namespace, start_node: Callable[..., Any], actor: str) -> None:
    node = start_node("short-of-memory", "--eviction-pressure-transition-period=1")
    on = {"nodeName": node.name, "restartPolicy": "Never"}
    space.pod("fat", actor, "grow", "50", "sleep", "600", **on)
    space.pod("precious", actor, "sleep", "600", priorityClassName="system-node-critical", **on)
    for name in ("fat", "precious"):
        space.wait(f"pod/{name}", "condition=Ready")
    restart(node, "--eviction-hard=memory.available<99.9%", "--eviction-pressure-transition-period=1")
    status = evicted(space, "fat")
    assert status["message"].startswith("The node was low on resource: memory. Threshold quantity: ")
    assert ", request is 0, has larger consumption of memory. " in status["message"]
    target = condition(status, "DisruptionTarget")
    assert (target["status"], target["reason"]) == ("True", "TerminationByKubelet")
    assert target["message"] == status["message"]
    wait_condition(space, node, "MemoryPressure", "True")
    found = condition(shown(space, node)["status"], "MemoryPressure")
    assert found["reason"] == "KubeletHasInsufficientMemory"
    # What starts under pressure must ask for something, or be critical.
    space.pod("late", actor, "sleep", "600", **on)
    refused = evicted(space, "late")
    assert refused["message"] == "Pod was rejected: The node had condition: [MemoryPressure]. "
    assert space.status("precious")["phase"] == "Running"
    restart(node, "--eviction-pressure-transition-period=1")
    wait_condition(space, node, "MemoryPressure", "False")
    space.pod("later", actor, "sleep", "600", **on)
    space.wait("pod/later", "condition=Ready")
    assert condition(space.status("precious"), "Ready")["status"] == "True"


def test_a_node_short_of_disk_and_processes(
    space: Namespace, start_node: Callable[..., Any], actor: str, cluster: Any, tmp_path: Path
) -> None:
    node = start_node("short-of-disk")
    on = {"nodeName": node.name, "restartPolicy": "Never"}
    other = f"{cluster.registry}/evictionunused:v1"
    module = tmp_path / "other.wasm"
    module.write_bytes(build_guest("actor").read_bytes() + CUSTOM_SECTION)
    push_module(module, other, insecure=True)
    space.pod("done", other, "exit", "0", **on)
    space.wait("pod/done", "jsonpath={.status.phase}=Succeeded")
    space.kubectl("delete", "pod", "done")
    space.pod("idle", actor, "sleep", "600", **on)
    space.wait("pod/idle", "condition=Ready")

    def images() -> str:
        return json.dumps(shown(space, node)["status"].get("images", []))

    eventually(lambda: "evictionunused" in images(), "the image is shown")
    restart(node, "--eviction-hard=imagefs.available<99.99%", "--image-minimum-gc-age=0")
    wait_condition(space, node, "DiskPressure", "True")
    status = evicted(space, "idle")
    assert status["message"].startswith("The node was low on resource: ephemeral-storage. ")
    eventually(lambda: "evictionunused" not in images(), "what no pod uses is removed")
    restart(node, "--eviction-hard=imagefs.available<99.99%,pid.available<99.99%")
    wait_condition(space, node, "PIDPressure", "True")
    asking = {"resources": {"requests": {"memory": "1Mi"}}}
    space.pod("late", actor, "sleep", "600", container=asking, **on)
    message = evicted(space, "late")["message"]
    assert message == "Pod was rejected: The node had condition: [DiskPressure PIDPressure]. "


def test_room_for_a_critical_pod(space: Namespace, start_node: Callable[..., Any], actor: str) -> None:
    node = start_node("preempting", "--max-pods=2")
    on = {"nodeName": node.name, "terminationGracePeriodSeconds": 1}
    asking = {"resources": {"requests": {"cpu": "10m"}}}
    space.pod("asks", actor, "sleep", "600", container=asking, **on)
    space.pod("idle", actor, "sleep", "600", **on)
    for name in ("asks", "idle"):
        space.wait(f"pod/{name}", "condition=Ready")
    space.pod("critical", actor, "sleep", "600", priorityClassName="system-node-critical", **on)
    space.wait("pod/critical", "condition=Ready")
    space.wait("pod/idle", "jsonpath={.status.phase}=Failed")
    status = space.status("idle")
    message = "Preempted in order to admit critical pod"
    assert (status["reason"], status["message"]) == ("Preempting", message)
    target = condition(status, "DisruptionTarget")
    assert (target["reason"], target["message"]) == (
        "TerminationByKubelet",
        "Pod was preempted by Kubelet to accommodate a critical pod.",
    )
    assert space.wait_event("idle", "Preempting") == message
    assert space.status("asks")["phase"] == "Running"


def test_thresholds_that_cannot_be_are_refused(start_node: Callable[..., Any]) -> None:
    with pytest.raises(Exception, match=r"evictionHard: unsupported eviction signal disk\.free"):
        start_node("never", "--eviction-hard=disk.free<1Gi")
