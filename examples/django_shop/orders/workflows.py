"""The workflow of an order. It never touches the database itself: that is what activities are for."""

from __future__ import annotations

from datetime import timedelta

from perdure import workflow

from .activities import charge, mark_delivered

STEP_TIMEOUT = timedelta(seconds=30)


@workflow.defn
class OrderWorkflow:
    """Charges an order and waits, for as long as it takes, until it is delivered."""

    def __init__(self) -> None:
        self._delivered = False

    @workflow.run
    async def run(self, order_id: int) -> str:
        """Returns the receipt."""
        receipt = await workflow.execute_activity(charge, order_id, start_to_close_timeout=STEP_TIMEOUT)
        await workflow.wait_condition(lambda: self._delivered)
        await workflow.execute_activity(mark_delivered, order_id, start_to_close_timeout=STEP_TIMEOUT)
        return receipt

    @workflow.signal
    def delivered(self) -> None:
        """The parcel has arrived."""
        self._delivered = True
