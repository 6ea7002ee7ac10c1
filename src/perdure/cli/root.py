"""The `perdure` command itself: its groups, what every command line goes through, and how errors end the process."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

import click

from perdure.cli.command import CONTEXT_SETTINGS, ENV_KEY, GIVEN_KEY, KEPT, KEPT_COMMON, Group, fail, given
from perdure.cli.env_file import DEFAULT_ENVIRONMENT, path_and_name, read
from perdure.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, one_line
from perdure.core.errors import PerdureError

_COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "activity": (
        "perdure.cli.activity:activity",
        "Start activities without a workflow, and act on all kinds of activities",
    ),
    "batch": ("perdure.cli.batch:batch", "See what batch operations do, and stop them"),
    "completion": (
        "perdure.cli.completion:completion",
        "Print a script that lets a shell complete commands, flags and workflow ids",
    ),
    "config": (
        "perdure.cli.config:config",
        "Keep addresses, namespaces and credentials in profiles of the configuration file",
    ),
    "debug": ("perdure.cli.debug:debug", "Replay a workflow here, event by event, under pdb with your code"),
    "doctor": (
        "perdure.cli.doctor:doctor",
        "Look for what is wrong: versions, configuration, connection, clock, disk",
    ),
    "env": (
        "perdure.cli.env:env",
        "Keep flags under a name in the env file; `perdure config` is the newer way",
    ),
    "history": ("perdure.cli.history:history", "Keep histories in files, replay them, compare them"),
    "lint": ("perdure.cli.lint:lint", "Find the usual mistakes in workflow code"),
    "nexus": ("perdure.cli.nexus:nexus", "Call Nexus operations without a workflow"),
    "operator": (
        "perdure.cli.operator:operator",
        "Set up and look after a server: namespaces, search attributes, Nexus endpoints",
    ),
    "options": ("perdure.cli.options:options", "Show the flags that every command takes"),
    "schedule": ("perdure.cli.schedule:schedule", "Start workflows at times and intervals"),
    "server": ("perdure.cli.server:server", "Run a server"),
    "task-queue": (
        "perdure.cli.task_queue:task_queue",
        "See who polls task queues and what waits in them, and limit them",
    ),
    "ui": ("perdure.cli.ui:ui", "Serve the web UI for any server"),
    "worker": (
        "perdure.cli.worker:worker",
        "Run workers, see those that are there, and say which deployment gets tasks",
    ),
    "workflow": ("perdure.cli.workflow:workflow", "Start workflows and do everything else with them"),
}
"""Name of a command to where it is and its help in one line, so that `perdure --help` imports none of them."""

Function = Callable[..., Any]
_COMPLETING: Final = "_PERDURE_COMPLETE"
_SHOWN: Final = 100
"""Most characters that a message shows of what is wrong."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


def global_options(function: Function) -> Function:
    """Adds the flags that every command takes to a function that click makes a command of."""
    for option in reversed(KEPT_COMMON):
        click.decorators._param_memo(function, option)
    return function


def global_flag(ctx: click.Context, name: str, default: str) -> str:
    """The value of a flag of every command (name with underscores)."""
    value: str = given(ctx).get(name, default)
    return value


def _show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from perdure import __version__
        from perdure.server.config import COMPATIBLE_VERSION

        click.echo(f"perdure version {__version__} (compatible with Temporal server {COMPATIBLE_VERSION})")
        ctx.exit()


class _ReaderGoneError(Exception):
    """Whoever read the output has seen enough. Of a `BrokenPipeError` click would make a failure."""


@contextmanager
def _reader_may_go() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGoneError from error


class Root(Group):
    """The outermost group: it reads the env file before anything is parsed."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Parses; help is written while that goes on."""
        with _reader_may_go():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        with _reader_may_go():
            return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Looks at `--env` and `--env-file` wherever they stand."""
        path, name = path_and_name(args, os.environ)
        environments = read(path)
        ctx.meta[ENV_KEY] = {
            key.replace("-", "_"): value for key, value in environments.get(name, {}).items()
        }
        if name != DEFAULT_ENVIRONMENT and name not in environments:
            from perdure.cli.session import MISSING_ENV_KEY

            ctx.meta[MISSING_ENV_KEY] = name
        return super().parse_args(ctx, args)


_VERSION: Final = click.Option(
    ("--version", "-v"), is_flag=True, expose_value=False, is_eager=True, callback=_show_version,
    help="Show the version and exit.",
)  # fmt: skip

root: Final = Root(
    "perdure",
    "Durable execution for Python: a server, and everything that is done with workflows from outside.\n\n"
    "Works with servers of Perdure and Temporal (--address HOST:PORT), and on a database file without any server "
    "(--address sqlite:///FILE).",
    lazy=_COMMANDS,
    params=[_VERSION],
    no_args_is_help=True,
)


def run(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line and ends the process with one of `errors.EXIT_CODES`."""
    # grpc would log its own account of errors that are reported in one line here.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if _COMPLETING in os.environ:
        import_module("perdure.cli.completion")  # with it comes our way of completing in bash
    _open_streams()
    sys.exit(exit_code_of(list(sys.argv[1:] if arguments is None else arguments)))


def _open_streams() -> None:
    """Makes the standard streams ones that can be used, whatever the process was started with.

    One that was closed leads nowhere: its number must not become that of a database or a connection. Characters that
    the encoding of the terminal does not have are written out.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # until the process ends
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def exit_code_of(arguments: list[str]) -> int:
    """Runs a command line inside this process; its exit code."""
    try:
        code = root.main(args=arguments, prog_name="perdure", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return fail(one_line(error), error.exit_code)
    except PerdureError as error:
        return fail(str(error), EXIT_FAILED)
    except (KeyboardInterrupt, click.Abort):
        return fail("interrupted", EXIT_INTERRUPTED)
    except (_ReaderGoneError, BrokenPipeError):
        return _stop_writing(0)
    except UnicodeEncodeError as error:
        # A word of the command line in bytes of another encoding, or half a character written as an escape in JSON.
        return fail(f"not text that can be sent: {ascii(error.object)[:_SHOWN]}", EXIT_USAGE)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        return _stop_writing(fail(f"the output cannot be written: {error.strerror}", EXIT_FAILED))
    return code if isinstance(code, int) and not isinstance(code, bool) else 0


def _stop_writing(code: int) -> int:
    """Lets go of stdout, so that the interpreter does not find out once more when it ends; returns the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


__all__ = ["CONTEXT_SETTINGS", "GIVEN_KEY", "KEPT", "global_flag", "global_options", "root", "run"]
