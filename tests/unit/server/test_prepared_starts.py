"""Prepared starts of schedules: what is reused is what would come out again, and nothing is reused for too long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from perdure.api.common.v1 import Payloads
from perdure.api.failure.v1 import Failure
from perdure.api.operatorservice.v1 import AddSearchAttributesRequest, RemoveSearchAttributesRequest
from perdure.api.schedule.v1 import Schedule, ScheduleInfo
from perdure.api.workflowservice.v1 import (
    DeleteScheduleRequest,
    StartWorkflowExecutionRequest,
    UpdateScheduleRequest,
)
from perdure.core.schedule import messages
from perdure.core.schedule.state import ALLOW_ALL, ScheduleState, Start
from perdure.server.engine import prepared_starts
from perdure.server.engine.prepared_starts import PreparedStarts
from perdure.server.namespaces import Namespace
from perdure.store.protocol import ScheduleKey
from tests.support.builders import payloads
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import make_namespaces, run
from tests.unit.server.test_schedules import create, describe, hourly, trigger

SECOND_NS = 1_000_000_000


def schedule_of(schedule_id: str = "s", workflow_id: str = "w") -> ScheduleState:
    """A schedule whose action has a bit of everything."""
    schedule: Schedule = hourly(workflow_id)
    template = schedule.action.start_workflow
    template.input.CopyFrom(payloads("1"))
    template.memo.fields["m"].data = b"1"
    template.search_attributes.indexed_fields["BuildIds"].data = b'["b"]'
    template.retry_policy.maximum_attempts = 3
    return ScheduleState("id", "default", schedule_id, "incarnation", "request", schedule, ScheduleInfo())


STARTS = (
    Start(1, 1_700_000_000 * SECOND_NS, 0),
    Start(2, 1_700_003_600 * SECOND_NS, 0, is_manual=True),
    Start(3, 1_700_003_600 * SECOND_NS, 0, ALLOW_ALL),
)


@pytest.mark.parametrize("first", STARTS)
@pytest.mark.parametrize("second", STARTS)
def test_a_request_that_is_renewed_is_the_one_that_would_be_made(first: Start, second: Start) -> None:
    """Also where the one before knew of a result, and the schedule has come to another one since."""
    state = schedule_of()
    state.last_result, state.last_failure = payloads("old"), Failure(message="old")
    shared = messages.shared_part(messages.start_request(state, first))
    for result, failure in ((None, None), (payloads("new"), None), (Payloads(), Failure(message="new"))):
        later = replace(state, last_result=result, last_failure=failure)
        assert messages.renewed_request(shared, later, second) == messages.start_request(later, second)


@contextmanager
def checked(client: LocalClient) -> Iterator[list[str]]:
    """The ids of the workflows whose requests are checked."""
    ids: list[str] = []
    schedules = client.server.schedules
    prepare = schedules.prepare

    def noting(request: StartWorkflowExecutionRequest, namespace: Namespace) -> None:
        ids.append(request.workflow_id)
        prepare(request, namespace)

    schedules.prepare = noting
    yield ids


async def act(client: LocalClient, second: int) -> int:
    """Has the schedule act as of a second; returns how often it has acted."""
    request = trigger(overlap="ALLOW_ALL")
    request.patch.trigger_immediately.scheduled_time.seconds = 1_700_000_000 + second
    await client.invoke(request)
    return (await describe(client)).info.action_count


def test_a_request_is_checked_when_its_schedule_changes_and_not_for_its_actions() -> None:
    """A creation, an update or another schedule of the name has it checked; whoever asks for that waits for it."""

    async def scenario() -> None:
        async with serving() as client:
            with checked(client) as ids:
                await client.invoke(create())
                assert ids.pop().startswith("w-")
                del ids[:]
                assert [await act(client, second) for second in range(3)] == [1, 2, 3]
                assert ids == []
                update = UpdateScheduleRequest(namespace="default", schedule_id="s", schedule=hourly("x"))
                await client.invoke(update)
                assert ids.pop().startswith("x-")
                del ids[:]
                await act(client, 3)
                await act(client, 4)
                await client.invoke(DeleteScheduleRequest(namespace="default", schedule_id="s"))
                assert ids == []
                await client.invoke(create(schedule=hourly("y"), request_id="again"))
                assert ids.pop().startswith("y-")
                del ids[:]
                assert await act(client, 5) == 1
                assert ids == []
                started = (await describe(client)).info.recent_actions[-1].start_workflow_result
                assert started.workflow_id == "y-2023-11-14T22:13:25Z"


def test_the_first_action_after_a_restart_has_its_request_checked() -> None:
    """What is prepared is kept in memory only."""

    async def scenario() -> None:
        async with serving() as client:
            await client.invoke(create())
            client.server.schedules._prepared = PreparedStarts()
            with checked(client) as ids:
                assert [await act(client, second) for second in range(3)] == [1, 2, 3]
            assert len(ids) == 1

    run(scenario())


def test_an_attribute_that_is_removed_stops_the_actions_that_set_it() -> None:
    """What the namespace knows is part of what was checked."""

    async def scenario() -> None:
        async with serving() as client:
            add = AddSearchAttributesRequest(namespace="default")
            add.search_attributes["Color"] = 2  # type: ignore[assignment]  # a keyword
            await client.invoke(add)
            schedule = hourly()
            schedule.action.start_workflow.search_attributes.indexed_fields["Color"].data = b'"red"'
            await client.invoke(create(schedule=schedule))
            assert [await act(client, second) for second in range(2)] == [1, 2]
            remove = RemoveSearchAttributesRequest(namespace="default", search_attributes=["Color"])
            await client.invoke(remove)
            assert await act(client, 2) == 2

    run(scenario())


def test_what_may_change_by_itself_or_is_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of what is kept there is a limit: the schedule that acted longest ago goes first."""

    async def scenario() -> None:
        _, namespaces = await make_namespaces()
        namespace = namespaces.get("default")
        monkeypatch.setattr(prepared_starts, "CAPACITY", 2)
        prepared = PreparedStarts()

        def keep(state: ScheduleState) -> bool:
            prepared.keep(state, namespace, messages.start_request(state, STARTS[0]))
            return prepared.get(state, namespace) is not None

        pinned, large = schedule_of("pinned"), schedule_of("large")
        pinned.schedule.action.start_workflow.versioning_override.auto_upgrade = True
        large.schedule.action.start_workflow.input.CopyFrom(payloads("x" * prepared_starts.MAX_BYTES))
        assert (keep(pinned), keep(large)) == (False, False)
        first, second, third = (schedule_of(name) for name in ("a", "b", "c"))
        assert keep(first)
        assert keep(second)
        assert prepared.get(first, namespace) is not None  # used, so that the other one is older
        assert keep(third)
        kept = [prepared.get(state, namespace) is not None for state in (first, second, third)]
        assert kept == [True, False, True]
        assert prepared.get(replace(first, incarnation="another"), namespace) is None
        prepared.forget(ScheduleKey("id", "a"))
        assert prepared.get(first, namespace) is None

    run(scenario())
