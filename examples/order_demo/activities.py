"""The steps of an order that touch the outside world. Each may run more than once; its effect may not."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from examples.order_demo.ledger import Ledger
from examples.order_demo.models import Charge, Notice, Receipt
from perdure import activity

LOG: Final = logging.getLogger("orders")

GATEWAY_OUTAGE_ATTEMPTS: Final = 1
"""The payment gateway is down for this many attempts of every charge, so that the retry can be seen."""

SENDING_STEPS: Final = 6
SENDING_STEP_S: Final = 0.25
"""Sending a message takes 1.5 s, with a heartbeat at every step: time enough to be killed in the middle."""


class OrderActivities:
    """The activities, bound to the ledger that stands in for the gateway and the mail service."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @activity.defn
    async def charge_card(self, charge: Charge) -> Receipt:
        """Charge the card; raises while the gateway is down, answers the same receipt for the same key."""
        attempt = activity.info().attempt
        self._ledger.begin_attempt(charge.idempotency_key, attempt)
        if attempt <= GATEWAY_OUTAGE_ATTEMPTS:
            LOG.info("charge, attempt %d: the payment gateway is unavailable", attempt)
            raise ConnectionError("payment gateway unavailable")
        self._ledger.apply_once(charge.idempotency_key, attempt)
        LOG.info("charge, attempt %d: charged %.2f", attempt, charge.amount_cents / 100)
        return Receipt(f"receipt-{charge.idempotency_key}", charge.amount_cents)

    @activity.defn
    async def notify_customer(self, notice: Notice) -> None:
        """Send a message to the customer, telling the server now and then that it is still at it."""
        attempt = activity.info().attempt
        self._ledger.begin_attempt(notice.idempotency_key, attempt)
        LOG.info("message, attempt %d: sending %r", attempt, notice.text)
        for step in range(SENDING_STEPS):
            activity.heartbeat(step)
            await asyncio.sleep(SENDING_STEP_S)
        self._ledger.apply_once(notice.idempotency_key, attempt)
        LOG.info("message, attempt %d: sent", attempt)
