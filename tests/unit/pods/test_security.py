"""Whom a container runs as: what the pod, the container and the image say of it, and what is forbidden."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci.layers.users import parse
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


USERS = parse(
    "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\napp:x:5:5:::\nbroken\nbad:x:y:0:::\n",
    "staff:x:50:app, other\nwheel:x:10:root\nwheel:x:11:app\n#x:x:1:app\nnone:x:12:\n",
)


@pytest.mark.parametrize(
    ("own", "whole", "image", "expected"),
    [
        ({}, {}, "", None),
        ({}, {}, "app", Identity(1000, 1001, (50, 11))),
        ({}, {}, "1000", Identity(1000, 1001, (50, 11))),
        ({}, {}, "app:wheel", Identity(1000, 10, (50, 11))),
        ({}, {}, "1000:staff", Identity(1000, 50, (50, 11))),
        ({}, {}, "app:7", Identity(1000, 7, (50, 11))),
        ({}, {}, "5", Identity(5, 5, (50, 11))),
        ({}, {}, "77", Identity(77, 0)),
        ({"run_as_user": 1000}, {}, "root", Identity(1000, 1001, (50, 11))),
        ({"run_as_user": 1000, "run_as_group": 3}, {"fs_group": 9}, "", Identity(1000, 3, (9, 50, 11))),
        ({}, {"supplemental_groups_policy": "Strict"}, "app", Identity(1000, 1001)),
        ({}, {"supplemental_groups_policy": "Merge"}, "app", Identity(1000, 1001, (50, 11))),
    ],
)
def test_the_image_tells_of_its_users(
    own: dict[str, Any], whole: dict[str, Any], image: str, expected: Identity | None
) -> None:
    pod = make_pod(own, whole)
    assert identity(pod, (pod.spec.containers or [])[0], image, ROOT, USERS) == expected


def test_an_image_does_not_tell_of_others() -> None:
    pod = make_pod()
    for image, words in (("nobody", "whose number no file"), ("app:nobody", "whose group no file")):
        with pytest.raises(IdentityError, match=words):
            identity(pod, (pod.spec.containers or [])[0], image, ROOT, USERS)
    node = Identity(1000, 1001)
    assert identity(pod, (pod.spec.containers or [])[0], "app", node, USERS) == node
    strict = make_pod({"run_as_non_root": True})
    with pytest.raises(IdentityError, match="non-numeric user"):
        identity(strict, (strict.spec.containers or [])[0], "app", ROOT, USERS)


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
