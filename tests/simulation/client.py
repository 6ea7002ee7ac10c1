"""Simulated client processes: each takes a few workflows through their lives and checks what it is told.

A client repeats a call whose outcome it does not know, with the same request id, until it gets an answer.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from google.protobuf.message import Message

from perdure.api.common.v1 import Callback, WorkflowExecution
from perdure.api.enums.v1 import UpdateWorkflowExecutionLifecycleStage, WorkflowIdConflictPolicy
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    CountWorkflowExecutionsResponse,
    DeleteWorkflowExecutionRequest,
    DeleteWorkflowExecutionResponse,
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryResponse,
    GetWorkflowExecutionHistoryReverseRequest,
    GetWorkflowExecutionHistoryReverseResponse,
    ListWorkflowExecutionsRequest,
    ListWorkflowExecutionsResponse,
    QueryWorkflowRequest,
    QueryWorkflowResponse,
    RequestCancelWorkflowExecutionRequest,
    RequestCancelWorkflowExecutionResponse,
    ResetWorkflowExecutionRequest,
    ResetWorkflowExecutionResponse,
    SignalWithStartWorkflowExecutionRequest,
    SignalWithStartWorkflowExecutionResponse,
    SignalWorkflowExecutionRequest,
    SignalWorkflowExecutionResponse,
    StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
    TerminateWorkflowExecutionRequest,
    TerminateWorkflowExecutionResponse,
    UpdateWorkflowExecutionRequest,
    UpdateWorkflowExecutionResponse,
)
from perdure.core.run.callback import FAILED, SUCCEEDED
from perdure.core.run.records import RunKey
from perdure.server.engine.queries import FAILING_ATTEMPT
from tests.simulation.context import Context
from tests.simulation.interpreter import attributes_of, event_name, payloads, value_of
from tests.simulation.loop import Node
from tests.simulation.model import check
from tests.simulation.network import CallFailed
from tests.simulation.outside import address
from tests.simulation.program import CANCEL, CLEAN_UP, IGNORE, Program, agrees, predict, random_program
from tests.simulation.runtime import new_uuid

Response = TypeVar("Response", bound=Message)
FAIL = WorkflowIdConflictPolicy.Value("WORKFLOW_ID_CONFLICT_POLICY_FAIL")
USE_EXISTING = WorkflowIdConflictPolicy.Value("WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING")
TERMINATE_EXISTING = WorkflowIdConflictPolicy.Value("WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING")
_ACCEPTED = UpdateWorkflowExecutionLifecycleStage.Value("UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED")


@dataclass(slots=True)
class Plan:
    """What is to be done with one workflow id.

    Attributes:
        rivals: starts of the same id at about the same time, with request ids of their own.
        cancel_at_s, terminate_at_s: when it is asked for, None for never.
        queries, updates, extra_signals: how many.
        run_timeout_s: 0 for none.
        resets: reset to some workflow task once it is over.
        may_reset_open: reset as soon as an update has been accepted that somebody waits for, unless it is over.
        is_reset_open: that was asked for.
        retries: the workflow has a retry policy of two attempts.
    cron: its schedule, "" for none.
        restart: started once more after its end, with the same id.
        delete: deleted in the end.
    """

    namespace: str
    workflow_id: str
    task_queue: str
    program: Program
    starts_at_s: float = 0.0
    rivals: int = 0
    conflict_policy: int = FAIL
    cancel_at_s: float | None = None
    terminate_at_s: float | None = None
    queries: int = 0
    updates: int = 0
    extra_signals: int = 0
    run_timeout_s: float = 0.0
    start_delay_s: float = 0.0
    eager: bool = False
    signal_with_start: bool = False
    retries: bool = False
    cron: str = ""
    resets: bool = False
    may_reset_open: bool = False
    is_reset_open: bool = False
    restart: bool = False
    delete: bool = False
    acknowledged: set[str] = field(default_factory=set)
    """Request ids of acknowledged signals."""

    @property
    def is_shared(self) -> bool:
        """Whether several runs may stand for the id, so that what is said of one may meet another."""
        return bool(self.rivals) or self.restart

    @property
    def is_followed(self) -> bool:
        """Whether other runs may follow the one that is started."""
        return "next" in self.program or self.retries or bool(self.cron)


def draw_plan(random: Random, number: int, namespace: str, task_queue: str) -> Plan:
    """A random plan."""
    shared = random.random() < 0.2
    program = random_program(random, waits_for_signals=not shared)
    plan = Plan(namespace, f"w{number}", task_queue, program, random.uniform(0, 20))
    if shared:
        plan.rivals = random.randint(0, 2)
        plan.restart = not plan.rivals or random.random() < 0.5
        plan.conflict_policy = random.choice((FAIL, USE_EXISTING, TERMINATE_EXISTING))
    elif random.random() < 0.15:
        plan.signal_with_start = bool(program["signals"])
    if random.random() < 0.2:
        plan.cancel_at_s = random.uniform(0, 30)
    if random.random() < 0.1:
        plan.terminate_at_s = random.uniform(0, 30)
    plan.queries = random.choice((0, 0, 1, 3))
    plan.extra_signals = 0 if shared else random.choice((0, 0, 0, 2, 6))
    plan.run_timeout_s = random.choice((5.0, 60.0)) if random.random() < 0.1 else 0.0
    plan.start_delay_s = random.choice((2.0, 6.0)) if random.random() < 0.15 else 0.0
    plan.eager = random.random() < 0.1
    plan.delete = random.random() < 0.15
    plan.updates = random.choice((0, 0, 1, 3))
    # A second attempt would wait for ever for signals that only the first one got.
    # Children that go on, and starts that come again, would meet the second run.
    alone = not shared and not plan.rivals and "child" not in str(program) and "abort" not in str(program)
    plan.resets = alone and random.random() < 0.15
    plan.retries = not program["signals"] and random.random() < 0.15
    # The new run would wait for ever for signals that are refused because the old one has ended.
    plan.may_reset_open = alone and not plan.resets and not plan.retries and not program["signals"]
    plan.may_reset_open = plan.may_reset_open and "next" not in program
    return plan


class SimClient:
    """One client process.

    Args:
        context: the world.
        node: the process.
        name: unique.
        plans: its workflows.
    """

    def __init__(self, context: Context, node: Node, name: str, plans: list[Plan]) -> None:
        self._context = context
        self._loop = context.loop
        self._node = node
        self._name = name
        self._random = context.stream(f"client {name}")
        self.unfinished = 0
        for plan in plans:
            self._begin(self._follow(plan))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task that must have ended for the client to be finished."""
        self.unfinished += 1
        task = self._context.start(self._node, work)
        task.add_done_callback(self._end)

    def _end(self, task: object) -> None:
        self.unfinished -= 1

    # --- a workflow's life

    async def _follow(self, plan: Plan) -> None:
        await self._loop.sleep(plan.starts_at_s)
        for _ in range(plan.rivals):
            self._begin(self._compete(plan))
        run_id = await self._start(plan, new_uuid(self._random))
        if run_id is None:
            return
        self._schedule_actions(plan, run_id)
        await self._finish(plan, run_id)
        if plan.resets:
            await self._reset(plan, run_id)
        if plan.restart:
            again = await self._start(plan, new_uuid(self._random))
            if again is not None:
                self._context.trace.reach("workflow id used again")
                await self._finish(plan, again)
        await self._query_closed(plan, run_id)
        await self._read_backwards(plan, run_id)
        if plan.delete and not plan.is_shared:
            await self._delete(plan, run_id)

    async def _compete(self, plan: Plan) -> None:
        await self._loop.sleep(self._random.uniform(0, 0.5))
        run_id = await self._start(plan, new_uuid(self._random))
        if run_id is not None:
            await self._finish(plan, run_id)

    def _schedule_actions(self, plan: Plan, run_id: str) -> None:
        names = list(plan.program["signals"]) + ["extra"] * plan.extra_signals
        # A delayed start is the time in which questions and signals are most likely to be mistaken.
        soon = plan.start_delay_s > 0
        for name in names:
            self._begin(
                self._after(5.0 if soon else 20.0, functools.partial(self._signal, plan, run_id, name))
            )
        for _ in range(plan.queries):
            self._begin(self._after(2.0 if soon else 30.0, lambda: self._query(plan, run_id)))
        for _ in range(plan.updates):
            self._begin(self._after(3.0 if soon else 25.0, lambda: self._update(plan, run_id)))
        if plan.cancel_at_s is not None:
            self._begin(self._at(plan.cancel_at_s, lambda: self._cancel(plan, run_id)))
        if plan.terminate_at_s is not None:
            self._begin(self._at(plan.terminate_at_s, lambda: self._terminate(plan, run_id)))
        self._begin(self._after(30.0, lambda: self._look(plan, run_id)))
        if self._random.random() < 0.3:
            self._begin(self._after(5.0, lambda: self._tail(plan, run_id)))

    async def _at(self, delay_s: float, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._loop.sleep(delay_s)
        await act()

    async def _after(self, most_s: float, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._at(self._random.uniform(0, most_s), act)

    # --- calls

    async def _call(
        self, request: Message, response: type[Response], *allowed: str, timeout_s: float = 10.0
    ) -> Response | CallFailed:
        """Calls until there is an answer; errors whose names are allowed are answers too."""
        while True:
            try:
                answer = await self._context.network.call(request, response, timeout_s)
            except CallFailed as error:
                self._context.accept(error, *allowed)
                if not error.is_unknown:
                    return error
                await self._loop.sleep(self._random.uniform(0.05, 2.0))
                continue
            self._context.calls_answered += 1
            return answer

    def _execution(self, plan: Plan, run_id: str) -> WorkflowExecution:
        return WorkflowExecution(workflow_id=plan.workflow_id, run_id=run_id)

    def _key(self, plan: Plan, run_id: str) -> RunKey:
        return RunKey(self._context.namespace_ids[plan.namespace], plan.workflow_id, run_id)

    async def _start(self, plan: Plan, request_id: str) -> str | None:
        """Starts the plan's workflow. Returns the run that stands for it, None if another one is in the way."""
        request: Any
        if plan.signal_with_start:
            request = SignalWithStartWorkflowExecutionRequest(signal_name=plan.program["signals"][0])
            answer_class: Any = SignalWithStartWorkflowExecutionResponse
        else:
            request = StartWorkflowExecutionRequest(request_eager_execution=plan.eager)
            request.workflow_id_conflict_policy = plan.conflict_policy
            answer_class = StartWorkflowExecutionResponse
        self._describe_start(request, plan, request_id)
        answer = await self._call(request, answer_class, "WorkflowAlreadyStartedError")
        if isinstance(answer, CallFailed):
            # A start that is repeated when its run has been followed by another one meets that one, as on Temporal.
            check(plan.is_shared or plan.is_followed, "nobody else starts the id", answer)
            self._context.trace.reach("already started")
            return None
        if plan.signal_with_start:
            self._context.trace.reach("started with a signal")
        elif answer.HasField("eager_workflow_task"):
            self._context.trace.reach("first task with the start's answer")
        self._check_start(plan, answer, request_id)
        return str(answer.run_id)

    def _describe_start(self, request: Any, plan: Plan, request_id: str) -> None:
        """Fills in what every kind of start says of its workflow."""
        request.namespace = plan.namespace
        request.workflow_id = plan.workflow_id
        request.request_id = request_id
        request.identity = self._name
        request.workflow_type.name = "program"
        request.task_queue.name = plan.task_queue
        origin = {
            "namespace": plan.namespace,
            "workflow_id": plan.workflow_id,
            "task_queue": plan.task_queue,
        }
        request.input.CopyFrom(payloads({"program": plan.program, "origin": origin}))
        if plan.run_timeout_s:
            request.workflow_run_timeout.FromSeconds(int(plan.run_timeout_s))
        if plan.retries:
            request.retry_policy.initial_interval.FromSeconds(1)
            request.retry_policy.maximum_attempts = 2
        request.cron_schedule = plan.cron
        if plan.start_delay_s:
            request.workflow_start_delay.FromSeconds(int(plan.start_delay_s))

    def _check_start(self, plan: Plan, answer: Any, request_id: str) -> None:
        oracle, run_id = self._context.oracle, answer.run_id
        namespace_id = self._context.namespace_ids[plan.namespace]
        oracle.started(namespace_id, plan.workflow_id, run_id)
        runs = oracle.started_by.get((namespace_id, plan.workflow_id, request_id), [])
        followed = plan.is_followed
        if not plan.is_shared:
            ids = [run.run_id for run in runs]
            # A start that is repeated when the whole chain is over is a new one, and one with a signal gives that to
            # the run that has followed, as on Temporal.
            is_known = run_id in ids or not answer.started
            check(
                ids == [run_id] or (followed and bool(ids) and is_known), "a repeated start starts once", runs
            )
        if plan.signal_with_start:
            oracle.signaled(namespace_id, plan.workflow_id, request_id, to_any_run=followed)
            plan.acknowledged.add(request_id)

    async def _signal(self, plan: Plan, run_id: str, name: str) -> None:
        request_id = new_uuid(self._random)
        request = SignalWorkflowExecutionRequest(
            namespace=plan.namespace,
            workflow_execution=self._execution(plan, run_id),
            signal_name=name,
            request_id=request_id,
            identity=self._name,
        )
        answer = await self._call(request, SignalWorkflowExecutionResponse, "NotFoundError")
        if isinstance(answer, CallFailed):
            return
        self._context.oracle.signaled(
            self._context.namespace_ids[plan.namespace], plan.workflow_id, request_id
        )
        plan.acknowledged.add(request_id)

    async def _update(self, plan: Plan, run_id: str) -> None:
        """Sends an update until its outcome is known, perhaps together with somebody else who wants to be called."""
        update_id = new_uuid(self._random)
        random = self._context.stream(f"callbacks of {update_id}")
        called = random.random() < 0.5 or plan.may_reset_open
        if called and random.random() < 0.4:
            url = address(update_id, new_uuid(random))
            self._begin(self._at(random.uniform(0, 0.5), lambda: self._send(plan, run_id, update_id, url)))
        await self._send(plan, run_id, update_id, address(update_id, new_uuid(random)) if called else "")

    async def _send(self, plan: Plan, run_id: str, update_id: str, url: str) -> None:
        """Sends an update until its outcome is known; what is said of it must be durable.

        Args:
            url: who is to be called when it ends; empty for nobody.
        """
        request = UpdateWorkflowExecutionRequest(
            namespace=plan.namespace, workflow_execution=self._execution(plan, run_id)
        )
        request.request.meta.update_id = update_id
        request.request.input.name = "change"
        if url:
            request.request.request_id = url.rpartition("/")[2]
            request.request.completion_callbacks.append(Callback(nexus=Callback.Nexus(url=url)))
        stage = self._random.choice(("ACCEPTED", "ACCEPTED" if plan.may_reset_open else "COMPLETED"))
        request.wait_policy.lifecycle_stage = f"UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_{stage}"  # type: ignore[assignment]
        key = self._key(plan, run_id)
        for _ in range(20):
            answer = await self._call(
                request, UpdateWorkflowExecutionResponse, *UPDATE_ERRORS, timeout_s=30.0
            )
            if isinstance(answer, CallFailed):
                closed = answer.error == "NotFoundError"
                if closed or self._random.random() < 0.3:
                    return
                await self._loop.sleep(self._random.uniform(0.1, 5.0))
                continue
            self._context.oracle.updated(key, update_id, answer)
            if answer.HasField("outcome"):
                await self._see_called(plan, run_id, url)
                return
            if url and answer.stage >= _ACCEPTED:
                self._context.oracle.callbacks.acknowledged(key, update_id, url)
                if plan.may_reset_open and not plan.is_reset_open:
                    plan.is_reset_open = True
                    await self._reset(plan, run_id)

    async def _see_called(self, plan: Plan, run_id: str, url: str) -> None:
        """Looks at a callback of an update that has ended, until it has ended too; one that came too late is none.

        If the run was reset before its update had ended, the new run calls.
        """
        callbacks = self._context.oracle.callbacks
        run_id = callbacks.kept_by(self._key(plan, run_id), url)
        key = self._key(plan, run_id)
        while callbacks.is_known(key, url):
            request = DescribeWorkflowExecutionRequest(
                namespace=plan.namespace, execution=self._execution(plan, run_id)
            )
            answer = await self._call(request, DescribeWorkflowExecutionResponse, "NotFoundError")
            if isinstance(answer, CallFailed):
                check(key in self._context.oracle.deleted, "a durable run can be described", key)
                return
            shown = [info for info in answer.callbacks if info.callback.nexus.url == url]
            check(len(shown) == 1, "a callback is shown once", (url, shown))
            if shown[0].state in (FAILED, SUCCEEDED):
                check(shown[0].attempt, "a callback ends with an attempt", shown)
                return
            await self._loop.sleep(self._random.uniform(1, 15))

    async def _query(self, plan: Plan, run_id: str) -> None:
        known = set(plan.acknowledged)
        request = QueryWorkflowRequest(namespace=plan.namespace, execution=self._execution(plan, run_id))
        request.query.query_type = "view"
        for _ in range(5):
            try:
                answer = await self._context.network.call(request, QueryWorkflowResponse, 10.0)
            except CallFailed as error:
                self._context.accept(error, *_QUERY_ERRORS)
                await self._loop.sleep(self._random.uniform(0.1, 5.0))
                continue
            if answer.HasField("query_rejected"):
                self._context.trace.reach("query of a paused run")
                return
            view = value_of(answer.query_result)
            check(view["origin"]["workflow_id"] == plan.workflow_id, "runs do not mix", view)
            check(view["origin"]["namespace"] == plan.namespace, "namespaces do not mix", view)
            model = self._context.oracle.models.get(self._key(plan, run_id))
            if model is not None and model.status == 1:
                self._context.trace.reach("query answered")
                missing = known - set(view["signals"])
                check(not missing, "a query sees what was acknowledged before it", missing)
            return

    async def _query_closed(self, plan: Plan, run_id: str) -> None:
        """Asks a run that is over; once the faults have ended there must be an answer."""
        state = self._context.oracle.states.get(self._key(plan, run_id))
        if state is None or not state.header.last_completed_task_started_event_id:
            return
        if state.header.task_attempt >= FAILING_ATTEMPT or self._random.random() < 0.5:
            return
        request = QueryWorkflowRequest(namespace=plan.namespace, execution=self._execution(plan, run_id))
        request.query.query_type = "view"
        for _ in range(4):
            calm = self._context.calm_since_s is not None
            try:
                answer = await self._context.network.call(request, QueryWorkflowResponse, 30.0)
            except CallFailed as error:
                self._context.accept(error, *_QUERY_ERRORS)
                if not calm:
                    return
                await self._loop.sleep(self._random.uniform(1.0, 10.0))
                continue
            check(value_of(answer.query_result)["origin"], "a closed run answers queries", run_id)
            self._context.trace.reach("closed run queried")
            return
        check(False, "a closed run answers queries", run_id)

    async def _cancel(self, plan: Plan, run_id: str) -> None:
        request = RequestCancelWorkflowExecutionRequest(
            namespace=plan.namespace,
            workflow_execution=self._execution(plan, run_id),
            request_id=new_uuid(self._random),
            identity=self._name,
        )
        answer = await self._call(request, RequestCancelWorkflowExecutionResponse, "NotFoundError")
        if not isinstance(answer, CallFailed):
            self._context.oracle.cancel_requested(self._key(plan, run_id))

    async def _terminate(self, plan: Plan, run_id: str) -> None:
        request = TerminateWorkflowExecutionRequest(
            namespace=plan.namespace, workflow_execution=self._execution(plan, run_id), identity=self._name
        )
        await self._call(request, TerminateWorkflowExecutionResponse, "NotFoundError")
        self._context.oracle.closed(self._key(plan, run_id))

    async def _look(self, plan: Plan, run_id: str) -> None:
        """Describes, lists and counts the run; what is read must agree with what is durable now or was at the call."""
        key = self._key(plan, run_id)
        describe = DescribeWorkflowExecutionRequest(
            namespace=plan.namespace, execution=self._execution(plan, run_id)
        )
        described = await self._call(describe, DescribeWorkflowExecutionResponse, "NotFoundError")
        if isinstance(described, CallFailed):
            check(key in self._context.oracle.deleted, "a durable run can be described", key)
            return
        where = f"WorkflowId = '{plan.workflow_id}' AND RunId = '{run_id}'"
        listing = ListWorkflowExecutionsRequest(namespace=plan.namespace, query=where)
        listed = await self._call(listing, ListWorkflowExecutionsResponse)
        if key in self._context.oracle.models:
            assert not isinstance(listed, CallFailed)
            check(len(listed.executions) == 1, "a durable run is listed", key)
        counting = CountWorkflowExecutionsRequest(namespace=plan.namespace, query=where)
        counted = await self._call(counting, CountWorkflowExecutionsResponse)
        assert not isinstance(counted, CallFailed)
        check(counted.count <= 1, "a run is counted once", counted.count)

    # --- the end

    async def _finish(self, plan: Plan, run_id: str) -> None:
        """Waits for the end of a chain of runs, and checks how each ended."""
        while True:
            event = await self._result(plan, run_id)
            if event is None:
                deleted = self._key(plan, run_id) in self._context.oracle.deleted
                check(deleted, "a durable run has a history", run_id)
                return
            self._check_end(plan, run_id, event)
            following = getattr(attributes_of(event), "new_execution_run_id", "")
            if not following:
                return
            if event_name(event) == "WORKFLOW_EXECUTION_CONTINUED_AS_NEW":
                self._context.trace.reach("continued as new")
            else:
                check(plan.retries, "only who has a retry policy is tried again", plan.workflow_id)
                self._context.trace.reach("workflow tried again")
            self._context.oracle.started(
                self._context.namespace_ids[plan.namespace], plan.workflow_id, following
            )
            run_id = following

    def _check_end(self, plan: Plan, run_id: str, event: HistoryEvent) -> None:
        self._context.note(self._name, f"{plan.workflow_id} {run_id[-6:]} ended: {event_name(event)}")
        model = self._context.oracle.started(
            self._context.namespace_ids[plan.namespace], plan.workflow_id, run_id
        )
        same = model.close_event is not None and model.close_event.event_id == event.event_id
        check(same, "the closing event is the one in the history", event.event_id)
        assert model.started_event is not None
        program = value_of(model.started_event.workflow_execution_started_event_attributes.input)["program"]
        check_outcome(plan, program, event, cancelled=model.cancel_requested)

    async def _result(self, plan: Plan, run_id: str) -> HistoryEvent | None:
        token = b""
        while True:
            request = GetWorkflowExecutionHistoryRequest(
                namespace=plan.namespace,
                execution=self._execution(plan, run_id),
                wait_new_event=True,
                next_page_token=token,
            )
            request.history_event_filter_type = "HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT"  # type: ignore[assignment]
            answer = await self._call(
                request, GetWorkflowExecutionHistoryResponse, "NotFoundError", timeout_s=30.0
            )
            if isinstance(answer, CallFailed):
                return None
            if answer.history.events:
                return answer.history.events[-1]
            token = answer.next_page_token
            check(token, "a long poll without news can be continued", run_id)

    async def _tail(self, plan: Plan, run_id: str) -> None:
        """Follows the run's history until its end: every event once, in order."""
        token, expected = b"", 1
        while True:
            request = GetWorkflowExecutionHistoryRequest(
                namespace=plan.namespace,
                execution=self._execution(plan, run_id),
                wait_new_event=True,
                next_page_token=token,
                maximum_page_size=self._random.choice((0, 1, 4)),
            )
            page = await self._call(
                request, GetWorkflowExecutionHistoryResponse, "NotFoundError", timeout_s=30.0
            )
            if isinstance(page, CallFailed):
                deleted = self._key(plan, run_id) in self._context.oracle.deleted
                check(deleted, "a durable run has a history", run_id)
                return
            for event in page.history.events:
                check(event.event_id == expected, "who follows a history sees each event", event.event_id)
                expected += 1
            token = page.next_page_token
            if not token:
                break
        model = self._context.oracle.started(
            self._context.namespace_ids[plan.namespace], plan.workflow_id, run_id
        )
        ended = model.close_event is not None and model.close_event.event_id == expected - 1
        check(ended, "who follows a history sees its end", expected - 1)
        self._context.trace.reach("history followed to its end")

    async def _read_backwards(self, plan: Plan, run_id: str) -> None:
        """Reads the history of a closed run from its end to its beginning."""
        model = self._context.oracle.models.get(self._key(plan, run_id))
        if model is None or self._random.random() < 0.7:
            return
        token, expected = b"", model.next_event_id - 1
        while True:
            request = GetWorkflowExecutionHistoryReverseRequest(
                namespace=plan.namespace,
                execution=self._execution(plan, run_id),
                next_page_token=token,
                maximum_page_size=self._random.choice((0, 1, 4)),
            )
            page = await self._call(request, GetWorkflowExecutionHistoryReverseResponse, "NotFoundError")
            if isinstance(page, CallFailed):
                deleted = self._key(plan, run_id) in self._context.oracle.deleted
                check(deleted, "a durable run has a history", run_id)
                return
            for event in page.history.events:
                check(event.event_id == expected, "a history reads backwards", event.event_id)
                expected -= 1
            token = page.next_page_token
            if not token:
                break
        check(expected == 0, "a history reads backwards to its beginning", expected)
        self._context.trace.reach("history read backwards")

    async def _reset(self, plan: Plan, run_id: str) -> None:
        """Resets a run to one of its workflow tasks, and waits for the end of the new one."""
        base = self._key(plan, run_id)
        finishes = self._context.oracle.completed_tasks(base, is_open=plan.is_reset_open)
        if not finishes:
            return
        oracle, finish = self._context.oracle, self._random.choice(finishes)
        request = ResetWorkflowExecutionRequest(
            namespace=plan.namespace,
            workflow_execution=self._execution(plan, run_id),
            workflow_task_finish_event_id=finish,
            request_id=new_uuid(self._random),
            reason="once more",
        )
        excludes = self._random.random() < 0.2
        if excludes:
            request.reset_reapply_exclude_types.append("RESET_REAPPLY_EXCLUDE_TYPE_UPDATE")  # type: ignore[arg-type]
        answer = await self._call(request, ResetWorkflowExecutionResponse, "NotFoundError")
        if isinstance(answer, CallFailed):
            deleted = base in oracle.deleted
            check(deleted, "a durable run can be reset", run_id)
            return
        namespace_id = self._context.namespace_ids[plan.namespace]
        oracle.started(namespace_id, plan.workflow_id, answer.run_id)
        oracle.reset(base, self._key(plan, answer.run_id), finish, excludes_updates=excludes)
        self._context.trace.reach("reset")
        await self._finish(plan, answer.run_id)

    async def _delete(self, plan: Plan, run_id: str) -> None:
        self._context.oracle.may_delete.add(self._key(plan, run_id))
        request = DeleteWorkflowExecutionRequest(
            namespace=plan.namespace, workflow_execution=self._execution(plan, run_id)
        )
        await self._call(request, DeleteWorkflowExecutionResponse, "NotFoundError")
        check(
            self._key(plan, run_id) in self._context.oracle.deleted,
            "an acknowledged deletion is done",
            run_id,
        )


UPDATE_ERRORS = (
    "WorkflowNotReadyError",
    "FailedPreconditionError",
    "ResourceExhaustedError",
    "NotFoundError",
)
_QUERY_ERRORS = (
    "WorkflowNotReadyError",
    "FailedPreconditionError",
    "ResourceExhaustedError",
    "NotFoundError",
    "DeadlineTooShortError",
)


def check_outcome(plan: Plan, program: Program, event: HistoryEvent, *, cancelled: bool) -> None:
    """Checks that a run ended as its program and its plan say, whatever went wrong on the way."""
    name = event_name(event).removeprefix("WORKFLOW_EXECUTION_")
    expected = "COMPLETED" if program["ends"] == "complete" else "FAILED"
    if name == "TERMINATED":
        asked = (
            plan.is_reset_open
            or plan.terminate_at_s is not None
            or plan.conflict_policy == TERMINATE_EXISTING
        )
        check(asked, "only who was terminated is", plan.workflow_id)
    elif name == "TIMED_OUT":
        check(plan.run_timeout_s, "only who has a timeout times out", plan.workflow_id)
    elif name == "CANCELED":
        obeys = program["on_cancel"] in (CANCEL, CLEAN_UP)
        check(cancelled and obeys, "only who was cancelled is", plan.workflow_id)
    elif name == "CONTINUED_AS_NEW":
        check("next" in program, "only who is to go on does", plan.workflow_id)
    else:
        check(name == expected, "the outcome is the program's", f"{name}, not {expected}")
        attributes = attributes_of(event)
        observed = (
            value_of(attributes.result) if name == "COMPLETED" else json.loads(attributes.failure.message)
        )
        # A run timeout also bounds the activities' retries.
        good = bool(plan.run_timeout_s) or agrees(predict(program), observed)
        check(good, "the result is that of a run without faults", f"{observed} {program}")
    if cancelled and program["on_cancel"] == IGNORE:
        check(name != "CANCELED", "who ignores a cancellation goes on", plan.workflow_id)
