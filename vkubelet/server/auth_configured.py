"""Who may call the kubelet API of a node with an API server, as its configuration says.

It exists to put together what asks the API server. It must not decide anything.
"""

from __future__ import annotations

from vkubelet.api.client import ApiClient
from vkubelet.config import Config
from vkubelet.server.auth import AlwaysAllow, KubeletAuth
from vkubelet.server.auth_reviews import AccessReviewer, TokenReviewer


def kubelet_auth(config: Config, client: ApiClient) -> KubeletAuth:
    """The doorkeeper that is configured; `client` is the node's own."""
    tokens = TokenReviewer(client, cache_ttl=config.authentication_token_webhook_cache_ttl)
    reviewer = AccessReviewer(
        client,
        authorized_ttl=config.authorization_webhook_cache_authorized_ttl,
        unauthorized_ttl=config.authorization_webhook_cache_unauthorized_ttl,
    )
    return KubeletAuth(
        config.node_name,
        AlwaysAllow() if config.authorization_mode == "AlwaysAllow" else reviewer,
        tokens=tokens if config.authentication_token_webhook else None,
        anonymous=config.anonymous_auth,
    )
