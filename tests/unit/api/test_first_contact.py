"""An agent's start waits for the API server, for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vkubelet.api import first_contact as module
from vkubelet.api.client import ApiClient
from vkubelet.api.first_contact import NoContactError, first_contact


@pytest.mark.parametrize("code", [401, 403, 429, 500, 503])
async def test_one_that_has_just_been_started_may_refuse(api: Any, client: ApiClient, code: int) -> None:
    """It knows nobody's rights before it has read them."""
    api.handlers[:] = [api.status(code, "NotYet"), api.reset, api.json({"gitVersion": "v1"})]
    await first_contact(client)
    assert len(api.bodies) == 3


@pytest.mark.parametrize("answer", ["refuses", "hangs"])
async def test_the_cause_is_told_in_one_line(
    api: Any, client: ApiClient, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    answers: dict[str, tuple[Callable[..., Any], str]] = {
        "refuses": (api.status(403, "Forbidden"), "403 Forbidden: said Forbidden"),
        "hangs": (api.hang, "no answer from"),
    }
    api.handlers[:], cause = [answers[answer][0]], answers[answer][1]
    with pytest.raises(NoContactError, match=f"^the API server cannot be reached: {cause}"):
        await first_contact(client)
