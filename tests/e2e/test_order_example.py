"""The order example on real parts: server, front end and workers as processes, stopped and killed in mid-step.

The processes are started with the commands of the example's README.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
import re
import shlex
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from examples.order.ledger import ATTEMPT, EFFECT, Ledger
from examples.order.models import STATUS_DELIVERED, STATUS_IN_DELIVERY
from examples.ports import free_port
from perdure.api.enums.v1 import EventType
from perdure.client import Client
from tests.e2e.python_sdk import eventually
from tests.support.servers import HOST, PerdureServer

REPOSITORY: Final = Path(__file__).resolve().parents[2]
README: Final = REPOSITORY / "examples" / "order" / "README.md"
LIMIT_S: Final = 90.0
"""How long anything may take: much, because the machine may be busy."""
ENDLESS_S: Final = 3600
"""A message that takes so long is never sent: whoever stops the worker stops it in mid-step."""

pytestmark = pytest.mark.timeout(400)


def _documented(module: str) -> list[str]:
    """The command of the README that runs a module, for this interpreter."""
    (line,) = re.findall(rf"^    (python -m {re.escape(module)})(?: |$)", README.read_text(), re.MULTILINE)
    return [sys.executable, *shlex.split(line)[1:]]


class Process:
    """A process of the example, and what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.printed = ""

    async def says(self, text: str) -> str:
        """Waits until it prints a line with this text, and returns the line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            while line := (await self._process.stdout.readline()).decode():
                self.printed += line
                if text in line:
                    return line
        raise AssertionError(f"it ended without saying {text!r}: {self.printed}")

    async def end(self, number: signal.Signals | None = None) -> int | None:
        """Sends a signal, or lets it end by itself, and returns the exit code."""
        if number is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
        async with asyncio.timeout(LIMIT_S):
            rest, _ = await self._process.communicate()
        self.printed += rest.decode()
        return self._process.returncode


@contextlib.asynccontextmanager
async def running(*command: str) -> AsyncIterator[Process]:
    """A process in the repository's folder, killed at the end if it still runs."""
    started = Process(
        await asyncio.create_subprocess_exec(
            *command,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    )
    try:
        yield started
    finally:
        await started.end(signal.SIGKILL)


@dataclass(frozen=True)
class Answer:
    """What the front end answered."""

    status: int
    url: str
    text: str

    @property
    def says(self) -> str:
        """The status of an order or the problem on the page, in words."""
        found = re.search(r'<p class="(?:status|problem)"[^>]*>(.*?)</p>', self.text, re.DOTALL)
        return html.unescape(found[1]) if found else ""

    @property
    def is_live(self) -> bool:
        """Whether the page looks again by itself."""
        return 'http-equiv="refresh"' in self.text

    @property
    def order_id(self) -> str:
        """The order whose page this is."""
        return self.url.rpartition("/orders/")[2]

    @property
    def fields(self) -> dict[str, str]:
        """The order form on the page, as it would be sent."""
        (token,) = re.findall(r'name="token" value="(\w+)"', self.text)
        (customer,) = re.findall(r'name="customer" value="([^"]*)"', self.text)
        chosen = re.findall(r'<option value="(\w+)" selected>', self.text)
        return {"token": token, "customer": html.unescape(customer), "item": chosen[0] if chosen else "tea"}


class Visitor:
    """Somebody with a browser.

    Args:
        address: of the front end.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    async def get(self, path: str = "/") -> Answer:
        """Opens a page."""
        return await asyncio.to_thread(self._ask, path, None)

    async def post(self, path: str, **fields: str) -> Answer:
        """Sends a form, and follows where it leads."""
        return await asyncio.to_thread(self._ask, path, fields)

    async def order(self, customer: str = "Ada", item: str = "tea") -> Answer:
        """Fills in the form of the first page and sends it."""
        fields = (await self.get()).fields
        return await self.post("/orders", **{**fields, "customer": customer, "item": item})

    async def sees(self, path: str, words: str, *, is_live: bool = True) -> Answer:
        """Lets a page refresh until it says these words, and is the last one if `is_live` is false."""
        answers: list[Answer] = []

        async def is_there() -> bool:
            answers.append(await self.get(path))
            return (answers[-1].says, answers[-1].is_live) == (words, is_live)

        await eventually(f"{path} says {words!r}", is_there, LIMIT_S)
        return answers[-1]

    def _ask(self, path: str, fields: dict[str, str] | None) -> Answer:
        data = None if fields is None else urllib.parse.urlencode(fields).encode()
        try:
            with urllib.request.urlopen(self._address + path, data, timeout=LIMIT_S) as response:
                return Answer(response.status, response.url, response.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.url, error.read().decode())


@contextlib.asynccontextmanager
async def front_end(server_address: str, ui: str = "http://localhost:1") -> AsyncIterator[Visitor]:
    """The front end on a free port, and somebody who uses it."""
    command = _documented("examples.order.web")
    async with running(*command, "--address", server_address, "--port", "0", "--ui", ui) as web:
        line = await web.says("The shop is open")
        (port,) = re.findall(r"http://localhost:(\d+)", line)
        yield Visitor(f"http://{HOST}:{port}")
        assert await web.end(signal.SIGINT) == 0
        assert "Traceback" not in web.printed


class Works:
    """Starts workers for one server, with one ledger."""

    def __init__(self, server_address: str, folder: Path) -> None:
        self._flags = ("--address", server_address, "--ledger", str(folder / "ledger.jsonl"))
        self.ledger = Ledger(folder / "ledger.jsonl")

    @contextlib.asynccontextmanager
    async def worker(self, sending_s: float) -> AsyncIterator[Process]:
        """A worker that is up."""
        command = _documented("examples.order.worker")
        async with running(*command, *self._flags, "--sending-seconds", str(sending_s)) as worker:
            await worker.says("worker started")
            yield worker

    def effects(self, order_id: str) -> Counter[str]:
        """How often each step of an order took effect."""
        return self._count(EFFECT, order_id)

    def attempts(self, order_id: str) -> Counter[str]:
        """How often each step of an order was begun."""
        return self._count(ATTEMPT, order_id)

    def _count(self, kind: str, order_id: str) -> Counter[str]:
        keys = (one.key for one in self.ledger.records() if one.kind == kind)
        return Counter(key.partition("/")[2] for key in keys if key.startswith(f"{order_id}/"))


def server_with_ui(folder: Path, ui_port: int) -> PerdureServer:
    """A server on a file, with its web UI."""

    class WithUi(PerdureServer):
        def command_line(self) -> Sequence[str]:
            return [part for part in super().command_line() if part != "--headless"]

    return WithUi(
        db_path=folder / "orders.db",
        log_path=folder / "server.log",
        extra_args=("--ui-port", str(ui_port), "--ui-ip", HOST),
    )


EACH_STEP_ONCE: Final = Counter(charge=1, confirmed=1, delivered=1)


def test_an_order_outlives_its_workers_and_is_done_once(tmp_path: Path) -> None:
    """Ctrl-C in mid-step, SIGKILL in mid-step, delivered while nobody works: the third worker finishes the order."""

    async def scenario() -> None:
        ui_port = free_port()
        ui = f"http://{HOST}:{ui_port}"
        async with server_with_ui(tmp_path, ui_port) as server, front_end(server.address, ui) as visitor:
            works = Works(server.address, tmp_path)
            placed = await visitor.order("Ada", "kettle")
            assert placed.status == 200
            order = f"/orders/{placed.order_id}"
            assert placed.says == "no worker answers; the order is safe and goes on when one does"

            async with works.worker(ENDLESS_S) as first:
                await first.says("/confirmed, attempt 1: sending")
                await visitor.sees(order, "confirming the order")
                assert await first.end(signal.SIGINT) == 0
            assert "interrupted in the middle" in first.printed
            assert "Traceback" not in first.printed
            async with works.worker(ENDLESS_S) as second:
                await second.says("/confirmed, attempt")
                await second.end(signal.SIGKILL)
            assert works.effects(placed.order_id) == Counter(charge=1)

            for _ in range(2):
                said = await visitor.post(f"{order}/delivered")
                assert (said.status, said.order_id) == (200, placed.order_id)
            async with works.worker(0.25):
                ended = await visitor.sees(order, STATUS_DELIVERED, is_live=False)
            # Once more, now that the order has ended; nobody works, and its page does not need it.
            again = await visitor.post(f"{order}/delivered")
            assert (again.status, again.says) == (200, STATUS_DELIVERED)
            assert works.effects(placed.order_id) == EACH_STEP_ONCE
            assert works.attempts(placed.order_id)["charge"] == 2, (
                "a charge that was recorded is never repeated"
            )
            await _check_history(server.address, placed.order_id)
            (link,) = re.findall(r'href="(http[^"]+)"', ended.text)
            assert link.startswith(ui)
            shown = await Visitor("").get(link)
            assert shown.status == 200
            assert "Completed" in shown.text

    asyncio.run(scenario())


async def _check_history(address: str, order_id: str) -> None:
    async with await Client.connect(address) as client:
        runs = [run.id async for run in client.list_workflows()]
        history = await client.get_workflow_handle(order_id).fetch_history()
    assert runs == [order_id]
    kinds = Counter(event.event_type for event in history.events)
    assert kinds[EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED] == 3
    assert kinds[EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED] == 2
    assert history.events[-1].event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED


def test_a_form_is_one_order_however_often_it_is_sent(tmp_path: Path) -> None:
    """Sent twice at once, sent again later, sent with other contents, sent with nonsense."""

    async def scenario() -> None:
        async with (
            PerdureServer(log_path=tmp_path / "server.log") as server,
            front_end(server.address) as visitor,
        ):
            form = {**(await visitor.get()).fields, "customer": "Ada", "item": "tea"}
            clicks = await asyncio.gather(*(visitor.post("/orders", **form) for _ in range(3)))
            assert {click.status for click in clicks} == {200}
            (order_id,) = {click.order_id for click in clicks}
            async with Works(server.address, tmp_path).worker(0.25):
                await visitor.sees(f"/orders/{order_id}", STATUS_IN_DELIVERY)
                await visitor.post(f"/orders/{order_id}/delivered")
                await visitor.sees(f"/orders/{order_id}", STATUS_DELIVERED, is_live=False)
                after_its_end = await visitor.post("/orders", **form)
                assert (after_its_end.order_id, after_its_end.says) == (order_id, STATUS_DELIVERED)
                changed = await visitor.post("/orders", **{**form, "customer": "<b>Grace</b>"})
                assert changed.order_id != order_id

            listed = await visitor.get()
            assert re.findall(r'href="/orders/([^"]+)"', listed.text) == [changed.order_id, order_id]
            assert "&lt;b&gt;Grace&lt;/b&gt;" in listed.text
            assert "<b>" not in listed.text + changed.text
            for wrong in ({"customer": " "}, {"customer": "x" * 81}, {"item": "coffee"}, {"token": "../x"}):
                refused = await visitor.post("/orders", **{**form, **wrong})
                assert (refused.status, refused.says.startswith(("Please", "This form"))) == (400, True)
                assert refused.fields["token"] != form["token"]
            assert (await visitor.post("/orders", **{**form, "customer": "x" * 5_000})).status == 413
            assert len(re.findall(r'href="/orders/', (await visitor.get()).text)) == 2

            for unknown in ("order-nobody-placed", "%20", "x" * 2_000):
                for answer in (
                    await visitor.get(f"/orders/{unknown}"),
                    await visitor.post(f"/orders/{unknown}/delivered"),
                ):
                    assert (answer.status, answer.says) == (404, "There is no such order.")

    asyncio.run(scenario())


def test_without_a_server_the_front_end_says_so_and_goes_on_when_there_is_one(tmp_path: Path) -> None:
    """503 in words on every page; the form that was refused is kept, and makes one order once the server is back."""

    async def scenario() -> None:
        server = PerdureServer(db_path=tmp_path / "orders.db", log_path=tmp_path / "server.log")
        form = {"token": "0123456789abcdef", "customer": "Ada", "item": "cup"}
        async with front_end(server.address) as visitor:
            refused = await visitor.post("/orders", **form)
            assert refused.fields == form
            assert "makes one order, however often you send it" in refused.says
            for answer in (
                refused,
                await visitor.get(),
                await visitor.get("/orders/order-1"),
                await visitor.post("/orders/order-1/delivered"),
            ):
                assert answer.status == 503
                assert answer.says.startswith("The order server cannot be reached at the moment.")

            async with server:
                placed = await visitor.post("/orders", **form)
                assert placed.status == 200
                again = await visitor.post("/orders", **form)
                assert (again.status, again.order_id) == (200, placed.order_id)

    asyncio.run(scenario())


def test_a_worker_without_a_server_says_so() -> None:
    """One line and exit code 1, and no traceback."""

    async def scenario() -> None:
        command = _documented("examples.order.worker")
        async with running(*command, "--address", f"{HOST}:{free_port()}") as worker:
            await worker.says("The worker cannot run")
            assert await worker.end() == 1
            assert "Traceback" not in worker.printed

    asyncio.run(scenario())
