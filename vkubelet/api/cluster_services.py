"""The cluster's services with an address, kept current: containers are told of them by their environment.

It exists because a start must not wait for the API server to learn what hardly changes. It must not know
what is made of a service.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient
from vkubelet.api.configuration import Service
from vkubelet.api.informer import Informer

_NO_ADDRESS = ("", "None")


class ClusterServices:
    """One for the node; `run` is a task of it."""

    def __init__(self, client: ApiClient, *, backoff: Backoff | None = None) -> None:
        """`backoff` spaces the tries of a failing list or watch."""
        self._named: dict[str, dict[str, Service]] = {}
        self._informer = Informer(
            client,
            "/api/v1/services",
            # As the kubelet asks: containers are told nothing of headless ones.
            "spec.clusterIP!=None",
            Service,
            on_change=self._put,
            on_delete=self._remove,
            backoff=backoff,
        )

    async def in_namespace(self, namespace: str, timeout: float) -> list[Service]:
        """Those that have an address, ordered by name; waits `timeout` seconds for the first list of all.

        Raises TimeoutError if it does not come.
        """
        if not self._informer.synced.is_set():
            async with asyncio.timeout(timeout):
                await self._informer.synced.wait()
        named = self._named.get(namespace, {})
        return [named[name] for name in sorted(named)]

    async def run(self) -> NoReturn:
        """Keep them current, until cancelled."""
        await self._informer.run()

    def _put(self, service: Service) -> None:
        if service.spec.cluster_ip in _NO_ADDRESS:
            self._remove(service)
        else:
            self._named.setdefault(service.metadata.namespace, {})[service.metadata.name] = service

    def _remove(self, service: Service) -> None:
        """Only this very service: one of its name may have come in its place."""
        namespace, name = service.metadata.namespace, service.metadata.name
        named = self._named.get(namespace, {})
        if name in named and named[name].metadata.uid == service.metadata.uid:
            del named[name]
            if not named:
                del self._named[namespace]
