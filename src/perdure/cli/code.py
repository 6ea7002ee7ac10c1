"""Finding a user's workflows and activities: `module`, or `module:name`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from perdure.cli.errors import EXIT_NOT_FOUND, CommandError


@dataclass
class CodeOfModule:
    """What a module has for workers.

    Attributes:
        workflows: classes with `@workflow.defn`.
        activities: functions with `@activity.defn`.
        services: classes of Nexus service handlers.
    """

    workflows: list[type] = field(default_factory=list)
    activities: list[Callable[..., Any]] = field(default_factory=list)
    services: list[type] = field(default_factory=list)

    @property
    def needs_threads(self) -> bool:
        """Whether an activity is no coroutine."""
        return not all(inspect.iscoroutinefunction(each) for each in self.activities)


def load(code: str) -> CodeOfModule:
    """Imports a module and finds what workers run.

    Args:
        code: `module`, or `module:name` where the name is a class, a function, or a list of them.

    Raises:
        CommandError: there is no such module or name, or importing it fails.
    """
    module_name, _, name = code.removesuffix(".py").replace("/", ".").partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name and not module_name.startswith(f"{error.name}."):
            raise
        raise CommandError(
            f"there is no module {module_name} in this folder or installed", EXIT_NOT_FOUND
        ) from error
    found = CodeOfModule()
    if not name:
        _take(found, vars(module).values())
        return found
    try:
        named = getattr(module, name)
    except AttributeError:
        raise CommandError(f"the module {module_name} has no {name}", EXIT_NOT_FOUND) from None
    _take(found, named if isinstance(named, list | tuple | set) else [named])
    return found


def _take(found: CodeOfModule, values: Iterable[Any]) -> None:
    from perdure.activity import _Definition as ActivityDefinition
    from perdure.workflow import _Definition as WorkflowDefinition

    for value in values:
        if isinstance(value, type):
            if WorkflowDefinition.from_class(value) is not None and value not in found.workflows:
                found.workflows.append(value)
            elif "__nexus_service_definition__" in vars(value) and _handles(value):
                found.services.append(value)
        elif (
            callable(value)
            and ActivityDefinition.from_callable(value) is not None
            and value not in found.activities
        ):
            found.activities.append(value)


def _handles(service: type) -> bool:
    """Whether a class of `nexusrpc` is a handler, and not only the description of a service."""
    return any(hasattr(each, "__nexus_operation_factory__") for each in vars(service).values())
