"""`perdure doctor`: looks at what usually is the reason when something does not work, and says what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import unserved
from perdure.cli.command import Command, Flags
from perdure.cli.env_file import path_and_name, read
from perdure.cli.errors import CommandError, UnsuccessfulError
from perdure.cli.session import Session
from perdure.cli.settings import _OLD_TLS, read_profiles

_LIBRARIES: Final = ("protobuf", "grpcio", "msgspec", "sqlglot", "click", "rich")
_SLOW_SYNC_S: Final = 0.05
_FAST_SYNC_S: Final = 0.00002
"""No disk is as fast: a sync that takes less does not reach one."""
_SLOW_CALL_S: Final = 0.5
_CLOCK_S: Final = 2.0
_KNOWN: Final = frozenset(
    {
        "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE",
        "TEMPORAL_ENV", "TEMPORAL_ENV_FILE", "TEMPORAL_TLS", "TEMPORAL_TLS_SERVER_NAME", "TEMPORAL_DEBUG",
        "TEMPORAL_TLS_CLIENT_CERT_PATH", "TEMPORAL_TLS_CLIENT_CERT_DATA", "TEMPORAL_TLS_CLIENT_KEY_PATH",
        "TEMPORAL_TLS_CLIENT_KEY_DATA", "TEMPORAL_TLS_SERVER_CA_CERT_PATH", "TEMPORAL_TLS_SERVER_CA_CERT_DATA",
        "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION", "TEMPORAL_CODEC_ENDPOINT", "TEMPORAL_CODEC_AUTH",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What one look has found.

    Attributes:
        what: what was looked at.
        state: `ok`, `warning` or `problem`.
        text: what is so, and what to do.
    """

    what: str
    state: str
    text: str


def _versions() -> Iterator[Finding]:
    from perdure import __version__
    from perdure.server.config import COMPATIBLE_VERSION

    yield Finding("perdure", "ok", f"{__version__}, compatible with Temporal server {COMPATIBLE_VERSION}")
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in _LIBRARIES:
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "problem", "is not installed; install Perdure again")


def _configuration(session: Session) -> Iterator[Finding]:
    path = session.settings.config_file
    try:
        profiles = read_profiles(path)
        shown = f"profiles {', '.join(profiles)}" if profiles else "no file there, which is fine"
        yield Finding("configuration file", "ok", f"{path}: {shown}")
        name = session.settings.profile_name
        if name != "default" and name not in profiles:
            yield Finding(
                "profile", "problem", f"there is no profile {name!r}; `perdure config list` shows them"
            )
        env_path, env_name = path_and_name([], os.environ)
        environments = read(env_path)
        if env_name != "default" and env_name not in environments:
            yield Finding("env file", "problem", f"there is no environment {env_name!r} in {env_path}")
        connection = session.connection
        yield Finding("address", "ok", f"{connection.config.target_host}, namespace {connection.namespace}")
    except CommandError as error:
        yield Finding("configuration", "problem", error.message)
    for name in sorted(os.environ):
        is_known = name in _KNOWN or name in _OLD_TLS or name.startswith("TEMPORAL_GRPC_META_")
        if name.startswith("TEMPORAL_") and not is_known:
            yield Finding("variable", "warning", f"{name} is not known to Perdure and has no effect")
    if os.environ.get("TEMPORAL_TLS_DISABLE_HOST_VERIFICATION"):
        yield Finding(
            "variable", "warning", "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION has no effect: hosts are verified"
        )


def _disk(session: Session, directory: str | None) -> Iterator[Finding]:
    folder = Path(directory) if directory else _data_folder(session)
    times = []
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for _ in range(20):
                file.write(b"x" * 4096)
                file.flush()
                began_s = time.perf_counter()
                os.fsync(file.fileno())
                times.append(time.perf_counter() - began_s)
    except OSError as error:
        yield Finding("disk", "problem", f"{folder} cannot be written: {error}")
        return
    middle = sorted(times)[len(times) // 2]
    text = f"a sync in {folder} takes {middle * 1000:.2f} ms"
    if middle > _SLOW_SYNC_S:
        yield Finding(
            "disk", "warning", f"{text}: every commit waits for it, so this disk makes a server slow"
        )
    elif middle < _FAST_SYNC_S:
        yield Finding(
            "disk", "warning", f"{text}: too fast to be true, a power cut could lose what was acknowledged"
        )
    else:
        yield Finding("disk", "ok", text)


def _data_folder(session: Session) -> Path:
    """Where the embedded engine's file is, or this folder."""
    from perdure.core.errors import PerdureError
    from perdure.server.addresses import parse_address

    try:
        place = parse_address(session.connection.config.target_host)
    except (CommandError, PerdureError, ValueError):
        return Path()
    return Path(place.path).parent if place.path is not None else Path()


async def _server(session: Session) -> list[Finding]:
    try:
        began_s = time.perf_counter()
        connected = await session.service()
        took_s = time.perf_counter() - began_s
    except CommandError as error:
        return [Finding("server", "problem", error.message)]
    info = connected.system_info
    version = f"version {info.server_version}" if info is not None else "but does not say what it is"
    found = [Finding("server", "ok", f"answers in {took_s * 1000:.0f} ms, {version}")]
    found += await _seen(session, _namespace)
    if found[-1].state == "ok":
        found += [*await _seen(session, _clock), *await _seen(session, _speed)]
        found += await _seen(session, _workers)
    return found


async def _seen(session: Session, look: Callable[[Session], Awaitable[Finding]]) -> list[Finding]:
    from perdure.service import RPCError

    try:
        return [await look(session)]
    except RPCError as error:
        what = look.__name__.removeprefix("_")
        return [Finding(what, "problem", f"{error.status.name}: {' '.join(error.message.split())}")]


async def _namespace(session: Session) -> Finding:
    answer = await session.call(service.DescribeNamespaceRequest())
    kept = str(timedelta(seconds=answer.config.workflow_execution_retention_ttl.seconds))
    kept = kept.removesuffix(", 0:00:00")  # whole days
    return Finding("namespace", "ok", f"{answer.namespace_info.name}, closed workflows are kept for {kept}")


async def _clock(session: Session) -> Finding:
    """Whether the server's clock is ahead: no call says a server's time, but nothing of it can be from the future."""
    began_s = time.time()
    newest = await session.call(service.ListWorkflowExecutionsRequest(page_size=1))
    ahead_s = max((each.start_time.seconds - began_s for each in newest.executions), default=0.0)
    if ahead_s > _CLOCK_S:
        text = f"the server's clock is at least {ahead_s:.0f} s ahead of this machine's; set both by NTP"
        return Finding("clock", "warning", text)
    return Finding("clock", "ok", "nothing on the server is from this machine's future")


async def _speed(session: Session) -> Finding:
    times = []
    for _ in range(5):
        began_s = time.perf_counter()
        await session.call(service.CountWorkflowExecutionsRequest())
        times.append(time.perf_counter() - began_s)
    middle = sorted(times)[2]
    state = "warning" if middle > _SLOW_CALL_S else "ok"
    return Finding("speed", state, f"a count of workflows takes {middle * 1000:.1f} ms")


async def _workers(session: Session) -> Finding:
    """Whether somebody polls where the newest open runs wait."""
    found = await unserved.of_newest_runs(session)
    if not found:
        return Finding("workers", "ok", "no task of an open workflow lies where nobody polls")
    (wait, runs), more = found[0], len(found) - 1
    waiting = f"{runs} open {'workflow waits' if runs == 1 else 'workflows wait'}"
    others = f"; {more} more such task {'queue' if more == 1 else 'queues'}" if more else ""
    return Finding("workers", "warning", f"{waiting}. {unserved.sentence(*wait)}{others}")


_STYLES: Final = {"ok": "green", "warning": "yellow", "problem": "red"}


async def _doctor(session: Session, flags: Flags) -> None:
    """Look for what is wrong: versions, configuration, connection, clock, disk.

    The exit code is 6 if there is a problem; warnings do not count.
    """
    found = [*_versions(), *_configuration(session), *_disk(session, flags.directory)]
    found += await _server(session)
    with session.out.listing():
        for each in found:
            if session.out.is_json:
                session.out.json({"what": each.what, "state": each.state, "text": each.text})
            session.out.line(f"{each.state:<8} {each.what}: {each.text}", style=_STYLES[each.state])
    problems = sum(each.state == "problem" for each in found)
    if problems:
        raise UnsuccessfulError(f"{problems} {'problem' if problems == 1 else 'problems'} found")


doctor: Final = Command(
    "doctor",
    _doctor,
    (
        f.text(
            "--directory",
            metavar="PATH",
            help="Folder whose disk is looked at; that of the database, or this one.",
        ),
    ),
    "perdure doctor --address 127.0.0.1:7233",
)
