"""What the node's API is served with: the certificate that callers see, and the CA that vouches for callers.

It exists so that both can change while they are in use: a certificate is signed by the cluster and renewed,
or read from files again; the CA's file is read again when it is another. The rules are the kubelet's
(serverTLSBootstrap, rotation, DynamicFileCAContent). It must not know what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vkubelet import telemetry
from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.config import Config, ConfigError
from vkubelet.node import csr, durable
from vkubelet.node.csr import CertificateError
from vkubelet.node.followed_files import follow
from vkubelet.node.keystore import KeyStore, Pair, self_signed
from vkubelet.node.renewal import RENEWAL_TIMEOUT, renew, sleep_until

log = logging.getLogger(__name__)

_SELF_SIGNED_LIFE = 365 * 86400.0

Tell = Callable[[str, str, str], None]
"""Tells people of the node's affairs: an event's type, reason and message."""


class ServingCertificate:
    """The certificate of the kubelet API, in one TLS context that goes on with the next one.

    The configured files are used when there are any, and read again when they change. Else the cluster is
    asked for one of the signer kubernetes.io/kubelet-serving, kept in ROOT/pki. That signer's requests are
    approved by people or by a controller of theirs, not by Kubernetes itself: until it happens a certificate
    of our own is served, as a kubelet without serverTLSBootstrap does, so that API servers that do not
    verify the kubelet can call it already.
    """

    def __init__(self, config: Config, client: ApiClient | None, host_ip: str) -> None:
        """Without an API server, `client` is None and the files must be configured. Raises ConfigError."""
        if bool(config.tls_cert_file) != bool(config.tls_private_key_file):
            raise ConfigError("tls_cert_file and tls_private_key_file: give both or none")
        if client is None and not (config.tls_cert_file and config.client_ca_file):
            raise ConfigError("tls_cert_file and client_ca_file: both are needed where no API server signs")
        self._config = config
        self._client = client
        self._dns_names = frozenset({config.node_name})
        self._addresses = frozenset({host_ip})
        self._directory = Path(config.root_dir) / "pki"
        self._store = KeyStore(self._directory, "kubelet-server")
        self._pair: Pair | None = None
        self._context = _fresh(ssl.CERT_NONE)
        self._shown = (b"", b"")
        self._ca = b""
        self._complaints: dict[str, str] = {}
        self._chance = random.Random()  # noqa: S311  spreads load, guards nothing

    async def context(self, client_auth: ssl.VerifyMode) -> ssl.SSLContext:
        """The context to serve with; `client_auth` says what is asked of callers.

        Their certificates must be of the configured client CA, or of the cluster's. Raises ConfigError for
        files that cannot be used.
        """
        if self._config.tls_cert_file:
            await self._serve_files()
        else:
            await self._serve(await asyncio.to_thread(self._own))
        if client_auth != ssl.CERT_NONE:
            self._ca = await self._read_ca()
            self._context = self._believing(self._ca)
        self._context.verify_mode = client_auth
        return self._context

    async def run(self, use: Callable[[ssl.SSLContext], None], tell: Tell) -> None:
        """Obtain, renew and follow for as long as the node lives.

        `use` gets the context to serve with from now on whenever another CA is to be believed. `tell` is told
        of a file of that CA which cannot be used: the former one stays.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_pair())
            if self._ca and self._config.client_ca_file:
                files = [Path(self._config.client_ca_file)]
                group.create_task(follow(files, lambda: self._look_at_ca(use, tell)))

    async def _keep_pair(self) -> None:
        config, client = self._config, self._client
        if config.tls_cert_file or client is None:
            await follow([Path(config.tls_cert_file), Path(config.tls_private_key_file)], self._look_at_pair)
        backoff = Backoff(2.0, 300.0)
        while True:
            if self._pair is not None:
                telemetry.SERVING_CERTIFICATE_TTL.set(self._pair.expires_at)
                await sleep_until(self._pair.renewal_at(self._chance))
            try:
                self._pair = await renew(
                    self._store,
                    client,
                    csr.SERVING,
                    self._config.node_name,
                    timeout=RENEWAL_TIMEOUT,
                    dns_names=self._dns_names,
                    addresses=self._addresses,
                )
                await self._serve(await asyncio.to_thread(self._store.current.read_bytes))
                backoff.reset()
            except (CertificateError, ApiError, ApiUnavailableError) as error:
                log.warning("serving certificate not signed by the cluster: %s", error)
                await asyncio.sleep(backoff.delay())

    async def _look_at_pair(self) -> None:
        try:
            if await self._serve_files():
                log.info("serving certificate read again from %s", self._config.tls_cert_file)
            self._complaints.pop("pair", None)
        except ConfigError as error:
            # Half of the pair may be there already: the old one is served until both are.
            if self._is_new("pair", str(error)):
                log.warning("serving certificate not read again: %s", error)

    async def _look_at_ca(self, use: Callable[[ssl.SSLContext], None], tell: Tell) -> None:
        try:
            ca = await self._read_ca()
            if ca != self._ca:
                self._context = self._believing(ca)
                self._ca = ca
                use(self._context)
                log.info("client CA read again from %s", self._config.client_ca_file)
            self._complaints.pop("ca", None)
        except ConfigError as error:
            if self._is_new("ca", str(error)):
                log.warning("client CA not read again: %s", error)
                tell("Warning", "InvalidClientCA", f"the former client CA stays in use: {error}")

    def _is_new(self, kind: str, text: str) -> bool:
        """Whether people have not been told of this already."""
        former, self._complaints[kind] = self._complaints.get(kind), text
        return former != text

    def _own(self) -> bytes:
        """The pair that the cluster signed, if it still serves, or else one made now."""
        pair = self._store.load()
        if pair and pair.valid(time.time()) and pair.covers(set(self._dns_names), set(self._addresses)):
            self._pair = pair
            return self._store.current.read_bytes()
        names = csr.alternative_names(self._dns_names, self._addresses)
        own = self_signed(self._config.node_name, names, time.time(), _SELF_SIGNED_LIFE)
        durable.write(self._directory / "kubelet-self-signed.pem", own)
        return own

    async def _read_ca(self) -> bytes:
        """What the configured client CA is, or else the cluster's. Raises ConfigError."""
        file = self._config.client_ca_file
        if file:
            try:
                return await asyncio.to_thread(Path(file).read_bytes)
            except OSError as error:
                raise ConfigError(f"client_ca_file {file}: {error}") from error
        if self._client is not None and self._client.ca_data is not None:
            return self._client.ca_data
        raise ConfigError("client_ca_file: needed, since the kubeconfig names no CA")

    async def _serve_files(self) -> bool:
        """Show the configured pair; False if it is shown already. Raises ConfigError: the former goes on."""
        names = Path(self._config.tls_cert_file), Path(self._config.tls_private_key_file)
        try:
            pair = await asyncio.to_thread(lambda: (names[0].read_bytes(), names[1].read_bytes()))
            if pair == self._shown:
                return False
            await self._serve(*pair)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"tls_cert_file, tls_private_key_file ({names[0]}, {names[1]}): {error}"
            ) from error
        return True

    async def _serve(self, certificate: bytes, key: bytes | None = None) -> None:
        """Show this pair, perhaps in one, from the next handshake on. Raises OSError or ValueError.

        A context that refuses a pair is left without the one that it had, so another context tries it first.
        Then it is changed in the event loop's thread, where no handshake can begin meanwhile.
        """
        pair = certificate, certificate if key is None else key
        await asyncio.to_thread(_load_pair, _fresh(ssl.CERT_NONE), pair)
        _load_pair(self._context, pair)
        self._shown = pair

    def _believing(self, ca: bytes) -> ssl.SSLContext:
        """Another context: with the pair that is shown now, for clients of this CA. Raises ConfigError."""
        context = _fresh(self._context.verify_mode)
        _load_pair(context, self._shown)
        with _in_memory(ca) as path:
            try:
                context.load_verify_locations(path)
            except OSError as error:
                file = self._config.client_ca_file
                raise ConfigError(f"client_ca_file {file or 'of the kubeconfig'}: {error}") from error
        return context


def _fresh(client_auth: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = client_auth
    return context


def _load_pair(context: ssl.SSLContext, pair: tuple[bytes, bytes]) -> None:
    """Raises OSError or ValueError, and leaves the context without a pair then."""
    with _in_memory(pair[0]) as chain, _in_memory(pair[1]) as secret:
        context.load_cert_chain(chain, secret, _no_password)


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A file that nobody else can change; by its path."""
    descriptor = os.memfd_create("vkubelet-tls", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _no_password() -> str:
    """Instead of OpenSSL's own question, which would wait for somebody at a terminal."""
    raise ValueError("the key is encrypted, and there is nobody to ask for its password")
