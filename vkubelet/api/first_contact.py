"""Whether the API server can be reached at all, asked at a start and never again.

It exists because whoever supervises an agent should see at once that it cannot, while a later outage is
waited out. It must not know what the agent wants of the server.
"""

from __future__ import annotations

import asyncio
import logging

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError

logger = logging.getLogger(__name__)

TIMEOUT = 30.0
"""Seconds that a start waits for an API server that does not answer, or refuses.

One that has just been started knows nobody's rights yet.
"""


class NoContactError(Exception):
    """The API server does not answer, or refuses; one line with the cause."""


async def first_contact(client: ApiClient) -> None:
    """Return once the API server has answered. Raises NoContactError."""
    backoff = Backoff(0.2, 5.0)
    cause = f"no answer from {client.server}"
    try:
        async with asyncio.timeout(TIMEOUT):
            while True:
                try:
                    await client.get("/version")
                except (ApiError, ApiUnavailableError) as error:
                    cause = str(error)
                    logger.warning("waiting for the API server: %s", cause)
                    await asyncio.sleep(backoff.delay())
                else:
                    return
    except TimeoutError:
        raise NoContactError(f"the API server cannot be reached: {cause}") from None
