"""Nexus on a whole server: what a crash leaves undone, requests beside runs, callbacks, and the protocol over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from perdure.core.errors import InvalidArgumentError, NotFoundError, UnavailableError
from perdure.core.run.limits import Limits
from perdure.core.run.records import QueueKey, RunKey, TaskKind
from perdure.server.callback_addresses import AddressRule
from perdure.server.config import ServerConfig
from perdure.server.engine import nexus_calls, nexus_tasks
from perdure.server.engine.completions import Completions
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.memory import MemoryStore
from tests.support.builders import (
    application_failure,
    cancel_operation,
    complete_workflow,
    fail_workflow,
    payload,
    payloads,
    queue,
    schedule_operation,
    start_timer,
)
from tests.support.proto import common, enums, failure, history, nexus, operatorservice, workflowservice
from tests.unit.server.local_client import LocalClient, serving

EventType = enums.EventType
State = enums.CallbackState
NexusTask = workflowservice.PollNexusTaskQueueResponse
HANDLERS = "handlers"
ANY_ADDRESS = (AddressRule("*", True),)
WAIT_S = 10.0


class _LastingStore(MemoryStore):
    """A store in memory that outlives its server."""

    async def close(self) -> None:
        """The next server goes on with it."""


@asynccontextmanager
async def served(
    store: MemoryStore | None = None, *, delivers: bool = True, **config: Any
) -> AsyncIterator[LocalClient]:
    """A server; one that does not deliver stands for one that crashes before it can."""
    server = Server(
        store or _LastingStore(), ServerConfig(port=0, **config), SystemRuntime(), "memory", listens=False
    )

    async def unable(run: RunKey) -> None:
        raise UnavailableError("this server delivers nothing")

    if not delivers:
        server.engine.deliver_effects = unable
    await server.start()
    try:
        yield LocalClient(server)
    finally:
        await server.stop(0)


async def endpoint(client: LocalClient, **target: Any) -> str:
    """Registers the endpoint `endpoint`; returns its id."""
    worker = nexus.EndpointTarget.Worker(namespace="default", task_queue=HANDLERS)
    spec = nexus.EndpointSpec(name="endpoint", target=nexus.EndpointTarget(**(target or {"worker": worker})))
    created = await client.invoke(operatorservice.CreateNexusEndpointRequest(spec=spec))
    assert isinstance(created, operatorservice.CreateNexusEndpointResponse)
    return created.endpoint.id


async def caller(client: LocalClient, workflow_id: str = "caller", *more: Any, **fields: Any) -> None:
    """A workflow that has scheduled an operation (event 5)."""
    await client.start(workflow_id, workflow_id)
    await step(client, workflow_id, schedule_operation(**fields), *more)


async def step(client: LocalClient, queue_name: str, *commands: Any) -> None:
    """Completes the next workflow task of a queue."""
    task = await client.poll_workflow_task(queue(queue_name))
    assert task.task_token, f"no task on {queue_name}"
    await client.complete_workflow_task(task.task_token, commands)


async def poll(client: LocalClient, timeout_s: float = WAIT_S) -> NexusTask:
    """The handlers' next task."""
    request = workflowservice.PollNexusTaskQueueRequest(namespace="default", task_queue=queue(HANDLERS))
    return await client.call(request, NexusTask, timeout_s=timeout_s)


async def answer(client: LocalClient, task: NexusTask, **start: Any) -> None:
    """A handler answers a request to start; without fields one to cancel."""
    response = nexus.Response(start_operation=nexus.StartOperationResponse(**start))
    if not start:
        response = nexus.Response(cancel_operation=nexus.CancelOperationResponse())
    await client.invoke(
        workflowservice.RespondNexusTaskCompletedRequest(
            namespace="default", task_token=task.task_token, response=response
        )
    )


def done(text: str = "r") -> dict[str, Any]:
    """An answer: the operation is done."""
    return {"sync_success": nexus.StartOperationResponse.Sync(payload=payload(text))}


def running(token: str = "token") -> dict[str, Any]:
    """An answer: the operation runs."""
    return {"async_success": nexus.StartOperationResponse.Async(operation_token=token)}


async def events(client: LocalClient, workflow_id: str = "caller") -> list[history.HistoryEvent]:
    """A workflow's events."""
    return list(await client.history(workflow_id))


async def types(client: LocalClient, workflow_id: str = "caller") -> list[str]:
    """The types of a workflow's events about operations."""
    names = [EventType.Name(event.event_type) for event in await events(client, workflow_id)]
    return [name.removeprefix("EVENT_TYPE_NEXUS_OPERATION_") for name in names if "NEXUS" in name]


async def until(client: LocalClient, *wanted: str, workflow_id: str = "caller") -> None:
    """Waits until a workflow's events about operations are these."""
    async with asyncio.timeout(WAIT_S):
        while await types(client, workflow_id) != list(wanted):
            await _turn(client, workflow_id)


async def until_callback(client: LocalClient, workflow_id: str, state: int) -> None:
    """Waits until the workflow's callback is in a state."""
    async with asyncio.timeout(WAIT_S):
        while (await client.describe(workflow_id)).callbacks[0].state != state:
            await _turn(client, workflow_id)


async def _turn(client: LocalClient, workflow_id: str) -> None:
    """Waits for the run's next commit, or a moment."""
    run = (await client.describe(workflow_id)).workflow_execution_info.execution
    namespace_id = client.server.namespaces.get("default").namespace_id
    slot = client.server.engine.runs.pin(RunKey(namespace_id, workflow_id, run.run_id))
    try:
        await slot.wait(0.05)
    finally:
        client.server.engine.runs.unpin(slot)


def callback_of(task: NexusTask) -> common.Callback:
    """The callback that a handler attaches to the workflow that it starts."""
    start = task.request.start_operation
    return common.Callback(
        nexus=common.Callback.Nexus(url=start.callback, header=dict(start.callback_header))
    )


# --- crashes and restarts


def test_what_a_crash_left_unasked_is_asked_by_the_next_server() -> None:
    async def scenario() -> None:
        store = _LastingStore()
        async with served(store, delivers=False) as client:
            await endpoint(client)
            await caller(client)
        async with served(store) as client:
            task = await poll(client)
            await answer(client, task, **running())
            await until(client, "SCHEDULED", "STARTED")

    asyncio.run(scenario())


def test_a_request_that_a_stop_cut_off_is_made_again_with_the_same_id() -> None:
    async def scenario() -> None:
        store = _LastingStore()
        async with served(store) as client:
            await endpoint(client)
            await caller(client)
            first = await poll(client)
        async with served(store) as client:
            second = await poll(client)
            ids = [task.request.start_operation.request_id for task in (first, second)]
            assert ids[0] == ids[1]
            await answer(client, second, **done())
            await until(client, "SCHEDULED", "COMPLETED")
            with pytest.raises(NotFoundError):
                await answer(client, first, **done())

    asyncio.run(scenario())


def test_a_callback_that_a_crash_left_undone_completes_the_operation_once() -> None:
    async def scenario() -> None:
        store = _LastingStore()
        async with served(store) as client:
            await endpoint(client)
            await caller(client)
            task = await poll(client)
            await client.start("handler", "handler", completion_callbacks=[callback_of(task)])
            await answer(client, task, **running())
            await until(client, "SCHEDULED", "STARTED")
        async with served(store, delivers=False) as client:
            await step(client, "handler", complete_workflow(payloads("r")))
            described = await client.describe("handler")
            assert described.callbacks[0].state == State.CALLBACK_STATE_SCHEDULED
        for _ in range(2):  # the second finds nothing left to do
            async with served(store) as client:
                await until_callback(client, "handler", State.CALLBACK_STATE_SUCCEEDED)
                assert await types(client) == ["SCHEDULED", "STARTED", "COMPLETED"]

    asyncio.run(scenario())


# --- requests beside runs


def test_other_deadlines_of_a_run_are_kept_while_a_request_is_under_way() -> None:
    async def scenario() -> None:
        async with served() as client:
            await endpoint(client)
            await caller(client, "caller", start_timer("t", 0.3))
            await poll(client)  # and nobody answers
            async with asyncio.timeout(3):
                task = await client.poll_workflow_task(queue("caller"))
            assert "EVENT_TYPE_TIMER_FIRED" in [EventType.Name(e.event_type) for e in task.history.events]
            assert await types(client) == ["SCHEDULED"]

    asyncio.run(scenario())


def test_a_handler_that_nobody_is_times_out_and_is_asked_again() -> None:
    async def scenario() -> None:
        limits = Limits(nexus_request_ns=1_600_000_000)
        async with served(limits=limits) as client:
            await endpoint(client)
            await caller(client)
            async with asyncio.timeout(WAIT_S):
                while not (await client.describe("caller")).pending_nexus_operations[0].attempt:
                    await _turn(client, "caller")
            pending = (await client.describe("caller")).pending_nexus_operations[0]
            assert pending.last_attempt_failure.nexus_handler_failure_info.type == "UPSTREAM_TIMEOUT"
            await answer(client, await poll(client), **done())
            await until(client, "SCHEDULED", "COMPLETED")

    asyncio.run(scenario())


def test_more_requests_than_may_wait_for_one_queue_are_tried_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nexus_tasks, "WAITING_LIMIT", 1)

    async def scenario() -> None:
        async with served() as client:
            await endpoint(client)
            await caller(client, "caller", schedule_operation())
            async with asyncio.timeout(WAIT_S):
                while True:
                    found = (await client.describe("caller")).pending_nexus_operations
                    failed = [item.last_attempt_failure for item in found if item.attempt]
                    if failed:
                        break
                    await _turn(client, "caller")
            assert failed[0].nexus_handler_failure_info.type == "RESOURCE_EXHAUSTED"
            for _ in range(2):
                await answer(client, await poll(client), **done())
            await until(client, "SCHEDULED", "SCHEDULED", "COMPLETED", "COMPLETED")

    asyncio.run(scenario())


def test_more_requests_than_may_be_under_way_are_made_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They stand in line, which is no failure that somebody has to read of."""
    monkeypatch.setattr(nexus_calls, "UNDER_WAY_LIMIT", 1)

    async def scenario() -> None:
        async with served() as client:
            await endpoint(client)
            await caller(client)
            await client.start("second", "second")
            await step(client, "second", schedule_operation())
            for _ in range(2):
                await answer(client, await poll(client), **done())
            for workflow_id in ("caller", "second"):
                await until(client, "SCHEDULED", "COMPLETED", workflow_id=workflow_id)

    with caplog.at_level(logging.WARNING, "perdure"):
        asyncio.run(scenario())
    assert not caplog.records


def test_a_closed_caller_ignores_the_answer() -> None:
    async def scenario() -> None:
        async with served() as client:
            await endpoint(client)
            await caller(client)
            task = await poll(client)
            await client.terminate("caller")
            await answer(client, task, **running())
            assert await types(client) == ["SCHEDULED"]

    asyncio.run(scenario())


# --- callbacks by HTTP


Answered = tuple[int, Mapping[str, str], bytes]


class _Receiver(BaseHTTPRequestHandler):
    """Takes requests; the server's `answers` say how, the last one again and again."""

    def do_POST(self) -> None:  # the library's name
        """Answers."""
        server: Any = self.server
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        server.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status, headers, data = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@asynccontextmanager
async def receiving(*answers: Answered) -> AsyncIterator[Any]:
    """An HTTP server on this machine; `got` holds what came."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    server.answers, server.got = list(answers), []
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()


OK: Answered = (200, {}, b"")


def test_an_address_is_called_back_until_it_answers() -> None:
    async def scenario() -> None:
        async with (
            served(callback_addresses=ANY_ADDRESS) as client,
            receiving((503, {}, b""), OK) as receiver,
        ):
            url = f"http://127.0.0.1:{receiver.server_port}/path?q=1"
            callback = common.Callback(nexus=common.Callback.Nexus(url=url, header={"Token": "t"}))
            await client.start("w", "w", completion_callbacks=[callback])
            await step(client, "w", complete_workflow(payloads("r")))
            await until_callback(client, "w", State.CALLBACK_STATE_SUCCEEDED)
            path, headers, body = receiver.got[1]
            assert (path, body, len(receiver.got)) == ("/path?q=1", payload("r").data, 2)
            assert headers["nexus-operation-state"] == "succeeded"
            assert (headers["token"], headers["content-type"]) == ("t", "application/json")
            assert "WorkflowExecutionStarted" in headers["nexus-link"]
            described = await client.describe("w")
            assert described.callbacks[0].attempt == 2

    asyncio.run(scenario())


def test_an_address_that_refuses_for_good_is_not_called_again() -> None:
    async def scenario() -> None:
        refusal = (404, {"content-type": "application/json"}, b'{"message":"gone"}')
        async with served(callback_addresses=ANY_ADDRESS) as client, receiving(refusal) as receiver:
            url = f"http://127.0.0.1:{receiver.server_port}"
            callback = common.Callback(nexus=common.Callback.Nexus(url=url))
            await client.start("w", "w", completion_callbacks=[callback])
            await step(client, "w", fail_workflow(application_failure("broken")))
            await until_callback(client, "w", State.CALLBACK_STATE_FAILED)
            assert json.loads(receiver.got[0][2])["message"] == "broken"
            info = (await client.describe("w")).callbacks[0]
            assert info.last_attempt_failure.message == "handler error (NOT_FOUND): gone"

    asyncio.run(scenario())


def test_addresses_that_are_not_allowed_are_refused() -> None:
    async def scenario() -> None:
        rules = (AddressRule("*.example.com"),)
        async with served(callback_addresses=rules) as client:
            for url, problem in (
                ("http://a.example.com", "insecure"),
                ("https://example.org", "does not match"),
                ("temporal://elsewhere", "unknown scheme"),
                ("https://", "missing host"),
            ):
                callback = common.Callback(nexus=common.Callback.Nexus(url=url))
                with pytest.raises(InvalidArgumentError, match=problem):
                    await client.start("w", "w", completion_callbacks=[callback])
            callback = common.Callback(nexus=common.Callback.Nexus(url="https://a.example.com"))
            await client.start("w", "w", completion_callbacks=[callback])

    asyncio.run(scenario())


# --- handlers elsewhere


def test_a_handler_elsewhere_is_asked_by_http() -> None:
    async def scenario() -> None:
        started = (201, {"content-type": "application/json"}, b'{"token":"t","state":"running"}')
        refused: Answered = (503, {}, b"")
        accepted: Answered = (202, {}, b"")
        async with served() as client, receiving(refused, started, accepted) as receiver:
            url = f"http://127.0.0.1:{receiver.server_port}/base"
            await endpoint(client, external=nexus.EndpointTarget.External(url=url))
            await caller(client, input=payload("in"), nexus_header={"key": "v"}, operation="a/b")
            await until(client, "SCHEDULED", "STARTED")
            path, headers, body = receiver.got[1]
            assert path.startswith("/base/service/a%2Fb?callback=")
            assert (headers["key"], body) == ("v", payload("in").data)
            assert headers["nexus-request-id"]
            await step(client, "caller", cancel_operation(5))
            await until(client, "SCHEDULED", "STARTED", "CANCEL_REQUESTED", "CANCEL_REQUEST_COMPLETED")
            path, headers, _ = receiver.got[2]
            assert (path, headers["nexus-operation-token"]) == ("/base/service/a%2Fb/cancel", "t")

    asyncio.run(scenario())


# --- callers elsewhere


def _post(port: int, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        data = response.read()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, data
    finally:
        connection.close()


@asynccontextmanager
async def with_door() -> AsyncIterator[tuple[LocalClient, Any]]:
    """A server with an HTTP door, and a function that posts to it."""
    from perdure.server.doors.http import nexus as nexus_routes
    from perdure.server.doors.http.door import HttpDoor

    async with served() as client:
        door = HttpDoor(nexus_routes.routes(client.server.nexus.http), "127.0.0.1", 0)
        await door.start()

        async def post(path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Any:
            return await asyncio.to_thread(_post, door.port, path, headers or {}, body)

        try:
            yield client, post
        finally:
            await door.stop(0)


JSON = {"content-type": "application/json", "temporal-nexus-failure-support": "true"}


@pytest.mark.parametrize(
    ("start", "status", "told"),
    [
        (done(), 200, b'"r"'),
        (running(), 201, b'{"token":"token","state":"running"}'),
        ({"failure": application_failure("broken")}, 424, b"broken"),
    ],
)
def test_a_caller_elsewhere_starts_operations(start: Any, status: int, told: bytes) -> None:
    async def scenario() -> None:
        async with with_door() as (client, post):
            endpoint_id = await endpoint(client)
            for prefix in (
                f"/nexus/endpoints/{endpoint_id}/services",
                f"/namespaces/default/task-queues/{HANDLERS}/nexus-services",
            ):
                asking = asyncio.create_task(
                    post(f"{prefix}/a%2Fb/op?callback=http%3A%2F%2Fx", JSON, b'"in"')
                )
                task = await poll(client)
                asked = task.request.start_operation
                assert (asked.service, asked.operation, asked.callback) == ("a/b", "op", "http://x")
                assert asked.payload.data == b'"in"'
                await answer(client, task, **start)
                answered = await asking
                assert answered[0] == status
                assert told in answered[2]

    asyncio.run(scenario())


@pytest.mark.parametrize("where", ["header", "query", "path"])
def test_a_caller_elsewhere_cancels_operations(where: str) -> None:
    async def scenario() -> None:
        async with with_door() as (client, post):
            base = f"/nexus/endpoints/{await endpoint(client)}/services/s/o"
            path = {"query": "/cancel?token=a%2Fb", "path": "/a%2Fb/cancel"}.get(where, "/cancel")
            headers = {"nexus-operation-token": "a/b"} if where == "header" else {}
            asking = asyncio.create_task(post(base + path, headers))
            task = await poll(client)
            assert task.request.cancel_operation.operation_token == "a/b"
            await answer(client, task)
            assert (await asking)[0] == 202

    asyncio.run(scenario())


def test_a_refusal_of_a_handler_reaches_the_caller_elsewhere() -> None:
    async def scenario() -> None:
        async with with_door() as (client, post):
            base = f"/nexus/endpoints/{await endpoint(client)}/services/s/o"
            asking = asyncio.create_task(post(base, JSON))
            task = await poll(client)
            info = failure.NexusHandlerFailureInfo(type="NOT_FOUND")
            refused = failure.Failure(message="no such thing", nexus_handler_failure_info=info)
            await client.invoke(
                workflowservice.RespondNexusTaskFailedRequest(
                    namespace="default", task_token=task.task_token, failure=refused
                )
            )
            status, headers, body = await asking
            assert (status, headers["temporal-nexus-failure-source"]) == (404, "worker")
            assert json.loads(body)["message"] == "no such thing"

    asyncio.run(scenario())


def test_a_caller_elsewhere_that_names_no_endpoint_is_told_not_to_try_again() -> None:
    async def scenario() -> None:
        async with with_door() as (_, post):
            status, headers, body = await post("/nexus/endpoints/none/services/s/o", JSON)
            assert (status, headers.get("nexus-request-retryable")) == (404, "false")
            assert json.loads(body)["details"] == {"type": "NOT_FOUND", "retryableOverride": False}

    asyncio.run(scenario())


def test_a_request_timeout_of_zero_means_that_there_is_none() -> None:
    async def scenario() -> None:
        async with with_door() as (client, post):
            base = f"/nexus/endpoints/{await endpoint(client)}/services/s/o"
            asking = asyncio.create_task(post(base, {**JSON, "request-timeout": "0s"}))
            task = await poll(client)
            assert float(task.request.header["request-timeout"].removesuffix("s")) > 30
            await answer(client, task, **done())
            assert (await asking)[0] == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "told"),
    [
        ("/nexus/endpoints/{id}/services/s", {}, b"", 404, "not found"),
        ("/nexus/endpoints/{id}/services/s/o/cancel", {}, b"", 400, "missing operation token"),
        ("/nexus/endpoints/x/services/s/o", {}, b"", 404, "nexus endpoint not found"),
        ("/namespaces/x/task-queues/q/nexus-services/s/o", {}, b"", 404, "namespace not found"),
        (
            "/namespaces/default/task-queues/%2F_sys%2Fversion%2Fx/nexus-services/s/o",
            {},
            b"",
            400,
            "reserved prefix",
        ),
        (f"/namespaces/default/task-queues/{'q' * 2_000}/nexus-services/s/o", {}, b"", 400, "exceeds limit"),
        ("/nexus/endpoints/{id}/services/s/o", {"request-timeout": "x"}, b"", 400, "invalid request timeout"),
        ("/nexus/endpoints/{id}/services/s/o", {"nexus-link": "x"}, b"", 400, "invalid"),
        ("/nexus/endpoints/{id}/services/s/o", {"request-timeout": "20ms"}, b"", 520, "upstream timeout"),
        ("/nexus/endpoints/{id}/services/s/o", {}, b"x" * (2 * 1024 * 1024 + 1), 400, "too large"),
        (
            "/nexus/endpoints/{id}/services/s/o",
            {"content-type": "application/x-temporal-payload"},
            b"\xff",
            400,
            "invalid input",
        ),
        ("/nexus/callback", {}, b"", 400, "invalid request operation state"),
        ("/nexus/callback", {"nexus-operation-state": "succeeded"}, b"", 400, "invalid callback token"),
        ("/nexus/callback", {"nexus-operation-state": "failed"}, b"{}", 400, "invalid request content type"),
        (
            "/nexus/callback",
            {"nexus-operation-state": "failed", "content-type": "application/json"},
            b"[",
            400,
            "failed to decode Failure",
        ),
    ],
)
def test_bad_requests_have_their_answers(
    path: str, headers: dict[str, str], body: bytes, status: int, told: str
) -> None:
    async def scenario() -> None:
        async with with_door() as (client, post):
            endpoint_id = await endpoint(client)
            answered = await post(
                path.replace("{id}", endpoint_id),
                {**JSON, **headers} if "type" not in told else headers,
                body,
            )
            assert answered[0] == status
            assert told in json.loads(answered[2])["message"]

    asyncio.run(scenario())


def test_a_completion_by_http_ends_an_operation_once() -> None:
    async def scenario() -> None:
        async with with_door() as (client, post):
            await endpoint(client)
            await caller(client)
            task = await poll(client)
            await answer(client, task, **running())
            await until(client, "SCHEDULED", "STARTED")
            headers = {**JSON, "nexus-operation-state": "succeeded"}
            headers |= dict(task.request.start_operation.callback_header)
            assert (await post("/namespaces/other/nexus/callback", headers, b'"r"'))[0] == 400
            for time in ("Fri, 31 Dec 9999 23:59:59 GMT", "yesterday"):
                bad = {**headers, "nexus-operation-start-time": time}
                assert (await post("/nexus/callback", bad, b'"r"'))[0] == 400
            assert (await post("/namespaces/default/nexus/callback", headers, b'"r"'))[0] == 200
            status, _, body = await post("/nexus/callback", headers, b'"r"')
            assert (status, json.loads(body)["message"]) == (404, "operation not found")
            last = (await events(client))[7].nexus_operation_completed_event_attributes
            assert last.result.data == b'"r"'

    asyncio.run(scenario())


@pytest.mark.parametrize("is_deleted", [False, True], ids=["", "the run is deleted"])
def test_a_completion_follows_a_reset(is_deleted: bool) -> None:
    """The operation of a run that was reset is pending in the run that followed, which may outlive it by far."""

    async def scenario() -> None:
        async with with_door() as (client, post):
            await endpoint(client)
            await caller(client)
            task = await poll(client)
            await answer(client, task, **running())
            await until(client, "SCHEDULED", "STARTED")
            await step(client, "caller")
            run_id = (await client.describe("caller")).workflow_execution_info.execution.run_id
            await client.invoke(
                workflowservice.ResetWorkflowExecutionRequest(
                    namespace="default",
                    workflow_execution=common.WorkflowExecution(workflow_id="caller", run_id=run_id),
                    workflow_task_finish_event_id=9,
                    request_id="q",
                )
            )
            if is_deleted:
                await client.invoke(
                    workflowservice.DeleteWorkflowExecutionRequest(
                        namespace="default",
                        workflow_execution=common.WorkflowExecution(workflow_id="caller", run_id=run_id),
                    )
                )
            headers = {**JSON, "nexus-operation-state": "succeeded"}
            headers |= dict(task.request.start_operation.callback_header)
            assert (await post("/nexus/callback", headers, b'"r"'))[0] == 200
            assert (await types(client))[-1] == "COMPLETED"

    asyncio.run(scenario())


@pytest.mark.parametrize("by_http", [False, True], ids=["by a workflow", "by http"])
def test_a_run_that_is_reset_while_its_operation_completes_hears_of_it(
    by_http: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that waits has been found, and is reset before it is told."""
    find = Completions.find
    resets = []

    async def scenario() -> None:
        async with with_door() as (client, post):
            await endpoint(client)
            await caller(client)
            task = await poll(client)
            await answer(client, task, **running())
            await until(client, "SCHEDULED", "STARTED")
            await step(client, "caller")
            run_id = (await client.describe("caller")).workflow_execution_info.execution.run_id
            resets.append(
                workflowservice.ResetWorkflowExecutionRequest(
                    namespace="default",
                    workflow_execution=common.WorkflowExecution(workflow_id="caller", run_id=run_id),
                    workflow_task_finish_event_id=9,
                    request_id="q",
                )
            )

            async def reset_when_found(self: Completions, waiting: Any) -> RunKey:
                found = await find(self, waiting)
                while resets:
                    await client.invoke(resets.pop())
                return found

            monkeypatch.setattr(Completions, "find", reset_when_found)
            if by_http:
                headers = {**JSON, "nexus-operation-state": "succeeded"}
                headers |= dict(task.request.start_operation.callback_header)
                assert (await post("/nexus/callback", headers, b'"r"'))[0] == 200
            else:
                await client.start("handler", "handler", completion_callbacks=[callback_of(task)])
                await step(client, "handler", complete_workflow(payloads("r")))
                await until_callback(client, "handler", State.CALLBACK_STATE_SUCCEEDED)
            assert (await types(client))[-1] == "COMPLETED"

    asyncio.run(scenario())


def test_a_config_without_http_opens_no_door() -> None:
    server = Server(_LastingStore(), replace(ServerConfig(port=0)), SystemRuntime(), "memory")
    assert server.http_port == 0


def test_a_token_that_is_nested_without_end_is_no_token() -> None:
    """Anybody may send one; the run whose callback has it could not be ended or deleted any more."""

    async def scenario() -> None:
        async with served() as client:
            token = {"temporal-callback-token": "[" * 8000}
            callback = common.Callback(nexus=common.Callback.Nexus(url="temporal://system", header=token))
            await client.start("w", "w", completion_callbacks=[callback])
            await step(client, "w", complete_workflow(payloads("r")))
            await until_callback(client, "w", State.CALLBACK_STATE_FAILED)

    asyncio.run(scenario())


def test_requests_count_among_the_tasks_that_come_and_go() -> None:
    """Three requests to handlers, of which one is taken: the rates of the queue say so."""

    async def scenario() -> None:
        async with serving() as client:
            namespace_id = client.server.namespaces.get("default").namespace_id
            key = QueueKey(namespace_id, HANDLERS, TaskKind.NEXUS)
            asking = [
                asyncio.create_task(client.server.nexus.tasks.ask(key, nexus.Request(), 15.0))
                for _ in range(3)
            ]
            assert (await poll(client)).task_token
            request = workflowservice.DescribeTaskQueueRequest(
                namespace="default",
                task_queue=queue(HANDLERS),
                task_queue_type=enums.TaskQueueType.TASK_QUEUE_TYPE_NEXUS,
                report_stats=True,
            )
            described = await client.call(request, workflowservice.DescribeTaskQueueResponse)
            assert described.stats.tasks_dispatch_rate > 0
            assert abs(described.stats.tasks_add_rate - 3 * described.stats.tasks_dispatch_rate) < 0.01
            for task in asking:
                task.cancel()

    asyncio.run(scenario())
