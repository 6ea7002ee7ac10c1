"""A server that is a program of its own, for tests that name one: started on a free port, stopped at the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from perdure.common import SearchAttributeKey
from perdure.server.addresses import host_and_port

START_LIMIT: Final = timedelta(minutes=1)
STOP_S: Final = 10.0


def free_port(ip: str) -> int:
    """A port that nothing listens on, and that the system gives to nobody else who asks for a free one.

    A connection that this side ended keeps the port in the system's memory for a minute: a program may listen there
    that names the port, but who takes any port gets another.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.create_server((ip, 0), family=family) as listener:
        address = listener.getsockname()
        with socket.create_connection(address[:2]):
            ended, _ = listener.accept()
            ended.close()
        return int(address[1])


class Program:
    """A running server program.

    Args:
        path: the executable.
        arguments: its arguments.
        ip, port: where it will listen.

    Attributes:
        start_limit: how long it may take until it accepts connections.
    """

    def __init__(self, path: str, arguments: Sequence[str], ip: str, port: int) -> None:
        self._command = (path, *arguments)
        self._ip, self._port = ip, port
        self._process: asyncio.subprocess.Process | None = None
        self.start_limit = START_LIMIT

    @property
    def address(self) -> str:
        """`host:port` of the server."""
        return host_and_port(self._ip, self._port)

    async def start(self) -> None:
        """Start it and wait until it accepts connections.

        Raises:
            RuntimeError: it ended, accepts none in time, or something else listens there already.
        """
        if await self._accepts():
            raise RuntimeError(
                f"Something listens at {self.address} already: give {self._command[0]} another port, or none."
            )
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.DEVNULL)
        try:
            async with asyncio.timeout(self.start_limit.total_seconds()):
                while not await self._accepts():
                    self.check()
                    await asyncio.sleep(0.05)
                self.check()
        except TimeoutError:
            await self.stop()
            raise RuntimeError(
                f"{self._command[0]} accepts no connections at {self.address} "
                f"after {self.start_limit.total_seconds():g} s."
            ) from None
        except BaseException:  # also when cancelled: nobody else would stop it
            await self.stop()
            raise

    def check(self) -> None:
        """Check that it runs: if not, it is somebody else who accepts connections at its address.

        Raises:
            RuntimeError: it ended.
        """
        if self._process is not None and self._process.returncode is not None:
            raise RuntimeError(f"{self._command[0]} ended with exit code {self._process.returncode}.")

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self._ip, self._port)
        except OSError:
            return False
        writer.close()
        return True

    async def stop(self) -> None:
        """Ask it to end; end it if it does not."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        try:
            process.terminate()
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except (TimeoutError, ProcessLookupError):
            pass  # it takes too long, or ended just now
        finally:  # also when cancelled: nobody else knows of it any more
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        await process.wait()


def dev_server_program(
    path: str,
    *,
    namespace: str,
    ip: str,
    port: int | None,
    ui: int | bool,
    database: str | None,
    log: tuple[str, str | None],
    search_attributes: Sequence[SearchAttributeKey[Any]],
    extra: Sequence[str],
) -> Program:
    """A program that takes the arguments of `temporal server start-dev`.

    Args:
        path: the executable.
        namespace: created at its start.
        ip, port: where it listens; port None for a free one.
        ui: whether it has a UI, or on which port.
        database: file that it keeps everything in.
        log: format and level of its log.
        search_attributes: defined at its start.
        extra: further arguments.
    """
    port = port or free_port(ip)
    arguments = ["server", "start-dev", "--ip", ip, "--port", str(port), "--namespace", namespace]
    for flag, value in (("--log-format", log[0]), ("--log-level", log[1]), ("--db-filename", database)):
        if value:
            arguments += [flag, value]
    for key in search_attributes:
        arguments += ["--search-attribute", f"{key.name}={key._metadata_type}"]
    if ui is not True:
        arguments += ["--ui-port", str(ui)] if ui else ["--headless"]
    return Program(path, [*arguments, *extra], ip, port)


def dev_server_program_of(arguments: Mapping[str, Any]) -> Program:
    """The program that arguments of `WorkflowEnvironment.start_local` name."""
    return dev_server_program(
        arguments["dev_server_existing_path"],
        namespace=arguments["namespace"],
        ip=arguments["ip"],
        port=arguments["port"],
        ui=arguments["ui_port"] or arguments["ui"],
        database=arguments["dev_server_database_filename"],
        log=(arguments["dev_server_log_format"], arguments["dev_server_log_level"]),
        search_attributes=arguments["search_attributes"],
        extra=arguments["dev_server_extra_args"],
    )
