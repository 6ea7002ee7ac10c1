"""The activities that a worker has registered, checked once when the worker is made."""

from __future__ import annotations

import inspect
import pickle
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from perdure.activity import _Definition
from perdure.exceptions import ApplicationError
from perdure.worker._shared_state import SharedStateManager


@dataclass(frozen=True)
class Registered:
    """A registered activity.

    Attributes:
        definition: What its decorator remembered.
        minimum_arguments: How many arguments it must be given.
        maximum_arguments: How many it can be given; None for any number.
        parameters: Its parameters as written, for messages.
        required: Names of the parameters without a default.
    """

    definition: _Definition
    minimum_arguments: int
    maximum_arguments: int | None
    parameters: str
    required: tuple[str, ...] = ()

    def check_count(self, count: int) -> None:
        """Check that it can be called with so many arguments.

        Raises:
            ApplicationError: It cannot; the message ends with what Python would say.
        """
        most = self.maximum_arguments
        if count >= self.minimum_arguments and (most is None or count <= most):
            return
        name = getattr(self.definition.fn, "__name__", self.definition.name)
        missing = self.required[count:]
        if missing:
            plural = "s" if len(missing) > 1 else ""
            names = " and ".join(repr(parameter) for parameter in missing)
            problem = f"{name}() missing {len(missing)} required positional argument{plural}: {names}"
        else:
            problem = f"{name}() takes at most {most} positional arguments but {count} were given"
        raise ApplicationError(
            f"Activity {self.definition.name}{self.parameters} was scheduled with {count} arguments; pass what it "
            f"declares, or register the version of it that its workflow expects: {problem}",
            type="TypeError",
        )


class ActivityRegistry:
    """Finds activities by name.

    Args:
        activities: As given to the worker.
        executor: Where `def` activities run.
        shared_state_manager: For executors that are not thread pools.

    Raises:
        TypeError: Something is no activity, a class instead of an object, or cannot be pickled for its executor.
        ValueError: A name is there twice, or a `def` activity has nowhere to run.
    """

    def __init__(
        self,
        activities: Sequence[Callable[..., Any]],
        executor: Executor | None,
        shared_state_manager: SharedStateManager | None,
    ) -> None:
        self._by_name: dict[str, Registered] = {}
        self._dynamic: Registered | None = None
        for activity in activities:
            definition = _Definition.must_from_callable(activity)
            if definition.name in self._by_name:
                raise ValueError(f"More than one activity named {definition.name}")
            _check_callable(activity, definition)
            if not definition.is_async:
                _check_executor(activity, definition, executor, shared_state_manager)
            self._add(definition)

    def _add(self, definition: _Definition) -> None:
        registered = _with_arity(definition)
        if definition.name:
            self._by_name[definition.name] = registered
        elif self._dynamic is not None:
            raise TypeError("More than one dynamic activity")
        else:
            self._dynamic = registered

    @property
    def names(self) -> list[str]:
        """The names that are registered, sorted."""
        return sorted(self._by_name)

    def knows(self, name: str) -> bool:
        """Return whether anything runs for an activity of this name."""
        return name in self._by_name or self._dynamic is not None

    def find(self, name: str, workflow_id: str) -> Registered:
        """Return what runs for an activity of this name.

        Raises:
            ApplicationError: Nothing does.
        """
        registered = self._by_name.get(name, self._dynamic)
        if registered is None:
            raise ApplicationError(
                f"Activity function {name} for workflow {workflow_id} is not registered on this worker, "
                f"available activities: {', '.join(self.names)}. Pass it to Worker(activities=[...])",
                type="NotFoundError",
            )
        return registered

    def check_local(self, name: str) -> None:
        """Check that a workflow can run this activity as a local one.

        Raises:
            ValueError: It is not registered here.
        """
        if self._dynamic is None and name not in self._by_name:
            raise ValueError(
                f"Activity function {name} is not registered on this worker, "
                f"available activities: {', '.join(self.names)}. Pass it to Worker(activities=[...])"
            )


def _check_callable(activity: Callable[..., Any], definition: _Definition) -> None:
    if inspect.isclass(activity):
        raise TypeError(f"Activity named {definition.name} is a class instead of an instance")
    if inspect.isfunction(activity) and next(iter(inspect.signature(activity).parameters), "") == "self":
        warnings.warn(
            f"Activity named {definition.name} has a first parameter named self but is not bound to an instance, "
            "did you mean to register it from an instance of the class?",
            stacklevel=2,
        )


def _check_executor(
    activity: Callable[..., Any],
    definition: _Definition,
    executor: Executor | None,
    shared_state_manager: SharedStateManager | None,
) -> None:
    if executor is None:
        raise ValueError(
            f"Activity {definition.name} is not async so an activity_executor must be present: make it `async def`, or "
            "pass one that runs it beside the worker, such as concurrent.futures.ThreadPoolExecutor(100)"
        )
    if not isinstance(executor, ThreadPoolExecutor) and shared_state_manager is None:
        raise ValueError(
            f"Activity {definition.name} is not async and executor is not thread-pool executor, "
            "so a shared_state_manager must be present"
        )
    if isinstance(executor, ProcessPoolExecutor):
        try:
            pickle.dumps(activity)
        except Exception as error:  # pickling runs any code and raises anything
            raise TypeError(
                f"Activity {definition.name} must be picklable when using a process executor"
            ) from error


def _with_arity(definition: _Definition) -> Registered:
    try:
        signature = inspect.signature(definition.fn)
    except ValueError:
        # Some callables written in C have none.
        return Registered(definition, 0, None, "...")
    maximum = 0
    required: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return Registered(definition, len(required), None, str(signature), tuple(required))
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            maximum += 1
            if parameter.default is inspect.Parameter.empty:
                required.append(parameter.name)
    return Registered(definition, len(required), maximum, str(signature), tuple(required))
