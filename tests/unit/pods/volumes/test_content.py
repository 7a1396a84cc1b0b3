"""What volumes of files show, and the kubelet's words for what they cannot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from vkubelet.api.configuration import ConfigMap, Secret
from vkubelet.api.objects import ObjectMeta, Pod
from vkubelet.api.references import ReferenceForbiddenError, ReferenceNotFoundError
from vkubelet.api.volumes import ClusterTrustBundleProjection, ServiceAccountTokenProjection, Volume
from vkubelet.pods.volumes.content import Collector, Content, references
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.files import Files
from vkubelet.pods.volumes.layout import Layout
from vkubelet.pods.volumes.memory import Memory
from vkubelet.pods.volumes.payload import File
from vkubelet.pods.volumes.tokens import Token

ALLOCATABLE = {"cpu": 2000, "memory": 1 << 30}


class Cluster:
    """Objects, tokens and anchors, as the collector asks for them."""

    async def get(self, kind: str, namespace: str, name: str) -> ConfigMap | Secret:
        assert namespace == "ns"
        meta = ObjectMeta(namespace=namespace, name=name)
        if name == "forbidden":
            raise ReferenceForbiddenError("not for you")
        if name != "there":
            raise ReferenceNotFoundError(kind, name)  # type: ignore[arg-type]
        if kind == "configmaps":
            return ConfigMap(metadata=meta, data={"a": "1", "b": "2"})
        return Secret(metadata=meta, data={"key": b"hunter2"})

    def use(self, *_: object) -> None: ...


class Tokens:
    async def get(self, pod: Pod, wanted: ServiceAccountTokenProjection, kept: bytes | None) -> Token:
        return Token(f"{wanted.audience} {kept!r}", 1000.0 + wanted.expiration_seconds, 0.0, 0.0)


class Trust:
    async def anchors(self, wanted: ClusterTrustBundleProjection) -> bytes:
        return b"anchors"


def pod(**context: Any) -> Pod:
    document = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"b": "2", "a": 'say "x"'}},
        "spec": {
            "containers": [{"name": "main", "resources": {"limits": {"memory": "64Mi"}}}],
            "securityContext": context,
        },
    }
    return msgspec.convert(document, Pod)


def volume(**source: Any) -> Volume:
    return msgspec.convert({"name": "v", **source}, Volume)


def collector() -> Collector:
    return Collector(Cluster(), Tokens(), Trust(), lambda: ALLOCATABLE)  # type: ignore[arg-type]


async def collect(source: dict[str, Any], wanted: Pod | None = None) -> Content:
    return await collector().collect(wanted or pod(), volume(**source), lambda _: b"kept")


async def cause(source: dict[str, Any]) -> str:
    with pytest.raises(SetUpError) as failure:
        await collect(source)
    return str(failure.value)


def projected(*sources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"projected": {"sources": list(sources), **more}}


def test_what_volumes_name_is_known_before_it_is_asked_for() -> None:
    volumes = [
        volume(configMap={"name": "a"}),
        volume(secret={"secretName": "b"}),
        volume(**projected({"configMap": {"name": "c"}}, {"secret": {"name": "d"}}, {"downwardAPI": {}})),
        volume(emptyDir={}),
    ]
    assert list(references(pod(), volumes)) == [
        ("configmaps", "ns", "a"),
        ("secrets", "ns", "b"),
        ("configmaps", "ns", "c"),
        ("secrets", "ns", "d"),
    ]


async def test_each_kind_shows_its_files() -> None:
    found = await collect({"configMap": {"name": "there", "defaultMode": 0o600}})
    assert found == Content({"a": File(b"1", 0o600), "b": File(b"2", 0o600)})
    found = await collect({"secret": {"secretName": "there", "items": [{"key": "key", "path": "x"}]}})
    assert found == Content({"x": File(b"hunter2", 0o644)})
    items = [
        {"path": "./labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {
            "path": "m",
            "mode": 0o400,
            "resourceFieldRef": {"containerName": "main", "resource": "limits.memory"},
        },
        {"path": "c", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu"}},
    ]
    found = await collect({"downwardAPI": {"items": items}})
    assert found.payload == {
        "labels": File(b'a="say \\"x\\""\nb="2"', 0o644),
        "m": File(str(64 << 20).encode(), 0o400),
        "c": File(b"2", 0o644),
    }


async def test_a_projection_has_all_of_its_sources_and_is_renewed_with_the_first_token() -> None:
    found = await collect(
        projected(
            {"configMap": {"name": "there", "items": [{"key": "a", "path": "x/a"}]}},
            {"secret": {"name": "there", "items": [{"key": "key", "path": "x/a"}]}},
            {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"serviceAccountToken": {"path": "t", "audience": "v", "expirationSeconds": 700}},
            {"serviceAccountToken": {"path": "s", "expirationSeconds": 600}},
            {"clusterTrustBundle": {"path": "ca", "name": "x"}},
            defaultMode=0o444,
        )
    )
    assert found.payload == {
        "x/a": File(b"hunter2", 0o444),
        "n": File(b"p", 0o444),
        "t": File(b"v b'kept'", 0o444),
        "s": File(b" b'kept'", 0o444),
        "ca": File(b"anchors", 0o444),
    }
    assert found.renew_at == 1600.0


async def test_only_tokens_are_asked_for_in_advance_and_failures_told_later() -> None:
    asked: list[str] = []

    class Failing(Tokens):
        async def get(self, pod: Pod, wanted: ServiceAccountTokenProjection, kept: bytes | None) -> Token:
            asked.append(wanted.path)
            raise SetUpError("failed to fetch token: no")

    early = Collector(Cluster(), Failing(), Trust(), lambda: ALLOCATABLE)  # type: ignore[arg-type]
    sources = [{"serviceAccountToken": {"path": path}} for path in ("a", "b")]
    wanted = volume(**projected({"configMap": {"name": "no"}}, *sources))
    await early.begin(pod(), wanted, lambda _: None)
    assert asked == ["a", "b"]
    with pytest.raises(SetUpError, match="failed to fetch token"):
        await early.collect(pod(), wanted, lambda _: None)


async def test_tokens_are_for_the_user_or_the_group_of_the_pod_alone() -> None:
    token = projected({"serviceAccountToken": {"path": "t"}})
    for context, mode, user in (
        ({"runAsUser": 7}, 0o600, 7),
        ({"fsGroup": 8}, 0o600, None),
        ({}, 0o644, None),
    ):
        file = (await collect(token, pod(**context))).payload["t"]
        assert (file.mode, file.user) == (mode, user)
    given = projected({"serviceAccountToken": {"path": "t", "user": 9}}, defaultUser=10)
    assert (await collect(given, pod(runAsUser=7))).payload["t"].user == 9
    given = projected({"serviceAccountToken": {"path": "t"}}, defaultUser=10)
    assert (await collect(given, pod(runAsUser=7))).payload["t"].user == 10


async def test_what_is_missing_is_an_error_unless_it_is_optional() -> None:
    assert await cause({"configMap": {"name": "no"}}) == 'configmap "no" not found'
    assert await cause({"secret": {"secretName": "no"}}) == 'secret "no" not found'
    assert await cause({"secret": {"secretName": "forbidden", "optional": True}}) == "not for you"
    assert await collect({"configMap": {"name": "no", "optional": True}}) == Content({})
    assert await collect({"secret": {"secretName": "no", "optional": True}}) == Content({})
    optional = projected({"secret": {"name": "no", "optional": True}}, {"configMap": {"name": "there"}})
    assert set((await collect(optional)).payload) == {"a", "b"}


async def test_a_projection_tells_of_all_that_is_wrong_with_it() -> None:
    one = {"configMap": {"name": "no"}}
    assert await cause(projected(one, one)) == 'configmap "no" not found'
    field = {"downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "spec.nodeName"}}]}}
    assert await cause(projected(one, field)) == (
        '[configmap "no" not found, unsupported fieldPath: spec.nodeName]'
    )
    assert await cause(projected({"podCertificate": {}})) == (
        "a projected source of this kind is not supported by this node"
    )


async def test_files_are_narrowed_where_they_are_on_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    kind = Files("secret", collector(), Layout.of(tmp_path, tmp_path), Memory(tmp_path))
    prepared = await kind.prepare(pod(fsGroup=8), volume(secret={"secretName": "there", "defaultUser": 9}))
    mounted = prepared.apply()
    assert mounted.read_only
    assert (mounted.path / "key").stat().st_mode & 0o777 == 0o600
    assert (mounted.path / "key").read_bytes() == b"hunter2"


async def test_a_volume_of_tokens_is_a_directory_until_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    kind = Files("projected", collector(), Layout.of(tmp_path, tmp_path), Memory(tmp_path))
    wanted = volume(**projected({"serviceAccountToken": {"path": "t"}}, {"configMap": {"name": "there"}}))
    prepared = await kind.prepare(pod(), wanted)
    mounted = prepared.apply()
    assert list(mounted.path.iterdir()) == []
    assert prepared.rest is not None
    assert (await prepared.rest()).apply() == mounted
    assert {path.name for path in mounted.path.iterdir() if path.name[0] != "."} == {"t", "a", "b"}
    assert (await kind.prepare(pod(), wanted)).rest is None, "what is written is brought up to date at once"


async def test_what_is_wrong_with_a_volume_of_tokens_is_told_at_once(tmp_path: Path) -> None:
    kind = Files("projected", collector(), Layout.of(tmp_path, tmp_path), Memory(tmp_path))
    wanted = volume(**projected({"serviceAccountToken": {"path": "t"}}, {"configMap": {"name": "no"}}))
    with pytest.raises(SetUpError, match='configmap "no" not found'):
        await kind.prepare(pod(), wanted)
