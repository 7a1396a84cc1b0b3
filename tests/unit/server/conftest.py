"""A real server on a real socket, with certificates of a CA made for the test."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from authority import Authority
from reviewing import ANN, Cluster, Echo, Kubelet
from serving import serving

from vkubelet.api.client import ApiClient
from vkubelet.api.credentials import Credentials
from vkubelet.pods.directory import ContainerNotFoundError, LogSource, PodNotFoundError
from vkubelet.server import auth_reviews
from vkubelet.server.app import KubeletServer
from vkubelet.server.auth import AlwaysAllow, KubeletAuth
from vkubelet.server.auth_reviews import AccessReviewer, TokenReviewer
from vkubelet.server.log_reader import LogReader
from vkubelet.server.logs import LogRoutes


@dataclass
class Directory:
    """What the pods' side knows, as a table; an exception in it is raised."""

    logs: dict[tuple[str, str, str], LogSource | Exception] = field(default_factory=dict)
    asked: list[tuple[str, str, str, str | None, bool]] = field(default_factory=list)

    def log_file(
        self, namespace: str, pod: str, container: str, *, uid: str | None, previous: bool
    ) -> LogSource:
        self.asked.append((namespace, pod, container, uid, previous))
        if not any(key[:2] == (namespace, pod) for key in self.logs):
            raise PodNotFoundError(pod)
        found = self.logs.get((namespace, pod, container))
        if found is None:
            raise ContainerNotFoundError(container, pod)
        if isinstance(found, Exception):
            raise found
        return found


@dataclass
class Node:
    """A running server and all that a test needs to call it."""

    server: KubeletServer
    reader: LogReader
    directory: Directory
    authority: Authority
    port: int
    session: aiohttp.ClientSession
    health: list[str]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def logs(self, **query: str | int) -> aiohttp.client._RequestContextManager:
        return self.session.get(
            f"{self.url}/containerLogs/default/web/main", params={k: str(v) for k, v in query.items()}
        )


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The server depends on much that the two loops do each in its own way: TLS, readers, flow control."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "the-cluster")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other-ca"), "another-cluster")


@pytest.fixture(scope="session")
def server_files(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("system:node:here", ("system:nodes",), serving=True)


@pytest.fixture(scope="session")
def client_files(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("kube-apiserver-kubelet-client", ("system:masters",))


@pytest.fixture
def source(tmp_path: Path) -> LogSource:
    """The log of the container default/web/main; its file is not there yet."""
    directory = tmp_path / "pods" / "default_web_uid" / "main"
    directory.mkdir(parents=True)
    return LogSource(directory / "0.log", asyncio.Event())


@pytest.fixture
async def node(
    authority: Authority,
    server_files: tuple[Path, Path],
    client_files: tuple[Path, Path],
    source: LogSource,
) -> AsyncIterator[Node]:
    directory = Directory({("default", "web", "main"): source})
    health: list[str] = []
    reader = LogReader()
    server = KubeletServer(
        address="127.0.0.1",
        port=0,
        tls=authority.server(server_files),
        healthy=lambda: health[0] if health else None,
        auth=KubeletAuth("here", AlwaysAllow()),
        groups=[LogRoutes(directory, reader)],
    )
    port = await server.start()
    connector = aiohttp.TCPConnector(ssl=authority.client(client_files), limit=0)
    timeout = aiohttp.ClientTimeout(total=30)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=2**12) as session:
            yield Node(server, reader, directory, authority, port, session, health)
    finally:
        await server.close()
        reader.close()


class Writer:
    """Writes and rotates a log as a container's own process does; used from any thread."""

    def __init__(self, path: Path, keep: int = 10**9) -> None:
        self._path = path
        self._keep = keep
        self._file = path.open("ab", buffering=0)
        self._rotations = 0

    def line(self, text: str, stream: str = "stdout", tag: str = "F") -> None:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        self._file.write(f"{now}000Z {stream} {tag} {text}\n".encode())

    def raw(self, data: bytes) -> None:
        self._file.write(data)

    def rename_away(self) -> None:
        """The first half of a rotation; names are as if every rotation took a second."""
        self._file.close()
        second = datetime.datetime(2026, 11, 24) + datetime.timedelta(seconds=self._rotations)
        self._rotations += 1
        self._path.rename(f"{self._path}.{second:%Y%m%d-%H%M%S}")
        rotated = sorted(self._path.parent.glob(f"{self._path.name}.*"))
        for old in rotated[: max(0, len(rotated) - self._keep)]:
            old.unlink()

    def begin_anew(self) -> None:
        """The second half."""
        self._file = self._path.open("xb", buffering=0)

    def rotate(self) -> None:
        self.rename_away()
        self.begin_anew()

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def writer(source: LogSource) -> Iterator[Writer]:
    """The writer of the log of default/web/main."""
    made = Writer(source.path)
    yield made
    made.close()


@pytest.fixture
def new_writer() -> type[Writer]:
    return Writer


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], object]:
    """Wait, under a deadline, for what other tasks and threads are about to bring about."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110  nothing announces a closed descriptor
                await asyncio.sleep(0.001)

    return wait


Start = Callable[..., Any]


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_reviews, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(auth_reviews, "_LONGEST_DELAY", 0.001)


@pytest.fixture
async def start(authority, server_files, tmp_path: Path, fast_retries) -> AsyncIterator[Start]:
    """Starts a server that asks a scripted API server; `start(anonymous=..., ttl=...)`."""
    async with AsyncExitStack() as ends:

        async def begin(*, anonymous: bool = False, ttl: float = 300.0, authorizer: Any = None) -> Kubelet:
            cluster = Cluster(
                {ANN: {"username": "ann", "uid": "7", "groups": ["dev"], "extra": {"k": ["v"]}}}
            )
            cluster.url = await ends.enter_async_context(serving(cluster.handle))
            client = ApiClient(Credentials(cluster.url), tmp_path / "kubeconfig")
            ends.push_async_callback(client.close)
            reviewer = AccessReviewer(client, authorized_ttl=ttl, unauthorized_ttl=ttl)
            tokens = TokenReviewer(client, cache_ttl=ttl)
            auth = KubeletAuth("here", authorizer or reviewer, tokens=tokens, anonymous=anonymous)
            echo = Echo()
            server = KubeletServer(
                address="127.0.0.1",
                port=0,
                tls=authority.server(server_files),
                healthy=lambda: None,
                auth=auth,
                groups=[echo],
            )
            port = await server.start()
            ends.push_async_callback(server.close)
            connector = aiohttp.TCPConnector(ssl=authority.client(None))
            session = await ends.enter_async_context(aiohttp.ClientSession(connector=connector))
            return Kubelet(f"https://127.0.0.1:{port}", cluster, session, echo, authority, server)

        yield begin
