"""A pod's whole life under Hypothesis: whatever happens in whatever order, no rule of a kubelet is broken.

The world is simulated as values: what the plan asks for is done some time, starts fail or succeed, containers
end, probes come to results, volumes fail, the agent and the node are started anew, the pod is deleted.
"""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from providers.base import Exit, ExitReason
from vkubelet.api.containers import (
    Container,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    Probe,
)
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec, PodStatus
from vkubelet.pods.backoff import Backoff
from vkubelet.pods.observed import (
    NOT_PROBED,
    SECOND,
    Attempt,
    ContainerView,
    Observed,
    StopCause,
    VolumesView,
    Waiting,
)
from vkubelet.pods.plan import BackOff, CancelStart, Kill, Mount, Plan, Start, StartOver, plan
from vkubelet.pods.restarts import restarts_after
from vkubelet.pods.starting_over import life, resumed, sources, started_over
from vkubelet.pods.status import pod_status

policies = st.sampled_from(["Always", "OnFailure", "Never"])
probes = st.sampled_from([None, Probe()])
names = st.sampled_from(["init", "side", "late", "main", "other"])
ALL_AGAIN = 42
"""The exit code of a container with the rule that has all of them start again."""
RULE = ContainerRestartRule("RestartAllContainers", ContainerRestartRuleOnExitCodes("In", [ALL_AGAIN]))


def container(name: str, policy: str | None, startup: Probe | None, liveness: Probe | None) -> Container:
    return Container(
        name=name,
        restart_policy=policy,
        startup_probe=startup,
        liveness_probe=liveness,
        readiness_probe=liveness,
    )


class Life(RuleBasedStateMachine):
    """One pod on one node."""

    @initialize(
        policy=policies,
        own=st.one_of(st.none(), policies),
        startup=probes,
        liveness=probes,
        has_init=st.booleans(),
        deadline=st.sampled_from([None, 100]),
        asking=st.sets(st.sampled_from(["init", "side", "other"]), max_size=2),
    )
    def create(
        self,
        policy: str,
        own: str | None,
        startup: Probe | None,
        liveness: Probe | None,
        has_init: bool,
        deadline: int | None,
        asking: set[str],
    ) -> None:
        before = [
            container("init", own if own != "Always" else None, None, None),
            container("side", "Always", startup, liveness),
            container("late", None, None, None),
        ]
        self.pod = Pod(
            metadata=ObjectMeta(name="p", namespace="ns", uid="u"),
            spec=PodSpec(
                init_containers=before if has_init else None,
                containers=[container("main", None, startup, liveness), container("other", own, None, None)],
                restart_policy=policy,
                active_deadline_seconds=deadline,
            ),
        )
        for item in self.pod.spec.all_containers():
            if item.name in asking and item.restart_policy:
                item.restart_policy_rules = [RULE]
        self.now = 1_000_000.0
        self.began = self.now
        self.views = {item.name: ContainerView() for item in self.pod.spec.all_containers()}
        self.volumes = VolumesView(mounted=False)
        self.shown: PodStatus | None = None
        self.made: Plan | None = None
        self.deleted = False
        self.initialized = False
        self.life = 0
        self.finished: set[str] = set()
        self.identifiers = 0
        self.cancelled: set[str] = set()

    def observed(self) -> Observed:
        return Observed(self.views, self.began, self.volumes)

    def change(self, name: str, **changes: object) -> None:
        self.views[name] = dataclasses.replace(self.views[name], **changes)  # type: ignore[arg-type]

    def spec(self, name: str) -> Container:
        return next(item for item in self.pod.spec.all_containers() if item.name == name)

    # What the node does

    @rule()
    def turn(self) -> None:
        """The worker's turn: plan, act, report."""
        made = self.made = plan(self.pod, self.observed(), self.now)
        for action in made.actions:
            if isinstance(action, Start):
                self.start(action)
            elif isinstance(action, Mount):
                self.volumes = VolumesView(mounted=False, mounting=True)
            elif isinstance(action, CancelStart):
                self.cancelled.add(action.container)  # its task ends later
            elif isinstance(action, BackOff):
                self.change(action.container, waiting=action.waiting)
            elif isinstance(action, Kill):
                assert self.views[action.container].running is not None
                self.change(action.container, restart=action.restart)
            elif isinstance(action, StartOver):
                self.start_over()
        self.report(made)

    def start_over(self) -> None:
        assert not any(view.running or view.starting for view in self.views.values()), "nothing runs twice"
        assert not self.deleted
        self.views |= started_over(self.pod, self.views, self.now)
        assert not sources(self.pod, self.views), "it starts over once"
        self.initialized = False
        self.finished.clear()
        self.life += 1

    def start(self, action: Start) -> None:
        name, view = action.container.name, self.views[action.container.name]
        assert not self.deleted, "nothing starts in a deleted pod"
        assert self.volumes.mounted or self.volumes.coming, "nothing starts before its volumes are there"
        assert view.running is None, "no container runs twice"
        assert not view.starting
        assert action.number == (0 if view.latest is None else view.latest.number + 1), "no restart is lost"
        assert name not in self.finished, "what is over is not started again"
        self.check_order(name)
        self.change(name, starting=True, waiting=None)

    def check_order(self, name: str) -> None:
        init = [item.name for item in self.pod.spec.init_containers or ()]
        if name in init and self.initialized:
            assert name == "side", "only sidecars run once the pod is initialized"
        before = init[: init.index(name)] if name in init else init
        if self.initialized:
            return
        for other in before:
            view = self.views[other]
            if other == "side":
                started = self.spec("side").startup_probe is None or view.probed.startup
                assert view.running, "a sidecar runs before what follows it"
                assert started, "and has started"
            else:
                assert view.latest is not None, f"{other} comes before {name}"
                assert not view.latest.past, "it has run again since all started over"
                assert view.latest.exit is not None
                assert view.latest.exit.code == 0

    def report(self, made: Plan) -> None:
        status = pod_status(self.pod, self.observed(), "10.0.0.1", self.now)
        before = self.shown
        if before is not None and before.phase in ("Succeeded", "Failed"):
            assert status.phase == before.phase, "a terminal phase is never left"
        asked = not made.ended and made.stop is None and bool(sources(self.pod, self.views))
        told = [item.status for item in status.conditions or () if item.type == "AllContainersRestarting"]
        assert told in ([], ["True" if asked else "False"])
        if status.phase in ("Succeeded", "Failed"):
            assert made.ended, "a terminal phase is shown once nothing runs and nothing will"
        if made.ended:
            assert status.phase in ("Succeeded", "Failed")
        shown = {
            item.name: item
            for item in (*(status.init_container_statuses or ()), *(status.container_statuses or ()))
        }
        assert shown.keys() == self.views.keys(), "no container is lost"
        for name, view in self.views.items():
            assert (shown[name].state.running is not None) == (
                view.running is not None and not view.starting
            ), name
            assert shown[name].restart_count == (0 if view.latest is None else view.latest.number)
        if before is not None:
            earlier = (*(before.init_container_statuses or ()), *(before.container_statuses or ()))
            for item in earlier:
                assert shown[item.name].restart_count >= item.restart_count, "restart counts do not shrink"
        self.shown = self.pod.status = status

    @rule(turns=st.integers(1, 8))
    def all_goes_well(self, turns: int) -> None:
        """What is under way is done, and the worker turns: else few lives would come to their middle."""
        for _ in range(turns):
            self.progress()

    def progress(self) -> None:
        if self.volumes.mounting:
            self.volumes = VolumesView()
        self.starts_are_given_up()
        for action in self.made.actions if self.made is not None else ():
            if isinstance(action, Kill) and self.views[action.container].running:
                self.end(action.container, 137)
        for name in self.views:
            self.started(name, "runs")
            self.hook_done(name)
            if self.spec(name).startup_probe is not None:
                self.probed(name, "startup", success=True)
            if name in ("init", "late") and self.views[name].running:
                self.end(name, 0)
        self.turn()

    # What happens

    @precondition(lambda self: self.volumes.mounting)
    @rule()
    def coming(self) -> None:
        self.volumes = VolumesView(mounted=False, mounting=True, coming=True)

    @precondition(lambda self: self.volumes.mounting)
    @rule(success=st.booleans())
    def mounted(self, success: bool) -> None:
        if success:
            self.volumes = VolumesView()
            return
        self.volumes = VolumesView(mounted=False, retry_at=self.now + 1)
        # What was made ready for them is given up.
        self.cancelled |= {name for name, view in self.views.items() if view.starting and not view.running}

    @rule(name=names, outcome=st.sampled_from(["runs", "runs", "runs", "fails"]))
    def started(self, name: str, outcome: str) -> None:
        view = self.views.get(name)
        if view is None or not view.starting or view.running is not None:
            return
        if outcome == "runs" and not self.volumes.mounted:
            return
        if outcome == "fails":
            waiting = Waiting("ErrImagePull", "no", self.now, self.now + 10)
            self.change(name, starting=False, waiting=waiting)
            return
        self.identifiers += 1
        number = 0 if view.latest is None else view.latest.number + 1
        latest = Attempt(f"id{self.identifiers}", number, "img", int(self.now * SECOND), life=self.life)
        self.change(name, latest=latest, previous=view.latest, probed=NOT_PROBED, restart=False)
        self.initialized |= name in ("main", "other")

    @precondition(lambda self: self.cancelled)
    @rule()
    def starts_are_given_up(self) -> None:
        for name in self.cancelled:
            self.change(name, starting=False)
        self.cancelled.clear()

    @rule(name=names)
    def hook_done(self, name: str) -> None:
        view = self.views.get(name)
        if view is not None and view.starting and view.latest is not None and view.latest.exit is None:
            self.change(name, starting=False)

    @precondition(lambda self: any(view.running for view in self.views.values()))
    @rule(
        which=st.integers(0, 4),
        code=st.sampled_from([0, 0, 1, 137, ALL_AGAIN, ALL_AGAIN]),
        crash=st.booleans(),
    )
    def ends(self, which: int, code: int, crash: bool) -> None:
        running = [name for name, view in self.views.items() if view.running and not view.starting]
        if not running:
            return
        self.end(running[which % len(running)], code, crash=crash)

    @precondition(lambda self: self.asking())
    @rule()
    def asks(self) -> None:
        """A container ends as the rule says that has all of them start again."""
        self.end(self.asking()[0], ALL_AGAIN)

    def asking(self) -> list[str]:
        return [
            name
            for name, view in self.views.items()
            if view.running and not view.starting and self.spec(name).restart_policy_rules
        ]

    def end(self, name: str, code: int, *, crash: bool = False) -> None:
        view = self.views[name]
        assert view.running is not None
        end = Exit(code, ExitReason.ERROR if code else ExitReason.COMPLETED, "", 1, int(self.now * SECOND))
        backoff = Backoff(10.0, self.now) if crash else view.backoff
        self.change(name, latest=dataclasses.replace(view.running, exit=end), backoff=backoff)
        wanted = view.restart or restarts_after(self.pod, self.spec(name), code)
        if not wanted:
            self.finished.add(name)

    @rule(name=names, kind=st.sampled_from(["startup", "readiness", "liveness"]), success=st.booleans())
    def probed(self, name: str, kind: str, success: bool) -> None:
        view = self.views.get(name)
        if view is not None and view.running is not None and not view.starting:
            self.change(name, probed=dataclasses.replace(view.probed, **{kind: success}))

    @rule(seconds=st.sampled_from([0.5, 5.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def agent_restarts(self) -> None:
        """A new agent knows what runs and ran, and nothing of what was under way."""
        self.volumes = VolumesView(mounted=False)
        self.cancelled.clear()
        for name, view in self.views.items():
            self.views[name] = dataclasses.replace(
                view, starting=False, waiting=None, restart=False, latest=_recorded(view.latest)
            )
        again = resumed(self.pod, self.views)
        self.views |= again
        self.finished -= {
            name for name, view in again.items() if view.latest is not None and view.latest.past
        }
        self.life = life(self.views)
        own = [self.views[name].latest for name in ("main", "other")]
        self.initialized = any(latest is not None and not latest.past for latest in own)

    @precondition(lambda self: not self.deleted)
    @rule(sure=st.integers(0, 9))
    def delete(self, sure: int) -> None:
        if sure < 9:
            return  # a life is long before its end
        self.deleted = True
        self.pod.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"

    @invariant()
    def is_not_forgotten(self) -> None:
        """There is something to do, to wait for, or the pod is over."""
        if not hasattr(self, "pod"):
            return
        made = plan(self.pod, self.observed(), self.now)
        busy = self.volumes.mounting or any(view.running or view.starting for view in self.views.values())
        assert made.ended or made.actions or made.wake_at is not None or busy
        if self.deleted:
            assert made.stop is StopCause.DELETED


def _recorded(attempt: Attempt | None) -> Attempt | None:
    """What labels and files tell of it."""
    return None if attempt is None else dataclasses.replace(attempt, past=False, reset=False)


TestLife = Life.TestCase
