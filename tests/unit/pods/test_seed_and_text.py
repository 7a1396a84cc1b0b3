"""What carries over from a pod's past, the texts, back-off and admission."""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Capabilities, ContainerState, Exit, ExitReason, Identity
from vkubelet.api.containers import Container
from vkubelet.api.objects import Pod
from vkubelet.api.times import rfc3339
from vkubelet.pods.admission import admit
from vkubelet.pods.backoff import MAXIMUM, Backoff, go_duration
from vkubelet.pods.records import ForeignContainerError, labels, record
from vkubelet.pods.seed import seed
from vkubelet.pods.text import quantity

NOW = 1_767_225_600.0


def decode(spec: dict[str, Any], status: dict[str, Any] | None = None) -> Pod:
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"containers": [{"name": "a", "image": "x"}], **spec},
        "status": status or {},
    }
    return msgspec.convert(document, Pod)


HOST = Capabilities(
    identities=True, memory=True, cpu_limit=True, cpu_request=True, processes=True, missing=""
)


def state(pod: Pod, number: int, end: Exit | None = None) -> ContainerState:
    container = Container(name="a")
    found = labels(pod, container, number, 0, "img@sha256:1", Backoff(20.0, NOW), Identity(7, 8, (9,)))
    return ContainerState(f"id{number}", found, Path("/log"), 7, 1, end)


def test_records_carry_number_backoff_and_past() -> None:
    pod = decode({})
    end = Exit(1, ExitReason.ERROR, "", 1, 2)
    views = seed(pod, [record(state(pod, 3)), record(state(pod, 2, end))], NOW)
    view = views["a"]
    assert view.running is not None
    assert view.running.number == 3
    assert view.previous is not None
    assert view.previous.number == 2
    assert view.backoff == Backoff(20.0, NOW)
    assert view.running.user == Identity(7, 8, (9,))


def test_a_container_without_our_labels_is_foreign() -> None:
    with pytest.raises(ForeignContainerError, match="label"):
        record(ContainerState("id", {"a": "b"}, Path("/log"), 1, 1))


def test_without_records_the_reported_status_is_the_past() -> None:
    running = {"name": "a", "restartCount": 2, "containerID": "wasmtime://old", "state": {"running": {}}}
    view = seed(decode({}, {"containerStatuses": [running]}), [], NOW)["a"]
    assert view.latest is not None
    assert (view.latest.id, view.latest.number) == ("old", 2)
    assert view.latest.exit is not None
    assert view.latest.exit.code == 137

    done = {
        "name": "a",
        "restartCount": 1,
        "state": {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": rfc3339(NOW)}},
    }
    view = seed(decode({}, {"containerStatuses": [done]}), [], NOW)["a"]
    assert view.latest is not None
    assert view.latest.exit is not None
    assert view.latest.exit.reason is ExitReason.COMPLETED


@given(st.lists(st.tuples(st.floats(0, 900), st.floats(0, 900)), max_size=30))
def test_backoff_never_exceeds_its_maximum_and_never_waits_before_the_first(
    steps: list[tuple[float, float]],
) -> None:
    backoff, now = Backoff(), NOW
    assert backoff.retry_at(now) == now
    for ran, _ in steps:
        event = now + ran
        retry = backoff.retry_at(event)
        assert event <= retry <= event + MAXIMUM
        now = retry
        after = backoff.next(event, now)
        assert after.delay in (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
        backoff = after


@pytest.mark.parametrize(
    ("delay", "pause", "wait"),
    [(0.0, 0.0, 0.0), (0.0, 7.0, 7.0), (10.0, 7.0, 10.0), (10.0, 77.0, 77.0), (10.0, 1e9, MAXIMUM)],
)
def test_backoff_keeps_a_pause_that_was_asked_for(delay: float, pause: float, wait: float) -> None:
    assert Backoff(delay, NOW).retry_at(NOW, pause) == NOW + wait


def test_backoff_doubles_and_starts_over_after_a_long_run() -> None:
    backoff, now, delays = Backoff(), NOW, []
    for _ in range(7):
        backoff = backoff.next(now, now)
        delays.append(backoff.delay)
        now += backoff.delay
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    assert backoff.retry_at(now + 1000) == now + 1000
    assert backoff.next(now + 1000, now + 1000).delay == 10


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (10, "10s"), (1.5, "1.5s"), (160, "2m40s"), (300, "5m0s"), (3661, "1h1m1s")],
)
def test_go_duration(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("128Mi", 128 << 20), ("1G", 10**9), ("250m", "0.25"), (2, 2), ("1e3", 1000), ("1E", 10**18)],
)
def test_quantity(text: str | int, value: str | int) -> None:
    assert quantity(text) == decimal.Decimal(value)


@pytest.mark.parametrize("text", ["", "x", "1Xi", "Mi", "1 0", "inf", "nan"])
def test_what_is_no_quantity_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="no resource quantity"):
        quantity(text)


TOKEN = {"name": "kube-api-access-abcde", "projected": {"sources": []}}


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (
            {"initContainers": [{"name": "i", "securityContext": {"privileged": True}}]},
            "spec.initContainers{i}.securityContext.privileged",
        ),
        ({"volumes": [{"name": "v", "gitRepo": {}}]}, "spec.volumes[v].gitRepo"),
        ({"hostPID": True}, "spec.hostPID"),
        ({"runtimeClassName": "spin"}, "spec.runtimeClassName"),
        (
            {"containers": [{"name": "a", "livenessProbe": {"grpc": {"port": 1, "mode": "TLS"}}}]},
            "spec.containers{a}.livenessProbe.grpc.mode: TLS",
        ),
        (
            {"containers": [{"name": "a", "startupProbe": {"httpGet": {"port": 1, "protocol": "HTTP2"}}}]},
            "spec.containers{a}.startupProbe.httpGet.protocol: HTTP2",
        ),
        (
            {"containers": [{"name": "a", "securityContext": {"privileged": True}}]},
            "spec.containers{a}.securityContext.privileged",
        ),
        ({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 1}]}]}, "hostPort"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_its_field(spec: dict[str, Any], named: str) -> None:
    rejection = admit(decode(spec), HOST, Identity(0, 0))
    assert rejection is not None
    assert rejection.reason == "UnsupportedPodSpec"
    assert named in rejection.message


def test_an_ordinary_hardened_pod_is_taken() -> None:
    pod = decode(
        {
            "volumes": [TOKEN],
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "a",
                    "ports": [{"containerPort": 80}],
                    "volumeMounts": [{"name": "kube-api-access-abcde", "mountPath": "/var/run/secrets"}],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        }
    )
    assert admit(pod, HOST, Identity(0, 0)) is None


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{"name": "a", "stdin": True, "stdinOnce": True, "tty": True}]},
        {
            "hostNetwork": True,
            "containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 80}]}],
        },
    ],
)
def test_terminals_and_the_hosts_network_are_taken(spec: dict[str, Any]) -> None:
    assert admit(decode(spec), HOST, Identity(0, 0)) is None


@pytest.mark.parametrize(("suffix", "factor"), [("Ki", 2**10), ("Mi", 2**20), ("Gi", 2**30), ("Ti", 2**40)])
def test_every_binary_suffix_is_read(suffix: str, factor: int) -> None:
    assert quantity(f"612{suffix}") == 612 * factor
