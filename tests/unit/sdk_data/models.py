"""Types that the tests of data conversion convert, and strategies that make values of types."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import Enum, IntEnum, StrEnum
from typing import Any, Literal, NewType, Optional, TypedDict
from uuid import UUID

from hypothesis import strategies as st


class Level(IntEnum):
    """An enum of numbers."""

    LOW = 1
    HIGH = 2


class Colour(StrEnum):
    """An enum of strings."""

    RED = "red"
    BLUE = "blue"


class Mood(str, Enum):  # noqa: UP042 - this spelling is what is tested
    """An enum that mixes in strings the old way."""

    GOOD = "good"


class Plain(Enum):
    """An enum that JSON cannot hold."""

    ONE = "one"


CustomerName = NewType("CustomerName", str)


@dataclass
class Line:
    """A small class."""

    sku: str
    quantity: int = 1
    level: Level = Level.LOW


@dataclass(frozen=True)
class Frozen:
    """A class that cannot be changed, with a field that its constructor does not take."""

    name: str
    size: int = field(init=False, default=0)


@dataclass
class Tree:
    """A class that contains itself."""

    value: int
    children: list[Tree] = field(default_factory=list)
    left: Tree | None = None
    tag: UUID | None = None


@dataclass
class Order:
    """A class with a bit of everything."""

    name: CustomerName
    placed: datetime
    lines: list[Line]
    by_sku: dict[str, Line]
    colour: Colour | None = None
    pair: tuple[int, str] = (1, "a")


class Options(TypedDict, total=False):
    """A typed dictionary."""

    name: str
    line: Line


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)

# Fixed offsets: the name of a zone does not travel.
_offsets = st.integers(-720, 720).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_datetimes = st.datetimes() | st.datetimes(timezones=_offsets)
_lines = st.builds(Line, st.text(), st.integers(), st.sampled_from(Level))
_trees = st.recursive(
    st.builds(Tree, st.integers(), tag=st.none() | st.uuids()),
    lambda inner: st.builds(
        Tree, st.integers(), st.lists(inner, max_size=2), st.none() | inner, st.none() | st.uuids()
    ),
    max_leaves=6,
)

LEAVES: tuple[tuple[Any, st.SearchStrategy[Any]], ...] = (
    (int, st.integers()),
    (float, st.floats(allow_nan=False)),
    (bool, st.booleans()),
    (str, st.text()),
    (bytes, st.binary()),
    (datetime, _datetimes),
    (UUID, st.uuids()),
    (Level, st.sampled_from(Level)),
    (Colour, st.sampled_from(Colour)),
    (Mood, st.sampled_from(Mood)),
    (CustomerName, st.text()),
    (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    (Line, _lines),
    (Tree, _trees),
    (
        Order,
        st.builds(
            Order,
            st.text(),
            _datetimes,
            st.lists(_lines, max_size=3),
            st.dictionaries(st.text(), _lines, max_size=3),
            st.none() | st.sampled_from(Colour),
            st.tuples(st.integers(), st.text()),
        ),
    ),
    (Options, st.fixed_dictionaries({}, optional={"name": st.text(), "line": _lines})),
    (Any, JSON_VALUES),
    (type(None), st.none()),
)


def _generic(origin: Any, *arguments: Any) -> Any:
    return origin[arguments if len(arguments) > 1 else arguments[0]]


_HASHABLE = (int, str, bool, Level, Colour, UUID)

_Wrapper = Callable[[Any, st.SearchStrategy[Any]], tuple[Any, st.SearchStrategy[Any]]]

_WRAPPERS: tuple[_Wrapper, ...] = (
    lambda hint, values: (_generic(list, hint), st.lists(values, max_size=3)),
    lambda hint, values: (_generic(Sequence, hint), st.lists(values, max_size=3)),
    lambda hint, values: (_generic(Iterable, hint), st.lists(values, max_size=3)),
    lambda hint, values: (_generic(tuple, hint, ...), st.lists(values, max_size=3).map(tuple)),
    lambda hint, values: (_generic(tuple, int, hint), st.tuples(st.integers(), values)),
    lambda hint, values: (
        _generic(collections.deque, hint),
        st.lists(values, max_size=3).map(collections.deque),
    ),
    lambda hint, values: (_generic(dict, str, hint), st.dictionaries(st.text(), values, max_size=3)),
    lambda hint, values: (_generic(Mapping, int, hint), st.dictionaries(st.integers(), values, max_size=3)),
    lambda hint, values: (_generic(Optional, hint), st.none() | values),
)


@st.composite
def hints_with_values(draw: st.DrawFn) -> tuple[Any, Any]:
    """Draw a type hint and a value of that type."""
    hint, values = draw(st.sampled_from(LEAVES))
    if hint in _HASHABLE and draw(st.booleans()):
        kind = draw(st.sampled_from([set, frozenset]))
        return _generic(kind, hint), draw(st.lists(values, max_size=3).map(kind))
    # What JSON makes of bytes and times depends on the hint alone, so those are wrapped like everything else.
    for _ in range(draw(st.integers(0, 3))):
        hint, values = draw(st.sampled_from(_WRAPPERS))(hint, values)
    return hint, draw(values)


HINTS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([hint for hint, _ in LEAVES] + [Plain, Frozen, object, list, dict, tuple, set, complex]),
    lambda inner: st.builds(
        lambda hint, other, wrap: wrap(hint, other),
        inner,
        inner,
        st.sampled_from(
            (
                lambda hint, other: _generic(list, hint),
                lambda hint, other: _generic(set, hint),
                lambda hint, other: _generic(dict, str, hint),
                lambda hint, other: _generic(dict, int, hint),
                lambda hint, other: _generic(Mapping, bool, hint),
                lambda hint, other: _generic(tuple, hint, other),
                lambda hint, other: _generic(tuple, hint, ...),
                lambda hint, other: _generic(Optional, hint),
                lambda hint, other: hint | other if isinstance(hint, type) else _generic(Optional, other),
            )
        ),
    ),
    max_leaves=4,
)
