"""Workflow classes: the decorators, and what they find out about a class once, when it is defined.

Nothing here knows a running workflow; client, worker and executor read the definitions.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from perdure.common import RawValue, VersioningBehavior, _type_hints_from_func
from perdure.types import CallableAsyncType, CallableType, ClassType, MethodSyncNoParam, SelfType
from perdure.workflow._handlers import (
    QUERY_ATTRIBUTE,
    SIGNAL_ATTRIBUTE,
    UpdateMethodMultiParam,
    _QueryDefinition,
    _SignalDefinition,
    _UpdateDefinition,
)

DEFINITION_ATTRIBUTE = "__perdure_workflow_definition"
RUN_ATTRIBUTE = "__perdure_workflow_run"
INIT_ATTRIBUTE = "__perdure_workflow_init"
DYNAMIC_CONFIG_ATTRIBUTE = "__perdure_workflow_dynamic_config"

_HandlerDefinition = TypeVar("_HandlerDefinition", _SignalDefinition, _QueryDefinition, _UpdateDefinition)


@dataclass(frozen=True)
class DynamicWorkflowConfig:
    """What a method decorated with `dynamic_config` returns: settings for this run of a dynamic workflow."""

    failure_exception_types: Sequence[type[BaseException]] | None = None
    """As the argument of `defn`, which it overrides unless it is None."""
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED
    """As the argument of `defn`, which it always overrides."""


@overload
def defn(cls: ClassType) -> ClassType: ...


@overload
def defn(
    *,
    name: str | None = None,
    sandboxed: bool = True,
    failure_exception_types: Sequence[type[BaseException]] = [],
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED,
) -> Callable[[ClassType], ClassType]: ...


@overload
def defn(
    *,
    sandboxed: bool = True,
    dynamic: bool = False,
    failure_exception_types: Sequence[type[BaseException]] = [],
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED,
) -> Callable[[ClassType], ClassType]: ...


def defn(
    cls: Any = None,
    *,
    name: str | None = None,
    sandboxed: bool = True,
    dynamic: bool = False,
    failure_exception_types: Sequence[type[BaseException]] = [],
    versioning_behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED,
) -> Any:
    """Makes a class a workflow. Every class that is registered with a worker needs it, whatever its bases have.

    Args:
        cls: The class, when the decorator is used without arguments.
        name: Workflow type; the class's own name by default. Not together with `dynamic`.
        sandboxed: Accepted so that code moves over unchanged; there is no sandbox.
        dynamic: Run every workflow type that has no class of its own. `run` then takes one `Sequence[RawValue]`.
        failure_exception_types: Exceptions that, when the code raises them, end the workflow or update as failed
            instead of failing the workflow task, in addition to the worker's. `Exception` stands for all.
        versioning_behavior: When runs move to another version of the worker.

    Returns:
        The class, or a decorator for it.

    Raises:
        ValueError: the class is no valid workflow; all reasons are named.
        TypeError: a dynamic workflow does not take one `Sequence[RawValue]`.
    """

    def decorate(cls: type) -> type:
        _Definition._apply_to_class(
            cls,
            workflow_name=None if dynamic else name or cls.__name__,
            sandboxed=sandboxed,
            failure_exception_types=failure_exception_types,
            versioning_behavior=versioning_behavior,
        )
        return cls

    return decorate if cls is None else decorate(cls)


def init(init_fn: CallableType) -> CallableType:
    """Makes `__init__` take the workflow's arguments; its parameters must be those of `run`.

    Args:
        init_fn: The `__init__` method.

    Returns:
        The same method.

    Raises:
        ValueError: it is another method.
    """
    if init_fn.__name__ != "__init__":
        raise ValueError("@workflow.init may only be used on the __init__ method")
    setattr(init_fn, INIT_ATTRIBUTE, True)
    return init_fn


def run(fn: CallableAsyncType) -> CallableAsyncType:
    """Makes an async method the workflow's code. Exactly one method of the class itself has it.

    It takes positional parameters only; best is one object that can get more fields later.

    Args:
        fn: The method.

    Returns:
        The same method.

    Raises:
        ValueError: it is not async, or its class is defined inside a function.
    """
    is_async = inspect.iscoroutinefunction(fn)
    if not is_async:
        raise ValueError("Workflow run method must be an async function")
    if "<locals>" in fn.__qualname__:
        raise ValueError(
            "Local classes unsupported, @workflow.run cannot be on a local class: "
            "define the class at the top level of a module"
        )
    setattr(fn, RUN_ATTRIBUTE, True)
    return fn


def dynamic_config(
    fn: MethodSyncNoParam[SelfType, DynamicWorkflowConfig],
) -> MethodSyncNoParam[SelfType, DynamicWorkflowConfig]:
    """Makes a method choose the settings of a dynamic workflow for each run, after `__init__` and before `run`.

    Args:
        fn: The method: not async, no parameters but `self`.

    Returns:
        The same method.

    Raises:
        ValueError: it is async or has other parameters.
    """
    if inspect.iscoroutinefunction(fn):
        raise ValueError("Workflow dynamic_config method must be synchronous")
    if len(inspect.signature(fn).parameters) != 1:
        raise ValueError("Workflow dynamic_config method must only take self parameter")
    setattr(fn, DYNAMIC_CONFIG_ATTRIBUTE, True)
    return fn


@dataclass(frozen=True)
class _Definition:
    """Everything there is to know about a workflow class. `name` is None for the dynamic one."""

    name: str | None
    cls: type
    run_fn: Callable[..., Awaitable[Any]]
    signals: Mapping[str | None, _SignalDefinition]
    queries: Mapping[str | None, _QueryDefinition]
    updates: Mapping[str | None, _UpdateDefinition]
    sandboxed: bool
    failure_exception_types: Sequence[type[BaseException]]
    # Read from the signature when both are None.
    arg_types: list[type] | None = None
    ret_type: type | None = None
    versioning_behavior: VersioningBehavior | None = None
    dynamic_config_fn: Callable[..., DynamicWorkflowConfig] | None = None

    def __post_init__(self) -> None:
        if self.arg_types is not None or self.ret_type is not None:
            return
        arg_types, ret_type = _type_hints_from_func(self.run_fn)
        if self.name is None and arg_types != [Sequence[RawValue]]:
            raise TypeError("Dynamic workflow must accept a single Sequence[perdure.common.RawValue]")
        object.__setattr__(self, "arg_types", arg_types)
        object.__setattr__(self, "ret_type", ret_type)

    @staticmethod
    def from_class(cls: type) -> _Definition | None:
        """The definition of exactly this class, not of a base."""
        definition = getattr(cls, DEFINITION_ATTRIBUTE, None)
        return definition if isinstance(definition, _Definition) and definition.cls == cls else None

    @staticmethod
    def must_from_class(cls: type) -> _Definition:
        """The definition of exactly this class.

        Raises:
            ValueError: it has none.
        """
        definition = _Definition.from_class(cls)
        if definition is None:
            called = getattr(cls, "__name__", "<unknown>")
            raise ValueError(f"Workflow {called} missing attributes, was it decorated with @workflow.defn?")
        return definition

    @staticmethod
    def from_run_fn(fn: Callable[..., Awaitable[Any]]) -> _Definition | None:
        """The definition of the class whose `run` this is."""
        return getattr(fn, DEFINITION_ATTRIBUTE, None)

    @staticmethod
    def must_from_run_fn(fn: Callable[..., Awaitable[Any]]) -> _Definition:
        """The definition of the class whose `run` this is.

        Raises:
            ValueError: it is the `run` of no workflow class.
        """
        definition = _Definition.from_run_fn(fn)
        if definition is None:
            called = getattr(fn, "__qualname__", "<unknown>")
            raise ValueError(
                f"Function {called} missing attributes, was it decorated with @workflow.run "
                "and was its class decorated with @workflow.defn?"
            )
        return definition

    @classmethod
    def get_name_and_result_type(
        cls, name_or_run_fn: str | Callable[..., Awaitable[Any]]
    ) -> tuple[str, type | None]:
        """The workflow type to start, and the type of its result when that is known.

        Raises:
            ValueError: the function is the `run` of no workflow class, or of a dynamic one.
            TypeError: it is neither a name nor a function.
        """
        if isinstance(name_or_run_fn, str):
            return name_or_run_fn, None
        if not callable(name_or_run_fn):
            raise TypeError("Workflow must be a string or callable")
        definition = cls.must_from_run_fn(name_or_run_fn)
        if not definition.name:
            raise ValueError("Cannot invoke dynamic workflow explicitly")
        return definition.name, definition.ret_type

    @staticmethod
    def _apply_to_class(
        cls: type,
        *,
        workflow_name: str | None,
        sandboxed: bool,
        failure_exception_types: Sequence[type[BaseException]],
        versioning_behavior: VersioningBehavior,
    ) -> None:
        if _Definition.from_class(cls) is not None:
            raise ValueError("Class already contains workflow definition")
        found = _Findings(cls, workflow_name)
        found.read_members()
        found.read_bases()
        run_fn = found.checked_run_fn()
        definition = _Definition(
            name=workflow_name,
            cls=cls,
            run_fn=run_fn,
            signals=found.signals,
            queries=found.queries,
            updates=found.updates,
            sandboxed=sandboxed,
            failure_exception_types=failure_exception_types,
            versioning_behavior=versioning_behavior,
            dynamic_config_fn=found.dynamic_config_fn,
        )
        setattr(cls, DEFINITION_ATTRIBUTE, definition)
        setattr(run_fn, DEFINITION_ATTRIBUTE, definition)


@dataclass
class _Findings:
    """What a class that is being defined holds, and everything that is wrong with it."""

    cls: type
    workflow_name: str | None
    signals: dict[str | None, _SignalDefinition] = field(default_factory=dict)
    queries: dict[str | None, _QueryDefinition] = field(default_factory=dict)
    updates: dict[str | None, _UpdateDefinition] = field(default_factory=dict)
    run_fn: Callable[..., Awaitable[Any]] | None = None
    init_fn: Callable[..., None] | None = None
    dynamic_config_fn: Callable[..., DynamicWorkflowConfig] | None = None
    saw_run: bool = False
    issues: list[str] = field(default_factory=list)

    def read_members(self) -> None:
        """Looks at everything the class has, inherited or not."""
        for name, member in inspect.getmembers(self.cls):
            if hasattr(member, RUN_ATTRIBUTE):
                self._take_run(name, member)
            elif hasattr(member, SIGNAL_ATTRIBUTE):
                self._take_handler("signal", name, getattr(member, SIGNAL_ATTRIBUTE), self.signals)
            elif hasattr(member, QUERY_ATTRIBUTE):
                self._take_handler("query", name, getattr(member, QUERY_ATTRIBUTE), self.queries)
            elif name == "__init__" and hasattr(member, INIT_ATTRIBUTE):
                self.init_fn = member
            elif hasattr(member, DYNAMIC_CONFIG_ATTRIBUTE):
                self._take_dynamic_config(member)
            elif isinstance(member, UpdateMethodMultiParam):
                self._take_update(name, member._defn)

    def read_bases(self) -> None:
        """Looks for methods that override a decorated one and lack its decorator."""
        for method in _methods_of_bases(self.cls):
            if hasattr(method, RUN_ATTRIBUTE):
                self.saw_run = True
                if self.run_fn is None or method.__name__ != self.run_fn.__name__:
                    self._missing_on_override("run", method)
            elif hasattr(method, SIGNAL_ATTRIBUTE):
                if getattr(method, SIGNAL_ATTRIBUTE).name not in self.signals:
                    self._missing_on_override("signal", method)
            elif hasattr(method, QUERY_ATTRIBUTE):
                if getattr(method, QUERY_ATTRIBUTE).name not in self.queries:
                    self._missing_on_override("query", method)
            elif isinstance(method, UpdateMethodMultiParam):
                if method._defn.name not in self.updates:
                    self._missing_on_override("update", method)

    def checked_run_fn(self) -> Callable[..., Awaitable[Any]]:
        """The `run` method of a class with which nothing is wrong.

        Raises:
            ValueError: something is; everything is named.
        """
        if not self.saw_run:
            self.issues.append("Missing @workflow.run method")
        if self.init_fn and self.run_fn and not _parameters_identical_up_to_naming(self.init_fn, self.run_fn):
            self.issues.append("@workflow.init and @workflow.run method parameters do not match")
        if len(self.issues) == 1:
            raise ValueError(f"Invalid workflow class: {self.issues[0]}")
        if self.issues or self.run_fn is None:
            raise ValueError(
                f"Invalid workflow class for {len(self.issues)} reasons: {', '.join(self.issues)}"
            )
        return self.run_fn

    def _take_run(self, name: str, member: Callable[..., Awaitable[Any]]) -> None:
        self.saw_run = True
        if not _is_unbound_method_on_cls(member, self.cls):
            self.issues.append(f"@workflow.run method {name} must be defined on {self.cls.__qualname__}")
        elif self.run_fn is not None:
            self.issues.append(
                f"Multiple @workflow.run methods found (at least on {name} and {self.run_fn.__name__})"
            )
        else:
            self.run_fn = member

    def _take_handler(
        self,
        kind: str,
        name: str,
        definition: _HandlerDefinition,
        known: dict[str | None, _HandlerDefinition],
    ) -> bool:
        other = known.setdefault(definition.name, definition)
        if other is definition:
            return True
        self.issues.append(
            f"Multiple {kind} methods found for {definition.name or '<dynamic>'} "
            f"(at least on {name} and {other.fn.__name__})"
        )
        return False

    def _take_update(self, name: str, definition: _UpdateDefinition) -> None:
        if not self._take_handler("update", name, definition, self.updates):
            return
        validator = definition.validator
        if validator is not None and not _parameters_identical_up_to_naming(definition.fn, validator):
            self.issues.append(
                f"Update validator method {validator.__name__} parameters do not match "
                f"update method {definition.fn.__name__} parameters"
            )

    def _take_dynamic_config(self, member: Callable[..., DynamicWorkflowConfig]) -> None:
        if self.workflow_name:
            self.issues.append(
                "@workflow.dynamic_config can only be used in dynamic workflows, but "
                f"workflow class {self.workflow_name} ({self.cls.__name__}) is not dynamic"
            )
        if self.dynamic_config_fn is not None:
            self.issues.append("@workflow.dynamic_config can only be defined once per workflow")
        self.dynamic_config_fn = member

    def _missing_on_override(self, kind: str, method: Any) -> None:
        self.issues.append(f"@workflow.{kind} defined on {method.__qualname__} but not on the override")


def _methods_of_bases(cls: type) -> Iterator[Any]:
    for base in inspect.getmro(cls)[1:]:
        for _, member in inspect.getmembers(base, inspect.isfunction):
            if _is_unbound_method_on_cls(member, base):
                yield member


def _parameters_identical_up_to_naming(fn1: Callable[..., Any], fn2: Callable[..., Any]) -> bool:
    """Whether two functions take the same parameters, whatever they are called."""

    def shapes(fn: Callable[..., Any]) -> list[tuple[Any, Any, Any]]:
        return [(p.kind, p.default, p.annotation) for p in inspect.signature(fn).parameters.values()]

    return shapes(fn1) == shapes(fn2)


def _is_unbound_method_on_cls(fn: Callable[..., Any], cls: type) -> bool:
    """Whether the function was written in the body of this class."""
    return (
        inspect.isfunction(fn)
        and inspect.getmodule(fn) is inspect.getmodule(cls)
        and fn.__qualname__.rsplit(".", 1)[0] == cls.__name__
    )
