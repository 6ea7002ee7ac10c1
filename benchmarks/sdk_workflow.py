"""The benchmark's workflow for the official SDK: one activity. Alone here, as its sandbox imports it again."""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow


@activity.defn
async def charge(order: str) -> str:
    """The only activity: nothing to do."""
    return f"charged {order}"


@workflow.defn
class Order:
    """One activity, then done."""

    @workflow.run
    async def run(self, order: str) -> str:
        """Charge the order."""
        return await workflow.execute_activity(charge, order, start_to_close_timeout=timedelta(seconds=60))
