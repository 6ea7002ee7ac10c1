"""Rules about the command line itself: help, examples, the reference page, how fast it starts."""

from __future__ import annotations

import shlex

import click
import pytest

from perdure.cli.command import Group
from perdure.cli.root import root
from tests.quality import cli_page

COMMANDS = dict(cli_page.commands())
LEAVES = {name: command for name, command in COMMANDS.items() if not isinstance(command, Group)}


def test_the_reference_page_is_up_to_date() -> None:
    """Made by `python -m tests.quality.cli_page`."""
    assert cli_page.PAGE.read_text() == cli_page.page()


def test_there_are_commands() -> None:
    """The walk over the commands finds them, so that the tests below mean something."""
    assert len(LEAVES) > 25


def test_every_command_and_flag_has_help() -> None:
    """Nothing a user can type is without a word about it."""
    without = [name for name, command in COMMANDS.items() if not (command.help or "").strip()]
    without += [
        f"{name} {option.name}"
        for name, command in COMMANDS.items()
        for option in cli_page.own_flags(command)
        if not option.help
    ]
    assert not without


def test_every_command_has_an_example_that_it_understands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example is a command line that click accepts, up to the point where the command would run."""
    monkeypatch.chdir(cli_page.PAGE.parents[1])
    for name, command in LEAVES.items():
        examples = [line for line in cli_page.example_of(command).splitlines() if line.strip()]
        assert examples, name
        for example in examples:
            if example.startswith("eval "):
                continue
            words = shlex.split(example.partition(" > ")[0], comments=True)
            assert words[0] == "perdure"
            _parse(root, words[1:])


def test_what_is_listed_or_described_can_be_watched() -> None:
    """All but files of this machine, and what only computes."""
    still = {"perdure config list", "perdure env list", "perdure schedule list-matching-times"}
    without = {
        name
        for name, command in LEAVES.items()
        if name.split()[-1].startswith(("list", "describe"))
        and "watch" not in {param.name for param in command.params}
    }
    assert without == still


def understand(words: list[str]) -> None:
    """Has the command line take the words of a command, up to the point where it would run; raises if it does not."""
    _parse(root, words)


def _parse(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    ctx = command.make_context(command.name or "perdure", words, parent=parent)
    rest = [*ctx._protected_args, *ctx.args]
    if isinstance(command, Group) and rest:
        inner = command.get_command(ctx, rest[0])
        assert inner is not None, rest[0]
        _parse(inner, rest[1:], ctx)


def test_short_helps_in_the_table_are_those_of_the_commands() -> None:
    """`perdure --help` shows texts of a table, so that it imports nothing; they are the commands' own."""
    for name, (_, text) in root.lazy.items():
        command = COMMANDS[f"perdure {name}"]
        shown = command.get_short_help_str(200).removesuffix(".")
        assert shown.startswith(text), name
