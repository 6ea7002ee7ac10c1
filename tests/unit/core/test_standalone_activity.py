"""Standalone activities: single cases of the state machine, and random lives held against its invariants."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.api.activity.v1 import ActivityOptions
from perdure.api.failure.v1 import Failure
from perdure.api.workflowservice.v1 import StartActivityExecutionRequest
from perdure.core.activity import control, invariants, machine, messages
from perdure.core.activity.state import TASK, ActivityRun, ActivityTransition, decode_activity
from perdure.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    InvariantViolation,
    NotFoundError,
)
from perdure.core.run.activity import ActivityToken
from perdure.core.run.limits import Limits
from perdure.core.run.records import RunKey, RunKind, Task
from tests.support.builders import application_failure, duration, payloads, retry_policy
from tests.support.proto import common

SECOND = 1_000_000_000
START_NS = 1_000 * SECOND
LIMITS = Limits()
RUN = RunKey("namespace", "a", "run", RunKind.ACTIVITY)


class Life:
    """One execution as a store would keep it: every transition is encoded, decoded and checked."""

    def __init__(self, **fields: Any) -> None:
        values: dict[str, Any] = {
            "activity_id": "a",
            "request_id": "start",
            "start_to_close_timeout": duration(10),
            "retry_policy": retry_policy(initial_s=1, coefficient=1),
        }
        request = StartActivityExecutionRequest(**(values | fields))
        request.activity_type.name = "work"
        request.task_queue.name = "queue"
        machine.normalize(request, LIMITS)
        self.now_ns = START_NS
        self.tasks: dict[Any, Task] = {}
        self.items: dict[tuple[str, str], bytes] = {}
        self.state: ActivityRun | None = None
        self._commit(machine.start(RUN, request, "default", 60 * SECOND, self.now_ns))

    @property
    def header(self) -> Any:
        """What changes."""
        assert self.state is not None
        return self.state.header

    @property
    def outcome(self) -> Any:
        """How it ended."""
        assert self.state is not None
        return self.state.outcome

    def _commit(self, tx: ActivityTransition) -> None:
        write = tx.finish(machine.next_wakeup_ns(tx.header), None)
        invariants.check_write(write)
        for key in write.tasks_deleted:
            self.tasks.pop(key)
        for task in write.tasks_put:
            self.tasks[task.key] = task
        for item in write.items:
            assert item.data is not None
            self.items[item.kind, item.key] = item.data
        kept = [(kind, key, data) for (kind, key), data in sorted(self.items.items())]
        version = write.expected_version + 1
        stored = decode_activity(RUN, version, write.header, kept, write.wakeup_ns)
        assert stored == tx.committed(), "what is stored is what was committed"
        before, self.state = self.state, stored
        invariants.check(stored, list(self.tasks.values()), before)

    def do(self, change: Callable[[ActivityTransition], object]) -> None:
        """One transition."""
        assert self.state is not None
        tx = ActivityTransition(self.state, self.now_ns)
        change(tx)
        if not tx.is_untouched:
            self._commit(tx)

    def take(self) -> ActivityToken:
        """A worker takes the task."""
        assert TASK in self.tasks
        self.do(lambda tx: machine.take(tx, "poll", "worker"))
        return self.token()

    def token(self) -> ActivityToken:
        """Of the attempt as it is."""
        return ActivityToken(attempt=self.header.attempt.attempt, started_ns=self.header.attempt.started_ns)

    def answer(self, token: ActivityToken, change: Callable[[ActivityTransition], object]) -> None:
        """A worker answers."""

        def checked(tx: ActivityTransition) -> None:
            machine.check_token(tx, token)
            change(tx)

        self.do(checked)

    def fail(self, token: ActivityToken, failed: Failure | None = None) -> None:
        """A worker reports a failure."""
        cause = application_failure() if failed is None else failed
        self.answer(token, lambda tx: machine.fail(tx, cause, "worker", LIMITS))

    def wait(self, seconds: float) -> None:
        """Time passes; what is due is done, as the timer service does it."""
        end_ns = self.now_ns + int(seconds * SECOND)
        while self.state is not None and self.state.wakeup_ns is not None and self.header.is_open:
            due_ns = self.state.wakeup_ns
            if due_ns > end_ns:
                break
            self.now_ns = max(self.now_ns, due_ns)
            self.do(lambda tx: machine.fire(tx, LIMITS))
            assert self.state.wakeup_ns != due_ns, "what was due is done"
        self.now_ns = max(self.now_ns, end_ns)


def test_an_attempt_is_retried_after_the_interval_and_not_before() -> None:
    """The backoff is a deadline, and the task row comes with it."""
    life = Life()
    life.fail(life.take())
    assert not life.tasks
    life.wait(0.9)
    assert not life.tasks
    life.wait(0.2)
    assert life.header.attempt.attempt == 2
    assert TASK in life.tasks


def test_the_last_attempt_that_is_allowed_is_the_outcome() -> None:
    """At most the allowed attempts."""
    life = Life(retry_policy=retry_policy(initial_s=1, attempts=2))
    life.fail(life.take())
    life.wait(2)
    life.fail(life.take(), application_failure("second"))
    assert life.outcome.failure.message == "second"
    assert life.header.attempt.attempt == 2


def test_an_answer_of_an_attempt_that_is_over_is_not_found() -> None:
    """Also if the next attempt is with a worker already."""
    life = Life()
    old = life.take()
    life.fail(old)
    with pytest.raises(NotFoundError):
        life.answer(old, lambda tx: machine.complete(tx, None, "worker"))
    life.wait(2)
    life.take()
    with pytest.raises(NotFoundError):
        life.answer(old, lambda tx: machine.complete(tx, None, "worker"))


def test_an_answer_by_id_needs_a_worker_unless_it_completes() -> None:
    """A completion by id ends what nobody has."""
    life = Life()
    with pytest.raises(NotFoundError):
        life.answer(ActivityToken(activity_id="a"), lambda tx: machine.heartbeat(tx, None))
    life.do(lambda tx: machine.check_token(tx, ActivityToken(activity_id="a"), may_wait=True))
    life.do(lambda tx: machine.complete(tx, payloads("r"), "other"))
    assert life.outcome.result == payloads("r")
    assert not life.tasks


@pytest.mark.parametrize(
    ("fields", "seconds", "timeout_type", "takes"),
    [
        ({"schedule_to_start_timeout": duration(3)}, 4, 2, False),
        ({"schedule_to_close_timeout": duration(3)}, 4, 2, False),
        ({"schedule_to_close_timeout": duration(3)}, 4, 3, True),
        ({"retry_policy": retry_policy(attempts=1)}, 11, 1, True),
        ({"heartbeat_timeout": duration(2), "retry_policy": retry_policy(attempts=1)}, 3, 4, True),
    ],
    ids=["schedule to start", "close before a start", "schedule to close", "start to close", "heartbeat"],
)
def test_each_timeout_ends_it(fields: dict[str, Any], seconds: float, timeout_type: int, takes: bool) -> None:
    """The four timeouts, each as its outcome's failure."""
    life = Life(**fields)
    if takes:
        life.take()
    life.wait(seconds)
    assert life.header.status == 7
    assert life.outcome.failure.timeout_failure_info.timeout_type in (timeout_type, 3)


def test_a_delayed_start_moves_the_schedule_to_close_timeout() -> None:
    """It runs from when the first attempt is due."""
    life = Life(start_delay=duration(100), schedule_to_close_timeout=duration(10))
    assert not life.tasks
    life.wait(101)
    assert TASK in life.tasks
    life.wait(8)
    assert life.header.is_open
    life.wait(2)
    assert life.header.status == 7


def test_a_paused_one_waits_and_keeps_its_backoff() -> None:
    """Unpaused before the backoff is over, it waits for the rest of it."""
    life = Life(retry_policy=retry_policy(initial_s=100, coefficient=1))
    life.fail(life.take())
    life.do(lambda tx: control.pause(tx, request_id="p", identity="", reason=""))
    life.wait(50)
    life.do(lambda tx: control.unpause(tx, request_id="u", jitter_ns=0))
    life.wait(49)
    assert not life.tasks
    life.wait(2)
    assert TASK in life.tasks


def test_a_repeated_request_does_nothing() -> None:
    """Each operator's request is recognised by its id, even after what came later."""
    life = Life()
    pause = lambda tx: control.pause(tx, request_id="p", identity="", reason="")  # noqa: E731
    life.do(pause)
    life.do(lambda tx: control.unpause(tx, request_id="u", jitter_ns=0))
    version = life.state.version if life.state else 0
    life.do(pause)
    assert life.state is not None
    assert life.state.version == version
    assert not life.header.attempt.paused_ns


def test_a_cancellation_hides_a_reset_and_a_pause() -> None:
    """The worker is told of one thing at a time."""
    life = Life()
    token = life.take()
    life.do(lambda tx: control.pause(tx, request_id="p", identity="", reason=""))
    asked: list[machine.Asked] = []
    life.answer(token, lambda tx: asked.append(machine.heartbeat(tx, None)))
    life.do(
        lambda tx: control.reset(
            tx, request_id="r", keeps_paused=True, clears_heartbeat=False, restores_options=False, jitter_ns=0
        )
    )
    life.answer(token, lambda tx: asked.append(machine.heartbeat(tx, None)))
    life.do(lambda tx: control.request_cancel(tx, request_id="c", identity="", reason=""))
    life.answer(token, lambda tx: asked.append(machine.heartbeat(tx, None)))
    assert asked == [machine.Asked(pause=True), machine.Asked(reset=True), machine.Asked(cancel=True)]
    life.fail(token)
    assert life.header.status == 3, "it is not retried"


def test_links_are_attached_once_per_request_and_not_without_end() -> None:
    """The number of links of one execution has a limit."""
    life = Life()
    links = [common.Link()] * (control.MAX_LINKS - 1)
    life.do(lambda tx: control.attach_links(tx, "one", links))
    life.do(lambda tx: control.attach_links(tx, "one", links))
    with pytest.raises(FailedPreconditionError):
        life.do(lambda tx: control.attach_links(tx, "two", links[:2]))
    assert life.state is not None
    assert len(life.state.all_links) == control.MAX_LINKS - 1


def test_invariants_find_what_is_wrong() -> None:
    """A rule that nothing can break watches nothing."""
    life = Life()
    state = life.state
    assert state is not None
    with pytest.raises(InvariantViolation, match="task row"):
        invariants.check(state, [])
    life.take()
    running = life.state
    assert running is not None
    running.header.attempt.backing_off = True
    with pytest.raises(InvariantViolation, match="back off"):
        invariants.check(running, [])
    running.header.status = 2
    with pytest.raises(InvariantViolation, match="outcome exactly when"):
        invariants.check(running, [])
    with pytest.raises(InvariantViolation, match="versions count up"):
        invariants.check(replace(running, version=9), [], state)


ACTIONS: dict[str, Callable[[Life], object]] = {
    "take": lambda life: life.take() if TASK in life.tasks else None,
    "heartbeat": lambda life: life.answer(life.token(), lambda tx: machine.heartbeat(tx, payloads("p"))),
    "complete": lambda life: life.answer(
        life.token(), lambda tx: machine.complete(tx, payloads("r"), "worker")
    ),
    "fail": lambda life: life.fail(life.token()),
    "fail for good": lambda life: life.fail(life.token(), application_failure(non_retryable=True)),
    "confirm": lambda life: life.answer(life.token(), lambda tx: machine.cancel(tx, None)),
    "cancel": lambda life: life.do(
        lambda tx: (
            machine.close_canceled(tx, None)
            if control.request_cancel(tx, request_id="c", identity="", reason="")
            else None
        )
    ),
    "terminate": lambda life: life.do(
        lambda tx: machine.close_terminated(tx, "", "") if tx.header.is_open else None
    ),
    "pause": lambda life: life.do(
        lambda tx: control.pause(tx, request_id=str(life.now_ns), identity="", reason="")
    ),
    "unpause": lambda life: life.do(lambda tx: control.unpause(tx, request_id=str(life.now_ns), jitter_ns=0)),
    "reset": lambda life: life.do(
        lambda tx: control.reset(
            tx,
            request_id=str(life.now_ns),
            keeps_paused=bool(life.now_ns % 2),
            clears_heartbeat=True,
            restores_options=True,
            jitter_ns=SECOND,
        )
    ),
    "options": lambda life: life.do(
        lambda tx: control.set_options(
            tx,
            str(life.now_ns),
            ActivityOptions(start_to_close_timeout=duration(5), schedule_to_close_timeout=duration(30)),
            {"start_to_close_timeout", "schedule_to_close_timeout"},
            restores=False,
        )
    ),
    "wait": lambda life: life.wait(1.3),
    "wait long": lambda life: life.wait(8.00000001),
}
STARTS = st.fixed_dictionaries(
    {},
    optional={
        "start_delay": st.just(duration(2)),
        "heartbeat_timeout": st.just(duration(3)),
        "schedule_to_close_timeout": st.just(duration(20)),
        "schedule_to_start_timeout": st.just(duration(4)),
        "retry_policy": st.sampled_from(
            [retry_policy(attempts=2, initial_s=1), retry_policy(initial_s=7, coefficient=1)]
        ),
    },
)


@settings(max_examples=300, deadline=None)
@given(fields=STARTS, actions=st.lists(st.sampled_from(sorted(ACTIONS)), max_size=25))
def test_random_lives_keep_the_invariants_and_end(fields: dict[str, Any], actions: list[str]) -> None:
    """Whatever comes, every state is a good one; and when workers finish what they take, it ends."""
    life = Life(**fields)
    for action in actions:
        life.now_ns += 1
        with suppress(NotFoundError, FailedPreconditionError, InvalidArgumentError):
            ACTIONS[action](life)
        assert life.state is not None
        messages.describe(
            life.state, life.now_ns, common.SearchAttributes(), heartbeat=True, last_failure=True
        )
    for _ in range(4):
        if life.header.is_open and life.header.attempt.paused_ns and not life.header.cancel_ns:
            if not life.header.attempt.is_reset:
                life.do(lambda tx: control.unpause(tx, request_id=str(life.now_ns), jitter_ns=0))
        life.wait(200)
        if TASK in life.tasks:
            token = life.take()
            life.answer(token, lambda tx: machine.complete(tx, None, "worker"))
    assert not life.header.is_open
    assert not life.tasks
