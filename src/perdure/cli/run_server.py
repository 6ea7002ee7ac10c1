"""Runs a development server in this process until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from perdure import __version__
from perdure.cli import logs
from perdure.core.errors import PerdureError
from perdure.server.addresses import host_and_port
from perdure.server.config import ServerConfig
from perdure.server.doors.ports import PortError
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.service import ConnectConfig
from perdure.store.protocol import Store

if TYPE_CHECKING:
    from perdure.cli.ui_door import UiDoor, UiPlace

logger = logging.getLogger(__name__)

STOP_GRACE_S: Final = 1.0
SECOND_SIGNAL_EXIT_CODE: Final = 130


@dataclass(frozen=True, slots=True)
class DevServer:
    """What `server start-dev` was asked for.

    Attributes:
        config: the server's configuration.
        db_filename: SQLite file, None keeps everything in memory.
        pragmas: SQLite pragmas by name.
        log_level, log_format: see `logs`.
        ui: where the web UI listens; None without one.
        show_config: print the configuration to stderr.
        notices: lines for stderr, about flags without effect.
        unknown_keys: dynamic configuration keys without effect.
    """

    config: ServerConfig
    db_filename: str | None = None
    pragmas: Mapping[str, str] = field(default_factory=dict)
    log_level: str = "warn"
    log_format: str = "text"
    ui: UiPlace | None = None
    show_config: bool = False
    notices: Sequence[str] = ()
    unknown_keys: Sequence[str] = ()


def run_dev_server(asked: DevServer) -> int:
    """Serves until SIGINT or SIGTERM.

    Returns:
        the exit code.
    """
    logs.set_up(asked.log_level, asked.log_format)
    for notice in asked.notices:
        print(f"Note: {notice}", file=sys.stderr)
    if asked.unknown_keys:
        logger.info("dynamic configuration keys without effect: %s", ", ".join(asked.unknown_keys))
    if asked.show_config:
        print(asked.config, file=sys.stderr)
    try:
        return asyncio.run(_serve(asked))
    except PerdureError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


async def _serve(asked: DevServer) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _on_signal, stopping)
    runtime = SystemRuntime()
    store, store_name = _store(asked, runtime)
    server = Server(store, asked.config, runtime, store_name)
    await server.start()
    try:
        ui = await _start_ui(asked, server)
    except BaseException:  # Also when cancelled: what was opened is closed before anybody hears of it.
        await server.stop(0)
        raise
    _show_banner(asked, server, ui)
    # What start-up made lives as long as the process; the collector need not look at it again.
    gc.collect()
    gc.freeze()
    await stopping.wait()
    if ui is not None:
        await ui.stop(STOP_GRACE_S)
    await server.stop(STOP_GRACE_S)
    return 0


async def _start_ui(asked: DevServer, server: Server) -> UiDoor | None:
    """Opens the web UI. A port that nobody chose may be taken by another server's UI: then there is none."""
    if asked.ui is None:
        return None
    # Imported where it is needed: templates and an HTTP server are much for a server without a UI.
    from perdure.cli.ui_door import UiDoor, reachable

    address = reachable(asked.config.host, server.port)
    door = UiDoor(asked.ui, ConnectConfig(target_host=address), address)
    try:
        await door.start()
    except PortError as error:
        if asked.ui.is_port_chosen:
            raise
        print(f"Note: no web UI: {error}; --ui-port chooses another port", file=sys.stderr)
        return None
    return door


def _on_signal(stopping: asyncio.Event) -> None:
    if stopping.is_set():
        # Asked twice: at once, without finishing anything. What was acknowledged is on the disk already.
        os._exit(SECOND_SIGNAL_EXIT_CODE)
    stopping.set()


def _store(asked: DevServer, runtime: SystemRuntime) -> tuple[Store, str]:
    if asked.db_filename is None:
        from perdure.store.memory import MemoryStore

        return MemoryStore(runtime.new_id()), "memory"
    from perdure.store.sqlite import SqliteStore

    return SqliteStore(asked.db_filename, asked.pragmas, runtime.new_id), "sqlite"


def _show_banner(asked: DevServer, server: Server, ui: UiDoor | None) -> None:
    config = asked.config
    lines = [
        f"Perdure {__version__} (compatible with Temporal server {config.server_version})",
        "",
        f"Server:      {host_and_port(config.host, server.port)}",
        *([f"HTTP:        {host_and_port(config.host, server.http_port)}"] if server.http_port else []),
        *([f"UI:          {ui.url}"] if ui is not None else []),
        f"Persistence: {asked.db_filename or 'in-memory'}",
    ]
    print("\n".join(lines), flush=True)
