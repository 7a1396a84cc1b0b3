"""The server as its callers meet it: who gets in, what is answered, how it starts and ends."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl

import aiohttp
import pytest

from vkubelet.pods.directory import ContainerNotReadyError, LogSource
from vkubelet.server.app import KubeletServer, ListenError, PortTakenError
from vkubelet.server.auth import AlwaysAllow, KubeletAuth
from vkubelet.server.connection import Limits
from vkubelet.server.tls import harden

AUTH = KubeletAuth("here", AlwaysAllow())
PATHS = ("/healthz", "/containerLogs/default/web/main", "/nothing")


async def fetch(node, context: ssl.SSLContext, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(node.url + path, ssl=context) as response:
        return response.status, await response.text()


async def test_the_clusters_client_gets_in(node, source):
    source.path.write_bytes(b"2026-11-24T02:00:00.000000001Z stdout F hello\n")
    async with node.logs() as response:
        assert (response.status, await response.text()) == (200, "hello\n")
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert "Server" not in response.headers
    assert node.directory.asked == [("default", "web", "main", None, False)]


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_certificate_nothing_is_told(node, path):
    assert await fetch(node, node.authority.client(None), path) == (401, "Unauthorized")
    assert node.directory.asked == []


@pytest.mark.parametrize("path", PATHS)
async def test_another_ca_vouches_for_nobody(node, stranger, path):
    context = node.authority.client(stranger.issue("kube-apiserver-kubelet-client", ("system:masters",)))
    with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
        await fetch(node, context, path)
    assert node.directory.asked == []


async def test_a_serving_certificate_is_no_clients(node, server_files):
    with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
        await fetch(node, node.authority.client(server_files), "/healthz")


async def test_an_expired_certificate_is_refused(node):
    with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
        await fetch(node, node.authority.client(node.authority.issue("late", days=-1)), "/healthz")


async def test_a_certificate_without_a_name_is_nobodys(node):
    context = node.authority.client(node.authority.issue(None, ("system:masters",)))
    assert await fetch(node, context, "/healthz") == (401, "Unauthorized")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_is_refused(node):
    context = node.authority.client(None)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
        await fetch(node, context, "/healthz")


async def test_plain_http_is_refused(node):
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert not answer.startswith(b"HTTP/")


@pytest.mark.parametrize(
    ("method", "path", "status", "body", "allow"),
    [
        ("GET", "/healthz", 200, "ok", None),
        ("GET", "/", 404, "404: Page Not Found", None),
        ("GET", "/nothing", 404, "404: Page Not Found", None),
        ("GET", "/containerLogs/default/web", 404, "404: Page Not Found", None),
        ("GET", "/containerLogs/default/web/main/more", 404, "404: Page Not Found", None),
        ("POST", "/containerLogs/default/web/main", 405, "405: Method Not Allowed", "GET"),
        ("DELETE", "/containerLogs/default/web/main", 405, "405: Method Not Allowed", "GET"),
        ("HEAD", "/containerLogs/default/web/main", 405, "", "GET"),
        ("GET", "/containerLogs/default/no/main", 404, 'pod "no" does not exist', None),
        ("GET", "/containerLogs/default/web/no", 404, 'container "no" not found in pod "web"', None),
        ("GET", "/containerLogs/default/web/..%2F..%2Fetc%2Fpasswd", 404, "404: Page Not Found", None),
        (
            "GET",
            "/containerLogs/default/web/main?tailLines=x",
            400,
            '{"message": "Unable to decode query."}',
            None,
        ),
        ("GET", "/containerLogs/default/web/main?tailLines=-1", 422, '{"message": "Invalid request."}', None),
        ("GET", "/containerLogs/default/web/main?limitBytes=0", 422, '{"message": "Invalid request."}', None),
    ],
)
async def test_answers(node, method, path, status, body, allow):
    async with node.session.request(method, node.url + path) as response:
        assert (response.status, await response.text()) == (status, body)
        assert response.headers.get("Allow") == allow
        if status != 200:
            assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            ContainerNotReadyError.waiting("main", "web", "ContainerCreating"),
            'container "main" in pod "web" is waiting to start: ContainerCreating',
        ),
        (
            ContainerNotReadyError.waiting("main", "web", "ErrImagePull"),
            'container "main" in pod "web" is waiting to start: image can\'t be pulled',
        ),
        (
            ContainerNotReadyError.waiting("main", "web", "ImagePullBackOff"),
            'container "main" in pod "web" is waiting to start: trying and failing to pull image',
        ),
        (
            ContainerNotReadyError.waiting("main", "web", ""),
            'container "main" in pod "web" is waiting to start - no logs yet',
        ),
        (
            ContainerNotReadyError.no_previous("main", "web"),
            'previous terminated container "main" in pod "web" not found',
        ),
        (
            ContainerNotReadyError.unavailable("main", "web"),
            'container "main" in pod "web" is not available',
        ),
        (ContainerNotReadyError.terminated("main", "web"), 'container "main" in pod "web" is terminated'),
    ],
)
async def test_a_container_without_a_log_answers_in_the_kubelets_words(node, error, text):
    node.directory.logs["default", "web", "main"] = error
    async with node.logs() as response:
        assert (response.status, await response.text()) == (400, text)


async def test_previous_is_passed_on(node, source):
    source.path.touch()
    async with node.logs(previous="true") as response:
        assert response.status == 200
    assert node.directory.asked == [("default", "web", "main", None, True)]


async def test_health_tells_what_is_wrong(node):
    node.health.append("the informer has not listed pods for 90 s")
    async with node.session.get(node.url + "/healthz") as response:
        assert (response.status, await response.text()) == (500, node.health[0])


async def test_headers_have_a_limit(node):
    async with node.session.get(node.url + "/healthz", headers={"X-Big": "x" * 100_000}) as response:
        assert response.status == 431
        assert await response.text() == "431 Request Header Fields Too Large"


async def test_a_silent_or_slow_client_is_cut_off(authority, server_files):
    tls, limits = authority.server(server_files), Limits(idle=0.05)
    server = KubeletServer(
        address="127.0.0.1", port=0, tls=tls, healthy=lambda: None, auth=AUTH, limits=limits
    )
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.client(None))
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nX-Slow")
        async with asyncio.timeout(20):
            assert await reader.read() == b""
    finally:
        writer.close()
        await server.close()


async def test_a_taken_port_is_said_in_one_line(authority, server_files):
    tls = authority.server(server_files)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = KubeletServer(address="127.0.0.1", port=port, tls=tls, healthy=lambda: None, auth=AUTH)
        with pytest.raises(PortTakenError) as failure:
            await server.start()
    assert str(failure.value) == (
        f"cannot serve the kubelet API on 127.0.0.1:{port}: the port is taken by another process"
    )


@pytest.mark.parametrize("address", ["192.0.2.1", "nowhere", ""])
async def test_an_impossible_address_is_named(authority, server_files, address):
    tls = authority.server(server_files)
    server = KubeletServer(address=address, port=0, tls=tls, healthy=lambda: None, auth=AUTH)
    with pytest.raises(ListenError, match=f"on {address}:0: "):
        await server.start()


async def test_every_address_of_both_families(node, authority, server_files, client_files):
    tls = authority.server(server_files)
    server = KubeletServer(address="::", port=0, tls=tls, healthy=lambda: None, auth=AUTH)
    port = await server.start()
    try:
        for host in ("127.0.0.1", "[::1]"):
            async with node.session.get(f"https://{host}:{port}/healthz") as response:
                assert response.status == 200
    finally:
        await server.close()


async def test_run_ends_with_its_task_and_frees_the_port(authority, server_files):
    tls = authority.server(server_files)
    server = KubeletServer(address="127.0.0.1", port=0, tls=tls, healthy=lambda: None, auth=AUTH)
    port = await server.start()
    running = asyncio.ensure_future(server.run())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with socket.create_server(("127.0.0.1", port)):
        await server.close()


async def test_requests_are_logged_at_debug_only(node, caplog):
    with caplog.at_level(logging.INFO, "vkubelet"):
        async with node.session.get(node.url + "/healthz"):
            pass
        assert caplog.records == []
    with caplog.at_level(logging.DEBUG, "vkubelet"):
        async with node.session.get(node.url + "/healthz?x=a%0Ab"):
            pass
    assert "GET /healthz?x=a%0Ab from 127.0.0.1: 200" in caplog.messages


async def test_a_log_that_is_a_directory_is_an_error_of_the_nodes(node, source, caplog):
    source.path.mkdir()
    async with node.logs() as response:
        assert response.status == 500
        assert "default/web/main" in await response.text()
    assert any("default/web/main" in record.getMessage() for record in caplog.records)


async def test_a_log_that_is_gone_is_said_so(node, source: LogSource):
    source.end.set()
    async with node.logs() as response:
        assert (response.status, await response.text()) == (400, f"failed to open log file '{source.path}'")


async def test_no_ticket_saves_a_client_from_being_verified_anew(node, client_files):
    def connect(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        with (
            socket.create_connection(("127.0.0.1", node.port)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as secure,
        ):
            secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: secure.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 200 ")
            return bool(secure.session_reused), secure.session

    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = node.authority.client(client_files)
        context.minimum_version = context.maximum_version = version
        _, session = await asyncio.to_thread(connect, None)
        assert session is None or not session.has_ticket
    reused, _ = await asyncio.to_thread(connect, session)
    assert not reused


def test_what_any_context_is_made_to_be():
    context = harden(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_OPTIONAL
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET
    assert context.options & ssl.OP_NO_RENEGOTIATION
