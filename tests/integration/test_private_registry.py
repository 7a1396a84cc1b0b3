"""The real registry over TLS that lets in whom it knows: by htpasswd, or by tokens of a token service."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from authority import Authority
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from guests import build_guest
from peers import build_peer
from serving import answering

from oci.credentials import Credentials
from oci.errors import OciError, RegistryUnavailableError, UnauthorizedError
from oci.hosts import Host
from oci.images import ImageStore
from oci.push import push_module
from oci.reference import parse

pytestmark = pytest.mark.integration

ME = Credentials("me", "word")
HTPASSWD = "me:$2a$04$MXBJxA2yQ2zfNoLf8aNOhOq.1PV59bWAdGv5T0w0WZpMeVl.a/7H6\n"  # word
SERVICE, ISSUER, REFRESH = "registry", "tokens", "a-refresh-token"

Serve = Callable[[dict[str, Any]], str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "a private authority")


@pytest.fixture
def serve(authority: Authority, tmp_path: Path) -> Iterator[Serve]:
    """Starts a registry with an access controller; gives its address."""
    program = build_peer("registry")
    started: list[subprocess.Popen[str]] = []

    def start(auth: dict[str, Any]) -> str:
        storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
        config = {"version": "0.1", "storage": storage, "auth": auth}
        (tmp_path / "registry.yaml").write_text(yaml.safe_dump(config))
        certificate, key = authority.issue(None, serving=True)
        command = [str(program), str(tmp_path / "registry.yaml"), str(certificate), str(key)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        directory = tmp_path / "certs.d" / address
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_text(authority.pem)
        return address

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    made = ImageStore(tmp_path / "images", registry_config_dir=tmp_path / "certs.d")
    made.open()
    return made


async def test_by_htpasswd_with_a_credential_helper(serve: Serve, store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    address = await asyncio.to_thread(
        serve, {"htpasswd": {"realm": "here", "path": str(tmp_path / "htpasswd")}}
    )
    reference = parse(f"{address}/me/app:v1")
    helper = tmp_path / "docker-credential-mine"
    helper.write_text(f"""#!/bin/sh
test "$(cat)" = {address} && echo '{{"Username": "me", "Secret": "word"}}'
""")
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {address: "mine"}}))
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "DOCKER_CONFIG": str(tmp_path),
    }
    vkubelet = str(Path(sys.executable).with_name("vkubelet"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        hosts = f"--registry-config-dir={tmp_path / 'certs.d'}"
        return subprocess.run(
            [vkubelet, *words, hosts],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    guest = str(build_guest("actor"))
    pushed = await asyncio.to_thread(run, "push", guest, str(reference))
    assert pushed.returncode == 0, pushed.stderr
    found = await asyncio.to_thread(run, "inspect", "--json", pushed.stdout.strip())
    assert json.loads(found.stdout)["runnable"] is True
    for credentials in (None, Credentials("me", "another"), Credentials("you", "word")):
        with pytest.raises(UnauthorizedError, match="answered 401"):
            await store.pull(reference, credentials=credentials)
    image = await store.pull(reference, credentials=ME)
    assert pushed.stdout.endswith(f"@{image.digest}\n")
    # The authority is the registry's alone: the machine does not know it.
    other = ImageStore(tmp_path / "other")
    other.open()
    with pytest.raises(RegistryUnavailableError, match="its certificate is not trusted"):
        await other.pull(reference, credentials=ME)


class TokenService(ThreadingHTTPServer):
    """Gives tokens to those who have the password or the refresh token; to others, ones for nothing."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Question)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.asked: list[str] = []

    @property
    def realm(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}/token"

    def key_set(self) -> dict[str, Any]:
        """The public key, as JSON Web Keys."""
        numbers = self.key.public_key().public_numbers()
        point = {"x": _text(numbers.x.to_bytes(32)), "y": _text(numbers.y.to_bytes(32))}
        return {"keys": [{"kty": "EC", "crv": "P-256", "kid": "own", "use": "sig", "alg": "ES256", **point}]}

    def token(self, scope: str, *, known: bool) -> str:
        kind, name, actions = scope.split(":")
        now = int(time.time())
        access = [{"type": kind, "name": name, "actions": actions.split(",")}] if known else []
        claims = {"iss": ISSUER, "aud": SERVICE, "sub": "", "jti": "1", "access": access}
        claims |= {"iat": now, "nbf": now - 5, "exp": now + 60}
        head = {"typ": "JWT", "alg": "ES256", "kid": "own"}
        signed = ".".join(_text(json.dumps(part).encode()) for part in (head, claims))
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_text(r.to_bytes(32) + s.to_bytes(32))}"


class _Question(BaseHTTPRequestHandler):
    server: TokenService

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        basic = base64.b64encode(b"me:word").decode()
        given = self.headers.get("Authorization")
        self.server.asked.append("nobody" if given is None else "password")
        if given not in (None, f"Basic {basic}"):
            self._answer(401, {})
        else:
            self._answer(200, {"token": self.server.token(query["scope"][0], known=given is not None)})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.asked.append(form["grant_type"][0])
        if form["refresh_token"] != [REFRESH]:
            self._answer(401, {})
        else:
            self._answer(200, {"access_token": self.server.token(form["scope"][0], known=True)})

    def _answer(self, status: int, document: dict[str, str]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: who asked is kept."""


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def tokens(authority: Authority) -> Iterator[TokenService]:
    service = TokenService(authority.server(authority.issue(None, serving=True)))
    with answering(service):
        yield service


async def test_by_tokens(serve: Serve, tokens: TokenService, store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps(tokens.key_set()))
    controller = {"realm": tokens.realm, "service": SERVICE, "issuer": ISSUER}
    address = await asyncio.to_thread(
        serve, {"token": {**controller, "jwks": str(tmp_path / "keys.json"), "signingalgorithms": ["ES256"]}}
    )
    reference = parse(f"{address}/me/app:v1")
    host = Host(f"https://{address}/v2", ca=(str(tmp_path / "certs.d" / address / "ca.crt"),))
    await asyncio.to_thread(
        push_module, build_guest("actor"), str(reference), insecure=False, hosts=(host,), credentials=ME
    )
    assert set(tokens.asked) == {"password"}
    refused: list[tuple[Credentials | None, type[OciError], set[str]]] = [
        (None, UnauthorizedError, {"nobody"}),
        (Credentials("me", "another"), UnauthorizedError, {"password"}),
        (Credentials("", "", "another"), UnauthorizedError, {"refresh_token"}),
        (Credentials("", "", "", "another"), UnauthorizedError, set()),
    ]
    for credentials, error, asked in refused:
        tokens.asked.clear()
        with pytest.raises(error):
            await store.pull(reference, credentials=credentials)
        assert set(tokens.asked) == asked
    bought = tokens.token("repository:me/app:pull", known=True)
    for credentials in (ME, Credentials("", "", REFRESH), Credentials("", "", "", bought)):
        assert await store.pull(reference, credentials=credentials)
