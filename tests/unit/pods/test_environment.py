"""Expansion, environment and arguments, by the kubelet's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Artifact, ContainerSpec, ModuleKind
from vkubelet.api.configuration import ConfigMap, Secret
from vkubelet.api.containers import (
    Container,
    EnvFromSource,
    EnvFromTarget,
    EnvVar,
    EnvVarSource,
    FileKeySelector,
    KeySelector,
    ObjectFieldSelector,
    ResourceFieldSelector,
)
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.api.references import ReferenceForbiddenError, ReferenceNotFoundError
from vkubelet.pods.downward import ConfigValueError
from vkubelet.pods.environment import Sources, arguments, environment, expand

VALUES = {"A": "1", "B": "$(A)", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$(B)", "$(A)"),  # values are not expanded again
        ("$(EMPTY)|", "|"),
        ("$(MISSING)", "$(MISSING)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$", "$"),
        ("a$", "a$"),
        ("$()", "$()"),
        ("$(A$(B))", "$(A$(B))"),
        ("$-(A)", "$-(A)"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert expand(text, VALUES) == expected


@given(st.text(alphabet="$()AB x"))
def test_expand_takes_any_text(text: str) -> None:
    expand(text, VALUES)
    assert expand(text.replace("$", "$$"), VALUES) == text


def pod() -> Pod:
    meta = ObjectMeta(name="web-1", namespace="shop", uid="u", labels={"app": "web"})
    return Pod(metadata=meta, spec=PodSpec(node_name="n1", service_account_name="default"))


def sources(**more: Any) -> Sources:
    return Sources(hostname="web-1", host_ip="10.0.0.9", **more)


def config_map(**data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name="settings"), data=data)


def secret(**data: bytes) -> Secret:
    return Secret(metadata=ObjectMeta(name="key"), data=data)


def from_config_map(key: str, *, optional: bool = False) -> EnvVarSource:
    return EnvVarSource(config_map_key_ref=KeySelector(name="settings", key=key, optional=optional))


def from_secret(key: str, *, optional: bool = False) -> EnvVarSource:
    return EnvVarSource(secret_key_ref=KeySelector(name="key", key=key, optional=optional))


def from_file(*, optional: bool = False) -> EnvVarSource:
    return EnvVarSource(
        file_key_ref=FileKeySelector(volume_name="v", path="a.env", key="K", optional=optional)
    )


def one(source: EnvVarSource, **found: Any) -> str | None:
    """What a variable from `source` is; None when there is none."""
    container = Container(name="c", env=[EnvVar(name="V", value_from=source)])
    return environment(pod(), container, [], sources(**found)).declared.get("V")


def test_environment_is_made_in_order_and_later_values_win() -> None:
    container = Container(
        name="c",
        env_from=[
            EnvFromSource(config_map_ref=EnvFromTarget(name="settings")),
            EnvFromSource(prefix="S_", secret_ref=EnvFromTarget(name="key")),
        ],
        env=[
            EnvVar(name="HOST", value="db"),
            EnvVar(name="URL", value="http://$(HOST)/$(LATER)?$(both)&$(DB_SERVICE_PORT)&$(LANG)"),
            EnvVar(name="LATER", value="x"),
            EnvVar(name="PATH", value="/own"),
            EnvVar(name="EMPTY"),
            EnvVar(
                name="APP",
                value_from=EnvVarSource(field_ref=ObjectFieldSelector(field_path="metadata.labels['app']")),
            ),
        ],
    )
    found = sources(
        config_maps={"settings": config_map(both="map", HOST="other", DB_SERVICE_HOST="me")},
        secrets={"key": secret(**{"a.b": b"1"})},
        services={"DB_SERVICE_HOST": "10.1.1.1", "DB_SERVICE_PORT": "5432"},
    )
    made = environment(pod(), container, ["PATH=/image", "LANG=C", "ODD"], found)
    declared = {
        "DB_SERVICE_HOST": "me",
        "DB_SERVICE_PORT": "5432",
        "both": "map",
        "HOST": "db",
        "S_a.b": "1",
        "URL": "http://db/$(LATER)?map&5432&$(LANG)",
        "LATER": "x",
        "PATH": "/own",
        "EMPTY": "",
        "APP": "web",
    }
    assert made.declared == declared
    assert dict(made.variables) == {"PATH": "/own", "LANG": "C", "ODD": "", "HOSTNAME": "web-1"} | declared


def test_a_later_source_of_all_wins_over_an_earlier_one() -> None:
    container = Container(
        name="c",
        env_from=[
            EnvFromSource(config_map_ref=EnvFromTarget(name="settings")),
            EnvFromSource(secret_ref=EnvFromTarget(name="key")),
        ],
    )
    found = sources(config_maps={"settings": config_map(a="map")}, secrets={"key": secret(a=b"secret")})
    assert environment(pod(), container, [], found).declared == {"a": "secret"}


def test_each_source_of_one_variable() -> None:
    resource = EnvVarSource(resource_field_ref=ResourceFieldSelector(resource="limits.memory"))
    assert one(resource, allocatable={"memory": 7}) == "7"
    assert one(from_config_map("a"), config_maps={"settings": config_map(a="1")}) == "1"
    assert one(from_secret("a"), secrets={"key": secret(a="é".encode())}) == "é"
    assert one(from_file(), files={("v", "a.env", "K"): "1"}) == "1"
    assert one(EnvVarSource()) == ""


def test_what_is_optional_and_not_there_is_no_variable() -> None:
    missing = {"settings": ReferenceNotFoundError("configmaps", "settings")}
    absent = {"key": ReferenceNotFoundError("secrets", "key")}
    assert one(from_config_map("a", optional=True), config_maps=missing) is None
    assert one(from_config_map("a", optional=True), config_maps={"settings": config_map()}) is None
    assert one(from_secret("a", optional=True), secrets=absent) is None
    assert one(from_secret("a", optional=True), secrets={"key": secret()}) is None
    assert one(from_file(optional=True), files={("v", "a.env", "K"): ""}) is None
    container = Container(
        name="c",
        env_from=[
            EnvFromSource(config_map_ref=EnvFromTarget(name="settings", optional=True)),
            EnvFromSource(secret_ref=EnvFromTarget(name="key", optional=True)),
        ],
    )
    found = sources(config_maps=missing, secrets=absent)
    assert environment(pod(), container, [], found).declared == {}


@pytest.mark.parametrize(
    ("source", "found", "words"),
    [
        (EnvVarSource(field_ref=ObjectFieldSelector(field_path="spec.nope")), {}, "spec.nope"),
        (
            from_config_map("a"),
            {"config_maps": {"settings": ReferenceNotFoundError("configmaps", "settings")}},
            'configmap "settings" not found',
        ),
        (
            from_config_map("a"),
            {"config_maps": {"settings": config_map(b="1")}},
            "couldn't find key a in ConfigMap shop/settings",
        ),
        (
            from_secret("a"),
            {"secrets": {"key": ReferenceNotFoundError("secrets", "key")}},
            'secret "key" not found',
        ),
        (from_secret("a"), {"secrets": {"key": secret()}}, "couldn't find key a in Secret shop/key"),
        (from_secret("a"), {"secrets": {"key": secret(a=b"\xff")}}, "key a of Secret shop/key is not UTF-8"),
        (
            from_secret("a", optional=True),
            {"secrets": {"key": ReferenceForbiddenError("no relationship found")}},
            "no relationship found",
        ),
        (
            from_file(),
            {"files": {("v", "a.env", "K"): ""}},
            'environment variable key "K" not found in file "a.env"',
        ),
        (
            from_file(optional=True),
            {"files": {("v", "a.env", "K"): ConfigValueError("couldn't parse env file")}},
            "couldn't parse env file",
        ),
        (
            from_secret("a"),
            {"secrets": {"key": secret(a=b"a\0b")}},
            'environment variable "V" contains a NUL byte',
        ),
    ],
)
def test_a_value_that_cannot_be_made_says_why(
    source: EnvVarSource, found: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigValueError) as raised:
        one(source, **found)
    assert words in str(raised.value)


def test_no_repr_shows_a_secret() -> None:
    found = sources(secrets={"key": secret(a=b"hunter2")}, files={("v", "a.env", "K"): "hunter2"})
    container = Container(name="c", env=[EnvVar(name="V", value_from=from_secret("a"))])
    made = environment(pod(), container, [], found)
    spec = ContainerSpec(
        id="c",
        labels={},
        artifact=Artifact(path=Path("/a"), kind=ModuleKind.MODULE),
        args=("hunter2",),
        env=made.variables,
        log_path=None,
    )
    assert dict(made.variables)["V"] == "hunter2"
    for shown in (found, made, spec):
        assert "hunter2" not in repr(shown)


NAMES = st.sampled_from(["A", "B", "C", "a.b"])


@given(st.lists(st.tuples(NAMES, st.text(alphabet="$()AB", max_size=8)), max_size=6))
def test_a_variable_speaks_only_of_those_before_it(written: list[tuple[str, str]]) -> None:
    container = Container(name="c", env=[EnvVar(name=name, value=value) for name, value in written])
    known: dict[str, str] = {}
    for name, value in written:
        known[name] = expand(value, known)
    assert environment(pod(), container, [], sources()).declared == known


@pytest.mark.parametrize(
    ("command", "args", "entrypoint", "cmd", "expected"),
    [
        (None, None, [], [], ("mod",)),
        (None, ["x"], [], [], ("mod", "x")),
        (["/app"], None, ["/e"], ["c"], ("/app",)),
        (["/app"], ["$(N)"], ["/e"], ["c"], ("/app", "7")),
        (None, None, ["/e"], ["c"], ("/e", "c")),
        (None, ["x"], ["/e"], ["c"], ("/e", "x")),
    ],
)
def test_arguments(
    command: list[str] | None,
    args: list[str] | None,
    entrypoint: list[str],
    cmd: list[str],
    expected: tuple[str, ...],
) -> None:
    container = Container(name="c", command=command, args=args)
    assert arguments(container, entrypoint, cmd, {"N": "7"}, "mod") == expected
