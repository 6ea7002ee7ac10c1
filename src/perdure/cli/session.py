"""One call of a command: its connection and output, the limit of its time, and what its errors become.

A command sends requests of the protocol through `Session.call`, which fills in namespace and identity and takes
payloads through the codec. No command lives here.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import threading
import warnings
from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click
from google.protobuf.message import Message

from perdure.cli.command import ENV_KEY, Command, Flags, given
from perdure.cli.errors import (
    EXIT_FAILED,
    EXIT_NOT_CONNECTED,
    EXIT_NOT_FOUND,
    EXIT_TIMED_OUT,
    CommandError,
    WrongUsageError,
)
from perdure.cli.output import Output
from perdure.cli.settings import Connection, Settings, of_process

_CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"
_OPERATOR: Final = "temporal.api.operatorservice."
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CODES: Final = {
    "NOT_FOUND": EXIT_NOT_FOUND,
    "DEADLINE_EXCEEDED": EXIT_TIMED_OUT,
    "UNAVAILABLE": EXIT_NOT_CONNECTED,
    "UNAUTHENTICATED": EXIT_NOT_CONNECTED,
}
_NOT_FOUND: Final = re.compile("(workflow|schedule) not found", re.IGNORECASE)
_LISTED: Final = (
    ("schedule_id", "schedule", "schedule list"),
    ("job_id", "batch", "batch list"),
    ("workflow_id", "workflow", "workflow list"),
)
"""Flag that names something, what it names, and the command that lists such things."""
_TIMED_OUT: Final = {"Deadline Exceeded": "no answer came in time"}
"""Messages of gRPC itself, in words."""
_STRANGER: Final = "does not say what it is either, so it is no Perdure or Temporal server, or a very old one"
"""Of what answers neither a command's call nor the one by which servers introduce themselves."""
MISSING_ENV_KEY: Final = "perdure.cli.missing_env"


class Session:
    """What a command works with.

    Args:
        settings: what it was told besides its own flags.
        ctx: click's context of the call.
    """

    def __init__(self, settings: Settings, ctx: click.Context) -> None:
        self.settings = settings
        self.out = Output(settings)
        self.ctx = ctx
        self._connection: Connection | None = None
        self._service: Any = None
        self._connecting = asyncio.Lock()

    @property
    def connection(self) -> Connection:
        """Where the command connects to; read from flags and files the first time."""
        if self._connection is None:
            self._connection = self.settings.connection()
        return self._connection

    @property
    def namespace(self) -> str:
        """The namespace of all calls."""
        return self.connection.namespace

    @property
    def identity(self) -> str:
        """Who the server is told that asks."""
        return self.settings.identity

    async def service(self) -> Any:
        """The connection to the server, made with the first call.

        Raises:
            CommandError: there is no server.
        """
        async with self._connecting:  # calls at the same time share a connection
            if self._service is None:
                self._service = await self._connected()
            return self._service

    async def _connected(self) -> Any:
        from perdure.service import ClientConnectError, ServiceClient

        new = _missing_database(self.connection.config.target_host)
        try:
            with warnings.catch_warnings(record=True) as noted:
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", UserWarning)
                connected = await ServiceClient.connect(self.connection.config)
        except ClientConnectError as error:
            raise CommandError(_one_line(str(error)), EXIT_NOT_CONNECTED) from error
        except ValueError as error:
            raise WrongUsageError(_one_line(str(error))) from error
        for each in noted:
            self.out.warn(_one_line(str(each.message)))
        if new is not None:
            self.out.warn(f"there was no database {new}: a new, empty one was made")
        return connected

    async def is_with_a_stranger(self) -> bool:
        """Whether what answers did not introduce itself, as every server does."""
        return (await self.service()).system_info is None

    async def client(self, **more: Any) -> Any:
        """A `perdure.client.Client` on the same connection."""
        from perdure.client import Client

        return Client(await self.service(), namespace=self.namespace, **more)

    async def call(self, request: Message, *, timeout_s: float | None = None) -> Any:
        """Sends a request and returns the answer.

        Args:
            request: `namespace` and `identity` are filled in where it has them and they are empty.
            timeout_s: limit of each try, seconds.

        Raises:
            RPCError: the server refused.
        """
        descriptor: Any = request.DESCRIPTOR
        fields = descriptor.fields_by_name
        for name, value in (("namespace", self.namespace), ("identity", self.identity)):
            if name in fields and not getattr(request, name) and not _has_namespace_id(request, name):
                setattr(request, name, value)
        service = await self.service()
        methods = (
            service.operator_service
            if descriptor.full_name.startswith(_OPERATOR)
            else service.workflow_service
        )
        method = getattr(methods, _WORD.sub("_", descriptor.name.removesuffix("Request")).lower())
        codec = self.connection.codec
        if codec is not None:
            from perdure.cli.codec import encode

            await encode(codec, request)
        limit = timedelta(seconds=timeout_s) if timeout_s else None
        response = await method(request, retry=True, timeout=limit)
        if codec is not None:
            from perdure.cli.codec import decode

            await decode(codec, response)
        return response

    def confirm(self, question: str, is_confirmed: bool, *, expected: str | None = None) -> None:
        """Asks before something that cannot be taken back.

        Args:
            question: what is asked.
            is_confirmed: somebody said --yes.
            expected: the answer that confirms; without it y or yes.

        Raises:
            CommandError: the answer is no, or nobody can be asked.
        """
        if is_confirmed:
            return
        if self.out.form != "text":
            raise WrongUsageError(f"--yes is needed with --output {self.out.form}: nobody can be asked")
        hint = f"type {expected} to confirm" if expected else "y/N"
        click.echo(f"{question} ({hint}) ", err=True, nl=False)
        answer = _answer().strip()
        if answer != expected if expected else answer.lower() not in ("y", "yes"):
            raise CommandError("not confirmed, nothing was done")

    async def close(self) -> None:
        """Closes the connection; an embedded engine that nobody else uses ends."""
        service, self._service = self._service, None
        if service is not None:
            await service.close()


def _missing_database(address: str) -> Path | None:
    """The file of an engine's address if it is not there yet: the name may be written wrong."""
    if not address.lower().startswith("sqlite:"):
        return None
    from perdure.server.addresses import AddressError, parse_address

    try:
        path = parse_address(address).path
        return None if path is None or path.exists() else path
    except (AddressError, OSError):
        return None  # connecting says what is wrong with it


def _answer() -> str:
    """A line that somebody types, where Ctrl-C ends the waiting at once; a running loop would only take note of it."""
    if threading.current_thread() is not threading.main_thread():
        return sys.stdin.readline()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, before)


def _has_namespace_id(request: Message, name: str) -> bool:
    """Whether a request names its namespace by id instead."""
    return (
        name == "namespace"
        and type(request).__name__ == "DescribeNamespaceRequest"
        and bool(getattr(request, "id", ""))
    )


def run(ctx: click.Context, command: Command, flags: Flags) -> Any:
    """Runs a command's body to its end.

    Raises:
        CommandError: it failed; the message is the line to show.
    """
    missing = ctx.find_root().meta.get(MISSING_ENV_KEY)
    if missing and not command.ignores_missing_env:
        raise CommandError(
            f"there is no environment {missing!r}; `perdure env list` shows them", EXIT_NOT_FOUND
        )
    settings = of_process(given(ctx))
    _set_up_logging(settings)
    session = Session(settings, ctx)
    return asyncio.run(_limited(session, command, flags))


def _set_up_logging(settings: Settings) -> None:
    from perdure.cli import logs

    level = settings.given.get("log_level", "never")
    logs.set_up(level, settings.given.get("log_format", "text"))


async def _limited(session: Session, command: Command, flags: Flags) -> Any:
    limit = session.settings.command_timeout_s
    try:
        async with asyncio.timeout(limit):
            return await _watched(session, command, flags)
    except TimeoutError:
        raise CommandError(f"the command timed out after {limit:g} s", EXIT_TIMED_OUT) from None
    finally:
        await session.close()


async def _watched(session: Session, command: Command, flags: Flags) -> Any:
    """Runs the body, again and again with --watch until it says that nothing will change any more."""
    if not flags.get("watch"):
        return await _translated(command.body(session, flags), session, flags)
    is_terminal = sys.stdout.isatty() and session.out.is_text
    while True:
        if is_terminal:
            print(_CLEAR, end="", flush=True)
        if await _translated(command.body(session, flags), session, flags) is True:
            return None
        await asyncio.sleep(flags.watch_interval.total_seconds())
        session.out = Output(session.settings)


def _missing(message: str, flags: Flags, namespace: str) -> str | None:
    """What is not there, in the user's words, and how to see what is; None if the message is about something else.

    Servers keep schedules and batches in workflows of their own, and may speak of those.
    """
    if not _NOT_FOUND.match(message):
        return None
    for flag, what, listing in _LISTED:
        if flags.get(flag):
            where = f"{flags.get(flag)!r} in namespace {namespace}"
            return f"there is no {what} {where}; `perdure {listing}` shows those that are there"
    return None


async def _translated(result: Any, session: Session, flags: Flags) -> Any:
    """The body's result; what a server or connection ends in becomes a line and an exit code."""
    from perdure.service import ClientConnectError, RPCError, RPCStatusCode

    try:
        return await result if isinstance(result, Awaitable) else result
    except RPCError as error:
        if error.status is RPCStatusCode.UNIMPLEMENTED and await session.is_with_a_stranger():
            said = _one_line(error.message)
            raise CommandError(
                f"{said}: {session.connection.config.target_host} {_STRANGER}", EXIT_NOT_CONNECTED
            ) from error
        notes = "".join(f" {note}" for note in getattr(error, "__notes__", ()))
        code = _CODES.get(error.status.name, EXIT_FAILED)
        message = _missing(error.message, flags, session.namespace) if code == EXIT_NOT_FOUND else None
        message = message or _TIMED_OUT.get(error.message, error.message) + notes
        raise CommandError(_one_line(message) or error.status.name, code) from error
    except ClientConnectError as error:
        raise CommandError(_one_line(str(error)), EXIT_NOT_CONNECTED) from error


def _one_line(text: str) -> str:
    return " ".join(text.split())


__all__ = ["ENV_KEY", "MISSING_ENV_KEY", "Session", "run"]
