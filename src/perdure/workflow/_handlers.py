"""Signal, query and update handlers: the decorators, what they record on a method, and the methods bound to a run.

Nothing here knows a running workflow; the executor reads the definitions.
"""

from __future__ import annotations

import inspect
import typing
import warnings
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Literal, Protocol, overload, runtime_checkable

from perdure.common import RawValue, _type_hints_from_func
from perdure.types import (
    CallableSyncOrAsyncReturnNoneType,
    CallableType,
    MultiParamSpec,
    ProtocolReturnType,
    ReturnType,
)

SIGNAL_ATTRIBUTE = "__perdure_signal_definition"
QUERY_ATTRIBUTE = "__perdure_query_definition"

_RAW_VALUES = (Sequence[RawValue], typing.Sequence[RawValue])


class HandlerUnfinishedPolicy(Enum):
    """What happens when a workflow ends while one of its signal or update handlers is still running."""

    WARN_AND_ABANDON = 1
    """Say so with a warning, and abandon the handler."""
    ABANDON = 2
    """Abandon the handler quietly. The caller of an abandoned update gets an error."""


class UnfinishedUpdateHandlersWarning(RuntimeWarning):
    """The workflow ended while update handlers were running."""


class UnfinishedSignalHandlersWarning(RuntimeWarning):
    """The workflow ended while signal handlers were running."""


@dataclass(frozen=True)
class _SignalDefinition:
    """A signal handler. `name` is None for the dynamic one; types are read from the signature when not given."""

    name: str | None
    fn: Callable[..., Awaitable[None] | None]
    is_method: bool
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON
    description: str | None = None
    arg_types: list[type] | None = None
    dynamic_vararg: bool = False

    def __post_init__(self) -> None:
        if self.arg_types is None:
            _fill_types(self)

    @staticmethod
    def from_fn(fn: Callable[..., Any]) -> _SignalDefinition | None:
        """What @workflow.signal recorded on the function, if anything."""
        return getattr(fn, SIGNAL_ATTRIBUTE, None)

    @staticmethod
    def must_name_from_fn_or_str(signal: str | Callable[..., Any]) -> str:
        """The name under which to send the signal.

        Raises:
            RuntimeError: the function is no signal handler, or the dynamic one.
        """
        if not callable(signal):
            return str(signal)
        definition = _SignalDefinition.from_fn(signal)
        if definition is None:
            called = getattr(signal, "__qualname__", repr(signal))
            raise RuntimeError(
                f"Signal definition not found on {called}, is it decorated with @workflow.signal?"
            )
        if not definition.name:
            raise RuntimeError("Cannot invoke dynamic signal definition")
        return definition.name

    def bind_fn(self, obj: Any) -> Callable[..., Any]:
        """The handler as a method of this instance."""
        return _bind_method(obj, self.fn)


@dataclass(frozen=True)
class _QueryDefinition:
    """A query handler. `name` is None for the dynamic one; types are read from the signature when not given."""

    name: str | None
    fn: Callable[..., Any]
    is_method: bool
    description: str | None = None
    arg_types: list[type] | None = None
    ret_type: type | None = None
    dynamic_vararg: bool = False

    def __post_init__(self) -> None:
        if self.arg_types is None and self.ret_type is None:
            object.__setattr__(self, "ret_type", _fill_types(self))

    @staticmethod
    def from_fn(fn: Callable[..., Any]) -> _QueryDefinition | None:
        """What @workflow.query recorded on the function, if anything."""
        return getattr(fn, QUERY_ATTRIBUTE, None)

    def bind_fn(self, obj: Any) -> Callable[..., Any]:
        """The handler as a method of this instance."""
        return _bind_method(obj, self.fn)


@dataclass(frozen=True)
class _UpdateDefinition:
    """An update handler. `name` is None for the dynamic one; types are read from the signature when not given."""

    name: str | None
    fn: Callable[..., Any | Awaitable[Any]]
    is_method: bool
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON
    description: str | None = None
    arg_types: list[type] | None = None
    ret_type: type | None = None
    validator: Callable[..., None] | None = None
    dynamic_vararg: bool = False

    def __post_init__(self) -> None:
        if self.arg_types is not None:
            return
        object.__setattr__(self, "ret_type", _fill_types(self))
        if self.dynamic_vararg:
            raise RuntimeError("Dynamic updates do not support a vararg third param, use Sequence[RawValue]")

    def bind_fn(self, obj: Any) -> Callable[..., Any]:
        """The handler as a method of this instance."""
        return _bind_method(obj, self.fn)

    def bind_validator(self, obj: Any) -> Callable[..., Any]:
        """The validator as a method of this instance; one that lets everything pass if there is none."""
        if self.validator is None:
            return _let_pass
        return _bind_method(obj, self.validator)

    def set_validator(self, validator: Callable[..., None]) -> None:
        """Records the validator, of which there is at most one.

        Raises:
            RuntimeError: there is one already.
            ValueError: it is an async function, which nobody would await.
        """
        if self.validator is not None:
            raise RuntimeError(f"Validator already set for update {self.name}")
        if inspect.iscoroutinefunction(validator):
            raise ValueError("Update validator must not be an async function")
        object.__setattr__(self, "validator", validator)

    @classmethod
    def get_name_and_result_type(cls, name_or_update_fn: str | Callable[..., Any]) -> tuple[str, type | None]:
        """The name under which to send the update, and the type of its result when that is known.

        Raises:
            RuntimeError: the function is the dynamic handler.
        """
        if not isinstance(name_or_update_fn, UpdateMethodMultiParam):
            return str(name_or_update_fn), None
        definition = name_or_update_fn._defn
        if not definition.name:
            raise RuntimeError("Cannot invoke dynamic update definition")
        return definition.name, definition.ret_type


def _fill_types(definition: _SignalDefinition | _QueryDefinition | _UpdateDefinition) -> type | None:
    """Reads argument types from the signature, checks the shape of a dynamic handler; the type of the result."""
    arg_types, ret_type = _type_hints_from_func(definition.fn)
    if not definition.name:
        takes_raw_values = _assert_dynamic_handler_args(definition.fn, arg_types, definition.is_method)
        object.__setattr__(definition, "dynamic_vararg", not takes_raw_values)
    object.__setattr__(definition, "arg_types", arg_types)
    return ret_type


def _let_pass(*args: Any, **kwargs: Any) -> None:
    return None


def _bind_method(obj: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the instance as its first argument; still recognisable as async if it is."""
    return partial(fn, obj)


def _assert_dynamic_handler_args(
    fn: Callable[..., Any], arg_types: list[type] | None, is_method: bool
) -> bool:
    """True for a dynamic handler that takes raw values, False for the older form with varargs.

    Raises:
        RuntimeError: it has neither form.
    """
    parameters = list(inspect.signature(fn).parameters.values())
    if len(parameters) == (3 if is_method else 2):
        name, rest = parameters[-2:]
        if name.kind is name.POSITIONAL_OR_KEYWORD and rest.kind is rest.VAR_POSITIONAL:
            return False
    if not arg_types or len(arg_types) != 2 or arg_types[0] is not str or arg_types[1] not in _RAW_VALUES:
        raise RuntimeError("Dynamic handler must have 3 arguments: self, str, and Sequence[RawValue]")
    return True


def _check_naming(name: str | None, dynamic: bool | None) -> None:
    if name is not None and dynamic:
        raise RuntimeError("Cannot provide name and dynamic boolean")


@overload
def signal(fn: CallableSyncOrAsyncReturnNoneType) -> CallableSyncOrAsyncReturnNoneType: ...


@overload
def signal(
    *,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Callable[[CallableSyncOrAsyncReturnNoneType], CallableSyncOrAsyncReturnNoneType]: ...


@overload
def signal(
    *,
    name: str,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Callable[[CallableSyncOrAsyncReturnNoneType], CallableSyncOrAsyncReturnNoneType]: ...


@overload
def signal(
    *,
    dynamic: Literal[True],
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Callable[[CallableSyncOrAsyncReturnNoneType], CallableSyncOrAsyncReturnNoneType]: ...


def signal(
    fn: Any = None,
    *,
    name: str | None = None,
    dynamic: bool | None = False,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Any:
    """Makes a method, async or not, the handler of a signal. What it returns is ignored.

    A method that overrides a handler must be decorated too.

    Args:
        fn: The method, when the decorator is used without arguments.
        name: Of the signal; the method's own name by default.
        dynamic: Handle every signal that has no handler of its own. The method then takes `self`, the name as a
            `str` and a `Sequence[RawValue]`.
        unfinished_policy: What happens if the workflow ends while the handler runs.
        description: A short text that user interfaces may show.

    Returns:
        The method, or a decorator for it.

    Raises:
        RuntimeError: `name` and `dynamic` are both given, or a dynamic handler has the wrong parameters.
    """

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        definition = _SignalDefinition(
            name=None if dynamic else name or fn.__name__,
            fn=fn,
            is_method=True,
            unfinished_policy=unfinished_policy,
            description=description,
        )
        setattr(fn, SIGNAL_ATTRIBUTE, definition)
        if definition.dynamic_vararg:
            warnings.warn(
                "Dynamic signals with vararg third param is deprecated, use Sequence[RawValue]",
                DeprecationWarning,
                stacklevel=2,
            )
        return fn

    _check_naming(name, dynamic)
    return decorate if fn is None else decorate(fn)


@overload
def query(fn: CallableType) -> CallableType: ...


@overload
def query(*, name: str, description: str | None = None) -> Callable[[CallableType], CallableType]: ...


@overload
def query(
    *, dynamic: Literal[True], description: str | None = None
) -> Callable[[CallableType], CallableType]: ...


@overload
def query(*, description: str) -> Callable[[CallableType], CallableType]: ...


def query(
    fn: Any = None,
    *,
    name: str | None = None,
    dynamic: bool | None = False,
    description: str | None = None,
) -> Any:
    """Makes a method (not async) the handler of a query. It must not change the workflow's state.

    A method that overrides a handler must be decorated too.

    Args:
        fn: The method, when the decorator is used without arguments.
        name: Of the query; the method's own name by default.
        dynamic: Handle every query that has no handler of its own. The method then takes `self`, the name as a
            `str` and a `Sequence[RawValue]`.
        description: A short text that user interfaces may show.

    Returns:
        The method, or a decorator for it.

    Raises:
        RuntimeError: nothing is given, `name` and `dynamic` are both given, or a dynamic handler has the wrong
            parameters.
    """

    def decorate(fn: Callable[..., Any], stacklevel: int = 2) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(fn):
            warnings.warn(
                "Queries as async def functions are deprecated", DeprecationWarning, stacklevel=stacklevel
            )
        definition = _QueryDefinition(
            name=None if dynamic else name or fn.__name__, fn=fn, is_method=True, description=description
        )
        setattr(fn, QUERY_ATTRIBUTE, definition)
        if definition.dynamic_vararg:
            warnings.warn(
                "Dynamic queries with vararg third param is deprecated, use Sequence[RawValue]",
                DeprecationWarning,
                stacklevel=stacklevel,
            )
        return fn

    _check_naming(name, dynamic)
    if fn is not None:
        return decorate(fn, stacklevel=3)
    if name is None and not dynamic and not description:
        raise RuntimeError("Cannot create query without function or name or dynamic")
    return decorate


@runtime_checkable
class UpdateMethodMultiParam(Protocol[MultiParamSpec, ProtocolReturnType]):
    """What a method becomes when it is decorated with @workflow.update."""

    _defn: _UpdateDefinition

    def __call__(
        self, *args: MultiParamSpec.args, **kwargs: MultiParamSpec.kwargs
    ) -> ProtocolReturnType | Awaitable[ProtocolReturnType]:
        """Calls the method."""
        ...

    def validator(self, vfunc: Callable[MultiParamSpec, None]) -> Callable[MultiParamSpec, None]:
        """Makes a method (not async) the validator of this update: it raises to reject the arguments."""
        ...


@overload
def update(
    fn: Callable[MultiParamSpec, Awaitable[ReturnType]],
) -> UpdateMethodMultiParam[MultiParamSpec, ReturnType]: ...


@overload
def update(
    fn: Callable[MultiParamSpec, ReturnType],
) -> UpdateMethodMultiParam[MultiParamSpec, ReturnType]: ...


@overload
def update(
    *,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Callable[[Callable[MultiParamSpec, ReturnType]], UpdateMethodMultiParam[MultiParamSpec, ReturnType]]: ...


@overload
def update(
    *,
    name: str,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Callable[[Callable[MultiParamSpec, ReturnType]], UpdateMethodMultiParam[MultiParamSpec, ReturnType]]: ...


@overload
def update(
    *,
    dynamic: Literal[True],
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Callable[[Callable[MultiParamSpec, ReturnType]], UpdateMethodMultiParam[MultiParamSpec, ReturnType]]: ...


def update(
    fn: Any = None,
    *,
    name: str | None = None,
    dynamic: bool | None = False,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
    description: str | None = None,
) -> Any:
    """Makes a method, async or not, the handler of an update; what it returns goes to the caller.

    `@the_method.validator` decorates a method that may reject the arguments. A method that overrides a handler must
    be decorated too.

    Args:
        fn: The method, when the decorator is used without arguments.
        name: Of the update; the method's own name by default.
        dynamic: Handle every update that has no handler of its own. The method then takes `self`, the name as a
            `str` and a `Sequence[RawValue]`.
        unfinished_policy: What happens if the workflow ends while the handler runs.
        description: A short text that user interfaces may show.

    Returns:
        The method, or a decorator for it.

    Raises:
        RuntimeError: `name` and `dynamic` are both given, or a dynamic handler has the wrong parameters.
    """

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        definition = _UpdateDefinition(
            name=None if dynamic else name or fn.__name__,
            fn=fn,
            is_method=True,
            unfinished_policy=unfinished_policy,
            description=description,
        )
        decorated: Any = fn
        decorated._defn = definition
        decorated.validator = partial(_update_validator, definition)
        return fn

    _check_naming(name, dynamic)
    return decorate if fn is None else decorate(fn)


def _update_validator(
    update_def: _UpdateDefinition, fn: Callable[..., None] | None = None
) -> Callable[..., None] | None:
    """What `@the_method.validator` does."""
    if fn is not None:
        update_def.set_validator(fn)
    return fn
