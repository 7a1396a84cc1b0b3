"""Container states, phases, conditions and the patch between two statuses."""

from __future__ import annotations

import json

import pytest

from providers.base import Exit, ExitReason
from vkubelet.api.containers import Container, ResourceRequirements
from vkubelet.api.objects import (
    ContainerStatus,
    ObjectMeta,
    Pod,
    PodCondition,
    PodReadinessGate,
    PodSpec,
    PodStatus,
)
from vkubelet.pods.observed import SECOND, Attempt, ContainerView, Observed, Rejection, Waiting
from vkubelet.pods.qos import qos_class
from vkubelet.pods.status import pod_status
from vkubelet.pods.statusdiff import status_patch

T0 = 1_767_225_600  # 2026-01-01T00:00:00Z


def make_pod(policy: str = "Always", *names: str) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u", generation=3),
        spec=PodSpec(
            containers=[Container(name=name, image=f"img-{name}") for name in names or ("a",)],
            restart_policy=policy,
        ),
    )


def finished(code: int, reason: ExitReason, number: int = 0, message: str = "") -> Attempt:
    end = Exit(code, reason, message, T0 * SECOND, (T0 + 5) * SECOND)
    return Attempt(f"id{number}", number, "repo@sha256:1", T0 * SECOND, end)


def running(number: int = 0) -> Attempt:
    return Attempt(f"id{number}", number, "repo@sha256:1", T0 * SECOND)


def status_of(pod: Pod, *views: ContainerView, **more: object) -> PodStatus:
    names = [container.name for container in pod.spec.containers or ()]
    observed = Observed(dict(zip(names, views, strict=True)), float(T0), **more)  # type: ignore[arg-type]
    return pod_status(pod, observed, "10.0.0.1", T0 + 10.0)


def condition(status: PodStatus, kind: str) -> PodCondition:
    return next(item for item in status.conditions or () if item.type == kind)


def test_a_running_pod_is_ready() -> None:
    status = status_of(make_pod(), ContainerView(running(2), finished(1, ExitReason.ERROR, 1)))
    (container,) = status.container_statuses or ()
    assert status.phase == "Running"
    assert container.ready
    assert container.started
    assert container.restart_count == 2
    assert container.container_id == "wasmtime://id2"
    assert container.state.running is not None
    assert container.state.running.started_at == "2026-01-01T00:00:00Z"
    assert container.last_state.terminated is not None
    assert container.last_state.terminated.reason == "Error"
    assert condition(status, "Ready").status == "True"
    assert condition(status, "Ready").observed_generation == 3
    assert status.observed_generation == 3


def test_a_pod_being_made_is_pending() -> None:
    status = status_of(make_pod("Always", "a", "b"), ContainerView(running()), ContainerView(starting=True))
    assert status.phase == "Pending"
    waiting = (status.container_statuses or [])[1].state.waiting
    assert waiting is not None
    assert waiting.reason == "ContainerCreating"
    ready = condition(status, "Ready")
    assert (ready.reason, ready.message) == (
        "ContainersNotReady",
        "containers with unready status: [b]",
    )


@pytest.mark.parametrize(
    ("reason", "code", "shown"),
    [
        (ExitReason.COMPLETED, 0, "Completed"),
        (ExitReason.ERROR, 3, "Error"),
        (ExitReason.TRAP, 134, "Error"),
        (ExitReason.OUT_OF_MEMORY, 137, "OOMKilled"),
        (ExitReason.KILLED, 137, "Error"),
        (ExitReason.CANNOT_RUN, 128, "StartError"),
    ],
)
def test_reasons_of_an_end(reason: ExitReason, code: int, shown: str) -> None:
    status = status_of(make_pod("Never"), ContainerView(finished(code, reason, message="why")))
    end = (status.container_statuses or [])[0].state.terminated
    assert end is not None
    assert (end.reason, end.exit_code, end.message) == (shown, code, "why")
    assert status.phase == ("Succeeded" if code == 0 else "Failed")
    assert condition(status, "Ready").reason == ("PodCompleted" if code == 0 else "PodFailed")


def test_a_crash_loop_shows_the_last_end_as_last_state() -> None:
    view = ContainerView(
        finished(1, ExitReason.ERROR, 4), waiting=Waiting("CrashLoopBackOff", "back-off 10s ...")
    )
    status = status_of(make_pod(), view)
    (container,) = status.container_statuses or ()
    assert status.phase == "Running"
    assert container.restart_count == 4
    assert container.state.waiting is not None
    assert container.state.waiting.reason == "CrashLoopBackOff"
    assert container.last_state.terminated is not None
    assert container.last_state.terminated.exit_code == 1


def test_a_pull_failure_keeps_the_pod_pending() -> None:
    status = status_of(make_pod(), ContainerView(waiting=Waiting("ErrImagePull", "not found")))
    assert status.phase == "Pending"
    waiting = (status.container_statuses or [])[0].state.waiting
    assert waiting is not None
    assert (waiting.reason, waiting.message) == ("ErrImagePull", "not found")


def test_an_ephemeral_container_has_a_status_of_its_own_and_is_never_ready() -> None:
    pod = make_pod()
    pod.spec.ephemeral_containers = [Container(name="debugger", image="sh")]
    status = status_of(pod, ContainerView(running()))
    (debugger,) = status.ephemeral_container_statuses or ()
    assert debugger.state.waiting is not None
    assert debugger.state.waiting.reason == "ContainerCreating"
    observed = Observed({"a": ContainerView(running()), "debugger": ContainerView(running())}, float(T0))
    status = pod_status(pod, observed, "10.0.0.1", T0 + 10.0)
    (debugger,) = status.ephemeral_container_statuses or ()
    assert debugger.state.running is not None
    assert (debugger.ready, debugger.started) == (False, None)
    assert status.phase == "Running"
    assert condition(status, "Ready").status == "True"


def test_a_rejected_pod_has_failed() -> None:
    status = status_of(make_pod(), ContainerView(), rejection=Rejection("UnsupportedPodSpec", "because"))
    assert (status.phase, status.reason, status.message) == (
        "Failed",
        "UnsupportedPodSpec",
        "Pod was rejected: because",
    )


def test_a_deleted_pod_that_never_ran_ends_with_unknown_containers() -> None:
    pod = make_pod()
    pod.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    status = status_of(pod, ContainerView())
    end = (status.container_statuses or [])[0].state.terminated
    assert end is not None
    assert (end.reason, end.exit_code) == ("ContainerStatusUnknown", 137)
    assert status.phase == "Failed"


def test_transition_times_are_kept_while_a_condition_stays() -> None:
    pod = make_pod()
    old = "2025-01-01T00:00:00Z"
    pod.status = PodStatus(conditions=[PodCondition(type="Ready", status="True", last_transition_time=old)])
    ready = status_of(pod, ContainerView(running()))
    assert condition(ready, "Ready").last_transition_time == old
    lost = status_of(pod, ContainerView(finished(1, ExitReason.ERROR)))
    assert condition(lost, "Ready").last_transition_time == "2026-01-01T00:00:10Z"


def test_an_unmet_readiness_gate_holds_ready_back() -> None:
    pod = make_pod()
    pod.spec.readiness_gates = [PodReadinessGate(condition_type="example.com/lb")]
    status = status_of(pod, ContainerView(running()))
    ready = condition(status, "Ready")
    assert (ready.status, ready.reason) == ("False", "ReadinessGatesNotReady")
    assert condition(status, "ContainersReady").status == "True"


def test_no_patch_between_equal_statuses() -> None:
    status = status_of(make_pod(), ContainerView(running()))
    assert status_patch("u", status, status) is None


def test_a_patch_holds_what_changed_and_clears_what_went() -> None:
    before = PodStatus(
        phase="Pending",
        message="old",
        host_ip="10.0.0.1",
        conditions=[
            PodCondition(type="PodScheduled", status="True"),
            PodCondition(type="Ready", status="False", reason="ContainersNotReady", message="m"),
        ],
    )
    after = PodStatus(
        phase="Running",
        host_ip="10.0.0.1",
        conditions=[PodCondition(type="Ready", status="True")],
        container_statuses=[ContainerStatus(name="a")],
    )
    patch = json.loads(status_patch("u", before, after) or b"{}")
    assert patch["metadata"] == {"uid": "u"}
    assert patch["status"]["phase"] == "Running"
    assert patch["status"]["message"] is None
    assert "hostIP" not in patch["status"]
    assert patch["status"]["conditions"] == [
        {"type": "Ready", "status": "True", "reason": None, "message": None}
    ]
    assert [item["name"] for item in patch["status"]["containerStatuses"]] == ["a"]


@pytest.mark.parametrize(
    ("requests", "limits", "expected"),
    [
        ({}, {}, "BestEffort"),
        ({"cpu": "1"}, {}, "Burstable"),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "1000m", "memory": "1024Mi"}, "Guaranteed"),
        ({}, {"cpu": 1, "memory": "1Gi"}, "Guaranteed"),
        ({"cpu": "1"}, {"cpu": "2", "memory": "1Gi"}, "Burstable"),
    ],
)
def test_qos_class(requests: dict[str, str | int], limits: dict[str, str | int], expected: str) -> None:
    pod = make_pod()
    assert pod.spec.containers is not None
    pod.spec.containers[0].resources = ResourceRequirements(limits=limits, requests=requests)
    assert qos_class(pod) == expected
