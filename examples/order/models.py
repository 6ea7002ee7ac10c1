"""The application's data: what is ordered, how an order stands, and what came of it. No behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TASK_QUEUE: Final = "orders"
WORKFLOW_TYPE: Final = "order"

PRICES_CENTS: Final = {"tea": 450, "cup": 1_200, "kettle": 4_999}
"""What the shop sells."""

STATUS_CHARGING: Final = "charging the card"
STATUS_CONFIRMING: Final = "confirming the order"
STATUS_IN_DELIVERY: Final = "waiting for the delivery"
STATUS_DELIVERED: Final = "delivered"
STATUS_OVERDUE: Final = "delivery overdue"

NOTICE_CONFIRMED: Final = "confirmed"
NOTICE_DELIVERED: Final = "delivered"
NOTICE_OVERDUE: Final = "overdue"

DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Order:
    """What the customer ordered, and how long the delivery may take."""

    order_id: str
    customer: str
    item: str
    amount_cents: int
    delivery_timeout_s: float = 7 * DAY_S


@dataclass(frozen=True)
class Charge:
    """One charge of the customer's card; the key makes a repeated request harmless."""

    idempotency_key: str
    amount_cents: int


@dataclass(frozen=True)
class Notice:
    """One message to the customer; the key makes a repeated request harmless."""

    idempotency_key: str
    customer: str
    text: str


@dataclass(frozen=True)
class Receipt:
    """What the payment gateway answers: the same receipt for the same key."""

    receipt_id: str
    amount_cents: int


@dataclass(frozen=True)
class OrderResult:
    """How the order ended."""

    status: str
    receipt_id: str
