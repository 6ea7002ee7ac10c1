"""Schedules: values to messages and back, and the calls about them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.api.enums import v1 as enums
from perdure.api.errordetails import v1 as errordetails
from perdure.api.workflowservice import v1 as service_api
from perdure.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleBackfill,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from perdure.common import (
    Priority,
    RetryPolicy,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
)
from perdure.service import RPCStatusCode
from tests.unit.client.fakes import fake_client, rpc_error

_moments = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))
_spans = st.timedeltas(timedelta(seconds=1), timedelta(days=900))
_ranges = st.lists(
    st.builds(ScheduleRange, start=st.integers(0, 59), end=st.integers(0, 59), step=st.integers(0, 9)),
    max_size=2,
).map(tuple)
_calendars = st.builds(
    ScheduleCalendarSpec,
    **dict.fromkeys(("second", "minute", "hour", "day_of_month", "month", "year", "day_of_week"), _ranges),
    comment=st.none() | st.text(min_size=1),
)
_specs = st.builds(
    ScheduleSpec,
    calendars=st.lists(_calendars, max_size=2),
    intervals=st.lists(st.builds(ScheduleIntervalSpec, every=_spans, offset=st.none() | _spans), max_size=2),
    cron_expressions=st.lists(st.text(), max_size=2),
    skip=st.lists(_calendars, max_size=1),
    start_at=st.none() | _moments,
    end_at=st.none() | _moments,
    jitter=st.none() | _spans,
    time_zone_name=st.none() | st.text(min_size=1),
)
_policies = st.builds(
    SchedulePolicy,
    overlap=st.sampled_from(ScheduleOverlapPolicy),
    catchup_window=st.none() | _spans,
    pause_on_failure=st.booleans(),
)
_states = st.builds(
    ScheduleState,
    note=st.none() | st.text(min_size=1),
    paused=st.booleans(),
    limited_actions=st.booleans(),
    remaining_actions=st.integers(0, 1000),
)


@given(_specs, _policies, _states)
@settings(max_examples=100)
def test_a_schedule_comes_back_from_the_wire_as_it_was(
    spec: ScheduleSpec, policy: SchedulePolicy, state: ScheduleState
) -> None:
    """Ranges are completed when they are made, as a server completes them."""
    assert ScheduleSpec._from_proto(spec._to_proto()) == spec
    assert SchedulePolicy._from_proto(policy._to_proto()) == policy
    assert ScheduleState._from_proto(state._to_proto()) == state


def test_an_action_survives_the_way_to_a_server_and_back_and_there_again() -> None:
    """What came as payloads is sent as the same payloads."""

    async def scenario() -> None:
        client, _ = fake_client()
        colour = SearchAttributePair(SearchAttributeKey.for_keyword("Colour"), "red")
        action = ScheduleActionStartWorkflow(
            "Order",
            args=[1, "two"],
            id="id",
            task_queue="q",
            execution_timeout=timedelta(1),
            run_timeout=timedelta(2),
            task_timeout=timedelta(3),
            retry_policy=RetryPolicy(maximum_attempts=3, maximum_interval=timedelta(9)),
            memo={"m": [1]},
            typed_search_attributes=TypedSearchAttributes([colour]),
            static_summary="summary",
            static_details="details",
            priority=Priority(priority_key=3),
        )
        sent = await action._to_proto(client)
        back = ScheduleActionStartWorkflow._from_proto(sent)
        assert isinstance(back, ScheduleActionStartWorkflow)
        assert (back.workflow, back.id, back.task_queue) == ("Order", "id", "q")
        assert (back.execution_timeout, back.run_timeout, back.task_timeout) == (
            *(timedelta(1), timedelta(2), timedelta(3)),
        )
        assert back.retry_policy == action.retry_policy
        assert back.typed_search_attributes == action.typed_search_attributes
        assert back.untyped_search_attributes == {}
        assert back.priority == action.priority
        assert await back._to_proto(client) == sent

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("options", "message"), [({"task_queue": "q"}, "ID required"), ({"id": "x"}, "Task queue required")]
)
def test_an_action_needs_an_id_and_a_queue(options: dict[str, Any], message: str) -> None:
    """Both have no default."""
    with pytest.raises(ValueError, match=message):
        ScheduleActionStartWorkflow("Order", **options)


def _schedule(**state: Any) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow("Order", id="id", task_queue="q"),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ONE),
        state=ScheduleState(**state),
    )


def test_creating_a_schedule_can_trigger_and_backfill_it() -> None:
    """At once, in the same call; triggering uses the schedule's own policy."""

    async def scenario() -> None:
        client, transport = fake_client()
        backfill = ScheduleBackfill(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
        handle = await client.create_schedule(
            "s", _schedule(), trigger_immediately=True, backfill=[backfill], memo={"m": 1}
        )
        [request] = transport.requests("CreateSchedule")
        assert handle.id == request.schedule_id == "s"
        buffer_one = enums.SCHEDULE_OVERLAP_POLICY_BUFFER_ONE
        assert request.initial_patch.trigger_immediately.overlap_policy == buffer_one
        assert request.initial_patch.backfill_request[0].start_time.ToDatetime(UTC) == backfill.start_at
        assert "m" in request.memo.fields

    asyncio.run(scenario())


def test_limited_actions_and_their_number_must_agree() -> None:
    """A number without the switch would be ignored silently."""

    async def scenario() -> None:
        client, _ = fake_client()
        with pytest.raises(ValueError, match="limited actions to true"):
            await client.create_schedule("s", _schedule(remaining_actions=3))
        with pytest.raises(ValueError, match="limited actions to false"):
            await client.create_schedule("s", _schedule(limited_actions=True))

    asyncio.run(scenario())


def test_a_taken_schedule_id_is_a_typed_error() -> None:
    """And no other ALREADY_EXISTS is."""

    async def scenario() -> None:
        taken = errordetails.WorkflowExecutionAlreadyStartedFailure()
        client, _ = fake_client({"CreateSchedule": [rpc_error(RPCStatusCode.ALREADY_EXISTS, "taken", taken)]})
        with pytest.raises(ScheduleAlreadyRunningError):
            await client.create_schedule("s", _schedule())

    asyncio.run(scenario())


def test_pausing_triggering_and_backfilling_are_patches() -> None:
    """Each call has one patch of its own."""

    async def scenario() -> None:
        client, transport = fake_client()
        handle = client.get_schedule_handle("s")
        await handle.pause()
        await handle.unpause(note="go")
        await handle.trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)
        with pytest.raises(ValueError, match="At least one backfill"):
            await handle.backfill()
        patches = [request.patch for request in transport.requests("PatchSchedule")]
        assert [patch.pause for patch in patches] == ["Paused via Python SDK", "", ""]
        assert [patch.unpause for patch in patches] == ["", "go", ""]
        allow_all = enums.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL
        assert patches[2].trigger_immediately.overlap_policy == allow_all
        await handle.delete()
        assert transport.requests("DeleteSchedule")[0].schedule_id == "s"

    asyncio.run(scenario())


def test_an_update_starts_from_what_the_server_has() -> None:
    """The function may be async, may change nothing, and must return an update."""

    async def scenario() -> None:
        client, transport = fake_client()
        described = service_api.DescribeScheduleResponse(schedule=await _schedule()._to_proto(client))
        transport.answers["DescribeSchedule"] = [described]
        handle = client.get_schedule_handle("s")

        async def pause(input: ScheduleUpdateInput) -> ScheduleUpdate:
            schedule = input.description.schedule
            schedule.state.paused = True
            return ScheduleUpdate(schedule, search_attributes=TypedSearchAttributes.empty)

        await handle.update(pause)
        await handle.update(lambda _: None)
        [request] = transport.requests("UpdateSchedule")
        assert request.schedule.state.paused
        assert request.schedule.spec == described.schedule.spec
        assert request.HasField("search_attributes")
        with pytest.raises(TypeError, match="must return a ScheduleUpdate"):
            await handle.update(lambda _: 5)  # type: ignore[arg-type,return-value]

    asyncio.run(scenario())


def test_what_one_action_has_no_other_has() -> None:
    """Nothing that is given when nothing was said is shared."""
    one, two = (ScheduleActionStartWorkflow("W", id="w", task_queue="q") for _ in range(2))
    one.untyped_search_attributes["a"] = [1]  # type: ignore[index]  # annotated as read-only
    assert two.untyped_search_attributes == {}
