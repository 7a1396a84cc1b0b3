"""Docker's credential helpers, which are scripts here: who is asked, and what is made of the answer."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from oci import credential_helper
from oci.credential_helper import CredentialHelperError, Helper, helper_for, lookup
from oci.credentials import Credentials
from oci.keyring import KeyringError
from oci.reference import parse

HUB = "https://index.docker.io/v1/"


def document(**parts: object) -> bytes:
    return json.dumps(parts).encode()


@pytest.mark.parametrize(
    ("image", "configuration", "helper"),
    [
        ("r.io/app", document(), None),
        ("r.io/app", document(credsStore="store"), Helper("store", "r.io")),
        ("r.io/app", document(credsStore="store", credHelpers={"r.io": "own"}), Helper("own", "r.io")),
        ("r.io/app", document(credsStore="store", credHelpers={"r.io": ""}), None),
        ("r.io/app", document(credHelpers={"other.io": "own"}), None),
        (
            "r.io:5000/app",
            document(credHelpers={"r.io": "no", "r.io:5000": "own"}),
            Helper("own", "r.io:5000"),
        ),
        ("app", document(credHelpers={"docker.io": "own"}), Helper("own", HUB)),
        ("app", document(credHelpers={"index.docker.io": "own"}), Helper("own", HUB)),
        ("app", document(credHelpers={HUB: "own", "docker.io": "other"}), Helper("own", HUB)),
        ("app", document(credsStore="store"), Helper("store", HUB)),
    ],
)
def test_who_is_asked(image: str, configuration: bytes, helper: Helper | None) -> None:
    assert helper_for(configuration, parse(image)) == helper


@pytest.mark.parametrize("name", ["../evil", "a/b", "a b", "-x", "."])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(KeyringError, match="is no name of a credential helper"):
        helper_for(document(credsStore=name), parse("r.io/app"))


@given(st.binary(max_size=60) | st.dictionaries(st.sampled_from(["credsStore", "credHelpers"]), st.text()))
def test_any_configuration_is_read_or_refused(data: bytes | dict[str, str]) -> None:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    try:
        helper = helper_for(text, parse("r.io/app"))
    except KeyringError:
        return
    assert helper is None or "/" not in helper.name


@pytest.fixture
def helper(tmp_path: Path):
    """Makes the helper `test` of a script, and gives what is found with it."""

    async def found(script: str, image: str = "r.io/app", **parts: object) -> list[Credentials]:
        program = tmp_path / "docker-credential-test"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        configuration = document(credsStore="test", **parts)
        return await lookup(configuration, parse(image), {"PATH": f"{tmp_path}:{os.environ['PATH']}"})

    return found


async def test_is_asked_for_the_registry(helper, tmp_path: Path) -> None:
    script = f"""
    echo "$@" > {tmp_path}/arguments
    cat > {tmp_path}/server
    echo '{{"ServerURL": "r.io", "Username": "me", "Secret": "word"}}'
    """
    auths = {"r.io": {"auth": base64.b64encode(b"from:file").decode()}}
    assert await helper(script, auths=auths) == [Credentials("me", "word")]
    assert (tmp_path / "arguments").read_text() == "get\n"
    assert (tmp_path / "server").read_text() == "r.io"


async def test_one_that_reads_nothing(helper) -> None:
    assert await helper("""echo '{"Username": "me", "Secret": "word"}'""") == [Credentials("me", "word")]


async def test_an_identity_token(helper) -> None:
    script = """echo '{"Username": "<token>", "Secret": "word"}'"""
    assert await helper(script) == [Credentials("", "", "word")]


async def test_one_that_has_none(helper) -> None:
    assert await helper("echo 'credentials not found in native keychain'; exit 1") == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo secret; echo 'the store is locked' >&2; exit 3", "ended with status 3: the store is locked$"),
        ("echo secret; exit 1", "ended with status 1$"),
        ("echo secret", "gave no credentials$"),
        ("""echo '{"Username": 1, "Secret": "secret"}'""", "gave no credentials$"),
        ("while :; do echo secret; done", "wrote more than 262144 bytes$"),
        ("while :; do echo secret >&2; done", "wrote more than 262144 bytes$"),
        ("sleep 1000 & sleep 1000", "no answer within 0.5 s$"),
    ],
)
async def test_one_that_fails(helper, monkeypatch, script: str, message: str) -> None:
    monkeypatch.setattr(credential_helper, "DEADLINE", 0.5 if "sleep" in script else 30.0)
    with pytest.raises(CredentialHelperError, match=f"^docker-credential-test: {message}") as caught:
        await helper(script)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_one_whose_child_stays(tmp_path: Path, monkeypatch, factory: Callable[[], Any]) -> None:
    """Out of its group, with its pipes open: it is waited for no longer than the helper itself."""
    program = tmp_path / "docker-credential-test"
    program.write_text(f"#!/bin/sh\nsetsid sleep 30 &\necho $! > {tmp_path}/child\nsleep 30\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(credential_helper, "DEADLINE", 0.3)
    with asyncio.Runner(loop_factory=factory) as runner:
        asked = runner.run(_asked(document(credsStore="test")))
    assert asked == "docker-credential-test: no answer within 0.3 s"
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)  # it was not waited for


async def _asked(configuration: bytes) -> str:
    with pytest.raises(CredentialHelperError) as caught:
        await lookup(configuration, parse("r.io/app"))
    return str(caught.value)


async def test_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CredentialHelperError, match="docker-credential-x: cannot be started: No such file"):
        await lookup(document(credsStore="x"), parse("r.io/app"), {"PATH": str(tmp_path)})


async def test_without_one_the_configuration_is_asked() -> None:
    auths = {"r.io": {"username": "me", "password": "word"}}
    assert await lookup(document(auths=auths), parse("r.io/app")) == [Credentials("me", "word")]
