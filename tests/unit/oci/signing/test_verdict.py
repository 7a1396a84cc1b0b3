"""Whether a signature counts: by which key, of which identity, in which log, of which image."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from signer import MINUTE, NOW, Authority, Log, Private, Signer, b64, new_key, payload, pem, statement

from oci import digests
from oci.reference import parse
from oci.signing.errors import SignatureProblem
from oci.signing.policy import read
from oci.signing.signature import Signature, bundle, simple
from oci.signing.verdict import Found, refusal

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = digests.of(MANIFEST)
OTHER = "sha256:" + "0" * 64
NAME = "r.io/team/app"
ASKED = parse(f"{NAME}:v1")


def of_simple(signer: Signer, **changes: Any) -> Signature:
    signed = payload(DIGEST, NAME, **changes)
    return simple(signed, signer.annotations(signed))


def of_bundle(signer: Signer, digest: str = DIGEST, **changes: Any) -> Signature:
    return bundle(signer.bundle(statement(digest, **changes)), {DIGEST: MANIFEST})


def of_message(signer: Signer, message: bytes = MANIFEST) -> Signature:
    return bundle(signer.message_bundle(message), {DIGEST: MANIFEST})


FORMS = pytest.mark.parametrize("form", [of_simple, of_bundle, of_message])
Form = Callable[..., Signature]


def verdict(signature: Signature, *requirements: dict[str, Any], identity: str = "digestOnly") -> str:
    """Why a signature's image is not accepted by sigstoreSigned requirements, without the rule."""
    written = [
        {"type": "sigstoreSigned", "signedIdentity": {"type": identity}, **requirement}
        for requirement in requirements
    ]
    policy = read(json.dumps({"default": written}).encode(), lambda path: b"")
    text = refusal(policy.requirements(ASKED), ASKED, [DIGEST], [Found("here", signature)])
    return text.partition(": here: ")[2] or text


def by(*keys: Private, log: Log | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"keyDatas": [b64(pem(key)) for key in keys]}
    return found | ({"rekorPublicKeyData": b64(pem(log.key))} if log else {})


@FORMS
@pytest.mark.parametrize(
    ("key", "digest"),
    [
        (ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()),
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        (ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()),
        (ed25519.Ed25519PrivateKey.generate(), None),
        (rsa.generate_private_key(65537, 2048), hashes.SHA256()),
    ],
)
def test_a_signature_by_one_of_the_keys(
    form: Form, key: Private, digest: hashes.HashAlgorithm | None
) -> None:
    signature = form(Signer(key, digest=digest))
    assert verdict(signature, by(new_key(), key)) == ""
    assert verdict(signature, by(new_key())) == "it is by none of the keys"
    assert "by none of the keys" in verdict(replace(signature, signature=b""), by(key))
    assert "by none of the keys" in verdict(replace(signature, message=b"else"), by(key))


def test_rsa_with_pss() -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert verdict(of_simple(Signer(key, pss=True)), by(key)) == ""


def test_all_requirements_must_be_met() -> None:
    one, two = Signer(), Signer()
    signature = of_simple(one)
    assert verdict(signature, by(one.key), by(one.key)) == ""
    text = verdict(signature, by(one.key), by(two.key))
    assert text == "it is by none of the keys"
    policy = read(
        json.dumps({"default": [{"type": "sigstoreSigned", **by(one.key)}, {"type": "reject"}]}).encode(),
        lambda path: b"",
    )
    both = refusal(
        policy.requirements(ASKED), parse(f"{NAME}@{DIGEST}"), [DIGEST], [Found("here", signature)]
    )
    assert both == "default[1] (reject): no such image is accepted"


@pytest.mark.parametrize(
    ("signature", "identity", "problem"),
    [
        (lambda by: of_simple(by), "matchRepository", ""),
        (
            lambda by: of_simple(by),
            "matchRepoDigestOrExact",
            f"it is of '{NAME}', which signedIdentity matchRepoDigestOrExact does not take for {NAME}:v1",
        ),
        (
            lambda by: of_simple(by, identity={"docker-reference": "r.io/team/other"}),
            "matchRepository",
            f"it is of 'r.io/team/other', which signedIdentity matchRepository does not take for {NAME}:v1",
        ),
        (
            lambda by: of_simple(by, image={"docker-manifest-digest": OTHER}),
            "digestOnly",
            f"it is of {OTHER}",
        ),
        (
            lambda by: of_bundle(by),
            "matchRepository",
            "it names no image, which only signedIdentity digestOnly takes",
        ),
        (lambda by: of_bundle(by, name=NAME), "matchRepository", ""),
        (lambda by: of_bundle(by, OTHER), "digestOnly", f"it is of {OTHER}"),
        (lambda by: of_message(by, b"else"), "digestOnly", "it is by none of the keys"),
    ],
)
def test_what_a_signature_speaks_of(
    signature: Callable[[Signer], Signature], identity: str, problem: str
) -> None:
    signer = Signer()
    assert verdict(signature(signer), by(signer.key), identity=identity) == problem


# Logs.


@FORMS
def test_a_log_must_have_it_when_its_key_is_given(form: Form) -> None:
    log, signer = Log(), Signer()
    logged = form(replace(signer, log=log))
    assert verdict(logged, by(signer.key, log=log)) == ""
    assert verdict(logged, by(signer.key)) == ""
    assert verdict(logged, by(signer.key, log=Log())) == "its log entry is promised by none of the Rekor keys"
    assert verdict(form(signer), by(signer.key, log=log)) == "no Rekor log promises to have it"


@FORMS
def test_another_signatures_entry_is_none(form: Form) -> None:
    log, signer, other = Log(), Signer(), Signer()
    wanted = by(signer.key, log=log)
    signature = form(replace(signer, log=log))
    assert signature.entry is not None
    of_other = form(replace(other, log=log)).entry
    assert "of another signature" in verdict(replace(signature, entry=of_other), wanted)
    for changes in ({"time": 1}, {"index": 1}, {"log": "00"}, {"body": b"{}"}):
        entry = replace(signature.entry, **changes)  # type: ignore[arg-type]
        assert "promised by none" in verdict(replace(signature, entry=entry), wanted)
    entry = replace(signature.entry, time=-1)
    assert "impossible numbers" in verdict(replace(signature, entry=entry), wanted)


def entry_of(log: Log, body: dict[str, Any], signer: Signer) -> Signature:
    signed = payload(DIGEST, NAME)
    logged = {"dev.sigstore.cosign/bundle": json.dumps(log.entry(body))}
    return simple(signed, {**signer.annotations(signed), **logged})


def test_what_a_log_has_must_be_this_signature() -> None:
    log, signer = Log(), Signer(ed25519.Ed25519PrivateKey.generate())
    signed = payload(DIGEST, NAME)
    signature = signer.sign(signed)
    wanted = by(signer.key, log=log)
    right = log.hashed(signed, signature, signer.pem())
    assert verdict(entry_of(log, right, signer), wanted) == ""
    bodies = [
        (log.hashed(b"else", signature, signer.pem()), "of another payload"),
        (log.hashed(signed, b"else", signer.pem()), "of another signature"),
        (log.hashed(signed, signature, pem(new_key())), "of another key"),
        (log.hashed(signed, signature, b"no key"), "of another key"),
        ({**right, "kind": "intoto"}, "of kind 'intoto' '0.0.1'"),
        ({**right, "spec": {}}, "cannot be read"),
        ({"kind": 1}, "cannot be read"),
    ]
    right["spec"]["data"]["hash"]["algorithm"] = "md5"
    bodies.append((right, "has a hash 'md5'"))
    for body, problem in bodies:
        assert problem in verdict(entry_of(log, body, signer), wanted)


# Identities.


def fulcio(authority: Authority, log: Log, **changes: str | None) -> dict[str, Any]:
    written: dict[str, Any] = {
        "caData": b64(authority.pem()),
        "oidcIssuer": "https://login.example.com",
        "subjectEmail": "dev@example.com",
    }
    written = {name: value for name, value in (written | changes).items() if value is not None}
    return {"fulcio": written, "rekorPublicKeyData": b64(pem(log.key))}


def certified(authority: Authority, log: Log, *words: str, **options: Any) -> Signer:
    key = new_key()
    return Signer(key, authority.certify(key, *words, **options), log=log)


@FORMS
def test_an_identity(form: Form) -> None:
    authority, log = Authority(), Log()
    signer = certified(authority, log, build="https://ci/x@main")
    wanted = fulcio(authority, log)
    assert verdict(form(signer), wanted) == ""
    assert verdict(form(signer), fulcio(authority, log, buildSignerURI="https://ci/x@main")) == ""
    only = fulcio(authority, log, buildSignerURI="https://ci/x@main", subjectEmail=None)
    assert verdict(form(signer), only) == ""
    assert "not the authority's" in verdict(form(signer), fulcio(Authority(), log))
    assert "promised by none" in verdict(form(signer), fulcio(authority, Log()))
    assert verdict(form(replace(signer, log=None)), wanted) == "no Rekor log promises to have it"
    assert verdict(form(replace(signer, key=new_key())), wanted) == "it is not by its certificate's key"
    assert verdict(form(replace(signer, certificate=None)), wanted) == "it has no certificate"
    for late in (-2 * MINUTE, 10 * MINUTE):
        text = verdict(form(replace(signer, at=NOW + late)), wanted)
        assert "not valid at validation time" in text


@pytest.mark.parametrize(
    ("options", "changes", "problem"),
    [
        ({"email": "eve@example.com"}, {}, "its signer is 'eve@example.com', not 'dev@example.com'"),
        ({"oidc": "https://else"}, {}, "identified by 'https://else', not by 'https://login.example.com'"),
        ({"oidc": ""}, {}, "identified by nobody that it names"),
        ({"oidc": "", "old": "https://login.example.com"}, {}, ""),
        ({"old": "https://else"}, {}, "identified by 'https://else', 'https://login.example.com'"),
        (
            {},
            {"buildSignerURI": "https://ci"},
            "its build's signer is nobody that it names, not 'https://ci'",
        ),
        ({"build": "https://ci/" + "x" * 200}, {"buildSignerURI": "https://ci/" + "x" * 200}, ""),
        ({"usage": ExtendedKeyUsageOID.CLIENT_AUTH}, {}, "is not for signing code"),
    ],
)
def test_whose_certificate_it_is(options: dict[str, Any], changes: dict[str, Any], problem: str) -> None:
    authority, log = Authority(), Log()
    text = verdict(of_simple(certified(authority, log, **options)), fulcio(authority, log, **changes))
    assert problem in text
    assert bool(text) == bool(problem)


def test_an_authority_between() -> None:
    root, log = Authority(), Log()
    between = Authority(issuer=root)
    signer = certified(between, log)
    assert "not the authority's" in verdict(of_simple(signer), fulcio(root, log))
    assert verdict(of_simple(replace(signer, chain=(between.certificate,))), fulcio(root, log)) == ""
    # Who has a certificate is no authority.
    leaf = certified(root, log)
    assert leaf.certificate is not None
    false = Authority(key=leaf.key)  # type: ignore[arg-type]
    false.certificate = leaf.certificate
    text = verdict(of_simple(replace(certified(false, log), chain=(leaf.certificate,))), fulcio(root, log))
    assert "not the authority's" in text


# What is no signature.


@pytest.mark.parametrize(
    ("data", "changes", "problem"),
    [
        (b"", {}, "it cannot be read"),
        (b"[" * 100_000, {}, "it cannot be read"),
        (b'{"critical": {}}', {}, "it cannot be read"),
        (payload(DIGEST, NAME, type="atomic container signature"), {}, "its type is 'atomic"),
        (payload(DIGEST, NAME), {"dev.cosignproject.cosign/signature": "%"}, "it cannot be read"),
        (payload(DIGEST, NAME), {"dev.cosignproject.cosign/signature": "\u00e9"}, "it cannot be read"),
        (payload(DIGEST, NAME), {"dev.sigstore.cosign/certificate": "no"}, "certificate cannot be read"),
        (payload(DIGEST, NAME), {"dev.sigstore.cosign/chain": "no"}, "chain of certificates cannot be read"),
        (payload(DIGEST, NAME), {"dev.sigstore.cosign/bundle": "{}"}, "it cannot be read"),
    ],
)
def test_layers_that_are_no_signature(data: bytes, changes: dict[str, str], problem: str) -> None:
    with pytest.raises(SignatureProblem, match=problem):
        simple(data, changes)


def bundle_of(**changes: Any) -> bytes:
    return json.dumps({**json.loads(Signer().bundle(statement(DIGEST))), **changes}).encode()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it cannot be read"),
        (b"null", "it cannot be read"),
        (bundle_of(mediaType="application/json"), "its media type is 'application/json'"),
        (bundle_of(dsseEnvelope=None), "it has not one content"),
        (
            bundle_of(messageSignature={"signature": "", "messageDigest": {"algorithm": "", "digest": ""}}),
            "it has not one content",
        ),
        (
            bundle_of(dsseEnvelope={"payload": "", "payloadType": "", "signatures": []}),
            "its envelope has not one signature",
        ),
        (
            bundle_of(dsseEnvelope={"payload": "", "payloadType": "text/plain", "signatures": [{"sig": ""}]}),
            "its payload is 'text/plain'",
        ),
        (Signer().bundle(b"{}"), "its statement cannot be read"),
        (Signer().bundle(statement(DIGEST).replace(b"Statement/v1", b"Statement/v9")), "of type"),
        (
            Signer().bundle(statement(DIGEST, predicate="https://slsa.dev/provenance/v1")),
            "it says 'https://slsa.dev/provenance/v1' of the image",
        ),
        (
            bundle_of(verificationMaterial={"certificate": {"rawBytes": "AAAA"}}),
            "its certificate cannot be read",
        ),
    ],
)
def test_bundles_that_are_no_signature(data: bytes, problem: str) -> None:
    with pytest.raises(SignatureProblem, match=problem):
        bundle(data, {DIGEST: MANIFEST})


@given(st.data())
def test_a_bundle_in_which_anything_is_changed_is_a_signature_or_none(data: st.DataObject) -> None:
    log, authority = Log(), Authority()
    document = json.loads(certified(authority, log).bundle(statement(DIGEST)))

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            name = data.draw(st.sampled_from(sorted(value)))
            return {**value, name: changed(value[name])}
        if isinstance(value, list) and value:
            return [changed(value[0])]
        return data.draw(st.none() | st.integers() | st.text(max_size=4) | st.just([]) | st.just({}))

    try:
        signature = bundle(json.dumps(changed(document)).encode(), {DIGEST: MANIFEST})
    except SignatureProblem:
        return
    verdict(signature, fulcio(authority, log))
