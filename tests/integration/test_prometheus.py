"""Prometheus' jobs for kubelets, as its users have them, find this node and scrape it without a change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from guests import push_guest
from prometheus import Sample, samples
from serviceaccount import account, manifest, role_with_binding, rule, write_kubeconfig

pytestmark = pytest.mark.integration

NAME, NAMESPACE = "prometheus", "monitoring"
POD = "watched"
TIMEOUT = 90.0
PATHS = ("/metrics", "/metrics/cadvisor", "/metrics/probes", "/metrics/resource")
JOBS = {
    # Prometheus' own example: the kubelet and its cAdvisor, a job each.
    "kubernetes-nodes": "/metrics",
    "kubernetes-cadvisor": "/metrics/cadvisor",
    # kube-prometheus: one name for all, told apart by the label `metrics_path`.
    **{f"kubelet{path.replace('/', '-')}": path for path in PATHS},
}

SERIES = {
    ("kubelet", "/metrics"): [
        "kubelet_node_name",
        "kubelet_running_pods",
        "kubelet_running_containers",
        "kubelet_pod_start_duration_seconds_count",
        "kubelet_pod_worker_duration_seconds_bucket",
        "kubelet_runtime_operations_total",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "rest_client_requests_total",
    ],
    ("kubelet", "/metrics/cadvisor"): [
        "container_cpu_usage_seconds_total",
        "container_memory_rss",
        "container_memory_usage_bytes",
        "container_memory_working_set_bytes",
        "machine_cpu_cores",
        "machine_memory_bytes",
    ],
    ("kubelet", "/metrics/resource"): [
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "node_cpu_usage_seconds_total",
        "node_memory_working_set_bytes",
        "pod_cpu_usage_seconds_total",
        "pod_memory_working_set_bytes",
    ],
}
"""What the rules and dashboards of kube-prometheus read of a kubelet, by job and path."""


@dataclass(frozen=True)
class Stored:
    """The samples of one scrape of each job."""

    all: list[Sample]

    def named(self, name: str, **labels: str) -> list[Sample]:
        wanted = {"__name__": name, **labels}
        return [sample for sample in self.all if wanted.items() <= sample.labels.items()]


@pytest.fixture(scope="module")
def watched(cluster: Any, node: Any) -> Iterator[None]:
    """A pod with a guest that runs, and the account that may read the metrics of nodes."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    reading = rule("", ["nodes/metrics"], "get")
    finding = rule("", ["nodes"], "get", "list", "watch")
    objects = [account(NAME, NAMESPACE), *role_with_binding(NAME, NAME, NAMESPACE, reading, finding)]
    cluster.kubectl("apply", "--filename=-", input=manifest(*objects))
    container = {"name": "main", "image": push_guest(cluster.registry, "sleep")}
    tolerations = [{"operator": "Exists"}]
    pod = {"nodeName": node.name, "tolerations": tolerations, "containers": [container]}
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": NAMESPACE},
        "spec": pod,
    }
    cluster.kubectl("create", "--filename=-", input=yaml.safe_dump(document))
    cluster.kubectl(
        "wait", f"--namespace={NAMESPACE}", f"pod/{POD}", "--for=condition=Ready", "--timeout=60s"
    )
    yield
    cluster.kubectl("delete", "clusterrole,clusterrolebinding", NAME)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def job(name: str, path: str, directory: Any, ca: str) -> dict[str, Any]:
    """A job of the well-known form; only where the token and the kubeconfig lie is the test's own."""
    made: dict[str, Any] = {
        "job_name": name,
        "scheme": "https",
        "metrics_path": path,
        "tls_config": {"ca_file": ca},
        "authorization": {"credentials_file": str(directory / "token")},
        "kubernetes_sd_configs": [{"role": "node", "kubeconfig_file": str(directory / "kubeconfig")}],
        "relabel_configs": [{"action": "labelmap", "regex": "__meta_kubernetes_node_label_(.+)"}],
    }
    if name.startswith("kubelet-"):
        made["honor_labels"] = True
        made["honor_timestamps"] = path != "/metrics/cadvisor"
        made["relabel_configs"] = [
            {"source_labels": ["__metrics_path__"], "target_label": "metrics_path"},
            {"source_labels": ["__meta_kubernetes_node_name"], "target_label": "node"},
            {"target_label": "job", "replacement": "kubelet"},
        ]
    return made


@pytest.fixture(scope="module")
def stored(cluster: Any, node: Any, watched: None, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    directory = tmp_path_factory.mktemp("prometheus")
    token = write_kubeconfig(cluster, NAME, NAMESPACE, directory / "kubeconfig")
    (directory / "token").touch(mode=0o600)
    (directory / "token").write_text(token)
    jobs = [job(name, path, directory, str(cluster.ready.ca)) for name, path in JOBS.items()]
    config = {"global": {"scrape_interval": "5s", "scrape_timeout": "5s"}, "scrape_configs": jobs}
    read: list[Sample] = []
    # The last sample of a scrape's own is `up`'s company; a job is complete when it was scraped twice.
    rounds: defaultdict[tuple[str, str], int] = defaultdict(int)
    with samples(config, directory, TIMEOUT) as coming:
        for sample in coming:
            read.append(sample)
            if sample.labels["__name__"] == "up":
                rounds[sample.labels["job"], sample.labels.get("metrics_path", "")] += 1
                if len(rounds) == len(JOBS) and min(rounds.values()) >= 2:
                    return Stored(read)
    raise AssertionError(f"scrapes: {dict(rounds)}; {(directory / 'prometheus.log').read_text()[-2000:]}")


def test_every_target_is_up(stored: Stored) -> None:
    ups = stored.named("up")
    assert {sample.labels["job"] for sample in ups} == {"kubernetes-nodes", "kubernetes-cadvisor", "kubelet"}
    assert {sample.labels["metrics_path"] for sample in stored.named("up", job="kubelet")} == set(PATHS)
    assert all(sample.value == 1 for sample in ups), [
        dict(sample.labels) for sample in ups if sample.value != 1
    ]


@pytest.mark.parametrize(
    ("name", "job_name", "path"), [(name, *where) for where, names in SERIES.items() for name in names]
)
def test_series_of_dashboards(stored: Stored, node: Any, name: str, job_name: str, path: str) -> None:
    found = stored.named(name, job=job_name, metrics_path=path)
    assert found
    assert all(sample.labels["node"] == node.name for sample in found)
    assert all(sample.value >= 0 for sample in found)


@pytest.mark.parametrize(
    "name",
    ["container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_memory_rss"],
)
def test_a_containers_own_series(stored: Stored, name: str) -> None:
    found = stored.named(
        name, job="kubelet", metrics_path="/metrics/cadvisor", namespace=NAMESPACE, pod=POD, container="main"
    )
    assert found
    for sample in found:
        assert sample.labels["image"], "rules leave out what has no image"
        assert sample.labels["name"]
        assert sample.value > 0


def test_the_node_labels_reach_the_well_known_job(stored: Stored, node: Any) -> None:
    [labels] = {tuple(sorted(sample.labels.items())) for sample in stored.named("up", job="kubernetes-nodes")}
    assert dict(labels)["kubernetes_io_hostname"] == node.name


def test_types_are_declared(stored: Stored) -> None:
    for name, kind in (
        ("container_cpu_usage_seconds_total", "counter"),
        ("container_memory_working_set_bytes", "gauge"),
        ("kubelet_pod_worker_duration_seconds_bucket", "histogram"),
    ):
        assert {sample.type for sample in stored.named(name)} == {kind}
