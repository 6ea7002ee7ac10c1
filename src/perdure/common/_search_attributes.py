"""Search attributes as user code names them: typed keys, pairs, updates and collections.

How they become payloads is in `perdure.converter`.
"""

from __future__ import annotations

import itertools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar, get_origin, overload

from perdure.types import AnyType

# Lists and not sequences, because a string is a sequence of strings.
SearchAttributeValues: TypeAlias = list[str] | list[int] | list[float] | list[bool] | list[datetime]
"""The values of one untyped search attribute: a list, also of one."""

SearchAttributes: TypeAlias = Mapping[str, SearchAttributeValues]
"""Untyped search attributes, by name; `TypedSearchAttributes` is what new code takes."""

SearchAttributeValue: TypeAlias = str | int | float | bool | datetime | Sequence[str]
"""What a typed search attribute can be; the sequence is a list of keywords."""

SearchAttributeValueType = TypeVar("SearchAttributeValueType", str, int, float, bool, datetime, Sequence[str])
"""The type of the values of one `SearchAttributeKey`."""


class SearchAttributeIndexedValueType(IntEnum):
    """How the server indexes a search attribute."""

    TEXT = 1
    KEYWORD = 2
    INT = 3
    DOUBLE = 4
    BOOL = 5
    DATETIME = 6
    KEYWORD_LIST = 7


_METADATA_TYPES = {
    SearchAttributeIndexedValueType.TEXT: "Text",
    SearchAttributeIndexedValueType.KEYWORD: "Keyword",
    SearchAttributeIndexedValueType.INT: "Int",
    SearchAttributeIndexedValueType.DOUBLE: "Double",
    SearchAttributeIndexedValueType.BOOL: "Bool",
    SearchAttributeIndexedValueType.DATETIME: "Datetime",
    SearchAttributeIndexedValueType.KEYWORD_LIST: "KeywordList",
}
"""What a payload's metadata says about its type."""

_PYTHON_TYPES: dict[SearchAttributeIndexedValueType, Any] = {
    SearchAttributeIndexedValueType.TEXT: str,
    SearchAttributeIndexedValueType.KEYWORD: str,
    SearchAttributeIndexedValueType.INT: int,
    SearchAttributeIndexedValueType.DOUBLE: float,
    SearchAttributeIndexedValueType.BOOL: bool,
    SearchAttributeIndexedValueType.DATETIME: datetime,
    SearchAttributeIndexedValueType.KEYWORD_LIST: Sequence[str],
}

# Servers write the short names; some of their tools write the names of the enum.
_TYPES_BY_METADATA = {
    spelling: indexed_type
    for indexed_type, short_name in _METADATA_TYPES.items()
    for spelling in (short_name, f"INDEXED_VALUE_TYPE_{indexed_type.name}")
}

_TYPES_BY_PYTHON_TYPE: tuple[tuple[type, SearchAttributeIndexedValueType], ...] = (
    (str, SearchAttributeIndexedValueType.KEYWORD),
    # Before int, because a boolean is one.
    (bool, SearchAttributeIndexedValueType.BOOL),
    (int, SearchAttributeIndexedValueType.INT),
    (float, SearchAttributeIndexedValueType.DOUBLE),
    (datetime, SearchAttributeIndexedValueType.DATETIME),
)


class SearchAttributeKey(ABC, Generic[SearchAttributeValueType]):
    """Name and type of a search attribute; made by one of the `for_...` methods."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the attribute."""
        ...

    @property
    @abstractmethod
    def indexed_value_type(self) -> SearchAttributeIndexedValueType:
        """How the server indexes it."""
        ...

    @property
    @abstractmethod
    def value_type(self) -> type[SearchAttributeValueType]:
        """The Python type of its values, which may be generic and so of no use to `isinstance`."""
        ...

    @property
    def origin_value_type(self) -> type:
        """The Python type of its values without type arguments."""
        return get_origin(self.value_type) or self.value_type

    @property
    def _metadata_type(self) -> str:
        return _METADATA_TYPES[self.indexed_value_type]

    def value_set(self, value: SearchAttributeValueType) -> SearchAttributeUpdate[SearchAttributeValueType]:
        """Return an update that gives the attribute this value."""
        return _SearchAttributeUpdate[SearchAttributeValueType](self, value)

    def value_unset(self) -> SearchAttributeUpdate[SearchAttributeValueType]:
        """Return an update that removes the attribute."""
        return _SearchAttributeUpdate[SearchAttributeValueType](self, None)

    @staticmethod
    def for_text(name: str) -> SearchAttributeKey[str]:
        """Return the key of a `Text` attribute: words that can be searched for."""
        return _SearchAttributeKey._of(name, SearchAttributeIndexedValueType.TEXT)

    @staticmethod
    def for_keyword(name: str) -> SearchAttributeKey[str]:
        """Return the key of a `Keyword` attribute: a string that is compared as a whole."""
        return _SearchAttributeKey._of(name, SearchAttributeIndexedValueType.KEYWORD)

    @staticmethod
    def for_int(name: str) -> SearchAttributeKey[int]:
        """Return the key of an `Int` attribute."""
        return _SearchAttributeKey._of(name, SearchAttributeIndexedValueType.INT)

    @staticmethod
    def for_float(name: str) -> SearchAttributeKey[float]:
        """Return the key of a `Double` attribute."""
        return _SearchAttributeKey._of(name, SearchAttributeIndexedValueType.DOUBLE)

    @staticmethod
    def for_bool(name: str) -> SearchAttributeKey[bool]:
        """Return the key of a `Bool` attribute."""
        return _SearchAttributeKey._of(name, SearchAttributeIndexedValueType.BOOL)

    @staticmethod
    def for_datetime(name: str) -> SearchAttributeKey[datetime]:
        """Return the key of a `Datetime` attribute."""
        return _SearchAttributeKey._of(name, SearchAttributeIndexedValueType.DATETIME)

    @staticmethod
    def for_keyword_list(name: str) -> SearchAttributeKey[Sequence[str]]:
        """Return the key of a `KeywordList` attribute."""
        return _SearchAttributeKey._of(name, SearchAttributeIndexedValueType.KEYWORD_LIST)

    @staticmethod
    def _from_metadata_type(name: str, metadata_type: str) -> SearchAttributeKey[Any] | None:
        indexed_type = _TYPES_BY_METADATA.get(metadata_type)
        return None if indexed_type is None else _SearchAttributeKey._of(name, indexed_type)

    @staticmethod
    def _guess_from_untyped_values(name: str, vals: SearchAttributeValues) -> SearchAttributeKey[Any] | None:
        if not vals:
            return None
        if len(vals) > 1:
            return SearchAttributeKey.for_keyword_list(name) if isinstance(vals[0], str) else None
        for python_type, indexed_type in _TYPES_BY_PYTHON_TYPE:
            if isinstance(vals[0], python_type):
                return _SearchAttributeKey._of(name, indexed_type)
        return None


@dataclass(frozen=True)
class _SearchAttributeKey(SearchAttributeKey[SearchAttributeValueType]):
    _name: str
    _indexed_value_type: SearchAttributeIndexedValueType
    _value_type: type[SearchAttributeValueType]

    @staticmethod
    def _of(name: str, indexed_type: SearchAttributeIndexedValueType) -> SearchAttributeKey[Any]:
        return _SearchAttributeKey(name, indexed_type, _PYTHON_TYPES[indexed_type])

    @property
    def name(self) -> str:
        return self._name

    @property
    def indexed_value_type(self) -> SearchAttributeIndexedValueType:
        return self._indexed_value_type

    @property
    def value_type(self) -> type[SearchAttributeValueType]:
        return self._value_type


class SearchAttributePair(NamedTuple, Generic[SearchAttributeValueType]):
    """A search attribute's key and its value."""

    key: SearchAttributeKey[SearchAttributeValueType]
    value: SearchAttributeValueType


class SearchAttributeUpdate(ABC, Generic[SearchAttributeValueType]):
    """A change of one search attribute."""

    @property
    @abstractmethod
    def key(self) -> SearchAttributeKey[SearchAttributeValueType]:
        """The attribute."""
        ...

    @property
    @abstractmethod
    def value(self) -> SearchAttributeValueType | None:
        """Its new value, or None to remove it."""
        ...


@dataclass(frozen=True)
class _SearchAttributeUpdate(SearchAttributeUpdate[SearchAttributeValueType]):
    _key: SearchAttributeKey[SearchAttributeValueType]
    _value: SearchAttributeValueType | None

    @property
    def key(self) -> SearchAttributeKey[SearchAttributeValueType]:
        return self._key

    @property
    def value(self) -> SearchAttributeValueType | None:
        return self._value


@dataclass(frozen=True)
class TypedSearchAttributes(Collection[SearchAttributePair[Any]]):
    """Search attributes with typed keys; it cannot be changed."""

    search_attributes: Sequence[SearchAttributePair[Any]]
    """The pairs, sorted by the names of their keys; each name occurs once."""

    empty: ClassVar[TypedSearchAttributes]
    """The collection without attributes."""

    def __post_init__(self) -> None:
        """Sort the pairs.

        Raises:
            ValueError: Two pairs have keys of the same name.
        """
        pairs = sorted(self.search_attributes, key=lambda pair: pair.key.name)
        for before, pair in itertools.pairwise(pairs):
            if before.key.name == pair.key.name:
                raise ValueError(
                    f"Duplicate search attribute entries found for key {pair.key.name}: give each name once"
                )
        object.__setattr__(self, "search_attributes", pairs)

    def __len__(self) -> int:
        """Return the number of attributes."""
        return len(self.search_attributes)

    def __getitem__(self, key: SearchAttributeKey[SearchAttributeValueType]) -> SearchAttributeValueType:
        """Return the value of an attribute.

        Raises:
            KeyError: There is no attribute of this name and type.
        """
        for pair_key, value in self.search_attributes:
            if pair_key == key and value is not None:
                return value  # type: ignore[no-any-return]
        raise KeyError(key.name)

    def __iter__(self) -> Iterator[SearchAttributePair[Any]]:
        """Return an iterator over the pairs."""
        return iter(self.search_attributes)

    def __contains__(self, key: object) -> bool:
        """Tell whether there is an attribute of this name and type."""
        return any(pair_key == key for pair_key, _ in self.search_attributes)

    @overload
    def get(self, key: SearchAttributeKey[SearchAttributeValueType]) -> SearchAttributeValueType | None: ...

    @overload
    def get(
        self, key: SearchAttributeKey[SearchAttributeValueType], default: AnyType
    ) -> SearchAttributeValueType | AnyType: ...

    def get(self, key: SearchAttributeKey[Any], default: Any | None = None) -> Any:
        """Return the value of an attribute, or the default."""
        try:
            return self[key]
        except KeyError:
            return default

    def updated(self, *search_attributes: SearchAttributePair[Any]) -> TypedSearchAttributes:
        """Return a copy in which the given pairs replace those of the same name or are added."""
        pairs = {pair.key.name: pair for pair in self.search_attributes}
        pairs.update((pair.key.name, pair) for pair in search_attributes)
        return TypedSearchAttributes(list(pairs.values()))


TypedSearchAttributes.empty = TypedSearchAttributes(search_attributes=[])


def _warn_on_deprecated_search_attributes(
    attributes: SearchAttributes | Any | None, stack_level: int = 2
) -> None:
    """Warn when search attributes are given as a mapping."""
    if attributes and isinstance(attributes, Mapping):
        warnings.warn(
            "Dictionary-based search attributes are deprecated; pass perdure.common.TypedSearchAttributes",
            DeprecationWarning,
            stacklevel=1 + stack_level,
        )
