"""A store that fails where it is told to: for tests and the simulator.

It wraps any store. Before each call it asks a function what shall become of it: nothing, failing before the act (no
trace is left), or failing after it (the act is done whole but reported as failed, like an answer that got lost).
No clock and no randomness: the same decisions give the same run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, TypeVar

from perdure.core.errors import StoreUnavailableError
from perdure.core.run.records import EventBatch, QueueKey, RunKey, RunKind, RunWrite, Task
from perdure.core.visibility import Node, OrderBy
from perdure.store.protocol import (
    BatchKey,
    BatchPosition,
    CurrentRun,
    ListPage,
    ScheduleKey,
    ScheduleWakeup,
    Store,
    StoredBatch,
    StoredDeployment,
    StoredEndpoint,
    StoredNamespace,
    StoredQueueConfig,
    StoredRun,
    StoredSchedule,
    TaskCount,
    TaskCursor,
    TaskLevel,
    Wakeup,
)

_T = TypeVar("_T")


class Fault(Enum):
    """What becomes of one call."""

    NONE = "none"
    BEFORE = "before"
    """It raises `StoreUnavailableError` and has done nothing."""
    AFTER = "after"
    """It does everything and raises `StoreUnavailableError` instead of returning."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a store, as the deciding function sees it."""

    method: str
    number: int
    """1 for the first call of any method."""
    number_of_method: int
    """1 for the first call of this method."""


Decide: TypeAlias = Callable[[Call], Fault]


def no_faults(_call: Call) -> Fault:
    """Every call succeeds."""
    return Fault.NONE


def fail_call(number: int, fault: Fault) -> Decide:
    """Only the call of that number, counted over all methods from 1, fails."""
    return lambda call: fault if call.number == number else Fault.NONE


def fail_method(method: str, fault: Fault, number: int = 1) -> Decide:
    """Only the call of that number, counted from 1, of one method fails."""
    return lambda call: fault if (call.method, call.number_of_method) == (method, number) else Fault.NONE


class FaultyStore:
    """A `Store` around another. `open` and `close` are passed on and not counted.

    Args:
        inner: the store that does the work.
        decide: asked once for each call, in the order of calls. May be replaced at any time (`decide` attribute).
    """

    def __init__(self, inner: Store, decide: Decide = no_faults) -> None:
        self.inner = inner
        self.decide = decide
        self.calls: dict[str, int] = {}
        """Number of calls so far, by method."""

    async def _do(self, method: str, act: Callable[[], Awaitable[_T]]) -> _T:
        self.calls[method] = self.calls.get(method, 0) + 1
        fault = self.decide(Call(method, sum(self.calls.values()), self.calls[method]))
        if fault is Fault.BEFORE:
            raise StoreUnavailableError(f"Injected fault: {method} failed before it acted.")
        result = await act()
        if fault is Fault.AFTER:
            raise StoreUnavailableError(f"Injected fault: {method} acted and its answer was lost.")
        return result

    async def open(self) -> None:
        """See `Store.open`."""
        await self.inner.open()

    async def close(self) -> None:
        """See `Store.close`."""
        await self.inner.close()

    async def cluster_id(self) -> str:
        """See `Store.cluster_id`."""
        return await self._do("cluster_id", self.inner.cluster_id)

    async def is_durable(self) -> bool:
        """See `Store.is_durable`."""
        return await self._do("is_durable", self.inner.is_durable)

    async def commit(self, unit: Sequence[RunWrite], schedule: StoredSchedule | None = None) -> None:
        """See `Store.commit`."""
        await self._do("commit", lambda: self.inner.commit(unit, schedule))

    async def load_run(self, run: RunKey) -> StoredRun | None:
        """See `Store.load_run`."""
        return await self._do("load_run", lambda: self.inner.load_run(run))

    async def current_run(
        self, namespace_id: str, workflow_id: str, kind: RunKind = RunKind.WORKFLOW
    ) -> CurrentRun | None:
        """See `Store.current_run`."""
        return await self._do("current_run", lambda: self.inner.current_run(namespace_id, workflow_id, kind))

    async def delete_run(self, run: RunKey) -> bool:
        """See `Store.delete_run`."""
        return await self._do("delete_run", lambda: self.inner.delete_run(run))

    async def read_history(
        self, run: RunKey, first_event_id: int, end_event_id: int, max_bytes: int, *, reverse: bool = False
    ) -> Sequence[EventBatch]:
        """See `Store.read_history`."""
        return await self._do(
            "read_history",
            lambda: self.inner.read_history(run, first_event_id, end_event_id, max_bytes, reverse=reverse),
        )

    async def due_wakeups(self, until_ns: int, after: Wakeup | None, limit: int) -> Sequence[Wakeup]:
        """See `Store.due_wakeups`."""
        return await self._do("due_wakeups", lambda: self.inner.due_wakeups(until_ns, after, limit))

    async def read_tasks(
        self, queue: QueueKey, after: TaskCursor | None, limit: int
    ) -> Sequence[tuple[TaskCursor, Task]]:
        """See `Store.read_tasks`."""
        return await self._do("read_tasks", lambda: self.inner.read_tasks(queue, after, limit))

    async def count_tasks(self, queue: QueueKey) -> Sequence[TaskCount]:
        """See `Store.count_tasks`."""
        return await self._do("count_tasks", lambda: self.inner.count_tasks(queue))

    async def task_levels(self, queue: QueueKey, last: int) -> Sequence[TaskLevel]:
        """See `Store.task_levels`."""
        return await self._do("task_levels", lambda: self.inner.task_levels(queue, last))

    async def list_runs(
        self,
        namespace_id: str,
        where: Node | None,
        page_size: int,
        cursor: bytes | None,
        kind: RunKind = RunKind.WORKFLOW,
    ) -> ListPage:
        """See `Store.list_runs`."""
        return await self._do(
            "list_runs", lambda: self.inner.list_runs(namespace_id, where, page_size, cursor, kind)
        )

    async def list_runs_ordered(
        self, namespace_id: str, where: Node | None, order: OrderBy, page_size: int, cursor: bytes | None
    ) -> ListPage:
        """See `Store.list_runs_ordered`."""
        return await self._do(
            "list_runs_ordered",
            lambda: self.inner.list_runs_ordered(namespace_id, where, order, page_size, cursor),
        )

    async def count_runs(
        self,
        namespace_id: str,
        where: Node | None,
        group_by: str | None,
        kind: RunKind = RunKind.WORKFLOW,
    ) -> Sequence[tuple[object, int]]:
        """See `Store.count_runs`."""
        return await self._do(
            "count_runs", lambda: self.inner.count_runs(namespace_id, where, group_by, kind)
        )

    async def purge_attribute(self, namespace_id: str, name: str, limit: int) -> int:
        """See `Store.purge_attribute`."""
        return await self._do(
            "purge_attribute", lambda: self.inner.purge_attribute(namespace_id, name, limit)
        )

    async def list_namespaces(self) -> Sequence[StoredNamespace]:
        """See `Store.list_namespaces`."""
        return await self._do("list_namespaces", self.inner.list_namespaces)

    async def put_namespace(self, namespace: StoredNamespace) -> None:
        """See `Store.put_namespace`."""
        await self._do("put_namespace", lambda: self.inner.put_namespace(namespace))

    async def delete_namespace(self, namespace_id: str) -> bool:
        """See `Store.delete_namespace`."""
        return await self._do("delete_namespace", lambda: self.inner.delete_namespace(namespace_id))

    async def list_deployments(self) -> Sequence[StoredDeployment]:
        """See `Store.list_deployments`."""
        return await self._do("list_deployments", self.inner.list_deployments)

    async def put_deployment(self, deployment: StoredDeployment) -> None:
        """See `Store.put_deployment`."""
        await self._do("put_deployment", lambda: self.inner.put_deployment(deployment))

    async def delete_deployment(self, namespace_id: str, name: str) -> bool:
        """See `Store.delete_deployment`."""
        return await self._do("delete_deployment", lambda: self.inner.delete_deployment(namespace_id, name))

    async def list_queue_configs(self) -> Sequence[StoredQueueConfig]:
        """See `Store.list_queue_configs`."""
        return await self._do("list_queue_configs", self.inner.list_queue_configs)

    async def put_queue_config(self, config: StoredQueueConfig) -> None:
        """See `Store.put_queue_config`."""
        await self._do("put_queue_config", lambda: self.inner.put_queue_config(config))

    async def delete_queue_config(self, queue: QueueKey) -> bool:
        """See `Store.delete_queue_config`."""
        return await self._do("delete_queue_config", lambda: self.inner.delete_queue_config(queue))

    async def list_endpoints(self) -> Sequence[StoredEndpoint]:
        """See `Store.list_endpoints`."""
        return await self._do("list_endpoints", self.inner.list_endpoints)

    async def put_endpoint(self, endpoint: StoredEndpoint) -> None:
        """See `Store.put_endpoint`."""
        await self._do("put_endpoint", lambda: self.inner.put_endpoint(endpoint))

    async def delete_endpoint(self, endpoint_id: str) -> bool:
        """See `Store.delete_endpoint`."""
        return await self._do("delete_endpoint", lambda: self.inner.delete_endpoint(endpoint_id))

    async def put_batch(self, batch: StoredBatch) -> None:
        """See `Store.put_batch`."""
        await self._do("put_batch", lambda: self.inner.put_batch(batch))

    async def load_batch(self, key: BatchKey) -> StoredBatch | None:
        """See `Store.load_batch`."""
        return await self._do("load_batch", lambda: self.inner.load_batch(key))

    async def delete_batch(self, key: BatchKey) -> bool:
        """See `Store.delete_batch`."""
        return await self._do("delete_batch", lambda: self.inner.delete_batch(key))

    async def list_batches(
        self, namespace_id: str, after: BatchPosition | None, limit: int
    ) -> Sequence[tuple[BatchPosition, bytes]]:
        """See `Store.list_batches`."""
        return await self._do("list_batches", lambda: self.inner.list_batches(namespace_id, after, limit))

    async def put_schedule(self, schedule: StoredSchedule) -> None:
        """See `Store.put_schedule`."""
        await self._do("put_schedule", lambda: self.inner.put_schedule(schedule))

    async def load_schedule(self, key: ScheduleKey) -> StoredSchedule | None:
        """See `Store.load_schedule`."""
        return await self._do("load_schedule", lambda: self.inner.load_schedule(key))

    async def delete_schedule(self, key: ScheduleKey) -> bool:
        """See `Store.delete_schedule`."""
        return await self._do("delete_schedule", lambda: self.inner.delete_schedule(key))

    async def due_schedules(
        self, until_ns: int, after: ScheduleWakeup | None, limit: int
    ) -> Sequence[ScheduleWakeup]:
        """See `Store.due_schedules`."""
        return await self._do("due_schedules", lambda: self.inner.due_schedules(until_ns, after, limit))

    async def list_schedules(
        self, namespace_id: str, after_id: str, limit: int
    ) -> Sequence[tuple[str, bytes]]:
        """See `Store.list_schedules`."""
        return await self._do(
            "list_schedules", lambda: self.inner.list_schedules(namespace_id, after_id, limit)
        )
