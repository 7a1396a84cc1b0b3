"""What the metrics endpoints show of a snapshot, read back with Prometheus' own parser."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable

import pytest
from prometheus_client.parser import text_string_to_metric_families
from snapshots import AT, MIB, container, machine, pod_entry, snapshot, usage

from providers.disk import DiskUsage
from vkubelet.meters import Family
from vkubelet.server.metrics.cadvisor import cadvisor_families
from vkubelet.server.metrics.exposition import Format, render
from vkubelet.server.metrics.http import path_bucket
from vkubelet.server.metrics.kubelet import inventory_families
from vkubelet.server.metrics.process import process_families
from vkubelet.server.metrics.resource import resource_families
from vkubelet.server.metrics.snapshot import PodSnapshot

Labels = dict[str, str]


def read(families: Iterable[Family]) -> dict[str, list[tuple[Labels, float, float | None]]]:
    """The samples by their names."""
    found: dict[str, list[tuple[Labels, float, float | None]]] = {}
    for family in text_string_to_metric_families(render(families, Format.TEXT).decode()):
        for sample in family.samples:
            stamp = None if sample.timestamp is None else float(sample.timestamp)
            found.setdefault(sample.name, []).append((sample.labels, sample.value, stamp))
    return found


def test_resource_metrics_to_the_letter() -> None:
    """The text that metrics-server's decoder takes apart by itself."""
    assert render(resource_families(snapshot(pod_entry("web", container()))), Format.TEXT).decode() == (
        "# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in"
        " core-seconds\n"
        "# TYPE container_cpu_usage_seconds_total counter\n"
        'container_cpu_usage_seconds_total{container="main",namespace="default",pod="web"} 1.5'
        " 1700000100250\n"
        "# HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes\n"
        "# TYPE container_memory_working_set_bytes gauge\n"
        'container_memory_working_set_bytes{container="main",namespace="default",pod="web"} 2097152'
        " 1700000100250\n"
        "# HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in"
        " seconds\n"
        "# TYPE container_start_time_seconds gauge\n"
        'container_start_time_seconds{container="main",namespace="default",pod="web"} 1700000000.5\n'
        "# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in"
        " core-seconds\n"
        "# TYPE node_cpu_usage_seconds_total counter\n"
        "node_cpu_usage_seconds_total 90.0 1700000100250\n"
        "# HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes\n"
        "# TYPE node_memory_working_set_bytes gauge\n"
        "node_memory_working_set_bytes 419430400 1700000100250\n"
        "# HELP pod_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the pod in"
        " core-seconds\n"
        "# TYPE pod_cpu_usage_seconds_total counter\n"
        'pod_cpu_usage_seconds_total{namespace="default",pod="web"} 1.5 1700000100250\n'
        "# HELP pod_memory_working_set_bytes [STABLE] Current working set of the pod in bytes\n"
        "# TYPE pod_memory_working_set_bytes gauge\n"
        'pod_memory_working_set_bytes{namespace="default",pod="web"} 2097152 1700000100250\n'
        "# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0"
        " otherwise\n"
        "# TYPE resource_scrape_error gauge\n"
        "resource_scrape_error 0\n"
    )


def test_resource_metrics_of_several() -> None:
    seen = snapshot(
        pod_entry("web", container("main"), container("side"), container("gone", running=False)),
        pod_entry("over", container(running=False)),
        machine=machine(swap_capacity=100, swap_used=40),
    )
    found = read(resource_families(seen))
    names = [labels["container"] for labels, _, _ in found["container_cpu_usage_seconds_total"]]
    assert names == ["main", "side"]
    assert found["pod_cpu_usage_seconds_total"] == [({"namespace": "default", "pod": "web"}, 3.0, AT)]
    assert found["node_swap_usage_bytes"] == [({}, 40, AT)]


def test_resource_metrics_of_a_look_that_failed() -> None:
    assert read(resource_families(None)) == {"resource_scrape_error": [({}, 1, None)]}


IDENTITY = {
    "container": "main",
    "id": f"/kubepods/podweb-uid/{'m' * 64}",
    "image": "registry.test/main@sha256:1",
    "name": "m" * 64,
    "namespace": "default",
    "pod": "web",
}
POD = {"id": "/kubepods/podweb-uid", "namespace": "default", "pod": "web"}


@pytest.mark.parametrize(
    ("name", "value", "more"),
    [
        ("container_cpu_usage_seconds_total", 1.5, {"cpu": "total"}),
        ("container_fs_usage_bytes", 8192, {}),
        ("container_fs_limit_bytes", 2000, {}),
        ("container_last_seen", int(AT), {}),
        ("container_memory_failures_total", 70, {"failure_type": "pgfault", "scope": "container"}),
        ("container_memory_failures_total", 2, {"failure_type": "pgmajfault", "scope": "container"}),
        ("container_memory_rss", MIB, {}),
        ("container_memory_usage_bytes", 3 * MIB, {}),
        ("container_memory_working_set_bytes", 2 * MIB, {}),
        ("container_processes", 1, {}),
        ("container_threads", 3, {}),
    ],
)
def test_a_container_as_cadvisor_shows_it(name: str, value: float, more: Labels) -> None:
    found = read(cadvisor_families(snapshot(pod_entry("web", container()))))
    assert (IDENTITY | more, value, AT) in found[name]


def test_a_containers_spec_as_cadvisor_shows_it() -> None:
    limited = container(limits={"cpu": "500m", "memory": "64Mi"}, requests={"cpu": "250m"})
    found = read(cadvisor_families(snapshot(pod_entry("web", limited))))
    values = {name: samples[0][1] for name, samples in found.items() if name.startswith("container_spec")}
    assert values == {
        "container_spec_cpu_period": 100_000,
        "container_spec_cpu_quota": 50_000,
        "container_spec_cpu_shares": 256,
        "container_spec_memory_limit_bytes": 64 * MIB,
    }


@pytest.mark.parametrize("broken", [{"cpu": "much", "memory": "1Qi"}, None])
def test_a_container_without_limits_has_no_quota(broken: dict[str, str | int] | None) -> None:
    found = read(cadvisor_families(snapshot(pod_entry("web", container(limits=broken)))))
    assert "container_spec_cpu_quota" not in found
    assert found["container_spec_cpu_shares"] == [(IDENTITY, 2, None)]
    assert found["container_spec_memory_limit_bytes"] == [(IDENTITY, 0, None)]


def test_pods_and_the_machine_as_cadvisor_shows_them() -> None:
    found = read(cadvisor_families(snapshot(pod_entry("web", container("main"), container("side")))))
    cpu = found["container_cpu_usage_seconds_total"]
    assert (POD | {"cpu": "total"}, 3.0, AT) in cpu
    assert ({"id": "/", "cpu": "total"}, 90.0, AT) in cpu
    assert (POD, 4 * MIB, AT) in found["container_memory_working_set_bytes"]
    assert ({"id": "/"}, 400 * MIB, AT) in found["container_memory_working_set_bytes"]
    assert found["machine_cpu_cores"] == [({}, 2, AT)]
    assert found["machine_memory_bytes"] == [({}, 1000 * MIB, AT)]
    assert found["container_scrape_error"] == [({}, 0, None)]


def test_a_disk_that_was_not_looked_at_has_no_usage() -> None:
    entry = pod_entry("web", container())
    unknown = (PodSnapshot(entry, ((entry.containers[0], usage(disk=None, inodes=None)),), 0),)
    found = read(cadvisor_families(dataclasses.replace(snapshot(entry), pods=unknown)))
    assert "container_fs_usage_bytes" not in found


def test_cadvisor_metrics_of_a_look_that_failed() -> None:
    assert read(cadvisor_families(None)) == {
        "container_scrape_error": [({}, 1, None)],
        "machine_scrape_error": [({}, 1, None)],
    }


def test_what_is_on_the_node() -> None:
    entries = [
        pod_entry("web", container("main"), container("side", running=False)),
        pod_entry("over", container(running=False), phase="Succeeded"),
        pod_entry("new", phase="Pending"),
    ]
    found = read(inventory_families("here", entries, {("web-uid", "main"): DiskUsage(4096, 2)}))
    assert found["kubelet_running_pods"] == [({}, 1, None)]
    assert found["kubelet_running_containers"] == [
        ({"container_state": "exited"}, 2, None),
        ({"container_state": "running"}, 1, None),
    ]
    assert found["kubelet_desired_pods"] == [({"static": ""}, 3, None), ({"static": "true"}, 0, None)]
    assert found["kubelet_active_pods"] == [({"static": ""}, 2, None), ({"static": "true"}, 0, None)]
    assert found["kubelet_mirror_pods"] == [({}, 0, None)]
    assert found["kubelet_node_name"] == [({"node": "here"}, 1, None)]
    labels = {"container": "main", "namespace": "default", "pod": "web", "uid": "web-uid"}
    assert found["kubelet_container_log_filesystem_used_bytes"] == [(labels, 4096, None)]


def test_this_process() -> None:
    found = {name: samples[0][1] for name, samples in read(process_families()).items()}
    assert 0 < found["process_cpu_seconds_total"] <= time.process_time()
    assert MIB < found["process_resident_memory_bytes"] < found["process_virtual_memory_bytes"]
    assert 0 < found["process_open_fds"] <= found["process_max_fds"]
    # To the boot's whole second, which is what the kernel tells.
    assert time.time() - 24 * 3600 < found["process_start_time_seconds"] < time.time() + 1
    descriptor = os.open("/", os.O_RDONLY)
    again = {name: samples[0][1] for name, samples in read(process_families()).items()}
    os.close(descriptor)
    assert again["process_open_fds"] == found["process_open_fds"] + 1


@pytest.mark.parametrize(
    ("path", "bucket"),
    [
        ("/", "other"),
        ("/pods", "pods"),
        ("/pods/", "pods"),
        ("/metrics", "metrics"),
        ("/metrics/cadvisor", "metrics/cadvisor"),
        ("/metrics/unheard/of", "other"),
        ("/exec/default/web/main", "exec"),
        ("/containerLogs/default/web/main", "containerLogs"),
        ("/healthz/ping", "healthz"),
        ("/stats/summary", "stats"),
        ("/whatever/a/client/thinks/of", "other"),
    ],
)
def test_paths_are_counted_by_few_names(path: str, bucket: str) -> None:
    assert path_bucket(path) == bucket
