"""Init containers, sidecars, volumes and probes in the plan and the status: tables of the kubelet's rules."""

from __future__ import annotations

import pytest

from providers.base import Exit, ExitReason
from vkubelet.api.containers import Container, ContainerRestartRule, ContainerRestartRuleOnExitCodes, Probe
from vkubelet.api.objects import ObjectMeta, Pod, PodCondition, PodSpec, PodStatus
from vkubelet.pods.observed import (
    SECOND,
    Attempt,
    ContainerView,
    Eviction,
    Observed,
    Probed,
    StopCause,
    VolumesView,
)
from vkubelet.pods.plan import CancelStart, Kill, Mount, Plan, Start, plan
from vkubelet.pods.status import pod_status

NOW = 1_000_000.0
NEW = ContainerView()


def init(name: str, **more: object) -> Container:
    return Container(name=name, **more)  # type: ignore[arg-type]


def sidecar(name: str, **more: object) -> Container:
    return Container(name=name, restart_policy="Always", **more)  # type: ignore[arg-type]


def make_pod(*containers: Container, policy: str = "Always", before: tuple[Container, ...] = ()) -> Pod:
    own = list(containers) or [Container(name="main")]
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u"),
        spec=PodSpec(containers=own, init_containers=list(before) or None, restart_policy=policy),
    )


def running(number: int = 0, **more: object) -> ContainerView:
    return ContainerView(Attempt(f"id{number}", number, "img", int(NOW * SECOND)), **more)  # type: ignore[arg-type]


def ended(code: int = 0, number: int = 0, *, past: bool = False) -> ContainerView:
    reason = ExitReason.COMPLETED if code == 0 else ExitReason.ERROR
    start = int((NOW - 1) * SECOND)
    end = Exit(code, reason, "", start, int(NOW * SECOND))
    return ContainerView(Attempt(f"id{number}", number, "img", start, end, past=past))


def planned(pod: Pod, **views: ContainerView) -> Plan:
    return plan(pod, Observed(views, NOW - 60), NOW)


def starts(made: Plan) -> list[tuple[str, int]]:
    return [(action.container.name, action.number) for action in made.actions if isinstance(action, Start)]


def status(pod: Pod, **views: ContainerView) -> PodStatus:
    return pod_status(pod, Observed(views, NOW - 60), "10.0.0.1", NOW)


def condition(found: PodStatus, kind: str) -> PodCondition:
    return next(item for item in found.conditions or () if item.type == kind)


# Init containers, one after another


def test_init_containers_start_one_after_another() -> None:
    pod = make_pod(before=(init("a"), init("b")))
    assert starts(planned(pod)) == [("a", 0)]
    assert starts(planned(pod, a=ContainerView(starting=True))) == []
    assert starts(planned(pod, a=running())) == []
    assert starts(planned(pod, a=ended())) == [("b", 0)]
    assert starts(planned(pod, a=ended(), b=ended())) == [("main", 0)]


@pytest.mark.parametrize(("policy", "again"), [("Always", True), ("OnFailure", True), ("Never", False)])
def test_an_init_container_that_fails(policy: str, again: bool) -> None:
    pod = make_pod(before=(init("a"), init("b")), policy=policy)
    made = planned(pod, a=ended(3))
    assert starts(made) == ([("a", 1)] if again else [])
    assert made.ended is not again
    found = status(pod, a=ended(3))
    assert found.phase == ("Pending" if again else "Failed")
    assert condition(found, "Initialized").status == "False"


def test_an_init_containers_own_policy_wins() -> None:
    pod = make_pod(before=(init("a", restart_policy="OnFailure"),), policy="Never")
    assert starts(planned(pod, a=ended(3))) == [("a", 1)]
    pod = make_pod(before=(init("a", restart_policy="Never"),), policy="Always")
    assert planned(pod, a=ended(3)).ended


def test_once_a_container_of_its_own_was_started_no_init_container_runs_again() -> None:
    pod = make_pod(before=(init("a"),))
    assert starts(planned(pod, a=NEW, main=ended(1))) == [("main", 1)]


def test_after_a_reboot_all_begins_anew() -> None:
    pod = make_pod(before=(init("a"),))
    assert starts(planned(pod, a=ended(past=True), main=ended(137, 4, past=True))) == [("a", 1)]
    assert starts(planned(pod, a=ended(0, 1), main=ended(137, 4, past=True))) == [("main", 5)]
    never = make_pod(before=(init("a"),), policy="Never")
    assert planned(never, a=ended(past=True), main=ended(137, past=True)).ended


def test_what_is_initialized_says_so() -> None:
    pod = make_pod(before=(init("a"), init("b")))
    found = status(pod, a=ended(), b=running())
    assert found.phase == "Pending"
    assert [item.ready for item in found.init_container_statuses or ()] == [True, False]
    held = condition(found, "Initialized")
    assert (held.reason, held.message) == (
        "ContainersNotInitialized",
        "containers with incomplete status: [b]",
    )
    (main,) = found.container_statuses or ()
    assert main.state.waiting is not None
    assert main.state.waiting.reason == "PodInitializing"
    assert condition(status(pod, a=ended(), b=ended(), main=running()), "Initialized").status == "True"


# Sidecars


def test_a_sidecar_must_have_started_before_what_follows() -> None:
    pod = make_pod(before=(sidecar("s", startup_probe=Probe()), init("a")))
    assert starts(planned(pod)) == [("s", 0)]
    assert starts(planned(pod, s=running())) == []
    assert starts(planned(pod, s=running(probed=Probed(startup=True)))) == [("a", 0)]
    assert starts(planned(pod, s=running(starting=True, probed=Probed(startup=True)))) == []


def test_a_sidecar_is_restarted_whatever_it_ended_with() -> None:
    pod = make_pod(before=(sidecar("s"),), policy="Never")
    assert starts(planned(pod, s=ended(0), main=running())) == [("s", 1)]
    assert status(pod, s=ended(0), main=running()).phase == "Running"


def test_sidecars_end_when_the_pod_is_over() -> None:
    pod = make_pod(before=(sidecar("s"), sidecar("t")), policy="Never")
    made = planned(pod, s=running(1), t=running(2), main=ended(0))
    kills = {action.container: action.after for action in made.actions if isinstance(action, Kill)}
    assert kills == {"s": ("t",), "t": ()}
    assert not made.ended
    assert status(pod, s=running(), t=running(), main=ended(0)).phase == "Running"
    assert planned(pod, s=ended(137), t=ended(137), main=ended(0)).ended
    assert status(pod, s=ended(137), t=ended(137), main=ended(0)).phase == "Succeeded"


def test_a_deleted_pod_ends_its_own_containers_first_then_sidecars_in_reverse() -> None:
    pod = make_pod(Container(name="m"), Container(name="n"), before=(sidecar("s"), sidecar("t")))
    pod.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    pod.metadata.deletion_grace_period_seconds = 5
    made = planned(pod, s=running(1), t=running(2), m=running(3), n=running(4))
    kills = {action.container: action for action in made.actions if isinstance(action, Kill)}
    assert {name: kill.after for name, kill in kills.items()} == {
        "m": (),
        "n": (),
        "t": ("m", "n"),
        "s": ("m", "n", "t"),
    }
    assert {kill.grace for kill in kills.values()} == {5}


def test_an_unready_sidecar_makes_the_pod_unready() -> None:
    pod = make_pod(before=(sidecar("s", readiness_probe=Probe()),))
    found = condition(status(pod, s=running(), main=running()), "Ready")
    assert (found.status, found.message) == ("False", "containers with unready status: [s]")
    ready = running(probed=Probed(readiness=True))
    assert condition(status(pod, s=ready, main=running()), "Ready").status == "True"


# Volumes


def test_nothing_starts_before_the_volumes_are_mounted() -> None:
    pod = make_pod()
    views = {"main": NEW}

    def at(volumes: VolumesView) -> Plan:
        return plan(pod, Observed(views, NOW - 60, volumes), NOW)

    assert at(VolumesView(mounted=False)).actions == (Mount(),)
    assert at(VolumesView(mounted=False, mounting=True)).actions == ()
    # It is made ready.
    assert starts(at(VolumesView(mounted=False, mounting=True, coming=True))) == [("main", 0)]
    later = at(VolumesView(mounted=False, retry_at=NOW + 2))
    assert (later.actions, later.wake_at, later.ended) == ((), NOW + 2, False)
    assert starts(at(VolumesView())) == [("main", 0)]
    unmounted = pod_status(pod, Observed(views, NOW - 60, VolumesView(mounted=False)), "10.0.0.1", NOW)
    assert condition(unmounted, "PodReadyToStartContainers").status == "False"


# Probes


def test_probes_decide_what_has_started_and_is_ready() -> None:
    pod = make_pod(Container(name="main", startup_probe=Probe(), readiness_probe=Probe()))

    def shown(**probed: bool) -> tuple[bool | None, bool]:
        (one,) = status(pod, main=running(probed=Probed(**probed))).container_statuses or ()
        return one.started, one.ready

    assert shown() == (False, False)
    assert shown(readiness=True) == (False, False)
    assert shown(startup=True) == (True, False)
    assert shown(startup=True, readiness=True) == (True, True)


@pytest.mark.parametrize(
    ("policy", "suffix"),
    [("Always", ", will be restarted"), ("OnFailure", ", will be restarted"), ("Never", "")],
)
def test_a_container_whose_liveness_probe_fails_is_ended(policy: str, suffix: str) -> None:
    probe = Probe(termination_grace_period_seconds=7)
    pod = make_pod(Container(name="main", liveness_probe=probe), policy=policy)
    made = planned(pod, main=running(probed=Probed(liveness=False)))
    message = f"Container main failed liveness probe{suffix}"
    assert made.actions == (Kill("main", "id0", 7, message, restart=bool(suffix)),)


def test_what_was_ended_for_a_probe_is_restarted_even_if_it_ends_well() -> None:
    pod = make_pod(Container(name="main", liveness_probe=Probe()), policy="OnFailure")
    view = ended(0)
    restarted = ContainerView(view.latest, restart=True)
    assert starts(planned(pod, main=restarted)) == [("main", 1)]
    assert planned(pod, main=view).ended


def test_a_sidecar_that_does_not_start_is_restarted() -> None:
    pod = make_pod(before=(sidecar("s", startup_probe=Probe()),))
    made = planned(pod, s=running(probed=Probed(startup=False)))
    assert made.actions == (Kill("s", "id0", 30, "Init container s failed startup probe", restart=True),)


# Restart rules


@pytest.mark.parametrize(
    ("operator", "code", "again"),
    [("In", 42, True), ("In", 1, False), ("NotIn", 42, False), ("NotIn", 1, True)],
)
def test_restart_rules_come_before_the_containers_policy(operator: str, code: int, again: bool) -> None:
    exit_codes = ContainerRestartRuleOnExitCodes(operator=operator, values=[42])
    rule = ContainerRestartRule(action="Restart", exit_codes=exit_codes)
    main = Container(name="main", restart_policy="Never", restart_policy_rules=[rule])
    pod = make_pod(main, policy="Always")
    assert starts(planned(pod, main=ended(code))) == ([("main", 1)] if again else [])
    assert status(pod, main=ended(code)).phase == ("Running" if again else "Failed")


# Eviction and the hook


def test_an_evicted_pod_is_ended_and_failed() -> None:
    pod = make_pod()
    message = "The node was low on resource: memory."
    eviction = Eviction(message, 0, disruption=message)
    made = plan(pod, Observed({"main": running()}, NOW - 60, eviction=eviction), NOW)
    assert made.actions == (Kill("main", "id0", 0, "Stopping container main"),)
    assert made.stop is StopCause.EVICTED
    over = pod_status(pod, Observed({"main": ended(137)}, NOW - 60, eviction=eviction), "10.0.0.1", NOW)
    assert (over.phase, over.reason, over.message) == ("Failed", "Evicted", eviction.message)
    assert condition(over, "DisruptionTarget").reason == "TerminationByKubelet"
    assert condition(over, "DisruptionTarget").message == message


def test_a_pod_that_broke_its_own_limit_is_not_called_disrupted() -> None:
    eviction = Eviction("Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ", 1)
    over = pod_status(
        make_pod(), Observed({"main": ended(137)}, NOW - 60, eviction=eviction), "10.0.0.1", NOW
    )
    assert (over.phase, over.reason, over.message) == ("Failed", "Evicted", eviction.message)
    assert "DisruptionTarget" not in {item.type for item in over.conditions or ()}


def test_a_container_whose_post_start_hook_runs_is_not_shown_as_running() -> None:
    pod = make_pod()
    (one,) = status(pod, main=running(starting=True)).container_statuses or ()
    assert one.state.waiting is not None
    assert one.state.waiting.reason == "ContainerCreating"
    pod.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    made = planned(pod, main=running(starting=True))
    assert [type(action) for action in made.actions] == [CancelStart, Kill]
