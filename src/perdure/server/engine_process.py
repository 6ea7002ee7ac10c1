"""The program of an engine in a process of its own: opens the data, serves its parent, ends with it.

The parent gives a socket with the start, over which it sends one end of each connection, and whose end says that nobody
needs the engine any more, be it that the last client was closed or that the parent was killed. Standard output carries
what the parent is told, one JSON object a line: `ready` or `failed`, and then what is logged.

May live here: this process from its start to its end. May not: calls (`perdure.server.doors.pipe`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

from perdure.core.errors import PerdureError, StoreInUseError
from perdure.server.addresses import Place
from perdure.server.doors.pipe.door import PipeDoor
from perdure.server.embedding import EmbeddedEngine, EngineOptions, own_engine

_IN_USE_S: Final = 5.0
"""How long the engine of a parent that was killed may take to end before its file counts as another's."""
_TRY_EVERY_S: Final = 0.05
_LAST_TURNS: Final = 3
_LAST_ANSWERS_S: Final = 1.0
_SOCKETS_AT_ONCE: Final = 8


def main() -> None:
    """Run the engine that the first argument describes; see `perdure.service.engine_processes`."""
    # It ends with its parent, which may have much to finish when the terminal or a supervisor tells both to end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told: dict[str, Any] = json.loads(sys.argv[1])
    logging.basicConfig(handlers=[_ToParent()], level=told["log_level"])
    place = Place(Path(told["path"]), pragmas=told["pragmas"])
    with socket.socket(fileno=told["control"]) as control:
        asyncio.run(_run(place, told["user_pid"], control))


async def _run(place: Place, user_pid: int, control: socket.socket) -> None:
    try:
        engine = await _opened(place, EngineOptions(user_pid=user_pid), control)
    except (PerdureError, OSError) as error:
        _tell(failed=str(error))
        return
    if engine is None:
        return
    _tell(ready=os.getpid())
    door = PipeDoor(engine)
    await _serve(control, door)
    await engine.close()
    await door.stop(_LAST_ANSWERS_S)


async def _opened(place: Place, options: EngineOptions, control: socket.socket) -> EmbeddedEngine | None:
    """The engine; None if nobody needs it any more before its file is free."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + _IN_USE_S
    while _is_needed(control):
        try:
            return await own_engine(place, options)
        except StoreInUseError:
            if loop.time() > give_up_s:
                raise
        await asyncio.sleep(_TRY_EVERY_S)
    return None


def _is_needed(control: socket.socket) -> bool:
    """Whether the parent has not ended, nor closed its end; it sends nothing before the engine is ready."""
    try:
        return bool(control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True


async def _serve(control: socket.socket, door: PipeDoor) -> None:
    """Takes the connections that the parent sends, until it needs none any more or is gone."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    beginning: set[asyncio.Task[object]] = set()

    def take() -> None:
        said, descriptors, _, _ = socket.recv_fds(control, _SOCKETS_AT_ONCE, _SOCKETS_AT_ONCE)
        if not said:
            loop.remove_reader(control)
            ended.set()
        for descriptor in descriptors:
            connecting = loop.create_unix_connection(door.connected, sock=socket.socket(fileno=descriptor))
            task = loop.create_task(connecting)
            beginning.add(task)
            task.add_done_callback(beginning.discard)

    loop.add_reader(control, take)
    await ended.wait()
    # Calls that were sent before it are in the sockets already; a turn reads them, the next begins them.
    for _ in range(_LAST_TURNS):
        await asyncio.sleep(0)


class _ToParent(logging.Handler):
    """Gives what is logged to the parent, whose handlers and levels are the user's."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tells the parent."""
        text = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
        _tell(log=[record.name, record.levelno, record.getMessage(), text])


def _tell(**said: object) -> None:
    try:
        os.write(sys.stdout.fileno(), json.dumps(said).encode() + b"\n")
    except OSError:
        pass  # the parent is gone, and this process about to end


if __name__ == "__main__":
    main()
