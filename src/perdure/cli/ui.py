"""`perdure ui`: the web UI for any Perdure or Temporal server, in a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Final

import click

from perdure.cli.command import Command, Flags

if TYPE_CHECKING:
    from perdure.cli.session import Session

DEFAULT_PORT: Final = 8233
_STOP_GRACE_S: Final = 1.0
_FLAGS: Final = (
    click.Option(
        ("--port", "-p"), type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True,
        help="Port of the UI; 0: any.",
    ),
    click.Option(
        ("--ip",), default="127.0.0.1", show_default=True, metavar="IP", help="Address the UI listens on."
    ),
    click.Option(
        ("--allow-host",), multiple=True, metavar="NAME",
        help="Another name that browsers reach the UI by. Repeatable.",
    ),
    click.Option(("--public-path",), metavar="PATH", default="", help="Base path of the UI behind a proxy."),
)  # fmt: skip


async def _serve(session: Session, flags: Flags) -> None:
    """Serve the web UI for any server.

    Runs until it is interrupted. The flags of the connection say which server; --codec-endpoint decodes payloads for
    every user of the UI.
    """
    # Imported where it is needed: templates and an HTTP server are much for a command line.
    from perdure.cli.errors import CommandError
    from perdure.cli.ui_door import UiDoor, UiPlace, is_loopback
    from perdure.core.errors import PerdureError

    connection = session.connection
    connect = connection.config
    place = UiPlace(
        flags.ip,
        flags.port,
        flags.allow_host,
        connection.codec.endpoint if connection.codec is not None else "",
        flags.public_path,
        connection.namespace,
    )
    door = UiDoor(place, connect, connect.target_host)
    try:
        await door.start()
    except PerdureError as error:
        raise CommandError(str(error)) from error
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    if connect.api_key and not is_loopback(flags.ip):
        click.echo("Note: whoever reaches this UI acts with the API key it was given", err=True)
    click.echo(f"UI of {connect.target_host}: {door.url}")
    sys.stdout.flush()
    await stopping.wait()
    await door.stop(_STOP_GRACE_S)


ui: Final = Command(
    "ui",
    _serve,
    _FLAGS,
    "perdure ui --address orders.example.com:7233\nperdure ui --address sqlite:///orders.db --port 8080",
)
