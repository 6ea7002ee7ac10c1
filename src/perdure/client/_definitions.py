"""Names and result types of the functions a caller names workflows, handlers and activities by.

May live here: the one place that looks into decorated functions. May not: what is done with the names.
`perdure.workflow` and `perdure.activity` are imported with the first function that is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def workflow_name_and_type(workflow: str | Callable[..., Any]) -> tuple[str, type | None]:
    """Return the name of a workflow and the type of its result.

    Args:
        workflow: The workflow's name, or its method decorated with `@workflow.run`.

    Raises:
        ValueError: It is not such a method, or that of a dynamic workflow.
        TypeError: It is neither a name nor a function.
    """
    if isinstance(workflow, str):
        return workflow, None
    from perdure.workflow import _Definition

    return _Definition.get_name_and_result_type(workflow)


def run_method_type(workflow: Callable[..., Any]) -> type | None:
    """Return the type of the result of a method decorated with `@workflow.run`."""
    from perdure.workflow import _Definition

    return _Definition.must_from_run_fn(workflow).ret_type


def signal_name(signal: str | Callable[..., Any]) -> str:
    """Return the name of a signal."""
    if isinstance(signal, str):
        return signal
    from perdure.workflow import _SignalDefinition

    return _SignalDefinition.must_name_from_fn_or_str(signal)


def query_name_and_type(query: str | Callable[..., Any]) -> tuple[str, type | None]:
    """Return the name of a query and the type of its answer.

    Raises:
        RuntimeError: It is not a method decorated with `@workflow.query`, or that of a dynamic query.
    """
    if not callable(query):
        return str(query), None
    from perdure.workflow import _QueryDefinition

    definition = _QueryDefinition.from_fn(query)
    if definition is None:
        name = getattr(query, "__qualname__", repr(query))
        raise RuntimeError(f"Query definition not found on {name}, is it decorated with @workflow.query?")
    if not definition.name:
        raise RuntimeError("Cannot invoke dynamic query definition: give the query's name as a string")
    return definition.name, definition.ret_type


def update_name_and_type(update: str | Callable[..., Any]) -> tuple[str, type | None]:
    """Return the name of an update and the type of its answer."""
    if isinstance(update, str):
        return update, None
    from perdure.workflow import _UpdateDefinition

    return _UpdateDefinition.get_name_and_result_type(update)


def activity_name_and_type(activity: str | Callable[..., Any]) -> tuple[str, type | None]:
    """Return the name of an activity and the type of its result."""
    if isinstance(activity, str):
        return activity, None
    from perdure.activity import _Definition

    return _Definition.get_name_and_result_type(activity)
