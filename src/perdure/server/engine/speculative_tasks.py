"""Workflow tasks that only bring updates: transitions that write nothing, kept in memory.

Losing one loses nothing: whoever waits for an update brings it again. What is written is the business of `commits`.
"""

from __future__ import annotations

from collections.abc import Callable

from perdure.core.deployment.routes import Routes
from perdure.core.invariant import invariant, present
from perdure.core.run import deadlines, versioning, workflow_task
from perdure.core.run.limits import Limits
from perdure.core.run.state import RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.hand_over import HandOver
from perdure.server.engine.matching import Matching
from perdure.server.engine.runs import RunSlot
from perdure.server.engine.timers import Timers
from perdure.server.runtime import Runtime


class SpeculativeTasks:
    """Makes the speculative workflow tasks of an engine's runs.

    Args:
        runtime: the clock.
        matching: who polls.
        hand_over: starts them.
        timers: told of the deadlines that they make.
        limits: what every run is held to.
        routes: the routes of worker versions by namespace id.
    """

    def __init__(
        self,
        runtime: Runtime,
        matching: Matching,
        hand_over: HandOver,
        timers: Timers,
        limits: Limits,
        routes: Callable[[str], Routes],
    ) -> None:
        self._runtime = runtime
        self._matching = matching
        self._hand_over = hand_over
        self._timers = timers
        self._limits = limits
        self._routes = routes

    def bring_updates(self, slot: RunSlot) -> None:
        """If updates wait and no workflow task is pending, makes a speculative one. The slot's lock must be held."""
        state, updates = slot.state, slot.updates
        if state is None or updates is None or not updates.waiting:
            return
        header = state.header
        if not header.is_open:
            updates.waiting.clear()  # whoever waits for them sees that the run is closed
            return
        if header.has_pending_task or header.paused_ns:
            return
        tx = self._new(state)
        task = present(
            tx.waiting_workflow_task(tx.header),
            "a workflow task that was just scheduled is gone",
            run=slot.key,
        )
        poller = self._matching.reserve(task)
        if poller is not None:
            self._hand_over.start_workflow_task(poller, slot, tx)
        self.keep(slot, tx)
        if poller is None:
            self._matching.offer(task, is_stored=False)
        else:
            self._matching.deliver(poller, self._hand_over.workflow_task(slot, tx, task))

    def start_inline(self, slot: RunSlot, request_id: str, identity: str) -> Transition:
        """Makes a speculative workflow task and starts it for a worker that is being answered. The lock must be held.

        Args:
            slot: the run's; no workflow task may be pending.
            request_id, identity: for its Started event.
        """
        tx = self._new(present(slot.state, "a run that was just committed is not in memory", run=slot.key))
        workflow_task.start(tx, request_id, identity, self._limits, updates_waiting=slot.updates_waiting)
        self.keep(slot, tx)
        return tx

    def _new(self, state: RunState) -> Transition:
        """A transition that makes a speculative workflow task pending, on a queue that somebody polls if possible."""
        tx = Transition(state, self._runtime.now_ns())
        workflow_task.schedule_speculative(tx, self._limits)
        versioning.route(tx, self._routes(state.run.namespace_id))
        task = tx.waiting_workflow_task(tx.header)
        if task is not None and task.sticky and not self._matching.is_alive(task.queue):
            workflow_task.reroute_to_normal_queue(tx)
        return tx

    def keep(self, slot: RunSlot, tx: Transition, on_commit: Callable[[RunSlot], None] | None = None) -> None:
        """Publishes a transition that writes nothing."""
        before = tx.state.header
        invariant(not slot.in_flight, "what writes nothing is computed on what is durable", run=slot.key)
        tx.keep(deadlines.next_wakeup_ns(tx))
        slot.durable = tx.header
        if on_commit is not None:
            on_commit(slot)
        if before.has_started_task and not tx.header.has_started_task:
            slot.queries.put_back()
            slot.unblock_queries()
        self._timers.note(slot.key, tx.state.wakeup_ns)
        if not tx.state.header.has_pending_task:
            self.bring_updates(slot)
        slot.wake()
