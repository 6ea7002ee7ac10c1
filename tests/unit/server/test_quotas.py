"""Quotas of namespaces: calls a second, lists a second, calls that wait at once; off unless a server is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import Message

from perdure.api.batch.v1 import BatchOperationTermination
from perdure.api.enums.v1 import ResourceExhaustedCause
from perdure.api.services import WORKFLOW_SERVICE, method_path
from perdure.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    DescribeBatchOperationRequest,
    DescribeNamespaceRequest,
    GetSystemInfoRequest,
    GetWorkflowExecutionHistoryRequest,
    PollActivityTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
    StartBatchOperationRequest,
)
from perdure.core.batch.state import COMPLETED
from perdure.core.errors import NamespaceNotFoundError, ResourceExhaustedError
from perdure.server.config import Quotas, ServerConfig
from perdure.server.service.call import Call
from perdure.server.service.quotas import QuotaKeeper
from perdure.server.service.service import Method
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

FEW = Quotas(calls_per_second=1e-6, calls_burst_ratio=3e6, lists_per_second=1e-6, lists_burst_ratio=2e6)
"""Three calls and two lists, and then none for days: nothing depends on how fast the test runs."""


def _config(quotas: Quotas) -> ServerConfig:
    return ServerConfig(port=0, namespaces=("other",), quotas=quotas)


def _cause(error: ResourceExhaustedError) -> str:
    cause: Any = error.cause
    return ResourceExhaustedCause.Name(cause)


def _describe(namespace: str = "default") -> DescribeNamespaceRequest:
    return DescribeNamespaceRequest(namespace=namespace)


async def _count(client: LocalClient) -> None:
    await client.invoke(CountWorkflowExecutionsRequest(namespace="default"))


def test_more_calls_than_a_namespace_may_make_are_refused_and_others_are_not() -> None:
    """Lists have a rate of their own; calls that name no namespace, or none that exists, are not counted."""

    async def scenario() -> None:
        async with serving(_config(FEW)) as client:
            for _ in range(3):
                await client.invoke(_describe())
            with pytest.raises(ResourceExhaustedError, match="namespace rate limit exceeded") as refused:
                await client.invoke(_describe())
            assert _cause(refused.value) == "RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT"
            await client.invoke(_describe("other"))
            await client.invoke(GetSystemInfoRequest())
            for _ in range(5):
                with pytest.raises(NamespaceNotFoundError):
                    await client.invoke(_describe("nobody"))
            for _ in range(2):
                await _count(client)
            with pytest.raises(ResourceExhaustedError):
                await _count(client)

    run(scenario())


def test_a_quota_fills_again_with_time() -> None:
    """Two calls a second, four at once: after half a second there is one more."""
    now_s = [100.0]
    keeper = QuotaKeeper(Quotas(calls_per_second=2, calls_burst_ratio=2), lambda name: True, lambda: now_s[0])
    taken = [keeper._rate("default", False).take(now_s[0]) for _ in range(5)]
    assert taken == [True] * 4 + [False]
    now_s[0] += 0.5
    taken = [keeper._rate("default", False).take(now_s[0]) for _ in range(2)]
    assert taken == [True, False]


def test_what_is_counted_for_namespaces_that_are_gone_is_forgotten() -> None:
    """Names come and go; what is remembered is bounded by the namespaces there are."""
    there = {f"n-{number}" for number in range(5)}
    keeper = QuotaKeeper(Quotas(calls_per_second=1), there.__contains__, lambda: 0.0)
    for name in there:
        keeper._rate(name, False)
    there -= {"n-1", "n-2"}
    keeper._rate("n-0", True)
    assert {name for name, _ in keeper._rates} == there


def test_only_so_many_calls_of_one_rpc_wait_at_once() -> None:
    """One that ends makes room; other RPCs and namespaces, and a history that is read without waiting, do not count."""

    async def scenario() -> None:
        release = asyncio.Event()
        began: list[str] = []

        async def wait(request: Message, call: Call) -> Message:
            began.append(type(request).__name__)
            await release.wait()
            return request

        keeper = QuotaKeeper(Quotas(waiting_calls=2), {"default", "other"}.__contains__, lambda: 0.0)

        def call(request: Message) -> asyncio.Task[Message]:
            name = type(request).__name__.removesuffix("Request")
            limited = keeper.limited(Method(f"/service/{name}", type(request), type(request), wait)).serve
            assert limited is not None
            return asyncio.ensure_future(limited(request, Call()))

        poll = PollWorkflowTaskQueueRequest(namespace="default")
        waiting = [call(poll), call(poll)]
        await asyncio.sleep(0)
        with pytest.raises(ResourceExhaustedError, match="concurrent poller limit") as refused:
            await call(poll)
        assert _cause(refused.value) == "RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT"
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        more = [
            poll,
            PollWorkflowTaskQueueRequest(namespace="other"),
            PollActivityTaskQueueRequest(namespace="default"),
        ]
        more += [
            GetWorkflowExecutionHistoryRequest(namespace="default", wait_new_event=n < 2) for n in range(4)
        ]
        waiting += map(call, more)
        await asyncio.sleep(0)
        assert len(began) == 2 + len(more)
        release.set()
        await asyncio.gather(*waiting[1:])
        assert not keeper._waiting

    run(scenario())


def test_a_batch_goes_on_whatever_the_quota_is() -> None:
    """What the server does itself is not refused: five runs are ended although there is not one more call."""

    async def scenario() -> None:
        async with serving(_config(replace(FEW, calls_burst_ratio=6e6))) as client:
            for number in range(5):
                await client.start(f"w-{number}", "nobody")
            await client.invoke(
                StartBatchOperationRequest(
                    namespace="default",
                    job_id="all",
                    reason="test",
                    visibility_query="ExecutionStatus='Running'",
                    termination_operation=BatchOperationTermination(),
                    max_operations_per_second=1_000,
                )
            )
            path = method_path(WORKFLOW_SERVICE, "DescribeBatchOperation")
            request = DescribeBatchOperationRequest(namespace="default", job_id="all")
            while True:
                shown: Any = await client.server.service.call_without_quota(path, request, Call())
                if shown.state == COMPLETED:
                    break
                await asyncio.sleep(0)
            assert (shown.complete_operation_count, shown.failure_operation_count) == (5, 0)

    run(scenario())


def test_nothing_is_limited_unless_the_server_is_told() -> None:
    """And then it costs nothing: the RPCs are the same as without."""

    async def scenario() -> None:
        async with serving() as client:
            service = client.server.service
            assert all(
                service.handler(path) is method.serve
                for path, method in service.methods.items()
                if method.serve
            )

    run(scenario())
