"""The keyword arguments that ways to start a workflow have in common, for type checkers and readers.

May live here: option dictionaries of more than one way. May not: those of one way, or what is done with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Required, TypedDict

from perdure.common import (
    Priority,
    RetryPolicy,
    SearchAttributes,
    TypedSearchAttributes,
    VersioningOverride,
    WorkflowIDReusePolicy,
)


class StartOptions(TypedDict, total=False):
    """What all starts have: those by a call, with an update, by a schedule."""

    id: Required[str]
    """The workflow's id; at most one workflow of an id runs at a time."""
    task_queue: Required[str]
    """Where its worker polls."""
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
    """What starts have besides that are made by a client's call and not by a schedule."""

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
