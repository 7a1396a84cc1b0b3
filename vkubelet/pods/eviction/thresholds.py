"""When the node lacks a resource, and since when: thresholds, and what becomes of them as time goes by; pure.

It exists so that the rules of soft and hard thresholds, of minimum reclaims and of how long pressure is held
can be tried without a machine. It must not know pods, nor how anything is observed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal

from vkubelet.config import Config, ConfigError
from vkubelet.pods.text import quantity

MEMORY, STORAGE, INODES, PIDS = "memory", "ephemeral-storage", "inodes", "pids"

RESOURCES: Mapping[str, str] = {
    "memory.available": MEMORY,
    "nodefs.available": STORAGE,
    "nodefs.inodesFree": INODES,
    "imagefs.available": STORAGE,
    "imagefs.inodesFree": INODES,
    "containerfs.available": STORAGE,
    "containerfs.inodesFree": INODES,
    "pid.available": PIDS,
}
"""The signals that there are, and the resource that is short when one is low."""

_CONDITIONS = {MEMORY: "MemoryPressure", STORAGE: "DiskPressure", INODES: "DiskPressure", PIDS: "PIDPressure"}

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")


@dataclasses.dataclass(frozen=True, slots=True)
class Amount:
    """An amount, or a share of what there is."""

    number: Decimal | None = None
    share: Decimal | None = None

    def of(self, capacity: int) -> int:
        """How much it is; bytes, inodes or processes."""
        if self.number is not None:
            return int(self.number)
        return int((self.share or Decimal()) * capacity)


@dataclasses.dataclass(frozen=True, slots=True)
class Threshold:
    """A signal is too low below `below`. A grace of 0 seconds makes it a hard one."""

    signal: str
    below: Amount
    grace: float = 0.0
    reclaim: Amount | None = None

    @property
    def resource(self) -> str:
        """What is short below it."""
        return RESOURCES[self.signal]

    @property
    def is_hard(self) -> bool:
        """Whether pods have no time left when it is crossed."""
        return self.grace == 0


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """What is left of what there is."""

    available: int
    capacity: int


Observations = Mapping[str, Observation]
"""By signal; a file system without a fixed number of inodes has no observation of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pressure:
    """What is remembered between two looks. Times are of a clock that only rises.

    `since` tells when each threshold was first crossed, `due` are those whose grace was over, and `seen` when
    each condition was last seen.
    """

    since: Mapping[Threshold, float] = dataclasses.field(default_factory=dict)
    due: tuple[Threshold, ...] = ()
    seen: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def conditions(self, now: float, hold: float) -> frozenset[str]:
        """The node's conditions that hold: seen now, or within `hold` seconds."""
        return frozenset(kind for kind, at in self.seen.items() if now - at < hold)


def look(
    before: Pressure, thresholds: Iterable[Threshold], observations: Observations, now: float
) -> Pressure:
    """What is known after a look. Those that were due stay so until their minimum reclaim is reached too."""
    crossed = dict.fromkeys(met(thresholds, observations))
    crossed |= dict.fromkeys(met(before.due, observations, reclaim=True))
    since = {threshold: before.since.get(threshold, now) for threshold in crossed}
    due = tuple(threshold for threshold, at in since.items() if now - at >= threshold.grace)
    seen = {**before.seen, **{_CONDITIONS[threshold.resource]: now for threshold in crossed}}
    return Pressure(since, due, seen)


def met(
    thresholds: Iterable[Threshold], observations: Observations, *, reclaim: bool = False
) -> list[Threshold]:
    """Those that are crossed; with `reclaim`, those whose minimum reclaim is not reached."""
    found = []
    for threshold in thresholds:
        observed = observations.get(threshold.signal)
        if observed is None:
            continue
        wanted = threshold.below.of(observed.capacity)
        if reclaim and threshold.reclaim is not None:
            wanted += threshold.reclaim.of(observed.capacity)
        if observed.available < wanted:
            found.append(threshold)
    return found


def most_urgent(due: Iterable[Threshold]) -> Threshold | None:
    """The one to act on: memory goes before all else, and hard ones before soft ones."""
    return min(due, key=lambda one: (one.resource != MEMORY, not one.is_hard), default=None)


def configured(config: Config) -> tuple[Threshold, ...]:
    """The thresholds that the configuration names. Raises ConfigError naming the option and the signal.

    The file system of containers is watched as that of the node is, unless it has thresholds of its own.
    """
    graces = {
        signal: _seconds("evictionSoftGracePeriod", signal, text)
        for signal, text in config.eviction_soft_grace_period.items()
    }
    reclaims = {
        signal: _amount("evictionMinimumReclaim", signal, text)
        for signal, text in config.eviction_minimum_reclaim.items()
    }
    found = []
    for option, texts in (("evictionHard", config.eviction_hard), ("evictionSoft", config.eviction_soft)):
        for signal, text in _with_container_file_system(texts).items():
            amount = _amount(option, signal, text)
            if amount.share in (0, 1):
                continue  # a threshold that is switched off
            if amount.number is not None and amount.number <= 0:
                raise ConfigError(f"{option}: {signal}: {text!r} must be positive")
            grace = 0.0
            if option == "evictionSoft":
                period = graces.get(signal, graces.get(signal.replace("containerfs", "nodefs")))
                if period is None:
                    raise ConfigError(f"{option}: {signal}: set its grace period in evictionSoftGracePeriod")
                grace = period
            found.append(Threshold(signal, amount, grace, reclaims.get(signal)))
    return tuple(found)


def reserved(thresholds: Iterable[Threshold], signal: str, capacity: int) -> int:
    """What a hard threshold keeps from pods: they cannot be promised what they would be evicted for."""
    hard = (one.below.of(capacity) for one in thresholds if one.is_hard and one.signal == signal)
    return max(hard, default=0)


def _with_container_file_system(texts: Mapping[str, str]) -> Mapping[str, str]:
    derived = {
        signal.replace("nodefs", "containerfs"): text
        for signal, text in texts.items()
        if signal.startswith("nodefs")
    }
    return {**derived, **texts}


def _amount(option: str, signal: str, text: str) -> Amount:
    _check_signal(option, signal)
    wrong = ConfigError(f"{option}: {signal}: {text!r} is neither a quantity nor a share of 0% to 100%")
    try:
        value = Decimal(text[:-1]) / 100 if text.endswith("%") else quantity(text)
    except (ValueError, ArithmeticError):
        raise wrong from None
    if not value.is_finite() or value < 0 or (text.endswith("%") and value > 1):
        raise wrong
    return Amount(share=value) if text.endswith("%") else Amount(number=value)


def _seconds(option: str, signal: str, text: str) -> float:
    _check_signal(option, signal)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ConfigError(f"{option}: {signal}: {text!r} is no duration like 1m30s")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def _check_signal(option: str, signal: str) -> None:
    if signal not in RESOURCES:
        raise ConfigError(f"{option}: unsupported eviction signal {signal}; known are {', '.join(RESOURCES)}")
