"""Lists as all stores show them: what filters see of a run, and the order of a count's groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from perdure.core.run.records import RunKey, VisibilityRecord


@dataclass(frozen=True, slots=True)
class RunSize:
    """How large a run is as of its last transition, which its list row need not follow while it is open."""

    last_event_id: int
    history_size_bytes: int
    transition_count: int


def copy_record(record: VisibilityRecord) -> VisibilityRecord:
    """The record with attributes of its own, so that nobody can change it through the original."""
    attributes = {
        name: value[:] if isinstance(value, list) else value for name, value in record.attributes.items()
    }
    return msgspec.structs.replace(record, attributes=attributes)


def filter_record(run: RunKey, record: VisibilityRecord, size: RunSize) -> dict[str, object]:
    """Everything a filter can name: the run's search attributes and the system attributes; None or absent is
    missing.

    Returns:
        names to values as `perdure.core.visibility.AttributeType` describes them.
    """
    closed = record.close_time_ns is not None
    return {
        **record.attributes,
        "WorkflowId": run.workflow_id,
        "RunId": run.run_id,
        "WorkflowType": record.workflow_type,
        "StartTime": record.start_time_ns,
        "ExecutionTime": record.execution_time_ns,
        "CloseTime": record.close_time_ns,
        "ExecutionStatus": record.status,
        "TaskQueue": record.task_queue,
        "HistoryLength": record.history_length if closed else size.last_event_id,
        "HistorySizeBytes": record.history_size_bytes if closed else size.history_size_bytes,
        "ExecutionDuration": None
        if record.close_time_ns is None
        else record.close_time_ns - record.execution_time_ns,
        "StateTransitionCount": record.state_transition_count if closed else size.transition_count,
        "ParentWorkflowId": record.parent_workflow_id,
        "ParentRunId": record.parent_run_id,
        "RootWorkflowId": record.root_workflow_id,
        "RootRunId": record.root_run_id,
    }


def group_of(attribute: str, run: RunKey, record: VisibilityRecord) -> object:
    """The group that a count puts the run in. Custom attributes group by strings; anything else is missing (None)."""
    value = filter_record(run, record, RunSize(0, 0, 0)).get(attribute)
    return None if attribute in record.attributes and not isinstance(value, str) else value


def sort_groups(groups: Iterable[tuple[object, int]]) -> list[tuple[object, int]]:
    """The groups of a count in the order all stores return them: largest first, then by value."""
    return sorted(groups, key=lambda group: (-group[1], str(group[0])))
