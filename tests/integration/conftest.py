"""The real control plane and registry that integration tests run against, and nodes that join them.

One cluster serves the whole run, on ports of its own, in a temporary directory; it is built first if this
machine has no build of these sources yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import compiled_toolbox
import pytest
from guests import push_guest
from namespaces import Namespace

from vkubelet.dev import build, kubectl
from vkubelet.dev import cluster as control_plane
from vkubelet.dev import node as node_process
from vkubelet.dev.layout import DevError, default_cache
from vkubelet.dev.report import Report
from vkubelet.pods.volumes import removal

QUICK_AUTOSCALER = [
    f"--kube-controller-manager-arg=--horizontal-pod-autoscaler-{setting}"
    for setting in ("sync-period=2s", "cpu-initialization-period=0s", "initial-readiness-delay=0s")
]
"""Its defaults wait up to five minutes before they believe what a new pod uses."""


@dataclass
class DevCluster:
    """A cluster of the tests' own: `start` and `stop` it at will, its data stays."""

    binary: Path
    directory: Path
    _ready: control_plane.Ready | None = field(default=None, init=False)
    _lifeline: int | None = field(default=None, init=False)

    def start(self, *more: str) -> None:
        """Start it; `more` are further flags of its program, in place of those of the start before."""
        # Our end of this pipe ends with us, however that happens, and the cluster with it.
        theirs, self._lifeline = os.pipe()
        try:
            options = ["--default-ports=false", f"--lifeline-fd={theirs}", *QUICK_AUTOSCALER, *more]
            self._ready = control_plane.start(self.binary, self.directory, options, [theirs])
        finally:
            os.close(theirs)

    def stop(self) -> None:
        control_plane.stop(self.directory)
        self._ready = None
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    @property
    def ready(self) -> control_plane.Ready:
        assert self._ready is not None, "the cluster is stopped"
        return self._ready

    @property
    def kubeconfig(self) -> Path:
        return self.ready.kubeconfig

    @property
    def bootstrap_kubeconfig(self) -> Path:
        return self.ready.bootstrap_kubeconfig

    @property
    def registry(self) -> str:
        """host:port, plain HTTP."""
        return self.ready.registry

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002  subprocess' name for it
        check: bool = True,
        kubeconfig: Path | None = None,
        timeout: float = 90.0,
    ) -> str:
        """Real kubectl's output; with `check=False` its complaint instead when it fails."""
        try:
            return kubectl.run(kubeconfig or self.kubeconfig, arguments, stdin=input, timeout=timeout)
        except DevError as error:
            if check:
                raise
            return error.message


@dataclass
class NodeProcess:
    """A `vkubelet run` process that is a node of the cluster."""

    cluster: DevCluster
    directory: Path
    name: str
    pid: int = 0

    def start(self, *more: str) -> None:
        """Start it and wait until the node is Ready; `more` are further flags."""
        compiled_toolbox.spare(self.directory)
        self.pid = node_process.start(self.directory, self.cluster.ready, self.name, more)

    def stop(self) -> None:
        """SIGTERM, with which it ends its containers."""
        node_process.stop(self.directory)

    def end(self) -> None:
        """Stop it for good, and remove what an agent that was killed, or whose pods were left, left mounted.

        Nothing could remove the directory with it.
        """
        try:
            self.stop()
        finally:
            removal.remove(self.directory / "run" / "volumes")

    @property
    def log(self) -> Path:
        return self.directory / "vkubelet.log"


@pytest.fixture(scope="session")
def cluster_program(pytestconfig: pytest.Config) -> Path:
    """The cluster's program; building it takes minutes on a machine that never did, so progress is shown."""
    cache = Path(os.environ.get("VKUBELET_CACHE_DIR") or default_cache())
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return build.cluster_binary(cache, Report())


@pytest.fixture(scope="session")
def cluster(cluster_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """The cluster that all tests share: leave in it nothing that would disturb the next test."""
    shared = DevCluster(cluster_program, tmp_path_factory.mktemp("cluster"))
    shared.start()
    yield shared
    shared.stop()


@pytest.fixture
def own_cluster(cluster: DevCluster, tmp_path: Path) -> Iterator[DevCluster]:
    """A cluster of the test's own, to be ended and started."""
    own = DevCluster(cluster.binary, tmp_path / "cluster")
    own.start()
    yield own
    own.stop()


@pytest.fixture(scope="session")
def node(cluster: DevCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A Ready wasm node that all tests share."""
    shared = NodeProcess(cluster, tmp_path_factory.mktemp("node"), "wasm-node")
    try:
        shared.start()
        yield shared
    finally:
        shared.end()


@pytest.fixture
def start_node(cluster: DevCluster, tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes of a test's own: `start_node(name, *flags)`. They are ended and removed afterwards."""
    started: list[NodeProcess] = []

    def start(name: str, *flags: str, directory: Path = tmp_path) -> NodeProcess:
        fresh = NodeProcess(cluster, directory / name, name)
        started.append(fresh)
        fresh.start(*flags)
        return fresh

    with contextlib.ExitStack() as ends:
        yield start
        for one in started:
            ends.callback(cluster.kubectl, "delete", "node", one.name, "--ignore-not-found")
            ends.callback(one.end)


@pytest.fixture(scope="session")
def actor(cluster: Any) -> str:
    """The reference of the guest that does what its arguments say."""
    return push_guest(cluster.registry, "actor")


@pytest.fixture
def space(cluster: Any, node: Any) -> Iterator[Namespace]:
    made = Namespace(cluster, f"t-{uuid.uuid4().hex[:8]}")
    cluster.kubectl("create", "namespace", made.name)
    made.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    yield made
    cluster.kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.fixture
def get(cluster: Any, node: Any) -> Callable[..., str]:
    """Asks the node's own port with the API server's certificate."""
    pki = cluster.directory / "pki"
    # Whose certificate the node serves is the kubelet-serving signer's matter, tried elsewhere.
    trusting = ssl._create_unverified_context()  # noqa: S323
    trusting.load_cert_chain(pki / "apiserver-kubelet-client.crt", pki / "apiserver-kubelet-client.key")
    shown = json.loads(cluster.kubectl("get", "node", node.name, "--output=json"))
    port = shown["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]

    def ask(path: str, **headers: str) -> str:
        request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", headers=headers)
        with urllib.request.urlopen(request, context=trusting, timeout=30) as answer:  # noqa: S310
            body: bytes = answer.read()
            return body.decode()

    return ask
