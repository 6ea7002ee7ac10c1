"""Standalone Nexus operations: single cases of the state machine, and random lives held against its invariants."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.api.workflowservice.v1 import StartNexusOperationExecutionRequest
from perdure.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    InvariantViolation,
    NotFoundError,
)
from perdure.core.nexus import outcomes
from perdure.core.nexus.outcomes import Ended, OutOfTime, Refused, Started, Succeeded
from perdure.core.operation import invariants, machine, messages
from perdure.core.operation.state import (
    OperationRun,
    OperationTransition,
    cancel_due_ns,
    decode_operation,
    start_due_ns,
)
from perdure.core.run import nexus_attempts
from perdure.core.run.limits import Limits
from perdure.core.run.records import RunKey, RunKind
from tests.support.builders import application_failure, duration, payload
from tests.support.proto import common, failure

SECOND = 1_000_000_000
START_NS = 1_000 * SECOND
LIMITS = Limits()
RUN = RunKey("namespace", "op", "run", RunKind.NEXUS_OPERATION)
AGAIN = outcomes.refused("UNAVAILABLE", "not now")
NEVER = outcomes.refused("BAD_REQUEST", "never")
DONE = Succeeded(payload("result"))
FAILED = Ended(application_failure())
CANCELED = Ended(failure.Failure(message="stopped"), is_canceled=True)
LINK = common.Link(workflow_event=common.Link.WorkflowEvent(namespace="n", workflow_id="w", run_id="r"))


class Life:
    """One execution as a store would keep it: every transition is encoded, decoded and checked."""

    def __init__(self, **fields: Any) -> None:
        values: dict[str, Any] = {
            "operation_id": "op",
            "request_id": "start",
            "endpoint": "endpoint",
            "service": "service",
            "operation": "operation",
        }
        request = StartNexusOperationExecutionRequest(**(values | fields))
        machine.normalize(request, LIMITS)
        self.now_ns = START_NS
        self.items: dict[tuple[str, str], bytes] = {}
        self.state: OperationRun = self._first(request)

    def _first(self, request: StartNexusOperationExecutionRequest) -> OperationRun:
        tx = machine.start(RUN, request, "endpoint-id", "handler-request", 60 * SECOND, self.now_ns)
        return self._commit(tx, None)

    @property
    def header(self) -> Any:
        """What changes."""
        return self.state.header

    @property
    def outcome(self) -> Any:
        """How it ended."""
        return self.state.outcome

    def _commit(self, tx: OperationTransition, before: OperationRun | None) -> OperationRun:
        write = tx.finish(None)
        invariants.check_write(write)
        for item in write.items:
            assert item.data is not None
            self.items[item.kind, item.key] = item.data
        kept = [(kind, key, data) for (kind, key), data in sorted(self.items.items())]
        version = write.expected_version + 1
        stored = decode_operation(RUN, version, write.header, kept, write.wakeup_ns)
        assert stored == tx.committed(), "what is stored is what was committed"
        invariants.check(stored, before)
        return stored

    def do(self, change: Callable[[OperationTransition], object]) -> None:
        """One transition."""
        tx = OperationTransition(self.state, self.now_ns)
        change(tx)
        if not tx.is_untouched:
            self.state = self._commit(tx, self.state)

    def answer(self, outcome: outcomes.StartOutcome) -> None:
        """A handler answers the request to start that is due."""
        attempt = self.header.operation.attempt
        self.do(lambda tx: machine.start_answered(tx, attempt, outcome))

    def answer_cancel(self, outcome: outcomes.CancelOutcome) -> None:
        """A handler answers the request to cancel that is due."""
        attempt = self.header.operation.cancel_attempt
        self.do(lambda tx: machine.cancel_answered(tx, attempt, outcome))

    def complete(self, outcome: outcomes.CompletionOutcome, request_id: str = "handler-request") -> None:
        """A completion comes."""
        self.do(lambda tx: machine.complete(tx, request_id, outcome, token="told", links=[LINK]))

    def cancel(self, request_id: str = "c") -> None:
        """A client asks for its cancellation."""
        self.do(lambda tx: machine.request_cancel(tx, request_id=request_id, reason="why"))

    def terminate(self, request_id: str = "t") -> None:
        """A client ends it."""
        self.do(lambda tx: machine.terminate(tx, request_id=request_id, reason="why", identity="me"))

    def wait(self, seconds: float) -> None:
        """Time passes; timeouts that are due fire."""
        self.now_ns += int(seconds * SECOND)
        self.do(machine.fire)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(DONE, 2), (FAILED, 3), (NEVER, 3), (CANCELED, 4), (OutOfTime(nexus_attempts.SCHEDULE_TO_CLOSE), 7)],
    ids=["done", "failed", "refused", "cancelled", "out of time"],
)
def test_the_first_answer_can_end_it(outcome: outcomes.StartOutcome, status: int) -> None:
    """Each final answer is the outcome; one that failed is the last attempt's failure, too."""
    life = Life()
    life.answer(outcome)
    assert life.header.status == status
    assert life.outcome.HasField("result") == (status == 2)
    shown = messages.describe(life.state, life.now_ns, common.SearchAttributes())
    assert shown.HasField("last_attempt_failure") == (status != 2)
    assert shown.attempt == 1


def test_a_result_is_kept_with_its_links() -> None:
    """What a handler said of the operation is shown."""
    life = Life()
    life.answer(Succeeded(payload("result"), (LINK,)))
    assert life.outcome.result == payload("result")
    assert list(messages.describe(life.state, life.now_ns, common.SearchAttributes()).links) == [LINK]


def test_a_refusal_for_now_is_tried_again_with_growing_pauses() -> None:
    """The next attempt is due after the pause, and not before."""
    life = Life()
    for attempt, pause_s in ((1, 1), (2, 2), (3, 4)):
        life.answer(AGAIN)
        assert start_due_ns(life.header) == life.now_ns + pause_s * SECOND
        shown = messages.describe(life.state, life.now_ns, common.SearchAttributes())
        assert (shown.attempt, shown.state) == (attempt, 2), "it backs off"
        life.wait(pause_s)
        shown = messages.describe(life.state, life.now_ns, common.SearchAttributes())
        assert (shown.attempt, shown.state) == (attempt + 1, 1), "it is scheduled"
    life.answer(Started("token"))
    assert life.header.is_started
    assert not start_due_ns(life.header)


def test_the_answer_to_an_attempt_that_is_over_does_nothing() -> None:
    """Two requests can be under way: one was thought lost."""
    life = Life()
    life.answer(AGAIN)
    version = life.state.version
    life.do(lambda tx: machine.start_answered(tx, 0, DONE))
    assert life.state.version == version
    life.answer(Started("token"))
    life.do(lambda tx: machine.start_answered(tx, 1, FAILED))
    assert life.header.is_open


def test_a_completion_that_is_faster_than_the_answer_starts_and_ends_it() -> None:
    """The answer then means nothing."""
    life = Life()
    life.complete(DONE)
    assert life.header.status == 2
    assert life.header.operation.operation_token == "told"
    assert life.state.links == (LINK,)
    version = life.state.version
    life.do(lambda tx: machine.start_answered(tx, 0, Started("late")))
    assert life.state.version == version


@pytest.mark.parametrize("outcome", [DONE, FAILED, CANCELED], ids=["done", "failed", "cancelled"])
def test_a_completion_ends_what_runs_once(outcome: outcomes.CompletionOutcome) -> None:
    """A second one, or one of another request, finds nobody who waits."""
    life = Life()
    life.answer(Started("token"))
    with pytest.raises(NotFoundError):
        life.complete(outcome, "another")
    life.complete(outcome)
    assert not life.header.is_open
    assert not life.state.links, "the links are those of the start"
    with pytest.raises(NotFoundError):
        life.complete(outcome)


def test_a_cancellation_waits_for_the_start() -> None:
    """There is no token to cancel by before."""
    life = Life()
    life.cancel()
    assert not cancel_due_ns(life.header)
    life.answer(Started("token"))
    assert cancel_due_ns(life.header) == life.now_ns
    life.answer_cancel(AGAIN)
    assert cancel_due_ns(life.header) == life.now_ns + SECOND
    life.answer_cancel(None)
    assert not cancel_due_ns(life.header)
    assert life.header.is_open, "only its end ends it"


def test_requests_to_end_it_are_recognised_and_others_are_refused() -> None:
    """Each may come twice under one request id, also after the end."""
    life = Life()
    life.cancel("c")
    version = life.state.version
    life.cancel("c")
    assert life.state.version == version
    with pytest.raises(FailedPreconditionError, match="request ID c"):
        life.cancel("d")
    life.terminate("t")
    life.terminate("t")
    life.cancel("c")
    with pytest.raises(FailedPreconditionError, match="already terminated"):
        life.terminate("u")
    with pytest.raises(FailedPreconditionError, match="already completed"):
        life.cancel("d")
    assert life.outcome.failure.terminated_failure_info.identity == "me"
    done = Life()
    done.answer(DONE)
    with pytest.raises(FailedPreconditionError, match="Succeeded"):
        done.terminate()


@pytest.mark.parametrize(
    ("fields", "starts", "timeout_type"),
    [
        ({"schedule_to_close_timeout": duration(5)}, False, nexus_attempts.SCHEDULE_TO_CLOSE),
        ({"schedule_to_close_timeout": duration(5)}, True, nexus_attempts.SCHEDULE_TO_CLOSE),
        ({"schedule_to_start_timeout": duration(5)}, False, nexus_attempts.SCHEDULE_TO_START),
        ({"start_to_close_timeout": duration(5)}, True, nexus_attempts.START_TO_CLOSE),
    ],
)
def test_each_timeout_ends_it(fields: dict[str, Any], starts: bool, timeout_type: int) -> None:
    """The three timeouts, each as its outcome's failure, and no attempt's."""
    life = Life(**fields)
    if starts:
        life.answer(Started("token"))
    life.wait(4.9)
    assert life.header.is_open
    life.wait(0.2)
    assert life.header.status == 7
    assert life.outcome.failure.timeout_failure_info.timeout_type == timeout_type
    shown = messages.describe(life.state, life.now_ns, common.SearchAttributes())
    assert not shown.HasField("last_attempt_failure")


def test_timeouts_are_cut_to_each_other_and_checked() -> None:
    """None is longer than the whole, none is negative."""
    life = Life(schedule_to_close_timeout=duration(5), start_to_close_timeout=duration(9))
    assert life.state.request.start_to_close_timeout == duration(5)
    with pytest.raises(InvalidArgumentError, match="start_to_close_timeout is invalid: negative duration"):
        Life(start_to_close_timeout=duration(-1))


def test_headers_are_checked_and_put_into_lower_case() -> None:
    """Names that the server itself sets are refused, and so are too many."""
    request = StartNexusOperationExecutionRequest(nexus_header={"Some-Name": "v"})
    machine.normalize_header(request, LIMITS)
    assert dict(request.nexus_header) == {"some-name": "v"}
    for header in ({"Caller-Name": "x"}, {"name": "x" * LIMITS.nexus_header_bytes}):
        with pytest.raises(InvalidArgumentError):
            machine.normalize_header(StartNexusOperationExecutionRequest(nexus_header=header), LIMITS)


def test_invariants_find_what_is_wrong() -> None:
    """A rule that nothing can break watches nothing."""
    life = Life()
    state = life.state
    with pytest.raises(InvariantViolation, match="wakes when"):
        invariants.check(replace(state, wakeup_ns=None))
    life.answer(Started("token"))
    running = life.state
    with pytest.raises(InvariantViolation, match="versions count up"):
        invariants.check(replace(running, version=9), state)
    running.header.cancel_asked_ns = 5
    with pytest.raises(InvariantViolation, match="is asked to"):
        invariants.check(running)
    running.header.status = 2
    with pytest.raises(InvariantViolation, match="outcome exactly when"):
        invariants.check(running)


ACTIONS: dict[str, Callable[[Life], object]] = {
    "started": lambda life: life.answer(Started("token", (LINK,))),
    "done": lambda life: life.answer(DONE),
    "failed": lambda life: life.answer(FAILED),
    "again": lambda life: life.answer(AGAIN),
    "never": lambda life: life.answer(NEVER),
    "complete": lambda life: life.complete(DONE),
    "complete as cancelled": lambda life: life.complete(CANCELED),
    "complete another": lambda life: life.complete(DONE, "another"),
    "cancel": lambda life: life.cancel(str(life.now_ns % 3)),
    "asked to cancel": lambda life: life.answer_cancel(None),
    "cancel again": lambda life: life.answer_cancel(AGAIN),
    "never cancels": lambda life: life.answer_cancel(Refused(NEVER.failure, may_retry=False)),
    "terminate": lambda life: life.terminate(str(life.now_ns % 3)),
    "wait": lambda life: life.wait(1.3),
    "wait long": lambda life: life.wait(8.00000001),
}
STARTS = st.fixed_dictionaries(
    {},
    optional={
        "schedule_to_close_timeout": st.just(duration(20)),
        "schedule_to_start_timeout": st.just(duration(4)),
        "start_to_close_timeout": st.just(duration(7)),
    },
)


@settings(max_examples=200, deadline=None)
@given(fields=STARTS, actions=st.lists(st.sampled_from(sorted(ACTIONS)), max_size=25))
def test_random_lives_keep_the_invariants_and_end(fields: dict[str, Any], actions: list[str]) -> None:
    """Whatever comes, every state is a good one; an outcome, once there, stays; and a completion ends it."""
    life = Life(**fields)
    ended: Any = None
    for action in actions:
        life.now_ns += 1
        with suppress(NotFoundError, FailedPreconditionError):
            ACTIONS[action](life)
        messages.describe(life.state, life.now_ns, common.SearchAttributes())
        messages.record(OperationTransition(life.state, life.now_ns), {})
        assert ended is None or life.outcome == ended
        ended = life.outcome
    if life.header.is_open:
        life.complete(DONE)
    assert not life.header.is_open
    assert life.state.wakeup_ns == life.header.close_ns + 60 * SECOND
