"""How a run looks in lists: the visibility record, with search attributes decoded for filters."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.api.common.v1 import SearchAttributes
from perdure.api.enums.v1 import WorkflowExecutionStatus
from perdure.core.run import attributes, properties
from perdure.core.run.records import VisibilityRecord
from perdure.core.run.transition import Transition
from perdure.core.visibility.attributes import AttributeType

_PAUSED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_PAUSED")
"""Lists show an open run as paused; the run's own status knows only open and how it closed."""


def record(tx: Transition, custom: Mapping[str, AttributeType]) -> VisibilityRecord:
    """The visibility record of the run as this transition leaves it; nothing more may happen in it.

    Args:
        tx: the transition.
        custom: the namespace's own search attributes.
    """
    tx.settle()
    header = tx.header
    fields = tx.blobs.get(properties.SEARCH_ATTRIBUTES) or b""
    return VisibilityRecord(
        workflow_type=header.workflow_type,
        task_queue=header.task_queue,
        status=_PAUSED if header.paused_ns else header.status,
        start_time_ns=header.start_ns,
        execution_time_ns=header.execution_ns,
        close_time_ns=header.close_ns or None,
        history_length=header.next_event_id - 1,
        history_size_bytes=header.history_size_bytes,
        state_transition_count=header.transition_count,
        parent_workflow_id=header.parent_workflow_id or None,
        parent_run_id=header.parent_run_id or None,
        root_workflow_id=header.root_workflow_id,
        root_run_id=header.root_run_id,
        memo=tx.blobs.get(properties.MEMO) or b"",
        search_attributes=fields,
        attributes=attributes.decode_all(SearchAttributes.FromString(fields), custom) if fields else {},
    )
