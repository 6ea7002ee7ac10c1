"""What a handler does when an operation is to be cancelled: each kind of answer has a method that may be replaced."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nexusrpc import HandlerError, HandlerErrorType
from nexusrpc.handler import CancelOperationContext

from perdure import nexus
from perdure.nexus import Info
from perdure.nexus._operation_context import CancelContext, current_context
from perdure.nexus._token import OperationToken, OperationTokenType
from perdure.worker._nexus_worker import _Cancellation
from tests.unit.client.fakes import FakeTransport, fake_client


class Handler(nexus.TemporalOperationHandler[str, str]):
    """Cancels as it comes."""

    async def start_operation(
        self, ctx: nexus.TemporalStartOperationContext, client: nexus.TemporalNexusClient, input: str
    ) -> nexus.TemporalOperationResult[str]:
        """Never called."""
        raise NotImplementedError


class OwnHandler(Handler):
    """Cancels activities in a way of its own."""

    def __init__(self) -> None:
        self.asked: list[nexus.CancelActivityOptions] = []

    async def cancel_activity(
        self, ctx: nexus.TemporalCancelOperationContext, options: nexus.CancelActivityOptions
    ) -> None:
        """Keep what is asked."""
        assert ctx.operation == "o"
        self.asked.append(options)


def cancel(handler: Handler, token: OperationToken) -> FakeTransport:
    """Let a handler cancel the operation of a token; return what was sent."""
    client, transport = fake_client({})
    context = CancelOperationContext(
        service="s", operation="o", headers={}, task_cancellation=_Cancellation()
    )
    info = Info("endpoint", "ns", "q")
    shared: Any = {"runtime_metric_meter": None, "worker_shutdown_event": None}

    async def scenario() -> None:
        current_context.set(CancelContext(nexus_context=context, client=client, info=lambda: info, **shared))
        await handler.cancel(context, token.encode())

    asyncio.run(scenario())
    return transport


def activity_token(run_id: str | None) -> OperationToken:
    """Return the token of an activity's run."""
    return OperationToken(type=OperationTokenType.ACTIVITY, namespace="ns", activity_id="a", run_id=run_id)


def test_the_run_of_the_activity_is_cancelled() -> None:
    """And no later one of the same id, which answers another operation."""
    transport = cancel(Handler(), activity_token("run"))
    [request] = transport.requests("RequestCancelActivityExecution")
    assert (request.namespace, request.activity_id, request.run_id) == ("ns", "a", "run")


def test_a_handler_may_cancel_activities_in_its_own_way() -> None:
    """It is told which run of which activity."""
    handler = OwnHandler()
    transport = cancel(handler, activity_token("run"))
    assert handler.asked == [nexus.CancelActivityOptions(activity_id="a", run_id="run")]
    assert not transport.requests("RequestCancelActivityExecution")


@pytest.mark.parametrize("run_id", [None, ""])
def test_a_token_that_names_no_run_cancels_none(run_id: str | None) -> None:
    """A later activity of that id may run by now."""
    with pytest.raises(HandlerError, match="valid run id") as caught:
        cancel(Handler(), activity_token(run_id))
    assert caught.value.type is HandlerErrorType.INTERNAL


def test_the_workflow_is_cancelled() -> None:
    """Whichever run it has come to."""
    token = OperationToken(type=OperationTokenType.WORKFLOW, namespace="ns", workflow_id="w")
    [request] = cancel(Handler(), token).requests("RequestCancelWorkflowExecution")
    execution = request.workflow_execution
    assert (execution.workflow_id, execution.run_id) == ("w", "")


def test_an_update_is_not_cancelled_unless_the_handler_knows_how() -> None:
    """It says which method to replace."""
    token = OperationToken(
        type=OperationTokenType.UPDATE_WORKFLOW, namespace="ns", workflow_id="w", update_id="u"
    )
    with pytest.raises(HandlerError, match="override cancel_workflow_update") as caught:
        cancel(Handler(), token)
    assert caught.value.type is HandlerErrorType.NOT_IMPLEMENTED
