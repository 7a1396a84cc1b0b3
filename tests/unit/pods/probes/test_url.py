"""URLs as Go's net/url has them; the expectations are what Go 1.26 printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.pods.probes.url import Url, UrlError, join, with_path

BASE = "http://10.0.0.1:80"


@pytest.mark.parametrize(
    ("path", "url", "target"),
    [
        ("", "", "/"),
        ("/", "/", "/"),
        ("healthz", "/healthz", "/healthz"),
        ("/a b", "/a%20b", "/a%20b"),
        ("/a%20b", "/a%20b", "/a%20b"),
        ("/a%zz", "/a%25zz", "/a%25zz"),
        ("//foo/bar", "/bar", "/bar"),
        ("http://other:90/path?q=1#f", "/path?q=1#f", "/path?q=1"),
        ("/x?y=1 2", "/x?y=1 2", "/x?y=1 2"),
        ("/x#frag", "/x#frag", "/x"),
        ("?q", "?q", "/?q"),
        ("/ä", "/%C3%A4", "/%C3%A4"),
        ("/a%2Fb", "/a%2Fb", "/a%2Fb"),
        ("/a;b", "/a;b", "/a;b"),
        ("/a[b]", "/a[b]", "/a[b]"),
        ('/a"b<c>', "/a%22b%3Cc%3E", "/a%22b%3Cc%3E"),
        ('/a?b="<>', '/a?b="<>', '/a?b="<>'),
        (":foo", "/:foo", "/:foo"),
        ("/a\x01b", "/a%01b", "/a%01b"),
        ("/%41", "/%41", "/%41"),
        ("/a?", "/a?", "/a?"),
        ("../x", "/../x", "/../x"),
        ("/a/../b", "/a/../b", "/a/../b"),
        ("/?a#b?c", "/?a#b?c", "/?a"),
        ("user@x/y", "/user@x/y", "/user@x/y"),
        ("/a|b^c`{}", "/a%7Cb%5Ec%60%7B%7D", "/a%7Cb%5Ec%60%7B%7D"),
    ],
)
def test_a_path_is_read_as_go_reads_it(path: str, url: str, target: str) -> None:
    found = with_path("http", "10.0.0.1", 80, path)
    assert (str(found), found.target) == (BASE + url, target)


@given(st.text())
def test_no_path_adds_a_line_to_the_request(path: str) -> None:
    target = with_path("http", "10.0.0.1", 80, path).target
    assert target.startswith("/")
    assert not set("\r\n\0") & set(target)


@pytest.mark.parametrize("host", ["a b", "a\r\nX: y", "a/b", "a@b", "a?b", "[::1]x", "a%zz"])
def test_what_is_no_host_is_not_connected_to(host: str) -> None:
    with pytest.raises(UrlError, match="invalid host"):
        with_path("http", host, 80, "/")


def test_an_ipv6_address_has_brackets() -> None:
    url = with_path("https", "::1", 8080, "/x")
    assert (str(url), url.authority, url.hostname) == ("https://[::1]:8080/x", "[::1]:8080", "::1")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("/y", "http://a:1/y"),
        ("y", "http://a:1/b/y"),
        ("../y", "http://a:1/y"),
        ("?z", "http://a:1/b/c?z"),
        ("//other/y", "http://other/y"),
        ("https://a/y?q#f", "https://a/y?q#f"),
        ("HTTP://a:1/y", "http://a:1/y"),
        ("http://[::1]:2", "http://[::1]:2"),
        ("http://u:p@a/y", "http://a/y"),
    ],
)
def test_a_reference_is_resolved(reference: str, expected: str) -> None:
    assert str(join(Url("http", "a", 1, "/b/c", "q"), reference)) == expected


def test_what_has_no_host_leads_nowhere() -> None:
    assert join(Url("http", "a", 1), "mailto:x@y").hostname == ""


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("/%zz", 'parse "/%zz": invalid URL escape "%zz"'),
        ("http://[::1", 'parse "http://[::1": invalid host'),
        ("http://a:99999/", 'parse "http://a:99999/": invalid host'),
        ("/a\x01", "control character"),
    ],
)
def test_a_bad_reference_is_named(reference: str, message: str) -> None:
    with pytest.raises(UrlError) as caught:
        join(Url("http", "a", 1), reference)
    assert message in str(caught.value)


@given(st.text())
def test_any_reference_is_a_url_or_none(reference: str) -> None:
    try:
        found = join(Url("http", "a", 1, "/b"), reference)
    except UrlError:
        return
    assert not set("\r\n\0") & set(found.target)
