"""Schedules on a whole server: what requests are refused, that actions are taken once whatever crashes, deletion."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from perdure.api.enums.v1 import EventType, ScheduleOverlapPolicy
from perdure.api.namespace.v1 import NamespaceInfo
from perdure.api.protobuf import Duration
from perdure.api.schedule.v1 import IntervalSpec, Schedule, SchedulePatch, TriggerImmediatelyRequest
from perdure.api.workflowservice.v1 import (
    CountSchedulesRequest,
    CountSchedulesResponse,
    CreateScheduleRequest,
    DeleteScheduleRequest,
    DescribeScheduleRequest,
    DescribeScheduleResponse,
    ListScheduleMatchingTimesRequest,
    ListSchedulesRequest,
    PatchScheduleRequest,
    UpdateScheduleRequest,
)
from perdure.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    WorkflowAlreadyStartedError,
)
from perdure.core.run.records import RunKey, RunWrite
from perdure.core.schedule import machine
from perdure.core.schedule.state import ScheduleState, Start, decode
from perdure.server.config import ServerConfig
from perdure.server.engine import schedules, timers
from perdure.server.engine.schedules import ATTENTION_NS
from perdure.server.namespaces import DELETED
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.server.service import schedule_rpcs
from perdure.store.faults import Fault, FaultyStore, fail_method
from perdure.store.memory import MemoryStore
from perdure.store.protocol import ScheduleKey, ScheduleWakeup, StoredSchedule
from tests.support.builders import complete_workflow, payloads, queue
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

QUEUE = "scheduled"


class _LastingStore(MemoryStore):
    """A store in memory that outlives its server."""

    async def close(self) -> None:
        """The next server goes on with it."""


@asynccontextmanager
async def served(store: Any, *, starts: bool = True) -> AsyncIterator[LocalClient]:
    """A server over this store; one that does not start workflows stands for one that crashes before or after."""
    server = Server(store, ServerConfig(port=0), SystemRuntime(), "memory")
    if not starts:
        begin = server.schedules._start

        async def cut_off(state: ScheduleState, start: Start) -> ScheduleState:
            await begin(state, start)
            raise UnavailableError("the answer is lost")

        async def not_at_once(*_: object) -> None:
            return None

        server.schedules._act_at_once = not_at_once  # type: ignore[method-assign,assignment]
        server.schedules._start = cut_off  # type: ignore[method-assign]
    await server.start()
    try:
        yield LocalClient(server)
    finally:
        await server.stop(0)


def hourly(workflow_id: str = "w") -> Schedule:
    """A schedule that acts each hour, and so only when it is told to in a test."""
    schedule = Schedule()
    schedule.spec.interval.append(IntervalSpec(interval=Duration(seconds=3600)))
    template = schedule.action.start_workflow
    template.workflow_id = workflow_id
    template.workflow_type.name = "Nightly"
    template.task_queue.name = QUEUE
    return schedule


def create(schedule_id: str = "s", **fields: Any) -> CreateScheduleRequest:
    """A request to create a schedule."""
    given: dict[str, Any] = {"schedule": hourly(), "request_id": f"create {schedule_id}", **fields}
    return CreateScheduleRequest(namespace="default", schedule_id=schedule_id, **given)


def trigger(schedule_id: str = "s", overlap: str = "UNSPECIFIED") -> PatchScheduleRequest:
    """A request to act now."""
    policy = ScheduleOverlapPolicy.Value(f"SCHEDULE_OVERLAP_POLICY_{overlap}")
    patch = SchedulePatch(trigger_immediately=TriggerImmediatelyRequest(overlap_policy=policy))
    return PatchScheduleRequest(namespace="default", schedule_id=schedule_id, patch=patch)


async def describe(client: LocalClient, schedule_id: str = "s") -> DescribeScheduleResponse:
    """A schedule's description."""
    request = DescribeScheduleRequest(namespace="default", schedule_id=schedule_id)
    response: Any = await client.invoke(request)
    return response  # type: ignore[no-any-return]


async def complete(client: LocalClient, result: str = "done") -> str:
    """Completes the next workflow; returns its id."""
    task = await client.poll_workflow_task(queue(QUEUE))
    assert task.task_token
    await client.complete_workflow_task(task.task_token, [complete_workflow(payloads(result))])
    return str(task.workflow_execution.workflow_id)


def test_a_trigger_is_done_when_it_is_answered_and_its_end_is_noticed() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.invoke(create())
            await client.invoke(trigger())
            info = (await describe(client)).info
            assert (info.action_count, len(info.running_workflows)) == (1, 1)
            await client.invoke(trigger())
            assert (await describe(client)).info.overlap_skipped == 1
            workflow_id = await complete(client)
            assert workflow_id == info.running_workflows[0].workflow_id
            while (await describe(client)).info.recent_actions[0].start_workflow_status != 2:
                await asyncio.sleep(0)
            assert not (await describe(client)).info.running_workflows

    run(scenario())


def test_what_waits_starts_when_the_running_workflow_closes_and_gets_its_result() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.invoke(create())
            await client.invoke(trigger())
            await client.invoke(trigger(overlap="BUFFER_ALL"))
            assert (await describe(client)).info.buffer_size == 1
            await complete(client, "first")
            task = await client.poll_workflow_task(queue(QUEUE))
            started = task.history.events[0].workflow_execution_started_event_attributes
            assert started.last_completion_result == payloads("first")
            assert (await describe(client)).info.action_count == 2

    run(scenario())


def test_an_action_whose_outcome_was_lost_in_a_crash_is_taken_once() -> None:
    async def scenario() -> None:
        store = _LastingStore()
        async with served(store, starts=False) as client:
            await client.invoke(create())
            await client.invoke(trigger())
            assert (await describe(client)).info.action_count == 0, "it was started, but nobody knows"
        async with served(store) as client:
            while not (info := (await describe(client)).info).action_count:
                await asyncio.sleep(0)
            assert (info.action_count, len(info.running_workflows)) == (1, 1)
            page = await store.list_runs(client.server.namespaces.get("default").namespace_id, None, 10, None)
            assert [row.run.run_id for row in page.rows] == [info.running_workflows[0].run_id]

    run(scenario())


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
def test_an_action_whose_commit_has_an_unknown_outcome_is_taken_once(fault: Fault) -> None:
    """The row of the schedule and the run that it starts come about together or not at all."""

    async def scenario() -> None:
        store = FaultyStore(_LastingStore(), fail_method("commit", fault))
        async with served(store) as client:
            await client.invoke(create())
            await client.invoke(trigger())
            while not (info := (await describe(client)).info).action_count:
                await asyncio.sleep(0)
            assert (info.action_count, len(info.running_workflows)) == (1, 1)
            page = await store.list_runs(client.server.namespaces.get("default").namespace_id, None, 10, None)
            assert [row.run.run_id for row in page.rows] == [info.running_workflows[0].run_id]
            await complete(client)
            while (await describe(client)).info.running_workflows:
                await asyncio.sleep(0)

    run(scenario())


@pytest.mark.parametrize("what", ["create", "trigger"])
def test_what_was_written_and_reported_as_failed_is_done(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks again, no time of the schedule comes: its row says that there is something to do, and is found."""
    monkeypatch.setattr(schedules, "RETRY_NS", 10_000_000)

    async def scenario() -> None:
        number = 1 if what == "create" else 2
        store = FaultyStore(_LastingStore(), fail_method("put_schedule", Fault.AFTER, number))
        never = hourly()
        never.ClearField("spec")
        async with served(store) as client:
            if what == "create":
                with pytest.raises(UnavailableError):
                    await client.invoke(create(schedule=never, initial_patch=trigger().patch))
            else:
                await client.invoke(create(schedule=never))
                with pytest.raises(UnavailableError):
                    await client.invoke(trigger())
            async with asyncio.timeout(5):
                while not (await describe(client)).info.action_count:
                    await asyncio.sleep(0)

    run(scenario())


def test_an_action_is_one_commit() -> None:
    """What was asked for is one write, what follows from it the other: the run, and the schedule that knows it."""

    async def scenario() -> None:
        store = FaultyStore(_LastingStore())
        async with served(store) as client:
            await client.invoke(create())
            before = dict(store.calls)
            await client.invoke(trigger(overlap="ALLOW_ALL"))
            assert (await describe(client)).info.action_count == 1
            grown = {name: store.calls[name] - before.get(name, 0) for name in ("put_schedule", "commit")}
            assert grown == {"put_schedule": 1, "commit": 1}

    run(scenario())


def test_a_workflow_that_is_in_the_way_is_left_alone_and_its_end_is_nobodys_news() -> None:
    """The action is lost, and the schedule goes on; it does not take the other workflow for its own."""

    async def scenario() -> None:
        async with serving() as client:
            await client.invoke(create())
            request = trigger()
            request.patch.trigger_immediately.scheduled_time.seconds = 1_700_000_000
            mine = await client.start("w-2023-11-14T22:13:20Z", QUEUE)
            await client.invoke(request)
            info = (await describe(client)).info
            assert (info.action_count, len(info.running_workflows), info.buffer_size) == (0, 0, 0)
            assert await complete(client) == "w-2023-11-14T22:13:20Z"
            await client.invoke(trigger())
            info = (await describe(client)).info
            assert info.action_count == 1
            assert info.running_workflows[0].run_id != mine.run_id
            assert len(client.server.schedules._watched) == 1

    run(scenario())


def test_an_end_that_nobody_noticed_is_found_after_a_restart() -> None:
    async def scenario() -> None:
        store = _LastingStore()
        async with served(store) as client:
            await client.invoke(create())
            await client.invoke(trigger())
            client.server.engine.commits.on_closed = lambda run: None
            await complete(client)
        async with served(store) as client:
            while (await describe(client)).info.recent_actions[0].start_workflow_status != 2:
                await asyncio.sleep(0)

    run(scenario())


class _LateStore(MemoryStore):
    """Answers a commit late, if it is told to; others read already what was committed."""

    def __init__(self) -> None:
        super().__init__()
        self.acted: asyncio.Event | None = None
        self.may_answer = asyncio.Event()

    async def commit(self, unit: Sequence[RunWrite], schedule: StoredSchedule | None = None) -> None:
        """As ever, and later."""
        await super().commit(unit, schedule)
        if self.acted is not None:
            self.acted.set()
            await self.may_answer.wait()


def test_a_workflow_whose_end_is_on_its_way_is_running_until_it_is_known() -> None:
    """The store tells of the end before the server, which is told of it a moment later."""

    async def scenario() -> None:
        store = _LateStore()
        async with served(store) as client:
            await client.invoke(create())
            await client.invoke(trigger())
            task = await client.poll_workflow_task(queue(QUEUE))
            store.acted = asyncio.Event()
            completing = asyncio.create_task(
                client.complete_workflow_task(task.task_token, [complete_workflow(payloads("done"))])
            )
            await store.acted.wait()
            store.acted = None
            try:
                await client.invoke(trigger(overlap="SKIP"))
            finally:
                store.may_answer.set()
            assert (await describe(client)).info.overlap_skipped == 1
            await completing
            while (await describe(client)).info.recent_actions[0].start_workflow_status != 2:
                await asyncio.sleep(0)

    run(scenario())


@pytest.mark.parametrize("character", ["x", "\u00fc", "\u732b", '"'])
def test_the_longest_names_act_whatever_their_characters(character: str) -> None:
    """A name counts by its bytes, and what an action says of its schedule is not longer in another encoding.

    A schedule's id has to leave room for the prefix that the real server gives it (23 bytes), a workflow's for the time
    that is appended to it (21).
    """
    size = len(character.encode())
    schedule_id, workflow_id = character * (977 // size), character * (979 // size)

    async def scenario() -> None:
        async with serving() as client:
            await client.invoke(create(schedule_id, schedule=hourly(workflow_id), request_id="r"))
            await client.invoke(trigger(schedule_id))
            info = (await describe(client, schedule_id)).info
            assert info.action_count == 1
            task = await client.poll_workflow_task(queue(QUEUE))
            assert len(task.workflow_execution.workflow_id.encode()) > 1000 - size
            started = task.history.events[0].workflow_execution_started_event_attributes
            named = started.search_attributes.indexed_fields["TemporalScheduledById"]
            assert json.loads(named.data) == schedule_id
            for too_long in (
                create(schedule_id + character, request_id="s"),
                create("t", schedule=hourly(workflow_id + character)),
            ):
                with pytest.raises(InvalidArgumentError, match="exceeds maximum allowed length"):
                    await client.invoke(too_long)

    run(scenario())


def test_a_schedule_whose_id_makes_its_actions_impossible_is_refused() -> None:
    """Control characters are longer in a search attribute's JSON: told at once, not when the first action is due."""

    async def scenario() -> None:
        async with serving() as client:
            with pytest.raises(InvalidArgumentError, match="TemporalScheduledById"):
                await client.invoke(create("\x01" * 900, request_id="r"))

    run(scenario())


def test_creating_is_done_once_per_request_and_a_name_belongs_to_one() -> None:
    async def scenario() -> None:
        async with serving() as client:
            first: Any = await client.invoke(create())
            again: Any = await client.invoke(create())
            assert first.conflict_token == again.conflict_token == (1).to_bytes(8, "big")
            with pytest.raises(WorkflowAlreadyStartedError, match='schedule "s" is already registered'):
                await client.invoke(create(request_id="another"))

    run(scenario())


def test_an_update_with_an_old_token_is_refused() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.invoke(create())
            token = (await describe(client)).conflict_token
            update = UpdateScheduleRequest(
                namespace="default", schedule_id="s", schedule=hourly("v"), conflict_token=token
            )
            await client.invoke(update)
            assert (await describe(client)).schedule.action.start_workflow.workflow_id == "v"
            with pytest.raises(FailedPreconditionError):
                await client.invoke(update)

    run(scenario())


@pytest.mark.parametrize(
    "change",
    [
        UpdateScheduleRequest(namespace="default", schedule_id="s", schedule=hourly()),
        PatchScheduleRequest(namespace="default", schedule_id="s", patch=SchedulePatch(pause="lunch")),
    ],
    ids=["update", "pause"],
)
def test_what_was_due_before_a_change_is_taken_however_much_it_is(
    change: UpdateScheduleRequest | PatchScheduleRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock went on by more than one step takes in, and the first to look at the schedule is its user."""
    monkeypatch.setattr(machine, "MAX_LATE_ACTIONS", 4)
    hour_ns = 3_600 * 10**9

    async def scenario() -> None:
        store = _LastingStore()
        async with served(store) as client:
            await client.invoke(create())
            key = ScheduleKey(client.server.namespaces.get("default").namespace_id, "s")
        stored = await store.load_schedule(key)
        assert stored is not None
        state = decode(key.namespace_id, "s", stored.data)
        first = state.processed_ns // hour_ns - 10
        state.processed_ns = first * hour_ns
        for time in (state.own_info().create_time, state.own_info().update_time):
            time.FromNanoseconds(state.processed_ns)
        # Its wake-up is far off: no timer is quicker than the user.
        late = StoredSchedule(key, stored.version + 1, 2**62, stored.entry, state.encode())
        await store.put_schedule(late)
        async with served(store) as client:
            await client.invoke(change)
            info = (await describe(client)).info
        stored = await store.load_schedule(key)
        assert stored is not None
        due = decode(key.namespace_id, "s", stored.data).processed_ns // hour_ns - first
        assert due >= 10
        assert info.action_count + info.overlap_skipped == due

    run(scenario())


def test_lists_are_filtered_counted_and_paged() -> None:
    async def scenario() -> None:
        async with serving() as client:
            for name in "cabd":
                await client.invoke(create(name))
            patch = SchedulePatch(pause="quiet")
            for name in "ad":
                await client.invoke(PatchScheduleRequest(namespace="default", schedule_id=name, patch=patch))
            found, token = [], b""
            while True:
                page: Any = await client.invoke(
                    ListSchedulesRequest(namespace="default", maximum_page_size=3, next_page_token=token)
                )
                found += [entry.schedule_id for entry in page.schedules]
                token = page.next_page_token
                if not token:
                    break
            assert found == ["a", "b", "c", "d"]
            query = "TemporalSchedulePaused = true AND ScheduleId != 'd'"
            listed: Any = await client.invoke(ListSchedulesRequest(namespace="default", query=query))
            assert [(entry.schedule_id, entry.info.notes) for entry in listed.schedules] == [("a", "quiet")]
            counted: Any = await client.invoke(CountSchedulesRequest(namespace="default", query=query))
            assert counted.count == 1

    run(scenario())


def test_others_get_their_turn_between_the_pages_of_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small reads wait for nothing: a namespace of many schedules would keep everybody waiting."""
    monkeypatch.setattr(schedule_rpcs, "SCAN_PAGE", 1)

    async def scenario() -> None:
        async with serving() as client:
            for number in range(5):
                await client.invoke(create(f"s{number}"))
            request = CountSchedulesRequest(namespace="default")
            counting = asyncio.ensure_future(client.call(request, CountSchedulesResponse))
            turns = 0
            while not counting.done():
                turns += 1
                await asyncio.sleep(0)
            assert (await counting).count == 5
            assert turns > 5

    run(scenario())


def test_a_deleted_schedule_is_gone_and_its_workflows_go_on() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.invoke(create())
            await client.invoke(trigger())
            await client.invoke(DeleteScheduleRequest(namespace="default", schedule_id="s"))
            for request in (
                DescribeScheduleRequest(namespace="default", schedule_id="s"),
                DeleteScheduleRequest(namespace="default", schedule_id="s"),
                UpdateScheduleRequest(namespace="default", schedule_id="s", schedule=hourly()),
                ListScheduleMatchingTimesRequest(namespace="default", schedule_id="s"),
                trigger(),
            ):
                with pytest.raises(NotFoundError, match="schedule not found"):
                    await client.invoke(request)
            await complete(client)
            await client.invoke(create(request_id="new"))
            assert (await describe(client)).info.action_count == 0

    run(scenario())


def test_times_are_previewed() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.invoke(create())
            request = ListScheduleMatchingTimesRequest(namespace="default", schedule_id="s")
            with pytest.raises(InvalidArgumentError):
                await client.invoke(request)
            request.start_time.seconds, request.end_time.seconds = 3600, 3 * 3600
            response: Any = await client.invoke(request)
            assert [time.seconds for time in response.start_time] == [7200, 10800]
            request.end_time.seconds = 1 << 33
            response = await client.invoke(request)
            assert len(response.start_time) == 1000

    run(scenario())


def _with(change: str) -> Schedule:
    schedule = hourly()
    template = schedule.action.start_workflow
    match change:
        case "spec":
            schedule.spec.cron_string.append("x")
        case "action":
            schedule.ClearField("action")
        case "cron":
            template.cron_schedule = "@daily"
        case "reuse":
            template.workflow_id_reuse_policy = 2  # type: ignore[assignment]  # numbers are accepted
        case "type":
            template.workflow_type.name = ""
        case "queue":
            template.ClearField("task_queue")
        case "attributes":
            template.search_attributes.indexed_fields["Nowhere"].data = b"1"
        case "notes":
            schedule.state.notes = "x" * 1001
    return schedule


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"schedule_id": ""}, "ScheduleId is not set on request."),
        ({"schedule_id": "x" * 1000}, "WorkflowId exceeds maximum allowed length"),
        ({"request_id": ""}, "RequestId is not set on request."),
        ({"request_id": "x" * 1001}, "RequestId length exceeds limit."),
        ({"schedule": _with("spec")}, "Invalid schedule spec: CronString does not have 5-7 fields"),
        ({"schedule": _with("action")}, "Only StartWorkflow action is supported for schedules"),
        ({"schedule": _with("cron")}, "Scheduled workflow must not contain CronSchedule"),
        ({"schedule": _with("reuse")}, "Scheduled workflow must not contain WorkflowIDReusePolicy"),
        ({"schedule": _with("type")}, "WorkflowType is not set on request."),
        ({"schedule": _with("queue")}, "taskQueue is not set"),
        ({"schedule": _with("attributes")}, "Nowhere"),
        ({"schedule": _with("notes")}, "Schedule notes exceeds limit."),
    ],
)
def test_what_cannot_be_created(fields: dict[str, Any], words: str) -> None:
    async def scenario() -> None:
        async with serving() as client:
            request = create()
            for name, value in fields.items():
                if isinstance(value, Schedule):
                    request.schedule.CopyFrom(value)
                else:
                    setattr(request, name, value)
            with pytest.raises(InvalidArgumentError, match=words):
                await client.invoke(request)

    run(scenario())


class _CountingStore(_LastingStore):
    """Counts what schedules cost."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0
        self.attention_read = 0

    async def put_schedule(self, schedule: StoredSchedule) -> None:
        """Writes one."""
        self.written += 1
        await super().put_schedule(schedule)

    async def due_schedules(
        self, until_ns: int, after: ScheduleWakeup | None, limit: int
    ) -> Sequence[ScheduleWakeup]:
        """Reads a page."""
        rows = await super().due_schedules(until_ns, after, limit)
        self.attention_read += sum(row.wakeup_ns == ATTENTION_NS for row in rows)
        return rows


def test_a_workflow_that_takes_its_time_to_be_cancelled_is_asked_once() -> None:
    async def scenario() -> None:
        store = _CountingStore()
        async with served(store) as client:
            await client.invoke(create())
            await client.invoke(trigger())
            running = (await describe(client)).info.running_workflows[0]
            for _ in range(2):
                store.written = 0
                await client.invoke(trigger(overlap="CANCEL_OTHER"))
                assert store.written <= 4
            events = await client.history(running.workflow_id)
            requested = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED
            assert [event.event_type for event in events].count(requested) == 1
            await complete(client)
            while (await describe(client)).info.action_count < 2:
                await asyncio.sleep(0)

    run(scenario())


def test_a_request_that_comes_again_is_not_done_again() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.invoke(create())
            again = trigger(overlap="ALLOW_ALL")
            again.request_id = "patch"
            again.patch.trigger_immediately.scheduled_time.seconds = 1_700_000_000
            await client.invoke(again)
            again.patch.trigger_immediately.scheduled_time.seconds += 1
            await client.invoke(again)
            found = await describe(client)
            assert found.info.action_count == 1
            update = UpdateScheduleRequest(
                namespace="default",
                schedule_id="s",
                schedule=hourly("v"),
                conflict_token=found.conflict_token,
                request_id="update",
            )
            await client.invoke(update)
            await client.invoke(update)
            again.request_id = ""
            await client.invoke(again)
            assert (await describe(client)).info.action_count == 2

    run(scenario())


def test_backfills_keep_their_pace_whatever_else_happens() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.invoke(create())
            request = PatchScheduleRequest(namespace="default", schedule_id="s")
            backfill = request.patch.backfill_request.add()
            backfill.overlap_policy = ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL
            backfill.start_time.seconds = 1_600_000_000
            backfill.end_time.seconds = 1_600_000_000 + 3600 * 100
            await client.invoke(request)
            await client.invoke(trigger(overlap="ALLOW_ALL"))
            assert (await describe(client)).info.action_count == 11

    run(scenario())


def test_schedules_with_running_workflows_are_read_at_the_start_and_then_only_if_one_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timers, "PAGE", 4)
    monkeypatch.setattr(schedules, "RETRY_NS", 10_000_000)
    count = 10

    async def scenario() -> None:
        store = _CountingStore()
        async with served(store) as client:
            for number in range(count):
                await client.invoke(create(f"s{number}", schedule=hourly(f"w{number}")))
                await client.invoke(trigger(f"s{number}"))
        async with served(store) as client:
            schedules = client.server.schedules
            while len(schedules._attended) < count:
                await asyncio.sleep(0)
            await schedules._timers._load()
            store.attention_read = 0
            await schedules._timers._load()
            assert store.attention_read == 0
            monkeypatch.setattr(schedules, "_advance", _unable)
            with pytest.raises(_Defect):
                await schedules._wake(RunKey(client.server.namespaces.get("default").namespace_id, "s3", ""))
            monkeypatch.undo()
            await schedules._timers._load()
            assert store.attention_read == count
            schedules.clock_moved()
            while len(schedules._attended) < count:
                await asyncio.sleep(0)

    run(scenario())


class _Defect(Exception):
    """What code raises that has a mistake."""


async def _unable(*_: object) -> None:
    raise _Defect


def test_a_namespace_is_removed_with_what_its_schedules_start_meanwhile() -> None:
    async def scenario() -> None:
        store = _LastingStore()
        server = Server(store, ServerConfig(port=0, namespaces=("old",)), SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        request = create()
        request.namespace = "old"
        request.schedule.policies.overlap_policy = ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL
        await client.invoke(request)
        namespace = server.namespaces.get("old")
        remove_all = server.schedules.delete_all

        async def late(namespace_id: str) -> None:
            again = trigger(overlap="ALLOW_ALL")
            again.namespace = "old"
            await client.invoke(again)
            await remove_all(namespace_id)

        server.schedules.delete_all = late  # type: ignore[method-assign]
        server.namespace_removals.begin(namespace)
        await asyncio.gather(*server.namespace_removals._tasks.values())
        assert not (await store.list_runs(namespace.namespace_id, None, 10, None)).rows
        await server.stop(0)

    run(scenario())


def test_a_schedule_of_a_namespace_that_is_being_removed_starts_nothing() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.invoke(create())
            namespaces = client.server.namespaces
            namespace = namespaces.get("default")
            await namespaces.update(replace(namespace, info=NamespaceInfo(state=DELETED)))
            await client.server.schedules.change(
                ScheduleKey(namespace.namespace_id, "s"),
                lambda state, now_ns: machine.patched(state, trigger().patch, "", now_ns),
            )
            page = await client.server.engine.store.list_runs(namespace.namespace_id, None, 10, None)
            assert not page.rows

    run(scenario())
