"""The application's workflow for the official SDK. Alone here, as its sandbox imports it again for each run."""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow


@activity.defn
async def charge(order: str) -> str:
    """One step: nothing to do."""
    return f"charged {order}"


@workflow.defn
class Order:
    """So many steps, one after the other."""

    @workflow.run
    async def run(self, order: str, steps: int) -> str:
        """Charges the order."""
        result = ""
        for _ in range(steps):
            result = await workflow.execute_activity(
                charge, order, start_to_close_timeout=timedelta(seconds=60)
            )
        return result
