"""Init containers, sidecars, restart rules, termination messages: a pod's life on the real cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from guests import push_guest
from namespaces import Namespace, pod_spec
from waiting import eventually

pytestmark = pytest.mark.integration

SHARED = {"name": "shared", "emptyDir": {}}
MOUNT = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}


def container(name: str, image: str, *args: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": image, "args": list(args), **more}


def states(space: Namespace, pod: str, field: str = "containerStatuses") -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in space.status(pod)[field]}


def test_init_containers_run_in_turn_and_leave_files_to_those_after_them(
    space: Namespace, actor: str
) -> None:
    first = container("first", actor, "append", "/shared/log=first ", **MOUNT)
    second = container("second", actor, "append", "/shared/log=second ", **MOUNT)
    main = {**MOUNT, "args": ["append", "/shared/log=main", "read", "/shared/log"]}
    space.pod(
        "turns",
        actor,
        initContainers=[first, second],
        container=main,
        volumes=[SHARED],
        restartPolicy="Never",
    )
    space.wait("pod/turns", "jsonpath={.status.phase}=Succeeded")
    assert space.kubectl("logs", "turns").strip() == "/shared/log: first second main"
    found = states(space, "turns", "initContainerStatuses")
    assert [(item["ready"], item["state"]["terminated"]["exitCode"]) for item in found.values()] == [
        (True, 0),
        (True, 0),
    ]
    conditions = {item["type"]: item for item in space.status("turns")["conditions"]}
    assert conditions["Initialized"]["status"] == "True"


def test_an_init_container_that_fails_holds_the_pod_back_until_it_succeeds(
    space: Namespace, actor: str
) -> None:
    space.pod("held", actor, "sleep", "1000", initContainers=[container("bad", actor, "exit", "3")])
    waiting = "jsonpath={.status.initContainerStatuses[0].restartCount}=1"
    space.wait("pod/held", waiting)
    status = space.status("held")
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    space.pod(
        "lost",
        actor,
        "sleep",
        "1000",
        initContainers=[container("bad", actor, "exit", "3")],
        restartPolicy="Never",
    )
    space.wait("pod/lost", "jsonpath={.status.phase}=Failed")


def test_a_sidecar_starts_first_outlives_the_pods_own_container_and_then_ends(
    space: Namespace, actor: str
) -> None:
    sidecar = container("side", actor, "sleep", "1000", restartPolicy="Always")
    space.pod("beside", actor, "sleep", "2", initContainers=[sidecar], restartPolicy="Never")
    space.wait("pod/beside", "condition=Ready")
    started = {
        name: item["state"]["running"]["startedAt"]
        for field in ("containerStatuses", "initContainerStatuses")
        for name, item in states(space, "beside", field).items()
    }
    assert started["side"] <= started["main"]
    space.wait("pod/beside", "jsonpath={.status.phase}=Succeeded")
    ended = states(space, "beside", "initContainerStatuses")["side"]["state"]["terminated"]
    assert ended["exitCode"] == 137


def test_a_sidecar_that_ends_is_restarted_while_the_pod_runs(space: Namespace, actor: str) -> None:
    sidecar = container("side", actor, "exit", "0", restartPolicy="Always")
    space.pod("again", actor, "sleep", "1000", initContainers=[sidecar], restartPolicy="Never")
    space.wait("pod/again", "jsonpath={.status.initContainerStatuses[0].restartCount}=1")
    assert space.status("again")["phase"] == "Running"


def test_a_restart_rule_restarts_what_the_policy_would_not(space: Namespace, actor: str) -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    ruled = {"restartPolicy": "Never", "restartPolicyRules": [rule]}
    space.pod("ruled", actor, "exit", "42", container=ruled, restartPolicy="Never")
    space.wait("pod/ruled", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    space.pod("unruled", actor, "exit", "41", container=ruled, restartPolicy="Never")
    space.wait("pod/unruled", "jsonpath={.status.phase}=Failed")


def test_a_rule_has_all_containers_start_again_also_with_another_agent(
    space: Namespace, actor: str, start_node: Callable[..., Any]
) -> None:
    own = start_node("over-again", "--drain-on-shutdown=false")
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    space.pod(
        "over",
        actor,
        "sleep",
        "2",
        "exit",
        "42",
        container={"restartPolicy": "Never", "restartPolicyRules": [rule]},
        initContainers=[
            container("first", actor, "exit", "0"),
            container("side", actor, "sleep", "1000", restartPolicy="Always"),
        ],
        others=[container("other", actor, "sleep", "1000")],
        restartPolicy="Never",
        nodeName="over-again",
        tolerations=[{"operator": "Exists"}],
        nodeSelector={},
    )
    everyone = {"first", "side", "main", "other"}

    def counts() -> dict[str, int]:
        found = states(space, "over") | states(space, "over", "initContainerStatuses")
        return {name: item["restartCount"] for name, item in found.items()}

    space.wait("pod/over", "jsonpath={.status.containerStatuses[1].restartCount}=1")
    eventually(lambda: counts() == dict.fromkeys(everyone, 1), "all start again")
    found = states(space, "over") | states(space, "over", "initContainerStatuses")
    told = {name: item["lastState"]["terminated"]["reason"] for name, item in found.items()}
    assert told == {**dict.fromkeys(everyone, "RestartingAllContainers"), "main": "Error"}
    assert found["main"]["lastState"]["terminated"]["exitCode"] == 42
    os.kill(own.pid, signal.SIGKILL)
    own.start("--drain-on-shutdown=false")
    eventually(lambda: counts() == dict.fromkeys(everyone, 2), "all start again with the next agent")
    conditions = {item["type"]: item for item in space.status("over")["conditions"]}
    assert "AllContainersRestarting" in conditions
    space.kubectl("delete", "pod", "over", "--timeout=30s", "--grace-period=1")


def test_a_container_whose_image_is_changed_is_restarted_with_it(
    space: Namespace, cluster: Any, actor: str
) -> None:
    other = push_guest(cluster.registry, "sleep")
    space.pod("changed", actor, "sleep", "1000", restartPolicy="Never")
    space.wait("pod/changed", "condition=Ready")
    space.kubectl("set", "image", "pod/changed", f"main={other}")
    space.wait("pod/changed", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    space.wait("pod/changed", "condition=Ready")
    assert space.wait_event("changed", "Killing") == "Container main definition changed, will be restarted"
    status = states(space, "changed")["main"]
    assert status["image"] == other
    assert space.kubectl("logs", "changed") == "sleeping\n"


@pytest.mark.parametrize("path", ["/dev/termination-log", "/mine/of/it", "/flat"])
def test_a_container_leaves_a_message(space: Namespace, actor: str, path: str) -> None:
    message = {"terminationMessagePath": path}
    name = "says" + path.replace("/", "-")
    space.pod(name, actor, "write", f"{path}=all done", container=message, restartPolicy="Never")
    space.wait(f"pod/{name}", "jsonpath={.status.phase}=Succeeded")
    assert states(space, name)["main"]["state"]["terminated"]["message"] == "all done"


def test_the_end_of_a_log_stands_in_for_a_message_when_a_container_fails(
    space: Namespace, actor: str
) -> None:
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    args = ["error", "first", "error", "it broke", "exit", "3"]
    space.pod("logs", actor, *args, container=fallback, restartPolicy="Never")
    space.wait("pod/logs", "jsonpath={.status.phase}=Failed")
    assert states(space, "logs")["main"]["state"]["terminated"]["message"] == "first\nit broke\n"


def test_a_message_in_a_volume_is_read_there(space: Namespace, actor: str) -> None:
    spec = pod_spec(
        actor,
        "write",
        "/shared/message=from a volume",
        container={**MOUNT, "terminationMessagePath": "/shared/message"},
        volumes=[SHARED],
        restartPolicy="Never",
    )
    space.create("Pod", "within", spec)
    space.wait("pod/within", "jsonpath={.status.phase}=Succeeded")
    assert states(space, "within")["main"]["state"]["terminated"]["message"] == "from a volume"


def test_a_guest_that_looks_for_its_stop_file_ends_by_itself(space: Namespace, actor: str) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "told", "annotations": {"vkubelet.dev/stop-file": "true"}},
        "spec": pod_spec(actor, "await", "/.vkubelet/stop", "print", "bye", "sleep", "1", "exit", "7"),
    }
    document["metadata"]["finalizers"] = ["example.com/kept"]
    space.kubectl("create", "--filename", "-", input=yaml.safe_dump(document))
    space.wait("pod/told", "condition=Ready")
    space.kubectl("delete", "pod/told", "--wait=false")
    space.wait("pod/told", "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}=7")
    space.kubectl("patch", "pod/told", "--type=merge", '--patch={"metadata":{"finalizers":null}}')
    space.wait("pod/told", "delete")
