"""The plan: tables of a kubelet's rules, and Hypothesis over sequences of observations."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from providers.base import Exit, ExitReason
from vkubelet.api.containers import Container
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec, PodStatus
from vkubelet.pods.backoff import Backoff
from vkubelet.pods.observed import SECOND, Attempt, ContainerView, Observed, Rejection, StopCause, Waiting
from vkubelet.pods.plan import BackOff, CancelStart, Kill, Start, plan
from vkubelet.pods.restarts import should_restart
from vkubelet.pods.status import pod_status
from vkubelet.pods.waits import hook_failed

NOW = 1_000_000.0


def make_pod(policy: str = "Always", names: tuple[str, ...] = ("a",), **spec: object) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u"),
        spec=PodSpec(
            containers=[Container(name=name, image="x") for name in names],
            restart_policy=policy,
            **spec,  # type: ignore[arg-type]
        ),
    )


def ended(code: int, number: int = 0, finished: float = NOW) -> Attempt:
    reason = ExitReason.COMPLETED if code == 0 else ExitReason.ERROR
    start = int((finished - 1) * SECOND)
    return Attempt(f"id{number}", number, "img", start, Exit(code, reason, "", start, int(finished * SECOND)))


def running(number: int = 0) -> Attempt:
    return Attempt(f"id{number}", number, "img", int(NOW * SECOND))


def observe(*views: ContainerView, **more: object) -> Observed:
    names = ("a", "b", "c")
    return Observed(dict(zip(names, views, strict=False)), NOW - 60, **more)  # type: ignore[arg-type]


def test_a_new_pod_starts_all_its_containers() -> None:
    pod = make_pod(names=("a", "b"))
    made = plan(pod, observe(ContainerView(), ContainerView()), NOW)
    assert made.actions == tuple(Start(container, 0) for container in pod.spec.containers or ())
    assert not made.ended


@pytest.mark.parametrize(
    ("policy", "code", "restarts"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 3, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_restart_policy(policy: str, code: int, restarts: bool) -> None:
    made = plan(make_pod(policy), observe(ContainerView(ended(code))), NOW)
    assert bool(made.actions) is restarts
    assert made.ended is not restarts


def test_a_containers_own_policy_wins() -> None:
    pod = make_pod("Never")
    assert pod.spec.containers is not None
    pod.spec.containers[0].restart_policy = "Always"
    assert plan(pod, observe(ContainerView(ended(0))), NOW).actions


def test_the_first_restart_is_at_once_and_later_ones_back_off() -> None:
    view = ContainerView(ended(1, finished=NOW - 2), backoff=Backoff(20.0, NOW - 30))
    made = plan(make_pod(), observe(view), NOW)
    (action,) = made.actions
    assert isinstance(action, BackOff)
    assert action.waiting.reason == "CrashLoopBackOff"
    assert action.waiting.message == "back-off 20s restarting failed container=a pod=p_ns(u)"
    assert made.wake_at == pytest.approx(NOW + 18)
    waiting = dataclasses.replace(view, waiting=action.waiting)
    assert plan(make_pod(), observe(waiting), NOW).actions == ()
    (restart,) = plan(make_pod(), observe(waiting), NOW + 18).actions
    assert isinstance(restart, Start)
    assert restart.number == 1


@pytest.mark.parametrize("reason", ["ErrImagePull", "SignatureValidationFailed"])
def test_a_pull_error_becomes_a_back_off_and_is_tried_again(reason: str) -> None:
    failed = ContainerView(waiting=Waiting(reason, "no such tag", NOW, NOW + 10))
    first = plan(make_pod(), observe(failed), NOW)
    assert first.actions == ()
    assert first.wake_at == NOW + 1
    (action,) = plan(make_pod(), observe(failed), NOW + 1).actions
    assert isinstance(action, BackOff)
    assert action.waiting.reason == "ImagePullBackOff"
    assert action.waiting.message == f'Back-off pulling image "x": {reason}: no such tag'
    later = plan(make_pod(), observe(ContainerView(waiting=action.waiting)), NOW + 10)
    assert isinstance(later.actions[0], Start)


@pytest.mark.parametrize(("restarts", "due"), [(0, NOW + 1), (1, NOW + 10)])
def test_a_failed_post_start_hook_is_shown_and_then_backs_off_as_a_crash(restarts: int, due: float) -> None:
    backoff = Backoff(10.0, NOW - 5) if restarts else Backoff()
    killed = ContainerView(ended(137, number=restarts), backoff=backoff)
    waiting = hook_failed(Container(name="a", image="x"), killed, "no such command", NOW)
    assert (waiting.reason, waiting.message) == ("PostStartHookError", "no such command")
    view = dataclasses.replace(killed, waiting=waiting)
    shown = plan(make_pod(), observe(view), NOW)
    assert shown.actions == ()
    assert shown.wake_at == NOW + 1
    if restarts:
        (action,) = plan(make_pod(), observe(view), NOW + 1).actions
        assert isinstance(action, BackOff)
        assert action.waiting.reason == "CrashLoopBackOff"
        assert action.waiting.message.startswith("back-off 10s restarting failed container=a ")
        view = dataclasses.replace(killed, waiting=action.waiting)
        assert plan(make_pod(), observe(view), due - 0.1).actions == ()
    (start,) = plan(make_pod(), observe(view), due).actions
    assert isinstance(start, Start)
    assert start.number == restarts + 1


def deleted(pod: Pod) -> None:
    pod.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"


def test_deletion_kills_cancels_and_then_ends() -> None:
    pod = make_pod(names=("a", "b", "c"))
    deleted(pod)
    made = plan(pod, observe(ContainerView(running()), ContainerView(starting=True), ContainerView()), NOW)
    assert made.actions == (Kill("a", "id0", 30, "Stopping container a"), CancelStart("b"))
    assert not made.ended
    over = plan(pod, observe(ContainerView(ended(137)), ContainerView(), ContainerView()), NOW)
    assert over.ended
    assert over.stop is StopCause.DELETED


def test_a_pod_past_its_deadline_is_ended_and_failed() -> None:
    pod = make_pod(active_deadline_seconds=60)
    early = plan(pod, observe(ContainerView(running())), NOW - 10)
    assert early.actions == ()
    assert early.wake_at == NOW
    late = plan(pod, observe(ContainerView(running())), NOW)
    assert late.actions == (Kill("a", "id0", 30, "Stopping container a"),)
    status = pod_status(pod, observe(ContainerView(ended(137))), "10.0.0.1", NOW)
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")


def test_a_terminal_pod_never_starts_anything() -> None:
    pod = make_pod()
    pod.status = PodStatus(phase="Failed")
    made = plan(pod, observe(ContainerView()), NOW)
    assert made.actions == ()
    assert made.ended


attempts = st.builds(ended, st.sampled_from([0, 1, 137]), st.integers(0, 5), st.floats(NOW - 900, NOW))
views = st.one_of(
    st.just(ContainerView()),
    st.builds(ContainerView, latest=st.builds(running, st.integers(0, 5))),
    st.builds(ContainerView, latest=st.one_of(st.none(), attempts), starting=st.just(True)),
    st.builds(
        ContainerView,
        latest=st.one_of(st.none(), attempts),
        backoff=st.builds(Backoff, st.sampled_from([0.0, 10.0, 300.0]), st.floats(NOW - 900, NOW)),
        waiting=st.one_of(
            st.none(), st.builds(Waiting, st.just("E"), st.just("m"), st.just(NOW), st.floats(0, 2 * NOW))
        ),
    ),
)
observations = st.builds(
    observe,
    views,
    views,
    views,
    gone=st.booleans(),
    draining=st.booleans(),
    rejection=st.one_of(st.none(), st.just(Rejection("R", "m"))),
)
policies = st.sampled_from(["Always", "OnFailure", "Never"])


@given(observations, policies, st.booleans(), st.sampled_from(["", "Running", "Succeeded", "Failed"]))
def test_no_observation_makes_a_wrong_plan(
    observed: Observed, policy: str, is_deleted: bool, phase: str
) -> None:
    pod = make_pod(policy, ("a", "b", "c"))
    pod.status = PodStatus(phase=phase)
    if is_deleted:
        deleted(pod)
    made = plan(pod, observed, NOW)
    started = {action.container.name for action in made.actions if isinstance(action, Start)}
    busy = {name for name, view in observed.containers.items() if view.running or view.starting}
    assert not started & busy, "a container is never started twice"
    if made.stop is not None:
        assert not started, "nothing starts in a pod that must stop"
        killed = {action.container for action in made.actions if isinstance(action, Kill | CancelStart)}
        assert killed == busy, "everything that runs in it is ended"
    assert not (made.ended and busy), "a pod with something running is not over"
    assert made.ended or made.actions or made.wake_at is not None or busy, "a pod is never forgotten"


@given(observations, policies, st.booleans())
def test_no_observation_makes_a_wrong_phase(observed: Observed, policy: str, is_deleted: bool) -> None:
    assume(observed.rejection is None)  # a refused pod never had a container
    pod = make_pod(policy, ("a", "b", "c"))
    for container in pod.spec.containers or ():
        view = observed.containers[container.name]
        assume(not view.starting or view.latest is None or should_restart(pod, container, view))
    if is_deleted:
        deleted(pod)
    made = plan(pod, observed, NOW)
    status = pod_status(pod, observed, "10.0.0.1", NOW)
    if status.phase in ("Succeeded", "Failed"):
        assert made.ended, "a terminal phase is reported only when nothing runs and nothing will"
    if status.phase == "Succeeded":
        codes = [
            container.state.terminated.exit_code
            for container in status.container_statuses or ()
            if container.state.terminated is not None
        ]
        assert codes == [0, 0, 0]
    if made.ended and not observed.gone:
        assert status.phase in ("Succeeded", "Failed")


def with_debugger(policy: str = "Always") -> Pod:
    pod = make_pod(policy)
    pod.spec.ephemeral_containers = [Container(name="b", image="sh")]
    return pod


def test_an_ephemeral_container_is_started_once_and_never_again() -> None:
    pod = with_debugger()
    (start,) = plan(pod, observe(ContainerView(running()), ContainerView()), NOW).actions
    assert start == Start((pod.spec.ephemeral_containers or [])[0], 0)
    for view in (
        ContainerView(starting=True),
        ContainerView(running()),
        ContainerView(ended(0)),
        ContainerView(ended(1)),
    ):
        assert plan(pod, observe(ContainerView(running()), view), NOW).actions == ()


def test_an_ephemeral_container_whose_image_is_missing_is_tried_again() -> None:
    pod = with_debugger()
    waiting = Waiting("ImagePullBackOff", "gone", NOW - 20, NOW + 5)
    made = plan(pod, observe(ContainerView(running()), ContainerView(waiting=waiting)), NOW)
    assert (made.actions, made.wake_at) == ((), NOW + 5)
    made = plan(pod, observe(ContainerView(running()), ContainerView(waiting=waiting)), NOW + 5)
    assert made.actions == (Start((pod.spec.ephemeral_containers or [])[0], 0),)


def test_an_ephemeral_container_keeps_no_pod_alive() -> None:
    pod = with_debugger("Never")
    made = plan(pod, observe(ContainerView(ended(0)), ContainerView(running(7))), NOW)
    assert made.actions == (Kill("b", "id7", 30, "Stopping container b"),)
    assert not made.ended
    assert plan(pod, observe(ContainerView(ended(0)), ContainerView(ended(137))), NOW).ended
    assert plan(pod, observe(ContainerView(ended(0)), ContainerView()), NOW).ended
