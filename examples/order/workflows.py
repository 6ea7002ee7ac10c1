"""The durable function: an order from the charge to the delivery. It reads no clock and touches nothing outside."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from examples.order import models
from examples.order.activities import OrderActivities
from perdure import workflow
from perdure.common import RetryPolicy

RETRIES: Final = RetryPolicy(initial_interval=timedelta(milliseconds=500), backoff_coefficient=2.0)
STEP_TIMEOUT: Final = timedelta(seconds=60)
HEARTBEAT_TIMEOUT: Final = timedelta(seconds=2)


@workflow.defn(name=models.WORKFLOW_TYPE)
class OrderWorkflow:
    """Charge, confirm, wait for the delivery or give up waiting, and tell the customer."""

    def __init__(self) -> None:
        self._status = models.STATUS_CHARGING
        self._delivered = False

    @workflow.run
    async def run(self, order: models.Order) -> models.OrderResult:
        """The whole life of one order; every await survives a crash of anything."""
        receipt = await workflow.execute_activity_method(
            OrderActivities.charge_card,
            models.Charge(f"{order.order_id}/charge", order.amount_cents),
            start_to_close_timeout=STEP_TIMEOUT,
            retry_policy=RETRIES,
            summary=f"{order.amount_cents / 100:.2f}",
        )
        self._status = models.STATUS_CONFIRMING
        await self._notify(order, models.NOTICE_CONFIRMED, "Your order is confirmed.")

        self._status = models.STATUS_IN_DELIVERY
        try:
            await workflow.wait_condition(
                lambda: self._delivered, timeout=timedelta(seconds=order.delivery_timeout_s)
            )
        except TimeoutError:
            self._status = models.STATUS_OVERDUE
            await self._notify(order, models.NOTICE_OVERDUE, "Your delivery is late; we are looking into it.")
        else:
            self._status = models.STATUS_DELIVERED
            await self._notify(order, models.NOTICE_DELIVERED, "Your order was delivered.")
        return models.OrderResult(self._status, receipt.receipt_id)

    @workflow.signal
    def delivered(self) -> None:
        """The courier handed over the parcel."""
        self._delivered = True

    @workflow.query(name="getStatus")
    def get_status(self) -> str:
        """How the order stands; answered while it runs and after it ended."""
        return self._status

    async def _notify(self, order: models.Order, notice: str, text: str) -> None:
        await workflow.execute_activity_method(
            OrderActivities.notify_customer,
            models.Notice(f"{order.order_id}/{notice}", order.customer, text),
            start_to_close_timeout=STEP_TIMEOUT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=RETRIES,
            summary=notice,
        )
