"""One server process's view of the durable store: slow, failing, or the last thing that the process did.

The durable part is the store in memory, which outlives processes. Through this view every call may take time, fail
before or after the act, meet a conflict, or be cut off by a crash; a dead process's calls never return.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, NamedTuple, TypeVar, cast

from perdure.core.errors import (
    CurrentRunConflictError,
    StoreError,
    StoreUnavailableError,
    VersionConflictError,
)
from perdure.core.run.records import RunKey, RunWrite
from perdure.store.memory import MemoryStore
from perdure.store.protocol import (
    ScheduleKey,
    Store,
    StoredBatch,
    StoredDeployment,
    StoredNamespace,
    StoredSchedule,
)
from tests.simulation.faults import Faults
from tests.simulation.loop import Node, SimLoop, SimulationError
from tests.simulation.oracle import Oracle
from tests.simulation.trace import Trace

T = TypeVar("T")
MOST_CALLS_AT_ONCE = 5_000
"""Calls within one callback after which somebody goes round in circles without ever giving way."""


class _Turn(NamedTuple):
    """A commit's place in the order: whether it has been done (or has failed), and whether that was told."""

    acted: asyncio.Future[None]
    answered: asyncio.Future[None]

    def has_acted(self) -> None:
        """The next one may act."""
        if not self.acted.done():
            self.acted.set_result(None)

    def end(self) -> None:
        """The next one may be answered."""
        self.has_acted()
        if not self.answered.done():
            self.answered.set_result(None)


class SimStore:
    """A process's view.

    Args:
        durable: what outlives the process.
        node: the process.
        loop, random, faults, trace: the world.
        oracle: told of everything that becomes durable.
        now_ns: the process's clock.
        crash: ends the process now.
        fail: a check failed; the run ends.
        is_down: whether nothing works now.
    """

    def __init__(
        self,
        durable: MemoryStore,
        node: Node,
        loop: SimLoop,
        random: Random,
        faults: Callable[[], Faults],
        trace: Trace,
        oracle: Oracle,
        now_ns: Callable[[], int],
        crash: Callable[[], None],
        fail: Callable[[BaseException], None],
        is_down: Callable[[], bool],
    ) -> None:
        self._durable = durable
        self._node = node
        self._loop = loop
        self._random = random
        self._faults = faults
        self._trace = trace
        self._oracle = oracle
        self._now_ns = now_ns
        self._crash = crash
        self._fail = fail
        self._is_down = is_down
        self._step = 0
        self._calls = 0
        self._last: _Turn | None = None

    def as_store(self) -> Store:
        """The view as the protocol that the server wants."""
        return cast(Store, self)

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """The durable store stays open for the next process."""

    def commit(
        self, unit: Sequence[RunWrite], schedule: StoredSchedule | None = None
    ) -> Coroutine[Any, Any, None]:
        """Commits in the order of calls, and lets the oracle check what was committed."""
        order = _Turn(self._loop.create_future(), self._loop.create_future())
        previous, self._last = self._last, order
        return self._commit(unit, schedule, previous, order)

    async def _commit(
        self,
        unit: Sequence[RunWrite],
        schedule: StoredSchedule | None,
        previous: _Turn | None,
        turn: _Turn,
    ) -> None:
        async def act() -> None:
            if self._random.random() < self._faults().store_conflict:
                self._trace.reach("version conflict")
                raise VersionConflictError("Injected fault: somebody else was faster.")
            try:
                await self._durable.commit(unit, schedule)
            except CurrentRunConflictError:
                self._trace.reach("current run conflict")
                raise
            except VersionConflictError:
                self._trace.reach("write behind a failed one")
                raise
            await self._check(lambda: self._oracle.committed(unit))
            if schedule is not None:
                self._trace.reach("schedule written with its action")
                await self._check_part(
                    schedule.key.namespace_id, lambda: self._oracle.schedules.put(schedule, self._now_ns())
                )

        await self._do("commit", act, previous, turn)

    async def delete_run(self, run: RunKey) -> bool:
        """Deletes, and tells the oracle."""

        async def act() -> bool:
            deleted = await self._durable.delete_run(run)
            if deleted:
                await self._check(lambda: self._oracle.removed(run, self._now_ns()))
            return deleted

        return await self._do("delete_run", act)

    async def put_schedule(self, schedule: StoredSchedule) -> None:
        """Writes, and lets the oracle check what was written."""

        async def act() -> None:
            await self._durable.put_schedule(schedule)
            await self._check_part(
                schedule.key.namespace_id, lambda: self._oracle.schedules.put(schedule, self._now_ns())
            )

        await self._do("put_schedule", act)

    async def delete_schedule(self, key: ScheduleKey) -> bool:
        """Deletes, and tells the oracle."""

        async def act() -> bool:
            deleted = await self._durable.delete_schedule(key)
            if deleted:
                await self._check_part(key.namespace_id, lambda: self._oracle.schedules.deleted(key))
            return deleted

        return await self._do("delete_schedule", act)

    async def put_batch(self, batch: StoredBatch) -> None:
        """Writes, and lets the oracle check what was written."""

        async def act() -> None:
            await self._durable.put_batch(batch)
            await self._check_part(batch.key.namespace_id, lambda: self._oracle.batch_put(batch))

        await self._do("put_batch", act)

    async def put_deployment(self, deployment: StoredDeployment) -> None:
        """Writes, and lets the oracle check what was written."""

        async def act() -> None:
            await self._durable.put_deployment(deployment)
            await self._check_part(deployment.namespace_id, lambda: self._oracle.deployments.put(deployment))

        await self._do("put_deployment", act)

    async def put_namespace(self, namespace: StoredNamespace) -> None:
        """Writes, and tells the oracle."""

        async def act() -> None:
            await self._durable.put_namespace(namespace)
            await self._check(lambda: self._oracle.removals.namespace_put(namespace))

        await self._do("put_namespace", act)

    async def delete_namespace(self, namespace_id: str) -> bool:
        """Deletes, and lets the oracle check that nothing is left."""

        async def act() -> bool:
            deleted = await self._durable.delete_namespace(namespace_id)
            await self._check(lambda: self._oracle.removals.namespace_deleted(namespace_id))
            return deleted

        return await self._do("delete_namespace", act)

    async def _check_part(self, namespace_id: str, look: Callable[[], None]) -> None:
        """Lets the oracle check something of a namespace, unless that is one that is deleted in the end."""
        if not self._oracle.removals.owns(namespace_id):
            await self._check(look)

    async def _check(self, look: Callable[[], None]) -> None:
        try:
            look()
        except Exception as error:  # whatever the oracle finds ends the run, and the engine must not see it
            self._fail(error)
            await self._loop.hang()

    async def _do(
        self,
        method: str,
        act: Callable[[], Coroutine[Any, Any, T]],
        previous: _Turn | None = None,
        turn: _Turn | None = None,
    ) -> T:
        """One call. With turns, it acts and is answered after the previous one."""
        try:
            return await self._do_in_turn(method, act, previous, turn)
        finally:
            if turn is not None:
                turn.end()

    async def _do_in_turn(
        self,
        method: str,
        act: Callable[[], Coroutine[Any, Any, T]],
        previous: _Turn | None,
        turn: _Turn | None,
    ) -> T:
        faults, random = self._faults(), self._random
        self._calls = self._calls + 1 if self._step == self._loop.steps else 0
        self._step = self._loop.steps
        if self._calls > MOST_CALLS_AT_ONCE:
            self._fail(SimulationError(f"{method} is called again and again"))
            await self._loop.hang()
        await self._pause(faults)
        if previous is not None:
            await previous.acted
        if random.random() < faults.store_crash:
            await self._die(f"before {method}")
        try:
            if self._is_down():
                self._trace.reach(f"{method} during an outage")
                raise StoreUnavailableError("Injected fault: the store is down.")
            if random.random() < faults.store_before:
                self._trace.reach(f"{method} failed before")
                raise StoreUnavailableError(f"Injected fault: {method} failed before it acted.")
            result = await act()
        except StoreError:
            if previous is not None:
                turn.has_acted()  # type: ignore[union-attr]  # they come together
                await previous.answered
            raise
        if turn is not None:
            turn.has_acted()
        if random.random() < faults.store_crash:
            await self._die(f"after {method}")
        await self._pause(faults)
        if previous is not None:
            await previous.answered
        if random.random() < faults.store_after:
            self._trace.reach(f"{method} failed after")
            raise StoreUnavailableError(f"Injected fault: {method} acted and its answer was lost.")
        return result

    async def _pause(self, faults: Faults) -> None:
        random = self._random
        if random.random() < faults.store_slow:
            await self._loop.sleep(random.uniform(0, faults.slow_store_s))
        elif random.random() < faults.store_suspends:
            await self._loop.sleep(random.uniform(0, faults.store_delay_s))
        if not self._node.alive:
            await self._loop.hang()

    async def _die(self, when: str) -> None:
        self._trace.reach(f"crashed {when}")
        self._crash()
        await self._loop.hang()


def _forward(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(self: SimStore, *args: Any, **kwargs: Any) -> Any:
        return await self._do(name, lambda: getattr(self._durable, name)(*args, **kwargs))

    call.__name__ = name
    call.__doc__ = f"See `Store.{name}`."
    return call


for _name, _member in inspect.getmembers(Store, inspect.iscoroutinefunction):
    if not hasattr(SimStore, _name):
        setattr(SimStore, _name, _forward(_name))
