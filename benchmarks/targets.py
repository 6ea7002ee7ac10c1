"""The servers under measurement: how each is started, when it counts as ready, how it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

from benchmarks.procstat import tree_usage
from benchmarks.requests import SERVICE
from benchmarks.wire import Method, RpcError, connect

READY_TIMEOUT_S = 60.0
READY_STEP_S = 0.005
STOP_TIMEOUT_S = 15.0
IDLE_SETTLE_S = 1.5
NAMESPACE = "default"


@dataclass(frozen=True)
class Target:
    """A server that can be measured; `command` gets the port and the path of the database file."""

    name: str
    title: str
    command: Callable[[int, Path], list[str]]
    speaks_namespaces: bool = True


@dataclass(frozen=True)
class RunningServer:
    """A started server and what its start cost."""

    target: Target
    address: str
    pid: int
    database: Path
    startup_s: float
    idle_resident_mb: float


def _program(name: str) -> str:
    """The program installed beside this interpreter, else the one on the PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def _perdure(port: int) -> list[str]:
    return [
        _program("perdure"),
        "server",
        "start-dev",
        "--headless",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]


def _temporal(port: int) -> list[str]:
    return [
        _program("temporal"),
        "server",
        "start-dev",
        "--headless",
        "--port",
        str(port),
        "--log-level",
        "never",
    ]


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "perdure-file",
            "Perdure, SQLite file",
            lambda port, path: [*_perdure(port), "--db-filename", str(path)],
        ),
        Target("perdure-memory", "Perdure, memory", lambda port, path: _perdure(port)),
        Target(
            "temporal-file",
            "Temporal dev server, file",
            lambda port, path: [*_temporal(port), "--db-filename", str(path)],
        ),
        Target("temporal-memory", "Temporal dev server, memory", lambda port, path: _temporal(port)),
        Target(
            "stub",
            "stub (generator's ceiling)",
            lambda port, path: [sys.executable, "-m", "benchmarks.stub_server", "--port", str(port)],
            speaks_namespaces=False,
        ),
    )
}
DEFAULT_TARGETS = ("perdure-file", "temporal-file", "temporal-memory")


class ServerFailedError(Exception):
    """The server ended or did not become ready; the message holds the end of its output."""


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def wait_until_ready(target: Target, address: str, process: subprocess.Popen[bytes]) -> None:
    """Return at the first accepted request (DescribeNamespace of the default namespace)."""
    deadline = time.perf_counter() + READY_TIMEOUT_S
    method = Method(SERVICE + "DescribeNamespace", address, 2)
    request = DescribeNamespaceRequest(namespace=NAMESPACE).SerializeToString()
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise ServerFailedError(f"{target.name} ended with code {process.returncode} before it was ready")
        try:
            channel = await connect(address)
        except OSError:
            await asyncio.sleep(READY_STEP_S)
            continue
        try:
            if not target.speaks_namespaces:
                return
            await channel.unary(method, request)
            return
        except RpcError:
            await asyncio.sleep(READY_STEP_S)
        finally:
            channel.close()
    raise ServerFailedError(f"{target.name} was not ready after {READY_TIMEOUT_S:.0f} s")


@contextlib.contextmanager
def running(target: Target, database: Path | None = None) -> Iterator[RunningServer]:
    """Start `target` on a free port (on `database`, else on a new file removed afterwards); stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="perdure-bench-") as scratch:
        path, port, log_path = (
            database or Path(scratch) / "bench.db",
            free_port(),
            Path(scratch) / "server.log",
        )
        address = f"127.0.0.1:{port}"
        with log_path.open("wb") as log:
            started = time.perf_counter()
            process = subprocess.Popen(
                target.command(port, path),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"HOME": scratch},
            )
            try:
                asyncio.run(wait_until_ready(target, address, process))
                startup_s = time.perf_counter() - started
                # Memory when idle means after the garbage of the start is gone: there is no event for that.
                time.sleep(IDLE_SETTLE_S)
                idle_mb = tree_usage(process.pid).resident_mb
                yield RunningServer(target, address, process.pid, path, startup_s, idle_mb)
            except ServerFailedError as error:
                raise ServerFailedError(f"{error}\n{log_path.read_text(errors='replace')[-2000:]}") from None
            finally:
                stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, insist after a while."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
