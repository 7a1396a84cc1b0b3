"""Responses of any shape; the texts are what Go 1.26's client says of the same bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vkubelet.pods.probes.http_response import BODY_MAX, HEAD_MAX, BodyError, MalformedHeadError, Response

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*parts: bytes, end: bool = True) -> Response:
    response = Response()
    for part in parts:
        if not response.complete:
            response.feed(part)
    if end:
        response.end()
    return response


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [
        (OK + b"Content-Length: 2\r\n\r\nab", 200, b"ab"),
        (OK + b"Content-Length: 2\r\n\r\nabc", 200, b"ab"),
        (OK + b"\r\nab", 200, b"ab"),
        (b"HTTP/1.0 200 OK\r\n\r\nab", 200, b"ab"),
        (b"HTTP/2.0 200 OK\r\n\r\nab", 200, b"ab"),
        (b"HTTP/1.1 200\r\n\r\nab", 200, b"ab"),
        (b"HTTP/1.1 +20 OK\r\n\r\nab", 20, b"ab"),
        (b"HTTP/1.1 000 OK\r\n\r\n", 0, b""),
        (b"HTTP/1.1 999 OK\r\n\r\nab", 999, b"ab"),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab", 200, b"ab"),
        (OK + b"a b: c\r\n\r\nab", 200, b"ab"),
        (OK + b"ab: c\r\n d\r\n\r\nab", 200, b"ab"),
        (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab", 200, b"ab"),
        (CHUNKED + b"2\r\nab\r\n0\r\n\r\n", 200, b"ab"),
        (CHUNKED + b"1;x=y\r\na\r\nA \r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n", 200, b"a0123456789"),
        (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nab\r\n0\r\n\r\n", 200, b"ab"),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab", 200, b"2\r\nab"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\nab", 200, b"ab"),
        (b"HTTP/1.1 103 Early\r\nA: b\r\n\r\n" * 50 + OK + b"\r\nab", 200, b"ab"),
        (b"HTTP/1.1 101 Switch\r\n\r\n", 101, b""),
        (b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nab", 204, b""),
        (b"HTTP/1.1 304 No\r\n\r\n", 304, b""),
        (OK + b"Content-Length: 99999999\r\n\r\n" + b"x" * BODY_MAX, 200, b"x" * BODY_MAX),
        (CHUNKED + b"ffffff\r\n" + b"x" * 20000, 200, b"x" * BODY_MAX),
    ],
)
def test_a_response(data: bytes, status: int, body: bytes) -> None:
    response = read(data)
    assert (response.status, bytes(response.body), response.complete) == (status, body, True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "EOF"),
        (b"garbage\r\n\r\n", 'malformed HTTP response "garbage"'),
        (b"garbage", 'malformed HTTP response "garbage"'),
        (b'a"\\\x01\xff\n', 'malformed HTTP response "a\\"\\\\\\x01\ufffd"'),
        (b"HTTP/1.1 200", "unexpected EOF"),
        (OK + b"A: b\r\n", "unexpected EOF"),
        (b"HTTP/9 200 OK\r\n\r\n", 'malformed HTTP version "HTTP/9"'),
        (b"http/1.1 200 OK\r\n\r\n", 'malformed HTTP version "http/1.1"'),
        (b"HTTP/1.1 20 OK\r\n\r\n", 'malformed HTTP status code "20"'),
        (b"HTTP/1.1 2000 OK\r\n\r\n", 'malformed HTTP status code "2000"'),
        (b"HTTP/1.1 abc OK\r\n\r\n", 'malformed HTTP status code "abc"'),
        (b"HTTP/1.1 -20 OK\r\n\r\n", 'malformed HTTP status code "-20"'),
        (OK + b"no colon\r\n\r\n", 'malformed MIME header: missing colon: "no colon"'),
        (OK + b" ab: c\r\n\r\n", 'malformed MIME header initial line: " ab: c"'),
        (OK + b": c\r\n\r\n", 'malformed MIME header line: ": c"'),
        (OK + b"Content-Length: x\r\n\r\n", 'bad Content-Length "x"'),
        (OK + b"Content-Length: -1\r\n\r\n", 'bad Content-Length "-1"'),
        (
            OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n",
            'http: message cannot contain multiple Content-Length headers; got ["2" "3"]',
        ),
        (OK + b"Transfer-Encoding: gzip\r\n\r\n", 'unsupported transfer encoding: "gzip"'),
        (
            OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            'too many transfer encodings: ["chunked" "chunked"]',
        ),
        (
            OK + b"A: " + b"x" * HEAD_MAX,
            f"net/http: server response headers exceeded {HEAD_MAX} bytes; aborted",
        ),
    ],
)
def test_what_is_no_response(data: bytes, message: str) -> None:
    with pytest.raises(MalformedHeadError) as caught:
        read(data)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (OK + b"Content-Length: 5\r\n\r\nab", "unexpected EOF"),
        (CHUNKED, "unexpected EOF"),
        (CHUNKED + b"2\r\nab", "unexpected EOF"),
        (CHUNKED + b"2\r\nab\r\n0\r\n", "http: unexpected EOF reading trailer"),
        (CHUNKED + b"zz\r\n", "invalid byte in chunk length"),
        (CHUNKED + b"\r\n", "empty hex number for chunk length"),
        (CHUNKED + b"1" * 17 + b"\r\n", "http chunk length too large"),
        (CHUNKED + b"2\r\nabc\r\n", "malformed chunked encoding"),
        (CHUNKED + b"1" * 5000, "header line too long"),
        (
            CHUNKED + b"1;" + b"x" * 4000 + b"\r\na\r\n" * 1 + (b"1;" + b"x" * 4000 + b"\r\na\r\n") * 20,
            "chunked encoding contains too much non-data",
        ),
        (CHUNKED + b"0\r\n" + b"A: bbbbbbbbbb\r\n" * 6000, "chunked encoding contains too much non-data"),
    ],
)
def test_a_body_that_breaks_off(data: bytes, message: str) -> None:
    with pytest.raises(BodyError) as caught:
        read(data)
    assert str(caught.value) == message


def test_a_wrong_status_line_is_told_before_the_head_is_there() -> None:
    with pytest.raises(MalformedHeadError, match="garbage"):
        read(b"garbage\r\n", end=False)


def outcome(parts: list[bytes]) -> object:
    try:
        response = read(*parts)
    except (MalformedHeadError, BodyError) as error:
        return type(error), str(error)
    return response.status, bytes(response.body), response.location


PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 100 C",
        b"HTTP/1.0 302 X",
        b"Location: /y",
        b"0",
        b"2",
        b"ab",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b":",
        b" ",
        b"x",
        b";",
    ]
)


@given(
    data=st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=20).map(b"".join)),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
@example(data=CHUNKED + b"2\r\nab\r\n0\r\n\r\n", cuts=list(range(70)))
@example(data=OK + b"Content-Length: 2\r\n\r\nab", cuts=list(range(70)))
def test_how_the_bytes_come_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    parts = [data[start:end] for start, end in itertools.pairwise(places)]
    assert outcome(parts) == outcome([data])
