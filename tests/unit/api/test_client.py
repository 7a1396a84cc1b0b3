"""The client against a server that errs, over real sockets."""

import asyncio
import base64
import datetime
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vkubelet.api import kubeconfig as kubeconfig_module
from vkubelet.api.client import ApiClient, ApiError, ApiUnavailableError, KubeconfigError
from vkubelet.api.credentials import Credentials

Script = Any
Kubeconfig = Callable[..., Path]


async def test_request_carries_method_path_query_body_and_token(api: Script, client: ApiClient) -> None:
    api.then(api.json({"ok": True}))
    answer = await client.request(
        "PATCH", "/api/v1/x%2Fy", body=b"{}", content_type="application/merge-patch+json", query={"a": "b=c"}
    )
    assert answer == b'{"ok": true}'
    request = api.requests[0]
    assert (request.method, request.raw_path) == ("PATCH", "/api/v1/x%2Fy?a=b%3Dc")
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["Content-Type"] == "application/merge-patch+json"
    assert api.bodies[0] == b"{}"


async def test_path_prefix_of_a_proxying_server_is_kept(api: Script, kubeconfig: Kubeconfig) -> None:
    api.then(api.json({}))
    client = await ApiClient.from_kubeconfig(kubeconfig(api.url + "/k8s/clusters/one/"))
    await client.get("/api")
    await client.close()
    assert api.requests[0].path == "/k8s/clusters/one/api"


async def test_status_becomes_an_api_error(api: Script, client: ApiClient) -> None:
    api.then(api.status(404, "NotFound"))
    with pytest.raises(ApiError, match="404 NotFound: said NotFound") as caught:
        await client.get("/api/v1/nodes/x")
    assert (caught.value.status, caught.value.reason) == (404, "NotFound")
    assert caught.value.retry_after is None


async def test_an_answer_that_is_no_status_is_quoted(api: Script, client: ApiClient) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="<html>bad gateway</html>")

    api.then(page)
    with pytest.raises(ApiError, match="502: <html>bad gateway"):
        await client.get("/api")


async def test_a_redirect_is_not_followed(api: Script, client: ApiClient) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    api.then(elsewhere)
    with pytest.raises(ApiError, match="302"):
        await client.get("/api")
    assert len(api.requests) == 1


async def test_retry_after_is_honoured_within_the_deadline(api: Script, client: ApiClient) -> None:
    api.then(api.status(429, "TooManyRequests", {"Retry-After": "0"}), api.json({"ok": 1}))
    assert await client.get("/api") == b'{"ok": 1}'
    assert len(api.requests) == 2


async def test_retry_after_past_the_deadline_is_left_to_the_caller(api: Script, client: ApiClient) -> None:
    api.then(api.status(429, "TooManyRequests", {"Retry-After": "60"}))
    with pytest.raises(ApiError) as caught:
        await client.get("/api", timeout=5)
    assert caught.value.retry_after == 60
    assert len(api.requests) == 1


@pytest.mark.parametrize("fault", ["hang", "reset"])
async def test_no_answer_is_unavailable(api: Script, client: ApiClient, fault: str) -> None:
    api.then(getattr(api, fault))
    with pytest.raises(ApiUnavailableError, match=api.url):
        await client.post("/api", b"{}", timeout=0.1)


async def test_nobody_listening_is_unavailable(tmp_path: Path) -> None:
    client = ApiClient(Credentials("http://127.0.0.1:1"), tmp_path / "kubeconfig")
    with pytest.raises(ApiUnavailableError, match=r"API server http://127\.0\.0\.1:1: "):
        await client.get("/api")
    await client.close()


async def lines_of(client: ApiClient, idle_timeout: float = 5) -> AsyncIterator[bytes]:
    async with aclosing(client.watch("/w", {"watch": "1"}, idle_timeout=idle_timeout)) as lines:
        async for line in lines:
            yield line


async def test_watch_yields_lines_of_any_length(api: Script, client: ApiClient) -> None:
    long = {"long": "x" * 3_000_000}
    api.then(api.watch({"a": 1}, long, {"b": 2}, end="close"))
    lines = [line async for line in lines_of(client)]
    assert [len(line) for line in lines] == [8, len('{"long": ""}') + 3_000_000, 8]


async def test_watch_drops_a_line_that_was_cut(api: Script, client: ApiClient) -> None:
    api.then(api.watch({"a": 1}, cut=b'{"type": "ADD', end="close"))
    assert [line async for line in lines_of(client)] == [b'{"a": 1}']


@pytest.mark.parametrize("end", ["hang", "reset"])
async def test_watch_that_dies_is_noticed(api: Script, client: ApiClient, end: str) -> None:
    api.then(api.watch({"a": 1}, end=end))
    seen: list[bytes] = []

    async def follow() -> None:
        async for line in lines_of(client, idle_timeout=1.5):
            seen.append(line)  # noqa: PERF401  what came before the failure counts

    with pytest.raises(ApiUnavailableError):
        await follow()
    assert seen == [b'{"a": 1}']


async def test_watches_of_another_history_end(api: Script, client: ApiClient) -> None:
    api.then(api.watch({"a": 1}, end="hang"))
    lines = lines_of(client)
    assert await anext(lines) == b'{"a": 1}'
    asyncio.get_running_loop().call_soon(client.forget_history)
    with pytest.raises(ApiError, match="410 Expired: the server has gone back to an earlier state"):
        await anext(lines)


async def test_watch_refused_is_an_api_error(api: Script, client: ApiClient) -> None:
    api.then(api.status(410, "Expired"))
    with pytest.raises(ApiError, match="410 Expired"):
        assert [line async for line in lines_of(client)] == []


async def test_a_plugin_is_asked_again_when_its_token_is_refused(
    api: Script, kubeconfig: Kubeconfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vkubelet.api.client._REFRESH_PAUSE", 0)
    runs = tmp_path / "runs"
    program = (
        f"import json; f = open({str(runs)!r}, 'a+'); f.write('x'); f.seek(0); n = len(f.read());"
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential',"
        "'status': {'token': f'token-{n}'}}))"
    )
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", program],
    }
    client = await ApiClient.from_kubeconfig(kubeconfig(api.url, {"exec": plugin}))
    api.then(api.status(401, "Unauthorized"), api.json({}))
    await client.get("/api")
    await client.close()
    tokens = [request.headers["Authorization"] for request in api.requests]
    assert tokens == ["Bearer token-1", "Bearer token-2"]


async def test_a_token_file_is_read_again_when_stale(
    api: Script, kubeconfig: Kubeconfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vkubelet.api.client._REFRESH_PAUSE", 0)
    monkeypatch.setattr("vkubelet.api.credentials._TOKEN_FILE_LIFE", 0)
    token = tmp_path / "token"
    token.write_text("one\n")
    client = await ApiClient.from_kubeconfig(kubeconfig(api.url, {"tokenFile": "token"}))
    monkeypatch.setattr(sys, "executable", "/bin/false")  # a token costs no process
    token.write_text("two\n")
    api.then(api.json({}))
    await client.get("/api")
    for unusable in ("", None):
        token.write_text("") if unusable is not None else token.unlink()
        await client.get("/api")
    await client.close()
    assert {request.headers["Authorization"] for request in api.requests} == {"Bearer two"}


async def test_the_token_file_of_the_start_may_end_in_a_line_break(
    api: Script, kubeconfig: Kubeconfig, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("one\n")
    client = await ApiClient.from_kubeconfig(kubeconfig(api.url, {"tokenFile": "token"}))
    api.then(api.json({}))
    await client.get("/api")
    await client.close()
    assert api.requests[0].headers["Authorization"] == "Bearer one"


async def test_a_plugin_that_hangs_is_ended_with_its_loader(kubeconfig: Kubeconfig, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "/bin/sh",
        "args": ["-c", f"exec > {alive}; echo up; exec sleep 600"],
    }
    path = kubeconfig("http://127.0.0.1:1", {"exec": plugin})
    loading = asyncio.create_task(ApiClient.from_kubeconfig(path))
    async with asyncio.timeout(60):
        with await asyncio.to_thread(alive.open) as lines:
            assert await asyncio.to_thread(lines.readline) == "up\n"
            loading.cancel()
            # A FIFO ends once no process has it open for writing.
            assert await asyncio.to_thread(lines.read) == ""
    with pytest.raises(asyncio.CancelledError):
        await loading


async def test_a_kubeconfig_that_takes_too_long_is_named(
    kubeconfig: Kubeconfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeconfig_module, "_LOAD_TIMEOUT", 0.0)
    path = kubeconfig("http://127.0.0.1:1")
    with pytest.raises(KubeconfigError, match=f"kubeconfig {path}: not loaded within 0 s"):
        await ApiClient.from_kubeconfig(path)


async def test_a_loader_that_dies_is_told_of(
    kubeconfig: Kubeconfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = tmp_path / "python"
    loader.write_text("#!/bin/sh\necho Traceback >&2; echo 'MemoryError' >&2; exit 3")
    loader.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(loader))
    path = kubeconfig("http://127.0.0.1:1")
    with pytest.raises(
        KubeconfigError, match=f"kubeconfig {path}: its loader ended with code 3: MemoryError"
    ):
        await ApiClient.from_kubeconfig(path)


def test_a_node_holds_neither_the_library_s_models_nor_what_people_look_at() -> None:
    program = (
        "import sys, vkubelet.cli, vkubelet.agent;"
        "print([n for n in sys.modules if n in ('kubernetes_asyncio', 'rich')])"
    )
    assert subprocess.check_output([sys.executable, "-c", program]) == b"[]\n"


async def test_a_kubeconfig_that_broke_leaves_the_credentials_in_use(
    api: Script, client: ApiClient, tmp_path: Path
) -> None:
    (tmp_path / "kubeconfig").write_text("{}")
    with pytest.raises(KubeconfigError):
        await client.reload_credentials()
    api.then(api.json({}))
    await client.get("/api")
    assert api.requests[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (None, "No such file"),
        ("a: [", "not YAML"),
        ("[]", "expected a mapping"),
        ("{}", "current-context is not set"),
        ("current-context: it", "no entry 'it' in contexts"),
        ("{current-context: it, contexts: [{name: it, context: {cluster: c}}]}", "no entry 'c' in clusters"),
        (
            "{current-context: it, contexts: [{name: it, context: {cluster: c}}], clusters: [{name: c}]}",
            "cluster 'c': server '' is no URL",
        ),
        (
            "{current-context: it, contexts: [{name: it, context: {cluster: c, user: u}}],"
            "clusters: [{name: c, cluster: {server: 'https://h'}}]}",
            "no entry 'u' in users",
        ),
        (
            "{current-context: it, contexts: [{name: it, context: {cluster: c, user: u}}],"
            "clusters: [{name: c, cluster: {server: 'https://h', certificate-authority-data: '*'}}],"
            "users: [{name: u, user: {}}]}",
            "certificate",
        ),
        (
            "{current-context: it, contexts: [{name: it, context: {cluster: c, user: u}}],"
            "clusters: [{name: c, cluster: {server: 'https://h', certificate-authority: /nowhere}}],"
            "users: [{name: u, user: {}}]}",
            "/nowhere",
        ),
        (
            "{current-context: it, contexts: [{name: it, context: {cluster: c, user: u}}],"
            "clusters: [{name: c, cluster: {server: 'https://h'}}],"
            "users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: /no}}}]}",
            "/no",
        ),
    ],
)
async def test_a_bad_kubeconfig_is_named_with_its_cause(tmp_path: Path, text: str | None, cause: str) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(KubeconfigError) as caught:
        await ApiClient.from_kubeconfig(path)
    assert str(path) in str(caught.value)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


class Authority:
    """A small CA, to be refused by and to be trusted by."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
        self.certificate = self._sign(self.key, self.name, ca=True)
        self.ca = self._write("ca.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), ca=False)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._write(f"{name}.pem", pem), self._write(f"{name}.key", private)

    def _write(self, name: str, data: bytes) -> Path:
        (self.directory / name).write_bytes(data)
        return self.directory / name

    def _sign(self, key: ec.EllipticCurvePrivateKey, subject: x509.Name, *, ca: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(self.key, hashes.SHA256())
        )


async def test_a_rotated_certificate_is_used_by_the_next_request(
    tmp_path: Path, kubeconfig: Kubeconfig
) -> None:
    authority = Authority(tmp_path)
    server_files = authority.issue("server")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    tls.load_cert_chain(*server_files)
    tls.verify_mode = ssl.CERT_REQUIRED
    users: list[tuple[str, object]] = []

    async def whoami(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        name = request.transport.get_extra_info("peercert")["subject"][0][0][1]
        users.append((name, request.transport.get_extra_info("peername")))
        return web.Response()

    application = web.Application()
    application.router.add_get("/", whoami)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=tls).start()
    url = f"https://localhost:{runner.addresses[0][1]}"

    def config(name: str) -> Path:
        certificate, key = authority.issue(name)
        user = {"client-certificate": str(certificate), "client-key": str(key)}
        return kubeconfig(url, user, **{"certificate-authority": str(authority.ca)})

    client = await ApiClient.from_kubeconfig(config("first"))
    assert client.ca_data == authority.ca.read_bytes()
    await client.get("/")
    assert not await client.reload_credentials(), "nothing has changed"
    await client.get("/")
    config("second")
    await client.reload_credentials()
    await client.get("/")
    await client.close()

    (stranger := tmp_path / "stranger").mkdir()
    distrusting = await ApiClient.from_kubeconfig(
        kubeconfig(url, {}, **{"certificate-authority": str(Authority(stranger).ca)})
    )
    with pytest.raises(
        ApiUnavailableError, match="its certificate is not taken: certificate signature failure"
    ):
        await distrusting.get("/")
    await distrusting.close()
    await runner.cleanup()
    assert [name for name, _ in users] == ["first", "first", "second"]
    assert users[0] == users[1], "what has not changed keeps its connection"


async def test_no_key_material_is_left_in_temporary_files(
    tmp_path: Path, kubeconfig: Kubeconfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    files = [path.read_bytes() for path in Authority(tmp_path).issue("embedded")]
    certificate, key = (base64.b64encode(data).decode() for data in files)
    user = {"client-certificate-data": certificate, "client-key-data": key}
    path = kubeconfig("https://localhost:1", user)
    for _ in range(2):
        client = await ApiClient.from_kubeconfig(path)
        await client.close()
    assert list(temporary.iterdir()) == []
