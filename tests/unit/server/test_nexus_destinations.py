"""Nexus requests by destination: this server itself, handlers that complete by an address, hosts that hang."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest

from perdure.core.errors import InvalidArgumentError
from perdure.core.nexus import system
from perdure.server.config import ServerConfig, with_dynamic_values
from perdure.server.engine import nexus_requests
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.memory import MemoryStore
from tests.support.builders import complete_workflow, payload, payloads, queue, schedule_operation
from tests.support.proto import common, enums, nexus, workflowservice
from tests.unit.server.test_nexus import (
    ANY_ADDRESS,
    JSON,
    OK,
    Answered,
    caller,
    endpoint,
    events,
    receiving,
    served,
    step,
    until,
    until_callback,
    with_door,
)

SignalWithStart = workflowservice.SignalWithStartWorkflowExecutionRequest


def _input(**fields: object) -> common.Payload:
    request = SignalWithStart(
        workflow_id="target",
        workflow_type=common.WorkflowType(name="t"),
        task_queue=queue("targets"),
        signal_name="go",
        **fields,  # type: ignore[arg-type]
    )
    return common.Payload(metadata={"encoding": b"binary/protobuf"}, data=request.SerializeToString())


def test_the_servers_own_endpoint_signals_and_starts() -> None:
    """The operation is done at once; its result and links say which run has the signal."""

    async def scenario() -> None:
        async with served() as client:
            names = {"endpoint": "__temporal_system", "service": system.SERVICE}
            await client.start("caller", "caller")
            command = schedule_operation(operation=system.SIGNAL_WITH_START, input=_input(), **names)
            await step(client, "caller", command)
            await until(client, "SCHEDULED", "COMPLETED")
            completed = (await events(client))[5]
            result = completed.nexus_operation_completed_event_attributes.result
            told = workflowservice.SignalWithStartWorkflowExecutionResponse.FromString(result.data)
            started = (await events(client, "target"))[0]
            assert told.started
            assert completed.links[0].workflow_event.workflow_id == "target"
            assert started.links[0].workflow_event.workflow_id == "caller"
            signals = [event for event in await events(client, "target") if event.event_type == 26]
            assert len(signals) == 1

    asyncio.run(scenario())


def test_a_refusal_of_the_servers_own_endpoint_ends_the_operation() -> None:
    """What cannot be served is not tried again."""

    async def scenario() -> None:
        async with served() as client:
            names = {"endpoint": "__temporal_system", "service": system.SERVICE}
            await client.start("caller", "caller")
            asked = _input(cron_schedule="not a schedule")
            command = schedule_operation(operation=system.SIGNAL_WITH_START, input=asked, **names)
            await step(client, "caller", command)
            await until(client, "SCHEDULED", "FAILED")
            failed = (await events(client))[5].nexus_operation_failed_event_attributes.failure
            assert failed.cause.message.startswith("InvalidArgument: ")
            assert failed.cause.server_failure_info.non_retryable

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("data", "encoding", "means"),
    [
        (b"x", b"binary/plain", "no encoding"),
        (b"\xff", b"binary/protobuf", "failed to decode"),
        (b"[" * 5000, b"json/protobuf", "failed to decode"),
        (SignalWithStart(namespace="other").SerializeToString(), b"binary/protobuf", "does not match"),
        (SignalWithStart(request_id="r").SerializeToString(), b"binary/protobuf", "RequestID"),
        (SignalWithStart(signal_name="s").SerializeToString(), b"binary/protobuf", "workflow type"),
    ],
)
def test_inputs_that_are_no_request_of_the_caller_are_refused(
    data: bytes, encoding: bytes, means: str
) -> None:
    """Whatever a worker sends, the task fails with a typed error."""
    with pytest.raises(InvalidArgumentError, match=means):
        system.read(common.Payload(metadata={"encoding": encoding}, data=data), "default")


def test_a_handler_at_an_address_completes_its_operation_at_the_servers_address() -> None:
    """It is told where, and with which token."""

    async def scenario() -> None:
        started: Answered = (201, {"content-type": "application/json"}, b'{"token":"t","state":"running"}')
        async with with_door() as (client, post), receiving(started) as receiver:
            template = "http://door/namespaces/{{.NamespaceName}}/nexus/callback?id={{.NamespaceID}}"
            client.server.nexus.requests.callback_template = template
            url = f"http://127.0.0.1:{receiver.server_port}"
            await endpoint(client, external=nexus.EndpointTarget.External(url=url))
            await caller(client)
            await until(client, "SCHEDULED", "STARTED")
            path, headers, _ = receiver.got[0]
            back = urlsplit(parse_qs(urlsplit(path).query)["callback"][0])
            namespace_id = client.server.namespaces.get("default").namespace_id
            assert (back.path, back.query) == ("/namespaces/default/nexus/callback", f"id={namespace_id}")
            token = headers["nexus-callback-temporal-callback-token"]
            told = {**JSON, "temporal-callback-token": token, "nexus-operation-state": "succeeded"}
            status, _, _ = await post(back.path, told, b'"result"')
            assert status == 200
            await until(client, "SCHEDULED", "STARTED", "COMPLETED")
            found = [event.nexus_operation_completed_event_attributes for event in await events(client)]
            assert [told.result for told in found if told.scheduled_event_id] == [payload("result")]

    asyncio.run(scenario())


def test_the_address_of_completions_is_the_servers_own_door_unless_told() -> None:
    """A door that listens on every interface is reached by this machine's own name."""

    async def scenario() -> None:
        for host, shown in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")):
            config = ServerConfig(host=host, port=0, http_port=0)
            server = Server(MemoryStore(), config, SystemRuntime(), "memory")
            await server.start()
            template = server.nexus.requests.callback_template
            expected = f"http://{shown}:{server.http_port}/namespaces/{{{{.NamespaceName}}}}/nexus/callback"
            await server.stop(0)
            assert template == expected

    asyncio.run(scenario())
    key = "component.nexusoperations.callback.endpoint.template"
    config, _ = with_dynamic_values(ServerConfig(), {key: "https://example.com/{{.NamespaceID}}"})
    assert config.callback_template == "https://example.com/{{.NamespaceID}}"
    for bad in (5, "example.com"):
        with pytest.raises(InvalidArgumentError):
            with_dynamic_values(ServerConfig(), {key: bad})


def test_callbacks_to_a_host_that_hangs_delay_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """More are owed to it than it has places; another host's is delivered meanwhile."""
    monkeypatch.setattr(nexus_requests, "CONCURRENT_AT_HOST", 2)

    async def scenario() -> None:
        over = asyncio.Event()
        waiting: list[str] = []

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            waiting.append("x")
            await over.wait()
            writer.close()

        silent = await asyncio.start_server(hang, "127.0.0.1", 0)
        async with served(callback_addresses=ANY_ADDRESS) as client, receiving(OK) as receiver:
            ports = [silent.sockets[0].getsockname()[1]] * 5 + [receiver.server_port]
            for number, port in enumerate(ports):
                url = f"http://127.0.0.1:{port}/"
                callback = common.Callback(nexus=common.Callback.Nexus(url=url))
                await client.start(f"w{number}", "w", completion_callbacks=[callback])
                await step(client, "w", complete_workflow(payloads("r")))
            await until_callback(client, "w5", enums.CallbackState.CALLBACK_STATE_SUCCEEDED)
            assert len(waiting) == 2, "the other three stand in line"
            over.set()
        silent.close()

    asyncio.run(scenario())
