"""When probes are made and what is told of them, over virtual time."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import virtual_time
from set_clock import SetClock

from providers.base import ContainerState
from vkubelet import telemetry
from vkubelet.api.containers import Container, Probe
from vkubelet.api.objects import Pod
from vkubelet.pods.probes.checks import Check
from vkubelet.pods.probes.outcome import Outcome, ProbeError, Result
from vkubelet.pods.probes.report import Report
from vkubelet.pods.probes.runner import ProbeRunner
from vkubelet.pods.probes.state import ProbeKind
from vkubelet.pods.running import RunningContainer

GOOD, BAD = Outcome(Result.SUCCESS, "fine"), Outcome(Result.FAILURE, "bad")
Answer = Callable[[float], Outcome | Awaitable[Outcome]]
"""What a check comes to, at seconds after the start."""


class Node:
    """A runner with checks that answer as a test says, and all that it tells."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.made: list[tuple[str, float]] = []
        self.told: list[tuple[str, bool, float]] = []
        self.answers: dict[str, Answer] = {}
        self.end = asyncio.Event()
        self.runner = ProbeRunner(cast("Any", self), Report(cast("Any", self)))
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._task = asyncio.create_task(self.runner.run())

    @property
    def now(self) -> float:
        return round(self._loop.time() - self._start, 1)

    def event(self, ref: object, kind: str, reason: str, message: str) -> None:
        self.events.append((reason, message))

    def prepare(self, pod: Pod, container: Container, running: RunningContainer, probe: Probe) -> Check:
        kind = next(kind for kind in ProbeKind if getattr(container, f"{kind.value}_probe") is probe)

        async def check() -> Outcome:
            self.made.append((kind.value, self.now))
            answer = self.answers[kind.value](self.now)
            return answer if isinstance(answer, Outcome) else await answer

        return check

    def start(self, *, status: dict[str, Any] | None = None, ago: float = 0.0, **probes: Any) -> str:
        """Begin to probe a container whose probes all have an exec; gives its id."""
        fields = {f"{kind}Probe": {"exec": {"command": ["x"]}, **probe} for kind, probe in probes.items()}
        document = {
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [{"name": "c", **fields}]},
            "status": {
                "containerStatuses": [{"name": "c", "containerID": "wasm://id", **status}] if status else []
            },
        }
        pod = msgspec.convert(document, Pod)
        (container,) = pod.spec.containers or ()
        state = ContainerState("id", {}, Path("/"), 1, int((time.time() - ago) * 1e9))
        running = RunningContainer(container, state, 0, self.end, lambda: Path("/"))

        def on_result(kind: ProbeKind, success: bool) -> None:
            self.told.append((kind.value, success, self.now))

        self.runner.start(pod, container, running, on_result)
        return state.id

    def times(self, kind: str) -> list[float]:
        return [at for made, at in self.made if made == kind]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.runner.forget("u")


def in_time(work: Callable[[Node], Awaitable[None]]) -> None:
    async def run() -> None:
        node = Node()
        await asyncio.sleep(0)
        try:
            await work(node)
        finally:
            await node.close()

    virtual_time.run(run())


def always(outcome: Outcome) -> Answer:
    return lambda _: outcome


def test_a_liveness_probe_is_made_each_period_and_ends_with_its_verdict() -> None:
    async def work(node: Node) -> None:
        node.answers["liveness"] = always(BAD)
        node.start(liveness={"periodSeconds": 10, "failureThreshold": 3})
        await asyncio.sleep(100)
        assert node.times("liveness") == [10.0, 20.0, 30.0]
        assert node.told == [("liveness", False, 30.0)]
        assert node.events == [("Unhealthy", "Liveness probe failed: bad")] * 3

    in_time(work)


def test_a_success_of_a_liveness_probe_is_no_news() -> None:
    async def work(node: Node) -> None:
        node.answers["liveness"] = always(GOOD)
        node.start(liveness={"periodSeconds": 5, "initialDelaySeconds": 12})
        await asyncio.sleep(26)
        assert node.times("liveness") == [15.0, 20.0, 25.0]
        assert (node.told, node.events) == ([], [])

    in_time(work)


def test_readiness_is_looked_for_at_once_and_quietly() -> None:
    async def work(node: Node) -> None:
        node.answers["readiness"] = lambda at: GOOD if at >= 1 else BAD
        node.start(readiness={"periodSeconds": 10})
        await asyncio.sleep(25)
        assert node.times("readiness") == [0.0, 1.0, 10.0, 20.0]
        assert node.told == [("readiness", True, 1.0)]
        assert node.events == []

    in_time(work)


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_a_container_is_as_new_whatever_the_clock_was_set_to(
    monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    clock = SetClock(monkeypatch)

    async def work(node: Node) -> None:
        clock.ahead = ahead
        node.answers["readiness"] = always(GOOD)
        node.start(readiness={"periodSeconds": 10, "initialDelaySeconds": 3})
        await asyncio.sleep(5)
        assert node.told == [("readiness", True, 3.0)]

    in_time(work)


def test_an_early_look_waits_for_the_initial_delay_and_never_counts_as_a_failure() -> None:
    async def work(node: Node) -> None:
        node.answers["startup"] = lambda at: GOOD if at > 29 else BAD
        node.start(startup={"periodSeconds": 10, "initialDelaySeconds": 3, "failureThreshold": 3})
        await asyncio.sleep(40)
        assert node.times("startup") == [3.0, 4.0, 10.0, 20.0, 30.0]
        assert node.told == [("startup", True, 30.0)]
        assert len(node.events) == 2

    in_time(work)


def test_a_failed_startup_is_final() -> None:
    async def work(node: Node) -> None:
        node.answers["startup"] = always(BAD)
        node.start(startup={"periodSeconds": 2, "failureThreshold": 2}, liveness={"periodSeconds": 1})
        await asyncio.sleep(20)
        assert node.told == [("startup", False, 4.0)]
        assert node.times("liveness") == []

    in_time(work)


def test_readiness_follows_startup_at_once_and_liveness_at_its_tick() -> None:
    async def work(node: Node) -> None:
        node.answers |= {
            "startup": lambda at: GOOD if at >= 3 else BAD,
            "readiness": always(GOOD),
            "liveness": always(GOOD),
        }
        node.start(
            startup={"periodSeconds": 3}, readiness={"periodSeconds": 10}, liveness={"periodSeconds": 10}
        )
        await asyncio.sleep(24)
        assert node.told[0] == ("startup", True, 3.0)
        assert node.times("readiness") == [3.0, 13.0, 23.0]
        assert node.times("liveness") == [10.0, 20.0]

    in_time(work)


def test_a_slow_probe_is_never_made_twice_at_once_and_makes_up_for_one_tick() -> None:
    async def slow() -> Outcome:
        await asyncio.sleep(25)
        return GOOD

    async def work(node: Node) -> None:
        node.answers["liveness"] = lambda _: slow()
        node.start(liveness={"periodSeconds": 10, "timeoutSeconds": 30})
        await asyncio.sleep(70)
        assert node.times("liveness") == [10.0, 35.0, 60.0]

    in_time(work)


def test_what_cannot_be_made_is_tried_three_times_told_and_counts_for_nothing() -> None:
    async def broken() -> Outcome:
        raise ProbeError("no such command")

    async def work(node: Node) -> None:
        node.answers["liveness"] = lambda _: broken()
        node.start(liveness={"periodSeconds": 10, "failureThreshold": 1})
        await asyncio.sleep(25)
        assert node.times("liveness") == [10.0] * 3 + [20.0] * 3
        message = "Liveness probe errored and resulted in unknown state: no such command"
        assert node.events == [("Unhealthy", message)] * 2
        assert node.told == []

    in_time(work)


def test_what_this_machine_lacks_is_no_failure_of_who_is_probed() -> None:
    async def short() -> Outcome:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/dev/null")

    async def work(node: Node) -> None:
        node.answers["liveness"] = lambda _: short()
        node.start(liveness={"periodSeconds": 10, "failureThreshold": 1})
        await asyncio.sleep(15)
        message = "Liveness probe errored and resulted in unknown state: Too many open files: /dev/null"
        assert node.events == [("Unhealthy", message)]
        assert node.told == []

    in_time(work)


def test_a_warning_is_a_success_that_is_told() -> None:
    async def work(node: Node) -> None:
        node.answers["readiness"] = always(Outcome(Result.WARNING, "elsewhere"))
        node.start(readiness={"periodSeconds": 10})
        await asyncio.sleep(5)
        assert node.told == [("readiness", True, 0.0)]
        assert node.events == [("ProbeWarning", "Readiness probe warning: elsewhere")]

    in_time(work)


def test_a_pod_that_ends_is_restarted_by_no_probe_but_may_become_not_ready() -> None:
    async def work(node: Node) -> None:
        node.answers |= {"liveness": always(BAD), "readiness": lambda at: GOOD if at < 15 else BAD}
        identifier = node.start(
            liveness={"periodSeconds": 10, "failureThreshold": 2},
            readiness={"periodSeconds": 10, "failureThreshold": 1},
        )
        await asyncio.sleep(15)
        node.runner.terminate(identifier)
        await asyncio.sleep(30)
        assert node.times("liveness") == [10.0]
        assert node.told == [("readiness", True, 0.0), ("readiness", False, 20.0)]

    in_time(work)


@pytest.mark.parametrize("how", ["stop", "end", "terminate"])
def test_an_attempt_that_is_under_way_is_given_up(how: str) -> None:
    ended = []

    async def slow() -> Outcome:
        try:
            await asyncio.sleep(8)
        finally:
            ended.append(asyncio.get_running_loop().time())
        return BAD

    async def work(node: Node) -> None:
        node.answers["liveness"] = lambda _: slow()
        identifier = node.start(liveness={"periodSeconds": 10, "failureThreshold": 1})
        await asyncio.sleep(12)
        if how == "end":
            node.end.set()
        else:
            getattr(node.runner, how)(identifier)
        await asyncio.sleep(60)
        assert len(ended) == 1
        assert (node.times("liveness"), node.told, node.events) == ([10.0], [], [])

    in_time(work)


def test_a_container_of_an_earlier_agent_keeps_what_its_status_says() -> None:
    async def work(node: Node) -> None:
        node.answers |= {"startup": always(BAD), "readiness": always(GOOD)}
        node.start(
            status={"started": True, "ready": True},
            ago=60,
            startup={"periodSeconds": 10},
            readiness={"periodSeconds": 10},
        )
        await asyncio.sleep(25)
        assert node.times("startup") == []
        first = node.times("readiness")[0]
        assert 0 <= first <= 10
        assert node.told == [("readiness", True, first)]

    in_time(work)


def test_a_defect_in_a_check_costs_one_attempt() -> None:
    def defect(at: float) -> Outcome:
        if at < 15:
            raise ZeroDivisionError
        return BAD

    async def work(node: Node) -> None:
        node.answers["liveness"] = defect
        node.start(liveness={"periodSeconds": 10, "failureThreshold": 1})
        await asyncio.sleep(25)
        assert node.told == [("liveness", False, 20.0)]

    in_time(work)


def test_probes_are_counted_until_their_pod_is_forgotten() -> None:
    def shown() -> str:
        samples = [sample for family in telemetry.probe_families() for sample in family.samples]
        return "\n".join(
            f"{sample.labels} {sample.value}" for sample in samples if 'pod="p"' in sample.labels
        )

    async def work(node: Node) -> None:
        node.answers |= {"readiness": always(GOOD), "liveness": always(BAD)}
        node.start(readiness={"periodSeconds": 10}, liveness={"periodSeconds": 10})
        await asyncio.sleep(11)
        assert 'probe_type="Readiness",result="successful" 2' in shown()
        assert 'probe_type="Liveness",result="failed" 1' in shown()
        node.runner.forget("u")
        assert shown() == ""

    in_time(work)
