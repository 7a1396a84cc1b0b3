"""The commands that there are, those that are imported late included."""

from click.testing import CliRunner

from vkubelet.cli import main


def test_every_command_is_listed_and_found() -> None:
    listed = CliRunner().invoke(main, ["--help"])
    assert listed.exit_code == 0
    for command in ("dev", "doctor", "run", "version"):
        assert f"\n  {command} " in listed.output
        assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0


def test_an_unknown_command_is_refused() -> None:
    refused = CliRunner().invoke(main, ["nothing"])
    assert refused.exit_code == 2
    assert "No such command" in refused.output
