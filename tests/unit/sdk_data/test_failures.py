"""Exceptions and failures: each kind both ways, causes, stack traces, encoded attributes; bytes as officially."""

from __future__ import annotations

import asyncio
import itertools
import pickle
from datetime import timedelta
from typing import Any

import nexusrpc
import pytest
import temporalio.api.failure.v1
import temporalio.converter
import temporalio.exceptions
from hypothesis import given
from hypothesis import strategies as st

import perdure.exceptions
from perdure.api.failure.v1 import Failure
from perdure.converter import (
    DataConverter,
    DefaultFailureConverter,
    DefaultFailureConverterWithEncodedAttributes,
)
from perdure.exceptions import (
    ActivityError,
    ApplicationError,
    ApplicationErrorCategory,
    CancelledError,
    ChildWorkflowError,
    FailureError,
    NexusOperationError,
    RetryState,
    TimeoutError,
    TimeoutType,
    is_cancelled_exception,
)

CONVERTER = DataConverter.default
PAYLOADS = CONVERTER.payload_converter

_ACTIVITY: dict[str, Any] = {
    "scheduled_event_id": 5,
    "started_event_id": 6,
    "identity": "me",
    "activity_type": "work",
    "activity_id": "a",
    "retry_state": 4,
}
_CHILD: dict[str, Any] = {
    "namespace": "default",
    "workflow_id": "w",
    "run_id": "r",
    "workflow_type": "Child",
    "initiated_event_id": 5,
    "started_event_id": 6,
    "retry_state": None,
}
_NEXUS: dict[str, Any] = {
    "scheduled_event_id": 5,
    "endpoint": "e",
    "service": "s",
    "operation": "o",
    "operation_token": "t",
}

# Name of the class, arguments, keyword arguments; enums as their numbers.
KINDS: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...] = (
    ("ApplicationError", ("oops",), {}),
    ("ApplicationError", ("", 1, {"a": [None]}), {"type": "Bad", "non_retryable": True}),
    ("ApplicationError", ("oops",), {"next_retry_delay": timedelta(seconds=2.5), "category": 1}),
    ("CancelledError", ("stop", "detail"), {}),
    ("CancelledError", (), {}),
    ("TerminatedError", ("killed",), {}),
    ("TimeoutError", ("late",), {"type": 4, "last_heartbeat_details": [1, "x"]}),
    ("TimeoutError", ("late",), {"type": None, "last_heartbeat_details": []}),
    ("ServerError", ("server",), {"non_retryable": True}),
    ("ActivityError", ("failed",), _ACTIVITY),
    ("ChildWorkflowError", ("failed",), _CHILD),
    ("NexusOperationError", ("failed",), _NEXUS),
    ("NexusOperationError", ("failed",), dict.fromkeys(_NEXUS, "") | {"scheduled_event_id": 0}),
    ("FailureError", ("something",), {}),
    ("WorkflowAlreadyStartedError", ("w", "W"), {"run_id": "r"}),
)


def _make(module: Any, kind: tuple[str, tuple[Any, ...], dict[str, Any]]) -> Any:
    name, arguments, keywords = kind
    keywords = dict(keywords)
    enums = {"category": "ApplicationErrorCategory", "retry_state": "RetryState"}
    if name == "TimeoutError":
        enums["type"] = "TimeoutType"
    for keyword, enum_name in enums.items():
        if keywords.get(keyword):
            keywords[keyword] = getattr(module, enum_name)(keywords[keyword])
    return getattr(module, name)(*arguments, **keywords)


def _to_failure(error: BaseException) -> Failure:
    failure = Failure()
    DefaultFailureConverter().to_failure(error, PAYLOADS, failure)
    return failure


def _to_official_failure(error: BaseException) -> Any:
    failure = temporalio.api.failure.v1.Failure()
    converter = temporalio.converter.DataConverter.default
    converter.failure_converter.to_failure(error, converter.payload_converter, failure)
    return failure


def _from_failure(failure: Failure) -> Any:
    return DefaultFailureConverter().from_failure(failure, PAYLOADS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
def test_each_kind_has_the_official_bytes_and_comes_back(kind: Any) -> None:
    ours, official = _make(perdure.exceptions, kind), _make(temporalio.exceptions, kind)
    failure = _to_failure(ours)
    assert failure.SerializeToString(deterministic=True) == _to_official_failure(official).SerializeToString(
        deterministic=True
    )
    back = _from_failure(failure)
    official_failure = temporalio.api.failure.v1.Failure.FromString(failure.SerializeToString())
    converter = temporalio.converter.DataConverter.default
    official_back = converter.failure_converter.from_failure(official_failure, converter.payload_converter)
    assert type(back).__name__ == type(official_back).__name__
    assert str(back) == str(official_back)
    assert {name: value for name, value in vars(back).items() if name != "_failure"} == {
        name: value for name, value in vars(official_back).items() if name != "_failure"
    }
    assert back.failure is failure


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
def test_a_chain_of_causes_has_the_official_bytes_and_comes_back(kinds: list[Any]) -> None:
    chains = []
    for module in (perdure.exceptions, temporalio.exceptions):
        errors = [_make(module, kind) for kind in kinds]
        for error, cause in itertools.pairwise(errors):
            error.__cause__ = cause
        chains.append(errors)
    failure = _to_failure(chains[0][0])
    assert failure.SerializeToString(deterministic=True) == _to_official_failure(
        chains[1][0]
    ).SerializeToString(deterministic=True)
    error = _from_failure(failure)
    for kind in kinds:
        assert isinstance(error, FailureError)
        assert type(error).__name__ == kind[0] or kind[0] == "WorkflowAlreadyStartedError"
        error = error.cause
    assert error is None


def _raised(outer: type[Exception], inner: type[Exception], how: str) -> BaseException:
    try:
        try:
            raise inner("inside")
        except inner as cause:
            if how == "from":
                raise outer("outside") from cause
            if how == "from none":
                raise outer("outside") from None
            raise outer("outside")  # noqa: B904 - this is the case that is tested
    except outer as error:
        return error


@pytest.mark.parametrize("how", ["from", "from none", "while handling"])
def test_what_python_shows_as_cause_is_the_cause(how: str) -> None:
    error = _raised(ApplicationError, KeyError, how)
    failure = _to_failure(error)
    assert failure.SerializeToString(deterministic=True) != b""
    assert "in _raised" in failure.stack_trace
    assert failure.HasField("cause") == (how != "from none")
    if how != "from none":
        assert failure.cause.application_failure_info.type == "KeyError"
        assert "in _raised" in failure.cause.stack_trace


@pytest.mark.parametrize("length", [2, 200])
def test_a_chain_without_end_is_cut_and_can_be_read(length: int) -> None:
    errors = [ValueError(str(number)) for number in range(length)]
    for error, cause in zip(errors, [*errors[1:], errors[0]], strict=True):
        error.__cause__ = cause
    failure = Failure.FromString(_to_failure(errors[0]).SerializeToString())
    messages = []
    link: Any = _from_failure(failure)
    while link is not None:
        messages.append(link.message)
        link = link.cause
    assert messages[:2] == ["0", "1"]
    assert messages[-1].endswith("(further causes are left out)")
    assert len(messages) == min(length, 40) + 1


def test_an_ordinary_exception_becomes_an_application_error_named_after_it() -> None:
    failure = _to_failure(_raised(ZeroDivisionError, KeyError, "from"))
    assert failure.application_failure_info.type == "ZeroDivisionError"
    assert failure.cause.message == "'inside'"
    error = _from_failure(failure)
    assert (str(error), error.message, error.type) == (
        "ZeroDivisionError: outside",
        "outside",
        "ZeroDivisionError",
    )
    assert str(error.cause) == "KeyError: 'inside'"


def test_an_exception_that_cannot_say_what_it_is_keeps_its_name() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    failure = _to_failure(Mute())
    assert failure.application_failure_info.type == "Mute"
    assert failure.message == "<its __str__ raised RuntimeError>"


def test_a_failure_that_came_from_the_wire_goes_back_as_it_was() -> None:
    failure = _to_failure(ApplicationError("a", type="T"))
    failure.source = "GoSDK"
    assert _to_failure(_from_failure(failure)) == failure


def test_enum_numbers_of_a_newer_protocol_do_not_hide_the_failure() -> None:
    failure = Failure(message="m")
    failure.timeout_failure_info.timeout_type = 99  # type: ignore[assignment]
    assert _from_failure(failure).type is None
    failure = Failure(message="m")
    failure.application_failure_info.category = 99  # type: ignore[assignment]
    assert _from_failure(failure).category is ApplicationErrorCategory.UNSPECIFIED


def test_encoded_attributes_hide_message_and_stack_trace_of_every_link() -> None:
    converter = DefaultFailureConverterWithEncodedAttributes()
    failure = Failure()
    converter.to_failure(_raised(ApplicationError, KeyError, "from"), PAYLOADS, failure)
    for link in (failure, failure.cause):
        assert (link.message, link.stack_trace) == ("Encoded failure", "")
    before = failure.SerializeToString(deterministic=True)
    error: Any = converter.from_failure(failure, PAYLOADS)
    assert (error.message, error.cause.message) == ("outside", "'inside'")
    assert "in _raised" in error.failure.stack_trace
    assert failure.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("length", [1, 50])
def test_encoded_attributes_hide_also_where_a_chain_is_cut(length: int) -> None:
    errors = [ValueError(f"secret {number}") for number in range(length)]
    for error, cause in zip(errors, [*errors[1:], errors[0]], strict=True):
        error.__cause__ = cause
    failure = Failure()
    DefaultFailureConverterWithEncodedAttributes().to_failure(errors[0], PAYLOADS, failure)
    while failure.HasField("cause"):
        assert failure.message == "Encoded failure"
        failure = failure.cause
    assert failure.message == "Encoded failure"


@pytest.mark.parametrize("data", [b"{", b"5", b'{"message":5}'])
def test_encoded_attributes_that_cannot_be_read_are_left_alone(data: bytes) -> None:
    failure = Failure(message="Encoded failure")
    failure.encoded_attributes.CopyFrom(PAYLOADS.to_payload("x"))
    failure.encoded_attributes.data = data
    assert _from_failure(failure).message == "Encoded failure"


@pytest.mark.parametrize("override", [None, True, False])
def test_a_nexus_handler_error_survives(override: bool | None) -> None:
    error = nexusrpc.HandlerError("no", type=nexusrpc.HandlerErrorType.NOT_FOUND, retryable_override=override)
    error.__cause__ = ValueError("why")
    failure = _to_failure(error)
    assert failure.SerializeToString(deterministic=True) == _to_official_failure(error).SerializeToString(
        deterministic=True
    )
    back = _from_failure(failure)
    assert isinstance(back, nexusrpc.HandlerError)
    assert (back.type, back.retryable_override, back.message) == (error.type, override, "no")
    assert str(back.__cause__) == "ValueError: why"
    again = _to_failure(back)
    assert again.nexus_handler_failure_info == failure.nexus_handler_failure_info


def test_what_is_no_text_is_reported_all_the_same() -> None:
    """Halves of characters in what a Nexus handler says, and another error given as the message."""
    error = nexusrpc.HandlerError("\udcff", type=nexusrpc.HandlerErrorType.INTERNAL, stack_trace="\udcfe")
    failure = _to_failure(error)
    assert (failure.message, failure.stack_trace) == (r"\udcff", r"\udcfe")
    message: Any = ValueError("no stock")
    assert _to_failure(ApplicationError(message)).message == "no stock"


def test_a_nexus_failure_of_another_system_becomes_an_application_failure() -> None:
    error = nexusrpc.HandlerError("no", type=nexusrpc.HandlerErrorType.INTERNAL, retryable_override=False)
    error.original_failure = nexusrpc.Failure(message="elsewhere", metadata={"type": "theirs"})
    failure = _to_failure(error)
    assert (failure.message, failure.application_failure_info.type) == ("elsewhere", "NexusFailure")
    assert failure.application_failure_info.non_retryable


def test_a_nexus_handler_error_of_unknown_type_counts_as_internal() -> None:
    failure = Failure(message="m")
    failure.nexus_handler_failure_info.type = "NEW"
    assert _from_failure(failure).type == nexusrpc.HandlerErrorType.INTERNAL


def _with_cause(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (asyncio.CancelledError(), True),
        (CancelledError(), True),
        (_with_cause(ActivityError("m", **_ACTIVITY | {"retry_state": None}), CancelledError()), True),
        (_with_cause(ChildWorkflowError("m", **_CHILD), CancelledError()), True),
        (_with_cause(NexusOperationError("m", **_NEXUS), CancelledError()), True),
        (_with_cause(ActivityError("m", **_ACTIVITY | {"retry_state": None}), ApplicationError("x")), False),
        (_with_cause(ApplicationError("m"), CancelledError()), False),
        (ValueError(), False),
    ],
)
def test_what_counts_as_cancelled(error: BaseException, expected: bool) -> None:
    assert is_cancelled_exception(error) is expected


def test_an_application_error_survives_pickle_as_process_pools_use_it() -> None:
    error = ApplicationError("m", 1, type="T", non_retryable=True, next_retry_delay=timedelta(1))
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.message, back.details, back.non_retryable) == ("T: m", "m", (1,), True)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
def test_each_kind_survives_pickle_with_all_it_says(kind: Any) -> None:
    """One that cannot be unpickled would break the whole pool of processes of a worker's activities."""
    error = _make(perdure.exceptions, kind)
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), back.args, vars(back)) == (type(error), error.args, vars(error))
    read = pickle.loads(pickle.dumps(_from_failure(_to_failure(error))))
    assert read.failure == _to_failure(error)


def test_text_that_is_no_text_becomes_a_failure_all_the_same() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    failure = _to_failure(ApplicationError(name, type=name))
    assert failure.message == failure.application_failure_info.type == "caf\\udce9"
    assert _to_failure(_with_cause(ValueError(name), KeyError(name))).cause.message != ""


def test_timeout_and_retry_state_are_kept() -> None:
    failure = _to_failure(TimeoutError("m", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[1]))
    assert _from_failure(failure).type is TimeoutType.HEARTBEAT
    failure = _to_failure(_make(perdure.exceptions, ("ActivityError", ("m",), _ACTIVITY)))
    assert _from_failure(failure).retry_state is RetryState.MAXIMUM_ATTEMPTS_REACHED


def test_an_id_that_is_in_use_is_named() -> None:
    """The message is the official one, as it goes over the wire; what a person reads says what to do."""
    error = perdure.exceptions.WorkflowAlreadyStartedError("order-1", "Order")
    assert error.message == "Workflow execution already started"
    assert str(error).startswith(f"{error.message}: the workflow ID 'order-1' is in use. Use another ID")
