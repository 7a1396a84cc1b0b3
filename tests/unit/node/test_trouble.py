"""What of the agent's log is told at the node."""

from __future__ import annotations

import ast
import asyncio
import functools
import importlib.util
import logging
from pathlib import Path

import pytest

from vkubelet.node.trouble import LONGEST, TOLD, Told, Trouble, reason

METHODS = {"warning", "error", "exception", "log"}


def record(name: str, text: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord(name, level, "file.py", 1, text, (), None)


@pytest.mark.parametrize(
    ("name", "text", "level", "expected"),
    [
        (
            "providers.wasmtime.supervisor",
            "no launcher, trying again in %.0f s",
            logging.ERROR,
            "LauncherFailed",
        ),
        ("providers.wasmtime.adoption", "container %s is set aside as %s", logging.ERROR, "CorruptState"),
        ("oci.store", "image store: %s is corrupt: %s", logging.WARNING, "CorruptState"),
        ("oci.store", "image store: %s is corrupt: %s", logging.INFO, None),
        ("ocio.store", "image store: %s is corrupt: %s", logging.WARNING, None),
        ("vkubelet.pods.garbage", "images that no pod uses: %s", logging.WARNING, "ImageGCFailed"),
        ("vkubelet.pods.garbage", "something else", logging.ERROR, None),
        ("another.library", "client certificate not renewed", logging.ERROR, None),
        ("vkubelet.node.certificates", ValueError("client certificate not renewed"), logging.ERROR, None),
    ],
)
def test_what_is_told(name: str, text: object, level: int, expected: str | None) -> None:
    assert reason(record(name, text, level)) == expected


@functools.cache
def complaints(package: str) -> tuple[str, ...]:
    """The texts of all warnings and errors of a package, as they stand in its sources."""
    found: list[str] = []
    spec = importlib.util.find_spec(package)
    assert spec is not None
    for place in spec.submodule_search_locations or ():
        for path in Path(place).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in METHODS
                ):
                    texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
                    found += (text for text in texts if isinstance(text, str))
    return tuple(found)


@pytest.mark.parametrize("told", TOLD, ids=lambda told: f"{told.package}: {told.part}")
def test_everything_that_is_told_is_said_somewhere(told: Told) -> None:
    assert any(told.part in text for text in complaints(told.package))


async def test_records_of_all_threads_become_events() -> None:
    found: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()
    trouble = Trouble()
    log = logging.getLogger("oci.store")
    with trouble.listening():
        log.warning("image store: %s is corrupt: %s", "a", "why")
        telling = asyncio.create_task(trouble.run(lambda *event: found.put_nowait(event)))
        async with asyncio.timeout(20):
            assert await found.get() == ("Warning", "CorruptState", "image store: a is corrupt: why")
            await asyncio.to_thread(log.warning, "image store: %s is corrupt: %s", "b" * 2000, "why")
            kind, _, text = await found.get()
        assert (kind, len(text)) == ("Warning", LONGEST)
        log.info("image store: %s is corrupt: %s", "a", "why")
        log.warning("something else")
    log.warning("image store: %s is corrupt: %s", "c", "why")
    await asyncio.sleep(0)
    assert found.empty()
    telling.cancel()


async def test_the_first_complaints_are_dropped_when_there_are_too_many() -> None:
    found: list[str] = []
    trouble = Trouble()
    with trouble.listening():
        for number in range(250):
            logging.getLogger("oci.store").warning("%d is corrupt", number)
        telling = asyncio.create_task(trouble.run(lambda kind, reason, text: found.append(text)))
        while not found:  # noqa: ASYNC110  it is told at the next turns of the loop
            await asyncio.sleep(0)
    assert (len(found), found[-1]) == (100, "249 is corrupt")
    telling.cancel()
