"""The certificate that the node shows to the API server.

It exists so that a node needs nothing but a bootstrap token: the key is made here and never leaves the
machine, the cluster signs, and the certificate is renewed before it expires. The rules are the kubelet's
(bootstrap, rotation). It must not know what is asked over TLS.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import time
from pathlib import Path
from typing import Any

import yaml

from providers import intact
from vkubelet import telemetry
from vkubelet.api.backoff import Backoff
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError, KubeconfigError
from vkubelet.api.kubeconfig import entries
from vkubelet.config import Config
from vkubelet.node import csr, durable
from vkubelet.node.csr import CertificateError
from vkubelet.node.keystore import KeyStore, Pair
from vkubelet.node.renewal import RENEWAL_TIMEOUT, renew, sleep_until

log = logging.getLogger(__name__)

__all__ = ["CertificateError", "ClientCertificate", "ensure_client"]

_BOOTSTRAP_TIMEOUT = 3600.0
"""Seconds that a signature is waited for: the kubelet's number."""

# What a bootstrap's cluster entry may say beside the server and its CA.
_CLUSTER_FIELDS = ("insecure-skip-tls-verify", "tls-server-name", "proxy-url")


def _client_store(config: Config) -> KeyStore:
    return KeyStore(Path(config.root_dir) / "pki", "kubelet-client")


def client_kubeconfig(config: Config) -> Path:
    """Where the node's own kubeconfig is, or will be once the bootstrap has made it."""
    return Path(config.kubeconfig) if config.kubeconfig else Path(config.root_dir) / "kubeconfig"


async def ensure_client(config: Config) -> Path:
    """The kubeconfig of `system:node:NAME`: the one that exists, else one made by the TLS bootstrap.

    Resumable: the key and the name of the request survive a kill, so that one bootstrap makes one request.
    Raises KubeconfigError and CertificateError.
    """
    path = client_kubeconfig(config)
    try:
        fault = await asyncio.to_thread(_fault, path, _client_store(config))
    except KubeconfigError as error:
        if not config.bootstrap_kubeconfig:
            raise
        fault = f"{error} (set aside as {await asyncio.to_thread(intact.set_aside, path)})"
    if fault is None:
        return path
    if not config.bootstrap_kubeconfig:
        raise CertificateError(f"{fault}, and no bootstrap_kubeconfig is given to ask for another")
    log.info("%s: asking for a certificate with %s", fault, config.bootstrap_kubeconfig)
    await _bootstrap(config, path)
    return path


def _fault(path: Path, store: KeyStore) -> str | None:
    """Why another certificate is needed; None when `path` can be used. Raises KubeconfigError."""
    if not path.exists():
        return f"kubeconfig {path} does not exist"
    _, user = entries(path)
    if user.get("client-certificate") != str(store.current):
        return None
    pair = store.load()
    if pair is None:
        return f"kubeconfig {path}: its certificate {store.current} is missing or unusable"
    if not pair.valid(time.time()):
        return f"kubeconfig {path}: its certificate expired at {pair.leaf.not_valid_after_utc}"
    return None


async def _bootstrap(config: Config, path: Path) -> Pair:
    store = _client_store(config)
    source = Path(config.bootstrap_kubeconfig)
    cluster, _ = await asyncio.to_thread(entries, source)
    client = await ApiClient.from_kubeconfig(source)
    try:
        pair = await renew(store, client, csr.CLIENT, config.node_name, timeout=_BOOTSTRAP_TIMEOUT)
        document = _kubeconfig(client, cluster, store.current)
    except ApiError as error:
        hint = ": its token may have expired" if error.status == 401 else ""
        raise CertificateError(f"bootstrap kubeconfig {source}: refused{hint}: {error}") from error
    finally:
        await client.close()
    await asyncio.to_thread(durable.write, path, yaml.safe_dump(document).encode())
    return pair


def _kubeconfig(client: ApiClient, bootstrap_cluster: dict[str, Any], pair: Path) -> dict[str, Any]:
    cluster = {key: bootstrap_cluster[key] for key in _CLUSTER_FIELDS if key in bootstrap_cluster}
    cluster["server"] = client.server
    if client.ca_data is not None:
        cluster["certificate-authority-data"] = base64.b64encode(client.ca_data).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "default",
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "clusters": [{"name": "default", "cluster": cluster}],
        "users": [{"name": "default", "user": {"client-certificate": str(pair), "client-key": str(pair)}}],
    }


class ClientCertificate:
    """Renews the certificate that the bootstrap obtained; `client` goes on with the new one."""

    def __init__(self, config: Config, client: ApiClient, path: Path) -> None:
        self._config = config
        self._client = client
        self._path = path
        self._store = _client_store(config)
        self._chance = random.Random()  # noqa: S311  spreads load, guards nothing

    async def run(self) -> None:
        """Renew for as long as the node lives; returns at once when the certificate is not of our making."""
        _, user = await asyncio.to_thread(entries, self._path)
        if user.get("client-certificate") != str(self._store.current):
            log.info("the credentials in %s are renewed by whoever made them", self._path)
            return
        backoff = Backoff(2.0, 300.0)
        pair = await asyncio.to_thread(self._store.load)
        while True:
            if pair is not None:
                telemetry.CLIENT_CERTIFICATE_TTL.set(pair.expires_at)
                await sleep_until(pair.renewal_at(self._chance))
            try:
                pair = await self._renewed()
                await self._client.reload_credentials()
                backoff.reset()
            except (CertificateError, ApiError, ApiUnavailableError, KubeconfigError) as error:
                log.warning("client certificate not renewed: %s", error)
                await asyncio.sleep(backoff.delay())

    async def _renewed(self) -> Pair:
        """Another pair, asked for with the present one, or where that is refused, as at the first time."""
        name = self._config.node_name
        try:
            return await renew(self._store, self._client, csr.CLIENT, name, timeout=RENEWAL_TIMEOUT)
        except ApiError as error:
            if error.status != 401 or not self._config.bootstrap_kubeconfig:
                raise
            log.warning("asking with %s, since %s", self._config.bootstrap_kubeconfig, error)
        return await _bootstrap(self._config, self._path)
