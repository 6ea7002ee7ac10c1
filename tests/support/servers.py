"""Real server processes for tests: the official dev server and Perdure's, started the same way.

Each is an async context manager that starts a process on a free loopback port, waits until it serves, keeps its
output in a file and ends it by its process id. Nothing here talks to a server beyond asking whether it is ready.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from examples.ports import free_port
from tests.support.proto import common, workflowservice
from tests.support.rpc import DEFAULT_NAMESPACE, RawClient, RpcError

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
READY_POLL_S = 0.05
LOG_TAIL_BYTES = 4000


class ServerStartError(Exception):
    """The process ended or did not serve in time; the message holds the end of its log."""


def find_executable(name: str) -> str:
    """The path of a command, preferring the one beside the running interpreter.

    Raises:
        ServerStartError: it is in neither place.
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ServerStartError(f"no command named {name!r} beside {sys.executable} or on the PATH")
    return found


async def _knows_its_namespace(client: RawClient) -> bool:
    """Ask for a run that does not exist: the answer comes from the part of a server that is ready last.

    The official server describes a namespace seconds before that part knows it, if the machine is busy.
    """
    nothing = workflowservice.DescribeWorkflowExecutionRequest(
        namespace=DEFAULT_NAMESPACE, execution=common.WorkflowExecution(workflow_id="is-the-server-ready")
    )
    try:
        await client.invoke(nothing, timeout_s=2)
    except RpcError as error:
        return error.code == "NOT_FOUND" and not error.message.startswith("Namespace")
    return False


class ServerProcess:
    """One server process that can be stopped, killed and started again on the same port.

    Subclasses say the command line. The log file collects the output of every start of this object.
    """

    name = "server"

    def __init__(self, *, port: int | None = None, log_path: Path | None = None) -> None:
        self.port = port or free_port()
        if log_path is None:
            handle, path = tempfile.mkstemp(prefix=f"{self.name}-", suffix=".log")
            os.close(handle)
            log_path = Path(path)
        self.log_path = log_path
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """host:port of the gRPC door."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise ServerStartError(f"{self.name} is not running")
        return self._process.pid

    def command_line(self) -> Sequence[str]:
        """The command and its arguments."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start the process and wait until it answers for the default namespace.

        Raises:
            ServerStartError: it ended, or did not answer within `START_TIMEOUT_S`.
        """
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command_line(), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._wait_until_ready(self._process)
        except TimeoutError:
            await self.kill()
            raise ServerStartError(
                f"{self.name} did not serve in {START_TIMEOUT_S} s:\n{self.log_tail()}"
            ) from None

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> None:
        async with RawClient(self.address) as client:
            while True:
                if process.returncode is not None:
                    raise ServerStartError(f"{self.name} ended with {process.returncode}:\n{self.log_tail()}")
                try:
                    await client.invoke(workflowservice.GetSystemInfoRequest(), timeout_s=2)
                    if await _knows_its_namespace(client):
                        return
                except RpcError:
                    pass  # it does not serve yet
                await asyncio.sleep(READY_POLL_S)

    async def stop(self) -> int | None:
        """Ask the process to end (SIGINT), kill it if it does not; returns its exit code, None if not running."""
        process = self._process
        if process is None:
            return None
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._process = None
        return process.returncode

    async def kill(self) -> None:
        """End the process with SIGKILL, as a crash would, and wait until it is gone."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.kill()
            await process.wait()
        self._process = None

    async def restart_after_kill(self) -> None:
        """SIGKILL, then start again on the same port with the same arguments."""
        await self.kill()
        await self.start()

    def log_tail(self) -> str:
        """The last few kilobytes the process wrote."""
        data = self.log_path.read_bytes()
        return data[-LOG_TAIL_BYTES:].decode(errors="replace")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()


class RealServer(ServerProcess):
    """The official dev server (`temporal server start-dev`), in memory unless a database file is given."""

    name = "temporal"

    def __init__(
        self,
        *,
        db_path: Path | None = None,
        dynamic_config: Mapping[str, str] | None = None,
        search_attributes: Mapping[str, str] | None = None,
        extra_args: Sequence[str] = (),
        port: int | None = None,
        log_path: Path | None = None,
    ) -> None:
        super().__init__(port=port, log_path=log_path)
        self.http_port = free_port()
        self._arguments = _shared_arguments(db_path, dynamic_config, search_attributes, extra_args)

    def command_line(self) -> Sequence[str]:
        return [
            find_executable("temporal"),
            *("server", "start-dev", "--headless", "--ip", HOST, "--log-level", "error"),
            *("--port", str(self.port), "--http-port", str(self.http_port)),
            *self._arguments,
        ]


class PerdureServer(ServerProcess):
    """Perdure's dev server (`perdure server start-dev`), in memory unless a database file is given.

    Args:
        db_path: SQLite file to keep runs in; a killed server started again on it finds them.
        dynamic_config: values passed as `--dynamic-config-value NAME=JSON`.
        search_attributes: custom search attributes to register, name to type.
        extra_args: further command line arguments.
        port: gRPC port; a free one by default.
        log_path: where the output goes; a temporary file by default.
    """

    name = "perdure"

    def __init__(
        self,
        *,
        db_path: Path | None = None,
        dynamic_config: Mapping[str, str] | None = None,
        search_attributes: Mapping[str, str] | None = None,
        extra_args: Sequence[str] = (),
        port: int | None = None,
        log_path: Path | None = None,
    ) -> None:
        super().__init__(port=port, log_path=log_path)
        self._arguments = _shared_arguments(db_path, dynamic_config, search_attributes, extra_args)

    def command_line(self) -> Sequence[str]:
        return [
            find_executable("perdure"),
            *("server", "start-dev", "--headless", "--ip", HOST, "--port", str(self.port)),
            *self._arguments,
        ]


def _shared_arguments(
    db_path: Path | None,
    dynamic_config: Mapping[str, str] | None,
    search_attributes: Mapping[str, str] | None,
    extra_args: Sequence[str],
) -> list[str]:
    arguments: list[str] = []
    if db_path is not None:
        arguments += ["--db-filename", str(db_path)]
    for name, value in (dynamic_config or {}).items():
        arguments += ["--dynamic-config-value", f"{name}={value}"]
    for name, type_name in (search_attributes or {}).items():
        arguments += ["--search-attribute", f"{name}={type_name}"]
    return [*arguments, *extra_args]
