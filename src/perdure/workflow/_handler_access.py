"""Signal, query and update handlers of the running workflow: reading and replacing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.workflow._runtime import _Runtime


def get_signal_handler(name: str) -> Callable[..., Any] | None:
    """The handler of this signal, however it was set; never the dynamic one."""
    return _Runtime.current().signal_handler(name)


def set_signal_handler(name: str, handler: Callable[..., Any] | None) -> None:
    """Sets the handler of this signal, and gives it the signals that arrived without one; None takes it away."""
    _Runtime.current().set_signal_handler(name, handler)


def get_dynamic_signal_handler() -> Callable[..., Any] | None:
    """The handler of signals that have no handler of their own."""
    return _Runtime.current().signal_handler(None)


def set_dynamic_signal_handler(handler: Callable[..., Any] | None) -> None:
    """Sets the handler of signals without their own, and gives it those that waited; None takes it away."""
    _Runtime.current().set_signal_handler(None, handler)


def get_query_handler(name: str) -> Callable[..., Any] | None:
    """The handler of this query, however it was set; never the dynamic one."""
    return _Runtime.current().query_handler(name)


def set_query_handler(name: str, handler: Callable[..., Any] | None) -> None:
    """Sets the handler of this query; None takes it away."""
    _Runtime.current().set_query_handler(name, handler)


def get_dynamic_query_handler() -> Callable[..., Any] | None:
    """The handler of queries that have no handler of their own."""
    return _Runtime.current().query_handler(None)


def set_dynamic_query_handler(handler: Callable[..., Any] | None) -> None:
    """Sets the handler of queries without their own; None takes it away."""
    _Runtime.current().set_query_handler(None, handler)


def get_update_handler(name: str) -> Callable[..., Any] | None:
    """The handler of this update, however it was set; never the dynamic one."""
    return _Runtime.current().update_handler(name)


def set_update_handler(
    name: str, handler: Callable[..., Any] | None, *, validator: Callable[..., Any] | None = None
) -> None:
    """Sets the handler of this update and its validator (not async); None takes both away."""
    _Runtime.current().set_update_handler(name, handler, validator)


def get_dynamic_update_handler() -> Callable[..., Any] | None:
    """The handler of updates that have no handler of their own."""
    return _Runtime.current().update_handler(None)


def set_dynamic_update_handler(
    handler: Callable[..., Any] | None, *, validator: Callable[..., Any] | None = None
) -> None:
    """Sets the handler of updates without their own and its validator (not async); None takes both away."""
    _Runtime.current().set_update_handler(None, handler, validator)


def all_handlers_finished() -> bool:
    """Whether no signal or update handler is running: worth waiting for before the workflow ends."""
    return _Runtime.current().all_handlers_finished()
