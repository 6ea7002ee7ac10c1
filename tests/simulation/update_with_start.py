"""Update-with-start in the simulation: clients that start their workflows and update them with one request.

Some compete for an id, and some of those for one update. What an answer says is held against the store where it leaves
the server; here it is held against the policies, and a request is repeated until what became of it is known.
"""

from __future__ import annotations

from random import Random
from typing import Any

from perdure.api.enums.v1 import UpdateWorkflowExecutionLifecycleStage
from perdure.api.workflowservice.v1 import ExecuteMultiOperationRequest, ExecuteMultiOperationResponse
from perdure.core.run.records import RunKey
from tests.simulation.client import (
    FAIL,
    TERMINATE_EXISTING,
    UPDATE_ERRORS,
    USE_EXISTING,
    Plan,
    SimClient,
)
from tests.simulation.model import RUNNING, check
from tests.simulation.network import CallFailed
from tests.simulation.program import random_program
from tests.simulation.runtime import new_uuid

SHARE = 0.08
"""Of the seeds, in so many there is such a client."""
_ACCEPTED = UpdateWorkflowExecutionLifecycleStage.Value("UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED")
_COMPLETED = UpdateWorkflowExecutionLifecycleStage.Value(
    "UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED"
)


def draw_plans(random: Random, namespaces: tuple[str, ...], task_queue: str) -> list[Plan]:
    """Small workflows, most of which several want to start and update."""
    plans = []
    for number in range(random.randint(2, 4)):
        program = random_program(random, waits_for_signals=False)
        # What runs do to each other is looked at elsewhere, and so is what follows a run.
        program.pop("next", None)
        kept = [step for step in program["steps"] if step[0] not in ("child", "abort", "poke")]
        program["steps"] = [*kept[:2], ["timer", "last", random.choice((0.0, 3.0, 20.0))]]
        plan = Plan(random.choice(namespaces), f"u{number}", task_queue, program, random.uniform(0, 20))
        if random.random() < 0.6:
            plan.rivals = random.randint(1, 2)
            plan.conflict_policy = random.choice((FAIL, USE_EXISTING, TERMINATE_EXISTING))
        plan.restart = random.random() < 0.3
        plan.cancel_at_s = random.uniform(0, 10) if random.random() < 0.2 else None
        plan.terminate_at_s = random.uniform(0, 10) if random.random() < 0.2 else None
        plans.append(plan)
    return plans


class UpdateWithStartClient(SimClient):
    """A client whose starts bring an update each."""

    async def _start(self, plan: Plan, request_id: str) -> str | None:
        """Starts and updates the plan's workflow. Returns the run that was updated, or closed over the update."""
        update_id = self._shared_update(plan) or new_uuid(self._random)
        request = self._request(plan, request_id, update_id)
        reach = self._context.trace.reach
        while True:
            try:
                answer = await self._context.network.call(request, ExecuteMultiOperationResponse, 30.0)
            except CallFailed as error:
                self._context.accept(error, "WorkflowAlreadyStartedError", *UPDATE_ERRORS)
                if error.error == "WorkflowAlreadyStartedError":
                    check(plan.is_shared, "nobody else starts the id", error)
                    check(
                        plan.conflict_policy == FAIL, "only a policy forbids to update what is there", error
                    )
                    reach("update with start: refused by the policy")
                    return None
                over = self._closed_over(plan, request_id, update_id)
                if over is not None:
                    # As on Temporal: whoever asks again does not start anew, and a closed run takes no update.
                    reach("update with start: the run closed over the update")
                    return over.run_id
                await self._loop.sleep(self._random.uniform(0.05, 2.0))
                continue
            self._check(plan, request_id, answer)
            run_id = str(answer.responses[0].start_workflow.run_id)
            updated = answer.responses[1].update_workflow
            if updated.HasField("outcome"):
                return run_id
            if updated.stage >= _ACCEPTED:
                self._begin(self._send(plan, run_id, update_id, ""))
                return run_id

    def _shared_update(self, plan: Plan) -> str:
        """The update that all who compete for an id want, in some plans; "" if each has one of its own."""
        random = self._context.stream(f"update of {plan.namespace} {plan.workflow_id}")
        return new_uuid(random) if random.random() < 0.3 else ""

    def _request(self, plan: Plan, request_id: str, update_id: str) -> ExecuteMultiOperationRequest:
        request = ExecuteMultiOperationRequest(namespace=plan.namespace)
        start = request.operations.add().start_workflow
        self._describe_start(start, plan, request_id)
        start.workflow_id_conflict_policy = plan.conflict_policy  # type: ignore[assignment]
        sent = request.operations.add().update_workflow
        sent.namespace = plan.namespace
        sent.workflow_execution.workflow_id = plan.workflow_id
        sent.request.meta.update_id = update_id
        sent.request.input.name = "change"
        sent.wait_policy.lifecycle_stage = self._random.choice((_ACCEPTED, _COMPLETED))
        return request

    def _started_by(self, plan: Plan, request_id: str) -> list[RunKey]:
        oracle, namespace_id = self._context.oracle, self._context.namespace_ids[plan.namespace]
        return oracle.started_by.get((namespace_id, plan.workflow_id, request_id), [])

    def _closed_over(self, plan: Plan, request_id: str, update_id: str) -> RunKey | None:
        """The run that the request started if it is over and its update is not done."""
        oracle = self._context.oracle
        for run in self._started_by(plan, request_id)[-1:]:
            model, state = oracle.models.get(run), oracle.states.get(run)
            if model is None or state is None or model.status == RUNNING:
                continue
            known = state.updates.get(update_id)
            if known is None or not known.completed_event_id:
                return run
        return None

    def _check(self, plan: Plan, request_id: str, answer: Any) -> None:
        """Holds an answer against the policies."""
        start = answer.responses[0].start_workflow
        run = self._key(plan, start.run_id)
        own = run in self._started_by(plan, request_id)
        check(own or not start.started, "only who has started a run is told so", (run, request_id))
        allowed = own or plan.conflict_policy == USE_EXISTING or bool(self._shared_update(plan))
        check(allowed, "a policy keeps others from updating what is there", (run, request_id))
        if not plan.is_shared:
            started = self._started_by(plan, request_id)
            check(started == [run], "a repeated start starts once", started)
        how = "a new run" if start.started else "a run that it started before" if own else "another's run"
        self._context.trace.reach(f"update with start: {how}")
