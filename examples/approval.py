"""A human in the loop: an expense waits for a decision, for days if need be, reminds, and gives up in the end.

The decision is an update: whoever decides learns at once whether it counted. Run `python -m examples.approval`.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import timedelta

from perdure import activity, workflow
from perdure.client import Client, WorkflowUpdateFailedError
from perdure.worker import Worker

TASK_QUEUE = "approvals"
REMIND_AFTER = timedelta(days=2)
REMINDERS = 3
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Expense:
    """What somebody wants to spend."""

    employee: str
    amount_cents: int


@dataclass(frozen=True)
class Decision:
    """What was decided, and by whom."""

    approver: str
    is_approved: bool


@activity.defn
async def remind(expense: Expense, number: int) -> None:
    """Reminds the approvers."""
    activity.logger.info("reminder %d: %s waits", number, expense.employee)


@workflow.defn
class Approve:
    """Waits for one decision; reminds every two days; after the last reminder nobody's silence is a no."""

    @workflow.init
    def __init__(self, expense: Expense) -> None:
        self._expense = expense
        self._decision: Decision | None = None
        self._reminders = 0

    @workflow.run
    async def run(self, expense: Expense) -> Decision:
        """Returns the decision."""
        while self._decision is None:
            try:
                await workflow.wait_condition(lambda: self._decision is not None, timeout=REMIND_AFTER)
            except TimeoutError:
                if self._reminders == REMINDERS:
                    return Decision("nobody", is_approved=False)
                self._reminders += 1
                await workflow.execute_activity(
                    remind, args=[expense, self._reminders], start_to_close_timeout=MINUTE
                )
        return self._decision

    @workflow.update
    def decide(self, decision: Decision) -> Decision:
        """Decides; only the first decision counts."""
        self._decision = decision
        return decision

    @decide.validator
    def _may_decide(self, decision: Decision) -> None:
        if self._decision is not None:
            raise ValueError(f"{self._decision.approver} has decided already")
        if decision.approver == self._expense.employee:
            raise ValueError("nobody decides on their own expenses")

    @workflow.query
    def reminders(self) -> int:
        """How often the approvers were reminded."""
        return self._reminders


async def main(address: str) -> None:
    """Somebody tries to approve their own expense, then a colleague does it."""
    client = await Client.connect(address)
    async with Worker(client, task_queue=TASK_QUEUE, workflows=[Approve], activities=[remind]):
        handle = await client.start_workflow(
            Approve.run, Expense("Ada", 12_000), id="expense-1", task_queue=TASK_QUEUE
        )
        try:
            await handle.execute_update(Approve.decide, Decision("Ada", is_approved=True))
        except WorkflowUpdateFailedError as error:
            print(f"refused: {error.cause}")
        await handle.execute_update(Approve.decide, Decision("Grace", is_approved=True))
        print(await handle.result())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite://"))
