"""The reference page of the command line, made from the commands themselves.

python -m tests.quality.cli_page      # writes docs/cli.md
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from perdure.cli.command import Group, Level
from perdure.cli.errors import EXIT_CODES
from perdure.cli.flags import COMMON, CONNECTION
from perdure.cli.root import root

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
_INTRODUCTION = """# Command line

Made from the commands by `python -m tests.quality.cli_page`; `perdure COMMAND --help` shows the same.

`perdure` takes the verbs and flags of the `temporal` command, the same variables and the same files, and works with
servers of Perdure and of Temporal (`--address host:7233`) and on a database file without any server
(`--address sqlite:///orders.db`). Data goes to stdout in the form that `--output` names; everything else goes to
stderr. `--output json` is the protocol's JSON, with payloads as values unless `--no-json-shorthand-payloads` says
otherwise; `jsonl` is the same with an item per line.

What wins, first to last: a flag, the environment of the env file (`--env`), a variable, the profile of the
configuration file, a default.
"""


def commands(
    group: click.Command = root, path: tuple[str, ...] = ("perdure",)
) -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name, groups before what is in them."""
    yield " ".join(path), group
    if isinstance(group, Group):
        with click.Context(group) as ctx:
            for name in group.list_commands(ctx):
                inner = group.get_command(ctx, name)
                assert inner is not None
                yield from commands(inner, (*path, name))


def example_of(command: click.Command) -> str:
    """The example lines of a command, empty without any."""
    if isinstance(command, Level) and command.example:
        return command.example
    _, _, rest = (command.help or "").partition("Example: ")
    return rest.strip()


def own_flags(command: click.Command) -> list[click.Option]:
    """The flags of a command that are not those of every command."""
    return [
        param
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden and param.name != "help"
    ]


def _flag_rows(options: list[click.Option]) -> str:
    rows = []
    for option in options:
        with click.Context(click.Command("x")) as ctx:
            record = option.get_help_record(ctx)
        if record is not None:
            flag, text = (" ".join(part.replace("|", ", ").split()) for part in record)
            rows.append(f"| `{flag}` | {text} |\n")
    return "| flag | |\n|---|---|\n" + "".join(rows) + "\n" if rows else ""


def _section(name: str, command: click.Command) -> str:
    text = f"{'##' if name.count(' ') == 1 else '###'} {name}\n\n{_help(command)}\n\n"
    example = example_of(command)
    if example:
        text += "".join(f"    {line.split('   #')[0]}\n" for line in example.splitlines()) + "\n"
    return text + _flag_rows(own_flags(command))


def _help(command: click.Command) -> str:
    text = (command.help or "").partition("Example: ")[0].replace("\b", "").strip()
    return "\n".join(line.strip() for line in text.splitlines())


def page() -> str:
    """The page's text."""
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    text = _INTRODUCTION + f"\n## Exit codes\n\n| code | |\n|---|---|\n{codes}\n"
    text += "## Flags of every command\n\n" + _flag_rows(list(COMMON))
    text += "## Flags of the connection\n\n" + _flag_rows(list(CONNECTION))
    text += "".join(_section(name, command) for name, command in commands() if command is not root)
    return text.rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
