"""Volumes of files on the real cluster: what guests see in them, and how changes reach guests that run."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from guests import push_guest
from namespaces import Namespace, encoded
from waiting import eventually

from vkubelet.pods.volumes import tmpfs

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def mounter(cluster: Any) -> str:
    """The guest that looks at files and changes them."""
    return push_guest(cluster.registry, "mounter")


def mounting(*volumes: dict[str, Any], **container: Any) -> dict[str, Any]:
    """The parts of a pod that mounts each volume at `/NAME`."""
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    return {"volumes": list(volumes), "container": {"volumeMounts": mounts, **container}}


def printed(space: Namespace, pod: str) -> list[str]:
    """What the pod's guest printed before it ended."""
    space.wait(f"pod/{pod}", "jsonpath={.status.phase}=Succeeded")
    return space.kubectl("logs", pod).splitlines()


def said(space: Namespace, pod: str, line: str) -> None:
    """Wait until a running guest has printed the line."""
    eventually(lambda: line in space.kubectl("logs", pod, check=False).splitlines(), f"{line!r} of {pod}")


def test_config_maps_and_secrets_are_files(space: Namespace, mounter: str, node: Any) -> None:
    space.make("ConfigMap", "settings", data={"a": "1", "b": "2"}, binaryData={"c": encoded("3")})
    space.make("Secret", "keys", data={"key": encoded("hunter2")})
    config = {"name": "config", "configMap": {"name": "settings"}}
    some = {"name": "some", "configMap": {"name": "settings", "items": [{"key": "a", "path": "x/y"}]}}
    secret = {"name": "secret", "secret": {"secretName": "keys", "defaultMode": 0o400}}
    none = {"name": "none", "configMap": {"name": "missing", "optional": True}}
    looks = ["list", "/config", "read", "/config/c", "list", "/some", "read", "/some/x/y"]
    looks += ["read", "/secret/key", "list", "/none", "write", "/config/a=2", "write", "/secret/new=1"]
    parts = mounting(config, some, secret, none)
    space.pod("files", mounter, *looks, "until", "/config/a=end", **parts)
    space.wait("pod/files", "condition=Ready")
    said(space, "files", "/secret/key: hunter2")
    uid = space.get("pod/files")["metadata"]["uid"]
    (path,) = (node.directory / "run" / "volumes" / uid).glob("*/secret/key")
    assert path.stat().st_mode & 0o777 == 0o400
    assert tmpfs.is_in_memory(path.parent)
    lines = space.kubectl("logs", "files").splitlines()
    assert lines[:6] == [
        "/config has a b c",
        "/config/c: 3",
        "/some has x",
        "/some/x/y: 1",
        "/secret/key: hunter2",
        "/none has",
    ]
    assert lines[6].startswith("cannot write /config/a: ")
    assert lines[7].startswith("cannot write /secret/new: ")
    space.kubectl("delete", "pod", "files", "--timeout=30s")
    assert not (node.directory / "run" / "volumes" / uid).exists()


def test_changes_reach_a_guest_that_runs(space: Namespace, mounter: str) -> None:
    space.make("ConfigMap", "live", data={"a": "1", "old": "x"})
    space.make("Secret", "live", data={"key": encoded("1")})
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    space.pod(
        "live",
        mounter,
        *("until", "/config/a=2", "until", "/config/new=y", "absent", "/config/old"),
        *("until", "/all/key=2", "until", '/info/labels=color="blue"'),
        **mounting(
            {"name": "config", "configMap": {"name": "live"}},
            {"name": "all", "projected": {"sources": [{"secret": {"name": "live"}}]}},
            {"name": "info", "downwardAPI": {"items": items}},
        ),
        restartPolicy="Never",
    )
    space.wait("pod/live", "condition=Ready")
    patch = {"data": {"a": "2", "old": None, "new": "y"}}
    space.kubectl("patch", "configmap", "live", "--patch", json.dumps(patch))
    space.kubectl("patch", "secret", "live", "--patch", json.dumps({"data": {"key": encoded("2")}}))
    space.kubectl("label", "pod", "live", "color=blue")
    assert printed(space, "live") == [
        "/config/a became 2",
        "/config/new became y",
        "/config/old is gone",
        "/all/key became 2",
        '/info/labels became color="blue"',
    ]


def test_the_usual_token_lets_a_guest_be_its_service_account(
    space: Namespace, cluster: Any, mounter: str, node: Any
) -> None:
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    space.pod("token", mounter, "list", place, "read", f"{place}/namespace", "stay")
    space.wait("pod/token", "condition=Ready")
    said(space, "token", f"{place} has ca.crt namespace token")
    said(space, "token", f"{place}/namespace: {space.name}")
    uid = space.get("pod/token")["metadata"]["uid"]
    (path,) = (node.directory / "run" / "volumes" / uid).glob("kubernetes.io~projected/*/token")
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": path.read_text()},
    }
    answer = cluster.kubectl("create", "--filename", "-", "--output=json", input=json.dumps(review))
    status = json.loads(answer)["status"]
    assert status["user"]["username"] == f"system:serviceaccount:{space.name}:default"
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-uid"] == [uid]


def test_a_user_of_its_own_reads_what_is_for_it(space: Namespace, mounter: str) -> None:
    """As root's node; any other runs all pods as its own user, and is refused others."""
    space.make("Secret", "keys", data={"key": encoded("hunter2")})
    context = {"runAsUser": 4711, "runAsGroup": 4712, "fsGroup": 4713} if os.geteuid() == 0 else {}
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    parts = mounting(
        {"name": "secret", "secret": {"secretName": "keys", "defaultMode": 0o400}},
        {"name": "data", "emptyDir": {"medium": "Memory"}},
    )
    looks = [
        "read",
        "/secret/key",
        "write",
        "/data/x=1",
        "read",
        f"{place}/namespace",
        "await",
        f"{place}/token",
    ]
    space.pod("user", mounter, *looks, **parts, securityContext=context, restartPolicy="Never")
    assert printed(space, "user") == [
        "/secret/key: hunter2",
        "wrote /data/x",
        f"{place}/namespace: {space.name}",
        f"{place}/token is readable",
    ]


def test_a_projected_volume_has_all_its_sources(space: Namespace, mounter: str) -> None:
    space.make("ConfigMap", "part", data={"a": "1"})
    space.make("Secret", "part", data={"b": encoded("2")})
    resource = {"containerName": "main", "resource": "limits.memory", "divisor": "1Mi"}
    sources = [
        {"configMap": {"name": "part", "items": [{"key": "a", "path": "dir/a"}]}},
        {"secret": {"name": "part"}},
        {
            "downwardAPI": {
                "items": [
                    {"path": "dir/name", "fieldRef": {"fieldPath": "metadata.name"}},
                    {"path": "memory", "resourceFieldRef": resource},
                ]
            }
        },
        {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}},
    ]
    parts = mounting(
        {"name": "all", "projected": {"sources": sources, "defaultMode": 0o440}},
        resources={"limits": {"memory": "64Mi"}},
    )
    looks = [
        "list",
        "/all",
        "list",
        "/all/dir",
        "read",
        "/all/b",
        "read",
        "/all/dir/name",
        "read",
        "/all/memory",
    ]
    space.pod("all", mounter, *looks, **parts, restartPolicy="Never")
    assert printed(space, "all") == [
        "/all has b dir memory token",
        "/all/dir has a name",
        "/all/b: 2",
        "/all/dir/name: all",
        "/all/memory: 64",
    ]


@pytest.mark.parametrize(
    ("volume", "kind", "fields", "cause"),
    [
        (
            {"configMap": {"name": "late"}},
            "ConfigMap",
            {"data": {"k": "here"}},
            'MountVolume.SetUp failed for volume "v" : configmap "late" not found',
        ),
        (
            {"secret": {"secretName": "late"}},
            "Secret",
            {"data": {"k": encoded("here")}},
            'MountVolume.SetUp failed for volume "v" : secret "late" not found',
        ),
        (
            {"projected": {"sources": [{"configMap": {"name": "late"}}, {"secret": {"name": "later"}}]}},
            "ConfigMap",
            {"data": {"k": "here"}},
            'MountVolume.SetUp failed for volume "v" : '
            '[configmap "late" not found, secret "later" not found]',
        ),
    ],
)
def test_a_pod_waits_for_what_its_volumes_name_and_starts_by_itself(
    space: Namespace, mounter: str, volume: dict[str, Any], kind: str, fields: dict[str, Any], cause: str
) -> None:
    parts = mounting({"name": "v", **volume})
    space.pod("waits", mounter, "read", "/v/k", **parts, restartPolicy="Never")
    assert space.wait_event("waits", "FailedMount") == cause
    waiting = space.status("waits")["containerStatuses"][0]["state"]["waiting"]
    assert waiting == {"reason": "ContainerCreating"}
    if "later" in cause:
        space.make("Secret", "later", data={})
    space.make(kind, "late", **fields)
    assert printed(space, "waits") == ["/v/k: here"]


def test_a_key_that_is_missing_holds_the_pod_back_until_it_is_there(space: Namespace, mounter: str) -> None:
    space.make("ConfigMap", "half", data={"a": "1"})
    volume = {"name": "v", "configMap": {"name": "half", "items": [{"key": "k", "path": "k"}]}}
    space.pod("half", mounter, "read", "/v/k", **mounting(volume), restartPolicy="Never")
    assert space.wait_event("half", "FailedMount") == (
        'MountVolume.SetUp failed for volume "v" : configmap references non-existent config key: k'
    )
    space.kubectl("patch", "configmap", "half", "--patch", '{"data": {"k": "here"}}')
    assert printed(space, "half") == ["/v/k: here"]


def test_paths_that_collide_are_told_and_can_be_put_right(space: Namespace, mounter: str) -> None:
    space.make("ConfigMap", "one", data={"x": "file"})
    space.make("ConfigMap", "two", data={"k": "1"})
    sources = [
        {"configMap": {"name": "one"}},
        {"configMap": {"name": "two", "items": [{"key": "k", "path": "x/y"}]}},
    ]
    parts = mounting({"name": "v", "projected": {"sources": sources}})
    space.pod("collides", mounter, "read", "/v/x/y", **parts, restartPolicy="Never")
    assert "not a directory" in space.wait_event("collides", "FailedMount")
    space.kubectl("patch", "configmap", "one", "--patch", '{"data": {"x": null}}')
    assert printed(space, "collides") == ["/v/x/y: 1"]


def test_an_object_that_goes_away_leaves_running_guests_their_files(space: Namespace, mounter: str) -> None:
    space.make("ConfigMap", "gone", data={"k": "1"})
    parts = mounting({"name": "v", "configMap": {"name": "gone"}})
    space.pod("keeps", mounter, "until", "/v/k=2", **parts, restartPolicy="Never")
    space.wait("pod/keeps", "condition=Ready")
    space.kubectl("delete", "configmap", "gone")
    cause = 'MountVolume.SetUp failed for volume "v" : configmap "gone" not found'
    assert space.wait_event("keeps", "FailedMount") == cause
    space.make("ConfigMap", "gone", data={"k": "2"})
    assert printed(space, "keeps") == ["/v/k became 2"]


def test_another_agent_keeps_volumes_and_brings_them_up_to_date(
    space: Namespace, cluster: Any, mounter: str, start_node: Any
) -> None:
    own = start_node("volumes-node")
    space.make("ConfigMap", "live", data={"a": "1"})
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    space.pod(
        "stays",
        mounter,
        *("write", "/data/x=1", "until", "/config/a=2", "read", "/data/x", "read", f"{place}/namespace"),
        **mounting({"name": "config", "configMap": {"name": "live"}}, {"name": "data", "emptyDir": {}}),
        nodeName=own.name,
        restartPolicy="Never",
    )
    space.wait("pod/stays", "condition=Ready")
    uid = space.get("pod/stays")["metadata"]["uid"]
    (token,) = (own.directory / "run" / "volumes" / uid).glob("kubernetes.io~projected/*/token")
    before = token.read_text()
    os.kill(own.pid, signal.SIGKILL)
    space.kubectl("patch", "configmap", "live", "--patch", '{"data": {"a": "2"}}')
    left = [Path(own.directory, "run", "volumes", "gone"), Path(own.directory, "root", "pods", "gone")]
    for path in left:
        (path / "volumes" / "kubernetes.io~secret" / "s").mkdir(parents=True)
    own.start()
    assert printed(space, "stays") == [
        "wrote /data/x",
        "/config/a became 2",
        "/data/x: 1",
        f"{place}/namespace: {space.name}",
    ]
    eventually(lambda: not any(path.exists() for path in left), "the end of what no pod has")
    if token.exists():
        assert token.read_text() == before
