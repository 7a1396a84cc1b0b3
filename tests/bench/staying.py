"""The pods of the soak of use: those that are talked to, those that are probed, and those that restart.

What changes by itself (restarts, probes that fail) happens while a file in a directory of the machine's, the
gate, is there. Without it all containers run and nothing is told of them, so that a node can be looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from guests import push_guest

from tests.bench.client import LABEL, LONGEST_START, PODS, BenchError
from tests.bench.cluster import Cluster
from tests.bench.node import Vkubelet
from vkubelet.api.client import ApiClient

TALKED, SERVING, PROBED, RESTARTING, KILLED = 7, 3, 4, 8, 2
"""Pods of each kind. The first two are odd, so that every second visitor of each of them vanishes."""
OPEN = "open"
SLEEPING = ("sleep", "1000000")
AWAITED = ("await", f"/gate/{OPEN}")
VOLUMES: Sequence[Mapping[str, Any]] = (
    {"name": "config", "configMap": {"name": "shared"}},
    {"name": "data", "emptyDir": {}},
    {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
)


@dataclass(frozen=True)
class Images:
    """What the pods run."""

    actor: str
    counter: str
    tcp: str


class Gate:
    """Lets what changes by itself happen."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory

    def open(self) -> None:
        """From now on."""
        (self.directory / OPEN).touch()

    def close(self) -> None:
        """No more."""
        (self.directory / OPEN).unlink()


class Staying:
    """The pods, in the API server."""

    def __init__(self, api: ApiClient, gate: Gate) -> None:
        self._api = api
        self._gate = gate

    async def create(self, cluster: Cluster, web: int) -> None:
        """Create them, and see them run; `web` is the port of a server for probes."""
        registry = cluster.ready.registry
        names = ("actor", "counter", "tcp")
        images = Images(*[await asyncio.to_thread(push_guest, registry, name) for name in names])
        shared = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"a": "1"}}
        await self._api.post("/api/v1/namespaces/default/configmaps", msgspec.json.encode(shared))
        for name, spec in _pods(images, web).items():
            await self._api.post(PODS, self._document(name, spec), timeout=30)
        await self.all_run()

    async def all_run(self) -> None:
        """Return once the API server shows every container running. Raises BenchError."""
        try:
            async with asyncio.timeout(LONGEST_START):
                while missing := [name for name, each in (await self._statuses()).items() if not _runs(each)]:  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise BenchError(f"not all containers run: those of {', '.join(missing)} do not") from None

    async def restarts(self) -> int:
        """Of all containers so far."""
        found = await self._statuses()
        return sum(each["restartCount"] for pod in found.values() for each in pod["containerStatuses"])

    async def _statuses(self) -> dict[str, dict[str, Any]]:
        listed = msgspec.json.decode(await self._api.get(PODS))["items"]
        return {each["metadata"]["name"]: each["status"] for each in listed}

    def _document(self, name: str, spec: dict[str, Any]) -> bytes:
        gate = {"name": "gate", "hostPath": {"path": str(self._gate.directory)}}
        volumes = [*VOLUMES, gate]
        places = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
        spec["containers"] = [
            {"resources": {"limits": {"cpu": "500m", "memory": "32Mi"}, "requests": {"cpu": "1m"}}}
            | {"volumeMounts": places, **container}
            for container in spec["containers"]
        ]
        whole = {
            "nodeName": Vkubelet.node,
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 1,
            "volumes": volumes,
            **spec,
        }
        metadata = {"name": name, "labels": {LABEL: Vkubelet.node}}
        return msgspec.json.encode({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole})


def _runs(status: Mapping[str, Any]) -> bool:
    containers = status.get("containerStatuses", ())
    return bool(containers) and all("running" in each["state"] for each in containers)


def _pods(images: Images, web: int) -> dict[str, dict[str, Any]]:
    kinds: Sequence[tuple[str, int, Callable[[int], dict[str, Any]]]] = (
        ("talked", TALKED, lambda _: _talked(images)),
        ("serving", SERVING, lambda _: _serving(images)),
        ("probed", PROBED, lambda _: _probed(images, web)),
        ("restarting", RESTARTING, lambda number: _restarting(images, number)),
        ("killed", KILLED, lambda _: _killed(images)),
        ("over", 1, lambda _: _starting_over(images)),
    )
    return {f"{kind}-{number}": make(number) for kind, count, make in kinds for number in range(count)}


def _talked(images: Images) -> dict[str, Any]:
    """A container for each way to talk to one. Logs soon have as many files as they ever get."""
    hearing = ["lines", "1500", "hear", *SLEEPING]
    return {
        "containers": [
            {"name": "main", "image": images.actor, "args": [*SLEEPING]},
            {"name": "counting", "image": images.counter, "args": ["/data/count", "0.05"]},
            {"name": "hearing", "image": images.actor, "args": hearing, "stdin": True},
            {"name": "terminal", "image": images.actor, "args": hearing, "stdin": True, "tty": True},
        ]
    }


def _serving(images: Images) -> dict[str, Any]:
    return {"hostNetwork": True, "containers": [{"name": "main", "image": images.tcp, "args": ["echo", "0"]}]}


def _probed(images: Images, web: int) -> dict[str, Any]:
    """By each kind of probe, once a second; one of them fails as long as the gate is open."""
    server = {"host": "127.0.0.1", "port": web}
    container = {"image": images.actor, "args": [*SLEEPING]}
    succeeding = {
        "name": "main",
        "startupProbe": {"periodSeconds": 1, "exec": {"command": ["cat", "/config/a"]}},
        "livenessProbe": {"periodSeconds": 1, "httpGet": {"path": "/", **server}},
        "readinessProbe": {"periodSeconds": 1, "exec": {"command": ["actor", "exit", "0"]}},
    }
    failing = {
        "name": "failing",
        "livenessProbe": {"periodSeconds": 1, "tcpSocket": server},
        "readinessProbe": {"periodSeconds": 1, "exec": {"command": ["test", "!", "-e", f"/gate/{OPEN}"]}},
    }
    return {"containers": [{**container, **each} for each in (succeeding, failing)]}


def _restarting(images: Images, number: int) -> dict[str, Any]:
    """Ends right after the gate is open, well or not."""
    args = [*AWAITED, "lines", "20", "sleep", "0.2", "exit", str(number % 2)]
    hook = {"postStart": {"exec": {"command": ["actor", "exit", "0"]}}}
    return {"containers": [{"name": "main", "image": images.actor, "args": args, "lifecycle": hook}]}


def _killed(images: Images) -> dict[str, Any]:
    """Found dead by its probe as long as the gate is open."""
    command = ["test", "!", "-e", f"/gate/{OPEN}"]
    probe = {"periodSeconds": 1, "failureThreshold": 1, "exec": {"command": command}}
    return {
        "containers": [{"name": "main", "image": images.actor, "args": [*SLEEPING], "livenessProbe": probe}]
    }


def _starting_over(images: Images) -> dict[str, Any]:
    """Of which one container has all of them start again."""
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    asking = {"restartPolicy": "Never", "restartPolicyRules": [rule]}
    return {
        "restartPolicy": "Never",
        "containers": [
            {"name": "main", "image": images.actor, "args": [*AWAITED, "exit", "42"], **asking},
            {"name": "beside", "image": images.actor, "args": [*SLEEPING]},
        ],
    }
