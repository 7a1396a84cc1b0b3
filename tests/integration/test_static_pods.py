"""Static pods on the real cluster: a directory of files, their pods, and the mirrors that show them."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from guests import push_guest
from namespaces import Namespace
from waiting import eventually

from vkubelet.dev import node as node_process

pytestmark = pytest.mark.integration

NODE = "static-node"
MIRROR = "kubernetes.io/config.mirror"


def manifest(name: str, namespace: str, image: str, *args: str, **spec: Any) -> str:
    container = {"name": "main", "image": image, "args": list(args), **spec.pop("container", {})}
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
    pod = {"containers": [container], **spec}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})


@pytest.fixture(scope="module")
def guest(cluster: Any) -> str:
    return push_guest(cluster.registry, "actor", "static")


@pytest.fixture
def static_node(start_node: Callable[..., Any], tmp_path: Path) -> Any:
    directory = tmp_path / "manifests"
    directory.mkdir()
    node = start_node(NODE, f"--pod-manifest-path={directory}")
    node.manifests = directory
    return node


def write(node: Any, name: str, text: str) -> None:
    """Put a manifest in place whole, as careful people do."""
    (node.manifests / f".{name}").write_text(text)
    (node.manifests / f".{name}").rename(node.manifests / name)


def kill(node: Any) -> None:
    """End the agent as a crash does."""
    descriptor = os.pidfd_open(node.pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], 30)[0]
    finally:
        os.close(descriptor)


def start_again(node: Any, *flags: str) -> None:
    """Start the agent, and wait until it is ready: the API server still believes the one before."""
    before = node.log.read_text().count("is ready, its API")
    node.start(*flags)
    eventually(lambda: node.log.read_text().count("is ready, its API") > before, "the agent's readiness")


def uid_of(space: Namespace, pod: str) -> str:
    return str(space.get(f"pod/{pod}")["metadata"]["uid"])


def test_a_file_is_a_pod_that_kubectl_shows_and_talks_to(
    static_node: Any, space: Namespace, guest: str
) -> None:
    env = {"env": [{"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]}
    words = ("print", "hello", "env", "UID", "sleep", "1000")
    text = manifest("web", space.name, guest, *words, container=env)
    write(static_node, "web.yaml", text)
    mirror = f"web-{NODE}"
    space.kubectl("wait", "--for=create", f"pod/{mirror}", "--timeout=60s")
    space.wait(f"pod/{mirror}", "condition=Ready")
    shown = space.get(f"pod/{mirror}")
    annotations = shown["metadata"]["annotations"]
    static_uid = annotations["kubernetes.io/config.hash"]
    assert annotations[MIRROR] == static_uid != shown["metadata"]["uid"]
    assert annotations["kubernetes.io/config.source"] == "file"
    assert annotations["kubernetes.io/config.seen"]
    (owner,) = shown["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Node", NODE, True)
    assert shown["metadata"]["labels"] == {"app": "web"}
    status = shown["status"]
    assert status["phase"] == "Running"
    assert {"type": "PodScheduled", "status": "True"}.items() <= next(
        condition for condition in status["conditions"] if condition["type"] == "PodScheduled"
    ).items()
    assert all(
        condition["observedGeneration"] == 1
        for condition in status["conditions"]
        if "observedGeneration" in condition
    )
    assert space.kubectl("logs", mirror) == f"hello\nUID={static_uid}\n"
    assert space.kubectl("exec", mirror, "--", "echo", "talks").strip() == "talks"
    # kubectl finds the events of a mirror by the static pod's uid.
    assert "Started" in space.kubectl("describe", "pod", mirror)


def test_a_mirror_that_is_deleted_comes_back_and_its_pod_never_knows(
    static_node: Any, space: Namespace, guest: str
) -> None:
    write(static_node, "web.yaml", manifest("web", space.name, guest, "print", "up", "sleep", "1000"))
    mirror = f"web-{NODE}"
    space.kubectl("wait", "--for=create", f"pod/{mirror}", "--timeout=60s")
    space.wait(f"pod/{mirror}", "condition=Ready")
    uid, before = uid_of(space, mirror), space.status(mirror)["containerStatuses"][0]["containerID"]
    space.kubectl("delete", "pod", mirror, "--timeout=30s", "--wait=false")
    eventually(
        lambda: (
            (space.kubectl("get", "pod", mirror, "-o=jsonpath={.metadata.uid}", check=False) or uid)
            not in (uid, "")
            and "NotFound" not in space.kubectl("get", "pod", mirror, check=False)
        ),
        "the mirror's return",
    )
    space.wait(f"pod/{mirror}", "condition=Ready")
    assert space.status(mirror)["containerStatuses"][0]["containerID"] == before


def test_a_changed_file_replaces_its_pod_and_no_file_ends_it(
    static_node: Any, space: Namespace, guest: str
) -> None:
    # The old one must have ended before the new one begins: it says so in a file that they share.
    shared = static_node.directory / "shared"
    shared.mkdir()
    volume = {
        "volumes": [{"name": "shared", "hostPath": {"path": str(shared)}}],
        "container": {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
    }
    one = manifest("web", space.name, guest, "append", "/shared/log=one ", "sleep", "1000", **volume)
    volume["container"] = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    two = manifest("web", space.name, guest, "append", "/shared/log=two ", "sleep", "1000", **volume)
    mirror = f"web-{NODE}"
    write(static_node, "web.yaml", one)
    space.kubectl("wait", "--for=create", f"pod/{mirror}", "--timeout=60s")
    space.wait(f"pod/{mirror}", "condition=Ready")
    old = space.get(f"pod/{mirror}")["metadata"]["annotations"][MIRROR]
    write(static_node, "web.yaml", two)
    eventually(lambda: (shared / "log").read_text() == "one two ", "the new pod")

    def replaced() -> bool:
        found = space.kubectl("get", "pod", mirror, "--output=json", check=False)
        if not found.startswith("{"):
            return False
        pod = json.loads(found)
        running = (pod["status"].get("containerStatuses") or [{}])[0].get("state", {}).get("running")
        return pod["metadata"]["annotations"][MIRROR] != old and running is not None

    eventually(replaced, "the new pod's mirror")
    (static_node.manifests / "web.yaml").unlink()
    space.kubectl("wait", "--for=delete", f"pod/{mirror}", "--timeout=60s")
    logs = static_node.directory / "pod-logs"
    eventually(lambda: not list(logs.glob(f"{space.name}_*")), "the end of all that was left of it")


def test_a_broken_file_is_told_at_the_node_and_hurts_no_other(
    static_node: Any, space: Namespace, guest: str, cluster: Any
) -> None:
    write(static_node, "a-broken.yaml", "apiVersion: v1\nkind: Pod\nkind: Pod\n")
    text = manifest("secretive", space.name, guest, container={"envFrom": [{"secretRef": {"name": "s"}}]})
    write(static_node, "secretive.yaml", text)
    write(static_node, "good.yaml", manifest("good", space.name, guest, "sleep", "1000"))
    space.kubectl("wait", "--for=create", f"pod/good-{NODE}", "--timeout=60s")
    space.wait(f"pod/good-{NODE}", "condition=Ready")

    def told() -> str:
        selector = f"involvedObject.kind=Node,involvedObject.name={NODE},reason=FailedStaticPod"
        path = "-o=jsonpath={.items[*].message}"
        return str(cluster.kubectl("get", "events", "-A", f"--field-selector={selector}", path))

    where = static_node.manifests
    eventually(lambda: "given twice" in told() and "may not reference" in told(), "two events")
    messages = told()
    assert f"{where}/a-broken.yaml: line 3: the key 'kind' is given twice" in messages
    refused = f"Pod {space.name}/secretive-{NODE}: static pods may not reference secrets"
    assert f"{where}/secretive.yaml: {refused}" in messages
    assert "a-broken.yaml: line 3" in static_node.log.read_text()


def test_an_agent_that_was_killed_adopts_static_pods(static_node: Any, space: Namespace, guest: str) -> None:
    write(static_node, "web.yaml", manifest("web", space.name, guest, "print", "up", "sleep", "1000"))
    mirror = f"web-{NODE}"
    space.kubectl("wait", "--for=create", f"pod/{mirror}", "--timeout=60s")
    space.wait(f"pod/{mirror}", "condition=Ready")
    before = space.status(mirror)["containerStatuses"][0]
    kill(static_node)
    start_again(static_node, f"--static-pod-path={static_node.manifests}")
    space.wait(f"pod/{mirror}", "condition=Ready")
    after = space.status(mirror)["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    assert space.kubectl("logs", mirror) == "up\n"


def test_mirrors_of_files_that_went_while_no_agent_ran_are_deleted(
    static_node: Any, space: Namespace, guest: str
) -> None:
    write(static_node, "web.yaml", manifest("web", space.name, guest, "print", "up", "sleep", "1000"))
    mirror = f"web-{NODE}"
    space.kubectl("wait", "--for=create", f"pod/{mirror}", "--timeout=60s")
    space.wait(f"pod/{mirror}", "condition=Ready")
    kill(static_node)
    (static_node.manifests / "web.yaml").unlink()
    start_again(static_node)
    space.kubectl("wait", "--for=delete", f"pod/{mirror}", "--timeout=60s")
    eventually(lambda: not node_process.left_containers(static_node.directory), "the end of its container")


def test_a_static_pod_that_ends_is_shown_as_it_ended(static_node: Any, space: Namespace, guest: str) -> None:
    write(static_node, "once.yaml", manifest("once", space.name, guest, "exit", "3", restartPolicy="Never"))
    mirror = f"once-{NODE}"
    space.kubectl("wait", "--for=create", f"pod/{mirror}", "--timeout=60s")
    space.wait(f"pod/{mirror}", "jsonpath={.status.phase}=Failed")
    end = space.status(mirror)["containerStatuses"][0]["state"]["terminated"]
    assert (end["exitCode"], end["reason"]) == (3, "Error")
