"""From what JSON holds to what a type hint asks for.

A hint is looked at once and becomes a plan, a function from a raw value to the value wanted; plans are kept, so
a conversion does no reflection. Nothing here knows payloads.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import inspect
import types
import typing
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, Literal, NewType, TypeVar, get_type_hints

Plan = Callable[[Any], Any]

JSONTypeConverterUnhandled = NewType("JSONTypeConverterUnhandled", object)
"""Type of `JSONTypeConverter.Unhandled`."""

_MAXIMUM_PLANS = 4096


class JSONTypeConverter(ABC):
    """Turns what `json.loads` returned into types that the SDK does not know."""

    Unhandled: ClassVar[JSONTypeConverterUnhandled] = JSONTypeConverterUnhandled(object())
    """What `to_typed_value` returns for a type that is none of its own."""

    @abstractmethod
    def to_typed_value(self, hint: type, value: Any) -> Any | JSONTypeConverterUnhandled | None:
        """Convert a value.

        Args:
            hint: The type asked for.
            value: A scalar, list or dict.

        Returns:
            The converted value, or `Unhandled`.
        """
        raise NotImplementedError


def value_to_type(hint: type, value: Any, custom_converters: Sequence[JSONTypeConverter] = ()) -> Any:
    """Convert what `json.loads` returned to a type.

    Args:
        hint: The type wanted.
        value: A scalar, list or dict.
        custom_converters: Asked first, in order, for every type met on the way.

    Raises:
        TypeError: The value does not fit the type, or the type is not one that can be made from JSON.
    """
    planner = TypePlanner(custom_converters) if custom_converters else _DEFAULT_PLANNER
    return planner.plan(hint)(value)


class TypePlanner:
    """Makes and keeps the plans for one set of custom converters."""

    def __init__(self, custom_converters: Sequence[JSONTypeConverter] = ()) -> None:
        """Create a planner without plans.

        Args:
            custom_converters: Asked first, in order, for every type.
        """
        self._custom_converters = custom_converters
        # By identity, because hints that are equal need not mean the same: `int | float == float | int`,
        # and the first that fits is taken. The hint is kept too, so that its id is not used again.
        self._plans: dict[int, tuple[Any, Plan]] = {}

    def plan(self, hint: Any) -> Plan:
        """Return the function that converts raw values to a type."""
        known = self._plans.get(id(hint))
        if known is not None:
            return known[1]
        plan = self._make(hint)
        if self._custom_converters:
            plan = self._with_custom_converters(hint, plan)
        if len(self._plans) >= _MAXIMUM_PLANS:
            # Somebody makes new hints all the time. Start again rather than grow.
            self._plans.clear()
        self._plans[id(hint)] = (hint, plan)
        return plan

    def _with_custom_converters(self, hint: Any, plan: Plan) -> Plan:
        converters = self._custom_converters

        def convert(value: Any) -> Any:
            for converter in converters:
                converted = converter.to_typed_value(hint, value)
                if converted is not JSONTypeConverter.Unhandled:
                    return converted
            return plan(value)

        return convert

    def _make(self, hint: Any) -> Plan:
        simple = _SIMPLE_PLANS.get(hint) if isinstance(hint, type) else None
        if simple is not None:
            return simple
        if hint is Any:
            return _unchanged
        supertype = getattr(hint, "__supertype__", None)
        if supertype is not None:
            return self.plan(supertype)
        origin = getattr(hint, "__origin__", hint)
        arguments: tuple[Any, ...] = getattr(hint, "__args__", ())
        if hasattr(hint, "__metadata__"):
            # Annotated[...]: what it annotates counts.
            return self.plan(origin)
        if origin is Literal:
            return _literal_plan(arguments)
        if origin is typing.Union or isinstance(hint, types.UnionType):
            return self._union_plan(hint, arguments)
        if not inspect.isclass(origin):
            return _unserializable_plan(hint)
        return self._class_plan(hint, origin, arguments)

    def _class_plan(self, hint: Any, origin: type, arguments: tuple[Any, ...]) -> Plan:
        if issubclass(origin, Mapping):
            if getattr(origin, "__required_keys__", None) or getattr(origin, "__optional_keys__", None):
                return self._typed_dict_plan(hint, origin)
            return self._mapping_plan(hint, arguments)
        is_plain_class = hint is origin
        if is_plain_class and dataclasses.is_dataclass(hint):
            return self._dataclass_plan(hint)
        if is_plain_class and isinstance(
            inspect.getattr_static(hint, "parse_obj", None), (classmethod, staticmethod)
        ):
            return _parse_obj_plan(hint)
        if is_plain_class and issubclass(origin, Enum):
            for mixed_in, description in _ENUM_BASES:
                if issubclass(origin, mixed_in):
                    return _constructor_plan(hint, mixed_in, description)
        if is_plain_class and issubclass(origin, uuid.UUID):
            return _constructor_plan(hint, str, "a string")
        if issubclass(origin, Iterable):
            return self._iterable_plan(hint, origin, arguments)
        return _unserializable_plan(hint)

    def _union_plan(self, hint: Any, members: tuple[Any, ...]) -> Plan:
        none_is_allowed = type(None) in members and not self._custom_converters
        if none_is_allowed:
            members = tuple(member for member in members if member is not type(None))
        plans = [self.plan(member) for member in members]

        def convert(value: Any) -> Any:
            if value is None and none_is_allowed:
                return None
            reasons = []
            for plan in plans:
                try:
                    return plan(value)
                except Exception as error:  # Whatever a member raises, the next one may fit.
                    reasons.append(str(error))
            raise TypeError(f"Failed converting to {hint} from {_shown(value)}: {'; '.join(reasons)}")

        return convert

    def _mapping_plan(self, hint: Any, arguments: tuple[Any, ...]) -> Plan:
        key_hint, value_hint = (
            None if argument is Any or isinstance(argument, TypeVar) else argument
            for argument in (*arguments, None, None)[:2]
        )
        key_plan = self._key_plan(key_hint) if key_hint else None
        value_plan = self.plan(value_hint) if value_hint else None

        def convert(value: Any) -> dict[Any, Any]:
            if not isinstance(value, Mapping):
                raise TypeError(f"Expected {hint}, value was {type(value)}")
            if key_plan is None and value_plan is None:
                return dict(value)
            converted = {}
            for key, item in value.items():
                if key_plan is not None:
                    try:
                        key = key_plan(key)
                    except Exception as error:  # Whatever it was: say where.
                        raise TypeError(
                            f"Failed converting key {key!r} to type {key_hint} in mapping {hint}: {error}"
                        ) from error
                if value_plan is not None:
                    try:
                        item = value_plan(item)
                    except Exception as error:  # Whatever it was: say where.
                        raise TypeError(
                            f"Failed converting value for key {key!r} in mapping {hint}: {error}"
                        ) from error
                converted[key] = item
            return converted

        return convert

    def _key_plan(self, key_hint: Any) -> Plan | None:
        """Return how keys are converted, which JSON made strings of whatever they were."""
        if key_hint is str and not self._custom_converters:
            return None
        is_class = inspect.isclass(key_hint)
        parse: Callable[[str], Any] | None = _KEY_PARSERS.get(key_hint) if is_class else None
        if parse is None and is_class and issubclass(key_hint, Enum) and issubclass(key_hint, int):
            parse = int
        plan = self.plan(key_hint)

        def convert(key: Any) -> Any:
            if parse is not None and isinstance(key, str):
                key = parse(key)
            return key if is_class and isinstance(key, key_hint) else plan(key)

        return convert

    def _typed_dict_plan(self, hint: Any, origin: type) -> Plan:
        plans: dict[str, Plan] | None = None

        def convert(value: Any) -> Any:
            nonlocal plans
            if not isinstance(value, Mapping):
                raise TypeError(f"Expected {hint}, value was {type(value)}")
            if plans is None:
                plans = {key: self.plan(key_hint) for key, key_hint in get_type_hints(origin).items()}
            converted = dict(value)
            for key, item in value.items():
                if key in plans:
                    try:
                        converted[key] = plans[key](item)
                    except Exception as error:  # Whatever it was: say where.
                        raise TypeError(
                            f"Failed converting value for key {key!r} in mapping {hint}: {error}"
                        ) from error
            return hint(**converted)

        return convert

    def _dataclass_plan(self, hint: Any) -> Plan:
        # Made at the first use, because a dataclass may contain itself.
        plans: list[tuple[str, bool, Plan]] = []
        is_made = False

        def convert(value: Any) -> Any:
            nonlocal is_made
            if not isinstance(value, dict):
                raise TypeError(f"Cannot convert to dataclass {hint}, value is {type(value)} not dict")
            if not is_made:
                hints = get_type_hints(hint)
                plans[:] = [
                    (field.name, field.init, self.plan(hints[field.name]))
                    for field in dataclasses.fields(hint)
                ]
                is_made = True
            arguments = {}
            others = None
            name = ""
            try:
                for name, is_argument, plan in plans:
                    if name in value:
                        if is_argument:
                            arguments[name] = plan(value[name])
                        else:
                            others = others or {}
                            others[name] = plan(value[name])
            except Exception as error:  # Whatever it was: say where.
                raise TypeError(f"Failed converting field {name} on dataclass {hint}: {error}") from error
            # Missing fields without a default are for the class to complain about.
            made = hint(**arguments)
            if others:
                for name, item in others.items():
                    # This way also for frozen classes.
                    object.__setattr__(made, name, item)
            return made

        return convert

    def _iterable_plan(self, hint: Any, origin: type, arguments: tuple[Any, ...]) -> Plan:
        collect = _COLLECTIONS.get(origin, list)
        if origin is tuple and len(arguments) > (2 if arguments[-1:] == (Ellipsis,) else 0):
            return self._tuple_plan(hint, arguments)
        if not arguments or isinstance(arguments[0], TypeVar) or arguments[0] is Ellipsis:
            item_plan = None
        else:
            item_plan = self.plan(arguments[0])

        def convert(value: Any) -> Any:
            if not isinstance(value, Iterable):
                raise TypeError(f"Expected {hint}, value was {type(value)}")
            if item_plan is None:
                return collect(value)
            items: list[Any] = []
            try:
                for item in value:
                    items.append(item_plan(item))
            except Exception as error:  # Whatever it was: say where.
                raise TypeError(f"Failed converting {hint} index {len(items)}: {error}") from error
            return items if collect is list else collect(items)

        return convert

    def _tuple_plan(self, hint: Any, arguments: tuple[Any, ...]) -> Plan:
        """Return the plan of a tuple that names a type for each position."""
        repeats_last = arguments[-1] is Ellipsis
        plans = [self.plan(argument) for argument in arguments if argument is not Ellipsis]

        def convert(value: Any) -> Any:
            if not isinstance(value, Iterable):
                raise TypeError(f"Expected {hint}, value was {type(value)}")
            items: list[Any] = []
            for index, item in enumerate(value):
                if index >= len(plans) and not repeats_last:
                    raise TypeError(
                        f"Type {hint} only expecting {len(plans)} values, got at least {index + 1}"
                    )
                try:
                    items.append(plans[min(index, len(plans) - 1)](item))
                except Exception as error:  # Whatever it was: say where.
                    raise TypeError(f"Failed converting {hint} index {index}: {error}") from error
            return tuple(items)

        return convert


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _unchanged(value: Any) -> Any:
    return value


def _to_int(value: Any) -> int:
    if type(value) is int:
        return value
    if not isinstance(value, (int, float)):
        raise TypeError(f"Expected value to be int|float, was {type(value)}")
    return int(value)


def _to_float(value: Any) -> float:
    if not isinstance(value, (int, float)):
        raise TypeError(f"Expected value to be int|float, was {type(value)}")
    return float(value)


def _to_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"Expected value to be bool, was {type(value)}")
    return value


def _to_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"Expected value to be str, was {type(value)}")
    return value


def _to_bytes(value: Any) -> bytes:
    # JSON holds bytes as a list of numbers.
    if not isinstance(value, (bytes, list)):
        raise TypeError(f"Expected value to be bytes, was {type(value)}")
    return bytes(value)


def _to_none(value: Any) -> None:
    if value is not None:
        raise TypeError(f"Expected None, got value of type {type(value)}")


def _to_datetime(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise TypeError(f"Expected datetime or ISO8601 string, got {type(value)}")
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise TypeError(f"Failed parsing datetime string: {value}") from error


def _literal_plan(values: tuple[Any, ...]) -> Plan:
    def convert(value: Any) -> Any:
        if value not in values:
            raise TypeError(f"Value {_shown(value)} not in literal values {values}")
        return value

    return convert


def _constructor_plan(hint: Any, raw_type: type, description: str) -> Plan:
    """Return the plan of a class that is made from one scalar."""

    def convert(value: Any) -> Any:
        if not isinstance(value, raw_type):
            raise TypeError(f"Cannot convert to {hint}, value not {description}, value is {type(value)}")
        try:
            return hint(value)
        except ValueError as error:
            raise TypeError(f"Cannot convert to {hint}: {error}") from error

    return convert


def _parse_obj_plan(hint: Any) -> Plan:
    """Return the plan of a model of Pydantic 1; those of Pydantic 2 have a converter of their own."""

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"Cannot convert to {hint}, value is {type(value)} not dict")
        return hint.parse_obj(value)

    return convert


def _unserializable_plan(hint: Any) -> Plan:
    def convert(value: Any) -> Any:
        raise TypeError(f"Unserializable type during conversion: {hint}")

    return convert


_SIMPLE_PLANS: dict[Any, Plan] = {
    int: _to_int,
    float: _to_float,
    bool: _to_bool,
    str: _to_str,
    bytes: _to_bytes,
    datetime: _to_datetime,
    type(None): _to_none,
}

_KEY_PARSERS: dict[Any, Callable[[str], Any]] = {
    int: int,
    float: float,
    bool: {"true": True, "false": False}.__getitem__,
    type(None): {"null": None}.__getitem__,
}

_ENUM_BASES: tuple[tuple[Any, str], ...] = ((int, "an integer"), (str, "a string"))
"""What an enum must also be to have values that JSON can hold."""

_COLLECTIONS: dict[Any, Callable[[Iterable[Any]], Any]] = {
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
}

_DEFAULT_PLANNER = TypePlanner()
