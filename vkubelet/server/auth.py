"""Who may call the kubelet API: the kubelet's two questions to every request, before anything else is told.

It exists to hold their order and the answers to those who are not let in; both are the kubelet's
(InstallAuthFilter). It must not know which routes there are, nor how a token or a permission is looked up.
"""

from __future__ import annotations

import logging
import time
from typing import Protocol

from aiohttp import web

from vkubelet.server.auth_attributes import Attributes, subresources, verb
from vkubelet.server.auth_identity import (
    NOBODY,
    BadCredentialsError,
    Identity,
    bearer_token,
    identify,
    websocket_token,
)
from vkubelet.server.auth_reviews import ReviewError

logger = logging.getLogger(__name__)


class Tokens(Protocol):
    """Knows whose bearer tokens are."""

    async def authenticate(self, token: str) -> Identity | None:
        """The token's user, None for nobody's. Raises BadCredentialsError, ReviewError."""
        ...


class Authorizer(Protocol):
    """Knows who may do what."""

    async def allows(self, attributes: Attributes) -> bool:
        """Whether it may be done. Raises ReviewError."""
        ...


class AlwaysAllow:
    """The kubelet's authorization mode of that name: whoever is authenticated may do all."""

    async def allows(self, attributes: Attributes) -> bool:
        """Yes."""
        return True


class RefusedError(Exception):
    """The request goes no further; `status` and the text are the answer."""

    def __init__(self, status: int, message: str) -> None:
        """`status` is 401, 403 or 500."""
        super().__init__(message)
        self.status = status


class Doorkeeper(Protocol):
    """Knows whether a request goes further."""

    async def admit(self, request: web.Request) -> Identity:
        """The caller, who may do what is asked. Raises RefusedError."""
        ...


class OwnersDoor:
    """For a socket that nobody but this process' own user can open: who has come so far may do all."""

    async def admit(self, request: web.Request) -> Identity:
        """See Doorkeeper."""
        return Identity("system:node-owner").authenticated()


class KubeletAuth:
    """Authenticates by client certificate, then by bearer token; then asks whether the caller may."""

    def __init__(
        self, node_name: str, authorizer: Authorizer, *, tokens: Tokens | None = None, anonymous: bool = False
    ) -> None:
        """Without `tokens`, none is believed; `anonymous` lets those without credentials ask as well."""
        self._node_name = node_name
        self._authorizer = authorizer
        self._tokens = tokens
        self._anonymous = anonymous

    async def admit(self, request: web.Request) -> Identity:
        """The caller, who may do what is asked. Raises RefusedError."""
        try:
            identity = await self._authenticate(request)
        except BadCredentialsError as error:
            logger.debug("refused %s: %s", request.remote, error)
            raise RefusedError(401, "Unauthorized") from error
        except ReviewError as error:
            logger.warning("unable to authenticate a request from %s: %s", request.remote, error)
            raise RefusedError(401, "Unauthorized") from error
        if identity is None:
            if not self._anonymous:
                raise RefusedError(401, "Unauthorized")
            identity = NOBODY
        await self._authorize(identity.authenticated(), request)
        return identity

    async def _authenticate(self, request: web.Request) -> Identity | None:
        certificate = request.get_extra_info("peercert")
        if certificate:
            der = request.get_extra_info("ssl_object").getpeercert(binary_form=True)
            identity = identify(certificate, der, time.time())
            if identity is not None:
                return identity
        if self._tokens is None:
            return None
        token = bearer_token(request.headers.get("Authorization"))
        if token is None and request.headers.get("Upgrade", "").lower() == "websocket":
            token = websocket_token(request.headers.getall("Sec-WebSocket-Protocol", ()))
        if token is None:
            return None
        identity = await self._tokens.authenticate(token)
        if identity is None:
            raise BadCredentialsError("invalid bearer token")
        return identity

    async def _authorize(self, identity: Identity, request: web.Request) -> None:
        """One of the path's subresources must be allowed: the finest is asked for first."""
        wanted = verb(request.method)
        asked = subresources(request.path)
        for subresource in asked:
            attributes = Attributes(identity, wanted, self._node_name, subresource)
            try:
                if await self._authorizer.allows(attributes):
                    return
            except ReviewError as error:
                logger.warning("unable to authorize user %r: %s", identity.user, error)
                raise RefusedError(
                    500,
                    f"Authorization error (user={identity.user}, verb={wanted}, resource=nodes,"
                    f" subresource={subresource})",
                ) from error
        raise RefusedError(
            403,
            f"Forbidden (user={identity.user}, verb={wanted}, resource=nodes,"
            f" subresource(s)=[{' '.join(asked)}])\n",
        )
