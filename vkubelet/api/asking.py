"""Asking the API server for what this node may have for its pods.

It exists because two parts of the server learn of a pod by watches of their own, perhaps after the node did:
what they say against it is believed only when it lasts. It must not know what is asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiError

LAG = 2.0
"""Seconds for which a refusal is asked again."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.5


async def patiently(ask: Callable[[], Awaitable[bytes]], lag: float = LAG) -> bytes:
    """What `ask` gives.

    Raises what it raises, and a refusal that may be a server's that lags only when it has gone on for `lag`
    seconds: after that nothing is asked.
    """
    began, pauses = time.monotonic(), Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
    while True:
        try:
            return await ask()
        except ApiError as error:
            pause = pauses.delay()
            if not _may_lag(error) or time.monotonic() + pause > began + lag:
                raise
        await asyncio.sleep(pause)


def _may_lag(error: ApiError) -> bool:
    """Whether it may be said by who does not know the pod yet: the node authorizer, which forbids, or the
    NodeRestriction plugin, whose `pod` is that of its own copy. Who has looked into etcd speaks of `pods`.
    """
    return error.status == 403 or (error.status == 404 and error.message.startswith('pod "'))
