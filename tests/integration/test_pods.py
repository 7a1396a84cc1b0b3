"""Pods on the real cluster: everything a user does with kubectl, and what goes wrong for them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from guests import GUESTS, build_guest, push_bytes
from namespaces import Namespace, pod_spec
from waiting import eventually
from wasmtime import wat2wasm

from vkubelet.dev import node as node_process

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def bad_images(cluster: Any) -> None:
    """Images that can be pulled and not run."""
    sources = {
        "not-wasm": b"#!/bin/sh\necho no\n",
        "no-start": wat2wasm('(module (func (export "other")))'),
        "unknown-import": wat2wasm('(module (import "host" "magic" (func)) (func (export "_start")))'),
    }
    for name, content in sources.items():
        push_bytes(cluster.registry, name, bytes(content))


def wait_pod_gone(node: Any, uid: str) -> None:
    """Wait until nothing of a pod is left on the node."""

    def gone() -> bool:
        logs = list((node.directory / "pod-logs").glob(f"*_{uid}"))
        containers = (node.directory / "run").glob("*/containers/*/*")
        return not logs and not any(
            uid.encode() in path.read_bytes() for path in containers if path.is_file()
        )

    eventually(gone, f"the end of pod {uid}")


def test_a_pod_runs_and_its_output_is_logged(space: Namespace, actor: str) -> None:
    env = [
        {"name": "GREETING", "value": "hello"},
        {"name": "TO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    space.pod(
        "one", actor, "print", "$(GREETING) $(TO)", "env", "HOSTNAME", "sleep", "1000", container={"env": env}
    )
    space.wait("pod/one", "condition=Ready")
    assert space.kubectl("logs", "one") == "hello one\nHOSTNAME=one\n"
    status = space.status("one")
    assert status["phase"] == "Running"
    assert status["containerStatuses"][0]["containerID"].startswith("wasmtime://")
    assert "@sha256:" in status["containerStatuses"][0]["imageID"]
    assert status["qosClass"] == "BestEffort"
    for reason in ("Pulled", "Created", "Started"):
        assert space.wait_event("one", reason)
    space.kubectl("delete", "pod", "one", "--timeout=30s")
    assert "NotFound" in space.kubectl("get", "pod", "one", check=False)


def test_command_args_and_working_directory_reach_the_guest(space: Namespace, actor: str) -> None:
    container = {"command": ["/bin/app", "args"], "args": ["env", "PWD"], "workingDir": "/srv"}
    space.pod("argv", actor, restartPolicy="Never", container=container)
    space.wait("pod/argv", "jsonpath={.status.phase}=Succeeded")
    expected = "argv[0]=/bin/app\nargv[1]=args\nargv[2]=env\nargv[3]=PWD\nPWD=/srv\n"
    assert space.kubectl("logs", "argv") == expected


@pytest.mark.parametrize(("code", "phase", "reason"), [(0, "Succeeded", "Completed"), (7, "Failed", "Error")])
def test_a_container_that_ends_is_reported(
    space: Namespace, actor: str, code: int, phase: str, reason: str
) -> None:
    space.pod("ends", actor, "exit", str(code), restartPolicy="Never")
    space.wait("pod/ends", f"jsonpath={{.status.phase}}={phase}")
    end = space.status("ends")["containerStatuses"][0]["state"]["terminated"]
    assert (end["exitCode"], end["reason"]) == (code, reason)


def test_a_trap_tells_where(space: Namespace, actor: str) -> None:
    space.pod("trap", actor, "print", "before", "trap", restartPolicy="Never")
    space.wait("pod/trap", "jsonpath={.status.phase}=Failed")
    end = space.status("trap")["containerStatuses"][0]["state"]["terminated"]
    assert end["exitCode"] == 134
    assert "unreachable" in end["message"]
    logs = space.kubectl("logs", "trap")
    assert logs.startswith("before\n")
    assert "unreachable" in logs


def test_a_crashing_container_is_restarted_and_backs_off(space: Namespace, actor: str) -> None:
    space.pod("crash", actor, "print", "$(NOW)run", "exit", "1")
    waiting = space.wait_reason("crash", "CrashLoopBackOff")
    assert waiting["message"].startswith("back-off 10s restarting failed container=main pod=crash_")
    status = space.status("crash")
    assert status["phase"] == "Running"
    assert status["containerStatuses"][0]["restartCount"] >= 1
    assert status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1
    assert space.kubectl("logs", "--previous", "crash") == "$(NOW)run\n"
    assert space.wait_event("crash", "BackOff").startswith("Back-off restarting failed container main")


def test_on_failure_restarts_failures_only(space: Namespace, actor: str) -> None:
    done = {"name": "done", "image": actor, "args": ["exit", "0"]}
    space.pod("mixed", actor, "exit", "3", restartPolicy="OnFailure", others=[done])
    space.wait("pod/mixed", "jsonpath={.status.containerStatuses[?(@.name=='main')].restartCount}=1")
    by_name = {item["name"]: item for item in space.status("mixed")["containerStatuses"]}
    assert by_name["done"]["restartCount"] == 0
    assert by_name["done"]["state"]["terminated"]["exitCode"] == 0


def test_several_containers_have_logs_of_their_own(space: Namespace, actor: str) -> None:
    other = {"name": "other", "image": actor, "args": ["error", "from other"]}
    space.pod("two", actor, "print", "from main", restartPolicy="Never", others=[other])
    space.wait("pod/two", "jsonpath={.status.phase}=Succeeded")
    assert space.kubectl("logs", "two", "-c", "other") == "from other\n"
    both = space.kubectl("logs", "two", "--all-containers", "--prefix")
    assert "[pod/two/main] from main\n" in both
    assert "[pod/two/other] from other\n" in both


def test_logs_are_followed_to_the_end(space: Namespace, actor: str) -> None:
    space.pod("tell", actor, "print", "one", "sleep", "1", "print", "two", restartPolicy="Never")
    space.wait("pod/tell", "jsonpath={.status.containerStatuses[0].started}=true")
    assert space.kubectl("logs", "--follow", "tell") == "one\ntwo\n"


def test_log_options(space: Namespace, actor: str) -> None:
    space.pod("many", actor, "lines", "1000", restartPolicy="Never")
    space.wait("pod/many", "jsonpath={.status.phase}=Succeeded")
    assert space.kubectl("logs", "many", "--tail=2") == "line 998\nline 999\n"
    assert space.kubectl("logs", "many", "--limit-bytes=13") == "line 0\nline 1"[:13]
    stamped = space.kubectl("logs", "many", "--tail=1", "--timestamps")
    stamp, _, text = stamped.partition(" ")
    assert text == "line 999\n"
    assert space.kubectl("logs", "many", f"--since-time={stamp}").endswith("line 999\n")
    assert space.kubectl("logs", "many", "--since=1h").count("\n") == 1000
    complaint = space.kubectl("logs", "many", "--previous", check=False)
    assert 'previous terminated container "main" in pod "many" not found' in complaint


def test_a_deployment_of_three_rolls_out_and_heals(space: Namespace, actor: str) -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec(actor, "sleep", "1000")}
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    space.create("Deployment", "web", spec, "apps/v1")
    space.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    first = space.get("pods")["items"][0]["metadata"]["name"]
    space.kubectl("delete", "pod", first, "--timeout=30s")
    space.wait("deployment/web", "jsonpath={.status.readyReplicas}=3")
    space.kubectl("set", "env", "deployment/web", "VERSION=2")
    space.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    space.kubectl("scale", "deployment/web", "--replicas=1")
    space.wait("deployment/web", "jsonpath={.status.replicas}=1")


def test_a_job_completes(space: Namespace, actor: str) -> None:
    template = {"spec": pod_spec(actor, "print", "worked", restartPolicy="Never")}
    space.create("Job", "work", {"completions": 3, "parallelism": 2, "template": template}, "batch/v1")
    space.wait("job/work", "condition=Complete")
    assert space.kubectl("logs", "job/work") == "worked\n"


def test_a_failing_job_fails(space: Namespace, actor: str) -> None:
    template = {"spec": pod_spec(actor, "exit", "1", restartPolicy="Never")}
    space.create("Job", "fails", {"backoffLimit": 0, "template": template}, "batch/v1")
    space.wait("job/fails", "condition=Failed")


def test_a_daemon_set_runs_on_the_node(space: Namespace, actor: str) -> None:
    template = {"metadata": {"labels": {"app": "ds"}}, "spec": pod_spec(actor, "sleep", "1000")}
    space.create(
        "DaemonSet", "ds", {"selector": {"matchLabels": {"app": "ds"}}, "template": template}, "apps/v1"
    )
    space.kubectl("rollout", "status", "daemonset/ds", "--timeout=60s")


def test_a_pod_is_deleted_by_force(space: Namespace, actor: str, node: Any) -> None:
    space.pod("forced", actor, "sleep", "1000")
    space.wait("pod/forced", "condition=Ready")
    uid = space.get("pod/forced")["metadata"]["uid"]
    space.kubectl("delete", "pod", "forced", "--grace-period=0", "--force")
    wait_pod_gone(node, uid)


def test_the_deadline_ends_a_pod(space: Namespace, actor: str) -> None:
    space.pod("late", actor, "sleep", "1000", activeDeadlineSeconds=2)
    space.wait("pod/late", "jsonpath={.status.reason}=DeadlineExceeded")
    space.wait("pod/late", "jsonpath={.status.phase}=Failed")


def test_a_memory_limit_holds(space: Namespace, actor: str) -> None:
    limited = {"resources": {"limits": {"memory": "32Mi"}}}
    space.pod("hungry", actor, "grow", "64", restartPolicy="Never", container=limited)
    space.wait("pod/hungry", "jsonpath={.status.phase}=Failed")
    end = space.status("hungry")["containerStatuses"][0]["state"]["terminated"]
    assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")
    assert "out of memory: the guest asked for" in space.kubectl("logs", "hungry")


FORMATS = {
    "cncf": ("application/vnd.wasm.config.v0+json", "application/wasm"),
    "krustlet": ("application/vnd.wasm.config.v1+json", "application/vnd.wasm.content.layer.v1+wasm"),
}


@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_every_artifact_format_runs_by_tag_and_by_digest(
    space: Namespace, cluster: Any, kind: str, by: str
) -> None:
    config_type, layer_type = FORMATS[kind]
    content = build_guest("actor").read_bytes()
    name = f"format-{kind}-{by}"
    digest = push_bytes(cluster.registry, name, content, config_type=config_type, layer_type=layer_type)
    reference = f"{cluster.registry}/{name}" + (":v1" if by == "tag" else f"@{digest}")
    space.pod("format", reference, "print", "ran", restartPolicy="Never")
    space.wait("pod/format", "jsonpath={.status.phase}=Succeeded")
    assert space.kubectl("logs", "format") == "ran\n"
    image_id = space.status("format")["containerStatuses"][0]["imageID"]
    assert image_id == f"{cluster.registry}/{name}@{digest}"


def test_a_component_runs(space: Namespace, cluster: Any) -> None:
    component = bytes(wat2wasm((GUESTS / "component.wat").read_text()))
    push_bytes(cluster.registry, "component", component)
    space.pod("component", f"{cluster.registry}/component:v1", restartPolicy="Never")
    space.wait("pod/component", "jsonpath={.status.phase}=Succeeded")
    assert "hello" in space.kubectl("logs", "component").lower()


def test_the_node_reports_its_images(space: Namespace, cluster: Any, node: Any, actor: str) -> None:
    space.pod("seen", actor, "print", "x", restartPolicy="Never")
    space.wait("pod/seen", "jsonpath={.status.phase}=Succeeded")
    path = f'jsonpath={{.status.images[*].names[?(@=="{actor}")]}}={actor}'
    cluster.kubectl("wait", f"node/{node.name}", f"--for={path}", "--timeout=30s")


BAD_IMAGES = {
    "invalid": ("Not A Name", "InvalidImageName", "invalid reference format"),
    "missing": ("REGISTRY/no-such-image:v1", "ErrImagePull", "manifest unknown"),
    "no-tag": ("REGISTRY/actor:no-such-tag", "ErrImagePull", "manifest unknown"),
    "no-digest": ("REGISTRY/actor@sha256:" + "0" * 64, "ErrImagePull", "manifest unknown"),
    "down": ("127.0.0.1:1/actor:v1", "ErrImagePull", "refused"),
    "not-wasm": ("REGISTRY/not-wasm:v1", "CreateContainerError", "not a WebAssembly binary"),
    "no-start": ("REGISTRY/no-start:v1", "CreateContainerError", "_start"),
    "imports": ("REGISTRY/unknown-import:v1", "CreateContainerError", "host"),
}


@pytest.mark.parametrize("case", sorted(BAD_IMAGES))
def test_a_bad_image_is_explained(space: Namespace, actor: str, bad_images: None, case: str) -> None:
    image, reason, words = BAD_IMAGES[case]
    space.pod("bad", image.replace("REGISTRY", actor.partition("/")[0]))
    space.pod("good", actor, "sleep", "1000")
    state = space.wait_reason("bad", reason)
    assert words in state["message"]
    assert space.wait_event("bad", "Failed")
    space.wait("pod/good", "condition=Ready")
    if reason == "ErrImagePull":
        backing = space.wait_reason("bad", "ImagePullBackOff")
        assert words in backing["message"]


def test_never_pull_needs_the_image(space: Namespace, actor: str) -> None:
    registry = actor.partition("/")[0]
    space.pod("never", f"{registry}/not-here:v1", container={"imagePullPolicy": "Never"})
    state = space.wait_reason("never", "ErrImageNeverPull")
    assert state["message"].endswith("is not present with pull policy of Never")


def test_arguments_too_long_are_refused(space: Namespace, actor: str) -> None:
    space.pod("long", actor, *["print", "x" * 100_000] * 4, restartPolicy="Never")
    space.wait("pod/long", "jsonpath={.status.phase}=Succeeded")
    assert len(space.kubectl("logs", "long")) == 4 * 100_001


def test_what_the_node_cannot_keep_is_refused_with_its_field(space: Namespace, actor: str) -> None:
    privileged = {"securityContext": {"privileged": True}}
    space.pod("asks", actor, container=privileged)
    space.wait("pod/asks", "jsonpath={.status.phase}=Failed")
    status = space.status("asks")
    assert status["reason"] == "UnsupportedPodSpec"
    assert "spec.containers{main}.securityContext.privileged" in status["message"]
    assert space.wait_event("asks", "UnsupportedPodSpec")
    complaint = space.kubectl("logs", "asks", check=False)
    assert 'container "main" in pod "asks" is not available' in complaint


def end_process(pid: int, number: signal.Signals) -> None:
    """Send the signal and wait until the process has ended."""
    descriptor = os.pidfd_open(pid)
    try:
        os.kill(pid, number)
        ended, _, _ = select.select([descriptor], [], [], 30)
        assert ended, f"process {pid} did not end"
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_pods_outlive_the_agent_and_those_deleted_meanwhile_end(
    cluster: Any, actor: str, start_node: Callable[..., Any], space: Namespace, number: signal.Signals
) -> None:
    name_of_node = f"outlive-{number.name.lower()}"
    own = start_node(name_of_node, "--drain-on-shutdown=false")
    bound = {"nodeName": name_of_node, "tolerations": [{"operator": "Exists"}], "nodeSelector": {}}
    for name in ("stays", "goes"):
        space.pod(name, actor, "print", "started", "sleep", "1000", **bound)
        space.wait(f"pod/{name}", "condition=Ready")
    before = space.status("stays")["containerStatuses"][0]
    gone = space.get("pod/goes")["metadata"]["uid"]
    end_process(own.pid, number)
    space.kubectl("delete", "pod", "goes", "--grace-period=0", "--force")
    own.start("--drain-on-shutdown=false")
    wait_pod_gone(own, gone)
    after = space.status("stays")["containerStatuses"][0]
    assert after == before, "adopted: the same container, not restarted"
    assert space.kubectl("logs", "stays") == "started\n"
    space.kubectl("delete", "pod", "stays", "--timeout=30s")


def test_a_node_that_stops_says_so_and_a_taken_name_is_refused(
    cluster: Any, start_node: Callable[..., Any], node: Any
) -> None:
    own = start_node("third")
    elsewhere = node_process.options(own.directory / "elsewhere", cluster.ready, "third")
    taken = subprocess.run(
        [sys.executable, "-m", "vkubelet.cli", "run", *elsewhere],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert taken.returncode == 1
    assert "third" in taken.stderr.splitlines()[-1]
    own.stop()
    condition = json.loads(cluster.kubectl("get", "node", "third", "--output=json"))["status"]["conditions"]
    ready = next(item for item in condition if item["type"] == "Ready")
    assert ready["status"] == "False"
