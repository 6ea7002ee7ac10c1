"""A subscription that lives for years: charged every month, changed by signals, in runs that stay small.

Each run of the workflow bills a year and then continues as new, so that no history grows without bound. Run
`python -m examples.subscription`: three years pass at once in the test environment.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

from perdure import activity, workflow
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

TASK_QUEUE = "subscriptions"
MONTH = timedelta(days=30)
MONTHS_PER_RUN = 12


@dataclass(frozen=True)
class Subscription:
    """All that the next run has to know.

    Attributes:
        customer: who pays.
        price_cents: per month.
        months_billed: so far, over all runs.
        months_limit: it ends then by itself.
    """

    customer: str
    price_cents: int
    months_billed: int = 0
    months_limit: int = 120


@activity.defn
async def charge(customer: str, amount_cents: int, month: int) -> None:
    """Charges one month; the month makes a repeated charge harmless."""
    activity.logger.debug("charged %s %d for month %d", customer, amount_cents, month)


@workflow.defn
class Subscribe:
    """Bills month by month until it is cancelled or its limit is reached."""

    @workflow.init
    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._is_ended = False

    @workflow.run
    async def run(self, subscription: Subscription) -> Subscription:
        """Returns how it stood at its end."""
        for _ in range(MONTHS_PER_RUN):
            current = self._subscription
            if current.months_billed >= current.months_limit:
                return current
            await workflow.execute_activity(
                charge,
                args=[current.customer, current.price_cents, current.months_billed + 1],
                start_to_close_timeout=timedelta(minutes=1),
            )
            self._subscription = replace(self._subscription, months_billed=current.months_billed + 1)
            try:
                await workflow.wait_condition(lambda: self._is_ended, timeout=MONTH)
            except TimeoutError:
                continue
            return self._subscription
        await workflow.wait_condition(workflow.all_handlers_finished)
        return workflow.continue_as_new(self._subscription)

    @workflow.signal
    def change_price(self, price_cents: int) -> None:
        """From the next month on."""
        self._subscription = replace(self._subscription, price_cents=price_cents)

    @workflow.signal
    def cancel(self) -> None:
        """Ends it now; the month that was paid for is not given back."""
        self._is_ended = True

    @workflow.query
    def state(self) -> Subscription:
        """How it stands."""
        return self._subscription


async def main() -> None:
    """Lets three years of a subscription pass."""
    async with (
        await WorkflowEnvironment.start_time_skipping() as env,
        Worker(env.client, task_queue=TASK_QUEUE, workflows=[Subscribe], activities=[charge]),
    ):
        handle = await env.client.start_workflow(
            Subscribe.run,
            Subscription("Ada", 999, months_limit=36),
            id="subscription-ada",
            task_queue=TASK_QUEUE,
        )
        print(await handle.result())


if __name__ == "__main__":
    asyncio.run(main())
