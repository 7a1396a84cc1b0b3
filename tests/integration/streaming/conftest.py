"""One pod to talk to, in each of the ways that kubectl and the API server have of streaming."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from guests import build_guest, push_guest
from streaming import MANIFEST, MODES, Talk

from ..conftest import DevCluster, NodeProcess


@pytest.fixture(scope="session")
def actor() -> Path:
    return build_guest("actor")


@pytest.fixture(scope="session")
def older(cluster_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node of a cluster whose API server speaks SPDY to nodes, as those before 1.36 do."""
    elder = DevCluster(cluster_program, tmp_path_factory.mktemp("older"))
    elder.start("--kube-apiserver-arg=--feature-gates=ExtendWebSocketsToKubelet=false")
    fresh = NodeProcess(elder, tmp_path_factory.mktemp("older-node"), "older-node")
    try:
        fresh.start()
        yield fresh
    finally:
        fresh.end()
        elder.stop()


@pytest.fixture(scope="session", params=list(MODES))
def talk(request: pytest.FixtureRequest) -> Iterator[Talk]:
    """A pod whose containers run, in one of the modes."""
    mode = request.param
    node = request.getfixturevalue("node" if MODES[mode].extend_websockets_to_kubelet else "older")
    cluster = node.cluster
    image = push_guest(cluster.registry, "actor")
    name = f"talk-{mode}"
    made = Talk(mode, cluster.kubeconfig, name, node.name, image, node.directory)
    made.apply(name, MANIFEST.format(name=name, node=node.name, image=image))
    made.logs("main", until="ready")
    for container in ("second", "hearing", "once", "terminal"):
        path = f"{{.status.containerStatuses[?(@.name=='{container}')].state.running}}"
        made.kubectl("wait", f"pod/{name}", f"--for=jsonpath={path}", "--timeout=90s")
    yield made
    made.kubectl("delete", "pod", name, "--grace-period=0", "--force")
