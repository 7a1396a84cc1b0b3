"""The probes' HTTP client over real sockets; the texts are what Go 1.26's client says of the same servers."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from typing import Any

import msgspec
import pytest
from authority import Authority
from probed import Server, Talk, answers, full, head, serving

from vkubelet.api.containers import Container, HTTPGetAction
from vkubelet.pods.probes.http import GetError, PlainHttpError, get
from vkubelet.pods.probes.http_request import Request, http_get
from vkubelet.pods.probes.http_response import BODY_MAX, BodyError, Response

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
AWAITING = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
BROKEN = "net/http: HTTP/1.x transport connection broken: "
SHORT = 0.3


def request(port: int, path: str = "/x", scheme: str = "HTTP", **more: Any) -> Request:
    action = {"port": port, "path": path, "scheme": scheme, **more}
    return http_get(msgspec.convert(action, HTTPGetAction), Container(name="c"), "127.0.0.1", "probe")


async def answer(talk: Talk, timeout: float = 10.0, **action: Any) -> tuple[Response, Server]:
    async with serving(talk) as server:
        return await get(request(server.port, **action), timeout), server


async def complaint(talk: Talk, timeout: float = 10.0, **action: Any) -> str:
    """What is told of a server that does not answer, after the URL, with its numbers left out."""
    async with serving(talk) as server:
        with pytest.raises(GetError) as caught:
            await get(request(server.port, **action), timeout)
        text = str(caught.value)
        scheme = action.get("scheme", "HTTP").lower()
        before = f'Get "{scheme}://127.0.0.1:{server.port}/x": '
        assert text.startswith(before), text
        return re.sub(r"127\.0\.0\.1:\d+", "IP:PORT", text.removeprefix(before))


async def test_an_answer_in_pieces() -> None:
    response, _ = await answer(answers(*(bytes((byte,)) for byte in OK), pause=0.001))
    assert (response.status, bytes(response.body)) == (200, b"ab")


async def test_a_body_is_read_no_further_than_a_kubelet_does() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    response, _ = await answer(endless)
    assert len(response.body) == BODY_MAX


async def test_nobody_listens() -> None:
    with pytest.raises(GetError) as caught:
        await get(request(1), 10.0)
    expected = 'Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused'
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        (answers(), "EOF"),
        (answers(reset=True), "read tcp IP:PORT->IP:PORT: read: connection reset by peer"),
        (answers(b"garbage\r\n\r\n"), BROKEN + 'malformed HTTP response "garbage"'),
        (answers(b"\0\1\2" * 1000), BROKEN + "malformed HTTP response"),
        (answers(b"HTTP/1.1 200 OK\r\nA: b\r\n"), BROKEN + "unexpected EOF"),
        (
            answers(b"HTTP/1.1 200 OK\r\nA: b\r\n", pause=0.1, reset=True),
            BROKEN + "read tcp IP:PORT->IP:PORT",
        ),
        (answers(*[b"A" * 65536] * 20), BROKEN + "net/http: server response headers exceeded"),
    ],
)
async def test_what_is_no_answer(talk: Talk, message: str) -> None:
    assert (await complaint(talk)).startswith(message)


@pytest.mark.parametrize("parts", [[], [b"HTTP/1.1 200"], [b"HTTP/1.1 200 OK\r\nA: b\r\n"]])
async def test_a_server_that_hangs(parts: list[bytes]) -> None:
    assert await complaint(answers(*parts, hang=True), SHORT) == AWAITING


async def test_a_server_that_is_slow_is_given_all_of_the_time_and_no_more() -> None:
    assert (
        await complaint(answers(*[b"HTTP/1.1 200 OK\r\n"] + [b"A: b\r\n"] * 100, pause=0.02), SHORT)
        == AWAITING
    )


async def test_a_server_that_takes_no_connection() -> None:
    with full() as port, pytest.raises(GetError, match=re.escape(AWAITING)):
        await get(request(port), SHORT)


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        (answers(OK[:-1]), "unexpected EOF"),
        (answers(OK[:-1], pause=0.1, reset=True), "read: connection reset by peer"),
        (
            answers(OK[:-1], hang=True),
            "context deadline exceeded (Client.Timeout or context cancellation while reading body)",
        ),
    ],
)
async def test_a_body_that_does_not_come(talk: Talk, message: str) -> None:
    with pytest.raises(BodyError, match=re.escape(message)):
        await answer(talk, SHORT)


def redirecting(*locations: str, status: str = "302 Found") -> tuple[Talk, list[str]]:
    """A server that sends each of these in turn, then an answer; and what it was asked."""
    asked: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await head(reader))
        if len(asked) > len(locations):
            writer.write(OK)
            return
        location = locations[len(asked) - 1]
        writer.write(f"HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 2\r\n\r\nno".encode())

    return talk, asked


@pytest.mark.parametrize("status", ["301 A", "302 B", "303 C", "307 D", "308 E"])
async def test_redirections_are_followed_on_the_same_host(status: str) -> None:
    talk, asked = redirecting("/y", "z?q", status=status)
    response, _ = await answer(
        talk, httpHeaders=[{"name": "Host", "value": "h"}, {"name": "A", "value": "1"}]
    )
    assert (response.status, bytes(response.body)) == (200, b"ab")
    assert [text.split()[1] for text in asked] == ["/x", "/y", "/z?q"]
    assert all("Host: h\r\n" in text and "A: 1\r\n" in text for text in asked)
    assert "Referer: http://127.0.0.1:" in asked[1]


async def test_a_redirection_may_lead_to_another_port() -> None:
    async with serving(answers(OK)) as other:
        talk, _ = redirecting(f"http://127.0.0.1:{other.port}/")
        response, _ = await answer(talk)
    assert response.status == 200


@pytest.mark.parametrize("location", ["http://localhost/", "mailto:x@y", "//example.org/", ""])
async def test_a_redirection_to_elsewhere_is_the_answer(location: str) -> None:
    talk, asked = redirecting(location)
    response, _ = await answer(talk)
    assert (response.status, bytes(response.body), len(asked)) == (302, b"no", 1)


@pytest.mark.parametrize("status", ["300 A", "304 B", "305 C"])
async def test_what_is_no_redirection_is_not_followed(status: str) -> None:
    talk, asked = redirecting("/y", status=status)
    response, _ = await answer(talk)
    assert (response.status, len(asked)) == (int(status[:3]), 1)


async def test_a_loop_of_redirections_ends() -> None:
    talk, asked = redirecting(*["/y"] * 20)
    with pytest.raises(GetError) as caught:
        await answer(talk)
    assert str(caught.value) == 'Get "/y": stopped after 10 redirects'
    assert len(asked) == 10


async def test_a_location_that_is_none() -> None:
    talk, _ = redirecting("/%zz")
    message = 'failed to parse Location header "/%zz": parse "/%zz": invalid URL escape "%zz"'
    assert await complaint(talk) == message


async def test_a_redirection_to_another_protocol() -> None:
    talk, _ = redirecting("ftp://127.0.0.1/y")
    with pytest.raises(GetError) as caught:
        await answer(talk)
    assert str(caught.value) == 'Get "ftp://127.0.0.1/y": unsupported protocol scheme "ftp"'


async def test_a_header_that_cannot_be_sent() -> None:
    headers = [{"name": "A", "value": "b\r\nc"}]
    message = 'net/http: invalid header field value for "A"'
    assert await complaint(answers(OK), httpHeaders=headers) == message


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    authority = Authority(tmp_path_factory.mktemp("tls"), "nobody")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server", serving=True))
    return context


async def test_https_with_a_certificate_that_nobody_signed(tls: ssl.SSLContext) -> None:
    async with serving(answers(OK), tls) as server:
        response = await get(request(server.port, scheme="HTTPS"), 10.0)
    assert (response.status, bytes(response.body)) == (200, b"ab")


async def test_https_with_a_body_of_many_records(tls: ssl.SSLContext) -> None:
    async with serving(answers(*[b"HTTP/1.1 200 OK\r\n\r\n"] + [b"x" * 1000] * 50), tls) as server:
        response = await get(request(server.port, scheme="HTTPS"), 10.0)
    assert len(response.body) == BODY_MAX


async def test_http_where_https_is_spoken(tls: ssl.SSLContext) -> None:
    async with serving(answers(OK), tls) as server:
        with pytest.raises(GetError):
            await get(request(server.port), 10.0)


async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"garbage garbage")


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        (plain, "http: server gave HTTP response to HTTPS client"),
        (garbage, "tls: first record does not look like a TLS handshake"),
        (hangs, AWAITING),
        (closes, "EOF"),
    ],
)
async def test_https_where_it_is_not_spoken(talk: Talk, message: str) -> None:
    assert await complaint(talk, SHORT * 3, scheme="HTTPS") == message


async def test_plain_http_is_known_for_what_it_is() -> None:
    async with serving(plain) as server:
        with pytest.raises(PlainHttpError):
            await get(request(server.port, scheme="HTTPS"), 10.0)


async def test_a_name_is_looked_up() -> None:
    response, _ = await answer(answers(OK), host="localhost")
    assert response.status == 200


async def test_a_name_that_nobody_has() -> None:
    with pytest.raises(GetError, match=r"dial tcp: lookup no-such-host\.invalid: no such host"):
        await get(request(80, host="no-such-host.invalid"), 30.0)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_request_that_is_given_up_leaves_nothing() -> None:
    before = descriptors()
    async with serving(answers(hang=True)) as server:
        asking = [asyncio.create_task(get(request(server.port), None)) for _ in range(20)]
        await asyncio.sleep(0.05)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert descriptors() <= before + 1
