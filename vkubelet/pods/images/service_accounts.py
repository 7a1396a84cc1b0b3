"""The service account of a pod, and a token of it, for plugins that have credentials by it.

It exists so that plugins need not know the API server. It must not know what a token is for. The rules are
those of pkg/credentialprovider/plugin: the token is bound to the pod, the account is read when it is needed.
"""

from __future__ import annotations

import msgspec

from vkubelet.api.asking import patiently
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.api.objects import ObjectMeta, Pod
from vkubelet.api.struct import Struct
from vkubelet.api.volumes import ServiceAccountTokenProjection
from vkubelet.pods.images.credential_providers import Account, ProviderFailedError
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.tokens import Tokens


class _ServiceAccount(Struct):
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)


class ServiceAccounts:
    """Implements Accounts."""

    def __init__(self, client: ApiClient | None) -> None:
        """Without a client there are none: the node has no API server."""
        self._client = client
        self._tokens = Tokens(client)

    async def of(self, pod: Pod, audience: str) -> Account:
        """See Accounts."""
        namespace, name = pod.metadata.namespace, pod.spec.service_account_name
        client = self._client
        if client is None:
            raise ProviderFailedError("this node runs without an API server, which has the service accounts")
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"
        try:
            meta = msgspec.json.decode(
                await patiently(lambda: client.get(path)), type=_ServiceAccount
            ).metadata
            token = await self._tokens.get(pod, ServiceAccountTokenProjection(audience=audience), None)
        except (ApiError, ApiUnavailableError, SetUpError, msgspec.DecodeError) as error:
            raise ProviderFailedError(f"service account {namespace}/{name}: {error}") from error
        return Account(namespace, name, meta.uid, meta.annotations or {}, token.text)

    def forget(self, pod: Pod) -> None:
        """See Accounts."""
        self._tokens.forget(pod.metadata.uid)
