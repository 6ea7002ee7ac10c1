"""What all commands are made of: groups that import their commands when needed, flags at every level, one way to run.

A command is a function of a `Session` (connection, output) and its flags. How flags, configuration and environment
come together is in `settings`; what the function's errors become is in `errors`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from perdure.cli import errors
from perdure.cli.flags import COMMON, CONNECTION, FlagGroup

if TYPE_CHECKING:
    from perdure.cli.session import Session

CONTEXT_SETTINGS: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
GIVEN_KEY: Final = "perdure.cli.given"
ENV_KEY: Final = "perdure.cli.env"
_BOOLEANS: Final = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
_SHORT_WITH_VALUE: Final = re.compile(r"-[A-Za-z]=")

Body = Callable[["Session", "Flags"], Awaitable[Any] | Any]


class Flags:
    """The flags of one command by name, such as `flags.workflow_id`."""

    def __init__(self, values: Mapping[str, Any], given: frozenset[str] = frozenset()) -> None:
        self._values = values
        self._given = given

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None

    def get(self, name: str, default: Any = None) -> Any:
        """A flag's value if the command has it."""
        return self._values.get(name, default)

    def is_given(self, name: str) -> bool:
        """Whether somebody gave the flag, be it with its default value."""
        return name in self._given

    def under(self, prefix: str) -> Flags:
        """The flags that begin with a prefix, without it."""
        return Flags(
            {
                name.removeprefix(prefix): value
                for name, value in self._values.items()
                if name.startswith(prefix)
            }
        )


def _kept(option: click.Option) -> click.Option:
    """A flag that may stand at any level of a command line: the one nearest to the command counts."""
    kept = copy(option)
    kept.expose_value = False
    kept.hidden = True
    kept.is_eager = True
    kept.callback = _keep
    return kept


def _keep(ctx: click.Context, parameter: click.Parameter, value: object) -> object:
    name = parameter.name or ""
    if value is None or value == ():
        return value
    given = ctx.meta.setdefault(GIVEN_KEY, {})
    is_default = ctx.get_parameter_source(name) is click.core.ParameterSource.DEFAULT_MAP
    if not (is_default and name in given):
        given[name] = value
    return value


KEPT: Final = tuple(_kept(option) for option in (*COMMON, *CONNECTION))
KEPT_COMMON: Final = KEPT[: len(COMMON)]


def _booleans_read(params: Sequence[click.Parameter], args: Sequence[str]) -> Iterator[str]:
    """Spellings of other parsers: `--flag=true`, `--flag=false`, `-o=json`."""
    flags = {name: param for param in params for name in param.opts if isinstance(param, click.Option)}
    words = iter(args)
    for word in words:
        if word == "--":
            yield word
            yield from words
            return
        name, separator, value = word.partition("=")
        option = flags.get(name)
        if separator and isinstance(option, click.Option) and option.is_flag and value.lower() in _BOOLEANS:
            if _BOOLEANS[value.lower()]:
                yield name
            elif option.secondary_opts:
                yield option.secondary_opts[0]
        elif _SHORT_WITH_VALUE.match(word) and option is not None:
            yield name
            yield value
        else:
            yield word


class Level(click.Command):
    """What commands and groups have in common: flags of every level, defaults of the env file, examples."""

    example: str = ""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads flags in more spellings, with the env file's as defaults."""
        values = ctx.find_root().meta.get(ENV_KEY)
        if values:
            ctx.default_map = {
                param.name: [values[param.name]] if param.multiple else values[param.name]
                for param in self.params
                if isinstance(param, click.Option) and param.name in values
            }
        try:
            return super().parse_args(ctx, list(_booleans_read(self.params, args)))
        except click.NoSuchOption as error:
            # click leaves it to whoever catches it; the suggestion needs the command's flags.
            error.ctx = ctx
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, and where the other flags are."""
        if self.example:
            with formatter.section("Examples"):
                formatter.write_text("\b\n" + self.example.strip())
        formatter.write_paragraph()
        formatter.write_text("Flags of every command: perdure options")


class Command(Level):
    """One command.

    Args:
        name: as typed.
        body: what it does; coroutine or plain function of session and flags. Its docstring is the help.
        params: its own flags and arguments.
        example: lines as typed, without a prompt.
        kept: flags that it takes at its level besides its own.
        ignores_missing_env: it works although the environment named by --env does not exist.
    """

    def __init__(
        self,
        name: str,
        body: Body,
        params: Sequence[click.Parameter],
        example: str,
        *,
        kept: FlagGroup = KEPT,
        ignores_missing_env: bool = False,
    ) -> None:
        own = {opt for param in params for opt in (param.opts if isinstance(param, click.Option) else ())}
        others = [option for option in kept if not own & set(option.opts)]
        about = body.__doc__ or ""
        super().__init__(
            name,
            params=[*params, *others],
            help=about,
            short_help=short_of(about),
            context_settings=CONTEXT_SETTINGS,
        )
        self.example = example
        self.body = body
        self.ignores_missing_env = ignores_missing_env

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the body; its errors become one line and an exit code."""
        from perdure.cli.session import run

        given = frozenset(name for name in ctx.params if _is_given(ctx, name))
        return run(ctx, self, Flags(ctx.params, given))


def _is_given(ctx: click.Context, name: str) -> bool:
    source = click.core.ParameterSource
    return ctx.get_parameter_source(name) not in (None, source.DEFAULT, source.DEFAULT_MAP)


class Group(Level, click.Group):
    """A group of commands, some of them in modules that are imported when they are called.

    Args:
        name: as typed.
        help: what its commands are about.
        lazy: name to (`module:object`, help in one line) of commands that live elsewhere.
        params: flags of its own.
        parts: groups whose commands are this one's, too.
    """

    def __init__(
        self,
        name: str,
        help: str,
        *,
        lazy: Mapping[str, tuple[str, str]] | None = None,
        params: Sequence[click.Parameter] = (),
        parts: Iterable[Group] = (),
        **more: Any,
    ) -> None:
        own = {opt for param in params for opt in param.opts}
        super().__init__(
            name,
            params=[*params, *(option for option in KEPT if not own & set(option.opts))],
            help=help,
            short_help=short_of(help),
            context_settings=CONTEXT_SETTINGS,
            subcommand_metavar="COMMAND ...",
            **more,
        )
        self.lazy = dict(lazy or {})
        for part in parts:
            self.commands.update(part.commands)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted({*self.commands, *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, imported if it is not yet."""
        if cmd_name in self.lazy and cmd_name not in self.commands:
            module, _, name = self.lazy[cmd_name][0].partition(":")
            self.commands[cmd_name] = getattr(import_module(module), name)
        return self.commands.get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, with a suggestion in its error."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            known = nearest_command(args[0], self, ctx)
            raise click.UsageError(f"there is no command {ctx.command_path} {args[0]}{known}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands; nothing is imported for it."""
        rows = [(name, self._short(name)) for name in self.list_commands(ctx) if not self._is_hidden(name)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _short(self, name: str) -> str:
        return self.lazy[name][1] if name in self.lazy else self.commands[name].get_short_help_str(100)

    def _is_hidden(self, name: str) -> bool:
        return name not in self.lazy and self.commands[name].hidden

    def add(
        self, name: str, *groups: click.Parameter | FlagGroup, example: str, **more: Any
    ) -> Callable[[Body], Body]:
        """Decorator: makes a command of this group out of a function.

        Args:
            name: as typed.
            groups: flags, and groups of flags.
            example: lines as typed.
        """
        params = [param for group in groups for param in (group if isinstance(group, tuple) else (group,))]

        def adding(body: Body) -> Body:
            self.add_command(Command(name, body, params, example, **more))
            return body

        return adding

    def group_of(self, name: str, help: str) -> Group:
        """A group inside this one."""
        inner = Group(name, help)
        self.add_command(inner)
        return inner


def nearest_command(word: str, group: Group, ctx: click.Context) -> str:
    """A suggestion for a word that is no command of a group."""
    return errors.nearest(word, group.list_commands(ctx))


def short_of(help: str) -> str:
    """The first sentence of a help text."""
    first = help.strip().partition("\n\n")[0]
    return " ".join(first.split()).removesuffix(".")


def given(ctx: click.Context) -> dict[str, Any]:
    """The flags of every level that somebody gave."""
    found: dict[str, Any] = ctx.meta.get(GIVEN_KEY, {})
    return found


def is_colourful(choice: str | None, stream: Any) -> bool:
    """Whether output to a stream is coloured."""
    if choice in ("always", "never"):
        return choice == "always"
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


_CONTROL: Final = {
    number: f"\\x{number:02x}" for number in (*range(0x20), *range(0x7F, 0xA0)) if chr(number) not in "\n\t"
}


def printable(text: str) -> str:
    """A text with control characters written out: others choose ids and messages, and a terminal would obey."""
    return text.translate(_CONTROL)


def fail(line: str, code: int) -> int:
    """Says on stderr in one line why a command ends, and returns its exit code."""
    prefix = "\x1b[31mError:\x1b[0m" if is_colourful(None, sys.stderr) else "Error:"
    click.echo(f"{prefix} {printable(line)}", err=True, color=True)
    return code
