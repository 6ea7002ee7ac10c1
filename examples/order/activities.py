"""The steps of an order that touch the outside world. Each may run more than once; its effect may not."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from examples.order.ledger import Ledger
from examples.order.models import Charge, Notice, Receipt
from perdure import activity

LOG: Final = logging.getLogger("orders")

GATEWAY_OUTAGE_ATTEMPTS: Final = 1
"""The payment gateway is down for this many attempts of every charge, so that the retry can be seen."""

HEARTBEAT_INTERVAL_S: Final = 0.25
"""Whoever sends a message says so often that it is still at it."""


class OrderActivities:
    """The activities, bound to the ledger that stands in for the gateway and the mail service.

    Args:
        ledger: Where attempts and effects are recorded.
        sending_s: How long a message takes, in seconds.
    """

    def __init__(self, ledger: Ledger, sending_s: float) -> None:
        self._ledger = ledger
        self._sending_steps = max(1, round(sending_s / HEARTBEAT_INTERVAL_S))

    @activity.defn
    async def charge_card(self, charge: Charge) -> Receipt:
        """Charge the card; raises while the gateway is down, answers the same receipt for the same key."""
        key, attempt = charge.idempotency_key, activity.info().attempt
        self._ledger.begin_attempt(key, attempt)
        if attempt <= GATEWAY_OUTAGE_ATTEMPTS:
            LOG.info("%s, attempt %d: the payment gateway is unavailable", key, attempt)
            raise ConnectionError("payment gateway unavailable")
        self._ledger.apply_once(key, attempt)
        LOG.info("%s, attempt %d: charged %.2f", key, attempt, charge.amount_cents / 100)
        return Receipt(f"receipt-{key}", charge.amount_cents)

    @activity.defn
    async def notify_customer(self, notice: Notice) -> None:
        """Send a message to the customer, telling the server now and then that it is still at it."""
        key, attempt = notice.idempotency_key, activity.info().attempt
        self._ledger.begin_attempt(key, attempt)
        LOG.info("%s, attempt %d: sending %r to %s", key, attempt, notice.text, notice.customer)
        try:
            for step in range(self._sending_steps):
                activity.heartbeat(step)
                await asyncio.sleep(HEARTBEAT_INTERVAL_S)
        except asyncio.CancelledError:
            LOG.info("%s, attempt %d: interrupted in the middle", key, attempt)
            raise
        self._ledger.apply_once(key, attempt)
        LOG.info("%s, attempt %d: sent", key, attempt)
