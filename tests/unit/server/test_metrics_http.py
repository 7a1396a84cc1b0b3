"""Requests to the kubelet API are counted, whatever comes of them."""

from __future__ import annotations

import pytest

from vkubelet import telemetry
from vkubelet.server.metrics.http import path_bucket

from .conftest import Node


def count(method: str, path: str) -> tuple[float, float]:
    """Requests that came, and requests that were answered."""
    labels = f'long_running="false",method="{method}",path="{path}",server_type="readwrite"'
    came = [sample.value for sample in telemetry.HTTP_REQUESTS.family().samples if sample.labels == labels]
    answered = [
        sample.value
        for sample in telemetry.HTTP_DURATION.family().samples
        if sample.labels == labels and sample.suffix == "_count"
    ]
    return sum(came), sum(answered)


@pytest.mark.parametrize(
    ("method", "path", "status", "label", "bucket"),
    [
        ("GET", "/healthz", 200, "GET", "healthz"),
        ("GET", "/containerLogs/default/none/main", 404, "GET", "containerLogs"),
        ("GET", "/made/up", 404, "GET", "other"),
        ("PATCH", "/made/up", 404, "other", "other"),
    ],
)
async def test_a_request_is_counted(
    node: Node, method: str, path: str, status: int, label: str, bucket: str
) -> None:
    came, answered = count(label, bucket)
    async with node.session.request(method, node.url + path) as answer:
        assert answer.status == status
        await answer.read()
    assert count(label, bucket) == (came + 1, answered + 1)


def test_no_path_of_a_client_is_a_label() -> None:
    assert {path_bucket(f"/{number}") for number in range(100)} == {"other"}
