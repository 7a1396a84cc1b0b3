"""Security contexts on the real cluster: who a container is, what it may write, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from namespaces import Namespace, pod_spec

pytestmark = pytest.mark.integration

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 12345,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def test_the_restricted_profile_passes(space: Namespace, actor: str) -> None:
    labels = ["pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted"]
    space.cluster.kubectl("label", "namespace", space.name, *labels)
    refused = space.kubectl(
        "run", "lax", f"--image={actor}", f"--overrides={_overrides(actor, {})}", check=False
    )
    assert 'violates PodSecurity "restricted' in refused
    space.pod("strict", actor, "sleep", "600", container={"securityContext": RESTRICTED})
    space.wait("pod/strict", "condition=Ready")
    user = space.status("strict")["containerStatuses"][0]["user"]["linux"]
    assert user == {"uid": 12345, "gid": 0, "supplementalGroups": [0]}


def _overrides(image: str, context: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "spec": pod_spec(image, container={"securityContext": context})})


def test_users_and_groups_of_a_pod(space: Namespace, actor: str) -> None:
    context = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000]}
    own = {
        "securityContext": {"runAsUser": 1001},
        "volumeMounts": [{"name": "work", "mountPath": "/scratch"}],
    }
    space.pod(
        "who",
        actor,
        "write",
        "/scratch/file=mine",
        "sleep",
        "600",
        container=own,
        securityContext=context,
        volumes=[{"name": "work", "emptyDir": {}}],
    )
    space.wait("pod/who", "condition=Ready")
    user = space.status("who")["containerStatuses"][0]["user"]["linux"]
    assert user == {"uid": 1001, "gid": 3000, "supplementalGroups": [3000, 2000, 4000]}
    shown = space.kubectl("exec", "who", "--", "sh", "-c", "id -u; id -g; stat -c '%u %g' /scratch/file")
    assert shown.splitlines() == ["1001", "3000", "1001 2000"]


def test_nobody_is_root_who_must_not_be(space: Namespace, actor: str) -> None:
    for name, context in (
        ("explicit", {"runAsNonRoot": True, "runAsUser": 0}),
        ("implicit", {"runAsNonRoot": True}),
    ):
        space.pod(name, actor, "sleep", "600", container={"securityContext": context})
    waiting = space.wait_reason("explicit", "CreateContainerConfigError")
    uid = space.get("pod/explicit")["metadata"]["uid"]
    where = f'(pod: "explicit_{space.name}({uid})", container: main)'
    assert waiting["message"] == f"container's runAsUser breaks non-root policy {where}"
    waiting = space.wait_reason("implicit", "CreateContainerConfigError")
    assert waiting["message"].startswith("container has runAsNonRoot and image will run as root (pod: ")
    assert space.wait_event("implicit", "Failed") == f"Error: {waiting['message']}"


def test_a_read_only_root(space: Namespace, actor: str) -> None:
    own = {
        "securityContext": {"readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "work", "mountPath": "/scratch"}],
    }
    volumes = [{"name": "work", "emptyDir": {}}]
    space.pod("fixed", actor, "sleep", "600", container=own, volumes=volumes)
    space.wait("pod/fixed", "condition=Ready")
    script = "echo x > /root-file || echo refused; echo x > /scratch/file && echo written"
    shown = space.kubectl("exec", "fixed", "--", "sh", "-c", script)
    assert shown.splitlines()[-2:] == ["refused", "written"]


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        ({"container": {"securityContext": {"privileged": True}}}, "UnsupportedPodSpec", "privileged"),
        ({"hostPID": True}, "UnsupportedPodSpec", "spec.hostPID"),
        ({"hostUsers": False}, "UnsupportedPodSpec", "spec.hostUsers"),
        (
            {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}}},
            "UnsupportedPodSpec",
            "spec.securityContext.seccompProfile",
        ),
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
            "SysctlForbidden",
            'forbidden sysctl: "kernel.msgmax" not allowlisted',
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(
    space: Namespace, actor: str, spec: dict[str, Any], reason: str, field: str
) -> None:
    space.pod("refused", actor, **spec)
    space.wait("pod/refused", "jsonpath={.status.phase}=Failed")
    status = space.status("refused")
    assert status["reason"] == reason
    assert field in status["message"]


def test_what_has_no_meaning_is_accepted(space: Namespace, actor: str) -> None:
    own = {
        "securityContext": {
            "capabilities": {"add": ["NET_ADMIN"]},
            "seLinuxOptions": {"level": "s0:c1,c2"},
            "allowPrivilegeEscalation": True,
            "procMount": "Default",
            "appArmorProfile": {"type": "RuntimeDefault"},
        }
    }
    sysctls = {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}
    space.pod("lenient", actor, "exit", "0", container=own, securityContext=sysctls, restartPolicy="Never")
    space.wait("pod/lenient", "jsonpath={.status.phase}=Succeeded")
