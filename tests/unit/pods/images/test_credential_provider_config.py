"""The configuration of credential provider plugins, and what is said of one that cannot be used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.config import Config, ConfigError
from vkubelet.pods.images.credential_provider_config import load

from .conftest import V1, World, provider


class TestConfiguration:
    def test_none(self) -> None:
        assert load(Config()) == ()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"name": "a/b"}, r"providers\[0\]\.name: 'a/b' is no name of a program"),
            ({"name": ".."}, r"providers\[0\]\.name: '\.\.' is no name"),
            ({"apiVersion": "v1"}, rf"providers\[0\]\.apiVersion: 'v1' is none of {V1}, "),
            ({"matchImages": []}, r"providers\[0\]\.matchImages: at least one is required"),
            ({"matchImages": ["a b"]}, r"providers\[0\]\.matchImages: 'a b' is no host with a path"),
            ({"matchImages": ["a:x"]}, r"providers\[0\]\.matchImages: 'a:x' is no host with a path"),
            ({"defaultCacheDuration": None}, r"providers\[0\]\.defaultCacheDuration: is no duration"),
            ({"defaultCacheDuration": "-1s"}, r"providers\[0\]\.defaultCacheDuration: is no duration"),
            ({"environment": []}, "unknown field `environment` - at `\\$.providers"),
            ({"args": "x"}, r"Expected `array`, got `str` - at `\$\.providers\[0\]\.args`"),
            ({"name": "missing"}, "providers: missing: .*/bin/missing is no program that can be run"),
            ({"tokenAttributes": {}}, r"tokenAttributes\.serviceAccountTokenAudience: is required"),
            ({"tokenAttributes": {}}, r"tokenAttributes\.requireServiceAccount: is required"),
            ({"tokenAttributes": {}}, r"tokenAttributes\.cacheType: '' is none of ServiceAccount, Token"),
            (
                {"tokenAttributes": {}, "apiVersion": f"{V1}beta1"},
                rf"providers\[0\]\.tokenAttributes: only a plugin of {V1} can have them",
            ),
            (
                {"tokenAttributes": {"requiredServiceAccountAnnotationKeys": ["a b"]}},
                r"requiredServiceAccountAnnotationKeys\[0\]: 'a b' is no annotation's key",
            ),
            (
                {
                    "tokenAttributes": {
                        "requiredServiceAccountAnnotationKeys": ["x.io/a", "b", "b"],
                        "optionalServiceAccountAnnotationKeys": ["b"],
                        "requireServiceAccount": False,
                    }
                },
                r"requireServiceAccount must be true; .*\[2\]: 'b' is there already; .*"
                "cannot be both required and optional: b",
            ),
        ],
    )
    def test_what_is_wrong_is_told_with_its_field(
        self, world: World, change: dict[str, Any], message: str
    ) -> None:
        world.answers({})
        with pytest.raises(ConfigError, match=rf"^imageCredentialProviderConfig .*{message}"):
            load(world.configured(provider(**change)))

    def test_two_of_one_name(self, world: World) -> None:
        world.answers({})
        with pytest.raises(
            ConfigError, match=r"providers\[1\]\.name: 'plugin' is another provider's already"
        ):
            load(world.configured(provider(), provider()))

    def test_no_provider(self, world: World) -> None:
        with pytest.raises(ConfigError, match="providers: at least one is required"):
            load(world.configured())

    def test_another_document(self, world: World) -> None:
        with pytest.raises(ConfigError, match=r"is a v1 CredentialProviderConfig, not a kubelet\.config"):
            load(world.configured(provider(), version="v1"))

    def test_a_directory_of_them(self, world: World) -> None:
        world.answers({}, "one")
        world.answers({}, "two")
        config = world.configured(provider(name="two"))
        directory = world.directory / "d"
        directory.mkdir()
        (world.directory / "config.yaml").rename(directory / "b.yaml")
        world.configured(provider(name="one"))
        (world.directory / "config.yaml").rename(directory / "a.json")
        (directory / "notes.txt").write_text("no configuration")
        programs = config.image_credential_provider_bin_dir
        found = load(
            Config(
                image_credential_provider_config=str(directory), image_credential_provider_bin_dir=programs
            )
        )
        assert [one.name for one in found] == ["one", "two"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"image_credential_provider_config": ""}, "imageCredentialProviderConfig: is not set"),
            ({"image_credential_provider_bin_dir": ""}, "imageCredentialProviderBinDir: is not set"),
            (
                {"image_credential_provider_config": "/no/where"},
                "imageCredentialProviderConfig: /no/where does not exist",
            ),
            (
                {"image_credential_provider_bin_dir": "/no/where"},
                "imageCredentialProviderBinDir: /no/where does not exist",
            ),
        ],
    )
    def test_one_option_without_the_other(self, world: World, change: dict[str, str], message: str) -> None:
        config = world.configured(provider())
        options = {
            name: getattr(config, name)
            for name in ("image_credential_provider_config", "image_credential_provider_bin_dir")
        }
        with pytest.raises(ConfigError, match=message):
            load(Config(**{**options, **change}))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["providers", "name", "kind", "apiVersion", "args"]), inner)
            ),
            max_leaves=8,
        )
    )
    def test_any_document_is_read_or_refused(self, tmp_path_factory, document: object) -> None:
        file = tmp_path_factory.getbasetemp() / "any.yaml"
        file.write_text(json.dumps(document))
        config = Config(image_credential_provider_config=str(file), image_credential_provider_bin_dir="/")
        with pytest.raises(ConfigError, match=r"^imageCredentialProviderConfig"):
            load(config)
