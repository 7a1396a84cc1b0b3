"""The API server's answers to reviews: how long they hold, and who gets in where there is none."""

from __future__ import annotations

import asyncio
import gc
import logging
from pathlib import Path

import pytest
from aiohttp import web
from reviewing import ANN
from serving import serving

from vkubelet.api.client import ApiClient
from vkubelet.api.credentials import Credentials
from vkubelet.server import auth_reviews
from vkubelet.server.auth_reviews import AccessReviewer


async def test_answers_hold_and_the_same_question_is_asked_once(start):
    kubelet = await start()
    kubelet.cluster.allowed = {("ann", "get", "stats")}
    answers = await asyncio.gather(*(kubelet.ask("/stats/summary") for _ in range(20)))
    assert answers == [(200, "here")] * 20
    kubelet.cluster.allowed.clear()
    kubelet.cluster.users.clear()
    assert await kubelet.ask("/stats/summary") == (200, "here")
    assert (len(kubelet.cluster.token_reviews), len(kubelet.cluster.access_reviews)) == (1, 1)


async def test_without_a_cache_what_is_taken_away_is_gone(start):
    kubelet = await start(ttl=0.0)
    kubelet.cluster.allowed = {("ann", "get", "stats")}
    assert (await kubelet.ask("/stats/summary"))[0] == 200
    kubelet.cluster.allowed.clear()
    assert (await kubelet.ask("/stats/summary"))[0] == 403
    kubelet.cluster.users.clear()
    assert (await kubelet.ask("/stats/summary"))[0] == 401


@pytest.mark.parametrize("status", [429, 500, 504])
async def test_a_moments_failure_is_asked_about_again(start, status):
    kubelet = await start()
    kubelet.cluster.allowed = {("ann", "get", "stats")}
    kubelet.cluster.failures = [status] * 4
    assert await kubelet.ask("/stats/summary") == (200, "here")
    assert len(kubelet.cluster.token_reviews) == 5


@pytest.mark.parametrize("failures", [[403], [503], [500] * 5])
async def test_an_api_server_that_fails_lets_nobody_in_and_nothing_is_kept(start, failures, caplog):
    kubelet = await start()
    kubelet.cluster.allowed = {("ann", "get", "stats")}
    kubelet.cluster.failures = list(failures)
    with caplog.at_level(logging.DEBUG):
        assert await kubelet.ask("/stats/summary") == (401, "Unauthorized")
    assert any("unable to authenticate" in message for message in caplog.messages)
    assert ANN not in caplog.text
    context = kubelet.authority.client(kubelet.authority.issue("ben"))
    kubelet.cluster.allowed.add(("ben", "get", "stats"))
    kubelet.cluster.failures = list(failures)
    assert await kubelet.ask("/stats/summary", token=None, ssl=context) == (
        500,
        "Authorization error (user=ben, verb=get, resource=nodes, subresource=stats)",
    )
    assert await kubelet.ask("/stats/summary", token=None, ssl=context) == (200, "here")
    assert await kubelet.ask("/stats/summary") == (200, "here")


async def test_an_api_server_that_is_gone(start, authority, server_files, tmp_path):
    client = ApiClient(Credentials("http://127.0.0.1:1"), tmp_path / "kubeconfig")
    try:
        kubelet = await start(authorizer=AccessReviewer(client, authorized_ttl=1, unauthorized_ttl=1))
        assert await kubelet.ask("/healthz") == (
            500,
            "Authorization error (user=ann, verb=get, resource=nodes, subresource=healthz)",
        )
    finally:
        await client.close()


async def test_an_api_server_that_is_silent_is_waited_for_until_the_deadline(start, monkeypatch):
    monkeypatch.setattr(auth_reviews, "_REQUEST_TIMEOUT", 0.05)
    kubelet = await start()
    kubelet.cluster.silent.clear()
    assert await kubelet.ask("/stats/summary") == (401, "Unauthorized")
    kubelet.cluster.silent.set()


async def test_a_client_that_leaves_while_the_api_server_thinks_leaves_nothing(start, eventually):
    kubelet = await start()
    before = asyncio.all_tasks()
    kubelet.cluster.silent.clear()
    asking = [asyncio.ensure_future(kubelet.ask("/stats/summary")) for _ in range(5)]
    await eventually(lambda: len(asyncio.all_tasks()) > len(before) + 10)
    for each in asking:
        each.cancel()
    await asyncio.wait(asking)
    kubelet.cluster.silent.set()
    await eventually(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})


async def test_tokens_are_not_kept(start):
    kubelet = await start()
    token = "".join(("Very", "Secret", "Token", "Nobody", "Else", "Has"))
    kubelet.cluster.users[token] = {"username": "ann"}
    kubelet.cluster.allowed = {("ann", "get", "stats")}
    assert (await kubelet.ask("/stats/summary", token=token))[0] == 200
    caches = [each for each in gc.get_objects() if isinstance(each, auth_reviews.AnswerCache)]
    kept = [key for cache in caches for key in cache._answers]
    assert kept
    assert token.encode() not in kept
    assert token not in repr([vars(cache) for cache in caches])


async def test_both_answers_at_once_are_none(start):
    kubelet = await start()

    async def contradict(request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": {"allowed": True, "denied": True}})

    async with serving(contradict) as url:
        client = ApiClient(Credentials(url), Path("kubeconfig"))
        reviewer = AccessReviewer(client, authorized_ttl=1, unauthorized_ttl=1)
        other = await start(authorizer=reviewer)
        assert (await other.ask("/stats/summary"))[0] == 500
        await client.close()
    assert kubelet.echo.called == 0


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[]", b'{"status":{"allowed":"yes"}}', b"null"])
async def test_an_answer_that_cannot_be_read_is_a_failure(start, body):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    async with serving(answer) as url:
        client = ApiClient(Credentials(url), Path("kubeconfig"))
        other = await start(authorizer=AccessReviewer(client, authorized_ttl=1, unauthorized_ttl=1))
        assert (await other.ask("/stats/summary"))[0] == 500
        await client.close()


async def test_an_answer_without_a_word_is_no(start):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": None} if request.path.endswith("x") else {})

    async with serving(answer) as url:
        client = ApiClient(Credentials(url), Path("kubeconfig"))
        other = await start(authorizer=AccessReviewer(client, authorized_ttl=1, unauthorized_ttl=1))
        assert (await other.ask("/stats/summary"))[0] == 403
        await client.close()
