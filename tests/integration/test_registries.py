"""A real node told of its registries as containerd and a kubelet are told: by hosts.toml and by plugins."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from door import Door, door_to
from guests import build_guest, push_guest
from namespaces import Namespace

from oci.push import push_module

pytestmark = pytest.mark.integration

AUDIENCE = "registry.example"

PLUGIN = f"""#!{sys.executable}
import base64, json, sys
request = json.load(sys.stdin)
claims = request["serviceAccountToken"].split(".")[1]
claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
assert claims["aud"] == ["{AUDIENCE}"], claims
with open(sys.argv[1], "a") as told:
    account = claims["kubernetes.io"]["serviceaccount"]["name"]
    print(request["image"], account, request["serviceAccountAnnotations"], file=told)
login = {{"username": account, "password": "by-the-plugin"}}
json.dump({{
    "kind": "CredentialProviderResponse",
    "apiVersion": request["apiVersion"],
    "cacheKeyType": "Registry",
    "auth": {{request["image"].partition("/")[0]: login}},
}}, sys.stdout)
"""


@pytest.fixture
def door(cluster: Any) -> Iterator[Door]:
    with door_to(cluster.registry, lambda login: login.endswith(":by-the-plugin")) as made:
        yield made


def hosts(directory: Path, name: str, text: str) -> None:
    (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / name / "hosts.toml").write_text(text)


def test_a_mirror_stands_in_for_docker_io(
    space: Namespace, start_node: Callable[..., Any], cluster: Any, tmp_path: Path
) -> None:
    certs = tmp_path / "certs.d"
    hosts(certs, "docker.io", f'[host."http://{cluster.registry}"]\nskip_verfy = true\n')
    node = start_node("mirrored", f"--registry-config-dir={certs}")
    space.pod("p", "docker.io/library/actor:mirrored", "sleep", "600", nodeName=node.name)
    message = space.wait_reason("p", "ErrImagePull")["message"]
    assert "docker.io/hosts.toml: line 2: " in message
    assert "unknown field `skip_verfy`" in message
    # Put right it is read again, by the next try. What is at /v2/library/actor for Docker is elsewhere here.
    hosts(
        certs,
        "docker.io",
        'server = "http://127.0.0.1:1"\n'
        f'[host."http://{cluster.registry}/v2/mirror"]\noverride_path = true\n',
    )
    push_module(build_guest("actor"), f"{cluster.registry}/mirror/library/actor:mirrored", insecure=True)
    space.wait("pod/p", "condition=Ready", 120)


def test_a_plugin_has_credentials_by_the_pods_service_account(
    space: Namespace, start_node: Callable[..., Any], cluster: Any, door: Door, tmp_path: Path
) -> None:
    programs, told = tmp_path / "bin", tmp_path / "told"
    programs.mkdir()
    (programs / "plugin").write_text(PLUGIN)
    (programs / "plugin").chmod(0o755)
    provider = {
        "name": "plugin",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "matchImages": [door.name],
        "defaultCacheDuration": "10m",
        "args": [str(told)],
        "tokenAttributes": {
            "serviceAccountTokenAudience": AUDIENCE,
            "cacheType": "ServiceAccount",
            "requireServiceAccount": True,
            "requiredServiceAccountAnnotationKeys": ["team"],
        },
    }
    document = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig"}
    (tmp_path / "providers.json").write_text(json.dumps(document | {"providers": [provider]}))
    # Without it the API server gives a node no token for an audience that no pod of its has a volume for.
    rule = {"verbs": ["request-serviceaccounts-token-audience"], "apiGroups": [""], "resources": [AUDIENCE]}
    space.make("ClusterRole", space.name, "rbac.authorization.k8s.io/v1", rules=[rule])
    binding = [f"--clusterrole={space.name}", "--group=system:nodes"]
    cluster.kubectl("create", "clusterrolebinding", space.name, *binding)
    try:
        node = start_node(
            "plugged",
            f"--insecure-registries={door.name}",
            f"--image-credential-provider-config={tmp_path / 'providers.json'}",
            f"--image-credential-provider-bin-dir={programs}",
        )
        push_guest(cluster.registry, "actor", "plugged")
        for account in ("allowed", "other"):
            space.kubectl("create", "serviceaccount", account)
        space.kubectl("annotate", "serviceaccount", "allowed", "team=a", "private=b")
        image, on = f"{door.name}/actor:plugged", {"nodeName": node.name}
        space.pod("yes", image, "sleep", "600", serviceAccountName="allowed", **on)
        space.wait("pod/yes", "condition=Ready")
        assert told.read_text() == f"{door.name}/actor allowed {{'team': 'a'}}\n"
        # It is on the node now, and is the account's, with no more questions to anybody.
        asked = len(door.asked)
        space.pod("too", image, "sleep", "600", serviceAccountName="allowed", **on)
        space.wait("pod/too", "condition=Ready")
        assert len(door.asked) == asked
        space.pod("no", image, "sleep", "600", serviceAccountName="other", **on)
        assert "401" in space.wait_reason("no", "ErrImagePull")["message"]
        assert len(told.read_text().splitlines()) == 1
        assert "by-the-plugin" not in node.log.read_text()
    finally:
        cluster.kubectl("delete", "clusterrolebinding,clusterrole", space.name)
