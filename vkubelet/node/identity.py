"""Which of all agents that call themselves by a node's name is the one.

It exists because two agents of one name would take each other's pods apart. An agent is known by an id of
its own in its root directory, and says so in an annotation of its node. An existing node is taken over at
once when it is our own or visibly dead, and else only after its lease was watched for its whole duration
and nobody renewed it: that compares no clocks of different machines.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from pathlib import Path

from providers import intact
from vkubelet.api.client import ApiClient, ApiError
from vkubelet.node import durable
from vkubelet.node.conditions import READY
from vkubelet.node.lease import LEASES, decoder
from vkubelet.node.status import INSTANCE, NodeObject

log = logging.getLogger(__name__)

SHUTDOWN_REASON = "NodeShutdown"
"""The Ready condition's reason by which an agent that has ended says so."""

_DEFAULT_DURATION = 40


class NodeNameTakenError(Exception):
    """Another live agent is the node of this name; the text says how that is known."""


def instance_id(root_dir: Path) -> str:
    """This agent's id, made at its first start. Blocks: call it in a thread."""
    path = root_dir / "instance"
    try:
        return str(uuid.UUID(intact.read(path).decode().strip()))
    except FileNotFoundError:
        log.debug("first start in %s", root_dir)
    except ValueError:
        log.warning("%s holds no id: set aside as %s", path, intact.set_aside(path))
    fresh = str(uuid.uuid4())
    durable.write(path, f"{fresh}\n".encode())
    return fresh


def visibly_free(node: NodeObject, instance: str) -> bool:
    """Whether an existing node may be taken over at once: ours, never ready, declared dead, or shut down."""
    if (node.metadata.annotations or {}).get(INSTANCE) == instance:
        return True
    ready = next((entry for entry in node.status.conditions or () if entry.type == READY), None)
    # The node lifecycle controller sets Unknown once a lease has not been renewed for its grace period.
    return ready is None or ready.status == "Unknown" or ready.reason == SHUTDOWN_REASON


async def ensure_free(client: ApiClient, node: NodeObject, instance: str) -> None:
    """Return once the existing `node` may be taken over.

    Waits for up to the duration of a foreign lease. Raises NodeNameTakenError, ApiError and
    ApiUnavailableError.
    """
    if visibly_free(node, instance):
        return
    name = node.metadata.name
    try:
        lease = decoder.decode(await client.get(f"{LEASES}/{name}"))
    except ApiError as error:
        if error.status == 404:
            return
        raise
    duration = lease.spec.lease_duration_seconds or _DEFAULT_DURATION
    log.warning("node %s exists and is not ours: watching its lease for up to %d s", name, duration)
    deadline = time.monotonic() + duration
    while (left := deadline - time.monotonic()) > 0:
        # The node authorizer lets a node get its lease but not watch it.
        await asyncio.sleep(min(duration / 8, left))
        try:
            later = decoder.decode(await client.get(f"{LEASES}/{name}"))
        except ApiError as error:
            if error.status == 404:
                return
            raise
        if later.spec.renew_time != lease.spec.renew_time:
            other = (node.metadata.annotations or {}).get(INSTANCE)
            who = f"instance {other}, ours is {instance}" if other else "of another kind"
            raise NodeNameTakenError(
                f"node name {name!r} is taken: another agent ({who}) renewed its lease at "
                f"{later.spec.renew_time}; give this node another name (node_name) or stop the other"
            )
