"""Statistics and metrics of a node that runs real guests, read as the API server and Prometheus read them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from guests import push_bytes, push_guest
from prometheus_client.parser import text_string_to_metric_families
from waiting import eventually
from wasmtime import wat2wasm

pytestmark = pytest.mark.integration

TOLERATION = {"key": "kubernetes.io/arch", "operator": "Equal", "value": "wasm32-wasi"}
BUSY = """(module (memory (export "memory") 20) (func (export "_start")
  (memory.fill (i32.const 0) (i32.const 1) (i32.const 1310720)) (loop (br 0))))"""
MIB = 1024 * 1024

Get = Callable[..., str]
Samples = dict[str, list[tuple[dict[str, str], float, float | None]]]


@pytest.fixture
def namespace(cluster: Any) -> Iterator[str]:
    name = f"metrics-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def pods(cluster: Any, node: Any, namespace: str) -> str:
    """Two pods in a namespace of the test's own: `busy` computes, `idle` sleeps. Gives the namespace."""
    busy = f"{cluster.registry}/computing-in-memory:v1"
    push_bytes(cluster.registry, "computing-in-memory", bytes(wat2wasm(BUSY)))
    sleep = push_guest(cluster.registry, "sleep")
    resources = {"limits": {"memory": "64Mi", "cpu": "500m"}, "requests": {"cpu": "10m"}}
    for name, image in (("busy", busy), ("idle", sleep)):
        container = {"name": "main", "image": image, "resources": resources}
        container |= {"args": ["1000"]} if name == "idle" else {}
        spec = {
            "containers": [container],
            "tolerations": [TOLERATION],
            "nodeName": node.name,
        }
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        cluster.kubectl("--namespace", namespace, "create", "--filename=-", input=yaml.safe_dump(document))
    cluster.kubectl(
        "--namespace", namespace, "wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s"
    )
    return namespace


def read(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            stamp = None if sample.timestamp is None else float(sample.timestamp)
            found.setdefault(sample.name, []).append((sample.labels, sample.value, stamp))
    return found


def of(samples: Samples, metric: str, /, **labels: str) -> tuple[float, float | None]:
    """Value and time of the one sample that has these labels."""
    matching = [(value, stamp) for found, value, stamp in samples[metric] if labels.items() <= found.items()]
    assert len(matching) == 1, (metric, labels, samples[metric])
    return matching[0]


def test_what_metrics_server_reads(get: Get, pods: str) -> None:
    first = read(get("/metrics/resource"))
    assert of(first, "resource_scrape_error") == (0, None)
    assert of(first, "node_memory_working_set_bytes")[0] > MIB
    busy = {"namespace": pods, "pod": "busy", "container": "main"}
    idle = busy | {"pod": "idle"}
    assert MIB < of(first, "container_memory_working_set_bytes", **busy)[0] < 64 * MIB
    assert 0 < of(first, "container_memory_working_set_bytes", **idle)[0] < MIB
    assert of(first, "container_start_time_seconds", **busy)[1] is None

    def grown() -> bool:
        """One is said to use a good part of a core, the other none of it; so is the node to use as much."""
        second = read(get("/metrics/resource"))
        rates = {}
        for name, labels in (("busy", busy), ("idle", idle)):
            (early, began), (late, ended) = (
                of(samples, "container_cpu_usage_seconds_total", **labels) for samples in (first, second)
            )
            assert began is not None
            assert ended is not None
            if ended - began < 1.0:
                return False
            rates[name] = (late - early) / (ended - began)
        node = [of(samples, "node_cpu_usage_seconds_total")[0] for samples in (first, second)]
        return 0.2 < rates["busy"] <= 1.1 and rates["idle"] < 0.05 and node[1] - node[0] > rates["busy"] / 2

    eventually(grown, "the busy pod computes")


def test_the_summary(get: Get, pods: str, node: Any) -> None:
    def disks_known() -> bool:
        return all("usedBytes" in one["rootfs"] for pod in mine(summary()) for one in pod["containers"])

    def summary(query: str = "") -> Any:
        return json.loads(get(f"/stats/summary{query}"))

    def mine(found: Any) -> list[Any]:
        return sorted(
            (pod for pod in found["pods"] if pod["podRef"]["namespace"] == pods),
            key=lambda pod: pod["podRef"]["name"],
        )

    eventually(disks_known, "the containers' disks were looked at")
    found = summary()
    assert found["node"]["nodeName"] == node.name
    assert {one["name"] for one in found["node"]["systemContainers"]} == {"kubelet", "runtime", "pods"}
    assert found["node"]["fs"]["capacityBytes"] > found["node"]["fs"]["usedBytes"] > 0
    busy, idle = mine(found)
    (one,) = busy["containers"]
    assert one["cpu"]["usageCoreNanoSeconds"] > idle["containers"][0]["cpu"]["usageCoreNanoSeconds"]
    assert one["memory"]["availableBytes"] + one["memory"]["workingSetBytes"] == 64 * MIB
    assert one["logs"]["inodesUsed"] >= 2
    assert busy["process_stats"] == {"process_count": 1}
    only = mine(summary("?only_cpu_and_memory=true"))
    assert "rootfs" not in only[0]["containers"][0]


def test_what_dashboards_read(get: Get, pods: str, cluster: Any) -> None:
    found = read(get("/metrics/cadvisor"))
    identifier = cluster.kubectl(
        "--namespace",
        pods,
        "get",
        "pod",
        "busy",
        "--output=jsonpath={.status.containerStatuses[0].containerID}",
    ).removeprefix("wasmtime://")
    container = {"namespace": pods, "pod": "busy", "container": "main", "name": identifier}
    assert of(found, "container_cpu_usage_seconds_total", cpu="total", **container)[0] > 0
    assert of(found, "container_memory_rss", **container)[0] > MIB
    assert of(found, "container_spec_memory_limit_bytes", **container)[0] == 64 * MIB
    assert of(found, "container_spec_cpu_quota", **container)[0] == 50_000
    assert of(found, "machine_memory_bytes")[0] > MIB


def test_what_the_node_tells_of_its_own_work(get: Get, pods: str, node: Any) -> None:
    found = read(get("/metrics"))
    assert of(found, "kubelet_node_name", node=node.name)[0] == 1
    assert of(found, "kubelet_running_pods")[0] >= 2
    assert of(found, "kubelet_started_containers_total", container_type="container")[0] >= 2
    assert of(found, "kubelet_runtime_operations_total", operation_type="start_container")[0] >= 2
    assert of(found, "kubelet_pod_start_duration_seconds_count")[0] >= 2
    assert of(found, "kubelet_pod_status_sync_duration_seconds_count")[0] >= 2
    assert of(found, "rest_client_requests_total", method="PATCH", code="200")[0] >= 2
    assert of(found, "process_resident_memory_bytes")[0] > MIB
    before = of(found, "kubelet_http_requests_total", path="metrics", method="GET")[0]
    again = read(get("/metrics", Accept="text/plain;version=0.0.4"))
    assert of(again, "kubelet_http_requests_total", path="metrics", method="GET")[0] == before + 1
    assert "process_start_time_seconds" in read(get("/metrics/probes"))


def test_lists_and_configuration(get: Get, pods: str, cluster: Any) -> None:
    listed = {
        pod["metadata"]["name"]: pod
        for pod in json.loads(get("/pods"))["items"]
        if pod["metadata"]["namespace"] == pods
    }
    assert listed.keys() == {"busy", "idle"}
    # A field that this node's own structs do not know: the objects are the API server's.
    assert listed["busy"]["spec"]["schedulerName"] == "default-scheduler"
    running = json.loads(get("/runningpods/"))["items"]
    assert {pod["metadata"]["name"] for pod in running if pod["metadata"]["namespace"] == pods} == {
        "busy",
        "idle",
    }
    configuration = json.loads(get("/configz"))["kubeletconfig"]
    assert configuration["kind"] == "KubeletConfiguration"
    assert get("/healthz/syncloop") == "ok"
