"""The command group: help and version."""

from pathlib import Path

import click
from click.testing import CliRunner
from command_line import attnstore

from attnstore.commands import group

ROOT = Path(__file__).parents[2]


def test_every_command_has_a_help_text():
    """--help of the group and of each command, from the real entry point."""
    for name, command in group.attnstore.commands.items():
        result = CliRunner().invoke(group.attnstore, [name, "--help"])
        assert result.exit_code == 0
        assert (command.help or "").strip()
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name not in ("device", "form", "engine"):
                assert parameter.help, f"{name} {parameter.name}"


def test_the_version_is_printed_without_loading_anything():
    """`attnstore --version` prints the package's version."""
    from attnstore import __version__

    assert attnstore("--version") == (0, f"attnstore, version {__version__}\n", "")
