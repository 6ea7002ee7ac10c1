"""Every RPC of the two services with a request that says nothing, one of a namespace that is not there, and one that
makes sense but names nothing that exists: which status and which message answer it. Most of them are refused before
anything is looked up, so this is where legacy and cloud-only RPCs show that they answer as they should."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE, Rpc, rpcs
from tests.differential.context import IDLE_POLL_S, Context
from tests.differential.registry import scenario
from tests.support.rpc import RpcError

RPC_TIMEOUT_S = 20.0
AT_ONCE = 6

_NAMES = {
    name: f"no-such-{name.replace('_', '-')}"
    for name in (
        "activity_id", "build_id", "cluster_name", "deployment_name", "endpoint", "fast_forward_id",
        "job_id", "manager_identity", "operation", "operation_id", "query_type", "resource_id", "rule_id",
        "schedule_id", "series_name", "service", "signal_name", "sticky_task_queue", "update_id",
        "worker_control_task_queue",
        "worker_instance_key", "workflow_id",
    )
}  # fmt: skip
_VALUES: dict[str, Any] = _NAMES | {
    "identity": "differential",
    "reason": "to see what it answers",
    "request_id": "6fa459ea-ee8a-3ca4-894e-db77e160355e",
    "id": "16fd2706-8baf-433b-82eb-8c7fada847da",
    "run_id": "16fd2706-8baf-433b-82eb-8c7fada847da",
    "first_execution_run_id": "16fd2706-8baf-433b-82eb-8c7fada847da",
    "type": "no-such-type",
    "percentage": 10,
    "task_queue_type": 2,
    "wait_stage": 3,
    "lifecycle_stage": 3,
}
"""What a field of a name is set to, wherever it occurs."""
_TARGETS = {
    "activity_id", "build_id", "cluster_name", "deployment_name", "id", "job_id", "operation_id", "schedule_id",
    "update_id", "worker_instance_key", "workflow_id",
}  # fmt: skip
"""Names of things that can be missing."""
_FILLED = {
    "activity_type", "deployment_version", "execution", "meta", "query", "request", "task_queue", "update_ref",
    "wait_policy", "workflow_execution", "workflow_type", "deployment",
}  # fmt: skip
"""Messages that are filled in the same way."""
_UNTOUCHED = {"DeleteNamespace", "DeprecateNamespace", "UpdateNamespace"}
"""RPCs that would change the namespace that all scenarios share: asked of one that is not there only."""

_MAKES = ("Create", "Register", "Start", "SignalWithStart")
"""What RPCs that name something new begin with; all others that name something name what is there."""


def has_namespace(rpc: Rpc) -> bool:
    """Whether a request says which namespace it is about."""
    return "namespace" in rpc.request.DESCRIPTOR.fields_by_name


def has_target(rpc: Rpc) -> bool:
    """Whether the plausible request names something that must be there and is not."""
    if rpc.name.startswith("Poll") and rpc.name.endswith("TaskQueue"):
        return False  # workers say who they are
    if "task_token" in rpc.request.DESCRIPTOR.fields_by_name:
        return False  # tokens are among the wrong values
    return not rpc.name.startswith(_MAKES) and (rpc.name in _UNTOUCHED or _names(rpc.request.DESCRIPTOR))


def _names(descriptor: Any, depth: int = 3) -> bool:
    for field in descriptor.fields:
        part = field.message_type
        if field.is_repeated:
            continue
        if field.name in _TARGETS or (
            part is not None and field.name in _FILLED and depth and _names(part, depth - 1)
        ):
            return True
    return False


def _fill(ctx: Context, message: Message, namespace: str, rpc: str, depth: int = 3) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            continue
        if field.name == "namespace":
            message.namespace = namespace  # type: ignore[attr-defined]  # the descriptor says so
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            if field.name in _FILLED and depth:
                part = getattr(message, field.name)
                part.SetInParent()
                _fill(ctx, part, namespace, rpc, depth - 1)
        elif field.name == "task_queue":
            setattr(message, field.name, ctx.id("queue"))
        elif field.name == "name" and message.DESCRIPTOR.name in (
            "ActivityType",
            "TaskQueue",
            "WorkflowType",
        ):
            setattr(message, field.name, ctx.id("name"))
        elif field.name in _VALUES:
            value = _VALUES[field.name]
            setattr(message, field.name, f"{value}-{rpc}-{ctx.token}" if field.name in _NAMES else value)


def _empty(ctx: Context, rpc: Rpc) -> Message:
    return rpc.request()


def _nowhere(ctx: Context, rpc: Rpc) -> Message:
    request = rpc.request()
    if has_namespace(rpc):
        request.namespace = "no-such-namespace"  # type: ignore[attr-defined]  # the descriptor says so
    return request


def _plausible(ctx: Context, rpc: Rpc) -> Message:
    request = rpc.request()
    namespace = "no-such-namespace" if rpc.name in _UNTOUCHED else ctx.client.namespace
    _fill(ctx, request, namespace, rpc.name)
    return request


async def _every(ctx: Context, service: str, make: Callable[[Context, Rpc], Message]) -> None:
    at_once = asyncio.Semaphore(AT_ONCE)

    async def answer(rpc: Rpc) -> tuple[str, str]:
        timeout_s = IDLE_POLL_S if rpc.name.startswith("Poll") else RPC_TIMEOUT_S
        async with at_once:
            try:
                await ctx.client.invoke(make(ctx, rpc), timeout_s=timeout_s)
            except RpcError as error:
                return rpc.name, f"{error.code}: {error.message}"
        return rpc.name, "OK"

    for name, status in await asyncio.gather(*map(answer, rpcs(service))):
        ctx.record(name, status)


@scenario
async def every_workflow_rpc_empty(ctx: Context) -> None:
    """WorkflowService, requests that say nothing."""
    await _every(ctx, WORKFLOW_SERVICE, _empty)


@scenario
async def every_workflow_rpc_nowhere(ctx: Context) -> None:
    """WorkflowService, a namespace that is not there."""
    await _every(ctx, WORKFLOW_SERVICE, _nowhere)


@scenario
async def every_workflow_rpc_plausible(ctx: Context) -> None:
    """WorkflowService, requests of things that are not there."""
    await _every(ctx, WORKFLOW_SERVICE, _plausible)


@scenario
async def every_operator_rpc_empty(ctx: Context) -> None:
    """OperatorService, requests that say nothing."""
    await _every(ctx, OPERATOR_SERVICE, _empty)


@scenario
async def every_operator_rpc_nowhere(ctx: Context) -> None:
    """OperatorService, a namespace that is not there."""
    await _every(ctx, OPERATOR_SERVICE, _nowhere)


@scenario
async def every_operator_rpc_plausible(ctx: Context) -> None:
    """OperatorService, requests of things that are not there."""
    await _every(ctx, OPERATOR_SERVICE, _plausible)
