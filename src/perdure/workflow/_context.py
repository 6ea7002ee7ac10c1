"""Functions that ask the running workflow something or change one of its properties."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, overload

from perdure.common import (
    MetricMeter,
    SearchAttributes,
    SearchAttributeUpdate,
    _arg_unset,
    _warn_on_deprecated_search_attributes,
)
from perdure.types import AnyType, ParamType
from perdure.workflow._event_groups import EventGroup, _attached
from perdure.workflow._info import Info
from perdure.workflow._runtime import _Runtime

if TYPE_CHECKING:
    from perdure.converter import PayloadConverter


def in_workflow() -> bool:
    """Whether the code is running in a workflow."""
    return _Runtime.maybe_current() is not None


def info() -> Info:
    """What the workflow knows about itself."""
    return _Runtime.current().info()


def instance() -> Any:
    """The object of the workflow class that is running."""
    return _Runtime.current().instance()


def now() -> datetime:
    """Workflow time, in UTC: when the current workflow task started. It stands still while the code runs."""
    return datetime.fromtimestamp(time(), UTC)


def time() -> float:
    """Workflow time in seconds since the epoch."""
    return time_ns() / 1e9


def time_ns() -> int:
    """Workflow time in nanoseconds since the epoch."""
    return _Runtime.current().time_ns()


def random() -> Random:
    """The workflow's own random numbers: the same ones on every replay, so not for secrets."""
    return _Runtime.current().random()


def random_seed() -> int:
    """The seed of `random()`; it changes when the run is reset."""
    return _Runtime.current().random_seed()


def register_random_seed_callback(callback: Callable[[int], None]) -> None:
    """Calls `callback` with the new seed whenever it changes."""
    _Runtime.current().register_random_seed_callback(callback)


def new_random(name: str | None = None) -> Random:
    """Random numbers apart from `random()`, reseeded when the workflow's seed changes.

    Args:
        name: Mixed into the seed, so that different names give different numbers. Without a name the numbers are
            those that `random()` begins with.
    """

    def seed_from(workflow_seed: int) -> int | str:
        return workflow_seed if name is None else f"{workflow_seed}:{name}"

    numbers = Random(seed_from(random_seed()))
    register_random_seed_callback(lambda seed: numbers.seed(seed_from(seed)))
    return numbers


def uuid4() -> uuid.UUID:
    """A random UUID, the same on every replay, so not for secrets."""
    return uuid.UUID(bytes=random().getrandbits(128).to_bytes(16, "big"), version=4)


def uuid7() -> uuid.UUID:
    """A UUID that sorts by workflow time, the same on every replay, so not for secrets.

    UUIDs made in the same workflow task share their time and have no order among each other.
    """
    milliseconds = (time_ns() // 1_000_000) & ((1 << 48) - 1)
    numbers = random()
    high, low = numbers.getrandbits(12), numbers.getrandbits(62)
    return uuid.UUID(int=(milliseconds << 80) | (7 << 76) | (high << 64) | (2 << 62) | low)


async def sleep(
    duration: float | timedelta,
    *,
    summary: str | None = None,
    event_groups: Sequence[EventGroup] | None = None,
) -> None:
    """Waits for workflow time to pass, with a timer of the server.

    Args:
        duration: How long, in seconds or as a timedelta.
        summary: One line about the timer for user interfaces.
        event_groups: Groups that it belongs to, for user interfaces (experimental).
    """
    with _attached(event_groups):
        await _Runtime.current().sleep(_seconds(duration), summary=summary)


async def wait_condition(
    fn: Callable[[], bool],
    *,
    timeout: timedelta | float | None = None,
    timeout_summary: str | None = None,
    event_groups: Sequence[EventGroup] | None = None,
) -> None:
    """Waits until a function returns something true. It is called after every step of the workflow, so keep it cheap.

    Args:
        fn: The condition: not async, no parameters.
        timeout: How long to wait at most, in seconds or as a timedelta. None starts no timer, so changing between
            None and a time is a change of the code that running workflows notice. Zero times out at once.
        timeout_summary: One line about the timer for user interfaces.
        event_groups: Groups that the timer belongs to, for user interfaces (experimental).

    Raises:
        asyncio.TimeoutError: the time is over.
    """
    with _attached(event_groups):
        await _Runtime.current().wait_condition(
            fn, timeout=None if timeout is None else _seconds(timeout), timeout_summary=timeout_summary
        )


def _seconds(duration: float | timedelta) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


def patched(
    id: str,
    *,
    event_groups: Sequence[EventGroup] | None = None,
) -> bool:
    """Whether to run the new code of a change that running workflows must not notice.

    True for a run that reaches this point for the first time; a replay is told what it was told then. The answer is
    remembered for the run. When no run of the old code is left, replace the call with `deprecate_patch`.

    Args:
        id: Names the change; the same id may be asked for in several places.
        event_groups: Groups that its marker belongs to, for user interfaces (experimental).
    """
    with _attached(event_groups):
        return _Runtime.current().patch(id, deprecated=False)


def deprecate_patch(
    id: str,
    *,
    event_groups: Sequence[EventGroup] | None = None,
) -> None:
    """Says that only the new code of a change is left. When no run with the patch is left, remove the call."""
    with _attached(event_groups):
        _Runtime.current().patch(id, deprecated=True)


def cancellation_reason() -> str | None:
    """Why the workflow was asked to cancel: the caller's words, maybe empty; None if it was not asked."""
    return _Runtime.current().cancellation_reason()


def is_failure_exception(err: BaseException) -> bool:
    """Whether this exception, when the code raises it, fails the workflow rather than the workflow task."""
    return _Runtime.current().is_failure_exception(err)


def extern_functions() -> Mapping[str, Callable[..., Any]]:
    """Functions that worker interceptors lend to workflow code, by name."""
    return _Runtime.current().extern_functions()


def payload_converter() -> PayloadConverter:
    """The converter for the workflow's own payloads, for raw values in dynamic handlers."""
    return _Runtime.current().payload_converter()


def metric_meter() -> MetricMeter:
    """Makes metrics that are not recorded again when the workflow is replayed."""
    return _Runtime.current().metric_meter()


def memo() -> Mapping[str, Any]:
    """The memo, every value converted without a type; `memo_value` converts with one."""
    return _Runtime.current().memo()


@overload
def memo_value(key: str, default: Any = _arg_unset) -> Any: ...


@overload
def memo_value(key: str, *, type_hint: type[ParamType]) -> ParamType: ...


@overload
def memo_value(key: str, default: AnyType, *, type_hint: type[ParamType]) -> AnyType | ParamType: ...


def memo_value(key: str, default: Any = _arg_unset, *, type_hint: type | None = None) -> Any:
    """One value of the memo.

    Args:
        key: Of the value.
        default: Returned if there is no such key.
        type_hint: To convert into.

    Raises:
        KeyError: there is no such key and no default.
    """
    return _Runtime.current().memo_value(key, default, type_hint=type_hint)


def upsert_memo(
    updates: Mapping[str, Any],
    *,
    event_groups: Sequence[EventGroup] | None = None,
) -> None:
    """Changes the memo: sets the keys that are given, removes those whose value is None, leaves the others."""
    with _attached(event_groups):
        _Runtime.current().upsert_memo(updates)


def upsert_search_attributes(
    attributes: SearchAttributes | Sequence[SearchAttributeUpdate[Any]],
    *,
    event_groups: Sequence[EventGroup] | None = None,
) -> None:
    """Changes search attributes.

    Args:
        attributes: What `value_set` and `value_unset` of search attribute keys return. The dictionary form is
            deprecated; its values may lack in the info's typed search attributes.
        event_groups: Groups that the change belongs to, for user interfaces (experimental).
    """
    if not attributes:
        return
    _warn_on_deprecated_search_attributes(attributes)
    with _attached(event_groups):
        _Runtime.current().upsert_search_attributes(attributes)


def get_current_details() -> str:
    """What `set_current_details` said last."""
    return _Runtime.current().current_details()


def set_current_details(description: str) -> None:
    """Says, for user interfaces, what the workflow is at: lines of Markdown that may change while it runs."""
    _Runtime.current().set_current_details(description)


def has_last_completion_result() -> bool:
    """Whether an earlier run of the same cron schedule or schedule left a result."""
    return _Runtime.current().has_last_completion_result()


@overload
def get_last_completion_result() -> Any | None: ...


@overload
def get_last_completion_result(type_hint: type[ParamType]) -> ParamType | None: ...


def get_last_completion_result(type_hint: type | None = None) -> Any | None:
    """The result of the run before this one; None if there was none, or if it was None."""
    return _Runtime.current().last_completion_result(type_hint)


def get_last_failure() -> BaseException | None:
    """What the run before this one failed with, if it did."""
    return _Runtime.current().last_failure()
