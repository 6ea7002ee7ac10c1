"""How a function, method or callable object becomes an activity: `defn` and what it remembers.

Everything that needs reflection happens here, once per definition; running an activity needs none.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

CallableType = TypeVar("CallableType", bound=Callable[..., Any])

DEFINITION_ATTRIBUTE = "__temporal_activity_definition"


@overload
def defn(fn: CallableType) -> CallableType: ...


@overload
def defn(
    *, name: str | None = None, no_thread_cancel_exception: bool = False
) -> Callable[[CallableType], CallableType]: ...


@overload
def defn(
    *, no_thread_cancel_exception: bool = False, dynamic: bool = False
) -> Callable[[CallableType], CallableType]: ...


def defn(
    fn: CallableType | None = None,
    *,
    name: str | None = None,
    no_thread_cancel_exception: bool = False,
    dynamic: bool = False,
) -> CallableType | Callable[[CallableType], CallableType]:
    """Make a function, method or `__call__` an activity. It may be async or not.

    Args:
        fn: The function.
        name: Name of the activity; by default the function's own. Not for dynamic activities.
        no_thread_cancel_exception: Do not throw an exception into the thread of a cancelled `def` activity.
        dynamic: Run for every activity name that nothing else is registered for. It takes one parameter,
            `Sequence[perdure.common.RawValue]`.

    Raises:
        TypeError: It is not callable, has keyword-only parameters, or is dynamic with other parameters.
        ValueError: It is an activity already.
    """

    def decorate(target: CallableType) -> CallableType:
        Definition._apply_to_callable(
            target,
            activity_name=None if dynamic else name or target.__name__,
            no_thread_cancel_exception=no_thread_cancel_exception,
        )
        return target

    return decorate if fn is None else decorate(fn)


@dataclass(frozen=True)
class Definition:
    """What `defn` remembers about an activity.

    Attributes:
        name: None for a dynamic activity.
        fn: What to call, bound to its object where there is one.
        is_async: Whether calling it makes a coroutine.
        no_thread_cancel_exception: As given to `defn`.
        arg_types: Types of the parameters, without `self`; None if any is missing.
        ret_type: Type that it returns; None if it does not say.
    """

    name: str | None
    fn: Callable[..., Any]
    is_async: bool
    no_thread_cancel_exception: bool
    arg_types: list[type] | None = None
    ret_type: type | None = None

    @staticmethod
    def from_callable(fn: Callable[..., Any]) -> Definition | None:
        """Return the definition of a decorated callable; None if it is not decorated."""
        definition = getattr(fn, DEFINITION_ATTRIBUTE, None)
        if not isinstance(definition, Definition):
            return None
        if definition.fn is fn:
            return definition
        # What is given may be a bound method or an object whose method was decorated.
        return dataclasses.replace(definition, fn=fn)

    @staticmethod
    def must_from_callable(fn: Callable[..., Any]) -> Definition:
        """Return the definition of a decorated callable.

        Raises:
            TypeError: It is not decorated.
        """
        definition = Definition.from_callable(fn)
        if definition is None:
            fn_name = getattr(fn, "__name__", "<unknown>")
            raise TypeError(f"Activity {fn_name} missing attributes, was it decorated with @activity.defn?")
        return definition

    @classmethod
    def get_name_and_result_type(cls, name_or_run_fn: str | Callable[..., Any]) -> tuple[str, type | None]:
        """Return name and result type of an activity given by name (then no type) or as a callable.

        Raises:
            TypeError: Neither a name nor a decorated callable.
            ValueError: A dynamic activity, which has no name.
        """
        if isinstance(name_or_run_fn, str):
            return name_or_run_fn, None
        given: Any = name_or_run_fn
        if not callable(given):
            raise TypeError("Activity must be a string or callable")
        definition = cls.must_from_callable(given)
        if not definition.name:
            raise ValueError(f"Activity {name_or_run_fn} definition has no name")
        return definition.name, definition.ret_type

    @staticmethod
    def _apply_to_callable(
        fn: Callable[..., Any], *, activity_name: str | None, no_thread_cancel_exception: bool = False
    ) -> None:
        if hasattr(fn, DEFINITION_ATTRIBUTE):
            raise ValueError("Function already contains activity definition")
        given: Any = fn
        if not callable(given):
            raise TypeError("Activity is not callable")
        for parameter in inspect.signature(fn).parameters.values():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                raise TypeError("Activity cannot have keyword-only arguments")
        definition = Definition(activity_name, fn, is_async_callable(fn), no_thread_cancel_exception)
        setattr(fn, DEFINITION_ATTRIBUTE, definition)

    def __post_init__(self) -> None:
        """Read the type hints, unless they are given."""
        if self.arg_types is not None or self.ret_type is not None:
            return
        from perdure.common import RawValue, _type_hints_from_func

        arg_types, ret_type = _type_hints_from_func(self.fn)
        if self.name is None and arg_types != [Sequence[RawValue]]:
            raise TypeError(
                "Dynamic activity must accept a single Sequence[perdure.common.RawValue]; "
                f"{getattr(self.fn, '__name__', self.fn)} does not"
            )
        object.__setattr__(self, "arg_types", arg_types)
        object.__setattr__(self, "ret_type", ret_type)


def is_async_callable(fn: Callable[..., Any]) -> bool:
    """Return whether calls return coroutines: those of functions, or of an object or class with an async `__call__`."""
    call = getattr(fn, "__call__", None)  # noqa: B004 - a class is asked for its objects' method
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call)
