"""Event groups: names that workflow code gives to commands that belong together, for people who read its history.

Groups ride on commands (field `event_group_markers` of `temporal.api.command.v1.Command`, `temporal.api.sdk.v1.
EventGroupMarker`); nothing else depends on them, so they may change without a patch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from perdure.api.sdk.v1 import EventGroupMarker
from perdure.converter import PayloadConverter
from perdure.workflow._runtime import _Runtime


@dataclass(frozen=True, slots=True)
class _Active:
    """The groups of whatever is asked for now.

    Attributes:
        cause: the signal or update whose handler asks.
        groups: of the code's own, by id, in the order in which they were entered.
    """

    cause: EventGroupMarker | None
    groups: dict[str, EventGroup]

    def markers(self) -> list[EventGroupMarker]:
        """What the commands carry."""
        own = [group._marker for group in self.groups.values()]
        return own if self.cause is None else [self.cause, *own]


_NONE = _Active(None, {})
_active: ContextVar[_Active | None] = ContextVar("perdure_event_groups", default=None)


class EventGroup:
    """A group of commands and of the events that record them. `create_event_group` makes it (experimental)."""

    __slots__ = ("_id", "_marker")

    def __init__(self, id: str, marker: EventGroupMarker) -> None:
        """Only for `create_event_group`."""
        self._id = id
        self._marker = marker

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Puts everything that is asked for inside the block into the group, tasks started there included.

        Scopes add up: what is asked for in an inner one belongs to the outer groups too.
        """
        _Runtime.current()
        with _attached((self,)):
            yield


def create_event_group(id: str, *, label: str | None = None) -> EventGroup:
    """Makes a group, to be given as one of the `event_groups` of what is asked for, or entered with `scope`.

    Args:
        id: Not empty. What has the same id belongs to the same group. It stands in history as it is.
        label: What user interfaces show, not empty; it goes through the payload codec.

    Raises:
        ValueError: the id or the label is empty.
    """
    _Runtime.current()
    if not id:
        raise ValueError("Event group id cannot be empty")
    if label is not None and not label:
        raise ValueError("Event group label cannot be empty")
    marker = EventGroupMarker(label=EventGroupMarker.Label(id=id))
    if label is not None:
        # Who shows it knows nothing of the application's own converter.
        marker.label.label.CopyFrom(PayloadConverter.default.to_payload(label))
    return EventGroup(id, marker)


class _attached:  # noqa: N801 (it stands in `with` statements only)
    """Puts what is asked for inside the block into groups as well; not made by a generator, as it is on hot paths.

    Raises:
        TypeError: one of them is no event group.
    """

    __slots__ = ("_before", "_groups")

    def __init__(self, groups: Sequence[EventGroup] | None) -> None:
        self._groups = groups

    def __enter__(self) -> None:
        groups = self._groups
        if not groups:
            return
        for group in groups:
            if not isinstance(group, EventGroup):
                raise TypeError(
                    f"event_groups takes what workflow.create_event_group() returns, not {type(group).__name__}"
                )
        self._before = _active.get()
        base = self._before or _NONE
        _active.set(_Active(base.cause, base.groups | {group._id: group for group in groups}))

    def __exit__(self, *_: object) -> None:
        if self._groups:
            # Not by a token: a coroutine that is closed where it waits leaves the block in another context.
            _active.set(self._before)


def _set_cause(marker: EventGroupMarker) -> None:
    """From here on, in this context, a signal or an update is why things are asked for; other groups do not count."""
    _active.set(_Active(marker, {}))


def _current_markers() -> list[EventGroupMarker] | None:
    """What commands asked for now carry; None for nothing."""
    active = _active.get()
    return None if active is None or active is _NONE else active.markers()
