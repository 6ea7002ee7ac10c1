"""Changed workflow code meets open and closed runs: in the `Replayer`, and in a worker that takes them over."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from perdure import workflow
from perdure.api.enums.v1 import WorkflowTaskFailedCause
from perdure.client import (
    Client,
    WorkflowContinuedAsNewError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
    WorkflowQueryFailedError,
)
from perdure.common import RawValue
from perdure.service import RPCError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Replayer, Worker
from perdure.workflow import NondeterminismError
from tests.e2e.determinism import steps
from tests.e2e.determinism.changes import ALLOWED, CAUGHT, Change
from tests.e2e.python_sdk import eventually

LIMIT_S: Final = 90.0
QUEUE: Final = "changes"
_NON_DETERMINISTIC: Final = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
_MESSAGE: Final = re.compile(
    r"\[TMPRL1100\] Nondeterminism error: workflow code and history differ at event (?P<event>\d+)\.\n"
    r"  history recorded: (?P<recorded>.*)\n"
    r"  the code asked for: (?P<asked>.*?)(?: at (?P<file>/.*):(?P<line>\d+))?\n"
)


_CHANGES: Final = {change.name: change for change in (*CAUGHT, *ALLOWED)}


class _Changing:
    """Runs the steps of the change that it is named after."""

    is_changed = False

    def __init__(self) -> None:
        self.change = _CHANGES[workflow.info().workflow_type]
        self.is_held = False
        self.is_released = False

    async def steps(self) -> None:
        for step in self.change.after if self.is_changed else self.change.before:
            await step()

    async def main(self) -> str:
        if not self.change.in_handler:
            await self.steps()
        if not self.change.closes:
            await workflow.wait_condition(workflow.all_handlers_finished)
            self.is_held = True
            await workflow.wait_condition(lambda: self.is_released)
        return "done"

    @workflow.signal
    async def begin(self) -> None:
        if self.change.in_handler:
            await self.steps()

    @workflow.signal
    def note(self) -> None: ...

    @workflow.signal
    def release(self) -> None:
        self.is_released = True

    @workflow.query
    def held(self) -> bool:
        return self.is_held


@workflow.defn(dynamic=True)
class Before(_Changing):
    """Every workflow as it was."""

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> str:
        return await self.main()


@workflow.defn(dynamic=True)
class After(_Changing):
    """Every workflow as it is now."""

    is_changed = True

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> str:
        return await self.main()


@dataclass
class Seen:
    """What became of one change.

    Attributes:
        history: As the old code wrote it.
        live: The message of the worker with the new code; empty when nothing was wrong.
        is_open: The workflow still runs, its task having failed.
    """

    history: WorkflowHistory
    live: str
    is_open: bool


async def _run_before(client: Client, change: Change) -> WorkflowHistory:
    """The old code, until it has ended, or waits and has seen one more signal."""
    handle = await client.start_workflow(
        change.name, id=change.name, task_queue=QUEUE, start_signal="begin" if change.in_handler else None
    )
    first: WorkflowHandle[Any, Any] = client.get_workflow_handle(
        change.name, run_id=handle.first_execution_run_id
    )
    if change.closes:
        try:
            await first.result(follow_runs=False)
        except (WorkflowFailureError, WorkflowContinuedAsNewError):
            pass  # some of them do, on purpose
        return await first.fetch_history()

    async def is_held() -> bool:
        try:
            return bool(await first.query("held"))
        except RPCError:
            return False

    await eventually(f"{change} waits", is_held, LIMIT_S)
    await first.signal("note")
    assert await first.query("held")
    return await first.fetch_history()


async def _take_over(client: Client, change: Change, history: WorkflowHistory) -> tuple[str, bool]:
    """The new code gets the next task, or a question about the closed run."""
    run_id = history.run_id
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(change.name, run_id=run_id)
    if change.closes:
        try:
            await handle.query("held")
        except WorkflowQueryFailedError as error:
            return str(error), False
        return "", False
    await handle.signal("release")
    messages: list[str] = []

    async def is_decided() -> bool:
        for event in (await handle.fetch_history()).events:
            if event.HasField("workflow_task_failed_event_attributes"):
                failed = event.workflow_task_failed_event_attributes
                assert failed.cause == _NON_DETERMINISTIC, failed
                messages.append(failed.failure.message)
        description = await handle.describe()
        return bool(messages) or description.status != WorkflowExecutionStatus.RUNNING

    await eventually(f"{change} is decided", is_decided, LIMIT_S)
    description = await handle.describe()
    return (messages or [""])[0], description.status == WorkflowExecutionStatus.RUNNING


async def _see(changes: Sequence[Change]) -> dict[str, Seen]:
    options: dict[str, Any] = {
        "task_queue": QUEUE,
        "activities": [steps.activity_a, steps.activity_b, steps.activity_endless],
    }
    children = [steps.ChildX, steps.ChildY]
    async with await WorkflowEnvironment.start_local(search_attributes=[steps.COLOUR]) as environment:
        client = environment.client
        async with Worker(client, workflows=[Before, *children], **options):
            histories = await asyncio.gather(*(_run_before(client, change) for change in changes))
        async with Worker(client, workflows=[After, *children], **options):
            outcomes = await asyncio.gather(*map(_take_over, [client] * len(changes), changes, histories))
        return {
            change.name: Seen(history, *outcome)
            for change, history, outcome in zip(changes, histories, outcomes, strict=True)
        }


@pytest.fixture(scope="module")
def seen() -> dict[str, Seen]:
    """All changes on one server, at the same time."""
    return asyncio.run(asyncio.wait_for(_see([*CAUGHT, *ALLOWED]), LIMIT_S))


def _replayed(code: type, history: WorkflowHistory) -> Exception | None:
    replayer = Replayer(workflows=[code])
    return asyncio.run(replayer.replay_workflow(history, raise_on_replay_failure=False)).replay_failure


def _check(message: str, change: Change, history: WorkflowHistory) -> None:
    """The message names the first event that differs, both sides, and the line of the step."""
    found = _MESSAGE.search(message)
    assert found is not None, message
    assert change.recorded in found["recorded"], message
    assert change.asked in found["asked"], message
    event = history.events[int(found["event"]) - 1]
    recorded_type = found["recorded"].split("(")[0].split(",")[0].strip()
    assert recorded_type in _TYPES_OF.get(event.WhichOneof("attributes") or "", recorded_type), message
    if change.source is not None:
        code = change.source.__code__
        assert found["file"] == code.co_filename, message
        lines = {line for _, _, line in code.co_lines() if line is not None}
        assert int(found["line"]) in lines, message


_TYPES_OF: Final = {
    "activity_task_scheduled_event_attributes": "ActivityTaskScheduled",
    "timer_started_event_attributes": "TimerStarted",
    "timer_canceled_event_attributes": "TimerCanceled",
    "workflow_execution_completed_event_attributes": "WorkflowExecutionCompleted",
}


@pytest.mark.parametrize("change", CAUGHT, ids=str)
def test_a_change_is_caught(change: Change, seen: dict[str, Seen]) -> None:
    """By the replayer and by a worker, with the same words; the workflow itself goes on."""
    history = seen[change.name].history
    failure = _replayed(After, history)
    assert isinstance(failure, NondeterminismError), failure
    _check(str(failure), change, history)
    assert seen[change.name].live, "the worker noticed nothing"
    _check(seen[change.name].live, change, history)
    assert seen[change.name].is_open != change.closes
    assert _replayed(Before, history) is None


@pytest.mark.parametrize("change", ALLOWED, ids=str)
def test_an_allowed_change_raises_no_alarm(change: Change, seen: dict[str, Seen]) -> None:
    """Neither in the replayer nor in a worker, where the workflow goes on to its end."""
    assert _replayed(After, seen[change.name].history) is None
    assert not seen[change.name].live
    assert not seen[change.name].is_open


def test_there_are_changes_enough() -> None:
    """At least fifty of them are caught, each another one."""
    assert len({change.name for change in (*CAUGHT, *ALLOWED)}) == len(CAUGHT) + len(ALLOWED)
    assert len(CAUGHT) >= 50
