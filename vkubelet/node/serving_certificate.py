"""The certificate that the node shows to the callers of its API.

It exists so that one TLS context is served whose certificate changes while it is: signed by the cluster and
renewed, or read from files. The rules are the kubelet's (serverTLSBootstrap, rotation). It must not know what
is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from vkubelet import telemetry
from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError
from vkubelet.config import Config, ConfigError
from vkubelet.node import csr, durable
from vkubelet.node.csr import CertificateError
from vkubelet.node.keystore import KeyStore, Pair, self_signed
from vkubelet.node.renewal import RENEWAL_TIMEOUT, renew, sleep_until

log = logging.getLogger(__name__)

_FILE_CHECK = 60.0
_SELF_SIGNED_LIFE = 365 * 86400.0


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
        self._times: list[int] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._chance = random.Random()  # noqa: S311  spreads load, guards nothing

    async def context(self, client_auth: ssl.VerifyMode) -> ssl.SSLContext:
        """The context to serve with; `client_auth` says what is asked of callers.

        Their certificates must be of the configured client CA, or of the cluster's. Raises ConfigError for
        files that cannot be used.
        """
        await self._load()
        if client_auth != ssl.CERT_NONE:
            await asyncio.to_thread(self._load_client_ca)
        self._context.verify_mode = client_auth
        return self._context

    async def run(self) -> None:
        """Obtain and renew for as long as the node lives."""
        client = self._client
        if self._config.tls_cert_file or client is None:
            await self._follow_files()
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
                await self._serve(self._store.current, self._store.current)
                backoff.reset()
            except (CertificateError, ApiError, ApiUnavailableError) as error:
                log.warning("serving certificate not signed by the cluster: %s", error)
                await asyncio.sleep(backoff.delay())

    async def _follow_files(self) -> NoReturn:
        while True:
            await asyncio.sleep(_FILE_CHECK)
            if await asyncio.to_thread(self._file_times) == self._times:
                continue
            try:
                await self._load()
                log.info("serving certificate read again from %s", self._config.tls_cert_file)
            except ConfigError as error:
                # Half of the pair may be there already: the old one is served until both are.
                log.warning("serving certificate not read again: %s", error)

    def _file_times(self) -> list[int]:
        paths = (Path(self._config.tls_cert_file), Path(self._config.tls_private_key_file))
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]

    async def _load(self) -> None:
        if not self._config.tls_cert_file:
            own = await asyncio.to_thread(self._own)
            await self._serve(own, own)
            return
        times = await asyncio.to_thread(self._file_times)
        certificate, key = Path(self._config.tls_cert_file), Path(self._config.tls_private_key_file)
        try:
            await self._serve(certificate, key)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"tls_cert_file, tls_private_key_file ({certificate}, {key}): {error}"
            ) from error
        self._times = times

    def _own(self) -> Path:
        """The pair that the cluster signed, if it still serves, or else one made now."""
        pair = self._store.load()
        if pair and pair.valid(time.time()) and pair.covers(set(self._dns_names), set(self._addresses)):
            self._pair = pair
            return self._store.current
        own = self._directory / "kubelet-self-signed.pem"
        names = csr.alternative_names(self._dns_names, self._addresses)
        durable.write(own, self_signed(self._config.node_name, names, time.time(), _SELF_SIGNED_LIFE))
        return own

    async def _serve(self, certificate: Path, key: Path) -> None:
        """Show this pair from the next handshake on. Raises OSError or ValueError: the former one goes on.

        A context that refuses a pair is left without the one that it had, so another context tries a copy of
        it first. Then it is changed in the event loop's thread, where no handshake can begin meanwhile.
        """
        contents = await asyncio.to_thread(lambda: (certificate.read_bytes(), key.read_bytes()))
        with _in_memory(contents[0]) as chain, _in_memory(contents[1]) as secret:
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            await asyncio.to_thread(trial.load_cert_chain, chain, secret, _no_password)
            self._context.load_cert_chain(chain, secret, _no_password)

    def _load_client_ca(self) -> None:
        if self._config.client_ca_file:
            try:
                self._context.load_verify_locations(self._config.client_ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"client_ca_file {self._config.client_ca_file}: {error}") from error
        elif self._client is not None and self._client.ca_data is not None:
            self._context.load_verify_locations(cadata=self._client.ca_data.decode())
        else:
            raise ConfigError("client_ca_file: needed, since the kubeconfig names no CA")


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
