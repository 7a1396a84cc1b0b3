"""What a pod is told of itself: fields by the kubelet's tables, resources and divisors by Hypothesis."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.containers import (
    Container,
    ObjectFieldSelector,
    ResourceFieldSelector,
    ResourceRequirements,
)
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.pods.downward import (
    ConfigValueError,
    field_value,
    variable_field,
    variable_resource,
    volume_resource,
)

ALLOCATABLE = {"cpu": 3500, "memory": 1000, "ephemeral-storage": 5000, "pods": 110}
UNITS = {
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(1000),
    "Ki": Fraction(1024),
    "Mi": Fraction(2**20),
}


def pod(spec: PodSpec | None = None) -> Pod:
    meta = ObjectMeta(
        name="web-1",
        namespace="shop",
        uid="u-1",
        labels={"tier": "front", "app": "web"},
        annotations={"b": 'say "hi"\n', "a": "1", "example.com/Note": "n"},
    )
    return Pod(metadata=meta, spec=spec or PodSpec(node_name="n1", service_account_name="robot"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "web-1"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels", 'app="web"\ntier="front"'),
        ("metadata.annotations", 'a="1"\nb="say \\"hi\\"\\n"\nexample.com/Note="n"'),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['example.com/Note']", "n"),
        ("spec.nodeName", "n1"),
        ("spec.serviceAccountName", "robot"),
        ("status.hostIP", "10.0.0.9"),
        ("status.hostIPs", "10.0.0.9"),
        ("status.podIP", "10.0.0.9"),
        ("status.podIPs", "10.0.0.9"),
    ],
)
def test_fields(path: str, expected: str) -> None:
    assert variable_field(pod(), ObjectFieldSelector(field_path=path), "10.0.0.9") == expected
    if path.startswith("metadata."):
        assert field_value(pod(), path) == expected


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("spec.nope", "unsupported fieldPath: spec.nope"),
        ("metadata.name['x']", "fieldPath \"metadata.name['x']\" does not support subscript"),
        ("metadata.labels['a b']", "invalid key subscript in metadata.labels['a b']"),
        ("metadata.labels['']", "invalid key subscript"),
        (f"metadata.labels['{'x' * 64}']", "invalid key subscript"),
        ("metadata.annotations['a/b/c']", "invalid key subscript"),
    ],
)
def test_a_path_without_a_value_is_named(path: str, words: str) -> None:
    with pytest.raises(ConfigValueError) as raised:
        field_value(pod(), path)
    assert words in str(raised.value)


def test_only_v1_fields_are_known() -> None:
    selector = ObjectFieldSelector(field_path="metadata.name", api_version="v2")
    with pytest.raises(ConfigValueError, match=r"^unsupported pod version: v2$"):
        variable_field(pod(), selector, "")


def container(name: str = "c", **resources: dict[str, str | int]) -> Container:
    return Container(name=name, resources=ResourceRequirements(**resources))


def resource(path: str, divisor: str | int = "0", of: str = "") -> ResourceFieldSelector:
    return ResourceFieldSelector(resource=path, divisor=divisor, container_name=of)


@pytest.mark.parametrize(
    ("path", "divisor", "expected"),
    [
        ("limits.cpu", "0", "2"),  # 1500m, rounded up
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "1m", "250"),
        ("requests.cpu", "1", "1"),
        ("limits.memory", "1Mi", "64"),
        ("limits.memory", "1", str(64 * 2**20)),
        ("limits.memory", "1M", "68"),
        ("requests.memory", "1Ki", "32768"),
        ("limits.ephemeral-storage", "1k", "5"),  # none of its own: what the node has to give
        ("requests.ephemeral-storage", "1", "0"),
        ("limits.hugepages-2Mi", "1Mi", "4"),
        ("requests.hugepages-1Gi", "1", "0"),
    ],
)
def test_resources(path: str, divisor: str, expected: str) -> None:
    one = container(
        limits={"cpu": "1500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"},
        requests={"cpu": "250m", "memory": "32Mi"},
    )
    assert variable_resource(pod(), one, resource(path, divisor), ALLOCATABLE) == expected


def test_a_limit_that_is_not_there_is_the_pods_and_else_what_the_node_has_to_give() -> None:
    selector = resource("limits.memory")
    assert variable_resource(pod(), container(limits={"memory": "0"}), selector, ALLOCATABLE) == "1000"
    spec = PodSpec(resources=ResourceRequirements(limits={"memory": "700"}))
    assert variable_resource(pod(spec), container(), selector, ALLOCATABLE) == "700"
    assert variable_resource(pod(spec), container(), resource("limits.cpu", "1m"), ALLOCATABLE) == "3500"


def test_another_container_is_asked_for_by_its_name() -> None:
    spec = PodSpec(
        containers=[container("main"), container("other", limits={"memory": "5"})],
        init_containers=[container("first")],
    )
    main = container("main")
    assert variable_resource(pod(spec), main, resource("limits.memory", of="other"), ALLOCATABLE) == "5"
    assert variable_resource(pod(spec), main, resource("limits.memory", of="main"), ALLOCATABLE) == "1000"
    assert variable_resource(pod(spec), main, resource("limits.memory", of="first"), ALLOCATABLE) == "0"
    assert volume_resource(pod(spec), resource("limits.memory", of="first"), ALLOCATABLE) == "1000"
    with pytest.raises(ConfigValueError, match=r"^container gone not found$"):
        volume_resource(pod(spec), resource("limits.memory", of="gone"), ALLOCATABLE)


@pytest.mark.parametrize("path", ["limits.gpu", "memory", "limits.", "claims.cpu", ""])
def test_a_resource_that_is_none_is_named(path: str) -> None:
    with pytest.raises(ConfigValueError) as raised:
        variable_resource(pod(), container(), resource(path), ALLOCATABLE)
    assert str(raised.value) == f"unsupported container resource : {path}"


def test_a_text_that_is_no_quantity_is_named() -> None:
    with pytest.raises(ConfigValueError, match="memory: 'lots' is no resource quantity"):
        variable_resource(pod(), container(limits={"memory": "lots"}), resource("limits.memory"), ALLOCATABLE)


@given(
    st.integers(0, 10**6),
    st.sampled_from(sorted(UNITS)),
    st.integers(1, 999),
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["cpu", "memory"]),
)
def test_an_amount_is_the_least_number_of_divisors_that_covers_it(
    number: int, unit: str, by: int, by_unit: str, name: str
) -> None:
    step = 1000 if name == "cpu" else 1
    amount = math.ceil(number * UNITS[unit] * step)
    divisor = math.ceil(by * UNITS[by_unit] * step)
    one = container(requests={name: f"{number}{unit}"})
    told = int(variable_resource(pod(), one, resource(f"requests.{name}", f"{by}{by_unit}"), {}))
    assert told * divisor >= amount
    assert not told or (told - 1) * divisor < amount
