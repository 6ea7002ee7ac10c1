"""The kinds of items that a run's state has beside its header: how the store names and encodes each of them.

One row per kind, and what goes through all of them. No rule about what an item means: that is its primitive's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from perdure.api.history.v1 import HistoryEvent
from perdure.core.invariant import invariant
from perdure.core.run.records import RunKey
from perdure.core.run.state import (
    Activity,
    Callback,
    Child,
    External,
    NexusOperation,
    RunHeader,
    RunState,
    Stored,
    Timer,
    Update,
    decoder,
    encode,
)

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class ItemKind(Generic[Key, Item]):
    """One kind of items.

    Attributes:
        name: the store's name of it; it is in databases and may not change.
        attribute: the mapping of `RunState`, and the overlay of `Transition`, that holds them.
        key_text, key_of: a key as the store has it, and back.
        encode, decode: an item as the store has it, and back.
    """

    name: str
    attribute: str
    key_text: Callable[[Key], str]
    key_of: Callable[[str], Key]
    encode: Callable[[Item], bytes]
    decode: Callable[[bytes], Item]


def _by_id(name: str, attribute: str, record: type[Stored]) -> ItemKind[str, Stored]:
    return ItemKind(name, attribute, str, str, encode, decoder(record))


def _by_number(name: str, attribute: str, record: type[Stored]) -> ItemKind[int, Stored]:
    return ItemKind(name, attribute, str, int, encode, decoder(record))


ACTIVITY = _by_number("activity", "activities", Activity)
TIMER = _by_id("timer", "timers", Timer)
BUFFERED: ItemKind[int, HistoryEvent] = ItemKind(
    "buffered", "buffered", "{:09d}".format, int, HistoryEvent.SerializeToString, HistoryEvent.FromString
)
SIGNAL: ItemKind[str, int] = ItemKind("signal", "signal_request_ids", str, str, lambda _: b"", lambda _: 0)
REQUEST: ItemKind[str, int] = ItemKind(
    "request", "attached_requests", str, str, lambda event_id: str(event_id).encode(), int
)
CHILD = _by_number("child", "children", Child)
EXTERNAL = _by_number("external", "externals", External)
NEXUS_OPERATION = _by_number("nexus", "nexus_operations", NexusOperation)
CALLBACK = _by_number("callback", "callbacks", Callback)
UPDATE = _by_id("update", "updates", Update)
BLOB: ItemKind[str, bytes] = ItemKind("blob", "blobs", str, str, bytes, bytes)

KINDS: dict[str, ItemKind[Any, Any]] = {
    kind.name: kind
    for kind in (
        ACTIVITY,
        TIMER,
        BUFFERED,
        SIGNAL,
        REQUEST,
        CHILD,
        EXTERNAL,
        NEXUS_OPERATION,
        CALLBACK,
        UPDATE,
        BLOB,
    )
}
"""Every kind by its name in the store."""


_header = decoder(RunHeader)


def encoded_items(state: RunState) -> Iterator[tuple[str, str, bytes]]:
    """All items of a run as the store has them: name of the kind, key, data."""
    for kind in KINDS.values():
        for key, item in getattr(state, kind.attribute).items():
            yield kind.name, kind.key_text(key), kind.encode(item)


def decode_run(
    run: RunKey, version: int, header: bytes, items: Iterable[tuple[str, str, bytes]], wakeup_ns: int | None
) -> RunState:
    """A run's state from what the store keeps of it: its header, and its items as `encoded_items` gives them.

    Raises:
        msgspec.DecodeError: a part of it cannot be read.
    """
    state = RunState(run, version, _header(header), wakeup_ns)
    for name, key, data in items:
        invariant(name in KINDS, "unknown kind of item", kind=name, run=run)
        kind = KINDS[name]
        getattr(state, kind.attribute)[kind.key_of(key)] = kind.decode(data)
    return state
