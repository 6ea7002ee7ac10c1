"""`perdure env`: environments of the env file, an older way to keep flags. Profiles (`perdure config`) do it better."""

from __future__ import annotations

import os
from typing import Final

import click

from perdure.cli import flags as f
from perdure.cli.command import Flags, Group
from perdure.cli.env_file import path_and_name, read, write
from perdure.cli.errors import EXIT_NOT_FOUND, CommandError, WrongUsageError
from perdure.cli.session import Session

env = Group("env", "Keep flags under a name in the env file; `perdure config` is the newer way.")

_KEY: Final = f.text("--key", "-k", metavar="FLAG", help="Name of the flag.")
_OLD_NAME: Final = click.Argument(("name",), required=False, metavar="[NAME.FLAG]")
_OLD_VALUE: Final = click.Argument(("old_value",), required=False, metavar="[VALUE]")


def _where(session: Session, flags: Flags) -> tuple[str, str]:
    """Environment and flag that are meant."""
    given = session.settings.given
    if flags.get("name"):
        session.out.warn("arguments are an older form; use --env and --key")
        if "env" in given or flags.key:
            raise WrongUsageError("the environment is given twice; use --env and --key only")
        name, _, key = flags.name.partition(".")
    else:
        name, key = path_and_name(_words(session), os.environ)[1], flags.get("key") or ""
    if "." in key:
        raise WrongUsageError(f"{key!r} is no name of a flag: it has a dot")
    return name, key


def _words(session: Session) -> list[str]:
    given = session.settings.given
    return [
        word
        for name in ("env", "env_file")
        if name in given
        for word in (f"--{name.replace('_', '-')}", given[name])
    ]


@env.add("list", example="perdure env list", ignores_missing_env=True)
def list_environments(session: Session, flags: Flags) -> None:
    """List the environments of the env file."""
    rows = [{"name": name} for name in read(path_and_name(_words(session), os.environ)[0])]
    if session.out.is_json:
        session.out.json(rows)
    session.out.table(rows, ["name"])


@env.add("get", _OLD_NAME, _KEY, example="perdure env get --env prod --key address")
def get(session: Session, flags: Flags) -> None:
    """Show the flags of an environment, or one of them."""
    name, key = _where(session, flags)
    known = read(path_and_name(_words(session), os.environ)[0]).get(name, {})
    shown = {key: known.get(key, "")} if key else known
    rows = [{"property": each, "value": value} for each, value in sorted(shown.items())]
    if session.out.is_json:
        session.out.json(rows)
    session.out.table(rows, ["property", "value"])


@env.add(
    "set", _OLD_NAME, _OLD_VALUE, _KEY,
    f.text("--value", "-v", metavar="TEXT", help="Value of the flag."),
    example="perdure env set --env prod --key address --value prod.example.org:7233", ignores_missing_env=True,
)  # fmt: skip
def set_value(session: Session, flags: Flags) -> None:
    """Keep a flag in an environment."""
    name, key = _where(session, flags)
    if not key:
        raise WrongUsageError("--key is needed")
    if flags.name and flags.old_value is None:
        raise WrongUsageError("a value is needed")
    path = path_and_name(_words(session), os.environ)[0]
    environments = read(path)
    environments.setdefault(name, {})[key] = flags.old_value if flags.name else flags.value or ""
    write(path, environments)


@env.add("delete", _OLD_NAME, _KEY, example="perdure env delete --env prod --key address")
def delete(session: Session, flags: Flags) -> None:
    """Remove a flag from an environment, or the environment."""
    name, key = _where(session, flags)
    path = path_and_name(_words(session), os.environ)[0]
    environments = read(path)
    if name not in environments:
        raise CommandError(f"there is no environment {name!r}", EXIT_NOT_FOUND)
    if key:
        environments[name].pop(key, None)
    else:
        del environments[name]
    write(path, environments)
