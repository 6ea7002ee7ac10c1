"""The steps of an order. They run in threads and use the ORM as any view does; each may run more than once."""

from __future__ import annotations

from perdure import activity

from .models import Order


@activity.defn
def charge(order_id: int) -> str:
    """Charges the order, once: a receipt that is there already is the answer."""
    order = Order.objects.get(pk=order_id)
    if not order.receipt:
        order.receipt = f"receipt-{order_id}"
        order.status = Order.Status.PAID
        order.save(update_fields=["receipt", "status"])
    return order.receipt


@activity.defn
def mark_delivered(order_id: int) -> None:
    """Notes that the order has arrived."""
    Order.objects.filter(pk=order_id).update(status=Order.Status.DELIVERED)
