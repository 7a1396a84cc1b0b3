"""Probes on the real cluster: what they do to a pod, and what people are told."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from namespaces import Namespace

pytestmark = pytest.mark.integration

FAST = {"periodSeconds": 1, "timeoutSeconds": 30}


def restarts(space: Namespace, pod: str) -> int:
    return int(space.status(pod)["containerStatuses"][0]["restartCount"])


def ready(space: Namespace, pod: str) -> bool:
    return bool(space.status(pod)["containerStatuses"][0]["ready"])


def exec_probe(*command: str, **more: Any) -> dict[str, Any]:
    return {"exec": {"command": list(command)}, **FAST, **more}


def test_a_pod_is_ready_while_its_readiness_probe_succeeds(space: Namespace, actor: str) -> None:
    probe = exec_probe("cat", "/ready", failureThreshold=1)
    space.pod("turning", actor, "sleep", "1000", container={"readinessProbe": probe})
    space.wait("pod/turning", "jsonpath={.status.phase}=Running")
    assert "Readiness probe failed:" in space.wait_event("turning", "Unhealthy")
    assert not ready(space, "turning")
    space.kubectl("exec", "turning", "--", "sh", "-c", "echo yes > /ready")
    space.wait("pod/turning", "condition=Ready")
    space.kubectl("exec", "turning", "--", "rm", "/ready")
    space.wait("pod/turning", "condition=Ready=False")
    assert restarts(space, "turning") == 0


def test_a_command_that_is_run_again_and_again_sees_what_has_changed(space: Namespace, actor: str) -> None:
    space.make("ConfigMap", "told", data={"state": "waiting"})
    probe = exec_probe("grep", "-q", "ready", "/told/state", failureThreshold=1)
    mounts = [{"name": "told", "mountPath": "/told"}]
    space.pod(
        "told",
        actor,
        *("sleep", "1000"),
        container={"readinessProbe": probe, "volumeMounts": mounts},
        volumes=[{"name": "told", "configMap": {"name": "told"}}],
    )
    space.wait("pod/told", "jsonpath={.status.phase}=Running")
    for data, condition in (("ready", "Ready"), ("waiting", "Ready=False"), ("ready", "Ready")):
        space.kubectl("patch", "configmap", "told", f'--patch={{"data": {{"state": "{data}"}}}}')
        space.wait("pod/told", f"condition={condition}")
    assert restarts(space, "told") == 0


def test_a_container_whose_liveness_probe_fails_is_restarted(space: Namespace, actor: str) -> None:
    probe = exec_probe("actor", "exit", "3", failureThreshold=2, terminationGracePeriodSeconds=1)
    space.pod("dying", actor, "sleep", "1000", container={"livenessProbe": probe})
    space.wait("pod/dying", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    assert space.wait_event("dying", "Killing") == "Container main failed liveness probe, will be restarted"
    assert space.wait_event("dying", "Unhealthy").startswith("Liveness probe failed:")


def test_other_probes_wait_for_the_startup_probe(space: Namespace, actor: str) -> None:
    startup = exec_probe("cat", "/started", failureThreshold=600)
    container = {
        "startupProbe": startup,
        "readinessProbe": exec_probe("true"),
        "livenessProbe": exec_probe("true"),
    }
    space.pod("starting", actor, "sleep", "1000", container=container)
    space.wait("pod/starting", "jsonpath={.status.phase}=Running")
    assert space.wait_event("starting", "Unhealthy").startswith("Startup probe failed:")
    status = space.status("starting")["containerStatuses"][0]
    assert (status["started"], status["ready"]) == (False, False)
    space.kubectl("exec", "starting", "--", "sh", "-c", "echo yes > /started")
    space.wait("pod/starting", "condition=Ready")
    assert space.status("starting")["containerStatuses"][0]["started"] is True


def test_a_command_that_hangs_is_ended_and_one_that_is_not_there_counts_for_nothing(
    space: Namespace, actor: str
) -> None:
    hanging = {"exec": {"command": ["actor", "sleep", "1000"]}, "periodSeconds": 1, "failureThreshold": 1}
    space.pod("hanging", actor, "sleep", "1000", container={"readinessProbe": hanging})
    missing = exec_probe("no-such-command", failureThreshold=1)
    space.pod("missing", actor, "sleep", "1000", container={"livenessProbe": missing})
    text = space.wait_event("hanging", "Unhealthy")
    assert text == 'Readiness probe failed: command timed out: "actor sleep 1000" timed out after 1s'
    text = space.wait_event("missing", "Unhealthy")
    assert text.startswith("Liveness probe errored and resulted in unknown state: exec failed:")
    time.sleep(2)
    assert restarts(space, "missing") == 0


def test_a_probe_of_a_guest_without_network_fails_and_says_why(space: Namespace, actor: str) -> None:
    probe = {"httpGet": {"port": 10250, "path": "/healthz"}, "periodSeconds": 1}
    space.pod("deaf", actor, "sleep", "1000", container={"readinessProbe": probe})
    assert "only with spec.hostNetwork: true" in space.wait_event("deaf", "ProbeWithoutNetwork")
    assert space.wait_event("deaf", "Unhealthy").endswith("connect: connection refused")
    assert not ready(space, "deaf")


def test_probes_are_counted_for_as_long_as_their_pod_lives(
    space: Namespace, actor: str, get: Callable[..., str]
) -> None:
    probe = exec_probe("actor", "exit", "0")
    space.pod("counted", actor, "sleep", "1000", container={"readinessProbe": probe})
    space.wait("pod/counted", "condition=Ready")
    shown = get("/metrics/probes").splitlines()
    (line,) = [line for line in shown if line.startswith("prober_probe_total{") and space.name in line]
    assert 'pod="counted"' in line
    assert 'probe_type="Readiness"' in line
    assert 'result="successful"' in line
    space.kubectl("delete", "pod", "counted", "--wait")
    assert space.name not in get("/metrics/probes")
