"""What Nexus carries: links and failures, to and fro."""

from __future__ import annotations

import json

import pytest

from perdure.core.nexus import failures, links, outcomes
from perdure.core.nexus.outcomes import Answer, Ended, Refused, Started, Succeeded
from tests.support.builders import application_failure, canceled_failure, payload
from tests.support.proto import common, enums, failure, nexus

EVENT = enums.EventType
HISTORY = "temporal:///namespaces/n/workflows/w/r/history"


def workflow_link(workflow_id: str = "w") -> common.Link:
    """A link to an event of a workflow."""
    link = common.Link()
    link.workflow_event.namespace = "n"
    link.workflow_event.workflow_id = workflow_id
    link.workflow_event.run_id = "r"
    return link


def event_link(workflow_id: str = "w", event_id: int = 3) -> common.Link:
    """A link to an event by its id."""
    link = workflow_link(workflow_id)
    link.workflow_event.event_ref.event_id = event_id
    link.workflow_event.event_ref.event_type = EVENT.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED
    return link


def request_link() -> common.Link:
    """A link to the event of a request."""
    link = workflow_link()
    link.workflow_event.request_id_ref.request_id = "a b"
    link.workflow_event.request_id_ref.event_type = EVENT.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED
    return link


def test_a_link_is_written_as_the_official_server_writes_it() -> None:
    made = links.to_nexus(event_link("a/b ü"))
    assert made is not None
    assert made.type == "temporal.api.common.v1.Link.WorkflowEvent"
    assert made.url == (
        "temporal:///namespaces/n/workflows/a%2Fb%20%C3%BC/r/history?"
        "eventID=3&eventType=NexusOperationScheduled&referenceType=EventReference"
    )


@pytest.mark.parametrize(
    "link",
    [
        event_link(),
        event_link("a/b?c&d=é%"),
        event_link(event_id=0),
        request_link(),
        common.Link(activity=common.Link.Activity(namespace="n", activity_id="a/", run_id="r")),
        common.Link(nexus_operation=common.Link.NexusOperation(namespace="n", operation_id="o", run_id="r")),
    ],
)
def test_links_survive_the_way_there_and_back(link: common.Link) -> None:
    made = links.to_nexus(link)
    assert made is not None
    assert links.from_nexus([made]) == [link]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://elsewhere", "else"),
        ("https:///namespaces/n/workflows/w/r/history?referenceType=EventReference", links.WORKFLOW_EVENT),
        ("temporal:///namespaces/n/workflows/w/r", links.WORKFLOW_EVENT),
        ("temporal:///namespaces/n/workflows/w/r/history", links.WORKFLOW_EVENT),
        (
            "temporal:///namespaces/n/workflows/w/r/history?referenceType=EventReference&eventType=No",
            links.WORKFLOW_EVENT,
        ),
        (
            f"{HISTORY}?referenceType=EventReference&eventType=TimerFired&eventID=x",
            links.WORKFLOW_EVENT,
        ),
        ("temporal:///namespaces/n/workflows/w/r/history?referenceType=X&eventType=TimerFired", "other"),
        ("http://[", links.WORKFLOW_EVENT),
    ],
)
def test_links_that_mean_nothing_here_are_left_out(url: str, kind: str) -> None:
    assert links.from_nexus([nexus.Link(url=url, type=kind)]) == []


def test_events_types_may_be_named_in_full() -> None:
    url = f"{HISTORY}?referenceType=EventReference&eventType=EVENT_TYPE_TIMER_FIRED"
    found = links.from_nexus([nexus.Link(url=url, type=links.WORKFLOW_EVENT)])
    assert found[0].workflow_event.event_ref.event_type == EVENT.EVENT_TYPE_TIMER_FIRED


@pytest.mark.parametrize(
    "given",
    [
        application_failure("m", type="T", non_retryable=True),
        canceled_failure(),
        failure.Failure(message="m", stack_trace="s", cause=application_failure("inner")),
        failures.of_handler(
            failure.Failure(
                message="m",
                nexus_handler_failure_info=failure.NexusHandlerFailureInfo(
                    type="INTERNAL", retry_behavior=failures.NOT_RETRYABLE
                ),
                encoded_attributes=payload("secret"),
                cause=canceled_failure(),
            )
        ),
    ],
)
def test_failures_of_temporal_survive_the_way_through_nexus(given: failure.Failure) -> None:
    travelled = failures.of_document(json.loads(json.dumps(failures.document(failures.from_temporal(given)))))
    assert failures.to_temporal(travelled) == given


def test_a_failure_of_an_unknown_kind_is_held_whole() -> None:
    given = nexus.Failure(message="m", metadata={"k": "v"}, details=b'{"d": 1}')
    made = failures.to_temporal(given)
    assert made.application_failure_info.type == "NexusFailure"
    held = made.application_failure_info.details.payloads[0]
    assert held.data == b'{"metadata":{"k":"v"},"details":{"d":1}}'
    assert failures.to_temporal(nexus.Failure(message="m")) == failure.Failure(message="m")


@pytest.mark.parametrize("details", [b"{", b"[]", b'{"encodedAttributes": "%%"}'])
def test_a_known_failure_with_broken_details_is_held_too(details: bytes) -> None:
    given = nexus.Failure(message="m", metadata={"type": "nexus.HandlerError"}, details=details)
    assert failures.to_temporal(given).application_failure_info.type == "NexusFailure"


def test_an_operation_error_says_how_the_operation_ended() -> None:
    for state, kind in (("canceled", "canceled_failure_info"), ("failed", "application_failure_info")):
        details = json.dumps({"state": state}).encode()
        made = failures.to_temporal(
            nexus.Failure(message="m", metadata={"type": "nexus.OperationError"}, details=details)
        )
        assert made.WhichOneof("failure_info") == kind


@pytest.mark.parametrize(
    "data", [[], {"message": 1}, {"metadata": {"a": 1}}, {"metadata": ["a"]}, {"cause": 3}]
)
def test_documents_that_are_no_failures_are_refused(data: object) -> None:
    with pytest.raises(ValueError, match="failure"):
        failures.of_document(data)


def test_causes_have_an_end() -> None:
    nested = nexus.Failure(message="deep")
    for _ in range(failures.MAX_DEPTH + 20):
        nested = nexus.Failure(message="m", cause=nested)
    made, depth = failures.to_temporal(nested), 0
    while made.HasField("cause"):
        made, depth = made.cause, depth + 1
    assert depth == failures.MAX_DEPTH
    deep: dict[str, object] = {}
    for _ in range(failures.MAX_DEPTH + 1):
        deep = {"cause": deep}
    with pytest.raises(ValueError, match="too many causes"):
        failures.of_document(deep)


# --- answers


def start(**fields: object) -> Answer:
    """The answer of a worker to a request to start."""
    made = nexus.StartOperationResponse(**fields)  # type: ignore[arg-type]
    return Answer(response=nexus.Response(start_operation=made))


def test_every_answer_of_a_worker_has_its_meaning() -> None:
    Sync, Async = nexus.StartOperationResponse.Sync, nexus.StartOperationResponse.Async  # noqa: N806
    assert outcomes.of_start(start(sync_success=Sync(payload=payload("r")))) == Succeeded(payload("r"))
    assert outcomes.of_start(start(async_success=Async(operation_id="old"))) == Started("old")
    assert outcomes.of_start(start(failure=canceled_failure())) == Ended(canceled_failure(), is_canceled=True)
    for empty in (None, Answer(), start(), Answer(response=nexus.Response())):
        outcome = outcomes.of_start(empty)
        assert isinstance(outcome, Refused)
        assert outcome.may_retry
    older = nexus.UnsuccessfulOperationError(operation_state="canceled", failure=nexus.Failure(message="m"))
    ended = outcomes.of_start(start(operation_error=older))
    assert isinstance(ended, Ended)
    assert ended.cause == canceled_failure("m")


@pytest.mark.parametrize(
    ("kind", "may_retry"),
    [("BAD_REQUEST", False), ("NOT_FOUND", False), ("INTERNAL", True), ("WHATEVER", True)],
)
def test_the_type_of_an_error_says_whether_to_try_again(kind: str, may_retry: bool) -> None:
    error = nexus.HandlerError(error_type=kind, failure=nexus.Failure(message="m"))
    for of in (outcomes.of_start, outcomes.of_cancel):
        outcome = of(Answer(error=error))
        assert isinstance(outcome, Refused)
        assert outcome.may_retry == may_retry
        assert outcome.failure.cause.message == "m"


def test_a_handler_may_say_itself_whether_to_try_again() -> None:
    for behavior, may_retry in ((failures.RETRYABLE, True), (failures.NOT_RETRYABLE, False)):
        for kind in ("BAD_REQUEST", "INTERNAL"):
            outcome = outcomes.of_cancel(Answer(failure=failures.handler_failure(kind, "m", behavior)))
            assert outcome is not None
            assert outcome.may_retry == may_retry
    assert outcomes.of_cancel(Answer(response=nexus.Response())) is None
