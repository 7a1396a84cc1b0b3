"""What becomes of an event before it is sent: nothing, a new object, or a higher count on an old one.

It exists so that a pod that fails for a week costs the API server one object and not ten thousand; the
rules and their numbers are client-go's event correlator. It is pure: the time is an argument, nothing is
sent from here.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from vkubelet.api.objects import ObjectMeta, ObjectReference
from vkubelet.api.struct import Struct
from vkubelet.api.times import rfc3339

COMPONENT = "kubelet"
"""The source of a node's events: what people and test suites look for."""

SPAM_BURST = 25
SPAM_RATE = 1 / 300
"""Events a second about one object after its burst."""

SIMILAR_MAXIMUM = 10
SIMILAR_SECONDS = 600.0
"""Ten events that differ by their message only, each within ten minutes of the one before, become one."""

_REMEMBERED = 4096
_NAME_MAXIMUM = 253

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class EventSource(Struct):
    """source."""

    component: str
    host: str


class Event(Struct, omit_defaults=False):
    """A `v1` Event as this node writes it."""

    metadata: ObjectMeta
    involved_object: ObjectReference
    reason: str
    message: str
    type: str
    source: EventSource
    count: int
    first_timestamp: str
    last_timestamp: str
    reporting_component: str
    reporting_instance: str
    api_version: str = "v1"
    kind: str = "Event"


@dataclass(frozen=True, slots=True)
class Correlated:
    """An event to send: a patch of `event` when it counts more than once, else a new object."""

    event: Event
    patch: bytes | None


class TokenBucket:
    """`burst` at once and `rate` a second after that; times are seconds on any one clock."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at: float | None = None

    def reserve(self, now: float) -> float:
        """Take a token in any case; the seconds until it may be used."""
        self._fill(now)
        self._tokens -= 1
        return max(-self._tokens / self._rate, 0.0)

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + max(now - self._at, 0.0) * self._rate)
        self._at = now


class _Recent(Generic[Key, Value]):
    """A table that forgets what was used longest ago."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > _REMEMBERED:
            self._entries.popitem(last=False)


@dataclass(slots=True)
class _Similar:
    messages: set[str] = field(default_factory=set)
    last: float = 0.0


@dataclass(frozen=True, slots=True)
class _Sent:
    name: str
    first_timestamp: str
    count: int


class Correlator:
    """The memory of what was sent for one node; the newest 4096 entries of each kind."""

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._buckets: _Recent[Hashable, TokenBucket] = _Recent()
        self._similar: _Recent[Hashable, _Similar] = _Recent()
        self._sent: _Recent[Hashable, _Sent] = _Recent()
        self._last_nanoseconds = 0

    def observe(
        self, ref: ObjectReference, type_: str, reason: str, message: str, now: float
    ) -> Correlated | None:
        """What to send for an event that happened at `now` (epoch seconds); None for spam."""
        about = (ref.kind, ref.namespace, ref.name, ref.uid, ref.api_version, type_)
        key: Hashable = (*about, ref.field_path, reason, message)
        message, key = self._aggregated(message, key, (*about, reason), now)
        event = self._event(ref, type_, reason, message, now)
        sent = self._sent.get(key)
        patch = None
        if sent is not None:
            event.metadata.name = sent.name
            event.first_timestamp = sent.first_timestamp
            event.count = sent.count + 1
            changed = {"count": event.count, "lastTimestamp": event.last_timestamp, "message": message}
            patch = msgspec.json.encode(changed)
        self._sent.put(key, _Sent(event.metadata.name, event.first_timestamp, event.count))
        # client-go asks its spam filter last: what is dropped is counted in the next patch.
        bucket = self._buckets.get(about)
        if bucket is None:
            bucket = TokenBucket(SPAM_RATE, SPAM_BURST)
            self._buckets.put(about, bucket)
        return Correlated(event, patch) if bucket.take(now) else None

    def _aggregated(
        self, message: str, key: Hashable, similar_key: Hashable, now: float
    ) -> tuple[str, Hashable]:
        """The message and key to go on with: an event's own, or those of the many like it."""
        similar = self._similar.get(similar_key)
        if similar is None or now - similar.last > SIMILAR_SECONDS:
            similar = _Similar()
        similar.messages.add(message)
        similar.last = now
        self._similar.put(similar_key, similar)
        if len(similar.messages) < SIMILAR_MAXIMUM:
            return message, key
        similar.messages.pop()
        return f"(combined from similar events): {message}", similar_key

    def _event(self, ref: ObjectReference, type_: str, reason: str, message: str, now: float) -> Event:
        self._last_nanoseconds = max(self._last_nanoseconds + 1, int(now * 1e9))
        name = f"{ref.name}.{self._last_nanoseconds:x}"
        namespace = ref.namespace or "default"
        return Event(
            metadata=ObjectMeta(
                name=name if len(name) <= _NAME_MAXIMUM else str(uuid.uuid4()), namespace=namespace
            ),
            involved_object=ref,
            reason=reason,
            message=message,
            type=type_,
            source=EventSource(component=COMPONENT, host=self._node_name),
            count=1,
            first_timestamp=rfc3339(now),
            last_timestamp=rfc3339(now),
            reporting_component=COMPONENT,
            reporting_instance=self._node_name,
        )
