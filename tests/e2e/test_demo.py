"""The demonstration of `make demo` runs to its end and proves what it claims."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from examples.order.activities import OrderActivities
from examples.order.demo.keeping import keep_database
from examples.order.demo.picture import NoPictureError, find_browser, take_picture
from examples.order.ledger import EFFECT, Ledger
from examples.order.models import STATUS_OVERDUE, TASK_QUEUE, Order
from examples.order.workflows import OrderWorkflow
from examples.ports import free_port
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from tests.support.target import target_executable

pytestmark = [pytest.mark.serial, pytest.mark.timeout(300)]

REPOSITORY: Final = Path(__file__).resolve().parents[2]
DEMO_TIMEOUT_S: Final = 90.0
CHECKS: Final = 9
COMMAND: Final = (sys.executable, "-m", "examples.order.demo")


@dataclass(frozen=True)
class Shown:
    """What a run of the demonstration showed, and left behind."""

    returncode: int | None
    text: str
    kept: Path
    page: str = ""


def _run(*flags: str, kept: Path) -> Shown:
    """The demonstration as a script runs it."""
    done = subprocess.run(
        [*COMMAND, *flags, "--folder", str(kept)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEMO_TIMEOUT_S,
        check=False,
    )
    return Shown(done.returncode, done.stdout, kept)


def _watch(*flags: str, kept: Path) -> Shown:
    """The demonstration as somebody at a terminal sees it, who opens the page in the web UI and presses Enter."""
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *flags, "--folder", str(kept)],
        cwd=REPOSITORY,
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        env={**os.environ, "COLUMNS": "160"},
    )
    os.close(other_end)
    text, page = "", ""
    try:
        while part := _read(terminal):
            text += part
            if not page and "Press Enter" in text:
                (address,) = re.findall(r"in the web UI: +(http\S+)", text)
                with urllib.request.urlopen(address, timeout=DEMO_TIMEOUT_S) as answer:
                    page = answer.read().decode()
                os.write(terminal, b"\n")
        return Shown(process.wait(DEMO_TIMEOUT_S), text.replace("\r\n", "\n"), kept, page)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def _read(terminal: int) -> str:
    """What comes next on a terminal; nothing when everybody else has left it."""
    readable, _, _ = select.select([terminal], [], [], DEMO_TIMEOUT_S)
    try:
        return os.read(terminal, 65_536).decode() if readable else ""
    except OSError:
        return ""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """One run at a terminal, with the engine embedded."""
    return _watch("--ui-port", "0", kept=tmp_path_factory.mktemp("watched") / "demo")


@pytest.fixture(scope="module", params=["embedded", "server"])
def demonstration(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """One run of each kind, shared by the tests that look at it."""
    if request.param == "embedded":
        shown: Shown = request.getfixturevalue("watched")
        return shown
    return _run("--server", target_executable(), "--ui-port", "0", kept=tmp_path_factory.mktemp("run"))


def test_demo_succeeds_and_every_check_held(demonstration: Shown) -> None:
    """Exit code 0, and each named check is reported as held."""
    assert demonstration.returncode == 0, demonstration.text
    held = re.findall(r"^  ok    ", demonstration.text, re.MULTILINE)
    assert len(held) == CHECKS
    assert "FAIL" not in demonstration.text


def test_demo_kills_everything_before_the_order_completes(demonstration: Shown) -> None:
    """The kills are in the timeline, after the charge and before the completion."""
    timeline = demonstration.text.partition("The event history of")[2]
    order = [
        timeline.index(text)
        for text in (
            "charge_card: done",
            "SIGKILL to ",
            "notify_customer: attempt 2 (attempt 1 ended with: heartbeat timeout)",
            "WorkflowExecutionCompleted",
        )
    ]
    assert order == sorted(order)


def test_demo_shows_the_order_in_the_web_ui_until_somebody_has_seen_it(watched: Shown) -> None:
    """The printed address is a page that says how the order ended."""
    assert "Completed" in watched.page
    assert "notify_customer" in watched.page
    assert "Traceback" not in watched.text


def test_demo_leaves_a_screenshot_or_says_how_to_get_one(demonstration: Shown) -> None:
    """A PNG where there is a browser, else words."""
    picture = demonstration.kept / "timeline.png"
    if _has_browser():
        assert picture.read_bytes().startswith(b"\x89PNG"), demonstration.text
    else:
        assert "No screenshot of its timeline was taken: there is no Chromium" in demonstration.text
        assert not picture.exists()


def _has_browser() -> bool:
    try:
        find_browser()
    except NoPictureError:
        return False
    return True


def test_demo_leaves_the_order_and_the_command_that_shows_it(watched: Shown) -> None:
    """The printed command serves the page that is printed below it, after everything else has ended."""
    (command, page) = re.findall(
        r"To see the order again: +(.+)\n +http://localhost:8233(\S+)", watched.text
    )[0]
    port = free_port()
    executable, *flags = shlex.split(command)
    assert executable.endswith("perdure")
    ui = subprocess.Popen(
        [sys.executable, "-c", "from perdure.cli import main; main()", *flags, "--port", str(port)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert ui.stdout is not None
        assert "UI of " in ui.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=DEMO_TIMEOUT_S) as answer:
            assert "Completed" in answer.read().decode()
        assert not keep_database(watched.kept / "orders.db", watched.kept / "orders.db"), "it is in use"
    finally:
        ui.kill()
        ui.communicate()


def test_demo_fails_when_the_server_does_not_start(tmp_path: Path) -> None:
    """A server that ends at once makes the demonstration fail with a message and exit code 1."""
    shown = _run("--server", "/bin/false", kept=tmp_path)
    assert shown.returncode == 1
    assert "the server ended with exit code 1" in shown.text


@pytest.mark.parametrize(
    ("browser", "says"),
    [
        ("", "apt-get install chromium"),
        ("/nowhere/chromium", "/nowhere/chromium"),
        ("/bin/false", "/bin/false"),
    ],
)
def test_a_picture_that_cannot_be_taken_is_no_failure(
    browser: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No browser, one that is not there, one that ends at once: words that say what to do, or what is wrong."""
    monkeypatch.setenv("PERDURE_CHROMIUM", browser)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(NoPictureError, match=says):
        asyncio.run(take_picture("http://127.0.0.1:1/", tmp_path / "timeline.png"))
    assert not (tmp_path / "timeline.png").exists()


def test_order_that_is_not_delivered_in_time_ends_as_overdue(tmp_path: Path) -> None:
    """Without the signal the timeout decides, and the customer is told."""
    ledger = Ledger(tmp_path / "ledger.jsonl")

    async def scenario() -> None:
        activities = OrderActivities(ledger, sending_s=0.25)
        order = Order("order-1", "Ada", "tea", 450, delivery_timeout_s=3600)
        async with (
            await WorkflowEnvironment.start_time_skipping() as env,
            Worker(
                env.client,
                task_queue=TASK_QUEUE,
                workflows=[OrderWorkflow],
                activities=[activities.charge_card, activities.notify_customer],
            ),
        ):
            result = await env.client.execute_workflow(
                OrderWorkflow.run, order, id=order.order_id, task_queue=TASK_QUEUE
            )
        assert result.status == STATUS_OVERDUE
        assert ledger.count(EFFECT, f"{order.order_id}/overdue") == 1
        assert ledger.count(EFFECT, f"{order.order_id}/delivered") == 0

    asyncio.run(scenario())
