"""One pod to talk to, in each of the two ways that kubectl and the API server have of streaming."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from guests import build_guest, push_guest
from streaming import MANIFEST, MODES, Talk


@pytest.fixture(scope="session")
def actor() -> Path:
    return build_guest("actor")


@pytest.fixture(scope="session", params=list(MODES))
def talk(request: pytest.FixtureRequest, cluster, node) -> Iterator[Talk]:
    """A pod whose containers run, in one of the two modes."""
    mode = request.param
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
