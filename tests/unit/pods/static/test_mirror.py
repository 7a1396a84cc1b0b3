"""Mirrors are made, deleted and told statuses as a kubelet does, whatever the API server answers when."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import msgspec
import pytest

from vkubelet.api.client import ApiError, ApiUnavailableError
from vkubelet.api.objects import Pod, PodCondition, PodStatus
from vkubelet.pods.fit import MIRROR_ANNOTATION as MIRROR
from vkubelet.pods.manifests.text import documents
from vkubelet.pods.static import mirror as module
from vkubelet.pods.static.identity import static_pod
from vkubelet.pods.static.mirror import MirrorPods, Todo, mirror_document, todo

NODE = "node-1"


def manifest(version: str = "1"):
    text = f"""
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}, uid: u{version}, resourceVersion: '5', generateName: x}}
spec:
  unknownHere: kept
  containers: [{{name: main, image: 'a/b:v{version}'}}]
"""
    return static_pod(documents(text.encode(), "")[0], "/pods/web.yaml", NODE, 0.0)


OLD, NEW = manifest("1"), manifest("2")
KEY = OLD.pod.key


def mirror_of(made, uid: str = "m1", deleted: bool = False) -> Pod:
    pod = msgspec.convert(mirror_document(made, NODE, "node-uid"), Pod)
    pod.metadata.uid = uid
    pod.metadata.generation = 1
    pod.metadata.deletion_timestamp = "2026-01-01T00:00:00Z" if deleted else None
    return pod


@pytest.mark.parametrize(
    ("static", "leaving", "mirror", "expected"),
    [
        (None, None, None, Todo.NOTHING),
        (OLD, None, None, Todo.CREATE),
        (OLD, None, mirror_of(OLD), Todo.NOTHING),
        (OLD, None, mirror_of(OLD, deleted=True), Todo.DELETE),
        (NEW, None, mirror_of(OLD), Todo.DELETE),
        (None, None, mirror_of(OLD), Todo.DELETE),
        (None, OLD, mirror_of(OLD), Todo.NOTHING),
        (None, OLD, mirror_of(OLD, deleted=True), Todo.DELETE),
        (None, OLD, None, Todo.NOTHING),
    ],
)
def test_what_a_mirror_needs(static, leaving, mirror, expected):
    assert todo(static, leaving, mirror) is expected


def test_a_mirror_is_the_whole_static_pod_owned_by_its_node():
    made = mirror_document(OLD, NODE, "node-uid")
    assert made["spec"]["unknownHere"] == "kept"
    assert made["spec"]["nodeName"] == NODE
    assert made["metadata"]["labels"] == {"app": "web"}
    assert made["metadata"]["annotations"][MIRROR] == OLD.pod.metadata.uid
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "node-uid", "controller": True}
    ]
    assert made["metadata"].keys() == {"name", "namespace", "labels", "annotations", "ownerReferences"}


class Cluster:
    """An API server's pods, the informer's news of them and the statuses that are sent to it.

    `failures` are raised in place of answers, one a request.
    """

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.requests: list[str] = []
        self.failures: list[Exception] = []
        self.told: list[str] = []
        self.statuses: list[tuple[str, PodStatus]] = []
        self.forgotten: list[str] = []
        self.mirrors = MirrorPods(self, self, NODE, lambda: "node-uid", self.told.append)
        self.silent = False
        self._count = 0
        self._heard = asyncio.Event()

    async def post(self, path: str, body: bytes) -> bytes:
        self._heard_of(f"POST {path}")
        name = json.loads(body)["metadata"]["name"]
        if name in self.pods:
            raise ApiError(409, "AlreadyExists", f'pods "{name}" already exists')
        self._count += 1
        pod = msgspec.json.decode(body, type=Pod)
        pod.metadata.uid = f"m{self._count}"
        pod.metadata.generation = 1
        self.pods[name] = pod
        if not self.silent:
            self.mirrors.on_change(pod)
        return msgspec.json.encode(pod)

    async def get(self, path: str) -> bytes:
        self._heard_of(f"GET {path}")
        return msgspec.json.encode(self.pods[path.rpartition("/")[2]])

    async def delete(self, path: str, body: bytes) -> bytes:
        self._heard_of(f"DELETE {path}")
        options = json.loads(body)
        assert options["gracePeriodSeconds"] == 0
        pod = self.pods.get(path.rpartition("/")[2])
        if pod is None or pod.metadata.uid != options["preconditions"]["uid"]:
            raise ApiError(409 if pod else 404, "Conflict" if pod else "NotFound", "gone")
        self.remove(pod.metadata.name)
        return b"{}"

    def remove(self, name: str) -> None:
        self.mirrors.on_delete(self.pods.pop(name))

    def _heard_of(self, request: str) -> None:
        self.requests.append(request.partition(" ")[0])
        self._heard.set()
        if self.failures:
            raise self.failures.pop(0)

    def report(self, pod: Pod, status: PodStatus) -> None:
        self.statuses.append((pod.metadata.uid, status))

    async def finish(self, pod: Pod, status: PodStatus | None) -> None:
        raise AssertionError("a mirror is not finished by its status")

    def forget(self, uid: str) -> None:
        self.forgotten.append(uid)

    async def settled(self, *requests: str) -> None:
        """Wait for exactly these requests since the last time, and for none after them."""
        async with asyncio.timeout(20):
            while len(self.requests) < len(requests):
                self._heard.clear()
                await self._heard.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert self.requests == list(requests)
        self.requests.clear()


@pytest.fixture
async def cluster(monkeypatch) -> AsyncIterator[Cluster]:
    monkeypatch.setattr(module, "RETRY_FIRST", 0.01)
    made = Cluster()
    running = asyncio.create_task(made.mirrors.run())
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_static_pod_gets_its_mirror_and_loses_it_with_its_end(cluster):
    cluster.mirrors.show([OLD], [])
    await cluster.settled("POST")
    cluster.mirrors.show([], [OLD])
    await cluster.settled()
    cluster.mirrors.show([], [])
    await cluster.settled("DELETE")
    assert cluster.pods == {}
    assert cluster.told == []


async def test_a_mirror_that_somebody_deletes_comes_back(cluster):
    cluster.mirrors.show([OLD], [])
    await cluster.settled("POST")
    name = OLD.pod.metadata.name
    cluster.pods[name] = mirror_of(OLD, deleted=True)
    cluster.mirrors.on_change(cluster.pods[name])
    await cluster.settled("DELETE", "POST")
    cluster.remove(name)
    await cluster.settled("POST")
    assert cluster.pods[name].metadata.uid == "m3"


async def test_a_changed_pod_gets_another_mirror(cluster):
    cluster.mirrors.show([OLD], [])
    await cluster.settled("POST")
    cluster.mirrors.show([NEW], [])
    await cluster.settled("DELETE", "POST")
    assert cluster.pods[OLD.pod.metadata.name].metadata.annotations[MIRROR] == NEW.pod.metadata.uid


async def test_a_mirror_of_no_static_pod_is_deleted(cluster):
    orphan = cluster.pods["web-node-1"] = mirror_of(OLD)
    cluster.mirrors.on_change(orphan)
    await cluster.settled("DELETE")
    assert cluster.pods == {}


async def test_statuses_go_to_the_mirror_that_there_is(cluster):
    status = PodStatus(phase="Running", conditions=[PodCondition(type="Ready", status="True")])
    cluster.mirrors.show([OLD], [])
    cluster.mirrors.report(OLD.pod, status)
    await cluster.settled("POST")
    (uid, sent), *rest = cluster.statuses
    assert (uid, rest) == ("m1", [])
    assert sent.observed_generation == 1
    assert [condition.observed_generation for condition in sent.conditions] == [1]
    cluster.remove(OLD.pod.metadata.name)
    await cluster.settled("POST")
    assert cluster.forgotten == ["m1"]
    assert [uid for uid, _ in cluster.statuses] == ["m1", "m2"]
    cluster.mirrors.report(NEW.pod, status)
    assert len(cluster.statuses) == 2, "another version's status is none of this mirror's"


async def test_both_uids_mean_the_static_pod(cluster):
    cluster.mirrors.show([OLD], [])
    await cluster.settled("POST")
    assert cluster.mirrors.static_uid("m1") == OLD.pod.metadata.uid
    assert cluster.mirrors.static_uid(OLD.pod.metadata.uid) == OLD.pod.metadata.uid
    assert cluster.mirrors.static_uid("other") == "other"


async def test_failures_are_tried_again_and_told_once(cluster):
    refused = ApiError(403, "Forbidden", "no")
    cluster.failures = [ApiUnavailableError("down"), refused, refused]
    cluster.mirrors.show([OLD], [])
    await cluster.settled("POST", "POST", "POST", "POST")
    assert cluster.told == [
        f"mirror of static pod {KEY}: down",
        f"mirror of static pod {KEY}: 403 Forbidden: no",
    ]


async def test_a_lost_answer_does_no_harm(cluster):
    cluster.silent = True
    cluster.pods["web-node-1"] = mirror_of(OLD)
    cluster.mirrors.show([OLD], [])
    await cluster.settled("POST", "GET")
    assert cluster.told == []
    assert cluster.mirrors.static_uid("m1") == OLD.pod.metadata.uid


async def test_another_pod_of_the_name_is_in_the_way_until_it_is_gone(cluster, monkeypatch):
    other = mirror_of(OLD)
    other.metadata.annotations = None
    cluster.pods["web-node-1"] = other
    cluster.mirrors.show([OLD], [])
    await cluster.settled("POST", "GET")
    assert cluster.told == [
        f'mirror of static pod {KEY}: 409 AlreadyExists: pods "web-node-1" already exists'
    ]
    del cluster.pods["web-node-1"]
    await cluster.settled("POST")
    assert cluster.pods["web-node-1"].metadata.uid == "m1"


async def test_late_news_of_a_mirror_that_is_gone_is_not_believed(cluster):
    cluster.mirrors.show([OLD], [])
    await cluster.settled("POST")
    gone = cluster.pods["web-node-1"]
    cluster.remove("web-node-1")
    cluster.mirrors.on_change(gone)
    await cluster.settled("POST")
    cluster.mirrors.on_change(gone)
    cluster.mirrors.on_delete(gone)
    await cluster.settled()
