"""What a handler decides about a message.

May live here: decisions as values. May not: how they are carried out (`_acting`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, TypedDict, Unpack

from perdure.client._definitions import signal_name, workflow_name_and_type
from perdure.common import (
    Priority,
    RetryPolicy,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)


class StartOptions(TypedDict, total=False):
    """Options of the started workflow; they mean what they mean in `Client.start_workflow`."""

    execution_timeout: timedelta | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    id_reuse_policy: WorkflowIDReusePolicy
    id_conflict_policy: WorkflowIDConflictPolicy
    retry_policy: RetryPolicy | None
    memo: Mapping[str, Any] | None
    search_attributes: TypedSearchAttributes | None
    static_summary: str | None
    static_details: str | None
    start_delay: timedelta | None
    priority: Priority


class StartWorkflow:
    """Start a workflow. If there is one with this id already, the message counts as repeated.

    Args:
        workflow: Its run method, or its name.
        args: Its arguments.
        task_queue: Where it runs.
        id: Of the workflow; by default one that follows from the source's name and the message's id. An id from the
            business (`order-7`) makes it one workflow for all messages that name it.
        options: `id_reuse_policy` is to reject duplicates unless said otherwise, so that a repeated message is
            recognised until retention has deleted the workflow.

    Raises:
        ValueError: `workflow` is not a workflow's method.
        TypeError: It is neither a name nor a function.
    """

    def __init__(
        self,
        workflow: str | Callable[..., Awaitable[Any]],
        *args: Any,
        task_queue: str,
        id: str | None = None,
        **options: Unpack[StartOptions],
    ) -> None:
        self.workflow = workflow_name_and_type(workflow)[0]
        self.args = args
        self.task_queue = task_queue
        self.id = id
        self.options = options


class SignalWorkflow:
    """Signal a workflow; with `start`, start it if it does not run (signal-with-start).

    Without `start` the workflow has to be there: a signal to one that is not, or that is over, is set aside.

    Args:
        workflow_id: Of the workflow; its newest run gets the signal.
        signal: The signal's method, or its name.
        args: Its arguments.
        start: How to start it. Its id is `workflow_id`; an id of a closed workflow is used again unless its
            `id_reuse_policy` says otherwise.

    Raises:
        ValueError: `start` names another id.
    """

    def __init__(
        self,
        workflow_id: str,
        signal: str | Callable[..., Any],
        *args: Any,
        start: StartWorkflow | None = None,
    ) -> None:
        if start is not None and start.id not in (None, workflow_id):
            raise ValueError(
                f"the signal is for {workflow_id!r} and the start for {start.id!r}: leave out the start's id"
            )
        self.workflow_id = workflow_id
        self.signal = signal_name(signal)
        self.args = args
        self.start = start


Decision = StartWorkflow | SignalWorkflow | None
"""What a handler returns; None says that there is nothing to do."""
