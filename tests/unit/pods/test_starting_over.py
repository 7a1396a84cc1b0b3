"""RestartAllContainers: who asks for it, what it takes, what people see, and what a new agent knows of it."""

from __future__ import annotations

import dataclasses

import pytest

from providers.base import Exit, ExitReason
from vkubelet.api.containers import Container, ContainerRestartRule, ContainerRestartRuleOnExitCodes
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec, PodStatus
from vkubelet.pods.backoff import Backoff
from vkubelet.pods.observed import SECOND, Attempt, ContainerView, Observed
from vkubelet.pods.plan import CancelStart, Kill, Plan, Start, StartOver, plan
from vkubelet.pods.restarts import restarts_all
from vkubelet.pods.starting_over import MESSAGE, REASON, life, resumed, sources, started_over
from vkubelet.pods.status import pod_status

NOW = 1_000_000.0


def rule(action: str, *codes: int, operator: str = "In") -> ContainerRestartRule:
    return ContainerRestartRule(action, ContainerRestartRuleOnExitCodes(operator, list(codes)))


ALL = rule("RestartAllContainers", 42)


def make_pod(main: Container | None = None, *, side: Container | None = None) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u", generation=1),
        spec=PodSpec(
            init_containers=[Container(name="init"), side or Container(name="side", restart_policy="Always")],
            containers=[
                main or Container(name="main", restart_policy="Never", restart_policy_rules=[ALL]),
                Container(name="other"),
            ],
            restart_policy="Never",
        ),
    )


def ended(code: int, at: float = NOW, number: int = 0, life: int = 0) -> Attempt:
    reason = ExitReason.ERROR if code else ExitReason.COMPLETED
    return Attempt(f"id{number}", number, "img", 1, Exit(code, reason, "", 1, int(at * SECOND)), life=life)


def running(number: int = 0, life: int = 0) -> Attempt:
    return Attempt(f"id{number}", number, "img", int(NOW * SECOND), life=life)


def views(**latest: Attempt | None) -> dict[str, ContainerView]:
    return {name: ContainerView(latest.get(name)) for name in ("init", "side", "main", "other")}


def planned(pod: Pod, found: dict[str, ContainerView], now: float = NOW) -> Plan:
    return plan(pod, Observed(found, NOW - 60), now)


def status(pod: Pod, found: dict[str, ContainerView]) -> PodStatus:
    return pod_status(pod, Observed(found, NOW - 60), "10.0.0.1", NOW)


def restarting(pod: Pod, found: dict[str, ContainerView]) -> tuple[str, str]:
    (told,) = (item for item in status(pod, found).conditions or () if item.type == "AllContainersRestarting")
    return told.status, told.reason


ASKED = views(init=ended(0), side=running(), main=ended(42), other=running())
CLEARED = views(init=ended(0), side=ended(137), main=ended(42), other=ended(137))


@pytest.mark.parametrize(
    ("rules", "code", "all_again"),
    [
        ([ALL], 42, True),
        ([ALL], 0, False),
        ([rule("RestartAllContainers", 0, operator="NotIn")], 1, True),
        ([rule("Restart", 42), ALL], 42, False),
        ([rule("Restart", 1), ALL], 42, True),
        ([], 42, False),
    ],
)
def test_the_first_rule_that_speaks_of_the_code_counts(
    rules: list[ContainerRestartRule], code: int, all_again: bool
) -> None:
    container = Container(name="a", restart_policy="Never", restart_policy_rules=rules)
    assert restarts_all(container, code) is all_again


def test_all_that_runs_is_ended_without_grace_before_anything_starts() -> None:
    pod = make_pod()
    found = {**ASKED, "other": dataclasses.replace(ASKED["other"], starting=True)}
    assert planned(pod, found).actions == (
        CancelStart("other"),
        Kill("other", "id0", 0, "killing", restart=True),
        Kill("side", "id0", 0, "killing", restart=True),
    )
    assert restarting(pod, found) == ("True", "RestartAllContainersStarted")


def test_then_all_start_again_in_their_order_whatever_came_of_them() -> None:
    pod = make_pod()
    assert planned(
        pod, {**CLEARED, "other": dataclasses.replace(CLEARED["other"], restart=True)}
    ).actions == (StartOver(),)
    found = CLEARED | started_over(pod, CLEARED, NOW)
    for name in ("init", "side", "main", "other"):
        start = planned(pod, found).actions[0]
        assert isinstance(start, Start)
        assert (start.container.name, start.number) == (name, 1)
        after = ended(0, number=1, life=1) if name == "init" else running(1, life=1)
        found[name] = ContainerView(after, found[name].latest)
    assert restarting(pod, found) == ("False", "")


def test_people_see_who_asked_and_who_had_to_go() -> None:
    pod = make_pod()
    found = CLEARED | started_over(pod, CLEARED, NOW)
    told = status(pod, found)
    assert told.phase == "Running"
    main, other = told.container_statuses or ()
    for one in (main, other):
        assert one.state.waiting is not None
        assert (one.state.waiting.reason, one.state.waiting.message) == (REASON, MESSAGE)
    assert main.last_state.terminated is not None
    assert (main.last_state.terminated.exit_code, main.last_state.terminated.reason) == (42, "Error")
    assert other.last_state.terminated is not None
    assert (other.last_state.terminated.exit_code, other.last_state.terminated.reason) == (137, REASON)


def test_who_asks_again_and_again_backs_off_and_the_others_do_not() -> None:
    pod = make_pod()
    found = {
        **CLEARED,
        "main": ContainerView(ended(42), backoff=Backoff(10.0, NOW - 5)),
        "init": ContainerView(ended(0), backoff=Backoff(10.0, NOW - 5)),
    }
    found |= started_over(pod, found, NOW)
    (start,) = planned(pod, found).actions
    assert isinstance(start, Start)
    assert start.container.name == "init"
    main = found["main"]
    found = views(init=ended(0, number=1, life=1), side=running(1, life=1), other=running(1, life=1))
    found["main"] = main
    made = planned(pod, found)
    assert (made.actions, made.wake_at) == ((), NOW + 10)


def test_a_pod_that_is_over_does_not_start_over() -> None:
    side = Container(name="side", restart_policy="Always", restart_policy_rules=[ALL])
    pod = make_pod(Container(name="main"), side=side)
    found = views(init=ended(0), side=ended(42), main=ended(0), other=ended(0))
    assert planned(pod, found).ended


def test_a_sidecar_may_ask() -> None:
    side = Container(name="side", restart_policy="Always", restart_policy_rules=[ALL])
    pod = make_pod(Container(name="main"), side=side)
    found = views(init=ended(0), side=ended(42), main=running(), other=running())
    assert [type(action) for action in planned(pod, found).actions] == [Kill, Kill]


def test_an_init_container_that_succeeds_may_ask() -> None:
    pod = make_pod()
    assert pod.spec.init_containers is not None
    pod.spec.init_containers[0].restart_policy_rules = [rule("RestartAllContainers", 0)]
    assert planned(pod, views(init=ended(0))).actions == (StartOver(),)


# A new agent


def test_a_new_agent_knows_what_is_of_an_earlier_life() -> None:
    pod = make_pod()
    found = views(init=ended(0, life=1), side=running(1, life=1), main=ended(42), other=ended(137))
    found |= resumed(pod, found)
    assert life(found) == 1
    assert not sources(pod, found)
    assert (found["main"].latest, found["other"].latest) == (
        dataclasses.replace(ended(42), past=True),
        dataclasses.replace(ended(137), past=True, reset=True),
    )
    starts = [action.container.name for action in planned(pod, found).actions if isinstance(action, Start)]
    assert starts == ["main", "other"]


def test_a_new_agent_goes_on_with_ending_what_has_to_go() -> None:
    side = Container(name="side", restart_policy="Always", restart_policy_rules=[ALL])
    pod = make_pod(Container(name="main"), side=side)
    found = views(init=ended(0), side=ended(42), main=ended(137, NOW + 1), other=ended(137, NOW + 1))
    assert planned(pod, found | resumed(pod, found)).actions == (StartOver(),)


def test_a_new_agent_does_not_revive_a_pod_that_was_over() -> None:
    side = Container(name="side", restart_policy="Always", restart_policy_rules=[ALL])
    pod = make_pod(Container(name="main"), side=side)
    found = views(init=ended(0), side=ended(42, NOW + 1), main=ended(0), other=ended(0))
    assert planned(pod, found | resumed(pod, found)).ended
