"""Having a certificate signed anew before it expires.

It exists for the two certificates of a node, which are kept and renewed alike. It must not know what they are
shown to.
"""

from __future__ import annotations

import asyncio
import logging
import time

from vkubelet.api.client import ApiClient
from vkubelet.node import csr
from vkubelet.node.csr import CertificateError
from vkubelet.node.keystore import KeyStore, Pair

log = logging.getLogger(__name__)

RENEWAL_TIMEOUT = 900.0
"""Seconds that a signature is waited for: the kubelet's number."""

_LONGEST_SLEEP = 3600.0
"""A machine that was suspended does not notice the time; looking at the clock now and then does."""


async def renew(
    store: KeyStore,
    client: ApiClient,
    signer: csr.Signer,
    node_name: str,
    *,
    timeout: float,
    dns_names: frozenset[str] = frozenset(),
    addresses: frozenset[str] = frozenset(),
) -> Pair:
    """Ask for a certificate of the key that waits in `store` and keep it."""
    key = await asyncio.to_thread(store.pending_key)
    request = csr.signing_request(node_name, key, dns_names, addresses)
    try:
        certificate = await csr.obtain(client, signer, request, key, timeout=timeout)
        pair = await asyncio.to_thread(store.keep, certificate, key)
    except CertificateError:
        # Denied or never signed: the next try is another request, which somebody may judge otherwise.
        await asyncio.to_thread(store.drop_pending)
        raise
    except ValueError as error:
        await asyncio.to_thread(store.drop_pending)
        raise CertificateError(f"{signer.name} signed what cannot be used: {error}") from error
    log.info("certificate by %s until %s", signer.name, pair.leaf.not_valid_after_utc)
    return pair


async def sleep_until(moment: float) -> None:
    """Until `moment` (epoch seconds) by the clock on the wall."""
    while (left := moment - time.time()) > 0:  # noqa: ASYNC110  a clock has no event to wait for
        await asyncio.sleep(min(left, _LONGEST_SLEEP))
