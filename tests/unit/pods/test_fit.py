"""Requests in sum, what fits beside what is there, and who may be on the node: tables, and Hypothesis."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.containers import Container, ContainerPort, ResourceRequirements
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec, Toleration
from vkubelet.config import Taint
from vkubelet.pods.affinity import selects_node, untolerated
from vkubelet.pods.fit import (
    Demand,
    Insufficient,
    NodeView,
    Used,
    demand,
    failures,
    is_critical,
    is_node_critical,
    is_static,
    wrong_system,
)
from vkubelet.pods.qos import oom_score_adj, qos_class
from vkubelet.pods.resources import effective_limits, pod_limits, pod_requests

GIB = 1 << 30


def container(name: str = "main", restart: str | None = None, **requests: str) -> Container:
    return Container(
        name=name, restart_policy=restart, resources=ResourceRequirements(requests=dict(requests))
    )


def make_pod(*containers: Container, init: tuple[Container, ...] = (), **spec: Any) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid="u", annotations=spec.pop("annotations", None)),
        spec=PodSpec(containers=list(containers or (container(),)), init_containers=list(init), **spec),
    )


def node(**more: Any) -> NodeView:
    allocatable = {"cpu": 2000, "memory": 4 * GIB, "ephemeral-storage": 10 * GIB, "pods": 3}
    fields: dict[str, Any] = {
        "name": "here",
        "labels": {"kubernetes.io/os": "wasm32-wasi", "zone": "a"},
        "taints": (),
        "allocatable": allocatable | more.pop("also", {}),
        "memory": 5 * GIB,
    }
    return NodeView(**(fields | more))


def used(*pods: Pod) -> Used:
    found = Used()
    for pod in pods:
        found.add(demand(pod))
    return found


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (make_pod(container(cpu="1500m"), container("b", cpu="1")), {"cpu": 2500}),
        # Init containers run one after the other: the greatest of them counts, if it is more than the rest.
        (
            make_pod(container(cpu="1"), init=(container("i", cpu="3"), container("j", cpu="2"))),
            {"cpu": 3000},
        ),
        (make_pod(container(cpu="4"), init=(container("i", cpu="3"),)), {"cpu": 4000}),
        # A sidecar runs beside the containers, and beside the init containers after it.
        (
            make_pod(container(cpu="1"), init=(container("s", "Always", cpu="2"), container("i", cpu="5"))),
            {"cpu": 7000},
        ),
        (
            make_pod(container(cpu="1"), init=(container("i", cpu="2"), container("s", "Always", cpu="2"))),
            {"cpu": 3000},
        ),
        (make_pod(container(cpu="1", memory="1Gi"), overhead={"cpu": "250m"}), {"cpu": 1250, "memory": GIB}),
        (
            make_pod(
                container(cpu="1", memory="1Gi"),
                resources=ResourceRequirements(requests={"cpu": "3", "example.com/x": "1"}),
            ),
            {"cpu": 3000, "memory": GIB},
        ),
        (make_pod(container(cpu="1n", memory="1500m")), {"cpu": 1, "memory": 2}),
        (make_pod(container(cpu="much")), {}),
    ],
)
def test_requests_in_sum(pod: Pod, expected: dict[str, int]) -> None:
    assert demand(pod).amounts == expected


def test_limits_in_sum() -> None:
    limited = Container(name="a", resources=ResourceRequirements(limits={"memory": "1Gi"}))
    pod = make_pod(limited, limited, overhead={"memory": "1Gi", "cpu": "1"})
    assert pod_limits(pod) == {"memory": 3 * GIB}


def test_a_container_without_limits_has_its_pods() -> None:
    whole = ResourceRequirements(limits={"cpu": "2", "memory": "1Gi"})
    own = Container(name="a", resources=ResourceRequirements(limits={"memory": "1Mi"}))
    pod = make_pod(own, resources=whole)
    assert effective_limits(pod, own) == {"cpu": 2, "memory": 1 << 20}
    assert effective_limits(make_pod(own), own) == {"memory": 1 << 20}


def reasons(pod: Pod, where: NodeView, others: Used | None = None) -> list[tuple[str, str]]:
    found = failures(pod, where, others or Used())
    return [(failure.rejection.reason, failure.rejection.message) for failure in found]


@pytest.mark.parametrize(
    ("pod", "others", "expected"),
    [
        (make_pod(container(cpu="2")), [], []),
        (
            make_pod(container(cpu="2001m")),
            [],
            [("OutOfcpu", "Node didn't have enough resource: cpu, requested: 2001, used: 0, capacity: 2000")],
        ),
        (
            make_pod(container(memory="3Gi")),
            [make_pod(container(memory="2Gi"))],
            [
                (
                    "OutOfmemory",
                    f"Node didn't have enough resource: memory, requested: {3 * GIB}, used: {2 * GIB}, "
                    f"capacity: {4 * GIB}",
                )
            ],
        ),
        (
            make_pod(container(**{"ephemeral-storage": "11Gi"})),
            [],
            [
                (
                    "OutOfephemeral-storage",
                    f"Node didn't have enough resource: ephemeral-storage, requested: {11 * GIB}, used: 0, "
                    f"capacity: {10 * GIB}",
                )
            ],
        ),
        (
            make_pod(container(cpu="3")),
            [make_pod()] * 3,
            [
                ("OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"),
                (
                    "OutOfcpu",
                    "Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000",
                ),
            ],
        ),
        (
            make_pod(container(**{"example.com/widget": "2"})),
            [make_pod(container(**{"example.com/widget": "1"}))],
            [
                (
                    "OutOfexample.com/widget",
                    "Node didn't have enough resource: example.com/widget, requested: 2, used: 1, "
                    "capacity: 2",
                )
            ],
        ),
        # The cluster may know an extended resource that the node does not; one of Kubernetes' own it must.
        (make_pod(container(**{"example.com/other": "2"})), [], []),
        (
            make_pod(container(**{"hugepages-2Mi": "2Mi"})),
            [],
            [
                (
                    "OutOfhugepages-2Mi",
                    f"Node didn't have enough resource: hugepages-2Mi, requested: {2 << 20}, used: 0, "
                    "capacity: 0",
                )
            ],
        ),
    ],
)
def test_resources_that_are_short(pod: Pod, others: list[Pod], expected: list[tuple[str, str]]) -> None:
    assert reasons(pod, node(also={"example.com/widget": 2}), used(*others)) == expected


AFFINITY = (
    "NodeAffinity",
    "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
)
TAINT = (
    "TaintToleration",
    "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
)


def test_other_reasons() -> None:
    assert reasons(make_pod(node_selector={"zone": "b"}), node()) == [AFFINITY]
    assert reasons(make_pod(node_name="there"), node()) == [
        ("NodeName", "Predicate NodeName failed: node(s) didn't match the requested node name")
    ]
    tainted = node(taints=(Taint(key="k", effect="NoExecute"), Taint(key="k", effect="NoSchedule")))
    assert reasons(make_pod(), tainted) == [TAINT]
    assert reasons(make_pod(annotations={"kubernetes.io/config.source": "file"}), tainted) == []
    assert reasons(make_pod(tolerations=[Toleration(key="k", operator="Exists")]), tainted) == []
    assert reasons(make_pod(), node(taints=(Taint(key="k", effect="NoSchedule"),))) == []


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        (("", "TCP", 80), ("", "TCP", 80), True),
        (("127.0.0.1", "TCP", 80), ("", "TCP", 80), True),
        (("", "TCP", 80), ("127.0.0.1", "TCP", 80), True),
        (("127.0.0.1", "TCP", 80), ("10.0.0.1", "TCP", 80), False),
        (("", "UDP", 80), ("", "TCP", 80), False),
        (("", "TCP", 80), ("", "TCP", 81), False),
        (("", "TCP", 0), ("", "TCP", 0), False),
    ],
)
def test_host_ports(one: tuple[str, str, int], other: tuple[str, str, int], conflict: bool) -> None:
    def with_port(port: tuple[str, str, int]) -> Pod:
        address, protocol, number = port
        ports = [ContainerPort(container_port=1, host_ip=address, protocol=protocol, host_port=number)]
        return make_pod(Container(name="a", ports=ports))

    text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    expected = [("NodePorts", text)] if conflict else []
    assert reasons(with_port(one), node(), used(with_port(other))) == expected


def test_the_operating_system() -> None:
    def reason(pod: Pod) -> str | None:
        found = wrong_system(pod, node())
        return None if found is None else found.reason

    assert reason(make_pod()) is None
    assert reason(make_pod(os={"name": "linux"})) is None
    assert reason(make_pod(os={"name": "windows"})) == "PodOSNotSupported"
    labelled = make_pod()
    labelled.metadata.labels = {"kubernetes.io/os": "linux"}
    assert reason(labelled) == "PodOSSelectorNodeLabelDoesNotMatch"
    labelled.metadata.labels = {"kubernetes.io/os": "wasm32-wasi"}
    assert reason(labelled) is None


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": list(terms)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def field(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchFields": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("terms", "matches"),
    [
        ([expression("zone", "In", "b", "a")], True),
        ([expression("zone", "In", "b")], False),
        ([expression("none", "In", "b")], False),
        ([expression("zone", "NotIn", "b")], True),
        ([expression("zone", "NotIn", "a")], False),
        ([expression("none", "NotIn", "a")], True),
        ([expression("zone", "Exists")], True),
        ([expression("none", "Exists")], False),
        ([expression("zone", "DoesNotExist")], False),
        ([expression("none", "DoesNotExist")], True),
        ([expression("cores", "Gt", "3")], True),
        ([expression("cores", "Gt", "4")], False),
        ([expression("cores", "Lt", "5")], True),
        ([expression("cores", "Lt", "5", "6")], False),
        ([expression("zone", "Gt", "3")], False),
        ([expression("none", "Gt", "3")], False),
        ([expression("cores", "Lt", "many")], False),
        ([expression("zone", "Around", "a")], False),
        ([field("metadata.name", "In", "here")], True),
        ([field("metadata.name", "In", "there")], False),
        ([field("metadata.name", "NotIn", "there")], True),
        ([field("metadata.name", "In", "here", "there")], False),
        ([field("metadata.uid", "In", "here")], False),
        ([field("metadata.name", "Exists")], False),
        ([{}], False),
        ([], False),
        ([expression("zone", "In", "b"), expression("zone", "In", "a")], True),
        ([expression("zone", "In", "a") | field("metadata.name", "In", "there")], False),
    ],
)
def test_node_affinity(terms: list[dict[str, Any]], matches: bool) -> None:
    pod = make_pod(affinity=affinity(*terms))
    assert selects_node(pod, "here", {"zone": "a", "cores": "4"}) is matches


def test_preferences_and_pod_affinity_keep_nobody_away() -> None:
    assert selects_node(make_pod(affinity={"podAffinity": {}, "nodeAffinity": {}}), "here", {})


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        (Toleration(key="k", operator="Equal", value="v", effect="NoExecute"), True),
        (Toleration(key="k", value="v"), True),
        (Toleration(key="k", value="w"), False),
        (Toleration(key="j", operator="Exists"), False),
        (Toleration(operator="Exists"), True),
        (Toleration(operator="Exists", effect="NoSchedule"), False),
        (Toleration(key="k", operator="Lt", value="v"), False),
    ],
)
def test_tolerations(toleration: Toleration, tolerated: bool) -> None:
    taint = Taint(key="k", value="v", effect="NoExecute")
    found = untolerated([taint], [toleration], frozenset({"NoExecute"}))
    assert found == (None if tolerated else taint)


def test_critical_pods() -> None:
    assert not is_critical(make_pod())
    assert is_critical(make_pod(priority=2_000_000_000))
    assert is_critical(make_pod(annotations={"kubernetes.io/config.mirror": "x"}))
    assert is_static(make_pod(annotations={"kubernetes.io/config.source": "file"}))
    assert not is_static(make_pod(annotations={"kubernetes.io/config.source": "api"}))
    assert is_node_critical(make_pod(priority=2_000_001_000, priority_class_name="system-node-critical"))


amounts = st.dictionaries(st.sampled_from(["cpu", "memory", "example.com/widget"]), st.integers(1, 5))
ports = st.frozensets(
    st.tuples(st.sampled_from(["0.0.0.0", "10.0.0.1"]), st.just("TCP"), st.integers(1, 3)),  # noqa: S104
    max_size=2,
)
demands = st.builds(Demand, amounts, ports)


@given(st.lists(demands, max_size=6), st.data())
def test_what_is_added_can_be_taken_away(wanted: list[Demand], data: st.DataObject) -> None:
    found = Used()
    for one in wanted:
        found.add(one)
    kept = [one for one in wanted if data.draw(st.booleans())]
    for one in wanted:
        found.remove(one)
    for one in kept:
        found.add(one)
    fresh = Used()
    for one in kept:
        fresh.add(one)
    assert found.pods == fresh.pods
    assert +found.amounts == +fresh.amounts
    assert found.ports == fresh.ports


@given(st.lists(st.integers(0, 900), max_size=5), st.integers(0, 3000))
def test_pods_are_refused_exactly_when_they_do_not_fit(others: list[int], wanted: int) -> None:
    there = used(*(make_pod(container(cpu=f"{amount}m")) for amount in others))
    found = failures(make_pod(container(cpu=f"{wanted}m")), node(also={"pods": 10}), there)
    assert bool(found) is (wanted > 0 and wanted > 2000 - sum(others))
    for failure in found:
        assert isinstance(failure, Insufficient)
        assert failure.missing == wanted + sum(others) - 2000


def resources(**texts: str) -> ResourceRequirements:
    found: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for key, text in texts.items():
        which, name = key.split("_")
        found[which][name] = text
    return ResourceRequirements(requests=dict(found["requests"]), limits=dict(found["limits"]))


FULL = resources(requests_cpu="1", limits_cpu="1", requests_memory="1Gi", limits_memory="1024Mi")


@pytest.mark.parametrize(
    ("each", "whole", "expected"),
    [
        ([ResourceRequirements()], None, "BestEffort"),
        ([FULL], None, "Guaranteed"),
        ([FULL, ResourceRequirements()], None, "Burstable"),
        ([FULL, resources(requests_cpu="1")], None, "Burstable"),
        ([resources(requests_cpu="1", limits_cpu="1")], None, "Burstable"),
        ([resources(limits_cpu="1", limits_memory="1Gi")], None, "Guaranteed"),
        ([resources(requests_cpu="0")], None, "BestEffort"),
        ([ResourceRequirements()], FULL, "Guaranteed"),
        ([FULL], resources(requests_cpu="1"), "Burstable"),
        ([FULL], ResourceRequirements(), "Guaranteed"),
        ([], None, "BestEffort"),
    ],
)
def test_qos_classes(
    each: list[ResourceRequirements], whole: ResourceRequirements | None, expected: str
) -> None:
    containers = [Container(name=f"c{number}", resources=one) for number, one in enumerate(each)]
    pod = Pod(metadata=ObjectMeta(), spec=PodSpec(containers=containers, resources=whole))
    assert qos_class(pod) == expected


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (make_pod(Container(name="a")), 1000),
        (make_pod(Container(name="a", resources=FULL)), -997),
        (make_pod(container(memory="1Gi")), 900),
        (make_pod(container(memory="1Ki")), 999),
        (make_pod(container(memory="10Gi")), 3),
        (make_pod(container(cpu="1")), 999),
        # What the pod asks for beyond its containers is shared out among them.
        (make_pod(container(memory="1Gi"), resources=resources(requests_memory="3Gi")), 700),
        (make_pod(priority=2_000_001_000, priority_class_name="system-node-critical"), -997),
    ],
)
def test_oom_scores(pod: Pod, expected: int) -> None:
    assert oom_score_adj(pod, (pod.spec.containers or [])[0], 10 * GIB) == expected


def test_a_sidecar_is_no_sooner_killed_than_the_containers() -> None:
    sidecar = container("s", "Always", memory="1Gi")
    pod = make_pod(container(memory="5Gi"), init=(sidecar,))
    assert oom_score_adj(pod, sidecar, 10 * GIB) == 500
    assert pod_requests(pod) == {"memory": 6 * GIB}
