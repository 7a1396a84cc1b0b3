"""Credential provider plugins, which are scripts here: when they are asked, and what is made of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import Any

import pytest
from waiting import until

from oci.credentials import Credentials
from oci.reference import parse
from vkubelet.api.objects import ObjectMeta, Pod, PodSpec
from vkubelet.pods.images import credential_providers
from vkubelet.pods.images.access import Holder, digest_of

from .conftest import V1, World, provider

ME = Credentials("me", "word")


def response(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "CredentialProviderResponse",
        "apiVersion": V1,
        "cacheKeyType": "Image",
        "auth": {"r.io": {"username": "me", "password": "word"}},
    } | changes


def pod(account: str = "", uid: str = "u") -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="ns", uid=uid),
        spec=PodSpec(service_account_name=account),
    )


class TestAsking:
    async def test_a_plugin_is_asked_for_the_repository(self, world: World) -> None:
        world.answers(response())
        plugins = world.plugins(provider())
        assert await plugins.of(pod(), parse("r.io/team/app:v1")) == [(ME, None)]
        assert world.asked() == [
            {"kind": "CredentialProviderRequest", "apiVersion": V1, "image": "r.io/team/app"}
        ]

    async def test_with_its_arguments_and_variables(self, world: World, monkeypatch) -> None:
        monkeypatch.setenv("OF_THE_AGENT", "agents")
        monkeypatch.setenv("OF_BOTH", "agents")
        answer = json.dumps(response())
        world.script(
            f"echo \"$@ $OF_THE_AGENT $OF_BOTH\" > {world.directory}/told\ncat <<'END'\n{answer}\nEND"
        )
        plugins = world.plugins(provider(args=["--a", "b"], env=[{"name": "OF_BOTH", "value": "plugins"}]))
        assert await plugins.of(pod(), parse("r.io/app")) == [(ME, None)]
        assert (world.directory / "told").read_text() == "--a b agents plugins\n"

    @pytest.mark.parametrize(
        ("patterns", "image", "is_asked"),
        [
            (["r.io"], "r.io/app", True),
            (["r.io"], "r.io:5000/app", False),
            (["r.io:5000"], "r.io:5000/app", True),
            (["*.r.io"], "a.r.io/app", True),
            (["*.r.io"], "a.b.r.io/app", False),
            (["*.r.io"], "r.io/app", False),
            (["r.io/team"], "r.io/team/app", True),
            (["r.io/team"], "r.io/other/app", False),
            (["x.io", "docker.io"], "app", True),
        ],
    )
    async def test_only_for_its_images(
        self, world: World, patterns: list[str], image: str, is_asked: bool
    ) -> None:
        world.answers(response(auth=None))
        await world.plugins(provider(matchImages=patterns)).of(pod(), parse(image))
        assert bool(world.asked()) is is_asked

    async def test_what_is_for_another_image_is_not_taken(self, world: World) -> None:
        auth = {
            "r.io": {"username": "all", "password": "1"},
            "r.io/team": {"username": "team", "password": "2"},
            "other.io": {"username": "other", "password": "3"},
        }
        world.answers(response(auth=auth))
        found = await world.plugins(provider()).of(pod(), parse("r.io/team/app"))
        assert [credentials.username for credentials, _ in found] == ["team", "all"]

    async def test_all_plugins_are_asked(self, world: World) -> None:
        world.script("exit 1", "broken")
        world.answers(response(), "good")
        world.answers(response(auth={"*.io": {"username": "you", "password": "word"}}), "other")
        plugins = world.plugins(provider(name="broken"), provider(name="good"), provider(name="other"))
        found = await plugins.of(pod(), parse("r.io/app"))
        assert found == [(ME, None), (Credentials("you", "word"), None)]

    async def test_at_the_same_time_once(self, world: World) -> None:
        world.answers(response(cacheDuration="0s"))
        plugins = world.plugins(provider())
        found = await asyncio.gather(*(plugins.of(pod(), parse("r.io/app")) for _ in range(5)))
        assert found == [[(ME, None)]] * 5
        assert len(world.asked()) == 1


class TestKeeping:
    @pytest.mark.parametrize(
        ("kind", "asked"),
        [
            ("Image", ["r.io/a", "r.io/b", "r.io:5000/a"]),
            ("Registry", ["r.io/a", "r.io:5000/a"]),
            ("Global", ["r.io/a"]),
        ],
    )
    async def test_for_what_the_plugin_says(self, world: World, kind: str, asked: list[str]) -> None:
        world.answers(response(cacheKeyType=kind))
        plugins = world.plugins(provider(matchImages=["r.io", "r.io:5000"]))
        for image in ("r.io/a:v1", "r.io/a:v2", "r.io/b", "r.io:5000/a"):
            await plugins.of(pod(), parse(image))
        assert [one["image"] for one in world.asked()] == asked

    @pytest.mark.parametrize(
        ("default", "own", "lasts"),
        [("1m", None, 60.0), ("1m", "2m0s", 120.0), ("1m", "0s", 0.0), ("0s", None, 0.0), ("0", "1s", 1.0)],
    )
    async def test_for_as_long_as_it_says(
        self, world: World, default: str, own: str | None, lasts: float
    ) -> None:
        world.answers(response(cacheDuration=own))
        plugins = world.plugins(provider(defaultCacheDuration=default))
        for now, count in ((0.0, 1), (lasts - 0.5, 1 if lasts else 2), (lasts + 0.5, 2 if lasts else 3)):
            world.now = 100.0 + now
            assert await plugins.of(pod(), parse("r.io/app")) == [(ME, None)]
            assert len(world.asked()) == count


class TestServiceAccounts:
    @staticmethod
    def attributes(**changes: Any) -> dict[str, Any]:
        return provider(
            tokenAttributes={
                "serviceAccountTokenAudience": "registry",
                "cacheType": "Token",
                "requireServiceAccount": True,
            }
            | changes
        )

    async def test_the_plugin_gets_a_token_and_the_annotations_that_it_wants(self, world: World) -> None:
        world.accounts.annotations = {"team": "a", "x.io/role": "b", "private": "c"}
        world.answers(response())
        plugins = world.plugins(
            self.attributes(
                requiredServiceAccountAnnotationKeys=["team"],
                optionalServiceAccountAnnotationKeys=["x.io/role", "none"],
            )
        )
        found = await plugins.of(pod("builder"), parse("r.io/app"))
        assert found == [
            (ME, Holder(namespace="ns", name="builder", uid="uid-builder", digest=digest_of(ME)))
        ]
        assert world.accounts.asked == [("builder", "registry")]
        assert world.asked() == [
            {
                "kind": "CredentialProviderRequest",
                "apiVersion": V1,
                "image": "r.io/app",
                "serviceAccountToken": "token-of-u",
                "serviceAccountAnnotations": {"team": "a", "x.io/role": "b"},
            }
        ]
        plugins.forget(pod("builder"))
        assert world.accounts.asked[-1] == ("u", "forgotten")

    async def test_not_without_an_annotation_that_is_required(self, world: World, caplog) -> None:
        world.answers(response())
        plugins = world.plugins(self.attributes(requiredServiceAccountAnnotationKeys=["team"]))
        assert await plugins.of(pod("builder"), parse("r.io/app")) == []
        assert world.asked() == []
        assert caplog.text == ""

    @pytest.mark.parametrize(("required", "found"), [(True, []), (False, [(ME, None)])])
    async def test_of_a_pod_without_one(self, world: World, required: bool, found: list[Any]) -> None:
        world.answers(response())
        plugins = world.plugins(self.attributes(requireServiceAccount=required))
        assert await plugins.of(pod(), parse("r.io/app")) == found
        assert world.accounts.asked == []

    @pytest.mark.parametrize(("kind", "count"), [("Token", 3), ("ServiceAccount", 2)])
    async def test_an_answer_is_the_accounts_or_the_tokens(self, world: World, kind: str, count: int) -> None:
        world.answers(response(cacheKeyType="Global"))
        plugins = world.plugins(self.attributes(cacheType=kind))
        for one in (pod("a", "1"), pod("a", "2"), pod("a", "1"), pod("b", "3")):
            await plugins.of(one, parse("r.io/app"))
        assert len(world.asked()) == count

    async def test_a_token_that_comes_back(self, world: World, caplog) -> None:
        world.answers(response(auth={"r.io": {"username": "", "password": "token-of-u"}}))
        assert await world.plugins(self.attributes()).of(pod("a"), parse("r.io/app"))
        assert not await world.plugins(self.attributes(cacheType="ServiceAccount")).of(
            pod("a"), parse("r.io/app")
        )
        assert "returned the service account token as the password" in caplog.text
        assert "token-of-u" not in caplog.text

    async def test_no_account(self, world: World, caplog) -> None:
        world.accounts.failure = "service account ns/a: not found"
        world.answers(response())
        assert await world.plugins(self.attributes()).of(pod("a"), parse("r.io/app")) == []
        assert "no credentials for image r.io/app: service account ns/a: not found" in caplog.text


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo secret; echo 'no network' >&2; exit 2", "ended with status 2: no network"),
        ("echo secret", "its answer cannot be read"),
        ("""echo '{"kind": "CredentialProviderResponse", "secret": 1}'""", "its answer cannot be read"),
        ("", "its answer cannot be read"),
        ("while :; do echo secret; done", "wrote more than 1048576 bytes"),
        ("sleep 1000 & wait", "no answer within 0.5 s"),
        ("rm $0; kill -9 $$", "ended with status -9"),
    ],
)
async def test_a_plugin_that_fails_is_told_of_without_its_secrets(
    world: World, monkeypatch, caplog, script: str, message: str
) -> None:
    monkeypatch.setattr(credential_providers, "DEADLINE", 0.5 if "sleep" in script else 30.0)
    caplog.set_level(logging.INFO)
    world.script(script)
    plugins = world.plugins(provider())
    assert await plugins.of(pod(), parse("r.io/app")) == []
    # asyncio itself may complain that it has come too late for the end of one that was killed.
    (record,) = (record for record in caplog.records if record.name != "asyncio")
    assert record.levelname == "ERROR"
    assert "pod ns/p: no credentials for image r.io/app: credential provider " in record.message
    assert message in record.message
    assert "secret" not in record.message


@pytest.mark.parametrize(
    "change",
    [
        {"apiVersion": f"{V1}beta1"},
        {"kind": "CredentialProviderRequest"},
        {"cacheKeyType": "Pod"},
        {"cacheKeyType": None},
        {"cacheDuration": "soon"},
        {"auth": {"r.io": {"username": 1}}},
    ],
)
async def test_an_answer_that_is_none(world: World, caplog, change: dict[str, Any]) -> None:
    world.answers(response(**change))
    assert await world.plugins(provider()).of(pod(), parse("r.io/app")) == []
    assert "its answer" in caplog.text
    assert "word" not in caplog.text


async def test_a_plugin_that_is_gone(world: World, caplog) -> None:
    world.answers(response())
    plugins = world.plugins(provider())
    (world.directory / "bin" / "plugin").unlink()
    assert await plugins.of(pod(), parse("r.io/app")) == []
    assert "cannot be started: No such file or directory" in caplog.text


async def test_a_pull_that_is_given_up_ends_the_plugin(world: World) -> None:
    name = world.directory / "pid"
    world.script(f"echo $$ > {name}.new; mv {name}.new {name}; sleep 1000")
    asking = asyncio.create_task(world.plugins(provider()).of(pod(), parse("r.io/app")))
    await until(name.exists)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    with pytest.raises(ProcessLookupError):
        os.kill(int(name.read_text()), 0)
