"""Event groups: which commands carry which, and that history and user interfaces get them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from perdure import activity, workflow
from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent
from perdure.client import Client, WorkflowHandle
from perdure.common import RetryPolicy
from perdure.converter import PayloadConverter
from perdure.exceptions import TemporalError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Replayer, Worker
from perdure.workflow import EventGroup

QUEUE = "groups"
TIMEOUT = timedelta(seconds=20)


@activity.defn
async def nothing() -> None:
    """Does nothing."""


@workflow.defn
class Child:
    """A child that ends at once."""

    @workflow.run
    async def run(self) -> None:
        """Nothing."""


def _groups(*ids: str) -> list[EventGroup]:
    return [workflow.create_event_group(name) for name in ids]


@workflow.defn
class Everything:
    """Asks for one of everything, each with a group of its own."""

    @workflow.run
    async def run(self, ends: bool = True) -> None:
        """Ends with a new run that ends."""
        if not ends:
            return
        await workflow.execute_activity(
            nothing, start_to_close_timeout=TIMEOUT, event_groups=_groups("activity")
        )
        await workflow.execute_local_activity(
            nothing, start_to_close_timeout=TIMEOUT, event_groups=_groups("local")
        )
        await workflow.sleep(0.001, event_groups=_groups("sleep"))
        with pytest.raises(asyncio.TimeoutError):
            await workflow.wait_condition(lambda: False, timeout=0.001, event_groups=_groups("condition"))
        child = await workflow.start_child_workflow(
            Child.run, retry_policy=RetryPolicy(maximum_attempts=1), event_groups=_groups("child")
        )
        await child
        with pytest.raises(Exception, match="not found"):
            await workflow.get_external_workflow_handle("absent").signal("x", event_groups=_groups("signal"))
        with pytest.raises(Exception, match="not found"):
            await workflow.get_external_workflow_handle("absent").cancel(event_groups=_groups("cancel"))
        workflow.patched("change", event_groups=_groups("patch"))
        workflow.upsert_memo({"note": 1}, event_groups=_groups("memo"))
        with workflow.create_event_group("outer").scope():
            workflow.continue_as_new(False, event_groups=_groups("next"))


@workflow.defn
class Scopes:
    """Groups by scope, in tasks and in handlers."""

    def __init__(self) -> None:
        self.ended = 0

    @workflow.run
    async def run(self) -> None:
        """Timers of 1 ms (plain), 2 (outer), 3 (both), 4 (a task made inside), 5 (the same id again)."""
        await workflow.sleep(0.001)
        outer = workflow.create_event_group("outer", label="The outer one")
        with outer.scope():
            workflow.set_signal_handler("late", self.late)
            await workflow.sleep(0.002)
            with workflow.create_event_group("inner").scope():
                await workflow.sleep(0.003)
                task = asyncio.create_task(workflow.sleep(0.004))
        await task
        with outer.scope():
            await workflow.sleep(0.005, event_groups=[outer])
        await workflow.wait_condition(lambda: self.ended == 2)

    async def late(self) -> None:
        """Of 6 ms, for a signal."""
        await workflow.sleep(0.006)
        self.ended += 1

    @workflow.update
    async def ask(self) -> None:
        """Of 7 ms, for an update, in a group as well."""
        with workflow.create_event_group("own").scope():
            await workflow.sleep(0.007)
        self.ended += 1


@workflow.defn
class Wrong:
    """Collects what the mistakes raise."""

    @workflow.run
    async def run(self) -> list[str]:
        """The messages."""
        messages = []
        attempts: list[Callable[[], object]] = [
            lambda: workflow.create_event_group(""),
            lambda: workflow.create_event_group("a", label=""),
            lambda: workflow.patched("b", event_groups=["a"]),  # type: ignore[list-item]
        ]
        for attempt in attempts:
            try:
                attempt()
            except (ValueError, TypeError) as error:
                messages.append(str(error))
        return messages


def _words(event: HistoryEvent) -> list[str]:
    words = []
    for marker in event.event_group_markers:
        match marker.WhichOneof("variant"):
            case "label":
                words.append(marker.label.id)
            case "inbound_event":
                words.append(f"event {marker.inbound_event.inbound_event_id}")
            case "inbound_update":
                words.append(f"update {marker.inbound_update.inbound_update_id}")
    return words


async def _events(
    client: Client, workflow_run: Any, drive: Callable[[WorkflowHandle[Any, Any]], Coroutine[Any, Any, None]]
) -> list[HistoryEvent]:
    async with Worker(client, task_queue=QUEUE, workflows=[Everything, Scopes, Child], activities=[nothing]):
        handle = await client.start_workflow(workflow_run, id=str(uuid4()), task_queue=QUEUE)
        await drive(handle)
        await handle.result()
    first = client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    history = await first.fetch_history()
    await Replayer(workflows=[Everything, Scopes]).replay_workflow(history)
    return list(history.events)


async def _nothing_more(_: WorkflowHandle[Any, Any]) -> None:
    """The workflow needs nobody."""


def test_everything_that_is_asked_for_can_belong_to_a_group() -> None:
    """The event that records it says so; events that nobody asked for belong to none."""
    asyncio.run(_everything_that_is_asked_for_can_belong_to_a_group())


async def _everything_that_is_asked_for_can_belong_to_a_group() -> None:
    async with await WorkflowEnvironment.start_local() as environment:
        events = await _events(environment.client, Everything.run, _nothing_more)
    named = {
        EventType.Name(event.event_type).removeprefix("EVENT_TYPE_"): _words(event)
        for event in events
        if event.event_group_markers
    }
    timers = [_words(e) for e in events if e.event_type == EventType.EVENT_TYPE_TIMER_STARTED]
    markers = [_words(e) for e in events if e.event_type == EventType.EVENT_TYPE_MARKER_RECORDED]
    assert timers == [["sleep"], ["condition"]]
    assert markers == [["local"], ["patch"]]
    assert {
        name: words for name, words in named.items() if name not in ("TIMER_STARTED", "MARKER_RECORDED")
    } == {
        "ACTIVITY_TASK_SCHEDULED": ["activity"],
        "START_CHILD_WORKFLOW_EXECUTION_INITIATED": ["child"],
        "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED": ["signal"],
        "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED": ["cancel"],
        "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES": ["patch"],
        "WORKFLOW_PROPERTIES_MODIFIED": ["memo"],
        "WORKFLOW_EXECUTION_CONTINUED_AS_NEW": ["outer", "next"],
    }


def test_scopes_add_up_and_handlers_belong_to_what_came_in() -> None:
    """A handler carries the signal or update that it handles, whatever scope it was set in."""
    asyncio.run(_scopes_add_up_and_handlers_belong_to_what_came_in())


async def _scopes_add_up_and_handlers_belong_to_what_came_in() -> None:

    async def drive(handle: WorkflowHandle[Any, Any]) -> None:
        await handle.signal("late")
        await handle.execute_update(Scopes.ask, id="question")

    async with await WorkflowEnvironment.start_local() as environment:
        events = await _events(environment.client, Scopes.run, drive)
    signaled = next(e for e in events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
    timers = {
        e.timer_started_event_attributes.start_to_fire_timeout.nanos // 1_000_000: _words(e)
        for e in events
        if e.event_type == EventType.EVENT_TYPE_TIMER_STARTED
    }
    assert timers == {
        1: [],
        2: ["outer"],
        3: ["outer", "inner"],
        4: ["outer", "inner"],
        5: ["outer"],
        6: [f"event {signaled.event_id}"],
        7: ["update question", "own"],
    }
    labels = [m.label.label for e in events for m in e.event_group_markers if m.label.id == "outer"]
    assert {PayloadConverter.default.from_payload(label) for label in labels} == {"The outer one"}


def test_groups_are_made_inside_workflows_only() -> None:
    """Outside there is nothing that could belong to one."""
    with pytest.raises(TemporalError, match="Not in workflow event loop"):
        workflow.create_event_group("outside")


def test_wrong_groups_say_what_is_wrong() -> None:
    """An empty id, an empty label, and something that is no group."""
    asyncio.run(_wrong_groups_say_what_is_wrong())


async def _wrong_groups_say_what_is_wrong() -> None:

    async with (
        await WorkflowEnvironment.start_local() as environment,
        Worker(environment.client, task_queue=QUEUE, workflows=[Wrong]),
    ):
        messages = await environment.client.execute_workflow(Wrong.run, id=str(uuid4()), task_queue=QUEUE)
    assert messages == [
        "Event group id cannot be empty",
        "Event group label cannot be empty",
        "event_groups takes what workflow.create_event_group() returns, not str",
    ]
