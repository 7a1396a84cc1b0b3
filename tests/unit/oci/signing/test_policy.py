"""What a policy file may say, and which of its scopes an image is in."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from signer import Authority, Signer, b64, pem

from oci.reference import parse
from oci.signing.errors import PolicyError
from oci.signing.policy import Policy, read, scopes

KEY = Signer().pem()
CA = Authority().pem()
FULCIO = {"caPath": "/ca.pem", "oidcIssuer": "https://login.example.com", "subjectEmail": "a@example.com"}
ACCEPT, REJECT = {"type": "insecureAcceptAnything"}, {"type": "reject"}


def file(path: str) -> bytes:
    files = {"/key.pub": KEY, "/ca.pem": CA, "/none.pem": b"no key"}
    if path not in files:
        raise FileNotFoundError(2, "No such file or directory", path)
    return files[path]


def signed(**fields: Any) -> dict[str, Any]:
    return {"type": "sigstoreSigned", **fields}


def policy(default: Any, **docker: Any) -> Policy:
    document = {"default": default, "transports": {"docker": docker}}
    return read(json.dumps(document).encode(), file)


def refused(requirement: Any) -> str:
    with pytest.raises(PolicyError) as caught:
        policy([ACCEPT], **{"r.io/team": [REJECT, requirement]})
    return str(caught.value)


@pytest.mark.parametrize(
    "requirement",
    [
        ACCEPT,
        REJECT,
        signed(keyPath="/key.pub"),
        signed(keyPaths=["/key.pub", "/key.pub"]),
        signed(keyData=b64(KEY)),
        signed(keyDatas=[b64(KEY)], rekorPublicKeyPath="/key.pub"),
        signed(fulcio=FULCIO, rekorPublicKeyData=b64(KEY)),
        signed(fulcio={**FULCIO, "buildSignerURI": "https://b"}, rekorPublicKeyDatas=[b64(KEY)]),
        signed(keyPath="/key.pub", signedIdentity={"type": "matchExact"}),
        signed(keyPath="/key.pub", signedIdentity={"type": "digestOnly"}),
        signed(
            keyPath="/key.pub",
            signedIdentity={"type": "remapIdentity", "prefix": "m.io:5000/x", "signedPrefix": "r.io"},
        ),
    ],
)
def test_what_a_requirement_may_be(requirement: Any) -> None:
    found = policy([REJECT], **{"r.io": [requirement]})
    expected = 0 if requirement is ACCEPT else 1
    assert len(found.requirements(parse("r.io/x"))) == expected


@pytest.mark.parametrize(
    ("requirement", "cause"),
    [
        (
            {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"},
            "[1].type: 'signedBy' is not supported",
        ),
        ({}, "[1].type: None is not supported"),
        ("reject", "[1].type: None is not supported"),
        ({"type": ["reject"]}, "[1].type: ['reject'] is not supported"),
        ({**REJECT, "why": 1}, "[1]: Object contains unknown field `why`"),
        (signed(), "[1]: exactly one of keyPath, keyPaths, keyData, keyDatas and fulcio must be there"),
        (signed(keyPath="/key.pub", fulcio=FULCIO, rekorPublicKeyPath="/key.pub"), "exactly one of keyPath"),
        (signed(keyPath="/key.pub", keyData=b64(KEY)), "keyPath and keyData: at most one"),
        (signed(keyPaths=[]), "keyPaths: is empty"),
        (signed(keyPath="key.pub"), "keyPath 'key.pub': is no absolute path"),
        (signed(keyPath="/gone"), "keyPath /gone: No such file or directory"),
        (signed(keyPath="/none.pem"), "keyPath: has no public key in PEM"),
        (signed(keyData="%"), "Invalid base64 encoded string - at `$.keyData`"),
        (signed(keyPath="/key.pub", pki={}), "unknown field `pki`"),
        (signed(fulcio=FULCIO), "fulcio: needs a Rekor key"),
        (
            signed(fulcio={**FULCIO, "caData": b64(CA)}, rekorPublicKeyPath="/key.pub"),
            "exactly one of caPath",
        ),
        (
            signed(fulcio={**FULCIO, "caPath": "/key.pub"}, rekorPublicKeyPath="/key.pub"),
            "fulcio.caPath: has no certificates",
        ),
        (
            signed(fulcio={**FULCIO, "subjectEmail": ""}, rekorPublicKeyPath="/key.pub"),
            "subjectEmail or buildSignerURI",
        ),
        (
            signed(fulcio={**FULCIO, "oidcIssuer": ""}, rekorPublicKeyPath="/key.pub"),
            "fulcio.oidcIssuer: is empty",
        ),
        (signed(keyPath="/key.pub", signedIdentity={"type": "any"}), "Invalid value 'any'"),
        (
            signed(keyPath="/key.pub", signedIdentity={"type": "exactReference", "dockerReference": "x"}),
            "dockerReference 'x': has neither tag nor digest",
        ),
        (
            signed(keyPath="/key.pub", signedIdentity={"type": "exactRepository", "dockerRepository": "x:y"}),
            "dockerRepository 'x:y': has a tag",
        ),
        (
            signed(
                keyPath="/key.pub",
                signedIdentity={"type": "remapIdentity", "prefix": "busybox", "signedPrefix": "r.io"},
            ),
            "prefix 'busybox': is no host, namespace or repository in full",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_name(requirement: Any, cause: str) -> None:
    text = refused(requirement)
    assert text.startswith("transports.docker['r.io/team'][1]")
    assert cause in text


@pytest.mark.parametrize(
    ("document", "cause"),
    [
        (b"", "Expecting value"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `default`"),
        (b'{"default": []}', "default: expected a list of at least one requirement"),
        (b'{"default": [{"type": "reject"}], "more": 1}', "unknown field `more`"),
        (b'{"default": [{"type": "reject"}], "default": [{"type": "reject"}]}', "'default' is there twice"),
        (b'{"default": [{"type": "reject", "type": "insecureAcceptAnything"}]}', "'type' is there twice"),
        (b'{"default": [{"type": "reject"}], "transports": {"docker": {"a.*": []}}}', "only `*.`"),
        (b'{"default": [{"type": "reject"}], "transports": {"docker": {"a": {}}}}', "expected a list"),
        (b'{"default": ' + b"[" * 100_000, ""),
        (b"\xff\xfe", ""),
    ],
)
def test_a_file_that_is_no_policy(document: bytes, cause: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read(document, file)
    assert cause in str(caught.value)
    assert str(caught.value)


def test_other_transports_are_not_looked_at() -> None:
    document = {"default": [REJECT], "transports": {"docker-daemon": {"": [{"type": "signedBy"}]}}}
    assert read(json.dumps(document).encode(), file).requirements(parse("x"))


def test_the_example_that_people_read() -> None:
    text = (Path(__file__).parents[4] / "docs" / "image-policy.md").read_text()
    example = textwrap.dedent(re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)[0])
    files = {"team.pub": KEY, "fulcio.pem": CA, "rekor.pub": KEY}
    found = read(example.encode(), lambda path: files[Path(path).name])
    assert found.requirements(parse("other.io/x"))
    assert not found.requirements(parse("busybox"))
    for name in ("registry.example.com/team/x", "eu.apps.example.com:5000/x"):
        assert found.requirements(parse(name))[0].signed


def test_the_scopes_of_an_image() -> None:
    assert scopes(parse("r.sub.example.com:5000/a/b/c:v1")) == [
        "r.sub.example.com:5000/a/b/c:v1",
        "r.sub.example.com:5000/a/b/c",
        "r.sub.example.com:5000/a/b",
        "r.sub.example.com:5000/a",
        "r.sub.example.com:5000",
        "*.sub.example.com",
        "*.example.com",
        "*.com",
        "",
    ]
    digest = "sha256:" + "1" * 64
    assert scopes(parse(f"busybox:v1@{digest}"))[0] == f"docker.io/library/busybox@{digest}"
    assert scopes(parse("[::1]:5000/x"))[-2:] == ["[::1]:5000", ""]


def test_the_most_specific_scope_decides() -> None:
    found = policy([REJECT], **{"": [ACCEPT], "*.example.com": [REJECT], "r.example.com/ok": [ACCEPT]})
    assert not found.requirements(parse("other.io/x"))
    assert found.requirements(parse("r.example.com/x"))
    assert found.requirements(parse("r.example.com:5000/okay"))
    assert not found.requirements(parse("r.example.com/ok/x:v2"))
    assert policy([REJECT]).requirements(parse("x"))


label = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
names = st.builds(
    lambda host, path, tag: parse(f"{'.'.join(host)}.io/{'/'.join(path)}:{tag}"),
    st.lists(label, min_size=1, max_size=3),
    st.lists(label, min_size=1, max_size=4),
    label,
)


@given(names, st.data())
def test_a_scope_holds_for_what_is_below_it_and_for_nothing_else(reference: Any, data: Any) -> None:
    scope = data.draw(st.sampled_from(scopes(reference)))
    other = data.draw(names)
    found = policy([ACCEPT], **{scope: [REJECT]})
    assert found.requirements(reference)
    host = other.registry
    if scope.startswith("*."):
        is_below = host.endswith(scope[1:])
    else:
        is_below = not scope or other.name == scope or other.name.startswith((f"{scope}/", f"{scope}:"))
    assert bool(found.requirements(other)) == is_below


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["reject", "/key.pub"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "default",
                    "transports",
                    "docker",
                    "",
                    "keyPath",
                    "keyDatas",
                    "fulcio",
                    "signedIdentity",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values | st.fixed_dictionaries({"default": json_values, "transports": json_values}))
def test_whatever_a_file_says_it_is_a_policy_or_refused(document: Any) -> None:
    try:
        found = read(json.dumps(document).encode(), file)
    except PolicyError:
        return
    found.requirements(parse("x"))


@given(st.binary(max_size=200))
def test_whatever_a_files_bytes_are(data: bytes) -> None:
    with pytest.raises(PolicyError):
        read(data, file)


def test_a_weak_key_is_none() -> None:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505  to be refused
    for key in (weak, ec.generate_private_key(ec.SECP256K1())):
        assert "is neither" in refused(signed(keyData=b64(pem(key))))
