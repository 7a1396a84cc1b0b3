"""Asking the API server for what a pod of this node may have.

It exists because the server's node authorizer learns of a pod's references by a watch of its own, perhaps
after the node learned of the pod: its refusal is believed only when it lasts. It must not know what is asked
for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiError

_RELATION_LAG = 2.0
"""Seconds for which a refusal is asked again."""


async def patiently(ask: Callable[[], Awaitable[bytes]]) -> bytes:
    """What `ask` gives.

    Raises what it raises, ApiError of status 403 only when it has gone on for a while.
    """
    began, pauses = time.monotonic(), Backoff(0.02, 0.5)
    while True:
        try:
            return await ask()
        except ApiError as error:
            if error.status != 403 or time.monotonic() > began + _RELATION_LAG:
                raise
        await asyncio.sleep(pauses.delay())
