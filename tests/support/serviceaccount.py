"""Service accounts of the tests' own, for programs that watch a cluster: RBAC, tokens and kubeconfigs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml


def rule(group: str, resources: list[str], *verbs: str) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}


def role_with_binding(
    role: str, account: str, namespace: str, *rules: dict[str, Any]
) -> list[dict[str, Any]]:
    """A cluster role of that name, bound to the account."""
    rbac = "rbac.authorization.k8s.io"
    made = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": role},
        "rules": list(rules),
    }
    return [made, binding(role, role, account, namespace)]


def binding(name: str, role: str, account: str, namespace: str) -> dict[str, Any]:
    """A cluster-wide binding of the account to a cluster role."""
    rbac = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


def account(name: str, namespace: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def manifest(*objects: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def write_kubeconfig(cluster: Any, name: str, namespace: str, path: Path) -> str:
    """A kubeconfig with a token of the account, which must exist; returns the token."""
    token: str = cluster.kubectl("create", "token", name, f"--namespace={namespace}").strip()
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return token
