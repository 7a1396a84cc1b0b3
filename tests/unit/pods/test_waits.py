"""A container whose image is another now: it is restarted, and waits for nothing that was of the old one."""

from __future__ import annotations

import dataclasses

import pytest

from providers.base import Exit, ExitReason
from vkubelet.api.containers import Container
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.pods.backoff import Backoff
from vkubelet.pods.observed import SECOND, Attempt, ContainerView, Observed, Waiting
from vkubelet.pods.plan import BackOff, Kill, Plan, Start, plan
from vkubelet.pods.status import pod_status

NOW = 1_000_000.0
CRASHED = Exit(1, ExitReason.ERROR, "", 1, int(NOW * SECOND))

DONE = Exit(0, ExitReason.COMPLETED, "", 1, 2)


def make_pod(policy: str = "Always", image: str = "new") -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u"),
        spec=PodSpec(
            init_containers=[
                Container(name="init", image=image),
                Container(name="side", image=image, restart_policy="Always"),
            ],
            containers=[Container(name="main", image=image)],
            restart_policy=policy,
        ),
    )


def attempt(image: str, end: Exit | None = None) -> Attempt:
    return Attempt("id", 0, "img", int(NOW * SECOND), end, image=image)


def planned(pod: Pod, **views: ContainerView) -> Plan:
    done = Attempt("i", 0, "img", 1, DONE, image="old")
    known = {"init": ContainerView(done), "side": ContainerView(attempt("new")), **views}
    return plan(pod, Observed(known, NOW - 60), NOW)


@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_a_container_with_another_image_is_restarted_whatever_its_policy(policy: str) -> None:
    made = planned(make_pod(policy), main=ContainerView(attempt("old")))
    message = "Container main definition changed, will be restarted"
    assert made.actions == (Kill("main", "id", 30, message, restart=True),)


def test_meanwhile_its_pod_has_not_failed() -> None:
    known = {"side": ContainerView(attempt("new")), "init": ContainerView(attempt("new", DONE))}
    for more in ({"restart": True}, {"starting": True}):
        known["main"] = ContainerView(attempt("old", CRASHED), **more)
        status = pod_status(make_pod("Never"), Observed(known, NOW - 60), "10.0.0.1", NOW)
        assert status.phase == "Running"
    known["main"] = ContainerView(attempt("old", CRASHED), restart=True)
    (main,) = (
        pod_status(make_pod("Never"), Observed(known, NOW - 60), "10.0.0.1", NOW).container_statuses or ()
    )
    assert main.state.waiting is not None, "the API server would let it not come back"
    assert main.last_state.terminated is not None


def test_so_is_a_sidecar() -> None:
    made = planned(make_pod(), side=ContainerView(attempt("old")), main=ContainerView(attempt("new")))
    assert made.actions == (Kill("side", "id", 30, "Init container side definition changed", restart=True),)


def test_an_init_container_is_not() -> None:
    known = {"init": ContainerView(attempt("old")), "side": ContainerView(), "main": ContainerView()}
    assert plan(make_pod(), Observed(known, NOW - 60), NOW).actions == ()


def test_what_an_earlier_version_has_started_is_left_alone() -> None:
    assert planned(make_pod(), main=ContainerView(attempt(""))).actions == ()


def test_another_image_ends_the_crash_back_off() -> None:
    crashed = ContainerView(attempt("old", CRASHED), backoff=Backoff(300.0, NOW))
    told = Waiting("CrashLoopBackOff", "back-off", NOW, NOW + 300, "old")
    for view in (crashed, dataclasses.replace(crashed, waiting=told)):
        (start,) = planned(make_pod(), main=view).actions
        assert isinstance(start, Start)
        made = planned(make_pod(image="old"), main=view)
        assert not any(isinstance(action, Start) for action in made.actions)


def test_another_image_is_pulled_at_once() -> None:
    failed = ContainerView(waiting=Waiting("ImagePullBackOff", "no", NOW - 10, NOW + 300, "old"))
    (start,) = planned(make_pod(), main=failed).actions
    assert isinstance(start, Start)


def test_what_waits_for_one_image_goes_on_waiting() -> None:
    failed = ContainerView(waiting=Waiting("ErrImagePull", "no", NOW - 10, NOW + 300, "new"))
    (action,) = planned(make_pod(), main=failed).actions
    assert isinstance(action, BackOff)
    assert (action.waiting.reason, action.waiting.image) == ("ImagePullBackOff", "new")


def test_the_status_tells_the_image_that_runs() -> None:
    known = {"main": ContainerView(attempt("old")), "init": ContainerView(), "side": ContainerView()}
    status = pod_status(make_pod(), Observed(known, NOW - 60), "10.0.0.1", NOW)
    assert [item.image for item in status.container_statuses or ()] == ["old"]
    assert [item.image for item in status.init_container_statuses or ()] == ["new", "new"]
