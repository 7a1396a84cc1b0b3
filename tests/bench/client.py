"""The client of the node's benchmarks: creates pods and notes when its watch shows each of them Running.

It shares two cores with everything that it measures, so that it must stay light: bodies are made before the
clock starts, of a watch line only the name and the phase are decoded. It must not know who runs the pods.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from vkubelet.api.client import ApiClient

PODS = "/api/v1/namespaces/default/pods"
EVENTS = "/api/v1/namespaces/default/events"
LABEL = "bench.vkubelet.dev/run"
IN_FLIGHT = 16
"""Creates under way at once: enough to keep two cores busy, too few to queue for long in the API server."""
LONGEST_START = 120.0
"""Seconds within which all pods of a run must be Running, and later gone."""
QUIET = 3.0
"""Seconds without a change of any pod or event after which the node has nothing left to report."""


class _Meta(msgspec.Struct):
    name: str = ""
    resource_version: str = msgspec.field(default="", name="resourceVersion")
    deletion_timestamp: str | None = msgspec.field(default=None, name="deletionTimestamp")


class _Status(msgspec.Struct):
    phase: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    # A bare word in the Status object that an ERROR line carries, a struct in a pod.
    status: _Status | str = ""
    message: str = ""


class _Line(msgspec.Struct):
    type: str
    object: _Object


_line_decoder = msgspec.json.Decoder(_Line)
_object_decoder = msgspec.json.Decoder(_Object)


class BenchError(Exception):
    """A run that gives no figures; the text says which pod or process is the cause."""


@dataclass
class Moments:
    """When each pod was created, shown by the watch, shown Running, ending, gone: `perf_counter` seconds."""

    sent: dict[str, float] = field(default_factory=dict)
    answered: dict[str, float] = field(default_factory=dict)
    added: dict[str, float] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    ending: dict[str, float] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)

    def took(self, begin: Mapping[str, float], end: Mapping[str, float], names: Sequence[str]) -> list[float]:
        """Milliseconds from one moment to another of each named pod, sorted."""
        return sorted((end[name] - begin[name]) * 1000 for name in names)


@dataclass(frozen=True)
class Mounts:
    """What pods mount, each volume at a path of its name, and what they are held to."""

    token: bool = False
    volumes: Sequence[Mapping[str, Any]] = ()
    limits: Mapping[str, str] = field(default_factory=dict)


def pod(name: str, node: str, image: str, mounts: Mounts) -> bytes:
    """A pod bound to its node, so that no scheduler is measured."""
    places = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in mounts.volumes]
    container = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "volumeMounts": places}
    if mounts.limits:
        container["resources"] = {"limits": mounts.limits, "requests": {"cpu": "1m", "memory": "1Mi"}}
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {LABEL: node}},
            "spec": {
                "nodeName": node,
                "automountServiceAccountToken": mounts.token,
                "terminationGracePeriodSeconds": 1,
                "tolerations": [{"operator": "Exists"}],
                "containers": [container],
                "volumes": list(mounts.volumes),
            },
        }
    )


class PodClient:
    """Pods of one node, created, watched and deleted. Use inside `watching`."""

    def __init__(self, api: ApiClient, node: str, image: str) -> None:
        self.api = api
        self.moments = Moments()
        self.mounts = Mounts()
        self._node = node
        self._image = image
        self._missing: set[str] = set()
        self._awaited: dict[str, float] = {}
        self._complete = asyncio.Event()
        self._changed = asyncio.Event()

    async def create(self, names: Sequence[str], rate: float | None = None) -> None:
        """Create the pods and return once the watch has shown all of them Running.

        `rate` is pods a second, each at its own time however long the others take; without it, as fast as
        IN_FLIGHT requests at once can. Raises BenchError when a pod fails or they take too long.
        """
        bodies = [pod(name, self._node, self._image, self.mounts) for name in names]
        self._expect(self.moments.running, names)
        begin = time.perf_counter()
        if rate is None:
            waiting = list(zip(reversed(names), reversed(bodies), strict=True))
            async with asyncio.TaskGroup() as group:
                for _ in range(IN_FLIGHT):
                    group.create_task(self._create_all(waiting))
        else:
            async with asyncio.TaskGroup() as group:
                for index, (name, body) in enumerate(zip(names, bodies, strict=True)):
                    await asyncio.sleep(begin + index / rate - time.perf_counter())
                    group.create_task(self._create(name, body))
        await self._reached(f"pods of {self._node} did not start")

    async def delete_all(self) -> None:
        """Delete every pod of this node and return once the watch has shown all of them gone."""
        names = self.moments.added.keys() - self.moments.gone.keys()
        self._expect(self.moments.gone, names)
        await self.api.delete(f"{PODS}?labelSelector={LABEL}%3D{self._node}", timeout=LONGEST_START)
        await self._reached(f"pods of {self._node} did not end")
        self.moments = Moments()

    async def settled(self) -> None:
        """Return once neither a pod nor an event has changed for QUIET seconds: all is reported."""
        newest = _object_decoder.decode(await self.api.get(EVENTS, query={"limit": "1"}))
        query = {"watch": "1", "resourceVersion": newest.metadata.resource_version}
        follower = asyncio.create_task(self._note_changes(query))
        try:
            async with asyncio.timeout(LONGEST_START):
                while not follower.done():
                    self._changed.clear()
                    try:
                        async with asyncio.timeout(QUIET):
                            await self._changed.wait()
                    except TimeoutError:
                        return
                await follower
        except TimeoutError:
            raise BenchError(f"{self._node} was not at rest within {LONGEST_START:.0f} s") from None
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)

    async def follow(self) -> None:
        """Note what the watch shows until cancelled; a watch that the API server ends is taken up again."""
        selector = {"labelSelector": f"{LABEL}={self._node}"}
        listed = _object_decoder.decode(await self.api.get(PODS, query=selector))
        newest = listed.metadata.resource_version
        while True:
            query = {"watch": "1", "resourceVersion": newest, **selector}
            async with aclosing(self.api.watch(PODS, query, idle_timeout=600)) as lines:
                async for line in lines:
                    newest = self._note(line, time.perf_counter())

    def _note(self, text: bytes, now: float) -> str:
        """Note one line of the watch; returns the resource version that it brings."""
        line = _line_decoder.decode(text)
        name, status = line.object.metadata.name, line.object.status
        self._changed.set()
        if not isinstance(status, _Status):
            raise BenchError(f"the watch failed: {line.object.message}")
        if line.type == "DELETED":
            self._reach(self.moments.gone, name, now)
            return line.object.metadata.resource_version
        self.moments.added.setdefault(name, now)
        if line.object.metadata.deletion_timestamp is not None:
            self.moments.ending.setdefault(name, now)
        if status.phase == "Running" and name not in self.moments.running:
            self._reach(self.moments.running, name, now)
        elif status.phase in ("Failed", "Succeeded") and line.object.metadata.deletion_timestamp is None:
            whole = msgspec.json.decode(text)["object"]["status"]
            raise BenchError(f"pod {name} is {status.phase}: {whole}")
        return line.object.metadata.resource_version

    async def _note_changes(self, query: Mapping[str, str]) -> None:
        async with aclosing(self.api.watch(EVENTS, query, idle_timeout=600)) as lines:
            async for _ in lines:
                self._changed.set()

    async def _create_all(self, waiting: list[tuple[str, bytes]]) -> None:
        while waiting:
            await self._create(*waiting.pop())

    async def _create(self, name: str, body: bytes) -> None:
        self.moments.sent[name] = time.perf_counter()
        await self.api.post(PODS, body, timeout=30)
        self.moments.answered[name] = time.perf_counter()

    def _expect(self, moments: dict[str, float], names: Collection[str]) -> None:
        self._awaited, self._missing = moments, set(names) - moments.keys()
        self._complete.clear()
        if not self._missing:
            self._complete.set()

    def _reach(self, moments: dict[str, float], name: str, now: float) -> None:
        moments[name] = now
        if moments is self._awaited:
            self._missing.discard(name)
            if not self._missing:
                self._complete.set()

    async def _reached(self, failure: str) -> None:
        try:
            async with asyncio.timeout(LONGEST_START):
                await self._complete.wait()
        except TimeoutError:
            some = ", ".join(sorted(self._missing)[:3])
            raise BenchError(
                f"{failure} within {LONGEST_START:.0f} s: {len(self._missing)}, as {some}"
            ) from None


@asynccontextmanager
async def watching(kubeconfig: Path, node: str, image: str) -> AsyncIterator[PodClient]:
    """A client whose watch runs as long as the block; its failure ends the block."""
    api = await ApiClient.from_kubeconfig(kubeconfig)
    client = PodClient(api, node, image)
    try:
        async with asyncio.TaskGroup() as group:
            follower = group.create_task(client.follow())
            yield client
            follower.cancel()
    finally:
        await api.close()
