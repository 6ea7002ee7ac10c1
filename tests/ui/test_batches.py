"""Every kind of batch that the UI offers, and stopping one: what the server is asked for."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from perdure.ui.views import batches
from tests.ui.test_app import FORM, Answer, get
from tests.ui.test_hostile import Answering

PAGE = "/namespaces/default/start-batch"
ENTERED = {"query": "WorkflowType = 'Order'", "reason": "no longer needed", "pace": "5"}


def _post(server: Answering, path: str, **entered: str) -> Answer:
    return get(path, server, method="POST", headers=FORM, body=urlencode(entered).encode())


def _matching() -> Answering:
    return Answering(count_workflow_executions=lambda answer: setattr(answer, "count", 1_200))


@pytest.mark.parametrize(
    ("entered", "operation", "said"),
    [
        ({"operation": "cancel"}, "cancellation_operation", ""),
        ({"operation": "terminate"}, "termination_operation", ""),
        ({"operation": "delete"}, "deletion_operation", ""),
        (
            {"operation": "signal", "signal": "poke", "input": '{"by": "hand"} 2'},
            "signal_operation",
            'signal: "poke"',
        ),
        ({"operation": "reset", "reset": "first"}, "reset_operation", "first_workflow_task"),
        ({"operation": "reset", "reset": "last"}, "reset_operation", "last_workflow_task"),
    ],
)
def test_a_batch_asks_for_what_was_chosen(entered: dict[str, str], operation: str, said: str) -> None:
    """With the filter, the reason and the pace; then its page, which says how many runs matched."""
    server = _matching()
    answer = _post(server, PAGE, **ENTERED, **entered)
    assert answer.status == 303
    request = server.requests["start_batch_operation"]
    assert answer.headers["location"].partition("?")[0].endswith(f"/batches/{request.job_id}")
    assert request.WhichOneof("operation") == operation
    assert said in str(request)
    kept = (request.visibility_query, request.reason, request.max_operations_per_second)
    assert kept == (ENTERED["query"], ENTERED["reason"], 5.0)
    if operation == "signal_operation":
        payloads = request.signal_operation.input.payloads
        assert [payload.data for payload in payloads] == [b'{"by":"hand"}', b"2"]


def test_every_kind_is_tried_above() -> None:
    """One that is new needs a row there."""
    assert [name for name, _ in batches._OPERATIONS] == ["cancel", "terminate", "signal", "reset", "delete"]


@pytest.mark.parametrize(
    ("entered", "problem"),
    [
        ({"operation": "signal", "query": "x"}, b"name is needed"),
        ({"operation": "signal", "query": "x", "signal": "s", "input": "{"}, b"No JSON in line 1"),
        ({"operation": "terminate"}, b"every run of the namespace"),
    ],
)
def test_a_batch_that_is_not_meant_like_this_does_not_start(entered: dict[str, str], problem: bytes) -> None:
    """The mistake is told in the form."""
    server = _matching()
    answer = _post(server, PAGE, reason="by hand", **entered)
    assert answer.status == 400
    assert problem in answer.body
    assert "start_batch_operation" not in server.requests


def test_a_filter_that_nothing_matches_starts_no_batch() -> None:
    """Nobody would see why nothing happens."""
    server = Answering()
    answer = _post(server, PAGE, operation="cancel", **ENTERED)
    assert (answer.status, "start_batch_operation" in server.requests) == (400, False)
    assert b"No run matches" in answer.body


def test_a_batch_is_stopped() -> None:
    """With a reason, and back to its page."""
    server = Answering()
    answer = _post(server, "/namespaces/default/batches/job-7/stop", reason="a mistake")
    assert answer.status == 303
    request = server.requests["stop_batch_operation"]
    assert (request.namespace, request.job_id, request.reason) == ("default", "job-7", "a mistake")
