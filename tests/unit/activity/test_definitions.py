"""Activity definitions: what can be decorated, what is remembered, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from perdure import activity
from perdure.activity import _Definition
from perdure.common import RawValue


@activity.defn
async def async_activity(number: int, text: str) -> bool:
    """An activity."""
    return bool(number and text)


@activity.defn(name="other", no_thread_cancel_exception=True)
def sync_activity() -> None:
    """Another."""


class Callable_:  # noqa: N801
    """An activity that is an object."""

    async def __call__(self, number: int) -> int:
        return number


class Methods:
    """An object with an activity."""

    @activity.defn
    def method(self, number: int) -> int:
        return number


def test_a_definition_remembers_name_kind_and_types() -> None:
    definition = _Definition.must_from_callable(async_activity)
    assert (definition.name, definition.is_async, definition.no_thread_cancel_exception) == (
        *("async_activity", True, False),
    )
    assert definition.arg_types == [int, str]
    assert definition.ret_type is bool


def test_name_and_options_are_kept() -> None:
    definition = _Definition.must_from_callable(sync_activity)
    assert (definition.name, definition.is_async, definition.no_thread_cancel_exception) == (
        *("other", False, True),
    )


def test_a_bound_method_is_called_on_its_object() -> None:
    definition = _Definition.must_from_callable(Methods().method)
    assert definition.fn(3) == 3
    assert definition.arg_types == [int]


def test_an_object_whose_call_is_async_is_async() -> None:
    target = Callable_()
    activity.defn(name="object")(target)
    definition = _Definition.must_from_callable(target)
    assert definition.is_async
    assert definition.arg_types == [int]


def _keyword_only(*, number: int) -> None: ...


def _not_raw(number: int) -> None: ...


@pytest.mark.parametrize(
    ("target", "options", "error", "message"),
    [
        (async_activity, {}, ValueError, "already contains activity definition"),
        (_keyword_only, {}, TypeError, "keyword-only"),
        (_not_raw, {"dynamic": True}, TypeError, r"Sequence\[perdure.common.RawValue\]"),
        (3, {"name": "three"}, TypeError, "not callable"),
    ],
)
def test_what_cannot_be_an_activity_is_refused(
    target: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        activity.defn(**options)(target)


def test_a_dynamic_activity_has_no_name() -> None:
    async def any_activity(args: Sequence[RawValue]) -> None: ...

    any_activity.__annotations__["args"] = Sequence[RawValue]
    activity.defn(dynamic=True)(any_activity)
    with pytest.raises(ValueError, match="has no name"):
        _Definition.get_name_and_result_type(any_activity)


def test_a_function_without_decorator_is_named() -> None:
    with pytest.raises(TypeError, match="Activity _not_raw missing attributes"):
        _Definition.must_from_callable(_not_raw)


def test_functions_say_when_there_is_no_activity() -> None:
    assert not activity.in_activity()
    for function in (activity.info, activity.heartbeat, activity.is_cancelled, activity.client):
        with pytest.raises(RuntimeError, match="Not in activity context"):
            function()
