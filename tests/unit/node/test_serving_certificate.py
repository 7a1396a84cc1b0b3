"""What callers see of the node, and whom it believes; the real signer is tried by the integration tests."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from certificates import PEM, Signer, left, pair_of
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from exchanging import by_renaming, by_swapping_the_link, by_writing
from waiting import until

from vkubelet import telemetry
from vkubelet.api.client import ApiClient
from vkubelet.config import Config, ConfigError
from vkubelet.node import csr
from vkubelet.node.keystore import self_signed
from vkubelet.node.serving_certificate import ServingCertificate

Store = Any


def nobody(_: ssl.SSLContext) -> None:
    raise AssertionError("no other CA is to be believed")


def silence(kind: str, reason: str, message: str) -> None:
    raise AssertionError(f"nothing is wrong with the CA: {kind} {reason} {message}")


async def served(context: ssl.SSLContext) -> x509.Certificate:
    """The certificate that a client of the context gets to see."""

    async def bye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(bye, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        pem = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
    return x509.load_pem_x509_certificate(pem.encode())


async def served_after(context: ssl.SSLContext, former: x509.Certificate) -> x509.Certificate:
    async with asyncio.timeout(30):
        while (now := await served(context)) == former:  # noqa: ASYNC110  only a handshake can tell
            await asyncio.sleep(0.01)
    return now


async def test_serving_goes_from_self_signed_to_signed_in_one_context(
    config: Config, client: ApiClient, store: Store, running: Callable[[Any], asyncio.Task[Any]]
) -> None:
    serving = ServingCertificate(config, client, "10.0.0.1")
    context = await serving.context(ssl.CERT_NONE)
    first = await served(context)
    assert first.issuer == first.subject
    store.sign = Signer()
    running(serving.run(nobody, silence))
    await until(lambda: bool(store.sign.requests))
    second = await served_after(context, first)
    expires_at = second.not_valid_after_utc.timestamp()
    await until(lambda: 0 < left(telemetry.SERVING_CERTIFICATE_TTL) <= expires_at - time.time() + 1)
    assert second.subject.rfc4514_string() == "CN=system:node:wasm-1,O=system:nodes"
    assert pair_of(second.public_bytes(PEM)).covers({"wasm-1"}, {"10.0.0.1"})
    again = ServingCertificate(config, client, "10.0.0.1")
    assert await served(await again.context(ssl.CERT_NONE)) == second, "kept for the next start"
    moved = ServingCertificate(config, client, "10.0.0.2")
    assert await served(await moved.context(ssl.CERT_NONE)) != second, "not for another address"


async def test_configured_files_are_served_and_read_again(
    tmp_path: Path,
    client: ApiClient,
    running: Callable[[Any], asyncio.Task[Any]],
) -> None:
    file = tmp_path / "tls.pem"
    file.write_bytes(self_signed("one", csr.alternative_names(["one"], []), 2_000_000_000, 60))
    config = Config(root_dir=str(tmp_path), tls_cert_file=str(file), tls_private_key_file=str(file))
    serving = ServingCertificate(config, client, "10.0.0.1")
    context = await serving.context(ssl.CERT_NONE)
    first = await served(context)
    assert "one@" in first.subject.rfc4514_string()
    running(serving.run(nobody, silence))
    file.write_bytes(b"half")
    file.write_bytes(self_signed("two", csr.alternative_names(["two"], []), 2_000_000_000, 60))
    second = await served_after(context, first)
    assert "two@" in second.subject.rfc4514_string()


@pytest.mark.parametrize("half", ["the certificate alone", "another's key", "nothing yet"])
async def test_the_former_pair_is_served_until_both_halves_of_the_next_are_there(
    tmp_path: Path,
    client: ApiClient,
    caplog: pytest.LogCaptureFixture,
    running: Callable[[Any], asyncio.Task[Any]],
    half: str,
) -> None:
    one, two = (
        self_signed(name, csr.alternative_names([name], []), 2_000_000_000, 60) for name in ("one", "two")
    )
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(one)
    key.write_bytes(one)
    config = Config(root_dir=str(tmp_path), tls_cert_file=str(certificate), tls_private_key_file=str(key))
    serving = ServingCertificate(config, client, "10.0.0.1")
    context = await serving.context(ssl.CERT_NONE)
    first = await served(context)
    running(serving.run(nobody, silence))
    certificate.write_bytes(two)
    if half == "the certificate alone":
        key.unlink()
    elif half == "nothing yet":
        key.write_bytes(b"")
    await until(lambda: "serving certificate not read again" in caplog.text)
    assert await served(context) == first
    key.write_bytes(two)
    assert "two@" in (await served_after(context, first)).subject.rfc4514_string()


async def test_a_key_with_a_password_is_refused(tmp_path: Path, client: ApiClient) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(self_signed("one", csr.alternative_names(["one"], []), 2_000_000_000, 60))
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    key.write_bytes(encrypted)
    config = Config(root_dir=str(tmp_path), tls_cert_file=str(certificate), tls_private_key_file=str(key))
    with pytest.raises(ConfigError, match="the key is encrypted"):
        await ServingCertificate(config, client, "10.0.0.1").context(ssl.CERT_NONE)


async def test_files_that_cannot_be_served_are_named(tmp_path: Path, client: ApiClient) -> None:
    with pytest.raises(ConfigError, match="give both or none"):
        ServingCertificate(Config(tls_cert_file="x"), client, "10.0.0.1")
    config = Config(root_dir=str(tmp_path), tls_cert_file="/no", tls_private_key_file="/no")
    with pytest.raises(ConfigError, match=r"tls_cert_file, tls_private_key_file \(/no, /no\)"):
        await ServingCertificate(config, client, "10.0.0.1").context(ssl.CERT_NONE)
    with pytest.raises(ConfigError, match="client_ca_file: needed"):
        await ServingCertificate(Config(root_dir=str(tmp_path)), client, "1.2.3.4").context(ssl.CERT_OPTIONAL)
    with pytest.raises(ConfigError, match="client_ca_file /no"):
        await ServingCertificate(
            Config(root_dir=str(tmp_path), client_ca_file="/no"), client, "1.2.3.4"
        ).context(ssl.CERT_OPTIONAL)


class Door:
    """Serves with whatever context it is told to, and hears what people are told."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.told: list[str] = []
        self.used = 0

    def use(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.used += 1

    def tell(self, kind: str, reason: str, message: str) -> None:
        self.told.append(f"{kind} {reason} {message}")

    async def lets_in(self, client: ssl.SSLContext) -> bool:
        """Whether somebody gets through the handshake, and what was sent then arrives."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read(1))
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=self.context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
                writer.write(b"x")
                answered = await reader.read(1)
                writer.close()
            except (OSError, ssl.SSLError):
                return False
        return answered == b"x"


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[Authority, Authority]:
    return Authority(tmp_path, "former"), Authority(tmp_path, "next")


@pytest.mark.parametrize("exchange", [by_renaming, by_writing, by_swapping_the_link])
async def test_another_client_ca_is_believed_without_a_restart(
    tmp_path: Path,
    client: ApiClient,
    running: Callable[[Any], asyncio.Task[Any]],
    authorities: tuple[Authority, Authority],
    exchange: Callable[[Path, str], None],
) -> None:
    former, later = authorities
    certificate, key = former.issue("node", serving=True)
    trusting = [
        former.client(authority.issue("somebody")) for authority in authorities
    ]  # of the server's certificate, which stays
    (tmp_path / "ca").mkdir()
    file = tmp_path / "ca" / "ca.pem"
    exchange(file, former.pem)
    config = Config(tls_cert_file=str(certificate), tls_private_key_file=str(key), client_ca_file=str(file))
    serving = ServingCertificate(config, client, "127.0.0.1")
    door = Door(await serving.context(ssl.CERT_REQUIRED))
    assert [await door.lets_in(each) for each in trusting] == [True, False]
    running(serving.run(door.use, door.tell))
    for round_, pem in enumerate((later.pem, former.pem, later.pem), 1):
        exchange(file, pem)
        await until(lambda wanted=round_: door.used == wanted)
        expected = [pem == former.pem, pem == later.pem]
        assert [await door.lets_in(each) for each in trusting] == expected
    assert not door.told


@pytest.mark.parametrize("fault", ["gone", "empty", "half"])
async def test_a_client_ca_that_cannot_be_used_is_told_once_and_the_former_stays(
    tmp_path: Path,
    client: ApiClient,
    running: Callable[[Any], asyncio.Task[Any]],
    authorities: tuple[Authority, Authority],
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    former, later = authorities
    certificate, key = former.issue("node", serving=True)
    somebody = former.client(former.issue("somebody"))
    file = tmp_path / "ca.pem"
    file.write_text(former.pem)
    config = Config(tls_cert_file=str(certificate), tls_private_key_file=str(key), client_ca_file=str(file))
    serving = ServingCertificate(config, client, "127.0.0.1")
    door = Door(await serving.context(ssl.CERT_REQUIRED))
    running(serving.run(door.use, door.tell))
    if fault == "gone":
        file.unlink()
    else:
        by_renaming(file, "" if fault == "empty" else former.pem + later.pem[: len(later.pem) // 2])
    await until(lambda: bool(door.told))
    (told,) = door.told
    assert told.startswith(
        f"Warning InvalidClientCA the former client CA stays in use: client_ca_file {file}:"
    )
    assert "client CA not read again" in caplog.text
    assert await door.lets_in(somebody)
    by_renaming(tmp_path / "neighbour", "a change beside it")
    by_renaming(file, later.pem)
    await until(lambda: door.used == 1)
    assert not await door.lets_in(somebody)
    assert len(door.told) == 1


async def test_the_pair_and_the_ca_change_apart(
    tmp_path: Path,
    client: ApiClient,
    running: Callable[[Any], asyncio.Task[Any]],
    authorities: tuple[Authority, Authority],
) -> None:
    former, later = authorities
    one, two = (self_signed(name, csr.alternative_names([name], []), time.time(), 600) for name in "ab")
    pair, ca = tmp_path / "tls.pem", tmp_path / "ca.pem"
    pair.write_bytes(one)
    ca.write_text(former.pem)
    config = Config(tls_cert_file=str(pair), tls_private_key_file=str(pair), client_ca_file=str(ca))
    serving = ServingCertificate(config, client, "10.0.0.1")
    door = Door(await serving.context(ssl.CERT_OPTIONAL))
    first = await served(door.context)
    running(serving.run(door.use, door.tell))
    pair.write_bytes(b"half")
    by_renaming(ca, later.pem)
    await until(lambda: door.used == 1)
    assert await served(door.context) == first, "the pair that is shown goes on with the other CA"
    pair.write_bytes(two)
    assert "b@" in (await served_after(door.context, first)).subject.rfc4514_string()
