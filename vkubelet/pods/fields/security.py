"""The fields of security contexts.

It exists as data, and for the rule that is behind all of it: what has a meaning for the container's process
is applied to it, what wasm makes meaningless is accepted, and what would promise what the node cannot keep is
refused. It must not know how a field is applied.
"""

from __future__ import annotations

from typing import Any

from vkubelet.api.containers import Profile
from vkubelet.pods.fields.base import Fields, Where, applied, refused, works

_NO_PRIVILEGES = "a guest has no privileges, nor its process"


def _profile(value: Profile, _: Where) -> str | None:
    return (
        "profiles of the node's own are not supported; use RuntimeDefault"
        if value.type == "Localhost"
        else None
    )


def _other_user(value: int, where: Where) -> str | None:
    return _cannot_become(f"user {where.own.uid}", where) if value != where.own.uid else None


def _other_group(value: int, where: Where) -> str | None:
    return _cannot_become(f"group {where.own.gid}", where) if value != where.own.gid else None


def _other_groups(value: Any, where: Where) -> str | None:
    wanted = {*value} if isinstance(value, list) else {value}
    own = {where.own.gid, *where.own.groups}
    return _cannot_become(f"groups {sorted(own)}", where) if wanted - own else None


def _cannot_become(who: str, where: Where) -> str | None:
    if where.host.identities:
        return None
    return f"containers run as the node's own {who} and cannot change; remove it, or run the node as root"


def _proc_mount(value: str, _: Where) -> str | None:
    return "a wasm guest has no /proc to unmask; remove it" if value == "Unmasked" else None


_SECCOMP = applied("the node's own filter is in force whatever it says; Localhost is refused", but=_profile)
_APPARMOR = applied(
    "no profile is loaded: the sandbox confines the process; Localhost is refused", but=_profile
)
_WINDOWS = applied("meaningless: they are for Windows nodes, as on a Linux node")
_SELINUX = applied("meaningless: a guest reaches nothing but what it mounts; volumes are not relabelled")

POD_SECURITY_CONTEXT: Fields = {
    "appArmorProfile": _APPARMOR,
    "fsGroup": works("of volumes and as a group of the process", but=_other_groups),
    "fsGroupChangePolicy": works(),
    "runAsGroup": works("of the container's process", but=_other_group),
    "runAsNonRoot": works(),
    "runAsUser": works("of the container's process", but=_other_user),
    "seLinuxChangePolicy": _SELINUX,
    "seLinuxOptions": _SELINUX,
    "seccompProfile": _SECCOMP,
    "supplementalGroups": works("of the container's process", but=_other_groups),
    "supplementalGroupsPolicy": works("a wasm artifact has no /etc/group: for it both come to the same"),
    "sysctls": applied("safe ones are meaningless for a guest, others are refused (SysctlForbidden)"),
    "windowsOptions": _WINDOWS,
}

SECURITY_CONTEXT: Fields = {
    "allowPrivilegeEscalation": applied("never possible: the process has no_new_privs in any case"),
    "appArmorProfile": _APPARMOR,
    "capabilities": applied(f"meaningless: {_NO_PRIVILEGES}"),
    "privileged": refused("a wasm guest has no privileges to be given; remove it"),
    "procMount": applied("a guest has no /proc of its processes; Unmasked is refused", but=_proc_mount),
    "readOnlyRootFilesystem": works(),
    "runAsGroup": works("of the container's process", but=_other_group),
    "runAsNonRoot": works(),
    "runAsUser": works("of the container's process", but=_other_user),
    "seLinuxOptions": _SELINUX,
    "seccompProfile": _SECCOMP,
    "windowsOptions": _WINDOWS,
}

TABLES: dict[str, Fields] = {"SecurityContext": SECURITY_CONTEXT}
