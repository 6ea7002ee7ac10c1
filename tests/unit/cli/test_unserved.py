"""What commands say where a workflow waits for a worker that is not there, and on terminals of any width."""

from __future__ import annotations

import asyncio
import gc
import io
from pathlib import Path
from typing import Any

import click
import pytest
from google.protobuf.message import Message

from perdure.api.common.v1 import WorkflowExecution
from perdure.api.workflowservice.v1 import DescribeTaskQueueRequest, StartWorkflowExecutionRequest
from perdure.cli import root, unserved, wire
from perdure.cli.errors import CommandError
from perdure.cli.output import Output
from perdure.cli.session import Session
from perdure.cli.settings import Settings
from perdure.service import ConnectConfig, RPCError, RPCStatusCode, ServiceClient

SENTENCE = (
    "No worker polls task queue nobody's for workflow tasks: "
    "`perdure worker run MODULE --task-queue 'nobody'\"'\"'s'` starts one"
)


def run(*words: str) -> int:
    """The exit code of a command line, run in this process."""
    return root.exit_code_of(list(words))


@pytest.fixture(autouse=True)
def _nothing_from_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))
    monkeypatch.setenv("COLUMNS", "200")


def test_a_run_that_waits_where_nobody_polls_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By describe, by the task queue's description and by doctor, with the command that starts a worker."""
    address = ("--address", f"sqlite:///{tmp_path / 'orders.db'}")
    assert run("doctor", *address) == 0
    assert "ok       workers:" in capsys.readouterr().out
    assert run("workflow", "start", "--type", "T", "-t", "nobody's", "-w", "w", *address) == 0
    capsys.readouterr()
    assert run("workflow", "describe", "-w", "w", *address) == 0
    assert SENTENCE in capsys.readouterr().out.splitlines()
    assert run("doctor", *address) == 0
    assert f"warning  workers: 1 open workflow waits. {SENTENCE}" in capsys.readouterr().out
    assert run("task-queue", "describe", "-t", "nobody's", *address) == 0
    assert "No worker polls task queue nobody's:" in capsys.readouterr().err
    assert run("workflow", "terminate", "-w", "w", *address) == 0
    capsys.readouterr()
    assert run("workflow", "describe", "-w", "w", *address) == 0
    assert "No worker" not in capsys.readouterr().out


def test_who_waits_for_a_worker_is_told_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that waits for a result, a query or an update says so after a moment; the wait itself goes on."""
    monkeypatch.setattr(unserved, "PATIENCE_S", 0)

    async def scenario() -> None:
        session = Session(Settings({"address": "sqlite://"}, {}), click.Context(click.Command("test")))
        noted: asyncio.Queue[str] = asyncio.Queue()
        monkeypatch.setattr(session.out, "note", noted.put_nowait)
        started = StartWorkflowExecutionRequest(
            workflow_id="w", request_id="r", task_queue=wire.queue("nobody's")
        )
        started.workflow_type.name = "T"
        await session.call(started)
        async with unserved.told(session, WorkflowExecution(workflow_id="w")):
            assert await asyncio.wait_for(noted.get(), 30) == SENTENCE
        await session.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "error",
    [
        RPCError("not for you", RPCStatusCode.PERMISSION_DENIED, b""),
        CommandError("the codec server failed"),
        TimeoutError(),
        TypeError("something unforeseen"),
        None,
    ],
)
def test_a_hint_that_cannot_be_given_breaks_nothing(
    error: Exception | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever becomes of the question who polls, be it no answer at all: the command did what it says."""
    monkeypatch.setattr(unserved, "LIMIT_S", 0.01)
    monkeypatch.setattr(unserved, "PATIENCE_S", 0)
    address = f"sqlite:///{tmp_path / 'orders.db'}"
    assert run("workflow", "start", "--type", "T", "-t", "q", "-w", "w", "--address", address) == 0
    capsys.readouterr()  # the database is new, which is said once
    asked = asyncio.Event()
    call = Session.call

    async def failing(session: Session, request: Message, **more: Any) -> Any:
        if not isinstance(request, DescribeTaskQueueRequest):
            return await call(session, request, **more)
        asked.set()
        if error is None:
            await asyncio.Event().wait()
        raise error or AssertionError

    async def waiting() -> None:
        session = Session(Settings({"address": address}, {}), click.Context(click.Command("test")))
        async with unserved.told(session, WorkflowExecution(workflow_id="w")):
            await asyncio.wait_for(asked.wait(), 30)
        await session.close()

    monkeypatch.setattr(Session, "call", failing)
    assert run("workflow", "describe", "-w", "w", "--address", address) == 0
    assert asked.is_set()
    asked = asyncio.Event()
    asyncio.run(waiting())
    gc.collect()
    assert capsys.readouterr().err == ""
    assert caplog.messages == []


def test_calls_at_the_same_time_share_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one of two would be nobody's to close."""
    connected: list[ServiceClient] = []
    connect = ServiceClient.connect

    async def noted(config: ConnectConfig) -> ServiceClient:
        connected.append(await connect(config))
        return connected[-1]

    monkeypatch.setattr(ServiceClient, "connect", staticmethod(noted))

    async def scenario() -> None:
        session = Session(Settings({"address": "sqlite://"}, {}), click.Context(click.Command("test")))
        assert await session.service() is not None
        await asyncio.gather(session.service(), session.service())
        await session.close()
        await asyncio.gather(session.service(), session.service())
        await session.close()

    asyncio.run(scenario())
    assert len(connected) == 2


@pytest.mark.parametrize("columns", [20, 200])
def test_a_table_whose_headings_have_no_room_becomes_cards(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words are not folded letter by letter on a narrow terminal."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal: Any = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    Output(Settings({}, {})).table(
        [{"tasksAddRate": 1, "tasksDispatchRate": 2}] * 2, ["tasksAddRate", "tasksDispatchRate"]
    )
    lines = [line.split() for line in terminal.getvalue().splitlines()]
    card = [["tasksAddRate", "1"], ["tasksDispatchRate", "2"]]
    table = [["tasksAddRate", "tasksDispatchRate"], ["1", "2"], ["1", "2"]]
    assert lines == (table if columns == 200 else [*card, [], *card])
