"""The demonstration: one order, everything that works on it killed half-way, and the order still completes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from examples.order_demo.checks import Check, Evidence, evaluate
from examples.order_demo.ledger import ATTEMPT, EFFECT, Ledger
from examples.order_demo.models import STATUS_IN_DELIVERY, TASK_QUEUE, Order, OrderResult
from examples.order_demo.processes import (
    POLL_INTERVAL_S,
    ManagedProcess,
    application_command,
    free_port,
    server_command,
    worker_command,
)
from examples.order_demo.timeline import Moment, render
from examples.order_demo.workflows import OrderWorkflow
from perdure.api.history.v1 import HistoryEvent
from perdure.client import Client, WorkflowHandle

STEP_TIMEOUT_S: Final = 30.0
"""No single wait of the demonstration takes longer than this."""

LINE_LIMIT: Final = 160
"""Characters shown of a line that another process prints."""

Handle = WorkflowHandle[OrderWorkflow, OrderResult]


class Terminal:
    """Says what happens as it happens, with the seconds since the start; colour only on a terminal."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._colour = sys.stdout.isatty()
        self.moments: list[Moment] = []

    @property
    def elapsed_s(self) -> float:
        """Seconds since the demonstration began."""
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """One line about what the demonstration does now."""
        self._print(text, "1")

    def act(self, text: str) -> None:
        """Like `say`, and remembered for the timeline."""
        self.moments.append(Moment(datetime.now(UTC), text))
        self._print(text, "1;31" if "SIGKILL" in text else "1")

    def output_of(self, name: str) -> Callable[[str], None]:
        """A callback that shows a process's own output under its name."""
        return lambda line: self._print(f"    {name} | {line[:LINE_LIMIT]}", "2") if line.strip() else None

    def _print(self, text: str, style: str) -> None:
        line = f"{self.elapsed_s:6.2f}s  {text}"
        print(f"\x1b[{style}m{line}\x1b[0m" if self._colour else line, flush=True)


async def wait_until(what: str, condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once `condition` holds; raise TimeoutError naming `what` after the bound."""
    try:
        async with asyncio.timeout(STEP_TIMEOUT_S):
            while not await condition():
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError as error:
        raise TimeoutError(f"waited {STEP_TIMEOUT_S:.0f} s in vain: {what}") from error


async def wait_for_record(ledger: Ledger, kind: str, key: str) -> None:
    """Return once the ledger has a record of this kind for `key`."""

    async def recorded() -> bool:
        return ledger.count(kind, key) > 0

    await wait_until(f"{kind} of {key}", recorded)


async def wait_for_status(handle: Handle, status: str) -> None:
    """Return once the workflow's own query answers with `status`."""

    async def reached() -> bool:
        return await handle.query(OrderWorkflow.get_status) == status

    await wait_until(f"status {status!r}", reached)


async def fetch_events(handle: Handle) -> list[HistoryEvent]:
    """The whole event history as the server has it now."""
    return [event async for event in handle.fetch_history_events()]


class Demonstration:
    """The processes of one demonstration and the order that goes through them."""

    def __init__(self, executable: str | None, folder: Path, terminal: Terminal) -> None:
        self._executable = executable
        self._database = folder / "orders.db"
        self._terminal = terminal
        self._port = free_port()
        self._processes: list[ManagedProcess] = []
        self.ledger = Ledger(folder / "ledger.jsonl")
        self._ledger_path = folder / "ledger.jsonl"

    @property
    def _address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def start_all(self, number: int) -> list[tuple[ManagedProcess, str]]:
        """Start what works on orders: each process with what its death means. One process when embedded."""
        if self._executable is None:
            application = await self.start_application(f"application {number}")
            return [
                (application, f"application {number}, engine and worker: card charged, message half sent")
            ]
        server = await self.start_server(self._executable)
        worker = await self.start_worker(f"worker {number}")
        return [
            (worker, f"worker {number}: card charged, message half sent"),
            (server, "the server: nothing runs any more, only the file is left"),
        ]

    async def start_application(self, name: str) -> ManagedProcess:
        """Start the process that embeds the engine and wait until its port accepts."""
        started = time.monotonic()
        command = application_command(self._port, self._database, self._ledger_path)
        application = await ManagedProcess.start(command, self._terminal.output_of(name))
        self._processes.append(application)
        await application.wait_for_port(self._port)
        took_ms = (time.monotonic() - started) * 1000
        self._terminal.act(
            f"{name} started, engine embedded on {self._database.name} (pid {application.pid}, {took_ms:.0f} ms)"
        )
        return application

    async def start_server(self, executable: str) -> ManagedProcess:
        """Start the server on the demonstration's database file and wait until it accepts."""
        started = time.monotonic()
        command = server_command(executable, self._port, self._database)
        server = await ManagedProcess.start(command, self._terminal.output_of("server"))
        self._processes.append(server)
        await server.wait_for_port(self._port)
        took_ms = (time.monotonic() - started) * 1000
        self._terminal.act(f"server started on {self._database.name} (pid {server.pid}, {took_ms:.0f} ms)")
        return server

    async def start_worker(self, name: str) -> ManagedProcess:
        """Start a worker process; it polls once it is up."""
        command = worker_command(self._address, self._ledger_path)
        worker = await ManagedProcess.start(command, self._terminal.output_of(name))
        self._processes.append(worker)
        self._terminal.act(f"{name} started (pid {worker.pid})")
        return worker

    async def connect(self) -> Client:
        """A client of the server as it runs now."""
        return await Client.connect(self._address)

    async def run(self) -> Evidence:
        """The story from the first start to the last query; returns what was seen."""
        order = Order(f"order-{uuid.uuid4().hex[:8]}", "Ada", 4_999)
        processes = await self.start_all(1)
        client = await self.connect()
        handle: Handle = await client.start_workflow(
            OrderWorkflow.run, order, id=order.order_id, task_queue=TASK_QUEUE
        )
        self._terminal.act(f"{order.order_id} started: {order.amount_cents / 100:.2f} for {order.customer}")
        await wait_for_record(self.ledger, EFFECT, f"{order.order_id}/charge")
        await wait_for_record(self.ledger, ATTEMPT, f"{order.order_id}/confirmed")
        before_crash = await fetch_events(handle)

        for process, consequence in processes:
            await process.kill()
            self._terminal.act(f"SIGKILL to {consequence}")

        await self.start_all(2)
        handle = (await self.connect()).get_workflow_handle_for(OrderWorkflow.run, order.order_id)
        await wait_for_record(self.ledger, EFFECT, f"{order.order_id}/confirmed")
        await wait_for_status(handle, STATUS_IN_DELIVERY)
        self._terminal.say(f"getStatus answers {STATUS_IN_DELIVERY!r}; the courier rings")
        await handle.signal(OrderWorkflow.delivered)
        self._terminal.act("signal 'delivered' sent")
        async with asyncio.timeout(STEP_TIMEOUT_S):
            result = await handle.result()
            status = await handle.query(OrderWorkflow.get_status)
        self._terminal.say(f"the order ended: {result}; getStatus still answers {status!r}")
        return Evidence(order, self.ledger, result, status, before_crash, await fetch_events(handle))

    async def stop(self) -> None:
        """End whatever still runs."""
        for process in reversed(self._processes):
            await process.stop()


def print_report(evidence: Evidence, checks: list[Check], moments: list[Moment]) -> None:
    """The timeline of the history, then each check with what was seen."""
    print(f"\nThe event history of {evidence.order.order_id}:\n")
    print("\n".join(render(evidence.events, moments)))
    print("\nWhat was checked:\n")
    width = max(len(check.statement) for check in checks)
    for check in checks:
        print(f"  {'ok  ' if check.held else 'FAIL'}  {check.statement:<{width}}  ({check.seen})")


async def run_demonstration(executable: str | None, folder: Path) -> bool:
    """Run everything with files in `folder`; `executable` is a server's, if one is to run. True if every check held."""
    terminal = Terminal()
    demonstration = Demonstration(executable, folder, terminal)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(demonstration.stop)
        evidence = await demonstration.run()
    checks = evaluate(evidence)
    print_report(evidence, checks, terminal.moments)
    succeeded = all(check.held for check in checks)
    verdict = "Every check held" if succeeded else "Not every check held"
    print(f"\n{verdict} ({terminal.elapsed_s:.1f} s).")
    return succeeded
