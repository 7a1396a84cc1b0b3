"""What a hosts.toml says, as containerd reads it, and what is said of one that cannot be used."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci.hosts import (
    ALL,
    Host,
    HostsError,
    directories,
    from_certificates,
    own_host,
    parse_hosts,
)

DIRECTORY = PurePosixPath("/certs.d/docker.io")
HUB = own_host("docker.io", insecure=False)


def hosts(text: str) -> tuple[Host, ...]:
    return parse_hosts(text.encode(), DIRECTORY, HUB)


@pytest.mark.parametrize(
    ("registry", "names"),
    [
        ("docker.io", ["docker.io", "_default"]),
        ("here:5000", ["here_5000_", "here:5000", "_default"]),
        ("[::1]:5000", ["[::1]_5000_", "[::1]:5000", "_default"]),
        ("[::1]", ["[::1]", "_default"]),
    ],
)
def test_directories(registry: str, names: list[str]) -> None:
    assert list(directories(registry)) == names


@pytest.mark.parametrize(
    ("registry", "insecure", "url"),
    [
        ("docker.io", False, "https://registry-1.docker.io/v2"),
        ("here:5000", True, "http://here:5000/v2"),
    ],
)
def test_the_registry_itself(registry: str, insecure: bool, url: str) -> None:
    host = own_host(registry, insecure=insecure)
    assert host == Host(url)
    assert host.namespace(registry) is None


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("", ["https://registry-1.docker.io/v2"]),
        ('server = "https://docker.io"', ["https://docker.io/v2"]),
        ('server = "mirror:5000"', ["https://mirror:5000/v2"]),
        (
            'server = "https://u"\n[host."https://one"]\n[host."https://two"]',
            ["https://one/v2", "https://two/v2", "https://u/v2"],
        ),
        (
            '[host."https://two"]\n[host."https://two".header]\nx = "y"\n[host."https://one"]',
            ["https://two/v2", "https://one/v2", "https://registry-1.docker.io/v2"],
        ),
        ('server = "https://m/"', ["https://m/v2"]),
        ('server = "https://m/us"', ["https://m/us/v2"]),
        ('server = "https://m/us/v2/"', ["https://m/us/v2"]),
        ('server = "https://m/a//b/../c"', ["https://m/a/c/v2"]),
        ('server = "https://m/v2/proxy"\noverride_path = true', ["https://m/v2/proxy"]),
        ('server = "https://m"\noverride_path = true', ["https://m"]),
        ('server = "http://m"\nskip_verify = true', ["https://m/v2", "http://m/v2"]),
        ('server = "http://m:80"\nskip_verify = true', ["http://m:80/v2"]),
        ('server = "http://m"', ["http://m/v2"]),
    ],
)
def test_who_is_asked(text: str, urls: list[str]) -> None:
    assert [host.url for host in hosts(text)] == urls


def test_all_that_a_host_may_have() -> None:
    mirror, _ = hosts(
        """
        [host."https://mirror"]
          capabilities = ["pull", "resolve"]
          ca = ["one.crt", "/etc/two.pem"]
          client = [["a.cert", "a.key"], ["/b.pem", ""], "c.pem"]
          skip_verify = true
          dial_timeout = "1m1.5s"
          [host."https://mirror".header]
            x-one = "1"
            x-two = ["a", "b"]
        """
    )
    assert mirror == Host(
        "https://mirror/v2",
        frozenset({"pull", "resolve"}),
        ca=("/certs.d/docker.io/one.crt", "/etc/two.pem"),
        client=(
            ("/certs.d/docker.io/a.cert", "/certs.d/docker.io/a.key"),
            ("/b.pem", None),
            ("/certs.d/docker.io/c.pem", None),
        ),
        skip_verify=True,
        header=(("x-one", "1"), ("x-two", "a, b")),
        connect_timeout=61.5,
    )
    assert mirror.origin == "https://mirror"
    assert mirror.namespace("docker.io") == "docker.io"


def test_the_top_of_the_file_is_for_the_registry_itself() -> None:
    (own,) = hosts('ca = "ca.crt"\nclient = "client.pem"\n[header]\nx = "y"\n')
    assert own.url == HUB.url
    assert own.ca == ("/certs.d/docker.io/ca.crt",)
    assert own.client == (("/certs.d/docker.io/client.pem", None),)
    assert own.header == (("x", "y"),)
    assert own.capabilities == ALL


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("server = ", "is no TOML: Invalid value (at end of document)"),
        ('\nmirror = "x"', "line 2: Object contains unknown field `mirror`"),
        ("server = 3", "line 1: server: Expected `str`, got `int`"),
        ("host = 3", 'host: is no table of hosts: [host."https://HOST"]'),
        (
            '[host."https://a"]\nskip_verify = true\n[host."https://b"]\nskip_verify = "yes"',
            'line 4: host."https://b".skip_verify: Expected `bool`, got `str`',
        ),
        (
            '[host."https://a"]\n skip_verfy = true',
            'line 2: host."https://a": Object contains unknown field `skip_verfy`',
        ),
        (
            '[host."https://a"]\ncapabilities = ["pull", "push it"]',
            "line 2: host.\"https://a\".capabilities[1]: Invalid enum value 'push it'",
        ),
        ('[host."https://a"]\nca = 3', 'line 2: host."https://a".ca: Expected `str | array`, got `int`'),
        (
            '[host."https://a"]\nclient = [["a"]]',
            'line 2: host."https://a".client: a pair is of a certificate and a key, not of 1',
        ),
        (
            '[host."https://a"]\ndial_timeout = "1"',
            "line 2: host.\"https://a\".dial_timeout: '1' is no duration: 500ms, 1s",
        ),
        ('dial_timeout = "0s"', "line 1: dial_timeout: '0s' is no duration: 500ms, 1s"),
        (
            '[host."https://a"]\n[host."https://a".header]\nx = "a\\r\\nb: c"',
            'line 2: host."https://a".header.x: cannot be sent as a header',
        ),
        (
            '[host."ftp://a"]',
            'line 1: host."ftp://a": is no URL of a host: https://HOST[:PORT][/PATH]',
        ),
        ('server = "https://u:p@a"', "is no URL of a host: https://HOST[:PORT][/PATH]"),
        ('server = "https://a?b=c"', "is no URL of a host: https://HOST[:PORT][/PATH]"),
        ('server = "https://a:99999"', "is no URL of a host: https://HOST[:PORT][/PATH]"),
        ('server = "https://[::1"', "is no URL of a host: https://HOST[:PORT][/PATH]"),
    ],
)
def test_what_cannot_be_used(text: str, error: str) -> None:
    with pytest.raises(HostsError) as caught:
        hosts(text)
    assert str(caught.value) == error


def test_certificates_without_a_hosts_toml() -> None:
    found = from_certificates(["b.key", "a.crt", "b.cert", "c.cert", "readme"], DIRECTORY, HUB)
    assert found.url == HUB.url
    assert found.ca == ("/certs.d/docker.io/a.crt",)
    assert found.client == (
        ("/certs.d/docker.io/b.cert", "/certs.d/docker.io/b.key"),
        ("/certs.d/docker.io/c.cert", None),
    )


_VALUES = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["pull", "1s", "https://x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    ["server", "capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout", "x"]
)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value % 2**60)
    if isinstance(value, str):
        return (
            '"' + "".join(f"\\U{ord(char):08x}" for char in value if not "\ud800" <= char <= "\udfff") + '"'
        )
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    assert isinstance(value, dict)
    return "{" + ", ".join(f"{_toml(key)} = {_toml(one)}" for key, one in value.items()) + "}"


_TABLES = st.dictionaries(_KEYS, _VALUES, max_size=4)


@given(_TABLES, st.dictionaries(st.text(max_size=12) | st.just("https://m"), _TABLES, max_size=3))
def test_any_document_is_read_or_refused(
    top: dict[str, object], tables: dict[str, dict[str, object]]
) -> None:
    lines = [f"{key} = {_toml(value)}" for key, value in top.items()]
    for name, table in tables.items():
        lines += [f"[host.{_toml(name)}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    try:
        found = hosts("\n".join(lines))
    except HostsError:
        return
    assert len(found) >= len(tables) + 1
    for host in found:
        assert host.url.startswith(("https://", "http://"))
        assert host.capabilities <= ALL


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = parse_hosts(data, DIRECTORY, HUB)
    except HostsError:
        return
    assert found
