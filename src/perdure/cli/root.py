"""The `perdure` command itself: its groups, the flags every command takes, and how errors end the process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import click

from perdure.core.errors import PerdureError

_COMMANDS: Final[Mapping[str, str]] = {
    "lint": "perdure.cli.lint:lint",
    "server": "perdure.cli.server:server",
}
"""Name of a command to module:object, imported when the command is called or its help is shown."""

LOG_LEVELS: Final = ("debug", "info", "warn", "error", "fatal", "never")
LOG_FORMATS: Final = ("text", "json", "pretty")
CONTEXT_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_FLAGS_KEY: Final = "perdure.cli.flags"

Function = Callable[..., Any]


class LazyGroup(click.Group):
    """A group whose commands are imported when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command."""
        target = _COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, name = target.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


def _keep(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    """Keeps a flag where every command finds it; the one nearest to the command wins."""
    if value is not None and value != () and parameter.name is not None:
        ctx.meta.setdefault(_FLAGS_KEY, {})[parameter.name] = value


def _global(*names: str, **settings: Any) -> Callable[[Function], Function]:
    return click.option(*names, expose_value=False, callback=_keep, is_eager=True, default=None, **settings)


_GLOBAL_OPTIONS: Final = (
    _global("--log-level", type=click.Choice(LOG_LEVELS), help="Log level. Default: warn for servers."),
    _global("--log-format", type=click.Choice(LOG_FORMATS), help="Log format. Default: text."),
    _global("--color", type=click.Choice(("always", "never", "auto")), help="Output coloring."),
    _global("--output", "-o", type=click.Choice(("text", "json", "jsonl", "none")), help="Output format."),
    _global("--time-format", type=click.Choice(("relative", "iso", "raw")), help="Time format."),
    _global("--env", metavar="ENV", envvar="TEMPORAL_ENV", help="Active environment name."),
    _global("--env-file", metavar="PATH", envvar="TEMPORAL_ENV_FILE", help="Path to the environment file."),
    _global("--config-file", metavar="PATH", envvar="TEMPORAL_CONFIG_FILE", help="Configuration file."),
    _global("--profile", metavar="NAME", envvar="TEMPORAL_PROFILE", help="Configuration profile."),
    _global("--disable-config-file", is_flag=True, flag_value=True, help="Ignore the configuration file."),
    _global("--disable-config-env", is_flag=True, flag_value=True, help="Ignore TEMPORAL_* variables."),
    _global("--command-timeout", metavar="DURATION", help="Command execution timeout (client commands)."),
    _global("--client-connect-timeout", metavar="DURATION", help="Connection timeout (client commands)."),
    _global(
        "--no-json-shorthand-payloads", is_flag=True, flag_value=True, help="Raw payloads in JSON output."
    ),
)


def global_options(function: Function) -> Function:
    """Adds the flags that every command takes, before or after its name; read them with `global_flag`."""
    for option in reversed(_GLOBAL_OPTIONS):
        function = option(function)
    return function


def global_flag(ctx: click.Context, name: str, default: str) -> str:
    """The value of a flag of `global_options` (name with underscores)."""
    value: str = ctx.meta.get(_FLAGS_KEY, {}).get(name, default)
    return value


def _show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from perdure import __version__
        from perdure.server.config import COMPATIBLE_VERSION

        click.echo(f"perdure version {__version__} (compatible with Temporal server {COMPATIBLE_VERSION})")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings=CONTEXT_SETTINGS)
@click.option(
    "--version", "-v", is_flag=True, expose_value=False, is_eager=True, callback=_show_version,
    help="Show the version and exit.",
)  # fmt: skip
@global_options
def root() -> None:
    """Durable execution for Python: a server that speaks Temporal's protocol."""


def run(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line and ends the process: 0, 1 for an error said in one line, 2 for wrong usage."""
    # grpc would log its own account of errors that are reported in one line here.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        root.main(args=arguments, prog_name="perdure", standalone_mode=True)
    except PerdureError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
