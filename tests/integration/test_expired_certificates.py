"""Certificates that are refused, of the API server and of the node: pods go on, and good ones are taken."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_proxy import ApiProxyThread, api_proxy
from authority import Authority
from namespaces import Namespace
from waiting import eventually

pytestmark = pytest.mark.integration

SERVED, SHOWN = "distrusts-its-server", "shows-a-certificate"
AT_ONCE = 10
"""Seconds within which a status has come: five of the node's, and as many of this machine's."""


class Pods:
    """Two of a node: one that goes on, and one that ends when it is told."""

    def __init__(self, space: Namespace, node: str, actor: str, directory: Path) -> None:
        self._space, self._go = space, directory / "go"
        self._go.mkdir()
        placed = {"nodeName": node, "restartPolicy": "Never"}
        mounted = {
            "volumes": [{"name": "go", "hostPath": {"path": str(self._go)}}],
            "container": {"volumeMounts": [{"name": "go", "mountPath": "/go"}]},
        }
        space.pod("stays", actor, "sleep", "600", **placed)
        space.pod("ends", actor, "await", "/go/now", "exit", "3", **mounted, **placed)
        for pod in ("stays", "ends"):
            space.wait(f"pod/{pod}", "condition=Ready")
        self._before = space.status("stays")["containerStatuses"][0]

    def end(self) -> None:
        """Have the one end."""
        (self._go / "now").touch()

    def assert_told(self) -> None:
        """That this has been told, and that the other has gone on."""
        self._space.wait("pod/ends", "jsonpath={.status.phase}=Failed", AT_ONCE)
        assert self._space.status("ends")["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
        assert self._space.status("stays")["containerStatuses"][0] == self._before


def log_from(node: Any, place: int) -> str:
    return str(node.log.read_text()[place:])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "the cluster's")


@pytest.fixture
def proxy(cluster: Any, tmp_path: Path, authority: Authority) -> Iterator[ApiProxyThread]:
    with api_proxy(cluster.kubeconfig, SERVED, tmp_path / "kubeconfig", authority) as made:
        yield made


def test_a_server_s_certificate_is_refused_until_it_is_good(
    proxy: ApiProxyThread,
    authority: Authority,
    start_node: Callable[..., Any],
    space: Namespace,
    actor: str,
    tmp_path: Path,
) -> None:
    node = start_node(SERVED, f"--kubeconfig={tmp_path / 'kubeconfig'}")
    pods = Pods(space, SERVED, actor, tmp_path)
    stranger = Authority(tmp_path, "a stranger's")
    for files, cause in (
        (authority.issue("api", serving=True, days=-1), "certificate has expired"),
        (authority.issue("api", serving=True, days=2, since=1), "certificate is not yet valid"),
        (stranger.issue("api", serving=True), "unable to get local issuer certificate"),
    ):
        place = len(node.log.read_text())
        proxy.show(files)
        pods.end()
        told = f"its certificate is not taken: {cause}"
        eventually(lambda told=told, place=place: told in log_from(node, place), told, 60)  # type: ignore[misc]
    proxy.show(authority.issue("api", serving=True))
    pods.assert_told()


def test_the_node_s_own_certificate_is_another_when_its_files_are(
    cluster: Any, start_node: Callable[..., Any], space: Namespace, actor: str, tmp_path: Path
) -> None:
    pki = cluster.directory / "pki"
    authority = Authority.of(tmp_path, pki / "ca.crt", pki / "ca.key")
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    (user,) = config["users"]
    user["user"] = {"client-certificate": "node.crt", "client-key": "node.key"}
    (own := tmp_path / "own").mkdir()
    (own / "kubeconfig").write_text(yaml.safe_dump(config))

    def show(days: float) -> None:
        issued = authority.issue(f"system:node:{SHOWN}", ("system:nodes",), days=days)
        for file, name in zip(issued, ("node.crt", "node.key"), strict=True):
            shutil.copyfile(file, own / name)

    show(days=1)
    node = start_node(SHOWN, f"--kubeconfig={own / 'kubeconfig'}")
    pods = Pods(space, SHOWN, actor, tmp_path)
    place = len(node.log.read_text())
    show(days=-1)
    eventually(lambda: "credentials read again" in log_from(node, place), "the expired one", 60)
    pods.end()
    told = "401 Unauthorized: Unauthorized (the client certificate has expired at "
    eventually(lambda: f"status not sent, trying again: {told}" in log_from(node, place), told, 60)
    show(days=1)
    pods.assert_told()
