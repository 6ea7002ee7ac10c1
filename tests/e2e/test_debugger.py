"""`perdure debug` on histories that a worker has really made, with commands from a pipe as a script gives them."""

from __future__ import annotations

import asyncio
import bdb
import inspect
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure.cli import root
from perdure.cli.errors import EXIT_UNSUCCESSFUL
from perdure.cli.history_files import History, text_of
from perdure.client import Client
from perdure.core.replay.activation import Activation
from perdure.worker import Worker
from perdure.worker.workflow_code.program import WorkflowProgram
from tests.e2e import cli_orders

CODE = "tests.e2e.cli_orders"
_SOURCE = Path(cli_orders.__file__).read_text()
SLEEP_LINE = _SOURCE[: _SOURCE.index("asyncio.sleep(")].count("\n") + 1
_ACTIVITY_LINE = inspect.getsourcelines(cli_orders.Order.run)[1] + 3


async def _make_history(address: str) -> History:
    async with (
        await Client.connect(address) as client,
        Worker(
            client,
            task_queue="orders",
            workflows=[cli_orders.Order, cli_orders.Parcel],
            activities=[cli_orders.charge],
        ),
    ):
        handle = await client.start_workflow(cli_orders.Order.run, "book", id="order", task_queue="orders")
        await handle.signal(cli_orders.Order.note, "quick")
        await handle.result()
        found = await handle.fetch_history()
    return History("order", found.run_id, found.events)


@pytest.fixture(scope="module")
def history() -> History:
    """Of a finished order."""
    return asyncio.run(_make_history("sqlite://"))


class Debugged:
    """A debugging session that is over.

    Attributes:
        code: the command's exit code.
        out, err: what it printed.
    """

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def at(self, event_id: int) -> str:
        """What was shown at an event, and behind its prompt."""
        found = re.search(rf"^[^\n]*--- {event_id}  .*?(?=^[^\n]*--- |\Z)", self.out, re.M | re.S)
        assert found is not None, self.out
        return found[0]


@pytest.fixture
def debug(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Debugs a history, the order's by default, with commands."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def debugged(*commands: str, code: str = CODE, of: History = history) -> Debugged:
        file = tmp_path / "history.json"
        file.write_text(text_of(of))
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{command}\n" for command in commands)))
        bdb.Breakpoint.clearBreakpoints()  # pdb keeps them for all debuggers of a process
        tracing = sys.gettrace()
        exit_code = root.exit_code_of(["debug", "--history", str(file), "--code", code])
        assert sys.gettrace() is tracing
        return Debugged(exit_code, *capsys.readouterr())

    return debugged


def _first(history: History, name: str) -> int:
    found = (event for event in history.events if event.WhichOneof("attributes").startswith(name))
    return int(next(found).event_id)


def test_each_event_says_what_it_did_what_was_asked_for_and_where_the_code_waits(
    debug: Any, history: History
) -> None:
    """One event at a time; those that run no code by themselves say so, and when the code will run."""
    done = debug(*["n"] * len(history.events))
    assert done.code == 0
    task = _first(history, "workflow_task_started")
    runs = f"It runs with the workflow task that starts at event {task}."
    assert f"It brings the code the start of the workflow. {runs}" in done.at(1)
    assert "By itself it runs no code" in done.at(2)
    started = done.at(task)
    assert "The code has run with the start of the workflow" in started
    assert re.search(
        rf"asks for ScheduleActivity\(activity_type 'charge'.*cli_orders.py:{_ACTIVITY_LINE}", started
    )
    assert re.search(
        rf"run waits at .*cli_orders.py\({_ACTIVITY_LINE}\)run\(\)\n +-> charged = await", started
    )
    assert "has asked for ScheduleActivity" in done.at(task + 1)
    recorded = done.at(_first(history, "activity_task_scheduled"))
    assert re.search(r"It records what the code asked for: ScheduleActivity.*cli_orders.py", recorded)
    signal = _first(history, "workflow_execution_signaled")
    assert "It brings the code signal 'note'. It runs with the workflow task that starts at event" in done.at(
        signal
    )
    assert "It brings the code the result of activity 1" in done.at(
        _first(history, "activity_task_completed")
    )
    last = done.at(len(history.events))
    assert "It records what the code asked for: CompleteWorkflow" in last
    assert "This is the end of the history; the code fits it" in last
    assert "the code fits it" in done.err


def test_one_can_run_to_an_event_look_around_and_go_on(debug: Any, history: History) -> None:
    """`until`, `list`, `where`, expressions, and the end of the commands in the middle."""
    scheduled = _first(history, "activity_task_scheduled")
    done = debug(
        f"until {scheduled}",
        "l 2",
        "w",
        "p name, len(name)",
        f"until {scheduled}",
        "until x",
        "l x",
        "r",
        "h",
    )
    assert done.code == 0
    assert "Left before the end of the history" in done.err
    assert "fit" not in done.err
    shown = done.at(scheduled)
    assert "1  20" in shown
    assert re.search(rf"^-> +{scheduled} .*ActivityTaskScheduled", shown, re.M)
    assert re.search(r"run:\n  .*cli_orders.py\(\d+\)run\(\)\n +-> charged", shown)
    assert "('book', 4)" in shown
    wanted = (
        f"*** until needs the id of an event that is still to come: {scheduled + 1} to {len(history.events)}"
    )
    assert shown.count(wanted) == 2
    assert "*** list takes the id of an event" in shown
    assert "*** this works in your code only" in shown
    assert "unt(il) ID" in shown


def test_one_can_step_into_the_code_and_set_breakpoints(debug: Any, history: History) -> None:
    """`s` stops at the first line that an event runs; a breakpoint stops whatever was asked for."""
    task = _first(history, "workflow_task_started")
    at_sleep = f"{cli_orders.__file__}:{SLEEP_LINE}"
    done = debug(f"until {task - 1}", "s", "n", "n", "c", f"b {at_sleep}", "c", "p charged", "c", "q")
    assert re.search(r"cli_orders\.py\(\d+\)__init__\(\)", done.at(task - 1))
    assert "(code) " in done.at(task - 1)
    assert f"({SLEEP_LINE})run()\n-> await asyncio.sleep(0.01)" in done.at(task)
    assert "'charged book'" in done.at(task)
    assert "This is the end of the history" in done.at(len(history.events))
    assert "the code fits it" in done.err


def test_whole_tasks_can_be_passed_and_the_debugger_left_in_the_code(debug: Any, history: History) -> None:
    """`t` stops behind the next run of the code; `q` inside the code is no failure of the code."""
    done = debug("t", *["s"] * 20, "q")
    task = _first(history, "workflow_task_started")
    assert f"--- {task}  " in done.out
    assert f"--- {task - 1}  " not in done.out
    assert (done.code, "Left before the end" in done.err) == (0, True)
    assert "fit" not in done.err


@pytest.mark.parametrize(
    ("old", "new", "said", "seen"),
    [
        ("await asyncio.sleep(0.01)", "self.here = 7", "The code does not fit event", "p self.here"),
        ("await asyncio.sleep(0.01)", "here = 7; raise LookupError('x')", "The code failed", "p here"),
    ],
)
def test_where_code_and_history_part_one_can_look_around(
    debug: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str, seen: str
) -> None:
    """At an event that the code does not fit, and at an exception, the replay ends and the code can be looked at."""
    name = f"debugged_{abs(hash(new))}"
    (tmp_path / f"{name}.py").write_text(_SOURCE.replace(old, new))
    monkeypatch.syspath_prepend(str(tmp_path))
    done = debug("c", seen, "n", "c", code=name)
    assert said in done.out
    assert done.out.count("*** the replay cannot go on after this; q leaves") == 2
    assert "\n7" in done.out.replace(") 7", ")\n7")
    assert done.code == EXIT_UNSUCCESSFUL
    assert "the code does not fit the history" in done.err


def test_a_run_that_is_under_way_ends_where_it_waits(debug: Any, history: History) -> None:
    """The end of an open history shows what the run waits for."""
    timer = _first(history, "timer_started")
    done = debug("c", "p charged", of=History("order", "", history.events[:timer]))
    assert "run waits at" in done.at(timer)
    assert "'charged book'" in done.at(timer)
    assert "the code fits it" in done.err


def test_looking_between_events_does_not_change_what_the_code_is_told(
    debug: Any, monkeypatch: pytest.MonkeyPatch, history: History
) -> None:
    """The same jobs in the same activations, however one goes through the history."""
    told: list[Any] = []
    activate = WorkflowProgram.activate

    def recorded(program: WorkflowProgram, activation: Activation) -> Any:
        told.append((activation.now_ns, activation.history_length, [type(job) for job in activation.jobs]))
        return activate(program, activation)

    monkeypatch.setattr(WorkflowProgram, "activate", recorded)
    ways = []
    for commands in (["c"], ["n"] * 40, ["s"] * 400, ["t"] * 40):
        told.clear()
        assert debug(*commands).code == 0
        ways.append(list(told))
    assert len(ways[0]) > 3
    assert all(way == ways[0] for way in ways)
