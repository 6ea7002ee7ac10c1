"""A client of an engine in a process of its own, and programs that have such a client."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from perdure.core.errors import StoreOpenError
from perdure.service import engine_processes
from perdure.service.process_transport import ProcessTransport
from perdure.store.sqlite.lock import FileLock
from tests.support.embedded import TransportClient
from tests.unit.server.support import run


class ProcessClient(TransportClient):
    """Of an engine in a process of its own."""

    transport: ProcessTransport

    @property
    def pid(self) -> int:
        """The engine's process."""
        return self.transport.engine.running().result().pid

    async def connection_is_lost(self) -> None:
        """Returns when the loop has heard of the end of its connection."""
        (attempt,) = self.transport._connections.values()
        while (await attempt).is_open:
            await asyncio.sleep(0)


Scenario = Callable[[ProcessClient], Awaitable[None]]


def with_client(address: str, scenario: Scenario) -> None:
    async def work() -> None:
        client = await ProcessClient.connect(address)
        try:
            await scenario(client)
        finally:
            await client.close()

    run(work())


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pid_of(engine: engine_processes.SharedEngine) -> int:
    """The number of a process that may not be ready yet; 0 if there is none."""
    process = engine._process
    started = None if process is None else process._process
    return 0 if started is None else started.pid


def is_free(path: Path) -> bool:
    try:
        FileLock(path).release()
    except StoreOpenError:
        return False
    return True


_PARENT = """
import asyncio, os, sys, time
from perdure.service.own_engine import open_own_engine
from tests.support.embedded import TransportClient
async def main():
    client = await TransportClient.connect(sys.argv[1])
    await client.start("wf", "queue")
    print(client.transport.engine.running().result().pid, flush=True)
    if sys.argv[2] == "wait":
        await asyncio.to_thread(sys.stdin.read)
    if sys.argv[2] == "fork":
        if os.fork() == 0:
            try:
                await client.describe("wf")
            except AssertionError as error:
                print(os.getpid(), error, flush=True)
            time.sleep(60)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def program(address: str, way: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _PARENT, address, way],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
