"""What a run carries with it: info, memo, search attributes, patches, randomness; interceptors; versions; children."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from perdure import workflow
from perdure.common import (
    RawValue,
    SearchAttributeKey,
    TypedSearchAttributes,
    VersioningBehavior,
    WorkflowIDReusePolicy,
)
from perdure.converter import encode_search_attributes
from perdure.core.replay.activation import (
    FireTimer,
    NotifyHasPatch,
    ResolveCancelExternal,
    ResolveChildWorkflow,
    ResolveChildWorkflowStart,
    ResolveSignalExternal,
    UpdateRandomSeed,
)
from perdure.core.replay.instructions import (
    CancelChildWorkflow,
    CancelExternalWorkflow,
    CompleteWorkflow,
    FailWorkflow,
    ModifyMemo,
    ScheduleActivity,
    SetPatch,
    SignalExternalWorkflow,
    StartChildWorkflow,
    UpsertSearchAttributes,
)
from perdure.exceptions import ApplicationError, ChildWorkflowError, RetryState, WorkflowAlreadyStartedError
from perdure.worker.interceptor_workflow import (
    ContinueAsNewInput,
    ExecuteWorkflowInput,
    HandleSignalInput,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowOutboundInterceptor,
)
from perdure.worker.workflow_code import PatchActivationInput
from perdure.workflow import ActivityHandle

from .driver import START_NS, Driver, failure_of, kinds, only, pause, payloads, signal, value_of

CITY = SearchAttributeKey.for_keyword("City")
AGE = SearchAttributeKey.for_int("Age")


@workflow.defn
class Memo:
    """Reads and changes its memo."""

    @workflow.run
    async def run(self) -> list[Any]:
        before = dict(workflow.memo())
        workflow.upsert_memo({"new": 1, "old": None})
        return [
            before,
            dict(workflow.memo()),
            workflow.memo_value("new", type_hint=int),
            workflow.memo_value("old", "gone"),
        ]


def test_the_memo_changes_at_once_and_in_history() -> None:
    """A removed value is written as null."""
    change, completed = Driver(Memo, memo={"old": "x", "kept": True}).start()
    assert isinstance(change, ModifyMemo)
    assert isinstance(completed, CompleteWorkflow)
    assert value_of(change.upserted_memo.fields["new"]) == 1
    assert value_of(change.upserted_memo.fields["old"]) is None
    assert value_of(completed.result) == [{"old": "x", "kept": True}, {"kept": True, "new": 1}, 1, "gone"]


@workflow.defn
class Attributes:
    """Changes its search attributes."""

    @workflow.run
    async def run(self) -> list[Any]:
        workflow.upsert_search_attributes([CITY.value_set("Bern"), AGE.value_unset()])
        info = workflow.info()
        return [
            info.typed_search_attributes.get(CITY),
            info.typed_search_attributes.get(AGE),
            dict(info.search_attributes),
        ]


def test_what_one_run_upserts_no_other_has() -> None:
    """A run that is started without search attributes has none of anybody else's."""
    Driver(Attributes).start()
    assert list(TypedSearchAttributes.empty) == []
    assert Driver(Attributes).started.search_attributes.indexed_fields == {}


def test_search_attributes_change_at_once_and_in_history() -> None:
    """In the typed and in the old form."""
    run = Driver(Attributes)
    encode_search_attributes(
        TypedSearchAttributes([*TypedSearchAttributes.empty, *_pairs()]), run.started.search_attributes
    )
    change, completed = run.start()
    assert isinstance(change, UpsertSearchAttributes)
    assert isinstance(completed, CompleteWorkflow)
    assert value_of(change.search_attributes.indexed_fields["City"]) == "Bern"
    assert value_of(completed.result) == ["Bern", None, {"City": ["Bern"], "Age": []}]


def _pairs() -> list[Any]:
    from perdure.common import SearchAttributePair

    return [SearchAttributePair(CITY, "Basel"), SearchAttributePair(AGE, 40)]


@workflow.defn
class Patched:
    """Asks for a patch, twice."""

    @workflow.run
    async def run(self) -> list[bool]:
        first = workflow.patched("new way")
        await pause(1)
        return [first, workflow.patched("new way")]


def test_a_new_run_takes_the_patch_and_writes_it_once() -> None:
    """The answer stays the same for the run."""
    run = Driver(Patched)
    patch, _ = run.start()
    assert isinstance(patch, SetPatch)
    assert (patch.patch_id, patch.is_deprecated) == ("new way", False)
    assert value_of(only(run.fire(1), CompleteWorkflow).result) == [True, True]


def test_a_replay_takes_the_patch_if_history_has_it() -> None:
    """And not otherwise, even when new work follows."""
    old = Driver(Patched)
    old.is_replaying = True
    assert kinds(old.start()) == ["StartTimer"]
    old.is_replaying = False
    assert value_of(only(old.fire(1), CompleteWorkflow).result) == [False, False]
    new = Driver(Patched)
    new.is_replaying = True
    assert kinds(new.start(NotifyHasPatch("new way"))) == ["SetPatch", "StartTimer"]


def test_a_worker_may_decide_about_new_patches() -> None:
    """During an upgrade of many workers."""
    asked: list[PatchActivationInput] = []

    def refuse(input: PatchActivationInput) -> bool:
        asked.append(input)
        return False

    assert kinds(Driver(Patched, patch_activation_callback=refuse).start()) == ["StartTimer"]
    assert [(each.patch_id, each.workflow_info.workflow_id) for each in asked] == [("new way", "workflow-id")]


@workflow.defn
class Deprecated:
    """Has only the new code."""

    @workflow.run
    async def run(self) -> None:
        workflow.deprecate_patch("new way")


def test_a_deprecated_patch_is_written_as_such() -> None:
    """So that later code may drop it."""
    patch, _ = Driver(Deprecated).start()
    assert isinstance(patch, SetPatch)
    assert patch.is_deprecated


@workflow.defn
class Randomness:
    """Draws random numbers."""

    def __init__(self) -> None:
        self.own = workflow.new_random()
        self.named = workflow.new_random("named")

    @workflow.run
    async def run(self) -> list[Any]:
        before = [
            workflow.random().random(),
            str(workflow.uuid4()),
            self.own.random(),
            workflow.random_seed(),
        ]
        await pause(1)
        after = [workflow.random().random(), self.own.random(), self.named.random()]
        return [before, after, str(workflow.uuid7())[14]]


def test_random_numbers_follow_from_the_seed() -> None:
    """As official workers draw them, so that ids in their histories are the same here."""
    run = Driver(Randomness, seed=123)
    run.start()
    result = value_of(only(run.send(UpdateRandomSeed(9), FireTimer(1)), CompleteWorkflow).result)
    expected = random.Random(123)
    first = expected.random()
    bits = expected.getrandbits(128)
    assert result[0][0] == first
    assert result[0][1].replace("-", "")[:12] == f"{bits:032x}"[:12]
    assert result[0][2:] == [first, 123]
    again = random.Random(9).random()
    assert result[1] == [again, again, random.Random("9:named").random()]
    assert result[2] == "7", "the version of the UUID"


@workflow.defn
class Parent:
    """Starts a child, signals and cancels it and another workflow."""

    @workflow.run
    async def run(self, id: str | None) -> list[Any]:
        try:
            child = await workflow.start_child_workflow(
                "Child",
                args=["x"],
                id=id,
                result_type=str,
                memo={"from": "parent"},
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                execution_timeout=timedelta(minutes=1),
                static_summary="a child",
            )
        except WorkflowAlreadyStartedError as error:
            return [str(error.workflow_id)]
        await child.signal("greet", "hi")
        other = workflow.get_external_workflow_handle("other", run_id="its-run")
        await other.signal("greet", "ho")
        await other.cancel(reason="enough")
        try:
            return [child.id, child.first_execution_run_id, await child]
        except ChildWorkflowError as error:
            return [repr(error.cause)]


def _started(run: Driver) -> None:
    run.send(ResolveChildWorkflowStart(1, run_id="child-run"))
    run.send(ResolveSignalExternal(1))
    run.send(ResolveSignalExternal(2))
    run.send(ResolveCancelExternal(1))


def test_a_child_is_started_signalled_and_awaited() -> None:
    """Every step waits for the server's answer."""
    run = Driver(Parent, "child-id")
    child = only(run.start(), StartChildWorkflow)
    assert child.attributes.workflow_id == "child-id"
    assert child.attributes.workflow_type.name == "Child"
    assert child.attributes.workflow_execution_timeout.seconds == 60
    assert value_of(child.attributes.memo.fields["from"]) == "parent"
    assert child.metadata is not None
    to_child = only(run.send(ResolveChildWorkflowStart(1, run_id="child-run")), SignalExternalWorkflow)
    assert to_child.attributes.child_workflow_only
    assert to_child.attributes.execution.workflow_id == "child-id"
    to_other = only(run.send(ResolveSignalExternal(1)), SignalExternalWorkflow)
    assert (to_other.attributes.execution.run_id, value_of(to_other.attributes.input)) == ("its-run", "ho")
    cancel = only(run.send(ResolveSignalExternal(2)), CancelExternalWorkflow)
    assert (cancel.attributes.workflow_id, cancel.attributes.reason) == ("other", "enough")
    assert run.send(ResolveCancelExternal(1)) == []
    completed = only(run.send(ResolveChildWorkflow(1, payloads("done"))), CompleteWorkflow)
    assert value_of(completed.result) == ["child-id", "child-run", "done"]


def test_a_child_without_id_gets_one_from_the_runs_randomness() -> None:
    """The same on every replay."""
    ids = {
        only(Driver(Parent, None, seed=5).start(), StartChildWorkflow).attributes.workflow_id
        for _ in range(3)
    }
    assert len(ids) == 1
    assert len(ids.pop()) == 36


def test_a_child_whose_id_is_in_use_does_not_start() -> None:
    """The error says which id."""
    run = Driver(Parent, "child-id")
    run.start()
    job = ResolveChildWorkflowStart(1, already_exists=True, workflow_id="child-id", workflow_type="Child")
    assert value_of(only(run.send(job), CompleteWorkflow).result) == ["child-id"]


def test_a_childs_failure_is_raised_with_its_cause() -> None:
    """Where the child is awaited."""
    run = Driver(Parent, "child-id")
    run.start()
    _started(run)
    error = ChildWorkflowError(
        "Child failed",
        namespace="default",
        workflow_id="child-id",
        run_id="child-run",
        workflow_type="Child",
        initiated_event_id=5,
        started_event_id=6,
        retry_state=RetryState.NON_RETRYABLE_FAILURE,
    )
    error.__cause__ = ApplicationError("bad child")
    answer = run.send(ResolveChildWorkflow(1, failure=failure_of(error)))
    assert "bad child" in value_of(only(answer, CompleteWorkflow).result)[0]


def test_cancelling_the_workflow_cancels_a_child_that_is_starting() -> None:
    """And the start raises the cancellation at once."""
    run = Driver(Parent, "child-id")
    run.start()
    answer = run.cancel("stop")
    assert kinds(answer) == ["CancelChildWorkflow", "CancelWorkflowExecution"]
    assert isinstance(answer[0], CancelChildWorkflow)
    assert answer[0].seq == 1


def test_a_signal_that_was_not_delivered_is_an_error() -> None:
    """Of the call that sent it."""
    run = Driver(Parent, "child-id")
    run.start()
    run.send(ResolveChildWorkflowStart(1, run_id="child-run"))
    answer = run.send(ResolveSignalExternal(1, failure=failure_of(ApplicationError("nobody there"))))
    assert only(answer, FailWorkflow).failure.message == "nobody there"


@workflow.defn(dynamic=True)
class AnyType:
    """Runs every type."""

    @workflow.dynamic_config
    def config(self) -> workflow.DynamicWorkflowConfig:
        return workflow.DynamicWorkflowConfig(
            failure_exception_types=[KeyError],
            versioning_behavior=VersioningBehavior.AUTO_UPGRADE
            if workflow.info().workflow_type == "SomeType"
            else VersioningBehavior.PINNED,
        )

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> None:
        raise KeyError(workflow.payload_converter().from_payload(args[0].payload, str))


def test_a_dynamic_workflow_configures_itself() -> None:
    """By its type, once, before it runs."""
    run = Driver(AnyType, "argument")
    assert "argument" in only(run.start(), FailWorkflow).failure.message
    assert run.answer.versioning_behavior == VersioningBehavior.AUTO_UPGRADE


@workflow.defn
class Initialised:
    """Takes its argument in `__init__` too."""

    @workflow.init
    def __init__(self, name: str) -> None:
        self.name = name
        self.info = workflow.info()

    @workflow.run
    async def run(self, name: str) -> list[Any]:
        return [
            self.name,
            self.info.workflow_id,
            self.info.run_id,
            self.info.attempt,
            int(self.info.start_time.timestamp()),
            workflow.in_workflow(),
            workflow.instance() is self,
        ]


def test_init_gets_the_arguments_and_may_ask_for_info() -> None:
    """In the run's own loop."""
    result = value_of(only(Driver(Initialised, "bob").start(), CompleteWorkflow).result)
    assert result == ["bob", "workflow-id", "run-id", 1, START_NS // 10**9, True, True]
    assert not workflow.in_workflow()


@workflow.defn
class Logs:
    """Logs and counts."""

    @workflow.run
    async def run(self) -> None:
        workflow.logger.info("first")
        await pause(1)
        workflow.logger.info("second", extra={"own": 1})


def test_log_lines_say_which_workflow_and_are_silent_during_replay(caplog: pytest.LogCaptureFixture) -> None:
    """So that each line is written once."""
    run = Driver(Logs)
    run.is_replaying = True
    with caplog.at_level(logging.INFO):
        run.start()
        run.is_replaying = False
        run.fire(1)
    lines = [record for record in caplog.records if record.name == "perdure.workflow"]
    assert [record.message.split(" (")[0] for record in lines] == ["second"]
    assert vars(lines[0])["temporal_workflow"]["workflow_id"] == "workflow-id"
    assert lines[0].funcName == "run", "the line is the caller's"
    assert vars(lines[0])["own"] == 1


_calls: list[str] = []


class Inbound(WorkflowInboundInterceptor):
    """Notes what comes in."""

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        _calls.append(f"init {workflow.info().workflow_id}")
        super().init(Outbound(outbound))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        _calls.append(f"execute {input.type.__name__}{list(input.args)}")
        return f"intercepted {await super().execute_workflow(input)}"

    async def handle_signal(self, input: HandleSignalInput) -> None:
        _calls.append(f"signal {input.signal}")
        await super().handle_signal(input)


class Outbound(WorkflowOutboundInterceptor):
    """Changes what goes out."""

    def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:
        input.headers = {"trace": payloads("t-1").payloads[0]}
        return super().start_activity(input)

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        _calls.append("continue as new")
        super().continue_as_new(input)


@workflow.defn
class Watched:
    """Does a bit of everything."""

    @workflow.run
    async def run(self, name: str) -> str:
        return str(await workflow.execute_activity("some", start_to_close_timeout=timedelta(seconds=9)))

    @workflow.signal
    def poke(self) -> None:
        pass


def test_interceptors_see_and_change_what_comes_in_and_goes_out() -> None:
    """In the order of the chain."""
    _calls.clear()
    run = Driver(Watched, "bob", interceptor_classes=[Inbound])
    scheduled = only(run.start(signal("poke")), ScheduleActivity)
    assert value_of(scheduled.attributes.header.fields["trace"]) == "t-1"
    assert value_of(only(run.resolve(1, "done"), CompleteWorkflow).result) == "intercepted done"
    assert _calls == ["init workflow-id", "signal poke", "execute Watched['bob']"]


@workflow.defn
class Asks:
    """Asks for a timer on a known line."""

    @workflow.run
    async def run(self) -> None:
        await pause(1)  # the first line


@workflow.defn
class AsksAtOnce:
    """Starts activities whose coroutines run in tasks of their own."""

    @workflow.run
    async def run(self) -> None:
        await asyncio.gather(
            *[
                workflow.execute_activity("some", start_to_close_timeout=timedelta(seconds=9))
                for _ in range(2)
            ]
        )  # the gathering ends


def test_activities_that_are_gathered_say_where() -> None:
    """No frame of the user's code is on the stack when they start."""
    lines = Path(__file__).read_text().splitlines()
    last = next(number for number, line in enumerate(lines, 1) if line.endswith("# the gathering ends"))
    for scheduled in Driver(AsksAtOnce, always_tracks_sources=True).start():
        asked: Any = scheduled
        file, _, line = asked.source.rpartition(":")
        assert file == __file__
        assert last - 6 < int(line) <= last


def _first_source(run: Driver) -> Any:
    first: Any = run.start()[0]
    return first.source


def test_instructions_of_a_replay_say_where_they_come_from() -> None:
    """File and line of the user's code; new work spends no time on it unless it is asked to."""
    lines = Path(__file__).read_text().splitlines()
    expected = next(number for number, line in enumerate(lines, 1) if line.endswith("# the first line"))
    replayed, new = Driver(Asks), Driver(Asks)
    replayed.is_replaying = True
    assert _first_source(replayed) == f"{__file__}:{expected}"
    assert _first_source(new) is None
    assert _first_source(Driver(Asks, always_tracks_sources=True)) == f"{__file__}:{expected}"
