"""How lists and descriptions show a run: WorkflowExecutionInfo from its visibility record."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.api.common.v1 import SearchAttributes
from perdure.api.workflow.v1 import WorkflowExecutionInfo
from perdure.core.run.protos import set_duration, set_timestamp
from perdure.core.run.records import RunKey, VisibilityRecord
from perdure.core.run.state import RUNNING
from perdure.core.visibility.attributes import PREDEFINED_ATTRIBUTES, AttributeType


def execution_info(
    run: RunKey, record: VisibilityRecord, custom: Mapping[str, AttributeType]
) -> WorkflowExecutionInfo:
    """A run as temporal.api.workflow.v1.WorkflowExecutionInfo.

    Args:
        run: which run.
        record: its visibility record.
        custom: the namespace's own search attributes; values of others, which were removed, are not shown.
    """
    info = WorkflowExecutionInfo(task_queue=record.task_queue)
    info.execution.workflow_id = run.workflow_id
    info.execution.run_id = run.run_id
    info.type.name = record.workflow_type
    info.status = record.status  # type: ignore[assignment]  # a WorkflowExecutionStatus number
    set_timestamp(info.start_time, record.start_time_ns)
    set_timestamp(info.execution_time, record.execution_time_ns)
    info.memo.ParseFromString(record.memo)
    info.memo.SetInParent()
    info.search_attributes.CopyFrom(shown_attributes(record, custom))
    info.root_execution.workflow_id = record.root_workflow_id
    info.root_execution.run_id = record.root_run_id
    if record.parent_workflow_id:
        info.parent_execution.workflow_id = record.parent_workflow_id
        info.parent_execution.run_id = record.parent_run_id or ""
    if record.status != RUNNING and record.close_time_ns is not None:
        set_timestamp(info.close_time, record.close_time_ns)
        set_duration(info.execution_duration, max(record.close_time_ns - record.execution_time_ns, 0))
        info.history_length = record.history_length
        info.history_size_bytes = record.history_size_bytes
        info.state_transition_count = record.state_transition_count
    return info


def shown_attributes(record: VisibilityRecord, custom: Mapping[str, AttributeType]) -> SearchAttributes:
    """The search attributes of a list row that filters see; those of the client's that were removed are not shown."""
    fields = typed(record.search_attributes, custom)
    for name in list(fields.indexed_fields):
        if name not in record.attributes:  # the value of a removed attribute, whose name another one has now
            del fields.indexed_fields[name]
    return fields


def typed(data: bytes, custom: Mapping[str, AttributeType]) -> SearchAttributes:
    """Stored search attributes, each value marked with its type, as clients expect them; without removed ones."""
    fields = SearchAttributes.FromString(data)
    for name in list(fields.indexed_fields):
        attribute_type = PREDEFINED_ATTRIBUTES.get(name) or custom.get(name)
        if attribute_type is None:
            del fields.indexed_fields[name]
        else:
            fields.indexed_fields[name].metadata["type"] = attribute_type.label.encode()
    return fields
