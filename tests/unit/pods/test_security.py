"""Whom a container runs as: what the pod, the container and the image say of it, and what is forbidden."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Identity
from vkubelet.api.containers import Container, SecurityContext
from vkubelet.api.objects import ObjectMeta, Pod, PodSecurityContext, PodSpec, Sysctl
from vkubelet.pods.security import (
    IdentityError,
    forbidden_sysctl,
    identity,
    read_only_root,
    shown_user,
)

ROOT, USER = Identity(0, 0), Identity(1000, 1000, (1000, 27))


def make_pod(own: dict[str, Any] | None = None, whole: dict[str, Any] | None = None, **spec: Any) -> Pod:
    container = Container(name="main", security_context=None if own is None else SecurityContext(**own))
    context = None if whole is None else PodSecurityContext(**whole)
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u"),
        spec=PodSpec(containers=[container], security_context=context, **spec),
    )


def of(pod: Pod, image: str = "", node: Identity = ROOT) -> Identity | None:
    return identity(pod, (pod.spec.containers or [])[0], image, node)


@pytest.mark.parametrize(
    ("own", "whole", "image", "expected"),
    [
        (None, None, "", None),
        ({}, {}, "", None),
        ({"run_as_user": 7}, None, "", Identity(7, 0)),
        ({"run_as_user": 7, "run_as_group": 8}, None, "", Identity(7, 8)),
        ({"run_as_user": 7}, {"run_as_user": 5, "run_as_group": 6}, "", Identity(7, 6)),
        ({"run_as_user": 0}, {"run_as_user": 5}, "", Identity(0, 0)),
        (None, {"run_as_user": 5}, "1234:99", Identity(5, 99)),
        (None, None, "1234", Identity(1234, 0)),
        (None, None, "1234:99", Identity(1234, 99)),
        (None, None, "root", Identity(0, 0)),
        ({"run_as_user": 7}, None, "nobody:nogroup", Identity(7, 0)),
        (None, {"fs_group": 10, "supplemental_groups": [11, 10]}, "", Identity(0, 0, (10, 11))),
        ({"run_as_user": 7}, {"supplemental_groups": [11]}, "", Identity(7, 0, (11,))),
    ],
)
def test_whom_a_container_runs_as(
    own: dict[str, Any] | None, whole: dict[str, Any] | None, image: str, expected: Identity | None
) -> None:
    assert of(make_pod(own, whole), image) == expected


def test_groups_alone_leave_the_user_as_it_is() -> None:
    assert of(make_pod(None, {"fs_group": 10}), node=USER) == Identity(1000, 1000, (10,))
    assert of(make_pod({"run_as_group": 5}), node=USER) == Identity(1000, 5)


WHERE = '(pod: "p_ns(u)", container: main)'


@pytest.mark.parametrize(
    ("own", "image", "node", "message"),
    [
        ({"run_as_user": 0}, "1234", ROOT, "container's runAsUser breaks non-root policy"),
        ({}, "", ROOT, "container has runAsNonRoot and image will run as root"),
        ({}, "0", USER, "container has runAsNonRoot and image will run as root"),
        ({}, "root", USER, "container has runAsNonRoot and image will run as root"),
        (
            {},
            "nobody",
            ROOT,
            "container has runAsNonRoot and image has non-numeric user (nobody), cannot verify "
            "user is non-root",
        ),
        ({"run_as_user": 1}, "", ROOT, ""),
        ({"run_as_user": 1}, "nobody", ROOT, ""),
        ({}, "1234", ROOT, ""),
        # A node that does not run as root runs nobody as root.
        ({}, "", USER, ""),
    ],
)
def test_not_as_root(own: dict[str, Any], image: str, node: Identity, message: str) -> None:
    for pod in (make_pod({**own, "run_as_non_root": True}), make_pod(own, {"run_as_non_root": True})):
        if message:
            with pytest.raises(IdentityError) as caught:
                of(pod, image, node)
            assert str(caught.value) == f"{message} {WHERE}"
        else:
            of(pod, image, node)
    of(make_pod({"run_as_non_root": False, "run_as_user": 0}, {"run_as_non_root": True}))


@pytest.mark.parametrize("image", ["nobody", "65534:nogroup", "99999999999", "-1", "1 2"])
def test_names_of_users_are_unknown(image: str) -> None:
    with pytest.raises(IdentityError, match="set runAsUser"):
        of(make_pod(), image)


def test_what_the_status_shows() -> None:
    linux = shown_user(Identity(7, 8, (9, 8))).linux
    assert linux is not None
    assert (linux.uid, linux.gid, linux.supplemental_groups) == (7, 8, [8, 9])


def test_read_only_roots() -> None:
    assert not read_only_root(Container(name="a"))
    assert read_only_root(
        Container(name="a", security_context=SecurityContext(read_only_root_filesystem=True))
    )


@pytest.mark.parametrize(
    ("name", "host_network", "message"),
    [
        ("kernel.shm_rmid_forced", False, None),
        ("net.ipv4.tcp_syncookies", False, None),
        ("net/ipv4/tcp_syncookies", False, None),
        ("kernel.msgmax", False, 'forbidden sysctl: "kernel.msgmax" not allowlisted'),
        (
            "net.ipv4.tcp_syncookies",
            True,
            'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled',
        ),
    ],
)
def test_sysctls(name: str, host_network: bool, message: str | None) -> None:
    sysctls = [Sysctl(name=name, value="1")]
    rejection = forbidden_sysctl(make_pod(None, {"sysctls": sysctls}, host_network=host_network))
    assert (None if rejection is None else rejection.message) == message
    assert forbidden_sysctl(make_pod()) is None


ids = st.none() | st.integers(0, 3)
contexts = st.fixed_dictionaries(
    {"run_as_user": ids, "run_as_group": ids, "run_as_non_root": st.none() | st.booleans()}
)


@given(contexts, contexts, st.sampled_from(["", "0", "2", "2:3", "x"]), st.sampled_from([ROOT, USER]))
def test_who_must_not_be_root_never_is(
    own: dict[str, Any], whole: dict[str, Any], image: str, node: Identity
) -> None:
    try:
        found = of(make_pod(own, whole), image, node)
    except IdentityError:
        return
    effective = own["run_as_non_root"] if own["run_as_non_root"] is not None else whole["run_as_non_root"]
    if effective:
        assert (found or node).uid != 0
