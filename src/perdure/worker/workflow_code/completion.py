"""How a run ends: continue-as-new, and the warnings about handlers that the end cuts short."""

from __future__ import annotations

import collections
import json
import warnings
from typing import TYPE_CHECKING

from perdure.api.command.v1 import ContinueAsNewWorkflowExecutionCommandAttributes
from perdure.converter import encode_search_attributes
from perdure.core.replay.instructions import (
    CancelWorkflowExecution,
    CompleteWorkflow,
    ContinueAsNew,
    FailWorkflow,
    Instruction,
)
from perdure.worker.interceptor_workflow import ContinueAsNewInput
from perdure.worker.workflow_code.activities import keeps_build_id
from perdure.worker.workflow_code.conversion import set_duration
from perdure.worker.workflow_code.handlers import Handlers, to_warn_about
from perdure.workflow import (
    ContinueAsNewError,
    UnfinishedSignalHandlersWarning,
    UnfinishedUpdateHandlersWarning,
    _current_markers,
)

if TYPE_CHECKING:
    from perdure.worker.workflow_code.instance import WorkflowInstance

_CLOSING = (CompleteWorkflow, FailWorkflow, CancelWorkflowExecution, ContinueAsNew)

# The code in brackets is that of the official SDKs: people look it up and tools match it.
_UNFINISHED_UPDATES = (
    "[TMPRL1102] Workflow finished while update handlers are still running: their work is cut short, and their "
    "callers get a 'workflow execution already completed' error instead of a result. To wait for handlers before "
    "the workflow ends: `await workflow.wait_condition(workflow.all_handlers_finished)`. If they may be cut short: "
    "`@workflow.update(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)`. "
    "The following updates were unfinished (and warnings were not disabled for their handler): "
)
_UNFINISHED_SIGNALS = (
    "[TMPRL1102] Workflow finished while signal handlers are still running: their work is cut short. To wait for "
    "handlers before the workflow ends: `await workflow.wait_condition(workflow.all_handlers_finished)`. If they may "
    "be cut short: `@workflow.signal(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)`. "
    "The following signals were unfinished (and warnings were not disabled for their handler): "
)


class ContinueAsNewRequest(ContinueAsNewError):
    """What `workflow.continue_as_new` raises."""

    def __init__(self, input: ContinueAsNewInput) -> None:
        super().__init__("Continue as new")
        self.input = input
        # Here, as the code leaves its blocks on the way out.
        self.markers = _current_markers()


def is_closing(instruction: Instruction) -> bool:
    """Whether the run ends with it."""
    return isinstance(instruction, _CLOSING)


def continue_as_new(instance: WorkflowInstance, input: ContinueAsNewInput) -> ContinueAsNew:
    """Ends the run with a new one."""
    conversion, info = instance.conversions.workflow, instance.info
    queue = input.task_queue or info.task_queue
    attributes = ContinueAsNewWorkflowExecutionCommandAttributes(
        input=conversion.to_payloads(input.args),
        inherit_build_id=keeps_build_id(input.versioning_intent, queue, info.task_queue),
        initial_versioning_behavior=int(input.initial_versioning_behavior or 0),  # type: ignore[arg-type]
    )
    attributes.workflow_type.name = input.workflow or info.workflow_type
    attributes.task_queue.name = queue
    set_duration(attributes.workflow_run_timeout, input.run_timeout)
    set_duration(attributes.workflow_task_timeout, input.task_timeout)
    if input.backoff_start_interval:
        set_duration(attributes.backoff_start_interval, input.backoff_start_interval)
    if input.retry_policy:
        input.retry_policy.apply_to_proto(attributes.retry_policy)
    for name, payload in input.headers.items():
        attributes.header.fields[name].CopyFrom(payload)
    for name, value in (input.memo or {}).items():
        attributes.memo.fields[name].CopyFrom(conversion.to_result(value))
    if input.search_attributes:
        encode_search_attributes(input.search_attributes, attributes.search_attributes)
    return ContinueAsNew(attributes, instance.recorder.source())


def warn_of_unfinished(handlers: Handlers) -> None:
    """Says which handlers the end of the run cuts short."""
    updates = to_warn_about(list(handlers.running_updates.values()))
    if updates:
        unfinished = [{"name": handler.name, "id": handler.id} for handler in updates]
        warnings.warn(
            UnfinishedUpdateHandlersWarning(_UNFINISHED_UPDATES + json.dumps(unfinished)), stacklevel=2
        )
    signals = to_warn_about(list(handlers.running_signals.values()))
    if signals:
        counts = collections.Counter(handler.name for handler in signals)
        unfinished_signals = [{"name": name, "count": count} for name, count in counts.most_common()]
        warnings.warn(
            UnfinishedSignalHandlersWarning(_UNFINISHED_SIGNALS + json.dumps(unfinished_signals)),
            stacklevel=2,
        )
