"""Operating-system processes of the demonstration: start, show their output, wait until ready, kill with SIGKILL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from examples.ports import free_port

REPOSITORY: Final = Path(__file__).resolve().parents[3]
READY_TIMEOUT_S: Final = 60.0
"""Much: the first start on a machine reads and compiles every module."""
STOP_TIMEOUT_S: Final = 5.0
POLL_INTERVAL_S: Final = 0.02
SENDING_S: Final = 1.5
"""How long a message takes: time enough to be killed in the middle of it."""


def usual_or_free_port(usual: int) -> int:
    """The usual port if nothing listens on it, else a free one."""
    with socket.socket() as probe:
        # Like a server, which may follow one that has just stopped.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            return free_port()
    return usual


class ManagedProcess:
    """A child process whose lines of output are handed to a callback as they come."""

    def __init__(self, process: asyncio.subprocess.Process, show: Callable[[str], None]) -> None:
        self._process = process
        self._pump = asyncio.create_task(self._read(show))

    @classmethod
    async def start(cls, command: Sequence[str], show: Callable[[str], None]) -> ManagedProcess:
        """Start `command` in the repository's folder; `show` gets each line that it prints."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return cls(process, show)

    @property
    def pid(self) -> int:
        """The operating system's number of this process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is still alive."""
        return self._process.returncode is None

    async def kill(self) -> None:
        """SIGKILL: the process gets no chance to finish anything. Returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._pump

    async def stop(self) -> None:
        """Ask the process to end (SIGTERM); kill it when it does not within the bound."""
        if self.running:
            self._process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
        await self._process.wait()
        await self._pump

    async def wait_for_port(self, port: int, what: str) -> None:
        """Return once something accepts on `port`; raise RuntimeError about `what` when it ends or takes too long."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._until_it_accepts(port, what)
        except TimeoutError:
            raise RuntimeError(f"{what} did not listen within {READY_TIMEOUT_S:.0f} s") from None

    async def _until_it_accepts(self, port: int, what: str) -> None:
        while True:
            if not self.running:
                raise RuntimeError(f"{what} ended with exit code {self._process.returncode}")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(POLL_INTERVAL_S)
                continue
            writer.close()
            return

    async def _read(self, show: Callable[[str], None]) -> None:
        output = self._process.stdout
        if output is None:
            return
        while line := await output.readline():
            show(line.decode(errors="replace").rstrip())


def server_command(executable: str, port: int, database: Path) -> list[str]:
    """The server with its data in `database`; the flags are those of the `temporal` command."""
    flags = ["--headless", "--ip", "127.0.0.1", "--port", str(port), "--db-filename", str(database)]
    return [executable, "server", "start-dev", *flags, "--log-level", "error"]


def worker_command(address: str, ledger: Path) -> list[str]:
    """The application's own worker, as a process of its own."""
    module = "examples.order.worker"
    flags = ["--address", address, "--ledger", str(ledger), "--sending-seconds", str(SENDING_S)]
    return [sys.executable, "-m", module, *flags]


def application_command(port: int, database: Path, ledger: Path) -> list[str]:
    """The application with the engine embedded, listening on `port` too."""
    command = worker_command(f"sqlite:///{database}", ledger)
    return [*command, "--grpc", f"127.0.0.1:{port}"]


def ui_command(address: str, port: int) -> list[str]:
    """Perdure's web UI of the server at `address`."""
    command = [sys.executable, "-c", "from perdure.cli import main; main()"]
    return [*command, "ui", "--address", address, "--port", str(port)]
