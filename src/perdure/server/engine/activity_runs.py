"""The engine's half for standalone activities: what is due of them, and handing their tasks over as they commit.

Store, matching, timers and clock are those of the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.core.activity import machine, messages
from perdure.core.activity.state import ActivityRun, ActivityTransition, decode_activity
from perdure.core.errors import NotFoundError, UnavailableError
from perdure.core.run.records import RunKey, RunWrite, Task
from perdure.server.engine.deliveries import StandaloneActivityDelivery
from perdure.server.engine.matching import Poller
from perdure.server.engine.standalone_runs import Slot, StandaloneRuns
from perdure.store.protocol import StoredRun

if TYPE_CHECKING:
    from perdure.server.engine.engine import Engine


class ActivityRuns(StandaloneRuns[ActivityRun, ActivityTransition]):
    """The standalone activities of an engine's store.

    Args:
        engine: whose store, matching, timers, namespaces and clock are used.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "activity")

    def _decode(self, run: RunKey, stored: StoredRun) -> ActivityRun:
        return decode_activity(run, stored.version, stored.header, stored.items, stored.wakeup_ns)

    def _fire_due(self, state: ActivityRun, now_ns: int) -> ActivityTransition | None:
        tx = ActivityTransition(state, now_ns)
        machine.fire(tx, self._engine.limits.run)
        if tx.is_untouched:
            self._engine.timers.note(state.run, state.wakeup_ns)
            return None
        return tx

    async def start_task(self, task: Task, poller: Poller) -> StandaloneActivityDelivery | None:
        """Starts a task of the backlog for a poller; None if it is not the current one any more."""

        def apply(
            state: ActivityRun, now_ns: int
        ) -> tuple[ActivityTransition | None, ActivityTransition | None]:
            current = state.task()
            if current is None or current.delivery_id != task.delivery_id:
                return None, None
            tx = ActivityTransition(state, now_ns)
            machine.take(tx, poller.request_id, poller.identity, *poller.sdk)
            return tx, tx

        try:
            tx = await self._transact(task.run, apply)
        except NotFoundError:
            return None
        return StandaloneActivityDelivery(tx.committed(), task.queue) if tx is not None else None

    async def reroute(self, task: Task) -> None:
        """Sends a waiting task where the routes of worker versions lead now."""

        def apply(state: ActivityRun, now_ns: int) -> tuple[ActivityTransition | None, None]:
            if state.task() is None:
                return None, None
            tx = ActivityTransition(state, now_ns)
            is_moved = tx.route(self._engine.routes(task.run.namespace_id), again=True)
            return (tx if is_moved else None), None

        try:
            await self._transact(task.run, apply)
        except NotFoundError:
            pass  # it is gone, and its task with it

    async def _commit(
        self, slot: Slot[ActivityRun], tx: ActivityTransition, *, expected_current_run_id: str | None = None
    ) -> ActivityRun:
        engine = self._engine
        if tx.new_task() is not None:
            tx.route(engine.routes(tx.state.run.namespace_id))
        task = tx.new_task()
        poller = engine.matching.reserve(task) if task is not None else None
        write: RunWrite | None = None
        try:
            if poller is not None:
                machine.take(tx, poller.request_id, poller.identity, *poller.sdk)
            write = self._write(tx, expected_current_run_id)
            await engine.store.commit([write])
        except BaseException as error:  # whatever it was: what is in memory is not known to be true any more
            slot.state = None
            slot.wake()
            if poller is not None and task is not None:
                engine.matching.release(task, poller)
            failure = self._not_written(error)
            if failure is error:
                raise
            if isinstance(failure, UnavailableError) and write is not None:
                for waiting in write.tasks_put:  # if it was written after all, its task waits
                    engine.matching.offer(waiting)
            raise failure from error
        state = slot.state = tx.committed()
        engine.timers.note(state.run, state.wakeup_ns)
        if poller is not None and task is not None:
            engine.matching.deliver(poller, StandaloneActivityDelivery(state, task.queue))
        for waiting in write.tasks_put:
            engine.matching.offer(waiting)
        slot.wake()
        return state

    def _write(self, tx: ActivityTransition, expected_current_run_id: str | None) -> RunWrite:
        shown = None
        if tx.visibility_changed:
            namespace = self._engine.namespaces.by_id(tx.state.run.namespace_id)
            shown = messages.record(tx, namespace.search_attributes if namespace is not None else {})
        write = tx.finish(
            machine.next_wakeup_ns(tx.header), shown, expected_current_run_id=expected_current_run_id
        )
        return self._engine.matching.placed(write) if write.tasks_put else write
