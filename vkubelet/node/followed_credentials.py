"""The node's credentials, read again whenever a file that they come from is another.

It exists because whoever made a kubeconfig renews it, or the certificates that it names, while the node runs:
an agent that had to be started anew for that would be refused until somebody did. It must not know what is
asked with them.
"""

from __future__ import annotations

import contextlib
import logging
from typing import NoReturn

from vkubelet.api.client import ApiClient, KubeconfigError
from vkubelet.node.followed_files import follow

log = logging.getLogger(__name__)


class _OthersError(Exception):
    """The kubeconfig names other files now."""


async def follow_credentials(client: ApiClient) -> NoReturn:
    """Keep `client`'s credentials current; what cannot be used is told of, and the former stay."""
    told = ""

    async def look() -> None:
        nonlocal told
        try:
            if await client.reload_credentials():
                log.info("credentials read again from %s", followed[0])
            told = ""
        except KubeconfigError as error:
            # Half of a pair may be there already: once both are, this is called again.
            if str(error) != told:
                told = str(error)
                log.warning("credentials not read again: %s", error)
        if client.credential_files != followed:
            raise _OthersError

    while True:
        followed = client.credential_files
        with contextlib.suppress(_OthersError):
            await follow(followed, look)
