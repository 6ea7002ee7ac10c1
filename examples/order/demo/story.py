"""The demonstration: one order, everything that works on it killed half-way, and the order still completes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from examples.order.demo.checks import Check, Evidence, evaluate
from examples.order.demo.keeping import keep_database
from examples.order.demo.picture import NoPictureError, take_picture
from examples.order.demo.processes import (
    POLL_INTERVAL_S,
    ManagedProcess,
    application_command,
    server_command,
    ui_command,
    usual_or_free_port,
    worker_command,
)
from examples.order.demo.timeline import Moment, render
from examples.order.ledger import ATTEMPT, EFFECT, Ledger
from examples.order.models import PRICES_CENTS, STATUS_IN_DELIVERY, TASK_QUEUE, Order, OrderResult
from examples.order.workflows import OrderWorkflow
from examples.ports import free_port
from perdure.api.history.v1 import HistoryEvent
from perdure.client import Client, WorkflowHandle

STEP_TIMEOUT_S: Final = 30.0
"""No single wait of the demonstration takes longer than this."""

LINE_LIMIT: Final = 160
"""Characters shown of a line that another process prints."""

DELIVERY_LIMIT_S: Final = 60.0
UI_PORT: Final = 8233
"""Where the web UI usually is."""

Handle = WorkflowHandle[OrderWorkflow, OrderResult]


@dataclass(frozen=True)
class Setting:
    """How the demonstration is run.

    Attributes:
        work: A folder for its files while it runs.
        kept: Where it leaves the screenshot and the database.
        executable: A server's, if one is to run; without it the engine is embedded in the worker's process.
        ui_port: Port of the web UI; None for the usual one if that is free.
        is_interactive: Somebody sits there: the web UI is served until they have looked around.
    """

    work: Path
    kept: Path
    executable: str | None = None
    ui_port: int | None = None
    is_interactive: bool = False


class Terminal:
    """Says what happens as it happens, with the seconds since the start; colour only on a terminal."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._colour = sys.stdout.isatty()
        self.shows_output = True
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

        def show(line: str) -> None:
            if self.shows_output and line.strip():
                self._print(f"    {name} | {line[:LINE_LIMIT]}", "2")

        return show

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

    def __init__(self, setting: Setting, terminal: Terminal) -> None:
        self._executable = setting.executable
        self.database = setting.work / "orders.db"
        self._terminal = terminal
        self._port = free_port()
        self._processes: list[ManagedProcess] = []
        self._ledger_path = setting.work / "ledger.jsonl"
        self.ledger = Ledger(self._ledger_path)

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
        command = application_command(self._port, self.database, self._ledger_path)
        application = await ManagedProcess.start(command, self._terminal.output_of(name))
        self._processes.append(application)
        await application.wait_for_port(self._port, "the application")
        took_ms = (time.monotonic() - started) * 1000
        self._terminal.act(
            f"{name} started, engine embedded on {self.database.name} (pid {application.pid}, {took_ms:.0f} ms)"
        )
        return application

    async def start_server(self, executable: str) -> ManagedProcess:
        """Start the server on the demonstration's database file and wait until it accepts."""
        started = time.monotonic()
        command = server_command(executable, self._port, self.database)
        server = await ManagedProcess.start(command, self._terminal.output_of("server"))
        self._processes.append(server)
        await server.wait_for_port(self._port, "the server")
        took_ms = (time.monotonic() - started) * 1000
        self._terminal.act(f"server started on {self.database.name} (pid {server.pid}, {took_ms:.0f} ms)")
        return server

    async def start_worker(self, name: str) -> ManagedProcess:
        """Start a worker process; it polls once it is up."""
        command = worker_command(self._address, self._ledger_path)
        worker = await ManagedProcess.start(command, self._terminal.output_of(name))
        self._processes.append(worker)
        self._terminal.act(f"{name} started (pid {worker.pid})")
        return worker

    async def start_ui(self, port: int | None) -> str:
        """Start the web UI, in a process of its own, and return its address."""
        port = usual_or_free_port(UI_PORT) if port is None else port or free_port()
        ui = await ManagedProcess.start(ui_command(self._address, port), lambda line: None)
        self._processes.append(ui)
        await ui.wait_for_port(port, "the web UI")
        return f"http://localhost:{port}"

    async def connect(self) -> Client:
        """A client of the server as it runs now."""
        return await Client.connect(self._address)

    async def run(self) -> Evidence:
        """The story from the first start to the last query; returns what was seen."""
        order = Order(
            f"order-{uuid.uuid4().hex[:8]}", "Ada", "kettle", PRICES_CENTS["kettle"], DELIVERY_LIMIT_S
        )
        processes = await self.start_all(1)
        client = await self.connect()
        handle: Handle = await client.start_workflow(
            OrderWorkflow.run,
            order,
            id=order.order_id,
            task_queue=TASK_QUEUE,
            static_summary=f"{order.item} for {order.customer}",
        )
        self._terminal.act(
            f"{order.order_id} started: a {order.item} for {order.customer}, {order.amount_cents / 100:.2f}"
        )
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


async def show_in_ui(demonstration: Demonstration, evidence: Evidence, setting: Setting) -> None:
    """Serve the web UI: for a screenshot, and for as long as somebody looks around."""
    address = await demonstration.start_ui(setting.ui_port)
    page = f"{address}/namespaces/default/workflows/{evidence.order.order_id}"
    path = setting.kept / "timeline.png"
    try:
        await take_picture(page, path)
        print(f"Screenshot of its timeline:  {path}")
    except NoPictureError as error:
        print(f"No screenshot of its timeline was taken: {error}")
    if not setting.is_interactive:
        return
    print(f"The order in the web UI:     {page}\n\nPress Enter to end the demonstration.", flush=True)
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, done.set)
    loop.add_reader(sys.stdin, done.set)
    await done.wait()
    loop.remove_reader(sys.stdin)


def keep(demonstration: Demonstration, evidence: Evidence, setting: Setting) -> None:
    """Leave the database behind, and say how to look at it."""
    kept = setting.kept / "orders.db"
    if not keep_database(demonstration.database, kept):
        print(f"{kept} is in use; this order was not kept.")
        return
    command = Path(sys.executable).with_name("perdure")
    print(
        f"To see the order again:  {_short(command)} ui --address sqlite:///{_short(kept)}\n"
        f"    http://localhost:{UI_PORT}/namespaces/default/workflows/{evidence.order.order_id}"
    )


def _short(path: Path) -> Path:
    """The path as one would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


async def run_demonstration(setting: Setting) -> bool:
    """Run everything, report, and leave the screenshot and the database. True if every check held."""
    terminal = Terminal()
    demonstration = Demonstration(setting, terminal)
    setting.kept.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(demonstration.stop)
        evidence = await demonstration.run()
        terminal.shows_output = False
        checks = evaluate(evidence)
        print_report(evidence, checks, terminal.moments)
        succeeded = all(check.held for check in checks)
        verdict = "Every check held" if succeeded else "Not every check held"
        print(f"\n{verdict} ({terminal.elapsed_s:.1f} s).\n", flush=True)
        await show_in_ui(demonstration, evidence, setting)
    if setting.executable is None:
        keep(demonstration, evidence, setting)
    return succeeded
