"""What a client sends and takes while it serves an operation: links between the caller and what its calls cause."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from nexusrpc import HandlerError, HandlerErrorType
from nexusrpc.handler import StartOperationContext

from perdure.api.common.v1 import Link
from perdure.api.workflowservice import v1 as service_api
from perdure.client import Client, WorkflowQueryRejectedError
from perdure.client._links import served_operation
from perdure.nexus import Info
from perdure.nexus._link_conversion import temporal_link_to_nexus_link, workflow_started_link
from perdure.nexus._operation_context import StartContext, current_context
from perdure.nexus._temporal_client import _TemporalNexusClient
from perdure.nexus._token import OperationToken, OperationTokenType
from perdure.service import RPCError, RPCStatusCode
from perdure.worker._nexus_worker import _Cancellation
from tests.unit.client.fakes import Answer, FakeTransport, fake_client

CALLER = workflow_started_link("callers", "caller", "its-run", "its-request")


def served(
    answers: dict[str, list[Answer]],
    call: Callable[[Client], Coroutine[Any, Any, object]],
    inbound: list[Link],
    callback_url: str | None = None,
) -> tuple[FakeTransport, list[str]]:
    """Make a call as a handler whose operation has these links; return what was sent, and the caller's new links."""
    client, transport = fake_client(answers)
    converted = [temporal_link_to_nexus_link(link) for link in inbound]
    context = StartOperationContext(
        service="s",
        operation="o",
        headers={},
        request_id="request",
        task_cancellation=_Cancellation(),
        inbound_links=[link for link in converted if link is not None],
        callback_url=callback_url,
        callback_headers={"key": "value"},
    )
    info = Info("endpoint", "ns", "q")
    shared: Any = {"runtime_metric_meter": None, "worker_shutdown_event": None}

    async def scenario() -> None:
        start = StartContext(nexus_context=context, client=client, info=lambda: info, **shared)
        served_operation.set(start)
        current_context.set(start)
        await call(client)

    asyncio.run(scenario())
    return transport, [f"{link.type.rpartition('.')[2]} {link.url}" for link in context.outbound_links]


def start_activity(client: Client) -> Coroutine[Any, Any, object]:
    """Start an activity of no workflow."""
    return client.start_activity("make", id="a", task_queue="q", start_to_close_timeout=timedelta(seconds=5))


@pytest.mark.parametrize(
    "answer",
    [
        service_api.StartActivityExecutionResponse(run_id="run"),
        service_api.StartActivityExecutionResponse(
            run_id="run", link=Link(activity=Link.Activity(namespace="ns", activity_id="a", run_id="run"))
        ),
    ],
    ids=["older server", "link of the server"],
)
def test_an_activity_is_linked_with_the_caller_of_the_operation_that_starts_it(answer: Any) -> None:
    """Both ways, and its request is the operation's, so that a repeated task starts nothing again."""
    transport, links = served({"StartActivityExecution": [answer]}, start_activity, [CALLER])
    [request] = transport.requests("StartActivityExecution")
    assert (list(request.links), request.request_id) == ([CALLER], "request")
    wanted = request.on_conflict_options
    assert (wanted.attach_request_id, wanted.attach_completion_callbacks, wanted.attach_links) == (True,) * 3
    assert links == ["Activity temporal:///namespaces/ns/activities/a/run/details"]


def test_an_activity_without_links_to_attach_asks_for_nothing_in_a_conflict() -> None:
    """The server refuses to attach what is not there."""
    transport, _ = served({}, start_activity, [])
    [request] = transport.requests("StartActivityExecution")
    assert not request.HasField("on_conflict_options")


def test_outside_an_operation_an_activity_has_a_request_of_its_own() -> None:
    """Links are of operations only."""
    client, transport = fake_client({})
    asyncio.run(_await(start_activity(client)))
    [request] = transport.requests("StartActivityExecution")
    assert request.request_id not in ("", "request")
    assert not request.links


CALLBACK_URL = "temporal://system"


async def answer_with_an_activity(client: Client) -> None:
    """Start an activity that answers the operation, and look at the token."""
    backing = await _TemporalNexusClient().start_activity(
        "make", "input", id="a", start_to_close_timeout=timedelta(seconds=5)
    )
    assert backing.token is not None
    token = OperationToken.decode(backing.token)
    assert token == OperationToken(
        type=OperationTokenType.ACTIVITY, namespace=client.namespace, activity_id="a", run_id="run"
    )


def test_an_activity_that_answers_an_operation_knows_where_to() -> None:
    """Its callback has the caller's header, a token of the operation, and the links, which the request has no more."""
    answer = service_api.StartActivityExecutionResponse(run_id="run")
    transport, links = served(
        {"StartActivityExecution": [answer]}, answer_with_an_activity, [CALLER], CALLBACK_URL
    )
    [request] = transport.requests("StartActivityExecution")
    assert (request.request_id, request.task_queue.name, list(request.links)) == ("request", "q", [])
    [callback] = request.completion_callbacks
    header = dict(callback.nexus.header)
    early = OperationToken.decode(header.pop("nexus-operation-token"))
    assert (early.activity_id, early.run_id) == ("a", None)
    assert (callback.nexus.url, header, list(callback.links)) == (CALLBACK_URL, {"key": "value"}, [CALLER])
    wanted = request.on_conflict_options
    assert (wanted.attach_request_id, wanted.attach_completion_callbacks, wanted.attach_links) == (True,) * 3
    assert links == ["Activity temporal:///namespaces/ns/activities/a/run/details"]


def test_an_activity_answers_nobody_where_no_callback_came() -> None:
    """Callers elsewhere need not wait for an answer; the links then are the request's."""
    answer = service_api.StartActivityExecutionResponse(run_id="run")
    transport, _ = served({"StartActivityExecution": [answer]}, answer_with_an_activity, [CALLER])
    [request] = transport.requests("StartActivityExecution")
    assert (list(request.completion_callbacks), list(request.links)) == ([], [CALLER])


def test_only_one_activity_answers_an_operation() -> None:
    """One that could not be started answers nothing: another one may."""
    answers: list[Answer] = [RPCError("no", RPCStatusCode.INVALID_ARGUMENT, b"")]
    answers.append(service_api.StartActivityExecutionResponse(run_id="run"))

    async def start(client: Client) -> None:
        backing = _TemporalNexusClient()
        limit = timedelta(seconds=5)
        with pytest.raises(RPCError):
            await backing.start_activity("make", id="a", start_to_close_timeout=limit)
        await backing.start_activity("make", id="b", task_queue="other", start_to_close_timeout=limit)
        with pytest.raises(HandlerError, match=r"Only one .* TemporalNexusClient\.client") as caught:
            await backing.start_activity("make", id="c", start_to_close_timeout=limit)
        assert caught.value.type is HandlerErrorType.BAD_REQUEST

    transport, _ = served({"StartActivityExecution": answers}, start, [CALLER], CALLBACK_URL)
    requests = transport.requests("StartActivityExecution")
    assert [(request.activity_id, request.task_queue.name) for request in requests] == [
        ("a", "q"),
        ("b", "other"),
    ]


async def _await(call: Coroutine[Any, Any, object]) -> None:
    await call


@pytest.mark.parametrize("is_rejected", [False, True])
def test_a_query_gives_the_caller_the_link_to_the_workflow(is_rejected: bool) -> None:
    """Also one that the server rejects: the caller then reads why."""
    workflow = Link.Workflow(namespace="ns", workflow_id="w", run_id="r", reason="Query processed")
    answer = service_api.QueryWorkflowResponse(link=Link(workflow=workflow))
    if is_rejected:
        answer.query_rejected.status = 2  # type: ignore[assignment]  # an enum number

    async def query(client: Client) -> None:
        with contextlib.suppress(WorkflowQueryRejectedError):
            await client.get_workflow_handle("w").query("state")

    _, links = served({"QueryWorkflow": [answer]}, query, [CALLER])
    assert links == ["Workflow temporal:///namespaces/ns/workflows/w/r?reason=Query+processed"]


def test_a_link_that_nexus_has_no_form_for_is_left_out() -> None:
    """It is no reason to fail the operation."""
    answer = service_api.StartActivityExecutionResponse(
        run_id="run", link=Link(batch_job=Link.BatchJob(job_id="job"))
    )
    _, links = served({"StartActivityExecution": [answer]}, start_activity, [])
    assert links == []
