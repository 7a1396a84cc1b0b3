"""Which files a volume shows: keys, items, modes, and paths that cannot be."""

from __future__ import annotations

import posixpath

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkubelet.api.configuration import ConfigMap, Secret
from vkubelet.api.volumes import KeyToPath
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.payload import Defaults, File, checked, of_config_map, of_secret


def config_map(**fields: object) -> ConfigMap:
    return msgspec.convert({"metadata": {"name": "c"}, **fields}, ConfigMap)


def test_a_config_map_shows_text_and_bytes() -> None:
    found = config_map(data={"a": "é"}, binaryData={"b": "AP8="})
    assert of_config_map(found, None, Defaults(0o640), optional=False) == {
        "a": File("é".encode(), 0o640),
        "b": File(b"\0\xff", 0o640),
    }


def test_items_choose_keys_paths_and_modes() -> None:
    found = config_map(data={"a": "1", "b": "2"})
    items = [KeyToPath(key="a", path="x/y", mode=0o400), KeyToPath(key="a", path="z")]
    files = of_config_map(found, items, Defaults(0o644), optional=False)
    assert files == {"x/y": File(b"1", 0o400), "z": File(b"1", 0o644)}
    items = [KeyToPath(key="a", path="x", user=7), KeyToPath(key="b", path="y")]
    files = of_config_map(found, items, Defaults(0o644, 8), optional=False)
    assert files == {"x": File(b"1", 0o644, 7), "y": File(b"2", 0o644, 8)}


def test_a_key_that_is_not_there_is_an_error_unless_it_is_optional() -> None:
    items = [KeyToPath(key="no", path="x")]
    with pytest.raises(SetUpError, match="configmap references non-existent config key: no"):
        of_config_map(config_map(), items, Defaults(0o644), optional=False)
    secret = msgspec.convert({"metadata": {"name": "s"}}, Secret)
    with pytest.raises(SetUpError, match="references non-existent secret key: no"):
        of_secret(secret, items, Defaults(0o644), optional=False)
    assert of_config_map(config_map(), items, Defaults(0o644), optional=True) == {}
    assert of_secret(secret, items, Defaults(0o644), optional=True) == {}


def test_content_is_in_no_representation() -> None:
    assert "hunter2" not in repr(File(b"hunter2", 0o600))


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        ("", 'invalid path: must not be empty: ""'),
        ("/a", "invalid path: must be relative path: /a"),
        ("a/../b", "invalid path: must not contain '..': a/../b"),
        ("..data", "invalid path: must not start with '..': ..data"),
        ("./..data/a", "invalid path: must not start with '..': ./..data/a"),
        ("a" * 256, "invalid path: filenames must be less than or equal to 255 characters"),
        ("a/" * 2048 + "b", "invalid path: must be less than or equal to 4096 characters"),
        (".", "invalid path: must name a file: ."),
    ],
)
def test_paths_that_cannot_be_are_told_as_a_kubelet_does(path: str, cause: str) -> None:
    with pytest.raises(SetUpError) as failure:
        checked([(path, File(b"", 0o644))])
    assert str(failure.value) == cause


def test_of_two_files_at_one_path_the_later_one_stays() -> None:
    files = [("a", File(b"1", 0o644)), ("./a", File(b"2", 0o600))]
    assert checked(files) == {"a": File(b"2", 0o600)}


@pytest.mark.parametrize("paths", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b")])
def test_a_file_where_a_directory_should_be_is_an_error(paths: tuple[str, str]) -> None:
    with pytest.raises(SetUpError, match="not a directory"):
        checked((path, File(b"", 0o644)) for path in paths)


@given(st.lists(st.text(alphabet="ab./\0é", max_size=8), max_size=6))
def test_what_passes_stays_in_the_volume_and_fits_together(paths: list[str]) -> None:
    try:
        payload = checked((path, File(b"", 0o644)) for path in paths)
    except SetUpError:
        return
    for path in payload:
        assert path == posixpath.normpath(path)
        assert not path.startswith(("/", ".."))
        parents = {path[:index] for index, letter in enumerate(path) if letter == "/"}
        assert not parents & payload.keys()
