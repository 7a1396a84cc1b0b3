"""TLS of a registry's hosts: authorities, certificates of clients, and what is said when it fails."""

import ssl
from pathlib import Path

import pytest
from authority import Authority

from oci.errors import RegistryHostsError, RegistryUnavailableError
from oci.reference import parse

MODULE = b"\0asm\1\0\0\0" + bytes(range(256)) * 4000


class TestTls:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        made = Authority(tmp_path, "a private authority")
        directory = tmp_path / "certs.d" / "upstream.example"
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_text(made.pem)
        return made

    @pytest.fixture
    async def secure(self, authority: Authority, serve):
        """A registry with a certificate of that authority."""
        served = await serve(authority.server(authority.issue(None, serving=True)))
        served.image("me/app:v1", MODULE)
        return served

    async def test_a_private_authority(self, secure, configured) -> None:
        store = configured(f'server = "https://{secure.address}"\nca = "ca.crt"')
        assert await store.pull(parse("upstream.example/me/app:v1"))

    async def test_none(self, secure, configured) -> None:
        store = configured(f'server = "https://{secure.address}"')
        with pytest.raises(RegistryUnavailableError) as caught:
            await store.pull(parse("upstream.example/me/app:v1"))
        text = str(caught.value)
        assert "manifest v1: its certificate is not trusted: self-signed certificate" in text
        assert "name it as `ca` in the registry's hosts.toml" in text

    async def test_one_that_is_not_verified(self, secure, configured) -> None:
        store = configured(f'server = "https://{secure.address}"\nskip_verify = true')
        assert await store.pull(parse("upstream.example/me/app:v1"))

    async def test_of_another_name(self, secure, configured) -> None:
        port = secure.address.rpartition(":")[2]
        store = configured(f'server = "https://localhost:{port}"\nca = "ca.crt"')
        with pytest.raises(RegistryUnavailableError) as caught:
            await store.pull(parse("upstream.example/me/app:v1"))
        assert "Hostname mismatch, certificate is not valid for 'localhost'" in str(caught.value)
        assert "ask by a name that is in the certificate" in str(caught.value)

    async def test_expired(self, authority: Authority, serve, configured) -> None:
        served = await serve(authority.server(authority.issue(None, serving=True, days=-1)))
        store = configured(f'server = "https://{served.address}"\nca = "ca.crt"')
        with pytest.raises(RegistryUnavailableError, match=r"certificate has expired \(renew it"):
            await store.pull(parse("upstream.example/me/app:v1"))

    @pytest.mark.parametrize("how", ["pair", "docker"])
    async def test_a_clients_certificate(
        self, authority: Authority, serve, configured, tmp_path: Path, how: str
    ) -> None:
        context = authority.server(authority.issue(None, serving=True))
        context.verify_mode = ssl.CERT_REQUIRED
        served = await serve(context)
        served.image("me/app:v1", MODULE)
        certificate, key = authority.issue("node")
        store = configured(f'server = "https://{served.address}"\nca = "ca.crt"')
        with pytest.raises(RegistryUnavailableError, match=r"CERTIFICATE_REQUIRED|(?i:closed|reset)"):
            await store.pull(parse("upstream.example/me/app:v1"))
        reference = parse("upstream.example/me/app:v1")
        if how == "pair":
            configured(
                f'server = "https://{served.address}"\nca = "ca.crt"\nclient = [["{certificate}", "{key}"]]'
            )
        else:
            directory = tmp_path / "certs.d" / served.address
            directory.mkdir()
            (directory / "ca.crt").write_text(authority.pem)
            (directory / "node.cert").write_bytes(certificate.read_bytes())
            (directory / "node.key").write_bytes(key.read_bytes())
            reference = served.reference("me/app:v1")
        assert await store.pull(reference)

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            ('ca = "missing.crt"', "missing.crt: No such file or directory"),
            ('ca = "hosts.toml"', "hosts.toml: no certificates of authorities in it"),
            ('client = "ca.crt"', "ca.crt: no certificate with its key"),
        ],
    )
    async def test_a_file_that_cannot_be_used(self, secure, configured, line: str, error: str) -> None:
        store = configured(f'server = "https://{secure.address}"\n{line}')
        with pytest.raises(RegistryHostsError) as caught:
            await store.pull(parse("upstream.example/me/app:v1"))
        assert error in str(caught.value)
        assert secure.requests == []

    async def test_plain_http_where_tls_was_spoken_of(self, registry, configured) -> None:
        registry.image("me/app:v1", MODULE)
        store = configured(f'server = "http://{registry.address}"\nskip_verify = true')
        assert await store.pull(parse("upstream.example/me/app:v1"))

    async def test_the_machines_authorities(
        self, secure, stores, authority: Authority, tmp_path: Path, monkeypatch
    ) -> None:
        """As OpenSSL's and Go's programs find them."""
        (tmp_path / "machine.pem").write_text(authority.pem)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "machine.pem"))
        assert await stores().pull(secure.reference("me/app:v1"))
