"""Common types: what they refuse, what they become on the wire, what can be pickled."""

from __future__ import annotations

import asyncio
import enum
import pickle
import threading
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest

import perdure.api.enums.v1
import perdure.common
import perdure.exceptions
from perdure.api.common.v1 import Payload
from perdure.api.common.v1 import Priority as PriorityMessage
from perdure.api.common.v1 import RetryPolicy as RetryPolicyMessage
from perdure.common import (
    AutoUpgradeVersioningOverride,
    MetricMeter,
    OneTimeVersioningOverride,
    PinnedVersioningOverride,
    Priority,
    RawValue,
    RetryPolicy,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkerDeploymentVersion,
    _arg_or_args,
    _arg_unset,
    _CompositeEvent,
    _type_hints_from_func,
)

# Our enum, the wire's enum, and the prefix of the wire's names.
ENUMS = (
    (perdure.common.WorkflowIDReusePolicy, "WorkflowIdReusePolicy"),
    (perdure.common.WorkflowIDConflictPolicy, "WorkflowIdConflictPolicy"),
    (perdure.common.ActivityIDReusePolicy, "ActivityIdReusePolicy"),
    (perdure.common.ActivityIDConflictPolicy, "ActivityIdConflictPolicy"),
    (perdure.common.NexusOperationIDReusePolicy, "NexusOperationIdReusePolicy"),
    (perdure.common.NexusOperationIDConflictPolicy, "NexusOperationIdConflictPolicy"),
    (perdure.common.NexusOperationExecutionStatus, "NexusOperationExecutionStatus"),
    (perdure.common.PendingNexusOperationExecutionState, "PendingNexusOperationState"),
    (perdure.common.NexusOperationCancellationState, "NexusOperationCancellationState"),
    (perdure.common.QueryRejectCondition, "QueryRejectCondition"),
    (perdure.common.SearchAttributeIndexedValueType, "IndexedValueType"),
    (perdure.common.VersioningBehavior, "VersioningBehavior"),
    (perdure.exceptions.ApplicationErrorCategory, "ApplicationErrorCategory"),
    (perdure.exceptions.TimeoutType, "TimeoutType"),
    (perdure.exceptions.RetryState, "RetryState"),
)


@pytest.mark.parametrize(("ours", "wire_name"), ENUMS)
def test_numbers_are_those_of_the_wire(ours: type[enum.IntEnum], wire_name: str) -> None:
    wire = getattr(perdure.api.enums.v1, wire_name)
    names = {number: name for name, number in wire.items()}
    for member in ours:
        assert names[member.value].endswith(f"_{member.name}")
    assert {number for number in wire.values() if number} == {member.value for member in ours if member.value}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (RetryPolicy(initial_interval=timedelta(seconds=-1)), "Initial interval cannot be negative"),
        (RetryPolicy(backoff_coefficient=0.9), "Backoff coefficient cannot be less than 1"),
        (RetryPolicy(maximum_interval=timedelta(seconds=-1)), "Maximum interval cannot be negative"),
        (
            RetryPolicy(maximum_interval=timedelta(milliseconds=1)),
            "Maximum interval cannot be less than initial",
        ),
        (RetryPolicy(maximum_attempts=-1), "Maximum attempts cannot be negative"),
    ],
)
def test_a_retry_policy_that_contradicts_itself_is_refused(policy: RetryPolicy, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy.apply_to_proto(RetryPolicyMessage())


def test_a_retry_policy_that_retries_nothing_is_not_examined() -> None:
    RetryPolicy(initial_interval=timedelta(seconds=-1), maximum_attempts=1).apply_to_proto(
        RetryPolicyMessage()
    )


def test_a_retry_policy_survives_the_wire_and_pickle() -> None:
    policy = RetryPolicy(timedelta(seconds=2), 1.5, timedelta(seconds=30), 7, ["Bad", "Worse"])
    message = RetryPolicyMessage()
    policy.apply_to_proto(message)
    assert pickle.loads(pickle.dumps(RetryPolicy.from_proto(message))) == policy
    assert RetryPolicy.from_proto(RetryPolicyMessage()).maximum_interval is None


def test_the_longest_interval_defaults_to_100_initial_ones() -> None:
    message = RetryPolicyMessage()
    RetryPolicy(timedelta(seconds=2)).apply_to_proto(message)
    assert message.maximum_interval.ToTimedelta() == timedelta(seconds=200)


@pytest.mark.parametrize(
    ("key", "error"), [(0, ValueError), (-3, ValueError), (1.0, TypeError), ("1", TypeError)]
)
def test_a_bad_priority_key_is_refused(key: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="priority_key"):
        Priority(priority_key=key)


def test_a_priority_survives_the_wire() -> None:
    priority = Priority(priority_key=2, fairness_key="tenant", fairness_weight=0.5)
    assert Priority._from_proto(priority._to_proto()) == priority
    assert Priority.default._to_proto() == PriorityMessage()
    assert Priority._from_proto(PriorityMessage()) == Priority.default


def test_a_version_survives_its_canonical_form() -> None:
    version = WorkerDeploymentVersion.from_canonical_string("orders.1.2.3")
    assert (version.deployment_name, version.build_id) == ("orders", "1.2.3")
    assert version.to_canonical_string() == "orders.1.2.3"
    with pytest.raises(ValueError, match="<deployment_name>.<build_id>"):
        WorkerDeploymentVersion.from_canonical_string("orders")


def test_versioning_overrides_say_what_they_mean_on_the_wire() -> None:
    version = WorkerDeploymentVersion("orders", "1")
    assert PinnedVersioningOverride(version)._to_proto().pinned_version == "orders.1"
    assert PinnedVersioningOverride(version)._to_proto().pinned.version.build_id == "1"
    assert AutoUpgradeVersioningOverride()._to_proto().auto_upgrade
    assert OneTimeVersioningOverride(version)._to_proto().one_time.target_deployment_version.build_id == "1"


def test_a_raw_value_can_be_pickled() -> None:
    raw = RawValue(Payload(metadata={"encoding": b"x"}, data=b"y"))
    assert pickle.loads(pickle.dumps(raw)) == raw
    with pytest.raises(ValueError, match="version"):
        raw.__setstate__(b"9")
    with pytest.raises(TypeError, match="bytes"):
        raw.__setstate__("1")


def test_typed_search_attributes_are_a_sorted_mapping_by_key() -> None:
    size, name = SearchAttributeKey.for_int("size"), SearchAttributeKey.for_keyword("name")
    attributes = TypedSearchAttributes([SearchAttributePair(size, 0), SearchAttributePair(name, "n")])
    assert [pair.key.name for pair in attributes] == ["name", "size"]
    assert attributes[size] == 0
    keys: Collection[object] = attributes
    assert size in keys
    assert SearchAttributeKey.for_text("size") not in keys
    assert attributes.get(SearchAttributeKey.for_bool("x")) is None
    assert attributes.get(SearchAttributeKey.for_bool("x"), True) is True
    with pytest.raises(KeyError, match="x"):
        attributes[SearchAttributeKey.for_bool("x")]
    changed = attributes.updated(
        SearchAttributePair(size, 5), SearchAttributePair(SearchAttributeKey.for_bool("x"), True)
    )
    assert (changed[size], len(changed), len(attributes)) == (5, 3, 2)
    with pytest.raises(ValueError, match="size"):
        TypedSearchAttributes(
            [SearchAttributePair(size, 1), SearchAttributePair(SearchAttributeKey.for_text("size"), "")]
        )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a"], SearchAttributeKey.for_keyword("k")),
        (["a", "b"], SearchAttributeKey.for_keyword_list("k")),
        ([True], SearchAttributeKey.for_bool("k")),
        ([1], SearchAttributeKey.for_int("k")),
        ([1.5], SearchAttributeKey.for_float("k")),
        ([1, 2], None),
        ([], None),
    ],
)
def test_the_type_of_untyped_values_is_guessed(values: Any, expected: Any) -> None:
    assert SearchAttributeKey._guess_from_untyped_values("k", values) == expected


@pytest.mark.parametrize("spelling", ["KeywordList", "INDEXED_VALUE_TYPE_KEYWORD_LIST"])
def test_both_spellings_of_a_type_are_read(spelling: str) -> None:
    assert SearchAttributeKey._from_metadata_type("k", spelling) == SearchAttributeKey.for_keyword_list("k")
    assert SearchAttributeKey._from_metadata_type("k", "Nonsense") is None


def test_one_argument_or_several_but_not_both() -> None:
    assert _arg_or_args(None, ()) == [None]
    assert _arg_or_args(_arg_unset, (1, 2)) == (1, 2)
    with pytest.raises(ValueError, match="arg and args"):
        _arg_or_args(1, (2,))


class _Callable:
    def __call__(self, name: str) -> Later:
        raise NotImplementedError

    def method(self, name: str) -> Later:
        raise NotImplementedError


def _keyword_only(*, name: str) -> int:
    raise NotImplementedError


def _without_annotation(name) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    raise NotImplementedError


@pytest.mark.parametrize("function", [_Callable, _Callable(), _Callable.method, _Callable().method])
def test_type_hints_are_read_from_everything_that_can_be_called(function: Any) -> None:
    assert _type_hints_from_func(function) == ([str], Later)


def test_functions_that_cannot_be_called_by_position_have_no_hints() -> None:
    assert _type_hints_from_func(_keyword_only) == (None, int)
    parameters, result = _type_hints_from_func(_without_annotation)
    assert [str(parameter) for parameter in parameters or ()] == ["None"]
    assert result is int


class Later:
    """Defined after what is annotated with it."""


def test_the_meter_that_does_nothing_makes_every_metric() -> None:
    meter = MetricMeter.noop.with_additional_attributes({"a": 1})
    for metric in (
        meter.create_counter("n", "d", "u"),
        meter.create_histogram("n", "d", "u"),
        meter.create_histogram_float("n", "d", "u"),
        meter.create_histogram_timedelta("n", "d", "u"),
        meter.create_gauge("n", "d", "u"),
        meter.create_gauge_float("n", "d", "u"),
    ):
        assert (metric.name, metric.description, metric.unit) == ("n", "d", "u")
        assert metric.with_additional_attributes({}) is metric
    meter.create_counter("n").add(1)
    meter.create_histogram_timedelta("n").record(timedelta(0))


def test_an_event_without_its_parts_says_so() -> None:
    with pytest.raises(RuntimeError, match="Missing event"):
        _CompositeEvent(None, None).set()
    event = _CompositeEvent(threading.Event(), None)
    assert not event.is_set()
    event.set()
    event.wait_sync(0)
    assert event.is_set()


def test_threads_wait_for_the_event_of_a_coroutine() -> None:
    async def scenario() -> None:
        event = _CompositeEvent(None, asyncio.Event())
        early = [asyncio.create_task(asyncio.to_thread(event.wait_sync)) for _ in range(2)]
        async with asyncio.timeout(30):
            while event.thread_event is None:
                await asyncio.sleep(0)
            assert not event.is_set()
            event.set()
            assert event.is_set()
            await asyncio.gather(*early)
        late = _CompositeEvent(None, asyncio.Event())
        late.set()
        late.wait_sync()

    asyncio.run(scenario())
