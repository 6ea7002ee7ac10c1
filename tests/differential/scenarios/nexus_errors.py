"""Nexus: what a handler may answer to a start, well and badly: errors of each type, nested failures, odd results."""

from __future__ import annotations

from typing import Any

from tests.differential.context import Context
from tests.differential.registry import scenario
from tests.differential.scenarios.nexus import (
    NexusTask,
    answer,
    done,
    endpoint,
    handler_failure,
    poll_nexus,
    refuse,
    schedule,
    started,
)
from tests.support.builders import application_failure, canceled_failure, payload
from tests.support.proto import common, enums, failure, nexus, workflowservice

Behavior = enums.NexusHandlerErrorRetryBehavior
AGAIN = Behavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE
NEVER = Behavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE
KINDS = (
    "BAD_REQUEST",
    "UNAUTHENTICATED",
    "UNAUTHORIZED",
    "NOT_FOUND",
    "REQUEST_TIMEOUT",
    "CONFLICT",
    "RESOURCE_EXHAUSTED",
    "INTERNAL",
    "NOT_IMPLEMENTED",
    "UNAVAILABLE",
    "UPSTREAM_TIMEOUT",
    "SOMETHING_ELSE",
    "",
)


def name_of(kind: str) -> str:
    """A type of error as a part of a label."""
    return kind.lower().replace("_", " ") or "no type"


async def task_of(ctx: Context, task_queue: str, operation: str) -> NexusTask:
    """The handlers' next task of an operation; what is tried again of others is left alone."""
    while True:
        task = await poll_nexus(ctx, task_queue)
        if task.request.start_operation.operation == operation:
            return task


async def each(ctx: Context, answers: dict[str, Any]) -> None:
    """Records what becomes of an operation with each answer. One after another, at one endpoint: of many new ones at
    once the official server loses track."""
    name, task_queue = await endpoint(ctx)
    for label, send in answers.items():
        run = await ctx.start(label.replace(" ", "-"))
        await run.step(schedule(name, operation=label))
        await send(ctx, label, await task_of(ctx, task_queue, label))
        described = await run.until_described("tried", _is_tried)
        ctx.record(f"{label}: pending", list(described.pending_nexus_operations))
        events = await run.events()
        ctx.record(f"{label}: end", [event for event in events if event.event_id > 5])
        await ctx.client.terminate(run.workflow_id)


def _is_tried(found: workflowservice.DescribeWorkflowExecutionResponse) -> bool:
    return not found.pending_nexus_operations or found.pending_nexus_operations[0].attempt > 0


def refusing(**fields: Any) -> Any:
    """Answers with an error of the handler."""

    async def send(ctx: Context, label: str, task: NexusTask) -> None:
        await ctx.attempt(f"{label}: answer", refuse(ctx, task, **fields))

    return send


def answering(**start: Any) -> Any:
    """Answers a request to start."""

    async def send(ctx: Context, label: str, task: NexusTask) -> None:
        await ctx.attempt(f"{label}: answer", answer(ctx, task, **start))

    return send


@scenario
async def nexus_error_types(ctx: Context) -> None:
    """Every type of error of a handler with each retry behaviour."""
    behaviors = {"": 0, " again": AGAIN, " never": NEVER}
    await each(
        ctx,
        {
            f"{name_of(kind)}{suffix}": refusing(failure=handler_failure(kind, behavior=behavior))
            for kind in KINDS
            for suffix, behavior in behaviors.items()
        },
    )


@scenario
async def nexus_error_types_in_older_form(ctx: Context) -> None:
    """The same as older workers say it."""
    behaviors: dict[str, Any] = {"": 0, " again": AGAIN, " never": NEVER}
    await each(
        ctx,
        {
            f"{name_of(kind)}{suffix}": refusing(
                error=nexus.HandlerError(
                    error_type=kind, retry_behavior=behavior, failure=nexus.Failure(message="no")
                )
            )
            for kind in KINDS
            for suffix, behavior in behaviors.items()
        },
    )


@scenario
async def nexus_nested_failures(ctx: Context) -> None:
    """Failures of operations and handlers with causes, details, encoded attributes, stack traces, of any kind."""
    detailed = application_failure("inner")
    detailed.application_failure_info.details.payloads.append(payload("detail"))
    detailed.encoded_attributes.CopyFrom(payload("attributes"))
    outer = failure.Failure(message="outer", source="there", stack_trace="line 7", cause=detailed)
    outer.encoded_attributes.CopyFrom(payload("outer attributes"))
    whole = failure.Failure()
    whole.CopyFrom(outer)
    whole.application_failure_info.type = "Outer"
    refusal = handler_failure("BAD_REQUEST", cause=whole)
    refusal.stack_trace, refusal.source = "line 8", "elsewhere"
    refusal.encoded_attributes.CopyFrom(payload("of the refusal"))
    canceled = canceled_failure("away")
    canceled.canceled_failure_info.details.payloads.append(payload("why"))
    canceled.cause.CopyFrom(whole)
    kinds = {
        "plain": failure.Failure(message="plain"),
        "empty": failure.Failure(),
        "outer without kind": outer,
        "whole": whole,
        "canceled": canceled,
        "canceled inside": failure.Failure(
            message="f", application_failure_info=failure.ApplicationFailureInfo(), cause=canceled
        ),
        "timeout": failure.Failure(message="t", timeout_failure_info=failure.TimeoutFailureInfo()),
        "terminated": failure.Failure(message="t", terminated_failure_info=failure.TerminatedFailureInfo()),
        "server": failure.Failure(message="s", server_failure_info=failure.ServerFailureInfo()),
        "handler": handler_failure("INTERNAL"),
        "operation": failure.Failure(
            message="o",
            nexus_operation_execution_failure_info=failure.NexusOperationFailureInfo(operation="other"),
        ),
    }
    answers = {f"failed {label}": answering(failure=kind) for label, kind in kinds.items()}
    answers |= {
        f"refused by {label}": refusing(failure=handler_failure("BAD_REQUEST", cause=kind))
        for label, kind in kinds.items()
    }
    await each(ctx, answers | {"refused with all": refusing(failure=refusal)})


@scenario
async def nexus_failures_in_older_form(ctx: Context) -> None:
    """Failures of Nexus as older workers send them: with and without metadata, details, causes, of unknown states."""
    kind = "temporal.api.failure.v1.Failure"
    inner = nexus.Failure(message="inner", stack_trace="line 3", metadata={"a": "b"}, details=b'"x"')
    failures = {
        "empty": nexus.Failure(),
        "message": nexus.Failure(message="m"),
        "stack": nexus.Failure(message="m", stack_trace="line 1"),
        "details": nexus.Failure(message="m", details=b"[1, 2]"),
        "metadata": nexus.Failure(message="m", metadata={"k": "v", "a": "b"}),
        "cause": nexus.Failure(message="m", cause=inner),
        "details and cause": nexus.Failure(message="m", details=b"1", cause=inner),
        "of Temporal": nexus.Failure(
            message="m",
            metadata={"type": kind},
            details=b'{"applicationFailureInfo": {"type": "T", "nonRetryable": true}, "source": "s"}',
        ),
        "of Temporal canceled": nexus.Failure(
            message="m", metadata={"type": kind}, details=b'{"canceledFailureInfo": {}}'
        ),
        "of Temporal unknown field": nexus.Failure(
            message="m", metadata={"type": kind}, details=b'{"new": 1}'
        ),
        "handler error": nexus.Failure(
            message="m",
            metadata={"type": "nexus.HandlerError"},
            details=b'{"type": "NOT_FOUND", "retryableOverride": true}',
        ),
        "operation error": nexus.Failure(
            message="m", metadata={"type": "nexus.OperationError"}, details=b'{"state": "canceled"}'
        ),
    }
    answers: dict[str, Any] = {}
    for label, found in failures.items():
        for state in ("failed", "canceled"):
            error = nexus.UnsuccessfulOperationError(operation_state=state, failure=found)
            answers[f"{state} {label}"] = answering(operation_error=error)
        answers[f"refused {label}"] = refusing(
            error=nexus.HandlerError(error_type="BAD_REQUEST", failure=found)
        )
    answers["refused without failure"] = refusing(error=nexus.HandlerError(error_type="BAD_REQUEST"))
    for label, state in (("no state", ""), ("odd state", "broken"), ("succeeded", "succeeded")):
        error = nexus.UnsuccessfulOperationError(operation_state=state, failure=nexus.Failure(message="m"))
        answers[label] = answering(operation_error=error)
    answers["failed without failure"] = answering(
        operation_error=nexus.UnsuccessfulOperationError(operation_state="failed")
    )
    await each(ctx, answers)


@scenario
async def nexus_results(ctx: Context) -> None:
    """Results of each kind of payload, and one that is too large."""

    def made(data: bytes = b"", **metadata: bytes) -> common.Payload:
        return common.Payload(data=data, metadata={key.replace("_", "-"): v for key, v in metadata.items()})

    results = {
        "json": payload("text"),
        "null": made(encoding=b"binary/null"),
        "bytes": made(b"\x00\xff", encoding=b"binary/plain"),
        "protobuf": made(b"\x08\x01", encoding=b"binary/protobuf", messageType=b"some.Type"),
        "json protobuf": made(b"{}", encoding=b"json/protobuf", messageType=b"some.Type"),
        "encrypted": made(b"\x01\x02", encoding=b"binary/encrypted", key_id=b"k"),
        "no encoding": made(b"data", other=b"value"),
        "no metadata": made(b"data"),
        "empty": common.Payload(),
        "json more metadata": made(b"1", encoding=b"json/plain", extra=b"more"),
        "json empty": made(b"", encoding=b"json/plain"),
        "bad metadata": made(b"1", encoding=b"json/plain", extra=b"\xff\xfe"),
        "no json": made(b"{", encoding=b"json/plain"),
        "large": made(b"x" * 1_500_000, encoding=b"binary/plain"),
        "too large": made(b"x" * (2 * 1024 * 1024 + 10_000), encoding=b"binary/plain"),
    }
    answers: dict[str, Any] = {
        label: answering(sync_success=nexus.StartOperationResponse.Sync(payload=result))
        for label, result in results.items()
    }
    answers["none"] = answering(sync_success=nexus.StartOperationResponse.Sync())
    await each(ctx, answers)


@scenario
async def nexus_inputs(ctx: Context) -> None:
    """Inputs of each kind of payload as handlers get them."""

    def made(data: bytes = b"", **metadata: bytes) -> common.Payload:
        return common.Payload(data=data, metadata=metadata)

    inputs = {
        "null": made(encoding=b"binary/null"),
        "bytes": made(b"\x00\xff", encoding=b"binary/plain"),
        "protobuf": made(b"\x08\x01", encoding=b"binary/protobuf", messageType=b"some.Type"),
        "encrypted": made(b"\x01\x02", encoding=b"binary/encrypted"),
        "no encoding": made(b"data", other=b"value"),
        "no metadata": made(b"data"),
        "empty": common.Payload(),
        "json empty": made(b"", encoding=b"json/plain"),
        "none": None,
    }

    name, task_queue = await endpoint(ctx)
    for label, given in inputs.items():
        run = await ctx.start(label.replace(" ", "-"))
        await run.step(schedule(name, operation=label, input=given))
        task = await task_of(ctx, task_queue, label)
        ctx.record(label, task.request.start_operation.payload)
        await answer(ctx, task, **done())


@scenario
async def nexus_odd_starts(ctx: Context) -> None:
    """Answers to a start that are none, old fields of answers, and both error and failure at once."""

    def respond(response: nexus.Response | None) -> Any:
        async def send(ctx: Context, label: str, task: NexusTask) -> None:
            request = workflowservice.RespondNexusTaskCompletedRequest(
                namespace=ctx.client.namespace, task_token=task.task_token, response=response
            )
            await ctx.attempt(f"{label}: answer", request)

        return send

    pending = nexus.StartOperationResponse.Async
    both = {
        "failure": handler_failure("BAD_REQUEST", "new"),
        "error": nexus.HandlerError(error_type="INTERNAL", failure=nexus.Failure(message="old")),
    }
    await each(
        ctx,
        {
            "no response": respond(None),
            "empty": respond(nexus.Response()),
            "cancelled": respond(nexus.Response(cancel_operation=nexus.CancelOperationResponse())),
            "no variant": respond(nexus.Response(start_operation=nexus.StartOperationResponse())),
            "old token": answering(async_success=pending(operation_id="old")),
            "both tokens": answering(async_success=pending(operation_id="old", operation_token="new")),
            "token of other letters": answering(**started("ä / ? \u00a0 ' token")),
            "longest token": answering(**started("t" * 4096)),
            "both": refusing(**both),
        },
    )
