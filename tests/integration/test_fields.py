"""The tables of fields against the API server's own OpenAPI document: no field is forgotten."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vkubelet.pods.fields.refusals import tables

pytestmark = pytest.mark.integration

ONLY_EPHEMERAL = {"targetContainerName"}


@pytest.fixture(scope="module")
def schemas(cluster: Any) -> dict[str, Any]:
    document = json.loads(cluster.kubectl("get", "--raw", "/openapi/v3/api/v1"))
    found: dict[str, Any] = document["components"]["schemas"]
    return found


@pytest.mark.parametrize("kind", tables())
def test_a_table_has_all_fields_of_its_type_and_no_others(schemas: dict[str, Any], kind: str) -> None:
    known = set(schemas[f"io.k8s.api.core.v1.{kind}"]["properties"])
    if kind == "Container":
        known |= set(schemas["io.k8s.api.core.v1.EphemeralContainer"]["properties"])
        assert known - set(schemas["io.k8s.api.core.v1.Container"]["properties"]) == ONLY_EPHEMERAL
    assert set(tables()[kind]) == known


def test_every_type_in_a_pod_has_a_table_or_is_refused_whole(schemas: dict[str, Any]) -> None:
    """Types that a refused field, or one that is not the node's, leads to need none."""
    missing = set()
    for kind, fields in tables().items():
        properties = schemas[f"io.k8s.api.core.v1.{kind}"]["properties"]
        for name, field in fields.items():
            for leads_to in _types(properties.get(name)):
                if field.how.value == "works" and not field.note and leads_to not in tables():
                    missing.add(f"{kind}.{name}: {leads_to}")
    assert missing - NAMES_ONLY == set()


NAMES_ONLY = {
    "PodSpec.imagePullSecrets: LocalObjectReference",
    "PodSpec.ephemeralContainers: EphemeralContainer",
    "CSIVolumeSource.nodePublishSecretRef: LocalObjectReference",
}


def _types(schema: Any) -> set[str]:
    """The types of the core group that a property's schema refers to."""
    if isinstance(schema, list):
        return set().union(*map(_types, schema))
    if not isinstance(schema, dict):
        return set()
    found = set().union(*(_types(value) for value in schema.values()))
    reference = str(schema.get("$ref", ""))
    if "io.k8s.api.core.v1." in reference:
        found.add(reference.rpartition(".")[2])
    return found
