"""Whom a container's process runs as, and what its security context forbids; pure but for who we are.

It exists to hold the rules by which a pod's, a container's and an image's word on users and groups become one
identity (DetermineEffectiveSecurityContext and verifyRunAsNonRoot of the kubelet). It must not know how a
process becomes anybody, nor what is refused at admission.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection
from typing import TypeVar

from oci.layers.users import NOBODY, Users
from providers.base import Identity
from vkubelet.api.containers import Container, SecurityContext
from vkubelet.api.objects import ContainerUser, LinuxContainerUser, Pod, PodSecurityContext
from vkubelet.pods.observed import Rejection
from vkubelet.pods.text import pod_text

SYSCTL_FORBIDDEN = "SysctlForbidden"

_HIGHEST_ID = 2**31 - 1
_NUMBER = re.compile(r"[0-9]{1,10}")

# What the kubelet allows without being told to: namespaced, and without influence on other pods. A guest has
# neither shared memory of the kernel's nor a network of its own, so that they have no meaning for it.
_SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_notsent_lowat",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_slow_start_after_idle",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)

_T = TypeVar("_T")


class IdentityError(ValueError):
    """A container must not run as it would; the text is the kubelet's."""


@dataclasses.dataclass(frozen=True, slots=True)
class _ImageUser:
    """What an image says: numbers, or a name that only a file of the image can explain."""

    uid: int | None = None
    gid: int | None = None
    name: str = ""


def identity(
    pod: Pod, container: Container, image_user: str, own: Identity, users: Users = NOBODY
) -> Identity | None:
    """Whom the container's process becomes; None when nobody says anything, and it stays `own`, the node's.

    `image_user` is `USER[:GROUP]` of the image's configuration, `users` are those of its files. Raises
    IdentityError.
    """
    image = _image_user(image_user)
    uid = _effective(pod, container, "run_as_user")
    if uid is not None and image.uid is None:
        image = _ImageUser()
    _check_not_root(pod, container, uid, image, own)
    if uid is None and image.name:
        image = _found(image.name, users, f'(pod: "{pod_text(pod)}", container: {container.name})')
    uid = image.uid if uid is None else uid
    gid = _effective(pod, container, "run_as_group")
    gid = image.gid if gid is None else gid
    groups = _groups(pod.spec.security_context)
    known = None if uid is None else users.numbered(uid)
    if known is not None:
        gid = known.gid if gid is None else gid
        # A node that is not root could join none of them.
        if own.uid == 0 and not _is_strict(pod):
            groups = tuple(dict.fromkeys((*groups, *users.groups_of(known))))
    if uid is None and gid is None and not groups:
        return None
    if gid is None:
        # A user without an entry in an image's passwd file has the group 0, as everywhere.
        gid = own.gid if uid is None else 0
    return Identity(own.uid if uid is None else uid, gid, groups)


def joined(who: Identity | None, groups: Collection[int], own: Identity) -> Identity | None:
    """The identity with the groups that a pod's volumes add to it."""
    if not groups:
        return who
    who = who or Identity(own.uid, own.gid)
    return dataclasses.replace(who, groups=tuple(dict.fromkeys((*who.groups, *groups))))


def own_identity() -> Identity:
    """Whom this very process runs as."""
    return Identity(os.getuid(), os.getgid(), tuple(os.getgroups()))


def read_only_root(container: Container) -> bool:
    """Whether the container's root directory is read-only."""
    return container.security_context is not None and container.security_context.read_only_root_filesystem


def shown_user(identity: Identity) -> ContainerUser:
    """status.containerStatuses[].user."""
    groups = list(dict.fromkeys((identity.gid, *identity.groups)))
    user = LinuxContainerUser(uid=identity.uid, gid=identity.gid, supplemental_groups=groups)
    return ContainerUser(linux=user)


def forbidden_sysctl(pod: Pod) -> Rejection | None:
    """The first sysctl that a kubelet would not set without being told to, with its reason and message."""
    context = pod.spec.security_context
    for sysctl in (context.sysctls if context is not None else None) or ():
        name = sysctl.name.replace("/", ".")
        if name not in _SAFE_SYSCTLS:
            return Rejection(SYSCTL_FORBIDDEN, f'forbidden sysctl: "{name}" not allowlisted')
        shared = "Net" if name.startswith("net.") and pod.spec.host_network else ""
        if shared:
            text = f'forbidden sysctl: "{name}" not allowed with host {shared} enabled'
            return Rejection(SYSCTL_FORBIDDEN, text)
    return None


def _check_not_root(
    pod: Pod, container: Container, uid: int | None, image: _ImageUser, own: Identity
) -> None:
    """The kubelet's verifyRunAsNonRoot."""
    if not _effective(pod, container, "run_as_non_root"):
        return
    where = f'(pod: "{pod_text(pod)}", container: {container.name})'
    if uid is not None:
        if uid == 0:
            raise IdentityError(f"container's runAsUser breaks non-root policy {where}")
        return
    if image.name:
        raise IdentityError(
            f"container has runAsNonRoot and image has non-numeric user ({image.name}), cannot verify "
            f"user is non-root {where}"
        )
    if (own.uid if image.uid is None else image.uid) == 0:
        raise IdentityError(f"container has runAsNonRoot and image will run as root {where}")


def _effective(pod: Pod, container: Container, field: str) -> int | None:
    """What the container says, else what the pod says for all of its containers."""
    contexts: tuple[SecurityContext | PodSecurityContext | None, ...] = (
        container.security_context,
        pod.spec.security_context,
    )
    for context in contexts:
        value: int | None = getattr(context, field, None)
        if value is not None:
            return value
    return None


def _groups(context: PodSecurityContext | None) -> tuple[int, ...]:
    """fsGroup first, as the kubelet has it; each once."""
    if context is None:
        return ()
    fs_group = () if context.fs_group is None else (context.fs_group,)
    return tuple(dict.fromkeys((*fs_group, *(context.supplemental_groups or ()))))


def _image_user(text: str) -> _ImageUser:
    user, _, group = text.partition(":")
    if not user:
        return _ImageUser()
    gid = _number(group)
    if user == "root":
        return _ImageUser(0, gid)
    uid = _number(user)
    if uid is None or (group and gid is None):
        return _ImageUser(name=text)
    return _ImageUser(uid, gid)


def _found(text: str, users: Users, where: str) -> _ImageUser:
    """The numbers of an image's user, or group, whose name only its files can tell. Raises IdentityError."""
    name, _, group = text.partition(":")
    uid, gid = _number(name), _number(group)
    if uid is None:
        user = users.named(name)
        if user is None:
            raise IdentityError(
                f"image has the user {text!r}, whose number no file of the image tells: set runAsUser {where}"
            )
        uid = user.uid
    if group and gid is None:
        gid = users.group_named(group)
        if gid is None:
            raise IdentityError(
                f"image has the user {text!r}, whose group no file of the image tells: set runAsUser and "
                f"runAsGroup {where}"
            )
    return _ImageUser(uid, gid)


def _is_strict(pod: Pod) -> bool:
    """Whether only the pod's word on supplementary groups counts, and not the image's."""
    context = pod.spec.security_context
    return context is not None and context.supplemental_groups_policy == "Strict"


def _number(text: str) -> int | None:
    number = int(text) if _NUMBER.fullmatch(text) else None
    return number if number is None or number <= _HIGHEST_ID else None
