"""Many pods of an image that is new to their node: its registry is asked once."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from fault_proxy import fault_proxy
from guests import build_guest
from namespaces import Namespace, pod_spec
from waiting import eventually

from oci.push import push_module

pytestmark = [pytest.mark.integration, pytest.mark.crowded]

PODS = 500
READY = '{.items[*].status.conditions[?(@.type=="Ready")].status}'


def test_many_pods_cause_one_request_for_each_part(cluster: Any, space: Namespace, start_node: Any) -> None:
    push_module(build_guest("sleep"), f"{cluster.registry}/once/sleep:v1", insecure=True)
    with fault_proxy(cluster.registry) as proxy:
        own = start_node("one-pull", f"--insecure-registries={proxy.address}", f"--max-pods={PODS}")
        spec = pod_spec(
            f"{proxy.address}/once/sleep:v1", nodeName=own.name, automountServiceAccountToken=False
        )
        pods = [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"}, "spec": spec}
            for number in range(PODS)
        ]
        space.kubectl("create", "--filename", "-", input=yaml.safe_dump_all(pods), timeout=120)

        def all_ready() -> bool:
            # `kubectl wait --all` would ask for one pod after the other.
            found = space.kubectl("get", "pods", f"--output=jsonpath={READY}")
            return found.split() == ["True"] * PODS

        eventually(all_ready, "all pods ready", timeout=180)
        asked = [line.removesuffix(" HTTP/1.1") for line in proxy.requests]
        assert len([line for line in asked if "/manifests/" in line]) == 1, asked
        blobs = [line for line in asked if "/blobs/" in line]
        assert len(blobs) == len(set(blobs)), asked
        statuses = [pod["status"]["containerStatuses"][0] for pod in space.get("pods")["items"]]
        assert [one["restartCount"] for one in statuses] == [0] * PODS
