"""What a workflow can know about itself, its parent, its root and the update that is being handled."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from perdure.api.common.v1 import Payload
from perdure.common import (
    Priority,
    RetryPolicy,
    SearchAttributes,
    TypedSearchAttributes,
    WorkerDeploymentVersion,
)
from perdure.workflow._runtime import _Runtime


@dataclass(frozen=True)
class ParentInfo:
    """The workflow that started this one as its child."""

    namespace: str
    run_id: str
    workflow_id: str


@dataclass(frozen=True)
class RootInfo:
    """The first workflow of a chain of parents and children."""

    run_id: str
    workflow_id: str


@dataclass(frozen=True)
class UpdateInfo:
    """The update that is being handled."""

    id: str
    """Chosen by the caller."""

    name: str
    """Of the handler that the caller asked for."""

    @property
    def _logger_details(self) -> Mapping[str, Any]:
        return {"update_id": self.id, "update_name": self.name}


@dataclass(frozen=True)
class Info:
    """What a workflow can know about itself. Never made by users; fields may be added.

    It does not change, except for the search attributes and the memo when the workflow upserts them.
    """

    attempt: int
    continued_run_id: str | None
    cron_schedule: str | None
    execution_timeout: timedelta | None
    first_execution_run_id: str
    headers: Mapping[str, Payload]
    namespace: str
    parent: ParentInfo | None
    root: RootInfo | None
    priority: Priority
    raw_memo: Mapping[str, Payload]
    retry_policy: RetryPolicy | None
    run_id: str
    run_timeout: timedelta | None
    search_attributes: SearchAttributes
    """Deprecated: `typed_search_attributes` has types."""
    start_time: datetime
    """When the first workflow task of the run started."""
    task_queue: str
    task_timeout: timedelta
    typed_search_attributes: TypedSearchAttributes
    """May lack values that were upserted in the deprecated dictionary form."""
    workflow_id: str
    workflow_start_time: datetime
    """When the run was started."""
    workflow_type: str
    original_execution_run_id: str = ""
    """The run id that history began with; a reset keeps it."""

    def _logger_details(self) -> Mapping[str, Any]:
        return {
            "attempt": self.attempt,
            "namespace": self.namespace,
            "run_id": self.run_id,
            "task_queue": self.task_queue,
            "workflow_id": self.workflow_id,
            "workflow_type": self.workflow_type,
        }

    def get_current_build_id(self) -> str:
        """Build id of the worker that ran, or is running, the current task; empty if it has none.

        It may change while the workflow runs, and it is safe to branch on. Deprecated: see
        `get_current_deployment_version`.
        """
        return _Runtime.current().current_build_id()

    def get_current_deployment_version(self) -> WorkerDeploymentVersion | None:
        """Deployment version of the worker that ran, or is running, the current task; None if it has none.

        It may change while the workflow runs, and it is safe to branch on.
        """
        return _Runtime.current().current_deployment_version()

    def get_current_history_length(self) -> int:
        """How many events history has up to the current task. In a query it may be out of date."""
        return _Runtime.current().current_history_length()

    def get_current_history_size(self) -> int:
        """How many bytes history has up to the current task. In a query it may be out of date."""
        return _Runtime.current().current_history_size()

    def is_continue_as_new_suggested(self) -> bool:
        """Whether the server thinks that history is long enough to continue as new."""
        return _Runtime.current().is_continue_as_new_suggested()

    def is_target_worker_deployment_version_changed(self) -> bool:
        """Whether the task queue's target deployment version is no longer this worker's (experimental)."""
        return _Runtime.current().is_target_worker_deployment_version_changed()


_current_update_info: contextvars.ContextVar[UpdateInfo] = contextvars.ContextVar(
    "__perdure_current_update_info"
)


def _set_current_update_info(info: UpdateInfo) -> None:
    _current_update_info.set(info)


def current_update_info() -> UpdateInfo | None:
    """The update in whose handler, or in a task started by it, the code is running; None elsewhere."""
    return _current_update_info.get(None)
