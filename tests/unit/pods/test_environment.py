"""Expansion, environment and arguments, by the kubelet's tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.containers import Container, EnvVar, EnvVarSource, KeySelector, ObjectFieldSelector
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.pods.environment import ConfigValueError, arguments, environment, expand

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


def test_environment_is_made_in_order_and_later_values_win() -> None:
    container = Container(
        name="c",
        env=[
            EnvVar(name="HOST", value="db"),
            EnvVar(name="URL", value="http://$(HOST)/$(LATER)"),
            EnvVar(name="LATER", value="x"),
            EnvVar(name="PATH", value="/own"),
            EnvVar(
                name="APP",
                value_from=EnvVarSource(field_ref=ObjectFieldSelector(field_path="metadata.labels['app']")),
            ),
        ],
    )
    made = dict(environment(pod(), container, ["PATH=/image", "LANG=C"], "10.0.0.9"))
    assert made == {
        "PATH": "/own",
        "LANG": "C",
        "HOSTNAME": "web-1",
        "HOST": "db",
        "URL": "http://db/$(LATER)",
        "LATER": "x",
        "APP": "web",
    }


@pytest.mark.parametrize(
    "source",
    [
        EnvVarSource(field_ref=ObjectFieldSelector(field_path="spec.nope")),
        EnvVarSource(secret_key_ref=KeySelector(name="s", key="k")),
    ],
)
def test_a_value_that_cannot_be_made_says_why(source: EnvVarSource) -> None:
    container = Container(name="c", env=[EnvVar(name="V", value_from=source)])
    with pytest.raises(ConfigValueError, match=r"spec\.nope|only value and fieldRef"):
        environment(pod(), container, [], "10.0.0.9")


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
    assert arguments(container, entrypoint, cmd, [("N", "7")], "mod") == expected
