"""What waits in task queues and what goes through them, as messages show it.

May not live here: which queues are meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from perdure.api.taskqueue.v1 import TaskQueueStats
from perdure.core.run.protos import set_duration
from perdure.core.run.records import QueueKey
from perdure.server.engine.backlog import DEFAULT_LEVEL
from perdure.server.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Level:
    """What is known of the tasks of one priority."""

    count: int = 0
    oldest_ns: int | None = None
    added_per_s: float = 0.0
    given_out_per_s: float = 0.0

    def plus(self, other: Level) -> Level:
        times = [level.oldest_ns for level in (self, other) if level.oldest_ns is not None]
        return Level(
            self.count + other.count,
            min(times, default=None),
            self.added_per_s + other.added_per_s,
            self.given_out_per_s + other.given_out_per_s,
        )


async def levels_of(engine: Engine, queues: Iterable[QueueKey]) -> Mapping[int, Level]:
    """What waits in some queues together and what goes, by priority; the default one is always there.

    Raises:
        UnavailableError: the store cannot read now.
    """
    levels = {DEFAULT_LEVEL: Level()}
    for queue in queues:
        for row in await engine.reading(engine.store.count_tasks(queue)):
            known = levels.get(row.priority, Level())
            levels[row.priority] = known.plus(Level(row.waiting, row.oldest_ns))
        for level, (added, gone) in engine.matching.rates(queue).items():
            levels[level] = levels.get(level, Level()).plus(Level(0, None, added, gone))
    return dict(sorted(levels.items()))


def stats_message(levels: Iterable[Level], now_ns: int) -> TaskQueueStats:
    """Some levels together as a message."""
    total = Level()
    for level in levels:
        total = total.plus(level)
    stats = TaskQueueStats(
        approximate_backlog_count=total.count,
        tasks_add_rate=total.added_per_s,
        tasks_dispatch_rate=total.given_out_per_s,
    )
    age_ns = max(now_ns - total.oldest_ns, 0) if total.oldest_ns is not None else 0
    set_duration(stats.approximate_backlog_age, age_ns)
    return stats
