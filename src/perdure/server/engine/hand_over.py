"""Which worker gets which task: in the commit that makes it, and a worker of this process while that is written.

Reserves pollers of matching for the tasks of a transition, starts the tasks for them in it, and answers them. When
a task is durable is said by `commits`; what starting one means is the core's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from perdure.core.deployment.routes import Routes
from perdure.core.invariant import present
from perdure.core.run import activity, versioning, workflow_task
from perdure.core.run.limits import Limits
from perdure.core.run.records import Task, TaskKind
from perdure.core.run.transition import Transition
from perdure.server.engine.deliveries import ActivityDelivery, WorkflowTaskDelivery
from perdure.server.engine.matching import Matching, Poller
from perdure.server.engine.pending import Pending, Reserved
from perdure.server.engine.runs import RunSlot


class HandOver:
    """Hands the tasks of an engine's runs to pollers.

    Args:
        matching: who polls.
        limits: what every run is held to.
        routes: the routes of worker versions by namespace id.
    """

    def __init__(self, matching: Matching, limits: Limits, routes: Callable[[str], Routes]) -> None:
        self._matching = matching
        self._limits = limits
        self._routes = routes

    def reserve(self, slot: RunSlot, tx: Transition) -> list[Reserved]:
        """Starts the tasks that a transition makes, in the transition, for pollers that wait for them."""
        reserved: list[Reserved] = []
        try:
            for task in tx.new_tasks():
                if task.sticky and not self._matching.is_alive(task.queue):
                    workflow_task.reroute_to_normal_queue(tx)
                    rerouted = tx.workflow_task_dispatch(tx.header)
                    if rerouted is None:
                        continue
                    task = rerouted
                if task.key.kind is TaskKind.ACTIVITY and self._comes_later(slot, tx, task):
                    continue
                poller = self._matching.reserve(task)
                if poller is None:
                    continue
                reserved.append(Reserved(poller, task, None))
                if task.key.kind is TaskKind.WORKFLOW:
                    self.start_workflow_task(poller, slot, tx, counts_new_events=True)
                else:
                    delivery = self.start_activity(poller, tx, task)
                    reserved[-1] = Reserved(poller, task, delivery)
        except BaseException:  # whatever it was: who waits for the tasks goes on waiting
            self.release(reserved)
            raise
        return reserved

    def _comes_later(self, slot: RunSlot, tx: Transition, task: Task) -> bool:
        """Whether an activity waits for a move of its run that has begun, or that its worker is to begin."""
        pending = tx.activities.get(task.key.scheduled_event_id)
        if pending is None or tx.activity_dispatch(pending) is None:
            return True
        return versioning.moves_before_activity(tx, pending.version, self._routes(slot.key.namespace_id))

    def release(self, reserved: list[Reserved]) -> None:
        """The transition is given up: pollers that were to get its tasks wait again."""
        while reserved:
            poller, task, _ = reserved.pop()  # the last one first: each goes to the front of its line
            self._matching.release(task, poller)

    def start_workflow_task(
        self, poller: Poller, slot: RunSlot, tx: Transition, *, counts_new_events: bool = False
    ) -> None:
        """Starts the pending workflow task for a poller."""
        versioning.taken_by(tx, poller.deployment_version, self._routes(slot.key.namespace_id))
        workflow_task.start(
            tx,
            poller.request_id,
            poller.identity,
            self._limits,
            poller.version,
            counts_new_events=counts_new_events,
            updates_waiting=slot.updates_waiting,
        )

    def start_activity(self, poller: Poller, tx: Transition, task: Task) -> ActivityDelivery:
        """Starts an activity's attempt for a poller. Its delivery is taken before others change the activity."""
        event_id = task.key.scheduled_event_id
        activity.start(tx, event_id, poller.request_id, poller.identity, poller.deployment_version)
        pending = present(
            tx.activities.get(event_id), "an activity that was just started is gone", run=tx.state.run
        )
        scheduled = next((event for event in tx.events if event.event_id == event_id), None)
        return ActivityDelivery(tx.state.run, tx.header, task.queue, pending, scheduled)

    def workflow_task(
        self, slot: RunSlot, tx: Transition, task: Task, *, again: bool = True
    ) -> WorkflowTaskDelivery:
        """The delivery of the workflow task that `tx` started.

        Args:
            slot: the run's.
            tx: the transition.
            task: the task.
            again: updates that a task before has brought and that had no answer are brought again.
        """
        header = tx.header
        transient = workflow_task.transient_events(header, header.task_worker_identity)
        messages = slot.updates.send(header.task_started_event_id, again=again) if slot.updates else ()
        return WorkflowTaskDelivery(
            tx.state.run, header, task.queue, task.sticky, tuple(transient), slot.queries.take(), messages
        )

    def deliver_early(self, pending: Pending, committing: asyncio.Future[None]) -> None:
        """Gives a worker of this process its workflow task while the disk writes; what it answers goes behind."""
        slot = pending.slot
        if pending.is_patient or slot.updates is not None or slot.queries.is_busy:
            return
        for reserved in pending.reserved:
            poller, task, _ = reserved
            if poller.is_local and task.key.kind is TaskKind.WORKFLOW:
                pending.reserved.remove(reserved)
                delivery = self.workflow_task(slot, pending.tx, task)
                self._matching.deliver(poller, msgspec.structs.replace(delivery, committing=committing))
                return  # a run has one workflow task at a time

    def deliver(self, pending: Pending) -> None:
        """Answers every poller that was reserved; what it gets is durable."""
        for poller, task, delivery in pending.reserved:
            self._matching.deliver(poller, delivery or self.workflow_task(pending.slot, pending.tx, task))
