"""What a server answers must be durable when it leaves: read beside the oracle at the moment of the answer."""

from __future__ import annotations

from typing import Any

from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent
from perdure.core.run.records import RunKey, RunKind
from tests.simulation.interpreter import value_of
from tests.simulation.model import RUNNING, check
from tests.simulation.oracle import Oracle
from tests.simulation.removal_oracle import NAME as DOOMED

_NOT_WRITTEN = (
    EventType.Value("EVENT_TYPE_WORKFLOW_TASK_SCHEDULED"),
    EventType.Value("EVENT_TYPE_WORKFLOW_TASK_STARTED"),
)
"""Events of transient and speculative workflow tasks, which are told and not written."""


class Answers:
    """Checks answers.

    Args:
        oracle: knows what is durable.
        namespace_ids: by name.
    """

    def __init__(self, oracle: Oracle, namespace_ids: dict[str, str]) -> None:
        self._oracle = oracle
        self._namespace_ids = namespace_ids

    def look(self, rpc: str, request: Any, answer: Any, *, is_local: bool) -> None:
        """Checks one answer.

        Args:
            rpc: its name.
            request, answer: the messages.
            is_local: the caller dies with the server; it may be given workflow tasks before they are durable.

        Raises:
            Broken: it tells what is not durable.
        """
        if getattr(request, "namespace", "") == DOOMED:
            return
        if rpc == "PollWorkflowTaskQueue" and not is_local:
            self._workflow_task(request.namespace, answer)
        elif rpc == "PollActivityTaskQueue":
            self._activity_task(request.namespace, answer)
        elif rpc == "RespondWorkflowTaskCompleted":
            self._workflow_task(request.namespace, answer.workflow_task)
            for task in answer.activity_tasks:
                self._activity_task(request.namespace, task)
        elif rpc == "StartWorkflowExecution":
            self._workflow_task(request.namespace, answer.eager_workflow_task)
        elif rpc == "ExecuteMultiOperation":
            self._update_with_start(request, answer)
        elif rpc == "SignalWorkflowExecution" and request.request_id:
            namespace_id = self._namespace_ids[request.namespace]
            self._oracle.signaled(namespace_id, request.workflow_execution.workflow_id, request.request_id)
        elif rpc == "TerminateWorkflowExecution" and request.workflow_execution.run_id:
            self._oracle.closed(self._key(request.namespace, request.workflow_execution))
        elif rpc == "QueryWorkflow" and request.execution.run_id and answer.HasField("query_result"):
            self._seen(self._key(request.namespace, request.execution), value_of(answer.query_result))
        elif rpc == "StartActivityExecution":
            run = self._standalone(request.namespace, request.activity_id, answer.run_id)
            self._oracle.standalone.state(run)
        elif rpc == "PollActivityExecution":
            self._standalone_outcome(request, answer)
        elif rpc == "DescribeWorkflowExecution":
            self._described(request.namespace, answer)
        elif rpc == "GetWorkflowExecutionHistory" and not is_local and request.execution.run_id:
            self._events(self._key(request.namespace, request.execution), answer.history.events)

    def _update_with_start(self, request: Any, answer: Any) -> None:
        """Both halves are durable, and of the same run."""
        started, updated = answer.responses[0].start_workflow, answer.responses[1].update_workflow
        run = self._key(request.namespace, updated.update_ref.workflow_execution)
        check(run.run_id == started.run_id, "what is started is what is updated", (run, started.run_id))
        self._oracle.started(run.namespace_id, run.workflow_id, run.run_id)
        self._oracle.updated(run, updated.update_ref.update_id, updated)

    def _key(self, namespace: str, execution: Any) -> RunKey:
        return RunKey(self._namespace_ids[namespace], execution.workflow_id, execution.run_id)

    def _events(self, run: RunKey, events: Any) -> None:
        model = self._oracle.models.get(run)
        if run in self._oracle.deleted:
            return
        told: list[HistoryEvent] = [event for event in events if event.event_type not in _NOT_WRITTEN]
        if not told:
            return
        check(model is not None, "what is told of a history is durable", run)
        assert model is not None
        last = told[-1].event_id
        check(last < model.next_event_id, "what is told of a history is durable", (run, last))

    def _workflow_task(self, namespace: str, task: Any) -> None:
        if task.task_token:
            self._events(self._key(namespace, task.workflow_execution), task.history.events)

    def _activity_task(self, namespace: str, task: Any) -> None:
        if not task.task_token:
            return
        if task.activity_run_id:
            self._standalone_task(namespace, task)
            return
        run = self._key(namespace, task.workflow_execution)
        if run in self._oracle.deleted:
            return
        state = self._oracle.states.get(run)
        check(state is not None, "an attempt is durable before it begins", run)
        assert state is not None
        model = self._oracle.models[run]
        if model.status != RUNNING or task.activity_id in model.finished:
            return
        found = [item for item in state.activities.values() if item.activity_id == task.activity_id]
        buffered = not found and bool(state.buffered)  # it ended, and its end waits
        begun = any((item.attempt, item.started_ns > 0) >= (task.attempt, True) for item in found)
        begun = begun or run in self._oracle.controls.restarted  # attempts were counted anew meanwhile
        check(
            begun or buffered, "an attempt is durable before it begins", f"{run} {task.activity_id} {found}"
        )

    def _seen(self, run: RunKey, view: Any) -> None:
        model = self._oracle.models.get(run)
        if model is not None and not model.is_reset:
            known = {*model.signals, *(request_id for _, request_id in model.pokes)}
            unknown = set(view["signals"]) - known
            check(not unknown, "a query sees only what is durable", (run, unknown))

    def _standalone(self, namespace: str, activity_id: str, run_id: str) -> RunKey:
        return RunKey(self._namespace_ids[namespace], activity_id, run_id, RunKind.ACTIVITY)

    def _standalone_task(self, namespace: str, task: Any) -> None:
        run = self._standalone(namespace, task.activity_id, task.activity_run_id)
        header = self._oracle.standalone.state(run).header
        begun = (header.attempt.attempt, header.attempt.started_ns > 0) >= (task.attempt, True)
        check(begun or not header.is_open, "an attempt is durable before it begins", (run, task.attempt))

    def _standalone_outcome(self, request: Any, answer: Any) -> None:
        if answer.run_id:
            run = self._standalone(request.namespace, request.activity_id, answer.run_id)
            outcome = self._oracle.standalone.state(run).outcome
            check(outcome == answer.outcome, "the outcome that is told is the one that is kept", run)

    def _described(self, namespace: str, answer: Any) -> None:
        info = answer.workflow_execution_info
        run = self._key(namespace, info.execution)
        if run in self._oracle.deleted:
            return
        model, state = self._oracle.models.get(run), self._oracle.states.get(run)
        check(model is not None, "what is described is durable", run)
        assert model is not None
        assert state is not None
        known = info.history_length < model.next_event_id
        known = known and info.state_transition_count <= state.header.transition_count
        check(known, "what is described is durable", (run, info.history_length))
