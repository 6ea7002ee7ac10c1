"""Every RPC whose request has a request id: sent twice with the same one, it has one effect.

`CASES` is the table of them; docs/compatibility.md shows it. That a case can tell two effects from one, it proves with
a second request of another id, which is refused or changes what is seen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from google.protobuf.message import Message

from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE, rpcs
from perdure.core.errors import ServiceError
from perdure.server.service.refused_rpcs import REFUSED
from perdure.server.service.service import snake_case
from tests.support.builders import duration, schedule_activity
from tests.support.proto import activity, common, workflowservice
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run
from tests.unit.server.test_nexus import endpoint
from tests.unit.server.test_schedules import create, hourly, trigger

TASK_COMPLETED_EVENT_ID = 4
_ORDER = common.WorkflowExecution(workflow_id="order")
_SECONDS = count(1_700_000_000)
Request = Callable[[], Any]


def _request(rpc: str, **fields: Any) -> Any:
    return getattr(workflowservice, f"{rpc}Request")(namespace="default", **fields)


def _at(rpc: str, **fields: Any) -> Request:
    return lambda: _request(rpc, **fields)


# --- what is looked at ---


async def _answer(client: LocalClient, request: Message) -> Any:
    """What a request is answered, an error as data; without whether it was this request that started something."""
    try:
        answer: Any = await client.invoke(request)
    except ServiceError as error:
        return type(error).__name__, str(error)
    if "started" in answer.DESCRIPTOR.fields_by_name:
        answer.ClearField("started")
    return answer


async def _workflow(client: LocalClient) -> Any:
    """Without the number of transitions: a repeated request to pause an activity is one, there as here."""
    described = await _answer(client, _request("DescribeWorkflowExecution", execution=_ORDER))
    if isinstance(described, tuple):
        return described
    described.workflow_execution_info.ClearField("state_transition_count")
    return described, await _answer(client, _request("GetWorkflowExecutionHistory", execution=_ORDER))


async def _schedule(client: LocalClient) -> Any:
    return await _answer(client, _request("DescribeSchedule", schedule_id="s"))


async def _activity(client: LocalClient) -> Any:
    return await _answer(client, _request("DescribeActivityExecution", activity_id="a"))


async def _operation(client: LocalClient) -> Any:
    """Without how far its delivery has come, which goes on by itself."""
    found = await _answer(client, _request("DescribeNexusOperationExecution", operation_id="o"))
    if isinstance(found, tuple):
        return found
    cancellation = found.info.cancellation_info
    return (
        found.run_id,
        found.info.status,
        cancellation.requested_time,
        cancellation.reason,
        found.info.close_time,
        found.failure,
    )


async def _deployment(client: LocalClient) -> Any:
    return await _answer(client, _request("DescribeWorkerDeployment", deployment_name="d"))


# --- what is there before ---


def _start(rpc: str = "StartWorkflowExecution", **fields: Any) -> Any:
    request = _request(rpc, workflow_id="order", **fields)
    request.workflow_type.name, request.task_queue.name = "Order", "q"
    return request


async def _begin_order(client: LocalClient) -> None:
    """An open workflow whose activity `a` waits for a worker."""
    await client.invoke(_start(request_id="began"))
    task = await client.poll_workflow_task("q")
    await client.complete_workflow_task(task.task_token, [schedule_activity("a", "activities")])


def _start_activity() -> Any:
    request = _request("StartActivityExecution", activity_id="a", start_to_close_timeout=duration(60))
    request.activity_type.name, request.task_queue.name = "A", "activities"
    return request


def _start_operation() -> Any:
    return _request(
        "StartNexusOperationExecution", operation_id="o", endpoint="endpoint", service="s", operation="p"
    )


def _version(rpc: str) -> Request:
    def request() -> Any:
        made = _request(rpc)
        made.deployment_version.deployment_name, made.deployment_version.build_id = "d", "1"
        return made

    return request


def _trigger() -> Any:
    """Each for another second, which is in the name of what is started: only the id tells that it came before."""
    request = trigger(overlap="ALLOW_ALL")
    request.patch.trigger_immediately.scheduled_time.seconds = next(_SECONDS)
    return request


def _new_options() -> Any:
    options = activity.ActivityOptions(heartbeat_timeout=duration(9))
    request = _request("UpdateActivityExecutionOptions", activity_id="a", activity_options=options)
    request.update_mask.paths.append("heartbeat_timeout")
    return request


@dataclass(frozen=True)
class Case:
    """How one RPC is asked twice.

    Attributes:
        request: makes the request, without its id.
        look: reads what the request changes.
        before: requests that come first; what they leave must not change by itself.
        refused: the type of the error that answers the second request; empty: it is answered as the first was.
        other_is_told_apart: a second request of another id is refused, or seen.
        has_effect: the first request changes what is looked at.
    """

    request: Request
    look: Callable[[LocalClient], Any]
    before: Sequence[Request] = field(default=())
    refused: str = ""
    other_is_told_apart: bool = True
    has_effect: bool = True


_PAUSE_ACTIVITY = _at("PauseActivityExecution", activity_id="a", request_id="paused before")
_DEPLOYMENT = _at("CreateWorkerDeployment", deployment_name="d", request_id="made before")

CASES: dict[str, Case] = {
    "StartWorkflowExecution": Case(_start, _workflow),
    "SignalWithStartWorkflowExecution": Case(
        lambda: _start("SignalWithStartWorkflowExecution", signal_name="go"), _workflow
    ),
    "SignalWorkflowExecution": Case(
        _at("SignalWorkflowExecution", workflow_execution=_ORDER, signal_name="go"), _workflow
    ),
    "RequestCancelWorkflowExecution": Case(
        _at("RequestCancelWorkflowExecution", workflow_execution=_ORDER),
        _workflow,
        other_is_told_apart=False,  # a run is asked to cancel once, whoever asks
    ),
    "ResetWorkflowExecution": Case(
        _at(
            "ResetWorkflowExecution",
            workflow_execution=_ORDER,
            workflow_task_finish_event_id=TASK_COMPLETED_EVENT_ID,
        ),
        _workflow,
    ),
    "PauseWorkflowExecution": Case(_at("PauseWorkflowExecution", workflow_id="order"), _workflow),
    "UnpauseWorkflowExecution": Case(
        _at("UnpauseWorkflowExecution", workflow_id="order"),
        _workflow,
        before=(_at("PauseWorkflowExecution", workflow_id="order", request_id="paused before"),),
        refused="FailedPreconditionError",
    ),
    "PauseActivity": Case(_at("PauseActivity", execution=_ORDER, id="a"), _workflow),
    "CreateSchedule": Case(create, _schedule),
    "UpdateSchedule": Case(
        _at("UpdateSchedule", schedule_id="s", schedule=hourly("v")), _schedule, before=(create,)
    ),
    "PatchSchedule": Case(_trigger, _schedule, before=(create,)),
    "CreateWorkerDeployment": Case(_at("CreateWorkerDeployment", deployment_name="d"), _deployment),
    "CreateWorkerDeploymentVersion": Case(
        _version("CreateWorkerDeploymentVersion"), _deployment, before=(_DEPLOYMENT,)
    ),
    "UpdateWorkerDeploymentVersionComputeConfig": Case(
        _version("UpdateWorkerDeploymentVersionComputeConfig"),
        _deployment,
        before=(_DEPLOYMENT, _version("CreateWorkerDeploymentVersion")),
        other_is_told_apart=False,  # no compute provider can be used here: there is nothing to change
        has_effect=False,
    ),
    "StartActivityExecution": Case(_start_activity, _activity),
    "RequestCancelActivityExecution": Case(
        _at("RequestCancelActivityExecution", activity_id="a"), _activity, before=(_start_activity,)
    ),
    "TerminateActivityExecution": Case(
        _at("TerminateActivityExecution", activity_id="a"), _activity, before=(_start_activity,)
    ),
    "PauseActivityExecution": Case(
        _at("PauseActivityExecution", activity_id="a"), _activity, before=(_start_activity,)
    ),
    "UnpauseActivityExecution": Case(
        _at("UnpauseActivityExecution", activity_id="a"),
        _activity,
        before=(_start_activity, _PAUSE_ACTIVITY),
    ),
    "ResetActivityExecution": Case(
        _at("ResetActivityExecution", activity_id="a"), _activity, before=(_start_activity,)
    ),
    "UpdateActivityExecutionOptions": Case(_new_options, _activity, before=(_start_activity,)),
    "StartNexusOperationExecution": Case(_start_operation, _operation),
    "RequestCancelNexusOperationExecution": Case(
        _at("RequestCancelNexusOperationExecution", operation_id="o"), _operation, before=(_start_operation,)
    ),
    "TerminateNexusOperationExecution": Case(
        _at("TerminateNexusOperationExecution", operation_id="o"), _operation, before=(_start_operation,)
    ),
}


@asynccontextmanager
async def _prepared(rpc: str, case: Case) -> AsyncIterator[LocalClient]:
    async with serving() as client:
        await endpoint(client)
        if case.look is _workflow and "Start" not in rpc:
            await _begin_order(client)
        for before in case.before:
            await client.invoke(before())
        yield client


def _with_id(case: Case, request_id: str) -> Message:
    request = case.request()
    request.request_id = request_id
    return request  # type: ignore[no-any-return]


@pytest.mark.parametrize("rpc", CASES)
def test_the_same_request_again_has_one_effect(rpc: str) -> None:
    """The second is answered as the first was (or refused), and nothing that can be seen is different for it."""
    case = CASES[rpc]

    async def scenario() -> None:
        async with _prepared(rpc, case) as client:
            before = await case.look(client)
            first = await _answer(client, _with_id(case, "once"))
            after = await case.look(client)
            assert not isinstance(first, tuple), first
            assert (after != before) == case.has_effect
            second = await _answer(client, _with_id(case, "once"))
            assert await case.look(client) == after
            if case.refused:
                assert second[0] == case.refused
            else:
                assert second == first

    run(scenario())


@pytest.mark.parametrize("rpc", [rpc for rpc, case in CASES.items() if case.other_is_told_apart])
def test_a_request_of_another_id_is_another_request(rpc: str) -> None:
    """It has an effect of its own or is refused, so the test above would see a second effect."""
    case = CASES[rpc]

    async def scenario() -> None:
        async with _prepared(rpc, case) as client:
            first = await _answer(client, _with_id(case, "once"))
            after = await case.look(client)
            second = await _answer(client, _with_id(case, "another"))
            assert second != first or await case.look(client) != after

    run(scenario())


def test_every_rpc_with_a_request_id_is_asked_twice() -> None:
    """The table has what the contract has, without what is always refused."""
    with_id = {
        rpc.name
        for service in (WORKFLOW_SERVICE, OPERATOR_SERVICE)
        for rpc in rpcs(service)
        if "request_id" in rpc.request.DESCRIPTOR.fields_by_name and snake_case(rpc.name) not in REFUSED
    }
    assert set(CASES) == with_id
