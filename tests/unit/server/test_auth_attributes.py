"""What each request to the kubelet API asks permission for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.server.auth_attributes import subresources, verb

PODS, HEALTH, CONFIG = ("pods", "proxy"), ("healthz", "proxy"), ("configz", "proxy")
STATS, METRICS, LOG, PROXY = ("stats",), ("metrics",), ("log",), ("proxy",)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("GET", "get"),
        ("POST", "create"),
        ("PUT", "update"),
        ("PATCH", "patch"),
        ("DELETE", "delete"),
        ("HEAD", ""),
        ("OPTIONS", ""),
        ("get", ""),
    ],
)
def test_verbs(method, expected):
    assert verb(method) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/pods", PODS),
        ("/pods/", PODS),
        ("/allocatedPods", PODS),
        ("/allocatedPods/default/web", PODS),
        ("/runningpods", PODS),
        ("/runningpods/", PODS),
        ("/healthz", HEALTH),
        ("/healthz/", HEALTH),
        ("/healthz/ping", HEALTH),
        ("/healthz/log", HEALTH),
        ("/healthz/syncloop", HEALTH),
        ("/configz", CONFIG),
        ("/flagz", ("configz",)),
        ("/statusz", ("statusz",)),
        ("/stats", STATS),
        ("/stats/", STATS),
        ("/stats/summary", STATS),
        ("/metrics", METRICS),
        ("/metrics/cadvisor", METRICS),
        ("/metrics/resource", METRICS),
        ("/metrics/probes", METRICS),
        ("/metrics/slis", METRICS),
        ("/logs", LOG),
        ("/logs/", LOG),
        ("/logs/messages", LOG),
        ("/logs/pods/a/0.log", LOG),
        ("/checkpoint/default/web/main", ("checkpoint",)),
        ("/run/default/web/main", PROXY),
        ("/exec/default/web/main", PROXY),
        ("/exec/default/web/uid/main", PROXY),
        ("/attach/default/web/main", PROXY),
        ("/portForward/default/web", PROXY),
        ("/containerLogs/default/web/main", PROXY),
        ("/debug/pprof/profile", PROXY),
        ("/debug/flags/v", PROXY),
        ("/", PROXY),
        ("", PROXY),
        ("/nothing", PROXY),
        ("/podsx", PROXY),
        ("/Pods", PROXY),
        ("/runningPods", PROXY),
        ("/metricsx", PROXY),
        ("/logsx/a", PROXY),
        ("//metrics", PROXY),
        ("metrics", PROXY),
        ("/exec/metrics", PROXY),
    ],
)
def test_paths(path, expected):
    assert subresources(path) == expected


@given(st.text())
def test_whatever_runs_a_command_asks_for_the_whole_proxy(rest):
    for route in ("exec", "run", "attach", "portForward", "containerLogs"):
        assert subresources(f"/{route}/{rest}") == PROXY
