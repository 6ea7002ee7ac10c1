"""Client calls: what is sent, and what comes of answers and errors, over a scripted transport."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import workflow
from perdure.api.activity import v1 as activity_api
from perdure.api.common import v1 as common_api
from perdure.api.enums import v1 as enums
from perdure.api.errordetails import v1 as errordetails
from perdure.api.history import v1 as history_api
from perdure.api.update import v1 as update_api
from perdure.api.workflowservice import v1 as service_api
from perdure.client import (
    AsyncActivityCancelledError,
    Interceptor,
    OutboundInterceptor,
    SignalWorkflowInput,
    StartWorkflowInput,
    WithStartWorkflowOperation,
    WorkflowContinuedAsNewError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from perdure.client._wire import _apply_headers
from perdure.common import (
    Priority,
    RetryPolicy,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from perdure.converter import DataConverter, PayloadCodec
from perdure.exceptions import ApplicationError, CancelledError, TerminatedError, WorkflowAlreadyStartedError
from perdure.service import RPCError, RPCStatusCode
from tests.unit.client.fakes import fake_client, rpc_error


@workflow.defn(name="Order")
class OrderWorkflow:
    """Has one of each kind of handler."""

    @workflow.run
    async def run(self, number: int) -> list[int]:
        return [number]

    @workflow.signal(name="go")
    def signal(self, text: str) -> None: ...

    @workflow.query
    def state(self) -> str:
        return ""

    @workflow.update
    async def change(self, by: int) -> int:
        return by


def _run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def _payloads(*values: Any) -> common_api.Payloads:
    return common_api.Payloads(payloads=DataConverter.default.payload_converter.to_payloads(values))


def _closing(**attributes: Any) -> service_api.GetWorkflowExecutionHistoryResponse:
    event = history_api.HistoryEvent(**attributes)
    return service_api.GetWorkflowExecutionHistoryResponse(history=history_api.History(events=[event]))


def test_a_start_sends_everything_it_was_given() -> None:
    """Every option arrives in its field; the handle knows the run."""

    async def scenario() -> None:
        answer = service_api.StartWorkflowExecutionResponse(run_id="run")
        client, transport = fake_client({"StartWorkflowExecution": [answer]})
        colour = SearchAttributeKey.for_keyword("Colour")
        handle = await client.start_workflow(
            OrderWorkflow.run,
            7,
            id="id",
            task_queue="queue",
            execution_timeout=timedelta(seconds=1),
            run_timeout=timedelta(seconds=2),
            task_timeout=timedelta(seconds=3),
            start_delay=timedelta(seconds=4),
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            retry_policy=RetryPolicy(maximum_attempts=5),
            cron_schedule="* * * * *",
            memo={"m": 1},
            search_attributes=TypedSearchAttributes([SearchAttributePair(colour, "red")]),
            static_summary="summary",
            static_details="details",
            priority=Priority(priority_key=2),
            request_eager_start=True,
        )
        assert (handle.id, handle.result_run_id, handle.first_execution_run_id, handle.run_id) == (
            *("id", "run", "run", None),
        )
        [request] = transport.requests("StartWorkflowExecution")
        assert (request.namespace, request.workflow_id, request.workflow_type.name) == ("ns", "id", "Order")
        assert (request.task_queue.name, request.identity, len(request.request_id)) == ("queue", "me", 36)
        assert request.input == _payloads(7)
        assert request.workflow_execution_timeout.seconds == 1
        assert request.workflow_run_timeout.seconds == 2
        assert request.workflow_task_timeout.seconds == 3
        assert request.workflow_start_delay.seconds == 4
        assert request.workflow_id_reuse_policy == enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
        assert request.workflow_id_conflict_policy == enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
        assert request.retry_policy.maximum_attempts == 5
        assert request.cron_schedule == "* * * * *"
        assert request.memo.fields["m"] == _payloads(1).payloads[0]
        assert request.search_attributes.indexed_fields["Colour"].metadata["type"] == b"Keyword"
        assert request.user_metadata.summary == _payloads("summary").payloads[0]
        assert request.user_metadata.details == _payloads("details").payloads[0]
        assert request.priority.priority_key == 2
        # No worker of this connection waits for the first task.
        assert not request.request_eager_execution

    _run(scenario())


def test_a_start_with_a_signal_is_one_call() -> None:
    """Its handle has no first run, because the workflow may have been running."""

    async def scenario() -> None:
        client, transport = fake_client()
        handle = await client.start_workflow(
            "Order", id="id", task_queue="q", start_signal="go", start_signal_args=["now"]
        )
        [request] = transport.requests("SignalWithStartWorkflowExecution")
        assert (request.signal_name, request.signal_input) == ("go", _payloads("now"))
        assert handle.first_execution_run_id is None

    _run(scenario())


def test_a_taken_id_is_a_typed_error() -> None:
    """With the run that has it; other ALREADY_EXISTS errors stay what they are."""

    async def scenario() -> None:
        detail = errordetails.WorkflowExecutionAlreadyStartedFailure(run_id="other")
        taken = rpc_error(RPCStatusCode.ALREADY_EXISTS, "taken", detail)
        client, transport = fake_client({"StartWorkflowExecution": [taken]})
        with pytest.raises(WorkflowAlreadyStartedError) as caught:
            await client.start_workflow("Order", id="id", task_queue="q")
        assert (caught.value.workflow_id, caught.value.run_id) == ("id", "other")
        transport.answers["StartWorkflowExecution"] = [rpc_error(RPCStatusCode.ALREADY_EXISTS)]
        with pytest.raises(RPCError):
            await client.start_workflow("Order", id="id", task_queue="q")

    _run(scenario())


def test_an_unknown_namespace_comes_with_what_to_do() -> None:
    """As a note, so that status, message and details stay the server's."""

    async def scenario() -> None:
        unknown = rpc_error(RPCStatusCode.NOT_FOUND, "Namespace ns is not found.")
        client, _ = fake_client({"StartWorkflowExecution": [unknown]})
        with pytest.raises(RPCError) as caught:
            await client.start_workflow("Order", id="id", task_queue="q")
        assert "perdure operator namespace create --namespace ns" in caught.value.__notes__[0]

    _run(scenario())


def test_a_result_is_waited_for_through_empty_pages_and_new_runs() -> None:
    """Empty answers with a token mean that the time of a poll is up; a new run is followed."""

    async def scenario() -> None:
        empty = service_api.GetWorkflowExecutionHistoryResponse(next_page_token=b"more")
        next_run = _closing(
            workflow_execution_continued_as_new_event_attributes={"new_execution_run_id": "second"}
        )
        retried = _closing(workflow_execution_failed_event_attributes={"new_execution_run_id": "third"})
        done = _closing(workflow_execution_completed_event_attributes={"result": _payloads([1, 2])})
        client, transport = fake_client({"GetWorkflowExecutionHistory": [empty, next_run, retried, done]})
        handle = client.get_workflow_handle_for(OrderWorkflow.run, "id", run_id="first")
        assert await handle.result() == [1, 2]
        requests = transport.requests("GetWorkflowExecutionHistory")
        assert [request.execution.run_id for request in requests] == ["first", "first", "second", "third"]
        assert [request.next_page_token for request in requests] == [b"", b"more", b"", b""]
        assert all(request.wait_new_event for request in requests)

    _run(scenario())


@pytest.mark.parametrize(
    ("attributes", "cause", "text"),
    [
        (
            {
                "workflow_execution_failed_event_attributes": {
                    "failure": {"message": "broken", "application_failure_info": {}}
                }
            },
            ApplicationError,
            "broken",
        ),
        ({"workflow_execution_canceled_event_attributes": {}}, CancelledError, "Workflow cancelled"),
        ({"workflow_execution_terminated_event_attributes": {"reason": "why"}}, TerminatedError, "why"),
        ({"workflow_execution_terminated_event_attributes": {}}, TerminatedError, "Workflow terminated"),
        ({"workflow_execution_timed_out_event_attributes": {}}, Exception, "Workflow timed out"),
    ],
)
def test_a_run_that_did_not_complete_says_why(
    attributes: dict[str, Any], cause: type[Exception], text: str
) -> None:
    """The cause of the one error is what happened."""

    async def scenario() -> None:
        client, _ = fake_client({"GetWorkflowExecutionHistory": [_closing(**attributes)]})
        with pytest.raises(WorkflowFailureError) as caught:
            await client.get_workflow_handle("id").result()
        assert isinstance(caught.value.cause, cause)
        assert text in str(caught.value.cause)

    _run(scenario())


def test_runs_are_not_followed_if_that_is_not_wanted() -> None:
    """A run that continued as new has no result of its own."""

    async def scenario() -> None:
        attributes = {"new_execution_run_id": "second"}
        page = _closing(workflow_execution_continued_as_new_event_attributes=attributes)
        client, _ = fake_client({"GetWorkflowExecutionHistory": [page]})
        with pytest.raises(WorkflowContinuedAsNewError) as caught:
            await client.get_workflow_handle("id").result(follow_runs=False)
        assert caught.value.new_execution_run_id == "second"

    _run(scenario())


def test_a_query_is_answered_rejected_or_failed() -> None:
    """Three outcomes, three types; other errors stay what they are."""

    async def scenario() -> None:
        answered = service_api.QueryWorkflowResponse(query_result=_payloads("fine"))
        rejected = service_api.QueryWorkflowResponse()
        rejected.query_rejected.status = enums.WORKFLOW_EXECUTION_STATUS_COMPLETED
        failed = rpc_error(RPCStatusCode.INVALID_ARGUMENT, "unknown queryType")
        lost = rpc_error(RPCStatusCode.DEADLINE_EXCEEDED)
        client, transport = fake_client({"QueryWorkflow": [answered, rejected, failed, lost]})
        handle = client.get_workflow_handle("id")
        assert await handle.query(OrderWorkflow.state) == "fine"
        assert transport.requests("QueryWorkflow")[0].query.query_type == "state"
        with pytest.raises(WorkflowQueryRejectedError) as caught:
            await handle.query("state")
        assert caught.value.status is WorkflowExecutionStatus.COMPLETED
        with pytest.raises(WorkflowQueryFailedError, match="unknown queryType"):
            await handle.query("state")
        with pytest.raises(RPCError):
            await handle.query("state")

    _run(scenario())


def test_signal_cancel_and_terminate_name_the_right_run() -> None:
    """Cancel and terminate carry the first run of the chain, so they do nothing to a chain that came after."""

    async def scenario() -> None:
        client, transport = fake_client()
        handle = client.get_workflow_handle("id", run_id="run", first_execution_run_id="first")
        await handle.signal(OrderWorkflow.signal, "now")
        await handle.cancel(reason="enough")
        await handle.terminate(1, 2, reason="really")
        [signal] = transport.requests("SignalWorkflowExecution")
        assert (signal.signal_name, signal.input, signal.workflow_execution.run_id) == (
            *("go", _payloads("now"), "run"),
        )
        [cancel] = transport.requests("RequestCancelWorkflowExecution")
        assert (cancel.reason, cancel.first_execution_run_id) == ("enough", "first")
        [terminate] = transport.requests("TerminateWorkflowExecution")
        assert (terminate.reason, terminate.first_execution_run_id) == ("really", "first")
        assert terminate.details == _payloads(1, 2)

    _run(scenario())


def _update_answer(stage: int, **outcome: Any) -> service_api.UpdateWorkflowExecutionResponse:
    answer = service_api.UpdateWorkflowExecutionResponse(stage=stage)  # type: ignore[arg-type]  # an enum's number
    answer.update_ref.workflow_execution.run_id = "run"
    if outcome:
        answer.outcome.CopyFrom(update_api.Outcome(**outcome))
    return answer


def test_an_update_is_sent_again_until_it_is_accepted_and_then_waited_for() -> None:
    """With the same id, so that it is one update."""

    async def scenario() -> None:
        admitted, accepted = int(WorkflowUpdateStage.ADMITTED), int(WorkflowUpdateStage.ACCEPTED)
        polled = service_api.PollWorkflowExecutionUpdateResponse
        client, transport = fake_client(
            {
                "UpdateWorkflowExecution": [_update_answer(admitted), _update_answer(accepted)],
                "PollWorkflowExecutionUpdate": [
                    polled(),
                    polled(outcome=update_api.Outcome(success=_payloads(5))),
                ],
            }
        )
        handle = client.get_workflow_handle("id")
        assert await handle.execute_update(OrderWorkflow.change, 4) == 5
        first, second = transport.requests("UpdateWorkflowExecution")
        assert first.request.meta.update_id == second.request.meta.update_id
        assert first.request.input.name == "change"
        polls = transport.requests("PollWorkflowExecutionUpdate")
        assert [poll.update_ref.workflow_execution.run_id for poll in polls] == ["run", "run"]

    _run(scenario())


def test_updates_that_fail_or_are_not_waited_for_are_told_apart() -> None:
    """A rejected update is one error, a deadline another: the update goes on then."""

    async def scenario() -> None:
        completed = int(WorkflowUpdateStage.COMPLETED)
        failure = {"message": "refused", "application_failure_info": {}}
        late = rpc_error(RPCStatusCode.DEADLINE_EXCEEDED)
        client, _ = fake_client(
            {"UpdateWorkflowExecution": [_update_answer(completed, failure=failure), late]}
        )
        handle = client.get_workflow_handle("id")
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update("change", 4)
        assert "refused" in str(caught.value.cause)
        with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
            await handle.execute_update("change", 4)
        with pytest.raises(ValueError, match="ADMITTED"):
            await handle.start_update("change", wait_for_stage=WorkflowUpdateStage.ADMITTED)

    _run(scenario())


def _with_start() -> WithStartWorkflowOperation[Any, Any]:
    return WithStartWorkflowOperation(
        "Order", 1, id="id", task_queue="q", id_conflict_policy=WorkflowIDConflictPolicy.FAIL
    )


def test_an_update_with_start_gives_both_handles() -> None:
    """One call; the workflow's handle is there for who waits for it."""

    async def scenario() -> None:
        answer = service_api.ExecuteMultiOperationResponse()
        answer.responses.add().start_workflow.run_id = "run"
        completed = _update_answer(int(WorkflowUpdateStage.COMPLETED), success=_payloads(9))
        answer.responses.add().update_workflow.CopyFrom(completed)
        client, transport = fake_client({"ExecuteMultiOperation": [answer]})
        operation = _with_start()
        result = await client.execute_update_with_start_workflow(
            OrderWorkflow.change, 8, start_workflow_operation=operation
        )
        assert result == 9
        handle = await operation.workflow_handle()
        assert (handle.id, handle.result_run_id) == ("id", "run")
        [request] = transport.requests("ExecuteMultiOperation")
        assert request.operations[0].start_workflow.workflow_type.name == "Order"
        assert request.operations[1].update_workflow.request.input.args == _payloads(8)
        with pytest.raises(RuntimeError, match="cannot be reused"):
            await client.execute_update_with_start_workflow("change", start_workflow_operation=operation)

    _run(scenario())


def test_an_update_with_start_that_fails_tells_both_sides() -> None:
    """The error of the half that failed, not that of the half that was aborted because of it."""

    async def scenario() -> None:
        failure = errordetails.MultiOperationExecutionFailure()
        taken = failure.statuses.add(code=int(RPCStatusCode.ALREADY_EXISTS), message="taken")
        taken.details.add().Pack(errordetails.WorkflowExecutionAlreadyStartedFailure(run_id="other"))
        failure.statuses.add(code=int(RPCStatusCode.ABORTED), message="aborted")
        error = rpc_error(RPCStatusCode.ALREADY_EXISTS, "failed", failure)
        client, _ = fake_client({"ExecuteMultiOperation": [error]})
        operation = _with_start()
        with pytest.raises(WorkflowAlreadyStartedError):
            await client.execute_update_with_start_workflow("change", start_workflow_operation=operation)
        with pytest.raises(WorkflowAlreadyStartedError):
            await operation.workflow_handle()

    _run(scenario())


def test_arguments_that_cannot_be_sent_tell_who_waits_for_the_handle_too() -> None:
    """Nothing was sent, so nothing else would."""

    async def scenario() -> None:
        client, _ = fake_client()
        operation = _with_start()
        with pytest.raises(TypeError):
            await client.execute_update_with_start_workflow(
                "change", object(), start_workflow_operation=operation
            )
        with pytest.raises(TypeError):
            await operation.workflow_handle()

    _run(scenario())


def test_one_waiter_for_the_handle_may_give_up_and_the_others_wait_on() -> None:
    """And the update itself goes on too."""

    async def scenario() -> None:
        answer = service_api.ExecuteMultiOperationResponse()
        answer.responses.add().start_workflow.run_id = "run"
        answer.responses.add().update_workflow.CopyFrom(_update_answer(int(WorkflowUpdateStage.ACCEPTED)))
        client, _ = fake_client({"ExecuteMultiOperation": [answer]})
        operation = _with_start()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(operation.workflow_handle(), 0.001)
        await client.start_update_with_start_workflow(
            "change", wait_for_stage=WorkflowUpdateStage.ACCEPTED, start_workflow_operation=operation
        )
        assert (await operation.workflow_handle()).result_run_id == "run"

    _run(scenario())


def test_an_interceptors_error_reaches_who_waits_for_the_handle() -> None:
    """Whatever it is: nothing was started, and nobody else would say so."""

    class Refuses(OutboundInterceptor):
        async def start_update_with_start_workflow(self, input: Any) -> Any:
            raise RuntimeError("the interceptor says no")

    class Around(Interceptor):
        def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
            return Refuses(next)

    async def scenario() -> None:
        client, _ = fake_client(interceptors=[Around()])
        operation = _with_start()
        with pytest.raises(RuntimeError, match="says no"):
            await client.execute_update_with_start_workflow("change", start_workflow_operation=operation)
        with pytest.raises(RuntimeError, match="says no"):
            await operation.workflow_handle()

    _run(scenario())


def test_a_header_that_is_sent_again_is_encoded_once_each_time() -> None:
    """Interceptors send one payload with all calls; encryption must not be piled on it."""

    class Codec(PayloadCodec):
        async def encode(self, payloads: Sequence[common_api.Payload]) -> list[common_api.Payload]:
            return [common_api.Payload(data=b"<" + payload.data + b">") for payload in payloads]

        async def decode(self, payloads: Sequence[common_api.Payload]) -> list[common_api.Payload]:
            raise NotImplementedError

    async def scenario() -> None:
        converter = dataclasses.replace(DataConverter.default, payload_codec=Codec())
        tenant = {"tenant": common_api.Payload(data=b"t")}
        for _ in range(2):
            header = common_api.Header()
            await _apply_headers(tenant, header.fields, True, converter)
            assert header.fields["tenant"].data == b"<t>"
        assert tenant["tenant"].data == b"t"

    _run(scenario())


def test_every_call_about_a_namespace_that_is_not_there_says_what_to_do() -> None:
    """Once, whichever way the call was made."""

    async def scenario() -> None:
        def missing(request: Any) -> Any:
            raise rpc_error(RPCStatusCode.NOT_FOUND, "Namespace ns is not found.")

        names = ("CountWorkflowExecutions", "ListWorkflowExecutions", "GetWorkflowExecutionHistory")
        client, _ = fake_client({name: [missing] for name in names})
        request = service_api.CountWorkflowExecutionsRequest(namespace="ns")
        for call in (
            client.count_workflows(),
            anext(client.list_workflows()),
            client.get_workflow_handle("w").result(),
            client.workflow_service.count_workflow_executions(request),
        ):
            with pytest.raises(RPCError) as caught:
                await call
            [note] = caught.value.__notes__
            assert "perdure operator namespace create --namespace ns" in note

    _run(scenario())


def test_interceptors_see_and_change_calls_outermost_first() -> None:
    """Also those that are made inside others, such as waiting for a result."""
    seen: list[str] = []

    class Tracer(OutboundInterceptor):
        def __init__(self, next: OutboundInterceptor, name: str) -> None:
            super().__init__(next)
            self._name = name

        async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
            seen.append(self._name)
            input.id += self._name
            return await super().start_workflow(input)

        async def signal_workflow(self, input: SignalWorkflowInput) -> None:
            input.headers = {"h": common_api.Payload(data=b"x")}
            await super().signal_workflow(input)

    class Around(Interceptor):
        def __init__(self, name: str) -> None:
            self._name = name

        def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
            return Tracer(next, self._name)

    async def scenario() -> None:
        client, transport = fake_client(interceptors=[Around("a"), Around("b")])
        handle = await client.start_workflow("Order", id="id-", task_queue="q")
        await handle.signal("go")
        assert seen == ["a", "b"]
        assert transport.requests("StartWorkflowExecution")[0].workflow_id == "id-ab"
        assert transport.requests("SignalWorkflowExecution")[0].header.fields["h"].data == b"x"

    _run(scenario())


def test_lists_are_asked_for_page_by_page_up_to_the_limit() -> None:
    """Nothing is asked before the first entry; the last page is no larger than needed."""

    def answer(
        request: service_api.ListWorkflowExecutionsRequest,
    ) -> service_api.ListWorkflowExecutionsResponse:
        response = service_api.ListWorkflowExecutionsResponse(next_page_token=b"next")
        for _ in range(request.page_size):
            response.executions.add().execution.workflow_id = "w"
        return response

    async def scenario() -> None:
        client, transport = fake_client({"ListWorkflowExecutions": [answer]})
        listing = client.list_workflows("x = 1", page_size=4, limit=6)
        assert not transport.calls
        assert len([run async for run in listing]) == 6
        requests = transport.requests("ListWorkflowExecutions")
        assert [(r.page_size, r.next_page_token, r.query) for r in requests] == [
            (4, b"", "x = 1"),
            (2, b"next", "x = 1"),
        ]

    _run(scenario())


def test_an_asynchronous_activity_is_reported_on_by_token_or_by_ids() -> None:
    """The same methods, two forms of every request."""

    async def scenario() -> None:
        client, transport = fake_client()
        by_token = client.get_async_activity_handle(task_token=b"token")
        by_id = client.get_async_activity_handle(workflow_id="w", run_id="r", activity_id="a")
        for handle in (by_token, by_id):
            await handle.heartbeat(1)
            await handle.complete("done")
            await handle.complete()
            await handle.fail(ValueError("broken"), last_heartbeat_details=[2])
            await handle.report_cancellation()
        token = transport.requests("RespondActivityTaskCompleted")
        assert [(r.task_token, r.HasField("result")) for r in token] == [(b"token", True), (b"token", False)]
        [failed] = transport.requests("RespondActivityTaskFailedById")
        assert (failed.workflow_id, failed.run_id, failed.activity_id) == ("w", "r", "a")
        assert failed.failure.message == "broken"
        assert failed.last_heartbeat_details == _payloads(2)
        assert len(transport.requests("RespondActivityTaskCanceled")) == 1
        assert len(transport.requests("RecordActivityTaskHeartbeatById")) == 1

    _run(scenario())


def test_a_heartbeat_says_that_the_activity_shall_end() -> None:
    """Cancelled, paused or reset: all three end it, and the details say which."""

    async def scenario() -> None:
        answer = service_api.RecordActivityTaskHeartbeatResponse(activity_paused=True)
        client, _ = fake_client({"RecordActivityTaskHeartbeat": [answer]})
        with pytest.raises(AsyncActivityCancelledError) as caught:
            await client.get_async_activity_handle(task_token=b"t").heartbeat()
        assert caught.value.details is not None
        assert (caught.value.details.paused, caught.value.details.cancel_requested) == (True, False)

    _run(scenario())


@pytest.mark.parametrize(
    "ids", [{}, {"workflow_id": "w"}, {"task_token": b"t", "activity_id": "a"}, {"run_id": "r"}]
)
def test_an_asynchronous_activity_must_be_named_in_one_way(ids: dict[str, Any]) -> None:
    """By token, or by its id with others; not by both or neither."""
    client, _ = fake_client()
    with pytest.raises(ValueError, match=r"[Tt]ask token|together"):
        client.get_async_activity_handle(**ids)


def test_an_activity_started_by_the_client_is_polled_until_it_is_over() -> None:
    """A poll whose time is up is repeated."""

    async def scenario() -> None:
        polled = service_api.PollActivityExecutionResponse
        client, transport = fake_client(
            {
                "StartActivityExecution": [service_api.StartActivityExecutionResponse(run_id="run")],
                "PollActivityExecution": [
                    polled(),
                    rpc_error(RPCStatusCode.DEADLINE_EXCEEDED),
                    polled(outcome=activity_api.ActivityExecutionOutcome(result=_payloads("made"))),
                ],
            }
        )
        result = await client.execute_activity(
            "make", 3, id="a", task_queue="q", start_to_close_timeout=timedelta(seconds=5)
        )
        assert result == "made"
        [request] = transport.requests("StartActivityExecution")
        assert (request.activity_type.name, request.start_to_close_timeout.seconds) == ("make", 5)
        assert [poll.run_id for poll in transport.requests("PollActivityExecution")] == ["run"] * 3
        with pytest.raises(ValueError, match="start_to_close_timeout"):
            await client.execute_activity("make", id="a", task_queue="q")

    _run(scenario())


def test_a_description_has_times_in_utc_and_a_decoded_memo() -> None:
    """Missing times are None."""

    async def scenario() -> None:
        answer = service_api.DescribeWorkflowExecutionResponse()
        info = answer.workflow_execution_info
        info.execution.workflow_id = "id"
        info.status = enums.WORKFLOW_EXECUTION_STATUS_RUNNING
        info.start_time.FromDatetime(datetime(2026, 1, 2, tzinfo=UTC))
        info.memo.fields["m"].CopyFrom(_payloads({"a": 1}).payloads[0])
        answer.execution_config.user_metadata.summary.CopyFrom(_payloads("short").payloads[0])
        client, _ = fake_client({"DescribeWorkflowExecution": [answer]})
        description = await client.get_workflow_handle("id").describe()
        assert description.start_time == datetime(2026, 1, 2, tzinfo=UTC)
        assert description.close_time is None
        assert description.status is WorkflowExecutionStatus.RUNNING
        assert await description.memo() == {"m": {"a": 1}}
        assert await description.memo_value("none", "default") == "default"
        assert (await description.static_summary(), await description.static_details()) == ("short", None)

    _run(scenario())
