"""`python -m benchmarks applications`: every installed system in turn, round by round, and a table of medians.

DBOS and Restate are looked for in an environment of their own (`--peers PYTHON`, with `dbos`, `restate-sdk` and
`granian` installed) and Restate's server on the PATH or at `--restate-server`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from benchmarks.targets import TARGETS, running

GRACE_S = 120.0
Json = dict[str, Any]
WORKLOADS: dict[str, tuple[str, int]] = {
    "echo": ("echo", 50),
    "echo, one at a time": ("echo", 1),
    "ten steps": ("ten", 50),
}
"""Name in the table to workload and workflows in flight."""


@dataclass(frozen=True)
class Place:
    """Where a program connects: the address, and the process whose CPU counts beside its own."""

    address: str
    server_pid: int | None = None


@dataclass(frozen=True)
class System:
    """One system: the interpreter and module of its program, and what must run beside it."""

    title: str
    python: str
    module: str
    place: Callable[[], AbstractContextManager[Place]]


@contextlib.contextmanager
def _file(options: str = "") -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        yield Place(f"sqlite:///{folder}/orders.db{options}")


@contextlib.contextmanager
def _server(target: str) -> Iterator[Place]:
    with running(TARGETS[target]) as server:
        yield Place(server.address, server.pid)


@contextlib.contextmanager
def _restate(python: str, program: str) -> Iterator[Place]:
    command = [python, "-m", "benchmarks.applications.restate_servers", "--server", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as servers:
        if servers.stdin is None or servers.stdout is None:
            raise RuntimeError("pipes were asked for")
        try:
            yield Place(f"127.0.0.1:{int(servers.stdout.readline())}", servers.pid)
        finally:
            servers.stdin.close()


def systems(peers: str, restate_server: str) -> tuple[dict[str, System], list[str]]:
    """What can be measured here, by name, and what cannot with the reason."""
    ours = sys.executable
    found = {
        "perdure-embedded": System("Perdure embedded, SQLite file", ours, "perdure_program", _file),
        "perdure-process": System("Perdure embedded, engine=process", ours, "perdure_program",
                                  lambda: _file("?engine=process")),
        "perdure": System("Perdure SDK and server", ours, "perdure_program", lambda: _server("perdure-file")),
        "official-on-perdure": System("official SDK, Perdure's server", ours, "official_program",
                                      lambda: _server("perdure-file")),
        "official": System("official SDK, Temporal dev server", ours, "official_program",
                           lambda: _server("temporal-file")),
    }  # fmt: skip
    missing = []
    if _imports(peers, "dbos"):
        found["dbos"] = System("DBOS, SQLite file", peers, "dbos_program", _file)
    else:
        missing.append(f"DBOS: {peers} has no package dbos")
    program = shutil.which(restate_server)
    if _imports(peers, "restate") and program:
        found["restate"] = System("Restate", peers, "restate_program", lambda: _restate(peers, program))
    else:
        missing.append(f"Restate: {peers} has no package restate, or {restate_server} is not there")
    return found, missing


def _imports(python: str, package: str) -> bool:
    return (
        subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode == 0
    )


def measure(system: System, workload: str, concurrency: int, seconds: float, warmup_s: float) -> Json:
    """Runs one system's program once, on fresh data."""
    with system.place() as place:
        command = [
            system.python, "-m", f"benchmarks.applications.{system.module}", "--address", place.address,
            "--workload", workload, "--concurrency", str(concurrency), "--seconds", str(seconds),
            "--warmup-s", str(warmup_s), *(["--server-pid", str(place.server_pid)] if place.server_pid else []),
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + warmup_s + GRACE_S, check=False
        )
    # The outcome is the program's last line: the official SDK's native runtime now and then aborts the interpreter
    # while it exits, after everything is done.
    if not done.stdout.strip():
        return {"errors": 1, "error_samples": [done.stderr[-800:]], "workflows_per_s": 0.0}
    outcome: Json = json.loads(done.stdout.splitlines()[-1])
    return outcome


def compare(
    chosen: dict[str, System], workloads: dict[str, tuple[str, int]], rounds: int, seconds: float, warmup_s: float,
    tell: Callable[[str], None],
) -> list[Json]:  # fmt: skip
    """Runs every system in every round; every other round in the opposite order."""
    results = []
    for number in range(rounds):
        order = list(chosen.items())
        for name, system in order if number % 2 == 0 else reversed(order):
            for title, (workload, concurrency) in workloads.items():
                outcome = measure(system, workload, concurrency, seconds, warmup_s)
                results.append({"round": number + 1, "system": name, "workload": title, **outcome})
                tell(_line(results[-1]))
    return results


def _line(result: Json) -> str:
    cpu_ms = (result.get("generator_cpu_ms_per_workflow", 0), result.get("server_cpu_ms_per_workflow", 0))
    return (
        f"{result['round']} {result['system']:<20} {result['workload']:<20} {result['workflows_per_s']:7.1f} wf/s  "
        f"p50 {result.get('p50_ms', 0):7.1f} ms  CPU {cpu_ms[0]:5.2f} + {cpu_ms[1]:5.2f} ms/wf  "
        f"others {result.get('others_busy_percent', 0):3.0f} %  errors {result['errors']} "
        f"{(result.get('error_samples') or [''])[0][-200:]}"
    )


def table(results: list[Json], chosen: dict[str, System]) -> Table:
    """Medians over the rounds."""
    view = Table(
        "system", "workload", "workflows/s", "p50 ms", "p99 ms", "CPU ms per workflow: program", "server"
    )
    for name, system in chosen.items():
        for title in dict.fromkeys(result["workload"] for result in results):
            rows = [r for r in results if r["system"] == name and r["workload"] == title and not r["errors"]]
            fields = (
                "workflows_per_s",
                "p50_ms",
                "p99_ms",
                "generator_cpu_ms_per_workflow",
                "server_cpu_ms_per_workflow",
            )
            cells = [
                f"{statistics.median(row[field] for row in rows):,.2f}" if rows else "failed"
                for field in fields
            ]
            view.add_row(system.title, title, *cells)
    return view
