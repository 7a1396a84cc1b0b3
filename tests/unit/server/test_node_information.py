"""Configuration, health checks and the machine's logs over a real socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from serving import serving_routes

from vkubelet.config import Config
from vkubelet.server.configz import ConfigzRoutes, kubelet_configuration
from vkubelet.server.health import HealthRoutes
from vkubelet.server.node_logs import NodeLogRoutes, open_beneath


async def get(url: str, path: str, method: str = "GET") -> tuple[int, str, str | None]:
    """Status, body and where a redirection leads; the path is sent as it is."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(30):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), body.decode(), headers.get("Location")


async def test_configz() -> None:
    config = Config(
        node_name="here",
        max_pods=7,
        tls_cert_file="/etc/tls.crt",
        static_pod_path="/etc/pods",
        eviction_hard={"memory.available": "1Gi"},
    )
    async with (
        serving_routes(ConfigzRoutes(config).routes()) as url,
        aiohttp.ClientSession() as session,
        session.get(f"{url}/configz") as answer,
    ):
        found = (await answer.json())["kubeletconfig"]
    assert (found["kind"], found["apiVersion"]) == ("KubeletConfiguration", "kubelet.config.k8s.io/v1beta1")
    assert found["maxPods"] == 7
    assert found["nodeStatusReportFrequency"] == "5m0s"
    assert found["evictionHard"] == {"memory.available": "1Gi"}
    assert found["authentication"]["anonymous"] == {"enabled": False}
    assert found["authorization"]["mode"] == "Webhook"
    assert found["tlsCertFile"] == "/etc/tls.crt"
    assert found["staticPodPath"] == "/etc/pods"
    assert found["evictionPressureTransitionPeriod"] == "5m0s"
    assert not {"tlsPrivateKeyFile", "evictionSoft", "evictionMaxPodGracePeriod"} & set(found)


def test_configz_follows_the_configuration() -> None:
    config = Config(
        client_ca_file="/ca.crt",
        anonymous_auth=True,
        max_parallel_image_pulls=1,
        enable_system_log_handler=True,
        system_reserved_cpu=0.25,
        cluster_domain="example.org",
        cluster_dns=("10.96.0.10",),
        resolv_conf="",
        log_level="debug",
        logging_format="json",
        tracing_endpoint="http://collector:4318",
        tracing_sampling_rate_per_million=10,
    )
    found = kubelet_configuration(config)
    assert (found["clusterDomain"], found["clusterDNS"]) == ("example.org", ["10.96.0.10"])
    assert found["resolvConf"] == ""
    assert found["authentication"]["x509"] == {"clientCAFile": "/ca.crt"}
    assert found["authentication"]["anonymous"] == {"enabled": True}
    assert found["serializeImagePulls"] is True
    assert found["enableSystemLogHandler"] is True
    assert found["systemReserved"]["cpu"] == "250m"
    assert found["logging"] == {"format": "json", "verbosity": 4}
    assert found["tracing"] == {"endpoint": "http://collector:4318", "samplingRatePerMillion": 10}
    usual = kubelet_configuration(Config())
    assert usual["logging"] == {"format": "text", "verbosity": 0}
    assert "tracing" not in usual


async def test_health_checks() -> None:
    wrong: list[str] = []
    group = HealthRoutes(lambda: wrong[0] if wrong else None)
    async with serving_routes(group.routes()) as url:
        for name in ("ping", "log", "syncloop"):
            assert (await get(url, f"/healthz/{name}"))[:2] == (200, "ok")
        wrong.append("the node agent is starting")
        assert (await get(url, "/healthz/ping"))[:2] == (200, "ok")
        found = await get(url, "/healthz/syncloop")
        assert found[:2] == (500, "internal server error: the node agent is starting\n")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A log directory with a secret beside it."""
    directory = tmp_path / "log"
    (directory / "pods" / "a&b").mkdir(parents=True)
    (directory / "syslog").write_text("a line\n")
    (directory / "pods" / "0.log").write_text("of a pod\n")
    (directory / "inside").symlink_to("pods/0.log")
    (directory / "outside").symlink_to("../secret")
    (directory / "away").symlink_to("/")
    os.mkfifo(directory / "pipe")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "log-of-another").mkdir()
    (directory / "neighbour").symlink_to("../log-of-another")
    return directory


@pytest.fixture
async def url(logs: Path) -> AsyncIterator[str]:
    async with serving_routes(NodeLogRoutes(logs).routes()) as url:
        yield url


@pytest.mark.parametrize("path", ["/logs", "/logs/", "/logs/syslog", "/logs/../secret"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_logs_are_not_shown_unless_wanted(path: str, method: str) -> None:
    async with serving_routes(NodeLogRoutes(None).routes()) as url:
        status, text, _ = await get(url, path.replace("/../", "/"), method)
        assert (status, text) == (405, "logs endpoint is disabled.\n")


@pytest.mark.parametrize(
    ("path", "text"),
    [("syslog", "a line\n"), ("pods/0.log", "of a pod\n"), ("inside", "of a pod\n")],
)
async def test_files(url: str, path: str, text: str) -> None:
    assert await get(url, f"/logs/{path}") == (200, text, None)


async def test_a_large_file_comes_whole(url: str, logs: Path) -> None:
    content = "0123456789abcdef" * 65536
    (logs / "large").write_text(content)
    assert await get(url, "/logs/large") == (200, content, None)


async def test_directories(url: str) -> None:
    status, text, _ = await get(url, "/logs/")
    assert status == 200
    assert '<a href="pods/">pods/</a>\n' in text
    assert '<a href="syslog">syslog</a>\n' in text
    _, text, _ = await get(url, "/logs/pods/")
    assert '<a href="a%26b/">a&amp;b/</a>\n' in text


@pytest.mark.parametrize(("path", "leads"), [("/logs", "/logs/"), ("/logs/pods", "pods/")])
async def test_a_directory_ends_in_a_slash(url: str, path: str, leads: str) -> None:
    assert await get(url, path) == (301, "", leads)


@pytest.mark.parametrize(
    "path",
    [
        "none",
        "outside",
        "away/",
        "away/etc/hostname",
        "neighbour/",
        "pipe",
        "syslog/",
        "syslog/more",
        "%00",
        "x" * 5000,
    ],
)
async def test_nothing_else_is_shown(url: str, path: str) -> None:
    assert await get(url, f"/logs/{path}") == (404, "404 page not found\n", None)


@pytest.mark.parametrize("path", ["../secret", "pods/../../secret", "/../secret"])
def test_no_path_climbs_out(logs: Path, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        open_beneath(logs, path)


async def test_only_get(url: str) -> None:
    assert (await get(url, "/logs/syslog", "POST"))[0] == 405


async def test_a_client_that_goes_away_leaves_no_descriptor(url: str, logs: Path) -> None:
    (logs / "huge").touch()
    os.truncate(logs / "huge", 1 << 30)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    host, port = url.removeprefix("http://").split(":")
    for _ in range(5):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /logs/huge HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readexactly(1000)
        writer.transport.abort()
    async with asyncio.timeout(30):
        while len(os.listdir("/proc/self/fd")) > before:  # noqa: PTH208, ASYNC110  nothing announces it
            await asyncio.sleep(0.01)
