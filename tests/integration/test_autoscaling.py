"""The real metrics-server with the node: `kubectl top`, and an autoscaler that acts on its figures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from guests import push_guest
from metrics_server import MetricsServer

from vkubelet.pods.text import quantity

pytestmark = pytest.mark.integration

NAMESPACE = "autoscaling"
REQUEST = "100m"
"""A tenth of a core: a guest that is busy uses several times what the autoscaler aims at, on any machine."""
MOST = 2
"""Replicas: there are two cores where the tests run."""

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: busy, namespace: {namespace}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: busy}}}}
  template:
    metadata: {{labels: {{app: busy}}}}
    spec:
      nodeSelector: {{kubernetes.io/hostname: {node}}}
      tolerations: [{{operator: Exists}}]
      terminationGracePeriodSeconds: 1
      containers:
        - {{name: main, image: {image}, resources: {{requests: {{cpu: {request}}}}}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: busy, namespace: {namespace}}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: busy}}
  minReplicas: 1
  maxReplicas: {most}
  metrics:
    - {{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 50}}}}}}
  behavior:
    scaleUp: {{stabilizationWindowSeconds: 0}}
    scaleDown: {{stabilizationWindowSeconds: 0}}
"""


@pytest.fixture(scope="module")
def metrics_server(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetricsServer]:
    server = MetricsServer(cluster, tmp_path_factory.mktemp("metrics-server"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def autoscaled(cluster: Any, node: Any, metrics_server: MetricsServer) -> Iterator[None]:
    """A deployment of busy guests and its autoscaler."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    image = push_guest(cluster.registry, "busy")
    text = DEPLOYMENT.format(namespace=NAMESPACE, node=node.name, image=image, request=REQUEST, most=MOST)
    cluster.kubectl("create", "--filename=-", input=text)
    yield
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.mark.usefixtures("autoscaled")
def test_a_busy_deployment_is_scaled_up_and_an_idle_one_down(cluster: Any, node: Any) -> None:
    def kubectl(*arguments: str, **options: Any) -> str:
        result: str = cluster.kubectl(f"--namespace={NAMESPACE}", *arguments, **options)
        return result

    def wait(what: str, condition: str) -> None:
        kubectl("wait", what, f"--for={condition}", "--timeout=100s", timeout=120)

    wait("deployment/busy", f"jsonpath={{.status.readyReplicas}}={MOST}")
    # It is scaled by what metrics-server says, so that there is something now for `top` to say, too.
    rows = [line.split() for line in kubectl("top", "pod", "--containers", "--no-headers").splitlines()]
    assert rows, "nothing on top"
    for _, container, cpu, memory in rows:
        assert container == "main"
        assert millicores(cpu) > 50, "it scaled up at half of the request"
        # `top` cuts to whole mebibytes, and such a pod needs less than one: the API has the exact figure.
        assert mebibytes(memory) == 0
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods"
    listed = json.loads(kubectl("get", "--raw", path))
    used = [container["usage"]["memory"] for pod in listed["items"] for container in pod["containers"]]
    assert len(used) == len(rows)
    assert all(0 < quantity(amount) < 2**20 for amount in used), used
    [[name, cpu, cpu_share, memory, memory_share]] = [
        line.split() for line in kubectl("top", "node", node.name, "--no-headers").splitlines()
    ]
    assert name == node.name
    assert millicores(cpu) > 50
    assert mebibytes(memory) > mebibytes(rows[0][-1])
    assert re.fullmatch(r"\d+%", cpu_share)
    assert re.fullmatch(r"\d+%", memory_share)

    for pod in kubectl("get", "pods", "--selector=app=busy", "--output=name").split():
        kubectl("exec", pod, "--", "touch", "/idle")
    wait("deployment/busy", "jsonpath={.status.replicas}=1")
    scaler = yaml.safe_load(kubectl("get", "hpa", "busy", "--output=yaml"))["status"]
    assert scaler["currentMetrics"][0]["resource"]["current"]["averageUtilization"] < 50
    [pod] = kubectl("get", "pods", "--field-selector=status.phase=Running", "--output=name").split()
    assert kubectl("logs", pod).splitlines()[-1] == "idle"


def millicores(text: str) -> int:
    """What `kubectl top` prints for processor time."""
    match = re.fullmatch(r"(\d+)m", text)
    assert match, text
    return int(match[1])


def mebibytes(text: str) -> int:
    """What `kubectl top` prints for memory."""
    match = re.fullmatch(r"(\d+)Mi", text)
    assert match, text
    return int(match[1])
