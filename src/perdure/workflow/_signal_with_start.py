"""Signalling a workflow that may not run yet, from workflow code: an operation of the server's own Nexus endpoint.

May live here: the request and the call. May not: other operations of that endpoint, of which there are none yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from perdure.api.workflowservice.v1 import (
    SignalWithStartWorkflowExecutionRequest,
    SignalWithStartWorkflowExecutionResponse,
)
from perdure.common import (
    Priority,
    RetryPolicy,
    TypedSearchAttributes,
    VersioningOverride,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from perdure.converter import (
    PayloadConverter,
    WithSerializationContext,
    WorkflowSerializationContext,
    encode_search_attributes,
)
from perdure.workflow._children import ExternalWorkflowHandle, get_external_workflow_handle
from perdure.workflow._context import info
from perdure.workflow._definition import _Definition
from perdure.workflow._handlers import _SignalDefinition
from perdure.workflow._nexus import create_nexus_client
from perdure.workflow._runtime import _Runtime

_SYSTEM_ENDPOINT: Final = "__temporal_system"
_SERVICE: Final = "temporal.api.workflowservice.v1.WorkflowService"
_OPERATION: Final = "SignalWithStartWorkflowExecution"


async def signal_with_start_workflow(
    workflow: str | Callable[..., Awaitable[Any]],
    *positional_args: Any,
    args: Sequence[Any] | None = None,
    id: str,
    task_queue: str,
    signal: str | Callable[..., Awaitable[None] | None],
    signal_args: Any = None,
    execution_timeout: timedelta | None = None,
    run_timeout: timedelta | None = None,
    task_timeout: timedelta | None = None,
    id_reuse_policy: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    id_conflict_policy: WorkflowIDConflictPolicy | None = None,
    retry_policy: RetryPolicy | None = None,
    cron_schedule: str | None = None,
    memo: Mapping[str, Any] | None = None,
    search_attributes: TypedSearchAttributes | None = None,
    priority: Priority | None = None,
    versioning_override: VersioningOverride | None = None,
    start_delay: timedelta | None = None,
    static_summary: str | None = None,
    static_details: str | None = None,
) -> ExternalWorkflowHandle[Any]:
    """Signals a workflow, and starts it before if it does not run (experimental; servers of release 1.32 and later).

    Arguments that are not listed are for a workflow that is started, as in `Client.start_workflow`.

    Args:
        workflow: The class's `run` method, or the workflow type.
        positional_args: Its arguments, one after the other.
        args: Its arguments as a sequence, if none are given before.
        id: Its workflow id.
        task_queue: Where workers with the workflow poll.
        signal: The name, or the handler in the workflow's class.
        signal_args: The signal's argument; a list holds several.
        id_reuse_policy: Whether a closed workflow may have had the same id.
        id_conflict_policy: What becomes of a running one with the same id; it is signalled by default.

    Returns:
        A handle to the run that has the signal.

    Raises:
        TypeError: there are positional arguments and `args`.
        NexusOperationError: the server refused.
    """
    if positional_args and args is not None:
        raise TypeError("cannot specify both positional arguments and args")
    request = SignalWithStartWorkflowExecutionRequest(namespace=info().namespace, workflow_id=id)
    request.workflow_type.name = workflow if isinstance(workflow, str) else _type_of(workflow)
    request.task_queue.name = task_queue
    request.signal_name = _SignalDefinition.must_name_from_fn_or_str(signal)
    converter = _converter_for(request)
    _fill_values(request, converter, positional_args or args or (), signal_args, memo)
    _fill_times(request, execution_timeout, run_timeout, task_timeout, start_delay)
    _fill_policies(request, id_reuse_policy, id_conflict_policy, retry_policy, cron_schedule)
    if search_attributes is not None:
        encode_search_attributes(search_attributes, request.search_attributes)
    if priority is not None:
        request.priority.CopyFrom(priority._to_proto())
    if versioning_override is not None:
        request.versioning_override.CopyFrom(versioning_override._to_proto())
    _describe(request, converter, static_summary, static_details)
    return get_external_workflow_handle(id, run_id=await _call(request))


def _converter_for(request: SignalWithStartWorkflowExecutionRequest) -> PayloadConverter:
    """The workflow's converter, in the context of the workflow that is signalled."""
    converter = _Runtime.current().payload_converter()
    if isinstance(converter, WithSerializationContext):
        context = WorkflowSerializationContext(request.namespace, request.workflow_id)
        return converter.with_context(context)
    return converter


def _fill_values(
    request: SignalWithStartWorkflowExecutionRequest,
    converter: PayloadConverter,
    values: Sequence[Any],
    signal_args: Any,
    memo: Mapping[str, Any] | None,
) -> None:
    signal_values = signal_args if isinstance(signal_args, list) else [signal_args]
    if signal_args is not None:
        request.signal_input.payloads.extend(converter.to_payloads(signal_values))
    if values:
        request.input.payloads.extend(converter.to_payloads(values))
    for name, value in (memo or {}).items():
        request.memo.fields[name].CopyFrom(converter.to_payload(value))


def _fill_times(
    request: SignalWithStartWorkflowExecutionRequest,
    execution_timeout: timedelta | None,
    run_timeout: timedelta | None,
    task_timeout: timedelta | None,
    start_delay: timedelta | None,
) -> None:
    # A message's field is made by looking at it: what is not given is not looked at.
    if execution_timeout is not None:
        request.workflow_execution_timeout.FromTimedelta(execution_timeout)
    if run_timeout is not None:
        request.workflow_run_timeout.FromTimedelta(run_timeout)
    if task_timeout is not None:
        request.workflow_task_timeout.FromTimedelta(task_timeout)
    if start_delay is not None:
        request.workflow_start_delay.FromTimedelta(start_delay)


def _fill_policies(
    request: SignalWithStartWorkflowExecutionRequest,
    reuse: WorkflowIDReusePolicy,
    conflict: WorkflowIDConflictPolicy | None,
    retry_policy: RetryPolicy | None,
    cron_schedule: str | None,
) -> None:
    request.workflow_id_reuse_policy = int(reuse)  # type: ignore[assignment]
    if conflict is not None:
        request.workflow_id_conflict_policy = int(conflict)  # type: ignore[assignment]
    if retry_policy is not None:
        retry_policy.apply_to_proto(request.retry_policy)
    request.cron_schedule = cron_schedule or ""


def _type_of(workflow: Callable[..., Awaitable[Any]]) -> str:
    definition = _Definition.must_from_run_fn(workflow)
    if definition.name is None:
        raise TypeError("Cannot invoke dynamic workflow explicitly")
    return definition.name


def _describe(
    request: SignalWithStartWorkflowExecutionRequest,
    converter: PayloadConverter,
    summary: str | None,
    details: str | None,
) -> None:
    if summary is not None:
        request.user_metadata.summary.CopyFrom(converter.to_payload(summary))
    if details is not None:
        request.user_metadata.details.CopyFrom(converter.to_payload(details))


async def _call(request: SignalWithStartWorkflowExecutionRequest) -> str:
    """The run id in the server's answer."""
    client = create_nexus_client(service=_SERVICE, endpoint=_SYSTEM_ENDPOINT)
    answer: SignalWithStartWorkflowExecutionResponse = await client.execute_operation(
        _OPERATION, request, output_type=SignalWithStartWorkflowExecutionResponse
    )
    return answer.run_id
