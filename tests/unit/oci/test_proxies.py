"""Which proxy is taken: the rules of Go's httpproxy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci.proxies import Proxies, ProxyError, from_environment, without_user

BOTH = Proxies("http://p:1", "http://q:2")


@pytest.mark.parametrize(
    ("environment", "proxies"),
    [
        ({}, Proxies()),
        ({"HTTPS_PROXY": "a", "https_proxy": "b"}, Proxies(https="a")),
        ({"http_proxy": "a", "no_proxy": "c", "ALL_PROXY": "d"}, Proxies("a", "", "c")),
    ],
)
def test_the_environment(environment: dict[str, str], proxies: Proxies) -> None:
    assert from_environment(environment) == proxies


def test_by_scheme() -> None:
    assert BOTH.of("http://r/v2") == "http://p:1"
    assert BOTH.of("https://r/v2") == "http://q:2"
    assert Proxies(https="q:2").of("https://r/v2") == "http://q:2"
    assert Proxies(https="q:2").of("http://r/v2") is None


@pytest.mark.parametrize(
    ("direct", "url", "is_direct"),
    [
        ("", "https://localhost:5000/", True),
        ("", "https://127.0.0.9/", True),
        ("", "https://[::1]:5000/", True),
        ("", "https://10.0.0.1/", False),
        ("*", "https://r/", True),
        ("example.com", "https://example.com/", True),
        ("example.com", "https://EXAMPLE.com:5000/", True),
        ("example.com", "https://r.example.com/", True),
        ("example.com", "https://notexample.com/", False),
        (".example.com", "https://r.example.com/", True),
        (".example.com", "https://example.com/", False),
        ("*.example.com", "https://r.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("example.com:5000", "https://example.com:5000/", True),
        ("example.com:5000", "https://example.com/", False),
        ("example.com:443", "https://example.com/", True),
        ("10.0.0.0/8", "https://10.1.2.3:5000/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.0.0.0/8", "https://r/", False),
        ("10.1.2.3", "https://10.1.2.3/", True),
        ("10.1.2.3:80", "https://10.1.2.3/", False),
        ("2001:db8::/32", "https://[2001:db8::1]/", True),
        ("2001:db8::1", "https://[2001:db8::1]/", True),
        ("a.b , example.com", "https://example.com/", True),
        (",,", "https://r/", False),
    ],
)
def test_what_needs_none(direct: str, url: str, is_direct: bool) -> None:
    assert (Proxies("p", "p", direct).of(url) is None) is is_direct


@pytest.mark.parametrize("proxy", ["socks5://p:1", "http://", "http://p:999999", "http://[x"])
def test_one_that_cannot_be_used(proxy: str) -> None:
    with pytest.raises(ProxyError, match="HTTPS_PROXY is no URL of a proxy"):
        Proxies(https=proxy).of("https://r/")


def test_what_is_shown_has_no_password() -> None:
    assert without_user("http://me:secret@p:1/") == "p:1"


@given(st.text(max_size=40), st.sampled_from(["https://r.example.com/", "http://10.0.0.1:5000/"]))
def test_any_list_is_read(direct: str, url: str) -> None:
    assert Proxies("p", "p", direct).of(url) in (None, "http://p")
