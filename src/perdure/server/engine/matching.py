"""Matching: brings waiting tasks and waiting pollers together, per task queue.

Its memory is a cache of the store's task rows and of who polls now; losing it loses nothing. A task is handed over
either inside the commit that creates it (`reserve`, then `deliver`), or from the backlog (`poll` starts it).
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from perdure.api.common.v1 import WorkerVersionCapabilities, WorkerVersionStamp
from perdure.api.deployment.v1 import WorkerDeploymentOptions
from perdure.core.deployment.routes import plain_name
from perdure.core.queues.config import QueueConfig
from perdure.core.queues.fair_order import MAX_KEYS
from perdure.core.queues.rates import Rate
from perdure.core.run.records import QueueKey, RunWrite, Task
from perdure.server.engine.backlog import DEFAULT_LEVEL, HEAD, Backlog, level_of
from perdure.server.engine.deliveries import (
    Delivery,
    NexusDelivery,
    QueryDelivery,
    WorkflowTaskDelivery,
    is_wanted,
)
from perdure.server.engine.rate_limits import QueueLimits, RateLimit
from perdure.server.runtime import Runtime
from perdure.store.protocol import Store

BACKLOG_HEAD = HEAD
POLLERS_REMEMBERED = 200
POLLER_MEMORY_NS = 5 * 60 * 1_000_000_000
STICKY_ALIVE_NS = 10 * 1_000_000_000
"""A sticky queue that nobody polled for this long has lost its worker."""
IDLE_QUEUES_KEPT = 1_000
IDLE_POLL_S = 1.0
"""A worker whose poll waited so long for a task polls too much."""
OLD_TASK_NS = 200_000_000
"""A queue whose next task has waited for longer needs more polls."""
BUSY_RATIO = 1.2
"""So does one to which that many times more tasks come than go."""
DECISIONS_PER_SECOND = 10
"""Advice to poll more that a queue gives for each of its workers."""
_NO_CONFIG = QueueConfig()

StartTask = Callable[[Task, "Poller"], Awaitable[Delivery | None]]


@dataclass(slots=True, eq=False)
class Poller:
    """One waiting long poll.

    Attributes:
        identity: the worker's.
        request_id: this poll's id, written into Started events.
        version: the worker's, written into WorkflowTaskStarted events; None if it does not say.
        future: resolved with a delivery, with a task to start, or with None to end the poll empty.
        is_local: the worker dies with this process, so it may be given workflow tasks before they are durable.
        deployment_version: `deployment:build` of a worker whose tasks are routed by version; else empty.
        in_line: it stands in its queue's line.
        sdk: name and version of the worker's library, as far as it says.
    """

    identity: str
    request_id: str
    version: WorkerVersionStamp | None
    future: asyncio.Future[Delivery | Task | None]
    is_local: bool = False
    deployment_version: str = ""
    in_line: bool = False
    sdk: tuple[str, str] = ("", "")


class WorkerOptions(NamedTuple):
    """What a worker's poll says of its version and its limit, for descriptions of the queue."""

    capabilities: WorkerVersionCapabilities | None = None
    deployment: WorkerDeploymentOptions | None = None
    per_second: float | None = None


class SeenPoller(NamedTuple):
    """A poller of the last minutes."""

    identity: str
    seen_ns: int
    options: WorkerOptions


_NO_OPTIONS = WorkerOptions()


@dataclass(slots=True)
class _Queue:
    pollers: deque[Poller] = field(default_factory=deque)
    ready: deque[Delivery] = field(default_factory=deque)
    backlog: Backlog = field(default_factory=lambda: Backlog(BACKLOG_HEAD))
    loading: asyncio.Future[None] | None = None
    active_polls: int = 0
    last_poll_ns: int = 0
    seen: OrderedDict[str, SeenPoller] = field(default_factory=OrderedDict)
    limits: QueueLimits | None = None
    """Of all queues of its plain name; None if there are none."""
    traffic: dict[int, tuple[Rate, Rate]] = field(default_factory=dict)
    """By level: tasks that came, and that were given out."""
    decisions: RateLimit | None = None
    """How often workers are told to poll more."""
    permit_timer: asyncio.TimerHandle | None = None
    """Waits for the next permit while tasks and pollers wait."""

    def waiting_poller(self) -> Poller | None:
        while self.pollers:
            poller = self.pollers.popleft()
            poller.in_line = False
            if not poller.future.done():
                return poller
        return None

    def is_idle(self, before_ns: int) -> bool:
        return not (self.pollers or self.ready or self.active_polls) and self.last_poll_ns < before_ns


class Matching:
    """All task queues of this process.

    Args:
        store: where task rows wait.
        runtime: the clock.
        start_task: starts a task of the backlog for a poller; None when the task is stale.

    Attributes:
        config_of: what operators set of a queue, by its plain name; set by whoever knows.
    """

    def __init__(self, store: Store, runtime: Runtime, start_task: StartTask) -> None:
        self._store = store
        self._runtime = runtime
        self._start_task = start_task
        self._queues: dict[QueueKey, _Queue] = {}
        self._limits: dict[QueueKey, QueueLimits] = {}
        self._closed = False
        self.config_of: Callable[[QueueKey], QueueConfig] = lambda key: _NO_CONFIG

    # --- polling ---

    async def poll(
        self,
        key: QueueKey,
        identity: str,
        request_id: str,
        timeout_s: float,
        version: WorkerVersionStamp | None = None,
        *,
        is_local: bool = False,
        sdk: tuple[str, str] = ("", ""),
        deployment_version: str = "",
        options: WorkerOptions = _NO_OPTIONS,
    ) -> Delivery | None:
        """Waits for work on a queue.

        Args:
            key: the queue.
            identity: the worker's.
            request_id: an id for this poll.
            timeout_s: how long to wait at most.
            version: the worker's, if it says.
            is_local, sdk, deployment_version: see `Poller`.
            options: what descriptions of the queue tell of the worker.

        Returns:
            the work, started and committed (for a local poller: on its way to that); None when there was none in
            time. If the caller is gone, `give_back` it.
        """
        queue = self._queue(key)
        queue.active_polls += 1
        self._note_poller(queue, identity, options)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s

        def new_poller() -> Poller:
            future = loop.create_future()
            return Poller(identity, request_id, version, future, is_local, deployment_version, sdk=sdk)

        poller = new_poller()
        try:
            while not self._closed:
                item: Delivery | Task | None = self._ready(queue)
                if (
                    item is None
                    and (queue.backlog or queue.backlog.more_in_store)
                    and self._has_permit(key, queue)
                ):
                    # A delivery may have come while the store was read.
                    item = await self._from_backlog(key, queue) or self._ready(queue)
                if item is None:
                    item = await self._wait(key, queue, poller, deadline)
                    if item is None:
                        return None
                if not isinstance(item, Task):
                    if not is_wanted(item):
                        poller = new_poller()
                        continue
                    if isinstance(item, NexusDelivery):
                        self._traffic(queue, DEFAULT_LEVEL)[1].count(asyncio.get_running_loop().time())
                    return item
                delivery = await self._start(item, poller)
                if delivery is not None:
                    return delivery
                self._put_back_permit(item)
                poller = new_poller()
            return None
        finally:
            queue.active_polls -= 1
            queue.last_poll_ns = self._runtime.now_ns()

    async def _wait(
        self, key: QueueKey, queue: _Queue, poller: Poller, deadline: float
    ) -> Delivery | Task | None:
        if self._closed or self._queues.get(key) is not queue:
            return None  # it was closed or forgotten while the store was read: nobody would wake this poll
        loop = asyncio.get_running_loop()
        queue.pollers.append(poller)
        poller.in_line = True
        timer = loop.call_at(deadline, _resolve_empty, poller.future)
        try:
            return await poller.future
        except asyncio.CancelledError:
            if poller.future.done() and not poller.future.cancelled():
                self.give_back(poller.future.result())
            raise
        finally:
            timer.cancel()
            if not poller.future.done():
                poller.future.cancel()
            if poller.in_line:
                queue.pollers.remove(poller)
                poller.in_line = False

    async def _start(self, task: Task, poller: Poller) -> Delivery | None:
        starting = asyncio.ensure_future(self._start_or_offer(task, poller))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._give_back_result)
            raise

    async def _start_or_offer(self, task: Task, poller: Poller) -> Delivery | None:
        try:
            return await self._start_task(task, poller)
        except BaseException:  # whatever it was: the task may still wait, and nobody else remembers it
            self.give_back(task)
            raise

    def _give_back_result(self, starting: asyncio.Future[Delivery | None]) -> None:
        if not starting.cancelled() and starting.exception() is None:
            self.give_back(starting.result())

    def _ready(self, queue: _Queue) -> Delivery | None:
        if not queue.ready:
            return None
        now_ns = self._runtime.now_ns()
        while queue.ready:
            delivery = queue.ready.popleft()
            if is_wanted(delivery) and (not delivery.expires_ns or delivery.expires_ns > now_ns):
                return delivery
        return None

    async def _from_backlog(self, key: QueueKey, queue: _Queue) -> Task | None:
        while not queue.backlog and queue.backlog.more_in_store:
            await asyncio.shield(self._loading(key, queue))
        return self._pop(key, queue)

    def _pop(self, key: QueueKey, queue: _Queue) -> Task | None:
        """The next task of the backlog, if there is one and a permit for it.

        If the key of a level's first task has none, the level waits: whoever is behind had its share.
        """
        for task in queue.backlog.heads():
            if queue.limits is None or queue.limits.take(task, asyncio.get_running_loop().time()):
                queue.backlog.take(task)
                self._given_out(queue, task)
                return task
        if queue.backlog:
            self._await_permit(key, queue)
        return None

    def _loading(self, key: QueueKey, queue: _Queue) -> asyncio.Future[None]:
        if queue.loading is None:
            queue.loading = asyncio.ensure_future(self._load(key, queue))
            queue.loading.add_done_callback(_read_error)
        return queue.loading

    async def _load(self, key: QueueKey, queue: _Queue) -> None:
        backlog = queue.backlog
        try:
            if not backlog.is_known:
                backlog.learn(await self._store.task_levels(key, MAX_KEYS))
            if not backlog:
                backlog.begin_load()
                backlog.load(await self._store.read_tasks(key, None, backlog.head))
        finally:
            queue.loading = None

    # --- places and traffic ---

    def placed(self, write: RunWrite) -> RunWrite:
        """A write whose waiting tasks have their places in their queues. Called once, in the order of the commits."""
        tasks = tuple(task if task.sticky else self._placed(task) for task in write.tasks_put)
        return msgspec.structs.replace(write, tasks_put=tasks) if tasks else write

    def _placed(self, task: Task) -> Task:
        queue = self._queue(task.queue)
        if not queue.backlog.is_known:
            self._loading(task.queue, queue)
        weight = task.fairness_weight
        if queue.limits is not None:
            weight = queue.limits.weight(task)
        place = queue.backlog.place(task, weight)
        return msgspec.structs.replace(task, place=place) if place else task

    def _came(self, queue: _Queue, task: Task) -> None:
        self._traffic(queue, level_of(task))[0].count(asyncio.get_running_loop().time())

    def _given_out(self, queue: _Queue, task: Task) -> None:
        self._traffic(queue, level_of(task))[1].count(asyncio.get_running_loop().time())
        queue.backlog.given_out(task)

    def _traffic(self, queue: _Queue, level: int) -> tuple[Rate, Rate]:
        traffic = queue.traffic.get(level)
        if traffic is None:
            now_s = asyncio.get_running_loop().time()
            traffic = queue.traffic[level] = Rate(now_s), Rate(now_s)
        return traffic

    def scaling(self, key: QueueKey, began_s: float) -> int:
        """How many polls more or less a worker should make, for one that was just given a task.

        Args:
            key: the queue that it polled.
            began_s: when it began to, in the loop's time.

        Returns:
            -1 if it waited long, 1 if tasks wait or come faster than they go, 0 for no opinion.
        """
        queue, now_s = self._queues.get(key), asyncio.get_running_loop().time()
        if queue is None or (queue.limits is not None and queue.backlog):
            return 0
        if now_s - began_s >= IDLE_POLL_S:
            return -1
        per_second = DECISIONS_PER_SECOND * max(len(queue.seen), 1)
        if queue.decisions is None:
            queue.decisions = RateLimit(per_second, now_s)
        elif queue.decisions.per_second != per_second:
            queue.decisions.change(per_second, now_s)
        if not queue.decisions.take(now_s):
            return 0
        oldest_ns = min((task.enqueued_ns for task in queue.backlog.heads()), default=None)
        if oldest_ns is not None and self._runtime.now_ns() - oldest_ns > OLD_TASK_NS:
            return 1
        rates = self.rates(key).values()
        return int(sum(came for came, _ in rates) > BUSY_RATIO * sum(gone for _, gone in rates))

    def rates(self, key: QueueKey) -> Mapping[int, tuple[float, float]]:
        """By priority: tasks a second that came to a queue, and that it gave out, over the last half minute."""
        queue = self._queues.get(key)
        if queue is None:
            return {}
        now_s = asyncio.get_running_loop().time()
        return {
            level: (came.per_second(now_s), gone.per_second(now_s))
            for level, (came, gone) in sorted(queue.traffic.items())
        }

    # --- offering ---

    def reserve(self, task: Task) -> Poller | None:
        """Takes the longest waiting poller of a task's queue out of the line, for a commit of the task with its start.

        The caller must `deliver` to it or `release` it.
        """
        queue = self._queues.get(task.queue)
        if queue is None:
            return None
        if queue.limits is not None and queue.backlog and queue.pollers:
            # Permits are for those who wait longer, or are more urgent.
            self._await_permit(task.queue, queue)
            return None
        poller = queue.waiting_poller()
        if poller is None:
            return None
        now_s = asyncio.get_running_loop().time()
        if queue.limits is not None and not queue.limits.take(task, now_s):
            self._await_permit(task.queue, queue, task)
            self._to_front(queue, poller)
            return None
        for rate in self._traffic(queue, level_of(task)):
            rate.count(now_s)
        return poller

    def release(self, task: Task, poller: Poller) -> None:
        """The commit failed: the poller gets what came while it was reserved, or goes back to the front of the line."""
        queue = self._queue(task.queue)
        self._put_back_permit(task)
        if poller.future.done():
            return
        if self._closed:
            _resolve_empty(poller.future)
            return
        item: Delivery | Task | None = self._ready(queue) or self._pop(task.queue, queue)
        if item is not None:
            poller.future.set_result(item)
        elif queue.backlog.more_in_store and not queue.backlog:
            _resolve_empty(poller.future)  # it polls again, and the store is read
        else:
            self._to_front(queue, poller)

    def deliver(self, poller: Poller, delivery: Delivery) -> None:
        """Answers a reserved poller; if it is gone meanwhile, the next one gets the delivery."""
        if poller.future.done():
            self.give_back(delivery)
        else:
            poller.future.set_result(delivery)

    def offer(self, task: Task, *, is_stored: bool = True) -> None:
        """A task waits: a waiting poller gets it, else the head of the backlog remembers it.

        Args:
            task: the task.
            is_stored: its row was committed, so that forgetting it does no harm.
        """
        queue = self._queue(task.queue)
        poller = self.reserve(task)
        if poller is not None:
            queue.backlog.given_out(task)
            poller.future.set_result(task)
            return
        self._came(queue, task)
        queue.backlog.add(task, is_stored=is_stored)

    def give_back(self, item: Delivery | Task | None) -> None:
        """What was meant for a poller that is gone: the next one of the queue gets it as it is."""
        if item is None or not is_wanted(item):
            return
        if isinstance(item, Task):
            self._put_back_permit(item)
            self.offer(item)
            return
        if isinstance(item, WorkflowTaskDelivery) and item.committing is not None:
            if not item.committing.done():  # the next poller may be a remote one
                item.committing.add_done_callback(lambda _: self.give_back(item))
                return
            if item.was_lost:
                return
        queue = self._queue(item.queue)
        poller = queue.waiting_poller()
        if poller is not None:
            poller.future.set_result(item)
        else:
            queue.ready.append(item)

    def ask(self, delivery: NexusDelivery) -> None:
        """Offers a question to the handlers of a queue. Questions count among the tasks that come and go."""
        queue = self._queue(delivery.queue)
        self._traffic(queue, DEFAULT_LEVEL)[0].count(asyncio.get_running_loop().time())
        self.give_back(delivery)

    def withdraw(self, delivery: QueryDelivery | NexusDelivery) -> bool:
        """Takes a question back that nobody may answer any more. Returns whether nobody had taken it yet."""
        queue = self._queues.get(delivery.queue)
        if queue is None or delivery not in queue.ready:
            return False
        queue.ready.remove(delivery)
        return True

    # --- limits of queues ---

    def limit(self, key: QueueKey, per_second: float) -> None:
        """Limits how many tasks a second a queue gives out. The last poll that asks for a limit sets it, unless an
        operator did.

        Args:
            key: the queue, by its plain name or a version's.
            per_second: tasks a second; 0 gives out none.
        """
        plain = key._replace(name=plain_name(key.name))
        limits = self._limits.get(plain)
        if limits is None or limits.of_worker != per_second:
            self._limit(plain, per_second)

    def configured(self, plain: QueueKey) -> None:
        """What operators set of a queue has changed."""
        limits = self._limits.get(plain)
        self._limit(plain, limits.of_worker if limits is not None else None)

    def limits_of(self, key: QueueKey) -> QueueLimits | None:
        """The limits of a queue and of its fairness keys; None if it has none."""
        return self._queue(key).limits

    def _limit(self, plain: QueueKey, of_worker: float | None) -> None:
        config = self.config_of(plain)
        limits = self._limits.get(plain)
        if limits is None:
            limits = self._limits[plain] = QueueLimits()
        limits.change(of_worker, config, asyncio.get_running_loop().time())
        if limits.is_void:
            del self._limits[plain]
        for key, queue in self._queues.items():
            if key.kind is plain.kind and plain == key._replace(name=plain_name(key.name)):
                queue.limits = self._limits.get(plain)
                if queue.backlog or queue.backlog.more_in_store:
                    self._await_permit(key, queue)

    def _has_permit(self, key: QueueKey, queue: _Queue) -> bool:
        """Whether the queue as a whole may give out a task now."""
        if queue.limits is None or queue.limits.wait_s(None, asyncio.get_running_loop().time()) <= 0:
            return True
        self._await_permit(key, queue)
        return False

    def _put_back_permit(self, task: Task) -> None:
        """What a permit was taken for did not happen."""
        queue = self._queue(task.queue)
        if queue.limits is not None:
            queue.limits.put_back(task)
            if queue.backlog:
                self._await_permit(task.queue, queue)

    def _await_permit(self, key: QueueKey, queue: _Queue, coming: Task | None = None) -> None:
        """Gives out the next task when there is a permit for it.

        Args:
            key, queue: of which.
            coming: a task that will wait, and does not yet.
        """
        loop = asyncio.get_running_loop()
        if queue.permit_timer is not None:
            if queue.permit_timer.when() <= loop.time():
                return  # It is about to.
            queue.permit_timer.cancel()
            queue.permit_timer = None
        wait_s = 0.0
        if queue.limits is not None:
            first = [*queue.backlog.heads(), *([coming] if coming is not None else ())] or [None]
            wait_s = min(queue.limits.wait_s(task, loop.time()) for task in first)
        if wait_s < math.inf:
            queue.permit_timer = loop.call_later(wait_s, self._give_out, key, queue)

    def _give_out(self, key: QueueKey, queue: _Queue) -> None:
        queue.permit_timer = None
        if self._closed:
            return
        while queue.backlog and (poller := queue.waiting_poller()) is not None:
            task = self._pop(key, queue)
            if task is None:
                self._to_front(queue, poller)
                return
            poller.future.set_result(task)
        if queue.backlog.more_in_store and not queue.backlog and queue.pollers:
            self._loading(key, queue).add_done_callback(lambda loading: self._loaded(key, queue, loading))

    def _loaded(self, key: QueueKey, queue: _Queue, loading: asyncio.Future[None]) -> None:
        if not loading.cancelled() and loading.exception() is None:
            self._give_out(key, queue)
        elif (poller := queue.waiting_poller()) is not None:
            _resolve_empty(poller.future)  # it polls again, and is told of the error if that lasts

    def _to_front(self, queue: _Queue, poller: Poller) -> None:
        queue.pollers.appendleft(poller)
        poller.in_line = True

    # --- what is known of pollers ---

    def is_alive(self, key: QueueKey, within_ns: int = STICKY_ALIVE_NS) -> bool:
        """Whether anybody polls the queue now or did recently."""
        queue = self._queues.get(key)
        if queue is None:
            return False
        return queue.active_polls > 0 or queue.last_poll_ns > self._runtime.now_ns() - within_ns

    def recent_pollers(self, key: QueueKey) -> list[SeenPoller]:
        """Pollers of the last five minutes."""
        queue = self._queues.get(key)
        if queue is None:
            return []
        horizon_ns = self._runtime.now_ns() - POLLER_MEMORY_NS
        return [poller for poller in queue.seen.values() if poller.seen_ns > horizon_ns]

    def forget_poller(self, key: QueueKey, identity: str) -> None:
        """A worker says goodbye: it is not shown any more as one that polls the queue."""
        queue = self._queues.get(key)
        if queue is not None:
            queue.seen.pop(identity, None)

    def forget_sticky(self, key: QueueKey) -> None:
        """The worker of a sticky queue says goodbye: its polls end, its queue counts as dead."""
        queue = self._queues.get(key)
        if queue is None:
            return
        for poller in queue.pollers:
            _resolve_empty(poller.future)
        del self._queues[key]

    def close(self) -> None:
        """Ends every poll empty; new ones end at once."""
        self._closed = True
        for queue in self._queues.values():
            for poller in queue.pollers:
                _resolve_empty(poller.future)

    def clock_moved(self, skipped_ns: int) -> None:
        """The clock was moved on, and no time passed for pollers: who was there is still there."""
        for queue in self._queues.values():
            queue.last_poll_ns += skipped_ns
            for identity, poller in queue.seen.items():
                queue.seen[identity] = poller._replace(seen_ns=poller.seen_ns + skipped_ns)

    def _note_poller(self, queue: _Queue, identity: str, options: WorkerOptions) -> None:
        now_ns = self._runtime.now_ns()
        queue.last_poll_ns = now_ns
        queue.seen[identity] = SeenPoller(identity, now_ns, options)
        queue.seen.move_to_end(identity)
        if len(queue.seen) > POLLERS_REMEMBERED:
            queue.seen.popitem(last=False)

    def _queue(self, key: QueueKey) -> _Queue:
        queue = self._queues.get(key)
        if queue is None:
            if len(self._queues) >= IDLE_QUEUES_KEPT and len(self._queues) % 100 == 0:
                self._drop_idle()
            queue = self._queues[key] = _Queue()
            queue.limits = self._limits_for(key)
        return queue

    def _limits_for(self, key: QueueKey) -> QueueLimits | None:
        """The limits of a queue that is looked at for the first time, or again."""
        plain = key._replace(name=plain_name(key.name))
        limits = self._limits.get(plain)
        if limits is None:
            limits = QueueLimits()
            limits.change(None, self.config_of(plain), asyncio.get_running_loop().time())
            if limits.is_void:
                return None
            self._limits[plain] = limits
        return limits

    def _drop_idle(self) -> None:
        before_ns = self._runtime.now_ns() - POLLER_MEMORY_NS
        for key in [key for key, queue in self._queues.items() if queue.is_idle(before_ns)]:
            timer = self._queues.pop(key).permit_timer
            if timer is not None:
                timer.cancel()
        kept = {key._replace(name=plain_name(key.name)) for key in self._queues}
        self._limits = {plain: limits for plain, limits in self._limits.items() if plain in kept}


def _read_error(loading: asyncio.Future[None]) -> None:
    """Takes note of an error that nobody may be left to be told of; a later poll loads again."""
    if not loading.cancelled():
        loading.exception()


def _resolve_empty(future: asyncio.Future[Delivery | Task | None]) -> None:
    if not future.done():
        future.set_result(None)
