"""How fast a task queue gives out its tasks, when workers or operators set limits. Knows neither queues nor waiting."""

from __future__ import annotations

import math
from typing import Final

from perdure.core.queues.config import QueueConfig
from perdure.core.queues.fair_order import effective_weight
from perdure.core.run.records import Task

NO_LIMIT: Final = 1e9
"""Tasks a second that no queue reaches."""
MAX_KEYS: Final = 10_000
"""Fairness keys of a queue with a limit of their own that are remembered."""


class RateLimit:
    """A bucket of permits that fills with time; a task takes one.

    It holds the permits of one second, at least one, so that a limit of 10 a second may give out ten at once.

    Args:
        per_second: permits a second; 0 gives none, and more than `NO_LIMIT` is that.
        now_s: the loop's time.
        burst_ratio: how many times the permits of a second it holds.
    """

    __slots__ = ("_burst_ratio", "_permits", "_seen_s", "per_second")

    def __init__(self, per_second: float, now_s: float, burst_ratio: float = 1.0) -> None:
        self.per_second = min(per_second, NO_LIMIT)
        self._burst_ratio = burst_ratio
        self._permits = self._most
        self._seen_s = now_s

    @property
    def _most(self) -> float:
        return max(1.0, math.ceil(self.per_second * self._burst_ratio)) if self.per_second > 0 else 0.0

    def change(self, per_second: float, now_s: float) -> None:
        """Another limit from now on; what was saved up so far stays, as far as there is room for it."""
        self._fill(now_s)
        self.per_second = min(per_second, NO_LIMIT)
        self._permits = min(self._permits, self._most)

    def take(self, now_s: float) -> bool:
        """Takes a permit if there is one."""
        self._fill(now_s)
        if self._permits < 1.0:
            return False
        self._permits -= 1.0
        return True

    def put_back(self) -> None:
        """What a permit was taken for did not happen."""
        self._permits = min(self._permits + 1.0, self._most)

    def wait_s(self, now_s: float) -> float:
        """Seconds until there is a permit; infinite if there will be none."""
        self._fill(now_s)
        if self._permits >= 1.0:
            return 0.0
        return (1.0 - self._permits) / self.per_second if self.per_second > 0 else math.inf

    def is_full(self, now_s: float) -> bool:
        """Whether it holds all the permits that it can."""
        self._fill(now_s)
        return self._permits >= self._most

    def _fill(self, now_s: float) -> None:
        # Rounding must not keep whoever waited for exactly one permit waiting for nothing.
        gained = max(now_s - self._seen_s, 0.0) * self.per_second
        self._permits = min(self._permits + gained + 1e-9, self._most)
        self._seen_s = now_s


class KeyLimits:
    """A bucket for each fairness key that was given out lately; a full one is as good as none, and is forgotten.

    Args:
        per_second: permits a second of a key of weight 1.
    """

    __slots__ = ("_buckets", "per_second")

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._buckets: dict[str, RateLimit] = {}

    def wait_s(self, key: str, weight: float, now_s: float) -> float:
        """Seconds until a key has a permit for a task of this weight; infinite if it will have none."""
        if self.per_second <= 0:
            return math.inf
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0.0
        bucket.change(self.per_second * weight, now_s)  # operators change weights while tasks wait
        return bucket.wait_s(now_s)

    def take(self, key: str, weight: float, now_s: float) -> None:
        """Takes a key's permit, which is there."""
        bucket = self._buckets.get(key)
        per_second = self.per_second * weight
        if bucket is None:
            if len(self._buckets) >= MAX_KEYS:
                self._forget(now_s)
            bucket = self._buckets[key] = RateLimit(per_second, now_s)
        else:
            bucket.change(per_second, now_s)
        bucket.take(now_s)

    def put_back(self, key: str) -> None:
        """What a permit was taken for did not happen."""
        if key in self._buckets:
            self._buckets[key].put_back()

    def change(self, per_second: float) -> None:
        """Another limit from now on."""
        if per_second != self.per_second:
            self.per_second = per_second
            self._buckets.clear()

    def _forget(self, now_s: float) -> None:
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.is_full(now_s)}
        if len(self._buckets) >= MAX_KEYS:
            for key in list(self._buckets)[: MAX_KEYS // 2]:
                del self._buckets[key]


class QueueLimits:
    """The limits of a task queue: the operator's or the worker's for the whole, and the operator's for each key.

    Attributes:
        of_worker: what the last poll that gave a limit asked for, tasks a second.
        queue: for the whole queue, if there is one.
    """

    __slots__ = ("_config", "_keys", "of_worker", "queue")

    def __init__(self) -> None:
        self.of_worker: float | None = None
        self.queue: RateLimit | None = None
        self._keys: KeyLimits | None = None
        self._config = QueueConfig()

    @property
    def is_of_operator(self) -> bool:
        """Whether the limit of the whole queue is the operator's."""
        return self._config.queue_per_second is not None

    @property
    def is_void(self) -> bool:
        """Whether there is nothing that it limits or changes."""
        return self.queue is None and self._keys is None and not self._config.weights

    def change(self, of_worker: float | None, config: QueueConfig, now_s: float) -> None:
        """Other limits from now on. What was saved up so far stays, as far as there is room for it."""
        self.of_worker, self._config = of_worker, config
        per_second = config.queue_per_second if config.queue_per_second is not None else of_worker
        if per_second is None:
            self.queue = None
        elif self.queue is None:
            self.queue = RateLimit(per_second, now_s)
        elif self.queue.per_second != per_second:
            self.queue.change(per_second, now_s)
        if config.key_per_second is None:
            self._keys = None
        elif self._keys is None:
            self._keys = KeyLimits(config.key_per_second)
        else:
            self._keys.change(config.key_per_second)

    def weight(self, task: Task) -> float:
        """The weight of a task's key: the operator's, else its own."""
        return self._config.weight(task.fairness_key, task.fairness_weight)

    def wait_s(self, task: Task | None, now_s: float) -> float:
        """Seconds until there is a permit for a task; for None: as far as the queue as a whole goes."""
        wait_s = self.queue.wait_s(now_s) if self.queue is not None else 0.0
        if self._keys is not None and task is not None:
            weight = effective_weight(self.weight(task))
            wait_s = max(wait_s, self._keys.wait_s(task.fairness_key, weight, now_s))
        return wait_s

    def take(self, task: Task, now_s: float) -> bool:
        """Takes the permits for a task if there are any."""
        if self.wait_s(task, now_s) > 0:
            return False
        if self.queue is not None:
            self.queue.take(now_s)
        if self._keys is not None:
            self._keys.take(task.fairness_key, effective_weight(self.weight(task)), now_s)
        return True

    def put_back(self, task: Task) -> None:
        """What permits were taken for did not happen."""
        if self.queue is not None:
            self.queue.put_back()
        if self._keys is not None:
            self._keys.put_back(task.fairness_key)
