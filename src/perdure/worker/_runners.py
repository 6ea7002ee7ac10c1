"""Workflow runners, kept so that code moves over unchanged: there is one way to run workflow code, and no sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class WorkflowRunner:
    """How workflow code is run. Accepted by `Worker`; what it does is up to the worker."""

    def prepare_workflow(self, defn: Any) -> None:
        """Prepare a workflow definition. Called once for each when a worker is made."""

    def set_worker_level_failure_exception_types(self, types: Sequence[type[BaseException]]) -> None:
        """Take note of the worker's `workflow_failure_exception_types`."""


class UnsandboxedWorkflowRunner(WorkflowRunner):
    """Runs workflow code without the guards that refuse what would break replay (see `workflow_code.guards`)."""


class WorkflowInstance:
    """A workflow under execution; the worker's own, named here for annotations."""


class WorkflowInstanceDetails:
    """What a workflow under execution is made of; named here for annotations."""
