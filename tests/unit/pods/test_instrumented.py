"""What is asked of a provider is counted, and otherwise unchanged."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from providers.base import Provider, ProviderError
from vkubelet import telemetry
from vkubelet.pods.instrumented import InstrumentedProvider


class Recorder:
    """Any method: notes its name and arguments, and answers with them or raises `error`."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self.error = error

    def __getattr__(self, name: str) -> Any:
        async def answer(*arguments: Any) -> Any:
            self.asked.append((name, arguments))
            if self.error is not None:
                raise self.error
            return (name, arguments)

        def answer_at_once(*arguments: Any) -> Any:
            return (name, arguments)

        return answer_at_once if name in ("spec", "root") else answer


def counted(kind: str) -> tuple[float, float, float]:
    """How many operations, errors and durations of this kind there were."""
    families = (
        telemetry.RUNTIME_OPERATIONS,
        telemetry.RUNTIME_OPERATION_ERRORS,
        telemetry.RUNTIME_OPERATION_DURATION,
    )
    values = [
        sum(
            sample.value
            for sample in family.family().samples
            if f'operation_type="{kind}"' in sample.labels and sample.suffix in ("", "_count")
        )
        for family in families
    ]
    return values[0], values[1], values[2]


OPERATIONS = [
    ("open", "list_containers", (print,)),
    ("prepare", "create_container", ("path", "digest")),
    ("start", "start_container", ("spec", "go")),
    ("run", "exec_sync", ("spec", "streams", print)),
    ("attach", "attach", ("id",)),
    ("usage", "list_container_stats", (["id"],)),
    ("kill", "stop_container", ("id",)),
    ("remove", "remove_container", ("id",)),
]


@pytest.mark.parametrize(("method", "kind", "arguments"), OPERATIONS)
async def test_an_operation_is_passed_on_and_counted(
    method: str, kind: str, arguments: tuple[Any, ...]
) -> None:
    recorder = Recorder()
    provider = InstrumentedProvider(cast(Provider, recorder))
    total, errors, durations = counted(kind)
    answer = await getattr(provider, method)(*arguments)
    assert recorder.asked == [(method, arguments)]
    assert answer == ((method, arguments) if method not in ("kill", "remove") else None)
    assert counted(kind) == (total + 1, errors, durations + 1)


@pytest.mark.parametrize(("method", "kind", "arguments"), OPERATIONS)
async def test_an_error_is_counted_and_raised(method: str, kind: str, arguments: tuple[Any, ...]) -> None:
    provider = InstrumentedProvider(cast(Provider, Recorder(ProviderError("no"))))
    total, errors, durations = counted(kind)
    with pytest.raises(ProviderError, match="no"):
        await getattr(provider, method)(*arguments)
    assert counted(kind) == (total + 1, errors + 1, durations + 1)


async def test_what_its_caller_gave_up_is_no_error() -> None:
    provider = InstrumentedProvider(cast(Provider, Recorder(asyncio.CancelledError())))
    total, errors, durations = counted("attach")
    with pytest.raises(asyncio.CancelledError):
        await provider.attach("id")
    assert counted("attach") == (total + 1, errors, durations + 1)


async def test_what_is_no_operation_is_passed_on() -> None:
    recorder = Recorder()
    provider = InstrumentedProvider(cast(Provider, recorder))
    assert provider.spec("id") == ("spec", ("id",))
    assert provider.root("id") == ("root", ("id",))
    assert await provider.overhead() == ("overhead", ())
    await provider.close()
    assert [name for name, _ in recorder.asked] == ["overhead", "close"]
