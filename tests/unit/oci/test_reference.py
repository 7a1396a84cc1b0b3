"""References as Docker reads them, and that nothing else gets through."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci.errors import InvalidReferenceError, OciError
from oci.reference import Reference, parse

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("x", "docker.io", "library/x", "latest", None),
        ("x:1", "docker.io", "library/x", "1", None),
        ("me/x", "docker.io", "me/x", "latest", None),
        ("a/b/c", "docker.io", "a/b/c", "latest", None),
        ("docker.io/x", "docker.io", "library/x", "latest", None),
        ("docker.io/me/x:v", "docker.io", "me/x", "v", None),
        ("index.docker.io/x", "docker.io", "library/x", "latest", None),
        ("localhost/x", "localhost", "x", "latest", None),
        ("localhost:5000/x:v", "localhost:5000", "x", "v", None),
        ("local/x", "docker.io", "local/x", "latest", None),
        ("host:5000/x", "host:5000", "x", "latest", None),
        ("Host/x", "Host", "x", "latest", None),
        ("GHCR.io/me/x", "GHCR.io", "me/x", "latest", None),
        ("ghcr.io/me/x:V1.0_a-b", "ghcr.io", "me/x", "V1.0_a-b", None),
        ("127.0.0.1:5000/a/b:v", "127.0.0.1:5000", "a/b", "v", None),
        ("[::1]:5000/x", "[::1]:5000", "x", "latest", None),
        ("[fe80::1]/x:v", "[fe80::1]", "x", "v", None),
        (f"x@{DIGEST}", "docker.io", "library/x", None, DIGEST),
        (f"ghcr.io/x:v@{DIGEST}", "ghcr.io", "x", "v", DIGEST),
        (f"x@sha512:{HEX * 2}", "docker.io", "library/x", None, f"sha512:{HEX * 2}"),
        ("a__b/c--d/e.f/g_h", "docker.io", "a__b/c--d/e.f/g_h", "latest", None),
        ("x:" + "t" * 128, "docker.io", "library/x", "t" * 128, None),
        (HEX[:-1], "docker.io", f"library/{HEX[:-1]}", "latest", None),
        (f"{HEX}:v", "docker.io", f"library/{HEX}", "v", None),
        ("h/" + "a" * 253, "docker.io", "h/" + "a" * 253, "latest", None),
    ],
)
def test_normalised_as_docker_does(
    text: str, registry: str, repository: str, tag: str | None, digest: str | None
) -> None:
    assert parse(text) == Reference(registry, repository, tag, digest)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "at least one component"),
        ("X", "repository name (library/X) must be lowercase"),
        ("docker.io/X", "must be lowercase"),
        ("ghcr.io/Me/x", "repository name (Me/x) must be lowercase"),
        ("x:", "'' is no tag"),
        ("x:a:b", "'a:b' is no tag"),
        ("x:.a", "is no tag"),
        ("x:" + "t" * 129, "is no tag"),
        ("x:v\n", "is no tag"),
        ("x\n", "is no repository name"),
        (" x", "is no repository name"),
        ("a//b", "is no repository name"),
        ("/x", "is no repository name"),
        ("docker.io/", "is no repository name"),
        ("ghcr.io/../x", "is no repository name"),
        ("a..b", "is no repository name"),
        ("-x", "is no repository name"),
        ("x_", "is no repository name"),
        ("a___b", "is no repository name"),
        ("x/é", "is no repository name"),
        ("https://ghcr.io/x", "is no registry host"),
        ("user:password@ghcr.io/x", "is no sha256, sha384 or sha512 digest"),
        ("-host.io/x", "is no registry host"),
        ("host:port/x", "is no registry host"),
        ("host..io/x", "is no registry host"),
        ("[::1/x", "is no registry host"),
        (HEX, "64-byte hexadecimal"),
        ("x@", "is no sha256"),
        ("x@sha256:abc", "is no sha256"),
        (f"x@sha256:{HEX.upper()}", "is no sha256"),
        (f"x@md5:{HEX[:32]}", "is no sha256"),
        (f"x@{DIGEST}@{DIGEST}", "is no sha256"),
        (f"@{DIGEST}", "is no repository name"),
        ("h/" + "a" * 254, "must not be more than 255 characters"),
    ],
)
def test_refused_with_the_kubelets_words(text: str, cause: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        parse(text)
    assert str(caught.value).startswith(f'couldn\'t parse image name "{text}": invalid reference format: ')
    assert cause in str(caught.value)


def test_text_has_all_parts_and_name_the_deciding_ones() -> None:
    reference = parse(f"x:v@{DIGEST}")
    assert str(reference) == f"docker.io/library/x:v@{DIGEST}"
    assert reference.name == f"docker.io/library/x@{DIGEST}"
    assert reference.identifier == DIGEST
    assert parse("x").name == str(parse("x")) == "docker.io/library/x:latest"


_COMPONENTS = st.from_regex(r"[a-z0-9]{1,8}(?:[._-][a-z0-9]{1,8}){0,2}", fullmatch=True)
_REFERENCES = st.builds(
    Reference,
    registry=st.sampled_from(["docker.io", "ghcr.io", "localhost", "h:5000", "[::1]:80", "Upper"]),
    repository=st.lists(_COMPONENTS, min_size=2, max_size=4).map("/".join),
    tag=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    digest=st.none() | st.just(DIGEST),
)


@given(_REFERENCES)
def test_normalised_text_reads_back(reference: Reference) -> None:
    assert parse(str(reference)) == reference
    assert parse(reference.name).name == reference.name


@given(st.text() | st.text("aA0:/@.-_[]\n é", max_size=30))
def test_any_text_is_a_reference_or_an_error(text: str) -> None:
    with contextlib.suppress(OciError):
        reference = parse(text)
        assert parse(str(reference)) == reference
        assert ".." not in reference.repository.split("/")
