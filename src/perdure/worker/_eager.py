"""Tasks that come with answers, not polls: activities with a workflow task's, first workflow tasks with a start's."""

from __future__ import annotations

from perdure.api.workflowservice.v1 import (
    PollActivityTaskQueueResponse,
    PollWorkflowTaskQueueResponse,
)
from perdure.worker._activity_registry import ActivityRegistry
from perdure.worker._activity_worker import ActivityWorker
from perdure.worker._slots import Permit, Slots
from perdure.worker._workflow_worker import WorkflowWorker


class EagerActivitySlots:
    """Takes activities that come with the answer to a workflow task, if they can run here.

    Args:
        worker: Runs them.
        registry: Of activities.
    """

    def __init__(self, worker: ActivityWorker, registry: ActivityRegistry) -> None:
        self._worker = worker
        self._registry = registry

    def reserve(self, activity_type: str) -> Permit | None:
        """Reserve a slot if one is free and the activity is registered."""
        if not self._registry.knows(activity_type):
            return None
        return self._worker.slots.try_reserve()

    def take(self, task: PollActivityTaskQueueResponse, permit: Permit) -> None:
        """Run the activity."""
        self._worker.take(task, permit, is_eager=True)


class EagerWorkflowSlots:
    """Takes the first tasks of workflows that clients in this process start.

    Args:
        worker: Works on them.
        slots: Of workflow tasks.
    """

    def __init__(self, worker: WorkflowWorker, slots: Slots) -> None:
        self._worker = worker
        self._slots = slots

    def try_reserve(self) -> EagerWorkflowReservation | None:
        """Reserve a slot if one is free."""
        permit = self._slots.try_reserve()
        return None if permit is None else EagerWorkflowReservation(self._worker, permit)


class EagerWorkflowReservation:
    """A slot that waits for a first task.

    Args:
        worker: Works on it.
        permit: The slot.
    """

    def __init__(self, worker: WorkflowWorker, permit: Permit) -> None:
        self._worker = worker
        self._permit = permit

    def take(self, task: PollWorkflowTaskQueueResponse) -> None:
        """Work on the task."""
        self._worker.take(task, self._permit)

    def release(self) -> None:
        """No task came."""
        self._permit.release()
