"""The atomic writer: what a guest sees is one version, whenever the writer is killed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vkubelet.pods.volumes import atomic
from vkubelet.pods.volumes.errors import SetUpError
from vkubelet.pods.volumes.payload import File, Payload, checked

NAMES = st.sampled_from(["a", "b", "c", "dir", ".dot", "..."])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CONTENT = st.sampled_from([b"", b"x", b"longer than the other ones"])


def _payload(content: dict[str, bytes]) -> Payload:
    try:
        return checked((path, File(data, 0o644)) for path, data in content.items())
    except SetUpError:
        # A file where another one's directory should be: keep the first of them only.
        path, data = next(iter(content.items()))
        return _payload({path: data})


PAYLOADS = st.dictionaries(PATHS.filter(lambda path: not path.startswith("..")), CONTENT, max_size=4).map(
    _payload
)


class Killed(BaseException):
    """What a killed process would not come to do, it does not."""


STEPS = ("mkdir", "chmod", "open", "write", "fchmod", "symlink", "rename", "unlink", "rmdir")


def killed_after(steps: int, work: Callable[[], object]) -> bool:
    """Do the work with all but the first `steps` changes to the file system; whether it was cut short."""
    left = steps

    def stepped(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if real is opener and not arguments[1] & os.O_CREAT:
                return real(*arguments, **options)
            if left == 0:
                raise Killed
            left -= 1
            return real(*arguments, **options)

        return step

    opener = os.open
    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, stepped(getattr(os, name)))
        try:
            work()
        except Killed:
            return True
    return False


def seen(volume: Path) -> dict[str, bytes]:
    """What a guest can read, by path: through the links that are there."""
    found = {}
    for entry in volume.iterdir():
        if entry.name.startswith("..") and entry.name != "...":
            continue
        if entry.is_file():
            found[entry.name] = entry.read_bytes()
        elif entry.is_dir():
            for file in entry.rglob("*"):
                if file.is_file():
                    found[f"{entry.name}/{file.relative_to(entry)}"] = file.read_bytes()
    return found


def content(payload: Payload) -> dict[str, bytes]:
    return {path: file.data for path, file in payload.items()}


def assert_only(volume: Path, payload: Payload) -> None:
    """The volume holds the payload and nothing of another."""
    assert seen(volume) == content(payload)
    visible = {path.split("/")[0] for path in payload}
    current = str((volume / "..data").readlink())
    assert {entry.name for entry in volume.iterdir()} == {*visible, "..data", current}
    inside = {
        str(file.relative_to(volume / current)) for file in (volume / current).rglob("*") if file.is_file()
    }
    assert inside == payload.keys()


@given(PAYLOADS, PAYLOADS, PAYLOADS, st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_a_writer_killed_anywhere_leaves_one_version_and_the_next_one_mends_it(
    old: Payload, new: Payload, next_: Payload, first: int, second: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        volume = Path(directory)
        inode = volume.stat().st_ino
        atomic.write(volume, old)
        assert_only(volume, old)
        for payload, steps in ((new, first), (next_, second)):
            before = seen(volume)
            if not killed_after(steps, lambda payload=payload: atomic.write(volume, payload)):  # type: ignore[misc]
                assert_only(volume, payload)
                continue
            after = seen(volume)
            whole = content(payload)
            # Of the old version all, or of the new one what there are links for yet: never some of each.
            assert after == before or all(whole.get(path) == data for path, data in after.items())
        atomic.write(volume, next_)
        assert_only(volume, next_)
        assert atomic.write(volume, next_) is False
        assert volume.stat().st_ino == inode


def test_modes_are_as_asked_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        atomic.write(tmp_path, {"a": File(b"", 0o644), "d/b": File(b"", 0o400), "d/c": File(b"", 0o777)})
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "d" / "b").stat().st_mode & 0o777 == 0o400
    assert (tmp_path / "d" / "c").stat().st_mode & 0o777 == 0o777
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "..data" / "").stat().st_mode & 0o777 == 0o755


def test_the_links_are_the_kubelets(tmp_path: Path) -> None:
    atomic.write(tmp_path, {"key": File(b"1", 0o644), "d/e": File(b"2", 0o644)})
    assert str((tmp_path / "key").readlink()) == "..data/key"
    assert str((tmp_path / "d").readlink()) == "..data/d"
    assert str((tmp_path / "..data").readlink()).startswith("..20")


def test_whose_the_files_are_is_settled_before_they_are_seen(tmp_path: Path) -> None:
    atomic.write(tmp_path, {"a": File(b"old", 0o644)})

    def own(fresh: str) -> None:
        assert Path(fresh, "a").read_bytes() == b"new"
        assert (tmp_path / "a").read_bytes() == b"old"

    atomic.write(tmp_path, {"a": File(b"new", 0o644)}, own)
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_volume_without_space_keeps_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.write(tmp_path, {"a": File(b"old", 0o644)})
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            atomic.write(tmp_path, {"a": File(b"new", 0o644)})
    assert (tmp_path / "a").read_bytes() == b"old"
    atomic.write(tmp_path, {"a": File(b"new", 0o644)})
    assert_only(tmp_path, {"a": File(b"new", 0o644)})
