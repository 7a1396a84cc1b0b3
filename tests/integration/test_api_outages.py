"""An API server that fails in every way: pods go on, and it is told all of it once it is back."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_proxy import ApiProxyThread, Fault, api_proxy
from guests import push_guest
from namespaces import Namespace
from waiting import eventually

from .conftest import NodeProcess

pytestmark = pytest.mark.integration

NODE = "behind-a-proxy"
ASKED = 3
"""How often the node has asked in vain before the fault ends: it goes on trying."""


@pytest.fixture
def proxy(cluster: Any, tmp_path: Path) -> Iterator[ApiProxyThread]:
    with api_proxy(cluster.kubeconfig, NODE, tmp_path / "kubeconfig") as made:
        yield made


@pytest.fixture
def node(cluster: Any, proxy: ApiProxyThread, start_node: Callable[..., Any], tmp_path: Path) -> Any:
    """The node of these tests, which also serves as that of `space`."""
    ca = tmp_path / "ca.crt"
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    ca.write_bytes(base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]))
    return start_node(NODE, f"--kubeconfig={tmp_path / 'kubeconfig'}", f"--client-ca-file={ca}")


@pytest.mark.parametrize("fault", list(Fault))
def test_what_happened_meanwhile_is_told_once_it_is_over(
    fault: Fault, proxy: ApiProxyThread, space: Namespace, node: Any, actor: str, tmp_path: Path
) -> None:
    placed = {"nodeName": node.name, "restartPolicy": "Never"}
    space.pod("stays", actor, "sleep", "600", **placed)
    go = {
        "volumes": [{"name": "go", "hostPath": {"path": str(tmp_path)}}],
        "container": {"volumeMounts": [{"name": "go", "mountPath": "/go"}]},
    }
    space.pod("ends", actor, "await", "/go/now", "exit", "3", **go, **placed)
    space.pod("deleted", actor, "sleep", "600", terminationGracePeriodSeconds=0, **placed)
    for pod in ("stays", "ends", "deleted"):
        space.wait(f"pod/{pod}", "condition=Ready")
    before = space.status("stays")["containerStatuses"][0]
    proxy.set(fault)
    (tmp_path / "now").touch()
    space.kubectl("delete", "pod", "deleted", "--wait=false")
    space.pod("new", actor, "sleep", "600", **placed)
    eventually(lambda: proxy.asked >= ASKED, "the node to ask in vain", 60)
    proxy.set(None)
    space.wait("pod/ends", "jsonpath={.status.phase}=Failed", 10)
    assert space.status("ends")["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    space.wait("pod/new", "condition=Ready", 10)
    space.wait("pod/deleted", "delete", 10)
    after = space.status("stays")["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"], after["state"]) == (
        before["containerID"],
        0,
        before["state"],
    )


@pytest.fixture
def own_node(own_cluster: Any, tmp_path: Path) -> Iterator[NodeProcess]:
    made = NodeProcess(own_cluster, tmp_path / "node", "wasm-1")
    made.start()
    yield made
    made.end()


def test_a_server_that_is_restored_from_a_backup_is_believed(
    own_cluster: Any, own_node: NodeProcess, tmp_path: Path
) -> None:
    """Its versions of objects are older than those that were seen, and some objects are not there yet."""
    own = own_node
    space = Namespace(own_cluster, "default")
    space.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    image = push_guest(own_cluster.registry, "sleep")
    for pod in ("stays", "returns"):
        space.pod(pod, image, nodeName=own.name)
        space.wait(f"pod/{pod}", "condition=Ready", 180)
    before = space.status("stays")["containerStatuses"][0]
    own_cluster.stop()
    shutil.copytree(own_cluster.directory, tmp_path / "backup")
    own_cluster.start()
    space.kubectl("delete", "pod", "returns", "--grace-period=0", "--timeout=30s")
    space.pod("unknown", image, nodeName=own.name)
    space.wait("pod/unknown", "condition=Ready", 180)
    unknown = space.status("unknown")["containerStatuses"][0]["containerID"]
    own_cluster.stop()
    shutil.rmtree(own_cluster.directory)
    shutil.copytree(tmp_path / "backup", own_cluster.directory)
    own_cluster.start()
    # It is another one now that has to be told that the pod runs, and that ends the one it does not know.
    space.wait("pod/returns", "condition=Ready", 180)
    space.pod("new", image, nodeName=own.name)
    space.wait("pod/new", "condition=Ready", 180)
    space.wait(f"node/{own.name}", "condition=Ready", 180)
    after = space.status("stays")["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    containers = own.directory / "run"
    eventually(
        lambda: not list(containers.glob(f"*/containers/{unknown.rpartition('/')[2]}")), "its end", 120
    )
