"""What fits on a node, on the real cluster: it checks pods that were bound past the scheduler."""

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

WIDGET = "example.com/widget"


def requesting(**amounts: str) -> dict[str, Any]:
    return {
        "resources": {"requests": amounts, "limits": {WIDGET: amounts[WIDGET]} if WIDGET in amounts else {}}
    }


def rejected(space: Namespace, pod: str) -> tuple[str, str]:
    space.wait(f"pod/{pod}", "jsonpath={.status.phase}=Failed")
    status = space.status(pod)
    return status["reason"], status["message"]


def test_more_than_the_node_has_is_refused(space: Namespace, node: Any, actor: str) -> None:
    space.pod("cpu", actor, container=requesting(cpu="1k"), nodeName=node.name)
    reason, message = rejected(space, "cpu")
    assert reason == "OutOfcpu"
    assert message.startswith(
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: "
    )
    space.pod("memory", actor, container=requesting(memory="1Pi"), nodeName=node.name)
    assert rejected(space, "memory")[0] == "OutOfmemory"
    storage = requesting(**{"ephemeral-storage": "1Ei"})
    space.pod("storage", actor, container=storage, nodeName=node.name)
    assert rejected(space, "storage")[0] == "OutOfephemeral-storage"
    # Init containers count with their greatest, a sidecar with what comes after it.
    init = [
        {"name": "side", "image": actor, "restartPolicy": "Always", **requesting(cpu="600")},
        {"name": "init", "image": actor, **requesting(cpu="400")},
    ]
    space.pod("init", actor, initContainers=init, nodeName=node.name)
    assert "cpu, requested: 1000000, used: " in rejected(space, "init")[1]


def test_a_pod_for_another_node_is_refused(space: Namespace, node: Any, actor: str) -> None:
    space.pod("zone", actor, nodeName=node.name, nodeSelector={"zone": "elsewhere"})
    text = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    assert rejected(space, "zone") == ("NodeAffinity", f"Pod was rejected: {text}")
    term = {"matchExpressions": [{"key": "type", "operator": "NotIn", "values": ["vkubelet"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    space.pod("affinity", actor, nodeName=node.name, affinity={"nodeAffinity": required})
    assert rejected(space, "affinity")[0] == "NodeAffinity"
    space.pod("windows", actor, nodeName=node.name, os={"name": "windows"})
    assert rejected(space, "windows")[0] == "PodOSNotSupported"


def test_a_taint_that_is_not_tolerated(space: Namespace, node: Any, actor: str) -> None:
    # The taint's controller deletes the pod too: what remains is the event.
    space.pod("untolerated", actor, nodeName=node.name, tolerations=[])
    text = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
    assert space.wait_event("untolerated", "TaintToleration") == text


def test_a_label_that_is_new_is_seen(space: Namespace, node: Any, actor: str) -> None:
    space.cluster.kubectl("label", "node", node.name, "wanted=yes")
    space.pod(
        "labelled",
        actor,
        "exit",
        "0",
        nodeName=node.name,
        nodeSelector={"wanted": "yes"},
        restartPolicy="Never",
    )
    space.wait("pod/labelled", "jsonpath={.status.phase}=Succeeded")
    space.cluster.kubectl("label", "node", node.name, "wanted-")


def test_as_many_pods_as_the_node_takes(space: Namespace, start_node: Callable[..., Any], actor: str) -> None:
    small = start_node("small-node", "--max-pods=1")
    space.pod("first", actor, "sleep", "600", nodeName=small.name)
    space.wait("pod/first", "condition=Ready")
    space.pod("second", actor, "sleep", "600", nodeName=small.name)
    text = "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 1, capacity: 1"
    assert rejected(space, "second") == ("OutOfpods", text)
    # A pod that is refused, and one that has ended, take no room.
    space.kubectl("delete", "pod", "first", "--grace-period=0", "--wait")
    space.pod("third", actor, "exit", "0", nodeName=small.name, restartPolicy="Never")
    space.wait("pod/third", "jsonpath={.status.phase}=Succeeded")
    space.pod("fourth", actor, "sleep", "600", nodeName=small.name)
    space.wait("pod/fourth", "condition=Ready")
    # What runs is counted by the next agent too.
    os.kill(small.pid, signal.SIGKILL)
    small.start("--max-pods=1")
    space.pod("fifth", actor, "sleep", "600", nodeName=small.name)
    assert rejected(space, "fifth")[0] == "OutOfpods"


def test_a_pod_has_no_more_processes_than_the_node_gives_each(
    space: Namespace, start_node: Callable[..., Any], actor: str
) -> None:
    few = start_node("few-processes", "--pod-pids-limit=9")
    shown = json.loads(space.cluster.kubectl("get", "node", few.name, "--output=json"))
    assert "vkubelet.dev/limited" not in shown["metadata"]["annotations"], "a host that bounds what pods use"
    more = [{"name": f"c{number}", "image": actor, "args": ["sleep", "600"]} for number in range(9)]
    space.pod("greedy", actor, "sleep", "600", others=more, nodeName=few.name)

    def refused() -> list[str]:
        """Why each of those did not start that did not."""
        found = []
        for one in space.status("greedy").get("containerStatuses", []):
            ended = one["state"].get("terminated") or one["lastState"].get("terminated") or {}
            if ended.get("reason") == "StartError":
                found.append(ended["message"])
        return found

    eventually(refused, "a container for which there is no room", 120)
    text = "the pod has as many processes as it may have: Resource temporarily unavailable"
    assert set(refused()) == {text}
    shown = space.status("greedy")["containerStatuses"]
    assert any("running" in one["state"] for one in shown), "some have found room"
    space.pod("modest", actor, "sleep", "600", nodeName=few.name)
    space.wait("pod/modest", "condition=Ready")


def test_extended_resources(space: Namespace, start_node: Callable[..., Any], actor: str) -> None:
    widgets = start_node("widget-node", f"--extended-resources={WIDGET}=3")
    shown = json.loads(space.cluster.kubectl("get", "node", widgets.name, "--output=json"))["status"]
    assert (shown["capacity"][WIDGET], shown["allocatable"][WIDGET]) == ("3", "3")
    space.pod("two", actor, "sleep", "600", container=requesting(**{WIDGET: "2"}), nodeName=widgets.name)
    space.wait("pod/two", "condition=Ready")
    space.pod("more", actor, "sleep", "600", container=requesting(**{WIDGET: "2"}), nodeName=widgets.name)
    text = f"Node didn't have enough resource: {WIDGET}, requested: 2, used: 2, capacity: 3"
    assert rejected(space, "more") == (f"OutOf{WIDGET}", f"Pod was rejected: {text}")
    # Others may give a node resources too: what they say of its capacity can be allocated.
    patch = json.dumps([{"op": "add", "path": "/status/capacity/example.com~1other", "value": "1"}])
    space.cluster.kubectl(
        "patch", "node", widgets.name, "--subresource=status", "--type=json", "--patch", patch
    )

    def allocatable() -> Any:
        node = json.loads(space.cluster.kubectl("get", "node", widgets.name, "--output=json"))
        return node["status"]["allocatable"].get("example.com/other")

    eventually(lambda: allocatable() == "1", "allocatable")
    amounts = {"example.com/other": "2"}
    other = {"resources": {"requests": amounts, "limits": amounts}}
    space.pod("other", actor, container=other, nodeName=widgets.name)
    assert rejected(space, "other")[0] == "OutOfexample.com/other"
