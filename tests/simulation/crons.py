"""Workflows with a cron schedule in the simulation: clients that start chains of runs, and end them."""

from __future__ import annotations

from random import Random

from perdure.core.run.records import RunKey
from tests.simulation.client import Plan, SimClient
from tests.simulation.context import Context
from tests.simulation.interpreter import attributes_of
from tests.simulation.loop import Node
from tests.simulation.model import RUNNING
from tests.simulation.program import CANCEL, random_program
from tests.simulation.runtime import new_uuid

SHARE = 0.06
"""Of the seeds, in so many there are such workflows."""
_ROUNDS_S = 5.0


def draw_plans(random: Random, namespaces: tuple[str, ...], task_queue: str) -> list[Plan]:
    """Small workflows that come again and again."""
    plans = []
    for number in range(random.randint(1, 2)):
        program = random_program(random, waits_for_signals=False)
        program["ends"] = random.choice(("complete", "fail"))
        if random.random() < 0.3:
            program["next"] = random_program(random, waits_for_signals=False)
            program["next"].pop("next", None)
        for each in (program, program.get("next", program)):
            # What runs do to each other is looked at elsewhere.
            each["steps"] = [step for step in each["steps"] if step[0] not in ("child", "abort", "poke")][:2]
            each["on_cancel"] = CANCEL
        plan = Plan(random.choice(namespaces), f"c{number}", task_queue, program, random.uniform(0, 10))
        plan.cron = random.choice(("@every 3s", "@every 7s", "@every 7s", "* * * * *"))
        plan.retries = random.random() < 0.3
        plan.run_timeout_s = random.choice((2.0, 5.0)) if random.random() < 0.3 else 0.0
        plan.terminate_at_s = random.uniform(5, 50)
        plans.append(plan)
    return plans


class CronClient(SimClient):
    """A client that starts chains of runs, follows each run, and ends the chains after a while."""

    def __init__(self, context: Context, node: Node, name: str, plans: list[Plan]) -> None:
        super().__init__(context, node, name, plans)
        self._over: list[Plan] = []
        context.start(node, self._go_round())

    async def _follow(self, plan: Plan) -> None:
        await self._loop.sleep(plan.starts_at_s)
        run_id = await self._start(plan, new_uuid(self._random))
        if run_id is not None:
            self._begin(self._follow_runs(plan, run_id))
        assert plan.terminate_at_s is not None
        await self._loop.sleep(plan.terminate_at_s)
        while (run := self._open(plan)) is not None:
            await self._end_run(plan, run)
            await self._loop.sleep(self._random.uniform(0, 20))
        self._over.append(plan)

    async def _follow_runs(self, plan: Plan, run_id: str) -> None:
        while (event := await self._result(plan, run_id)) is not None:
            self._check_end(plan, run_id, event)
            run_id = getattr(attributes_of(event), "new_execution_run_id", "")
            if not run_id:
                return
            self._context.oracle.started(
                self._context.namespace_ids[plan.namespace], plan.workflow_id, run_id
            )

    async def _end_run(self, plan: Plan, run: RunKey) -> None:
        """Asks a chain's open run to cancel, or terminates it; both may come between two runs."""
        waits = self._context.oracle.states[run].header.first_task_at_ns > 0
        cancels = self._random.random() < 0.5
        await (self._cancel if cancels else self._terminate)(plan, run.run_id)
        state = self._context.oracle.states.get(run)
        if waits and state is not None and not state.header.last_completed_task_started_event_id:
            how = "asked to cancel" if cancels else "terminated"
            self._context.trace.reach(f"cron: {how} between two runs")

    def _open(self, plan: Plan) -> RunKey | None:
        oracle = self._context.oracle
        run = oracle.current.get((self._context.namespace_ids[plan.namespace], plan.workflow_id))
        return run if run is not None and oracle.models[run].status == RUNNING else None

    async def _go_round(self) -> None:
        """Ends chains that nobody means to be there: a late copy of a start began them."""
        while True:
            await self._loop.sleep(_ROUNDS_S)
            for plan in self._over:
                run = self._open(plan)
                if run is not None:
                    await self._terminate(plan, run.run_id)
