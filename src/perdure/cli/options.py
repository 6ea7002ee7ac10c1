"""`perdure options`: the flags that every command takes, and those of the connection."""

from __future__ import annotations

import click

from perdure.cli.command import Command, Flags
from perdure.cli.flags import COMMON, CONNECTION
from perdure.cli.session import Session


def _show(session: Session, flags: Flags) -> None:
    """Show the flags that every command takes, and the variables that say the same."""
    formatter = session.ctx.make_formatter()
    for heading, group in (("Flags of every command", COMMON), ("Flags of the connection", CONNECTION)):
        records = [record for option in group if (record := option.get_help_record(session.ctx))]
        with formatter.section(heading):
            formatter.write_dl(records)
    click.echo(formatter.getvalue().rstrip())


options = Command("options", _show, (), "perdure options")
