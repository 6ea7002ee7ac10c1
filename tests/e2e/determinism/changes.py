"""Deliberate changes of workflow code: before, after, and what the message must say. A table; no logic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.e2e.determinism import steps as s
from tests.e2e.determinism.steps import Step


@dataclass(frozen=True)
class Change:
    """A workflow before and after a change.

    Attributes:
        name: For people.
        before, after: Its steps, one after the other.
        recorded: How the message begins to say what history recorded; empty when the change is allowed.
        asked: How it begins to say what the code asked for.
        source: The step that the message points to; None when the code asked for nothing.
        closes: The workflow ends after its steps (it is asked something afterwards), rather than waiting.
        in_handler: The steps are those of a signal handler.
    """

    name: str
    before: Sequence[Step]
    after: Sequence[Step]
    recorded: str = ""
    asked: str = ""
    source: Callable[..., Awaitable[Any]] | None = None
    closes: bool = False
    in_handler: bool = False

    def __str__(self) -> str:
        return self.name


_A: Final = "ActivityTaskScheduled(activity_type 'a'"
_B: Final = "ActivityTaskScheduled(activity_type 'b'"
_ASK_A: Final = "ScheduleActivity(activity_type 'a'"
_ASK_B: Final = "ScheduleActivity(activity_type 'b'"
_TIMER: Final = "TimerStarted("
_ASK_TIMER: Final = "StartTimer("
_LOCAL_A: Final = "local activity (activity_type 'a'"
_ASK_LOCAL_A: Final = "ScheduleLocalActivity(activity_type 'a'"
_ASK_LOCAL_B: Final = "ScheduleLocalActivity(activity_type 'b'"
_CHILD_X: Final = "StartChildWorkflowExecutionInitiated(workflow_type 'x'"
_SIGNAL: Final = "SignalExternalWorkflowExecutionInitiated(signal_name 'one'"
_CANCEL: Final = "RequestCancelExternalWorkflowExecutionInitiated(workflow_id 'nobody'"
_MEMO: Final = "WorkflowPropertiesModified"
_SEARCH: Final = "UpsertWorkflowSearchAttributes"
_PATCH: Final = "workflow.patched('p')"
_NO_MORE: Final = "nothing more was asked for in that workflow task"
_NOTHING: Final = "nothing more"

CAUGHT: Final = (
    # activities
    Change("another activity type", [s.a], [s.b], _A, _ASK_B, s.b),
    Change("activities in another order", [s.a, s.b], [s.b, s.a], _A, _ASK_B, s.b),
    Change("first activity removed", [s.a, s.b], [s.b], _A, _ASK_B, s.b),
    Change("last activity removed", [s.a, s.b], [s.a], _B, _NOTHING),
    Change("activity added in front", [s.a], [s.b, s.a], _A, _ASK_B, s.b),
    Change("activity added between", [s.a, s.timer], [s.a, s.b, s.timer], _TIMER, _ASK_B, s.b),
    Change("activity added behind", [s.a], [s.a, s.b], _NO_MORE, _ASK_B, s.b),
    Change("another activity id", [s.a_with_id], [s.a_with_other_id], _A, _ASK_A, s.a_with_other_id),
    Change(
        "activity id by chance drawn later", [s.uuid_id], [s.random_number, s.uuid_id], _A, _ASK_A, s.uuid_id
    ),
    # timers
    Change("timer instead of activity", [s.a], [s.timer], _A, _ASK_TIMER, s.timer),
    Change("activity instead of timer", [s.timer], [s.a], _TIMER, _ASK_A, s.a),
    Change("timer removed", [s.timer, s.a], [s.a], _TIMER, _ASK_A, s.a),
    Change("last timer removed", [s.a, s.timer], [s.a], _TIMER, _NOTHING),
    Change("timer added in front", [s.a], [s.timer, s.a], _A, _ASK_TIMER, s.timer),
    Change("timer added behind", [s.a], [s.a, s.timer], _NO_MORE, _ASK_TIMER, s.timer),
    Change("waiting without a limit", [s.condition_with_timeout, s.a], [s.a], _TIMER, _ASK_A, s.a),
    Change("a limit around an activity", [s.a], [s.limit], _A, _ASK_TIMER, s.limit),
    Change("no limit around an activity", [s.limit], [s.a], _TIMER, _ASK_A, s.a),
    # patches
    Change("patch removed", [s.patched], [s.b], _PATCH, _ASK_B, s.b),
    Change("patch and its code removed", [s.patched], [s.a], _PATCH, _ASK_A, s.a),
    Change("patch deprecated too early", [s.a], [s.deprecated], _A, _ASK_B, s.b),
    Change("patch renamed", [s.patched], [s.patched_in_another_name], _PATCH, _ASK_A, s.a),
    Change("change without a patch", [s.a, s.timer], [s.b, s.timer], _A, _ASK_B, s.b),
    # children
    Change(
        "another child type",
        [s.child_x],
        [s.child_y],
        _CHILD_X,
        "StartChildWorkflow(workflow_type 'y'",
        s.child_y,
    ),
    Change(
        "another child id",
        [s.child_x],
        [s.child_x_of_other_id],
        _CHILD_X,
        "StartChildWorkflow(workflow_type 'x'",
        s.child_x_of_other_id,
    ),
    Change("child removed", [s.child_x, s.a], [s.a], _CHILD_X, _ASK_A, s.a),
    Change("last child removed", [s.a, s.child_x], [s.a], _CHILD_X, _NOTHING),
    Change("child added", [s.a], [s.child_x, s.a], _A, "StartChildWorkflow(workflow_type 'x'", s.child_x),
    Change("activity instead of child", [s.child_x], [s.a], _CHILD_X, _ASK_A, s.a),
    # local activities
    Change("another local activity type", [s.local_a], [s.local_b], _LOCAL_A, _ASK_LOCAL_B, s.local_b),
    Change(
        "local activities in another order",
        [s.local_a, s.local_b],
        [s.local_b, s.local_a],
        _LOCAL_A,
        _ASK_LOCAL_B,
        s.local_b,
    ),
    Change("activity instead of local activity", [s.local_a], [s.a], _LOCAL_A, _ASK_A, s.a),
    Change("local activity instead of activity", [s.a], [s.local_a], _A, _ASK_LOCAL_A, s.local_a),
    Change("local activity removed", [s.local_a, s.timer], [s.timer], _LOCAL_A, _ASK_TIMER, s.timer),
    Change("local activity added", [s.timer], [s.local_a, s.timer], _TIMER, _ASK_LOCAL_A, s.local_a),
    # other workflows
    Change(
        "another signal",
        [s.signal_one],
        [s.signal_two],
        _SIGNAL,
        "SignalExternalWorkflow(signal_name 'two'",
        s._signal_nobody,
    ),
    Change(
        "signal to somebody else",
        [s.signal_one],
        [s.signal_somebody_else],
        _SIGNAL,
        "SignalExternalWorkflow(signal_name 'one'",
        s._signal_nobody,
    ),
    Change("signal removed", [s.signal_one, s.a], [s.a], _SIGNAL, _ASK_A, s.a),
    Change("signal added", [s.a], [s.signal_one, s.a], _A, "SignalExternalWorkflow(", s._signal_nobody),
    Change(
        "cancelled instead of signalled",
        [s.signal_one],
        [s.cancel_nobody],
        _SIGNAL,
        "RequestCancelExternalWorkflow(",
        s._cancel_nobody,
    ),
    Change(
        "somebody else cancelled",
        [s.cancel_nobody],
        [s.cancel_no_one],
        _CANCEL,
        "RequestCancelExternalWorkflow(",
        s._cancel_nobody,
    ),
    Change("cancellation removed", [s.cancel_nobody, s.a], [s.a], _CANCEL, _ASK_A, s.a),
    # properties
    Change("memo removed", [s.memo, s.a], [s.a], _MEMO, _ASK_A, s.a),
    Change("memo added", [s.a], [s.memo, s.a], _A, "UpsertMemo(note)", s.memo),
    Change("search attributes removed", [s.search, s.a], [s.a], _SEARCH, _ASK_A, s.a),
    Change("search attributes added", [s.a], [s.search, s.a], _A, "UpsertSearchAttributes(Colour)", s.search),
    Change(
        "memo instead of search attributes",
        [s.search, s.a],
        [s.memo, s.a],
        _SEARCH,
        "UpsertMemo(note)",
        s.memo,
    ),
    # branches
    Change("branches swapped", [s.gather_a_b], [s.gather_b_a], _A, _ASK_B, s.b),
    Change("branches one after the other", [s.gather_a_b], [s.a, s.b], _B, _NOTHING),
    Change("one after the other became branches", [s.a, s.b], [s.gather_a_b], _NO_MORE, _ASK_B, s.b),
    Change("a branch removed", [s.gather_a_b_timer], [s.gather_a_b], _TIMER, _NOTHING),
    Change("a branch added", [s.gather_a_b], [s.gather_a_b_timer], _NO_MORE, _ASK_TIMER, s.timer),
    Change("tasks of a group swapped", [s.group_a_timer], [s.group_timer_a], _A, _ASK_TIMER, s.timer),
    Change("a race the other way round", [s.race], [s.race_the_other_way_round], _A, _ASK_TIMER, None),
    Change(
        "the losing timer runs on",
        [s.race, s.a],
        [s.race_that_leaves_the_loser, s.a],
        "TimerCanceled(",
        _ASK_A,
        s.a,
    ),
    Change(
        "the losing activity runs on",
        [s.race_with_an_activity, s.a],
        [s.race_that_leaves_the_activity, s.a],
        "ActivityTaskCancelRequested(",
        _ASK_A,
        s.a,
    ),
    # signal handlers
    Change("handler calls another activity", [s.a], [s.b], _A, _ASK_B, s.b, in_handler=True),
    Change("handler calls no activity", [s.a], [], _A, _NOTHING, in_handler=True),
    Change("handler calls an activity", [], [s.a], _NO_MORE, _ASK_A, s.a, in_handler=True),
    Change("handler waits", [s.a], [s.timer, s.a], _A, _ASK_TIMER, s.timer, in_handler=True),
    # ends
    Change(
        "fails instead of completing",
        [s.a],
        [s.a, s.fail],
        "WorkflowExecutionCompleted",
        "FailWorkflow",
        closes=True,
    ),
    Change(
        "completes instead of failing",
        [s.a, s.fail],
        [s.a],
        "WorkflowExecutionFailed",
        "CompleteWorkflow",
        closes=True,
    ),
    Change(
        "continues as new", [s.a], [s.a, s.again], "WorkflowExecutionCompleted", "ContinueAsNew(", closes=True
    ),
    Change(
        "completes instead of continuing",
        [s.a, s.again],
        [s.a],
        "WorkflowExecutionContinuedAsNew",
        "CompleteWorkflow",
        closes=True,
    ),
    Change("completes earlier", [s.a, s.b], [s.a], _B, "CompleteWorkflow", closes=True),
    Change("completes later", [s.a], [s.a, s.b], "WorkflowExecutionCompleted", _ASK_B, s.b, closes=True),
)

ALLOWED: Final = (
    Change("logging added", [s.a, s.timer], [s.log, s.a, s.log, s.timer, s.log]),
    Change("other arguments", [s.a], [s.a_with_argument]),
    Change("other options", [s.a], [s.a_with_options]),
    Change("another duration", [s.timer], [s.longer_timer]),
    Change("waiting for a condition instead of sleeping", [s.timer], [s.condition_with_timeout]),
    Change("a turn of the loop more", [s.a, s.b], [s.a_turn, s.a, s.a_turn, s.b]),
    Change("random numbers that decide nothing", [s.a], [s.random_number, s.a]),
    Change("a patch with its old code", [s.a], [s.patched]),
    Change("a patch deprecated", [s.patched], [s.deprecated]),
    Change("a deprecated patch removed", [s.deprecated], [s.b]),
    Change("other options of a local activity", [s.local_a], [s.local_a_with_options]),
    Change("other options of a child", [s.child_x], [s.child_x_with_options]),
    Change("another value of a memo", [s.memo, s.a], [s.other_memo, s.a]),
    Change("another value of a search attribute", [s.search, s.a], [s.other_search, s.a]),
    Change("branches of the same order", [s.gather_a_b], [s.gather_a_b]),
    Change("handler logs", [s.a], [s.log, s.a], in_handler=True),
    Change("another failure", [s.a, s.fail], [s.a, s.fail_otherwise], closes=True),
)
