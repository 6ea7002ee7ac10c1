"""Queries, updates and what they may not do; handlers that are cut short by the end of a workflow."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from perdure import workflow
from perdure.api.sdk.v1 import EnhancedStackTrace, WorkflowMetadata
from perdure.common import RawValue
from perdure.core.replay.activation import Activation, QueryWorkflow
from perdure.core.replay.instructions import (
    AnswerQuery,
    CompleteWorkflow,
    UpdateAccepted,
    UpdateCompleted,
    UpdateRejected,
)
from perdure.exceptions import ApplicationError

from .driver import CONVERTER, Driver, kinds, only, pause, signal, update, value_of


@workflow.defn
class Counter:
    """A counter that can be asked and changed."""

    def __init__(self) -> None:
        self.value = 0
        self.is_done = False

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self.is_done)
        return self.value

    @workflow.signal(description="ends it")
    def finish(self) -> None:
        self.is_done = True

    @workflow.query(description="what it says")
    def current(self) -> int:
        return self.value

    @workflow.query
    def sneaky(self) -> int:
        workflow.set_current_details("changed by a query")
        return self.value

    @workflow.query
    def memo_query(self) -> None:
        workflow.upsert_memo({"changed": "by a query"})

    @workflow.query
    def random_query(self) -> float:
        return workflow.random().random()

    @workflow.update
    async def add(self, amount: int) -> int:
        await pause(1)
        self.value += amount
        return self.value

    @add.validator
    def check_add(self, amount: int) -> None:
        if amount < 0:
            raise ValueError("only up")
        if amount == 99:
            workflow.start_activity("forbidden")

    @workflow.update
    def add_at_once(self, amounts: list[int]) -> list[int]:
        self.value += sum(amounts)
        return amounts

    @add_at_once.validator
    def check_amounts(self, amounts: list[int]) -> None:
        amounts.clear()

    @workflow.update
    async def fails(self, kind: str) -> None:
        raise {"application": ApplicationError, "value": ValueError}[kind]("no luck")


def test_a_query_is_answered_without_changing_anything() -> None:
    """And leaves no instruction but its answer."""
    run = Driver(Counter)
    run.start()
    assert value_of(run.query("current").result) == 0


@pytest.mark.parametrize("name", ["sneaky", "memo_query", "random_query"])
def test_a_query_that_changes_something_fails(name: str) -> None:
    """The workflow does not."""
    run = Driver(Counter)
    run.start()
    failure = run.query(name).failure
    assert failure is not None
    assert failure.application_failure_info.type == "ReadOnlyContextError"
    assert kinds(run.send(signal("finish"))) == ["CompleteWorkflow"]


def test_a_query_without_handler_fails_and_says_which_there_are() -> None:
    """In the order of their names."""
    run = Driver(Counter)
    run.start()
    failure = run.query("other").failure
    assert failure is not None
    assert "Query handler for 'other' expected but not found" in failure.message
    assert "__stack_trace __temporal_workflow_metadata current" in failure.message


@workflow.defn
class WaitingQuery:
    """A query that waits for something."""

    @workflow.run
    async def run(self) -> None:
        await pause(100)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")

        @workflow.query
        async def waits(self) -> None:
            await asyncio.Event().wait()

    @workflow.query
    def quick(self) -> str:
        return "quick"

    @workflow.query
    def cancelled(self) -> str:
        raise asyncio.CancelledError


def test_a_query_that_raises_a_cancellation_is_answered_with_an_error() -> None:
    """Whoever asked would wait until the end of his time."""
    run = Driver(WaitingQuery)
    run.start()
    failure = run.query("cancelled").failure
    assert failure is not None
    assert "raised CancelledError, although nobody cancelled it" in failure.message
    assert value_of(run.query("quick").result) == "quick"


def test_a_query_that_waits_is_answered_with_an_error() -> None:
    """Nothing more would ever happen to it; and the workflow is not left read-only."""
    run = Driver(WaitingQuery)
    run.start()
    failure = run.query("waits").failure
    assert failure is not None
    assert "must answer at once" in failure.message
    assert value_of(run.query("quick").result) == "quick"
    assert run.fire(1) != []


def test_an_update_is_validated_accepted_and_completed() -> None:
    """Its result follows when its handler returns."""
    run = Driver(Counter)
    run.start()
    accepted, timer = run.send(update("add", 5))
    assert isinstance(accepted, UpdateAccepted)
    assert accepted.protocol_instance_id == "instance-update-1"
    assert type(timer).__name__ == "StartTimer"
    completed = only(run.fire(1, after_s=1), UpdateCompleted)
    assert (completed.protocol_instance_id, value_of(completed.result)) == ("instance-update-1", 5)


def test_a_validator_rejects_with_what_it_raises() -> None:
    """Nothing is accepted."""
    run = Driver(Counter)
    run.start()
    rejected = only(run.send(update("add", -1)), UpdateRejected)
    assert (rejected.failure.message, rejected.protocol_instance_id) == ("only up", "instance-update-1")


def test_an_accepted_update_of_history_is_not_validated_again() -> None:
    """Whatever the validator would say today."""
    run = Driver(Counter)
    run.start()
    assert kinds(run.send(update("add", -1, run_validator=False))) == ["UpdateAccepted", "StartTimer"]


def test_a_validator_that_asks_for_something_fails_the_task() -> None:
    """It is a bug of the code, not of the caller."""
    run = Driver(Counter)
    run.start()
    failure = run.task_failure(update("add", 99))
    assert "read-only" in failure.message


def test_a_validator_cannot_change_what_the_handler_gets() -> None:
    """The arguments are converted again for the handler."""
    run = Driver(Counter)
    run.start()
    _, completed = run.send(update("add_at_once", [1, 2]))
    assert isinstance(completed, UpdateCompleted)
    assert value_of(completed.result) == [1, 2]


def test_an_update_that_fails_after_its_acceptance_ends_with_the_failure() -> None:
    """An application error is the caller's answer; another error fails the task."""
    run = Driver(Counter)
    run.start()
    _, completed = run.send(update("fails", "application"))
    assert isinstance(completed, UpdateCompleted)
    assert completed.failure is not None
    assert completed.failure.message == "no luck"
    assert run.task_failure(update("fails", "value")).message == "no luck"


@workflow.defn
class ContinuesInUpdate:
    """Continues as new where it cannot."""

    @workflow.run
    async def run(self) -> None:
        await pause(100)

    @workflow.update
    async def go_on(self) -> None:
        workflow.continue_as_new()


def test_continue_as_new_from_an_update_handler_fails_the_task() -> None:
    """The caller of the update would never get an answer."""
    run = Driver(ContinuesInUpdate)
    run.start()
    assert run.task_failure(update("go_on")).message == "Cannot continue as new from an update handler"


def test_an_update_without_handler_is_rejected_and_says_which_there_are() -> None:
    """So is one whose argument does not fit."""
    run = Driver(Counter)
    run.start()
    rejected = only(run.send(update("other")), UpdateRejected)
    assert "known updates: [add add_at_once fails]" in rejected.failure.message
    rejected = only(run.send(update("add", {"not": "a number"})), UpdateRejected)
    assert rejected.failure.message == "Failed decoding arguments"


def test_updates_of_the_first_task_see_handlers_that_the_code_sets() -> None:
    """The look for a handler waits until the code has had its turn."""
    run = Driver(SetsHandlers)
    assert kinds(run.start(update("late", 3))) == ["UpdateAccepted", "UpdateCompleted", "StartTimer"]


@workflow.defn
class SetsHandlers:
    """Sets handlers at its start."""

    def __init__(self) -> None:
        workflow.set_update_handler("late", self.late)
        workflow.set_query_handler("sum", lambda: 42)

    @workflow.run
    async def run(self) -> None:
        await pause(100)

    def late(self, value: int) -> int:
        return value


def test_handlers_can_be_set_and_taken_away() -> None:
    """By the code, at any time."""
    run = Driver(SetsHandlers)
    run.start()
    assert value_of(run.query("sum").result) == 42


@workflow.defn
class Dynamic:
    """Takes everything."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: len(self.seen) == 2)
        return self.seen

    @workflow.signal(dynamic=True)
    def any_signal(self, name: str, args: Sequence[RawValue]) -> None:
        self.seen.append(self.read("signal", name, args))

    @workflow.query(dynamic=True)
    def any_query(self, name: str, args: Sequence[RawValue]) -> str:
        return self.read("query", name, args)

    @workflow.update(dynamic=True)
    def any_update(self, name: str, args: Sequence[RawValue]) -> None:
        self.seen.append(self.read("update", name, args))

    @staticmethod
    def read(kind: str, name: str, args: Sequence[RawValue]) -> str:
        values = [workflow.payload_converter().from_payload(arg.payload, int) for arg in args]
        return f"{kind} {name} {values}"


def test_dynamic_handlers_get_the_name_and_raw_values() -> None:
    """For signals, queries and updates alike."""
    run = Driver(Dynamic)
    run.start()
    assert value_of(run.query("ask", 1, 2).result) == "query ask [1, 2]"
    run.send(signal("sig", 3))
    answer = run.send(update("up", 4))
    assert kinds(answer) == ["UpdateAccepted", "UpdateCompleted", "CompleteWorkflow"]
    assert isinstance(answer[2], CompleteWorkflow)
    assert value_of(answer[2].result) == ["signal sig [3]", "update up [4]"]


def test_the_end_of_a_workflow_warns_about_handlers_that_are_running() -> None:
    """With names, ids and what to do."""
    run = Driver(Counter)
    run.start()
    run.send(update("add", 5, id="mine"))
    with pytest.warns(workflow.UnfinishedUpdateHandlersWarning, match="all_handlers_finished") as caught:
        run.send(signal("finish"))
    assert '[{"name": "add", "id": "mine"}]' in str(caught[0].message)


def test_a_warning_that_is_an_error_fails_the_task() -> None:
    """It must not escape into the worker."""
    run = Driver(Counter)
    run.start()
    run.send(update("add", 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        failure = run.task_failure(signal("finish"))
    assert failure.application_failure_info.type == "UnfinishedUpdateHandlersWarning"


@workflow.defn
class Abandons:
    """Does not mind."""

    @workflow.run
    async def run(self) -> bool:
        await pause(1)
        return workflow.all_handlers_finished()

    @workflow.signal(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def slow(self) -> None:
        await pause(100)


def test_handlers_may_be_abandoned_quietly() -> None:
    """If their decorator says so; the code can still ask about them."""
    run = Driver(Abandons)
    run.start(signal("slow"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert value_of(only(run.fire(2), CompleteWorkflow).result) is False


def test_update_info_is_known_in_the_handler_and_what_it_starts() -> None:
    """And nowhere else."""
    run = Driver(KnowsUpdate)
    run.start()
    _, completed = run.send(update("who", id="u-7"))
    assert isinstance(completed, UpdateCompleted)
    assert value_of(completed.result) == ["u-7", "u-7", None]


@workflow.defn
class KnowsUpdate:
    """Asks which update is handled."""

    def __init__(self) -> None:
        self.outside: list[Any] = []

    @workflow.run
    async def run(self) -> None:
        self.outside.append(workflow.current_update_info())
        await pause(100)

    @workflow.update
    async def who(self) -> list[Any]:
        async def inner() -> Any:
            info = workflow.current_update_info()
            return info.id if info else None

        return [await inner(), await asyncio.create_task(inner()), self.outside[0]]


def test_stack_trace_queries_say_where_the_code_waits() -> None:
    """As text, and with the files' contents."""
    run = Driver(Counter)
    run.start()
    text = value_of(run.query("__stack_trace").result)
    assert text.count("Stack for") == 1, "the question's own task is none of the workflow's"
    places = re.findall(r'File "([^"]+)", line \d+, in (\w+)', text)
    assert [(Path(file).name, function) for file, function in places] == [("test_handlers.py", "run")]
    assert "await" in text
    answer = run.query("__enhanced_stack_trace").result
    assert answer is not None
    trace = CONVERTER.payload_converter.from_payload(answer, EnhancedStackTrace)
    assert any("class Counter" in source.content for source in trace.sources.values())
    locations = [(location.function_name, location.internal_code) for location in trace.stacks[0].locations]
    assert ("run", False) in locations
    assert locations[-1][1], "the innermost is what the code waits for"
    assert len(trace.stacks) == 1


def test_metadata_lists_handlers_and_current_details() -> None:
    """For user interfaces."""
    run = Driver(Counter)
    run.start()
    answer = run.query("__temporal_workflow_metadata").result
    assert answer is not None
    metadata = CONVERTER.payload_converter.from_payload(answer, WorkflowMetadata)
    assert metadata.definition.type == "Counter"
    queries = {each.name: each.description for each in metadata.definition.query_definitions}
    assert queries["current"] == "what it says"
    assert [each.name for each in metadata.definition.signal_definitions] == ["finish"]
    assert [each.name for each in metadata.definition.update_definitions] == ["add", "add_at_once", "fails"]


def test_queries_do_not_run_conditions() -> None:
    """A condition may change things, and a query may not."""
    run = Driver(CountsConditions)
    run.start()
    before = value_of(run.query("count").result)
    assert value_of(run.query("count").result) == before


@workflow.defn
class CountsConditions:
    """Counts how often its condition is asked."""

    def __init__(self) -> None:
        self.asked = 0

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(self.ask)

    def ask(self) -> bool:
        self.asked += 1
        return False

    @workflow.query
    def count(self) -> int:
        return self.asked


def test_several_queries_in_one_activation_are_all_answered() -> None:
    """Each by its id."""
    from perdure.api.query.v1 import WorkflowQuery

    run = Driver(Counter)
    run.start()
    asked = [QueryWorkflow(f"q{n}", WorkflowQuery(query_type="current")) for n in range(3)]
    answer = run.program.activate(Activation(run.now_ns, False, 3, asked))
    assert [each.query_id for each in answer.instructions if isinstance(each, AnswerQuery)] == [
        "q0",
        "q1",
        "q2",
    ]


@workflow.defn
class Takes:
    """A workflow that is told things, and handlers that take one argument, or fail inside."""

    @workflow.run
    async def run(self, name: str) -> str:
        await workflow.wait_condition(lambda: False)
        return name

    @workflow.signal
    def told(self, what: str) -> None:
        pass

    @workflow.query
    def fails_inside(self) -> None:
        len(5)  # type: ignore[arg-type]

    @workflow.update
    async def change(self, what: str) -> str:
        return what


def test_a_workflow_that_is_started_with_other_arguments_says_what_to_do() -> None:
    failure = Driver(Takes, "a", "b").task_failure(Driver(Takes, "a", "b").first_job)
    assert "Workflow Takes came with 2 arguments, which Takes.run(self, name: 'str')" in failure.message
    assert "give a new parameter a default" in failure.message


def test_a_signal_with_other_arguments_says_what_to_do() -> None:
    run = Driver(Takes, "a")
    run.start()
    assert "Signal 'told' came with 0 arguments, which Takes.told" in run.task_failure(signal("told")).message


def test_an_update_with_other_arguments_is_rejected_before_it_can_fail_tasks() -> None:
    run = Driver(Takes, "a")
    run.start()
    rejected = only(run.send(update("change")), UpdateRejected)
    assert "Update 'change' came with 0 arguments" in rejected.failure.message
    assert kinds(run.send(update("change", "x", id="2"))) == ["UpdateAccepted", "UpdateCompleted"]


@workflow.defn
class Validates:
    """Has an update with a validator."""

    @workflow.run
    async def run(self) -> None:
        """Waits."""
        await asyncio.Event().wait()

    @workflow.update
    def change(self, what: str) -> str:
        """What it was given."""
        return what

    @change.validator
    def change_validator(self, what: str) -> None:
        """Takes it."""


def test_an_update_with_other_arguments_is_rejected_by_its_validator_first() -> None:
    """Python's own words for what is wrong are in the message, as with the official SDK."""
    run = Driver(Validates)
    run.start()
    rejected = only(run.send(update("change", "a", "b")), UpdateRejected)
    assert "change_validator() takes 2 positional arguments but 3 were given" in rejected.failure.message
    assert kinds(run.send(update("change", "x", id="2"))) == ["UpdateAccepted", "UpdateCompleted"]


def test_a_type_error_of_the_handlers_own_stays_as_it_is() -> None:
    run = Driver(Takes, "a")
    run.start()
    failure = run.query("fails_inside").failure
    assert failure is not None
    assert failure.message == "object of type 'int' has no len()"


@workflow.defn
class Asked:
    """Has a query that takes a number."""

    @workflow.run
    async def run(self) -> None:
        """Waits."""
        await asyncio.Event().wait()

    @workflow.query
    def number(self, number: int) -> int:
        """The number."""
        return number


def test_a_query_whose_arguments_do_not_decode_says_why() -> None:
    """Who asks gets the message and nothing of what caused it."""
    driver = Driver(Asked)
    driver.start()
    answer = driver.query("number", "no number")
    assert answer.failure is not None
    assert answer.failure.message.startswith("Failed decoding arguments: Payload at index 0 ")
