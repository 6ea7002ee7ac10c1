"""The server's own Nexus endpoint: a workflow signals and starts another one through it."""

from __future__ import annotations

from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.differential.scenarios.nexus import ENDED, schedule
from tests.support.builders import payloads, queue
from tests.support.proto import common, workflowservice

ENDPOINT = "__temporal_system"
SERVICE = "temporal.api.workflowservice.v1.WorkflowService"
OPERATION = "SignalWithStartWorkflowExecution"


def request(ctx: Context, **fields: Any) -> common.Payload:
    """An input of the operation."""
    values: dict[str, Any] = {
        "workflow_id": ctx.id("target"),
        "workflow_type": common.WorkflowType(name="target"),
        "task_queue": queue(ctx.id("target-queue")),
        "input": payloads("input"),
        "signal_name": "go",
        "signal_input": payloads("signal"),
        "identity": "caller",
    }
    message = workflowservice.SignalWithStartWorkflowExecutionRequest(**(values | fields))
    made = common.Payload(data=message.SerializeToString())
    made.metadata["encoding"] = b"binary/protobuf"
    made.metadata["messageType"] = message.DESCRIPTOR.full_name.encode()
    return made


def command(ctx: Context, **fields: Any) -> Any:
    """A command to signal and start."""
    values: dict[str, Any] = {"service": SERVICE, "operation": OPERATION, "input": request(ctx)}
    return schedule(ENDPOINT, **(values | fields))


def decoded(events: list[Any]) -> list[Any]:
    """The responses in the completed operations."""
    found = []
    for event in events:
        if event.HasField("nexus_operation_completed_event_attributes"):
            result = event.nexus_operation_completed_event_attributes.result
            found.append(
                {
                    "metadata": dict(result.metadata),
                    "response": workflowservice.SignalWithStartWorkflowExecutionResponse.FromString(
                        result.data
                    ),
                }
            )
    return found


@scenario
async def nexus_system_signal_with_start(ctx: Context) -> None:
    """The first operation starts the workflow, the second one signals it."""
    caller = await ctx.start("caller")
    await caller.step(command(ctx))
    await ctx.until("the first is done", caller.events, lambda events: len(decoded(events)) == 1)
    await caller.step(command(ctx))
    await ctx.until("both are done", caller.events, lambda events: len(decoded(events)) == 2)
    drop = ["nexus_operation_completed_event_attributes.result.data"]
    events = await caller.record_history("caller", drop=drop)
    for number, found in enumerate(decoded(events)):
        ctx.record(f"response {number}", found["response"])
        ctx.record(f"metadata {number}", {k: v.decode() for k, v in found["metadata"].items()})
    target = Run(ctx, ctx.id("target"), "", ctx.id("target-queue"))
    await target.record_history("target")


@scenario
async def nexus_system_refused(ctx: Context) -> None:
    """What the endpoint does not offer, and inputs that are not the caller's to give, fail the workflow task."""
    bad: dict[str, dict[str, Any]] = {
        "service": {"service": "elsewhere"},
        "operation": {"operation": "StartWorkflowExecution"},
        "namespace": {"input": request(ctx, namespace="elsewhere")},
        "request id": {"input": request(ctx, request_id="mine")},
        "links": {"input": request(ctx, links=[common.Link()])},
        "header": {"nexus_header": {"name": "value"}},
    }
    for label, fields in bad.items():
        run = await ctx.start(label.replace(" ", "-"))
        task = await run.poll()
        await ctx.attempt(label, ctx.client.complete_workflow_task(task.task_token, [command(ctx, **fields)]))
        events = await run.events()
        failed = [event for event in events if event.HasField("workflow_task_failed_event_attributes")]
        ctx.record(f"{label}: task", [event.workflow_task_failed_event_attributes.cause for event in failed])


@scenario
async def nexus_system_fails(ctx: Context) -> None:
    """A request that the server refuses fails the operation or the task."""
    caller = await ctx.start("caller")
    task = await caller.poll()
    await ctx.attempt(
        "no signal",
        ctx.client.complete_workflow_task(
            task.task_token, [command(ctx, input=request(ctx, signal_name=""))]
        ),
    )
    await ctx.until(
        "it failed",
        caller.events,
        lambda events: any(
            event.HasField("workflow_task_failed_event_attributes") or event.event_type in ENDED
            for event in events
        ),
    )
    await caller.record_history("caller")
