"""Private images: a registry that wants a password, secrets of the API server, and who gets what is there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from door import Door, door_to
from guests import push_guest
from namespaces import Namespace

pytestmark = pytest.mark.integration

WORD = "a-word-of-honour"


@pytest.fixture
def door(cluster: Any) -> Iterator[Door]:
    with door_to(cluster.registry, lambda login: login == f"pods:{WORD}") as made:
        yield made


def secret(space: Namespace, name: str, server: str, word: str) -> None:
    space.kubectl(
        "create",
        "secret",
        "docker-registry",
        name,
        f"--docker-server={server}",
        "--docker-username=pods",
        f"--docker-password={word}",
    )


def test_a_private_image_is_for_pods_that_may_have_it(
    space: Namespace, start_node: Callable[..., Any], cluster: Any, door: Door
) -> None:
    insecure = f"--insecure-registries={cluster.registry},{door.name}"
    node = start_node("private", insecure)
    push_guest(cluster.registry, "actor", "private")
    image = f"{door.name}/actor:private"
    on = {"nodeName": node.name}
    secret(space, "good", door.name, WORD)
    secret(space, "bad", door.name, "a-lie")
    space.pod("with", image, "sleep", "600", imagePullSecrets=[{"name": "bad"}, {"name": "good"}], **on)
    space.wait("pod/with", "condition=Ready")
    assert any(let_in for _, let_in in door.asked)
    # It is on the node now, which helps nobody who could not have pulled it.
    for name, secrets in {"without": [], "wrong": [{"name": "bad"}]}.items():
        space.pod(name, image, "sleep", "600", imagePullSecrets=secrets, **on)
        waiting = space.wait_reason(name, "ErrImagePull")
        assert "401" in waiting["message"]
        assert door.name in waiting["message"]
        assert WORD not in waiting["message"]
    space.pod("never", image, "sleep", "600", container={"imagePullPolicy": "Never"}, **on)
    space.wait_reason("never", "ErrImageNeverPull")
    # What a pod lacks is told, and starts it when it is there.
    space.pod("late", image, "sleep", "600", imagePullSecrets=[{"name": "later"}], **on)
    assert space.wait_event("late", "FailedToRetrieveImagePullSecret") == (
        "Unable to retrieve some image pull secrets (later); attempting to pull the image may not succeed."
    )
    secret(space, "later", door.name, WORD)
    space.wait("pod/late", "condition=Ready", 120)
    # The next agent knows it too, and asks nobody.
    os.kill(node.pid, signal.SIGKILL)
    node.start(insecure)
    asked = len(door.asked)
    space.pod("again", image, "sleep", "600", imagePullSecrets=[{"name": "good"}], **on)
    space.wait("pod/again", "condition=Ready")
    assert len([path for path, let_in in door.asked[asked:] if let_in]) == 0
    assert WORD not in node.log.read_text()
