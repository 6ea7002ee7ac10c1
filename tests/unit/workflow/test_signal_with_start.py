"""Workflow code that signals a workflow which may not run yet, with and without a payload codec."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from perdure import workflow
from perdure.api.workflowservice.v1 import SignalWithStartWorkflowExecutionRequest
from perdure.client import Client
from perdure.converter import DataConverter, PayloadCodec
from perdure.nexus.system import is_system_endpoint
from perdure.testing import WorkflowEnvironment
from perdure.worker import (
    Interceptor,
    StartNexusOperationInput,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from tests.unit.sdk_data.drivers import ReversingCodec, WrappingCodec
from tests.unit.server.support import run

QUEUE = "signal-with-start"


@workflow.defn
class Collector:
    """Collects what it is signalled until it has two."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @workflow.run
    async def run(self, first: str, second: str) -> list[str]:
        """What it was started with, and what it was signalled."""
        await workflow.wait_condition(lambda: len(self.heard) == 2)
        return [first, second, str(workflow.memo()["note"]), *self.heard]

    @workflow.signal
    def hear(self, *words: str) -> None:
        """One signal."""
        self.heard.append("+".join(words))


@workflow.defn
class Caller:
    """Signals twice; the first time nobody is there."""

    @workflow.run
    async def run(self, id: str) -> list[str]:
        """The run ids."""
        first = await workflow.signal_with_start_workflow(
            Collector.run,
            "a",
            "b",
            id=id,
            task_queue=QUEUE,
            signal=Collector.hear,
            signal_args="one",
            memo={"note": "noted"},
            static_summary="collects",
        )
        second = await workflow.signal_with_start_workflow(
            "Collector", args=["c", "d"], id=id, task_queue=QUEUE, signal="hear", signal_args=["two", "words"]
        )
        with pytest.raises(TypeError, match="both positional arguments and args"):
            await workflow.signal_with_start_workflow(
                "Collector", 1, args=[2], id=id, task_queue=QUEUE, signal="hear"
            )
        return [str(first.run_id), str(second.run_id)]


@pytest.mark.parametrize("codec", [None, ReversingCodec(), WrappingCodec()])
@pytest.mark.parametrize("cached", [100, 0])
def test_it_starts_the_workflow_once_and_signals_it_twice(codec: PayloadCodec | None, cached: int) -> None:
    """The server reads the request, and no codec stands in its way; what it carries arrives as it was."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_local() as environment:
            config = environment.client.config()
            config["data_converter"] = dataclasses.replace(DataConverter.default, payload_codec=codec)
            client = Client(**config)
            async with Worker(
                client, task_queue=QUEUE, workflows=[Caller, Collector], max_cached_workflows=cached
            ):
                runs = await client.execute_workflow(Caller.run, "collector", id="caller", task_queue=QUEUE)
                handle = client.get_workflow_handle("collector")
                assert await handle.result() == ["a", "b", "noted", "one", "two+words"]
            assert runs[0] == runs[1] == (await handle.describe()).run_id
            assert await (await handle.describe()).static_summary() == "collects"

    run(scenario())


class _Watching(WorkflowOutboundInterceptor):
    async def start_nexus_operation(
        self, input: StartNexusOperationInput[Any, Any]
    ) -> workflow.NexusOperationHandle[Any]:
        SEEN.append(input)
        return await super().start_nexus_operation(input)


class _WatchingInbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Watching(outbound))


class _Interceptor(Interceptor):
    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        return _WatchingInbound


SEEN: list[StartNexusOperationInput[Any, Any]] = []


def test_an_interceptor_sees_the_request() -> None:
    """It can tell the server's own endpoint, and reads whom the call is for."""

    async def scenario() -> None:
        SEEN.clear()
        async with (
            await WorkflowEnvironment.start_local() as environment,
            Worker(
                environment.client,
                task_queue=QUEUE,
                workflows=[Caller, Collector],
                interceptors=[_Interceptor()],
            ),
        ):
            await environment.client.execute_workflow(Caller.run, "collector", id="caller", task_queue=QUEUE)
        assert [is_system_endpoint(each.endpoint) for each in SEEN] == [True, True]
        requests = [each.input for each in SEEN]
        assert all(isinstance(each, SignalWithStartWorkflowExecutionRequest) for each in requests)
        assert [(each.workflow_id, each.signal_name) for each in requests] == [("collector", "hear")] * 2

    run(scenario())
