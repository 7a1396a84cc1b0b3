"""A real node takes what the real cosign has signed, in both of its formats, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guests import build_guest
from namespaces import Namespace
from peers import build_peer

from oci.push import push_module

pytestmark = pytest.mark.integration

Tool = Callable[..., str]

WITHOUT_LOG = ("--tlog-upload=false", "--use-signing-config=false", "--allow-http-registry", "--yes")
FORMATS = {"old": "--new-bundle-format=false", "new": "--new-bundle-format=true"}


@pytest.fixture
def cosign(tmp_path: Path) -> Tool:
    program = build_peer("cosign", "github.com/sigstore/cosign/v3/cmd/cosign")

    def run(*words: str) -> str:
        done = subprocess.run(
            [program, *words],
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path), "COSIGN_PASSWORD": ""},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("generate-key-pair")
    return run


def test_what_cosign_has_signed_is_run_and_nothing_else(
    cluster: Any, space: Namespace, start_node: Callable[..., Any], cosign: Tool, tmp_path: Path
) -> None:
    images = f"{cluster.registry}/signing"

    def push(name: str) -> str:
        """An image's name, and that of what was pushed."""
        digest = push_module(build_guest("actor"), f"{images}/{name}:v1", insecure=True)
        return f"{images}/{name}@{digest}"

    def signed(identity: str) -> list[dict[str, Any]]:
        key = str(tmp_path / "cosign.pub")
        return [{"type": "sigstoreSigned", "keyPath": key, "signedIdentity": {"type": identity}}]

    scopes = {
        f"{images}/old": signed("matchRepository"),
        f"{images}/new": signed("digestOnly"),
        f"{images}/late": signed("matchRepository"),
    }
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "reject"}], "transports": {"docker": scopes}}))
    node = start_node("signing", f"--image-policy-file={policy}")

    def pod(name: str, image: str) -> None:
        space.pod(name, f"{images}/{image}:v1", "sleep", "600", nodeName=node.name)

    for name, form in FORMATS.items():
        cosign("sign", "--key=cosign.key", form, *WITHOUT_LOG, push(name))
        pod(name, name)
    late = push("late")
    push("other")
    pod("late", "late")
    pod("other", "other")
    for name in FORMATS:
        space.wait(f"pod/{name}", "condition=Ready")
    message = space.wait_reason("late", "SignatureValidationFailed")["message"]
    assert "because the signature validation failed" in message
    assert f"transports.docker['{images}/late'][0] (sigstoreSigned): the image has no signature" in message
    message = space.wait_reason("other", "SignatureValidationFailed")["message"]
    assert "default[0] (reject): no such image is accepted" in message
    assert "default[0] (reject)" in space.wait_event("other", "Failed")
    space.wait_reason("late", "ImagePullBackOff")
    # Put right, it is started by the next try.
    cosign("sign", "--key=cosign.key", FORMATS["old"], *WITHOUT_LOG, late)
    space.wait("pod/late", "condition=Ready", 120)
    # What is on the node is not given to anybody any more when it is not accepted any more.
    (tmp_path / "cosign.pub").unlink()
    (tmp_path / "cosign.key").unlink()
    cosign("generate-key-pair")
    pod("again", "old")
    message = space.wait_reason("again", "SignatureValidationFailed")["message"]
    assert "it is by none of the keys" in message
