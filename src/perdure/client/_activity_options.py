"""Options of a running activity, as values that can be changed one by one.

May live here: the options, their keys and updates. May not: sending them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from perdure.client._wire import optional_timedelta
from perdure.common import Priority, RetryPolicy

if TYPE_CHECKING:
    from perdure.api.activity.v1 import ActivityOptions

ActivityOptionValueType = TypeVar("ActivityOptionValueType")


@dataclass(frozen=True)
class ActivityOptionsKey(Generic[ActivityOptionValueType]):
    """Names one option; see `ActivityOptionsKeys`."""

    name: str
    """The option's path in the server's message."""

    def value_set(self, value: ActivityOptionValueType) -> ActivityOptionsUpdate[ActivityOptionValueType]:
        """Return an update that sets the option."""
        return ActivityOptionsUpdate(self, value)

    def value_unset(self) -> ActivityOptionsUpdate[ActivityOptionValueType]:
        """Return an update that clears the option."""
        return ActivityOptionsUpdate(self, None)


@dataclass(frozen=True)
class ActivityOptionsUpdate(Generic[ActivityOptionValueType]):
    """A change of one option."""

    key: ActivityOptionsKey[ActivityOptionValueType]
    """Which option."""

    value: ActivityOptionValueType | None
    """Its new value; None clears it."""


class ActivityOptionsKeys:
    """The options that can be changed."""

    task_queue: Final[ActivityOptionsKey[str]] = ActivityOptionsKey("task_queue.name")
    schedule_to_close_timeout: Final[ActivityOptionsKey[timedelta]] = ActivityOptionsKey(
        "schedule_to_close_timeout"
    )
    schedule_to_start_timeout: Final[ActivityOptionsKey[timedelta]] = ActivityOptionsKey(
        "schedule_to_start_timeout"
    )
    start_to_close_timeout: Final[ActivityOptionsKey[timedelta]] = ActivityOptionsKey(
        "start_to_close_timeout"
    )
    heartbeat_timeout: Final[ActivityOptionsKey[timedelta]] = ActivityOptionsKey("heartbeat_timeout")
    start_delay: Final[ActivityOptionsKey[timedelta]] = ActivityOptionsKey("start_delay")
    retry_policy: Final[ActivityOptionsKey[RetryPolicy]] = ActivityOptionsKey("retry_policy")
    priority: Final[ActivityOptionsKey[Priority]] = ActivityOptionsKey("priority")


@dataclass(frozen=True)
class ActivityExecutionOptions:
    """An activity's options as the server has them after a change; None is one that is not set."""

    task_queue: str | None
    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    start_to_close_timeout: timedelta | None
    heartbeat_timeout: timedelta | None
    start_delay: timedelta | None
    retry_policy: RetryPolicy | None
    priority: Priority | None

    @staticmethod
    def _from_proto(options: ActivityOptions) -> ActivityExecutionOptions:
        has_policy = options.HasField("retry_policy")
        return ActivityExecutionOptions(
            task_queue=options.task_queue.name if options.HasField("task_queue") else None,
            schedule_to_close_timeout=optional_timedelta(options, "schedule_to_close_timeout"),
            schedule_to_start_timeout=optional_timedelta(options, "schedule_to_start_timeout"),
            start_to_close_timeout=optional_timedelta(options, "start_to_close_timeout"),
            heartbeat_timeout=optional_timedelta(options, "heartbeat_timeout"),
            start_delay=optional_timedelta(options, "start_delay"),
            retry_policy=RetryPolicy.from_proto(options.retry_policy) if has_policy else None,
            priority=Priority._from_proto(options.priority) if options.HasField("priority") else None,
        )
