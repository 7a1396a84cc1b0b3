"""The node among nodes: registers, says how it is, keeps its lease, and comes back when it was deleted.

It exists to act on what the pure modules beside it decide: it reads the machine, asks them, and sends the
difference. One task follows the node object, one renews the lease, one reports. It must not know pods: the
agent says in three callables what else belongs into the status.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.events import EventRecorder
from vkubelet.api.informer import Informer
from vkubelet.api.objects import ObjectReference
from vkubelet.config import Config
from vkubelet.node import conditions, facts, identity, status, usage
from vkubelet.node.conditions import NotReady
from vkubelet.node.identity import SHUTDOWN_REASON, NodeNameTakenError
from vkubelet.node.lease import LeaseKeeper
from vkubelet.node.status import INSTANCE, NodeImage, NodeObject, NodeStatus, Posted
from vkubelet.node.view import node_view
from vkubelet.pods.fit import NodeView
from vkubelet.pods.machine import MachineUsage

log = logging.getLogger(__name__)

__all__ = ["Node", "NodeImage", "NodeNameTakenError", "RegistrationError"]

_NODES = "/api/v1/nodes"
_TRANSIENT = frozenset({404, 409, 429})
"""Answers beside 5xx that another try may change: deleted or written meanwhile, or too busy."""

_node_decoder = msgspec.json.Decoder(NodeObject)
_encoder = msgspec.json.Encoder()


LIMITED_HOST = "LimitedHost"
"""The reason of the event that says what is not enforced here."""


def limited_text(text: str) -> str:
    """What people are told of a host that lacks this."""
    return f"some limits of pods are not enforced on this host: {text}"


class RegistrationError(Exception):
    """The API server does not take this node; one line with its reason."""


class Node:
    """This agent's node object.

    `port` is the kubelet API's real port, `images` what is on the node, `ready` None or why it takes no
    pods; they are called at every report. `features` are the declaredFeatures that are implemented.
    """

    def __init__(
        self,
        config: Config,
        client: ApiClient,
        recorder: EventRecorder,
        *,
        port: Callable[[], int],
        images: Callable[[], list[NodeImage]],
        ready: Callable[[], str | None],
        features: Iterable[str] = (),
    ) -> None:
        self._config = config
        self._client = client
        self._recorder = recorder
        self._port = port
        self._images = images
        self._ready = ready
        self._features = tuple(features)
        self._facts: facts.Facts | None = None
        self._host_ip = ""
        self._instance = ""
        self._limited = ""
        self._sandbox: Mapping[str, str] = {}
        self._recreated = False
        self._seen: NodeObject | None = None
        self._view: tuple[NodeObject | None, NodeView] | None = None
        self._posted: Posted | None = None
        self._pressed: frozenset[str] = frozenset()
        self._volumes_in_use: frozenset[str] = frozenset()
        self._shown_anew = asyncio.Event()
        self._stopping: NotReady | None = None
        self._report_at = 0.0
        self._gone = False
        self._wake = asyncio.Event()
        self._reporting = asyncio.Lock()

    @property
    def host_ip(self) -> str:
        """The node's address, as `facts.host_ip` finds it at the first look. Raises ConfigError."""
        if not self._host_ip:
            self._host_ip = facts.host_ip(self._config, self._client.server)
        return self._host_ip

    @property
    def uid(self) -> str:
        """The node object's uid, known once `register` has run."""
        return self._seen.metadata.uid if self._seen is not None else ""

    @property
    def capacity(self) -> facts.Resources:
        """What the node has, known once `prepare` has run."""
        return self._known_facts.capacity

    def view(self) -> NodeView:
        """The node as pods see it, known once `prepare` has run; see NodeSource."""
        if self._view is None or self._view[0] is not self._seen:
            self._view = self._seen, node_view(self._config, self._known_facts, self._seen)
        return self._view[1]

    async def refresh(self) -> NodeView:
        """The node as the API server has it now, or as it was last seen; see NodeSource."""
        try:
            found = _node_decoder.decode(await self._client.get(f"{_NODES}/{self._config.node_name}"))
        except (ApiError, ApiUnavailableError) as error:
            log.warning("node not looked at: %s", error)
        else:
            self._changed(found)
        return self.view()

    def usage(self) -> MachineUsage:
        """What the machine uses, known once `prepare` has run; see PressuredNode."""
        return usage.read(self._config, self.capacity)

    def press(self, conditions: frozenset[str]) -> None:
        """Report these pressure conditions; see PressuredNode."""
        self._pressed = conditions
        self._wake.set()

    def offer(self, capacity: Mapping[str, int], allocatable: Mapping[str, int]) -> None:
        """Device plugins give the node so much of these resources, from now on; after `prepare`."""
        self._facts = self._known_facts.with_devices(self._config, capacity, allocatable)
        self._view = None
        self._wake.set()

    def use_volumes(self, names: frozenset[str]) -> None:
        """Report these volumes as in use; see AttachingNode."""
        self._volumes_in_use = names
        self._wake.set()

    async def attached(self, name: str) -> None:
        """Wait until the node's object says that the volume is in use and attached; see AttachingNode."""
        while self._seen is None or not status.is_attached(self._seen.status, name):
            await self._shown_anew.wait()

    def recreated(self) -> None:
        """This is another node than one that had its name before, and has none of its devices.

        To be told before `register`.
        """
        self._recreated = True

    def limited(self, text: str, sandbox: Mapping[str, str]) -> None:
        """Tell everybody what of pods' limits is not enforced here, and why; before `register`.

        And what parts of a container's sandbox there are; see Capabilities.
        """
        self._limited = text
        self._sandbox = sandbox

    def wake(self) -> None:
        """Report soon: the images or the readiness have changed."""
        self._wake.set()

    async def prepare(self) -> None:
        """Read what never changes: the machine, the address, the instance. Raises ConfigError and OSError."""
        root = Path(self._config.root_dir)
        await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True)
        self._instance = await asyncio.to_thread(identity.instance_id, root)
        self._facts = await asyncio.to_thread(facts.read, self._config)
        await asyncio.to_thread(lambda: self.host_ip)

    async def register(self) -> None:
        """Create the node object, or take over the one that exists; waits for the API server if need be.

        Raises RegistrationError when the server refuses, NodeNameTakenError when another live agent is the
        node of this name.
        """
        if self._facts is None:
            await self.prepare()
        # The kubelet's delays: 0.2 s doubling to 7 s.
        backoff = Backoff(0.2, 7.0)
        while True:
            try:
                await self._create_or_adopt()
            except ApiUnavailableError as error:
                log.warning("node not registered yet: %s", error)
                await asyncio.sleep(backoff.delay())
            except ApiError as error:
                if error.status < 500 and error.status not in _TRANSIENT:
                    raise RegistrationError(
                        f"node {self._config.node_name!r} not registered: {error}"
                    ) from error
                log.warning("node not registered yet: %s", error)
                await asyncio.sleep(backoff.delay(error.retry_after))
            else:
                self._gone = False
                return

    async def run(self) -> NoReturn:
        """Be the node, after `register`; ends by cancellation, or by NodeNameTakenError (in a group)."""
        self.event("Normal", "Starting", "Starting kubelet.")
        if self._limited:
            self.event("Warning", LIMITED_HOST, limited_text(self._limited))
        lease = LeaseKeeper(
            self._client,
            self._config.node_name,
            self._config.node_lease_duration_seconds,
            lambda: self.uid,
        )
        informer = Informer(
            self._client,
            _NODES,
            f"metadata.name={self._config.node_name}",
            NodeObject,
            on_change=self._changed,
            on_delete=self._deleted,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(lease.run())
            group.create_task(informer.run())
            group.create_task(self._report())
        raise AssertionError("the node's tasks do not end")

    async def mark_not_ready(
        self, reason: str = SHUTDOWN_REASON, message: str = "node is shutting down"
    ) -> None:
        """Say that the node takes no more pods, now and in every later report; failures are logged.

        The default reason lets another agent take the node's name over at once.
        """
        self._stopping = NotReady(message, reason)
        try:
            await self._sync()
        except (ApiError, ApiUnavailableError) as error:
            log.warning("node not reported as not ready: %s", error)

    async def _report(self) -> NoReturn:
        """Look at the node's state at every interval and whenever something woke us; send what changed."""
        backoff = Backoff(0.5, self._config.node_status_update_frequency)
        while True:
            pause = self._config.node_status_update_frequency
            try:
                if self._gone:
                    log.warning("node %s was deleted: registering again", self._config.node_name)
                    await self.register()
                self._wake.clear()
                await self._sync()
                backoff.reset()
            except (ApiUnavailableError, RegistrationError) as error:
                log.warning("node status not reported: %s", error)
                pause = backoff.delay()
            except ApiError as error:
                log.warning("node status not reported: %s", error)
                self._gone = error.status == 404
                pause = backoff.delay(error.retry_after)
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _create_or_adopt(self) -> None:
        wanted = self._wanted(())
        body = _encoder.encode(status.new_node(self._config, wanted, self._annotations()))
        try:
            answer = await self._client.post(_NODES, body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        else:
            self._sent(wanted, _node_decoder.decode(answer))
            log.info("node %s registered", self._config.node_name)
            return
        found = _node_decoder.decode(await self._client.get(f"{_NODES}/{self._config.node_name}"))
        await identity.ensure_free(self._client, found, self._instance)
        before = (found.status.node_info or {}).get("bootID")
        boot_id = self._known_facts.boot_id
        wanted = self._wanted(found.status.conditions or ())
        patch = status.metadata_patch(status.labels(self._config), self._annotations(), found.metadata)
        # Should another agent take the node over at this moment, one of the two has to look again.
        patch["resourceVersion"] = found.metadata.resource_version
        changes = status.status_patch(wanted, found.status, None, due=True)
        if self._recreated:
            changes = status.without_extended(changes, wanted, found.status)
        await self._patch(patch, changes, wanted)
        self._recreated = False
        log.info("node %s was registered before: taken over", self._config.node_name)
        if before and before != boot_id:
            text = f"Node {self._config.node_name} has been rebooted, boot id: {boot_id}"
            self.event("Warning", "Rebooted", text)

    async def _sync(self) -> None:
        """Send the difference between how the node is and how the API server shows it."""
        async with self._reporting:
            shown = self._seen
            if shown is None:
                return
            before = shown.status.conditions or ()
            wanted = self._wanted(before)
            due = time.monotonic() >= self._report_at
            patch = status.status_patch(wanted, shown.status, self._posted, due=due)
            labels = status.required_labels(self._config)
            metadata = status.metadata_patch(labels, self._annotations(), shown.metadata)
            if not patch and not metadata:
                return
            await self._patch(metadata, patch, wanted)
            for reason in conditions.transitions(before, wanted.conditions or ()):
                self.event("Normal", reason, f"Node {self._config.node_name} status is now: {reason}")

    def _annotations(self) -> dict[str, str | None]:
        return status.own_annotations(self._instance, self._limited, self._sandbox)

    def _wanted(self, before: Iterable[conditions.NodeCondition]) -> NodeStatus:
        not_ready = self._stopping
        if not_ready is None and (why := self._ready()) is not None:
            not_ready = NotReady(why)
        return status.node_status(
            self._config,
            self._known_facts,
            host_ip=self.host_ip,
            port=self._port(),
            conditions=conditions.conditions(before, self._pressed, not_ready, time.time()),
            images=self._images(),
            features=self._features,
            volumes_in_use=self._volumes_in_use,
        )

    async def _patch(
        self, metadata: dict[str, Any], status_patch: dict[str, Any], wanted: NodeStatus
    ) -> None:
        body = {"metadata": metadata} if metadata else {}
        if status_patch:
            body["status"] = status_patch
        path = f"{_NODES}/{self._config.node_name}/status"
        answer = await self._client.patch(path, _encoder.encode(body))
        self._sent(wanted, _node_decoder.decode(answer))

    def _sent(self, wanted: NodeStatus, shown: NodeObject) -> None:
        self._see(shown)
        own = status.own_resources(wanted)
        self._posted = Posted(status.comparable(wanted, own), status.comparable(shown.status, own))
        # Between half and one and a half periods, so that a cluster's nodes do not report together.
        period = self._config.node_status_report_frequency * random.uniform(0.5, 1.5)  # noqa: S311
        self._report_at = time.monotonic() + period

    def _changed(self, node: NodeObject) -> None:
        """Take in the node object as somebody, perhaps ourselves, has left it."""
        before = self._seen
        if before is not None and not _newer(node, before):
            return
        owner = (node.metadata.annotations or {}).get(INSTANCE)
        if owner is not None and owner != self._instance:
            raise NodeNameTakenError(
                f"node {node.metadata.name!r} was taken over by the agent of instance {owner} "
                f"(ours is {self._instance}): two agents must not have one node name"
            )
        self._see(node)
        if before is not None and before.spec.unschedulable != node.spec.unschedulable:
            reason = "NodeNotSchedulable" if node.spec.unschedulable else "NodeSchedulable"
            self.event("Normal", reason, f"Node {node.metadata.name} status is now: {reason}")
        self._wake.set()

    def _see(self, shown: NodeObject) -> None:
        self._seen = shown
        self._shown_anew.set()
        self._shown_anew = asyncio.Event()

    def _deleted(self, node: NodeObject) -> None:
        if node.metadata.uid == self.uid:
            self._gone = True
            self._wake.set()

    def event(self, kind: str, reason: str, message: str) -> None:
        """Tell people something about the node; see PressuredNode."""
        ref = ObjectReference(kind="Node", name=self._config.node_name, uid=self.uid)
        self._recorder.event(ref, kind, reason, message)

    @property
    def _known_facts(self) -> facts.Facts:
        if self._facts is None:
            raise RuntimeError("prepare comes first")
        return self._facts


def _newer(one: NodeObject, other: NodeObject) -> bool:
    """Whether `one` was written after `other`: resource versions of one kind rise (KEP-5504)."""
    versions = one.metadata.resource_version, other.metadata.resource_version
    if all(version.isdecimal() for version in versions):
        return int(versions[0]) > int(versions[1])
    return versions[0] != versions[1]
