"""One control plane with one wasm node and the suite's images, for as long as specs run.

It exists to make, in a directory of its own, the cluster that the suite expects. It must not know specs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conformance import images, private_registry, programs
from vkubelet.dev import build, cluster, kubectl, node
from vkubelet.dev.report import Report
from vkubelet.pods.volumes import removal

NODE = "conformance-wasm"
POLICY = programs.HERE / "policy.yaml"
TAINT = "kubernetes.io/arch=wasm32-wasi:PreferNoSchedule"
"""The node's taint: with its usual ones the suite would take it for a node that takes no pods."""
LABEL = "kubernetes.io/os=linux"
"""What the suite, and the API server where pods are resized, ask for: the node runs on Linux."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the cluster is and what the suite's program has to be told."""

    ready: cluster.Ready
    directory: Path
    suite: Path

    @property
    def arguments(self) -> list[str]:
        """The suite's flags that name the cluster."""
        return [
            f"--kubeconfig={self.ready.kubeconfig}",
            f"--kubectl-path={kubectl.binary()}",
            "--provider=skeleton",
            "--node-os-distro=custom",
            "--num-nodes=1",
            f"--repo-root={self.directory}",
            f"--e2e-output-dir={self.directory}",
            f"--kube-test-repo-list={self.repositories}",
        ]

    @property
    def repositories(self) -> Path:
        """The file that KUBE_TEST_REPO_LIST names."""
        return self.directory / "repositories.yaml"


@contextmanager
def running(cache: Path, directory: Path, report: Report, node_options: list[str]) -> Iterator[Environment]:
    """Build what is needed and start it; all of it ends with the block, its logs stay. Raises DevError."""
    control_plane = build.cluster_binary(cache, report)
    suite = programs.suite(cache, report)
    guest = programs.guest(cache, report)
    # What a node that was killed left mounted is taken away first.
    removal.remove(directory)
    directory.mkdir(parents=True)
    # Ginkgo takes a program for a suite by the end of its name.
    named = directory / "e2e.test"
    named.symlink_to(suite)
    # Our end of this pipe ends with us, however that happens, and the cluster with it.
    theirs, ours = os.pipe()
    try:
        report.step("Starting the control plane and the node")
        options = ["--default-ports=false", f"--lifeline-fd={theirs}"]
        ready = cluster.start(control_plane, directory / "cluster", options, [theirs])
        environment = Environment(ready, directory, named)
        environment.repositories.write_text(images.registries(ready.registry))
        images.push_all(ready.registry, guest)
        kubectl.run(ready.kubeconfig, ["apply", "--filename=-"], stdin=POLICY.read_text())
        node.start(
            directory / "node",
            ready,
            NODE,
            [f"--register-with-taints={TAINT}", f"--node-labels={LABEL}", *node_options],
        )
        with private_registry.listening(ready.registry, report):
            yield environment
    finally:
        os.close(theirs)
        try:
            node.stop(directory / "node")
        finally:
            removal.remove(directory / "node" / "run" / "volumes")
            cluster.stop(directory / "cluster")
        os.close(ours)
