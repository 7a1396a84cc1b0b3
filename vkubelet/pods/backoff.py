"""Back-off as client-go's flowcontrol.Backoff counts it, as pure values.

It exists because crash and pull back-off must be decided in `plan`, which has no clock. An event (a
container's end, a failed pull) is in back-off for `delay` seconds after it; each retry doubles the delay,
and an event that comes later than twice the maximum after the last retry starts over.
"""

from __future__ import annotations

import dataclasses

INITIAL = 10.0
MAXIMUM = 300.0


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """The delay in force, in seconds, and when it was set (seconds by `vkubelet.clock`)."""

    delay: float = 0.0
    updated: float = 0.0

    def retry_at(self, event: float, pause: float = 0.0) -> float:
        """When what happened at `event` may be tried again; `event` itself when there is no back-off.

        A `pause` that somebody asked for is kept as well, as far as a back-off may be long.
        """
        delay = 0.0 if self._expired(event) else self.delay
        return event + max(delay, min(pause, MAXIMUM))

    def next(self, event: float, now: float) -> Backoff:
        """The back-off after a retry at `now` of what happened at `event`."""
        if not self.delay or self._expired(event):
            return Backoff(INITIAL, now)
        return Backoff(min(self.delay * 2, MAXIMUM), now)

    def _expired(self, event: float) -> bool:
        return event - self.updated > 2 * MAXIMUM


def go_duration(seconds: float) -> str:
    """Seconds as Go prints a time.Duration, the way the kubelet's messages show it (`2m40s`)."""
    whole = round(seconds * 1000)
    if whole < 1000:
        return f"{whole}ms" if whole else "0s"
    minutes, milliseconds = divmod(whole, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
