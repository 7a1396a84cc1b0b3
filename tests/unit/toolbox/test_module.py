"""The toolbox as the node finds it: described, verified, or turned away with a reason."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from vkubelet.dev import toolbox as building
from vkubelet.dev.layout import DevError
from vkubelet.toolbox import DESCRIPTION, MODULE, PACKAGE, Toolbox, ToolboxError


@pytest.fixture
def installed(tmp_path) -> Path:
    (tmp_path / MODULE).write_bytes(b"code")
    digest = f"sha256:{hashlib.sha256(b'code').hexdigest()}"
    (tmp_path / DESCRIPTION).write_text(json.dumps({"digest": digest, "applets": ["ls", "sh"]}))
    return tmp_path


def test_it_is_found_and_verified(installed):
    toolbox = Toolbox(installed)
    assert toolbox.applets == {"ls", "sh"}
    assert toolbox.module().path == installed / MODULE
    assert toolbox.module().digest == f"sha256:{hashlib.sha256(b'code').hexdigest()}"


def test_it_is_read_once(installed):
    toolbox = Toolbox(installed)
    first = toolbox.module()
    (installed / MODULE).unlink()
    assert toolbox.module() is first


def test_other_bytes_than_those_described_are_refused_for_good(installed):
    toolbox = Toolbox(installed)
    (installed / MODULE).write_bytes(b"evil")
    with pytest.raises(ToolboxError, match="not what was built"):
        toolbox.module()
    (installed / MODULE).write_bytes(b"code")
    with pytest.raises(ToolboxError, match="not what was built"):
        toolbox.module()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest": "x"}', '{"digest": "x", "applets": 3}'])
def test_a_bad_description_disables_it(installed, text):
    (installed / DESCRIPTION).write_text(text)
    assert Toolbox(installed).applets == frozenset()
    with pytest.raises(ToolboxError, match="cannot be read"):
        Toolbox(installed).module()


def test_one_that_is_not_built_or_off_has_no_applets(tmp_path, installed):
    assert Toolbox(tmp_path / "none").applets == frozenset()
    with pytest.raises(ToolboxError, match="make toolbox"):
        Toolbox(tmp_path / "none").module()
    assert Toolbox(installed, enabled=False).applets == frozenset()
    with pytest.raises(ToolboxError, match="turned off"):
        Toolbox(installed, enabled=False).module()


def test_what_was_built_is_described_by_itself(guest):
    listed = guest.run("toolbox", "--list").text.split()
    assert Toolbox(PACKAGE).applets == set(listed)
    assert Toolbox(PACKAGE).module().path == PACKAGE / MODULE


def test_a_shell_that_is_not_as_expected_is_not_edited(tmp_path):
    file = tmp_path / "stdin_os.go"
    file.write_text("//go:build !js && !plan9\n")
    with pytest.raises(DevError, match="not as expected"):
        building.edit(file, "//go:build !js\n", "//go:build !js && !wasip1\n")
