"""Where clients find workers that can take a workflow's first task straight from the answer to its start.

Workers of a service client sign up here; the client that starts a workflow reserves a slot before it asks the server
for the task. Neither knows the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from perdure.api.workflowservice.v1 import PollWorkflowTaskQueueResponse
    from perdure.service._client import ServiceClient


class Reservation(Protocol):
    """A slot that waits for a first task; one of its methods is called, once."""

    def take(self, task: PollWorkflowTaskQueueResponse) -> None:
        """Work on the task."""
        ...

    def release(self) -> None:
        """No task came."""
        ...


class EagerWorker(Protocol):
    """A worker that takes first tasks."""

    def try_reserve(self) -> Reservation | None:
        """Reserve a slot if one is free."""
        ...


_Queue = tuple[str, str]
_workers: WeakKeyDictionary[ServiceClient, dict[_Queue, list[EagerWorker]]] = WeakKeyDictionary()


def sign_up(service: ServiceClient, namespace: str, task_queue: str, worker: EagerWorker) -> None:
    """Offer a worker's slots to the clients of a service client.

    Args:
        service: Whose connection both use.
        namespace: Of the worker.
        task_queue: That the worker polls.
        worker: The worker.
    """
    _workers.setdefault(service, {}).setdefault((namespace, task_queue), []).append(worker)


def sign_off(service: ServiceClient, namespace: str, task_queue: str, worker: EagerWorker) -> None:
    """Take the offer back. Nothing happens if there is none."""
    offered = _workers.get(service, {}).get((namespace, task_queue), [])
    if worker in offered:
        offered.remove(worker)


def reserve(service: ServiceClient, namespace: str, task_queue: str) -> Reservation | None:
    """Reserve a slot of any worker that offers one; None if none does.

    Args:
        service: Of the client that starts a workflow.
        namespace: Of the workflow.
        task_queue: Of the workflow.
    """
    for worker in _workers.get(service, {}).get((namespace, task_queue), ()):
        reservation = worker.try_reserve()
        if reservation is not None:
            return reservation
    return None
