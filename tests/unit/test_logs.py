"""The log's formats, what a record is about, and its level at run time."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from vkubelet import logs
from vkubelet.logs import Subject

WEB = Subject("default", "web", "1234")


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    """The handlers of the root logger are the tests' own again."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def text_log(level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(level, "text", stream)
    return stream


def json_log(level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(level, "json", stream)
    return stream


def test_text_names_the_pod_and_the_container_on_the_first_line() -> None:
    stream = text_log()
    with logs.about(WEB):
        logging.getLogger("a.b").warning("it is %s", "broken")
    try:
        int("none")
    except ValueError:
        with logs.about(Subject("default", "web", "1234", "main")):
            logging.getLogger("a.b").exception("worse")
    logging.getLogger("a.b").info("of no pod")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith(' WARNING a.b: it is broken pod="default/web" podUID="1234"')
    assert lines[1].endswith(' ERROR a.b: worse pod="default/web" podUID="1234" containerName="main"')
    assert lines[-2] == "ValueError: invalid literal for int() with base 10: 'none'"
    assert lines[-1].endswith(" INFO a.b: of no pod")


def test_json_has_the_keys_of_component_base() -> None:
    stream = json_log("debug")
    log = logging.getLogger("a.b")
    with logs.about(Subject("default", "web", "1234", "main")):
        log.warning('a "quoted" line\nand another')
    log.debug("small")
    try:
        int("none")
    except ValueError:
        log.exception("broken")
    first, second, third = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first["msg"] == 'a "quoted" line\nand another'
    assert first["pod"] == {"name": "web", "namespace": "default"}
    assert (first["podUID"], first["containerName"]) == ("1234", "main")
    assert (first["level"], first["v"], first["logger"]) == ("warning", 0, "a.b")
    assert first["caller"].startswith("unit/test_logs.py:")
    assert first["ts"] > 1_600_000_000_000
    assert (second["level"], second["v"]) == ("debug", 4)
    assert "pod" not in second
    assert (third["level"], third["err"]) == ("error", "invalid literal for int() with base 10: 'none'")
    assert "v" not in third
    assert "ValueError: invalid literal for int() with base 10: 'none'" in third["stacktrace"]


async def test_tasks_and_threads_speak_of_what_their_maker_does() -> None:
    stream = text_log()
    log = logging.getLogger("a")

    async def container(name: str) -> None:
        logs.speak_of_container(name)
        await asyncio.to_thread(log.info, "of %s", name)

    async def pod(subject: Subject) -> None:
        logs.speak_of(subject)
        async with asyncio.TaskGroup() as group:
            group.create_task(container("one"))
            group.create_task(container("two"))
        log.info("of the pod")

    async with asyncio.TaskGroup() as group:
        group.create_task(pod(WEB))
        group.create_task(pod(Subject("kube-system", "dns", "5678")))
    log.info("of none")
    found = {line.split(" INFO a: ")[1] for line in stream.getvalue().splitlines()}
    assert found == {
        f'of {name} pod="{where}" podUID="{uid}" containerName="{name}"'
        for where, uid in (("default/web", "1234"), ("kube-system/dns", "5678"))
        for name in ("one", "two")
    } | {
        'of the pod pod="default/web" podUID="1234"',
        'of the pod pod="kube-system/dns" podUID="5678"',
        "of none",
    }


def test_a_container_without_a_pod_is_none() -> None:
    stream = text_log()
    logs.speak_of_container("main")
    logging.getLogger("a").info("of none")
    assert "containerName" not in stream.getvalue()


@pytest.mark.parametrize(("text", "shown"), [("0", 1), ("3", 1), ("4", 2), ("10", 2)])
def test_verbosity_at_run_time(text: str, shown: int) -> None:
    stream = text_log("error")
    assert logs.set_verbosity(text) == f"successfully set klog.logging.verbosity to {text}"
    logging.getLogger("a").debug("one")
    logging.getLogger("a").info("two")
    assert len(stream.getvalue().splitlines()) == shown


@pytest.mark.parametrize("text", ["", "-1", "a", "4 ", "4\n", "2147483648", "1" * 5000, "٤"])
def test_no_verbosity(text: str) -> None:
    with pytest.raises(ValueError, match=r"^failed set klog\.logging\.verbosity "):
        logs.set_verbosity(text)
