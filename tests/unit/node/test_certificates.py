"""Keys, requests and renewals; the real signers are tried by the integration tests."""

import asyncio
import base64
import json
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from certificates import Signer, left, pair_of
from cryptography import x509
from waiting import until

from vkubelet import telemetry
from vkubelet.api.client import ApiClient, KubeconfigError
from vkubelet.config import Config
from vkubelet.node import csr
from vkubelet.node.certificates import CertificateError, ClientCertificate, ensure_client
from vkubelet.node.keystore import KeyStore, self_signed

Store = Any
TOKEN = "abcdef.0123456789abcdef"  # noqa: S105  there is no such cluster


@pytest.fixture
def signer(store: Store) -> Signer:
    store.sign = Signer()
    return store.sign


@pytest.fixture
def bootstrap(store: Store, tmp_path: Path) -> Path:
    path = tmp_path / "bootstrap.kubeconfig"
    document = {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": store.url, "tls-server-name": "api"}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def joining(tmp_path: Path, bootstrap: Path) -> Config:
    return Config(node_name="wasm-1", root_dir=str(tmp_path / "root"), bootstrap_kubeconfig=str(bootstrap))


def test_a_request_is_what_the_signers_demand() -> None:
    key = csr.new_key()
    request = x509.load_pem_x509_csr(csr.signing_request("wasm-1", key, ["b", "a"], ["10.0.0.1", "::1"]))
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=system:node:wasm-1,O=system:nodes"
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a", "b"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]
    bare = x509.load_pem_x509_csr(csr.signing_request("wasm-1", key))
    assert len(bare.extensions) == 0, "the client's signer refuses alternative names"


def test_a_request_is_named_after_what_it_asks() -> None:
    key, other = csr.new_key(), csr.new_key()

    def name(signer: csr.Signer, key: bytes, *dns: str) -> str:
        return csr.request_name(signer, csr.signing_request("wasm-1", key, dns), key)

    assert name(csr.CLIENT, key) == name(csr.CLIENT, key), "whatever the signature's salt"
    different = {
        name(csr.CLIENT, key),
        name(csr.SERVING, key),
        name(csr.CLIENT, other),
        name(csr.SERVING, key, "a"),
    }
    assert len(different) == 4


def test_what_is_sent_names_signer_and_usages() -> None:
    sent = csr.request_object(csr.SERVING, "n", b"pem")
    assert sent["spec"] == {
        "request": "cGVt",
        "signerName": "kubernetes.io/kubelet-serving",
        "usages": ["digital signature", "server auth"],
    }


async def test_bootstrap_makes_a_kubeconfig_of_the_node(
    joining: Config, signer: Signer, store: Store
) -> None:
    path = await ensure_client(joining)
    root = Path(joining.root_dir)
    assert path == root / "kubeconfig"
    assert {file.stat().st_mode & 0o777 for file in (path, *(root / "pki").iterdir())} == {0o600}
    text = path.read_text()
    assert "abcdef" not in text, "the token stays where it was"
    assert "tls-server-name: api" in text
    client = await ApiClient.from_kubeconfig(path)
    await client.close()
    assert client.server == store.url
    pair = KeyStore(root / "pki", "kubelet-client").load()
    assert pair is not None
    assert pair.common_name == "system:node:wasm-1"
    assert await ensure_client(joining) == path
    assert len(signer.requests) == 1, "once"


async def test_a_killed_bootstrap_finds_its_own_request(joining: Config, store: Store) -> None:
    waiting = asyncio.create_task(ensure_client(joining))
    async with asyncio.timeout(30):
        while not store.objects:  # noqa: ASYNC110  the server is a script without a signal
            await asyncio.sleep(0.01)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    (request,) = store.objects.values()
    certificate = Signer()(base64.b64decode(request["spec"]["request"]))
    request["status"] = {"certificate": base64.b64encode(certificate).decode()}
    await ensure_client(joining)
    assert len(store.objects) == 1


@pytest.mark.parametrize("verdict", ["Denied", "Failed"])
async def test_a_denied_request_is_told_and_the_next_is_another(
    joining: Config, store: Store, signer: Signer, verdict: str
) -> None:
    pki = KeyStore(Path(joining.root_dir) / "pki", "kubelet-client")
    key = pki.pending_key()
    name = csr.request_name(csr.CLIENT, csr.signing_request("wasm-1", key), key)
    condition = {"type": verdict, "status": "True", "reason": "NoWay", "message": "not you"}
    store.put(f"{csr.REQUESTS}/{name}", {"metadata": {"name": name}, "status": {"conditions": [condition]}})
    with pytest.raises(CertificateError, match=f"{name} was {verdict.lower()}: NoWay: not you"):
        await ensure_client(joining)
    assert pki.pending_key() != key
    await ensure_client(joining)


async def test_a_refused_token_is_named(joining: Config, store: Store) -> None:
    store.faults.append(401)
    with pytest.raises(CertificateError, match=r"bootstrap\.kubeconfig: refused: its token may have expired"):
        await ensure_client(joining)


async def test_without_kubeconfig_and_bootstrap_there_is_no_way(config: Config) -> None:
    with pytest.raises(CertificateError, match=r"kubeconfig .* does not exist, and no bootstrap_kubeconfig"):
        await ensure_client(config)


async def test_an_existing_kubeconfig_is_used_as_it_is(bootstrap: Path, tmp_path: Path) -> None:
    config = Config(node_name="wasm-1", root_dir=str(tmp_path), kubeconfig=str(bootstrap))
    assert await ensure_client(config) == bootstrap


async def test_a_broken_kubeconfig_is_kept_and_without_bootstrap_an_error(
    tmp_path: Path, joining: Config, signer: Signer
) -> None:
    path = tmp_path / "mine"
    path.write_text("nonsense")
    with pytest.raises(KubeconfigError, match="expected a mapping"):
        await ensure_client(Config(root_dir=str(tmp_path), kubeconfig=str(path)))
    assert path.read_text() == "nonsense"
    root_path = Path(joining.root_dir) / "kubeconfig"
    root_path.parent.mkdir()
    root_path.write_text("nonsense")
    assert await ensure_client(joining) == root_path
    assert root_path.with_name("kubeconfig.corrupt").read_text() == "nonsense"


@pytest.mark.parametrize("damage", ["expired", "torn", "missing"])
async def test_a_lost_certificate_is_asked_for_again(joining: Config, signer: Signer, damage: str) -> None:
    if damage == "expired":
        signer.start, signer.end = -2.0, -1.0
    await ensure_client(joining)
    signer.start, signer.end = -1.0, 24.0
    current = Path(joining.root_dir) / "pki" / "kubelet-client-current.pem"
    if damage == "torn":
        current.write_bytes(current.read_bytes()[:300])
    if damage == "missing":
        current.unlink()
    without = Config(node_name="wasm-1", root_dir=joining.root_dir)
    with pytest.raises(CertificateError, match=r"kubelet-client-current|expired at"):
        await ensure_client(without)
    await ensure_client(joining)
    pair = KeyStore(current.parent, "kubelet-client").load()
    assert pair is not None
    assert pair.valid(datetime.now(UTC).timestamp())


def test_a_certificate_of_another_key_is_not_kept(tmp_path: Path) -> None:
    kept = KeyStore(tmp_path, "x")
    key = kept.pending_key()
    assert kept.pending_key() == key, "it waits"
    certificate = Signer()(csr.signing_request("n", csr.new_key()))
    with pytest.raises(ValueError, match="another key"):
        kept.keep(certificate, key)
    assert kept.load() is None


def test_corrupt_files_are_set_aside(tmp_path: Path) -> None:
    kept = KeyStore(tmp_path, "x")
    kept.current.write_bytes(b"rubbish")
    (tmp_path / "x.key.new").write_bytes(b"rubbish")
    assert kept.load() is None
    csr.load_key(kept.pending_key())
    assert sorted(path.name for path in tmp_path.glob("*.corrupt")) == [
        "x-current.pem.corrupt",
        "x.key.new.corrupt",
    ]


def test_renewal_is_at_70_to_90_percent_of_the_life() -> None:
    pair = pair_of(self_signed("n", csr.alternative_names(["n"], []), 1_000_000, 940))
    times = [pair.renewal_at(random.Random(seed)) for seed in range(100)]  # noqa: S311
    assert all(999_940 + 700 <= moment <= 999_940 + 900 for moment in times)
    assert max(times) - min(times) > 100


def test_names_that_a_certificate_covers() -> None:
    pair = pair_of(self_signed("n", csr.alternative_names(["n"], ["10.0.0.1"]), 1_000_000, 1000))
    assert pair.covers({"n"}, {"10.0.0.1"})
    assert not pair.covers({"n"}, {"10.0.0.2"})
    assert not pair.covers({"m"}, set())


async def test_the_client_certificate_is_renewed_when_due(
    joining: Config, signer: Signer, running: Callable[[Any], asyncio.Task[Any]]
) -> None:
    signer.start, signer.end = -10.0, 1.0
    path = await ensure_client(joining)
    signer.start, signer.end = -1.0, 24.0
    client = await ApiClient.from_kubeconfig(path)
    task = running(ClientCertificate(joining, client, path).run())
    await until(lambda: len(signer.requests) == 2)
    kept = KeyStore(Path(joining.root_dir) / "pki", "kubelet-client")
    later = datetime.now(UTC).timestamp() + 12 * 3600
    await until(lambda: (pair := kept.load()) is not None and pair.valid(later))
    await until(lambda: left(telemetry.CLIENT_CERTIFICATE_TTL) > 23 * 3600)
    assert not task.done()
    assert signer.requests[0].public_key() != signer.requests[1].public_key(), "a new key each time"
    await client.close()


async def test_an_expired_certificate_is_asked_for_anew_with_the_bootstrap_token(
    joining: Config, signer: Signer, store: Store, running: Callable[[Any], asyncio.Task[Any]]
) -> None:
    """The machine slept, or nobody signed: with a certificate that has expired none can be asked for."""
    path = await ensure_client(joining)
    own = KeyStore(Path(joining.root_dir) / "pki", "kubelet-client")
    signer.start, signer.end = -2.0, -1.0
    own.keep(signer(csr.signing_request("wasm-1", key := own.pending_key())), key)
    signer.start, signer.end = -1.0, 24.0
    client = await ApiClient.from_kubeconfig(path)
    store.token = f"Bearer {TOKEN}"
    running(ClientCertificate(joining, client, path).run())
    now = datetime.now(UTC).timestamp()
    await until(lambda: (pair := own.load()) is not None and pair.valid(now))
    await client.close()


async def test_credentials_of_others_are_not_renewed(bootstrap: Path, client: ApiClient) -> None:
    config = Config(kubeconfig=str(bootstrap))
    await asyncio.wait_for(ClientCertificate(config, client, bootstrap).run(), 10)
