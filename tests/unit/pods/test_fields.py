"""The tables of fields: what they refuse is refused, what they say is in the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from providers.base import Capabilities, Identity
from vkubelet.api import containers, objects, volumes
from vkubelet.api.objects import Pod
from vkubelet.pods.fields.__main__ import page
from vkubelet.pods.fields.base import How, Where
from vkubelet.pods.fields.refusals import refusals, tables

ABLE = Capabilities(
    identities=True, memory=True, cpu_limit=True, cpu_request=True, processes=True, missing=""
)
ROOT = Identity(0, 0)
UNABLE = Capabilities(
    identities=False, memory=False, cpu_limit=False, cpu_request=False, processes=False, missing="no"
)


def of(spec: dict[str, Any], host: Capabilities = ABLE, own: Identity = ROOT) -> list[str]:
    spec = {"containers": [{"name": "a"}], **spec}
    return list(refusals(Where(msgspec.convert({"metadata": {}, "spec": spec}, Pod), host, own)))


def container(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "a", **fields}]}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"hostPID": True}, "spec.hostPID"),
        ({"hostIPC": True}, "spec.hostIPC"),
        ({"hostUsers": False}, "spec.hostUsers"),
        ({"shareProcessNamespace": True}, "spec.shareProcessNamespace"),
        ({"runtimeClassName": "runc"}, "spec.runtimeClassName"),
        ({"resourceClaims": [{"name": "gpu"}]}, "spec.resourceClaims"),
        (
            {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "x"}}},
            "spec.securityContext.seccompProfile",
        ),
        ({"volumes": [{"name": "v", "rbd": {"image": "i"}}]}, "spec.volumes[v].rbd"),
        ({"initContainers": [{"name": "i", "volumeDevices": [{}]}]}, "spec.initContainers{i}.volumeDevices"),
        (
            {"ephemeralContainers": [{"name": "e", "tty": True, "securityContext": {"privileged": True}}]},
            "spec.ephemeralContainers{e}.securityContext.privileged",
        ),
        (
            container(securityContext={"procMount": "Unmasked"}),
            "spec.containers{a}.securityContext.procMount",
        ),
        (
            container(securityContext={"appArmorProfile": {"type": "Localhost"}}),
            "spec.containers{a}.securityContext.appArmorProfile",
        ),
        (container(resources={"claims": [{"name": "x"}]}), "spec.containers{a}.resources.claims"),
        (container(ports=[{"containerPort": 80, "hostPort": 80}]), "spec.containers{a}.ports[80].hostPort"),
        (
            container(volumeMounts=[{"mountPath": "/m", "mountPropagation": "Bidirectional"}]),
            "spec.containers{a}.volumeMounts[/m].mountPropagation",
        ),
        (
            container(volumeMounts=[{"mountPath": "/m", "bindMountOptions": ["noexec"]}]),
            "spec.containers{a}.volumeMounts[/m].bindMountOptions",
        ),
        (container(livenessProbe={"grpc": {"mode": "TLS"}}), "spec.containers{a}.livenessProbe.grpc.mode"),
        (
            container(lifecycle={"preStop": {"httpGet": {"protocol": "H2C"}}}),
            "spec.containers{a}.lifecycle.preStop.httpGet.protocol",
        ),
    ],
)
def test_what_is_refused(spec: dict[str, Any], path: str) -> None:
    (found,) = of(spec)
    assert found.startswith(f"{path}: ")


@pytest.mark.parametrize(
    "spec",
    [
        {"hostPID": False, "hostUsers": True, "shareProcessNamespace": False, "resourceClaims": []},
        {
            "securityContext": {
                "runAsUser": 1,
                "fsGroup": 2,
                "seLinuxOptions": {"level": "s0"},
            }
        },
        container(
            securityContext={"privileged": False, "procMount": "Default", "capabilities": {"add": ["ALL"]}}
        ),
        {**container(ports=[{"containerPort": 80, "hostPort": 80}]), "hostNetwork": True},
        container(volumeMounts=[{"mountPath": "/m", "mountPropagation": "None"}]),
        container(livenessProbe={"grpc": {"port": 1}, "httpGet": {"port": 1}}),
        {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/"}}]},
    ],
)
def test_what_is_not(spec: dict[str, Any]) -> None:
    assert of(spec) == []


def test_a_node_that_can_become_nobody_else_says_so() -> None:
    own = Identity(1000, 1000, (1000, 27))
    mine = {
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 27, "supplementalGroups": [27]}
    }
    assert of(mine, UNABLE, own) == []
    others = {
        "securityContext": {"runAsUser": 0, "runAsGroup": 5, "fsGroup": 5, "supplementalGroups": [27, 5]}
    }
    found = of(others, UNABLE, own)
    assert [text.partition(":")[0] for text in found] == [
        f"spec.securityContext.{name}"
        for name in ("fsGroup", "runAsGroup", "runAsUser", "supplementalGroups")
    ]
    assert "as the node's own user 1000 and cannot change" in found[2]
    assert of(others, ABLE, own) == []


def test_every_field_that_can_be_refused_is_read() -> None:
    """Otherwise nobody would notice that it is set."""
    structs = {
        name: struct
        for module in (objects, containers, volumes)
        for name, struct in vars(module).items()
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct)
    }
    for kind, fields in tables().items():
        for name, field in fields.items():
            if field.refusal is not None:
                read = {one.encode_name for one in msgspec.structs.fields(structs[kind])}
                assert name in read, f"{kind}.{name}"


def test_every_field_is_explained_unless_it_works() -> None:
    for kind, fields in tables().items():
        for name, field in fields.items():
            assert field.note or field.how is How.WORKS, f"{kind}.{name}"


def test_the_documentation_says_the_same() -> None:
    written = Path(__file__).parents[3] / "docs" / "pod-fields.md"
    assert written.read_text() == page(), "run `make docs`"
