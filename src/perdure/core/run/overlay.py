"""What one transition changed of a run's items, held beside the state until that is committed.

Only the mechanism; what an item means is its primitive's business.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from itertools import filterfalse
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from perdure.core.invariant import invariant
from perdure.core.run.items import ItemKind
from perdure.core.run.state import clone

if TYPE_CHECKING:
    from perdure.core.run.transition import Transition

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class Overlay(Generic[Key, Item]):
    """Changes to a mapping of items, without touching the mapping.

    Args:
        base: the mapping.
        measured: a number of each of its items as far as they are known, kept with the mapping.
    """

    __slots__ = ("_base", "_measured", "changes")

    def __init__(self, base: dict[Key, Item], measured: dict[Key, int]) -> None:
        self._base = base
        self._measured = measured
        self.changes: dict[Key, Item | None] = {}

    def get(self, key: Key) -> Item | None:
        """The item as this transition sees it. Do not modify it: use `edit`."""
        if key in self.changes:
            return self.changes[key]
        return self._base.get(key)

    def edit(self, key: Key) -> Item:
        """A copy of the item, now part of this transition, free to modify."""
        item = self.changes.get(key)
        if item is None:
            invariant(
                key in self._base and key not in self.changes, "edit of an item that is not there", key=key
            )
            item = self.changes[key] = clone(self._base[key])
        return item

    def put(self, key: Key, item: Item) -> None:
        """Adds or replaces an item."""
        self.changes[key] = item

    def delete(self, key: Key) -> None:
        """Removes an item."""
        if key in self._base:
            self.changes[key] = None
        else:
            self.changes.pop(key, None)

    def committed(self, key: Key) -> Item | None:
        """The item before this transition."""
        return self._base.get(key)

    def clear(self) -> None:
        """Removes every item."""
        self.changes = dict.fromkeys(self._base)

    def __iter__(self) -> Iterator[Item]:
        changes = self.changes
        if not changes:
            yield from self._base.values()
            return
        for key, item in self._base.items():
            if key in changes:
                changed = changes[key]
                if changed is not None:
                    yield changed
            else:
                yield item
        for key, new in changes.items():
            if new is not None and key not in self._base:
                yield new

    def __contains__(self, key: Key) -> bool:
        return self.get(key) is not None

    def __len__(self) -> int:
        size = len(self._base)
        if not self.changes:
            return size
        for key, item in self.changes.items():
            size += (item is not None) - (key in self._base)
        return size

    def measure(self, number: Callable[[Item], int]) -> list[int]:
        """A number of each item, in no order. Each transition asks, and a run may have thousands of items, so those of
        committed items are remembered.

        Args:
            number: follows from the item alone; the same for all items of a kind, always.
        """
        base, measured, changes = self._base, self._measured, self.changes
        if len(measured) != len(base):
            for key in filterfalse(measured.__contains__, base):
                measured[key] = number(base[key])
        if not changes:
            return list(measured.values())
        kept = measured.copy()
        for key in changes:
            kept.pop(key, None)
        return [*kept.values(), *(number(item) for item in changes.values() if item is not None)]

    def absorb(self) -> None:
        """Makes the changes part of the mapping."""
        if not self.changes:
            return
        for key, item in self.changes.items():
            self._measured.pop(key, None)
            if item is None:
                self._base.pop(key, None)
            else:
                self._base[key] = item
        self.changes = {}


class Items(Generic[Key, Item]):
    """An attribute of a transition: its overlay over the run's items of one kind, made when it is first asked for,
    because most transitions touch two or three kinds of eleven.

    Args:
        kind: of the items; the attribute must have the name that the state has for them.
    """

    def __init__(self, kind: ItemKind[Key, Item]) -> None:
        self._kind = kind

    def __set_name__(self, owner: type, name: str) -> None:
        invariant(name == self._kind.attribute, "items under another name than in the state", name=name)

    @overload
    def __get__(self, tx: None, owner: type) -> Items[Key, Item]: ...

    @overload
    def __get__(self, tx: Transition, owner: type) -> Overlay[Key, Item]: ...

    def __get__(self, tx: Transition | None, owner: type) -> Items[Key, Item] | Overlay[Key, Item]:
        if tx is None:
            return self
        name = self._kind.attribute
        overlay: Overlay[Key, Item] = Overlay(getattr(tx.state, name), tx.state.measured.setdefault(name, {}))
        tx.__dict__[name] = overlay  # found there, before this descriptor, from now on
        tx.overlays.append((self._kind, overlay))
        return overlay
