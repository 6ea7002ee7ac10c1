"""The keyword arguments that ways to start a workflow have in common, for type checkers and readers.

May live here: option dictionaries of more than one way. May not: those of one way, or what is done with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Required, TypedDict

from perdure.common import (
    Priority,
    RetryPolicy,
    SearchAttributes,
    TypedSearchAttributes,
    VersioningOverride,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)


class StartOptions(TypedDict, total=False):
    """What all starts have: those by a call, with an update, by a schedule, by a Nexus operation."""

    id: Required[str]
    """The workflow's id; at most one workflow of an id runs at a time."""
    execution_timeout: timedelta | None
    """Limit for all runs together (retries, cron, continue-as-new)."""
    run_timeout: timedelta | None
    """Limit of one run."""
    task_timeout: timedelta | None
    """Limit of one workflow task."""
    retry_policy: RetryPolicy | None
    """Start again if it fails."""
    memo: Mapping[str, Any] | None
    """Values shown with the workflow, not indexed."""
    static_summary: str | None
    """One line about it, for people."""
    static_details: str | None
    """More about it, for people."""
    priority: Priority
    """Which workflows' tasks come first."""


class DirectStartOptions(StartOptions, total=False):
    """What starts have besides that are made by a call and not by a schedule."""

    id_reuse_policy: WorkflowIDReusePolicy
    """What happens if a workflow of this id has run before."""
    cron_schedule: str
    """Start again by a cron expression; schedules are better."""
    search_attributes: TypedSearchAttributes | SearchAttributes | None
    """Values to find the workflow by."""
    start_delay: timedelta | None
    """Wait before the first task."""
    versioning_override: VersioningOverride | None
    """Which worker version runs it."""


class PlainStartOptions(DirectStartOptions, total=False):
    """What starts have besides that come without an update."""

    id_conflict_policy: WorkflowIDConflictPolicy
    """What happens if a workflow of this id is running."""
    start_signal: str | None
    """Send this signal, and start the workflow only if it does not run."""
    start_signal_args: Sequence[Any]
    """Arguments of that signal."""
    rpc_metadata: Mapping[str, str | bytes]
    """Metadata of the call."""
    rpc_timeout: timedelta | None
    """Limit of the call."""
    request_eager_start: bool
    """Give the first task to a worker of this client directly, if there is one."""
