"""What an httpGet sends: URL, headers, bytes."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.containers import Container, ContainerPort, HTTPGetAction
from vkubelet.pods.probes.http_request import BadProbeError, Request, http_get, resolve_port
from vkubelet.pods.probes.url import join

WEB = Container(name="c", ports=[ContainerPort(8080, "web"), ContainerPort(0, "none")])


def request(*headers: tuple[str, str], purpose: str = "probe", **action: Any) -> Request:
    fields = {
        "port": 80,
        "path": "/x",
        **action,
        "httpHeaders": [{"name": n, "value": v} for n, v in headers],
    }
    return http_get(msgspec.convert(fields, HTTPGetAction), WEB, "10.0.0.1", purpose)


def sent(*headers: tuple[str, str], **action: Any) -> list[str]:
    return request(*headers, **action).encoded.decode().split("\r\n")


def test_the_usual_request_is_gos() -> None:
    assert sent(("b", "1"), ("b", "2"), ("a", " x "), ("z", "")) == [
        "GET /x HTTP/1.1",
        "Host: 10.0.0.1:80",
        "User-Agent: kube-probe/1.37",
        "A: x",
        "Accept: */*",
        "B: 1",
        "B: 2",
        "Z: ",
        "Connection: close",
        "",
        "",
    ]


def test_a_hook_says_so() -> None:
    assert "User-Agent: kube-lifecycle/1.37" in sent(purpose="lifecycle")


@pytest.mark.parametrize(
    ("headers", "there", "gone"),
    [
        ([("host", "example.org")], "Host: example.org", "Host: 10.0.0.1:80"),
        ([("Host", "")], "Host: 10.0.0.1:80", "Host: "),
        ([("user-agent", "me")], "User-Agent: me", "User-Agent: kube-probe/1.37"),
        ([("User-Agent", "")], "Accept: */*", "User-Agent: "),
        ([("accept", "text/plain")], "Accept: text/plain", "Accept: */*"),
        ([("Accept", "")], "User-Agent: kube-probe/1.37", "Accept: */*"),
        ([("content-length", "5")], "Accept: */*", "Content-Length: 5"),
        ([("transfer-encoding", "chunked")], "Accept: */*", "Transfer-Encoding: chunked"),
        ([("connection", "keep-alive, Upgrade")], "Connection: keep-alive, Upgrade", "Connection: close"),
    ],
)
def test_headers_of_the_spec(headers: list[tuple[str, str]], there: str, gone: str) -> None:
    lines = sent(*headers)
    assert there in lines
    assert gone not in lines


def test_the_spec_names_host_and_scheme() -> None:
    assert str(request(host="example.org", scheme="HTTPS", port="web").url) == "https://example.org:8080/x"


@pytest.mark.parametrize(
    ("port", "message"),
    [
        ("other", 'port "other" not found'),
        ("none", "invalid port number: 0"),
        (0, "invalid port number: 0"),
        (65536, "invalid port number: 65536"),
        (-1, "invalid port number: -1"),
    ],
)
def test_a_port_that_is_none(port: Any, message: str) -> None:
    with pytest.raises(BadProbeError) as caught:
        resolve_port(port, WEB)
    assert str(caught.value) == message


def test_a_host_that_is_none() -> None:
    with pytest.raises(BadProbeError, match="invalid host"):
        request(host="a b")


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (("A", "b\r\nc"), 'net/http: invalid header field value for "A"'),
        (("A b", "c"), 'net/http: invalid header field name "A b"'),
        (("", "c"), 'net/http: invalid header field name ""'),
        (("Host", "a\r\nX: y"), "http: invalid Host header"),
        (("A", "tab\tand ä"), None),
    ],
)
def test_what_cannot_be_sent_is_told(header: tuple[str, str], fault: str | None) -> None:
    assert request(header).fault == fault


@given(st.lists(st.tuples(st.text(min_size=1), st.text())), st.text(), st.text())
def test_whatever_has_no_fault_is_one_request(headers: list[tuple[str, str]], path: str, query: str) -> None:
    made = request(*headers, path=path + "?" + query)
    if made.fault is None:
        head, end, rest = made.encoded.partition(b"\r\n\r\n")
        assert (end, rest) == (b"\r\n\r\n", b"")
        assert head.count(b"\n") == head.count(b"\r\n")


def test_a_redirection_keeps_what_was_asked_for() -> None:
    first = request(("Host", "example.org"), ("A", "1"))
    relative = first.redirected(join(first.url, "/y"), relative=True)
    assert relative.host == "example.org"
    assert ("A", "1") in relative.headers
    assert ("Referer", "http://10.0.0.1:80/x") in relative.headers
    assert first.redirected(join(first.url, "http://10.0.0.1:90/y"), relative=False).host == ""


def test_a_redirection_from_https_to_http_tells_not_where_from() -> None:
    first = request(scheme="HTTPS")
    there = first.redirected(dataclasses.replace(first.url, scheme="http"), relative=False)
    assert "Referer" not in dict(there.headers)
